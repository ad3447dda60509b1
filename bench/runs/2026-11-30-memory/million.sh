#!/bin/sh
# One hub, one memory log, N streams, the generator on the same machine: million.sh GUSH_BINARY N TOPICS
# HELD_SECONDS [OPTION OF THE GENERATOR…]
set -eu
ulimit -n "$(ulimit -Hn)"
gush=$1 streams=$2 topics=$3 held=$4
shift 4
folder=$(mktemp -d)
hub=
trap 'kill "$hub" 2>/dev/null; rm -rf "$folder"' EXIT
printf 'a publisher key of the benchmark, 32 bytes and more' >"$folder/key"
"$gush" serve --log memory --anonymous --publisher-key "file:$folder/key" --listen 127.0.0.1:0 \
  --admin-listen off --max-connections $((streams + 1000)) --drain-window 1s \
  >"$folder/hub.log" 2>&1 &
hub=$!
until grep -q '^ready' "$folder/hub.log"; do sleep 0.1; done
sleep 0.5
grep listening "$folder/hub.log"
address=$(grep -o 'listening on[^0-9]*[0-9.:]*' "$folder/hub.log" | grep -o '[0-9.]*:[0-9]*$' | head -1)
status() { awk '/^(VmRSS|RssAnon|RssFile)/ { printf "%s %s ", $1, $2 }' "/proc/$hub/status"; }
echo "== streams $streams topics $topics"
echo "KiB at the start: $(status)"
"$gush" bench idle --url "http://$address/.well-known/mercure" --publisher-key "file:$folder/key" \
  --subscribers "$streams" --topics "$topics" --seconds "$held" "$@" >"$folder/out" 2>&1 &
generator=$!
while kill -0 "$generator" 2>/dev/null; do
  sleep 5
  echo "hub KiB: $(status) sockets: $(awk '/^TCP/ { print $3, "mem", $NF }' /proc/net/sockstat)"
done
sleep 3
echo "KiB at the end: $(status)"
echo "records of the stream log: $(grep -c 'stream opened' "$folder/hub.log") opened, \
$(grep -c 'stream closed' "$folder/hub.log") closed"
cat "$folder/out"
