//! What an idle stream costs in user memory: the budget's arithmetic against the resident set of
//! the real binary.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use gush_hub::budget::{OWN_TOPIC_STREAM_BYTES_MAX, STREAM_BYTES, STREAM_BYTES_MAX};
use gush_testkit::HubBuilder;

/// Enough that the hub's own few pages do not show.
const STREAMS: usize = 8_000;

/// Opened before the first look, so that threads and tables have been touched once.
const WARM_UP: usize = 200;

#[test]
fn an_idle_stream_costs_what_the_budget_says() {
    let measured = measure(|_| "https://example.com/everybody".to_owned());
    eprintln!("{measured} B a stream; state {STREAM_BYTES} B; promised {STREAM_BYTES_MAX} B");
    assert!(measured <= STREAM_BYTES_MAX);
    // The state itself must be in it, or the measurement has measured nothing.
    assert!(measured >= STREAM_BYTES / 2);
}

#[test]
fn an_idle_stream_with_a_topic_of_its_own_costs_what_the_budget_says() {
    let measured = measure(|number| format!("https://example.com/users/{number}"));
    eprintln!("{measured} B a stream; promised {OWN_TOPIC_STREAM_BYTES_MAX} B");
    assert!(measured <= OWN_TOPIC_STREAM_BYTES_MAX);
}

#[test]
fn an_idle_stream_in_a_shards_own_table_costs_the_same() {
    let measured = measure_with(&["--descriptor-tables", "own"], |_| "a".to_owned());
    assert!(measured <= STREAM_BYTES_MAX);
}

/// Bytes of the resident set per stream.
fn measure(topic_of: impl Fn(usize) -> String) -> usize {
    measure_with(&[], topic_of)
}

fn measure_with(options: &[&str], topic_of: impl Fn(usize) -> String) -> usize {
    gush_hub::limits::raise_descriptors();
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush")).expect("a directory");
    for pair in options.chunks(2) {
        builder = builder.option(pair[0], pair[1]);
    }
    // Without heartbeats nothing is written while the test looks.
    let builder = builder.subscriber_key(None).anonymous();
    let hub = builder.option("--heartbeat", "off").start().expect("a hub");
    let mut streams = Vec::with_capacity(WARM_UP + STREAMS);
    open(hub.address(), &mut streams, 0..WARM_UP, &topic_of);
    let before = resident_bytes(hub.pid());
    open(
        hub.address(),
        &mut streams,
        WARM_UP..WARM_UP + STREAMS,
        &topic_of,
    );
    let after = resident_bytes(hub.pid());
    after.saturating_sub(before) / STREAMS
}

/// Opens streams a few at a time and waits for each one's head.
fn open(
    hub: SocketAddr,
    streams: &mut Vec<TcpStream>,
    numbers: std::ops::Range<usize>,
    topic_of: &impl Fn(usize) -> String,
) {
    for number in numbers {
        let mut stream = TcpStream::connect(hub).expect("connects");
        let topic = topic_of(number);
        let request =
            format!("GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: hub.example\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sends");
        let mut head = [0; 1024];
        let count = stream.read(&mut head).expect("an answer");
        assert!(head[..count].starts_with(b"HTTP/1.1 200 "), "{number}");
        streams.push(stream);
    }
}

fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("a size in KiB")
        * 1024
}
