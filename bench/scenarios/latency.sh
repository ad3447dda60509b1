#!/usr/bin/env bash
# Latency with few receivers, of a hub and of the bare loop in turns; and the first byte of subscribes.
#
#   bench/scenarios/latency.sh GUSH OUTPUT_FOLDER [ROUNDS]
#
# Hub and loop run on core 0, the generator on core 1, all of them with real-time priority
# (chrt -f 10): else whatever else runs on the machine is in the 99th percentile. Writes each run's
# output to OUTPUT_FOLDER and a line with what counts to stdout.
set -euo pipefail
gush=$1 folder=$2 rounds=${3:-5}
key=0123456789abcdef0123456789abcdef
mkdir -p "$folder"
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT

# What to look for in a report.
figures='^(latency|to all|first byte|publish answer) p(50|99) |^server cpu per (delivery|connect)|^(lost|refused) '

# start NAME COMMAND...: a server with real-time priority; waits until it listens.
start() {
    local name=$1
    shift
    chrt -f 10 taskset -c 0 "$@" >"$folder/$name.out" 2>"$folder/$name.log" &
    pids+=($!)
    until grep -qsE '^(ready|listening)' "$folder/$name.out"; do
        kill -0 "${pids[-1]}" || { cat "$folder/$name.log" >&2; exit 1; }
        sleep 0.1
    done
}

# hub PORT OPTIONS...
hub() {
    local port=$1
    shift
    start hub "$gush" serve --anonymous --log memory --publisher-key "$key" \
        --listen "127.0.0.1:$port" --admin-listen off --drain-window 0 "$@"
}

stop() {
    kill "${pids[@]}"
    wait "${pids[@]}" 2>/dev/null || true
    pids=()
    rm -f "$folder"/*.out "$folder"/*.log
}

# measure NAME MODE OPTIONS...
measure() {
    local name=$1 mode=$2
    shift 2
    chrt -f 10 timeout 150 "$gush" bench "$mode" "$@" --pin-generator 1 >"$folder/$name.txt" 2>/dev/null || true
    echo "$name: $(grep -E "$figures" "$folder/$name.txt" | sed 's/   */ /' | paste -sd';')"
}

port=$((4000 + RANDOM % 500))
of_hub=(--url "http://127.0.0.1:$port/.well-known/mercure" --publisher-key "$key")
of_loop=(--url "http://127.0.0.1:$((port + 1))/")

few() {
    hub "$port"
    start loop "$gush" bench floor --serve loop --listen "127.0.0.1:$((port + 1))"
    for round in $(seq "$rounds"); do
        local load=(topics --subscribers 100 --rate 200 --seconds 5)
        measure "hundred-hub-$round" "${load[@]}" "${of_hub[@]}" --idle 15000
        measure "hundred-loop-$round" "${load[@]}" "${of_loop[@]}"
        load=(topics --subscribers 1000 --rate 10 --seconds 10)
        measure "thousand-hub-$round" "${load[@]}" "${of_hub[@]}"
        measure "thousand-loop-$round" "${load[@]}" "${of_loop[@]}"
    done
    stop
}

first_byte() {
    local connect=(connect --url "http://127.0.0.1:$port/.well-known/mercure")
    hub "$port"
    measure connect-alone "${connect[@]}" --subscribers 3000 --connect-rate 1000
    measure accepts "${connect[@]}" --subscribers 15000
    stop
    hub "$port" --max-connections 120000 --descriptor-tables own
    measure connect-beside-100000 "${connect[@]}" --idle 100000 --subscribers 10000 --connect-rate 2000
    measure hundred-beside-100000 topics "${of_hub[@]}" --subscribers 100 --rate 200 --seconds 5 --idle 100000
    stop
}

few
first_byte
