//! Takes a body out of its framing, piece by piece: chunks, a length that the head told, or the end
//! of the connection.
//!
//! Keeps 8 bytes and copies nothing, so the framing may be split anywhere.

use super::head::Head;

/// From here on a chunk's size takes no further digit: nobody reads so far.
const CHUNK_BYTES_MAX: u32 = 1 << 28;

/// Where in the framing the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// There is no body yet.
    #[default]
    Nowhere,
    /// In data until the connection ends.
    Raw,
    /// In the digits of a chunk's size.
    Size,
    /// After the size, before its line feed.
    Extension,
    /// In a chunk.
    Data,
    /// In a body whose length the head told.
    Length,
    /// In the line end after a chunk.
    Tail,
    /// After the body, or where the framing is broken.
    End,
}

/// The framing of one body between two reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framing {
    /// Bytes left of what `at` says; the size so far while it is read.
    remaining: u32,
    has_digits: bool,
    at: At,
}

impl Framing {
    /// A body in chunked transfer coding, or one that the end of the connection ends.
    pub(crate) fn new(is_chunked: bool) -> Self {
        Self {
            at: if is_chunked { At::Size } else { At::Raw },
            ..Self::default()
        }
    }

    /// At the begin of the body after `head`.
    pub(crate) fn of(head: &Head) -> Self {
        let mut framing = Self::new(head.is_chunked);
        // A length of gigabytes says as little as none: nobody reads so far.
        let length = head.content_length.and_then(|n| u32::try_from(n).ok());
        if let Some(length) = length.filter(|_| !head.is_chunked) {
            (framing.at, framing.remaining) = (At::Length, length);
        }
        framing
    }

    /// Whether there has been a head, and so a body.
    pub(crate) fn is_begun(self) -> bool {
        self.at != At::Nowhere
    }

    /// Whether the body has ended, or its framing is broken.
    pub(crate) fn is_over(self) -> bool {
        self.at == At::End
    }

    /// Hands the data in `bytes` to `take`. What comes behind the end belongs to no body. Whether
    /// the body is over.
    #[inline]
    pub(crate) fn feed(&mut self, mut bytes: &[u8], take: &mut impl FnMut(&[u8])) -> bool {
        while !bytes.is_empty() {
            match self.at {
                At::Raw => {
                    take(bytes);
                    break;
                }
                At::Data | At::Length => {
                    let length = bytes.len().min(self.remaining as usize);
                    let (data, rest) = bytes.split_at(length);
                    take(data);
                    bytes = rest;
                    self.remaining -= u32::try_from(length).unwrap_or(self.remaining);
                    self.at = match (self.remaining, self.at) {
                        (0, At::Data) => At::Tail,
                        (0, _) => At::End,
                        (_, at) => at,
                    };
                }
                At::Nowhere | At::End => break,
                At::Size | At::Extension | At::Tail => {
                    self.at = self.after(bytes[0]);
                    bytes = &bytes[1..];
                }
            }
        }
        if self.at == At::Length && self.remaining == 0 {
            self.at = At::End;
        }
        self.is_over()
    }

    /// Where a byte leads that is not of the data.
    fn after(&mut self, byte: u8) -> At {
        match (self.at, byte) {
            (At::Tail, b'\r') => At::Tail,
            (At::Tail, b'\n') => {
                self.has_digits = false;
                At::Size
            }
            (At::Size | At::Extension, b'\n') if self.has_digits => match self.remaining {
                0 => At::End,
                _ => At::Data,
            },
            (At::Size, b'\r' | b';' | b' ' | b'\t') | (At::Extension, _) => At::Extension,
            (At::Size, byte) => self.size_digit(byte),
            _ => At::End,
        }
    }

    fn size_digit(&mut self, byte: u8) -> At {
        match char::from(byte).to_digit(16) {
            Some(digit) if self.remaining < CHUNK_BYTES_MAX => {
                self.remaining = self.remaining << 4 | digit;
                self.has_digits = true;
                At::Size
            }
            _ => At::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{self, Parsed};
    use super::*;

    /// The data of `bytes` in pieces of one length, and whether the body is over.
    fn taken(mut framing: Framing, bytes: &[u8], length: usize) -> (Vec<u8>, bool) {
        let mut data = Vec::new();
        for piece in bytes.chunks(length) {
            framing.feed(piece, &mut |part| data.extend_from_slice(part));
        }
        (data, framing.is_over())
    }

    #[test]
    fn a_chunk_may_have_extensions() {
        let text = b"3;name=value\r\nabc\r\n2 ;x=\"y\" \r\nde\r\n0;last\r\n\r\n";
        for length in 1..=text.len() {
            let (data, is_over) = taken(Framing::new(true), text, length);
            assert_eq!(data, b"abcde", "in pieces of {length}");
            assert!(is_over);
        }
    }

    #[test]
    fn a_body_ends_at_the_length_that_was_told() {
        for (told, expected) in [(0, ""), (3, "abc"), (9, "abcdef")] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {told}\r\n\r\n");
            let Parsed::Head(head) = head::parse(head.as_bytes()) else {
                panic!("whole")
            };
            let (data, is_over) = taken(Framing::of(&head), b"abcdef", 2);
            assert_eq!(data, expected.as_bytes());
            assert_eq!(is_over, told < 9);
            // Nothing has to come for a body of nothing to be over.
            assert_eq!(Framing::of(&head).feed(b"", &mut |_| ()), told == 0);
        }
    }

    #[test]
    fn broken_framing_ends_the_body() {
        for text in [&b"x\r\n"[..], b"123456789\r\n", b"1\r\nab"] {
            assert!(taken(Framing::new(true), text, text.len()).1, "{text:?}");
        }
        // A line without digits goes on: what follows decides.
        assert!(!taken(Framing::new(true), b"\r\n", 2).1);
    }
}
