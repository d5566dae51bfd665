// Where this script was before: NODE_OPTIONS that were set then still name it.
'use strict';
require('./nnictl/loopback.js');
