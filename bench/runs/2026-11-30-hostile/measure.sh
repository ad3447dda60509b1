#!/bin/sh
# One run of `gush bench hostile` against a hub with default settings: measure.sh GUSH_BINARY NAME [OPTIONS]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
gush=$1 name=$2
shift 2
folder=$(mktemp -d)
trap 'kill "$hub" 2>/dev/null; rm -rf "$folder"' EXIT
ulimit -n "$(ulimit -Hn)"
printf 'a publisher key of the benchmark, 32 bytes and more' >"$folder/key"
printf 'a subscriber key of the benchmark, 32 bytes and more' >"$folder/subscriber"
"$gush" serve --log memory --anonymous --publisher-key "file:$folder/key" --subscriber-key "file:$folder/subscriber" \
  --listen 127.0.0.1:3710 --admin-listen 127.0.0.1:3711 >"$folder/hub.log" 2>&1 &
hub=$!
until grep -q 'listening on' "$folder/hub.log"; do sleep 0.1; done
"$gush" bench hostile --url http://127.0.0.1:3710/.well-known/mercure --admin 127.0.0.1:3711 \
  --publisher-key "file:$folder/key" --label memory "$@" >"$here/$name.txt" 2>&1 || true
