//! What an idle stream costs in user memory: the budget's arithmetic against the resident set of
//! the real binary.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;

use gush_hub::budget::{OWN_TOPIC_STREAM_BYTES_MAX, STREAM_BYTES, STREAM_BYTES_MAX};
use gush_testkit::{HubBuilder, PATIENCE, eventually, write_certificate};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Enough that the hub's own few pages do not show.
const STREAMS: usize = 8_000;

/// What the arithmetic leaves out, at most: what the allocator adds, and pages that are touched
/// once, over this many streams. So little that 200 bytes more for a stream are seen.
const UNCOUNTED_BYTES_MAX: usize = 100;

/// What a topic of its own as short as the one here takes: its text, its entries in the tables.
const OWN_TOPIC_BYTES: usize = 340;

/// So that the promises hold with it.
const MOST: usize = STREAM_BYTES + UNCOUNTED_BYTES_MAX;
const _: () = assert!(MOST <= STREAM_BYTES_MAX);
const OWN_TOPIC_MOST: usize = MOST + OWN_TOPIC_BYTES;
const _: () = assert!(OWN_TOPIC_MOST <= OWN_TOPIC_STREAM_BYTES_MAX);

/// Opened before the first look, so that threads and tables have been touched once.
const WARM_UP: usize = 200;

#[test]
fn an_idle_stream_costs_what_the_budget_says() {
    let measured = measure(MOST, |_| "https://example.com/everybody".to_owned());
    eprintln!("{measured} B a stream; state {STREAM_BYTES} B; promised {STREAM_BYTES_MAX} B");
    assert!(measured <= MOST);
    // The state itself must be in it, or the measurement has measured nothing.
    assert!(measured >= STREAM_BYTES / 2);
}

#[test]
fn an_idle_stream_with_a_topic_of_its_own_costs_what_the_budget_says() {
    let topic_of = |number| format!("https://example.com/users/{number}");
    let measured = measure(OWN_TOPIC_MOST, topic_of);
    eprintln!("{measured} B a stream; promised {OWN_TOPIC_STREAM_BYTES_MAX} B");
    assert!(measured <= OWN_TOPIC_MOST);
}

#[test]
fn a_stream_of_a_burst_costs_no_more() {
    let measured = measure_burst(STREAM_BYTES_MAX, |_| "a".to_owned());
    eprintln!("{measured} B a stream of a burst; promised {STREAM_BYTES_MAX} B");
    assert!(measured <= STREAM_BYTES_MAX);
}

#[test]
fn a_stream_of_a_burst_with_a_topic_of_its_own_costs_no_more() {
    let topic_of = |number| format!("https://example.com/users/{number}");
    let measured = measure_burst(OWN_TOPIC_STREAM_BYTES_MAX, topic_of);
    eprintln!("{measured} B a stream of a burst; promised {OWN_TOPIC_STREAM_BYTES_MAX} B");
    assert!(measured <= OWN_TOPIC_STREAM_BYTES_MAX);
}

#[test]
fn an_idle_stream_in_a_shards_own_table_costs_the_same() {
    let options = ["--descriptor-tables", "own"];
    let measured = measure_with(&options, MOST, |_| "a".to_owned());
    assert!(measured <= MOST, "{measured}");
}

#[test]
fn an_idle_stream_under_tls_keeps_to_the_same_promise() {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush")).expect("a directory");
    let files = write_certificate(builder.directory(), "hub.example").expect("a certificate");
    let option = |builder: HubBuilder, name: &str, path: &std::path::Path| {
        builder.option(name, &path.display().to_string())
    };
    builder = option(builder, "--tls-cert", &files.certificate);
    builder = option(builder, "--tls-key", &files.key);
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(&files.certificate).expect("just written");
    roots.add(certificate).expect("a good certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("they fit the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let measured = measure_in(builder, 4_000, STREAM_BYTES_MAX, |socket, number| {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(&config), name).expect("a client");
        let mut stream = StreamOwned::new(connection, socket);
        ask(&mut stream, "a", number);
        stream
    });
    eprintln!("{measured} B a stream under TLS; promised {STREAM_BYTES_MAX} B");
    assert!(measured <= STREAM_BYTES_MAX);
}

/// What a stream of HTTP/2 may take where a hundred share a connection.
const H2_STREAM_BYTES_MAX: usize = 2_560;

/// Streams that share a connection.
const H2_STREAMS: usize = 100;

#[test]
fn an_idle_stream_of_http_2_takes_little_more_than_its_library_needs() {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush")).expect("a directory");
    let (connections, most) = (4_000 / H2_STREAMS, H2_STREAM_BYTES_MAX * H2_STREAMS);
    let measured = measure_in(builder, connections, most, |mut socket, _| {
        ask_in_http2(&mut socket);
        socket
    }) / H2_STREAMS;
    eprintln!("{measured} B a stream of HTTP/2; promised {H2_STREAM_BYTES_MAX} B");
    assert!(measured <= H2_STREAM_BYTES_MAX);
}

