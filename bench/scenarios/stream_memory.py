#!/usr/bin/env python3
"""User memory of an idle stream of each kind: plain, TLS, HTTP/2 without TLS and with it.

    bench/scenarios/stream_memory.py GUSH_BINARY [STREAMS]

HTTP/2 streams come 100 to a connection, and under TLS, as from a browser, alone. Needs openssl(1) for a
certificate.
"""
import re
import resource
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time

KEY = "0123456789abcdef0123456789abcdef"
REQUEST = b"GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: h\r\n\r\n"
WARM_UP = 100
PER_H2_CONNECTION = 100


def start(gush, *options):
    hub = subprocess.Popen(
        [gush, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY, "--listen",
         "127.0.0.1:0", "--admin-listen", "off", "--heartbeat", "off", "--drain-window", "0",
         *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = int(re.search(r":(\d+) ", hub.stdout.readline())[1])
    while hub.stdout.readline().strip() != "ready":
        pass
    # The stream log goes there, too: in a pipe that nobody reads its records would wait in the hub.
    threading.Thread(target=hub.stdout.read, daemon=True).start()
    return hub, port


def resident(hub):
    with open(f"/proc/{hub.pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read())[1]) * 1024


def open_plain(port, count, wrap=lambda socket: socket):
    streams = []
    for _ in range(count):
        stream = wrap(socket.create_connection(("127.0.0.1", port)))
        stream.sendall(REQUEST)
        assert stream.recv(4096).startswith(b"HTTP/1.1 200")
        streams.append(stream)
    return streams


def tls_context():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def open_tls(port, count):
    return open_plain(port, count, tls_context().wrap_socket)


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def open_h2_under_tls(port, count):
    context = tls_context()
    context.set_alpn_protocols(["h2"])
    return open_h2(port, count, 1, context.wrap_socket)


def open_h2(port, count, per_connection=PER_H2_CONNECTION, wrap=lambda socket: socket):
    head = b"\x82\x86" + literal(b":path", b"/.well-known/mercure?topic=a") + literal(b":authority", b"h")
    streams = []
    for _ in range(0, count, per_connection):
        connection = wrap(socket.create_connection(("127.0.0.1", port)))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for number in range(per_connection):
            connection.sendall(frame(1, 5, 2 * number + 1, head))
        heads, buffer = 0, b""
        while heads < per_connection:
            buffer += connection.recv(65536)
            while len(buffer) >= 9 and len(buffer) >= 9 + int.from_bytes(buffer[:3], "big"):
                heads += buffer[3] == 1
                buffer = buffer[9 + int.from_bytes(buffer[:3], "big"):]
        streams.append(connection)
    return streams


def measure(gush, count, opener, *options):
    hub, port = start(gush, *options)
    try:
        kept = opener(port, WARM_UP)
        time.sleep(0.3)
        before = resident(hub)
        kept += opener(port, count)
        time.sleep(0.5)
        return (resident(hub) - before) / count
    finally:
        hub.kill()
        hub.wait()


def certificate(folder):
    """Writes one; the options that name it."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-keyout", f"{folder}/key.pem", "-out",
         f"{folder}/cert.pem"], check=True, capture_output=True)
    return ("--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem")


def main():
    gush = sys.argv[1]
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        tls = certificate(folder)
        print(f"{count} streams of each kind, bytes of resident memory each")
        print(f"plain    {measure(gush, count, open_plain):8.0f}")
        print(f"TLS      {measure(gush, count, open_tls, *tls):8.0f}")
        print(f"HTTP/2   {measure(gush, count, open_h2):8.0f}")
        alone = measure(gush, min(count, 1000), open_h2_under_tls, *tls)
        print(f"HTTP/2 under TLS, alone on its connection {alone:8.0f}")


if __name__ == "__main__":
    main()
