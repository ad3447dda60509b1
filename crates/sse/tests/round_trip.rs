//! What is encoded is read back as one event, whatever it holds and however it is cut.

use gush_sse::{EventFields, EventId, EventType, ParsedEvent, Parser, encode_event, encoded_len};
use proptest::prelude::*;

fn encoded(fields: &EventFields<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode_event(fields, &mut out);
    assert_eq!(out.len(), encoded_len(fields), "{fields:?}");
    out
}

fn parsed(pieces: &[&[u8]]) -> Vec<ParsedEvent> {
    let mut parser = Parser::new(1 << 20);
    let mut events = Vec::new();
    for piece in pieces {
        parser
            .push(piece, &mut |event| events.push(event))
            .expect("below the bound");
    }
    events
}

/// What a reader makes of data: all line ends are LF.
fn normalised(data: &str) -> String {
    data.replace("\r\n", "\n").replace('\r', "\n")
}

const SPECIAL: [&str; 6] = ["\r", "\n", "\0", ":", " ", "\u{feff}"];

/// All strings of zero to two of the characters that matter, alone and within text.
fn special_strings() -> Vec<String> {
    let mut strings = vec![String::new()];
    strings.extend(SPECIAL.map(String::from));
    for first in SPECIAL {
        strings.extend(SPECIAL.map(|second| format!("{first}{second}")));
    }
    let within: Vec<String> = strings.iter().map(|string| format!("a{string}b")).collect();
    strings.extend(within);
    strings
}

#[test]
fn special_data_is_one_event_in_any_two_pieces() {
    for data in special_strings() {
        let fields = EventFields {
            id: Some("1"),
            data: &data,
            ..EventFields::default()
        };
        let stream = encoded(&fields);
        for cut in 0..=stream.len() {
            let (left, right) = stream.split_at(cut);
            let events = parsed(&[left, right]);
            assert_eq!(events.len(), 1, "{data:?} cut at {cut}");
            assert_eq!(events[0].data, normalised(&data), "cut at {cut}");
            assert_eq!(events[0].id, "1");
            assert_eq!(events[0].kind, "message");
        }
    }
}

#[test]
fn special_ids_and_types_are_kept_or_left_out_and_forge_nothing() {
    for text in special_strings() {
        let is_sendable = !text.contains(['\r', '\n', '\0']);
        let fields = EventFields {
            kind: Some(&text),
            retry_ms: Some(5),
            id: Some(&text),
            data: "x",
        };
        let events = parsed(&[&encoded(&fields)]);
        assert_eq!(events.len(), 1, "{text:?}");
        assert_eq!(events[0].data, "x");
        assert_eq!(events[0].id, if is_sendable { &text } else { "" });
        let kind = if is_sendable && !text.is_empty() {
            &text
        } else {
            "message"
        };
        assert_eq!(events[0].kind, kind);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_events_come_back_in_any_pieces(
        events in prop::collection::vec(
            (any::<String>(), "[^\\p{C}]{0,20}", "(\r|\n|\r\n|:| |\\PC|.|\0){0,60}", any::<u64>()),
            1..4,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        let mut last_id = String::new();
        for (id, kind, data, retry_ms) in &events {
            let id = EventId::parse(id).ok().flatten();
            let kind = EventType::parse(kind).ok().flatten();
            stream.extend(encoded(&EventFields {
                kind: kind.as_ref().map(EventType::as_str),
                retry_ms: Some(*retry_ms),
                id: id.as_ref().map(EventId::as_str),
                data,
            }));
            if let Some(id) = id {
                id.as_str().clone_into(&mut last_id);
            }
            expected.push(ParsedEvent {
                id: last_id.clone(),
                kind: kind.map_or_else(|| "message".into(), |kind| kind.to_string()),
                data: normalised(data),
            });
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        prop_assert_eq!(parsed(&pieces), expected);
    }
}
