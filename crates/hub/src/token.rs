//! What the claims of a token grant.

use gush_middleware::auth;
use serde_json::{Map, Value};

use crate::topic::Matcher;

pub use auth::{TOKEN_BYTES_MAX, TokenError};

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;

/// The most matchers in one claim; the reference hub's figure.
pub const CLAIM_MATCHERS_MAX: usize = 1_000;

/// The claim that holds the grants, unless [`NAMESPACED_CLAIM`] is there.
const CLAIM: &str = "mercure";

/// The same claim under a name that cannot clash; replaces [`CLAIM`] when both are there.
const NAMESPACED_CLAIM: &str = "https://mercure.rocks/";

/// A token's times, its subject and its [`Grants`].
pub type Claims = auth::Claims<Grants>;

/// What a token grants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// What may be published to; `None` and empty both grant nothing.
    pub publish: Option<Vec<Matcher>>,
    /// Which private events may be read; `None` and empty both mean public events only.
    pub subscribe: Option<Vec<Matcher>>,
    /// Attached to subscription events; JSON `null` counts as absent.
    pub payload: Option<Value>,
}

impl auth::Grants for Grants {
    fn read(claims: &mut Map<String, Value>) -> Result<Self, &'static str> {
        let mut object = |name: &str| claims.remove(name).filter(|value| !value.is_null());
        let mut grants = match object(NAMESPACED_CLAIM).or_else(|| object(CLAIM)) {
            None => Map::new(),
            Some(Value::Object(grants)) => grants,
            Some(_) => return Err("`mercure` is not an object"),
        };
        Ok(Self {
            publish: matchers(grants.remove("publish"), "bad `mercure.publish`")?,
            subscribe: matchers(grants.remove("subscribe"), "bad `mercure.subscribe`")?,
            payload: grants
                .remove("payload")
                .filter(|payload| !payload.is_null()),
        })
    }
}

impl Grants {
    /// Whether an event with these topics may be published: each matches at least one matcher.
    pub fn may_publish<'t>(&self, topics: impl Iterator<Item = &'t str>) -> bool {
        let mut topics = topics.peekable();
        topics.peek().is_some() && topics.all(|topic| any_matches(self.publish.as_ref(), topic))
    }

    /// Whether a private event with these topics may be read: any matches any matcher.
    pub fn may_read<'t>(&self, mut topics: impl Iterator<Item = &'t str>) -> bool {
        topics.any(|topic| any_matches(self.subscribe.as_ref(), topic))
    }
}

fn any_matches(matchers: Option<&Vec<Matcher>>, topic: &str) -> bool {
    matchers.is_some_and(|matchers| matchers.iter().any(|matcher| matcher.matches(topic)))
}

fn matchers(
    claim: Option<Value>,
    problem: &'static str,
) -> Result<Option<Vec<Matcher>>, &'static str> {
    let texts = match claim {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(texts)) if texts.len() <= CLAIM_MATCHERS_MAX => texts,
        Some(_) => return Err(problem),
    };
    let matchers = texts.iter().map(|text| {
        text.as_str()
            .and_then(|text| Matcher::parse(text).ok())
            .ok_or(problem)
    });
    matchers.collect::<Result<_, _>>().map(Some)
}
