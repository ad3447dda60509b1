//! The batch behind hyper's own connection, in memory, on a clock that jumps ahead whenever
//! everybody waits: silence of any length costs no time.

use gush_log::{Flow, Log, MemoryConfig, MemoryLog, Offset, ReadLimit};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::sleep;

use super::*;
use crate::answer;
use crate::clock::Clock;
use crate::config::Settings;
use crate::conflate::Conflation;
use crate::hub::Parts as HubParts;
use crate::limits::Plan;
use crate::metrics::Metrics;
use crate::policy::{Policy, PolicyCell};
use crate::presence::Presence;
use crate::replay::Replayer;
use crate::request::Door;
use crate::secret::Secret;
use crate::transport::HEAD_BYTES_MAX;
use crate::window::Window;

const KEY: &str = "a key of the batch tests, long enough";
const LINE_BYTES_MAX: usize = 64;
const GOOD: &str = r#"{"topic":"a"}"#;

/// Bytes on their way between peer and hub, each way.
const WIRE_BYTES: usize = 4096;

fn settings(key: &str) -> Settings {
    Settings {
        publisher_key: Some(Secret::new(key)),
        max_body: LINE_BYTES_MAX,
        ..Settings::default()
    }
}

pub(crate) fn hub() -> Arc<Hub> {
    let config = MemoryConfig {
        bytes_max: 1 << 24,
        events_max: 1 << 16,
    };
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(config));
    let policy = Policy::new(settings(KEY)).expect("valid settings");
    let policy = Arc::new(PolicyCell::new(policy));
    let conflation = Conflation::new(Arc::clone(&policy), log.bounds().next);
    let replayer = Replayer::start(&log, &Arc::new(conflation), &Arc::default());
    Arc::new(Hub::new(HubParts {
        crowd: Arc::default(),
        orders: tokio::sync::mpsc::channel(1).0,
        window: Arc::new(Window::new(log.bounds().next, 1 << 20, 100, Vec::new())),
        shards: Vec::new(),
        policy,
        metrics: Metrics::new(1),
        presence: Arc::new(Presence::new(Arc::clone(&log))),
        clock: Clock::manual(),
        replayer: Arc::new(replayer.expect("threads")),
        plan: Plan::new(&Settings::default(), 1, 1000),
        log,
    }))
}

