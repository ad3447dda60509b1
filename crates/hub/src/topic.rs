//! Topics, and the matchers that subscribers and tokens hold against them.
//!
//! A matcher is `*`, a plain text, or an RFC 6570 template. Nothing is normalised: `a%2Fb` and
//! `a/b` are two topics. A malformed template is a plain text, as in the reference hub.

use std::fmt;
use std::sync::Arc;

// The path is spelled out so that the fuzz targets can include this file from elsewhere.
#[path = "topic/template.rs"]
mod template;

use gush_sse::{FieldError, Topic};

use template::{Template, TemplateError};

#[cfg(test)]
#[path = "topic/tests.rs"]
mod tests;

/// The longest topic that is taken from outside and the longest matcher, in bytes. The figure of
/// the 1.0 draft; the 0.x reference has none.
pub const TOPIC_BYTES_MAX: usize = 4096;

/// The most expressions a template may hold. Matching costs topic bytes times expressions, so
/// this bounds one match to about a millisecond; templates seen in the field hold one to
/// five.
pub const MATCHER_EXPRESSIONS_MAX: usize = 64;

/// Why a text cannot be a topic or a matcher. `Display` is meant for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// No bytes at all.
    Empty,
    /// More than [`TOPIC_BYTES_MAX`] bytes.
    TooLong,
    /// A control character (Unicode category Cc, so also DEL and U+0080 to U+009F).
    Control,
    /// A format character (Unicode category Cf), which nobody sees: U+200B, U+202E, U+FEFF...
    Format,
    /// A template with more than [`MATCHER_EXPRESSIONS_MAX`] expressions.
    TooManyExpressions,
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic is empty"),
            Self::TooLong => write!(f, "a topic is longer than {TOPIC_BYTES_MAX} bytes"),
            Self::Control => f.write_str("a topic holds a control character"),
            Self::Format => f.write_str("a topic holds an invisible format character"),
            Self::TooManyExpressions => {
                write!(
                    f,
                    "a template holds more than {MATCHER_EXPRESSIONS_MAX} expressions"
                )
            }
        }
    }
}

impl std::error::Error for TopicError {}

/// A topic as a publisher may give it: at most [`TOPIC_BYTES_MAX`] bytes.
pub fn parse_topic(text: &str) -> Result<Topic, TopicError> {
    check_length(text)?;
    Ok(Topic::parse(text)?)
}

/// Checks the bounds that topics and matchers share.
fn check_text(text: &str) -> Result<(), TopicError> {
    check_length(text)?;
    Ok(Topic::check(text)?)
}

const fn check_length(text: &str) -> Result<(), TopicError> {
    if text.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    Ok(())
}

impl From<FieldError> for TopicError {
    fn from(error: FieldError) -> Self {
        match error {
            FieldError::Empty => Self::Empty,
            FieldError::TooLong(_) => Self::TooLong,
            FieldError::Format => Self::Format,
            // The other two are of ids alone.
            FieldError::Control | FieldError::Hash | FieldError::Reserved => Self::Control,
        }
    }
}

/// An expression a subscriber or a token gives for topics. Cheap to clone: the text and the
/// compiled form are shared.
#[derive(Clone)]
pub struct Matcher {
    text: Arc<str>,
    /// `None` for `*` and for a plain text. Without an enum a matcher takes 24 bytes, not 32.
    template: Option<Arc<Template>>,
}

