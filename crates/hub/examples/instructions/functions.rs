//! The functions on an event's and a subscriber's way.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use gush_hub::dialect::{self, PAIRS_MAX};
use gush_hub::form::parse_pairs;
use gush_hub::frame::FramePool;
use gush_hub::keys::{self, KeyRing, Role};
use gush_hub::matcher_table::MatcherTable;
use gush_hub::request::parse_subscribe;
use gush_hub::topic::Matcher;
use gush_hub::window::Window;
use gush_log::{Conflation, Draft, Epoch, Log, MemoryConfig, MemoryLog, Offset, Position};
use gush_sse::Topic;

use super::Scenario;

const FORM: &str = "topic=https%3A%2F%2Fexample.com%2Fbooks%2F1&topic=https%3A%2F%2Fexample.com%2Fbooks\
                    &data=%7B%22status%22%3A+%22OutOfStock%22%2C+%22id%22%3A+1%7D&type=book&retry=1000";

fn draft() -> Draft {
    Draft {
        topics: Box::new([Topic::parse("https://example.com/books/1").expect("a topic")]),
        is_private: false,
        id: None,
        kind: None,
        retry_ms: None,
        conflation: Conflation::default(),
        data: "0123456789".repeat(20).into(),
    }
}

pub(super) const ENCODE_FRAME: Scenario = Scenario {
    name: "encode_frame",
    prepare: || {
        let position = Position {
            epoch: Epoch::begin(1_700_000_000_000),
            offset: Offset::FIRST,
        };
        let draft = draft();
        let mut pool = FramePool::new(1 << 20);
        Box::new(move || {
            black_box(pool.encode(&draft.as_record(position, 0)));
        })
    },
};

pub(super) const PARSE_FORM: Scenario = Scenario {
    name: "parse_publish_form",
    prepare: || {
        Box::new(|| {
            let pairs = parse_pairs(black_box(FORM.as_bytes()), PAIRS_MAX).expect("a form");
            let draft = dialect::publish_request(&pairs);
            black_box(draft.expect("what a publish needs"));
        })
    },
};

/// A table with 1,000 topics and 1,000 templates that differ between their expressions.
fn table() -> MatcherTable {
    let mut table = MatcherTable::seeded(1);
    for i in 0..1000 {
        for text in [
            format!("https://example.com/books/{i}"),
            format!("https://example.com/{{kind}}/{i}{{/rest*}}"),
        ] {
            table.intern(&Matcher::parse(&text).expect("within the bounds"));
        }
    }
    table
}

fn match_event(topic: &'static str) -> Box<dyn FnMut()> {
    let table = table();
    let mut out = Vec::new();
    Box::new(move || {
        out.clear();
        table.matching(std::iter::once(black_box(topic)), &mut out);
        black_box(&out);
    })
}

pub(super) const MATCH_EVENT: Scenario = Scenario {
    name: "match_event",
    prepare: || match_event("https://example.com/books/777"),
};

pub(super) const MATCH_FOREIGN_EVENT: Scenario = Scenario {
    name: "match_event_of_nobody",
    prepare: || match_event("https://elsewhere.example/films/777"),
};

const NOW_UNIX: u64 = 1_700_000_000;

fn ring_and_token() -> (KeyRing, String) {
    const SECRET: &str = "a-secret-of-at-least-thirty-two-bytes";
    let ring = KeyRing::load(Role::Publisher, SECRET, None).expect("a key");
    let claims = serde_json::json!({
        "exp": NOW_UNIX + 3600,
        "mercure": { "publish": ["https://example.com/books/{id}", "*"] },
    });
    let token = keys::sign(&claims, SECRET, None).expect("a token");
    (ring, token)
}

/// The result of a future that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a fixed key is there"),
    }
}

pub(super) const TOKEN_KNOWN: Scenario = Scenario {
    name: "token_seen_before",
    prepare: || {
        let (ring, token) = ring_and_token();
        Box::new(move || {
            let claims = at_once(ring.verify_known(black_box(&token), NOW_UNIX));
            black_box(claims.expect("a good token"));
        })
    },
};

pub(super) const TOKEN_NEW: Scenario = Scenario {
    name: "token_never_seen",
    prepare: || {
        let (ring, token) = ring_and_token();
        Box::new(move || {
            let claims = at_once(ring.verify(black_box(&token), NOW_UNIX));
            black_box(claims.expect("a good token"));
        })
    },
};

const SUBSCRIBE: &[u8] =
    b"GET /.well-known/mercure?topic=https%3A%2F%2Fexample.com%2Fbooks%2F%7Bid%7D HTTP/1.1\r\n\
    Host: example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0\r\n\
    Accept: text/event-stream\r\n\
    Accept-Language: en-US,en;q=0.5\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Cache-Control: no-cache\r\n\
    Last-Event-ID: urn:uuid:018bcfe5-6800-8000-8000-000000000007\r\n\r\n";

pub(super) const PARSE_SUBSCRIBE: Scenario = Scenario {
    name: "parse_subscribe_head",
    prepare: || {
        Box::new(|| {
            let head = parse_subscribe(black_box(SUBSCRIBE)).expect("a plain subscribe");
            let pairs = parse_pairs(head.query.as_bytes(), PAIRS_MAX).expect("a query");
            let request = dialect::subscribe_request(&head.headers, &pairs);
            black_box(request.expect("what a subscribe needs"));
        })
    },
};

pub(super) const APPEND_MEMORY: Scenario = Scenario {
    name: "append_to_memory",
    prepare: || {
        // Both are full after the calls of the warm-up, so that each event pushes out another.
        let log = MemoryLog::new(MemoryConfig {
            bytes_max: 1 << 30,
            events_max: 40,
        });
        let next = log.bounds().next;
        log.set_tail(Arc::new(Window::new(next, 1 << 30, 20, Vec::new())));
        // Making one is for `parse_publish_form` to count.
        let draft = draft();
        Box::new(move || {
            let is_there = |outcome: Result<_, _>| assert!(outcome.is_ok());
            log.append(draft.clone(), Box::new(is_there));
        })
    },
};

pub(super) const ENCODE_RECORD: Scenario = Scenario {
    name: "encode_record_for_disk",
    prepare: || {
        let draft = draft();
        let mut out = Vec::new();
        Box::new(move || {
            out.clear();
            gush_log::measure_encode(black_box(&draft), &mut out);
            black_box(&out);
        })
    },
};
