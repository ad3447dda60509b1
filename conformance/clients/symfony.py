"""What symfony/mercure sends, byte for byte, without PHP.

Its Hub posts a form over Symfony's HttpClient: fields in the order topic (repeated), data (always),
private=on, id, type, retry, each left out when absent, encoded as PHP's urlencode does it (space is
`+`, `~` is encoded). It takes the body of a 2xx answer for the id, and throws on anything else. Its
Authorization sets the cookie `mercureAuthorization` for subscribers.

    python3 conformance/clients/symfony.py http://127.0.0.1:3000/.well-known/mercure KEY

KEY is the HS256 secret of publishers and subscribers; the hub must refuse anonymous subscribers.
"""

import base64
import hashlib
import hmac
import http.client
import json
import socket
import sys
import time
from urllib.parse import quote_plus, urlsplit

DEADLINE_S = 30
URL, KEY = urlsplit(sys.argv[1]), sys.argv[2]
TOPIC = "https://example.com/books/1"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jwt(publish=None, subscribe=None, key=KEY, expires_in=3600):
    """A token as symfony/mercure's LcobucciFactory makes it."""
    grants = {"publish": publish or [], "subscribe": subscribe or []}
    claims = {"exp": int(time.time()) + expires_in, "mercure": grants}
    parts = ({"typ": "JWT", "alg": "HS256"}, claims)
    signed = ".".join(b64(json.dumps(part).encode()) for part in parts)
    return signed + "." + b64(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())


def urlencode(text):
    """PHP's urlencode: letters, digits and -_. stay, space is +."""
    return quote_plus(str(text), safe="").replace("~", "%7E")


def form(topics, data="", private=False, id=None, type=None, retry=None):
    """QueryBuilder::build of Hub::publish's array."""
    fields = [("topic", topic) for topic in topics] + [("data", data)]
    fields += [("private", "on")] if private else []
    fields += [(name, value) for name, value in (("id", id), ("type", type), ("retry", retry))
               if value is not None]
    return "&".join(f"{name}={urlencode(value)}" for name, value in fields)


def post(body, token):
    """One POST as curl under Symfony's HttpClient writes it; (status, headers, body)."""
    head = (f"POST {URL.path} HTTP/1.1\r\nHost: {URL.netloc}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Authorization: Bearer {token}\r\n"
            "Accept: */*\r\nUser-Agent: Symfony HttpClient (Curl)\r\nAccept-Encoding: gzip\r\n"
            f"Content-Length: {len(body)}\r\n\r\n")
    with socket.create_connection((URL.hostname, URL.port), DEADLINE_S) as sock:
        sock.sendall((head + body).encode("ascii"))
        answer = http.client.HTTPResponse(sock, method="POST")
        answer.begin()
        return answer.status, answer.headers, answer.read().decode()


class Stream:
    """A subscriber with a browser's cookie. Ready once the head and the first line are there."""

    def __init__(self, cookie, topic="*"):
        self.link = http.client.HTTPConnection(URL.hostname, URL.port, timeout=DEADLINE_S)
        headers = {"Accept": "text/event-stream"}
        if cookie:
            headers["Cookie"] = f"theme=dark; mercureAuthorization={cookie}; PHPSESSID=0a1b2c"
        self.link.request("GET", f"{URL.path}?topic={quote_plus(topic)}", headers=headers)
        self.answer = self.link.getresponse()
        self.status = self.answer.status
        if self.status == 200:
            self.answer.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()

    def event(self):
        """The lines of the next event, without comments. The hub's greeting is a comment and its
        own `retry`, which is taken off the first event."""
        lines = []
        while True:
            line = self.answer.readline().decode()
            if line == "":
                raise AssertionError(f"the stream ended after {lines}")
            line = line.removesuffix("\n")
            if line == "" and any(not one.startswith("retry:") for one in lines):
                return lines[1:] if lines[0].startswith("retry:") else lines
            if line != "" and not line.startswith(":"):
                lines.append(line)


def equal(what, got, want):
    if got != want:
        raise AssertionError(f"{what}: got {got!r}, wanted {want!r}")


PUBLISHER = jwt(publish=["*"])
READER = jwt(subscribe=["*"])


def publishes(update, want_event):
    """Posts it, and the stream brings exactly these lines; {id} stands for the answered id."""
    def case():
        with Stream(READER) as stream:
            status, headers, text = post(form(**update), PUBLISHER)
            equal("status", status, 200)
            equal("content type", headers["Content-Type"].replace(" ", "").lower(),
                  "text/plain;charset=utf-8")
            if update.get("id"):
                equal("the answer is the id", text, update["id"])
            elif not text.startswith("urn:uuid:") or text != text.strip():
                raise AssertionError(f"not an id: {text!r}")
            want = [line.replace("{id}", text) for line in want_event]
            equal("event", stream.event(), want)
    return case


def refused(body, token, statuses):
    def case():
        status, _, text = post(body, token)
        if status not in statuses:
            raise AssertionError(f"status {status} {text!r}, wanted one of {statuses}")
        if not text.strip():
            raise AssertionError("the answer does not say why")
    return case


