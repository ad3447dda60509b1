//! What each kind of trouble means, and the line that mends it, for each proxy.

use super::way::{Proxy, Way};

/// What can be wrong on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Bytes are collected before they go on.
    Buffering,
    /// Each piece is kept for a moment.
    Delay,
    /// The stream is compressed on the way.
    Compression,
    /// The answer comes from a cache.
    Caching,
    /// A silent stream is cut.
    IdleCut,
    /// A stream is cut after a time, silent or not.
    LifeCut,
    /// No heartbeat in a long silence.
    NoHeartbeat,
    /// Browsers get HTTP/1.1 over TLS.
    OldHttp,
    /// `Last-Event-ID` does not reach the hub.
    NoCursor,
    /// New streams are refused with a status.
    Refusal,
    /// New streams are refused in the way an EventSource understands.
    SoftRefusal,
    /// The answer is no event stream.
    NoStream,
    /// A page of the origin may not read.
    Cors,
    /// The origin is allowed twice.
    CorsTwice,
}

impl Trouble {
    pub(super) fn means(self) -> &'static str {
        match self {
            Self::Buffering => {
                "Something on the way collects bytes before it hands them on: events come \
                 late, in bunches, or never."
            }
            Self::Delay => {
                "Something on the way keeps each event for a moment, in the hope of more that \
                 would fit into the same packet. The answer to a publish is not kept."
            }
            Self::Compression => {
                "Something on the way compresses the stream: it needs memory for each stream, and \
                 most compressors hold small events back."
            }
            Self::Caching => "The answer was kept for another reader: a stream has to be new.",
            Self::IdleCut => {
                "Something on the way closes a connection that is silent: readers come back again \
                 and again. Its limit has to be longer than the time between two heartbeats."
            }
            Self::LifeCut => {
                "Something on the way limits how long an answer may take: readers come back again \
                 and again, all at the same age."
            }
            Self::NoHeartbeat => {
                "Heartbeats are off in the hub, or held back on the way: proxies take the stream \
                 for dead, and the hub does not notice readers that are gone."
            }
            Self::OldHttp => {
                "Over HTTP/1.1 a browser opens six connections to a host and each stream takes \
                 one: the seventh tab hangs. Over HTTP/2 they share one connection."
            }
            Self::NoCursor => {
                "The hub did not answer to Last-Event-ID: a reader that comes back misses what was \
                 published meanwhile."
            }
            Self::Refusal => {
                "An EventSource that gets anything but 200 stops for ever. Programs may come back."
            }
            Self::SoftRefusal => {
                "The stream ended at once with a time to come back: the hub or a proxy is full, \
                 drains, or does not reach the hub."
            }
            Self::NoStream => "An EventSource takes text/event-stream only, and stops for ever.",
            Self::Cors => "Pages of this origin cannot read the stream: the browser hides it.",
            Self::CorsTwice => {
                "Access-Control-Allow-Origin is there more than once: browsers refuse that. One of \
                 hub and proxy has to be silent."
            }
        }
    }
}

/// Where to write which line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fix {
    pub(super) place: &'static str,
    pub(super) line: &'static str,
}

/// The lines against `trouble` for those who are, or may be, on the way.
pub(super) fn fixes(trouble: Trouble, way: &Way) -> Vec<Fix> {
    LINES
        .iter()
        .filter(|(of, proxy, _)| *of == trouble && way.may_hold(*proxy))
        .map(|(_, proxy, line)| Fix {
            place: proxy.name(),
            line,
        })
        .collect()
}

use Proxy::{
    Apache, Caddy, CloudFront, Cloudflare, Envoy, Gush, Haproxy, LoadBalancer, Nginx, Traefik,
    Varnish,
};
use Trouble::{
    Buffering, Caching, Compression, Cors, CorsTwice, Delay, IdleCut, LifeCut, NoCursor,
    NoHeartbeat, NoStream, OldHttp, Refusal, SoftRefusal,
};

