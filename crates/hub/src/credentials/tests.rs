use http::HeaderValue;

use super::*;
use crate::form::parse_pairs;

const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"; // 41 characters
const OTHER: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn found(
    headers: &[(&str, &str)],
    query: &str,
) -> Result<Option<(String, Place)>, CredentialError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        map.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    let query = parse_pairs(query.as_bytes(), 100).expect("well formed");
    let credential = find(&map, &query, "mercureAuthorization")?;
    Ok(credential.map(|credential| (credential.token.to_owned(), credential.place)))
}

#[test]
fn the_first_place_with_a_token_decides() {
    let header = format!("Bearer {LONG}");
    let query = format!("topic=a&authorization={OTHER}");
    let cookie = format!("mercureAuthorization={OTHER}");
    let all = [
        ("authorization", header.as_str()),
        ("cookie", cookie.as_str()),
    ];
    assert_eq!(
        found(&all, &query),
        Ok(Some((LONG.to_owned(), Place::Header)))
    );
    assert_eq!(
        found(&all[1..], &query),
        Ok(Some((OTHER.to_owned(), Place::Query)))
    );
    assert_eq!(
        found(&all[1..], ""),
        Ok(Some((OTHER.to_owned(), Place::Cookie)))
    );
    assert_eq!(found(&[], "topic=a&Authorization=x"), Ok(None));
    assert_eq!(
        found(&[("cookie", "mercureauthorization=x; other=y")], ""),
        Ok(None)
    );
}

#[test]
fn a_bad_place_is_not_rescued_by_a_later_one() {
    let cookie = format!("mercureAuthorization={LONG}");
    let query = format!("authorization={LONG}");
    let short = format!("Bearer {}", &LONG[1..]);
    let lower = format!("bearer {LONG}");
    let tab = format!("Bearer\t{LONG}");
    let shouted = format!("BEARER {LONG}");
    let accented = format!("Bearer {LONG}é");
    for value in [
        "",
        "Bearer",
        "Bearer ",
        "Basic dTpw",
        &short,
        &lower,
        &shouted,
        &tab,
        &accented,
    ] {
        let bad = found(&[("authorization", value), ("cookie", &cookie)], &query);
        assert_eq!(bad, Err(CredentialError::MalformedHeader), "{value}");
    }
    let good = format!("Bearer {LONG}");
    let two = [
        ("authorization", good.as_str()),
        ("authorization", good.as_str()),
    ];
    assert_eq!(found(&two, ""), Err(CredentialError::SeveralHeaders));
    let doubled = format!("{query}&{query}");
    let rows = [
        ("authorization=", CredentialError::MalformedParameter),
        ("authorization", CredentialError::MalformedParameter),
        (
            &query[..query.len() - 1],
            CredentialError::MalformedParameter,
        ),
        (&doubled, CredentialError::SeveralParameters),
    ];
    for (query, error) in rows {
        assert_eq!(found(&[("cookie", &cookie)], query), Err(error), "{query}");
    }
}

#[test]
fn cookies_are_read_as_browsers_write_them() {
    let rows = [
        (vec!["mercureAuthorization=t"], Some("t")),
        (vec!["a=1; mercureAuthorization=t; b=2"], Some("t")),
        (vec!["a=1;mercureAuthorization=t"], Some("t")),
        (vec!["a=1", "mercureAuthorization=t"], Some("t")),
        (vec!["mercureAuthorization=\"t\""], Some("t")),
        (
            vec!["mercureAuthorization=t; mercureAuthorization=u"],
            Some("t"),
        ),
        (vec!["mercureAuthorization=a=b"], Some("a=b")),
        (vec!["mercureAuthorization="], Some("")),
        (vec!["mercureAuthorization"], None),
        (
            vec!["xmercureAuthorization=t", "mercureAuthorizationx=t", ";;=;"],
            None,
        ),
    ];
    for (values, expected) in rows {
        let headers: Vec<_> = values.iter().map(|value| ("cookie", *value)).collect();
        let expected = expected.map(|token| (token.to_owned(), Place::Cookie));
        assert_eq!(found(&headers, ""), Ok(expected), "{values:?}");
    }
    let bad = found(&[("cookie", "mercureAuthorization=é")], "");
    assert_eq!(bad, Err(CredentialError::MalformedCookie));
}

#[test]
fn debug_does_not_show_the_token() {
    let credential = Credential {
        token: LONG,
        place: Place::Cookie,
    };
    assert!(!format!("{credential:?}").contains('a'.to_string().repeat(3).as_str()));
}
