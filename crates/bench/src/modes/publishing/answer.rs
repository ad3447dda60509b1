//! The answer to a publish: read whole, then asked for its ids.

use std::io;

use memchr::{memchr, memmem};

use crate::engine::head::{self, Head, Parsed};

/// Longest answer that is read: the ids of a batch of some hundred thousand events.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An answer that is being read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    head: Option<Head>,
    /// Body without its chunked framing.
    body: Vec<u8>,
    /// Place in `bytes` from which the framing is not yet read.
    framed: usize,
}

/// What a line of a batch's answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Id(String),
    Error(String),
}

impl Answer {
    /// Takes what was read; whether the answer is whole now.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.bytes.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err(io::Error::other("the answer to a publish is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        if self.head.is_none() {
            match head::parse(&self.bytes) {
                Parsed::Head(head) => {
                    self.framed = head.length;
                    self.head = Some(head);
                }
                Parsed::Partial => return Ok(false),
                Parsed::Broken => return Err(io::Error::other("the answer is not HTTP/1")),
            }
        }
        let Some(head) = self.head else {
            return Ok(false);
        };
        if head.is_chunked {
            return self.chunks();
        }
        match head.content_length {
            Some(length) => Ok((self.bytes.len() - head.length) as u64 >= length),
            None => Ok(head.status == 204 || head.status == 304),
        }
    }

    /// The connection ended: whether that ends the answer, too.
    pub(super) fn end(&self) -> bool {
        self.head
            .is_some_and(|head| !head.is_chunked && head.content_length.is_none())
    }

    /// Takes the chunks that are whole; whether the last one is among them.
    fn chunks(&mut self) -> io::Result<bool> {
        loop {
            let rest = &self.bytes[self.framed..];
            let Some(end) = memchr(b'\n', rest) else {
                return Ok(false);
            };
            let size = rest[..end].trim_ascii().split(|byte| *byte == b';').next();
            let size = size.and_then(|size| std::str::from_utf8(size).ok());
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.filter(|size| *size <= ANSWER_BYTES_MAX);
            let size = size.ok_or_else(|| io::Error::other("a chunk without a size"))?;
            // The chunk, and the line end after it.
            let Some(chunk) = rest.get(end + 1..end + 1 + size + 2) else {
                return Ok(false);
            };
            self.body.extend_from_slice(&chunk[..size]);
            self.framed += end + 1 + size + 2;
            if size == 0 {
                return Ok(true);
            }
        }
    }

    /// Whether the server closes the connection.
    pub(super) fn is_last(&self) -> bool {
        self.head.is_none_or(|head| head.is_last)
    }

    pub(super) fn status(&self) -> u16 {
        self.head.map_or(0, |head| head.status)
    }

    /// The body as text, without blanks at the ends.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.raw()).trim().to_owned()
    }

    fn raw(&self) -> &[u8] {
        match self.head {
            Some(head) if !head.is_chunked => &self.bytes[head.length..],
            _ => &self.body,
        }
    }

    /// The lines of a batch's answer: one for each event, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line> {
        let lines = self.raw().split(|byte| *byte == b'\n');
        let lines = lines
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty());
        lines.map(|line| match member(line, b"\"id\"") {
            Some(id) => Line::Id(id),
            None => Line::Error(String::from_utf8_lossy(line).into_owned()),
        })
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.body.clear();
        self.head = None;
        self.framed = 0;
    }
}

/// The text after a name in a flat object. Ids hold no escapes: they are compared, not read.
fn member(line: &[u8], name: &[u8]) -> Option<String> {
    let after = &line[memmem::find(line, name)? + name.len()..];
    let begin = memchr(b'"', after)? + 1;
    if after[..begin - 1].trim_ascii() != b":" {
        return None;
    }
    let end = memchr(b'"', &after[begin..])?;
    Some(String::from_utf8_lossy(&after[begin..begin + end]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str, piece: usize) -> Answer {
        let mut answer = Answer::default();
        let mut is_whole = false;
        for bytes in text.as_bytes().chunks(piece) {
            assert!(!is_whole, "whole before its end");
            is_whole = answer.feed(bytes).unwrap();
        }
        assert!(is_whole);
        answer
    }

    #[test]
    fn answers_end_by_length_by_chunk_or_without_a_body() {
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nid-1";
        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                      2\r\nid\r\n2;x=y\r\n-1\r\n0\r\n\r\n";
        let before = format!("HTTP/1.1 100 Continue\r\n\r\n{length}");
        for text in [length, chunks, &before] {
            for piece in [1, 7, 1000] {
                assert_eq!(whole(text, piece).text(), "id-1");
            }
        }
        assert_eq!(whole("HTTP/1.1 204 No Content\r\n\r\n", 1).status(), 204);
    }

    #[test]
    fn an_answer_may_end_with_its_connection() {
        let mut answer = Answer::default();
        assert!(!answer.feed(b"HTTP/1.0 200 OK\r\n\r\nid").unwrap());
        assert!(answer.end() && answer.is_last());
        assert_eq!(answer.text(), "id");
    }

    #[test]
    fn a_batch_is_answered_line_by_line() {
        let body = "{\"id\":\"a\"}\n{\"error\":\"no\",\"status\":400}\r\n{ \"id\" : \"b\" }\n";
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let lines: Vec<Line> = whole(&text, 5).lines().collect();
        assert_eq!(lines[0], Line::Id("a".into()));
        assert!(matches!(&lines[1], Line::Error(text) if text.contains("400")));
        assert_eq!(lines[2], Line::Id("b".into()));
    }

    #[test]
    fn broken_answers_are_errors() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for text in [
            "SSH-2.0\r\n\r\n".to_owned(),
            format!("{chunked}x\r\n"),
            format!("{chunked}\n"),
        ] {
            assert!(Answer::default().feed(text.as_bytes()).is_err(), "{text}");
        }
    }
}
