//! A subscribe that panics before it has a stream, at the listener itself.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::accept::{Listener, accept};
use crate::config::{Refusals, Settings};
use crate::publish_batch::tests::hub;
use crate::request::Door;
use crate::upgrade::Moving;

/// The query whose subscribe panics.
const FAULTY_QUERY: &str = "topic=faulty";

pub(super) fn strike(query: &str) {
    assert_ne!(query, FAULTY_QUERY, "on purpose, in a subscribe");
}

/// The end of a head that the fast path takes.
const PLAIN: &str = "\r\n";

/// A listener of this hub, and what keeps it open.
async fn listen(hub: &Arc<Hub>) -> (std::net::SocketAddr, impl Sized) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let (stop, stopped) = watch::channel(false);
    let (moving, moves) = watch::channel(Moving::No);
    let listener = Listener {
        hub: Arc::clone(hub),
        door: Door::Public,
        tls: None,
        stop: stopped.clone(),
        end: stopped,
        moving: moves,
    };
    tokio::spawn(accept(listener, socket));
    (address, (stop, moving))
}

fn set(hub: &Hub, refusals: Refusals) {
    let mut settings = Settings {
        anonymous: true,
        ..Settings::default()
    };
    settings.overload.refusals = refusals;
    hub.policy
        .store(Policy::new(settings).expect("valid settings"));
}

/// All that the hub answers before it closes.
async fn ask(address: std::net::SocketAddr, accept: &str, rest: &str) -> String {
    let mut wire = TcpStream::connect(address).await.expect("a listener");
    let request = format!(
        "GET /.well-known/mercure?{FAULTY_QUERY} HTTP/1.1\r\nHost: h\r\nAccept: {accept}\r\n\
         Connection: close\r\n{rest}"
    );
    wire.write_all(request.as_bytes()).await.expect("open");
    let mut answer = String::new();
    wire.read_to_string(&mut answer).await.expect("text");
    answer
}

#[tokio::test]
async fn an_event_source_survives_a_subscribe_that_panics() {
    let hub = hub();
    set(&hub, Refusals::Soft);
    let (address, _open) = listen(&hub).await;
    // What has a body is hyper's, also where it is empty.
    for rest in [PLAIN, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let soft = ask(address, "text/event-stream", rest).await;
        assert!(soft.starts_with("HTTP/1.1 200 OK\r\n"), "{soft}");
        let (_, retry) = soft.split_once("\r\n\r\nretry: ").expect("a delay");
        let retry: u64 = retry.trim_end().parse().expect("a number");
        assert!((1_000..=2_000).contains(&retry), "{soft}");
    }
    let program = ask(address, "*/*", PLAIN).await;
    assert!(program.starts_with("HTTP/1.1 500 "), "{program}");
    assert!(program.contains("application/problem+json"), "{program}");
    assert!(
        !program.contains("on purpose"),
        "for the operator: {program}"
    );
    set(&hub, Refusals::Hard);
    let hard = ask(address, "text/event-stream", PLAIN).await;
    assert!(hard.starts_with("HTTP/1.1 500 "), "{hard}");
    assert!(
        hard.to_ascii_lowercase().contains("\r\nretry-after: "),
        "{hard}"
    );
    assert_eq!(hub.metrics.panics.request.caught(), 4);
}
