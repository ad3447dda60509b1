//! The head of the answer to a subscribe.

use memchr::memmem;

/// Longest head that is read; longer ones count as a refusal.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// What matters of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Whether the body is in chunked transfer coding.
    pub is_chunked: bool,
    /// Length of the body, when the head says it.
    pub content_length: Option<u64>,
    /// Whether the server closes the connection after the answer.
    pub is_last: bool,
    /// Why the body is not read as a stream, if that is so.
    pub unread: Option<Unread>,
    /// Bytes of the head, with the empty line.
    pub length: usize,
}

/// What a body is where it is no stream for an event source that asked for no compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Its type is told, and is another one.
    OtherType,
    /// It is compressed.
    Encoded,
}

/// What the bytes read so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole head.
    Head(Head),
    /// The begin of one.
    Partial,
    /// No answer of HTTP/1.
    Broken,
}

impl Head {
    /// Why no stream begins here for an event source, if that is so.
    pub fn refusal(&self) -> Option<String> {
        if self.status != 200 {
            let status = self.status;
            return Some(format!("a subscribe was answered with status {status}"));
        }
        let text = match self.unread? {
            Unread::OtherType => {
                "a subscribe was answered with another type than text/event-stream"
            }
            Unread::Encoded => "a stream is compressed, which it was not asked to be",
        };
        Some(text.into())
    }
}

/// Reads a head from the begin of `bytes`. What comes before it and is no answer ("100 Continue",
/// "103 Early Hints") counts as a part of it.
pub fn parse(bytes: &[u8]) -> Parsed {
    let mut begin = 0;
    loop {
        match parse_one(&bytes[begin..]) {
            // 101 is one: the connection speaks something else from then on.
            Parsed::Head(head) if head.status < 200 && head.status != 101 => begin += head.length,
            Parsed::Head(head) => {
                let length = begin + head.length;
                return Parsed::Head(Head { length, ..head });
            }
            other => return other,
        }
    }
}

fn parse_one(bytes: &[u8]) -> Parsed {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
        let is_over = bytes.len() >= HEAD_BYTES_MAX;
        return if is_over {
            Parsed::Broken
        } else {
            Parsed::Partial
        };
    };
    let mut lines = bytes[..end].split(|&byte| byte == b'\n');
    let Some(status) = lines.next().and_then(status_of) else {
        return Parsed::Broken;
    };
    let mut head = Head {
        status,
        is_chunked: false,
        content_length: None,
        is_last: bytes.starts_with(b"HTTP/1.0"),
        unread: None,
        length: end + 4,
    };
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else {
            continue;
        };
        let value = line[colon + 1..].trim_ascii();
        let name = &line[..colon];
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            head.is_chunked = value.to_ascii_lowercase().ends_with(b"chunked");
        } else if name.eq_ignore_ascii_case(b"content-length") {
            head.content_length = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
        } else if name.eq_ignore_ascii_case(b"content-type") {
            let kind = value.split(|&byte| byte == b';').next().unwrap_or(value);
            let kind = kind.trim_ascii();
            if !kind.eq_ignore_ascii_case(b"text/event-stream") {
                head.unread = Some(Unread::OtherType);
            }
        } else if name.eq_ignore_ascii_case(b"content-encoding") {
            if !value.eq_ignore_ascii_case(b"identity") {
                head.unread = Some(Unread::Encoded);
            }
        } else if name.eq_ignore_ascii_case(b"connection") {
            head.is_last |= value.eq_ignore_ascii_case(b"close");
        }
    }
    Parsed::Head(head)
}

/// The code in `HTTP/1.1 200 OK`.
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\n";
        for end in 0..text.len() - 3 {
            assert_eq!(parse(&text[..end]), Parsed::Partial);
        }
        let Parsed::Head(head) = parse(text) else {
            panic!("whole")
        };
        assert_eq!(
            (head.status, head.is_chunked, head.is_last),
            (200, true, false)
        );
        assert_eq!(&text[head.length..], b"3\r\n");
    }

    #[test]
    fn a_length_and_a_close_are_seen() {
        let text = b"HTTP/1.1 503 Busy\r\ncontent-length: 12\r\nConnection: close\r\n\r\n";
        let Parsed::Head(head) = parse(text) else {
            panic!("whole")
        };
        assert_eq!((head.status, head.content_length), (503, Some(12)));
        assert!(head.is_last);
    }

    #[test]
    fn hints_before_the_answer_belong_to_its_head() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n\
                     HTTP/1.1 200 OK\r\n\r\nbody";
        assert_eq!(parse(&text[..30]), Parsed::Partial);
        let Parsed::Head(head) = parse(text) else {
            panic!("whole")
        };
        assert_eq!((head.status, &text[head.length..]), (200, &b"body"[..]));
    }

    #[test]
    fn what_no_event_source_reads_is_refused() {
        let refusal = |fields: &str| match parse(format!("HTTP/1.1 {fields}\r\n\r\n").as_bytes()) {
            Parsed::Head(head) => head.refusal(),
            other => panic!("{other:?}"),
        };
        for taken in [
            "200 OK",
            "200 OK\r\nContent-Type: Text/Event-Stream ; charset=utf-8",
            "200 OK\r\nContent-Encoding: identity",
        ] {
            assert_eq!(refusal(taken), None, "{taken}");
        }
        for (refused, word) in [
            ("204 No Content", "204"),
            ("301 Moved\r\nContent-Type: text/event-stream", "301"),
            ("101 Switching Protocols", "101"),
            ("200 OK\r\nContent-Type: text/html", "type"),
            ("200 OK\r\nContent-Encoding: gzip", "compressed"),
        ] {
            let text = refusal(refused).unwrap_or_default();
            assert!(text.contains(word), "{refused}: {text}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), Parsed::Broken);
        assert_eq!(parse(&vec![b'a'; HEAD_BYTES_MAX]), Parsed::Broken);
    }
}
