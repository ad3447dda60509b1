#!/usr/bin/env bash
# Node: the http module and a handler that keeps its responses in a set and writes to each in a loop.
. "$(dirname "$0")/../lib.sh"

install() { command -v node >/dev/null 2>&1 || apt_install nodejs; }

version() { echo "node $(node --version)"; }

start() {
    launch node "$here/server.mjs" "$1"
    await_port "$1"
    ready "${pids[0]}"
}

main "$@"
