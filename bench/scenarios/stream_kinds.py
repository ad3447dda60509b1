#!/usr/bin/env python3
"""User memory of a plain HTTP/1.1 stream by what it asks for and how the hub is set.

    bench/scenarios/stream_kinds.py GUSH_BINARY STREAMS [KIND...]

A hub with a memory log is started for each kind. 100 streams are opened, then STREAMS more, one after the
other by each of a process for 15,000; their readers read all that comes. "At once" is the growth of the
hub's resident set over that with 100, "calm" the same three seconds later, both for each stream; "at the
start" and "closed" are the whole of it in KiB. Needs openssl(1) for a certificate.
"""
import base64
import hashlib
import hmac
import json
import os
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

PUBLISHER_KEY = "0123456789abcdef0123456789abcdef"
KEY = "abcdef0123456789abcdef0123456789"
WARM_UP = 100
PER_PROCESS = 15_000
HEARTBEATS_S = 30
SITE = "topic=https%3A%2F%2Fexample.com%2F"
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/event-stream", "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br", "Referer: https://example.com/a/page",
    "Origin: https://example.com", "Connection: keep-alive", "Cookie: session=" + "x" * 900)
FEW = ("--retention-events", "100", "--window-events", "100")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(subscribe, **more):
    claims = {"mercure": {"subscribe": subscribe, **more}, "exp": int(time.time()) + 86400,
              **({"sub": more["payload"]["name"]} if more else {})}
    head = base64url(b'{"alg":"HS256","typ":"JWT"}') + "." + base64url(json.dumps(claims).encode())
    return head + "." + base64url(hmac.new(KEY.encode(), head.encode(), hashlib.sha256).digest())


def own_token(number):
    user = f"https://example.com/users/{number}"
    payload = {"user": user, "name": f"Somebody {number}", "roles": ["reader", "writer"],
               "remoteAddr": f"192.0.2.{number % 250}"}
    return "Authorization: Bearer " + token([user], payload=payload)


SHARED_TOKEN = "Authorization: Bearer " + token(["*"])


def topics(*paths):
    return "&".join(SITE + path for path in paths)


def own(number):
    return topics(f"users%2F{number}")


def four_own(number):
    return topics(*(f"users%2F{number}%2F{name}" for name in "abcd"))


def long(number, length):
    """A topic of so many bytes."""
    return topics("users%2F" + str(number).rjust(length - 26, "0"))


def alike(*paths):
    return lambda number: topics(*paths)


EVERYBODY = alike("everybody")


class Kind:
    """`query` and `headers` of a number's request, the hub's options, and how to connect."""

    def __init__(self, query=EVERYBODY, options=(), headers=lambda number: (), how=""):
        self.query, self.options, self.headers, self.how = query, options, headers, how

    def request(self, number):
        lines = "".join(line + "\r\n" for line in ("Host: hub.example", *self.headers(number)))
        return f"GET /.well-known/mercure?{self.query(number)} HTTP/1.1\r\n{lines}\r\n".encode()


def with_token(query, *options):
    return Kind(query, ("--subscriber-key", KEY, *options), lambda number: (own_token(number),))


def forwarded(number):
    return (f"X-Forwarded-For: 10.{number >> 16}.{number >> 8 & 255}.{number & 255}",)


KINDS = {
    "one topic": Kind(),
    "a browser's headers, 1.2 KB": Kind(headers=lambda number: BROWSER),
    "heartbeats each second, 30 of them": Kind(options=("--heartbeat", "1s"), how="hold"),
    "retry, max-stream-life": Kind(options=("--retry", "3s", "--max-stream-life", "1h")),
    "flush interval": Kind(options=("--flush-interval", "1s")),
    "conflation": Kind(options=("--conflate-topic", "https://example.com/everybody")),
    "4 topics that all have": Kind(alike(*"abcd")),
    "16 topics that all have": Kind(alike(*map(str, range(16)))),
    "a template that all have": Kind(alike("books%2F%7Bid%7D")),
    "Last-Event-ID, earliest": Kind(headers=lambda number: ("Last-Event-ID: earliest",)),
    "Last-Event-ID, unknown": Kind(headers=lambda number: (f"Last-Event-ID: {number:032x}",)),
    "disk log": Kind(options=("--log", "DISK")),
    "disk log, Last-Event-ID": Kind(options=("--log", "DISK"),
                                    headers=lambda number: ("Last-Event-ID: earliest",)),
    "own descriptor tables, 4 shards": Kind(options=("--descriptor-tables", "own", "--shards", "4")),
    "own address": Kind(how="addresses"),
    "own forwarded address": Kind(options=("--trusted-proxy", "127.0.0.0/8"), headers=forwarded),
    "own address, limits per address": Kind(
        options=("--max-connections-per-address", "9", "--accept-rate-per-address", "9"),
        how="addresses"),
    "a token that all have": Kind(options=("--subscriber-key", KEY),
                                  headers=lambda number: (SHARED_TOKEN,)),
    "own topic, 31 bytes": Kind(own),
    "own topic, 64 bytes": Kind(lambda number: long(number, 64)),
    "own topic, 200 bytes": Kind(lambda number: long(number, 200)),
    "own topic and 3 that all have": Kind(lambda number: own(number) + "&" + topics(*"abc")),
    "4 own topics": Kind(four_own),
    "own template": Kind(lambda number: topics(f"users%2F{number}%2F%7Bkind%7D")),
    "4 own templates": Kind(lambda number: topics(*(f"{name}%2F{number}%2F%7Bkind%7D"
                                                    for name in "abcd"))),
    "own token with payload": with_token(EVERYBODY),
    "own token, limits per subject": with_token(EVERYBODY, "--max-connections-per-subject", "5"),
    "own token and topic": with_token(own),
    "subscriptions": Kind(options=("--subscriptions", *FEW)),
    "subscriptions, own token and topic": with_token(own, "--subscriptions", *FEW),
    "subscriptions, own token, 4 own topics": with_token(four_own, "--subscriptions", *FEW),
    "subscriptions, own token and topic, all events kept": with_token(own, "--subscriptions"),
    "TLS 1.3": Kind(how="tls"),
    "TLS 1.3, own topic": Kind(own, how="tls"),
    "TLS 1.2": Kind(how="tls1.2"),
}


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) * 1024


