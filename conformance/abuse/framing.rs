//! Rows 23 to 33: where a body ends, and what comes behind a request.

use super::{Attack, CLOSED, Healthy, expect_status, get_head, good_post, post_head, status};
use crate::cases::{ensure, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Connection, Outcome, PATIENCE, Request, SseStream, encode_form};
use std::io::Read as _;
use std::net::SocketAddr;

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = ATTACKS.iter().map(Attack::case).collect();
    cases.extend(CHUNKS.iter().map(chunk_case));
    cases.extend(lengths());
    cases.extend(every_route());
    cases.extend(pipelines());
    cases.extend(expectations());
    cases
}

const BAD: &[u16] = &[400, CLOSED];
const BAD_CODING: &[u16] = &[400, 501, CLOSED];

/// A publish with these framing headers and this body, to a topic of nobody.
fn framed(t: &Target, headers: &str, body: &str) -> Outcome<Vec<u8>> {
    Ok(format!("{}{headers}\r\n{body}", post_head(t)?).into_bytes())
}

/// Bytes that would be a publish of their own if the body were taken to end early.
const SMUGGLED: &str = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";

#[rustfmt::skip]
static ATTACKS: &[Attack] = &[
    Attack { row: 23, what: "coding-and-length", rule: "Transfer-Encoding and Content-Length: 400 and close",
        bytes: |t| framed(t, "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", SMUGGLED),
        allowed: &[400, CLOSED] },
    Attack { row: 23, what: "length-and-coding", rule: "the other order: 400 and close",
        bytes: |t| framed(t, "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", SMUGGLED),
        allowed: &[400, CLOSED] },
    Attack { row: 23, what: "coding-and-length-of-a-good-body", rule: "the same where both are right: 400 and close",
        bytes: |t| framed(t, "Transfer-Encoding: chunked\r\nContent-Length: 17\r\n", "7\r\ntopic=x\r\n0\r\n\r\n"),
        allowed: &[400, CLOSED] },
    Attack { row: 23, what: "length-and-coding-of-a-good-body", rule: "the other order: 400 and close",
        bytes: |t| framed(t, "Content-Length: 17\r\ntransfer-encoding: Chunked\r\n", "7\r\ntopic=x\r\n0\r\n\r\n"),
        allowed: &[400, CLOSED] },
    Attack { row: 23, what: "coding-and-length-on-a-subscribe", rule: "on a subscribe: 400 and close",
        bytes: |t| Ok((get_head(t)? + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n").into_bytes()),
        allowed: &[400, CLOSED] },
    Attack { row: 23, what: "coding-and-length-by-line-feeds", rule: "in a head without CR: 400 and close",
        bytes: |t| Ok(String::from_utf8_lossy(&framed(t, "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n", "")?)
            .replace('\r', "").into_bytes().into_iter().chain(*b"7\r\ntopic=x\r\n0\r\n\r\n").collect()),
        allowed: &[400, CLOSED] },
    Attack { row: 24, what: "two-equal-lengths-on-a-subscribe", rule: "a length twice: 400, close",
        bytes: |t| Ok((get_head(t)? + "Content-Length: 0\r\nContent-Length: 0\r\n\r\n").into_bytes()), allowed: BAD },
    Attack { row: 24, what: "two-lengths", rule: "two lengths: 400, close",
        bytes: |t| framed(t, "Content-Length: 7\r\nContent-Length: 8\r\n", "topic=xy"), allowed: BAD },
    Attack { row: 24, what: "two-equal-lengths", rule: "a length twice: 400, close",
        bytes: |t| framed(t, "Content-Length: 7\r\nContent-Length: 7\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "list-of-lengths", rule: "a list of lengths: 400, close",
        bytes: |t| framed(t, "Content-Length: 7, 7\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "length-plus", rule: "+7: 400, close",
        bytes: |t| framed(t, "Content-Length: +7\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "length-hex", rule: "0x7: 400, close",
        bytes: |t| framed(t, "Content-Length: 0x7\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "length-negative", rule: "-1: 400, close",
        bytes: |t| framed(t, "Content-Length: -1\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "length-empty", rule: "an empty length: 400, close",
        bytes: |t| framed(t, "Content-Length:\r\n", "topic=x"), allowed: BAD },
    Attack { row: 24, what: "length-overflow", rule: "2^64 + 7: 400 or 413, close",
        bytes: |t| framed(t, "Content-Length: 18446744073709551623\r\n", "topic=x"),
        allowed: &[400, 413, CLOSED] },
    Attack { row: 25, what: "unknown-coding", rule: "an unknown coding: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: gzip\r\n", "topic=x"), allowed: BAD_CODING },
    Attack { row: 25, what: "identity-coding", rule: "identity: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: identity\r\n", "topic=x"), allowed: BAD_CODING },
    Attack { row: 25, what: "quoted-coding", rule: "a quoted coding: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: \"chunked\"\r\n", SMUGGLED), allowed: BAD_CODING },
    Attack { row: 25, what: "padded-coding", rule: "a coding with a vertical tab: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: \u{b}chunked\r\n", SMUGGLED), allowed: BAD_CODING },
    Attack { row: 25, what: "chunked-not-last", rule: "chunked before another coding: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: chunked, gzip\r\n", SMUGGLED), allowed: BAD_CODING },
    Attack { row: 25, what: "repeated-coding", rule: "chunked twice: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: chunked, chunked\r\n", SMUGGLED), allowed: BAD_CODING },
    Attack { row: 25, what: "coding-in-two-headers", rule: "chunked in two headers: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", SMUGGLED),
        allowed: BAD_CODING },
    Attack { row: 25, what: "coding-with-a-tail", rule: "xchunked: 400 or 501, close",
        bytes: |t| framed(t, "Transfer-Encoding: xchunked\r\n", SMUGGLED), allowed: BAD_CODING },
    Attack { row: 26, what: "chunked-on-http-1.0", rule: "chunked on HTTP/1.0: 400, or close after one answer",
        bytes: |t| Ok(String::from_utf8_lossy(&framed(t, "Transfer-Encoding: chunked\r\n", SMUGGLED)?)
            .replacen("HTTP/1.1", "HTTP/1.0", 1).into_bytes()),
        allowed: &[400, CLOSED] },
];

