//! Keys in every form and algorithm, by option and by the reference hub's environment variables.

use gush_testkit::{
    Claims, Failure, HubBuilder, HubProcess, KeyPair, Outcome, PATIENCE, Request, Response,
    SseStream, TokenKey, eventually, exchange,
};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://keys.example/1";

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .publisher_key(None)
        .subscriber_key(None))
}

fn publish(hub: &HubProcess, key: &TokenKey) -> Outcome<Response> {
    let token = key.sign(&Claims::new().publish(&["*"]))?;
    let fields = [("topic", TOPIC), ("data", "secret"), ("private", "on")];
    exchange(hub.address(), &Request::form(HUB, &fields).bearer(&token))
}

/// A private update travels from one key to the other.
fn both_ways(hub: &HubProcess, publisher: &TokenKey, subscriber: &TokenKey) -> Outcome<()> {
    let token = subscriber.sign(&Claims::new().subscribe(&["*"]))?;
    let request = Request::get(&format!("{HUB}?topic=https%3A%2F%2Fkeys.example%2F1"));
    let mut stream = SseStream::open(hub.address(), &request.bearer(&token))?;
    publish(hub, publisher)?.expect_status(&[200])?;
    stream.expect_data("secret").map(drop)
}

#[test]
fn every_hmac_size() -> Outcome<()> {
    let secret = "s".repeat(64);
    for algorithm in ["HS256", "HS384", "HS512"] {
        let hub = builder()?
            .publisher_key(Some(&secret))
            .subscriber_key(Some(&secret))
            .option("--publisher-alg", algorithm)
            .option("--subscriber-alg", algorithm)
            .start()?;
        let key = TokenKey::hmac(algorithm, &secret);
        both_ways(&hub, &key, &key)?;
        for other in ["HS256", "HS384", "HS512"]
            .into_iter()
            .filter(|other| *other != algorithm)
        {
            publish(&hub, &TokenKey::hmac(other, &secret))?.expect_status(&[401])?;
        }
    }
    Ok(())
}

#[test]
fn every_asymmetric_algorithm_from_pem() -> Outcome<()> {
    for algorithm in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    ] {
        let place = |f: Failure| f.within(algorithm);
        let pair = KeyPair::generate(algorithm)?;
        let pem = pair.public_pem()?;
        let key = TokenKey::pair(algorithm, pair);
        let builder = builder()?;
        let file = builder.directory().join("public.pem");
        std::fs::write(&file, &pem)?;
        // Once as text, once as a file.
        let hub = builder
            .publisher_key(Some(&pem))
            .subscriber_key(Some(&format!("file:{}", file.display())))
            .option("--publisher-alg", algorithm)
            .option("--subscriber-alg", algorithm)
            .start()
            .map_err(place)?;
        both_ways(&hub, &key, &key).map_err(place)?;
        // The classic confusion: the public key used as an HMAC secret.
        publish(&hub, &TokenKey::hmac("HS256", &pem))?
            .expect_status(&[401])
            .map_err(place)?;
        publish(&hub, &TokenKey::hmac("HS256", pem.trim()))?.expect_status(&[401])?;
    }
    Ok(())
}

#[test]
fn a_jwk_set_file_chooses_by_kid() -> Outcome<()> {
    let builder = builder()?;
    let (mut keys, mut set) = (Vec::new(), Vec::new());
    for algorithm in ["RS256", "ES256", "ES384", "EdDSA"] {
        let pair = KeyPair::generate(algorithm)?;
        set.push(pair.public_jwk(algorithm, algorithm));
        keys.push(TokenKey::pair(algorithm, pair).with_kid(algorithm));
    }
    let file = builder.directory().join("keys.json");
    std::fs::write(&file, json!({"keys": set}).to_string())?;
    let value = format!("file:{}", file.display());
    let hub = builder
        .publisher_key(Some(&value))
        .subscriber_key(Some(&value))
        .start()?;
    for key in &keys {
        both_ways(&hub, key, key).map_err(|f| f.within(key.algorithm()))?;
    }
    let stranger = TokenKey::pair("ES256", KeyPair::generate("ES256")?).with_kid("ES256");
    publish(&hub, &stranger)?.expect_status(&[401])?;
    let unknown = TokenKey::pair("ES256", KeyPair::generate("ES256")?).with_kid("nobody");
    publish(&hub, &unknown)?.expect_status(&[401])
}

/// Serves whatever text it holds as a JWK Set, on a free port; the address of the set.
fn serve_set(text: &Arc<Mutex<String>>) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/keys.json", listener.local_addr()?);
    let text = Arc::clone(text);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut buffer = [0; 4096];
            // One small GET per connection; its head fits one read.
            if stream.read(&mut buffer).is_ok() {
                let body = text.lock().expect("nobody panics with it").clone();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
                let _ = write!(
                    stream,
                    "{head}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        }
    });
    Ok(url)
}

