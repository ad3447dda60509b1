//! A record when a stream begins and one when it ends, written by a thread of its own.
//!
//! Who ends a stream never waits for the log: a record goes into a bounded queue, and when that is
//! full (the disk or the pipe behind the log is stuck) it is dropped and counted.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Most bytes written with one call while more records wait. Ours: many lines for one system call,
/// and a reader of the file is never far behind.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of the topics in one record; how many more there were stands beside. A stream may
/// have a thousand of four thousand bytes each.
const TOPICS_BYTES_MAX: usize = 8 * 1024;

/// Most bytes of a subject in a record. Longer ones are cut and end with an ellipsis.
const SUBJECT_BYTES_MAX: usize = 512;

/// How often the end looks whether a full queue has room.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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

/// Whatever knows how a stream is described. Asked by the thread that writes, so that whoever
/// begins or ends the stream copies nothing.
pub trait Described: fmt::Debug + Send + Sync {
    /// What both of its records say.
    fn describe(&self) -> Opened;
}

impl Described for Opened {
    fn describe(&self) -> Opened {
        self.clone()
    }
}

/// A stream has ended.
#[derive(Clone, Debug)]
pub struct Closed {
    /// The same as when it began.
    pub opened: Arc<dyn Described>,
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
    Opened(SystemTime, Arc<dyn Described>),
    Closed(SystemTime, Box<Closed>),
    /// Nothing to write: the sink is flushed.
    Nudge,
    /// The last one; told when all before it are written.
    Last(SyncSender<()>),
}

/// Takes records and writes them off the path.
#[derive(Debug)]
pub struct StreamLog {
    queue: SyncSender<Record>,
    dropped: Arc<AtomicU64>,
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
        // It ends with the last sender.
        std::thread::Builder::new()
            .name("stream-log".to_owned())
            .spawn(move || write_all(sink, format, &records, &lost))?;
        Ok(Self { queue, dropped })
    }

    /// Never waits.
    pub fn opened(&self, opened: Arc<dyn Described>) {
        self.send(Record::Opened(SystemTime::now(), opened));
    }

    /// Never waits.
    pub fn closed(&self, closed: Closed) {
        self.send(Record::Closed(SystemTime::now(), Box::new(closed)));
    }

    /// Has the sink flushed though there is nothing to write: one that begins a new file then does
    /// so at once. Never waits; with a full queue the next record comes soon enough.
    pub fn nudge(&self) {
        let _ = self.queue.try_send(Record::Nudge);
    }

    /// Records that were not written, because the queue was full or the sink failed.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has what waits written, for as long as `patience`; then a sink that is stuck keeps it. No
    /// record is written after this.
    pub fn finish(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (tell, told) = sync_channel(1);
        let mut last = Record::Last(tell);
        loop {
            match self.queue.try_send(last) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => last = back,
                Err(_) => return,
            }
            // Nobody else can tell yet: this only lets the time pass.
            let _ = told.recv_timeout(LOOK_AGAIN);
        }
        let _ = told.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(
    mut sink: impl Write,
    format: LogFormat,
    records: &Receiver<Record>,
    dropped: &AtomicU64,
) {
    let mut lines = String::new();
    let mut told_failed = false;
    let mut is_cut = false;
    while let Ok(first) = records.recv() {
        lines.clear();
        if is_cut {
            // What a full disk took half of is a line of its own.
            lines.push('\n');
        }
        let mut count = 0;
        let mut last = None;
        let mut next = Some(first);
        while let Some(record) = next {
            match record {
                Record::Nudge => {}
                Record::Last(tell) => {
                    last = Some(tell);
                    break;
                }
                record => {
                    push_record(&record, format, &mut lines);
                    count += 1;
                }
            }
            next = (lines.len() < WRITE_BYTES_MAX)
                .then(|| records.try_recv().ok())
                .flatten();
        }
        let (taken, outcome) = put(&mut sink, lines.as_bytes());
        if let Some(last) = lines.as_bytes()[..taken].last() {
            is_cut = *last != b'\n';
        }
        match outcome.and_then(|()| sink.flush()) {
            Ok(()) => told_failed = false,
            Err(error) => {
                dropped.fetch_add(count, Ordering::Relaxed);
                if !told_failed {
                    tracing::warn!(%error, "the stream log cannot be written; records are lost");
                    told_failed = true;
                }
            }
        }
        if lines.capacity() > 2 * WRITE_BYTES_MAX {
            lines = String::new();
        }
        if let Some(tell) = last {
            let _ = tell.send(());
            return;
        }
    }
}