class Hub:
    def __init__(self, gush, kind, streams, folder):
        options = [option.replace("DISK", f"disk:{folder}/log") for option in kind.options]
        if "--log" not in options:
            options += ["--log", "memory"]
        if kind.how.startswith("tls"):
            certificate, key = f"{folder}/cert.pem", f"{folder}/key.pem"
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                 "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                 "-keyout", key, "-out", certificate], check=True, capture_output=True)
            options += ["--tls-cert", certificate, "--tls-key", key]
        if streams > PER_PROCESS:
            options += ["--max-connections", str(streams + 1000)]
        self.process = subprocess.Popen(
            [gush, "serve", "--anonymous", "--publisher-key", PUBLISHER_KEY, "--listen",
             "127.0.0.1:0", "--admin-listen", "off", "--drain-window", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = None
        while (line := self.process.stdout.readline()).strip() != "ready":
            if not line:
                raise SystemExit(f"no hub with {options}")
            if "listening" in line and self.port is None:
                self.port = int(re.search(r":(\d+) ", line)[1])
        # The stream log goes there, too: in a pipe that nobody reads its records would wait.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        time.sleep(0.5)

    def resident(self):
        return resident(self.process.pid)

    def end(self):
        self.process.kill()
        self.process.wait()


def connect(kind, port, number):
    source = ("127.0.0.1", 0)
    if kind.how == "addresses":
        source = (f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}", 0)
    elif number > PER_PROCESS:
        source = (f"127.0.1.{1 + number // PER_PROCESS}", 0)
    stream = socket.create_connection(("127.0.0.1", port), source_address=source)
    if kind.how.startswith("tls"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if kind.how == "tls1.2":
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        stream = context.wrap_socket(stream)
    stream.sendall(kind.request(number))
    head = stream.recv(4096)
    assert head.startswith(b"HTTP/1.1 200"), head
    return stream


def hold(kind, port, numbers, opened, end):
    """In a process of its own: opens, tells, and reads until it is told to end."""
    streams = {}
    poll = select.epoll()
    for number in numbers:
        stream = connect(kind, port, number)
        stream.setblocking(False)
        streams[stream.fileno()] = stream
        if not kind.how.startswith("tls"):
            poll.register(stream.fileno(), select.EPOLLIN)
    poll.register(end, select.EPOLLIN)
    os.write(opened, b"x")
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == end:
                return
            if not streams[descriptor].recv(65536):
                poll.unregister(descriptor)


class Holder:
    def __init__(self, kind, port, numbers, others):
        self.opened, opened = os.pipe()
        end, self.end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                for fd in (self.end, *(other.end for other in others)):
                    os.close(fd)
                hold(kind, port, numbers, opened, end)
            except Exception as error:  # said here: nobody else sees it
                print(f"a holder failed: {error!r}", file=sys.stderr)
            os._exit(0)
        os.close(opened)
        os.close(end)

    def wait(self):
        if os.read(self.opened, 1) != b"x":
            raise SystemExit("not all streams were opened")


def measure(gush, streams, name, folder):
    kind = KINDS[name]
    hub = Hub(gush, kind, streams, folder)
    holders = []
    try:
        start = hub.resident()
        holders.append(Holder(kind, hub.port, range(WARM_UP), holders))
        holders[0].wait()
        time.sleep(0.3)
        before = hub.resident()
        end = WARM_UP + streams
        for first in range(WARM_UP, end, PER_PROCESS):
            numbers = range(first, min(first + PER_PROCESS, end))
            holders.append(Holder(kind, hub.port, numbers, holders))
        for holder in holders[1:]:
            holder.wait()
        at_once = hub.resident()
        time.sleep(HEARTBEATS_S if kind.how == "hold" else 3)
        calm = hub.resident()
        for holder in holders:
            os.close(holder.end)
        for holder in holders:
            os.waitpid(holder.pid, 0)
        time.sleep(3)
        print(f"{name:52} {(at_once - before) / streams:8.0f} {(calm - before) / streams:8.0f}"
              f" {start >> 10:8} {hub.resident() >> 10:8}", flush=True)
    finally:
        hub.end()


def main():
    gush, streams = sys.argv[1], int(sys.argv[2])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{f'{streams} streams':52} {'at once':>8} {'calm':>8} {'start':>8} {'closed':>8}",
          flush=True)
    for name in sys.argv[3:] or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            measure(gush, streams, name, folder)


if __name__ == "__main__":
    main()
