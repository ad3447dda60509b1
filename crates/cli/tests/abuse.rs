//! Hostile input: whatever comes, the hub answers or closes, keeps its memory, and serves the
//! others. After every attack a well-behaved pair is tried.

use gush_testkit::{
    Claims, Connection, Deadline, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request,
    SseStream, encode_component, encode_form, exchange, peers,
};
use std::io::Read as _;
use std::net::TcpListener;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://abuse.example/1";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// A hub and a subscriber that has to get what is published after each attack.
struct Pair {
    hub: HubProcess,
    stream: SseStream,
    turn: u32,
}

impl Pair {
    fn start() -> Outcome<Self> {
        Self::of(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?)
    }

    fn of(builder: &HubBuilder) -> Outcome<Self> {
        let hub = builder.start()?;
        let stream = hub.subscribe(&[("topic", "https://abuse.example/healthy")])?;
        Ok(Self {
            hub,
            stream,
            turn: 0,
        })
    }

    /// Publishes, and expects it to arrive next.
    fn check(&mut self) -> Outcome<()> {
        self.turn += 1;
        let data = self.turn.to_string();
        self.hub
            .publish(&[("topic", "https://abuse.example/healthy"), ("data", &data)])?;
        self.stream.expect_data(&data).map(drop)
    }

    /// Resident memory of the hub in KiB.
    fn memory_kib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.hub.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .ok_or_else(|| Failure::new("no VmRSS"))
    }

    fn post(&self) -> Outcome<Request> {
        Ok(Request::new("POST", HUB)
            .header(FORM.0, FORM.1)
            .bearer(&self.hub.publisher_token()?))
    }
}

/// The status of the answer; `None` when the hub closed without one.
fn status(connection: &mut Connection) -> Outcome<Option<u16>> {
    match connection.read_head(Deadline::after(PATIENCE)) {
        Ok(head) => Ok(Some(head.status)),
        Err(failure) if failure.to_string().contains("nothing came in time") => Err(failure),
        Err(_) => Ok(None),
    }
}

fn expect_one_of(what: &str, got: Option<u16>, allowed: &[u16]) -> Outcome<()> {
    if got.is_none_or(|status| allowed.contains(&status)) {
        return Ok(());
    }
    Failure::mismatch(what, format!("{allowed:?} or closed"), format!("{got:?}"))
}

#[test]
fn chunked_bodies_of_every_bad_kind() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let body = encode_form(&[("topic", TOPIC), ("data", &"x".repeat(50_000))]);
    let single = body.chars().fold(String::new(), |all, octet| {
        all + "1\r\n" + octet.encode_utf8(&mut [0; 4]) + "\r\n"
    });
    let flood = "a".repeat(1 << 20);
    for (what, chunks, allowed) in [
        (
            "50,000 chunks of one octet",
            format!("{single}0\r\n\r\n"),
            vec![200, 400, 413],
        ),
        (
            "an endless extension",
            format!("5;{flood}\r\ntopic\r\n0\r\n\r\n"),
            vec![400, 413, 431],
        ),
        (
            "endless trailers",
            format!("0\r\n{}\r\n", "X: y\r\n".repeat(200_000)),
            vec![400, 413, 431],
        ),
        (
            "a size with sign",
            "+5\r\ntopic\r\n0\r\n\r\n".into(),
            vec![400],
        ),
        (
            "a size in C's hexadecimal",
            "0x5\r\ntopic\r\n0\r\n\r\n".into(),
            vec![400],
        ),
        ("a blank size", "\r\ntopic\r\n0\r\n\r\n".into(), vec![400]),
        (
            "an overflowing size",
            "fffffffffffffffff\r\ntopic\r\n0\r\n\r\n".into(),
            vec![400, 413],
        ),
        (
            "a missing line end",
            "5\r\ntopic0\r\n\r\n".into(),
            vec![400],
        ),
    ] {
        let mut connection = pair.hub.connect()?;
        let head = pair.post()?.header("Transfer-Encoding", "chunked");
        connection.send_request(&head)?;
        // The hub may close before it has read all.
        let _ = connection.send(chunks.as_bytes());
        let _ = connection.finish_sending();
        expect_one_of(what, status(&mut connection)?, &allowed)?;
        pair.check().map_err(|f| f.within(what))?;
    }
    Ok(())
}

