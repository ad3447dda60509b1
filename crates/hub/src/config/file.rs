//! `gush.toml`: one flat table whose keys are the option names. Every problem gets its line.

use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Value as TomlValue};

use super::error::{Origin, Problem};
use crate::options::{self, CONFIG_KEY, OptionSpec};

/// One key of the file, not yet parsed by its form.
pub(super) struct Entry {
    pub(super) option: &'static OptionSpec,
    pub(super) origin: Origin,
    /// The key as written (an alias, perhaps).
    pub(super) key: String,
    /// The value as written, for errors; hidden for a secret.
    pub(super) shown: String,
    pub(super) values: Vec<String>,
}

/// Reads every entry of `text`; `path` is only for messages.
pub(super) fn entries(path: &Path, text: &str) -> (Vec<Entry>, Vec<Problem>) {
    let place = |span: Option<Range<usize>>| {
        let start = span.map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text
            .bytes()
            .take(start)
            .filter(|byte| *byte == b'\n')
            .count();
        Origin::File {
            path: path.to_owned(),
            line,
        }
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            // The message names what was expected, never what stands there: it could be a key.
            let reason = format!("not TOML: {}", error.message().trim().replace('\n', ", "));
            let origin = place(error.span());
            return (
                vec![],
                vec![Problem {
                    origin,
                    key: String::new(),
                    value: None,
                    reason,
                }],
            );
        }
    };
    let (mut entries, mut problems) = (vec![], vec![]);
    for (name, item) in document.as_table() {
        let span = document.as_table().key(name).and_then(toml_edit::Key::span);
        let origin = place(span.or_else(|| item.span()));
        match entry(name, item, origin.clone(), text) {
            Ok(entry) => entries.push(entry),
            Err((value, reason)) => {
                problems.push(Problem {
                    origin,
                    key: name.to_owned(),
                    value,
                    reason,
                });
            }
        }
    }
    (entries, problems)
}

type Refusal = (Option<String>, String);

fn entry(name: &str, item: &Item, origin: Origin, text: &str) -> Result<Entry, Refusal> {
    let Some(option) = options::find(name) else {
        return Err((None, unknown(name, item)));
    };
    let raw = item
        .span()
        .and_then(|span| text.get(span))
        .unwrap_or_default();
    let shown = if option.secret {
        "(hidden)".to_owned()
    } else {
        raw.to_owned()
    };
    let values = match item.as_value() {
        Some(TomlValue::Array(list)) if option.is_repeatable() => {
            list.iter().map(scalar).collect::<Option<Vec<_>>>()
        }
        Some(value) => scalar(value).map(|one| vec![one]),
        None => None,
    };
    let Some(values) = values else {
        let example = match (option.default, option.is_repeatable()) {
            (_, true) => format!("a list of texts, {name} = [\"…\", \"…\"]"),
            ("", _) => format!("one text, {name} = \"…\""),
            (default, _) => format!("one value, such as {name} = \"{default}\""),
        };
        return Err((Some(shown), format!("has the wrong type; write {example}")));
    };
    Ok(Entry {
        option,
        origin,
        key: name.to_owned(),
        shown,
        values,
    })
}

fn scalar(value: &TomlValue) -> Option<String> {
    match value {
        TomlValue::String(text) => Some(text.value().clone()),
        TomlValue::Integer(number) => Some(number.value().to_string()),
        TomlValue::Float(number) => Some(number.value().to_string()),
        TomlValue::Boolean(on) => Some(on.value().to_string()),
        TomlValue::Datetime(_) | TomlValue::Array(_) | TomlValue::InlineTable(_) => None,
    }
}

fn unknown(name: &str, item: &Item) -> String {
    if name == CONFIG_KEY {
        return "a file cannot name another one; use --config or GUSH_CONFIG".into();
    }
    match options::nearest(name) {
        Some(near) => format!("unknown key; did you mean \"{near}\"?"),
        None if item.is_table_like() => {
            "unknown section; the file has none, write the keys without [sections]".into()
        }
        None => {
            "unknown key; `gush serve --help` lists the options, write them with _ for -".into()
        }
    }
}
