#!/bin/bash
# measure.sh BEFORE AFTER JOURNALED: publish rates of two hubs in turns, two rounds. The hub on core 0, the
# generator (that of BEFORE) on core 1. JOURNALED: a folder on a file system with a journal.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
journaled=$3
D=$(mktemp -d) KEY=0123456789abcdef0123456789abcdef P=$((5300 + RANDOM % 300)) H=
declare -A hubs=([before]=$1 [after]=$2)
hub() {
  P=$((P + 1))
  taskset -c 0 "${hubs[$which]}" serve --anonymous --publisher-key $KEY --listen 127.0.0.1:$P \
    --admin-listen off --drain-window 0 "$@" >"$D/out" 2>"$D/err" &
  H=$!
  until grep -q ^ready "$D/out"; do sleep 0.05; kill -0 $H; done
}
stop() {
  kill $H
  wait $H || true
  rm -rf "$D/log" "$journaled/log"
}
b() {
  "${hubs[before]}" bench publish --url http://127.0.0.1:$P/.well-known/mercure --publisher-key $KEY \
    --subscribers 0 --pin-generator 1 --publishers "$2" --seconds 2 >"$here/$1$2-$which-$round.txt" 2>/dev/null
}
for round in 1 2; do
  taskset -c 0 python3 "$here/fdatasync.py" "$D/x"
  for which in before after; do
    hub --log memory; b mem 64; stop
    hub --log "disk:$D/log"; b disk 64; b disk 1; stop
    hub --log "disk:$D/log" --sync off; b off 64; stop
    hub --log "disk:$journaled/log" --retention-bytes 300MiB; b jour 64; b jour 1; stop
  done
done