/// A body in chunks, and the answers that will do.
struct Chunks {
    row: u8,
    what: &'static str,
    body: fn() -> String,
    allowed: &'static [u16],
}

#[rustfmt::skip]
static CHUNKS: &[Chunks] = &[
    Chunks { row: 27, what: "chunk-size-plus", body: || "+7\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-size-negative", body: || "-7\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-size-0x", body: || "0x7\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-size-blank", body: || "\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-size-space-inside", body: || "0 7\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-size-overflow", body: || "10000000000000007\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: &[400, 413, CLOSED] },
    Chunks { row: 27, what: "chunk-size-max", body: || "ffffffffffffffff\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: &[400, 413, CLOSED] },
    Chunks { row: 27, what: "chunk-without-line-end", body: || "7\r\ntopic=x0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "chunk-with-other-line-end", body: || "7\r\ntopic=xxx0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 27, what: "end-by-a-line-feed", body: || "7\r\ntopic=x\r\n0\r\n\nX: y\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 28, what: "endless-extension", body: || format!("7;{}\r\ntopic=x\r\n0\r\n\r\n", "a".repeat(1 << 20)), allowed: &[400, 413, 431, CLOSED] },
    Chunks { row: 28, what: "line-feed-in-extension", body: || "7;a\nb\r\ntopic=x\r\n0\r\n\r\n".into(), allowed: BAD },
    Chunks { row: 28, what: "endless-trailers", body: || format!("7\r\ntopic=x\r\n0\r\n{}\r\n", "X: y\r\n".repeat(200_000)), allowed: &[400, 413, 431, CLOSED] },
    Chunks { row: 29, what: "chunks-of-one-octet", body: || {
        let body = encode_form(&[("topic", "https://abuse.example/nobody"), ("data", &"x".repeat(100_000))]);
        body.chars().fold(String::new(), |all, octet| all + "1\r\n" + octet.encode_utf8(&mut [0; 4]) + "\r\n") + "0\r\n\r\n"
    }, allowed: &[200, 400, 413] },
];

fn chunk_case(row: &'static Chunks) -> Case {
    case(
        &format!("abuse/{:02}-{}", row.row, row.what),
        &[],
        "bad sizes and ends of chunks: 400 and close; extensions and trailers without an end: \
         refused, nothing kept; many small chunks: linear time",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let mut connection = t.connect()?;
            let head = post_head(t)? + "Transfer-Encoding: chunked\r\n\r\n";
            connection.send(head.as_bytes())?;
            let _ = connection.send((row.body)().as_bytes());
            let _ = connection.finish_sending();
            expect_status(&mut connection, row.allowed)?;
            healthy.check(t)
        },
    )
}

fn lengths() -> Vec<Case> {
    vec![case(
        "abuse/30-body-shorter-than-promised",
        &[],
        "a body shorter than promised is not published",
        |t| {
            let topic = t.topic();
            let mut stream = t.subscribe(&[("topic", &topic)])?;
            let body = encode_form(&[("topic", &topic), ("data", "half")]);
            for framing in [
                format!("Content-Length: {}\r\n\r\n{body}", body.len() + 10),
                format!(
                    "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n",
                    body.len()
                ),
            ] {
                let mut connection = t.connect()?;
                connection.send((post_head(t)? + &framing).as_bytes())?;
                connection.finish_sending()?;
                expect_status(&mut connection, &[400, 408, CLOSED])?;
            }
            nothing_before(t, &mut stream, &topic)
        },
    )]
}

/// Framing headers that say twice how long a body is, and a body that fits one of them.
const TWICE: &[(&str, &str)] = &[
    ("Content-Length: 0\r\ncontent-length: 0\r\n", ""),
    (
        "Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\n",
        "hello",
    ),
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\n",
    ),
];

/// What may stand before it on the connection. An answer to each comes first.
const BEFORE: &[(&str, &[u16])] = &[
    ("", &[]),
    ("\r\n\r\n", &[]),
    ("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", &[200, 404]),
    // Refused before its body is read.
    (
        "POST /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        &[404, 405],
    ),
    (
        "POST /healthz HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        &[404, 405],
    ),
];

/// Not only where a body is of use: what one server passes on, the next one reads in its own way.
fn every_route() -> Vec<Case> {
    let of = |door: &str, needs: &'static [Need], address: fn(&Target) -> Option<SocketAddr>| {
        case(
            &format!("abuse/24-framed-twice-on-every-route-{door}"),
            needs,
            "a length twice, or with a coding, on any route and behind any request: 400, close",
            move |t| address(t).map_or(Ok(()), |address| framed_twice(t, address)),
        )
    };
    vec![
        of("public", &[], |t| Some(t.address)),
        of("admin", &[Need::Admin], |t| t.admin),
    ]
}