#[test]
fn an_endless_body_is_cut_and_not_kept() -> Outcome<()> {
    let mut pair = Pair::start()?;
    pair.check()?;
    let before = pair.memory_kib()?;
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..4 {
        let mut connection = pair.hub.connect()?;
        connection.send_request(&pair.post()?.header("Transfer-Encoding", "chunked"))?;
        let mut sent = 0;
        while sent < 64 << 20 && connection.send(chunk.as_bytes()).is_ok() {
            sent += chunk.len();
        }
        expect_one_of("endless body", status(&mut connection)?, &[400, 413])?;
        pair.check()?;
    }
    let grown = pair.memory_kib()?.saturating_sub(before);
    // One body of at most 10 MiB at a time, in a buffer that doubles.
    if grown > 48 << 10 {
        return Failure::mismatch(
            "memory",
            "less than 48 MiB more",
            format!("{grown} KiB more"),
        );
    }
    Ok(())
}

#[test]
fn forms_of_every_bad_kind() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let topic = encode_component(TOPIC);
    for (what, body, allowed) in [
        (
            "90,000 fields",
            format!("topic={topic}&{}", "a=b&".repeat(90_000)),
            vec![200, 400, 413],
        ),
        (
            "90,000 empty fields",
            format!("topic={topic}{}", "&".repeat(90_000)),
            vec![200, 400, 413],
        ),
        ("10,000 topics", "topic=a&".repeat(10_000), vec![400, 413]),
        (
            "an id of 64 KiB",
            format!("topic={topic}&id={}", "i".repeat(65_536)),
            vec![400],
        ),
        (
            "a type of 64 KiB",
            format!("topic={topic}&type={}", "i".repeat(65_536)),
            vec![400],
        ),
        (
            "a topic of 60 KB",
            format!("topic={}", "t".repeat(60_000)),
            vec![400],
        ),
        (
            "a retry of 40 digits",
            format!("topic={topic}&retry={}", "9".repeat(40)),
            vec![400],
        ),
        ("only percent signs", "%".repeat(10_000), vec![400]),
    ] {
        let response = exchange(pair.hub.address(), &pair.post()?.body(body))?;
        expect_one_of(what, Some(response.status()), &allowed)?;
        pair.check().map_err(|f| f.within(what))?;
    }
    let gzip = pair
        .post()?
        .header("Content-Encoding", "gzip")
        .body(b"\x1f\x8b\x08\0\0\0".to_vec());
    expect_one_of(
        "gzip",
        Some(exchange(pair.hub.address(), &gzip)?.status()),
        &[400, 415],
    )?;
    pair.check()
}

#[test]
fn three_hundred_thousand_empty_lines_are_one_event() -> Outcome<()> {
    let pair = Pair::start()?;
    let mut stream = pair.hub.subscribe(&[("topic", TOPIC)])?;
    let data = "\n".repeat(300_000);
    pair.hub.publish(&[("topic", TOPIC), ("data", &data)])?;
    stream.expect_data(&data)?;
    pair.hub.publish(&[("topic", TOPIC), ("data", "after")])?;
    stream.expect_data("after").map(drop)
}

#[test]
fn templates_built_to_backtrack_hold_nobody_up() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let bombs = [
        "{a}".repeat(60) + "!",
        "{+a}{+b}{+c}{+d}{+e}{+f}{+g}{+h}!".into(),
        "{a*}{b*}{c*}{d*}{e*}{f*}!".into(),
        "{/a*}{/b*}{/c*}{/d*}{/e*}!".into(),
        "a{x}a{y}a{z}a{w}a{v}a{u}!".into(),
        "{?q*}{&r*}{&s*}!".into(),
    ];
    let query: Vec<_> = bombs.iter().map(|bomb| ("topic", bomb.as_str())).collect();
    let mut crowd = Vec::new();
    for _ in 0..20 {
        // Refusing such a template is fine too.
        crowd.extend(pair.hub.subscribe(&query));
    }
    for filling in ["a", "/a", "a,", "%41", "&a=a"] {
        let topic = filling.repeat(4000 / filling.len());
        pair.hub.publish(&[("topic", &topic), ("data", "x")])?;
        pair.check()?;
    }
    Ok(())
}

