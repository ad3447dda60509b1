//! Where a request of HTTP/1 ends, by its own head and chunks: hyper gets no byte of the next one
//! before that has been looked at.
//!
//! What hyper itself refuses has no end here: it closes the connection, so nothing follows.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::request::HEADERS_MAX;

/// How much of a request is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Span {
    /// So many bytes.
    Bytes(u64),
    /// So many of the head, then a body in chunks.
    Chunks(u64, Chunks),
    /// No request, or not a whole head: all that comes is hyper's, which refuses it.
    Everything,
}

impl Span {
    /// Of the request whose whole head `bytes` begin with.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Request::new(&mut lines);
        let Ok(httparse::Status::Complete(head_bytes)) = head.parse(bytes) else {
            return Self::Everything;
        };
        let head_bytes = head_bytes as u64;
        let has = |name: &http::HeaderName| {
            let mut lines = head.headers.iter();
            lines.find(|line| line.name.eq_ignore_ascii_case(name.as_str()))
        };
        if has(&TRANSFER_ENCODING).is_some() {
            return Self::Chunks(head_bytes, Chunks::Size(0));
        }
        let Some(length) = has(&CONTENT_LENGTH) else {
            return Self::Bytes(head_bytes);
        };
        let length = std::str::from_utf8(length.value).ok();
        let length = length.and_then(|length| length.parse::<u64>().ok());
        match length.and_then(|length| length.checked_add(head_bytes)) {
            Some(bytes) => Self::Bytes(bytes),
            None => Self::Everything,
        }
    }

    /// Whether all of the request has passed.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Bytes(0) | Self::Chunks(0, Chunks::End))
    }

    /// How many of the next bytes belong to the request; those have passed then.
    pub fn pass(&mut self, bytes: &[u8]) -> usize {
        match self {
            Self::Everything => bytes.len(),
            Self::Bytes(left) => pass_some(left, bytes),
            Self::Chunks(head_left, chunks) => {
                let head = pass_some(head_left, bytes);
                let mut passed = head;
                while passed < bytes.len() && *head_left == 0 {
                    match chunks.step(&bytes[passed..]) {
                        Some(0) => break,
                        Some(count) => passed += count,
                        None => {
                            *self = Self::Everything;
                            return bytes.len();
                        }
                    }
                }
                passed
            }
        }
    }
}

fn pass_some(left: &mut u64, bytes: &[u8]) -> usize {
    let count = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
    *left -= count as u64;
    count
}

/// Where in a body of chunks a reader stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// In the digits of a size.
    Size(u64),
    /// Behind them, in the line of a size.
    SizeLine(u64),
    /// In the octets of a chunk and the line end behind them.
    Octets(u64),
    /// At the begin of a trailer line, or of the empty one that ends it all.
    Line,
    /// In a trailer line.
    Trailer,
    /// Behind its CR.
    TrailerEnd,
    /// Behind the last CR.
    LastEnd,
    /// Behind it all.
    End,
}

impl Chunks {
    /// Passes the first of `bytes`, of which there is one at least; how many. None at the end of it
    /// all, `None` where hyper refuses them.
    fn step(&mut self, bytes: &[u8]) -> Option<usize> {
        let first = bytes[0];
        *self = match self {
            Self::End => return Some(0),
            Self::Octets(left) => {
                let count = pass_some(left, bytes);
                if *left == 0 {
                    *self = Self::Size(0);
                }
                return Some(count);
            }
            Self::Size(size) => match char::from(first).to_digit(16) {
                Some(digit) => Self::Size(size.checked_mul(16)?.checked_add(u64::from(digit))?),
                None if b"\r;\t ".contains(&first) => Self::SizeLine(*size),
                None => return None,
            },
            Self::SizeLine(size) => match (first, *size) {
                (b'\n', 0) => Self::Line,
                (b'\n', size) => Self::Octets(size.checked_add(2)?),
                (_, size) => Self::SizeLine(size),
            },
            Self::Line if first == b'\r' => Self::LastEnd,
            Self::Trailer if first == b'\r' => Self::TrailerEnd,
            Self::Line | Self::Trailer => Self::Trailer,
            Self::TrailerEnd => Self::Line,
            Self::LastEnd => Self::End,
        };
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of `bytes` is the request's, if they come in pieces of this size.
    fn span(bytes: &[u8], piece: usize) -> (usize, bool) {
        let mut span = Span::of(bytes);
        let mut passed = 0;
        for piece in bytes.chunks(piece) {
            let count = span.pass(piece);
            passed += count;
            if count < piece.len() {
                break;
            }
        }
        (passed, span.is_over())
    }

    #[test]
    fn a_request_ends_where_its_head_says_however_the_bytes_come() {
        let rows = [
            ("", ""),
            ("Content-Length: 0\r\n", ""),
            ("content-length: 5\r\n", "hello"),
            ("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            (
                "Transfer-Encoding: chunked\r\n",
                "5\r\nhello\r\n00A;ext=\"1\"\r\n0\r\n\r\n45678\r\n0 \r\n\r\n",
            ),
            (
                "Transfer-Encoding: CHUNKED\r\n",
                "1\r\nx\r\n0\r\nX: y\r\nZ: \r\n\r\n",
            ),
        ];
        for (lines, body) in rows {
            for end in ["\r\n", "\n"] {
                let head = format!("POST /x HTTP/1.1\r\nHost: h\r\n{lines}").replace("\r\n", end);
                let request = head + end + body;
                let both = request.clone() + "GET /healthz HTTP/1.1\r\n\r\n";
                for piece in [1, 2, 3, 7, both.len()] {
                    let got = span(both.as_bytes(), piece);
                    assert_eq!(got, (request.len(), true), "{both:?} by {piece}");
                }
                let half = &request.as_bytes()[..request.len() - 1];
                if !body.is_empty() {
                    assert_eq!(span(half, half.len()), (half.len(), false), "{request:?}");
                }
            }
        }
    }

    #[test]
    fn what_hyper_refuses_has_no_end() {
        for request in [
            "no request\r\n\r\n",
            "GET / HTTP/1.1\r\n",
            "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        ] {
            let bytes = [request.as_bytes(), b"GET /healthz HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(span(&bytes, bytes.len()), (bytes.len(), false), "{request}");
        }
    }
}
