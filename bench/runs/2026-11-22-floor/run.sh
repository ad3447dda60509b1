#!/bin/bash
# The floor at 1,000 and 10,000 subscribers, references and hub by turns. From the root of the
# repository, on an otherwise idle machine: bash bench/runs/2026-11-22-floor/run.sh
set -eu
gush=${GUSH:-target/release/gush}
here=$(dirname "$0")
log=$(mktemp)
taskset -c 0 "$gush" serve --dev --log memory --listen 127.0.0.1:4100 --admin-listen off \
    --anonymous >"$log" 2>&1 &
hub=$!
trap 'kill $hub; rm -f "$log"' EXIT
until grep -q '^ready' "$log"; do :; done
# The one that --dev prints.
token=$(grep -o "Bearer [^']*" "$log" | head -1 | cut -d' ' -f2)
for subscribers in ${SUBSCRIBERS:-1000 10000}; do
    "$gush" bench floor --url http://127.0.0.1:4100/.well-known/mercure \
        --publisher-token "$token" --subscribers "$subscribers" --seconds 1 --rounds 3 \
        --pin-server 0 --pin-generator 1 --json >"$here/$subscribers.json"
done
