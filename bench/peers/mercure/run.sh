#!/usr/bin/env bash
# The Mercure hub as its authors build it, a Caddy with their module, on its default transport (Bolt).
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../go-modules.sh"

release=v0.24.2

install() {
    apt_install golang-go
    need_module "github.com/dunglas/mercure/caddy@$release"
    need_go
    # Its own main package cannot be installed by name, because its go.mod points at its parent folder.
    mkdir -p "$work/build"
    cp "$here/main.go" "$work/build/main.go"
    (
        cd "$work/build"
        rm -f go.mod go.sum
        go_modules mod init peer
        go_modules get "github.com/dunglas/mercure@$release" "github.com/dunglas/mercure/caddy@$release"
        go_modules mod tidy
        go_modules build -o "$work/mercure" .
    ) >&2 || skip "mercure $release does not build here"
}

version() {
    echo "mercure $release"
    go_modules version "$work/mercure"
}

start() {
    rm -f "$work/mercure.db"
    sed -e "s#@PORT@#$1#; s#@WORK@#$work#" "$here/Caddyfile.in" >"$work/Caddyfile"
    XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work launch "$work/mercure" run --adapter caddyfile \
        --config "$work/Caddyfile" >"$work/out.log" 2>&1
    await_port "$1"
    ready "${pids[0]}"
}

main "$@"
