use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;

use serde_json::json;

use super::*;
use crate::auth::KEY_FILE_BYTES_MAX;

type KeyRing = crate::auth::KeyRing<Map<String, Value>>;
type Claims = crate::auth::Claims<Map<String, Value>>;

const NOW: u64 = 1_800_000_000;

/// The vector for an algorithm, see `auth/tests.rs`.
fn vector(alg: &str) -> Value {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors.json")).expect("JSON");
    vectors
        .into_iter()
        .find(|vector| vector["alg"] == alg)
        .expect("one per algorithm")
}

fn jwk(alg: &str, kid: &str) -> Value {
    let mut jwk = vector(alg)["jwk"].clone();
    jwk["kid"] = kid.into();
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A token that is signed with no key anybody has, and names one.
fn token_naming(kid: &str) -> String {
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.AAAA",
        encode(json!({ "alg": "ES256", "kid": kid })),
        encode(json!({}))
    )
}

fn usable_count(json: &str, pinned: Option<Algorithm>, trust: Trust) -> usize {
    // Counts through the public behaviour: which keys are there by name.
    let set = match parse(json.as_bytes(), pinned, trust) {
        Ok(set) => set,
        Err(KeyErrorKind::JwkSet(_)) => return 0,
        Err(other) => panic!("{other}"),
    };
    (0..KEYS_MAX).filter(|i| set.has_id(&i.to_string())).count()
}

#[test]
fn unusable_keys_are_left_out() {
    let good = jwk("ES256", "0");
    let with = |name: &str, value: Value| {
        let mut key = jwk("RS256", "1");
        key[name] = value;
        key
    };
    let spoilt = |alg: &str, name: &str, value: &str| {
        let mut key = jwk(alg, "1");
        key[name] = value.into();
        key
    };
    let point_off_curve = URL_SAFE_NO_PAD.encode([7; 32]);
    let rows = [
        with("use", "enc".into()),
        with("key_ops", json!(["encrypt"])),
        with("alg", "RSA-OAEP".into()),
        with("alg", "none".into()),
        with("alg", "ES256".into()),
        with("alg", "HS256".into()),
        spoilt("RS256", "kty", "unknown"),
        spoilt("RS256", "n", "AQAB"),
        spoilt("RS256", "n", "not base64url!"),
        spoilt("RS256", "n", ""),
        spoilt("RS256", "e", ""),
        spoilt("ES256", "crv", "P-384"),
        spoilt("ES256", "crv", "secp256k1"),
        spoilt("ES256", "x", "AA"),
        spoilt("ES256", "x", &point_off_curve),
        spoilt("EdDSA", "crv", "X25519"),
        spoilt("EdDSA", "x", "AA"),
        json!({}),
        json!("text"),
        json!(null),
    ];
    for bad in rows {
        let json = set(&[good.clone(), bad.clone()]);
        assert_eq!(usable_count(&json, None, Trust::Local), 1, "{bad}");
        assert!(parse(set(&[bad]).as_bytes(), None, Trust::Local).is_err());
    }
    for (name, value) in [
        ("use", json!("sig")),
        ("key_ops", json!(["verify", "sign"])),
    ] {
        assert_eq!(
            usable_count(&set(&[good.clone(), with(name, value)]), None, Trust::Local),
            2
        );
    }
}

