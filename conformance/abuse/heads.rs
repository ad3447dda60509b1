//! Rows 1 to 22, 34 and 35: connections and request heads.

use super::{
    Attack, CLOSED, Healthy, expect_closed, expect_status, get_head, head_patience, post_head,
};
use crate::cases::{ensure, same};
use crate::target::HUB;
use crate::{Case, Target, case};
use gush_testkit::{
    Connection, Deadline, Outcome, PATIENCE, Request, SseStream, encode_form, peers,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = slow();
    cases.extend(served());
    cases.extend(paths());
    cases.extend(ATTACKS.iter().map(Attack::case));
    cases.extend(NOISE.iter().map(Attack::case));
    cases
}

const REFUSED_LARGE: &[u16] = &[400, 414, 431, CLOSED];
const BAD: &[u16] = &[400, CLOSED];

fn text(parts: &[&str]) -> Vec<u8> {
    parts.concat().into_bytes()
}

#[rustfmt::skip]
static ATTACKS: &[Attack] = &[
    Attack { row: 6, what: "header-of-1-mib", rule: "one header of 1 MiB: 431 or 400, close, nothing kept",
        bytes: |t| Ok(text(&[&get_head(t)?, "X-Big: ", &"a".repeat(1 << 20), "\r\n\r\n"])),
        allowed: REFUSED_LARGE },
    Attack { row: 6, what: "20000-headers", rule: "20,000 headers: 431 or 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, &"X-Many: a\r\n".repeat(20_000), "\r\n"])),
        allowed: REFUSED_LARGE },
    Attack { row: 6, what: "endless-head", rule: "a head without an end: cut at the limit",
        bytes: |t| Ok(text(&[&get_head(t)?, &"X-More: aaaaaaaaaaaaaaaa\r\n".repeat(60_000)])),
        allowed: REFUSED_LARGE },
    Attack { row: 8, what: "target-of-1-mib", rule: "a target of 1 MiB: 414, 431 or 400, close",
        bytes: |_| Ok(text(&["GET ", HUB, "?topic=", &"a".repeat(1 << 20), " HTTP/1.1\r\nHost: h\r\n\r\n"])),
        allowed: REFUSED_LARGE },
    Attack { row: 8, what: "method-of-64-kib", rule: "a method of 64 KiB: 400 or 431, close",
        bytes: |_| Ok(text(&[&"G".repeat(65_536), " ", HUB, " HTTP/1.1\r\nHost: h\r\n\r\n"])),
        allowed: &[400, 405, 431, 501, CLOSED] },
    Attack { row: 10, what: "space-before-colon", rule: "a space before the colon: 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, "X-Odd : a\r\n\r\n"])), allowed: BAD },
    Attack { row: 10, what: "control-in-name", rule: "a control in a name: 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, "X-\u{1}Odd: a\r\n\r\n"])), allowed: BAD },
    Attack { row: 10, what: "no-name", rule: "a header without a name: 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, ": a\r\n\r\n"])), allowed: BAD },
    Attack { row: 11, what: "bare-cr-in-value", rule: "a bare CR in a value: 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, "X-Odd: a\rb\r\n\r\n"])), allowed: BAD },
    Attack { row: 11, what: "nul-in-value", rule: "NUL in a value: 400, close",
        bytes: |t| Ok(text(&[&get_head(t)?, "X-Odd: a\0b\r\n\r\n"])), allowed: BAD },
    Attack { row: 12, what: "obs-fold", rule: "a folded header: 400, close; never a second meaning",
        bytes: |t| Ok(text(&[&post_head(t)?, "X-Folded: a\r\n Content-Length: 3\r\nContent-Length: 0\r\n\r\n"])),
        allowed: BAD },
    Attack { row: 13, what: "http-0.9", rule: "HTTP/0.9: 400 or 505, close",
        bytes: |_| Ok(text(&["GET ", HUB, "?topic=x\r\n\r\n"])), allowed: &[400, 505, CLOSED] },
    Attack { row: 13, what: "http-1.2", rule: "a version nobody knows: 400 or 505, close",
        bytes: |_| Ok(text(&["GET ", HUB, "?topic=x HTTP/1.2\r\nHost: h\r\n\r\n"])),
        allowed: &[400, 505, CLOSED] },
    Attack { row: 13, what: "http-3-in-clear", rule: "a version nobody knows: 400 or 505, close",
        bytes: |_| Ok(text(&["GET ", HUB, "?topic=x HTTP/3.0\r\nHost: h\r\n\r\n"])),
        allowed: &[400, 505, CLOSED] },
    Attack { row: 15, what: "no-host", rule: "no Host in HTTP/1.1: 400",
        bytes: |t| Ok(text(&["GET ", HUB, "?topic=x HTTP/1.1\r\nAuthorization: Bearer ", &t.subscriber_token()?, "\r\n\r\n"])),
        allowed: BAD },
    Attack { row: 15, what: "no-host-on-publish", rule: "no Host in HTTP/1.1: 400",
        bytes: |t| Ok(text(&["POST ", HUB, " HTTP/1.1\r\nAuthorization: Bearer ", &t.publisher_token()?,
            "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 7\r\n\r\ntopic=x"])),
        allowed: BAD },
    Attack { row: 15, what: "two-hosts", rule: "two Hosts: 400",
        bytes: |t| Ok(text(&[&get_head(t)?, "Host: other.example\r\n\r\n"])), allowed: BAD },
    Attack { row: 15, what: "two-hosts-on-publish", rule: "two Hosts: 400",
        bytes: |t| Ok(text(&[&post_head(t)?, "Host: other.example\r\nContent-Length: 7\r\n\r\ntopic=x"])),
        allowed: BAD },
    Attack { row: 15, what: "host-of-two-names", rule: "a Host that names none: 400",
        bytes: |t| Ok(text(&[&get_head(t)?.replace("hub.example", "a, b"), "\r\n"])), allowed: BAD },
    Attack { row: 15, what: "host-with-a-path-on-publish", rule: "a Host that names none: 400",
        bytes: |t| Ok(text(&[&post_head(t)?.replace("hub.example", "hub.example/x"),
            "Content-Length: 7\r\n\r\ntopic=x"])), allowed: BAD },
    Attack { row: 16, what: "connect", rule: "CONNECT: 400, 404 or 405, never an outbound connection",
        bytes: |_| Ok(text(&["CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n"])),
        allowed: &[400, 404, 405, 501, CLOSED] },
];

/// Other protocols on the port.
#[rustfmt::skip]
static NOISE: &[Attack] = &[
    Attack { row: 34, what: "tls-hello", rule: "a TLS hello on a plain port: 400 or close",
        bytes: |_| Ok([&b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"[..], &[7; 512]].concat()), allowed: BAD },
    Attack { row: 34, what: "ssh", rule: "an SSH banner: 400 or close",
        bytes: |_| Ok(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), allowed: BAD },
    Attack { row: 34, what: "redis", rule: "a Redis command: 400 or close",
        bytes: |_| Ok(b"*1\r\n$4\r\nPING\r\n\r\n".to_vec()), allowed: BAD },
    Attack { row: 34, what: "proxy-v1", rule: "a PROXY line from a stranger: 400 or close",
        bytes: |t| Ok(text(&["PROXY TCP4 203.0.113.7 203.0.113.8 1 2\r\n", &get_head(t)?, "\r\n"])),
        allowed: BAD },
    Attack { row: 34, what: "proxy-v2", rule: "a PROXY v2 header from a stranger: 400 or close",
        bytes: |t| Ok([&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xcb\0\x71\x08\0\x01\0\x02"[..], get_head(t)?.as_bytes(), b"\r\n"].concat()),
        allowed: BAD },
    Attack { row: 34, what: "noise", rule: "noise: 400 or close",
        bytes: |_| Ok(noise()),
        allowed: BAD },
];

/// Sends what a slow head begins with on many connections, and waits until the hub has ended each.
fn held_open(target: &Target, count: usize, start: &[u8]) -> Outcome<()> {
    let mut healthy = Healthy::open(target)?;
    let mut crowd = Vec::new();
    for _ in 0..count {
        let mut connection = target.connect()?;
        connection.send(start)?;
        crowd.push(connection);
    }
    healthy.check(target)?;
    for connection in &mut crowd {
        connection.read_to_close(head_patience(target))?;
    }
    healthy.check(target)
}

fn half_preface(t: &Target) -> Outcome<()> {
    let whole = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in [16, 24, whole.len()] {
        held_open(t, 50, &whole[..bytes])?;
    }
    Ok(())
}

fn slow() -> Vec<Case> {
    vec![
        case(
            "abuse/01-slowloris-crowd",
            &[],
            "a crowd of heads that never end: each is ended after the head timeout, others served",
            |t| {
                held_open(
                    t,
                    200,
                    b"GET /.well-known/mercure?topic=x HTTP/1.1\r\nHost: h\r\nX: ",
                )
            },
        ),
        case(
            "abuse/01-slow-publish-head",
            &[],
            "the same with publishes",
            |t| {
                held_open(
                    t,
                    50,
                    b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nX: ",
                )
            },
        ),
        case(
            "abuse/02-silent",
            &[],
            "connections that send nothing are ended after the head timeout",
            |t| held_open(t, 200, b""),
        ),
        case(
            "abuse/02-half-a-preface",
            &[],
            "half of what begins HTTP/2, or all of it and nothing behind: the same",
            half_preface,
        ),
        case(
            "abuse/03-octet-at-a-time-endless",
            &[],
            "a head that comes one octet at a time and never ends is ended whatever its rate",
            endless_octets,
        ),
        case(
            "abuse/04-octet-at-a-time-in-time",
            &[],
            "a head that comes one octet at a time and in time is served",
            |t| {
                let mut connection = t.connect()?;
                let head = get_head(t)? + "\r\n";
                peers::send_byte_by_byte(&mut connection, head.as_bytes())?;
                expect_status(&mut connection, &[200])
            },
        ),
        case(
            "abuse/07-half-heads",
            &[],
            "half a head of 8 KiB on each of many connections: ended after the head timeout",
            |t| {
                let start = "GET /.well-known/mercure?topic=x HTTP/1.1\r\nX: ".to_owned();
                held_open(t, 100, (start + &"a".repeat(8192)).as_bytes())
            },
        ),
    ]
}

fn served() -> Vec<Case> {
    vec![
        case(
            "abuse/09-honest-long-target",
            &[],
            "a target of 30 topics and 5 KB is served",
            |t| {
                let topics: Vec<String> = (0..30)
                    .map(|n| format!("{}/{n}/{}", t.topic(), "p".repeat(120)))
                    .collect();
                let query: Vec<_> = topics
                    .iter()
                    .map(|topic| ("topic", topic.as_str()))
                    .collect();
                let mut stream = t.subscribe(&query)?;
                t.say(&topics[29], "through")?;
                stream.expect_data("through").map(drop)
            },
        ),
        case(
            "abuse/14-http-1.0-subscribe",
            &[],
            "HTTP/1.0 subscribe: a stream without chunked framing, or 505",
            http_1_0,
        ),
        case(
            "abuse/16-absolute-form",
            &[],
            "the absolute form is served as the hub's own path, whatever its authority",
            |t| {
                let topic = t.topic();
                let request = Request::get(&format!(
                    "http://elsewhere.example{HUB}?{}",
                    encode_form(&[("topic", &topic)])
                ));
                let mut stream = t.open(&request.bearer(&t.subscriber_token()?))?;
                t.say(&topic, "own")?;
                stream.expect_data("own").map(drop)
            },
        ),
        case("abuse/20-upgrade", &[], "Upgrade is ignored", upgrades),
        case(
            "abuse/22-range-of-800-parts",
            &[],
            "Range is ignored",
            |t| {
                let parts: Vec<String> = (0..800).map(|n| format!("{n}-{n}")).collect();
                let request = Target::subscribe_bare(&[("topic", "x")])
                    .bearer(&t.subscriber_token()?)
                    .header("Range", &format!("bytes={}", parts.join(",")));
                same("status", &t.open(&request)?.head().status, &200)
            },
        ),
        case(
            "abuse/35-random-mutations",
            &[],
            "random changes to good requests: 4xx or close, no 5xx, no wedge",
            mutations,
        ),
    ]
}

fn mutations(t: &Target) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let seed = gush_testkit::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let good = [
        super::good_post(t)?.to_bytes("hub.example"),
        (get_head(t)? + "\r\n").into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
    ];
    for round in 0..200 {
        let mut bytes = good[random.usize(..good.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                2 => bytes.truncate(at.max(1)),
                _ => bytes.extend_from_within(at..),
            }
        }
        let mut connection = t.connect()?;
        let _ = connection.send(&bytes);
        let _ = connection.finish_sending();
        let got = super::status(&mut connection)
            .map_err(|failure| failure.within(format!("round {round}, seed {seed}: {bytes:?}")))?;
        ensure(got < 500 || [501, 505].contains(&got), || {
            let text = String::from_utf8_lossy(&bytes);
            format!("round {round}, seed {seed}: {got} for {text:?}")
        })?;
    }
    healthy.check(t)
}

fn paths() -> Vec<Case> {
    vec![case(
        "abuse/21-path-tricks",
        &[],
        "tricks with paths and paths for debugging: 404 or 400, nothing of the host",
        |t| {
            for path in [
                "/.well-known/mercure/../../../../etc/passwd",
                "/.well-known/mercure/%2e%2e/%2e%2e/etc/passwd",
                "//.well-known//mercure",
                "/.well-known/mercure%00",
                "/.well-known/mercure;x=y",
                "/.well-known\\mercure",
                "/.git/config",
                "/debug/pprof/profile",
                "/debug/pprof/heap",
                "/metrics",
                "/limits",
                "/drain",
                "/upgrade",
                "/server-status",
                "*",
            ] {
                let mut connection: Connection = t.connect()?;
                let head = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                connection.send(head.as_bytes())?;
                let got = connection.read_to_close(PATIENCE)?;
                let got = String::from_utf8_lossy(&got);
                let refused = ["400", "403", "404", "405"].iter();
                let refused = refused
                    .clone()
                    .any(|s| got.starts_with(&format!("HTTP/1.1 {s}")));
                ensure(refused && !got.contains("root:"), || {
                    format!("{path}: 404 or 400 was to come, not {got:?}")
                })?;
                expect_closed(&mut connection)?;
            }
            Ok(())
        },
    )]
}

fn endless_octets(t: &Target) -> Outcome<()> {
    let mut healthy = Healthy::open(t)?;
    let mut connection = t.connect()?;
    connection.send(get_head(t)?.as_bytes())?;
    connection.send(b"X-Slow: ")?;
    let deadline = Deadline::after(head_patience(t));
    // Each octet comes after a look for the end of 20 ms: the pace of the attack.
    let pace = std::time::Duration::from_millis(20);
    while connection.send(b"a").is_ok() {
        if matches!(peers::read_step(&connection, 512, pace), Ok(0)) {
            return healthy.check(t);
        }
        ensure(deadline.left().is_some(), || "still open".to_owned())?;
    }
    healthy.check(t)
}

fn http_1_0(t: &Target) -> Outcome<()> {
    let topic = t.topic();
    let mut connection = t.connect()?;
    let head = format!(
        "GET {HUB}?{} HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
        encode_form(&[("topic", &topic)]),
        t.subscriber_token()?
    );
    connection.send(head.as_bytes())?;
    let mut stream = match SseStream::answered(connection) {
        Err(failure) if failure.to_string().contains("505") => return Ok(()),
        answered => answered?,
    };
    same("framing", &stream.head().header("transfer-encoding"), &None)?;
    t.say(&topic, "plain")?;
    stream.expect_data("plain").map(drop)
}

fn upgrades(t: &Target) -> Outcome<()> {
    for protocol in ["websocket", "h2c", "TLS/1.0", "invented"] {
        let request = Target::subscribe_bare(&[("topic", "x")])
            .bearer(&t.subscriber_token()?)
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA")
            .header("Upgrade", protocol);
        let stream = t.open(&request)?;
        same("status", &stream.head().status, &200)?;
    }
    Ok(())
}

/// Bytes of no protocol, the same each time.
fn noise() -> Vec<u8> {
    let numbers = 0..4096_u32;
    numbers
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3] | 0x80)
        .collect()
}
