//! Events to bytes.

use memchr::{memchr2, memchr3};

/// A heartbeat: a bare comment line, without a blank line after it, since some clients turn a
/// comment block into an empty event.
pub const HEARTBEAT: &[u8] = b":\n";

/// One event as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFields<'a> {
    /// The `event` field; `None` or empty: no such line, readers then use `message`.
    pub kind: Option<&'a str>,
    /// The `retry` field in milliseconds; `None` or 0: no such line, since 0 makes clients hammer.
    pub retry_ms: Option<u64>,
    /// The `id` field; `None`: no such line, so the reader keeps the id before. `Some("")` makes
    /// the reader forget it.
    pub id: Option<&'a str>,
    /// The payload; each LF, CR or CRLF in it starts a new `data` line.
    pub data: &'a str,
}

/// Appends one event: `event`, `retry`, `id`, the `data` lines, a blank line.
///
/// A `kind` or `id` that holds CR, LF or NUL is left out, whatever it came from: no caller can be
/// made to write a forged field. [`crate::EventId`] and [`crate::EventType`] never hold any.
///
/// Who needs the length as well takes [`Measured`], which looks at the fields once for both.
pub fn encode_event(fields: &EventFields<'_>, out: &mut Vec<u8>) {
    Measured::new(fields).append(out);
}

/// How many bytes [`encode_event`] appends, exactly. Reads the data once.
#[must_use]
pub fn encoded_len(fields: &EventFields<'_>) -> usize {
    Measured::new(fields).len
}

/// An event that was looked through: how long it becomes, and what of it may be written.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    kind: Option<&'a str>,
    retry_ms: Option<u64>,
    id: Option<&'a str>,
    data: &'a str,
    is_one_line: bool,
    len: usize,
}

impl<'a> Measured<'a> {
    /// Reads the fields once; those that [`encode_event`] leaves out are left out here.
    #[inline]
    #[must_use]
    pub fn new(fields: &EventFields<'a>) -> Self {
        let kind = sendable(fields.kind).filter(|kind| !kind.is_empty());
        let retry_ms = fields.retry_ms.filter(|ms| *ms > 0);
        let id = sendable(fields.id);
        let kind_bytes = kind.map_or(0, |kind| "event: \n".len() + kind.len());
        let retry_bytes = retry_ms.map_or(0, |ms| "retry: \n".len() + digits(ms));
        let id_bytes = id.map_or(0, |id| "id: \n".len() + id.len());
        let first_end = memchr2(b'\n', b'\r', fields.data.as_bytes());
        let data_bytes = match first_end {
            None => "data: \n".len() + fields.data.len(),
            Some(end) => lines_len(fields.data.as_bytes(), end),
        };
        Self {
            kind,
            retry_ms,
            id,
            data: fields.data,
            is_one_line: first_end.is_none(),
            len: kind_bytes + retry_bytes + id_bytes + data_bytes + 1,
        }
    }

    /// How many bytes [`Self::append`] appends, exactly.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Never: a blank line ends every event.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Appends the event. Grows `out` at most once.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        if let Some(kind) = self.kind {
            push_line(b"event: ", kind.as_bytes(), out);
        }
        if let Some(retry_ms) = self.retry_ms {
            encode_retry(retry_ms, out);
        }
        if let Some(id) = self.id {
            push_line(b"id: ", id.as_bytes(), out);
        }
        let mut rest = self.data.as_bytes();
        if !self.is_one_line {
            while let Some(end) = memchr2(b'\n', b'\r', rest) {
                push_line(b"data: ", &rest[..end], out);
                rest = &rest[end + line_end_bytes(rest, end)..];
            }
        }
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(rest);
        out.extend_from_slice(b"\n\n");
    }
}

/// Bytes of the `data` lines of a text whose first line end is at `end`.
fn lines_len(data: &[u8], mut end: usize) -> usize {
    let mut lines = 1;
    let mut line_ends = 0;
    let mut at = 0;
    loop {
        let length = line_end_bytes(&data[at..], end);
        lines += 1;
        line_ends += length;
        at += end + length;
        match memchr2(b'\n', b'\r', &data[at..]) {
            Some(next) => end = next,
            None => return lines * "data: \n".len() + data.len() - line_ends,
        }
    }
}

/// Appends a `retry` line: how long a reader shall wait before it reconnects, in milliseconds.
///
/// No blank line follows: some clients turn a lone block into an empty event.
pub fn encode_retry(retry_ms: u64, out: &mut Vec<u8>) {
    // 20 digits are the most a u64 has.
    let mut text = [0; 20];
    let count = digits(retry_ms);
    let mut rest = retry_ms;
    for slot in text[..count].iter_mut().rev() {
        *slot = b"0123456789"[(rest % 10) as usize];
        rest /= 10;
    }
    push_line(b"retry: ", &text[..count], out);
}

#[inline]
fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // One reservation instead of three checks for growth.
    out.reserve(name.len() + value.len() + 1);
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The bytes of the line end at `end`: 2 for CRLF, else 1.
fn line_end_bytes(bytes: &[u8], end: usize) -> usize {
    if bytes[end] == b'\r' && bytes.get(end + 1) == Some(&b'\n') {
        2
    } else {
        1
    }
}

fn sendable(text: Option<&str>) -> Option<&str> {
    text.filter(|text| memchr3(b'\r', b'\n', 0, text.as_bytes()).is_none())
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(fields: &EventFields<'_>) -> String {
        let mut out = Vec::new();
        encode_event(fields, &mut out);
        assert_eq!(out.len(), encoded_len(fields), "{fields:?}");
        String::from_utf8(out).expect("the fields are text")
    }

    #[test]
    fn fields_stand_in_the_order_event_retry_id_data() {
        let fields = EventFields {
            kind: Some("added"),
            retry_ms: Some(2500),
            id: Some("urn:uuid:1"),
            data: "a",
        };
        assert_eq!(
            encoded(&fields),
            "event: added\nretry: 2500\nid: urn:uuid:1\ndata: a\n\n"
        );
    }

    #[test]
    fn every_line_end_starts_a_data_line() {
        for (data, lines) in [
            ("", "data: \n"),
            ("\n", "data: \ndata: \n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\rb", "data: a\ndata: b\n"),
            ("a\r\nb", "data: a\ndata: b\n"),
            ("a\n\rb", "data: a\ndata: \ndata: b\n"),
            ("a\r\r\n\nb\r", "data: a\ndata: \ndata: \ndata: b\ndata: \n"),
        ] {
            let fields = EventFields {
                data,
                ..EventFields::default()
            };
            assert_eq!(encoded(&fields), format!("{lines}\n"), "{data:?}");
        }
    }

    #[test]
    fn a_retry_of_zero_is_not_sent() {
        let fields = EventFields {
            retry_ms: Some(0),
            data: "a",
            ..EventFields::default()
        };
        assert_eq!(encoded(&fields), "data: a\n\n");
    }

    #[test]
    fn numbers_of_each_length_are_written_whole() {
        for retry_ms in [1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let fields = EventFields {
                retry_ms: Some(retry_ms),
                data: "",
                ..EventFields::default()
            };
            assert_eq!(encoded(&fields), format!("retry: {retry_ms}\ndata: \n\n"));
        }
    }

    #[test]
    fn a_field_with_a_line_end_or_nul_is_left_out() {
        for bad in ["a\nb", "a\rb", "a\0b", "\n", "\0"] {
            let fields = EventFields {
                kind: Some(bad),
                id: Some(bad),
                data: "x",
                ..EventFields::default()
            };
            assert_eq!(encoded(&fields), "data: x\n\n", "{bad:?}");
        }
    }
}
