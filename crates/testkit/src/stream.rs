//! A subscription as a test sees it.

use crate::failure::clip;
use crate::http::BodyState;
use crate::{
    Connection, Deadline, Failure, Head, Outcome, PATIENCE, Request, SseEvent, SseItem, SseParser,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

/// How much of the start of a stream is kept for [`SseStream::start`], in bytes.
const START_KEPT: usize = 4096;

/// An open event stream. Dropping it closes the connection.
#[derive(Debug)]
pub struct SseStream {
    connection: Connection,
    head: Head,
    body: BodyState,
    parser: SseParser,
    waiting: VecDeque<SseItem>,
    start: Vec<u8>,
    retry: Option<u64>,
    retries: u64,
    comments: u64,
    ended: bool,
    /// The first event has been handed out.
    opened: bool,
}

impl SseStream {
    /// Sends `request` on a new connection and expects a stream: 200 and `text/event-stream`.
    pub fn open(address: SocketAddr, request: &Request) -> Outcome<Self> {
        let mut connection = Connection::open(address)?;
        connection.send_request(request)?;
        Self::answered(connection)
    }

    /// The same on a connection whose request has been sent.
    pub fn answered(mut connection: Connection) -> Outcome<Self> {
        let deadline = Deadline::after(PATIENCE);
        let head = connection.read_head(deadline)?;
        let mut body = BodyState::of(&head, false);
        let stream = head
            .header("content-type")
            .is_some_and(|v| v.starts_with("text/event-stream"));
        if head.status != 200 || !stream {
            let mut text = Vec::new();
            while let Ok(Some(piece)) = connection.read_body(&mut body, deadline) {
                text.extend_from_slice(&piece);
                if text.len() > START_KEPT {
                    break;
                }
            }
            let got = format!(
                "{}\n{}",
                head.raw.trim_end(),
                String::from_utf8_lossy(&text)
            );
            return Failure::mismatch("subscribe", "200 text/event-stream", got);
        }
        Ok(Self {
            connection,
            head,
            body,
            parser: SseParser::default(),
            waiting: VecDeque::new(),
            start: Vec::new(),
            retry: None,
            retries: 0,
            comments: 0,
            ended: false,
            opened: false,
        })
    }

    /// The answer's head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The first bytes of the body that have been read, at most 4 KiB.
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// The last `retry` seen, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// How many `retry` lines came so far: one when the stream begins, one more when the hub ends
    /// it in good order.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// How many comment lines came so far.
    pub fn comments(&self) -> u64 {
        self.comments
    }

    /// The connection, for tests that treat it badly.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The next item of any kind; `None` when the hub ended the stream.
    pub fn next_item(&mut self, deadline: Deadline) -> Outcome<Option<SseItem>> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                let mut item = item;
                if let SseItem::Event(event) = &mut item
                    && !std::mem::replace(&mut self.opened, true)
                {
                    drop_opening_retry(event);
                }
                match &item {
                    SseItem::Retry(retry) => {
                        self.retry = Some(*retry);
                        self.retries += 1;
                    }
                    SseItem::Comment(_) => self.comments += 1,
                    SseItem::Event(_) | SseItem::Undispatched(_) => {}
                }
                return Ok(Some(item));
            }
            if self.ended {
                return Ok(None);
            }
            self.read_more(deadline)?;
        }
    }

    fn read_more(&mut self, deadline: Deadline) -> Outcome<()> {
        let Some(piece) = self.connection.read_body(&mut self.body, deadline)? else {
            self.ended = true;
            return Ok(());
        };
        let room = START_KEPT.saturating_sub(self.start.len()).min(piece.len());
        self.start.extend_from_slice(&piece[..room]);
        let mut items = Vec::new();
        self.parser.feed(&piece, &mut items);
        self.waiting.extend(items);
        Ok(())
    }

    /// The next event, within [`PATIENCE`]; comments and retry lines are passed over.
    pub fn next_event(&mut self) -> Outcome<SseEvent> {
        self.next_event_within(PATIENCE)
    }

    /// The next event, with an own time limit.
    pub fn next_event_within(&mut self, wait: Duration) -> Outcome<SseEvent> {
        let deadline = Deadline::after(wait);
        loop {
            match self
                .next_item(deadline)
                .map_err(|f| f.within("waiting for an event"))?
            {
                Some(SseItem::Event(event)) => return Ok(event),
                Some(_) => {}
                None => {
                    return Err(Failure::new(
                        "the hub ended the stream; an event was expected",
                    ));
                }
            }
        }
    }

    /// Expects the next event to have this data, and returns it.
    pub fn expect_data(&mut self, data: &str) -> Outcome<SseEvent> {
        let event = self
            .next_event()
            .map_err(|f| f.within(format!("expecting data {:?}", clip(data))))?;
        if event.data == data {
            return Ok(event);
        }
        Failure::mismatch(
            "next event's data",
            format!("{data:?}"),
            format!("{event:?}"),
        )
    }

    /// Expects the next events to be exactly these, by data.
    pub fn expect_all(&mut self, data: &[&str]) -> Outcome<()> {
        for expected in data {
            self.expect_data(expected)?;
        }
        Ok(())
    }

    /// Reads to the end of the stream and returns the events that came before it.
    pub fn read_to_end(&mut self, wait: Duration) -> Outcome<Vec<SseEvent>> {
        let deadline = Deadline::after(wait);
        let mut events = Vec::new();
        while let Some(item) = self
            .next_item(deadline)
            .map_err(|f| f.within("waiting for the stream's end"))?
        {
            if let SseItem::Event(event) = item {
                events.push(event);
            }
        }
        Ok(events)
    }
}

/// Takes off a `retry` line that opens the first block of a stream. A hub that sends its own
/// `retry` at once cannot close the block (some clients would dispatch an empty event), so the
/// first event's lines follow it. It is still reported as [`SseItem::Retry`].
fn drop_opening_retry(event: &mut SseEvent) {
    if event
        .lines
        .first()
        .is_some_and(|line| line.starts_with("retry:"))
    {
        event.lines.remove(0);
        if !event.lines.iter().any(|line| line.starts_with("retry:")) {
            event.retry = None;
        }
    }
}
