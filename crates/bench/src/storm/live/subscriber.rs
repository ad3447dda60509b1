//! One subscriber: what it is told, and which events it has had.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gush_sse::{Item, Parser};

use crate::engine::head::Head;
use crate::stamp::StampScanner;

/// Larger events are none of ours.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No socket: it waits for its next attempt, or has given up.
    Away,
    Connecting,
    Head,
    Open,
}

/// What is kept of one.
pub(super) struct Subscriber {
    pub(super) socket: Option<OwnedFd>,
    pub(super) state: State,
    /// Failed attempts in a row.
    pub(super) failures: u32,
    /// The server's last `retry:`.
    pub(super) told: Option<Duration>,
    /// The `retry:` with which the stream has come so far: nothing followed it.
    pub(super) last_words: Option<Duration>,
    /// Attempts so far; each has a source of its own.
    pub(super) attempts: u32,
    pub(super) began_ns: u64,
    /// A head that came in pieces.
    pub(super) head: Vec<u8>,
    pub(super) last_id: String,
    /// The sequence number that comes next.
    pub(super) next: u32,
    pub(super) doubled: u64,
    chunks: Chunks,
    parser: Option<Parser>,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self {
            socket: None,
            state: State::Away,
            failures: 0,
            told: None,
            last_words: None,
            attempts: 0,
            began_ns: 0,
            head: Vec::new(),
            last_id: String::new(),
            next: 0,
            doubled: 0,
            chunks: Chunks::default(),
            parser: None,
        }
    }
}

/// Where in the chunked framing the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Chunks {
    /// Not chunked.
    #[default]
    Raw,
    /// In the line with a chunk's size; the digits so far.
    Size(usize),
    /// So many bytes of a chunk are left.
    Data(usize),
    /// In the line end after a chunk.
    Tail,
    /// The body is over.
    End,
}

impl Subscriber {
    /// A body begins.
    pub(super) fn begin(&mut self, head: &Head) {
        self.chunks = if head.is_chunked {
            Chunks::Size(0)
        } else {
            Chunks::Raw
        };
        self.parser = Some(Parser::new(EVENT_BYTES_MAX));
        self.last_words = None;
    }

    /// Takes bytes of the body; whether it is over. Events that were passed over are counted in
    /// `missed`.
    pub(super) fn body(&mut self, mut bytes: &[u8], missed: &mut HashMap<u32, u64>) -> bool {
        while !bytes.is_empty() {
            match self.chunks {
                Chunks::Raw => {
                    self.text(bytes, missed);
                    return false;
                }
                Chunks::End => return true,
                Chunks::Data(left) => {
                    let (data, rest) = bytes.split_at(left.min(bytes.len()));
                    self.text(data, missed);
                    bytes = rest;
                    self.chunks = match left - data.len() {
                        0 => Chunks::Tail,
                        left => Chunks::Data(left),
                    };
                }
                Chunks::Size(size) => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    self.chunks = match (char::from(byte).to_digit(16), byte) {
                        (Some(digit), _) if size < 1 << 24 => {
                            Chunks::Size(size << 4 | digit as usize)
                        }
                        (_, b'\r') => Chunks::Size(size),
                        (_, b'\n') if size > 0 => Chunks::Data(size),
                        _ => Chunks::End,
                    };
                }
                Chunks::Tail => {
                    if bytes[0] == b'\n' {
                        self.chunks = Chunks::Size(0);
                    }
                    bytes = &bytes[1..];
                }
            }
        }
        self.chunks == Chunks::End
    }

    fn text(&mut self, bytes: &[u8], missed: &mut HashMap<u32, u64>) {
        let Some(parser) = &mut self.parser else {
            return;
        };
        let (told, next, doubled) = (&mut self.told, &mut self.next, &mut self.doubled);
        let last_words = &mut self.last_words;
        // What cannot be read any more shows as events that did not come.
        let _ = parser.push_items(bytes, &mut |item| match item {
            Item::Retry(millis) => {
                *told = Some(Duration::from_millis(millis));
                *last_words = *told;
            }
            Item::Comment(_) => *last_words = None,
            Item::Event(event) => {
                *last_words = None;
                let stamp = StampScanner::default().feed(event.data.as_bytes());
                let Some(sequence) = stamp.map(|stamp| stamp.sequence) else {
                    return;
                };
                if sequence < *next {
                    *doubled += 1;
                    return;
                }
                for missing in *next..sequence {
                    *missed.entry(missing).or_default() += 1;
                }
                *next = sequence + 1;
            }
        });
        let id = parser.last_event_id();
        if !id.is_empty() && id != self.last_id {
            id.clone_into(&mut self.last_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stamp::Stamp;

    fn event(sequence: u32) -> String {
        let mut data = String::new();
        let stamp = Stamp {
            sequence,
            ..Stamp::default()
        };
        stamp.push_data(64, &mut data);
        format!("id: i{sequence}\ndata: {data}\n\n")
    }

    #[test]
    fn what_was_missed_and_doubled_is_counted_however_it_is_cut() {
        let text: String = [":\nretry: 700\n".to_owned(), event(0), event(3), event(3)].concat();
        let framed = format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        for size in [1, 7, framed.len()] {
            let (mut one, mut missed) = (Subscriber::default(), HashMap::new());
            one.begin(&Head {
                unread: None,
                status: 200,
                is_chunked: true,
                content_length: None,
                is_last: false,
                length: 0,
            });
            let pieces = framed.as_bytes().chunks(size);
            let ends: Vec<bool> = pieces.map(|piece| one.body(piece, &mut missed)).collect();
            assert_eq!(ends.last(), Some(&true));
            assert_eq!((one.next, one.doubled, one.last_id.as_str()), (4, 1, "i3"));
            assert_eq!(one.told, Some(Duration::from_millis(700)));
            assert_eq!(missed, HashMap::from([(1, 1), (2, 1)]));
        }
    }
}
