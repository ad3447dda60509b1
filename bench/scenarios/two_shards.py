#!/usr/bin/env python3
"""How much faster two shards on two cores reach all streams than one shard on one core.

    bench/scenarios/two_shards.py GUSH OUTPUT_FILE [STREAMS] [ROUNDS]

A generator needs a core of its own, which leaves a machine of two cores none for the second shard. So
here the generator is stopped (SIGSTOP) once its streams are open: what the hub sends goes into
the kernel's receive buffers, which hold all of it, and both cores are the hub's. One event at a time is
published; the next one when the hub's own count says that all streams have it.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

KEY = "0123456789abcdef0123456789abcdef"
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


def measure(gush, shards, streams):
    public, admin = port(), port()
    cores = ",".join(str(core) for core in range(shards))
    hub = subprocess.Popen(
        ["taskset", "-c", cores, gush, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY,
         "--shards", str(shards), "--listen", f"127.0.0.1:{public}", "--admin-listen", f"127.0.0.1:{admin}",
         "--heartbeat", "off", "--write-timeout", "10m", "--drain-window", "0"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1)
    token = subprocess.check_output([gush, "token", "--key", KEY, "--publish", "*"], text=True).strip()
    generator = subprocess.Popen(
        [gush, "bench", "topics", "--url", f"http://127.0.0.1:{public}/.well-known/mercure",
         "--publisher-key", KEY, "--subscribers", str(streams), "--topics", "1", "--rate", "0.05",
         "--seconds", "120"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        # The first event of the generator says that all streams are open, and names the topic.
        while delivered(admin) < streams:
            time.sleep(0.2)
        generator.send_signal(signal.SIGSTOP)
        topic = "https://bench.example/0/event"
        body = urllib.parse.urlencode({"topic": topic, "data": "x" * 200}).encode()
        request = (
            f"POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        publisher = socket.create_connection(("127.0.0.1", public))
        wanted = delivered(admin)
        begin = usual = 0.0
        for event in range(WARM_UP + EVENTS):
            if event == WARM_UP:
                begin = time.monotonic()
            sent = time.monotonic()
            publisher.sendall(request)
            assert publisher.recv(4096).startswith(b"HTTP/1.1 200")
            wanted += streams
            # Asking takes the hub's time too: not before most of it must be over.
            time.sleep(0.9 * usual)
            while delivered(admin) < wanted:
                time.sleep(0.002)
            usual = time.monotonic() - sent
        return EVENTS * streams / (time.monotonic() - begin)
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
            one, two = measure(gush, 1, streams), measure(gush, 2, streams)
            line = (f"round {number}: {streams} streams, one shard {one:,.0f} deliveries/s, "
                    f"two {two:,.0f}, ratio {two / one:.2f}")
            print(line, flush=True)
            print(line, file=file)


main()
