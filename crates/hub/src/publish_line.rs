//! One line of a batch publish: a JSON object with the fields of an event.
//!
//! `{"topic": "a" or ["a", "b"], "data": "..", "id": "..", "type": "..", "retry": 3000,
//! "private": true, "gush_latest": true, "gush_key": ".."}`. Only `topic` has to be there; `null`
//! is the same as absent; other names are passed over, as in a form. What the fields may hold is
//! checked where a form's fields are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::admit::Rejection;
use crate::dialect::{KEY_FIELD, LATEST_FIELD, PublishRequest, Retry, TOPICS_MAX, invalid};
use gush_log::Draft;

#[cfg(test)]
#[path = "publish_line/tests.rs"]
mod tests;

/// The checked event of a line. Time and memory are linear in the line.
///
/// # Errors
///
/// 400 for what is no JSON object or has a field of another type; else as a form publish with the
/// same fields.
pub fn line_draft(line: &[u8]) -> Result<Draft, Rejection> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| {
        // What is said of a wrong type repeats the value; a wrong character is only a place.
        let place = if error.is_data() {
            String::new()
        } else {
            format!(": {error}")
        };
        Rejection::bad_request(format!("the line is not a JSON object{place}"))
    })?;
    if let Some(name) = line.twice {
        let reason = "the line has it more than once";
        return Err(invalid(name, &reason));
    }
    let Field::Is(topics) = line.topics.or(Vec::new()) else {
        let reason = "it has to be a string or an array of strings";
        return Err(invalid("topic", &reason));
    };
    let Field::Is(is_private) = line.private.or(false) else {
        return Err(invalid("private", &"it has to be true or false"));
    };
    let Field::Is(is_latest) = line.latest.or(false) else {
        return Err(invalid(LATEST_FIELD, &"it has to be true or false"));
    };
    let (id, kind) = (text("id", line.id)?, text("type", line.kind)?);
    let key = text(KEY_FIELD, line.key)?;
    let request = PublishRequest {
        topics: &topics,
        data: text("data", line.data)?,
        id: &id,
        kind: &kind,
        retry: match line.retry {
            Field::Absent => Retry::Absent,
            Field::Is(retry_ms) => Retry::Millis(retry_ms),
            Field::Wrong => Retry::Invalid,
        },
        is_private,
        is_latest,
        key: &key,
    };
    request.checked()
}

fn text<'a>(name: &str, field: Field<Cow<'a, str>>) -> Result<Cow<'a, str>, Rejection> {
    match field.or(Cow::Borrowed("")) {
        Field::Is(text) => Ok(text),
        _ => Err(invalid(name, &"it has to be a string")),
    }
}

/// A member of the object.
#[derive(Default)]
enum Field<T> {
    #[default]
    Absent,
    Is(T),
    /// Of another type.
    Wrong,
}

impl<T> Field<T> {
    fn or(self, default: T) -> Self {
        match self {
            Self::Absent => Self::Is(default),
            other => other,
        }
    }
}

#[derive(Default)]
struct Line<'a> {
    topics: Field<Vec<Cow<'a, str>>>,
    data: Field<Cow<'a, str>>,
    id: Field<Cow<'a, str>>,
    kind: Field<Cow<'a, str>>,
    retry: Field<u64>,
    private: Field<bool>,
    latest: Field<bool>,
    key: Field<Cow<'a, str>>,
    /// A name that came more than once.
    twice: Option<&'static str>,
}

/// The names that mean something.
enum Name {
    Topic,
    Data,
    Id,
    Type,
    Retry,
    Private,
    Latest,
    Key,
    Other,
}

impl Name {
    const fn text(&self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Data => "data",
            Self::Id => "id",
            Self::Type => "type",
            Self::Retry => "retry",
            Self::Private => "private",
            Self::Latest => LATEST_FIELD,
            Self::Key => KEY_FIELD,
            Self::Other => "",
        }
    }

    const fn bit(&self) -> u8 {
        match self {
            Self::Topic => 1,
            Self::Data => 2,
            Self::Id => 4,
            Self::Type => 8,
            Self::Retry => 16,
            Self::Private => 32,
            Self::Latest => 64,
            Self::Key => 128,
            Self::Other => 0,
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(match name {
                    "topic" => Name::Topic,
                    "data" => Name::Data,
                    "id" => Name::Id,
                    "type" => Name::Type,
                    "retry" => Name::Retry,
                    "private" => Name::Private,
                    LATEST_FIELD => Name::Latest,
                    KEY_FIELD => Name::Key,
                    _ => Name::Other,
                })
            }
        }

        deserializer.deserialize_identifier(NameVisitor)
    }
}

