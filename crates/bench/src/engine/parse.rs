//! Reads a stream's body: the lines in it, the stamps in those.
//!
//! Keeps 40 bytes for each stream and copies nothing, so a frame may be split anywhere.

use memchr::memchr2;

use super::framing::Framing;
use super::head::Head;
use crate::stamp::{Stamp, StampScanner};

/// What a body is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event; with its stamp, when its data has one.
    Event(Option<Stamp>),
    /// A comment, such as a heartbeat.
    Comment,
    /// A `retry:` line. One without an event may come in place of a heartbeat.
    Retry,
    /// The server ended the body, or broke the chunked framing.
    End,
}

/// Where in a line the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Start,
    /// At the start, after a carriage return: a line feed now belongs to it.
    AfterReturn,
    /// At the begin of the body, after so many bytes of a byte order mark.
    Mark(u8),
    /// In the field name, of which so many bytes are those of `data:`.
    Name(u8),
    Data,
    Comment,
    Retry,
    Skip,
}

impl Line {
    /// Where the next byte is after a line's end, or the first byte of one.
    fn after(end: u8) -> Self {
        if end == b'\r' {
            Self::AfterReturn
        } else {
            Self::Start
        }
    }
}

const DATA: &[u8; 5] = b"data:";
/// A body may begin with it, and it belongs to no line.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The state of one body between two reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyParser {
    lines: Lines,
    framing: Framing,
}

impl BodyParser {
    /// A body in chunked transfer coding, or one that the end of the connection ends.
    #[cfg(test)]
    fn new(is_chunked: bool) -> Self {
        Self {
            lines: Lines::default(),
            framing: Framing::new(is_chunked),
        }
    }

    /// The body after `head`.
    pub fn of(head: &Head) -> Self {
        Self {
            lines: Lines::default(),
            framing: Framing::of(head),
        }
    }

    /// Whether there has been a head, and so a body.
    pub fn is_begun(&self) -> bool {
        self.framing.is_begun()
    }

    /// Takes the bytes of one read and hands what they complete to `take`.
    pub fn feed(&mut self, bytes: &[u8], take: &mut impl FnMut(Item)) {
        let Self { lines, framing } = self;
        if !framing.is_over() && framing.feed(bytes, &mut |data| lines.feed(data, take)) {
            take(Item::End);
        }
    }
}

/// The lines of a body, without its framing.
#[derive(Clone, Copy, Debug)]
struct Lines {
    scanner: StampScanner,
    line: Line,
    has_data: bool,
    stamp: bool,
}

