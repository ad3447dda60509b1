//! What the value of an option looks like: parsing, showing and the range, from one description.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use gush_middleware::Network;

use crate::config::{parse_bytes, parse_duration, show_bytes, show_duration};
use crate::flush::{FLUSH_TOPICS_MAX, FlushRule};
use crate::topic::Matcher;

/// Most matchers of one option: a subscribe is held against all of them.
const MATCHERS_MAX: usize = 256;

/// A value that stands for "none" and is written as a word or as `0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zero {
    /// How it is written (and shown); `0` is always accepted too.
    pub word: &'static str,
    /// What it means.
    pub means: &'static str,
}

/// Form of a value, with its range (both ends included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// On or off; a flag without a value.
    Switch,
    /// Time with a unit.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
        /// Meaning of zero, if it is allowed.
        zero: Option<Zero>,
    },
    /// Size with a unit.
    Bytes {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Meaning of zero, if it is allowed.
        zero: Option<Zero>,
    },
    /// Plain number.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
        /// Meaning of zero, if it is allowed.
        zero: Option<Zero>,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or more `IP:PORT`.
    Addresses,
    /// `IP:PORT` or `off`.
    AddressOrOff,
    /// One or more addresses or networks in CIDR form.
    Networks,
    /// Path of a file.
    Path,
    /// `memory` or `disk:DIR`.
    Log,
    /// Source of a key: text, file or URL.
    Key,
    /// Name of a signature algorithm.
    Algorithm,
    /// Name of a cookie.
    CookieName,
    /// One or more web origins.
    Origins,
    /// One or more `MATCHER=INTERVAL[/BATCH]`.
    FlushTopics,
    /// One or more matchers of topics.
    Matchers,
    /// Where the records of streams go.
    StreamLog,
}

/// A parsed value. Which variant a [`Form`] gives is fixed; a test goes through every option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Not set, off or no bound.
    None,
    /// A switch.
    Switch(bool),
    /// A time.
    Duration(Duration),
    /// A size or a count.
    Number(u64),
    /// A word, path or key.
    Text(String),
    /// Addresses.
    Addresses(Vec<SocketAddr>),
    /// Several texts.
    List(Vec<String>),
}

const ONE_FORM: &str = "every option's form gives the variant its setter reads; tested for each";

impl Value {
    pub(super) fn switch(self) -> bool {
        let Self::Switch(value) = self else {
            unreachable!("{ONE_FORM}")
        };
        value
    }

    /// Zero when none.
    pub(super) fn duration(self) -> Duration {
        self.some_duration().unwrap_or_default()
    }

    pub(super) fn some_duration(self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Duration(value) => Some(value),
            _ => unreachable!("{ONE_FORM}"),
        }
    }

    pub(super) fn some_number(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Number(value) => Some(value),
            _ => unreachable!("{ONE_FORM}"),
        }
    }

    /// Zero when none; capped at what an address can count.
    pub(super) fn size(self) -> usize {
        usize::try_from(self.some_number().unwrap_or_default()).unwrap_or(usize::MAX)
    }

    /// Zero when none; the ranges of such options end far below 2^32.
    pub(super) fn count(self) -> u32 {
        u32::try_from(self.some_number().unwrap_or_default()).unwrap_or(u32::MAX)
    }

    pub(super) fn some_text(self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Text(value) => Some(value),
            _ => unreachable!("{ONE_FORM}"),
        }
    }

    pub(super) fn text(self) -> String {
        self.some_text().unwrap_or_default()
    }

    pub(super) fn addresses(self) -> Vec<SocketAddr> {
        match self {
            Self::None => Vec::new(),
            Self::Addresses(value) => value,
            _ => unreachable!("{ONE_FORM}"),
        }
    }

    pub(super) fn list(self) -> Vec<String> {
        match self {
            Self::None => Vec::new(),
            Self::List(value) => value,
            _ => unreachable!("{ONE_FORM}"),
        }
    }

    pub(super) fn from_size(value: usize) -> Self {
        if value == 0 {
            Self::None
        } else {
            Self::Number(value as u64)
        }
    }

    pub(super) fn from_count(value: u32) -> Self {
        Self::from_size(value as usize)
    }

    pub(super) fn from_number(value: Option<u64>) -> Self {
        value.map_or(Self::None, Self::Number)
    }

    pub(super) fn from_duration(value: Option<Duration>) -> Self {
        value
            .filter(|v| !v.is_zero())
            .map_or(Self::None, Self::Duration)
    }

    pub(super) fn from_text(value: Option<&str>) -> Self {
        value.map_or(Self::None, |text| Self::Text(text.to_owned()))
    }

    pub(super) fn from_list(value: &[String]) -> Self {
        if value.is_empty() {
            Self::None
        } else {
            Self::List(value.to_vec())
        }
    }
}