/// Templates that only their expressions tell apart have to be compared with an event one by one.
#[test]
fn templates_alike_are_refused_when_they_are_too_many() -> Outcome<()> {
    let mut pair = Pair::start()?;
    // Which of two kinds each of ten expressions is: all accept something else.
    let alike = |number: usize| {
        let kinds = (0..10).map(|bit| ["{/a}", "{;b}"][number >> bit & 1]);
        kinds.collect::<String>()
    };
    let texts: Vec<String> = (0..1024).map(alike).collect();
    let mut refused = None;
    let mut kept = Vec::new();
    for pack in texts.chunks(10) {
        let query: Vec<_> = pack.iter().map(|text| ("topic", text.as_str())).collect();
        if let Ok(stream) = pair.hub.subscribe(&query) {
            kept.push(stream);
        } else {
            let request = pair.hub.subscribe_request(&query)?;
            refused = Some(pair.hub.connect()?.exchange(&request)?);
        }
    }
    let refused = refused.ok_or_else(|| Failure::new("all were taken"))?;
    refused.expect_status(&[503])?;
    assert!(refused.header("retry-after").is_some());
    // Who has few is taken whatever others hold.
    let few = pair.hub.subscribe(&[("topic", &texts[1000])])?;
    let post = [("topic", "/1;2;3"), ("data", "for some")];
    pair.hub.publish(&post)?;
    pair.check()?;
    drop((few, kept));
    Ok(())
}

#[test]
fn expect_100_continue_is_answered_by_the_token() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let body = encode_form(&[("topic", TOPIC), ("data", "x")]);
    let head = |request: Request| {
        request
            .header("Expect", "100-continue")
            .header("Content-Length", &body.len().to_string())
    };
    let mut connection = pair.hub.connect()?;
    connection.send_request(&head(pair.post()?))?;
    let mut start = [0; 12];
    let mut socket = connection.socket();
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.read_exact(&mut start)?;
    if &start != b"HTTP/1.1 100" {
        let got = String::from_utf8_lossy(&start).into_owned();
        return Failure::mismatch("with a good token", "HTTP/1.1 100", got);
    }
    // The rest of the interim answer; after it the real one can be read as usual.
    let mut rest = Vec::new();
    while !rest.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        rest.extend(byte);
    }
    connection.send(body.as_bytes())?;
    connection.read_response()?.expect_status(&[200])?;
    let mut connection = pair.hub.connect()?;
    let refused = Request::new("POST", HUB)
        .header(FORM.0, FORM.1)
        .bearer(&"x".repeat(60));
    connection.send_request(&head(refused))?;
    let mut start = [0; 12];
    let mut socket = connection.socket();
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.read_exact(&mut start)?;
    if &start != b"HTTP/1.1 401" {
        let got = String::from_utf8_lossy(&start).into_owned();
        return Failure::mismatch("with a bad token", "HTTP/1.1 401", got);
    }
    pair.check()
}

