#!/usr/bin/env bash
# Installs what a build (`setup.sh build`), the tests (`setup.sh test`) or counting instructions
# (`setup.sh measure`) need and is not there.
# Asks nothing. Debian packages only; as root, or with sudo that wants no password.
set -euo pipefail
cd "$(dirname "$0")/.."
. .ci/steps.sh

what=${1:-build}

# Debian packages, if their command is missing: need COMMAND PACKAGE...
need() {
    local command=$1
    shift
    command -v "$command" >/dev/null 2>&1 || missing+=("$@")
}

install_missing() {
    [ "${#missing[@]}" -eq 0 ] && return
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "missing: ${missing[*]}. This script installs Debian packages only; install them and run it again." >&2
        exit 1
    fi
    local root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null; then
            echo "missing: ${missing[*]}. Run: sudo apt-get install ${missing[*]}" >&2
            exit 1
        fi
        root=(sudo -n)
    fi
    note "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if ! command -v cargo >/dev/null 2>&1; then
    # A rustup installation that this shell has not read yet.
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        echo "cargo is in ~/.cargo/bin but not on the PATH. Run: . ~/.cargo/env" >&2
    else
        echo "cargo is missing. Install Rust 1.95 or newer (https://rustup.rs) and run this again." >&2
    fi
    exit 1
fi

missing=()
# aws-lc-sys compiles C with cc alone on x86-64 and arm64 Linux: no cmake, no bindgen, no perl.
need cc gcc libc6-dev
need make make
if [ "$what" = measure ]; then
    need valgrind valgrind
fi
install_missing

if [ "$what" = test ]; then
    conformance/install.sh
fi
