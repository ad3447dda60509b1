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
    /// Bytes of the head, with the empty line.
    pub length: usize,
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

/// Reads a head from the begin of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed {
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
    fn what_is_no_answer_is_refused() {
        assert_eq!(parse(b"SSH-2.0-x\r\n\r\n"), Parsed::Broken);
        assert_eq!(parse(&vec![b'a'; HEAD_BYTES_MAX]), Parsed::Broken);
    }
}