impl Default for Lines {
    /// At the begin of the body.
    fn default() -> Self {
        Self {
            scanner: StampScanner::default(),
            line: Line::Mark(0),
            has_data: false,
            stamp: false,
        }
    }
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(Item)) {
        while let Some(&first) = bytes.first() {
            if let Line::Data | Line::Comment | Line::Retry | Line::Skip = self.line {
                let end = memchr2(b'\n', b'\r', bytes);
                let part = &bytes[..end.unwrap_or(bytes.len())];
                if self.line == Line::Data && !self.stamp {
                    // The scanner keeps the stamp itself; here only whether there is one.
                    self.stamp = self.scanner.feed(part).is_some();
                }
                let Some(end) = end else { return };
                match self.line {
                    Line::Comment => take(Item::Comment),
                    Line::Retry => take(Item::Retry),
                    _ => {}
                }
                self.line = Line::after(bytes[end]);
                bytes = &bytes[end + 1..];
                self.scanner.reset();
                continue;
            }
            bytes = &bytes[1..];
            self.name_byte(first, take);
        }
    }

    /// A byte at the start of a line or in its field name.
    fn name_byte(&mut self, byte: u8, take: &mut impl FnMut(Item)) {
        let matched = match self.line {
            Line::Name(matched) => matched,
            Line::Mark(seen) if byte == BYTE_ORDER_MARK[usize::from(seen)] => {
                self.line = match seen {
                    2 => Line::Start,
                    _ => Line::Mark(seen + 1),
                };
                return;
            }
            // A name that no field has.
            Line::Mark(1..) => {
                self.line = Line::Skip;
                return self.feed(&[byte], take);
            }
            _ => 0,
        };
        self.line = match byte {
            b'\n' if self.line == Line::AfterReturn => Line::Start,
            b'\n' | b'\r' if matched == 0 => {
                self.dispatch(take);
                Line::after(byte)
            }
            b'\n' | b'\r' => {
                // A field of that name without a value.
                self.has_data |= matched == 4;
                Line::after(byte)
            }
            b':' if matched == 0 => Line::Comment,
            byte if byte == DATA[usize::from(matched)] => {
                if matched == 4 {
                    self.has_data = true;
                    Line::Data
                } else {
                    Line::Name(matched + 1)
                }
            }
            // No other field that readers know begins so.
            b'r' if matched == 0 => Line::Retry,
            _ => Line::Skip,
        };
    }

    fn dispatch(&mut self, take: &mut impl FnMut(Item)) {
        if self.has_data {
            let stamp = self.stamp.then(|| self.scanner.last());
            take(Item::Event(stamp));
        }
        self.has_data = false;
        self.stamp = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{self, Parsed};
    use super::*;
    use proptest::prelude::*;

    fn items(parser: &mut BodyParser, pieces: &[&[u8]]) -> Vec<Item> {
        let mut items = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut |item| items.push(item));
        }
        items
    }

    fn event(sequence: u32) -> (String, Stamp) {
        let stamp = Stamp {
            group: 3,
            sequence,
            sent_ns: 0x00ab_cdef,
        };
        let mut data = String::new();
        stamp.push_data(120, &mut data);
        (format!("id: urn:uuid:1\ndata: {data}\n\n"), stamp)
    }

    #[test]
    fn a_stream_keeps_few_bytes() {
        assert!(size_of::<BodyParser>() <= 40);
    }

    #[test]
    fn events_comments_and_other_fields_are_told_apart() {
        let text = b"retry: 1\n\n:\n\n: beat\r\n\r\nevent: x\ndata: y\ndata\n\nid: 1\n\ndatax: 1\n\nretry: 2\ndata\n\n";
        let mut parser = BodyParser::new(false);
        assert_eq!(
            items(&mut parser, &[text]),
            [
                Item::Retry,
                Item::Comment,
                Item::Comment,
                Item::Event(None),
                Item::Retry,
                Item::Event(None)
            ]
        );
    }

    /// Bytes in pieces of every length up to all of them.
    fn in_all_pieces(parser: BodyParser, bytes: &[u8]) -> Vec<Vec<Item>> {
        let found = (1..=bytes.len()).map(|length| {
            let pieces: Vec<&[u8]> = bytes.chunks(length).collect();
            items(&mut parser.clone(), &pieces)
        });
        found.collect()
    }

    #[test]
    fn lines_end_with_a_return_too() {
        let (text, stamp) = event(1);
        let event = Item::Event(Some(stamp));
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("{text}: beat\nretry: 1\ndata\n\n").replace('\n', end);
            for found in in_all_pieces(BodyParser::new(false), text.as_bytes()) {
                let expected = [event, Item::Comment, Item::Retry, Item::Event(None)];
                assert_eq!(found, expected, "{end:?}");
            }
        }
        // A return, and then a return with its line feed: the second one is the empty line.
        let mixed = text.replace("\n\n", "\r\r\n");
        assert_eq!(
            in_all_pieces(BodyParser::new(false), mixed.as_bytes())[0],
            [event]
        );
    }

    #[test]
    fn a_byte_order_mark_is_of_no_line() {
        let first = ["\u{feff}data: x\n\n", "data: x\n\n", "\u{fefe}data: x\n\n"];
        for (text, count) in first.into_iter().zip([1, 1, 0]) {
            for found in in_all_pieces(BodyParser::new(false), text.as_bytes()) {
                assert_eq!(found.len(), count, "{text:?}");
            }
        }
        let later = "data: x\n\n\u{feff}data: x\n\n";
        let found = items(&mut BodyParser::new(false), &[later.as_bytes()]);
        assert_eq!(found, [Item::Event(None)]);
    }

    #[test]
    fn a_body_ends_at_the_length_that_was_told() {
        let of = |length: usize| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let Parsed::Head(head) = head::parse(head.as_bytes()) else {
                panic!("whole")
            };
            BodyParser::of(&head)
        };
        let text = b"data: x\n\ndata: y\n\n";
        for found in in_all_pieces(of(9), text) {
            assert_eq!(found, [Item::Event(None), Item::End]);
        }
        assert_eq!(items(&mut of(0), &[b""]), [Item::End]);
    }

    #[test]
    fn the_last_chunk_and_broken_framing_end_the_body() {
        for text in [&b"0\r\n\r\n"[..], b"x\r\n", b"\r\n", b"123456789\r\n"] {
            let mut parser = BodyParser::new(true);
            let found = items(&mut parser, &[text]);
            let is_ended = found == [Item::End] || found.is_empty() && text == b"\r\n";
            assert!(is_ended, "{found:?}");
        }
    }

    #[test]
    fn data_in_json_has_its_stamp_found() {
        let (_, stamp) = event(1);
        let mut data = String::new();
        stamp.push_data(100, &mut data);
        let text = format!("data:{{\"pub\":{{\"data\":\"{data}\"}}}}\n\n");
        let mut parser = BodyParser::new(false);
        assert_eq!(
            items(&mut parser, &[text.as_bytes()]),
            [Item::Event(Some(stamp))]
        );
    }

    /// Frames as `count` events in chunks that end anywhere.
    fn chunked(text: &[u8], sizes: &[usize]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        let mut sizes = sizes.iter().cycle();
        while !rest.is_empty() {
            let size = sizes.next().copied().unwrap_or(1).min(rest.len());
            let (part, after) = rest.split_at(size);
            out.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            out.extend_from_slice(part);
            out.extend_from_slice(b"\r\n");
            rest = after;
        }
        out
    }

    proptest! {
        #[test]
        fn events_are_found_however_they_are_chunked_and_split(
            count in 1u32..6,
            sizes in proptest::collection::vec(1usize..400, 1..6),
            cuts in proptest::collection::vec(1usize..200, 1..60),
            is_chunked: bool,
        ) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for sequence in 0..count {
                let (frame, stamp) = event(sequence);
                text.push_str(&frame);
                text.push_str(":\n\n");
                expected.extend([Item::Event(Some(stamp)), Item::Comment]);
            }
            let bytes = if is_chunked {
                chunked(text.as_bytes(), &sizes)
            } else {
                text.into_bytes()
            };
            let mut pieces = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let cut = cuts.next().copied().unwrap_or(1).min(rest.len());
                let (piece, after) = rest.split_at(cut);
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(items(&mut BodyParser::new(is_chunked), &pieces), expected);
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(
            pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..20),
            is_chunked: bool,
        ) {
            let mut parser = BodyParser::new(is_chunked);
            for piece in &pieces {
                parser.feed(piece, &mut |_| ());
            }
        }
    }
}
