#!/bin/bash
# measure.sh WHAT HUB NAME: one measurement of the replay of the hub HUB, in the folder of this
# file. The generator is $BENCH, the same `gush` for two hubs that are compared.
set -eu
WHAT=$1; HUB=$(realpath "$2"); NAME=$3; BENCH=$(realpath "${BENCH:-$2}")
OUT=$(realpath "$(dirname "$0")")
PORT=${PORT:-4102}; KEY=0123456789abcdef0123456789abcdef0123456789abcdef
DIR=$(mktemp -d); trap 'kill "$SERVER" 2>/dev/null || true; wait; rm -rf "$DIR"' EXIT
cd "$DIR"
hub() {
  printf %s "$KEY" > key
  MALLOC_ARENA_MAX=2 "$HUB" serve --listen "127.0.0.1:$PORT" --admin-listen off --log "disk:$DIR/log" --sync off \
    --publisher-key "file:$DIR/key" --anonymous "$@" > hub.log 2>&1 & SERVER=$!
  for _ in $(seq 100); do grep -q '^ready' hub.log && return; sleep 0.1; done
  cat hub.log; exit 1
}
bench() {
  timeout 110 "$BENCH" bench replay --url "http://127.0.0.1:$PORT/.well-known/mercure" --publisher-key "$KEY" \
    --batch 1000 "$@" 2> /dev/null
}
case $WHAT in
one) hub --window-events 1000; bench --events 500000 --rounds 10 ;;
small) hub --window-events 1000; bench --size 100 --events 750000 --rounds 10 ;;
large) hub --window-events 1000; bench --size 4096 --events 30000 --rounds 10 ;;
# The whole log under the topic "*", in the rounds of a second bench.
all) hub --window-events 1000; bench --events 500000 --rounds 1 > /dev/null
  bench --resume-id earliest --patience 1 --rounds 8 ;;
many) hub; bench --events 20000 --subscribers 1000 --live 100 --rounds 2 --seconds 4 ;;
manylog) hub --window-events 1000; bench --events 20000 --subscribers 1000 --live 100 --rounds 2 --seconds 4 ;;
first1e3) hub --window-events 1000 --window-bytes 64KiB; bench --events 1000 --rounds 100 ;;
first1e7) hub --window-events 1000 --window-bytes 64KiB; bench --events 10000000 --resume-at 99.99 --rounds 100 ;;
esac > "$OUT/$WHAT-$NAME.txt"
