//! A small hub that does wrong what it is told to: loses, doubles, reorders and delays deliveries,
//! refuses publishes and gives ids out twice. Plain threads, everything under one lock.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The answer to a wrong token.
const UNAUTHORIZED: &str = "HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n";
/// Longest request body that is taken.
const BODY_BYTES_MAX: usize = 64 << 20;

/// What goes wrong. Events are numbered from 1, in the order they are published, those for other
/// topics included; faults of deliveries are those of the first stream only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Not delivered to the first stream.
    pub(crate) lost: HashSet<u64>,
    /// Delivered to it twice.
    pub(crate) doubled: HashSet<u64>,
    /// Delivered to it a second time, long after the first.
    pub(crate) doubled_late: HashSet<u64>,
    /// Delivered to it after the event that follows.
    pub(crate) reordered: HashSet<u64>,
    /// How long each publish waits before it is delivered and answered.
    pub(crate) delay: Duration,
    /// The first publish that waits; those before it go at once.
    pub(crate) delays_from: u64,
    /// Answered with 503 and not delivered (in a batch: its line says so).
    pub(crate) refused: HashSet<u64>,
    /// Answered with 503 and delivered all the same.
    pub(crate) refused_and_delivered: HashSet<u64>,
    /// Answered with the id of the event before.
    pub(crate) same_id: HashSet<u64>,
    /// The connection is closed instead of an answer, after the event was delivered.
    pub(crate) unanswered: HashSet<u64>,
    /// A replay begins that many events too early.
    pub(crate) replayed_early: usize,
    /// Subscribes after this many are answered with 503.
    pub(crate) refuses_after: Option<usize>,
    /// The first stream is closed after this many deliveries to it.
    pub(crate) drops_after: Option<u64>,
    /// The token that publishes need; without one every publish is taken.
    pub(crate) token: Option<&'static str>,
    /// Bytes kept for ever of each stream that has ended.
    pub(crate) leaked_bytes: usize,
    /// Whether the sockets of streams that have ended stay open.
    pub(crate) keeps_sockets: bool,
    /// Ended streams that its metrics count as open.
    pub(crate) left_open: usize,
    /// Closed streams that its metrics have no reason for.
    pub(crate) unexplained: usize,
    /// Every stream gets the events of every topic.
    pub(crate) ignores_topics: bool,
    /// The answer to a subscribe, up to the fields' end, in place of an ordinary one.
    pub(crate) head: Option<&'static str>,
    /// What a line of a stream ends with; nothing is a line feed.
    pub(crate) line_end: Option<&'static str>,
    /// What publishes are answered with in place of an id.
    pub(crate) answer: Option<&'static str>,
    /// Connections are closed after the answer to a publish, which does not say so.
    pub(crate) closes_publishers: bool,
}

/// How long after the first a late second delivery comes.
const LATE: Duration = Duration::from_millis(150);
/// The answer to a subscribe.
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream";

#[derive(Debug, Clone)]
struct Event {
    number: u64,
    topic: String,
    frame: Vec<u8>,
}

#[derive(Debug)]
struct Stream {
    topic: String,
    socket: TcpStream,
    /// Frame that is held back until another one was sent.
    held: Option<Vec<u8>>,
    sent: u64,
    /// Which of all streams; the faults are those of number 0.
    number: usize,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    streams: Vec<Stream>,
    opened: usize,
    published: u64,
    leaked: Vec<Vec<u8>>,
    kept: Vec<TcpStream>,
}

/// The hub. It runs until the test's process ends.
#[derive(Debug)]
pub(crate) struct Mock {
    address: SocketAddr,
}

#[derive(Debug)]
struct Shared {
    faults: Faults,
    state: Mutex<State>,
}

impl Mock {
    /// Listens on a port of its own.
    pub(crate) fn start(faults: Faults) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            faults,
            state: Mutex::default(),
        });
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // A peer that goes away is no trouble for the others.
                    let _ = serve(&shared, socket);
                });
            }
        });
        Ok(Self { address })
    }

    /// Its address, which has its metrics, too.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its address as that of a Mercure hub.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/.well-known/mercure", self.address)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request has the token, where one is needed.
    fn lets_in(&self, request: &Request) -> bool {
        let needed = self.faults.token.map(|token| format!("Bearer {token}"));
        needed.is_none() || request.authorization == needed
    }
}

struct Request {
    line: String,
    last_event_id: Option<String>,
    authorization: Option<String>,
    is_batch: bool,
    body: Vec<u8>,
}

