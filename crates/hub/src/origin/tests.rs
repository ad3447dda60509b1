use super::*;

fn rules(entries: &[&str]) -> OriginRules {
    OriginRules::parse(entries).expect("valid entries")
}

fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    map
}

#[test]
fn entries_allow_what_they_say() {
    #[rustfmt::skip]
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("https://example.com", &["https://example.com", "HTTPS://Example.COM"], &["http://example.com", "https://example.com:8443", "https://example.com/", "https://example.com.evil.org", "https://sub.example.com", "null", ""]),
        ("http://localhost:3000", &["http://localhost:3000"], &["http://localhost", "http://localhost:30000"]),
        ("null", &["null"], &["https://null", ""]),
        ("*", &["https://anything", "null"], &[]),
        ("https://*.example.com", &["https://a.example.com", "https://a.b.example.com"], &["https://example.com", "http://a.example.com", "https://a.example.com.evil.org", "https://evil.org/.example.com", "https://evil.org#.example.com", "https://evil.org?.example.com", "https://x@y.example.com", "https://x\\.example.com", "https://é.example.com", "https://.example.co"]),
        ("http://localhost:*", &["http://localhost:1", "http://localhost:"], &["http://localhost", "http://localhost:1/", "http://localhost.evil.org:1"]),
        ("https://*", &["https://example.com:1", "https://[::1]:1"], &["http://example.com"]),
        ("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]"]),
        ("capacitor://localhost", &["capacitor://localhost"], &["http://localhost"]),
    ];
    for (entry, allowed, foreign) in rows {
        let rules = rules(&["https://unrelated.example", entry]);
        for origin in *allowed {
            assert!(rules.allows(origin), "{entry} should allow {origin}");
        }
        for origin in *foreign {
            assert!(!rules.allows(origin), "{entry} should not allow {origin}");
        }
    }
    assert!(!rules(&[]).allows("https://example.com"));
    assert!(!rules(&["*"]).allows(&"x".repeat(100_000)));
    // The literals around the star do not share bytes.
    assert!(!rules(&["https://aba*aba.com"]).allows("https://aba.com"));
}

#[test]
fn entries_that_are_no_origins_are_refused() {
    let rows = [
        ("", "no scheme"),
        ("example.com", "no scheme"),
        ("*.example.com", "no scheme"),
        ("://example.com", "no scheme"),
        ("ht*tp://example.com", "no scheme"),
        ("https://", "no host"),
        ("https://example.com/", "ends with a slash"),
        ("https://example.com/path", "more than an origin"),
        ("https://example.com?x", "more than an origin"),
        ("https://*.*.example.com", "more than one *"),
        ("https://user@example.com", "no origin has"),
        ("https://exämple.com", "no origin has"),
        ("https://a b", "no origin has"),
        ("NULL", "no scheme"),
    ];
    for (entry, problem) in rows {
        let error = OriginRules::parse(&[entry]).expect_err(entry).to_string();
        assert!(error.contains(problem), "{error}");
    }
}

type Fields = &'static [(HeaderName, &'static str)];

#[test]
fn the_origin_is_said_by_origin_else_by_referer() {
    let origin =
        |fields: &[(HeaderName, &str)]| request_origin(&headers(fields)).map(Cow::into_owned);
    let rows: &[(Fields, Option<&str>)] = &[
        (&[], None),
        (&[(ORIGIN, "https://a.example")], Some("https://a.example")),
        (
            &[(ORIGIN, "null"), (REFERER, "https://a.example/")],
            Some("null"),
        ),
        (
            &[(REFERER, "https://a.example:8443/x?y#z")],
            Some("https://a.example:8443"),
        ),
        (&[(REFERER, "https://a.example")], Some("https://a.example")),
        (
            &[(REFERER, "https://a.example?https://b.example/")],
            Some("https://a.example"),
        ),
        (
            &[(REFERER, "https://a.example@b.example/")],
            Some("https://b.example"),
        ),
        (
            &[(REFERER, "https://b.example\\@a.example/")],
            Some("https://b.example"),
        ),
        (&[(REFERER, "about:blank")], None),
        (&[(REFERER, "/relative")], None),
        (&[(REFERER, "https:///x")], None),
        (&[(REFERER, "://a.example")], None),
        // Two of them, or one that cannot be read, say nothing, whatever the Referer says.
        (
            &[(ORIGIN, "https://a.example"), (ORIGIN, "https://b.example")],
            None,
        ),
        (&[(ORIGIN, ""), (REFERER, "https://a.example/")], None),
        (
            &[
                (ORIGIN, "https://é.example"),
                (REFERER, "https://a.example/"),
            ],
            None,
        ),
        (
            &[
                (REFERER, "https://a.example/"),
                (REFERER, "https://a.example/"),
            ],
            None,
        ),
    ];
    for (fields, expected) in rows {
        assert_eq!(origin(fields).as_deref(), *expected, "{fields:?}");
    }
}

fn cors(entries: &[&str], origin: Option<&str>, is_preflight: bool) -> Vec<String> {
    let fields: Vec<_> = origin.map(|origin| (ORIGIN, origin)).into_iter().collect();
    let answer = cors_headers(&rules(entries), &headers(&fields), is_preflight);
    answer
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("ASCII")))
        .collect()
}

#[test]
fn only_allowed_origins_get_cors_headers() {
    let own = "https://a.example";
    assert!(cors(&[], Some(own), true).is_empty());
    for foreign in [None, Some("https://b.example"), Some("null"), Some("")] {
        assert_eq!(cors(&[own], foreign, true), ["vary: Origin"]);
        assert_eq!(cors(&[own], foreign, false), ["vary: Origin"]);
    }
    let plain = [
        "vary: Origin",
        "access-control-allow-origin: https://a.example",
        "access-control-allow-credentials: true",
    ];
    assert_eq!(cors(&[own], Some(own), false), plain);
    assert_eq!(cors(&["*", own], Some(own), false), plain);
    let anybody = ["vary: Origin", "access-control-allow-origin: *"];
    assert_eq!(cors(&["*"], Some(own), false), anybody);
    let preflight = cors(&["https://*.example"], Some(own), true);
    assert_eq!(preflight[..3], plain);
    assert_eq!(
        preflight[3..],
        [
            "access-control-allow-methods: GET, POST, HEAD",
            "access-control-allow-headers: authorization,cache-control,last-event-id",
        ]
    );
}