#[test]
fn pinning_and_origin_narrow_a_set() {
    let json = set(&[jwk("ES256", "0"), jwk("RS256", "1"), jwk("HS256", "2")]);
    assert_eq!(usable_count(&json, None, Trust::Local), 3);
    assert_eq!(
        usable_count(&json, None, Trust::Fetched),
        2,
        "a secret on the web is none"
    );
    assert_eq!(usable_count(&json, Some(Algorithm::Ps256), Trust::Local), 1);
    assert_eq!(usable_count(&json, Some(Algorithm::Es384), Trust::Local), 0);
    let many: Vec<_> = (0..=KEYS_MAX)
        .map(|i| jwk("ES256", &i.to_string()))
        .collect();
    assert_eq!(usable_count(&set(&many), None, Trust::Local), 0);
    assert_eq!(
        usable_count(&set(&many[1..]), None, Trust::Local),
        KEYS_MAX - 1
    );
    let deep = format!(
        "{{\"keys\":{}1{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(usable_count(&deep, None, Trust::Local), 0);
}

#[test]
fn der_lengths_have_their_three_forms() {
    assert_eq!(der_element(4, &[]), [4, 0]);
    assert_eq!(der_element(4, &[9; 127])[..3], [4, 127, 9]);
    assert_eq!(der_element(4, &[9; 128])[..4], [4, 0x81, 128, 9]);
    assert_eq!(der_element(4, &[9; 256])[..5], [4, 0x82, 1, 0, 9]);
    assert_eq!(der_integer(&[0, 0, 0x7f]), [2, 1, 0x7f]);
    assert_eq!(der_integer(&[0x80]), [2, 2, 0, 0x80]);
    assert_eq!(der_integer(&[]), [2, 1, 0]);
}

/// An identity provider on loopback: answers every connection with the current answer.
struct Provider {
    url: String,
    answer: Arc<Mutex<Vec<u8>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/keys?x=1", listener.local_addr().expect("bound"));
        let provider = Self {
            url,
            answer: Arc::default(),
            requests: Arc::default(),
        };
        let (answer, requests) = (Arc::clone(&provider.answer), Arc::clone(&provider.requests));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else {
                    return;
                };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && connection.read_exact(&mut byte).is_ok() {
                    head.push(byte[0]);
                }
                let line = String::from_utf8_lossy(&head)
                    .lines()
                    .next()
                    .map(str::to_owned);
                requests.lock().expect("no panic").extend(line);
                let answer = answer.lock().expect("no panic").clone();
                let _ = connection.write_all(&answer);
            }
        });
        provider
    }

    fn answers(&self, status: &str, headers: &str, body: &str) {
        let length = body.len();
        let answer =
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}");
        *self.answer.lock().expect("no panic") = answer.into_bytes();
    }

    fn requests_count(&self) -> usize {
        self.requests.lock().expect("no panic").len()
    }

    fn ring(&self) -> KeyRing {
        KeyRing::load("subscriber", &self.url, None).expect("loads without asking")
    }
}

fn is_accepted(verdict: &Result<Claims, TokenError>) -> bool {
    verdict
        .as_ref()
        .is_ok_and(|claims| claims["mercure"]["publish"][0] == "*")
}

fn token(alg: &str) -> String {
    vector(alg)["token"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_url_is_asked_once_for_a_crowd_and_then_not_again() {
    let provider = Provider::start();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let ring = Arc::new(provider.ring());
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let ring = Arc::clone(&ring);
            tokio::spawn(async move { ring.verify(&token("ES256"), NOW).await })
        })
        .collect();
    for verdict in crowd {
        assert!(is_accepted(&verdict.await.expect("no panic")));
    }
    assert!(is_accepted(&ring.verify(&token("ES256"), NOW + 60).await));
    assert_eq!(
        *provider.requests.lock().expect("no panic"),
        ["GET /keys?x=1 HTTP/1.1"]
    );
    assert_eq!(ring.trouble(), None);
}

