#!/bin/sh
# What limits and the stream log cost: measure.sh GUSH_BINARY. The hub on core 0, the generator on core 1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
gush=$1
folder=$(mktemp -d)
hub=
trap 'kill "$hub" 2>/dev/null; rm -rf "$folder"' EXIT
ulimit -n "$(ulimit -Hn)"
printf 'a publisher key of the benchmark, 32 bytes and more' >"$folder/key"
url=http://127.0.0.1:3712/.well-known/mercure

start() {
  "$@" serve --log memory --anonymous --publisher-key "file:$folder/key" --listen 127.0.0.1:3712 \
    --admin-listen off $more >"$folder/hub.log" 2>&1 &
  hub=$!
  until grep -q 'listening on' "$folder/hub.log"; do sleep 0.1; done
}

stop() {
  kill "$hub" && wait "$hub" || true
  sleep 1
}

bench() {
  name=$1 mode=$2
  shift 2
  "$gush" bench "$mode" --url "$url" "$@" >"$here/$name.txt" 2>&1 || true
}

more=
for round in 1 2 3; do
  start taskset -c 0 "$gush"
  bench "publish-$round" publish --publishers 64 --subscribers 0 --seconds 3 --pin-generator 1 \
    --publisher-key "file:$folder/key"
  bench "batch-$round" publish --publishers 1 --batch 1000 --size 150 --subscribers 0 --seconds 3 --pin-generator 1 \
    --publisher-key "file:$folder/key"
  bench "connect-$round" connect --subscribers 10000 --pin-generator 1
  stop
done
start "$gush"
bench connect-2000 connect --subscribers 10000 --connect-rate 2000
stop
more='--max-connections 101000 --descriptor-tables own'
for load in '10000 1' '10000 10000'; do
  # shellcheck disable=SC2086
  set -- $load
  start "$gush"
  bench "idle-$1-$2" idle --subscribers "$1" --topics "$2" --seconds 1 --patience 3
  stop
done
