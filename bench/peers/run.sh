#!/usr/bin/env bash
# Measures gush and its rivals in turn on this machine: `make bench-peers`. Installs what is missing
# (Debian packages, crates, Go modules where they can be reached), asks nothing, and writes
# bench/runs/<date>-peers/ and from it the table in README.md.
#
#   QUICK=1      one round of short runs, one scenario less: under 8 minutes, for a first look
#   ROUNDS=3     how often every peer takes its turn; the figures are medians. 3 rounds take about 24
#                minutes, 2 about 15
#   PEERS="..."  which folders of bench/peers/, in this order
#   OUT=DIR      where to write, in place of bench/runs/<date>-peers
#   GUSH=FILE    the program that measures, in place of the one that is built
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
root=$(cd ../.. && pwd)
cd "$root"

target=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR=$target CARGO_TERM_PROGRESS_WHEN=never
final=${OUT:-bench/runs/$(date +%F)-peers}
# A run that is cut off leaves the last whole one as it is.
out=$target/peers/run
read -r -a peers <<<"${PEERS:-gush axum nchan node gin-tuned gin pushpin mercure centrifugo}"
server_core=${SERVER_CORE:-0}
generator_core=${GENERATOR_CORE:-1}
export SERVER_CORE=$server_core
# Ports from here on, a few for each start, so that no start meets a port of one before it.
port=${FIRST_PORT:-20100}
gush=${GUSH:-$target/release/gush}
# It measures all, so it is there even where PEERS leaves gush itself out.
if [ -z "${GUSH:-}" ]; then
    .ci/setup.sh build
    cargo build --release --locked --quiet --package gush
fi

if [ -n "${QUICK:-}" ]; then
    rounds=${ROUNDS:-1} hold=1 seconds=2 slow_events=4 fast_events=0
else
    rounds=${ROUNDS:-3} hold=2 seconds=3 slow_events=5 fast_events=30
fi
# Memory hardly varies, and giving it back takes Pushpin a minute.
idle_rounds=$((rounds < 3 ? 1 : 2))

# What is measured: NAME MODE OPTIONS...; the names are read by `cargo xtask bench-records`.
scenarios=(
    "idle-10000 idle --subscribers 10000 --seconds $hold"
    "fanout-1000-window-1 fanout --subscribers 1000 --window 1 --seconds $seconds"
    "fanout-1000-window-4 fanout --subscribers 1000 --window 4 --seconds $seconds"
    "fanout-10000-window-1 fanout --subscribers 10000 --window 1 --seconds $seconds"
    "fanout-10000-window-4 fanout --subscribers 10000 --window 4 --seconds $seconds"
    "fanout-10000-every-1s fanout --subscribers 10000 --rate 1 --events $slow_events"
    "connect-1500 connect --subscribers 1500"
)
[ "$fast_events" -eq 0 ] ||
    scenarios+=("fanout-10000-every-100ms fanout --subscribers 10000 --rate 10 --events $fast_events")

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

machine() {
    echo "date: $(date -u +%FT%TZ)"
    echo "commit: $(git rev-parse HEAD)$(git diff --quiet HEAD -- crates Cargo.lock || echo ' with changes')"
    echo "kernel: $(uname -srm)"
    echo "load before: $(cat /proc/loadavg)"
    echo "open files: soft $(ulimit -Sn), hard $(ulimit -Hn)"
    echo "server core $server_core, generator core $generator_core, rounds $rounds"
    sysctl net.core.somaxconn net.ipv4.tcp_max_syn_backlog net.ipv4.ip_local_port_range \
        net.ipv4.tcp_wmem net.ipv4.tcp_rmem net.ipv4.tcp_mem fs.file-max fs.nr_open 2>/dev/null || true
    echo
    lscpu
}