#[tokio::test]
async fn unknown_key_names_ask_at_most_once_in_ten_seconds() {
    let provider = Provider::start();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let ring = provider.ring();
    ring.prefetch(NOW).await;
    ring.prefetch(NOW + 60).await;
    assert_eq!(provider.requests_count(), 1);
    for at in [NOW, NOW + 1, NOW + FETCH_FLOOR_SECONDS - 1] {
        let refused = ring.verify(&token_naming("http://127.0.0.1:1/"), at).await;
        assert_eq!(refused, Err(TokenError::UnknownKey));
    }
    assert_eq!(provider.requests_count(), 1);
    // A key that was added is known after the floor.
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a"), jwk("ES256", "b")]));
    let refused = ring
        .verify(&token_naming("b"), NOW + FETCH_FLOOR_SECONDS)
        .await;
    assert_eq!(refused, Err(TokenError::Signature));
    assert_eq!(provider.requests_count(), 2);
    // A known name with a wrong signature asks nobody.
    let refused = ring.verify(&token_naming("a"), NOW + 100).await;
    assert_eq!(refused, Err(TokenError::Signature));
    // The clock was set back: asked again instead of waiting until it caught up.
    ring.verify(&token_naming("c"), NOW - 100)
        .await
        .expect_err("unknown");
    assert_eq!(provider.requests_count(), 3);
}

#[tokio::test]
async fn the_last_good_set_stays_when_the_provider_fails() {
    let provider = Provider::start();
    let ring = provider.ring();
    provider.answers("500 Oops", "", "");
    let refused = ring.verify(&token("ES256"), NOW).await;
    assert_eq!(refused, Err(TokenError::KeysUnavailable));
    assert!(refused.is_err_and(TokenError::is_ours));
    assert_eq!(
        ring.trouble().as_deref(),
        Some("subscriber_key: answered with status 500")
    );
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    assert!(is_accepted(&ring.verify(&token("ES256"), NOW + 10).await));
    assert_eq!(ring.trouble(), None);

    let mut at = NOW + 10;
    let huge = " ".repeat(KEY_FILE_BYTES_MAX + 1);
    let elsewhere = format!("location: {}\r\n", provider.url);
    let failures = [
        (
            "302 Found",
            elsewhere.as_str(),
            "",
            "answered with status 302",
        ),
        (
            "200 OK",
            "",
            "[]",
            "not a usable JWK Set: not a JSON object",
        ),
        (
            "200 OK",
            "",
            "{\"keys\":[]}",
            "not a usable JWK Set: no key for",
        ),
        ("200 OK", "", &huge, "the answer broke off or is over 1 MiB"),
        ("junk", "", "", "no answer"),
    ];
    for (status, headers, body, trouble) in failures {
        provider.answers(status, headers, body);
        // Past every pause of the breaker.
        at += BREAKER.open_max.as_secs();
        let before = provider.requests_count();
        ring.verify(&token_naming("z"), at)
            .await
            .expect_err("unknown");
        assert_eq!(
            provider.requests_count(),
            before + 1,
            "asked once, redirects not followed"
        );
        let told = ring.trouble().expect("a failure");
        assert!(told.contains(trouble), "{told}");
        assert!(is_accepted(&ring.verify(&token("ES256"), at).await));
    }
}

#[tokio::test]
async fn a_failing_provider_is_left_alone_and_then_probed_once() {
    let provider = Provider::start();
    let ring = provider.ring();
    provider.answers("500 Oops", "", "");
    let mut at = NOW;
    for asked in 1..=3 {
        assert_eq!(ring.breaker_state(at), Some(BreakerState::Closed));
        let refused = ring.verify(&token("ES256"), at).await;
        assert_eq!(refused, Err(TokenError::KeysUnavailable));
        assert_eq!(provider.requests_count(), asked);
        at += FETCH_FLOOR_SECONDS;
    }
    at -= FETCH_FLOOR_SECONDS;
    assert_eq!(ring.breaker_state(at), Some(BreakerState::Open));
    // The provider is back, but nobody asks before the pause is over, though the floor is.
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let early = at + FETCH_FLOOR_SECONDS - 1;
    let refused = ring.verify(&token("ES256"), early).await;
    assert_eq!(refused, Err(TokenError::KeysUnavailable));
    assert_eq!(provider.requests_count(), 3);
    // Nor does a clock that was set back keep it open: the pause goes on from there.
    assert_eq!(ring.breaker_state(early - 86_400), Some(BreakerState::Open));
    let later = early - 86_400 + BREAKER.open_min.as_secs();
    assert_eq!(ring.breaker_state(later), Some(BreakerState::HalfOpen));
    assert!(is_accepted(&ring.verify(&token("ES256"), later).await));
    assert_eq!(provider.requests_count(), 4);
    assert_eq!(ring.breaker_state(later), Some(BreakerState::Closed));
}

