"""What a whole publish costs the hub, by how many different matchers its streams hold.

    python3 publish_cost.py GUSH [rounds] [events of a round]

One hub for each row, all of them at once, each with 1,000 streams whose matchers differ from one
another. The rounds go through the hubs in turn, so what disturbs the machine disturbs all of them.
Each event is for one matcher, all over the set, and one stream gets it. Counted: the CPU time of all
of the hub's threads (/proc/PID/task/*/schedstat) for each publish: request, log, window, matching,
delivery, answer.
"""

import base64, hashlib, hmac, json, os, random, socket, statistics, subprocess, sys, time

GUSH = sys.argv[1]
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
EVENTS = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
STREAMS = 1000
KEY = "0123456789abcdef0123456789abcdef"
KINDS = {
    "exact": ("/topic/%d", "/topic/%d"),
    "template, told apart before": ("/users/%d/{kind}", "/users/%d/orders"),
    "template, told apart between": ("/x/{a}/k%d/{b}", "/x/1/k%d/2"),
}
ROWS = [
    ("exact", 1),
    ("exact", 1000),
    ("template, told apart before", 1),
    ("template, told apart before", 100),
    ("template, told apart between", 1),
    ("template, told apart between", 100),
]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token():
    head = encode(b'{"alg":"HS256","typ":"JWT"}')
    claims = encode(b'{"mercure":{"publish":["*"]}}')
    sign = hmac.new(KEY.encode(), f"{head}.{claims}".encode(), hashlib.sha256).digest()
    return f"{head}.{claims}.{encode(sign)}"


def quote(text):
    return text.replace("{", "%7B").replace("}", "%7D")


class Hub:
    def __init__(self, kind, each, port):
        self.kind, self.each, self.port = kind, each, port
        self.log = open(os.devnull, "w")
        self.process = subprocess.Popen(
            [GUSH, "serve", "--anonymous", "--log", "memory", "--publisher-key", KEY, "--listen",
             f"127.0.0.1:{port}", "--admin-listen", "off", "--heartbeat", "off",
             "--write-timeout", "1h"],
            stdout=self.log, stderr=self.log)
        self.costs = []
        self.delivered = 0

    def connect(self):
        for _ in range(200):
            try:
                peer = socket.create_connection(("127.0.0.1", self.port))
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return peer
            except ConnectionRefusedError:
                time.sleep(0.05)
        raise SystemExit("the hub does not listen")

    def open(self):
        self.streams = []
        for number in range(STREAMS):
            matchers = range(number * self.each, (number + 1) * self.each)
            query = "&".join("topic=" + quote(KINDS[self.kind][0] % m) for m in matchers)
            peer = self.connect()
            peer.sendall(f"GET /.well-known/mercure?{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            head = peer.recv(4096)
            assert head.startswith(b"HTTP/1.1 200"), head[:200]
            peer.setblocking(False)
            self.streams.append(peer)
        self.publisher = self.connect()
        self.authorization = token()

    def cpu_ns(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            with open(f"/proc/{self.process.pid}/task/{task}/schedstat") as file:
                total += int(file.read().split()[0])
        return total

    def publish(self, number):
        topic = KINDS[self.kind][1] % number
        body = f"topic={topic}&data=" + "x" * 200
        head = (f"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                f"{self.authorization}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.publisher.sendall((head + body).encode())
        answer = self.publisher.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]

    def publish_batch(self, numbers):
        """All of them in one NDJSON request."""
        topic = KINDS[self.kind][1]
        lines = (json.dumps({"topic": topic % number, "data": "x" * 200}) for number in numbers)
        body = "\n".join(lines) + "\n"
        head = (f"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer "
                f"{self.authorization}\r\nContent-Type: application/x-ndjson\r\n"
                f"Content-Length: {len(body)}\r\n\r\n")
        self.publisher.sendall((head + body).encode())
        answer = b""
        while answer.count(b'"id"') < len(numbers):
            part = self.publisher.recv(1 << 16)
            assert part and b'"error"' not in part, part[:200]
            answer += part
        while not answer.endswith(b"\r\n0\r\n\r\n") and b"chunked" in answer[:1000]:
            answer += self.publisher.recv(1 << 16)

    def round(self, numbers, batch):
        begun = self.cpu_ns()
        if batch > 1:
            for at in range(0, len(numbers), batch):
                self.publish_batch(numbers[at:at + batch])
        else:
            for number in numbers:
                self.publish(number)
        # The delivery belongs to it: until nothing more comes.
        self.drain(len(numbers))
        self.costs.append((self.cpu_ns() - begun) / len(numbers))

    def drain(self, expected):
        """Reads what came, and counts: each event went to the one stream that asked for it."""
        count, deadline = 0, time.time() + 5
        while count < expected and time.time() < deadline:
            for peer in self.streams:
                try:
                    count += peer.recv(1 << 20).count(b"\ndata:")
                except BlockingIOError:
                    pass
        assert count == expected, (self.kind, self.each, count, expected)
        self.delivered += count


def measure(hubs, chance, batch):
    events = EVENTS * (5 if batch > 1 else 1)
    for hub in hubs:
        hub.costs, hub.delivered = [], 0
    for _ in range(ROUNDS + 1):
        for hub in hubs:
            hub.round([chance.randrange(STREAMS * hub.each) for _ in range(events)], batch)
    for at, hub in enumerate(hubs):
        hub.costs.pop(0)
        few = hubs[at - at % 2]
        ratios = [mine / other for mine, other in zip(hub.costs, few.costs)]
        print(f"| {hub.kind} | {STREAMS * hub.each:,} | {batch} "
              f"| {statistics.median(hub.costs) / 1000:.1f} | {min(hub.costs) / 1000:.1f} "
              f"| {max(hub.costs) / 1000:.1f} | {statistics.median(ratios):.2f} "
              f"| {hub.delivered:,} |", flush=True)


def main():
    hubs = [Hub(kind, each, 4300 + at) for at, (kind, each) in enumerate(ROWS)]
    try:
        for hub in hubs:
            hub.open()
        chance = random.Random(1)
        print("| matchers | how many | events in a request | median us an event | least | most "
              "| ratio | delivered |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for batch in (1, 500):
            measure(hubs, chance, batch)
    finally:
        for hub in hubs:
            hub.process.kill()
            hub.process.wait()


main()