def bytes_are_symfonys():
    """The encoder above against the bytes PHP gives for the same update."""
    body = form(["https://example.com/é", "b"], "a b+c~d\n\"e\"", True, "urn:x:1", "ty pe", 5)
    equal("body", body,
          "topic=https%3A%2F%2Fexample.com%2F%C3%A9&topic=b&data=a+b%2Bc%7Ed%0A%22e%22"
          "&private=on&id=urn%3Ax%3A1&type=ty+pe&retry=5")


def cookie_reads_private():
    with Stream(jwt(subscribe=[TOPIC]), TOPIC) as stream:
        equal("status", stream.status, 200)
        _, _, text = post(form([TOPIC], "secret", private=True), PUBLISHER)
        equal("event", stream.event(), [f"id: {text}", "data: secret"])


def cookie_without_grant_reads_public_only():
    with Stream(jwt(subscribe=["https://example.com/other"])) as stream:
        equal("status", stream.status, 200)
        post(form([TOPIC], "secret", private=True), PUBLISHER)
        _, _, text = post(form([TOPIC], "open"), PUBLISHER)
        equal("event", stream.event(), [f"id: {text}", "data: open"])


def one_topic_per_user():
    """The documented pattern: a private update whose alternate topic is the user's own."""
    user = "https://example.com/users/7/?topic=https%3A%2F%2Fexample.com%2Fbooks%2F1"
    with Stream(jwt(subscribe=[user]), TOPIC) as stream:
        _, _, text = post(form([TOPIC, user], "for 7", private=True), PUBLISHER)
        equal("event", stream.event(), [f"id: {text}", "data: for 7"])


def cookie_status(cookie, want):
    def case():
        with Stream(cookie) as stream:
            equal("status", stream.status, want)
    return case


LONG = "x" * 200_000
CASES = [
    ("the form is encoded as PHP does it", bytes_are_symfonys),
    ("topic and data", publishes({"topics": [TOPIC], "data": '{"status":"sold"}'},
                                 ["id: {id}", 'data: {"status":"sold"}'])),
    ("empty data", publishes({"topics": [TOPIC]}, ["id: {id}", "data: "])),
    ("several topics", publishes({"topics": [TOPIC, "https://example.com/books", "b"], "data": "1"},
                                 ["id: {id}", "data: 1"])),
    ("private", publishes({"topics": [TOPIC], "data": "1", "private": True},
                          ["id: {id}", "data: 1"])),
    ("id", publishes({"topics": [TOPIC], "data": "1", "id": f"urn:symfony:{time.time_ns()}"},
                     ["id: {id}", "data: 1"])),
    ("type", publishes({"topics": [TOPIC], "data": "1", "type": "book.sold"},
                       ["event: book.sold", "id: {id}", "data: 1"])),
    ("retry", publishes({"topics": [TOPIC], "data": "1", "retry": 1500, "type": "t"},
                        ["event: t", "retry: 1500", "id: {id}", "data: 1"])),
    ("retry=0 is not sent on", publishes({"topics": [TOPIC], "data": "1", "retry": 0, "type": "t"},
                                         ["event: t", "id: {id}", "data: 1"])),
    ("every field", publishes({"topics": [TOPIC, "b"], "data": "1", "private": True,
                               "id": f"urn:all:{time.time_ns()}", "type": "all", "retry": 7},
                              ["event: all", "retry: 7", "id: {id}", "data: 1"])),
    ("spaces, plus, tilde, umlauts, emoji",
     publishes({"topics": ["https://example.com/a b+c~d/ü"], "data": "a b+c~d ü 🌊", "type": "a b"},
               ["event: a b", "id: {id}", "data: a b+c~d ü 🌊"])),
    ("lines of all three kinds", publishes({"topics": [TOPIC], "data": "a\nb\r\nc\rd\n"},
                                           ["id: {id}", "data: a", "data: b", "data: c", "data: d",
                                            "data: "])),
    ("200 kB of data", publishes({"topics": [TOPIC], "data": LONG}, ["id: {id}", "data: " + LONG])),
    ("a token of another key is refused",
     refused(form([TOPIC], "1"), jwt(publish=["*"], key="a key the hub does not have"), (401,))),
    ("an expired token is refused",
     refused(form([TOPIC], "1"), jwt(publish=["*"], expires_in=-12), (401,))),
    ("a token without publish is refused",
     refused(form([TOPIC], "1"), jwt(subscribe=["*"]), (401, 403))),
    ("a topic outside the grant is refused",
     refused(form([TOPIC, "b"], "1"), jwt(publish=[TOPIC]), (401, 403))),
    ("no topic is refused", refused("data=1", PUBLISHER, (400,))),
    ("the cookie reads private updates", cookie_reads_private),
    ("a cookie without the grant reads public updates only",
     cookie_without_grant_reads_public_only),
    ("one alternate topic per user", one_topic_per_user),
    ("an expired cookie is refused", cookie_status(jwt(subscribe=["*"], expires_in=-12), 401)),
    ("no cookie is refused", cookie_status("", 401)),
]


def main():
    failed = 0
    for name, case in CASES:
        try:
            case()
            print(f"ok      symfony/mercure: {name}", flush=True)
        except (AssertionError, OSError, http.client.HTTPException) as error:
            failed += 1
            why = str(error) or type(error).__name__
            print(f"not ok  symfony/mercure: {name}\n        {why[:600]}", flush=True)
    print(f"{len(CASES) - failed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
