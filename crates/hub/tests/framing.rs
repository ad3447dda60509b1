//! Where requests begin and end: the hub, which reads plain publishes and subscribes itself,
//! against hyper alone on the same bytes. Whatever a peer sends, the hub may refuse more than hyper
//! does, but it must never see another request, or a body elsewhere.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gush_hub::dialect::{HUB_PATH, PAIRS_MAX, publish_request};
use gush_hub::form::parse_pairs;
use gush_testkit::{PATIENCE, Request, SseStream};
use http::{Method, Response};
use http_body_util::{BodyExt, Collected, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

#[path = "framing/mutation.rs"]
mod mutation;

#[path = "support/hub.rs"]
mod support;

use mutation::{Mutator, healthz, publish};
use support::{KEY, hub};

/// Mutated conversations of one run.
const ROUNDS: usize = 2000;

/// How long the hub may be silent before this side ends its own: far more than it takes to answer
/// what it has read, and no more than a delay where the machine is slow.
const SILENCE: Duration = Duration::from_millis(250);

/// A request as hyper sees it.
#[derive(Debug)]
#[expect(dead_code, reason = "shown where the two differ")]
struct Seen {
    method: Method,
    target: String,
    is_subscribe: bool,
    /// What it would publish with a good token.
    data: Option<String>,
}

impl Seen {
    async fn of(request: http::Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        // The head of one whose body is broken is a request all the same: `/healthz` has no use for
        // a body.
        let body = body.collect().await.ok().map(Collected::to_bytes);
        let is_hub = head.uri.path() == HUB_PATH;
        let draft = body
            .filter(|_| is_hub && head.method == Method::POST)
            .and_then(|body| publish_request(&parse_pairs(&body, PAIRS_MAX).ok()?).ok());
        Self {
            is_subscribe: is_hub && head.method == Method::GET,
            data: draft.map(|draft| read_back(&draft.data)),
            target: head.uri.to_string(),
            method: head.method,
        }
    }
}

/// Data as a subscriber has it: all line ends are LF.
fn read_back(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

/// What hyper makes of the bytes, with the bounds that the hub gives it.
async fn seen_by_hyper(bytes: &[u8]) -> Vec<Seen> {
    let (mut peer, served) = tokio::io::duplex(1 << 20);
    peer.write_all(bytes).await.expect("room for all");
    peer.shutdown().await.expect("an end");
    let all = Arc::new(Mutex::new(Vec::new()));
    let service = service_fn(|request| {
        let all = Arc::clone(&all);
        async move {
            let seen = Seen::of(request).await;
            all.lock().expect("no panic").push(seen);
            Ok::<_, std::convert::Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Else hyper drops what it has not answered by the end of the bytes, and sees a request less
    // than there are, whatever their line ends: nothing of the hub's.
    builder
        .half_close(true)
        .max_headers(100)
        .max_buf_size(64 << 10);
    let _ = builder
        .serve_connection(TokioIo::new(served), service)
        .await;
    std::mem::take(&mut *all.lock().expect("no panic"))
}

/// Sends the bytes in pieces and reads until the hub closes, or streams and says no more. Ends this
/// side once the hub is silent.
fn answers_of(hub: SocketAddr, pieces: &[&[u8]]) -> Vec<u16> {
    let mut socket = TcpStream::connect(hub).expect("a connection");
    socket.set_nodelay(true).expect("an option");
    socket.set_read_timeout(Some(SILENCE)).expect("an option");
    for piece in pieces {
        // The hub may have closed after a refusal.
        let _ = socket.write_all(piece);
    }
    let mut bytes = Vec::new();
    let mut is_ended = false;
    let mut part = [0; 16 << 10];
    loop {
        match socket.read(&mut part) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                if memchr::memmem::find(&bytes, b"text/event-stream").is_some() {
                    break;
                }
                assert!(!is_ended, "no end: {}", String::from_utf8_lossy(&bytes));
                is_ended = true;
                let _ = socket.shutdown(Shutdown::Write);
                socket.set_read_timeout(Some(PATIENCE)).expect("an option");
            }
            Err(_) => break,
        }
    }
    statuses(&bytes)
}

/// The statuses of the answers, in order; a stream is the last one.
fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut all = Vec::new();
    while let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.strip_prefix("http/1.").and_then(|rest| rest.get(2..5));
        let status = status.and_then(|status| status.parse().ok());
        all.push(status.unwrap_or_else(|| panic!("no answer: {head}")));
        let length = head
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "));
        let Some(length) = length.and_then(|length| length.parse::<usize>().ok()) else {
            break;
        };
        bytes = bytes.get(end + 4 + length..).unwrap_or_default();
    }
    all
}

struct Judge {
    hub: SocketAddr,
    stream: SseStream,
    sentinel: TcpStream,
    mutator: Mutator,
    runtime: tokio::runtime::Runtime,
    rounds: usize,
}

impl Judge {
    fn new() -> Self {
        let hub = hub(&[]);
        let claims = serde_json::json!({ "mercure": { "publish": ["*"] } });
        let token = gush_hub::keys::sign(&claims, KEY, None).expect("a token");
        let request = Request::get(&format!("{HUB_PATH}?topic=*"));
        Self {
            hub,
            stream: SseStream::open(hub, &request).expect("a stream"),
            sentinel: TcpStream::connect(hub).expect("a connection"),
            mutator: Mutator::new(token),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            rounds: 0,
        }
    }

    /// What was published since the last call, in order.
    fn published(&mut self) -> Vec<String> {
        self.rounds += 1;
        let end = format!("end of round {}", self.rounds);
        let request = publish(self.mutator.token(), &end);
        self.sentinel.write_all(&request).expect("a request");
        let mut all = Vec::new();
        loop {
            let event = self.stream.next_event().expect("an event");
            if event.data == end {
                // Only so that the answers do not fill the socket.
                let _ = self.sentinel.read(&mut [0; 4096]).expect("an answer");
                return all;
            }
            all.push(event.data);
        }
    }

    /// Compares what the hub did with what hyper sees in the same bytes.
    fn compare(&mut self, pieces: &[&[u8]]) {
        let bytes = pieces.concat();
        let answers = answers_of(self.hub, pieces);
        let published = self.published();
        let mut seen = self.runtime.block_on(seen_by_hyper(&bytes));
        // Nothing behind a subscribe is a request any more.
        let subscribe = seen.iter().position(|request| request.is_subscribe);
        let is_stream = |at: &usize| answers.len() == at + 1 && answers[*at] == 200;
        if let Some(at) = subscribe.filter(is_stream) {
            seen.truncate(at + 1);
        }
        let context = || {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            format!("the hub answered {answers:?}\nhyper saw {seen:#?}\nin {text:?}")
        };
        let expected: Vec<&String> = seen.iter().filter_map(|seen| seen.data.as_ref()).collect();
        let mut left = expected.iter();
        let is_within = published
            .iter()
            .all(|data| left.any(|expected| *expected == data));
        assert!(is_within, "published {published:?}\n{}", context());
        // hyper answers what it cannot read, and that is no request.
        assert!(answers.len() <= seen.len() + 1, "{}", context());
        let is_served = answers.iter().all(|status| *status < 400);
        if is_served {
            assert_eq!(answers.len(), seen.len(), "{}", context());
            assert!(
                published.iter().eq(expected),
                "{published:?}\n{}",
                context()
            );
        }
        let is_fault = |status: &u16| *status >= 500 && ![501, 505].contains(status);
        assert!(!answers.iter().any(is_fault), "{}", context());
    }
}

/// Tens of thousands of requests, good and spoilt, in any pieces.
#[test]
fn the_hub_sees_the_requests_that_hyper_sees() {
    let mut judge = Judge::new();
    for _ in 0..ROUNDS {
        let bytes = judge.mutator.conversation();
        let pieces = judge.mutator.pieces(&bytes);
        judge.compare(&pieces);
    }
}

/// A head may end its lines with a line feed alone (RFC 9112, 2.2), all of them or some.
#[test]
fn heads_with_bare_line_feeds_end_where_hyper_ends_them() {
    let mut judge = Judge::new();
    let token = judge.mutator.token().to_owned();
    for mask in 0..64_u32 {
        let mut bytes = mutation::bare_line_feeds(&publish(&token, "first\r\n\r\nstill"), mask);
        bytes.extend(publish(&token, "second"));
        bytes.extend(healthz(true));
        judge.compare(&[&bytes]);
        for cut in (0..bytes.len()).step_by(23) {
            let (left, right) = bytes.split_at(cut);
            judge.compare(&[left, right]);
        }
    }
}
