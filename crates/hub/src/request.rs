//! From a request's method and path to one of a closed set of routes.

use std::mem::MaybeUninit;

use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, FORWARDED,
    ORIGIN, REFERER, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::console;
use crate::dialect::{HUB_PATH, SUBSCRIPTIONS_PATH};

/// Most header lines of a request.
pub const HEADERS_MAX: usize = 100;

/// The listener a request came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// For publishers and subscribers.
    Public,
    /// For operators; loopback by default. Serves what the public one does and more.
    Admin,
    /// The public one while its connections are used up: only probes are answered.
    Full,
    /// The admin one while its connections are used up: probes and metrics are answered.
    FullAdmin,
    /// The public one for an address that has too many connections: only probes are answered.
    AddressFull,
}

impl Door {
    /// Whether all but probes is refused.
    #[must_use]
    pub const fn is_full(self) -> bool {
        matches!(self, Self::Full | Self::FullAdmin | Self::AddressFull)
    }

    /// The same door for one connection more than there may be.
    #[must_use]
    pub const fn when_full(self) -> Self {
        match self {
            Self::Public | Self::Full | Self::AddressFull => Self::Full,
            Self::Admin | Self::FullAdmin => Self::FullAdmin,
        }
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// `GET` of the hub: a stream; `HEAD`: only what its head would be.
    Subscribe {
        /// Whether the stream itself is wanted.
        is_head: bool,
    },
    /// `POST` to the hub.
    Publish,
    /// `OPTIONS`: a CORS preflight, or what methods there are.
    Options {
        /// The methods of that path.
        allow: &'static str,
    },
    /// The active-subscriptions API; what follows its path, still percent-encoded.
    Subscriptions {
        /// Empty, `/{topic}` or `/{topic}/{subscriber}`.
        rest: &'a str,
    },
    /// Is the process alive?
    Health,
    /// Should it get traffic?
    Ready,
    /// The metrics page.
    Metrics,
    /// `POST`: a new process in this one's place.
    Upgrade,
    /// `POST`: close streams for balance.
    Drain,
    /// `DELETE`: stop that.
    CancelDrain,
    /// `GET`: how far that is.
    DrainStatus,
    /// The limits: what they are, or a change of them.
    Limits {
        /// Whether they are to be changed.
        change: bool,
    },
    /// A file of the console.
    Console {
        /// Its path.
        path: &'a str,
    },
    /// Another method than the path has.
    MethodNotAllowed {
        /// The methods it has.
        allow: &'static str,
    },
    /// Nothing here.
    NotFound,
}

/// One line of the reference page of endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The path as documented.
    pub path: &'static str,
    /// Its methods.
    pub methods: &'static str,
    /// Which listeners have it.
    pub listener: &'static str,
    /// What it is for.
    pub help: &'static str,
}

/// Every endpoint of the hub.
pub static ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/.well-known/mercure",
        methods: "GET, HEAD, POST, OPTIONS",
        listener: "public, admin",
        help: "The hub: `GET` subscribes, `POST` publishes a form's event, or with the type \
               `application/x-ndjson` one event for each line, `OPTIONS` answers CORS preflights.",
    },
    Endpoint {
        path: "/.well-known/mercure/subscriptions",
        methods: "GET, HEAD, OPTIONS",
        listener: "public, admin",
        help: "All active subscriptions (with `subscriptions` on and a token whose \
               `mercure.subscribe` matches this path).",
    },
    Endpoint {
        path: "/.well-known/mercure/subscriptions/{topic}",
        methods: "GET, HEAD, OPTIONS",
        listener: "public, admin",
        help: "The active subscriptions with exactly this matcher.",
    },
    Endpoint {
        path: "/.well-known/mercure/subscriptions/{topic}/{subscriber}",
        methods: "GET, HEAD, OPTIONS",
        listener: "public, admin",
        help: "One active subscription; 404 when there is none.",
    },
    Endpoint {
        path: "/healthz",
        methods: "GET, HEAD",
        listener: "public, admin",
        help: "200 while the process serves; the body tells the log's state.",
    },
    Endpoint {
        path: "/readyz",
        methods: "GET, HEAD",
        listener: "public, admin",
        help: "200 when new traffic is welcome; 503 while draining or while the log cannot be \
               written.",
    },
    Endpoint {
        path: "/metrics",
        methods: "GET, HEAD",
        listener: "admin",
        help: "Metrics in the Prometheus text format.",
    },
    Endpoint {
        path: "/upgrade",
        methods: "POST",
        listener: "admin",
        help: "Puts a new process in this one's place, as `gush upgrade` and SIGUSR2 do; answers \
               when it serves, or with why it does not. Refused to web pages.",
    },
    Endpoint {
        path: "/drain",
        methods: "GET, HEAD, POST, DELETE, OPTIONS",
        listener: "admin",
        help: "`POST` closes streams at a steady rate for balance, as `gush drain` does: a JSON \
               object with `rate` (a second), perhaps `count` or `share` (percent), and perhaps \
               `refuse`. `DELETE`, or `POST` with `cancel`, stops it. `GET` tells how far it is: \
               `state` (`idle`, `closing`, `done`, `cancelled`), `refusing`, and of the last \
               order `rate`, `open`, `closing`, `closed` and `left`. Orders are refused to web \
               pages.",
    },
    Endpoint {
        path: "/limits",
        methods: "GET, HEAD, PATCH, OPTIONS",
        listener: "admin",
        help: "The limits in force, as a JSON object of option names. `PATCH` with some of them \
               (type `application/json`) changes them at once, all or none, until a reload or a \
               restart, and answers those in force then. Not from web pages: a `PATCH` with an \
               `Origin` header gets 403.",
    },
    Endpoint {
        path: "/",
        methods: "GET, HEAD",
        listener: "admin",
        help: "The console: publish, subscribe and watch from a browser.",
    },
];

