#!/usr/bin/env python3
"""Measures how the cost of a delivery grows, and draws it.

    bench/scenarios/growth.py GUSH_BINARY OUTPUT_FOLDER [QUESTION...]

Questions: subscribers, broadcast, sizes, topics, matchers, idle, shards (all by default), and with
the settings of docs/operate/a-million.md million-1, million-4, million-16 (that many in flight),
million-broadcast, million-topics and million-matchers, two minutes each. A hub is started anew for
each figure, pinned to core 0 where one shard is measured, the generator to core 1. Raw results go
to OUTPUT_FOLDER/growth.jsonl, one line per run; charts beside them. Where a figure was measured
several times the charts have the median. `draw` as the only question draws what is there.
"""
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time

KEY = "0123456789abcdef0123456789abcdef"


class Hub:
    def __init__(self, gush, options=(), pinned=True):
        self.port = random.randint(20000, 29999)
        command = ["taskset", "-c", "0"] if pinned else []
        command += [gush, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY,
                    "--listen", f"127.0.0.1:{self.port}", "--admin-listen", "off",
                    "--drain-window", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if line.strip() == "ready":
                break

    def bench(self, gush, mode, *options, pinned=True):
        url = f"http://127.0.0.1:{self.port}/.well-known/mercure"
        command = [gush, "bench", mode, "--url", url, "--publisher-key", KEY, "--json",
                   *(("--pin-generator", "1") if pinned else ()), *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        if not done.stdout.startswith("{"):
            raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
        return json.loads(done.stdout)

    def end(self):
        self.process.kill()
        self.process.wait()


def run(gush, out, question, x, mode, options, hub_options=(), pinned=True):
    hub = Hub(gush, hub_options, pinned)
    try:
        report = hub.bench(gush, mode, *options, pinned=pinned)
    finally:
        hub.end()
    failed = [check["name"] for check in report["checks"] if not check["passed"]]
    line = {"question": question, "x": x, "mode": mode, "options": list(map(str, options)),
            "hub": list(hub_options), "failed": failed, "results": report["results"]}
    out.write(json.dumps(line) + "\n")
    out.flush()
    results = report["results"]
    cpu = results.get("server_cpu_us_per_delivery")
    print(f"{question:12} {x:>9} {' '.join(map(str, options)):60} {cpu} us a delivery {failed}",
          flush=True)
    return results


def tables_for(count):
    return ("--max-connections", str(count + 2000))


def subscribers(gush, out, counts=(1000, 3000, 10000, 19000, 50000, 100000, 300000),
                windows=(1, 4, 16)):
    for count in counts:
        for window in windows:
            events = max(4, window, min(400, 2_000_000 // count))
            run(gush, out, f"window-{window}", count, "fanout",
                ("--subscribers", count, "--window", window, "--events", events),
                tables_for(count))


def sizes(gush, out):
    for size in (40, 200, 1000, 4000, 16000, 64000, 250000, 1000000):
        events = max(10, min(400, 8_000_000 // size))
        run(gush, out, "size", size, "fanout",
            ("--subscribers", 1000, "--window", 1, "--events", events, "--size", size))


def broadcast(gush, out, counts=(1000, 10000, 100000, 300000)):
    """One event to streams that have been idle, hub and generator on both cores."""
    for count in counts:
        run(gush, out, "broadcast", count, "idle",
            ("--subscribers", count, "--seconds", 2, "--broadcast"), tables_for(count),
            pinned=False)


def topics(gush, out, counts=(1, 10, 100, 1000, 10000, 100000), kind="topics"):
    """10,000 subscribers, or as many as there are topics."""
    templates = ("--templates",) if kind == "templates" else ()
    for count in counts:
        subscribers_count = max(count, 10000)
        run(gush, out, kind, count, "topics",
            ("--subscribers", subscribers_count, "--topics", count, *templates, "--window", 4,
             "--seconds", 3), tables_for(subscribers_count))


def matchers(gush, out, counts=(10, 100, 1000, 10000, 100000)):
    topics(gush, out, counts, "templates")


MILLION = (1_000_000,)


def idle(gush, out):
    for count in (0, 1000, 15000, 100000):
        for receivers, rate in ((1, 200), (100, 200), (1000, 10)):
            run(gush, out, f"receivers-{receivers}", count, "topics",
                ("--subscribers", receivers, "--topics", 1, "--idle", count, "--rate", rate,
                 "--seconds", 5), tables_for(count + receivers))


def shards(gush, out):
    for count in (1, 2):
        run(gush, out, "shards", count, "fanout",
            ("--subscribers", 10000, "--window", 4, "--seconds", 5),
            ("--shards", str(count)), pinned=False)


QUESTIONS = {"subscribers": subscribers, "broadcast": broadcast, "sizes": sizes,
             "topics": topics, "matchers": matchers, "idle": idle, "shards": shards}
# Only when asked for.
SPECIAL = {
    **{f"million-{window}": lambda gush, out, window=window: subscribers(
        gush, out, MILLION, (window,)) for window in (1, 4, 16)},
    "million-broadcast": lambda gush, out: broadcast(gush, out, MILLION),
    "million-topics": lambda gush, out: topics(gush, out, MILLION),
    "million-matchers": lambda gush, out: matchers(gush, out, MILLION),
    "draw": lambda gush, out: None,
}


def chart(path, title, x_unit, y_unit, lines):
    """A chart with logarithmic axes. `lines`: name -> [(x, y)]."""
    points = [point for line in lines.values() for point in line if point[0] > 0 and point[1] > 0]
    if not points:
        return
    low_x, high_x = (math.log10(f(p[0] for p in points)) for f in (min, max))
    low_y, high_y = math.floor(math.log10(min(p[1] for p in points))), math.ceil(
        math.log10(max(p[1] for p in points)))
    span_x, span_y = max(high_x - low_x, 0.1), max(high_y - low_y, 1)
    at_x = lambda x: 60 + (math.log10(x) - low_x) / span_x * 560
    at_y = lambda y: 300 - (math.log10(y) - low_y) / span_y * 250
    colors = ["#2f6fb5", "#c06a2b", "#4c8f3a", "#8a56a8"]
    svg = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 350" font-family="sans-serif" '
           'font-size="12"><style>text{fill:#333}line{stroke:#8884}'
           '@media(prefers-color-scheme:dark){text{fill:#ddd}}</style>',
           f'<text x="60" y="24" font-size="14">{title}</text>']
    for power in range(low_y, high_y + 1):
        y = at_y(10 ** power)
        svg.append(f'<line x1="60" x2="620" y1="{y:.0f}" y2="{y:.0f}"/>'
                   f'<text x="54" y="{y + 4:.0f}" text-anchor="end">{10 ** power:g}</text>')
    for x in sorted({p[0] for p in points}):
        svg.append(f'<text x="{at_x(x):.0f}" y="318" text-anchor="middle" font-size="10">{x:,}</text>')
    svg.append(f'<text x="340" y="338" text-anchor="middle">{x_unit}</text>'
               f'<text x="60" y="42">{y_unit}</text>')
    label_y = {}
    ends = sorted(((at_y(line[-1][1]), name) for name, line in lines.items() if line))
    for y, name in ends:
        label_y[name] = max([y + 4, *(other + 13 for other in label_y.values())])
    for color, (name, line) in zip(colors, lines.items()):
        line = [p for p in line if p[0] > 0 and p[1] > 0]
        path_of = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line)
        svg.append(f'<polyline points="{path_of}" fill="none" stroke="{color}" stroke-width="2"/>')
        svg.extend(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3" fill="{color}"/>'
                   for x, y in line)
        if line:
            svg.append(f'<text x="{at_x(line[-1][0]) + 8:.0f}" y="{label_y[name]:.0f}">{name}</text>')
    svg.append("</svg>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(svg) + "\n")


def matching(path):
    """Kind of matcher -> [(how many, ns)] of a recorded run of the example matching_cost."""
    kinds = {"exact topics": "exact", "told apart between expressions": "templates"}
    lines = {}
    with open(path, encoding="utf-8") as file:
        for row in file:
            cells = [cell.strip() for cell in row.strip().strip("|").split("|")]
            if cells[0] in kinds:
                count, warm, cold = int(cells[1]), float(cells[-2]), float(cells[-1])
                lines.setdefault(kinds[cells[0]], []).append((count, warm))
                lines.setdefault(kinds[cells[0]] + ", cold", []).append((count, cold))
    return lines


def draw(folder):
    with open(os.path.join(folder, "growth.jsonl"), encoding="utf-8") as file:
        runs = [json.loads(line) for line in file]

    def line(question, key):
        found = {}
        for run in runs:
            if run["question"] == question and run["results"].get(key):
                found.setdefault(run["x"], []).append(run["results"][key])
        return sorted((x, statistics.median(values)) for x, values in found.items())

    cpu = "server_cpu_us_per_delivery"
    at = lambda name: os.path.join(folder, name)
    chart(at("subscribers-cpu.svg"), "CPU of a delivery by subscribers", "subscribers", "µs",
          {**{f"{w} in flight": line(f"window-{w}", cpu) for w in (1, 4, 16)},
           "after a pause": line("broadcast", cpu)})
    chart(at("size-cpu.svg"), "CPU of a delivery by event size, one in flight, 1,000 subscribers",
          "bytes of data", "µs", {"CPU": line("size", cpu)})
    chart(at("topics-cpu.svg"), "CPU of a delivery by topics, 4 in flight, 10,000 subscribers or "
          "one for each topic", "topics", "µs",
          {"exact": line("topics", cpu), "templates": line("templates", cpu)})
    table = os.path.join(folder, os.pardir, "2026-11-22-matching", "output.txt")
    if os.path.exists(table):
        chart(at("matching-time.svg"), "Finding an event's matchers among many (cold: between other "
              "work)", "matchers", "ns", matching(table))
    chart(at("idle-latency.svg"), "p99 of an event by idle streams beside", "idle streams", "µs",
          {f"{r} receivers": line(f"receivers-{r}", "latency_p99_us") for r in (1, 100, 1000)})


def main():
    gush, folder = sys.argv[1], sys.argv[2]
    questions = sys.argv[3:] or list(QUESTIONS)
    os.makedirs(folder, exist_ok=True)
    started = time.time()
    with open(os.path.join(folder, "growth.jsonl"), "a", encoding="utf-8") as out:
        for question in questions:
            {**QUESTIONS, **SPECIAL}[question](gush, out)
    draw(folder)
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    main()
