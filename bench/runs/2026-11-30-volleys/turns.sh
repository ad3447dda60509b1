#!/bin/bash
# turns.sh SUBSCRIBERS IN_FLIGHT SECONDS ROUNDS NAME=SERVER... : CPU a delivery of each server in turns, the generator
# on core 1, servers on core 0. A server is `loop` or `sweep` (the references, started by $BENCH), or a hub's path.
# Each round, and at the end medians, and their ratio to the first server's.
set -eu
N=$1 WINDOW=$2 SECONDS_EACH=$3 ROUNDS=$4; shift 4
KEY=0123456789abcdef0123456789abcdef; OUT=$(mktemp); ROWS=$(mktemp); declare -A URL; NAMES=() PIDS=()
trap 'kill "${PIDS[@]}"; wait; rm -f "$OUT" "$ROWS"' EXIT
PORT=$((5000 + RANDOM % 4000))
for EACH in "$@"; do
  NAME=${EACH%%=*} SERVER=${EACH#*=} PORT=$((PORT + 1)) PATH_OF=.well-known/mercure
  case $SERVER in
    loop | sweep) PATH_OF=; "$BENCH" bench floor --serve "$SERVER" --listen 127.0.0.1:$PORT --pin-server 0 >/dev/null & ;;
    *) taskset -c 0 "$SERVER" serve --anonymous --log memory --publisher-key $KEY --listen 127.0.0.1:$PORT \
         --admin-listen 127.0.0.1:0 --drain-window 0 >/dev/null 2>&1 & ;;
  esac
  PIDS+=($!) NAMES+=("$NAME"); URL[$NAME]=http://127.0.0.1:$PORT/$PATH_OF
done
sleep 1
for _ in $(seq "$ROUNDS"); do for NAME in "${NAMES[@]}"; do
  "$BENCH" bench fanout --url "${URL[$NAME]}" --publisher-key $KEY --subscribers "$N" --window "$WINDOW" \
    --seconds "$SECONDS_EACH" --pin-generator 1 --json >"$OUT" 2>/dev/null
  python3 - "$NAME" "$OUT" <<'P'
import json, sys
run = json.load(open(sys.argv[2], encoding="utf-8"))
assert all(check["passed"] for check in run["checks"]), run["checks"]
of = run["results"]
print("%-8s %.2f us, generator %.2f us" % (sys.argv[1], of["server_cpu_us_per_delivery"], of["generator_cpu_us_per_delivery"]))
P
done; done | tee "$ROWS"
python3 - "$ROWS" <<'P'
import statistics, sys
rows = {}
for row in open(sys.argv[1], encoding="utf-8"):
    rows.setdefault(row.split()[0], []).append(float(row.split()[1]))
first = statistics.median(next(iter(rows.values())))
for name, of in rows.items():
    middle = statistics.median(of)
    print("median of %-8s %.2f us (%.2f to %.2f), ratio %.2f" % (name, middle, min(of), max(of), middle / first))
P