impl Form {
    /// The placeholder in help texts.
    pub fn placeholder(&self) -> &'static str {
        match self {
            Self::Switch => "true|false",
            Self::Duration { .. } => "DURATION",
            Self::Bytes { .. } => "BYTES",
            Self::Count { .. } => "COUNT",
            Self::Choice(_) => "WORD",
            Self::Addresses => "ADDR",
            Self::AddressOrOff => "ADDR|off",
            Self::Networks => "NETWORK",
            Self::Path => "FILE",
            Self::Log => "LOG",
            Self::Key => "KEY",
            Self::Algorithm => "ALG",
            Self::CookieName => "NAME",
            Self::Origins => "ORIGIN",
            Self::FlushTopics => "RULE",
            Self::Matchers => "MATCHER",
            Self::StreamLog => "off|stdout|stderr|FILE",
        }
    }

    /// The allowed values in words; empty when the placeholder says it all.
    pub fn range(&self) -> String {
        let (zero, min, max) = match self {
            Self::Switch => return "true or false".into(),
            Self::Choice(words) => return words.join(", "),
            Self::Log => return "memory, disk:DIR".into(),
            Self::Algorithm => return ALGORITHMS.join(", "),
            Self::Addresses => return "IP:PORT, port 0 = any free one".into(),
            Self::AddressOrOff => return "IP:PORT or off".into(),
            Self::Networks => return "an address, or ADDRESS/PREFIX".into(),
            Self::Duration { min, max, zero } => (zero, show_duration(*min), show_duration(*max)),
            Self::Bytes { min, max, zero } => (zero, show_bytes(*min), show_bytes(*max)),
            Self::Count { min, max, zero } => (zero, min.to_string(), max.to_string()),
            Self::FlushTopics => return "MATCHER=INTERVAL or MATCHER=INTERVAL/BATCH".into(),
            Self::StreamLog => return "off, stdout, stderr or a file".into(),
            Self::Path | Self::Key | Self::CookieName | Self::Origins | Self::Matchers => {
                return String::new();
            }
        };
        match zero {
            Some(zero) => format!("{min} to {max}, or {} = {}", zero.word, zero.means),
            None => format!("{min} to {max}"),
        }
    }

    /// Parses what the user wrote. `values` has one entry per repetition of the flag or element of
    /// the list.
    pub fn parse(&self, values: &[&str]) -> Result<Value, String> {
        if let Some(list) = self.parse_list(values) {
            return list;
        }
        let &[text] = values else {
            return Err("takes one value; give it once".into());
        };
        match self {
            Self::Switch => switch(text).map(Value::Switch),
            Self::Duration { min, max, zero } => {
                if is_zero(*zero, text) {
                    return Ok(Value::None);
                }
                let value = parse_duration(text)?;
                self.within(*min <= value && value <= *max, value.is_zero(), *zero)?;
                Ok(Value::from_duration(Some(value)))
            }
            Self::Bytes { min, max, zero } | Self::Count { min, max, zero } => {
                if is_zero(*zero, text) {
                    return Ok(Value::None);
                }
                let is_bytes = matches!(self, Self::Bytes { .. });
                let value = if is_bytes {
                    parse_bytes(text)
                } else {
                    count(text)
                }?;
                self.within(*min <= value && value <= *max, value == 0, *zero)?;
                Ok(if value == 0 {
                    Value::None
                } else {
                    Value::Number(value)
                })
            }
            Self::Choice(words) => word(text, words),
            Self::Algorithm => word(text, ALGORITHMS),
            Self::AddressOrOff if text == "off" => Ok(Value::None),
            Self::AddressOrOff => address(text).map(|one| Value::Addresses(vec![one])),
            Self::Log => log(text),
            Self::CookieName => cookie_name(text),
            Self::Path | Self::Key | Self::StreamLog if text.trim().is_empty() => {
                Err("is empty; leave it out instead".into())
            }
            Self::Path | Self::Key | Self::StreamLog => Ok(Value::Text(text.to_owned())),
            Self::Addresses
            | Self::Networks
            | Self::Origins
            | Self::FlushTopics
            | Self::Matchers => {
                unreachable!("returned above")
            }
        }
    }

    /// The forms that take several values; `None` for the others.
    fn parse_list(&self, values: &[&str]) -> Option<Result<Value, String>> {
        let texts = |parse: fn(&str) -> Result<String, String>| {
            let parsed = values.iter().map(|text| parse(text));
            let parsed: Result<Vec<_>, _> = parsed.collect();
            parsed.map(|list| Value::from_list(&list))
        };
        let at_most = |max: usize| {
            let too_many = || format!("there are at most {max} of them");
            (values.len() <= max).then_some(()).ok_or_else(too_many)
        };
        Some(match self {
            Self::Addresses => {
                let addresses = values.iter().map(|text| address(text));
                addresses.collect::<Result<_, _>>().map(Value::Addresses)
            }
            Self::Networks => at_most(NETWORKS_MAX).and_then(|()| texts(network)),
            Self::Origins => texts(origin),
            Self::FlushTopics => {
                let rule = |text: &str| FlushRule::parse(text).map(|_| text.to_owned());
                at_most(FLUSH_TOPICS_MAX).and_then(|()| texts(rule))
            }
            Self::Matchers => {
                let matcher = |text: &str| match Matcher::parse(text) {
                    Ok(_) => Ok(text.to_owned()),
                    Err(error) => Err(error.to_string()),
                };
                at_most(MATCHERS_MAX).and_then(|()| texts(matcher))
            }
            _ => return None,
        })
    }

    /// The value as a user would write it. The inverse of [`Form::parse`] for one value; lists are
    /// joined by commas.
    pub fn show(&self, value: &Value) -> String {
        match (value, self) {
            (
                Value::None,
                Self::Duration {
                    zero: Some(zero), ..
                }
                | Self::Bytes {
                    zero: Some(zero), ..
                }
                | Self::Count {
                    zero: Some(zero), ..
                },
            ) => zero.word.to_owned(),
            (Value::None, Self::AddressOrOff) => "off".into(),
            (Value::None, _) => String::new(),
            (Value::Switch(value), _) => value.to_string(),
            (Value::Duration(value), _) => show_duration(*value),
            (Value::Number(value), Self::Bytes { .. }) => show_bytes(*value),
            (Value::Number(value), _) => value.to_string(),
            (Value::Text(value), _) => value.clone(),
            (Value::List(values), _) => values.join(","),
            (Value::Addresses(values), _) => values
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(","),
        }
    }

    fn within(&self, inside: bool, is_zero: bool, zero: Option<Zero>) -> Result<(), String> {
        if inside || (is_zero && zero.is_some()) {
            return Ok(());
        }
        Err(format!("is out of range; write {}", self.range()))
    }
}

