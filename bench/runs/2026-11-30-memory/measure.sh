#!/bin/sh
# A hub as it comes (memory log, default limits, stream log on stdout), N streams opened as fast as possible,
# held and closed: its resident set at the start, twice a second, and at the end, and the generator's own
# table: measure.sh GUSH_BINARY N TOPICS HELD_SECONDS [OPTION OF THE HUB…]
set -eu
ulimit -n "$(ulimit -Hn)"
gush=$1 streams=$2 topics=$3 held=$4
shift 4
folder=$(mktemp -d)
hub=
trap 'kill "$hub" 2>/dev/null; rm -rf "$folder"' EXIT
printf 'a publisher key of the benchmark, 32 bytes and more' >"$folder/key"
"$gush" serve --log memory --anonymous --publisher-key "file:$folder/key" --listen 127.0.0.1:0 \
  --admin-listen off "$@" >"$folder/hub.log" 2>&1 &
hub=$!
until grep -q 'listening on' "$folder/hub.log"; do sleep 0.1; done
sleep 0.5
address=$(grep -o 'listening on[^0-9]*[0-9.:]*' "$folder/hub.log" | grep -o '[0-9.]*:[0-9]*$' | head -1)
status() { awk '/^(VmRSS|RssAnon|RssFile)/ { printf "%s %s ", $1, $2 }' "/proc/$hub/status"; }
echo "== ${NAME:-$gush} streams $streams topics $topics options: $*"
echo "KiB at the start: $(status)"
"$gush" bench idle --url "http://$address/.well-known/mercure" --subscribers "$streams" \
  --topics "$topics" --seconds "$held" --patience 3 >"$folder/out" 2>&1 &
generator=$!
while kill -0 "$generator" 2>/dev/null; do
  sleep 0.5
  awk '/^VmRSS/ { printf "%s ", $2 }' "/proc/$hub/status"
done
sleep 2
echo
echo "KiB at the end: $(status)"
grep -E '^(opened|refused|dropped|first byte p99 |server|kernel|heartbeat|ok|FAIL)' "$folder/out"
