//! An axum service that streams events through every layer of `gush-middleware`.
//!
//! cargo run -p gush-middleware --example axum-service
//! curl -N -H "Authorization: Bearer $TOKEN" localhost:8080/clock
//! where TOKEN is from: gush token --key "a secret of 32 characters or more"
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::response::sse::{Event, Sse};
use axum::{Router, routing::get};
use futures_util::stream::{self, Stream};
use gush_middleware::auth::KeyRing;
use gush_middleware::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const KEY: &str = "a secret of 32 characters or more";

async fn clock() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::unfold(0, async |seconds| {
        tokio::time::sleep(SECOND * u32::from(seconds > 0)).await;
        Some((Ok(Event::default().data(seconds.to_string())), seconds + 1))
    }))
}

fn address(head: &Parts) -> Option<u64> {
    let peer = head.extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(AddressKey::of(peer.ip()).as_u64())
}

fn describe(head: &Parts) -> Opened {
    let mut opened = Opened::default();
    opened.topics.push(head.uri.path().to_owned());
    opened
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pacer = Pacer::new(PacerSettings::per_second(50.0));
    let bucket = TokenBucket::new(Rate::new(50.0, 200));
    let window = WindowLimit::new(100, 10 * SECOND);
    let per_client = KeyedGate::new(Some(100));
    let keys = KeyRing::<()>::load("subscriber", KEY, None)?;
    let log = StreamLog::start(std::io::stderr(), LogFormat::Json, 8192)?;
    let service = Router::new()
        .route("/clock", get(clock)) // The layer that comes last sees a request first.
        .layer(PanicGuardLayer::new(Arc::new(PanicGuard::new())))
        .layer(StreamLogLayer::new(Arc::new(log), Arc::new(describe)))
        .layer(BreakerLayer::new(Breaker::new(BreakerSettings::default())))
        .layer(AuthLayer::new(Arc::new(keys)))
        .layer(BodyLimitLayer::new(64 * 1024))
        .layer(WindowLayer::new(window, 100_000, Arc::new(address)))
        .layer(BucketLayer::new(Arc::new(bucket)))
        .layer(KeyedGateLayer::new(per_client, Arc::new(address), SECOND))
        .layer(GateLayer::new(Gate::new(10_000), pacer))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, service).await?)
}
