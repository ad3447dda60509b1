use bytes::Bytes;
use gush_log::{Epoch, Position};

use super::*;
use crate::frame::FramePool;
use crate::topic::Matcher;

fn record<'a>(offset: u64, topics: &'a [u8], data: &'a str) -> RecordRef<'a> {
    RecordRef {
        position: Position {
            epoch: Epoch::from_u64(3),
            offset: Offset::from_u64(offset),
        },
        time_ms: 0,
        is_private: false,
        topics: TopicsRef::Packed(topics),
        id: None,
        kind: None,
        retry_ms: None,
        is_latest: false,
        key: None,
        data,
    }
}

fn framed(framing: Framing) -> Framed {
    Framed {
        bytes: Vec::new(),
        marks: Vec::new(),
        framing,
        opening: Opening::new(framing),
        verdict: Verdict::default(),
        conflated: Conflated::default(),
    }
}

fn packed(topics: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for topic in topics {
        let length = u16::try_from(topic.len()).expect("short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(topic.as_bytes());
    }
    out
}

#[test]
fn an_event_is_framed_as_it_is_live() {
    let topics = packed(&["a"]);
    let data = ["", "plain", "two\nlines\r\n", &"long".repeat(20_000)].map(str::to_owned);
    for framing in [Framing::Chunked, Framing::Raw] {
        let mut framed = framed(framing);
        let mut pool = FramePool::new(1 << 20);
        let mut expected = Vec::new();
        let mut offset = 1;
        for data in &data {
            for (id, kind, retry_ms) in [
                (None, None, None),
                (Some("own"), Some("kind"), Some(2500)),
                (None, Some("kind"), None),
            ] {
                let mut record = record(offset, &topics, data);
                (record.id, record.kind, record.retry_ms) = (id, kind, retry_ms);
                framed.append(&record);
                let live: Bytes = pool.encode(&record).framed_bytes(framing);
                expected.extend_from_slice(&live);
                assert_eq!(
                    framed.marks.last(),
                    Some(&(record.offset(), expected.len()))
                );
                offset += 1;
            }
        }
        assert!(framed.bytes == expected, "{framing:?}");
    }
}

#[test]
fn events_in_a_row_are_framed_as_they_are_live() {
    let topics = packed(&["a"]);
    for framing in [Framing::Chunked, Framing::Raw] {
        let mut framed = framed(framing);
        let mut pool = FramePool::new(1 << 20);
        let mut expected = Vec::new();
        let mut offset = 0xfff_0000;
        // Chunk lengths of each number of digits, up and down, with and without a change between.
        for round in 0..3000_usize {
            let length = [round / 10, 17, (round * 37) % 5000, 70_000][round % 4];
            let mut data = "d".repeat(length);
            if round % 11 == 0 {
                data.push_str("\rline");
            }
            // Events for others lie between.
            offset += [1, 1, 1, 40, 0x1_0000][round % 5];
            let mut record = record(offset, &topics, &data);
            record.id = (round % 13 == 0).then_some("own");
            record.kind = (round % 17 == 0).then_some("kind");
            record.retry_ms = (round % 19 == 0).then_some(round as u64 % 2);
            framed.append(&record);
            expected.extend_from_slice(&pool.encode(&record).framed_bytes(framing));
            let mark = (record.offset(), expected.len());
            assert_eq!(framed.marks.last(), Some(&mark), "{round}");
        }
        assert!(framed.bytes == expected, "{framing:?}");
    }
}

#[test]
fn the_verdict_is_that_of_the_selection_whatever_came_before() {
    let parse = |text: &str| Matcher::parse(text).expect("a good matcher");
    let selection = Selection {
        matchers: [parse("/a/{x}"), parse("b")].into(),
        grants: [parse("/a/1")].into(),
        ..Selection::default()
    };
    let topics = [
        packed(&["/a/1"]),
        packed(&["/a/2"]),
        packed(&["c"]),
        packed(&["c", "b"]),
    ];
    let mut verdict = Verdict::default();
    let mut wanted = 0;
    for round in 0..256_usize {
        // Every pair of neighbours comes up.
        let mut record = record(1, &topics[(round * round / 3) % 4], "");
        record.is_private = round % 5 > 2;
        let expected = selection.wants(record.topics.iter(), record.is_private);
        assert_eq!(verdict.on(&selection, &record), expected, "{round}");
        wanted += usize::from(expected);
    }
    assert!((50..250).contains(&wanted), "{wanted}");
}