#[test]
fn random_changes_to_good_requests_never_make_the_hub_fail() -> Outcome<()> {
    let seed = gush_testkit::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pair = Pair::start()?;
    let publish = pair
        .hub
        .publish_request(&[("topic", TOPIC), ("data", "x")])?;
    let subscribe = pair
        .hub
        .subscribe_request(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
    let good = [
        publish.to_bytes("hub.example"),
        subscribe.to_bytes("hub.example"),
        Request::get("/healthz").to_bytes("hub.example"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
    ];
    for round in 0..400 {
        let mut bytes = good[random.usize(..good.len())].clone();
        for _ in 0..random.usize(1..6) {
            let at = random.usize(..bytes.len());
            match random.u8(..5) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                3 => bytes.truncate(at.max(1)),
                _ => bytes.extend_from_within(at..),
            }
        }
        let mut connection = pair.hub.connect()?;
        let _ = connection.send(&bytes);
        let _ = connection.finish_sending();
        let got = status(&mut connection)
            .map_err(|f| f.within(format!("round {round}, seed {seed}: {bytes:?}")))?;
        if got.is_some_and(|code| code >= 500 && ![501, 505].contains(&code)) {
            let text = format!(
                "round {round}, seed {seed}: {:?}",
                String::from_utf8_lossy(&bytes)
            );
            return Failure::mismatch(text, "no server error", format!("{got:?}"));
        }
        if round % 20 == 0 {
            pair.check()?;
        }
    }
    pair.check()
}

#[test]
fn tokens_of_every_bad_kind() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let elsewhere = TcpListener::bind("127.0.0.1:0")?;
    elsewhere.set_nonblocking(true)?;
    let url = format!("http://{}/keys.json", elsewhere.local_addr()?);
    let foreign = gush_testkit::TokenKey::hmac("HS256", &"f".repeat(64));
    let good = pair.hub.publisher_key();
    let all = Claims::new().publish(&["*"]).to_json();
    let deep = "[".repeat(4000) + &"]".repeat(4000);
    let header = |fields: &str| format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\"{fields}}}");
    for (what, token) in [
        (
            "jku",
            foreign.sign_texts(&header(&format!(",\"jku\":\"{url}\"")), &all)?,
        ),
        (
            "x5u",
            foreign.sign_texts(&header(&format!(",\"x5u\":\"{url}\"")), &all)?,
        ),
        (
            "kid of a URL",
            foreign.sign_texts(&header(&format!(",\"kid\":\"{url}\"")), &all)?,
        ),
        (
            "kid of a path",
            foreign.sign_texts(&header(",\"kid\":\"../../etc/passwd\""), &all)?,
        ),
        (
            "jwk",
            foreign.sign_texts(&header(",\"jwk\":{\"kty\":\"oct\",\"k\":\"ZmZm\"}"), &all)?,
        ),
        (
            "unknown crit",
            good.sign_texts(&header(",\"crit\":[\"x\"],\"x\":1"), &all)?,
        ),
        ("deep payload", good.sign_texts(&header(""), &deep)?),
        (
            "deep claim",
            good.sign_texts(
                &header(""),
                &format!("{{\"mercure\":{{\"publish\":{deep}}}}}"),
            )?,
        ),
        (
            "payload that is a list",
            good.sign_texts(&header(""), "[\"*\"]")?,
        ),
        ("empty payload", good.sign_texts(&header(""), "")?),
        ("header that is a number", good.sign_texts("7", &all)?),
        ("thousands of dots", ".".repeat(4000)),
        (
            "exp of a huge number",
            good.sign_texts(&header(""), &all.replacen('{', "{\"exp\":-1e300,", 1))?,
        ),
    ] {
        let request = Request::form(HUB, &[("topic", TOPIC)]).bearer(&token);
        let got = status_of(&pair.hub, &request)?;
        expect_one_of(what, got, &[401, 400, 431]).map_err(|f| f.within(what))?;
        pair.check().map_err(|f| f.within(what))?;
    }
    let huge = Request::form(HUB, &[("topic", TOPIC)]).bearer(&"a".repeat(4 << 20));
    expect_one_of("4 MiB", status_of(&pair.hub, &huge)?, &[400, 401, 413, 431])?;
    pair.check()?;
    match elsewhere.accept() {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        other => Failure::mismatch(
            "connections to where a token points",
            "none",
            format!("{other:?}"),
        ),
    }
}

fn status_of(hub: &HubProcess, request: &Request) -> Outcome<Option<u16>> {
    let mut connection = hub.connect()?;
    let _ = connection.send_request(request);
    status(&mut connection)
}