impl<'de> Deserialize<'de> for Line<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LineVisitor;

        impl<'de> Visitor<'de> for LineVisitor {
            type Value = Line<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Line<'de>, M::Error> {
                let mut line = Line::default();
                let mut seen = 0_u8;
                while let Some(name) = map.next_key::<Name>()? {
                    if seen & name.bit() != 0 {
                        line.twice.get_or_insert(name.text());
                    }
                    seen |= name.bit();
                    match name {
                        Name::Topic => line.topics = map.next_value::<Any<'_>>()?.texts(),
                        Name::Data => line.data = map.next_value::<Any<'_>>()?.text(),
                        Name::Id => line.id = map.next_value::<Any<'_>>()?.text(),
                        Name::Type => line.kind = map.next_value::<Any<'_>>()?.text(),
                        Name::Retry => line.retry = map.next_value::<Any<'_>>()?.number(),
                        Name::Private => line.private = map.next_value::<Any<'_>>()?.truth(),
                        Name::Latest => line.latest = map.next_value::<Any<'_>>()?.truth(),
                        Name::Key => line.key = map.next_value::<Any<'_>>()?.text(),
                        Name::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(line)
            }
        }

        // Not `deserialize_map`: its error for other types repeats their value.
        deserializer.deserialize_any(LineVisitor)
    }
}

/// A value of any type, as far as a field can use it.
enum Any<'a> {
    Null,
    Text(Cow<'a, str>),
    /// An array of texts, at most one more than a publish may have topics.
    Texts(Vec<Cow<'a, str>>),
    Number(u64),
    Truth(bool),
    Other,
}

impl<'a> Any<'a> {
    fn text(self) -> Field<Cow<'a, str>> {
        match self {
            Self::Null => Field::Absent,
            Self::Text(text) => Field::Is(text),
            _ => Field::Wrong,
        }
    }

    fn texts(self) -> Field<Vec<Cow<'a, str>>> {
        match self {
            Self::Null => Field::Absent,
            Self::Text(text) => Field::Is(vec![text]),
            Self::Texts(texts) => Field::Is(texts),
            _ => Field::Wrong,
        }
    }

    const fn number(&self) -> Field<u64> {
        match self {
            Self::Null => Field::Absent,
            Self::Number(number) => Field::Is(*number),
            _ => Field::Wrong,
        }
    }

    const fn truth(&self) -> Field<bool> {
        match self {
            Self::Null => Field::Absent,
            Self::Truth(truth) => Field::Is(*truth),
            _ => Field::Wrong,
        }
    }
}

impl<'de> Deserialize<'de> for Any<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Any<'de>, E> {
        Ok(Any::Null)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Any<'de>, E> {
        Ok(Any::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Any<'de>, E> {
        Ok(Any::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Any<'de>, E> {
        Ok(Any::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Any<'de>, E> {
        Ok(Any::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Any<'de>, E> {
        Ok(Any::Other)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Any<'de>, E> {
        Ok(Any::Truth(truth))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Any<'de>, S::Error> {
        let mut texts = Some(Vec::new());
        while let Some(one) = seq.next_element::<OneText<'_>>()? {
            match (&mut texts, one.0) {
                (Some(texts), Some(text)) if texts.len() <= TOPICS_MAX => texts.push(text),
                (_, Some(_)) => {}
                (_, None) => texts = None,
            }
        }
        Ok(texts.map_or(Any::Other, Any::Texts))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Any<'de>, M::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Any::Other)
    }
}

/// An element of an array of topics; `None` for another type, whose insides nobody looks at.
struct OneText<'a>(Option<Cow<'a, str>>);

impl<'de> Deserialize<'de> for OneText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneVisitor;

        impl<'de> Visitor<'de> for OneVisitor {
            type Value = OneText<'de>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<OneText<'de>, E> {
                Ok(OneText(None))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<OneText<'de>, E> {
                Ok(OneText(Some(Cow::Borrowed(text))))
            }

            fn visit_str<E>(self, text: &str) -> Result<OneText<'de>, E> {
                Ok(OneText(Some(Cow::Owned(text.to_owned()))))
            }

            fn visit_u64<E>(self, _: u64) -> Result<OneText<'de>, E> {
                Ok(OneText(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<OneText<'de>, E> {
                Ok(OneText(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<OneText<'de>, E> {
                Ok(OneText(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<OneText<'de>, E> {
                Ok(OneText(None))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<OneText<'de>, S::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(OneText(None))
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<OneText<'de>, M::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(OneText(None))
            }
        }

        deserializer.deserialize_any(OneVisitor)
    }
}
