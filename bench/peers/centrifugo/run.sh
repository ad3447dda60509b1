#!/usr/bin/env bash
# Centrifugo with its unidirectional SSE endpoint and its engine in memory.
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../go-modules.sh"

module=github.com/centrifugal/centrifugo/v6

install() {
    apt_install golang-go
    need_module "$module@latest"
    need_go
    go_modules install "$module@latest" >&2 || skip "$module does not build here"
}

version() { go_modules version -m "$work/centrifugo" | sed -n '1p; /\tmod\t/p'; }

start() {
    sed -e "s#@PORT@#$1#" "$here/config.json.in" >"$work/config.json"
    launch "$work/centrifugo" --config "$work/config.json" >"$work/out.log" 2>&1
    await_port "$1"
    ready "${pids[0]}"
}

main "$@"
