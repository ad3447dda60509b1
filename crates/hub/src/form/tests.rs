use proptest::prelude::*;

use super::*;

fn pairs(input: &str) -> Vec<(String, String)> {
    let pairs = parse_pairs(input.as_bytes(), 1_000).expect("well formed");
    pairs
        .into_iter()
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

#[test]
fn pairs_are_read_in_order() {
    #[rustfmt::skip]
    let rows: &[(&str, &[(&str, &str)])] = &[
        ("", &[]),
        ("&&", &[]),
        ("topic=a&topic=b", &[("topic", "a"), ("topic", "b")]),
        ("a", &[("a", "")]),
        ("=b", &[("", "b")]),
        ("a=b=c", &[("a", "b=c")]),
        ("a=1&&b=2&", &[("a", "1"), ("b", "2")]),
        ("a+b=c+d", &[("a b", "c d")]),
        ("a=%2B%26%3d%20", &[("a", "+&= ")]),
        ("data=l1%0Al2%0d%00", &[("data", "l1\nl2\r\0")]),
        ("%C3%A9=é", &[("é", "é")]),
        ("a=1;b=2", &[("a", "1;b=2")]),
    ];
    for (input, expected) in rows {
        let expected: Vec<_> = expected
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(pairs(input), expected, "{input}");
    }
}

#[test]
fn what_needs_no_decoding_is_borrowed() {
    let pairs = parse_pairs(b"topic=https://example.com/1&data=a+b", 10).expect("well formed");
    assert!(matches!(pairs[0], (Cow::Borrowed(_), Cow::Borrowed(_))));
    assert!(matches!(pairs[1], (Cow::Borrowed(_), Cow::Owned(_))));
}

#[test]
fn malformed_input_is_refused() {
    let rows: &[(&[u8], FormError)] = &[
        (b"a=%", FormError::PercentEncoding),
        (b"a=%2", FormError::PercentEncoding),
        (b"a=%2&b=1", FormError::PercentEncoding),
        (b"a=%zz", FormError::PercentEncoding),
        (b"%+1=a", FormError::PercentEncoding),
        (b"%u0041=a", FormError::PercentEncoding),
        (b"topic=%ff", FormError::Utf8),
        (b"topic=%C3", FormError::Utf8),
        (b"topic=\xff", FormError::Utf8),
        (b"topic=%C0%80", FormError::Utf8),
        (b"topic=%ED%A0%80", FormError::Utf8),
    ];
    for (input, error) in rows {
        assert_eq!(
            parse_pairs(input, 10),
            Err(*error),
            "{}",
            input.escape_ascii()
        );
    }
    assert_eq!(
        parse_pairs(b"a&b&c", 2),
        Err(FormError::TooManyPairs { pairs_max: 2 })
    );
    assert!(parse_pairs(b"a&b&&", 2).is_ok());
}

#[test]
fn ninety_thousand_keys_are_read() {
    let fields: Vec<_> = (0..90_000).map(|i| format!("k{i}=v+%41")).collect();
    let body = fields.join("&");
    let pairs = parse_pairs(body.as_bytes(), 100_000).expect("well formed");
    assert_eq!(pairs.len(), 90_000);
    assert_eq!(pairs[89_999], ("k89999".into(), "v A".into()));
    assert!(parse_pairs(body.as_bytes(), 1_000).is_err());
}

#[test]
fn a_segment_keeps_or_turns_its_plus_signs() {
    assert_eq!(
        percent_decode_segment("a+b%20c%2B", Plus::Literal).as_deref(),
        Ok("a+b c+")
    );
    assert_eq!(
        percent_decode_segment("a+b%20c%2B", Plus::Space).as_deref(),
        Ok("a b c+")
    );
    assert_eq!(
        percent_decode_segment("%", Plus::Space),
        Err(FormError::PercentEncoding)
    );
    let mut path = String::from("/");
    percent_encode_path_segment("a b+c/é{x}~-._%", &mut path);
    assert_eq!(path, "/a%20b%2Bc%2F%C3%A9%7Bx%7D~-._%25");
}

proptest! {
    #[test]
    fn a_segment_survives_the_round_trip(text in any::<String>()) {
        let mut segment = String::new();
        percent_encode_path_segment(&text, &mut segment);
        prop_assert!(segment.is_ascii());
        for plus in [Plus::Literal, Plus::Space] {
            let decoded = percent_decode_segment(&segment, plus);
            prop_assert_eq!(decoded.as_deref(), Ok(text.as_str()));
        }
        let query = format!("{segment}={segment}");
        let pairs = parse_pairs(query.as_bytes(), 1);
        prop_assert_eq!(pairs, Ok(vec![(text.as_str().into(), text.as_str().into())]));
    }

    #[test]
    fn any_bytes_are_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_pairs(&input, 10);
    }
}
