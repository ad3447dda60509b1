use proptest::prelude::*;

use super::*;
use crate::Conflation;

const STAMP: Stamp = Stamp {
    marker: *b"MARK",
    salt: 7,
};

const EPOCH: Epoch = Epoch::from_u64(3);

fn draft() -> impl Strategy<Value = Draft> {
    let id = prop::option::of("\\PC{1,40}");
    let kind = prop::option::of("\\PC{1,40}");
    let topic = "\\PC{1,40}".prop_filter_map("none", |text| Topic::parse(&text).ok());
    let topics = prop::collection::vec(topic, 1..5);
    (
        topics,
        any::<bool>(),
        id,
        kind,
        any::<Option<u64>>(),
        (any::<bool>(), prop::option::of("\\PC{0,40}")),
        any::<String>(),
    )
        .prop_map(
            |(topics, is_private, id, kind, retry_ms, latest, data)| Draft {
                topics: topics.into(),
                is_private,
                id: id.and_then(|id| EventId::parse(&id).ok().flatten()),
                kind: kind.and_then(|kind| EventType::parse(&kind).ok().flatten()),
                retry_ms,
                conflation: Conflation {
                    is_latest: latest.0,
                    key: latest.1.map(String::into_boxed_str),
                },
                data: data.into(),
            },
        )
}

fn decode_alone(bytes: &[u8]) -> Option<Raw<'_>> {
    decode(bytes, EPOCH, &mut CheckedTopics::none())
}

fn encoded(offset: u64, draft: &Draft) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    encode(STAMP, Offset::from_u64(offset), 99, draft, &mut out);
    out.split_off(3)
}

fn small() -> Draft {
    Draft {
        topics: ["a", "b"]
            .map(|topic| Topic::parse(topic).expect("a topic"))
            .into(),
        is_private: true,
        id: EventId::parse("7").expect("a good id"),
        kind: None,
        retry_ms: Some(5),
        conflation: Conflation::default(),
        data: "hello".into(),
    }
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was_written(draft in draft(), offset in 1..=Offset::MAX) {
        let bytes = encoded(offset, &draft);
        prop_assert_eq!(Some(bytes.len()), record_len(&draft));
        let whole = Checked::Whole { offset: Offset::from_u64(offset), bytes: bytes.len() };
        prop_assert_eq!(check(STAMP, &bytes), whole);
        let raw = decode_alone(&bytes).expect("a record");
        prop_assert_eq!(raw.bytes, bytes.len());
        let record = raw.record;
        prop_assert_eq!(record.position.epoch, EPOCH);
        prop_assert_eq!(record.offset(), Offset::from_u64(offset));
        prop_assert_eq!(record.time_ms, 99);
        prop_assert_eq!(record.is_private, draft.is_private);
        prop_assert_eq!(record.id, draft.id.as_ref().map(EventId::as_str));
        prop_assert_eq!(record.kind, draft.kind.as_ref().map(EventType::as_str));
        prop_assert_eq!(record.retry_ms, draft.retry_ms);
        prop_assert_eq!(record.is_latest, draft.conflation.is_latest);
        prop_assert_eq!(record.key, draft.conflation.key.as_deref());
        prop_assert_eq!(record.data, &*draft.data);
        prop_assert!(record.topics.iter().eq(draft.topics.iter().map(Topic::as_str)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = check(STAMP, &bytes);
        let _ = decode_alone(&bytes);
        bytes.splice(0..0, STAMP.marker);
        let _ = check(STAMP, &bytes);
    }
}

#[test]
fn every_flipped_bit_is_seen() {
    let bytes = encoded(1, &small());
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(
            !matches!(check(STAMP, &broken), Checked::Whole { .. }),
            "bit {bit}"
        );
    }
}

#[test]
fn a_cut_record_says_what_it_needs() {
    let bytes = encoded(1, &small());
    for length in 0..bytes.len() {
        let needs = if length < HEAD_BYTES {
            HEAD_BYTES
        } else {
            bytes.len()
        };
        assert_eq!(
            check(STAMP, &bytes[..length]),
            Checked::Needs(needs),
            "{length} bytes"
        );
    }
}

#[test]
fn a_record_of_another_segment_is_none() {
    let bytes = encoded(1, &small());
    assert_eq!(check(Stamp { salt: 8, ..STAMP }, &bytes), Checked::Bad);
    assert_eq!(
        check(
            Stamp {
                marker: *b"NARK",
                ..STAMP
            },
            &bytes
        ),
        Checked::Bad
    );
}

/// The record of an event with this instead of each `~`, under a right checksum: as a publisher
/// could not have made it.
fn forged(draft: &Draft, with: &str) -> Vec<u8> {
    let mut bytes = encoded(1, draft);
    while let Some(at) = bytes.iter().position(|byte| *byte == b'~') {
        bytes[at..at + with.len()].copy_from_slice(with.as_bytes());
    }
    let crc = STAMP.crc(&bytes[8..]).to_le_bytes();
    bytes[4..8].copy_from_slice(&crc);
    bytes
}

#[test]
fn what_could_not_be_published_is_no_record() {
    let with_topic = Draft {
        topics: ["good", "a~~~b"]
            .map(|topic| Topic::parse(topic).expect("a topic"))
            .into(),
        ..small()
    };
    let with_id = Draft {
        id: EventId::parse("a~~~b").expect("a good id"),
        ..small()
    };
    let with_kind = Draft {
        kind: EventType::parse("a~~~b").expect("a good type"),
        ..small()
    };
    for draft in [with_topic, with_id, with_kind] {
        assert!(decode_alone(&forged(&draft, "---")).is_some());
        for bad in ["\n\n\n", "\r--", "\0--", "\u{7f}--", "\u{202e}", "\u{feff}"] {
            let bytes = forged(&draft, bad);
            assert!(matches!(check(STAMP, &bytes), Checked::Whole { .. }));
            assert!(decode_alone(&bytes).is_none(), "{bad:?} in {draft:?}");
        }
    }
}

#[test]
fn topics_are_checked_whatever_came_before() {
    let of = |topics: &[&str]| Draft {
        topics: topics
            .iter()
            .map(|topic| Topic::parse(topic).expect("a topic"))
            .collect(),
        ..small()
    };
    let long = "x".repeat(CHECKED_BYTES_MAX);
    let drafts = [
        of(&["a~~~b"]),
        of(&["a~~~b", "c"]),
        of(&["a~~~bc"]),
        of(&[&long, "a~~~b"]),
        of(&["a"]),
    ];
    let mut checked = CheckedTopics::none();
    // Every pair of neighbours comes up, good and bad.
    for round in 0..400_usize {
        let draft = &drafts[(round * round / 3) % drafts.len()];
        let is_bad = round % 3 == 0;
        let bytes = forged(draft, if is_bad { "\n\n\n" } else { "---" });
        let has_bad = is_bad
            && draft
                .topics
                .iter()
                .any(|topic| topic.as_str().contains('~'));
        let decoded = decode(&bytes, EPOCH, &mut checked);
        assert_eq!(decoded.is_none(), has_bad, "{round}: {draft:?}");
    }
}

#[test]
fn what_does_not_fit_a_record_is_refused() {
    let long_data = Draft {
        data: "x".repeat(RECORD_BYTES_MAX).into(),
        ..small()
    };
    assert_eq!(record_len(&long_data), None);
}