const HUB_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const READ_METHODS: &str = "GET, HEAD, OPTIONS";
const DRAIN_METHODS: &str = "GET, HEAD, POST, DELETE, OPTIONS";
const CHANGE_METHODS: &str = "GET, HEAD, PATCH, OPTIONS";

/// Classifies a request. The path is taken as sent: nothing is decoded or cleaned.
#[must_use]
pub fn route<'a>(method: &Method, path: &'a str, door: Door) -> Route<'a> {
    if path == HUB_PATH {
        return match *method {
            Method::GET => Route::Subscribe { is_head: false },
            Method::HEAD => Route::Subscribe { is_head: true },
            Method::POST => Route::Publish,
            Method::OPTIONS => Route::Options { allow: HUB_METHODS },
            _ => Route::MethodNotAllowed { allow: HUB_METHODS },
        };
    }
    if path == "/upgrade" && door == Door::Admin {
        return match *method {
            Method::POST => Route::Upgrade,
            _ => Route::MethodNotAllowed { allow: "POST" },
        };
    }
    if path == "/drain" && door == Door::Admin {
        return match *method {
            Method::GET | Method::HEAD => Route::DrainStatus,
            Method::POST => Route::Drain,
            Method::DELETE => Route::CancelDrain,
            Method::OPTIONS => Route::Options {
                allow: DRAIN_METHODS,
            },
            _ => Route::MethodNotAllowed {
                allow: DRAIN_METHODS,
            },
        };
    }
    if path == "/limits" && door == Door::Admin {
        return match *method {
            Method::GET | Method::HEAD => Route::Limits { change: false },
            Method::PATCH => Route::Limits { change: true },
            Method::OPTIONS => Route::Options {
                allow: CHANGE_METHODS,
            },
            _ => Route::MethodNotAllowed {
                allow: CHANGE_METHODS,
            },
        };
    }
    let found = if let Some(rest) = path.strip_prefix(SUBSCRIPTIONS_PATH)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        Route::Subscriptions { rest }
    } else {
        match (path, door) {
            ("/healthz", _) => Route::Health,
            ("/readyz", _) => Route::Ready,
            ("/metrics", Door::Admin | Door::FullAdmin) => Route::Metrics,
            (path, Door::Admin) if console::file(path).is_some() => Route::Console { path },
            _ => return Route::NotFound,
        }
    };
    match *method {
        Method::GET | Method::HEAD => found,
        Method::OPTIONS => Route::Options {
            allow: READ_METHODS,
        },
        _ => Route::MethodNotAllowed {
            allow: READ_METHODS,
        },
    }
}

/// The head of a subscribe that needs nothing but a stream.
#[derive(Debug)]
pub struct PlainSubscribe {
    /// Its header lines.
    pub headers: HeaderMap,
    /// What follows the path.
    pub query: String,
    /// HTTP/1.1, else 1.0.
    pub is_http11: bool,
}

/// Reads a head as the fast path serves it.
///
/// `None` for anything that is not exactly a plain subscribe: a body, no single Host,
/// half a head. hyper judges those.
#[must_use]
pub fn parse_subscribe(bytes: &[u8]) -> Option<PlainSubscribe> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut lines);
    if !matches!(head.parse(bytes), Ok(httparse::Status::Complete(_))) {
        return None;
    }
    let is_http11 = head.version == Some(1);
    // Parsed as hyper parses it, so that both paths take the same targets.
    let target: http::Uri = head.path?.parse().ok()?;
    let query = target.query()?.to_owned();
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for line in head.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    let hosts = headers.get_all(http::header::HOST);
    let is_good = hosts.iter().all(|host| is_host(host.as_bytes()));
    let hosts = hosts.iter().count();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_empty = lengths.next().is_none_or(|length| length == "0") && lengths.next().is_none();
    let has_body = headers.contains_key(TRANSFER_ENCODING) || !is_empty;
    // An offer to upgrade is declined by not answering it.
    let is_hosted = is_good && hosts <= 1 && (hosts == 1 || !is_http11);
    if has_body || headers.contains_key(EXPECT) || !is_hosted {
        return None;
    }
    Some(PlainSubscribe {
        headers,
        query,
        is_http11,
    })
}

