//! Each layer in an axum service over a real socket: the first byte comes at once, what a stream
//! holds is given back when it ends, and refusals read as they should.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use gush_middleware::layer::{
    BodyLimitLayer, BreakerLayer, BucketLayer, GateLayer, KeyedGateLayer, PanicGuardLayer,
    StreamLogLayer, WindowLayer,
};
use gush_middleware::{
    Breaker, BreakerSettings, Gate, KeyedGate, LogFormat, Opened, Pacer, PacerSettings, PanicGuard,
    Rate, StreamLog, TokenBucket, WindowLimit, key_of,
};
use http_body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than any of these tests takes: only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// One event, and then nothing for ever.
struct OneEvent(bool);

impl http_body::Body for OneEvent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")))))
    }
}

/// One event, a pause in which it goes out, and then a panic.
struct OneEventAndPanic(u8);

impl http_body::Body for OneEventAndPanic {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        match self.0 {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: 1\n\n"))))),
            2 => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ => panic!("on purpose"),
        }
    }
}

fn stream_of<B>(body: B) -> Response<Body>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let answer = Response::builder().header("content-type", "text/event-stream");
    answer.body(Body::new(body)).expect("good headers")
}

fn routes() -> Router {
    Router::new()
        .route("/events", get(async || stream_of(OneEvent(false))))
        .route("/broken", get(async || stream_of(OneEventAndPanic(0))))
        .route(
            "/panic",
            get(async || -> Response<Body> { panic!("on purpose") }),
        )
        .route("/count", post(async |body: Bytes| body.len().to_string()))
        .route("/failing", get(async || http::StatusCode::BAD_GATEWAY))
}

