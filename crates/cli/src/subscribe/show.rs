//! Events on stdout.

use gush_sse::ParsedEvent;
use serde_json::json;

use crate::failure::{Failure, print};

/// Prints events and counts them.
pub(super) struct Printer {
    as_json: bool,
    count_max: Option<u64>,
    printed: u64,
}

impl Printer {
    pub(super) fn new(as_json: bool, count_max: Option<u64>) -> Self {
        Self {
            as_json,
            count_max,
            printed: 0,
        }
    }

    /// Prints one event; `true` when it was the last one wanted.
    pub(super) fn event(&mut self, event: &ParsedEvent) -> Result<bool, Failure> {
        print(&if self.as_json {
            json_line(event)
        } else {
            text_block(event)
        })?;
        self.printed += 1;
        Ok(self.count_max == Some(self.printed))
    }
}

fn json_line(event: &ParsedEvent) -> String {
    // Written field by field: a map would sort them.
    let [id, kind, data] = [&event.id, &event.kind, &event.data].map(|text| json!(text));
    format!("{{\"id\":{id},\"type\":{kind},\"data\":{data}}}")
}

/// Id and type, the data's lines, an empty line. Control characters are shown, not sent to the
/// terminal.
fn text_block(event: &ParsedEvent) -> String {
    let mut block = format!(
        "id: {}\ntype: {}\n",
        visible(&event.id),
        visible(&event.kind)
    );
    for line in event.data.split('\n') {
        block.push_str("data: ");
        block.push_str(&visible(line));
        block.push('\n');
    }
    block
}

fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(data: &str) -> ParsedEvent {
        ParsedEvent {
            id: "7".into(),
            kind: "message".into(),
            data: data.into(),
        }
    }

    #[test]
    fn text_shows_each_line_and_no_control_character() {
        assert_eq!(
            text_block(&event("a\nb\x1b[2J")),
            "id: 7\ntype: message\ndata: a\ndata: b\\u{1b}[2J\n"
        );
    }

    #[test]
    fn json_is_one_line() {
        let line = json_line(&event("a\nb"));
        assert_eq!(line, r#"{"id":"7","type":"message","data":"a\nb"}"#);
    }
}
