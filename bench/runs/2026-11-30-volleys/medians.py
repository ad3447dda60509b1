#!/usr/bin/env python3
"""medians.py FILE.json...: CPU per delivery over the rounds of all files: medians, and the hub's and the
sweep's ratio in each round to the reference of its load, with the lowest and the highest."""
import json
import statistics
import sys

rounds = {}
to_all = {}
for name in sys.argv[1:]:
    run = json.load(open(name, encoding="utf-8"))
    for check in run["checks"]:
        assert check["passed"], (name, check)
    for series in run["series"]:
        if not series["chart"].startswith("Server CPU per delivery, "):
            continue
        load = series["chart"].removeprefix("Server CPU per delivery, ")
        rounds.setdefault(load, {}).setdefault(series["name"], []).extend(y for _, y in series["points"])
    for key, value in run["results"].items():
        if key.startswith("hub_to_") and key.endswith("_to_all_ratio"):
            to_all.setdefault(key, []).append(value)
for load, of in rounds.items():
    print(load, *(f"{name} {statistics.median(values):.2f}" for name, values in of.items()), f"{len(of['hub'])} rounds")
    for name, reference in (("hub", "loop"), ("sweep", "loop"), ("hub", "sweep")):
        ratios = [a / b for a, b in zip(of[name], of[reference])]
        print(f"  {name} to {reference} {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
for key, values in to_all.items():
    print(f"{key} {statistics.median(values):.2f}", [round(value, 2) for value in values])