#[tokio::test]
async fn while_the_provider_is_away_an_unknown_key_is_our_fault() {
    let provider = Provider::start();
    let ring = provider.ring();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    ring.prefetch(NOW).await;
    let unknown = ring.verify(&token_naming("new"), NOW + 1).await;
    assert_eq!(unknown, Err(TokenError::UnknownKey));
    provider.answers("503 Away", "", "");
    let at = NOW + FETCH_FLOOR_SECONDS;
    for at in [at, at + 1] {
        let unknown = ring.verify(&token_naming("new"), at).await;
        assert_eq!(unknown, Err(TokenError::KeysUnavailable));
        // What it is known to have signed, or not, is known all the same.
        assert!(is_accepted(&ring.verify(&token("ES256"), at).await));
        let forged = ring.verify(&token_naming("a"), at).await;
        assert_eq!(forged, Err(TokenError::Signature));
    }
    // A new ring for the same URL has its keys until it has fetched its own.
    let next = provider.ring();
    next.adopt(&ring);
    next.prefetch(at + 2).await;
    assert!(next.trouble().is_some());
    assert!(is_accepted(&next.verify(&token("ES256"), at + 2).await));
}

/// A provider that takes the request and says nothing holds a token up for as long as a fetch may
/// take; then it is left alone, and nobody waits for it any more.
#[tokio::test(start_paused = true)]
async fn a_hanging_provider_is_given_up_and_recovers() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("a socket");
    let silent = tokio::net::TcpListener::from_std(silent).expect("a listener");
    let url = format!("http://{}/", silent.local_addr().expect("bound"));
    let answer = Arc::new(Mutex::new(None::<String>));
    let answers = Arc::clone(&answer);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut connection, _)) = silent.accept().await {
            let answer = answers.lock().expect("no panic").clone();
            if let Some(answer) = answer {
                let _ = connection.write_all(answer.as_bytes()).await;
            }
            held.push(connection);
        }
    });
    let ring = KeyRing::load("subscriber", &url, None).expect("loads without asking");
    let mut at = NOW;
    for _ in 0..3 {
        let refused = ring.verify(&token("ES256"), at).await;
        assert_eq!(refused, Err(TokenError::KeysUnavailable));
        at += FETCH_FLOOR_SECONDS;
    }
    assert!(
        ring.trouble()
            .expect("a failure")
            .contains("no full answer")
    );
    let before = tokio::time::Instant::now();
    let refused = ring.verify(&token("ES256"), at).await;
    assert_eq!(refused, Err(TokenError::KeysUnavailable));
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "the clock of the test moves only by waiting"
    );
    tokio::time::resume();
    let body = set(&[jwk("ES256", "a")]);
    let good = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    *answer.lock().expect("no panic") = Some(good);
    let probed = ring
        .verify(&token("ES256"), at + BREAKER.open_min.as_secs())
        .await;
    assert!(is_accepted(&probed), "{probed:?}");
}

#[tokio::test]
async fn an_old_set_is_renewed_and_lost_keys_are_refused() {
    let provider = Provider::start();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let ring = provider.ring();
    assert!(is_accepted(&ring.verify(&token("ES256"), NOW).await));
    provider.answers("200 OK", "", &set(&[jwk("RS256", "b")]));
    // Nobody waits for the renewal; it is in force as soon as it is there.
    let later = NOW + REFRESH_SECONDS;
    assert!(is_accepted(&ring.verify(&token("ES256"), later - 1).await));
    assert_eq!(provider.requests_count(), 1);
    assert!(is_accepted(&ring.verify(&token("ES256"), later).await));
    while !is_accepted(&ring.verify(&token("RS256"), later).await) {
        tokio::task::yield_now().await;
    }
    assert!(!is_accepted(&ring.verify(&token("ES256"), later).await));
    assert_eq!(provider.requests_count(), 2);
}

