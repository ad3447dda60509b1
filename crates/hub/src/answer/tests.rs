//! A handler that panics, behind hyper's own connections.

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::accept::GuardedExecutor;
use crate::publish_batch::tests::hub;

/// The path at which a handler panics.
const FAULTY_PATH: &str = "/faulty";

pub(super) fn strike(path: &str) {
    assert_ne!(path, FAULTY_PATH, "on purpose, in a handler");
}

fn served(hub: &Arc<Hub>, is_h2: bool) -> DuplexStream {
    let (ours, theirs) = duplex(64 * 1024);
    let hub = Arc::clone(hub);
    let executor = GuardedExecutor(Arc::clone(&hub.metrics.panics.request));
    let service = service_fn(move |request| {
        let hub = Arc::clone(&hub);
        Box::pin(async move {
            let answer = guarded(&hub, Door::Public, request).await;
            Ok::<_, std::convert::Infallible>(answer)
        })
    });
    let io = TokioIo::new(theirs);
    if is_h2 {
        let connection = http2::Builder::new(executor).serve_connection(io, service);
        tokio::spawn(connection);
    } else {
        let mut builder = http1::Builder::new();
        let connection = builder
            .header_read_timeout(None)
            .serve_connection(io, service);
        tokio::spawn(connection);
    }
    ours
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_its_connection_goes_on() {
    let hub = hub();
    let mut wire = served(&hub, false);
    for (path, status) in [
        (FAULTY_PATH, "500 Internal Server Error"),
        ("/healthz", "200 OK"),
        (FAULTY_PATH, "500 Internal Server Error"),
        ("/healthz", "200 OK"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        wire.write_all(request.as_bytes()).await.expect("open");
        let answer = read_answer(&mut wire).await;
        let expected = format!("HTTP/1.1 {status}\r\n");
        assert!(answer.starts_with(&expected), "{answer}");
        // What failed is for the operator.
        assert!(!answer.contains("on purpose"), "{answer}");
    }
    assert_eq!(hub.metrics.panics.request.caught(), 2);
    let page = hub.metrics_page();
    assert!(
        page.contains("gush_panics_total{where=\"request\"} 2\n"),
        "{page}"
    );
}

/// Of HTTP/1.1, with a length.
async fn read_answer(wire: &mut DuplexStream) -> String {
    let mut bytes = Vec::new();
    loop {
        assert!(wire.read_buf(&mut bytes).await.expect("bytes") > 0);
        let text = String::from_utf8(bytes.clone()).expect("text");
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).expect("a length");
        let length: usize = length
            .lines()
            .next()
            .expect("a line")
            .parse()
            .expect("a number");
        if body.len() >= length {
            return text;
        }
    }
}

#[tokio::test]
async fn a_handler_that_panics_ends_one_stream_of_http_2_and_no_other() {
    let hub = hub();
    let mut wire = served(&hub, true);
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for (stream, path) in [(1, "/healthz"), (3, FAULTY_PATH), (5, "/healthz")] {
        // GET and http from the static table, then two literals.
        let mut head = vec![0x82, 0x86];
        for (name, value) in [(":path", path), (":authority", "h")] {
            head.push(0);
            for text in [name, value] {
                head.push(u8::try_from(text.len()).expect("short"));
                head.extend_from_slice(text.as_bytes());
            }
        }
        bytes.extend(frame(1, 5, stream, &head));
    }
    wire.write_all(&bytes).await.expect("open");
    // The first byte of a head is its status, from the static table.
    let mut statuses = std::collections::BTreeMap::new();
    while statuses.len() < 3 {
        let mut start = [0; 9];
        wire.read_exact(&mut start).await.expect("a frame");
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        wire.read_exact(&mut payload).await.expect("a frame");
        if start[3] == 1 {
            statuses.insert(start[8], payload[0]);
        }
    }
    assert_eq!(
        statuses.into_iter().collect::<Vec<_>>(),
        [(1, 0x88), (3, 0x8e), (5, 0x88)]
    );
    assert_eq!(hub.metrics.panics.request.caught(), 1);
}
