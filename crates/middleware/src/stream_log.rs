//! A record when a stream begins and one when it ends, written by a thread of its own.
//!
//! Who ends a stream never waits for the log: a record goes into a bounded queue, and when that is
//! full (the disk or the pipe behind the log is stuck) it is dropped and counted.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

/// How records are written, one a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// An object a line, for programs.
    Json,
    /// `key=value` pairs, for people.
    Text,
}

/// A stream has begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The client's address, without its port.
    pub peer: String,
    /// Whom the token was made for; empty without a token.
    pub subject: String,
    /// What it subscribes to.
    pub topics: Vec<String>,
    /// Of the request's `traceparent`; empty without one.
    pub trace_id: String,
}

/// A stream has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// The same as when it began.
    pub opened: Arc<Opened>,
    /// From the head of the answer to its end.
    pub duration: Duration,
    /// Events that went out whole.
    pub events: u64,
    /// Bytes that went out.
    pub bytes: u64,
    /// The most events that it was behind; `None` where nobody counts that.
    pub greatest_lag: Option<u64>,
    /// Why it ended: a word of a closed list.
    pub reason: &'static str,
}

#[derive(Debug)]
enum Record {
    Opened(SystemTime, Arc<Opened>),
    Closed(SystemTime, Box<Closed>),
}

/// Takes records and writes them off the path.
#[derive(Debug)]
pub struct StreamLog {
    /// `None` once it is being taken down.
    queue: Option<SyncSender<Record>>,
    dropped: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

impl StreamLog {
    /// Starts the writing thread. At most `records_max` wait to be written, a few hundred bytes
    /// each.
    ///
    /// # Errors
    ///
    /// The system has no thread to give.
    pub fn start(
        sink: impl Write + Send + 'static,
        format: LogFormat,
        records_max: usize,
    ) -> io::Result<Self> {
        let (queue, records) = sync_channel(records_max.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let writer = std::thread::Builder::new()
            .name("stream-log".to_owned())
            .spawn(move || write_all(sink, format, &records, &lost))?;
        Ok(Self {
            queue: Some(queue),
            dropped,
            writer: Some(writer),
        })
    }

    /// Never waits.
    pub fn opened(&self, opened: Arc<Opened>) {
        self.send(Record::Opened(SystemTime::now(), opened));
    }

    /// Never waits.
    pub fn closed(&self, closed: Closed) {
        self.send(Record::Closed(SystemTime::now(), Box::new(closed)));
    }

    /// Records that were not written, because the queue was full or the sink failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, record: Record) {
        let is_taken = self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.try_send(record).is_ok());
        if !is_taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits and ends the thread. Waits for the sink.
    pub fn finish(mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_all(
    mut sink: impl Write,
    format: LogFormat,
    records: &Receiver<Record>,
    dropped: &AtomicU64,
) {
    let mut line = String::new();
    let mut told_failed = false;
    while let Ok(record) = records.recv() {
        line.clear();
        push_record(&record, format, &mut line);
        match sink.write_all(line.as_bytes()).and_then(|()| sink.flush()) {
            Ok(()) => told_failed = false,
            Err(error) => {
                dropped.fetch_add(1, Ordering::Relaxed);
                if !told_failed {
                    tracing::warn!(%error, "the stream log cannot be written; records are lost");
                    told_failed = true;
                }
            }
        }
    }
}

fn push_record(record: &Record, format: LogFormat, line: &mut String) {
    let fields = fields_of(record);
    match format {
        LogFormat::Json => line.push_str(&Value::Object(fields).to_string()),
        LogFormat::Text => push_text(&fields, line),
    }
    line.push('\n');
}

fn fields_of(record: &Record) -> Map<String, Value> {
    let (at, what, opened) = match record {
        Record::Opened(at, opened) => (at, "stream opened", opened),
        Record::Closed(at, closed) => (at, "stream closed", &closed.opened),
    };
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    put(
        "time_unix_ms",
        json!(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
    );
    put("record", json!(what));
    put("peer", json!(opened.peer));
    if !opened.subject.is_empty() {
        put("subject", json!(opened.subject));
    }
    put("topics", json!(opened.topics));
    if !opened.trace_id.is_empty() {
        put("trace_id", json!(opened.trace_id));
    }
    if let Record::Closed(_, closed) = record {
        let duration_ms = u64::try_from(closed.duration.as_millis()).unwrap_or(u64::MAX);
        put("duration_ms", json!(duration_ms));
        put("events", json!(closed.events));
        put("bytes", json!(closed.bytes));
        if let Some(lag) = closed.greatest_lag {
            put("greatest_lag", json!(lag));
        }
        put("reason", json!(closed.reason));
    }
    fields
}

/// Values are JSON too, so that nothing a peer sent can end the line or pass for another pair;
/// plain words go without quotes.
fn push_text(fields: &Map<String, Value>, line: &mut String) {
    for (number, (name, value)) in fields.iter().enumerate() {
        if number > 0 {
            line.push(' ');
        }
        let is_plain = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
            !text.is_empty() && text.bytes().all(plain)
        };
        // Writing into a String does not fail.
        let _ = match value {
            Value::String(text) if is_plain(text) => write!(line, "{name}={text}"),
            value => write!(line, "{name}={value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn opened() -> Arc<Opened> {
        Arc::new(Opened {
            peer: "203.0.113.7".into(),
            subject: "a\" b\nrecord=forged".into(),
            topics: vec!["https://example.com/1".into()],
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(),
        })
    }

    fn written(format: LogFormat) -> String {
        let sink = Shared::default();
        let log = StreamLog::start(sink.clone(), format, 10).expect("a thread");
        log.opened(opened());
        log.closed(Closed {
            opened: opened(),
            duration: Duration::from_millis(1_234),
            events: 5,
            bytes: 678,
            greatest_lag: Some(9),
            reason: "peer_left",
        });
        assert_eq!(log.dropped(), 0);
        log.finish();
        let bytes = sink.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_has_an_object_a_line() {
        let text = written(LogFormat::Json);
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("json"))
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["record"], "stream opened");
        assert_eq!(lines[1]["duration_ms"], 1_234);
        assert_eq!(lines[1]["reason"], "peer_left");
        assert_eq!(lines[1]["greatest_lag"], 9);
        assert_eq!(lines[1]["subject"], "a\" b\nrecord=forged");
    }

    #[test]
    fn nothing_a_peer_sent_forges_a_line_of_text() {
        let text = written(LogFormat::Text);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.contains("peer=203.0.113.7")));
        assert!(text.contains(r#"subject="a\" b\nrecord=forged""#), "{text}");
    }

    /// Waits for a word before each write.
    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_sink_drops_records_and_holds_up_nobody() {
        let (free, stuck) = mpsc::sync_channel(0);
        let log = StreamLog::start(Stuck(stuck), LogFormat::Json, 4).expect("a thread");
        for _ in 0..1000 {
            log.opened(opened());
        }
        // Four wait, and one may be with the writer.
        assert!(log.dropped() >= 995, "{}", log.dropped());
        drop(free);
        log.finish();
    }
}
