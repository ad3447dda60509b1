//! The abuse catalogue's rows 60 to 67 as far as they concern the token itself; those that need
//! keys are in `auth/tests.rs`.

use super::*;

const NOW: u64 = 1_800_000_000;

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Reads claims as if their signature had been checked.
fn claims(json: &str) -> Result<Claims<Map<String, Value>>, TokenError> {
    let token = format!("{}.{}.", encode(r#"{"alg":"HS256"}"#), encode(json));
    read_claims(&split(&token)?, NOW)
}

fn header_error(json: &str) -> Option<TokenError> {
    split(&format!("{}.{}.", encode(json), encode("{}"))).err()
}

#[test]
fn a_header_is_taken_strictly() {
    for alg in [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS1", "RSA1_5", "dir",
    ] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(header_error(&header), Some(TokenError::Algorithm), "{alg}");
    }
    for header in [
        "",
        "x",
        "null",
        "[]",
        "{}",
        r#"{"alg":null}"#,
        r#"{"alg":1}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":"HS256","kid":1}"#,
        r#"{"alg":"HS256"} x"#,
        r#"{"alg":"HS256","kid":null}"#,
    ] {
        assert_eq!(
            header_error(header),
            Some(TokenError::Malformed),
            "{header}"
        );
    }
    for crit in [r#"["b64"]"#, "[]", "null", r#"["exp"]"#] {
        let header = format!(r#"{{"alg":"HS256","crit":{crit},"b64":false}}"#);
        assert_eq!(header_error(&header), Some(TokenError::Critical));
    }
    // Keys that a token brings along are not looked at.
    let header = r#"{"alg":"HS256","jku":"http://127.0.0.1:1/","jwk":{},"x5u":1,"x5c":[]}"#;
    assert_eq!(header_error(header), None);
}

#[test]
fn what_is_not_three_parts_of_base64url_is_refused() {
    let (header, payload) = (encode(r#"{"alg":"HS256"}"#), encode("{}"));
    let dots = ".".repeat(TOKEN_BYTES_MAX);
    let rows = [
        String::new(),
        "x".to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.AA.AA"),
        format!("{header}.{payload}.AA.AA.AA"), // as many parts as an encrypted token
        format!("{header}=.{payload}.AA"),
        format!("{header}.{payload}.A"),
        format!("{header}.{payload}.AB"), // the last bits are not zero: a second spelling of AA
        format!("{header}.{payload}.+/"),
        format!("{header}.{payload}. AA"),
        format!("{header}.{payload}.AA\n"),
        format!("{header}.{payload}.é"),
        dots,
    ];
    for token in rows {
        assert_eq!(split(&token).err(), Some(TokenError::Malformed), "{token}");
    }
    assert!(split(&format!("{header}.{payload}.AA")).is_ok());
    let huge = format!("{header}.{payload}.{}", "A".repeat(4 * 1024 * 1024));
    assert_eq!(split(&huge).err(), Some(TokenError::TooLong));
    assert_eq!(split(&".".repeat(100_000)).err(), Some(TokenError::TooLong));
}

#[test]
fn deeply_nested_json_is_refused() {
    // As deep as the longest token allows, in header and claims.
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let deep = format!("{}1{}", open.repeat(900), close.repeat(900));
        let header = format!(r#"{{"alg":"HS256","x":{deep}}}"#);
        assert_eq!(header_error(&header), Some(TokenError::Malformed));
        let payload = format!(r#"{{"mercure":{{"payload":{deep}}}}}"#);
        assert_eq!(
            claims(&payload),
            Err(TokenError::Claims("not a JSON object"))
        );
    }
}

#[test]
fn times_are_enforced_to_the_second_without_leeway() {
    let rows = [
        (
            format!(r#"{{"exp":{NOW}}}"#),
            Err(TokenError::Expired { seconds: 0 }),
        ),
        (
            format!(r#"{{"exp":{}}}"#, NOW - 12),
            Err(TokenError::Expired { seconds: 12 }),
        ),
        (
            format!(r#"{{"exp":{}.9}}"#, NOW - 1),
            Err(TokenError::Expired { seconds: 1 }),
        ),
        (
            r#"{"exp":-5}"#.into(),
            Err(TokenError::Expired { seconds: NOW }),
        ),
        (
            r#"{"exp":0}"#.into(),
            Err(TokenError::Expired { seconds: NOW }),
        ),
        (format!(r#"{{"exp":{}}}"#, NOW + 1), Ok(Some(NOW + 1))),
        (format!(r#"{{"exp":{}.9}}"#, NOW + 1), Ok(Some(NOW + 1))),
        (r#"{"exp":2e9}"#.into(), Ok(Some(2_000_000_000))),
        (r#"{"exp":1e300}"#.into(), Ok(Some(u64::MAX))),
        (format!(r#"{{"nbf":{NOW}}}"#), Ok(None)),
        (
            format!(r#"{{"nbf":{}}}"#, NOW + 7),
            Err(TokenError::NotYetValid { seconds: 7 }),
        ),
        (
            format!(r#"{{"nbf":{NOW}.1}}"#),
            Err(TokenError::NotYetValid { seconds: 1 }),
        ),
        (r#"{"nbf":-1}"#.into(), Ok(None)),
        ("{}".into(), Ok(None)),
    ];
    for (json, expected) in rows {
        assert_eq!(
            claims(&json).map(|claims| claims.expires_unix),
            expected,
            "{json}"
        );
    }
    for value in [r#""1900000000""#, "null", "true", "[]", "{}", r#""""#] {
        let bad = |name| claims(&format!(r#"{{"{name}":{value}}}"#)).err();
        assert_eq!(bad("exp"), Some(TokenError::Claims("bad `exp`")), "{value}");
        assert_eq!(bad("nbf"), Some(TokenError::Claims("bad `nbf`")), "{value}");
    }
    assert_eq!(
        TokenError::Expired { seconds: 12 }.to_string(),
        "token expired 12 s ago"
    );
}

#[test]
fn claims_of_the_wrong_form_are_refused() {
    for json in ["", "null", "[]", "1", "{", "\u{feff}{}", "{}x"] {
        assert_eq!(
            claims(json),
            Err(TokenError::Claims("not a JSON object")),
            "{json}"
        );
    }
}

#[test]
fn what_an_application_does_not_take_is_refused_in_its_words() {
    #[derive(Debug, PartialEq)]
    struct Admin;
    impl Grants for Admin {
        fn read(claims: &mut Map<String, Value>) -> Result<Self, &'static str> {
            let is_admin = claims.get("admin") == Some(&Value::Bool(true));
            is_admin.then_some(Self).ok_or("not an admin")
        }
    }
    let read = |json: &str| {
        let token = format!("{}.{}.", encode(r#"{"alg":"HS256"}"#), encode(json));
        read_claims::<Admin>(&split(&token)?, NOW)
    };
    let good = read(r#"{"admin":true,"sub":"me"}"#).expect("an admin");
    assert_eq!((good.subject.as_deref(), good.grants), (Some("me"), Admin));
    assert_eq!(read("{}"), Err(TokenError::Claims("not an admin")));
}
