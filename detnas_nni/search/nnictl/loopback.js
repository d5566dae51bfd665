// Keeps NNI's servers on this machine. NNI 3.0's manager listens on every interface, without a password, and has
// no setting for it; nor has the TensorBoard that its web UI starts. Loaded into NNI's node processes by
// NODE_OPTIONS="--require …/loopback.js", this puts 127.0.0.1 where a server would take every address.
// `detnas doctor --close-nni` sets the option for good; see docs/security.md.
'use strict';
const path = require('path');

const LOOPBACK = '127.0.0.1';
const EVERY_ADDRESS = ['', '0.0.0.0', '::'];

function closed(host) {
    return host === undefined || host === null || EVERY_ADDRESS.includes(host) ? LOOPBACK : host;
}

// What net.Server.listen may be called with: (port, host, backlog, callback), of which all may be left out; an
// object with a port; or something that has no address: a pipe's name, an object with a path, a handle.
function closedArguments(args) {
    const [first, second, ...rest] = args;
    if (typeof first === 'object' && first !== null) {
        return 'port' in first ? [{ ...first, host: closed(first.host) }, ...args.slice(1)] : args;
    }
    if (args.length === 0 || typeof first === 'function') {
        return [0, LOOPBACK, ...args];
    }
    if (typeof first === 'string' && !(Number(first) >= 0)) {
        return args;
    }
    if (typeof second === 'string' || second === undefined || second === null) {
        return [first, closed(second), ...rest];
    }
    return [first, LOOPBACK, second, ...rest];
}

function closeServers() {
    const net = require('net');
    const listen = net.Server.prototype.listen;
    net.Server.prototype.listen = function (...args) {
        return listen.apply(this, closedArguments(args));
    };
}

function closeTensorBoard() {
    const childProcess = require('child_process');
    const spawn = childProcess.spawn;
    childProcess.spawn = function (command, args, ...rest) {
        const changed = command === 'tensorboard' && Array.isArray(args)
            ? args.map((argument) => argument.replace('--bind_all', `--host=${LOOPBACK}`))
            : args;
        return spawn.call(this, command, changed, ...rest);
    };
}

// Every node process that a Python of the environment starts inherits the option. None but NNI's is changed.
if ((process.argv[1] || '').split(path.sep).includes('nni_node')) {
    closeServers();
    closeTensorBoard();
}
