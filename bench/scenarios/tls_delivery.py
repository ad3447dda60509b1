#!/usr/bin/env python3
"""CPU of a hub for one delivery under TLS, and without it.

    bench/scenarios/tls_delivery.py GUSH_BINARY...

1,000 streams of one topic, 200 events of 200 bytes, one at a time; three rounds of all binaries in turn, then
the last one without TLS. Needs openssl(1) for a certificate.
"""
import base64
import hashlib
import hmac
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

import stream_memory

STREAMS = 1000
EVENTS = 200
BODY = "topic=a&data=" + "x" * 200


def token():
    def part(content):
        return base64.urlsafe_b64encode(content).rstrip(b"=")

    parts = [{"alg": "HS256", "typ": "JWT"}, {"mercure": {"publish": ["*"]}}]
    signed = b".".join(part(json.dumps(content).encode()) for content in parts)
    key = stream_memory.KEY.encode()
    return (signed + b"." + part(hmac.new(key, signed, hashlib.sha256).digest())).decode()


def cpu_seconds(hub):
    with open(f"/proc/{hub.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    hertz = os.sysconf("SC_CLK_TCK")
    return (int(fields[11]) + int(fields[12])) / hertz, int(fields[11]) / hertz


def measure(gush, *tls):
    hub, port = stream_memory.start(gush, *tls)
    try:
        opener = stream_memory.open_tls if tls else stream_memory.open_plain
        streams = opener(port, STREAMS)
        publisher = socket.create_connection(("127.0.0.1", port))
        if tls:
            publisher = stream_memory.tls_context().wrap_socket(publisher)
        request = (f"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token()}\r\n"
                   "Content-Type: application/x-www-form-urlencoded\r\n"
                   f"Content-Length: {len(BODY)}\r\n\r\n{BODY}").encode()

        def publish():
            publisher.sendall(request)
            assert publisher.recv(4096).startswith(b"HTTP/1.1 200")
            # Longer than a delivery to all takes.
            time.sleep(0.012)

        publish()
        time.sleep(0.3)
        before = cpu_seconds(hub)
        for _ in range(EVENTS):
            publish()
        time.sleep(0.5)
        after = cpu_seconds(hub)
        assert len(streams) == STREAMS
        return tuple((new - old) / STREAMS / EVENTS * 1e6 for old, new in zip(before, after))
    finally:
        hub.kill()
        hub.wait()


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        tls = stream_memory.certificate(folder)
        for _ in range(3):
            for gush in sys.argv[1:]:
                print(f"{gush} TLS %.2f us a delivery, %.2f outside the kernel" % measure(gush, *tls), flush=True)
        print(f"{sys.argv[-1]} plain %.2f us a delivery, %.2f outside the kernel" % measure(sys.argv[-1]))


if __name__ == "__main__":
    main()