/// The signature algorithms the hub knows (RFC 7518, RFC 8037).
pub(super) const ALGORITHMS: &[&str] = &[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "ES512", "EdDSA",
];

fn is_zero(zero: Option<Zero>, text: &str) -> bool {
    zero.is_some_and(|zero| text == "0" || text == zero.word)
}

fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("is a switch; write true or false".into()),
    }
}

fn count(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| "is not a whole number; write digits only".into())
}

fn word(text: &str, words: &[&str]) -> Result<Value, String> {
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text));
    let found = found.ok_or_else(|| format!("is not known; write one of {}", words.join(", ")))?;
    Ok(Value::Text((*found).to_owned()))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let unnamed = text
        .strip_prefix("localhost:")
        .and_then(|port| port.parse().ok());
    if let Some(port) = unnamed {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| {
        if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
            return format!(
                "an address needs an IP; write \"127.0.0.1:{port}\" for this machine only, \
                 \"0.0.0.0:{port}\" for everybody"
            );
        }
        "is not an address; write IP:PORT such as 127.0.0.1:3000 or [::]:3000".into()
    })
}

/// Most networks of one option: each connection is held against all of them.
const NETWORKS_MAX: usize = 256;

fn network(text: &str) -> Result<String, String> {
    let network: Network = text.parse().map_err(|_| {
        "is not an address or network; write one such as 10.0.0.0/8 or 2001:db8::/32".to_owned()
    })?;
    Ok(network.to_string())
}

fn log(text: &str) -> Result<Value, String> {
    if text.starts_with("nats:") || text.starts_with("redis:") || text.starts_with("rediss:") {
        return Err("NATS and Redis logs come in a later release; write memory or disk:DIR".into());
    }
    match text.split_once(':') {
        None if text == "memory" => Ok(Value::Text(text.to_owned())),
        Some(("disk", dir)) if !dir.is_empty() => Ok(Value::Text(text.to_owned())),
        Some(("disk", _)) | None if text.trim_end_matches(':') == "disk" => {
            Err("a disk log needs a directory; write \"disk:./data\"".into())
        }
        _ => Err("is not a log; write memory or disk:DIR, such as \"disk:./data\"".into()),
    }
}

/// A cookie name is an HTTP token (RFC 6265 §4.1.1).
fn cookie_name(text: &str) -> Result<Value, String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("is not a cookie name; use letters, digits, - and _".into());
    }
    Ok(Value::Text(text.to_owned()))
}

/// An origin as a browser sends it, `null`, `*`, or one with a single `*` inside.
fn origin(text: &str) -> Result<String, String> {
    if text == "*" || text == "null" {
        return Ok(text.to_owned());
    }
    let Some((scheme, host)) = text.split_once("://") else {
        return Err("an origin needs a scheme; write one such as https://example.com".into());
    };
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ', ',']) || scheme.is_empty() {
        return Err(
            "an origin is scheme, host and port only; write one such as https://example.com".into(),
        );
    }
    if text.matches('*').count() > 1 {
        return Err("an origin takes one * at most, such as https://*.example.com".into());
    }
    // Browsers send scheme and host in lower case; compared byte by byte later.
    Ok(text.to_ascii_lowercase())
}