fn serve(shared: &Shared, mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut reader = BufReader::new(socket.try_clone()?);
    while let Some(request) = read_request(&mut reader)? {
        if request.line.starts_with("GET /metrics ") {
            return socket.write_all(metrics(shared).as_bytes());
        }
        if request.line.starts_with("GET ") {
            return subscribe(shared, socket, &request);
        }
        let Some(answer) = publish(shared, &request) else {
            return Ok(());
        };
        socket.write_all(answer.as_bytes())?;
        if shared.faults.closes_publishers {
            break;
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut request = Request {
        line,
        last_event_id: None,
        authorization: None,
        is_batch: false,
        body: vec![],
    };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "last-event-id" => request.last_event_id = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            "content-type" => request.is_batch = value == "application/x-ndjson",
            "content-length" => {
                let length: usize = value.parse().map_err(io::Error::other)?;
                request.body.resize(length.min(BODY_BYTES_MAX), 0);
            }
            _ => {}
        }
    }
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// Opens a stream and waits until its peer closes it.
fn subscribe(shared: &Shared, mut socket: TcpStream, request: &Request) -> io::Result<()> {
    // Anybody may subscribe, but not with a token of another key.
    if request.authorization.is_some() && !shared.lets_in(request) {
        return socket.write_all(UNAUTHORIZED.as_bytes());
    }
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    let topic = decoded(path.split("topic=").nth(1).unwrap_or_default());
    let mut state = shared.state();
    let number = state.opened;
    if shared
        .faults
        .refuses_after
        .is_some_and(|most| number >= most)
    {
        return socket.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    }
    state.opened += 1;
    let head = shared.faults.head.unwrap_or(HEAD);
    let begin = format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n:\n\n\r\n");
    socket.write_all(begin.as_bytes())?;
    let mut stream = Stream {
        number,
        topic,
        socket: socket.try_clone()?,
        held: None,
        sent: 0,
    };
    if let Some(id) = &request.last_event_id {
        let after = id
            .strip_prefix("urn:mock:")
            .and_then(|id| id.parse::<usize>().ok());
        let begin = after
            .unwrap_or(0)
            .saturating_sub(shared.faults.replayed_early);
        for event in state.events.clone().into_iter().skip(begin) {
            deliver(&shared.faults, &mut stream, &event);
        }
        // What is held back at the end of the log comes last.
        stream.flush();
    }
    state.streams.push(stream);
    drop(state);
    // Nothing is expected from the peer but its end.
    let ended = socket.read(&mut [0; 64]);
    let mut state = shared.state();
    state.streams.retain(|stream| stream.number != number);
    // Not zero: memory that nobody wrote to takes no place.
    let leaked = vec![1; shared.faults.leaked_bytes];
    state.leaked.push(leaked);
    if shared.faults.keeps_sockets {
        state.kept.push(socket);
    }
    ended.map(drop)
}

/// The metrics of a hub, as far as streams go.
fn metrics(shared: &Shared) -> String {
    let state = shared.state();
    let left_open = shared.faults.left_open.min(state.opened);
    let (opened, open) = (state.opened, state.streams.len() + left_open);
    let closed = opened.saturating_sub(open + shared.faults.unexplained);
    let page = format!(
        "gush_streams_opened_total {opened}\n\
         gush_subscribers_open{{sink=\"tcp\"}} {open}\n\
         gush_streams_closed_total{{reason=\"peer_left\"}} {closed}\n"
    );
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}",
        page.len()
    )
}