#[rustfmt::skip]
const LINES: &[(Trouble, Proxy, &str)] = &[
    (Buffering, Nginx, "proxy_buffering off;"),
    (Buffering, Nginx, "proxy_http_version 1.1;"),
    (Buffering, Nginx, "no `proxy_ignore_headers X-Accel-Buffering`"),
    (Buffering, Nginx, "proxy_pass_header X-Accel-Buffering;  # on the inner one of two"),
    (Buffering, Haproxy, "option http-no-delay"),
    (Buffering, Haproxy, "no `http-response wait-for-body`"),
    (Buffering, Apache, "ProxyPass /.well-known/mercure http://… flushpackets=on"),
    (Buffering, Caddy, "reverse_proxy … { flush_interval -1 }"),
    (Buffering, Traefik, "no middleware `buffering` on this router"),
    (Buffering, Envoy, "no buffer filter on this route"),
    (Buffering, Varnish, "if (req.url ~ \"^/.well-known/mercure\") { return (pipe); }"),
    (Buffering, Cloudflare, "zone setting Response Buffering: off"),
    (Delay, Haproxy, "option http-no-delay"),
    (Delay, Nginx, "tcp_nodelay on; proxy_buffering off;"),
    (Delay, Gush, "no flush_interval"),
    (Compression, Nginx, "gzip off;"),
    (Compression, Haproxy, "`compression type` without text/event-stream"),
    (Compression, Apache, "SetEnvIf Request_URI ^/\\.well-known/mercure no-gzip"),
    (Compression, Caddy, "`encode` with a matcher: not path /.well-known/mercure*"),
    (Compression, Traefik, "compress.excludedContentTypes = [\"text/event-stream\"]"),
    (Compression, Envoy, "compressor filter: content_type without text/event-stream"),
    (Compression, Cloudflare, "let the hub's `Cache-Control: no-transform` through"),
    (Compression, CloudFront, "cache behaviour: compress objects automatically: no"),
    (Caching, Nginx, "proxy_cache off;"),
    (Caching, Haproxy, "no `http-request cache-use` for /.well-known/mercure"),
    (Caching, Varnish, "if (req.url ~ \"^/.well-known/mercure\") { return (pipe); }"),
    (Caching, Cloudflare, "cache rule: bypass for /.well-known/mercure"),
    (Caching, CloudFront, "cache policy: CachingDisabled"),
    (IdleCut, Nginx, "proxy_read_timeout 5m;"),
    (IdleCut, Haproxy, "timeout server 5m"),
    (IdleCut, Haproxy, "timeout client 5m"),
    (IdleCut, Apache, "ProxyPass /.well-known/mercure http://… timeout=300"),
    (IdleCut, Envoy, "stream_idle_timeout: 300s"),
    (IdleCut, LoadBalancer, "idle_timeout.timeout_seconds = 300"),
    (IdleCut, CloudFront, "origin response timeout: 60 seconds"),
    (IdleCut, Gush, "heartbeat = \"25s\"  # or less than half of the time above"),
    (LifeCut, Envoy, "route: { timeout: 0s }"),
    (LifeCut, Nginx, "worker_shutdown_timeout longer than max_stream_life, where it is reloaded"),
    (LifeCut, Haproxy, "hard-stop-after longer than max_stream_life, where it is reloaded"),
    (LifeCut, Traefik, "transport.respondingTimeouts.writeTimeout = 0"),
    (LifeCut, Caddy, "servers { timeouts { write 0 } }"),
    (LifeCut, Gush, "max_stream_life = \"1h\"  # or shorter than the limit"),
    (NoHeartbeat, Gush, "heartbeat = \"25s\""),
    (NoHeartbeat, Nginx, "proxy_buffering off;"),
    (OldHttp, Nginx, "listen 443 ssl http2;  # from 1.25.1 on: http2 on;"),
    (OldHttp, Haproxy, "bind :443 ssl crt … alpn h2,http/1.1"),
    (OldHttp, Apache, "Protocols h2 http/1.1"),
    (OldHttp, LoadBalancer, "an application load balancer with an HTTPS listener"),
    (OldHttp, CloudFront, "supported HTTP versions: HTTP/2"),
    (NoCursor, Nginx, "proxy_pass_request_headers on;  # and no proxy_set_header Last-Event-ID"),
    (NoCursor, Haproxy, "no `http-request del-header Last-Event-ID`"),
    (NoCursor, CloudFront, "origin request policy: forward Last-Event-ID and the query"),
    (NoCursor, Varnish, "if (req.url ~ \"^/.well-known/mercure\") { return (pipe); }"),
    (Refusal, Nginx, "error_page 502 503 504 = $gush_refusal;  # deploy/nginx/gush.conf"),
    (Refusal, Haproxy, "http-after-response set-status 200 …  # deploy/haproxy/haproxy.cfg"),
    (Refusal, Gush, "max_connections, or more machines"),
    (SoftRefusal, Nginx, "limit_conn, and the address in upstream"),
    (SoftRefusal, Haproxy, "be_conn, maxconn, and the address in server"),
    (SoftRefusal, Gush, "max_connections; /readyz says whether it drains"),
    (NoStream, Nginx, "proxy_pass to the hub's public listener, without a path of its own"),
    (NoStream, Haproxy, "use_backend to the hub's public listener"),
    (Cors, Gush, "cors_origins = [\"<that origin>\"]"),
    (Cors, Nginx, "OPTIONS to the hub as well: no limit_except, no own `return 204`"),
    (CorsTwice, Nginx, "no add_header Access-Control-Allow-Origin beside the hub's"),
    (CorsTwice, Haproxy, "no http-response add-header Access-Control-Allow-Origin"),
    (CorsTwice, Caddy, "no header Access-Control-Allow-Origin beside the hub's"),
    (CorsTwice, Traefik, "no headers middleware with accessControlAllowOriginList"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_known_proxy_gets_its_own_lines_alone() {
        let mut headers = HeaderMap::new();
        headers.insert("server", HeaderValue::from_static("nginx/1.22.1"));
        let lines = fixes(IdleCut, &Way::seen_in(&headers));
        assert_eq!(lines[0].line, "proxy_read_timeout 5m;");
        assert_eq!(lines.len(), 2, "nginx's and the hub's");
        assert!(fixes(IdleCut, &Way::default()).len() > 5);
    }

    #[test]
    fn every_trouble_has_a_line() {
        let all = [
            Buffering,
            Delay,
            Compression,
            Caching,
            IdleCut,
            LifeCut,
            NoHeartbeat,
            OldHttp,
            NoCursor,
            Refusal,
            SoftRefusal,
            NoStream,
            Cors,
            CorsTwice,
        ];
        for trouble in all {
            assert!(!fixes(trouble, &Way::default()).is_empty(), "{trouble:?}");
            assert!(trouble.means().len() > 20);
        }
    }
}
