#!/bin/bash
# profile.sh HUB...: where each hub's shard spends its own time with one event in flight to 1,000 subscribers, readers
# in ticks: CPU per delivery, and of that, in ns, the shard's own code, the http threads, and the kernel's looking up of
# descriptors. The first hub is the generator too.
set -eu
KEY=0123456789abcdef0123456789abcdef; DATA=$(mktemp); OUT=$(mktemp); trap 'rm -f "$DATA" "$OUT"' EXIT
for HUB in "$@"; do
  PORT=$((5000 + RANDOM % 4000))
  taskset -c 0 "$HUB" serve --anonymous --log memory --publisher-key $KEY --listen 127.0.0.1:$PORT \
    --admin-listen 127.0.0.1:0 --drain-window 0 >/dev/null 2>&1 & SERVER=$!
  sleep 0.5
  "$1" bench fanout --url "http://127.0.0.1:$PORT/.well-known/mercure" --publisher-key $KEY --subscribers 1000 \
    --window 1 --seconds 4 --pin-generator 1 --tick --json >"$OUT" 2>/dev/null & BENCH=$!
  sleep 1
  perf record -q -F 4999 -p $SERVER -o "$DATA" -- sleep 3 >/dev/null 2>&1
  wait $BENCH; kill $SERVER; wait $SERVER 2>/dev/null || true
  python3 - "$HUB" "$OUT" "$DATA" <<'P'
import json, subprocess, sys
cpu = json.load(open(sys.argv[2], encoding="utf-8"))["results"]["server_cpu_us_per_delivery"]
report = ["perf", "report", "-i", sys.argv[3], "--stdio", "--no-children", "-s", "comm,sym"]
rows = []
for line in subprocess.run(report, capture_output=True, text=True).stdout.splitlines():
    share, percent, name = line.strip().partition("%")
    if percent and not share.startswith("#"):
        rows.append((float(share) * cpu * 10, " ".join(name.split())))
own = [(ns, name.split("[.]")[1]) for ns, name in rows if "[.]" in name and name.startswith("shard")]
http = sum(ns for ns, name in rows if name.startswith("http"))
descriptors = sum(ns for ns, name in rows if "fdget" in name or "fput" in name)
print(sys.argv[1], "cpu %.2f us, shard's own %.0f ns, http %.0f, descriptors %.0f;" % (cpu, sum(ns for ns, _ in own), http, descriptors),
      ", ".join("%.0f%s" % of for of in own[:3]))
P
done
