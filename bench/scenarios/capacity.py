#!/usr/bin/env python3
"""The capacity formula beside what was measured, as a table in Markdown.

    bench/scenarios/capacity.py GUSH_BINARY RUNS...

RUNS are growth.jsonl of growth.py, JSON of `gush bench floor` and of `gush bench idle --broadcast`. The
formula's values come from `gush check --capacity N --json`. What was measured several times stands with
its median; the last line has the largest errors.
"""
import json
import statistics
import subprocess
import sys

LOADS = {"1": "1 in a visit", "4": "4 in a visit", "16": "16 in a visit", "cold": "after a pause",
         "connect": "connect", "to_all_s": "one to all, both ends on two cores, s"}
FLOOR = {"1": "in_flight_1", "4": "in_flight_4", "16": "in_flight_16"}


def formula(gush, streams):
    done = subprocess.run([gush, "check", "--capacity", str(streams), "--json"],
                          capture_output=True, text=True, check=False)
    cpu = json.loads(done.stdout)["cpu"]
    cold = cpu["cold_delivery_us"]
    # The receivers' half on the same machine is half as much again.
    return {**cpu["delivery_us"], "cold": cold, "connect": cpu["connect_us"],
            "to_all_s": streams * cold * 1.5 / 2 / 1e6}


def idle_points(results):
    streams = int(results["opened_count"])
    yield streams, "connect", results["server_cpu_us_per_connect"]
    yield streams, "cold", results["server_cpu_us_per_delivery"]
    if streams >= 100_000:
        # With fewer the time is that of a few switches of threads.
        yield streams, "to_all_s", results["to_all_max_us"] / 1e6


def points(path):
    """(streams, load, measured) of a file."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file] if path.endswith("l") else [json.load(file)]
    for line in lines:
        results = line["results"]
        if line.get("question", "").startswith("window-"):
            load = line["question"].removeprefix("window-")
            yield line["x"], load, results["server_cpu_us_per_delivery"]
        elif line["mode"] == "idle":
            yield from idle_points(results)
        elif line["mode"] == "floor":
            streams = int(line["parameters"]["subscribers"])
            for load, name in FLOOR.items():
                yield streams, load, results[f"hub_{name}_cpu_us_per_delivery"]
            for name in ("paced", "every_second"):
                if f"hub_{name}_cpu_us_per_delivery" in results:
                    yield streams, "cold", results[f"hub_{name}_cpu_us_per_delivery"]


def main():
    gush, paths = sys.argv[1], sys.argv[2:]
    measured = {}
    for path in paths:
        for streams, load, value in points(path):
            measured.setdefault(streams, {}).setdefault(load, []).append(value)
    worst = {}
    print("| streams | " + " | ".join(LOADS.values()) + " |")
    print("| ---: |" + " ---: |" * len(LOADS))
    for streams, loads in sorted(measured.items()):
        expected = formula(gush, streams)
        cells = []
        for load in LOADS:
            values = loads.get(load)
            if not values:
                cells.append("")
                continue
            middle = statistics.median(values)
            error = expected[load] / middle - 1
            worst.setdefault(load, []).append(error)
            cells.append(f"{expected[load]:.2f}, {middle:.2f}")
        print(f"| {streams:,} | " + " | ".join(cells) + " |")
    print("| error | " + " | ".join(
        f"{min(worst[load]):+.0%} to {max(worst[load]):+.0%}" for load in LOADS) + " |")


if __name__ == "__main__":
    main()