/// Whether a whole head says twice how long its body is: more than one `Content-Length`, or one and
/// a `Transfer-Encoding`. hyper takes lengths that are equal, and of the two kinds the coding.
#[must_use]
pub(crate) fn is_framed_twice(bytes: &[u8]) -> bool {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut lines);
    if !matches!(head.parse(bytes), Ok(httparse::Status::Complete(_))) {
        return false;
    }
    let count = |name| {
        let lines = head.headers.iter();
        lines.filter(|line| name == line.name).count()
    };
    let lengths = count(CONTENT_LENGTH);
    lengths > 1 || (lengths == 1 && count(TRANSFER_ENCODING) > 0)
}

/// Whether a `Host` may be one. What is in a name is not looked into: only what ends an authority,
/// or never stands in one (RFC 9112, 3.2).
#[must_use]
pub(crate) fn is_host(value: &[u8]) -> bool {
    let never = |byte| b"/?#@\\<>\"{}|^`".contains(byte);
    value
        .iter()
        .all(|byte| byte.is_ascii_graphic() && !never(byte))
}

/// Whether the coding of a body is none, or `chunked` once and nothing else. hyper looks at the
/// last coding alone, so `chunked, chunked` and a second header would pass it (RFC 9112, 6.1).
#[must_use]
pub(crate) fn is_plain_coding(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => true,
        Some(coding) => {
            coding
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked")
                && codings.next().is_none()
        }
    }
}

/// Most bytes of the body of a publish that the fast path reads: larger ones cost more to copy than
/// hyper costs beside it.
pub const PLAIN_BODY_BYTES_MAX: usize = 64 * 1024;

/// The head of a publish that needs nothing but an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainPublish<'b> {
    /// What follows the path; empty for none.
    pub query: &'b str,
    /// Bytes of the head.
    pub head_bytes: usize,
    /// Bytes of the body, at most [`PLAIN_BODY_BYTES_MAX`].
    pub body_bytes: usize,
}

/// The header lines that decide about a publish.
const PUBLISH_HEADERS: [HeaderName; 8] = [
    AUTHORIZATION,
    CONTENT_TYPE,
    COOKIE,
    ORIGIN,
    REFERER,
    CONTENT_ENCODING,
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
];

/// Reads a head as the fast path of publishes serves it; the lines that the rules look at are
/// put into `headers`, whose former content is dropped.
///
/// `None` for anything that is not exactly a plain publish of HTTP/1.1 on a connection that stays:
/// another framing of the body, a large one, half a head. hyper judges those.
#[must_use]
pub fn parse_publish<'b>(bytes: &'b [u8], headers: &mut HeaderMap) -> Option<PlainPublish<'b>> {
    headers.clear();
    // Places for all lines that there may be, of which a publish has few.
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(bytes, &mut lines);
    let Ok(httparse::Status::Complete(head_bytes)) = parsed else {
        return None;
    };
    if head.method != Some("POST") || head.version != Some(1) {
        return None;
    }
    let query = head.path?.strip_prefix(HUB_PATH)?;
    if !query.is_empty() {
        // Parsed as hyper parses it, so that both paths take the same targets.
        let target: http::Uri = head.path?.parse().ok()?;
        if target.path() != HUB_PATH || target.query()?.len() + 1 != query.len() {
            return None;
        }
    }
    let mut hosts = 0;
    let mut body_bytes = None;
    for line in head.headers.iter() {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name);
        // By length first: most lines are none of these.
        match line.name.len() {
            4 if is("host") && is_host(line.value) => hosts += 1,
            4 if is("host") => return None,
            14 if is("content-length") && body_bytes.is_none() => {
                body_bytes = Some(plain_length(line.value)?);
            }
            10 if is("connection") && line.value.eq_ignore_ascii_case(b"keep-alive") => {}
            17 if is("transfer-encoding") => return None,
            14 if is("content-length") => return None,
            10 if is("connection") => return None,
            6 if is("expect") => return None,
            _ => {
                if let Some(name) = PUBLISH_HEADERS.iter().find(|name| is(name.as_str())) {
                    headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
                }
            }
        }
    }
    if hosts != 1 || is_batch(headers) {
        return None;
    }
    Some(PlainPublish {
        query: query.strip_prefix('?').unwrap_or(""),
        head_bytes,
        body_bytes: body_bytes?,
    })
}

