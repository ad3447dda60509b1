#!/bin/bash
# measure.sh BEFORE AFTER: publishes on a disk whose syncs take longer, by slow_sync.c before the C library
set -eu
here=$(cd "$(dirname "$0")" && pwd)
D=$(mktemp -d) KEY=0123456789abcdef0123456789abcdef P=$((5700 + RANDOM % 200))
gcc -O2 -shared -fPIC -o "$D/slow_sync.so" "$here/slow_sync.c" -ldl
declare -A hubs=([before]=$1 [after]=$2)
for us in 300 1000 3000; do
  for which in before after; do
    P=$((P + 1))
    SLOW_SYNC_US=$us LD_PRELOAD=$D/slow_sync.so taskset -c 0 "${hubs[$which]}" serve --anonymous \
      --publisher-key $KEY --listen 127.0.0.1:$P --admin-listen off --drain-window 0 --log "disk:$D/log" >"$D/out" &
    hub=$!
    until grep -q ^ready "$D/out"; do sleep 0.05; kill -0 $hub; done
    for n in 64 1; do
      "$1" bench publish --url http://127.0.0.1:$P/.well-known/mercure --publisher-key $KEY --subscribers 0 \
        --pin-generator 1 --publishers $n --seconds 2 >"$here/$us-$which-$n.txt" 2>/dev/null
    done
    kill $hub
    wait $hub || true
    rm -rf "$D/log"
  done
done