fn framed_twice(t: &Target, address: SocketAddr) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let absolute = format!("http://h{HUB}");
    for (method, target) in [
        ("GET", "/healthz"),
        ("GET", "/nothing/here"),
        ("POST", "/drain"),
        ("PATCH", "/limits"),
        ("HEAD", HUB),
        ("OPTIONS", HUB),
        ("POST", HUB),
        ("POST", &absolute),
    ] {
        for (lines, body) in TWICE {
            for (before, first) in BEFORE {
                let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
                let mut connection = Connection::open(address)?;
                let _ = connection.send(format!("{before}{request}{body}").as_bytes());
                let what = format!("{request:?} behind {before:?}");
                if !first.is_empty() {
                    let answer = connection.read_response()?;
                    answer.expect_status(first).map_err(|f| f.within(&what))?;
                }
                expect_status(&mut connection, BAD).map_err(|f| f.within(&what))?;
                super::expect_closed(&mut connection).map_err(|f| f.within(&what))?;
            }
        }
    }
    healthy.check(t)
}

fn pipelines() -> Vec<Case> {
    vec![
        case(
            "abuse/31-behind-a-subscribe",
            &[],
            "requests behind a subscribe are never executed and never answered into the stream",
            |t| behind_a_subscribe(t, HUB),
        ),
        case(
            "abuse/31-behind-a-subscribe-of-another-spelling",
            &[],
            "the same behind a subscribe in absolute form",
            |t| behind_a_subscribe(t, &format!("http://h{HUB}")),
        ),
        case(
            "abuse/32-pipelined-requests-of-all-kinds",
            &[],
            "requests of every framing behind each other are each answered, in order",
            all_kinds,
        ),
        case(
            "abuse/32-pipelined-publishes",
            &[],
            "pipelined publishes are all answered, and delivered in order",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let mut connection = t.connect()?;
                let mut bytes = Vec::new();
                for n in 0..50 {
                    let fields = [("topic", topic.as_str()), ("data", &n.to_string())];
                    let publish = Request::form(HUB, &fields).bearer(&t.publisher_token()?);
                    bytes.extend(publish.to_bytes("h"));
                }
                connection.send(&bytes)?;
                for n in 0..50 {
                    connection.read_response()?.expect_status(&[200])?;
                    stream.expect_data(&n.to_string())?;
                }
                Ok(())
            },
        ),
    ]
}

fn behind_a_subscribe(t: &Target, hub: &str) -> Outcome<()> {
    let topic = t.topic();
    let mut other = t.subscribe(&[("topic", &topic)])?;
    let mut connection = t.connect()?;
    let subscribe = format!(
        "GET {hub}?{} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\r\n",
        encode_form(&[("topic", &topic)]),
        t.subscriber_token()?
    );
    let fields = [("topic", topic.as_str()), ("data", "smuggled")];
    let publish = Request::form(HUB, &fields).bearer(&t.publisher_token()?);
    connection.send(&[subscribe.into_bytes(), publish.to_bytes("h")].concat())?;
    let mut stream = SseStream::answered(connection)?;
    t.say(&topic, "real")?;
    stream.expect_data("real")?;
    other.expect_data("real")?;
    nothing_before(t, &mut stream, &topic)
}

