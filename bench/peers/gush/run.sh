#!/usr/bin/env bash
# gush itself, as released, with its defaults: disk log, fsync shared by publishers, metrics,
# heartbeats, matching and the checks of private events all on.
. "$(dirname "$0")/../lib.sh"

install() { (cd "$root" && cargo build --release --locked --quiet --package gush); }

version() {
    "$target/release/gush" --version
    echo "commit $(git -C "$root" rev-parse --short HEAD)"
}

start() {
    rm -rf "$work/data"
    launch "$target/release/gush" serve --listen "127.0.0.1:$1" --admin-listen "127.0.0.1:$(($1 + 1))" \
        --log "disk:$work/data" --publisher-key "$BENCH_KEY" --anonymous --drain-window 1ms >"$work/out.log" 2>&1
    await_port "$1"
    ready "${pids[0]}"
}

BENCH_KEY=bench-key-of-the-peers-bench-key-of-the-peers
main "$@"