/// Subscribes so often on one connection, and waits for all heads.
fn ask_in_http2(socket: &mut TcpStream) {
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    };
    // GET and http from the static table, then two literals.
    let mut head = vec![0x82, 0x86];
    for (name, value) in [
        (":path", "/.well-known/mercure?topic=a"),
        (":authority", "h"),
    ] {
        head.push(0);
        for text in [name, value] {
            head.push(u8::try_from(text.len()).expect("short"));
            head.extend_from_slice(text.as_bytes());
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for number in 0..H2_STREAMS {
        let stream = u32::try_from(2 * number + 1).expect("few");
        bytes.extend(frame(1, 5, stream, &head));
    }
    socket.write_all(&bytes).expect("sends");
    let mut heads = 0;
    while heads < H2_STREAMS {
        let mut start = [0; 9];
        socket.read_exact(&mut start).expect("a frame");
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; usize::try_from(length).expect("short")];
        socket.read_exact(&mut payload).expect("a frame");
        heads += usize::from(start[3] == 1);
    }
}

/// Bytes of the resident set per stream.
fn measure(most: usize, topic_of: impl Fn(usize) -> String) -> usize {
    measure_with(&[], most, topic_of)
}

fn measure_with(options: &[&str], most: usize, topic_of: impl Fn(usize) -> String) -> usize {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush")).expect("a directory");
    for pair in options.chunks(2) {
        builder = builder.option(pair[0], pair[1]);
    }
    measure_in(builder, STREAMS, most, |mut socket, number| {
        ask(&mut socket, &topic_of(number), number);
        socket
    })
}

/// Requests of a burst that are under way at once: as many as a busy generator's, so that what
/// stays is made between what each of them needs for a moment.
const UNDER_WAY: usize = 200;

/// The same where all is opened as fast as the hub can.
fn measure_burst(most: usize, topic_of: impl Fn(usize) -> String) -> usize {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush")).expect("a directory");
    measure_opened(builder, STREAMS, most, |address, numbers| {
        let mut streams = Vec::new();
        let mut waiting = VecDeque::new();
        for number in numbers {
            if waiting.len() == UNDER_WAY {
                streams.extend(waiting.pop_front().map(answered));
            }
            let mut socket = TcpStream::connect(address).expect("connects");
            request(&mut socket, &topic_of(number));
            waiting.push_back((socket, number));
        }
        streams.extend(waiting.into_iter().map(answered));
        streams
    })
}

fn answered((mut socket, number): (TcpStream, usize)) -> TcpStream {
    expect_head(&mut socket, number);
    socket
}

/// Bytes of the resident set for each of so many connections, opened one after the other.
fn measure_in<S>(
    builder: HubBuilder,
    count: usize,
    most: usize,
    open: impl Fn(TcpStream, usize) -> S,
) -> usize {
    measure_opened(builder, count, most, |address, numbers| {
        let connect = |number| open(TcpStream::connect(address).expect("connects"), number);
        numbers.map(connect).collect()
    })
}

/// Bytes of the resident set for each of so many connections, behind some that are open already:
/// once they are at most `most`, since the hub gives back what opening took when it is calm, or
/// else when patience is at its end.
fn measure_opened<S>(
    builder: HubBuilder,
    count: usize,
    most: usize,
    open: impl Fn(SocketAddr, Range<usize>) -> Vec<S>,
) -> usize {
    gush_hub::limits::raise_descriptors();
    // Without heartbeats nothing is written while the test looks.
    let builder = builder.subscriber_key(None).anonymous();
    let hub = builder.option("--heartbeat", "off").start().expect("a hub");
    let warm_up = WARM_UP.min(count);
    let mut streams = open(hub.address(), 0..warm_up);
    let before = resident_bytes(hub.pid());
    streams.extend(open(hub.address(), warm_up..warm_up + count));
    let each = || resident_bytes(hub.pid()).saturating_sub(before) / count;
    let settled = eventually("what opening took is given back", PATIENCE, || {
        let each = each();
        Ok((each <= most).then_some(each))
    });
    let measured = settled.unwrap_or_else(|_| each());
    drop(streams);
    measured
}

/// Subscribes and waits for the answer's head.
fn ask(stream: &mut (impl Read + Write), topic: &str, number: usize) {
    request(stream, topic);
    expect_head(stream, number);
}

fn request(stream: &mut impl Write, topic: &str) {
    let request =
        format!("GET /.well-known/mercure?topic={topic} HTTP/1.1\r\nHost: hub.example\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sends");
}

fn expect_head(stream: &mut impl Read, number: usize) {
    let mut head = [0; 1024];
    let count = stream.read(&mut head).expect("an answer");
    assert!(head[..count].starts_with(b"HTTP/1.1 200 "), "{number}");
}

fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<usize>().ok())
        .expect("a size in KiB")
        * 1024
}
