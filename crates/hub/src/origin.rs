//! Web origins: which pages may read answers (CORS), and which may publish with the cookie that
//! browsers send along unasked.

use std::borrow::Cow;
use std::fmt;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER, VARY,
};

#[cfg(test)]
#[path = "origin/tests.rs"]
mod tests;

/// The request headers a page may set, as one lower-case list.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization,cache-control,last-event-id");

/// The methods a page may use.
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, HEAD");

/// The most bytes of an origin that are compared: a scheme, a host name of 253 and a port.
const ORIGIN_BYTES_MAX: usize = 300;

/// The origins of one option. Compared without regard to ASCII case, otherwise byte for byte.
#[derive(Clone, Debug, Default)]
pub struct OriginRules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    /// `*`: every origin, `null` too.
    Any,
    Exact(Box<str>),
    /// A single `*` inside.
    Pattern {
        prefix: Box<str>,
        suffix: Box<str>,
    },
}

impl OriginRules {
    /// Reads the entries: an origin (`https://example.com`, `http://localhost:3000`), `null`, `*`,
    /// or an origin with a single `*` inside (`https://*.example.com`) that stands for any
    /// characters of a host and port.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, OriginError> {
        let rules = entries.iter().map(|entry| Rule::parse(entry.as_ref()));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is no entry, so that no origin is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether an entry allows the origin, which is as browsers send it: `scheme://host[:port]`
    /// or `null`.
    pub fn allows(&self, origin: &str) -> bool {
        origin.len() <= ORIGIN_BYTES_MAX && self.rules.iter().any(|rule| rule.allows(origin))
    }
}

impl OriginRules {
    /// Whether an entry other than `*` allows the origin.
    fn names(&self, origin: &str) -> bool {
        let named = |rule: &Rule| !matches!(rule, Rule::Any) && rule.allows(origin);
        self.rules.iter().any(named)
    }
}

impl Rule {
    fn parse(entry: &str) -> Result<Self, OriginError> {
        let error = |problem| {
            Err(OriginError {
                entry: entry.to_owned(),
                problem,
            })
        };
        match entry {
            "*" => return Ok(Self::Any),
            "null" => return Ok(Self::Exact("null".into())),
            _ => {}
        }
        let Some((scheme, authority)) = entry.split_once("://") else {
            return error("begins with no scheme such as https://");
        };
        if scheme.is_empty()
            || !scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
        {
            return error("begins with no scheme such as https://");
        }
        if authority.is_empty() {
            return error("names no host");
        }
        if let Some(rest) = authority.find(['/', '?', '#']) {
            let is_slash = &authority[rest..] == "/";
            return error(if is_slash {
                "ends with a slash"
            } else {
                "holds more than an origin"
            });
        }
        if !authority
            .bytes()
            .all(|byte| is_authority(byte) || byte == b'*')
        {
            return error("holds a character that no origin has");
        }
        let mut literals = entry.split('*');
        match (literals.next(), literals.next(), literals.next()) {
            (Some(prefix), Some(suffix), None) => Ok(Self::Pattern {
                prefix: prefix.into(),
                suffix: suffix.into(),
            }),
            (_, Some(_), Some(_)) => error("holds more than one *"),
            _ => Ok(Self::Exact(entry.into())),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Pattern { prefix, suffix } => {
                // By bytes: a cut between them need not fall between characters.
                let origin = origin.as_bytes();
                let Some(middle_end) = origin.len().checked_sub(suffix.len()) else {
                    return false;
                };
                let Some(middle) = origin.get(prefix.len()..middle_end) else {
                    return false;
                };
                origin[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
                    && origin[middle_end..].eq_ignore_ascii_case(suffix.as_bytes())
                    && middle.iter().all(|&byte| is_authority(byte))
            }
        }
    }
}

/// A byte of a host name, an address in brackets, or a port.
fn is_authority(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)
}

/// An entry that is no origin. `Display` is meant for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError {
    entry: String,
    problem: &'static str,
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.entry, self.problem)
    }
}

impl std::error::Error for OriginError {}

/// The origin a request says it comes from: its `Origin`, else scheme, host and port of its
/// `Referer`. `None`: neither is there, or what is there cannot be read.
pub fn request_origin(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    if headers.contains_key(ORIGIN) {
        return origin_header(headers).map(Cow::Borrowed);
    }
    let referer = only(headers, &REFERER)?;
    let (scheme, rest) = referer.split_once("://")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit('@').next()?;
    if scheme.is_empty() || host.is_empty() {
        return None;
    }
    if host.len() == authority.len() {
        return Some(Cow::Borrowed(&referer[..scheme.len() + 3 + host.len()]));
    }
    Some(Cow::Owned(format!("{scheme}://{host}")))
}

fn origin_header(headers: &HeaderMap) -> Option<&str> {
    only(headers, &ORIGIN).filter(|origin| !origin.is_empty())
}

/// The header's text, when it is there exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// The CORS headers of an answer. Without rules there are none. With rules, every answer says
/// that it depends on the origin, so that a cache does not mix them up; only to an allowed origin
/// it says more. A foreign origin's answer is otherwise normal: it is the browser that keeps it
/// from the page.
///
/// An origin that an entry names is echoed and may send credentials. One that only `*` allows gets
/// the literal `*` and may not: with the cookie of a logged-in user every page of the web could
/// read that user's private events. (Browsers refuse the two together, which is what the reference
/// hub sends.)
pub fn cors_headers(
    rules: &OriginRules,
    request: &HeaderMap,
    is_preflight: bool,
) -> Vec<(HeaderName, HeaderValue)> {
    if rules.is_empty() {
        return Vec::new();
    }
    let mut headers = vec![(VARY, HeaderValue::from_static("Origin"))];
    let allowed = origin_header(request).filter(|origin| rules.allows(origin));
    // What came in a header can go out in one.
    let Some((origin, Ok(echo))) = allowed.map(|text| (text, HeaderValue::from_str(text))) else {
        return headers;
    };
    if rules.names(origin) {
        headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, echo));
        headers.push((
            ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        ));
    } else {
        headers.push((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")));
    }
    if is_preflight {
        headers.push((ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS));
        headers.push((ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS));
    }
    headers
}
