#!/bin/bash
# TCP_NOTSENT_LOWAT under a whole hub, by the sysctl, which belongs to the network namespace:
#     GUSH=path/to/gush unshare -n bash lowat-hub.sh
# A line for each run: a fan-out with four events in flight, and live streams beside such that never
# read, with and without the mark.
set -eu
gush=${GUSH:-gush}
key=0123456789abcdef0123456789abcdef
result=$(mktemp)
trap 'rm -f "$result"' EXIT
ip link set lo up

report() { # NAME, KEYS of the results
    python3 -c '
import json, sys
results = json.load(open(sys.argv[1]))["results"]
print(sys.argv[2], *[f"{key}={results[key]:.2f}" for key in sys.argv[3].split()], sep="\t")
' "$result" "$1" "$2"
}

run() { # LOW-WATER MARK, MODE
    sysctl -q -w net.ipv4.tcp_notsent_lowat="$1"
    taskset -c 0 "$gush" serve --listen 127.0.0.1:4557 --admin-listen off --log memory --anonymous \
        --publisher-key "$key" --shards 1 >"$result" 2>/dev/null &
    hub=$!
    until grep -q ready "$result"; do sleep 0.05; done
    common=(--url http://127.0.0.1:4557/.well-known/mercure --publisher-key "$key"
        --pin-generator 1 --json)
    if [ "$2" = fanout ]; then
        "$gush" bench fanout "${common[@]}" --subscribers 1000 --window 4 --events 600 \
            >"$result" 2>/dev/null
        report "fanout lowat=$1" "server_cpu_us_per_delivery deliveries_per_second latency_p50_us"
    else
        "$gush" bench slow "${common[@]}" --subscribers 500 --share 20 --rate 200 --seconds 5 \
            --size 2000 >"$result" 2>/dev/null
        report "slow lowat=$1" "kernel_buffer_bytes_per_slow_stream latency_p99_ratio latency_p99_us"
    fi
    kill -9 "$hub"
    wait "$hub" 2>/dev/null || true
}

none=4294967295
for _ in 1 2 3 4; do
    run $none fanout
    run 16384 fanout
    run 16384 fanout
    run $none fanout
done
for _ in 1 2 3; do
    run $none slow
    run 16384 slow
done
