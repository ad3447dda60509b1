#!/bin/bash
# A drain of 50,000 real streams, then gush drain --rate on a hub with 50,000 others.
set -u
gush=${1:?the program} out=${2:?where to}
"$gush" storm run --subscribers 50000 --drop drain --connect-rate 5000 --hold 14 --end 200 \
  --check --report "$out/50000.html" --svg "$out/50000.svg" > "$out/50000.txt" 2> /dev/null
echo "exit code $?" >> "$out/50000.txt"

log=$(mktemp -d)
"$gush" serve --listen 127.0.0.1:0 --admin-listen 127.0.0.1:3971 --anonymous --stream-log off \
  --publisher-key "a key for the time of one measurement" --log "disk:$log" \
  --max-connections 60000 > "$log/out" 2>&1 &
hub=$!
until url=$(grep -o 'http://127.0.0.1:[0-9]*' "$log/out" | grep -v 3971 | head -1) && [ -n "$url" ]
do sleep 0.1; done
"$gush" bench idle --url "$url/.well-known/mercure" --subscribers 50000 --seconds 30 \
  > /dev/null 2>&1 &
bench=$!
until curl -s 127.0.0.1:3971/metrics | grep -q '^mercure_subscribers_connected 50000$'
do sleep 0.2; done
{
  echo "gush drain --rate 1000 --count 15000"
  "$gush" drain --rate 1000 --count 15000 --admin 127.0.0.1:3971
  for _ in $(seq 18); do
    echo "$(date +%s.%N) $(curl -s 127.0.0.1:3971/drain)"
    sleep 1
  done
  curl -s 127.0.0.1:3971/metrics | grep -E 'subscribers_connected|closed_total.*rebalance|drain_left'
} > "$out/balance.txt"
kill "$bench"; kill -TERM "$hub"; wait "$hub"
echo "hub: exit code $?" >> "$out/balance.txt"
rm -rf "$log"
