#!/bin/bash
# Where the loop, the sweep and the hub spend their time with one event in flight: perf of each.
#   where.sh SUBSCRIBERS SECONDS; then, in $OUT: where.py loop hub
gush=${GUSH:-target/release/gush}; key=0123456789abcdef0123456789abcdef; out=${OUT:-/tmp/where}; mkdir -p $out
n=$1 s=$2
for round in 1 2; do
for kind in loop hub sweep; do
  port=$((5000 + RANDOM % 4000))
  if [ $kind = hub ]; then
    taskset -c 0 "$gush" serve --anonymous --log memory --publisher-key $key --listen 127.0.0.1:$port --admin-listen 127.0.0.1:0 --drain-window 0 >/dev/null 2>$out/hub.err & pid=$!
    url=http://127.0.0.1:$port/.well-known/mercure
  else
    "$gush" bench floor --serve $kind --listen 127.0.0.1:$port --pin-server 0 >/dev/null & pid=$!
    url=http://127.0.0.1:$port/
  fi
  sleep 0.7
  timeout 30 "$gush" bench fanout --url $url --publisher-key $key --subscribers $n --window 1 --seconds $s --pin-generator 1 --json >$out/$kind.$round.json 2>/dev/null & b=$!
  sleep 1.5
  perf stat -p $pid -e context-switches,sched:sched_wakeup -o $out/$kind.$round.stat -- sleep 1 2>/dev/null
  [ $round = 1 ] && perf record -q -F 2999 -p $pid -o $out/$kind.data -- sleep 1 2>/dev/null >/dev/null
  wait $b; kill $pid; wait $pid 2>/dev/null
  echo "$kind $(python3 -c "
import json;x=json.load(open('$out/$kind.$round.json'))['results'];print(round(x['server_cpu_us_per_delivery'],2),round(x['deliveries_per_second']),'gen',round(x['generator_cpu_us_per_delivery'],2))")"
done; done