#[test]
fn a_jwk_set_from_a_url_is_fetched_again_for_an_unknown_kid() -> Outcome<()> {
    let first = KeyPair::generate("ES256")?;
    let second = KeyPair::generate("EdDSA")?;
    let first_jwk = first.public_jwk("first", "ES256");
    let second_jwk = second.public_jwk("second", "EdDSA");
    let text = Arc::new(Mutex::new(json!({"keys": [first_jwk]}).to_string()));
    let url = serve_set(&text)?;
    let hub = builder()?
        .publisher_key(Some(&url))
        .subscriber_key(Some(&url))
        .start()?;
    let first = TokenKey::pair("ES256", first).with_kid("first");
    let second = TokenKey::pair("EdDSA", second).with_kid("second");
    eventually("the first key", PATIENCE, || {
        Ok((publish(&hub, &first)?.status() == 200).then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    *text.lock().expect("nobody panics with it") =
        json!({"keys": [first_jwk, second_jwk]}).to_string();
    // Fetched again because the kid is unknown; at most every so often, so it may take a while.
    eventually("the second key", PATIENCE * 3, || {
        Ok((publish(&hub, &second)?.status() == 200).then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    both_ways(&hub, &first, &second)
}

#[test]
fn the_reference_hubs_environment_works() -> Outcome<()> {
    let (one, two) = ("p".repeat(64), "s".repeat(64));
    let hub = builder()?
        .env("MERCURE_PUBLISHER_JWT_KEY", &one)
        .env("MERCURE_PUBLISHER_JWT_ALG", "HS512")
        .env("MERCURE_SUBSCRIBER_JWT_KEY", &two)
        .env("MERCURE_SUBSCRIBER_JWT_ALG", "HS384")
        .start()?;
    both_ways(
        &hub,
        &TokenKey::hmac("HS512", &one),
        &TokenKey::hmac("HS384", &two),
    )?;
    publish(&hub, &TokenKey::hmac("HS256", &one))?.expect_status(&[401])?;
    publish(&hub, &TokenKey::hmac("HS512", &two))?.expect_status(&[401])
}

#[test]
fn without_keys_an_anonymous_hub_gives_everybody_public_events() -> Outcome<()> {
    let secret = "p".repeat(64);
    let hub = builder()?
        .publisher_key(Some(&secret))
        .anonymous()
        .start()?;
    let key = TokenKey::hmac("HS256", &secret);
    let plain = Request::get(&format!("{HUB}?topic=*"));
    let mut without = SseStream::open(hub.address(), &plain)?;
    let mut with_junk = SseStream::open(hub.address(), &plain.clone().bearer(&"x".repeat(60)))?;
    publish(&hub, &key)?.expect_status(&[200])?;
    let token = key.sign(&Claims::new().publish(&["*"]))?;
    let public = Request::form(HUB, &[("topic", TOPIC), ("data", "public")]).bearer(&token);
    exchange(hub.address(), &public)?.expect_status(&[200])?;
    without.expect_data("public")?;
    with_junk.expect_data("public").map(drop)
}

#[test]
fn without_keys_and_not_anonymous_nobody_subscribes() -> Outcome<()> {
    let hub = builder()?.publisher_key(Some(&"p".repeat(64))).start()?;
    let plain = Request::get(&format!("{HUB}?topic=*"));
    exchange(hub.address(), &plain)?.expect_status(&[401])?;
    exchange(hub.address(), &plain.bearer(&"x".repeat(60)))?.expect_status(&[401])
}

/// Answers every connection with what it holds.
fn serve_raw(answer: &Arc<Mutex<String>>) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/keys.json", listener.local_addr()?);
    let answer = Arc::clone(answer);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 4096];
            if stream.read(&mut buffer).is_ok() {
                let answer = answer.lock().expect("nobody panics with it").clone();
                let _ = stream.write_all(answer.as_bytes());
            }
        }
    });
    Ok(url)
}

fn good(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}

const AWAY: &str = "HTTP/1.1 503 Away\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[test]
fn while_the_jwk_set_cannot_be_fetched_tokens_are_told_to_come_again() -> Outcome<()> {
    let pair = KeyPair::generate("ES256")?;
    let set = json!({"keys": [pair.public_jwk("known", "ES256")]}).to_string();
    let answer = Arc::new(Mutex::new(AWAY.to_owned()));
    let url = serve_raw(&answer)?;
    let hub = builder()?
        .publisher_key(Some(&url))
        .subscriber_key(Some(&url))
        .start()?;
    let known = TokenKey::pair("ES256", pair).with_kid("known");
    // The first fetch failed: nobody's token is known to be bad.
    let refused = publish(&hub, &known)?;
    refused.expect_status(&[503])?;
    assert!(refused.header("Retry-After").is_some());
    refused.problem()?;
    *answer.lock().expect("nobody panics with it") = good(&set);
    eventually("the key", PATIENCE * 3, || {
        Ok((publish(&hub, &known)?.status() == 200).then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    let series = "gush_breaker_state{remote=\"publisher_keys\"}";
    assert_eq!(hub.metric(series)?, Some(0));
    // Then it fails: what is known stays good, also over a reload; what is not may be good.
    *answer.lock().expect("nobody panics with it") = AWAY.to_owned();
    hub.signal("HUP")?;
    hub.wait_stderr(&["configuration reloaded"])?;
    let stranger = TokenKey::pair("ES256", KeyPair::generate("ES256")?).with_kid("new");
    publish(&hub, &stranger)?.expect_status(&[503])?;
    publish(&hub, &known)?.expect_status(&[200])?;
    let forger = TokenKey::pair("ES256", KeyPair::generate("ES256")?).with_kid("known");
    publish(&hub, &forger)?.expect_status(&[401])
}
