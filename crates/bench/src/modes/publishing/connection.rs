//! One publisher's connection: at most one request on its way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::answer::{Answer, Line};
use super::{Lane, Load};
use crate::clock::now_ns;
use crate::stamp::Stamp;

/// Longest wait for a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that got its answer.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) due_ns: u64,
    pub(super) acknowledged: u64,
    /// Ids of the acknowledged events, in order; empty where the answer holds none.
    pub(super) ids: Vec<String>,
    pub(super) error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Connection {
    number: u32,
    lane: Lane,
    socket: Option<TcpStream>,
    /// The request, and how much of it is written.
    request: Vec<u8>,
    written: usize,
    answer: Answer,
    /// Events of the request on its way; 0 is none.
    events: u32,
    due_ns: u64,
}

impl Connection {
    pub(super) fn new(number: u32) -> Self {
        Self {
            number,
            lane: Lane::default(),
            socket: None,
            request: vec![],
            written: 0,
            answer: Answer::default(),
            events: 0,
            due_ns: 0,
        }
    }

    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<&TcpStream> {
        let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        Ok(self.socket.insert(socket))
    }

    pub(super) fn is_connected(&self) -> bool {
        self.socket.is_some()
    }

    /// Whether a request is on its way.
    pub(super) fn is_busy(&self) -> bool {
        self.events > 0
    }

    /// Puts the next request together; the events' stamps say now.
    pub(super) fn begin(&mut self, load: &Load<'_>, due_ns: u64, events: u32) {
        self.request.clear();
        self.answer.clear();
        self.written = 0;
        (self.due_ns, self.events) = (due_ns, events);
        let first = self.lane.sent;
        self.lane.sent += events;
        let sent_ns = if load.rate.is_some() {
            due_ns
        } else {
            now_ns()
        };
        let group = self.number;
        let stamps = (first..first + events).map(|sequence| Stamp {
            group,
            sequence,
            sent_ns,
        });
        if load.batch == 0 {
            let mut data = String::with_capacity(load.size);
            stamps.for_each(|stamp| stamp.push_data(load.size, &mut data));
            load.target
                .push_publish_request(load.topic, &data, &mut self.request);
            return;
        }
        let topic = serde_json::Value::from(load.topic).to_string();
        let mut lines = String::with_capacity(events as usize * (load.size + topic.len() + 24));
        for stamp in stamps {
            lines.push_str("{\"topic\":");
            lines.push_str(&topic);
            lines.push_str(",\"data\":\"");
            // A stamp and its padding hold nothing that JSON escapes.
            stamp.push_data(load.size, &mut lines);
            lines.push_str("\"}\n");
        }
        load.target
            .push_batch_request(load.topic, lines.as_bytes(), &mut self.request);
    }

    /// Writes as much of the request as the socket takes.
    pub(super) fn write(&mut self) -> io::Result<()> {
        let Some(socket) = &mut self.socket else {
            return Err(ErrorKind::NotConnected.into());
        };
        while self.written < self.request.len() {
            match socket.write(&self.request[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(length) => self.written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The answer may be there all the same, and says more than the broken pipe.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there; the outcome, when the answer is whole.
    pub(super) fn read(
        &mut self,
        is_batch: bool,
        buffer: &mut [u8],
    ) -> io::Result<Option<Settled>> {
        while let Some(socket) = &mut self.socket {
            match socket.read(buffer) {
                Ok(0) if self.answer.end() => {
                    self.socket = None;
                    return Ok(Some(self.settle(is_batch)));
                }
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    if self.answer.feed(&buffer[..length])? {
                        // An answer before the whole request: what is left of it is in the way.
                        if self.answer.is_last() || self.written < self.request.len() {
                            self.socket = None;
                        }
                        return Ok(Some(self.settle(is_batch)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::NotConnected.into())
    }

    /// What the answer says about each event of the request.
    fn settle(&mut self, is_batch: bool) -> Settled {
        let mut settled = Settled {
            due_ns: self.due_ns,
            ..Settled::default()
        };
        let first = self.lane.sent - self.events;
        let events = std::mem::take(&mut self.events);
        let status = self.answer.status();
        let is_taken = (200..300).contains(&status);
        if !is_taken {
            self.lane.refused.extend(first..first + events);
            let text = self.answer.text();
            settled.error = Some(format!(
                "a publish was answered with status {status}: {text}"
            ));
            return settled;
        }
        if !is_batch {
            settled.acknowledged = u64::from(events);
            settled.ids.push(self.answer.text());
            return settled;
        }
        let mut answered = 0;
        for (sequence, line) in (first..first + events).zip(self.answer.lines()) {
            answered += 1;
            match line {
                Line::Id(id) => {
                    settled.acknowledged += 1;
                    settled.ids.push(id);
                }
                Line::Error(text) => {
                    self.lane.refused.push(sequence);
                    settled.error.get_or_insert(text);
                }
            }
        }
        if answered < events {
            self.lane.unknown.extend(first + answered..first + events);
            let text = || format!("a batch of {events} got an answer of {answered} lines");
            settled.error.get_or_insert_with(text);
        }
        settled
    }

    /// The request gets no answer any more.
    pub(super) fn give_up(&mut self) {
        let events = std::mem::take(&mut self.events);
        let first = self.lane.sent - events;
        self.lane.unknown.extend(first..first + events);
        self.socket = None;
    }

    /// Lets go of a socket that the server closed while nothing was asked of it.
    pub(super) fn forget_if_closed(&mut self) {
        let mut byte = [0];
        let peeked = self.socket.as_ref().map(|socket| socket.peek(&mut byte));
        let is_open = match peeked {
            Some(Err(error)) => error.kind() == ErrorKind::WouldBlock,
            Some(Ok(length)) => length > 0,
            None => false,
        };
        if !is_open {
            self.socket = None;
        }
    }

    pub(super) fn take_lane(&mut self) -> (u32, Lane) {
        self.give_up();
        (self.number, std::mem::take(&mut self.lane))
    }
}
