//! What each layer adds to a request, and what the whole chain does, beside the article's figures.
//!
//! Prints a table. Each row is the time of one request through an axum-free service with that layer
//! alone (the row "nothing" is the service itself); the stream log writes into a file in memory.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gush_middleware::auth::{self, KeyRing};
use gush_middleware::prelude::*;
use hdrhistogram::Histogram;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower_layer::Layer;
use tower_service::Service;

const WARM_UP: usize = 5_000;
const REQUESTS: usize = 200_000;
const KEY: &str = "a secret of 32 characters or more";

/// Answers at once with a stream of one event.
#[derive(Clone)]
struct OneEvent;

impl<B> Service<Request<B>> for OneEvent {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _request: Request<B>) -> Self::Future {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"data: 1\n\n")));
        let kind = HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        ready(Ok(answer))
    }
}

fn request(token: &HeaderValue) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    request.headers_mut().insert(AUTHORIZATION, token.clone());
    request
}

/// Prints the times to the first byte of many requests, which have these tokens in turn.
async fn row<S, R>(name: &str, article: &str, mut service: S, tokens: &[HeaderValue])
where
    S: Service<Request<Full<Bytes>>, Response = Response<R>, Error = Infallible>,
    R: Body<Data = Bytes> + Unpin,
{
    let mut times = Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("good bounds");
    for number in 0..WARM_UP + REQUESTS {
        let request = request(&tokens[number % tokens.len()]);
        let begin = Instant::now();
        let mut answer = service
            .call(request)
            .await
            .unwrap_or_else(|never| match never {});
        let first = answer.body_mut().frame().await;
        let passed = begin.elapsed();
        assert!(first.is_some_and(|frame| frame.is_ok()));
        if number >= WARM_UP {
            times.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one request")]
    let micros = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
    let (p50, p99, p999) = (micros(0.5), micros(0.99), micros(0.999));
    println!("| {name} | {p50:.2} | {p99:.2} | {p999:.2} | {article} |");
}

fn by_token(head: &http::request::Parts) -> Option<u64> {
    head.headers.get(AUTHORIZATION).map(gush_middleware::key_of)
}

fn describe(head: &http::request::Parts) -> Opened {
    Opened {
        peer: "203.0.113.7".to_owned(),
        topics: vec![head.uri.path().to_owned()],
        ..Opened::default()
    }
}

fn token(number: u32) -> Result<HeaderValue, Box<dyn std::error::Error>> {
    let claims = serde_json::json!({ "sub": number.to_string(), "exp": 4_000_000_000_u64 });
    Ok(HeaderValue::try_from(format!(
        "Bearer {}",
        auth::sign(&claims, KEY, None)?
    ))?)
}

struct Layers {
    gate: GateLayer,
    keyed: KeyedGateLayer,
    bucket: BucketLayer,
    window: WindowLayer,
    auth: AuthLayer<()>,
    body: BodyLimitLayer,
    breaker: BreakerLayer,
    log: StreamLogLayer,
    guard: PanicGuardLayer,
}

impl Layers {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let second = Duration::from_secs(1);
        let limit = WindowLimit::new(u32::MAX, 10 * second);
        let per_client = KeyedGate::new(Some(10));
        let keys = KeyRing::<()>::load("subscriber", KEY, None)?;
        let log = StreamLog::start(io::sink(), LogFormat::Json, 65_536)?;
        Ok(Self {
            gate: GateLayer::new(Gate::new(10), Pacer::new(PacerSettings::per_second(50.0))),
            keyed: KeyedGateLayer::new(per_client, Arc::new(by_token), second),
            bucket: BucketLayer::new(Arc::new(TokenBucket::new(Rate::new(1e9, u32::MAX)))),
            window: WindowLayer::new(limit, 1000, Arc::new(by_token)),
            auth: AuthLayer::new(Arc::new(keys)),
            body: BodyLimitLayer::new(1024),
            breaker: BreakerLayer::new(Breaker::new(BreakerSettings::default())),
            log: StreamLogLayer::new(Arc::new(log), Arc::new(describe)),
            guard: PanicGuardLayer::new(Arc::new(PanicGuard::new())),
        })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // More than the cache of checked tokens holds: a subscriber comes once, a publisher often.
    let tokens = (0..10_000).map(token).collect::<Result<Vec<_>, _>>()?;
    let known = &tokens[..1];
    let layers = Layers::new()?;
    println!("| layer | p50 us | p99 us | p99.9 us | the article |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    row("nothing", "", OneEvent, known).await;
    row("connection gate", "", layers.gate.layer(OneEvent), known).await;
    row("gate by client", "", layers.keyed.layer(OneEvent), known).await;
    row("token bucket", "", layers.bucket.layer(OneEvent), known).await;
    row(
        "sliding window",
        "10 ms",
        layers.window.layer(OneEvent),
        known,
    )
    .await;
    row(
        "JWT, new each time",
        "15 ms",
        layers.auth.layer(OneEvent),
        &tokens,
    )
    .await;
    row("JWT, known", "", layers.auth.layer(OneEvent), known).await;
    row("body limit", "", layers.body.layer(OneEvent), known).await;
    row("breaker", "", layers.breaker.layer(OneEvent), known).await;
    row("stream log", "5 ms", layers.log.layer(OneEvent), known).await;
    row("panic guard", "", layers.guard.layer(OneEvent), known).await;
    let chain = layers.log.layer(layers.guard.layer(OneEvent));
    let chain = layers.auth.layer(layers.breaker.layer(chain));
    let chain = layers.window.layer(layers.body.layer(chain));
    let chain = layers.keyed.layer(layers.bucket.layer(chain));
    let chain = layers.gate.layer(chain);
    row("all, new tokens", "30 ms", chain.clone(), &tokens).await;
    row("all, a known token", "", chain, known).await;
    Ok(())
}
