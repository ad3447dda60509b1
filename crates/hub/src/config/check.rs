//! What does not go together although each value is right alone, and what is allowed but worth a
//! word.

use super::error::{Origin, Problem};
use super::load::Loaded;
use super::{LogSpec, Settings};
use crate::options;
use crate::secret::Secret;

/// Shortest HMAC secret that is not warned about, in bytes: the hash's output (RFC 7518 §3.2,
/// HS256).
const SECRET_BYTES_MIN: usize = 32;

/// Every pair of values that contradict each other. One problem per pair, at the value to change.
pub(super) fn check(loaded: &Loaded) -> Vec<Problem> {
    let settings = &loaded.settings;
    let mut found: Vec<(&'static str, String)> = vec![];
    match (&settings.tls_cert, &settings.tls_key) {
        (Some(_), None) => {
            found.push((
                "tls_cert",
                "needs its private key; set tls_key (--tls-key) too".into(),
            ));
        }
        (None, Some(_)) => {
            found.push((
                "tls_key",
                "needs a certificate; set tls_cert (--tls-cert) too".into(),
            ));
        }
        _ => {}
    }
    if settings.proxy_protocol && settings.trusted_proxies.is_empty() {
        found.push((
            "proxy_protocol",
            "lets nobody in, because no proxy is listed; set trusted_proxy (--trusted-proxy) too"
                .into(),
        ));
    }
    check_addresses(settings, &mut found);
    if settings
        .retention_bytes
        .is_some_and(|kept| kept < settings.segment_bytes)
    {
        found.push((
            "retention_bytes",
            "is smaller than one segment, and whole segments are kept; \
             raise it or lower segment_bytes"
                .into(),
        ));
    }
    let publisher = (
        settings.publisher_key.as_ref(),
        settings.publisher_alg.as_deref(),
    );
    let subscriber = (
        settings.subscriber_key.as_ref(),
        settings.subscriber_alg.as_deref(),
    );
    let sides = [
        ("publisher_key", "publisher_alg", publisher),
        ("subscriber_key", "subscriber_alg", subscriber),
    ];
    for (key_option, alg_option, (key, alg)) in sides {
        // The key that `dev` makes is for HS256.
        let is_dev_key = settings.dev && key.is_none() && alg == Some("HS256");
        if let Some(reason) = alg
            .filter(|_| !is_dev_key)
            .and_then(|alg| misfit(key_option, key, alg))
        {
            found.push((alg_option, reason));
        }
    }
    found
        .into_iter()
        .map(|(key, reason)| problem(loaded, key, reason))
        .collect()
}

fn check_addresses(settings: &Settings, found: &mut Vec<(&'static str, String)>) {
    for (index, address) in settings.listen.iter().enumerate() {
        let fixed = address.port() != 0;
        if fixed && settings.listen[..index].contains(address) {
            found.push(("listen", format!("names {address} twice; keep one")));
        }
        if fixed && settings.admin_listen == Some(*address) {
            found.push((
                "admin_listen",
                "is also a public listener; give it its own port, or off".into(),
            ));
        }
    }
}

/// Why this algorithm cannot go with this key, as far as the source's text tells.
fn misfit(key_option: &str, key: Option<&Secret>, alg: &str) -> Option<String> {
    let is_hmac = alg.starts_with("HS");
    match key.map(|key| key_kind(key.expose())) {
        None => Some(format!("has no key to go with; set {key_option} too")),
        Some(KeyKind::Text) if !is_hmac => Some(format!(
            "needs a public key, and {key_option} is a secret; write {key_option} = \"file:PATH\""
        )),
        // The classic confusion: a public key taken as an HMAC secret lets everybody sign.
        Some(KeyKind::Pem) if is_hmac => Some(format!(
            "wants a secret, and {key_option} is a PEM key; leave the algorithm out"
        )),
        Some(_) => None,
    }
}

enum KeyKind {
    Text,
    Pem,
    Elsewhere,
}

fn key_kind(source: &str) -> KeyKind {
    // `{` begins a JWK Set as text.
    let elsewhere = ["file:", "@", "http://", "https://", "{"];
    if source.trim_start().starts_with("-----BEGIN ") {
        KeyKind::Pem
    } else if elsewhere.iter().any(|prefix| source.starts_with(prefix)) || source.contains('/') {
        KeyKind::Elsewhere
    } else {
        KeyKind::Text
    }
}

fn problem(loaded: &Loaded, key: &'static str, reason: String) -> Problem {
    let option = options::find(key).expect("the checks name options of the table; tested");
    let value = if option.secret {
        "(hidden)".into()
    } else {
        option.show(&loaded.settings)
    };
    let origin = loaded.origin(key);
    let value = match origin {
        Origin::File { .. } => format!("\"{value}\""),
        _ => value,
    };
    Problem {
        origin,
        key: key.into(),
        value: Some(value),
        reason,
    }
}

impl Settings {
    /// What is allowed and probably not meant, each with the option to change. For the log at start
    /// and `gush check`.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = vec![];
        if self.publisher_key.is_none() && !self.dev {
            warnings.push(
                "nobody can publish: set publisher_key (--publisher-key), or try --dev".into(),
            );
        }
        if self.subscriber_key.is_none() && !self.anonymous {
            warnings.push(
                "nobody can subscribe: set subscriber_key (--subscriber-key) or --anonymous".into(),
            );
        }
        let keys = [
            ("publisher_key", &self.publisher_key),
            ("subscriber_key", &self.subscriber_key),
        ];
        for (name, key) in keys {
            let Some(key) = key.as_ref().map(Secret::expose) else {
                continue;
            };
            if key.starts_with("http://") {
                warnings.push(format!(
                    "{name} is fetched without TLS, so it can be forged"
                ));
            }
            if matches!(key_kind(key), KeyKind::Text) && key.len() < SECRET_BYTES_MIN {
                warnings.push(format!(
                    "{name} is a secret of less than {SECRET_BYTES_MIN} bytes, which can be \
                     guessed from one token; take a longer one"
                ));
            }
        }
        let is_open = |address: &std::net::SocketAddr| !address.ip().is_loopback();
        if self.dev && self.listen.iter().any(is_open) {
            warnings.push(
                "dev is on and a listener is reachable from outside: anybody can subscribe".into(),
            );
        }
        if self.limits.connections_per_address.is_none() && self.listen.iter().any(is_open) {
            warnings.push(
                "one address can take every connection: set max_connections_per_address \
                 (--max-connections-per-address), and trusted_proxy first if one is in front"
                    .into(),
            );
        }
        if let Some(admin) = self
            .admin_listen
            .filter(|address| !address.ip().is_loopback())
        {
            warnings.push(format!(
                "the admin listener {admin} is reachable from outside and has no login"
            ));
        }
        if self.log == LogSpec::Memory && self.max_body > self.window_bytes {
            warnings.push(
                "max_body is larger than window_bytes: the memory log cannot keep such an event"
                    .into(),
            );
        }
        warnings
    }
}
