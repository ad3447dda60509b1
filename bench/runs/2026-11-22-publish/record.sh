#!/bin/bash
cd "${WORK:?the folder of the binaries and the token}"; TOK=$(cat tok); PORT=39200
one() { # name binary cpu "serve options" -- pubgen args
  local name=$1 bin=$2 cpu=$3 opts=$4; shift 4; PORT=$((PORT+1))
  rm -rf d/log; P=$(./hub.sh $bin $PORT $cpu $opts)
  echo "## $name: taskset -c $cpu gush serve $opts; pubgen $*"
  timeout 30 taskset -c 1 target/release/pubgen "$@" --addr 127.0.0.1:$PORT --token $TOK --pid $P
  kill $P; while kill -0 $P 2>/dev/null; do sleep 0.1; done
}
date -u; cat /proc/loadavg
target/release/pubgen fsync --dir d --n 3000
one "before, memory, 64" ./gush-before 0 "--log memory" pub --secs 5
one "after, memory, 64" ./gush-a3 0 "--log memory" pub --secs 5
one "before, memory, 1" ./gush-before 0 "--log memory" pub --secs 3 --conns 1
one "after, memory, 1" ./gush-a3 0 "--log memory" pub --secs 3 --conns 1
one "after, memory, 64, 16 pipelined" ./gush-a3 0 "--log memory" pub --secs 4 --pipeline 16
one "before, disk sync=batch, 1" ./gush-before 0 "--log disk:d/log" pub --secs 4 --conns 1
one "after, disk sync=batch, 1" ./gush-a3 0 "--log disk:d/log" pub --secs 4 --conns 1
one "before, disk sync=batch, 64" ./gush-before 0 "--log disk:d/log" pub --secs 5
one "after, disk sync=batch, 64" ./gush-a3 0 "--log disk:d/log" pub --secs 5
one "after, disk sync=batch, 64, two cores" ./gush-a3 0,1 "--log disk:d/log" pub --secs 4
one "after, disk sync=off, 64" ./gush-a3 0 "--log disk:d/log" pub --secs 3
one "after, ndjson, memory, 150 bytes" ./gush-a3 0 "--log memory" batch --secs 4 --size 150
one "after, ndjson, memory, 50 bytes" ./gush-a3 0 "--log memory" batch --secs 3 --size 50
one "after, ndjson, disk sync=batch, 150 bytes" ./gush-a3 0 "--log disk:d/log" batch --secs 4 --size 150
cat /proc/loadavg