/// Writes all of it, or as much as the sink takes before it fails; how much that was.
fn put(sink: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut taken = 0;
    while taken < bytes.len() {
        match sink.write(&bytes[taken..]) {
            Ok(0) => return (taken, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (taken, Err(error)),
        }
    }
    (taken, Ok(()))
}

fn push_record(record: &Record, format: LogFormat, lines: &mut String) {
    let Some(fields) = fields_of(record) else {
        return;
    };
    let mut line = String::new();
    match format {
        LogFormat::Json => push_json(&fields, &mut line),
        LogFormat::Text => push_text(&fields, &mut line),
    }
    push_escaped(&line, lines);
    lines.push('\n');
}

/// JSON escapes control characters below U+0020 and nothing else. What steers a terminal or turns
/// the direction of a line stands inside a string wherever it comes from a peer, so it can be
/// written as an escape there.
fn push_escaped(line: &str, out: &mut String) {
    for character in line.chars() {
        let steers = character.is_control()
            || matches!(
                character,
                '\u{200b}'..='\u{200f}'
                    | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}'
                    | '\u{feff}'
            );
        if steers {
            // Writing into a String does not fail.
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
    }
}

/// The fields of a record, in the order in which they are written.
type Fields = Vec<(&'static str, Value)>;

/// `None`: the record is none of a stream.
fn fields_of(record: &Record) -> Option<Fields> {
    let (at, what, opened) = match record {
        Record::Opened(at, opened) => (at, "stream opened", opened),
        Record::Closed(at, closed) => (at, "stream closed", &closed.opened),
        Record::Nudge | Record::Last(_) => return None,
    };
    let opened = opened.describe();
    let mut fields = Fields::new();
    let mut put = |name, value| fields.push((name, value));
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    put(
        "time_unix_ms",
        json!(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
    );
    put("record", json!(what));
    put("peer", json!(opened.peer));
    if !opened.subject.is_empty() {
        put("subject", json!(cut(opened.subject)));
    }
    let mut bytes = 0;
    let fits = |topic: &&String| {
        bytes += topic.len();
        bytes <= TOPICS_BYTES_MAX
    };
    let topics: Vec<&String> = opened.topics.iter().take_while(fits).collect();
    put("topics", json!(topics));
    if topics.len() < opened.topics.len() {
        put("more_topics", json!(opened.topics.len() - topics.len()));
    }
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
    Some(fields)
}

fn cut(mut subject: String) -> String {
    if subject.len() > SUBJECT_BYTES_MAX {
        subject.truncate(subject.floor_char_boundary(SUBJECT_BYTES_MAX));
        subject.push('…');
    }
    subject
}

/// By hand, because an object of the library's would sort its members.
fn push_json(fields: &Fields, line: &mut String) {
    let mut before = '{';
    for (name, value) in fields {
        line.push(before);
        before = ',';
        // Writing into a String does not fail.
        let _ = write!(line, "\"{name}\":{value}");
    }
    line.push('}');
}

/// Values are JSON too, so that nothing a peer sent can end the line or pass for another pair;
/// plain words go without quotes.
fn push_text(fields: &Fields, line: &mut String) {
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

    /// More than any of these tests takes.
    const PATIENCE: Duration = Duration::from_secs(20);

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
        log.finish(PATIENCE);
        assert_eq!(log.dropped(), 0);
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
    fn a_record_begins_with_when_what_and_who() {
        for (format, names) in [
            (
                LogFormat::Json,
                ["{\"time_unix_ms\":", ",\"record\":", ",\"peer\":"],
            ),
            (LogFormat::Text, ["time_unix_ms=", " record=", " peer="]),
        ] {
            for line in written(format).lines() {
                let at = names.map(|name| line.find(name));
                assert!(at.is_sorted() && at[0] == Some(0), "{line}");
            }
        }
    }

    #[test]
    fn nothing_a_peer_sent_forges_a_line_of_text() {
        let text = written(LogFormat::Text);
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.contains("peer=203.0.113.7")));
        assert!(text.contains(r#"subject="a\" b\nrecord=forged""#), "{text}");
    }

    /// Says that a write has begun, and stays in it until the other end of `free` is dropped.
    struct Stuck {
        begun: mpsc::SyncSender<()>,
        free: mpsc::Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.begun.try_send(());
            self.free.recv().map_err(io::Error::other)?;
            unreachable!("nobody says anything on it")
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A log of `records_max` whose writer is in a write that ends when the other thing is dropped.
    /// What the writer took into that write before it began counts for no place in the queue, so
    /// whoever counts places waits for this.
    fn stuck(records_max: usize) -> (StreamLog, mpsc::SyncSender<()>) {
        let (begun, has_begun) = mpsc::sync_channel(1);
        let (held, free) = mpsc::sync_channel(0);
        let sink = Stuck { begun, free };
        let log = StreamLog::start(sink, LogFormat::Json, records_max).expect("a thread");
        log.opened(opened());
        has_begun.recv().expect("the record is written");
        (log, held)
    }

    #[test]
    fn a_stuck_sink_drops_records_and_holds_up_nobody() {
        let (log, held) = stuck(4);
        for _ in 0..1000 {
            log.opened(opened());
        }
        assert_eq!(log.dropped(), 996, "four wait");
        drop(held);
        log.finish(PATIENCE);
        assert_eq!(
            log.dropped(),
            1001,
            "the four and the one that was stuck are lost, too"
        );
    }

    #[test]
    fn the_end_does_not_wait_for_a_stuck_sink() {
        let (log, held) = stuck(4);
        for _ in 0..10 {
            log.opened(opened());
        }
        log.finish(Duration::from_millis(50));
        drop(held);
    }

    /// A disk with room for so many bytes, of which more is made after the first failure.
    #[derive(Clone)]
    struct Full(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().expect("no panic");
            let taken = bytes.len().min(disk.0);
            disk.0 -= taken;
            disk.1.extend_from_slice(&bytes[..taken]);
            if taken == 0 {
                disk.0 = usize::MAX;
                return Err(io::ErrorKind::StorageFull.into());
            }
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn after_a_full_disk_each_record_has_a_line_again() {
        let disk = Full(Arc::new(Mutex::new((20, Vec::new()))));
        let log = StreamLog::start(disk.clone(), LogFormat::Json, 10).expect("a thread");
        log.opened(opened());
        while log.dropped() == 0 {
            std::thread::yield_now();
        }
        log.opened(opened());
        log.finish(PATIENCE);
        let bytes = disk.0.lock().expect("no panic").1.clone();
        let text = String::from_utf8(bytes).expect("text");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[0].len()), (2, 20), "{text}");
        assert!(serde_json::from_str::<Value>(lines[1]).is_ok(), "{text}");
    }

    #[test]
    fn long_lists_and_names_are_cut() {
        let sink = Shared::default();
        let log = StreamLog::start(sink.clone(), LogFormat::Json, 10).expect("a thread");
        log.opened(Arc::new(Opened {
            subject: "é".repeat(1000),
            topics: (0..1000).map(|n| format!("{n:04000}")).collect(),
            ..Opened::default()
        }));
        log.finish(PATIENCE);
        let bytes = sink.0.lock().expect("no panic").clone();
        assert!(bytes.len() < 10_000, "{}", bytes.len());
        let record: Value = serde_json::from_slice(&bytes).expect("json");
        assert_eq!(record["topics"].as_array().map(Vec::len), Some(2));
        assert_eq!(record["more_topics"], 998);
        let subject = record["subject"].as_str().expect("a text");
        assert!(subject.ends_with("é…"), "{subject}");
    }

    #[test]
    fn what_steers_a_terminal_is_escaped_in_both_formats() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let sink = Shared::default();
            let log = StreamLog::start(sink.clone(), format, 10).expect("a thread");
            let subject = "\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{2028}\r\n\0é";
            log.opened(Arc::new(Opened {
                subject: subject.into(),
                ..Opened::default()
            }));
            log.finish(PATIENCE);
            let text = String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("text");
            let line = text.strip_suffix('\n').expect("a line");
            assert!(!line.chars().any(char::is_control), "{line:?}");
            assert!(!line.contains(['\u{202e}', '\u{2028}']), "{line:?}");
            assert!(line.contains('é'));
            if format == LogFormat::Json {
                let record: Value = serde_json::from_str(line).expect("json");
                assert_eq!(record["subject"], subject);
            }
        }
    }
}
