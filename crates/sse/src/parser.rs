//! Bytes to events, in pieces as they come off a socket.

use std::fmt;

use memchr::{memchr, memchr2};

/// What a stream holds, in the order it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole event.
    Event(ParsedEvent),
    /// A `retry` line: milliseconds to wait before a reconnect. It counts as soon as it is read.
    Retry(u64),
    /// A comment line without its colon; heartbeats are empty ones.
    Comment(String),
}

/// An event as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedEvent {
    /// The last id the stream named, in this event or before; empty: none.
    pub id: String,
    /// The type; `message` when the event named none.
    pub kind: String,
    /// The payload; its lines are joined with LF.
    pub data: String,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// One event or one line is larger than the reader takes.
    TooLarge {
        /// The bound given to [`Parser::new`].
        event_bytes_max: usize,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { event_bytes_max } => {
                write!(
                    out,
                    "an event of the stream is larger than {event_bytes_max} bytes"
                )
            }
        }
    }
}

impl std::error::Error for ParseError {}

/// An incremental reader of an event stream.
///
/// Holds at most `event_bytes_max` bytes of an unfinished event and the last id.
///
/// # Source
///
/// WHATWG HTML, "Server-sent events", "Interpreting an event stream": one leading BOM is dropped,
/// lines end with LF, CR or CRLF, broken UTF-8 becomes U+FFFD, an event without a `data` line is
/// not dispatched, an unfinished event at the end of the stream is dropped.
///
/// ```
/// use gush_sse::Parser;
///
/// let mut parser = Parser::new(1 << 20);
/// let mut events = Vec::new();
/// for piece in [&b"id: 7\nda"[..], b"ta: hello\r", b"\n\n"] {
///     parser.push(piece, &mut |event| events.push(event))?;
/// }
/// assert_eq!(events[0].data, "hello");
/// assert_eq!(parser.last_event_id(), "7");
/// # Ok::<(), gush_sse::ParseError>(())
/// ```
#[derive(Debug)]
pub struct Parser {
    event_bytes_max: usize,
    /// How many bytes of a leading BOM were seen; `BOM.len()` once the stream's start is behind.
    bom_seen: usize,
    /// The last byte was CR: a following LF belongs to the same line end.
    after_cr: bool,
    /// The unfinished line.
    line: Vec<u8>,
    /// The data lines so far, each with LF after it.
    data: String,
    kind: String,
    /// The id of the unfinished event; it counts only once a blank line is read.
    id: String,
    last_event_id: String,
    retry_ms: Option<u64>,
    comments: u64,
    failed: Option<ParseError>,
}

const BOM: [u8; 3] = [0xef, 0xbb, 0xbf];

impl Parser {
    /// A reader at the start of a stream. `event_bytes_max` bounds one event (type, id and data
    /// together with the line being read), inclusive.
    #[must_use]
    pub const fn new(event_bytes_max: usize) -> Self {
        Self {
            event_bytes_max,
            bom_seen: 0,
            after_cr: false,
            line: Vec::new(),
            data: String::new(),
            kind: String::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry_ms: None,
            comments: 0,
            failed: None,
        }
    }

    /// Reads on; calls `on_event` for each event that is complete with these bytes.
    ///
    /// # Errors
    ///
    /// [`ParseError`]; every later call returns it again.
    pub fn push(
        &mut self,
        bytes: &[u8],
        on_event: &mut impl FnMut(ParsedEvent),
    ) -> Result<(), ParseError> {
        self.push_items(bytes, &mut |item| {
            if let Item::Event(event) = item {
                on_event(event);
            }
        })
    }

