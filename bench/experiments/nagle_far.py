#!/usr/bin/env python3
"""The article's 40 ms against 8 ms: small events to a reader that is 8 ms away, by TCP_NODELAY.

`nagle` measures over loopback, where a path takes no time. Here writer and reader are in network
namespaces of their own, joined by TUN devices (as in far.py); each packet takes `--one-way-ms`.
Every shape runs with both settings at the same time, on a connection each, first over a path that
takes no time and then over the long one. Needs root.

    nagle_far.py [--one-way-ms 8] [--rounds 100] [--chart FILE]

Prints a table in Markdown; the chart has the medians and the 99th percentiles.
"""

import argparse
import random
import socket
import statistics
import struct
import threading
import time

from far import carry, in_namespace

FRAME = 208
TCP_QUICKACK = 12
CLOCK = time.monotonic
# How a moment's events are written, and whether the reader's kernel acknowledges at once.
SHAPES = [
    # name, events 2 ms apart, a write for each line of an event, late acknowledgements
    ("one write", 1, False, True),
    ("two writes", 1, True, False),
    ("two writes, late ACK", 1, True, True),
    ("3 events, late ACK", 3, False, True),
]
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"]
NAMES = ["Nagle, median", "Nagle, p99", "TCP_NODELAY, median", "TCP_NODELAY, p99"]


def write(address, shape, no_delay, rounds):
    """Events as a handler writes them; each begins with the time of its first write."""
    _, events, in_two, is_late = shape
    writer = socket.create_connection(address)
    writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, no_delay)
    writer.sendall(b"L" if is_late else b"Q")
    time.sleep(0.3)
    for _ in range(rounds):
        for event in range(events):
            if event:
                time.sleep(0.002)
            frame = struct.pack("d", CLOCK()) + b"d" * (FRAME - 8)
            if in_two:
                writer.sendall(frame[:20])
                writer.sendall(frame[20:])
            else:
                writer.sendall(frame)
        time.sleep(random.uniform(0.09, 0.18))
    writer.shutdown(socket.SHUT_WR)
    writer.recv(1)


def read(reader, delays):
    """Milliseconds from the first write of each event until all of it is here."""
    is_late = reader.recv(1) == b"L"
    have = b""
    while True:
        if is_late:
            reader.setsockopt(socket.IPPROTO_TCP, TCP_QUICKACK, 0)
        some = reader.recv(4096)
        now = CLOCK()
        if not some:
            return
        have += some
        while len(have) >= FRAME:
            delays.append((now - struct.unpack_from("d", have)[0]) * 1e3)
            have = have[FRAME:]


def over_path(one_way_s, rounds, number):
    """All shapes with both settings over one path: {(shape, no_delay): delays}."""
    addresses = {end: f"10.77.{number}.{end}" for end in (1, 2)}
    devices, found, done = {}, {}, threading.Event()
    cases = [(shape, no_delay) for shape in SHAPES for no_delay in (0, 1)]

    def serve():
        listeners = []
        for place, case in enumerate(cases):
            found[case] = []
            listener = socket.create_server((addresses[2], 7700 + place))
            listeners.append((listener, found[case]))

        def one(listener, delays):
            reader, _ = listener.accept()
            read(reader, delays)

        # Threads take over the network of the one that starts them.
        threads = [threading.Thread(target=one, args=pair) for pair in listeners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()

    def send():
        while len(devices) < 2 or len(found) < len(cases):
            time.sleep(0.01)
        time.sleep(0.5)
        for place, (shape, no_delay) in enumerate(cases):
            address = (addresses[2], 7700 + place)
            arguments = (address, shape, no_delay, rounds)
            threading.Thread(target=write, args=arguments, daemon=True).start()

    in_namespace(2, devices, serve, number)
    while 2 not in devices:
        time.sleep(0.01)
    in_namespace(1, devices, send, number)
    while 1 not in devices:
        time.sleep(0.01)
    pair = (devices[1], devices[2])
    threading.Thread(target=carry, args=(pair, one_way_s), daemon=True).start()
    done.wait()
    return found


def p99(values):
    return sorted(values)[int(0.99 * (len(values) - 1))]


def chart(title, groups):
    """Groups of bars, linear: [(name, [height of each of NAMES])]."""
    width, height, left, right, top, bottom = 860, 380, 60, 180, 46, 66
    most = max(value for _, values in groups for value in values)
    scale = (height - top - bottom) / (10 * (most // 10 + 1))
    foot = height - bottom
    out = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}'"
        " font-family='sans-serif' font-size='12'>",
        f"<rect width='{width}' height='{height}' fill='white'/>",
        f"<text x='{left}' y='22' font-size='15' font-weight='bold'>{title}</text>",
        f"<text transform='translate(16 {height / 2}) rotate(-90)' text-anchor='middle'>"
        "ms from the first write to the whole event</text>",
    ]
    for line in range(0, int(10 * (most // 10 + 1)) + 1, 10):
        y = foot - line * scale
        out.append(
            f"<line x1='{left}' x2='{width - right}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>"
            f"<text x='{left - 6}' y='{y + 4:.1f}' text-anchor='end'>{line}</text>"
        )
    room = (width - left - right) / len(groups)
    for place, (name, values) in enumerate(groups):
        begin = left + room * place + 4
        wide = (room - 8) / len(values)
        for at, value in enumerate(values):
            x, tall = begin + wide * at, max(value * scale, 0.5)
            label = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
            out.append(
                f"<rect x='{x:.1f}' y='{foot - tall:.1f}' width='{wide - 1:.1f}'"
                f" height='{tall:.1f}' fill='{COLOURS[at]}'/>"
                f"<text x='{x + wide / 2:.1f}' y='{foot - tall - 3:.1f}' text-anchor='middle'"
                f" font-size='9'>{label}</text>"
            )
        for line, words in enumerate(name):
            out.append(
                f"<text x='{begin + room / 2 - 4:.1f}' y='{foot + 15 + 13 * line}'"
                f" text-anchor='middle' font-size='10'>{words}</text>"
            )
    for at, name in enumerate(NAMES):
        y = top + 10 + 18 * at
        out.append(
            f"<rect x='{width - right + 12}' y='{y - 9}' width='10' height='10'"
            f" fill='{COLOURS[at]}'/><text x='{width - right + 27}' y='{y}'>{name}</text>"
        )
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--one-way-ms", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--chart")
    options = parser.parse_args()
    print("| path, one way | written | TCP_NODELAY | events | p50 ms | p90 ms | p99 ms | most ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    groups = []
    for number, one_way_ms in ((78, 0), (77, options.one_way_ms)):
        found = over_path(one_way_ms / 1000, options.rounds, number)
        path = f"{one_way_ms:g} ms"
        for shape in SHAPES:
            heights = []
            for no_delay in (0, 1):
                delays = found[(shape, no_delay)]
                p90 = sorted(delays)[int(0.9 * (len(delays) - 1))]
                middle = statistics.median(delays)
                heights += [middle, p99(delays)]
                print(
                    f"| {path} | {shape[0]} | {'on' if no_delay else 'off'} | {len(delays)} |"
                    f" {middle:.2f} | {p90:.2f} | {p99(delays):.2f} | {max(delays):.2f} |",
                    flush=True,
                )
            groups.append(([*shape[0].split(", "), f"path {path}"], heights))
    if options.chart:
        title = "An event of 208 bytes, with and without TCP_NODELAY, near and far"
        with open(options.chart, "w", encoding="utf-8") as file:
            file.write(chart(title, groups))


if __name__ == "__main__":
    main()
