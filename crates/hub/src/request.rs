//! From a request's method and path to one of a closed set of routes.

use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
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
        help: "The hub: `GET` subscribes, `POST` publishes, `OPTIONS` answers CORS preflights.",
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
        path: "/",
        methods: "GET, HEAD",
        listener: "admin",
        help: "The console: publish, subscribe and watch from a browser.",
    },
];

const HUB_METHODS: &str = "GET, HEAD, POST, OPTIONS";
const READ_METHODS: &str = "GET, HEAD, OPTIONS";

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
    let found = if let Some(rest) = path.strip_prefix(SUBSCRIPTIONS_PATH)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        Route::Subscriptions { rest }
    } else {
        match (path, door) {
            ("/healthz", _) => Route::Health,
            ("/readyz", _) => Route::Ready,
            ("/metrics", Door::Admin) => Route::Metrics,
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
    let hosts = headers.get_all(http::header::HOST).iter().count();
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length != "0");
    // An offer to upgrade is declined by not answering it.
    if has_body || headers.contains_key(EXPECT) || hosts > 1 || (is_http11 && hosts == 0) {
        return None;
    }
    Some(PlainSubscribe {
        headers,
        query,
        is_http11,
    })
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
}
