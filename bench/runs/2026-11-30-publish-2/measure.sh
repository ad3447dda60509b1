#!/bin/bash
# measure.sh BEFORE AFTER: publish rates of two hubs in turns, three rounds; then with syncs that take longer (by
# slow_sync.c of 2026-11-30-path before the C library), and in batches. The hub on core 0, the generator (that of
# BEFORE) on core 1.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
D=$(mktemp -d) KEY=0123456789abcdef0123456789abcdef P=$((5300 + RANDOM % 300)) H=
gcc -O2 -shared -fPIC -o "$D/slow_sync.so" "$here/../2026-11-30-path/slow-sync/slow_sync.c" -ldl
declare -A hubs=([before]=$1 [after]=$2)
hub() {
  P=$((P + 1))
  env ${PRELOAD:-} taskset -c 0 "${hubs[$which]}" serve --anonymous --publisher-key $KEY \
    --listen 127.0.0.1:$P --admin-listen off --drain-window 0 "$@" >"$D/out" 2>"$D/err" &
  H=$!
  until grep -q ^ready "$D/out"; do sleep 0.05; kill -0 $H; done
}
stop() {
  kill $H
  wait $H || true
  rm -rf "$D/log"
}
b() {
  out=$1 n=$2
  shift 2
  "${hubs[before]}" bench publish --url http://127.0.0.1:$P/.well-known/mercure --publisher-key $KEY \
    --subscribers 0 --pin-generator 1 --publishers "$n" --seconds 2 "$@" >"$here/$out-$which-$round.txt" 2>/dev/null
}
for round in 1 2 3; do
  for which in before after; do
    hub --log memory; b publish/mem64 64; stop
    hub --log "disk:$D/log"; b publish/disk64 64; b publish/disk1 1; stop
    hub --log "disk:$D/log" --sync off; b publish/off64 64; stop
  done
done
for round in 1 2; do
  for which in before after; do
    for us in 300 1000; do
      PRELOAD="SLOW_SYNC_US=$us LD_PRELOAD=$D/slow_sync.so" hub --log "disk:$D/log"
      b slow-sync/$us-64 64; b slow-sync/$us-1 1; stop
    done
    hub --log memory; b batch/mem2 2 --batch 1000; stop
  done
done
rm -rf "$D"
