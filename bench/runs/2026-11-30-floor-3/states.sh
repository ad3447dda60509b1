#!/bin/bash
# states.sh HUB SECONDS ROUNDS SERVER... [-- --tick]: one event in flight to 1,000 subscribers of each server in turns, and
# what the reader does meanwhile. A server is loop, sweep, hub, own (the hub with --descriptor-tables own), or loop@N:
# the loop of $PAUSED (HUB with pause.patch) with N turns of an empty loop before each send. For each: CPU of server and
# generator in us a delivery, and for each event the reader's waits in epoll, the context switches of its core, and
# the interrupts it had from other cores.
set -eu
HUB=$1 SECONDS_EACH=$2 ROUNDS=$3; shift 3
SERVERS=() ARGS=()
while [ $# -gt 0 ]; do if [ "$1" = -- ]; then shift; ARGS=("$@"); break; fi; SERVERS+=("$1"); shift; done
KEY=0123456789abcdef0123456789abcdef; COUNTS=$(mktemp); OUT=$(mktemp); declare -A URL; PIDS=()
trap 'kill "${PIDS[@]}"; wait; rm -f "$COUNTS" "$OUT"' EXIT
for KIND in "${SERVERS[@]}"; do
  PORT=$((5000 + RANDOM % 4000)) PATH_OF=
  case $KIND in
    hub | own)
      TABLES=auto; [ "$KIND" = own ] && TABLES=own
      PATH_OF=.well-known/mercure
      taskset -c 0 "$HUB" serve --anonymous --log memory --publisher-key $KEY --listen 127.0.0.1:$PORT \
        --admin-listen 127.0.0.1:0 --drain-window 0 --descriptor-tables $TABLES >/dev/null 2>&1 & ;;
    *@*) GUSH_X_SPIN=${KIND#*@} "$PAUSED" bench floor --serve "${KIND%@*}" --listen 127.0.0.1:$PORT --pin-server 0 >/dev/null & ;;
    *) "$HUB" bench floor --serve "$KIND" --listen 127.0.0.1:$PORT --pin-server 0 >/dev/null & ;;
  esac
  PIDS+=($!); URL[$KIND]=http://127.0.0.1:$PORT/$PATH_OF
done
sleep 0.7
EVENTS=syscalls:sys_enter_epoll_pwait,context-switches,irq_vectors:call_function_single_entry
for _ in $(seq "$ROUNDS"); do for KIND in "${SERVERS[@]}"; do
  perf stat -x, -a -A -e $EVENTS -o "$COUNTS" -- "$HUB" bench fanout --url "${URL[$KIND]}" --publisher-key $KEY \
    --subscribers 1000 --window 1 --seconds "$SECONDS_EACH" --pin-generator 1 "${ARGS[@]}" --json >"$OUT" 2>/dev/null
  python3 - "$KIND" "$OUT" "$COUNTS" <<'P'
import json, sys
run = json.load(open(sys.argv[2], encoding="utf-8"))["results"]
count = {}
for line in open(sys.argv[3], encoding="utf-8"):
    of = line.strip().split(",")
    if of[0] == "CPU1":
        count[of[3].split(":")[-1]] = float(of[1]) / run["published_count"]
print("%-9s server %.2f us, generator %.2f us; waits %4.0f, switches %4.0f, interrupts %3.0f" % (
    sys.argv[1], run["server_cpu_us_per_delivery"], run["generator_cpu_us_per_delivery"],
    count["sys_enter_epoll_pwait"], count["context-switches"], count["call_function_single_entry"]))
P
done; done
