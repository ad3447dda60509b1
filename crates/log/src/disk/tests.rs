//! The disk log as its users see it, on a real directory.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::contract::{Backend, check};

mod crashes;
mod damage;
mod failures;
mod ids;
mod replies;
mod retention;
mod rig;

struct Disk {
    config: DiskConfig,
    dirs: Mutex<Vec<TempDir>>,
}

impl Disk {
    fn open(&self, config: DiskConfig) -> Arc<dyn Log> {
        let dir = tempfile::tempdir().expect("a directory");
        let (log, recovery) = DiskLog::open(dir.path(), config).expect("opens");
        assert!(recovery.is_new, "{recovery}");
        lock(&self.dirs).push(dir);
        Arc::new(log)
    }
}

impl Backend for Disk {
    fn fresh(&self) -> Arc<dyn Log> {
        self.open(self.config)
    }

    fn keeping_few(&self) -> Arc<dyn Log> {
        self.open(DiskConfig {
            segment_events: 100,
            retention_events: Some(500),
            ..self.config
        })
    }
}

fn contract_holds_with(config: DiskConfig) {
    check(&Disk {
        config,
        dirs: Mutex::default(),
    });
}

#[test]
fn the_contract_holds() {
    contract_holds_with(DiskConfig::default());
}

#[test]
fn the_contract_holds_over_many_small_segments() {
    contract_holds_with(DiskConfig {
        segment_events: 7,
        retention_bytes: None,
        ..DiskConfig::default()
    });
}

#[test]
fn the_contract_holds_without_syncs() {
    contract_holds_with(DiskConfig {
        sync: Sync::Off,
        ..DiskConfig::default()
    });
    let sync = Sync::Interval(Duration::from_millis(1));
    contract_holds_with(DiskConfig {
        sync,
        ..DiskConfig::default()
    });
}

fn draft(data: &str) -> Draft {
    Draft {
        topics: [gush_sse::Topic::parse("a").expect("a topic")].into(),
        is_private: false,
        id: None,
        kind: None,
        retry_ms: None,
        conflation: crate::Conflation::default(),
        data: data.into(),
    }
}

fn draft_with_id(id: &str, data: &str) -> Draft {
    Draft {
        id: gush_sse::EventId::parse(id).expect("a good id"),
        ..draft(data)
    }
}

fn append(log: &DiskLog, draft: Draft) -> Result<crate::Appended, AppendError> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let reply = move |outcome| sender.send(outcome).expect("called once");
    log.append(draft, Box::new(reply));
    receiver
        .recv_timeout(Duration::from_secs(30))
        .expect("an answer")
}

fn read_data(log: &DiskLog, from: Offset) -> (Vec<String>, ReadEnd) {
    let limit = ReadLimit {
        events_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let mut seen = Vec::new();
    let end = log.read(from, limit, &mut |record| {
        seen.push(record.data.to_owned());
        Flow::Continue
    });
    (seen, end.expect("readable"))
}

fn resolve(log: &DiskLog, id: &str) -> Option<Offset> {
    match log.locate(id) {
        Located::After(offset) => Some(offset),
        Located::Unknown => None,
        Located::Search => log.search(id).expect("readable"),
    }
}

#[test]
fn a_second_opener_is_refused_and_told_who_holds_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (first, _) = DiskLog::open(dir.path(), DiskConfig::default()).expect("opens");
    let refused = DiskLog::open(dir.path(), DiskConfig::default()).map(|_| ());
    let Err(OpenError::InUse { path, pid }) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (path.as_path(), pid),
        (dir.path(), Some(std::process::id()))
    );
    first.close().expect("closes");
    DiskLog::open(dir.path(), DiskConfig::default()).expect("free again after a close");
}

