//! Where requests of HTTP/1 end: the plain publish, and what hyper is handed of all others.
#![no_main]

use gush_hub::request::{PLAIN_BODY_BYTES_MAX, parse_publish};
use gush_hub::span::Span;
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    publish(bytes);
    let whole = passed(bytes, bytes.len().max(1));
    assert_eq!(whole, passed(bytes, usize::from(piece).max(1)));
    if let Some(end) = end(bytes) {
        assert_eq!(whole, (end.min(bytes.len()), end <= bytes.len()));
    }
});

/// How much of `bytes` belongs to the first request, and whether that is all of it.
fn passed(bytes: &[u8], piece: usize) -> (usize, bool) {
    let mut span = Span::of(bytes);
    let mut passed = 0;
    for piece in bytes.chunks(piece) {
        let count = span.pass(piece);
        passed += count;
        if count < piece.len() {
            assert!(span.is_over());
            break;
        }
    }
    (passed, span.is_over())
}

/// The fast path takes nothing that could be read in another way.
fn publish(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let Some(plain) = parse_publish(bytes, &mut headers) else {
        return;
    };
    assert!(plain.body_bytes <= PLAIN_BODY_BYTES_MAX);
    // Half a head is none, and what stands behind it changes nothing.
    let head = &bytes[..plain.head_bytes];
    assert!(parse_publish(&head[..head.len() - 1], &mut HeaderMap::new()).is_none());
    assert_eq!(parse_publish(head, &mut HeaderMap::new()), Some(plain));
    let lines = lines(head).expect("a whole head");
    let first = std::str::from_utf8(lines[0]).expect("a readable target");
    let target = first.strip_prefix("POST /.well-known/mercure");
    let target = target.and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
    let rest = target.expect("the hub's path");
    assert_eq!(rest.strip_prefix('?').unwrap_or(rest), plain.query);
    let all = |name: &str| {
        let fields = lines[1..].iter().filter_map(|line| field(line));
        let fields = fields.filter(|(own, _)| own.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(all("host").len(), 1);
    assert_eq!(all("transfer-encoding").len() + all("expect").len(), 0);
    let length = plain.body_bytes.to_string();
    let lengths = all("content-length");
    assert_eq!(lengths.len(), 1);
    let sent = std::str::from_utf8(lengths[0]).expect("digits");
    assert_eq!(sent.trim_start_matches('0'), length.trim_start_matches('0'));
    // The rules see all lines that decide, none of them changed.
    for name in [
        "authorization",
        "cookie",
        "origin",
        "content-type",
        "x-forwarded-for",
    ] {
        let seen: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| value.as_bytes())
            .collect();
        let sent = all(name);
        assert_eq!(seen, sent, "{name}");
    }
}

/// The lines of the head that `bytes` begin with, without their ends.
fn lines(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let blank = bytes
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    let mut lines = Vec::new();
    for line in bytes[blank..].split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Some(lines);
        }
        lines.push(line);
    }
    None
}

/// A value may hold any bytes but controls, a name may not.
fn field(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    Some((std::str::from_utf8(name).ok()?, value[1..].trim_ascii()))
}

/// Where the request ends, read at once and by the letter of RFC 9112; nothing for what is not
/// beyond doubt. May be behind the last byte.
fn end(bytes: &[u8]) -> Option<usize> {
    let mut room = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut room);
    let Ok(httparse::Status::Complete(head_bytes)) = head.parse(bytes) else {
        return None;
    };
    let of = |name: &str| {
        let lines = head
            .headers
            .iter()
            .filter(|line| line.name.eq_ignore_ascii_case(name));
        lines.map(|line| line.value).collect::<Vec<_>>()
    };
    match (
        of("content-length").as_slice(),
        of("transfer-encoding").as_slice(),
    ) {
        ([], []) => Some(head_bytes),
        ([length], []) => {
            let length = std::str::from_utf8(length).ok()?;
            let is_plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            head_bytes.checked_add(length.parse().ok().filter(|_| is_plain)?)
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            Some(head_bytes + chunks(&bytes[head_bytes..])?)
        }
        _ => None,
    }
}

/// The length of a body of plain chunks; `None` if it is not whole.
fn chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    let line = |at: usize| {
        let end = body
            .get(at..)?
            .windows(2)
            .position(|pair| pair == b"\r\n")?;
        let line = &body[at..at + end];
        let is_odd = line.iter().any(|byte| b"\r\n".contains(byte));
        (!is_odd).then_some((line, at + end + 2))
    };
    loop {
        let (size, next) = line(at)?;
        let size = size.split(|byte| *byte == b';').next()?;
        let size = std::str::from_utf8(size).ok()?;
        let is_plain = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_hexdigit());
        let size = usize::from_str_radix(size, 16).ok().filter(|_| is_plain)?;
        at = next;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
        if body.get(at - 2..at)? != b"\r\n" {
            return None;
        }
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some(at);
        }
    }
}
