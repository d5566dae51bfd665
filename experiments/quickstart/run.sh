#!/bin/sh
# The whole pipeline on generated images, on a CPU: what `make quickstart` runs. Safe to run again: finished
# steps are left as they are.
set -eu
cd "$(dirname "$0")/../.."
config=experiments/quickstart/detnas.yaml
port=${PORT:-$(python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

step() {
    printf '\n== %s\n   $' "$1"
    shift
    printf ' %s' "$@"
    printf '\n'
    "$@"
}

step "1/5 Draw the images: shapes, for classification and for detection" \
    detnas data shapes --out runs/quickstart/data
step "2/5 Train the supernet as a classifier" \
    detnas pretrain -c $config
step "3/5 Train it on in the detector" \
    detnas finetune -c $config
# NNI's server listens on every interface; this keeps it to this machine, also in an environment that was not
# closed by `detnas doctor --close-nni` (docs/security.md).
NODE_OPTIONS="--require \"$PWD/detnas_nni/search/nnictl/loopback.js\" ${NODE_OPTIONS:-}"
export NODE_OPTIONS
# nnictl imports pkg_resources, which says at each call that it is deprecated.
PYTHONWARNINGS="ignore:pkg_resources is deprecated:UserWarning"
export PYTHONWARNINGS
step "4/5 Search: trials in NNI's training service" \
    nnictl create --config experiments/quickstart/search.yaml --port "$port"
step "    Watch it; the web UI is open until the search has ended" \
    detnas follow --port "$port" --stop
step "5/5 The best architecture" \
    detnas export -c $config
