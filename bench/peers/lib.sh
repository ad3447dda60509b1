# What the scripts of all peers share. Sourced by bench/peers/<name>/run.sh.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# Built programs, fetched sources and files of a run; nothing here is committed.
work=${PEERS_WORK:-$target/peers}/$(basename "$here")
# The one core that every server gets.
server_core=${SERVER_CORE:-0}

note() { echo "$(basename "$here"): $*" >&2; }

# Says in one line why this peer is left out; run.sh then takes its recorded figures, if any.
skip() {
    echo "skipped: $*"
    exit 3
}

# Installs Debian packages that are not there: apt_install PACKAGE...
apt_install() {
    local package missing=() root_command=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    command -v apt-get >/dev/null 2>&1 || skip "${missing[*]}: only Debian's packages are installed"
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || skip "${missing[*]}: run sudo apt-get install ${missing[*]}"
        root_command=(sudo -n)
    fi
    note "installing ${missing[*]}"
    "${root_command[@]}" apt-get update -qq >&2
    # No service is started: the peers run only while they are measured.
    "${root_command[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 2>/dev/null
}

debian_version() { dpkg-query -W -f '${Package} ${Version}\n' "$@"; }

# Every server gets one core and all descriptors that the hard limit allows.
same_terms() {
    ulimit -n "$(ulimit -Hn)"
    taskset -pc "$server_core" $$ >/dev/null
    mkdir -p "$work"
}

accepts() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Programs that this script has started; all end when it ends.
pids=()
launch() {
    "$@" &
    pids+=($!)
}

end_all() {
    trap - EXIT TERM INT
    [ "${#pids[@]}" -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
    wait
}

# Waits until 127.0.0.1:PORT accepts, at most 20 s: await_port PORT
await_port() {
    local tries
    for ((tries = 0; tries < 200; tries++)); do
        accepts "$1" && return
        kill -0 "${pids[-1]}" 2>/dev/null || { note "ended before it accepted"; exit 1; }
        sleep 0.1
    done
    note "nothing accepts on port $1"
    exit 1
}

# Says that the server accepts and which processes to measure, then stays: ready PID...
ready() {
    echo "ready $*"
    # A signal ends `wait`; the trap then ends what was started.
    wait "${pids[-1]}" || true
}

trap end_all EXIT
trap 'exit 0' TERM INT

# The three words every peer understands; it defines install, version and start.
main() {
    case "${1:-}" in
        install) mkdir -p "$work" && install ;;
        version) version ;;
        start)
            [ -n "${2:-}" ] || { echo "usage: $0 start PORT" >&2; exit 2; }
            accepts "$2" && { note "port $2 is taken"; exit 1; }
            same_terms
            start "$2"
            ;;
        *)
            echo "usage: $0 install | version | start PORT" >&2
            exit 2
            ;;
    esac
}
