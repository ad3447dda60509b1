//! What the hub reads from a request's head: route, query, token, cursor, origin.
#![no_main]

use gush_hub::credentials;
use gush_hub::dialect::subscribe_request;
use gush_hub::form::parse_pairs;
use gush_hub::origin::{OriginRules, cors_headers, request_origin};
use gush_hub::request::{Door, parse_subscribe, route};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_subscribe(bytes);
    let Some((method, target, headers)) = head(bytes) else {
        return;
    };
    for door in [Door::Public, Door::Admin] {
        let _ = route(&method, target.path(), door);
    }
    let rules = OriginRules::parse(&["https://*.example.com", "null"]).expect("valid entries");
    if let Some(origin) = request_origin(&headers) {
        let _ = rules.allows(&origin);
    }
    let is_allowed = cors_headers(&rules, &headers, true).len() > 1;
    // Only an origin that the rules name is ever answered.
    if is_allowed {
        let origin = headers
            .get("origin")
            .and_then(|origin| origin.to_str().ok());
        assert!(origin.is_some_and(|origin| rules.allows(origin)));
    }
    let Ok(query) = parse_pairs(target.query().unwrap_or("").as_bytes(), 1_000) else {
        return;
    };
    let _ = credentials::find(&headers, &query, "mercureAuthorization");
    if let Ok(request) = subscribe_request(&headers, &query) {
        for matcher in &request.matchers {
            assert!(matcher.matches(matcher.text()));
        }
    }
});

/// The head as hyper would hand it on.
fn head(bytes: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut lines);
    if !matches!(head.parse(bytes), Ok(httparse::Status::Complete(_))) {
        return None;
    }
    let method = Method::from_bytes(head.method?.as_bytes()).ok()?;
    let target = head.path?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    Some((method, target, headers))
}
