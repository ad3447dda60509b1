#!/usr/bin/env bash
# Every test there is, in the order in which a failure is cheapest to find.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/steps.sh

export CARGO_TERM_PROGRESS_WHEN=never
target=${CARGO_TARGET_DIR:-target}

rust_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --workspace --locked --no-fail-fast &&
            cargo test --workspace --locked --doc
    else
        note "cargo-nextest is not installed: using cargo test"
        cargo test --workspace --locked --no-fail-fast
    fi
}

step "what the tests need" .ci/setup.sh test
step "build" cargo build --workspace --all-targets --locked
step "Rust tests" rust_tests
step "browser: publish, resume, restart, in Chromium" \
    node conformance/browser/run.mjs --gush "$target/debug/gush"
step "browser: an EventSource that is refused" \
    node conformance/browser/refusals.mjs --gush "$target/debug/gush"
step "clients: EventSource libraries and tools" \
    node conformance/clients/run.mjs --gush "$target/debug/gush"
step "example: a resource names its hub" \
    node conformance/discovery.mjs --gush "$target/debug/gush"
times "tests passed"