#[tokio::test]
async fn a_known_token_is_forgotten_with_its_key() {
    let provider = Provider::start();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let ring = provider.ring();
    ring.prefetch(NOW).await;
    let known = ring.verify_known(&token("ES256"), NOW).await;
    let again = ring.verify_known(&token("ES256"), NOW).await;
    let (known, again) = (known.expect("good"), again.expect("good"));
    assert!(Arc::ptr_eq(&known, &again), "checked once");
    provider.answers("200 OK", "", &set(&[jwk("RS256", "b")]));
    // Also a hub that only ever sees known tokens fetches the set anew.
    let later = NOW + REFRESH_SECONDS;
    while ring.verify_known(&token("ES256"), later).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(provider.requests_count(), 2);
}

#[tokio::test]
async fn a_peer_that_leaves_does_not_cancel_the_fetch() {
    let provider = Provider::start();
    provider.answers("200 OK", "", &set(&[jwk("ES256", "a")]));
    let ring = provider.ring();
    {
        let token = token("ES256");
        let mut leaving = std::pin::pin!(ring.verify(&token, NOW));
        let first_poll =
            std::future::poll_fn(|context| Poll::Ready(leaving.as_mut().poll(context))).await;
        assert!(
            first_poll.is_pending(),
            "it waits for the fetch, and is dropped here"
        );
    }
    // Well within the floor: the one fetch must have gone on.
    assert!(is_accepted(&ring.verify(&token("ES256"), NOW + 1).await));
    assert_eq!(provider.requests_count(), 1);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, set(&[jwk("RS256", "a")])).expect("written");
    let ring = KeyRing::load("publisher", path.to_str().expect("UTF-8"), None);
    let ring = ring.expect("a usable set");
    assert!(is_accepted(&ring.verify(&token("RS256"), NOW).await));
    assert_eq!(
        ring.verify(&token_naming("b"), NOW).await,
        Err(TokenError::UnknownKey)
    );
    std::fs::write(&path, set(&[jwk("RS256", "a"), jwk("ES256", "b")])).expect("written");
    assert_eq!(
        ring.verify(&token_naming("b"), NOW).await,
        Err(TokenError::Signature)
    );
    std::fs::write(&path, "{").expect("written");
    assert_eq!(
        ring.verify(&token_naming("c"), NOW).await,
        Err(TokenError::UnknownKey)
    );
    assert!(
        ring.trouble()
            .expect("broken")
            .contains("not a JSON object")
    );
    assert!(is_accepted(&ring.verify(&token("ES256"), NOW).await));
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(
        ring.verify(&token_naming("c"), NOW).await,
        Err(TokenError::UnknownKey)
    );
    assert!(ring.trouble().expect("gone").contains("entity not found"));
}

#[tokio::test]
async fn an_unreachable_provider_is_our_fault() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("bound");
    let ring = KeyRing::load("subscriber", &format!("http://u:secret@{closed}/"), None);
    let ring = ring.expect("loads without asking");
    let refused = ring.verify(&token("ES256"), NOW).await;
    assert_eq!(refused, Err(TokenError::KeysUnavailable));
    assert_eq!(
        ring.trouble().as_deref(),
        Some("subscriber_key: cannot connect")
    );
    assert!(ring.warning().expect("no TLS").contains("without TLS"));
    let ring = KeyRing::load("subscriber", "https://idp.example/keys", None);
    assert!(ring.expect("roots are installed").warning().is_none());
}