impl Matcher {
    /// Compiles a matcher. Only the bounds are errors; a text that is not a valid template is a
    /// plain matcher.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_text(text)?;
        let template = if text.contains('{') {
            match Template::parse(text) {
                Ok(template) => Some(Arc::new(template)),
                Err(TemplateError::TooManyExpressions) => {
                    return Err(TopicError::TooManyExpressions);
                }
                Err(TemplateError::Malformed) => None,
            }
        } else {
            None
        };
        Ok(Self {
            text: Arc::from(text),
            template,
        })
    }

    /// The same as a clone, but with a text and a compiled form of its own.
    pub(crate) fn copied(&self) -> Self {
        let template = self.template.as_deref();
        Self {
            text: Arc::from(&*self.text),
            template: template.map(|template| Arc::new(template.clone())),
        }
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this is `*`, which matches every topic.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        *self.text == *"*"
    }

    /// Whether this is a valid template, so that it can match topics other than its own text.
    #[must_use]
    pub const fn is_template(&self) -> bool {
        self.template.is_some()
    }

    /// Expressions of a template; 0 for everything else. What matching costs grows with them.
    #[must_use]
    pub fn expressions(&self) -> usize {
        self.template
            .as_ref()
            .map_or(0, |template| template.expressions())
    }

    /// Whether the topic fits: always for `*`; when it is byte for byte the text; when the text
    /// is a template and the topic fits that. Linear in the topic's length times the template's
    /// expressions, without recursion, without allocation for topics of up to
    /// [`TOPIC_BYTES_MAX`] bytes.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        match &self.template {
            Some(_) => self.is_expansion(topic) || *self.text == *topic,
            None => *self.text == *topic || self.is_wildcard(),
        }
    }

    /// Whether this is a template and the topic fits it: a topic that is but its own text does
    /// not. Templates with the same [`Self::program`] agree on it.
    pub(crate) fn is_expansion(&self, topic: &str) -> bool {
        #[cfg(test)]
        assert!(*self.text != *FAULTY_MATCHER, "on purpose, in a matcher");
        self.template
            .as_ref()
            .is_some_and(|template| template.matches(&self.text, topic))
    }

    /// The text every matching topic starts with: for a template what stands before the first
    /// expression, for a plain text the whole, for `*` nothing.
    #[must_use]
    pub fn literal_prefix(&self) -> &str {
        match &self.template {
            Some(template) => template.prefix(&self.text),
            None if self.is_wildcard() => "",
            None => &self.text,
        }
    }

    /// The text every topic that fits the template ends with: what stands after the last
    /// expression; for a plain text the whole, for `*` nothing. Prefix and suffix never overlap
    /// in a topic that fits a template.
    #[must_use]
    pub fn literal_suffix(&self) -> &str {
        match &self.template {
            Some(template) => template.suffix(&self.text),
            None if self.is_wildcard() => "",
            None => &self.text,
        }
    }

    /// The texts that stand, in this order, between the prefix and the suffix of every topic that
    /// fits the template; nothing for others.
    pub(crate) fn inner_literals(&self) -> impl Iterator<Item = &str> {
        let template = self.template.as_deref();
        template
            .into_iter()
            .flat_map(|template| template.inner_literals(&self.text))
    }

    /// Whether each of those texts stands somewhere in the topic: far less work than to see
    /// whether it fits, and no topic fits without.
    pub(crate) fn has_inner_literals_in(&self, topic: &str) -> bool {
        let topic = topic.as_bytes();
        self.inner_literals()
            .all(|literal| match literal.as_bytes() {
                // The search for a text has to be made ready, that for a byte not.
                [byte] => memchr::memchr(*byte, topic).is_some(),
                literal => memchr::memmem::find(topic, literal).is_some(),
            })
    }

    /// What decides which topics fit, as numbers: templates that differ only in the names of
    /// their variables have the same. Nothing for others.
    pub(crate) fn program(&self) -> impl Iterator<Item = u64> {
        let template = self.template.as_deref();
        template
            .into_iter()
            .flat_map(|template| template.program(&self.text))
    }
}

/// A template that panics when a topic is held against it.
#[cfg(test)]
pub(crate) const FAULTY_MATCHER: &str = "/faulty/{matcher}";

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Matcher").field(&self.text()).finish()
    }
}

/// Two matchers are the same when their texts are: the compiled form follows from the text.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Matcher {}

impl std::hash::Hash for Matcher {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
