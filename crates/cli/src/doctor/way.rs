//! Who stands between us and the hub, by the headers they leave.

use http::{HeaderMap, header};

/// What can stand on the way and has settings of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxy {
    Nginx,
    Haproxy,
    Apache,
    Caddy,
    Traefik,
    Envoy,
    Varnish,
    Cloudflare,
    CloudFront,
    LoadBalancer,
    /// Not on the way but at its end.
    Gush,
}

impl Proxy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Apache => "Apache",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
            Self::Envoy => "Envoy",
            Self::Varnish => "Varnish",
            Self::Cloudflare => "Cloudflare",
            Self::CloudFront => "CloudFront",
            Self::LoadBalancer => "AWS load balancer",
            Self::Gush => "gush",
        }
    }
}

/// A header, a word in its value (lower case; empty: any value), and who writes it.
const MARKS: [(&str, &str, Proxy); 16] = [
    ("server", "nginx", Proxy::Nginx),
    ("server", "openresty", Proxy::Nginx),
    ("via", "nginx", Proxy::Nginx),
    ("via", "haproxy", Proxy::Haproxy),
    ("server", "apache", Proxy::Apache),
    ("server", "caddy", Proxy::Caddy),
    ("via", "caddy", Proxy::Caddy),
    ("via", "traefik", Proxy::Traefik),
    ("server", "envoy", Proxy::Envoy),
    ("x-envoy-upstream-service-time", "", Proxy::Envoy),
    ("via", "varnish", Proxy::Varnish),
    ("x-varnish", "", Proxy::Varnish),
    ("cf-ray", "", Proxy::Cloudflare),
    ("x-amz-cf-id", "", Proxy::CloudFront),
    ("server", "awselb", Proxy::LoadBalancer),
    ("x-amzn-trace-id", "", Proxy::LoadBalancer),
];

/// The proxies that can be recognised; HAProxy and Traefik usually say nothing.
#[derive(Debug, Default)]
pub(super) struct Way {
    proxies: Vec<Proxy>,
    evidence: Vec<String>,
}

impl Way {
    pub(super) fn seen_in(headers: &HeaderMap) -> Self {
        let mut way = Self::default();
        for (name, word, proxy) in MARKS {
            let mut values = headers.get_all(name).iter();
            let says = |value: &http::HeaderValue| {
                String::from_utf8_lossy(value.as_bytes())
                    .to_lowercase()
                    .contains(word)
            };
            if values.any(says) && !way.proxies.contains(&proxy) {
                way.proxies.push(proxy);
            }
        }
        for name in [header::SERVER, header::VIA] {
            for value in headers.get_all(&name) {
                let text = String::from_utf8_lossy(value.as_bytes());
                way.evidence.push(format!("{name}: {text}"));
            }
        }
        let others = MARKS.iter().filter(|(_, word, _)| word.is_empty());
        for (name, _, _) in others.filter(|(name, _, _)| headers.contains_key(*name)) {
            way.evidence.push((*name).to_owned());
        }
        way
    }

    /// Whether `proxy` is there, as far as anybody can say.
    pub(super) fn may_hold(&self, proxy: Proxy) -> bool {
        proxy == Proxy::Gush || self.proxies.is_empty() || self.proxies.contains(&proxy)
    }

    pub(super) fn holds(&self, proxy: Proxy) -> bool {
        self.proxies.contains(&proxy)
    }

    /// The headers that say it.
    pub(super) fn evidence(&self) -> &[String] {
        &self.evidence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(headers: &[(&'static str, &'static str)]) -> Way {
        let headers = headers.iter().map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        });
        Way::seen_in(&headers.collect())
    }

    #[test]
    fn proxies_are_known_by_what_they_write() {
        let way = way(&[
            ("server", "cloudflare"),
            ("cf-ray", "8f"),
            ("via", "1.1 Caddy"),
        ]);
        assert_eq!(way.proxies, [Proxy::Caddy, Proxy::Cloudflare]);
        assert!(way.may_hold(Proxy::Gush) && !way.may_hold(Proxy::Nginx));
        assert_eq!(
            way.evidence,
            ["server: cloudflare", "via: 1.1 Caddy", "cf-ray"]
        );
    }

    #[test]
    fn who_says_nothing_may_be_anybody() {
        let way = way(&[("content-type", "text/event-stream")]);
        assert!(way.may_hold(Proxy::Haproxy) && !way.holds(Proxy::Haproxy));
    }
}