    /// As [`Self::push`], and hands out comments and `retry` lines too.
    ///
    /// # Errors
    ///
    /// [`ParseError`]; every later call returns it again.
    pub fn push_items(
        &mut self,
        bytes: &[u8],
        on_item: &mut impl FnMut(Item),
    ) -> Result<(), ParseError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.read(bytes, on_item);
        self.failed = result.err();
        result
    }

    /// The id to reconnect with: of the last finished block that named one. Empty: none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The last `retry` line's milliseconds.
    #[must_use]
    pub const fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// How many comment lines were read: a heartbeat moves it.
    #[must_use]
    pub const fn comments(&self) -> u64 {
        self.comments
    }

    fn read(&mut self, bytes: &[u8], on_item: &mut impl FnMut(Item)) -> Result<(), ParseError> {
        let mut rest = self.skip_bom(bytes)?;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                return self.keep(rest);
            };
            self.after_cr = rest[end] == b'\r';
            let (line, after) = (&rest[..end], &rest[end + 1..]);
            if self.line.is_empty() {
                // The usual case: a whole line in one piece is not copied.
                self.check_size(line.len())?;
                self.take_line(line, on_item);
            } else {
                self.keep(line)?;
                let mut whole = std::mem::take(&mut self.line);
                self.take_line(&whole, on_item);
                whole.clear();
                self.line = whole;
            }
            rest = after;
        }
        Ok(())
    }

    /// Drops one BOM at the start of the stream, also when it comes in pieces.
    fn skip_bom<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], ParseError> {
        let mut rest = bytes;
        while self.bom_seen < BOM.len() {
            let Some((first, after)) = rest.split_first() else {
                return Ok(rest);
            };
            if *first != BOM[self.bom_seen] {
                // What looked like a BOM is the start of the first line.
                let seen = std::mem::replace(&mut self.bom_seen, BOM.len());
                self.keep(&BOM[..seen])?;
                return Ok(rest);
            }
            self.bom_seen += 1;
            rest = after;
        }
        Ok(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.check_size(self.line.len() + bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn check_size(&self, line_bytes: usize) -> Result<(), ParseError> {
        let held = self.data.len() + self.kind.len() + self.id.len();
        if held + line_bytes > self.event_bytes_max {
            return Err(ParseError::TooLarge {
                event_bytes_max: self.event_bytes_max,
            });
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], on_item: &mut impl FnMut(Item)) {
        if line.is_empty() {
            self.finish_block(on_item);
            return;
        }
        let (name, value) = match memchr(b':', line) {
            Some(0) => {
                self.comments += 1;
                on_item(Item::Comment(
                    String::from_utf8_lossy(&line[1..]).into_owned(),
                ));
                return;
            }
            Some(colon) => {
                let value = &line[colon + 1..];
                (&line[..colon], value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                self.data.push_str(&String::from_utf8_lossy(value));
                self.data.push('\n');
            }
            b"event" => {
                self.kind.clear();
                self.kind.push_str(&String::from_utf8_lossy(value));
            }
            b"id" if memchr(0, value).is_none() => {
                self.id.clear();
                self.id.push_str(&String::from_utf8_lossy(value));
            }
            b"retry" if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let retry_ms = value.iter().fold(0_u64, |number, digit| {
                    number
                        .saturating_mul(10)
                        .saturating_add(u64::from(digit - b'0'))
                });
                self.retry_ms = Some(retry_ms);
                on_item(Item::Retry(retry_ms));
            }
            // Unknown fields are ignored, as are ids with NUL and a retry that is no number.
            _ => {}
        }
    }

    fn finish_block(&mut self, on_item: &mut impl FnMut(Item)) {
        if self.last_event_id != self.id {
            self.last_event_id.clone_from(&self.id);
        }
        let mut kind = std::mem::take(&mut self.kind);
        if self.data.is_empty() {
            return;
        }
        let mut data = std::mem::take(&mut self.data);
        // The LF after the last line is not part of the data.
        data.pop();
        if kind.is_empty() {
            kind.push_str("message");
        }
        on_item(Item::Event(ParsedEvent {
            id: self.last_event_id.clone(),
            kind,
            data,
        }));
    }
}

#[cfg(test)]
mod tests;