async fn serve(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

struct Peer(TcpStream, Vec<u8>);

impl Peer {
    async fn send(address: SocketAddr, head: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        socket.write_all(head.as_bytes()).await.expect("it reads");
        Self(socket, vec![])
    }

    async fn get(address: SocketAddr, path: &str) -> Self {
        Self::send(
            address,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n"),
        )
        .await
    }

    /// Reads until `wanted` has come; `false` when the stream ends first.
    async fn until(&mut self, wanted: &str) -> bool {
        let reading = async {
            while !String::from_utf8_lossy(&self.1).contains(wanted) {
                if self.0.read_buf(&mut self.1).await.unwrap_or(0) == 0 {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} did not come: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.1).into_owned()
    }
}

/// Waits until something that another task does has been done.
async fn eventually(is_done: impl Fn() -> bool) {
    let waiting = async {
        while !is_done() {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.expect("it should have happened by now");
}

fn pacer() -> Pacer {
    let second = Duration::from_secs(1);
    Pacer::new(PacerSettings {
        per_second: 10.0,
        delay_min: second,
        delay_max: 10 * second,
    })
}

fn bucket(burst: u32) -> BucketLayer {
    let rate = Rate {
        per_second: 0.001,
        burst,
    };
    BucketLayer::new(Arc::new(TokenBucket::new(rate)))
}

fn window(max: u32) -> WindowLayer {
    let limit = WindowLimit {
        max,
        window: Duration::from_hours(1),
    };
    let by_agent = |head: &http::request::Parts| head.headers.get("user-agent").map(key_of);
    WindowLayer::new(limit, 100, Arc::new(by_agent))
}

fn breaker() -> BreakerLayer {
    BreakerLayer::new(Breaker::new(BreakerSettings {
        failures_max: 2,
        open_min: Duration::from_hours(1),
        open_max: Duration::from_hours(1),
    }))
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().expect("no panic"), bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn stream_log(lines: &Lines) -> StreamLogLayer {
    let log = StreamLog::start(lines.clone(), LogFormat::Text, 100).expect("a thread");
    let describe = |head: &http::request::Parts| Opened {
        topics: vec![head.uri.path().to_owned()],
        ..Opened::default()
    };
    StreamLogLayer::new(Arc::new(log), Arc::new(describe))
}

#[tokio::test]
async fn every_layer_passes_the_first_byte_at_once() {
    let by_address = |_: &http::request::Parts| Some(1);
    let keyed = KeyedGate::new(Some(1000));
    let all: Vec<(&str, Router)> = vec![
        ("none", routes()),
        (
            "gate",
            routes().layer(GateLayer::new(Gate::new(10), pacer())),
        ),
        (
            "keyed gate",
            routes().layer(KeyedGateLayer::new(
                Arc::clone(&keyed),
                Arc::new(by_address),
                Duration::from_secs(1),
            )),
        ),
        ("bucket", routes().layer(bucket(100))),
        ("window", routes().layer(window(100))),
        ("body limit", routes().layer(BodyLimitLayer::new(10))),
        ("breaker", routes().layer(breaker())),
        ("stream log", routes().layer(stream_log(&Lines::default()))),
        (
            "panic guard",
            routes().layer(PanicGuardLayer::new(Arc::new(PanicGuard::new()))),
        ),
        (
            "all",
            routes()
                .layer(PanicGuardLayer::new(Arc::new(PanicGuard::new())))
                .layer(stream_log(&Lines::default()))
                .layer(breaker())
                .layer(BodyLimitLayer::new(10))
                .layer(window(100))
                .layer(bucket(100))
                .layer(GateLayer::new(Gate::new(10), pacer())),
        ),
    ];
    for (name, routes) in all {
        let address = serve(routes).await;
        let mut peer = Peer::get(address, "/events").await;
        // The handler writes nothing more, so whoever held it back would hold it for ever.
        assert!(peer.until("data: 1\n\n").await, "{name}: {}", peer.text());
    }
}

#[tokio::test]
async fn a_gate_counts_until_the_stream_ends_and_refuses_softly() {
    let gate = Gate::new(1);
    let address = serve(routes().layer(GateLayer::new(Arc::clone(&gate), pacer()))).await;
    let mut first = Peer::get(address, "/events").await;
    assert!(first.until("data: 1\n\n").await);
    assert_eq!(gate.open(), 1);
    let mut second = Peer::get(address, "/events").await;
    assert!(second.until("retry: ").await, "{}", second.text());
    assert!(second.text().starts_with("HTTP/1.1 200"));
    let mut program = Peer::send(address, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(program.until("no stream to spare").await);
    let text = program.text();
    assert!(
        text.starts_with("HTTP/1.1 503") && text.contains("retry-after: "),
        "{text}"
    );
    drop(first);
    eventually(|| gate.open() == 0).await;
    let mut third = Peer::get(address, "/events").await;
    assert!(third.until("data: 1\n\n").await);
}

#[tokio::test]
async fn rates_and_windows_answer_429_with_the_time_to_wait() {
    for routes in [routes().layer(bucket(2)), routes().layer(window(2))] {
        let address = serve(routes).await;
        let request = "GET /failing HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\n\r\n";
        for _ in 0..2 {
            let mut admitted = Peer::send(address, request).await;
            assert!(admitted.until("502").await, "{}", admitted.text());
        }
        let mut refused = Peer::send(address, request).await;
        assert!(refused.until("\r\n\r\n").await);
        let text = refused.text();
        assert!(
            text.starts_with("HTTP/1.1 429") && text.contains("retry-after: "),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_large_body_is_refused_by_its_head_or_as_it_comes() {
    let address = serve(routes().layer(BodyLimitLayer::new(10))).await;
    let head = "POST /count HTTP/1.1\r\nHost: a\r\n";
    let mut good = Peer::send(
        address,
        &format!("{head}Content-Length: 10\r\n\r\n0123456789"),
    )
    .await;
    assert!(good.until("\r\n\r\n10").await, "{}", good.text());
    let mut told = Peer::send(address, &format!("{head}Content-Length: 11\r\n\r\n")).await;
    assert!(told.until("413").await, "{}", told.text());
    let chunks = "Transfer-Encoding: chunked\r\n\r\n8\r\n01234567\r\n8\r\n01234567\r\n0\r\n\r\n";
    let mut untold = Peer::send(address, &format!("{head}{chunks}")).await;
    assert!(untold.until("\r\n\r\n").await);
    assert!(untold.text().starts_with("HTTP/1.1 4"), "{}", untold.text());
}

#[tokio::test]
async fn a_failing_service_is_left_alone() {
    let address = serve(routes().layer(breaker())).await;
    for _ in 0..2 {
        let mut failed = Peer::get(address, "/failing").await;
        assert!(failed.until("502").await);
    }
    let request = "GET /failing HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut refused = Peer::send(address, request).await;
    assert!(refused.until("left alone").await, "{}", refused.text());
    assert!(refused.text().starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn a_panic_ends_its_own_stream_and_no_other() {
    let guard = Arc::new(PanicGuard::new());
    let address = serve(routes().layer(PanicGuardLayer::new(Arc::clone(&guard)))).await;
    let mut other = Peer::get(address, "/events").await;
    assert!(other.until("data: 1\n\n").await);

    let plain = "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut handler = Peer::send(address, plain).await;
    assert!(handler.until("500").await, "{}", handler.text());
    assert!(
        !handler.text().contains("on purpose"),
        "the peer learns nothing of it"
    );

    // A browser's would give up for ever.
    let mut event_source = Peer::get(address, "/panic").await;
    let is_soft = event_source.until("\r\n\r\nretry: ").await;
    assert!(is_soft, "{}", event_source.text());
    assert!(event_source.text().starts_with("HTTP/1.1 200 OK\r\n"));
    let hard = PanicGuardLayer::new(Arc::clone(&guard)).hard();
    let mut told = Peer::get(serve(routes().layer(hard)).await, "/panic").await;
    assert!(told.until("\r\nretry-after: ").await, "{}", told.text());
    assert!(told.text().starts_with("HTTP/1.1 500 "));

    let mut body = Peer::get(address, "/broken").await;
    assert!(body.until("data: 1\n\n").await);
    // Cut off, without the last chunk that would make it a good end.
    assert!(!body.until("0\r\n\r\n").await, "{}", body.text());
    assert_eq!(guard.caught(), 4);

    let mut later = Peer::get(address, "/events").await;
    assert!(later.until("data: 1\n\n").await);
}

#[tokio::test]
async fn a_stream_has_a_record_at_its_begin_and_one_at_its_end() {
    let lines = Lines::default();
    let address = serve(routes().layer(stream_log(&lines))).await;
    let mut quick = Peer::get(address, "/failing").await;
    assert!(quick.until("502").await);
    let mut peer = Peer::get(address, "/events").await;
    assert!(peer.until("data: 1\n\n").await);
    eventually(|| lines.text().lines().count() == 1).await;
    assert!(
        lines.text().contains("\"stream opened\""),
        "{}",
        lines.text()
    );
    drop(peer);
    eventually(|| lines.text().lines().count() == 2).await;
    let text = lines.text();
    let last = text.lines().last().expect("two");
    for part in [
        "\"stream closed\"",
        "events=1",
        "bytes=9",
        "reason=client_left",
        "/events",
    ] {
        assert!(last.contains(part), "{part} in {last}");
    }
}

#[tokio::test]
async fn a_body_that_ends_gives_its_permit_back_though_the_answer_is_kept() {
    use http_body_util::BodyExt as _;
    use tower_service::Service as _;
    let gate = Gate::new(1);
    let mut service = routes().layer(GateLayer::new(Arc::clone(&gate), pacer()));
    let request = Request::get("/failing").body(Body::empty()).expect("good");
    let mut answer = service.call(request).await.expect("never fails");
    assert_eq!(gate.open(), 1);
    while answer.body_mut().frame().await.is_some() {}
    assert_eq!(gate.open(), 0);
}
