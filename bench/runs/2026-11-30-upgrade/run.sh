#!/bin/sh
# One run: run.sh PROGRAMS STREAMS TOPICS RATE OUT [hub options]
# PROGRAMS holds `gush` and the example `upgrades`.
set -eu
programs=$1 streams=$2 topics=$3 rate=$4 out=$5
shift 5
directory=$(mktemp -d)
"$programs/gush" serve --log "disk:$directory/data" --anonymous \
  --publisher-key 0123456789abcdef0123456789abcdef --listen 127.0.0.1:0 \
  --admin-listen 127.0.0.1:0 --stream-log off "$@" > "$out.hub" 2>&1 &
until grep -q '^ready' "$out.hub"; do sleep 0.1; done
at() { sed -n "s,^listening on http://\([^ ]*\) ($1)\$,\1,p" "$out.hub"; }
"$programs/upgrades" "http://$(at public)/.well-known/mercure" "$(at admin)" \
  0123456789abcdef0123456789abcdef "$streams" "$topics" "$rate" 5 "$out.csv" > "$out.txt" 2>&1 || true
pid=$(sed -n 's/^resident after: .* process \([0-9]*\)$/\1/p' "$out.txt")
pid=${pid:-$!}
kill -TERM "$pid" || true
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$directory"
