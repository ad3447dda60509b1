//! A small parser of `text/event-stream`, written from the HTML standard's section 9.2.6 and
//! independent of the hub's own code.

/// One dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// The `id` field of this very block, if it had one.
    pub id: Option<String>,
    /// The last event id a browser would report: of this block, or else of an earlier one.
    pub last_id: String,
    /// The event type; empty when the block named none (a browser calls that `message`).
    pub event: String,
    /// The data lines joined by LF.
    pub data: String,
    /// The `retry` field of this block, in milliseconds.
    pub retry: Option<u64>,
    /// The lines of the block as they came, without their line ends and the closing empty line.
    pub lines: Vec<String>,
}

/// What a stream is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SseItem {
    /// An event that a browser would dispatch.
    Event(SseEvent),
    /// A comment line, without its leading colon.
    Comment(String),
    /// A valid `retry` field, reported as soon as its line is complete, in milliseconds.
    Retry(u64),
    /// A block that ended without data: a browser keeps its id and dispatches nothing.
    Undispatched(Vec<String>),
}

/// Turns bytes into [`SseItem`]s; takes the stream in pieces of any size.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    /// The previous byte was a CR, so an LF now belongs to it.
    after_cr: bool,
    started: bool,
    last_id: String,
    id: Option<String>,
    event: String,
    data: Option<String>,
    retry: Option<u64>,
    lines: Vec<String>,
}

impl SseParser {
    /// Feeds `bytes` and appends what they complete to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<SseItem>) {
        for &byte in bytes {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                continue;
            }
            match byte {
                b'\n' => self.end_line(out),
                b'\r' => {
                    self.after_cr = true;
                    self.end_line(out);
                }
                _ => self.line.push(byte),
            }
        }
    }

    fn end_line(&mut self, out: &mut Vec<SseItem>) {
        let bytes = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.started, true);
        let text = String::from_utf8_lossy(&bytes);
        let line = if first {
            text.trim_start_matches('\u{feff}')
        } else {
            &text
        }
        .to_owned();
        if line.is_empty() {
            self.end_block(out);
            return;
        }
        if let Some(comment) = line.strip_prefix(':') {
            out.push(SseItem::Comment(comment.to_owned()));
            return;
        }
        self.field(&line, out);
        self.lines.push(line);
    }

    fn field(&mut self, line: &str, out: &mut Vec<SseItem>) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => {
                value.clone_into(&mut self.last_id);
                self.id = Some(value.to_owned());
            }
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                if let Ok(retry) = value.parse() {
                    self.retry = Some(retry);
                    out.push(SseItem::Retry(retry));
                }
            }
            _ => {}
        }
    }

    fn end_block(&mut self, out: &mut Vec<SseItem>) {
        let lines = std::mem::take(&mut self.lines);
        let event = std::mem::take(&mut self.event);
        let (id, retry) = (self.id.take(), self.retry.take());
        match self.data.take() {
            Some(data) => out.push(SseItem::Event(SseEvent {
                id,
                last_id: self.last_id.clone(),
                event,
                data,
                retry,
                lines,
            })),
            None if lines.is_empty() => {}
            None => out.push(SseItem::Undispatched(lines)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pieces: &[&[u8]]) -> Vec<SseItem> {
        let mut parser = SseParser::default();
        let mut out = Vec::new();
        for piece in pieces {
            parser.feed(piece, &mut out);
        }
        out
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_items() {
        let stream = b":\nretry: 1500\nevent: t\rid: 7\r\ndata: a\r\ndata:b\ndata\n\nid: 8\n\n: hi\ndata:  x\n\n";
        let whole = parse(&[stream]);
        assert_eq!(whole.len(), 6);
        let SseItem::Event(first) = &whole[2] else {
            panic!("{whole:?}")
        };
        assert_eq!((first.data.as_str(), first.event.as_str()), ("a\nb\n", "t"));
        assert_eq!((first.id.as_deref(), first.retry), (Some("7"), Some(1500)));
        let SseItem::Event(last) = &whole[5] else {
            panic!("{whole:?}")
        };
        assert_eq!(
            (
                last.id.as_deref(),
                last.last_id.as_str(),
                last.data.as_str()
            ),
            (None, "8", " x")
        );
        for at in 0..stream.len() {
            assert_eq!(
                parse(&[&stream[..at], &stream[at..]]),
                whole,
                "split at {at}"
            );
        }
    }

    #[test]
    fn a_line_end_less_tail_is_no_event() {
        assert_eq!(parse(&[b"data: a\n"]), []);
        assert_eq!(parse(&[b"\n\n\n"]), []);
        assert_eq!(parse(&[b"retry: -1\nretry: 1x\n"]), []);
    }
}