/// Twenty requests in one write: with a length, in chunks, without a body, and with one that is
/// refused before it is read.
fn all_kinds(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let mut stream = t.subscribe(&[("topic", &topic)])?;
    let mut connection = t.connect()?;
    let mut bytes = Vec::new();
    let mut wanted: Vec<&[u16]> = Vec::new();
    for n in 0..20 {
        let body = encode_form(&[("topic", &topic), ("data", &n.to_string())]);
        let head = post_head(t)?;
        let (request, status): (String, &[u16]) = match n % 5 {
            0 => (
                format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
                &[200],
            ),
            1 => {
                let size = body.len();
                let chunked = "Transfer-Encoding: chunked\r\n\r\n";
                (
                    format!("{head}{chunked}{size:X}\r\n{body}\r\n0\r\n\r\n"),
                    &[200],
                )
            }
            2 => (
                "HEAD /healthz HTTP/1.1\r\nHost: h\r\n\r\n".into(),
                &[200, 404],
            ),
            3 => (
                format!("POST {HUB} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nGET"),
                &[401],
            ),
            _ => (
                "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nPOST".into(),
                &[404, 405],
            ),
        };
        bytes.extend(request.into_bytes());
        wanted.push(status);
    }
    connection.send(&bytes)?;
    for (n, wanted) in wanted.into_iter().enumerate() {
        if n % 5 == 2 {
            expect_status(&mut connection, wanted)?;
        } else {
            let answer = connection.read_response()?;
            answer.expect_status(wanted).map_err(|f| f.within(n))?;
        }
        if n % 5 < 2 {
            stream.expect_data(&n.to_string())?;
        }
    }
    Ok(())
}

/// The first bytes of the answer to a head that asks for leave to send its body.
fn first_answer(t: &Target, token: &str) -> Outcome<(gush_testkit::Connection, String)> {
    let mut connection = t.connect()?;
    let head = format!(
        "POST {HUB} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    connection.send(head.as_bytes())?;
    let mut start = [0; 12];
    let mut socket = connection.socket();
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.read_exact(&mut start)?;
    Ok((connection, String::from_utf8_lossy(&start).into_owned()))
}

fn expectations() -> Vec<Case> {
    vec![
        case(
            "abuse/33-expect-with-a-good-token",
            &[],
            "Expect: 100-continue with a good token: 100, then the answer",
            |t| {
                let (mut connection, start) = first_answer(t, &t.publisher_token()?)?;
                same("first answer", &start.as_str(), &"HTTP/1.1 100")?;
                connection.send(b"topic=x")?;
                let rest = connection.read_head(gush_testkit::Deadline::after(PATIENCE));
                // What is left of the interim head has no status line of its own.
                ensure(rest.is_ok() || status(&mut connection)? == 200, || {
                    "no answer after the body".to_owned()
                })
            },
        ),
        case(
            "abuse/33-expect-with-a-bad-token",
            &[],
            "Expect: 100-continue with a bad token: 401 before any body",
            |t| {
                let (_connection, start) = first_answer(t, "not.a.token")?;
                same("first answer", &start.as_str(), &"HTTP/1.1 401")
            },
        ),
        case(
            "abuse/26-one-answer-then-close",
            &[],
            "after a request of HTTP/1.0 the connection is closed",
            |t| {
                let bytes = good_post(t)?.to_bytes("h");
                let bytes = String::from_utf8_lossy(&bytes).replacen("HTTP/1.1", "HTTP/1.0", 1);
                let mut connection = t.connect()?;
                connection.send(bytes.as_bytes())?;
                connection.read_response()?.expect_status(&[200])?;
                super::expect_closed(&mut connection)
            },
        ),
        case(
            "abuse/25-good-chunked-still-works",
            &[],
            "an honest body in chunks is published",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let body = encode_form(&[("topic", &topic), ("data", "in chunks")]);
                let mut connection = t.connect()?;
                let head = post_head(t)? + "transfer-encoding:  CHUNKED \r\n\r\n";
                let body = format!(
                    "{:X};ext=1\r\n{body}\r\n000\r\nX-Trailer: y\r\n\r\n",
                    body.len()
                );
                connection.send((head + &body).as_bytes())?;
                expect_status(&mut connection, &[200])?;
                stream.expect_data("in chunks").map(drop)
            },
        ),
    ]
}
