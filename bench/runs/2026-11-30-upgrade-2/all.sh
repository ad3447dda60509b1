#!/bin/sh
# Both programs in turn: all.sh BEFORE AFTER LOAD
set -eu
for streams in 15000 50000; do
  topics=$((streams == 15000 ? 20 : 50))
  for which in before after; do
    if [ $which = before ]; then hub=$1; else hub=$2; fi
    ./run.sh "$hub" "$3" $streams $topics 100 $streams-$which --max-connections $((streams == 15000 ? 18000 : 60000))
  done
done