/// The media type of a publish of many events.
pub const BATCH_TYPE: &str = "application/x-ndjson";

/// Whether the body has a line for each event.
#[must_use]
pub fn is_batch(headers: &HeaderMap) -> bool {
    has_type(headers, BATCH_TYPE)
}

/// Whether the body says to be of this media type; parameters do not matter.
#[must_use]
pub fn has_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            let kind = value.split(';').next().unwrap_or("").trim();
            kind.eq_ignore_ascii_case(wanted)
        })
}

/// A length without a second reading, for a body of the fast path.
fn plain_length(value: &[u8]) -> Option<usize> {
    let is_plain = (1..=8).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let length: usize = std::str::from_utf8(value).ok()?.parse().ok()?;
    (is_plain && length <= PLAIN_BODY_BYTES_MAX).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_as_sent() {
        let get = |path| route(&Method::GET, path, Door::Public);
        assert_eq!(
            get("/.well-known/mercure"),
            Route::Subscribe { is_head: false }
        );
        assert_eq!(get("/.well-known/mercure/"), Route::NotFound);
        assert_eq!(get("//.well-known/mercure"), Route::NotFound);
        assert_eq!(get("/.well-known/mercure/../mercure"), Route::NotFound);
        assert_eq!(get("/.well-known/mercure/subscriptionsx"), Route::NotFound);
        assert_eq!(
            get("/.well-known/mercure/subscriptions/a%2Fb"),
            Route::Subscriptions { rest: "/a%2Fb" }
        );
        assert_eq!(get("/metrics"), Route::NotFound);
        assert_eq!(get("/limits"), Route::NotFound);
        assert_eq!(get("/"), Route::NotFound);
    }

    #[test]
    fn unknown_methods_are_told_the_known_ones() {
        for method in [Method::PUT, Method::DELETE, Method::TRACE, Method::CONNECT] {
            assert_eq!(
                route(&method, "/.well-known/mercure", Door::Public),
                Route::MethodNotAllowed {
                    allow: "GET, HEAD, POST, OPTIONS"
                }
            );
        }
    }

    fn publish(lines: &str) -> Option<(String, usize, usize, HeaderMap)> {
        let bytes = lines.replace('\n', "\r\n");
        let mut headers = HeaderMap::new();
        let plain = parse_publish(bytes.as_bytes(), &mut headers)?;
        Some((
            plain.query.to_owned(),
            plain.head_bytes,
            plain.body_bytes,
            headers,
        ))
    }

    #[test]
    fn a_plain_publish_is_read() {
        let head = "POST /.well-known/mercure?a=b HTTP/1.1\nHost: h\nContent-length: 7\n\
                    AUTHORIZATION: Bearer x\nX-Other: y\nConnection: Keep-Alive\n\n";
        let (query, head_bytes, body_bytes, headers) =
            publish(&format!("{head}topic=a")).expect("plain");
        assert_eq!((query.as_str(), body_bytes), ("a=b", 7));
        assert_eq!(head_bytes, head.len() + head.matches('\n').count());
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[AUTHORIZATION], "Bearer x");
    }

    #[test]
    fn whatever_is_unusual_is_left_to_hyper() {
        let plain = "POST /.well-known/mercure HTTP/1.1\nHost: h\nContent-Length: 7\n\n";
        assert!(publish(plain).is_some());
        let rows = [
            ("POST", "PUT"),
            ("HTTP/1.1", "HTTP/1.0"),
            ("mercure ", "mercure/ "),
            ("mercure ", "mercure#x "),
            ("mercure ", "mercurex?a "),
            ("POST /", "POST http://h/"),
            ("Host: h\n", ""),
            ("Host: h\n", "Host: h\nHost: h\n"),
            ("Host: h\n", "Host: h, h\n"),
            ("Host: h\n", "Host: h/x\n"),
            ("Content-Length: 7\n", ""),
            (": 7", ": +7"),
            (": 7", ": 7, 7"),
            (": 7", ": 0x7"),
            (": 7", ": -7"),
            (": 7", ": "),
            (": 7", ": 65537"),
            (": 7", ": 18446744073709551623"),
            (": 7\n", ": 7\nContent-Length: 7\n"),
            (": 7\n", ": 7\nTransfer-Encoding: chunked\n"),
            (": 7\n", ": 7\nExpect: 100-continue\n"),
            (": 7\n", ": 7\nConnection: close\n"),
            (": 7\n", ": 7\nConnection: keep-alive, Upgrade\n"),
            (": 7\n\n", ": 7\n"),
            (": 7\n", " : 7\n"),
        ];
        for (usual, unusual) in rows {
            let head = plain.replacen(usual, unusual, 1);
            assert_ne!(head, plain, "{usual}");
            assert!(publish(&head).is_none(), "{head}");
        }
    }
}
