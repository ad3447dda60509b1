#!/usr/bin/env bash
# User memory of an idle stream with one topic for all, and with a topic for each.
#
#   bench/scenarios/topic_memory.sh GUSH OUTPUT_FOLDER STREAMS...
#
# A hub is started anew for each figure, with a descriptor table for each shard. The whole output goes
# to OUTPUT_FOLDER/topics-STREAMS-TOPICS.txt, and a line with what counts to stdout. Settings of the
# machine for 100,000 streams and more: docs/operate/a-million.md.
#
#   SECONDS_HELD=5   how long the streams are held
set -euo pipefail
gush=$1 folder=$2
shift 2
key=0123456789abcdef0123456789abcdef
held=${SECONDS_HELD:-5}

measure() {
    local streams=$1 topics=$2 port=$((5000 + RANDOM % 5000)) hub file
    file=$folder/topics-$streams-$topics.txt
    "$gush" serve --anonymous --log memory --publisher-key "$key" --listen "127.0.0.1:$port" \
        --admin-listen off --max-connections $((streams + 1000)) --descriptor-tables own \
        --drain-window 0 >"$folder/hub.out" 2>"$folder/hub.log" &
    hub=$!
    until grep -q '^ready' "$folder/hub.out"; do
        kill -0 "$hub" || { cat "$folder/hub.log" >&2; exit 1; }
        sleep 0.1
    done
    "$gush" bench idle --url "http://127.0.0.1:$port/.well-known/mercure" --subscribers "$streams" \
        --topics "$topics" --seconds "$held" >"$file" 2>/dev/null || echo "failed, see $file" >&2
    kill "$hub"
    wait "$hub" || true
    rm -f "$folder/hub.out" "$folder/hub.log"
    printf '%9d streams of %7d topics: %s, first byte %s, kernel %s\n' "$streams" "$topics" \
        "$(sed -n 's/^server rss per stream *//p' "$file")" \
        "$(sed -n 's/^first byte p99  */p99 /p' "$file")" \
        "$(sed -n 's/^kernel per stream *//p' "$file")"
}

mkdir -p "$folder"
for streams in "$@"; do
    measure "$streams" 1
    measure "$streams" "$streams"
done
