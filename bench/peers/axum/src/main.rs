//! The usual answer in Rust: axum's `Sse` for each subscriber, fed by a tokio broadcast channel per
//! topic.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

/// Events a subscriber may be behind before it loses some: far more than the bench keeps in flight.
const CAPACITY: usize = 1024;

type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<Arc<str>>>>>;

#[derive(serde::Deserialize)]
struct Address {
    topic: String,
}

fn sender(topics: &Topics, topic: String) -> broadcast::Sender<Arc<str>> {
    let mut topics = topics.lock().expect("no holder of the lock panics");
    topics
        .entry(topic)
        .or_insert_with(|| broadcast::channel(CAPACITY).0)
        .clone()
}

async fn subscribe(
    State(topics): State<Topics>,
    Query(address): Query<Address>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let receiver = sender(&topics, address.topic).subscribe();
    // A comment first, so that the head leaves at once as with every other server.
    let hello = tokio_stream::once(Event::default().comment(""));
    // Events that a slow subscriber has lost are skipped; the bench counts what is missing.
    let events = BroadcastStream::new(receiver).filter_map(Result::ok);
    let events = events.map(|data| Event::default().data(&*data));
    Sse::new(hello.chain(events).map(Ok)).keep_alive(KeepAlive::default())
}

async fn publish(State(topics): State<Topics>, Query(address): Query<Address>, data: String) {
    // An error says that nobody listens, which is no failure of a publish.
    let _ = sender(&topics, address.topic).send(data.into());
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_else(|| "4000".to_owned());
    let app = Router::new()
        .route("/sub", get(subscribe))
        .route("/pub", post(publish))
        .with_state(Topics::default());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    axum::serve(listener, app).await
}