#[test]
fn publishers_that_leave_before_the_answer_publish_at_most_once() -> Outcome<()> {
    let mut pair = Pair::start()?;
    let mut stream = pair.hub.subscribe(&[("topic", TOPIC)])?;
    for n in 0..100 {
        let data = n.to_string();
        let bytes = pair
            .hub
            .publish_request(&[("topic", TOPIC), ("data", &data)])?
            .to_bytes("hub.example");
        let mut connection = pair.hub.connect()?;
        connection.send(&bytes)?;
        if n % 2 == 0 {
            peers::reset(connection)?;
        }
    }
    pair.check()?;
    let end = pair.hub.publish(&[("topic", TOPIC), ("data", "end")])?;
    let mut seen = std::collections::HashSet::new();
    loop {
        let event = stream.next_event()?;
        if event.id.as_ref() == Some(&end) {
            return Ok(());
        }
        if !seen.insert(event.data.clone()) {
            return Err(Failure::new(format!("published twice: {event:?}")));
        }
    }
}

/// A subscriber that leaves at once and one that is refused, on a topic never used before.
fn come_and_go(hub: &HubProcess, n: usize) -> Outcome<()> {
    let topic = format!("https://abuse.example/churn/{n}");
    let target = format!("{HUB}?topic={}", encode_component(&topic));
    drop(SseStream::open(hub.address(), &Request::get(&target))?);
    let bad = Request::get(&target).bearer(&"x".repeat(60));
    exchange(hub.address(), &bad)?.expect_status(&[401])
}

#[test]
fn coming_and_going_leaves_nothing_behind() -> Outcome<()> {
    let mut pair = Pair::of(&HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.anonymous())?;
    for n in 0..300 {
        come_and_go(&pair.hub, n)?;
    }
    pair.check()?;
    let before = pair.memory_kib()?;
    for n in 300..3000 {
        come_and_go(&pair.hub, n)?;
    }
    pair.check()?;
    gush_testkit::eventually("only the pair's subscriber", PATIENCE, || {
        Ok((pair.hub.metric_sum("gush_subscribers_open")? == 1).then_some(()))
    })?;
    let grown = pair.memory_kib()?.saturating_sub(before);
    if grown > 16 << 10 {
        return Failure::mismatch(
            "memory",
            "less than 16 MiB more",
            format!("{grown} KiB more"),
        );
    }
    Ok(())
}

#[test]
fn out_of_descriptors_the_hub_goes_on_with_what_it_has() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let Some(builder) = builder.with_descriptors(256) else {
        println!("skipped: no prlimit to lower the number of descriptors");
        return Ok(());
    };
    let mut pair = Pair::of(&builder)?;
    let mut publisher = pair.hub.connect()?;
    let request = pair
        .hub
        .publish_request(&[("topic", TOPIC), ("data", "x")])?;
    publisher.exchange(&request)?.expect_status(&[200])?;
    let mut held = Vec::new();
    for _ in 0..600 {
        // The kernel's queue takes what the hub does not accept.
        held.push(pair.hub.connect()?);
    }
    for _ in 0..20 {
        let healthy = [
            ("topic", "https://abuse.example/healthy"),
            ("data", "through it all"),
        ];
        publisher
            .exchange(&pair.hub.publish_request(&healthy)?)?
            .expect_status(&[200])?;
        pair.stream.expect_data("through it all")?;
    }
    drop(held);
    gush_testkit::eventually("new connections are served again", PATIENCE, || {
        Ok(pair.check().ok())
    })
}

/// Row 86 of the catalogue: what came while the process stood still is served when it goes on, and
/// nobody is cut for the time that it did not have.
#[test]
fn a_hub_that_stood_still_goes_on_where_it_was() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.option("--heartbeat", "1s");
    let mut pair = Pair::of(&builder)?;
    pair.check()?;
    pair.hub.signal("STOP")?;
    let mut publisher = pair.hub.connect()?;
    let fields = [
        ("topic", "https://abuse.example/healthy"),
        ("data", "meanwhile"),
    ];
    publisher.send_request(&pair.hub.publish_request(&fields)?)?;
    let mut late = pair.hub.connect()?;
    late.send_request(&pair.hub.subscribe_request(&[("topic", TOPIC)])?)?;
    pair.hub.signal("CONT")?;
    publisher.read_response()?.expect_status(&[200])?;
    pair.stream.expect_data("meanwhile")?;
    SseStream::answered(late)?;
    pair.check()
}
