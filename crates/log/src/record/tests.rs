use gush_sse::{EventId, EventType};
use proptest::prelude::*;

use super::*;
use crate::Conflation;

const STAMP: Stamp = Stamp {
    marker: *b"MARK",
    salt: 7,
};

fn draft() -> impl Strategy<Value = Draft> {
    let id = prop::option::of("\\PC{1,40}");
    let kind = prop::option::of("\\PC{1,40}");
    let topics = prop::collection::vec("\\PC{1,40}", 1..5);
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
                topics: topics.into_iter().map(String::into_boxed_str).collect(),
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

fn encoded(offset: u64, draft: &Draft) -> Vec<u8> {
    let mut out = vec![1, 2, 3];
    encode(STAMP, Offset::from_u64(offset), 99, draft, &mut out);
    out.split_off(3)
}

fn small() -> Draft {
    Draft {
        topics: ["a".into(), "b".into()].into(),
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
        let raw = decode(&bytes).expect("a record");
        prop_assert_eq!(raw.bytes, bytes.len());
        let record = raw.with_epoch(Epoch::from_u64(3));
        prop_assert_eq!(record.offset(), Offset::from_u64(offset));
        prop_assert_eq!(record.time_ms, 99);
        prop_assert_eq!(record.is_private, draft.is_private);
        prop_assert_eq!(record.id, draft.id.as_ref().map(EventId::as_str));
        prop_assert_eq!(record.kind, draft.kind.as_ref().map(EventType::as_str));
        prop_assert_eq!(record.retry_ms, draft.retry_ms);
        prop_assert_eq!(record.is_latest, draft.conflation.is_latest);
        prop_assert_eq!(record.key, draft.conflation.key.as_deref());
        prop_assert_eq!(record.data, &*draft.data);
        prop_assert!(record.topics.iter().eq(draft.topics.iter().map(|topic| &**topic)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = check(STAMP, &bytes);
        let _ = decode(&bytes);
        let _ = decode_body(&bytes);
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

#[test]
fn what_does_not_fit_a_record_is_refused() {
    let long_topic = Draft {
        topics: ["x".repeat(65_536).into()].into(),
        ..small()
    };
    assert_eq!(record_len(&long_topic), None);
    let long_data = Draft {
        data: "x".repeat(RECORD_BYTES_MAX).into(),
        ..small()
    };
    assert_eq!(record_len(&long_data), None);
}
