#!/usr/bin/env python3
"""What it brings that a publish does not wait for the fan-out: the hub against a synchronous loop.

    bench/scenarios/dispatch.py GUSH OUTPUT_FILE [ROUNDS] [SECONDS]

The loop (`gush bench floor --serve loop`) sends an event to every socket in the thread that took the
publish, before it reads the next one; it answers before it sends, which is the kinder way for the
one who publishes. The hub appends, answers, and leaves the sending to its shards. Both run on core 0
and get the same load in turns from a generator on core 1: so many events in flight, the next one as
soon as the oldest has reached everybody. The generator checks that nothing is lost, doubled or
reordered.

Printed are medians of the rounds: events a second that reached everybody, and the median time from
a publish to its answer.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time

KEY = "0123456789abcdef0123456789abcdef"
SUBSCRIBERS = (100, 1_000, 10_000)
IN_FLIGHT = (1, 4, 16)


def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_listener(at):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", at)).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.05)
    sys.exit(f"nobody listens on port {at}")


def start(gush):
    """Both servers; their processes and URLs."""
    loop_at, hub_at = port(), port()
    loop = [gush, "bench", "floor", "--serve", "loop", "--listen", f"127.0.0.1:{loop_at}", "--pin-server", "0"]
    hub = ["taskset", "-c", "0", gush, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY,
           "--listen", f"127.0.0.1:{hub_at}", "--admin-listen", "127.0.0.1:0", "--drain-window", "0"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [subprocess.Popen(command, **quiet) for command in (loop, hub)]
    for at in (loop_at, hub_at):
        await_listener(at)
    urls = {"loop": f"http://127.0.0.1:{loop_at}/", "hub": f"http://127.0.0.1:{hub_at}/.well-known/mercure"}
    return processes, urls


def load(gush, url, subscribers, in_flight, seconds):
    """Events a second, and the median time to a publish's answer in microseconds."""
    answer = subprocess.check_output(
        [gush, "bench", "fanout", "--url", url, "--publisher-key", KEY, "--subscribers", str(subscribers),
         "--window", str(in_flight), "--seconds", str(seconds), "--pin-generator", "1", "--json"],
        stderr=subprocess.DEVNULL)
    run = json.loads(answer)
    if failed := [check for check in run["checks"] if not check["passed"]]:
        sys.exit(f"the run does not hold: {failed}")
    return run["results"]["events_per_second"], run["results"]["publish_answer_p50_us"]


def main():
    gush, output = os.path.abspath(sys.argv[1]), sys.argv[2]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 2
    processes, urls = start(gush)
    try:
        with open(output, "w", encoding="utf-8") as file:
            for subscribers in SUBSCRIBERS:
                for in_flight in IN_FLIGHT:
                    measured = {"loop": [], "hub": []}
                    for _ in range(rounds):
                        for name, url in urls.items():
                            measured[name].append(load(gush, url, subscribers, in_flight, seconds))
                    line = told(subscribers, in_flight, measured)
                    print(line, flush=True)
                    print(line, file=file, flush=True)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def told(subscribers, in_flight, measured):
    events = {name: [each[0] for each in of] for name, of in measured.items()}
    answers = {name: statistics.median(each[1] for each in of) for name, of in measured.items()}
    middle = {name: statistics.median(of) for name, of in events.items()}
    ratios = [hub / loop for hub, loop in zip(events["hub"], events["loop"])]
    return (f"{subscribers} subscribers, {in_flight} in flight: events/s loop {middle['loop']:.0f}, "
            f"hub {middle['hub']:.0f}, ratio {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}); answer p50 loop {answers['loop']:.0f} us, "
            f"hub {answers['hub']:.0f} us")


main()
