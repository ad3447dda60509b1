#!/bin/bash
# floor.sh HUB SUBSCRIBERS ROUNDS SECONDS RATE NAME [--sleep|--tick]: the hub HUB on core 0, the generator on core 1.
# The generator is $BENCH, a newer `gush` if that shall be the same for two hubs. Leaves NAME.json beside this file.
set -eu
HUB=$1 N=$2 ROUNDS=$3 SECONDS_EACH=$4 RATE=$5 NAME=$6; shift 6
OUT=$(dirname "$0"); BENCH=${BENCH:-$HUB}; KEY=0123456789abcdef0123456789abcdef; PORT=$((5000 + RANDOM % 4000))
LOG=$(mktemp); trap 'kill "$SERVER" 2>/dev/null || true; wait; rm -f "$LOG"' EXIT
taskset -c 0 "$HUB" serve --anonymous --log memory --publisher-key $KEY --listen 127.0.0.1:$PORT \
  --admin-listen 127.0.0.1:0 --drain-window 0 > "$LOG" 2>&1 & SERVER=$!
for _ in $(seq 100); do grep -q '^ready' "$LOG" && break; sleep 0.1; done
timeout 280 "$BENCH" bench floor --url "http://127.0.0.1:$PORT/.well-known/mercure" --publisher-key $KEY \
  --subscribers "$N" --rounds "$ROUNDS" --seconds "$SECONDS_EACH" --rate "$RATE" --pin-server 0 --pin-generator 1 \
  "$@" --json > "$OUT/$NAME.json" 2> "$OUT/$NAME.err" || { cat "$OUT/$NAME.err"; exit 1; }
rm -f "$OUT/$NAME.err"
