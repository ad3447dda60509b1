//! Ids, types and topics cannot hold what forges a field, splits a line or cannot be seen, whatever
//! text they are made of; and with any of them an event is exactly one event.

use std::sync::LazyLock;

use gush_sse::{EventFields, EventId, EventType, ParsedEvent, Parser, Topic, encode_event};
use proptest::prelude::*;
use regex_syntax::hir::{Class, HirKind};

/// All the characters that must never get through, categories Cc and Cf, in order: by the tables of
/// a library, not by those under test.
static BAD: LazyLock<Vec<char>> = LazyLock::new(|| {
    let class = regex_syntax::parse(r"[\p{Cc}\p{Cf}]").expect("a good expression");
    let HirKind::Class(Class::Unicode(class)) = class.into_kind() else {
        panic!("a class of characters");
    };
    class
        .iter()
        .flat_map(|range| range.start()..=range.end())
        .collect()
});

/// Texts near the border: usual ones with some characters in them that matter.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-z:/#{}* ]{1,6}",
        2 => any::<char>().prop_map(String::from),
        1 => (0..BAD.len()).prop_map(|at| BAD[at].to_string()),
        1 => Just("é✓🦀".to_owned()),
        1 => Just("data: x\n\n".to_owned()),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn holds_bad(text: &str) -> bool {
    text.chars().any(|c| BAD.binary_search(&c).is_ok())
}

fn events_of(fields: &EventFields<'_>) -> Vec<ParsedEvent> {
    let mut stream = Vec::new();
    encode_event(fields, &mut stream);
    let mut events = Vec::new();
    Parser::new(1 << 20)
        .push(&stream, &mut |event| events.push(event))
        .expect("below the bound");
    events
}

#[test]
fn each_bad_character_is_refused_wherever_it_stands() {
    assert!(BAD.len() > 200, "{}", BAD.len());
    for bad in BAD.iter() {
        for text in [
            format!("{bad}"),
            format!("{bad}a"),
            format!("é{bad}a"),
            format!("a{bad}"),
        ] {
            assert!(EventId::parse(&text).is_err(), "{text:?}");
            assert!(EventType::parse(&text).is_err(), "{text:?}");
            assert!(Topic::parse(&text).is_err(), "{text:?}");
        }
    }
}

#[test]
fn every_other_character_is_taken() {
    for good in ('\0'..=char::MAX).filter(|c| BAD.binary_search(c).is_err()) {
        let text = format!("a{good}");
        assert!(EventId::parse(&text).is_ok(), "{text:?}");
        assert!(EventType::parse(&text).is_ok(), "{text:?}");
        assert!(Topic::parse(&text).is_ok(), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_value_holds_a_bad_character(text in texts()) {
        let id = EventId::parse(&text).ok().flatten();
        let kind = EventType::parse(&text).ok().flatten();
        let topic = Topic::parse(&text).ok();
        let made = [
            id.as_ref().map(EventId::as_str),
            kind.as_ref().map(EventType::as_str),
            topic.as_ref().map(Topic::as_str),
        ];
        for value in made.into_iter().flatten() {
            prop_assert!(!holds_bad(value), "{:?}", value);
            prop_assert_eq!(value, &text);
        }
        let is_good = !holds_bad(&text) && !text.is_empty();
        prop_assert_eq!(topic.is_some(), is_good);
        prop_assert_eq!(kind.is_some(), is_good);
        prop_assert_eq!(id.is_some(), is_good && !text.starts_with('#') && text != "earliest");
    }

    #[test]
    fn an_event_with_any_id_and_type_is_read_as_that_one(
        id in texts(),
        kind in texts(),
        data in "(\r|\n|\0|id: |data: |event: |:|.){0,20}",
    ) {
        let id = EventId::parse(&id).ok().flatten();
        let kind = EventType::parse(&kind).ok().flatten();
        let events = events_of(&EventFields {
            kind: kind.as_ref().map(EventType::as_str),
            retry_ms: None,
            id: id.as_ref().map(EventId::as_str),
            data: &data,
        });
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(&events[0].id, id.as_ref().map_or("", EventId::as_str));
        prop_assert_eq!(&events[0].kind, kind.as_ref().map_or("message", EventType::as_str));
    }
}
