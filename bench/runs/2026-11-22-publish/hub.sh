#!/bin/bash
# usage: hub.sh BINARY PORT CPU [extra serve options]  -> prints pid
BIN=$1; PORT=$2; CPU=$3; shift 3
export GUSH_PUBLISHER_KEY=0123456789abcdef0123456789abcdef
taskset -c $CPU timeout 900 $BIN serve --listen 127.0.0.1:$PORT --admin-listen off --anonymous "$@" >/tmp/pubhub.$PORT.out 2>/tmp/pubhub.$PORT.err &
T=$!
for i in $(seq 100); do grep -q ready /tmp/pubhub.$PORT.out && break; sleep 0.05; done
pgrep -P $T
