//! One subscriber: what it is told, and which events it has had.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use gush_sse::{Item, Parser};

use crate::engine::framing::Framing;
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
    framing: Framing,
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
            framing: Framing::default(),
            parser: None,
        }
    }
}

impl Subscriber {
    /// A body begins.
    pub(super) fn begin(&mut self, head: &Head) {
        self.framing = Framing::of(head);
        self.parser = Some(Parser::new(EVENT_BYTES_MAX));
        self.last_words = None;
    }

    /// Takes bytes of the body; whether it is over. Events that were passed over are counted in
    /// `missed`.
    pub(super) fn body(&mut self, bytes: &[u8], missed: &mut HashMap<u32, u64>) -> bool {
        let mut framing = self.framing;
        let is_over = framing.feed(bytes, &mut |data| self.text(data, missed));
        self.framing = framing;
        is_over
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