/// The answer to a publish; `None` closes the connection.
fn publish(shared: &Shared, request: &Request) -> Option<String> {
    if !shared.lets_in(request) {
        return Some(UNAUTHORIZED.to_owned());
    }
    let is_delayed = shared.state().published + 1 >= shared.faults.delays_from;
    let delay = if is_delayed {
        shared.faults.delay
    } else {
        Duration::ZERO
    };
    let until = Instant::now() + delay;
    while let Some(left) = until
        .checked_duration_since(Instant::now())
        .filter(|t| !t.is_zero())
    {
        std::thread::park_timeout(left);
    }
    let body = String::from_utf8_lossy(&request.body);
    let mut state = shared.state();
    if request.is_batch {
        let lines = body.lines().map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            match accept(shared, &mut state, &text("topic"), &text("data")) {
                Ok(id) => format!("{{\"id\":\"{id}\"}}\n"),
                Err(()) => "{\"error\":\"not now\",\"status\":503}\n".to_owned(),
            }
        });
        let lines: String = lines.collect();
        // In chunks, as a hub that answers while it reads does.
        let half = lines.len() / 2;
        let chunk = |text: &str| match text.len() {
            0 => String::new(),
            length => format!("{length:x}\r\n{text}\r\n"),
        };
        let (one, two) = (chunk(&lines[..half]), chunk(&lines[half..]));
        return Some(format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{one}{two}0\r\n\r\n"
        ));
    }
    let field = |name: &str| {
        let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.into_iter().find(|(key, _)| *key == name);
        decoded(found.map_or("", |(_, value)| value))
    };
    match accept(shared, &mut state, &field("topic"), &field("data")) {
        Ok(_) if shared.faults.unanswered.contains(&state.published) => None,
        Ok(id) => {
            let text = shared.faults.answer.unwrap_or(&id);
            let length = text.len();
            Some(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
            ))
        }
        Err(()) => Some("HTTP/1.1 503 Busy\r\nContent-Length: 7\r\n\r\nnot now".to_owned()),
    }
}

/// Takes an event and delivers it; its id, or an error when it is refused.
fn accept(shared: &Shared, state: &mut State, topic: &str, data: &str) -> Result<String, ()> {
    let faults = &shared.faults;
    state.published += 1;
    let number = state.published;
    if faults.refused.contains(&number) {
        return Err(());
    }
    let place = state.events.len() + 1;
    let place = if faults.same_id.contains(&number) {
        place - 1
    } else {
        place
    };
    let id = format!("urn:mock:{place}");
    let text = format!("id: {id}\ndata: {data}\n\n");
    let text = text.replace('\n', faults.line_end.unwrap_or("\n"));
    let event = Event {
        number,
        topic: topic.to_owned(),
        frame: format!("{:x}\r\n{text}\r\n", text.len()).into_bytes(),
    };
    for stream in &mut state.streams {
        deliver(faults, stream, &event);
    }
    state.events.push(event);
    if faults.refused_and_delivered.contains(&number) {
        Err(())
    } else {
        Ok(id)
    }
}

fn deliver(faults: &Faults, stream: &mut Stream, event: &Event) {
    let is_asked = faults.ignores_topics || matches(&stream.topic, &event.topic);
    if !is_asked || (stream.number == 0 && faults.lost.contains(&event.number)) {
        return;
    }
    if stream.number == 0 && faults.reordered.contains(&event.number) {
        stream.held = Some(event.frame.clone());
        return;
    }
    stream.send(&event.frame);
    if stream.number == 0 && faults.doubled.contains(&event.number) {
        stream.send(&event.frame);
    }
    if stream.number == 0 && faults.doubled_late.contains(&event.number) {
        stream.send_late(event.frame.clone());
    }
    stream.flush();
    if stream.number == 0 && faults.drops_after == Some(stream.sent) {
        // The peer may have closed it first.
        let _ = stream.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Stream {
    fn send(&mut self, frame: &[u8]) {
        self.sent += 1;
        // A peer that went away needs nothing any more.
        let _ = self.socket.write_all(frame);
    }

    fn send_late(&mut self, frame: Vec<u8>) {
        let Ok(mut socket) = self.socket.try_clone() else {
            return;
        };
        std::thread::spawn(move || {
            let begin = Instant::now();
            while let Some(left) = LATE.checked_sub(begin.elapsed()) {
                std::thread::park_timeout(left);
            }
            let _ = socket.write_all(&frame);
        });
    }

    fn flush(&mut self) {
        if let Some(held) = self.held.take() {
            self.send(&held);
        }
    }
}

/// Whether a subscription is for a topic: the same text, `*`, or a template that ends in one
/// variable.
fn matches(subscription: &str, topic: &str) -> bool {
    match subscription.split_once('{') {
        Some((begin, _)) => topic
            .strip_prefix(begin)
            .is_some_and(|rest| !rest.contains('/')),
        None => subscription == "*" || subscription == topic,
    }
}

fn decoded(text: &str) -> String {
    let mut out = vec![];
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut hex = || {
            bytes
                .next()
                .and_then(|byte| char::from(byte).to_digit(16))
                .unwrap_or(0)
        };
        match byte {
            b'%' => out.push(u8::try_from(hex() * 16 + hex()).unwrap_or(0)),
            b'+' => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
