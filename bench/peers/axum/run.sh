#!/usr/bin/env bash
# axum's Sse with a tokio broadcast channel per topic, built with link-time optimisation.
. "$(dirname "$0")/../lib.sh"

install() {
    (cd "$here" && CARGO_TARGET_DIR="$target" cargo build --release --locked --quiet)
}

version() {
    local crate
    for crate in axum hyper tokio; do
        grep -A1 "^name = \"$crate\"$" "$here/Cargo.lock" | tail -1 | sed -E "s/version = \"(.*)\"/$crate \1/"
    done
    rustc --version
}

start() {
    launch "$target/release/peer-axum" "$1"
    await_port "$1"
    ready "${pids[0]}"
}

main "$@"
