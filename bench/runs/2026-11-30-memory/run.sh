#!/bin/sh
# Before and after in turns, then larger crowds: run.sh BEFORE AFTER
set -eu
here=$(dirname "$0")
before() { NAME=before "$here/measure.sh" "$BEFORE" "$@"; }
after() { NAME=after "$here/measure.sh" "$AFTER" "$@"; }
BEFORE=$1 AFTER=$2
for _ in 1 2; do
  before 10000 1 3
  after 10000 1 3
  before 10000 10000 3
  after 10000 10000 3
done
after 20000 1 3 --max-connections 21000
after 20000 20000 3 --max-connections 21000
export MALLOC_ARENA_MAX=1
after 10000 1 3
after 10000 10000 3
unset MALLOC_ARENA_MAX
after 100000 1 3 --max-connections 101000
after 100000 100000 3 --max-connections 101000
