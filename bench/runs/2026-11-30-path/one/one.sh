#!/bin/bash
# one.sh IDLE: an event for one subscriber beside IDLE others; from the root of the repository, or with GUSH
N=$1; K=0123456789abcdef0123456789abcdef; PORT=$((5000+RANDOM%500)); G=$(realpath "${GUSH:-target/release/gush}")
cd "$(dirname "$0")"
$G serve --anonymous --log memory --publisher-key $K --listen 127.0.0.1:$PORT --listen 127.0.0.2:$PORT --admin-listen off --max-connections 1001000 --descriptor-tables own --heartbeat off --drain-window 1s >/dev/null 2>one.log & HP=$!
sleep 2
timeout 240 $G bench topics --url http://127.0.0.1:$PORT/.well-known/mercure --publisher-key $K --subscribers 1 --topics 1 --idle $N --rate 500 --seconds 10 2>/dev/null | tee one-$N.txt | grep -E "^(lost|refused|server cpu|latency p|opened|not ok|ok)" | head -12
kill $HP; wait $HP 2>/dev/null
