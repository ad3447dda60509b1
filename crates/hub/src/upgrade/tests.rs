use std::sync::mpsc;

use gush_log::{AppendErrorKind, Epoch, MemoryConfig, MemoryLog, Offset};

use super::channel::Channel;
use super::message::{EventNote, FromNew, STREAMS_VERSION, TLS_VERSION};
use super::relay::{Relay, WAITING_MAX};
use super::take::restore;
use crate::frame::{Frame, Framing};

/// A stream may come over with half a frame sent: the new binary sends the rest of its own frame
/// of that event. Whoever changes these bytes has to raise the version.
#[test]
fn the_bytes_of_a_frame_belong_to_the_version() {
    assert_eq!(STREAMS_VERSION, 3);
    let frame = frame_of_an_event();
    assert_eq!(
        std::str::from_utf8(frame.framed(Framing::Raw)),
        Ok("event: kind\nretry: 7\nid: own\ndata: a\ndata: b\n\n")
    );
    assert_eq!(
        std::str::from_utf8(frame.framed(Framing::Chunked)),
        Ok("2e\r\nevent: kind\nretry: 7\nid: own\ndata: a\ndata: b\n\n\r\n")
    );
    let heartbeat = Frame::of_text(gush_sse::HEARTBEAT);
    assert_eq!(
        std::str::from_utf8(heartbeat.framed(Framing::Chunked)),
        Ok("2\r\n:\n\r\n")
    );
}

/// What waits is counted until it is decided, in whichever way: else a relay whose new process is
/// gone would say after some time that it is busy, for ever.
#[test]
fn a_relay_whose_new_process_is_gone_never_gets_full() {
    let (here, there) = Channel::pair().expect("a pair");
    let relay = Relay::start(here, (WAITING_MAX, usize::MAX)).expect("its threads");
    drop(there);
    let (told, outcome) = mpsc::sync_channel(1);
    for _ in 0..=WAITING_MAX {
        let told = told.clone();
        let reply = move |outcome: Result<_, gush_log::AppendError>| {
            let _ = told.send(outcome.map(drop).map_err(|error| error.kind));
        };
        relay.append(an_event(), Box::new(reply));
        assert_eq!(outcome.recv(), Ok(Err(AppendErrorKind::Closed)));
    }
}

/// Whatever was wrong with an event of a memory log, `--window-bytes` was blamed.
#[test]
fn an_event_that_cannot_be_restored_is_refused_for_its_own_reason() {
    let log = |bytes_max| {
        let config = MemoryConfig {
            bytes_max,
            events_max: 10,
        };
        MemoryLog::resumed(config, Epoch::from_u64(1), Offset::FIRST)
    };
    let note = |topic: &str, offset: u64| -> EventNote {
        let text = format!(
            r#"{{"epoch":1,"offset":{offset},"topics":["{topic}"],"is_private":false,"data":"x"}}"#
        );
        serde_json::from_str(&text).expect("a note")
    };
    let refused = |log: &MemoryLog, note| restore(log, note).expect_err("no such event");
    let too_large = refused(&log(1), note("t", 1));
    assert!(too_large.contains("--window-bytes"), "{too_large}");
    let no_topic = refused(&log(1 << 20), note("", 1));
    assert!(no_topic.contains("does not take"), "{no_topic}");
    let out_of_order = refused(&log(1 << 20), note("t", 2));
    assert!(out_of_order.contains("out of order"), "{out_of_order}");
    for other in [no_topic, out_of_order] {
        assert!(!other.contains("--window-bytes"), "{other}");
    }
    restore(&log(1 << 20), note("t", 1)).expect("a good one");
}

/// A binary from before streams under TLS went over says nothing of them, and gets none.
#[test]
fn a_new_process_that_says_nothing_of_tls_gets_no_secrets() {
    let said = r#"{"Ready":{"version":2,"takes_streams":true}}"#;
    let FromNew::Ready { tls_version, .. } = serde_json::from_str(said).expect("as it was") else {
        panic!("it was ready");
    };
    assert_ne!(tls_version, TLS_VERSION);
}

fn frame_of_an_event() -> Frame {
    let draft = an_event();
    let position = gush_log::Position {
        epoch: gush_log::Epoch::from_u64(1),
        offset: gush_log::Offset::FIRST,
    };
    crate::frame::FramePool::new(1 << 20).encode(&draft.as_record(position, 0))
}

fn an_event() -> gush_log::Draft {
    gush_log::Draft {
        topics: [gush_sse::Topic::parse("t").expect("a topic")].into(),
        is_private: false,
        id: gush_sse::EventId::parse("own").expect("a good id"),
        kind: gush_sse::EventType::parse("kind").expect("a good type"),
        retry_ms: Some(7),
        conflation: gush_log::Conflation::default(),
        data: "a\nb".into(),
    }
}
