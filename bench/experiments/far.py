#!/usr/bin/env python3
"""How fast does a replay run to a far reader, by SO_SNDBUF and TCP_NOTSENT_LOWAT?

Two network namespaces, joined by two TUN devices; this process carries the packets from one to the
other and holds each back for half of the round trip. (The kernel's netem does the same where it is
built in.) Needs root. Prints a table in Markdown: median (smallest to largest) of the rounds.

    far.py [--rtt-ms 50] [--rounds 3] [--mib 8]
"""

import argparse
import collections
import ctypes
import fcntl
import os
import select
import socket
import statistics
import struct
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TCP_NOTSENT_LOWAT = 25
KIB = 1024
CASES = [
    # SO_SNDBUF (0: the kernel's), TCP_NOTSENT_LOWAT (0: none)
    (0, 0),
    (16 * KIB, 0),
    (64 * KIB, 0),
    (256 * KIB, 0),
    (1024 * KIB, 0),
    (0, 16 * KIB),
    (0, 64 * KIB),
    (64 * KIB, 16 * KIB),
    (1024 * KIB, 16 * KIB),
]


def in_namespace(number, ready, work, net=0):
    """Runs `work` in a thread with a network of its own; its TUN device goes into `ready`."""

    def run():
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"far", IFF_TUN | IFF_NO_PI))
        # A child takes over the network of the thread that starts it.
        run_ip(f"addr add 10.77.{net}.{number}/24 dev far")
        run_ip("link set far up txqueuelen 10000")
        ready[number] = device
        work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def run_ip(words):
    pid = os.fork()
    if pid == 0:
        os.execvp("ip", ["ip", *words.split()])
    if os.waitpid(pid, 0)[1] != 0:
        raise OSError(f"ip {words}")


def carry(devices, delay_s):
    """Packets between the two devices, each held back for `delay_s`."""
    one, other = devices
    queues = {one: collections.deque(), other: collections.deque()}
    while True:
        now = time.monotonic()
        due = [queue[0][0] for queue in queues.values() if queue]
        wait = max(0.0, min(due) - now) if due else None
        readable = select.select([one, other], [], [], wait)[0]
        for device in readable:
            to = other if device == one else one
            try:
                for _ in range(64):
                    packet = os.read(device, 65536)
                    queues[to].append((time.monotonic() + delay_s, packet))
            except BlockingIOError:
                pass
        now = time.monotonic()
        for to, queue in queues.items():
            while queue and queue[0][0] <= now:
                os.write(to, queue.popleft()[1])


def read_all(listener):
    while True:
        reader, _ = listener.accept()
        while reader.recv(1 << 20):
            pass
        reader.close()


def replay(size, low_water, bytes_total):
    """Seconds from the first write to the reader's having all, and the largest send queue."""
    writer = socket.create_connection(("10.77.0.2", 7777))
    writer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if size:
        writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    if low_water:
        writer.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, low_water)
    writer.setblocking(False)
    frames = b"d" * (64 * 208)
    sent, largest = 0, 0
    began = time.monotonic()
    while sent < bytes_total:
        try:
            sent += writer.send(frames)
        except BlockingIOError:
            memory = writer.getsockopt(socket.SOL_SOCKET, 55, 64)  # SO_MEMINFO
            largest = max(largest, struct.unpack_from("I", memory, 4 * 5)[0])
            select.select([], [writer], [])
    writer.shutdown(socket.SHUT_WR)
    writer.setblocking(True)
    writer.recv(1)
    return time.monotonic() - began, largest


def words(size):
    return f"{size // KIB} KiB" if size else "the kernel's"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rtt-ms", type=float, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mib", type=float, default=8)
    options = parser.parse_args()
    devices, done = {}, threading.Event()

    def serve():
        listener = socket.create_server(("10.77.0.2", 7777))
        read_all(listener)

    def measure():
        while len(devices) < 2:
            time.sleep(0.01)
        time.sleep(0.2)
        figures = collections.defaultdict(list)
        for _ in range(options.rounds):
            for case in CASES:
                figures[case].append(replay(*case, int(options.mib * (1 << 20))))
        print(f"| round trip {options.rtt_ms:g} ms, {options.mib:g} MiB | MiB/s | send queue KiB |")
        print("| --- | --- | --- |")
        for (size, low_water), values in figures.items():
            rates = [options.mib / seconds for seconds, _ in values]
            queue = max(largest for _, largest in values) / KIB
            name = f"SO_SNDBUF {words(size)}"
            if low_water:
                name += f", TCP_NOTSENT_LOWAT {words(low_water)}"
            rate = f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"
            print(f"| {name} | {rate} | {queue:.0f} |", flush=True)
        done.set()

    in_namespace(2, devices, serve)
    while len(devices) < 1:
        time.sleep(0.01)
    in_namespace(1, devices, measure)
    while len(devices) < 2:
        time.sleep(0.01)
    threading.Thread(
        target=carry, args=((devices[1], devices[2]), options.rtt_ms / 2000), daemon=True
    ).start()
    done.wait()


if __name__ == "__main__":
    main()
