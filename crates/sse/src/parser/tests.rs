use proptest::prelude::*;

use super::*;

fn items_of(pieces: &[&[u8]]) -> Vec<Item> {
    let mut parser = Parser::new(1 << 16);
    let mut items = Vec::new();
    for piece in pieces {
        parser
            .push_items(piece, &mut |item| items.push(item))
            .expect("below the bound");
    }
    items
}

fn event(id: &str, kind: &str, data: &str) -> Item {
    Item::Event(ParsedEvent {
        id: id.into(),
        kind: kind.into(),
        data: data.into(),
    })
}

/// The specification's algorithm on the whole text at once, written without a look at the parser:
/// the two must agree.
fn reference(stream: &[u8]) -> Vec<Item> {
    let text = String::from_utf8_lossy(stream).into_owned();
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // What follows the last line end is an unfinished line.
    lines.pop();
    let mut items = Vec::new();
    let (mut data, mut kind, mut id) = (String::new(), String::new(), String::new());
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                let shown = if kind.is_empty() { "message" } else { &kind };
                items.push(event(&id, shown, data.strip_suffix('\n').unwrap_or(&data)));
            }
            data.clear();
            kind.clear();
        } else if let Some(comment) = line.strip_prefix(':') {
            items.push(Item::Comment(comment.to_owned()));
        } else {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match name {
                "data" => data.extend([value, "\n"]),
                "event" => value.clone_into(&mut kind),
                "id" if !value.contains('\0') => value.clone_into(&mut id),
                "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                    items.push(Item::Retry(value.parse().unwrap_or(u64::MAX)));
                }
                _ => {}
            }
        }
    }
    items
}

#[test]
fn an_event_takes_the_last_type_and_all_data_lines() {
    let stream = b"event: a\nevent: b\ndata: 1\ndata:2\ndata:  3\ndata\n\n";
    assert_eq!(items_of(&[stream]), [event("", "b", "1\n2\n 3\n")]);
}

#[test]
fn a_block_without_data_is_no_event_but_its_id_counts() {
    let mut parser = Parser::new(100);
    let mut events = Vec::new();
    parser
        .push(b"id: 7\nevent: x\n", &mut |event| events.push(event))
        .expect("small");
    assert_eq!(parser.last_event_id(), "", "the block is not finished");
    parser
        .push(b"\ndata: a\n\n", &mut |event| events.push(event))
        .expect("small");
    assert_eq!(parser.last_event_id(), "7");
    assert_eq!(events.len(), 1);
    assert_eq!(
        events[0].kind, "message",
        "the type of the block before is forgotten"
    );
    assert_eq!(events[0].id, "7", "the id is kept");
}

#[test]
fn an_id_with_nul_is_ignored_and_an_empty_one_resets() {
    let stream = b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\nid\ndata: c\n\n";
    assert_eq!(
        items_of(&[stream]),
        [
            event("1", "message", "a"),
            event("1", "message", "b"),
            event("", "message", "c")
        ]
    );
}

#[test]
fn comments_and_retry_are_reported_when_their_line_ends() {
    let stream = b":\nretry: 2000\n: hi\nretry: 1x\nretry:\nretry: -1\n";
    assert_eq!(
        items_of(&[stream]),
        [
            Item::Comment(String::new()),
            Item::Retry(2000),
            Item::Comment(" hi".into())
        ]
    );
    let mut parser = Parser::new(100);
    parser
        .push(stream, &mut |event| panic!("{event:?}"))
        .expect("small");
    assert_eq!((parser.comments(), parser.retry_ms()), (2, Some(2000)));
}

#[test]
fn a_retry_beyond_64_bits_is_the_largest_number() {
    let stream = format!("retry: {}0\n", u64::MAX);
    assert_eq!(items_of(&[stream.as_bytes()]), [Item::Retry(u64::MAX)]);
}

#[test]
fn one_bom_is_dropped_in_any_pieces() {
    let stream = b"\xef\xbb\xbfdata: a\n\n";
    for cut in 0..stream.len() {
        let (left, right) = stream.split_at(cut);
        assert_eq!(
            items_of(&[left, right]),
            [event("", "message", "a")],
            "cut at {cut}"
        );
    }
    // A second one makes the field's name unknown; half of one too.
    assert_eq!(items_of(&[b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n"]), []);
    assert_eq!(items_of(&[b"\xef", b"\xbb", b"data: a\n\n"]), []);
}

#[test]
fn an_unfinished_event_is_dropped() {
    assert_eq!(items_of(&[b"data: a\n"]), []);
    assert_eq!(items_of(&[b"data: a\n\r"]), [event("", "message", "a")]);
}

#[test]
fn an_event_over_the_bound_fails_once_and_for_all() {
    let expected = Err(ParseError::TooLarge {
        event_bytes_max: 20,
    });
    for stream in [
        &b"data: 0123456789abcdef"[..],
        b"data: 0123456789abcdef\n\n",
        b"data: 01234567\ndata: 01234567\n",
        b":0123456789abcdefghijk",
    ] {
        let mut parser = Parser::new(20);
        assert_eq!(parser.push(stream, &mut |_| {}), expected, "{stream:?}");
        assert_eq!(
            parser.push(b"\n\ndata: a\n\n", &mut |_| panic!("read on")),
            expected
        );
        let mut parser = Parser::new(20);
        let last = stream
            .chunks(1)
            .map(|octet| parser.push(octet, &mut |_| {}))
            .last();
        assert_eq!(last, Some(expected), "{stream:?}, one octet at a time");
    }
    // Many small events never reach it.
    let mut parser = Parser::new(20);
    for _ in 0..100 {
        parser
            .push(b"data: 0123456789\n\n", &mut |_| {})
            .expect("each is below the bound");
    }
}

/// Streams made of the pieces that matter.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"data".to_vec()),
        Just(b"data: ".to_vec()),
        Just(b"event: ".to_vec()),
        Just(b"id: ".to_vec()),
        Just(b"retry: ".to_vec()),
        Just(b"17".to_vec()),
        Just(b":".to_vec()),
        Just(b" ".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(vec![0]),
        Just(BOM.to_vec()),
        Just("é🦀".as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_stream_in_any_pieces_reads_as_the_specification_says(
        stream in stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        prop_assert_eq!(items_of(&pieces), reference(&stream));
    }
}
