//! What kind of request the next bytes of a connection begin.

use http::HeaderMap;

use crate::request::{HEADERS_MAX, is_framed_twice, parse_publish};

/// Whether bytes are, or may still become, the head of a subscribe that the fast path serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They are not: a whole head for hyper, or nothing that can become a head.
    Other,
    /// Too few to tell.
    More,
    /// A whole head.
    Subscribe,
    /// The whole head of a publish that a fast path serves as well.
    Publish,
    /// A whole head that says twice how long its body is. Where that ends is a matter of taste,
    /// even when the lengths are equal: it is refused before hyper sees it.
    Unclear,
}

/// How every subscribe of the fast path begins. Other spellings of the same request (absolute
/// form, no query) are served by hyper.
pub(super) const SUBSCRIBE_BEGIN: &[u8] = b"GET /.well-known/mercure?";

/// How every publish of the other fast path begins.
const PUBLISH_BEGIN: &[u8] = b"POST /.well-known/mercure";

/// How an HTTP/2 connection without TLS begins.
pub(crate) const H2_BEGIN: &[u8] = b"PRI";

/// Most bytes of a request head: a thousand topics of some sixty bytes each fit, as the protocol
/// allows that many.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// So many bytes of a line show whether it begins a request, before its end has come.
const LINE_BYTES_SHOWN: usize = 32;

/// Looks at the first bytes of a request.
pub(crate) fn look(bytes: &[u8]) -> Look {
    if bytes.starts_with(H2_BEGIN) {
        return Look::Other;
    }
    // hyper passes over empty lines before a request; the fast paths do not.
    let blank = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
    let head = &bytes[blank.count()..];
    if !has_end(head) {
        return if bytes.len() >= HEAD_BYTES_MAX || !may_become_head(head) {
            Look::Other
        } else {
            Look::More
        };
    }
    if bytes.starts_with(SUBSCRIBE_BEGIN) && memchr::memmem::find(bytes, b"\r\n\r\n").is_some() {
        Look::Subscribe
    } else if bytes.starts_with(PUBLISH_BEGIN)
        && parse_publish(bytes, &mut HeaderMap::new()).is_some()
    {
        Look::Publish
    } else if is_framed_twice(head) {
        Look::Unclear
    } else {
        Look::Other
    }
}

/// Whether all lines of a head are there. hyper takes those without CR as well.
fn has_end(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| {
        let rest = &head[at + 1..];
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

/// Whether a request may begin so: else hyper says at once what it is not.
fn may_become_head(bytes: &[u8]) -> bool {
    let shown = match memchr::memchr(b'\n', bytes) {
        Some(at) => &bytes[..=at],
        None => &bytes[..bytes.len().min(LINE_BYTES_SHOWN)],
    };
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    httparse::Request::new(&mut lines).parse(shown).is_ok()
}
