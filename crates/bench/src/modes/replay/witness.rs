//! A stream that reads the log while it is published. The answers to publishes of another server
//! hold no ids, so this finds out which one the event at the place has.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gush_sse::Parser;

use crate::engine::framing::Framing;
use crate::engine::head::{self, Head, Parsed};
use crate::stamp::StampScanner;
use crate::{BenchError, Target};

/// Largest event that is read; the largest that can be asked for, and room for what is around it.
const EVENT_BYTES_MAX: usize = 18 << 20;
/// Time between two looks at whether anybody still waits.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;

/// The stream, until the event has come.
pub(super) struct Witness {
    thread: JoinHandle<Option<String>>,
    /// All is published: the event comes within the patience or not at all.
    is_last: Arc<AtomicBool>,
}

impl Witness {
    /// Opens a stream of `topic` that looks for event number `sequence`.
    pub(super) fn start(
        target: &Target,
        topic: &str,
        sequence: u32,
        patience: Duration,
    ) -> Result<Self, BenchError> {
        let address = target.subscribe_address();
        let failed = |error| BenchError::io(format!("read a stream of {address}"), error);
        let mut socket = TcpStream::connect_timeout(&address, patience).map_err(failed)?;
        socket.set_read_timeout(Some(patience)).map_err(failed)?;
        let request = target.subscribe_request(topic);
        socket.write_all(&request).map_err(failed)?;
        let (head, begun) = read_head(&mut socket)?;
        socket.set_read_timeout(Some(LOOK)).map_err(failed)?;
        let is_last = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_last);
        let body = move || read(socket, (&head, &begun), sequence, (&ended, patience));
        let thread = std::thread::Builder::new()
            .name("witness".into())
            .spawn(body);
        let thread = thread.map_err(|error| BenchError::io("start a reading thread", error))?;
        Ok(Self { thread, is_last })
    }

    /// The event's id, after all was published.
    pub(super) fn id(self) -> Result<String, BenchError> {
        self.is_last.store(true, Ordering::Release);
        let found = self.thread.join().ok().flatten();
        let why = match found {
            Some(id) if !id.is_empty() => return Ok(id),
            Some(_) => "the server's events have no ids: nothing can be replayed after one",
            None => "the event to resume after did not come",
        };
        Err(BenchError::Server(why.into()))
    }
}

fn read_head(socket: &mut TcpStream) -> Result<(Head, Vec<u8>), BenchError> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = socket.read(&mut buffer);
        let length = read.map_err(|error| BenchError::io("open a stream", error))?;
        bytes.extend_from_slice(&buffer[..length]);
        match head::parse(&bytes) {
            Parsed::Head(head) => {
                return match head.refusal() {
                    Some(why) => Err(BenchError::Server(why)),
                    None => Ok((head, bytes.split_off(head.length))),
                };
            }
            Parsed::Partial if length > 0 => {}
            _ => {
                let text = "a subscribe got no answer of HTTP/1";
                return Err(BenchError::Server(text.into()));
            }
        }
    }
}

/// Reads until the event has come, or will not. Its id; an empty one where it has none.
fn read(
    mut socket: TcpStream,
    (head, begun): (&Head, &[u8]),
    sequence: u32,
    (is_last, patience): (&AtomicBool, Duration),
) -> Option<String> {
    let (mut framing, mut parser) = (Framing::of(head), Parser::new(EVENT_BYTES_MAX));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut found = None;
    let mut take = |bytes: &[u8]| {
        let mut is_broken = false;
        let is_over = framing.feed(bytes, &mut |data| {
            let pushed = parser.push(data, &mut |event| {
                let stamp = StampScanner::default().feed(event.data.as_bytes());
                if stamp.is_some_and(|stamp| stamp.sequence == sequence) {
                    found.get_or_insert(event.id);
                }
            });
            is_broken |= pushed.is_err();
        });
        (is_over || is_broken, found.clone())
    };
    let (mut is_over, mut id) = take(begun);
    let mut waited_since = None;
    while !is_over && id.is_none() {
        match socket.read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => (is_over, id) = take(&buffer[..length]),
            Err(error) if is_pause(error.kind()) => {}
            Err(_) => return None,
        }
        if is_last.load(Ordering::Acquire) {
            let since = *waited_since.get_or_insert_with(Instant::now);
            is_over |= since.elapsed() > patience;
        }
    }
    id
}

fn is_pause(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
    )
}
