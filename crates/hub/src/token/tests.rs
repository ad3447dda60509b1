use gush_middleware::auth::Grants as _;

use super::*;

/// Reads grants as out of a token whose signature was checked.
fn claims(json: &str) -> Result<Grants, &'static str> {
    Grants::read(&mut serde_json::from_str(json).expect("an object"))
}

#[test]
fn grants_are_read_from_either_claim() {
    let read = |json: &str| claims(json).expect("valid claims");
    let grants = read(
        r#"{"sub":"me","mercure":{"publish":["a","b{x}"],"subscribe":[],"payload":{"n":[1]}}}"#,
    );
    let publish: Vec<_> = grants.publish.iter().flatten().map(Matcher::text).collect();
    assert_eq!(publish, ["a", "b{x}"]);
    assert_eq!(grants.subscribe, Some(Vec::new()));
    assert_eq!(grants.payload, Some(serde_json::json!({"n": [1]})));
    assert!(grants.may_publish(["a", "b1"].into_iter()));
    assert!(
        !grants.may_publish(["a", "c"].into_iter()),
        "every topic needs a grant"
    );
    assert!(!grants.may_publish(std::iter::empty()));
    assert!(
        !grants.may_read(["a"].into_iter()),
        "a grant to publish is none to read"
    );

    let grants =
        read(r#"{"mercure":{"publish":["*"]},"https://mercure.rocks/":{"subscribe":["a"]}}"#);
    assert_eq!(
        grants.publish, None,
        "the namespaced claim replaces the other"
    );
    assert!(
        grants.may_read(["z", "a"].into_iter()),
        "one topic of several is enough"
    );
    assert!(!grants.may_read(["z"].into_iter()));

    let grants = read(r#"{"mercure":{"publish":["*"]},"https://mercure.rocks/":null}"#);
    assert!(grants.may_publish(["anything"].into_iter()));
    for nothing in [
        "{}",
        r#"{"mercure":null}"#,
        r#"{"mercure":{}}"#,
        r#"{"mercure":{"publish":null,"subscribe":null,"payload":null}}"#,
    ] {
        assert_eq!(read(nothing), Grants::default());
        assert!(!read(nothing).may_publish(["a"].into_iter()));
    }
}

#[test]
fn claims_of_the_wrong_form_are_refused() {
    for value in ["[]", "1", r#""*""#, "true"] {
        for name in ["mercure", "https://mercure.rocks/"] {
            let refused = claims(&format!(r#"{{"{name}":{value}}}"#));
            assert_eq!(refused, Err("`mercure` is not an object"));
        }
    }
    let long = format!(r#"["{}"]"#, "x".repeat(4097));
    let many = format!("[{}]", vec![r#""a""#; CLAIM_MATCHERS_MAX + 1].join(","));
    let rows = [
        r#""*""#,
        "{}",
        "1",
        "true",
        "[1]",
        "[null]",
        r#"["a",["b"]]"#,
        r#"[""]"#,
        &long,
        &many,
    ];
    for value in rows {
        for name in ["publish", "subscribe"] {
            let refused = claims(&format!(r#"{{"mercure":{{"{name}":{value}}}}}"#));
            let is_about_it = matches!(refused, Err(problem) if problem.contains(name));
            assert!(is_about_it, "{name}: {value}");
        }
    }
    let most = format!("[{}]", vec![r#""a""#; CLAIM_MATCHERS_MAX].join(","));
    assert!(claims(&format!(r#"{{"mercure":{{"publish":{most}}}}}"#)).is_ok());
}