/// The data of all events in the log.
fn stored(hub: &Hub) -> Vec<String> {
    let mut stored = Vec::new();
    let limit = ReadLimit {
        events_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let read = hub.log.read(Offset::FIRST, limit, &mut |record| {
        stored.push(record.data.to_owned());
        Flow::Continue
    });
    read.expect("memory");
    stored
}

fn token(hub: &Hub, life_seconds: u64) -> String {
    let claims = json!({
        "exp": hub.now_unix() + life_seconds,
        "mercure": { "publish": ["a", "b"] },
    });
    crate::keys::sign(&claims, KEY, None).expect("a token")
}

/// A publisher in the middle of a batch.
struct Peer {
    wire: DuplexStream,
    received: Vec<u8>,
}

impl Peer {
    async fn begin(hub: &Arc<Hub>) -> Self {
        Self::begin_as(hub, &token(hub, 3600)).await
    }

    async fn begin_as(hub: &Arc<Hub>, token: &str) -> Self {
        let (ours, theirs) = duplex(WIRE_BYTES);
        let hub = Arc::clone(hub);
        let service = service_fn(move |mut request: http::Request<_>| {
            let hub = Arc::clone(&hub);
            let peer = crate::peer::Peer::of(([127, 0, 0, 1], 4711).into());
            request.extensions_mut().insert(peer);
            async move {
                let answer = answer::answer(&hub, Door::Public, request).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        let mut builder = http1::Builder::new();
        let connection = builder
            .header_read_timeout(None)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(theirs), service);
        tokio::spawn(connection);
        let mut peer = Self {
            wire: ours,
            received: Vec::new(),
        };
        let head = format!(
            "POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        peer.write(head.as_bytes()).await;
        peer
    }

    async fn write(&mut self, bytes: &[u8]) {
        // An error means that the hub has ended the request; what it said is what counts.
        let _ = self.wire.write_all(bytes).await;
    }

    /// Sends bytes that the hub reads in one piece.
    async fn send(&mut self, piece: impl AsRef<[u8]>) {
        let piece = piece.as_ref();
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk).await;
    }

    /// Reads until what has come satisfies.
    async fn read_until(&mut self, is_enough: impl Fn(&str) -> bool) {
        while !is_enough(&String::from_utf8_lossy(&self.received)) {
            let count = self.wire.read_buf(&mut self.received).await;
            let text = String::from_utf8_lossy(&self.received);
            assert_ne!(count.expect("a whole answer"), 0, "the hub left: {text}");
        }
    }

    /// The first answer line that has not been looked at before the end.
    async fn next_answer(&mut self, seen: usize) -> Value {
        self.read_until(|text| answers(text).len() > seen).await;
        answers(&String::from_utf8_lossy(&self.received)).swap_remove(seen)
    }

    /// Every answer line, after the end of the request.
    async fn finish(mut self) -> Vec<Value> {
        self.write(b"0\r\n\r\n").await;
        self.read_until(|text| text.ends_with("\r\n0\r\n\r\n"))
            .await;
        answers(&String::from_utf8_lossy(&self.received))
    }
}

/// The whole answer lines of a chunked answer.
fn answers(received: &str) -> Vec<Value> {
    let lines = received.split_inclusive('\n');
    let whole = lines.filter(|line| line.starts_with('{') && line.ends_with("}\n"));
    whole
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// What stays the same from one batch to the next: `true` for an id.
fn outcomes(answers: &[Value]) -> Vec<(bool, Option<u64>)> {
    let outcome = |answer: &Value| (answer["id"].is_string(), answer["line"].as_u64());
    answers.iter().map(outcome).collect()
}

const STORED: (bool, Option<u64>) = (true, None);

const fn refused(line: u64) -> (bool, Option<u64>) {
    (false, Some(line))
}

async fn answers_to(hub: &Arc<Hub>, pieces: &[&[u8]]) -> Vec<Value> {
    let mut peer = Peer::begin(hub).await;
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        peer.send(piece).await;
    }
    peer.finish().await
}

#[tokio::test(start_paused = true)]
async fn lines_split_at_every_byte_are_the_same_lines() {
    let hub = hub();
    let body = b"{\"topic\":\"a\",\"data\":\"1\"}\r\n\r\n{\"topic\":\"\xff\"}\n\n \t\n{\"topic\"\r\n\
                 {\"topic\":\"c\"}\n{\"topic\":[\"a\",\"b\"],\"data\":\"\xc3\xa9\"}\r\n{\"topic\":\"a\",\"data\":\"3\"}";
    let expected = [STORED, refused(3), refused(6), refused(7), STORED, STORED];
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        let answers = answers_to(&hub, &[first, second]).await;
        assert_eq!(outcomes(&answers), expected, "split at {at}");
    }
    let each: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(outcomes(&answers_to(&hub, &each).await), expected);
    let times = body.len() + 2;
    assert_eq!(stored(&hub), ["1", "é", "3"].repeat(times));
}

#[tokio::test(start_paused = true)]
async fn a_refused_line_is_refused_alone_and_named() {
    let hub = hub();
    let rows: [(&[u8], u64, &str); 6] = [
        (b"no JSON", 400, "not a JSON object"),
        (b"[]", 400, "not a JSON object"),
        (b"\xef\xbb\xbf{\"topic\":\"a\"}", 400, "not a JSON object"),
        (
            b"{\"topic\":\"a\"}{\"topic\":\"a\"}",
            400,
            "not a JSON object",
        ),
        (b"{\"topic\":\"a\",\"topic\":\"b\"}", 400, "more than once"),
        (
            b"{\"topic\":[\"a\",\"not granted\"]}",
            403,
            "does not allow",
        ),
    ];
    for (line, status, text) in rows {
        let body = [GOOD.as_bytes(), b"\n\n", line, b"\n", GOOD.as_bytes()].concat();
        let answers = answers_to(&hub, &[&body]).await;
        assert_eq!(outcomes(&answers), [STORED, refused(3), STORED]);
        assert_eq!(answers[1]["status"], status, "{answers:?}");
        let error = answers[1]["error"].as_str().expect("a text");
        assert!(error.contains(text), "{error}");
    }
    // Neither topic of the line with one that is not granted.
    assert_eq!(stored(&hub).len(), 2 * 6);
}

#[tokio::test(start_paused = true)]
async fn a_line_may_have_its_bound_and_no_byte_more() {
    let of = |bytes: usize, end: &str| {
        let begin = r#"{"topic":"a","data":""#;
        let data = "x".repeat(bytes - begin.len() - 2);
        format!("{begin}{data}\"}}{end}")
    };
    for end in ["\n", ""] {
        let hub = hub();
        let fits = of(LINE_BYTES_MAX, end);
        let answers = answers_to(&hub, &[fits.as_bytes()]).await;
        assert_eq!(outcomes(&answers), [STORED]);
        let long = of(LINE_BYTES_MAX + 1, end);
        for at in [0, 1, LINE_BYTES_MAX, LINE_BYTES_MAX + 1] {
            let (first, second) = long.as_bytes().split_at(at);
            let answers = answers_to(&hub, &[b"\n", first, second]).await;
            assert_eq!(outcomes(&answers), [refused(2)], "split at {at}");
        }
        assert_eq!(stored(&hub).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn silence_between_lines_ends_the_request_and_blank_lines_do_not() {
    let hub = hub();
    let mut peer = Peer::begin(&hub).await;
    peer.send(format!("{GOOD}\n")).await;
    let begun_at = Instant::now();
    for _ in 0..10 {
        sleep(IDLE_MAX * 74 / 75).await;
        peer.send("\n").await;
    }
    peer.send(format!("{GOOD}\n")).await;
    assert!(peer.next_answer(1).await["id"].is_string());
    assert!(begun_at.elapsed() > 9 * IDLE_MAX);
    let last_at = Instant::now();
    let last = peer.next_answer(2).await;
    let text = "no line came for too long; empty lines keep a request open";
    assert_eq!(last, json!({ "error": text, "status": 400, "line": 13 }));
    let silence = last_at.elapsed();
    assert!((IDLE_MAX..IDLE_MAX + Duration::from_secs(1)).contains(&silence));
    assert_eq!(peer.finish().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_stalls_ends_the_request_however_it_trickles() {
    for trickle in [false, true] {
        let hub = hub();
        let patience = hub.policy.load().settings.body_timeout;
        let mut peer = Peer::begin(&hub).await;
        // A long silence before its first byte does not count.
        sleep(IDLE_MAX * 74 / 75).await;
        peer.send(format!("{GOOD}\n{{")).await;
        let begun_at = Instant::now();
        if trickle {
            for _ in 1..patience.as_secs() {
                sleep(Duration::from_secs(1)).await;
                peer.send(" ").await;
            }
        }
        let last = peer.next_answer(1).await;
        let text = "the request body took too long to arrive";
        assert_eq!(last, json!({ "error": text, "status": 400, "line": 2 }));
        let waited = begun_at.elapsed();
        assert!((patience..patience + Duration::from_secs(1)).contains(&waited));
        assert_eq!(stored(&hub).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_answers_is_not_read_and_loses_nothing() {
    const LINES: usize = 40_000;
    let hub = hub();
    let Peer { wire, .. } = Peer::begin(&hub).await;
    let (mut reading, mut writing) = tokio::io::split(wire);
    let sending = async {
        for _ in 0..LINES / 100 {
            let piece = format!("{GOOD}\n").repeat(100);
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            writing.write_all(chunk.as_bytes()).await.expect("read");
        }
        writing.write_all(b"0\r\n\r\n").await.expect("read");
    };
    let receiving = async {
        sleep(20 * IDLE_MAX).await;
        // Under way, or answered into hyper's buffer and the wire.
        let answered_max = (2 * HEAD_BYTES_MAX + ANSWER_BYTES + WIRE_BYTES) / 40;
        assert!(stored(&hub).len() < UNDER_WAY_EVENTS_MAX + answered_max);
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n0\r\n\r\n") {
            let count = reading.read_buf(&mut received).await;
            assert_ne!(count.expect("a whole answer"), 0);
        }
        answers(&String::from_utf8_lossy(&received))
    };
    let ((), answers) = tokio::join!(sending, receiving);
    assert!(outcomes(&answers).iter().all(|outcome| *outcome == STORED));
    // One that lies in two chunks of the answer is not seen as a line.
    assert_eq!(stored(&hub).len(), LINES);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_ends_the_batch_between_two_reads() {
    let hub = hub();
    let token = token(&hub, 1000);
    let mut peer = Peer::begin_as(&hub, &token).await;
    peer.send(format!("{GOOD}\n{{")).await;
    assert!(peer.next_answer(0).await["id"].is_string());
    hub.clock.advance(Duration::from_mins(15));
    peer.send(format!("\"topic\":\"a\"}}\n\n{GOOD}")).await;
    assert!(peer.next_answer(1).await["id"].is_string());
    hub.clock.advance(Duration::from_secs(100));
    peer.send(format!("\n{GOOD}\n")).await;
    let last = peer.next_answer(2).await;
    let error = last["error"].as_str().expect("a refusal");
    assert!(error.contains("expired"), "{error}");
    // The line that had begun was not whole in time.
    assert_eq!((&last["status"], &last["line"]), (&401.into(), &4.into()));
    assert_eq!(peer.finish().await.len(), 3);
    assert_eq!(stored(&hub).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_away_ends_the_batches_under_way() {
    let hub = hub();
    let mut peer = Peer::begin(&hub).await;
    peer.send(format!("{GOOD}\n")).await;
    assert!(peer.next_answer(0).await["id"].is_string());
    let other = Policy::new(settings("another key, long enough for its use"));
    hub.policy.store(other.expect("valid settings"));
    hub.clock.advance(Duration::from_secs(1));
    peer.send(format!("{GOOD}\n")).await;
    let last = peer.next_answer(1).await;
    assert_eq!((&last["status"], &last["line"]), (&401.into(), &2.into()));
    assert_eq!(stored(&hub).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_cut_off_has_stored_its_whole_lines() {
    let hub = hub();
    let mut peer = Peer::begin(&hub).await;
    peer.send(format!("{GOOD}\n{GOOD}\n{GOOD}")).await;
    // Everybody else has nothing left to do before this ends.
    sleep(Duration::from_secs(1)).await;
    drop(peer);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(stored(&hub).len(), 2);
}
