#!/bin/sh
# One run: run.sh HUB LOAD STREAMS TOPICS RATE OUT [hub options]
# HUB is the program `gush` that is measured, LOAD the example `upgrades`.
set -eu
hub=$1 load=$2 streams=$3 topics=$4 rate=$5 out=$6
shift 6
directory=$(mktemp -d)
"$hub" serve --log "disk:$directory/data" --anonymous \
  --publisher-key 0123456789abcdef0123456789abcdef --listen 127.0.0.1:0 \
  --admin-listen 127.0.0.1:0 --stream-log off "$@" > "$out.hub" 2>&1 &
until grep -q '^ready' "$out.hub"; do sleep 0.1; done
at() { sed -n "s,^listening on http://\([^ ]*\) ($1)\$,\1,p" "$out.hub"; }
"$load" "http://$(at public)/.well-known/mercure" "$(at admin)" \
  0123456789abcdef0123456789abcdef "$streams" "$topics" "$rate" 3 "$out.csv" > "$out.txt" 2>&1 || true
pid=$(sed -n 's/^resident after: .* process \([0-9]*\)$/\1/p' "$out.txt")
pid=${pid:-$!}
kill -TERM "$pid" || true
while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
rm -rf "$directory"
