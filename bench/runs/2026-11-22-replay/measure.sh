#!/bin/bash
# measure.sh WHAT NAME: one measurement of the hub `NAME` in the folder $BINARIES (the working one), where `after` is
# the generator; its output stays there in out/
cd "${BINARIES:-.}"; mkdir -p out
WHAT=$1; NAME=$2; BIN=./$NAME; PORT=4102; KEY=0123456789abcdef0123456789abcdef; printf %s $KEY > key
hub() { rm -rf dm; env MALLOC_ARENA_MAX=2 timeout 110 $BIN serve --listen 127.0.0.1:$PORT --admin-listen off --log disk:dm --sync off --publisher-key file:$PWD/key --anonymous "$@" >hubm.log 2>&1 & HUB=$!; for i in 1 2 3 4 5 6 7 8 9 10; do grep -q '^ready' hubm.log && break; read -t 0.3 < <(:); sleep 0.2; done; }
bench() { timeout 100 ./after bench replay --url http://127.0.0.1:$PORT/.well-known/mercure --publisher-key "$KEY" --batch 1000 "$@" 2>/dev/null; }
case $WHAT in
one) hub --window-events 1000; bench --events 500000 --rounds 15;;
many) hub; bench --events 20000 --subscribers 1000 --live 100 --rounds 2 --seconds 4;;
manylog) hub --window-events 1000; bench --events 20000 --subscribers 1000 --live 100 --rounds 2 --seconds 4;;
first1e3) hub --window-events 1000 --window-bytes 64KiB; bench --events 1000 --rounds 100 ;;
first1e7) hub --window-events 1000 --window-bytes 64KiB; bench --events 10000000 --resume-at 99.99 --rounds 100 ;;
esac > out/$WHAT-$NAME.txt
kill $(pgrep -P $HUB) $HUB 2>/dev/null; wait 2>/dev/null; rm -rf dm
