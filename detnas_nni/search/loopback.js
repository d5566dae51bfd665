// NNI's manager listens on every interface, without a password, and offers no setting for it. Loaded into its
// node process by NODE_OPTIONS="--require …/loopback.js", this gives a server that names only a port the
// loopback address. See docs/nni.md.
'use strict';
const net = require('net');
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
    if (typeof args[0] === 'number' && typeof args[1] !== 'string') {
        args.splice(1, 0, '127.0.0.1');
    }
    return listen.apply(this, args);
};