#[test]
fn a_clean_reopen_goes_on_in_the_same_epoch_and_segment() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = DiskLog::open(dir.path(), DiskConfig::default()).expect("opens");
    let generated = append(&log, draft("1")).expect("stored");
    append(&log, draft_with_id("own", "2")).expect("stored");
    drop(log);

    let (log, recovery) = DiskLog::open(dir.path(), DiskConfig::default()).expect("opens");
    assert!(
        recovery.was_clean && recovery.indexes_rebuilt == 0,
        "{recovery}"
    );
    assert_eq!((recovery.segments, recovery.events), (1, 2));
    assert_eq!(log.bounds().epoch, generated.position.epoch);
    assert_eq!(log.bounds().last_id.as_deref(), Some("own"));
    let third = append(&log, draft("3")).expect("stored");
    assert_eq!(third.position.offset, generated.position.offset.plus(2));
    assert_eq!(
        resolve(&log, &generated.id()),
        Some(generated.position.offset.plus(1))
    );
    assert_eq!(resolve(&log, "own"), Some(third.position.offset));
    assert_eq!(read_data(&log, Offset::FIRST).0, ["1", "2", "3"]);
    let segments = std::fs::read_dir(dir.path()).expect("a directory");
    let is_segment = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".seg");
    let names = segments.map(|entry| entry.expect("an entry").file_name());
    assert_eq!(names.filter(is_segment).count(), 1);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let good = DiskConfig::default();
    for (config, name) in [
        (
            DiskConfig {
                segment_bytes: 0,
                ..good
            },
            "segment_bytes",
        ),
        (
            DiskConfig {
                segment_bytes: DiskConfig::SEGMENT_BYTES_MAX + 1,
                ..good
            },
            "segment_bytes",
        ),
        (
            DiskConfig {
                segment_events: 0,
                ..good
            },
            "segment_events",
        ),
        (
            DiskConfig {
                waiting_events_max: 0,
                ..good
            },
            "waiting_events_max",
        ),
        (
            DiskConfig {
                sync: Sync::Interval(Duration::ZERO),
                ..good
            },
            "sync",
        ),
    ] {
        let refused = DiskLog::open(dir.path(), config).map(|_| ());
        let Err(OpenError::Config(text)) = refused else {
            panic!("{name}: {refused:?}")
        };
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn an_event_too_large_for_a_record_is_refused_and_has_no_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = DiskLog::open(dir.path(), DiskConfig::default()).expect("opens");
    let refused = append(&log, draft(&"x".repeat(RECORD_BYTES_MAX)));
    assert_eq!(
        refused.map_err(|error| error.kind),
        Err(AppendErrorKind::TooLarge)
    );
    assert_eq!(
        append(&log, draft("y")).expect("stored").position.offset,
        Offset::FIRST
    );
}

#[test]
fn the_bound_on_what_waits_is_kept() {
    let config = DiskConfig {
        waiting_events_max: 3,
        waiting_bytes_max: 1000,
        ..DiskConfig::default()
    };
    let host = Arc::new(crate::sim::SimHost::new(1));
    // Nobody runs the committer.
    let (log, _committer, _) =
        DiskLog::open_on(host, "sim".into(), config, Sealing::Inline).expect("opens");
    let (sender, receiver) = std::sync::mpsc::sync_channel(100);
    let start = |bytes: usize| {
        let sender = sender.clone();
        let reply = move |outcome: Result<_, AppendError>| {
            sender
                .send(
                    outcome
                        .map(|_: crate::Appended| ())
                        .map_err(|error| error.kind),
                )
                .expect("room for all answers");
        };
        log.append(draft(&"x".repeat(bytes)), Box::new(reply));
    };
    start(10);
    start(1000);
    assert_eq!(
        receiver.try_recv(),
        Ok(Err(AppendErrorKind::Busy)),
        "too many bytes"
    );
    start(10);
    start(10);
    assert!(receiver.try_recv().is_err(), "three wait");
    start(10);
    assert_eq!(
        receiver.try_recv(),
        Ok(Err(AppendErrorKind::Busy)),
        "too many events"
    );
    assert_eq!(log.waiting().0, 3);
    log.set_waiting_max(4, 2000);
    start(10);
    assert!(receiver.try_recv().is_err(), "a raised bound holds at once");
    log.set_waiting_max(1, 1);
    start(10);
    assert_eq!(receiver.try_recv(), Ok(Err(AppendErrorKind::Busy)));
    assert_eq!(log.waiting().0, 4, "what waits goes on waiting");
    log.shared.intake.abandon();
    for _ in 0..4 {
        assert_eq!(
            receiver.try_recv(),
            Ok(Err(AppendErrorKind::Failed)),
            "answered at the end"
        );
    }
}

#[test]
fn a_reply_that_holds_the_last_reference_does_not_hang_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = DiskLog::open(dir.path(), DiskConfig::default()).expect("opens");
    let log = Arc::new(log);
    let held = Arc::clone(&log);
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(1);
    let reply = move |outcome: Result<_, AppendError>| {
        wait.recv().expect("told to go on");
        drop(held);
        sender.send(outcome.is_ok()).expect("called once");
    };
    log.append(draft("x"), Box::new(reply));
    drop(log);
    go.send(()).expect("the reply waits");
    assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(true));
}
