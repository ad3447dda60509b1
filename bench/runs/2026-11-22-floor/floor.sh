#!/bin/bash
# floor.sh SUBSCRIBERS ROUNDS SECONDS RATE OUT [hub options]: the hub on core 0, the generator on core 1.
# SPIN=--spin keeps the generator awake. Leaves OUT.json, OUT.hub and OUT.err.
gush=${GUSH:-target/release/gush}; key=0123456789abcdef0123456789abcdef; port=$((5000 + RANDOM % 4000))
n=$1 rounds=$2 seconds=$3 rate=$4 out=$5; shift 5
taskset -c 0 "$gush" serve --anonymous --log memory --publisher-key $key --listen 127.0.0.1:$port \
    --admin-listen 127.0.0.1:0 --drain-window 0 "$@" >/dev/null 2>"$out.hub" & hub=$!
sleep 1
timeout 280 "$gush" bench floor --url http://127.0.0.1:$port/.well-known/mercure --publisher-key $key \
    --subscribers "$n" --rounds "$rounds" --seconds "$seconds" --rate "$rate" --pin-server 0 --pin-generator 1 ${SPIN:-} \
    --json >"$out.json" 2>"$out.err"; echo "status $?"
kill $hub; wait $hub
python3 - "$out.json" <<'P'
import json,sys
r=json.load(open(sys.argv[1])); x=r['results']
for k,v in x.items(): print(f"{k:50} {v:.3f}")
for c in r['checks']: print(c)
P
