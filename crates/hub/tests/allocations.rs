//! What the data path takes from the heap, counted: nothing for a delivery, nothing on a shard's
//! thread at all once it has seen its load, nothing for an event between its draft and the window,
//! and a known number for the publish request that brings it.
#![expect(unsafe_code, reason = "decision record 0021")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use gush_hub::matcher_table::MatcherTable;
use gush_hub::topic::Matcher;
use gush_hub::window::Window;
use gush_log::{Conflation, DiskConfig, DiskLog, Draft, Log, MemoryConfig, MemoryLog, Sync};
use gush_testkit::{CertificateFiles, write_certificate};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

#[path = "support/hub.rs"]
mod support;

use support::{KEY, hub};

/// The system's allocator, with counts for each thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Threads counted, more than this process has; any above share the last place.
const THREADS: usize = 256;

static COUNTS: [Counts; THREADS] = [const { Counts::new() }; THREADS];
static THREADS_SEEN: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Counts {
    thread: AtomicI32,
    taken: AtomicU64,
    given_back: AtomicU64,
    /// Bytes taken and not given back by the same thread.
    bytes: AtomicU64,
}

impl Counts {
    const fn new() -> Self {
        Self {
            thread: AtomicI32::new(0),
            taken: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// Those of the calling thread. Takes nothing from the heap, so an allocator may call it.
    fn mine() -> &'static Self {
        thread_local! {
            static PLACE: Cell<usize> = const { Cell::new(usize::MAX) };
        }
        // While a thread ends its locals may be gone.
        let place = PLACE.try_with(|place| {
            if place.get() == usize::MAX {
                place.set(THREADS_SEEN.fetch_add(1, Relaxed).min(THREADS - 1));
                let thread = rustix::thread::gettid().as_raw_nonzero().get();
                COUNTS[place.get()].thread.store(thread, Relaxed);
            }
            place.get()
        });
        &COUNTS[place.unwrap_or(THREADS - 1)]
    }

    fn take(&self, bytes: usize) {
        self.taken.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.given_back.fetch_add(1, Relaxed);
        self.bytes.fetch_sub(bytes as u64, Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator as it came; counting takes no memory and
// touches atomics only.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promises are those the system's allocator asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counts::mine().take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as above.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Counts::mine().take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    // SAFETY: as above.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counts::mine().give_back(layout.size());
        Counts::mine().take(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    // SAFETY: as above.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        Counts::mine().give_back(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often the threads whose name begins so have taken from the heap, and given back.
fn taken_by(name: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for counts in &COUNTS[..THREADS_SEEN.load(Relaxed).min(THREADS)] {
        let thread = counts.thread.load(Relaxed);
        let comm = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        if comm.is_ok_and(|comm| comm.starts_with(name)) {
            sum.0 += counts.taken.load(Relaxed);
            sum.1 += counts.given_back.load(Relaxed);
        }
    }
    sum
}

/// Bytes that the threads whose names begin with one of these have taken and not given back. What
/// one of them takes another may give back, so only the sum means something.
fn bytes_of(names: &[&str]) -> u64 {
    let mut sum = 0_u64;
    for counts in &COUNTS[..THREADS_SEEN.load(Relaxed).min(THREADS)] {
        let thread = counts.thread.load(Relaxed);
        let comm = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
        if comm.is_ok_and(|comm| names.iter().any(|name| comm.starts_with(name))) {
            sum = sum.wrapping_add(counts.bytes.load(Relaxed));
        }
    }
    sum
}

/// How often this thread takes from the heap while `work` runs, and the bytes it then holds more.
fn taken_here(work: impl FnOnce()) -> (u64, i64) {
    let mine = Counts::mine();
    let (taken, bytes) = (mine.taken.load(Relaxed), mine.bytes.load(Relaxed));
    work();
    let bytes = mine.bytes.load(Relaxed).wrapping_sub(bytes);
    (mine.taken.load(Relaxed) - taken, bytes.cast_signed())
}

/// How often a plain publish takes from the heap, from its first byte to its answer: two header
/// values, the list of the form's fields, its decoded topic, the list of its topics; then what the
/// log keeps as the event: the list of topics, the topic, the data.
const PUBLISH_TAKINGS_MAX: u64 = 8;

/// So that the log and the window have seen their load soon.
const FEW_EVENTS: &[(&str, &str)] = &[("retention_events", "1000"), ("window_events", "500")];

/// Far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// One end of a connection, with TLS around it or without.
trait Connection: Read + Write {}
impl<C: Read + Write> Connection for C {}
type Reader = BufReader<Box<dyn Connection>>;

fn connect(address: SocketAddr) -> Reader {
    BufReader::new(Box::new(socket(address)))
}

fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// Reads up to and with the line that begins so.
fn read_to(reader: &mut Reader, start: &str) {
    let mut line = String::new();
    while !line.starts_with(start) {
        line.clear();
        let count = reader.read_line(&mut line).expect("bytes");
        assert_ne!(count, 0, "the hub closed before {start:?}");
    }
}

fn subscribe(address: SocketAddr, topic: &str) -> Reader {
    subscribed(connect(address), topic, "")
}

/// Subscribes on this connection, with these lines more in the head.
fn subscribed(mut reader: Reader, topic: &str, lines: &str) -> Reader {
    let target = format!("/.well-known/mercure?topic={topic}");
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
    let socket = reader.get_mut();
    socket.write_all(request.as_bytes()).expect("a request");
    read_to(&mut reader, ":\n");
    reader
}

struct Publisher {
    connection: Reader,
    token: String,
    /// Fields of each event behind its topic and data.
    fields: &'static str,
    count: usize,
}

impl Publisher {
    fn new(address: SocketAddr) -> Self {
        Self::on(connect(address), "")
    }

    fn on(connection: Reader, fields: &'static str) -> Self {
        let claims = serde_json::json!({ "mercure": { "publish": ["*"] } });
        Self {
            connection,
            token: gush_hub::keys::sign(&claims, KEY, None).expect("a token"),
            fields,
            count: 0,
        }
    }

    /// Publishes events, each once everybody has had the last one.
    fn publish(&mut self, count: usize, subscribers: &mut [Reader]) {
        for _ in 0..count {
            self.count += 1;
            let body = format!(
                "topic=%2Fbooks%2F1&data={:0>200}{}",
                self.count, self.fields
            );
            let request = format!(
                "POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
                self.token,
                body.len()
            );
            let socket = self.connection.get_mut();
            socket.write_all(request.as_bytes()).expect("a request");
            self.read_answer();
            let data = format!("data: {:0>200}", self.count);
            for subscriber in &mut *subscribers {
                read_to(subscriber, &data);
            }
        }
    }

    fn read_answer(&mut self) {
        read_to(&mut self.connection, "HTTP/1.1 200");
        let mut line = String::new();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            self.connection.read_line(&mut line).expect("a header");
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut id = vec![0; length];
        self.connection.read_exact(&mut id).expect("an id");
    }
}

/// Held by the tests with a hub: threads of two hubs have the same names.
static HUB: Mutex<()> = Mutex::new(());

#[test]
fn a_shard_takes_nothing_for_events_and_deliveries() {
    let _alone = HUB.lock().unwrap_or_else(PoisonError::into_inner);
    let address = hub(FEW_EVENTS);
    let topics = ["%2Fbooks%2F1", "%2Fbooks%2F%7Bid%7D", "*", "%7B%2Brest%7D"];
    let topics = topics.iter().cycle().take(100);
    let mut subscribers: Vec<_> = topics.map(|topic| subscribe(address, topic)).collect();
    let mut publisher = Publisher::new(address);
    // Until log and window are full and everything has the size it needs.
    publisher.publish(1500, &mut subscribers);
    let before = (taken_by("shard-0"), taken_by("http"));
    publisher.publish(1000, &mut subscribers);
    let after = (taken_by("shard-0"), taken_by("http"));
    let shard = (after.0.0 - before.0.0, after.0.1 - before.0.1);
    let http = (after.1.0 - before.1.0, after.1.1 - before.1.1);
    println!(
        "1,000 events to 100 subscribers: taken {} times and given back {} times by the shard's \
         thread, {} and {} by those of HTTP",
        shard.0, shard.1, http.0, http.1
    );
    assert_eq!(shard, (0, 0));
    // Timers and connections have a few of their own.
    assert!(http.0 <= 1000 * PUBLISH_TAKINGS_MAX + 100, "{}", http.0);
}

/// Private events to those who may have them, each under TLS and by a selector of its own kind.
/// What the cipher of a write takes inside aws-lc is not seen here (decision 0023).
#[test]
fn a_shard_takes_nothing_for_private_events_under_tls() {
    let _alone = HUB.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let files = write_certificate(directory.path(), "hub.example").expect("a certificate");
    let path = |path: &Path| path.display().to_string();
    let (certificate, key) = (path(&files.certificate), path(&files.key));
    let options = [
        ("tls_cert", &*certificate),
        ("tls_key", &*key),
        ("subscriber_key", KEY),
    ];
    let address = hub(&[FEW_EVENTS, &options].concat());
    let client = client_of(&files);
    let connect = || {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection = ClientConnection::new(Arc::clone(&client), name).expect("a client");
        let stream = StreamOwned::new(connection, socket(address));
        Reader::new(Box::new(stream))
    };
    let selectors = ["/books/1", "/books/{id}", "*", "{+rest}"];
    let mut subscribers = Vec::new();
    for selector in selectors.iter().cycle().take(40) {
        let claims = serde_json::json!({ "mercure": { "subscribe": [selector] } });
        let token = gush_hub::keys::sign(&claims, KEY, None).expect("a token");
        let line = format!("Authorization: Bearer {token}\r\n");
        subscribers.push(subscribed(connect(), "%2Fbooks%2F1", &line));
    }
    let mut publisher = Publisher::on(connect(), "&private=on");
    publisher.publish(1500, &mut subscribers);
    let before = taken_by("shard-0");
    publisher.publish(500, &mut subscribers);
    let after = taken_by("shard-0");
    assert_eq!((after.0 - before.0, after.1 - before.1), (0, 0));
}

/// One that trusts this certificate.
fn client_of(files: &CertificateFiles) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(&files.certificate).expect("just written");
    roots.add(certificate).expect("a good certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("they fit the provider")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// What a hub holds after crowds of streams and half-open connections have left is a bounded rest,
/// however many there were: less than an eighth of what one crowd takes.
#[test]
fn what_a_crowd_took_is_given_back() {
    const CROWD: usize = 400;
    /// Maps of addresses and queues between threads, which keep their size.
    const KEPT_BYTES: u64 = 8 << 10;
    let _alone = HUB.lock().unwrap_or_else(PoisonError::into_inner);
    let address = hub(FEW_EVENTS);
    let held = || bytes_of(&["shard-0", "http", "stream-log"]);
    let wait_until = |most: u64| {
        let begin = Instant::now();
        while held() > most {
            assert!(begin.elapsed() < PATIENCE, "{} bytes, not {most}", held());
            std::thread::park_timeout(Duration::from_millis(10));
        }
    };
    // Its answer shows that all threads have begun: what they take for that is not the crowd's.
    drop(subscribe(address, "%2F0"));
    let before = steady(held);
    for round in 0..6 {
        let crowd: Vec<_> = (0..CROWD)
            .map(|number| subscribe(address, &format!("%2F{}", number % 7)))
            .collect();
        let taken = held().saturating_sub(before);
        assert!(taken > 8 * KEPT_BYTES, "{taken} bytes");
        let half_open: Vec<_> = (0..50).map(|_| connect(address)).collect();
        for mut connection in half_open {
            let begun = connection.get_mut().write_all(b"GET /.well-known/merc");
            begun.expect("half a head");
        }
        drop(crowd);
        wait_until(before + KEPT_BYTES);
        println!(
            "crowd {round}: {taken} bytes taken, {} kept of {before}",
            held()
        );
    }
}

/// What it is once it has not changed for twenty looks.
fn steady(held: impl Fn() -> u64) -> u64 {
    let (mut last, mut same) = (held(), 0);
    while same < 20 {
        std::thread::park_timeout(Duration::from_millis(10));
        let now = held();
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    last
}

fn drafts(count: usize) -> Vec<Draft> {
    let draft = |i| Draft {
        topics: Box::new([gush_sse::Topic::parse("/books/1").expect("a topic")]),
        is_private: false,
        id: None,
        kind: None,
        retry_ms: None,
        conflation: Conflation::default(),
        data: format!("{i:0>200}").into(),
    };
    (0..count).map(draft).collect()
}

fn window_of(log: &dyn Log) -> Arc<Window> {
    let next = log.bounds().next;
    Arc::new(Window::new(next, 1 << 30, 250, Vec::new()))
}

#[test]
fn an_event_takes_nothing_on_its_way_to_the_window() {
    let log = MemoryLog::new(MemoryConfig {
        bytes_max: 1 << 30,
        events_max: 500,
    });
    log.set_tail(window_of(&log));
    let append = |drafts: Vec<Draft>| {
        for draft in drafts {
            log.append(draft, Box::new(|outcome| assert!(outcome.is_ok())));
        }
    };
    append(drafts(1000));
    let ready = drafts(1000);
    let (taken, _) = taken_here(|| append(ready));
    println!("1,000 events from a draft into log and window: taken {taken} times");
    // Each event takes the place of the one that it pushes out, in the log as in the window. The
    // frames come from the window's pool, which may start a block.
    assert!(taken <= 4, "{taken}");
}

#[test]
fn an_event_on_a_disk_takes_nothing_on_its_way_to_the_window() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = DiskConfig {
        sync: Sync::Off,
        ..DiskConfig::default()
    };
    let (log, _) = DiskLog::open(dir.path(), config).expect("opens");
    log.set_tail(window_of(&log));
    let append = |drafts: Vec<Draft>| {
        let (tell, told) = mpsc::sync_channel(1);
        log.append_batch(drafts, Box::new(move |outcomes| drop(tell.send(outcomes))));
        let outcomes = told.recv_timeout(PATIENCE).expect("an answer");
        assert!(outcomes.iter().all(Result::is_ok));
    };
    for _ in 0..10 {
        append(drafts(1000));
    }
    let ready = drafts(1000);
    let before = taken_by("gush-log").0;
    let (taken, _) = taken_here(|| append(ready));
    let by_log = taken_by("gush-log").0 - before;
    println!(
        "1,000 events onto a disk and into the window: taken {taken} times by the publisher's \
         thread and {by_log} times by the log's"
    );
    // For the batch as a whole, and for an index that grows.
    assert!(taken + by_log <= 32, "{taken} and {by_log}");
}

#[test]
fn a_matcher_takes_few_bytes_and_matching_none() {
    let matchers = |text: &dyn Fn(usize) -> String| -> Vec<Matcher> {
        let matcher = |i| Matcher::parse(&text(i)).expect("within the bounds");
        (0..100_000).map(matcher).collect()
    };
    let exact = matchers(&|i| format!("https://example.com/books/{i:06}"));
    let templates = matchers(&|i| format!("https://example.com/{{a}}/{i:06}/{{b}}"));
    let mut table = MatcherTable::default();
    for (kind, matchers, bytes_max) in [("exact", exact, 64), ("template", templates, 200)] {
        let (taken, bytes) = taken_here(|| {
            for matcher in &matchers {
                table.intern(matcher);
            }
        });
        let bytes = bytes.unsigned_abs() / matchers.len() as u64;
        println!("{kind}: {bytes} bytes in the table for each, taken {taken} times for all");
        assert!(bytes <= bytes_max, "{kind}: {bytes}");
    }
    let mut out = Vec::with_capacity(100);
    let topics = [
        "https://example.com/books/000777",
        "https://example.com/a/000777/b",
    ];
    table.matching(topics.into_iter(), &mut out);
    let (taken, _) = taken_here(|| {
        for _ in 0..1000 {
            out.clear();
            table.matching(topics.into_iter(), &mut out);
        }
    });
    assert_eq!((taken, out.len()), (0, 2));
}