# Installs each peer and writes a line for it: its name, its title, and its versions or why it is left out.
prepare() {
    local peer title reason versions
    present=()
    : >"$out/peers.tsv"
    for peer in "${peers[@]}"; do
        say "installing $peer"
        title=$(PORT=0 && . "$here/$peer/target.env" && echo "$TITLE")
        if reason=$("$here/$peer/run.sh" install 2>"$logs/$peer.install"); then
            versions=$("$here/$peer/run.sh" version | paste -sd ';' | sed 's/;/; /g; s/\t/ /g')
            present+=("$peer")
            printf '%s\t%s\trun\t%s\n' "$peer" "$title" "$versions" >>"$out/peers.tsv"
        else
            reason=$(tail -1 <<<"${reason:-$(tail -1 "$logs/$peer.install")}")
            say "$peer: $reason"
            printf '%s\t%s\tskipped\t%s\n' "$peer" "$title" "${reason#skipped: }" >>"$out/peers.tsv"
        fi
    done
}

server= bench=
stop_server() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}
stop_all() {
    [ -z "$bench" ] || kill "$bench" 2>/dev/null || true
    stop_server
}
trap stop_all EXIT
trap 'exit 130' INT TERM

# Starts a peer on $port in a session of its own (the scheduler shares by session) and waits until
# it accepts; sets `measured` to its processes.
start_server() {
    local peer=$1 log=$logs/$1.start tries
    : >"$log"
    setsid "$here/$peer/run.sh" start "$port" >"$log" 2>"$log.err" &
    server=$!
    for ((tries = 0; tries < 300; tries++)); do
        read -r -a measured < <(grep -m1 '^ready' "$log") && return 0
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    say "$peer did not start: $(tail -1 "$log.err")"
    return 1
}

# One run of one peer: measure ROUND PEER NAME MODE OPTIONS...
measure() {
    local round=$1 peer=$2 name=$3 mode=$4 file pid CONNECT_RATE=4000 TITLE SUBSCRIBE PUBLISH
    shift 4
    port=$((port + 4))
    PORT=$port
    . "$here/$peer/target.env"
    [ "$mode" = connect ] && CONNECT_RATE=$((CONNECT_RATE < 1000 ? CONNECT_RATE : 1000))
    start_server "$peer" || return 0
    local command=("$gush" bench "$mode" "${SUBSCRIBE[@]}")
    [ "$mode" = fanout ] && command+=("${PUBLISH[@]}")
    command+=("$@" --connect-rate "$CONNECT_RATE"
        --pin-generator "$generator_core" --json)
    for pid in "${measured[@]:1}"; do command+=(--pid "$pid"); done
    file=$out/raw/$name.$peer.$round.json
    if [ "$round" = 1 ]; then
        printf '%q ' "gush" "${command[@]:1}" >>"$out/commands.txt"
        echo >>"$out/commands.txt"
    fi
    local status=0
    # In a session of its own Ctrl-C does not reach it; a signal ends `wait`, and the trap ends it.
    (ulimit -n "$(ulimit -Hn)" && exec setsid --wait timeout 90 "${command[@]}") >"$file" 2>"$logs/$peer.bench" &
    bench=$!
    wait "$bench" || status=$?
    bench=
    # 1 says that a check failed (something lost): the figures count, and say so.
    if [ "$status" -gt 1 ] || ! [ -s "$file" ]; then
        say "$peer $name: no figures (status $status): $(tail -1 "$logs/$peer.bench")"
        rm -f "$file"
    fi
    stop_server
}

if [ "$(nproc)" -lt 2 ]; then
    echo "two cores are needed: one for the server, one for the generator" >&2
    exit 1
fi
rm -rf "$out"
mkdir -p "$out/raw"
logs=$target/peers/logs
mkdir -p "$logs"
prepare
machine >"$out/machine.txt"
cp "$here/recorded.json" "$out/recorded.json"

# Round by round and scenario by scenario, the peers in turn: drift of the machine meets all alike.
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${scenarios[@]}"; do
        read -r -a words <<<"$scenario"
        [ "${words[1]}" = idle ] && [ "$round" -gt "$idle_rounds" ] && continue
        say "round $round of $rounds: ${words[0]}"
        for peer in "${present[@]}"; do measure "$round" "$peer" "${words[@]}"; done
    done
done
echo "load after: $(cat /proc/loadavg)" >>"$out/machine.txt"
rm -rf "$final"
mkdir -p "$(dirname "$final")"
cp -r "$out" "$final"
cargo xtask bench-records "$final"
say "done: $final"
