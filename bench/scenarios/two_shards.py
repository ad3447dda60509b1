#!/usr/bin/env python3
"""How much faster two shards on two cores reach all streams than one shard on one core.

    bench/scenarios/two_shards.py GUSH OUTPUT_FILE [STREAMS] [ROUNDS]

A generator needs a core of its own, which leaves a machine of two cores none for the second shard. So
here the generator is stopped (SIGSTOP) once its streams are open: what the hub sends goes into
the kernel's receive buffers, which hold all of it, and both cores are the hub's.

One event at a time is published, and the time until all streams have it is taken. When that is the
case, witnesses say: streams of this script that were opened before and after the generator's, one for each
shard. A shard goes through its streams in one direction, so the last of them to get the event is a
witness, and nobody has to ask the hub meanwhile, which would take of its cores. That all have it is
checked with the hub's own count when the time is taken.
"""

import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse

KEY = "0123456789abcdef0123456789abcdef"
TOPIC = "https://bench.example/0/event"
MARK = b"last-one-has-it"
EVENTS = 60
WARM_UP = 10


def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def delivered(admin):
    with socket.create_connection(("127.0.0.1", admin)) as peer:
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        text = b""
        while part := peer.recv(65536):
            text += part
    return sum(
        int(count)
        for count in re.findall(rb"^gush_deliveries_total(?:\{[^}]*\})? (\d+)", text, re.M)
    )


def witness(public):
    """A stream of the generator's topic; its head is read."""
    peer = socket.create_connection(("127.0.0.1", public))
    peer.sendall(
        f"GET /.well-known/mercure?topic={urllib.parse.quote(TOPIC, safe='')} HTTP/1.1\r\nHost: a\r\n"
        "Accept: text/event-stream\r\n\r\n".encode()
    )
    text = b""
    while b"\r\n\r\n" not in text:
        text += peer.recv(4096)
    return peer


def drain(peers):
    while ready := select.select(peers, [], [], 0)[0]:
        for peer in ready:
            peer.recv(1 << 16)


def time_to_all(publisher, request, witnesses):
    """From the publish to the event at the last witness."""
    drain(witnesses)
    sent = time.monotonic()
    publisher.sendall(request)
    waiting = [publisher, *witnesses]
    while waiting:
        for peer in select.select(waiting, [], [])[0]:
            text = peer.recv(1 << 16)
            if MARK in text or text.startswith(b"HTTP/1.1 200"):
                waiting.remove(peer)
    return time.monotonic() - sent


def measure(gush, shards, streams):
    """The median time until all have an event, in seconds, and how often one had not been counted
    for all by then."""
    public, admin = port(), port()
    cores = ",".join(str(core) for core in range(shards))
    hub = subprocess.Popen(
        ["taskset", "-c", cores, gush, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY,
         "--shards", str(shards), "--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{admin}",
         "--heartbeat", "off", "--write-timeout", "10m", "--drain-window", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    token = subprocess.check_output([gush, "token", "--key", KEY, "--publish", "*"], text=True).strip()
    witnesses = [witness(public) for _ in range(shards)]
    generator = subprocess.Popen(
        [gush, "bench", "topics", "--url", f"http://127.0.0.1:{public}/.well-known/mercure",
         "--publisher-key", KEY, "--subscribers", str(streams), "--topics", "1", "--rate", "0.05",
         "--seconds", "120"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        # The first event of the generator says that all its streams are open.
        while delivered(admin) < streams:
            time.sleep(0.2)
        generator.send_signal(signal.SIGSTOP)
        witnesses += [witness(public) for _ in range(shards)]
        time.sleep(0.5)
        body = urllib.parse.urlencode({"topic": TOPIC, "data": MARK.decode().ljust(200, "x")}).encode()
        request = (
            f"POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        publisher = socket.create_connection(("127.0.0.1", public))
        wanted = delivered(admin)
        times, early = [], 0
        for _ in range(WARM_UP + EVENTS):
            times.append(time_to_all(publisher, request, witnesses))
            # The last slice of a sweep is counted at its end: a few milliseconds.
            wanted += streams + len(witnesses)
            time.sleep(0.01)
            early += delivered(admin) < wanted
            while delivered(admin) < wanted:
                time.sleep(0.01)
        return statistics.median(times[WARM_UP:]), early
    finally:
        for process in (generator, hub):
            process.kill()
            process.wait()


def main():
    gush, output = os.path.abspath(sys.argv[1]), sys.argv[2]
    streams = int(sys.argv[3]) if len(sys.argv) > 3 else 15_000
    rounds = int(sys.argv[4]) if len(sys.argv) > 4 else 3
    with open(output, "w", encoding="utf-8") as file:
        for number in range(1, rounds + 1):
            (one, early_one), (two, early_two) = measure(gush, 1, streams), measure(gush, 2, streams)
            line = (f"round {number}: {streams} streams, one shard {one * 1e3:.1f} ms, "
                    f"two {two * 1e3:.1f} ms, ratio {one / two:.2f}, "
                    f"not counted for all by then {early_one} and {early_two} of {EVENTS + WARM_UP}")
            print(line, flush=True)
            print(line, file=file)


main()
