#!/bin/sh
# The hub's resident set twice a second while N streams are opened as fast as possible, held for 8 s and
# closed: measure.sh GUSH_BINARY N TOPICS
set -eu
ulimit -n "$(ulimit -Hn)"
folder=$(mktemp -d)
hub=
trap 'kill "$hub" 2>/dev/null; rm -rf "$folder"' EXIT
printf 'a publisher key of the benchmark, 32 bytes and more' >"$folder/key"
"$1" serve --log memory --anonymous --publisher-key "file:$folder/key" --listen 127.0.0.1:0 \
  --admin-listen off --max-connections 101000 --descriptor-tables own >"$folder/hub.log" 2>&1 &
hub=$!
until grep -q 'listening on' "$folder/hub.log"; do sleep 0.1; done
address=$(grep -o 'listening on[^0-9]*[0-9.:]*' "$folder/hub.log" | grep -o '[0-9.]*:[0-9]*$' | head -1)
resident() { awk '/VmRSS/ { print $2 }' "/proc/$hub/status"; }
echo "KiB at the start: $(resident)"
"$1" bench idle --url "http://$address/.well-known/mercure" --subscribers "$2" --topics "$3" \
  --seconds 8 --patience 3 >"$folder/out" 2>&1 &
generator=$!
while kill -0 "$generator" 2>/dev/null; do
  sleep 0.5
  resident
done | tr '\n' ' '
sleep 3
echo
echo "KiB at the end: $(resident)"
