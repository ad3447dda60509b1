#!/usr/bin/env bash
# Pushpin from Debian, with its own HTTP client and a backend in Node.
. "$(dirname "$0")/../lib.sh"

install() {
    apt_install pushpin condure zurl
    command -v node >/dev/null 2>&1 || apt_install nodejs
}

version() {
    debian_version pushpin condure zurl
    echo "node $(node --version)"
}

start() {
    local origin=$(($1 + 2))
    mkdir -p "$work/run" "$work/log"
    sed -e "s#@PORT@#$1#; s#@PUBLISH_PORT@#$(($1 + 1))#; s#@WORK@#$work#" \
        -e "s#@CONNECTIONS@#$(($(ulimit -n) - 1000))#" "$here/pushpin.conf.in" >"$work/pushpin.conf"
    echo "* 127.0.0.1:$origin" >"$work/routes"
    launch node "$here/origin.mjs" "$origin"
    await_port "$origin"
    launch /usr/bin/pushpin --config="$work/pushpin.conf" >"$work/out.log" 2>&1
    await_port "$1"
    await_port "$(($1 + 1))"
    # Of Pushpin all processes count; the backend, which a user would have anyway, does not.
    ready "${pids[1]}"
}

main "$@"
