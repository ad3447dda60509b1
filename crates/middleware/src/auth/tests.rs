use std::future::Future;
use std::io::Write as _;
use std::task::{Context, Poll, Waker};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;

type KeyRing = super::KeyRing<serde_json::Map<String, Value>>;
type Claims = super::Claims<serde_json::Map<String, Value>>;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "!ChangeThisMercureHubJWTSecretKey!";

/// Fixed keys never wait, so one poll is the answer.
fn verify(ring: &KeyRing, token: &str) -> Result<Claims, TokenError> {
    let mut verdict = std::pin::pin!(ring.verify(token, NOW));
    match verdict
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("fixed keys do not wait"),
    }
}

fn ring(source: &str, alg: Option<&str>) -> KeyRing {
    KeyRing::load("publisher", source, alg).expect("a usable key")
}

fn load_error(source: &str, alg: Option<&str>) -> String {
    KeyRing::load("publisher", source, alg)
        .expect_err("not usable")
        .to_string()
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A token with this header and these claims, under an HMAC secret; nothing is checked.
fn hmac_token(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let hmac = match header["alg"].as_str() {
        Some("HS384") => aws_lc_rs::hmac::HMAC_SHA384,
        Some("HS512") => aws_lc_rs::hmac::HMAC_SHA512,
        _ => aws_lc_rs::hmac::HMAC_SHA256,
    };
    let key = aws_lc_rs::hmac::Key::new(hmac, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn grants() -> Value {
    json!({ "mercure": { "publish": ["*"] } })
}

/// Private key, public key, as DER (PKCS#8 and `SubjectPublicKeyInfo`), for each key type.
fn key_pairs() -> Vec<(KeyType, Vec<u8>, Vec<u8>)> {
    let random = SystemRandom::new();
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("generated");
    let rsa_private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = rsa.as_der().expect("encoded");
    let rsa_public = rsa
        .public_key()
        .as_der()
        .expect("encoded")
        .as_ref()
        .to_vec();
    let mut pairs = vec![(KeyType::Rsa, rsa_private.as_ref().to_vec(), rsa_public)];
    for (key_type, algorithm) in [
        (KeyType::P256, &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        (KeyType::P384, &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        (KeyType::P521, &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
    ] {
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("generated");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref()).expect("just made");
        let public = pair
            .public_key()
            .as_der()
            .expect("encoded")
            .as_ref()
            .to_vec();
        pairs.push((key_type, private.as_ref().to_vec(), public));
    }
    let private = Ed25519KeyPair::generate_pkcs8(&random).expect("generated");
    let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).expect("just made");
    let public = pair
        .public_key()
        .as_der()
        .expect("encoded")
        .as_ref()
        .to_vec();
    pairs.push((KeyType::Ed25519, private.as_ref().to_vec(), public));
    pairs
}

/// Tokens of every algorithm, signed by another implementation (Python's `cryptography`).
fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("vectors.json")).expect("JSON")
}

#[test]
fn tokens_of_another_implementation_are_accepted() {
    let vectors = vectors();
    assert_eq!(vectors.len(), 13);
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().expect("text");
        let (alg, token) = (text("alg"), text("token"));
        let mut sources = vec![text("key").to_owned(), vector["jwk"].to_string()];
        sources.extend(vector["pkcs1"].as_str().map(str::to_owned));
        for source in &sources {
            let ring = ring(source, Some(alg));
            assert!(verify(&ring, token).expect(alg)["mercure"]["publish"][0] == "*");
        }
        // Every other vector's token is refused, whatever its algorithm.
        for other in vectors.iter().filter(|other| other["alg"] != vector["alg"]) {
            let ring = ring(text("key"), Some(alg));
            let refused = verify(&ring, other["token"].as_str().expect("text"));
            assert_eq!(refused, Err(TokenError::Algorithm));
        }
    }
}

#[test]
fn the_examples_of_the_standards_are_accepted() {
    // RFC 7515 appendix A.1 and A.3; their `exp` is in 2011.
    let hs256 = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkz\
                 ODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1\
                 p1r_wW1gFWFOEjXk";
    let secret = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let expired = Err(TokenError::Expired {
        seconds: NOW - 1_300_819_380,
    });
    assert_eq!(verify(&ring(secret, None), hs256), expired);
    let es256 = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9\
                 leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCg\
                 fTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let public = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    assert_eq!(verify(&ring(public, None), es256), expired);
    // RFC 8037 appendix A.4; what it signs is not JSON, which comes to light after the signature.
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1P\
                 POt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let public =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let refused = verify(&ring(public, None), eddsa);
    assert_eq!(refused, Err(TokenError::Claims("not a JSON object")));
}

#[test]
fn what_is_signed_here_is_accepted_here() {
    for (key_type, private, public) in key_pairs() {
        let (private, public) = (pem("PRIVATE KEY", &private), pem("PUBLIC KEY", &public));
        let algorithms: &[Option<&str>] = match key_type {
            KeyType::Rsa => &[
                None,
                Some("RS256"),
                Some("RS384"),
                Some("RS512"),
                Some("PS256"),
                Some("PS512"),
            ],
            _ => &[None],
        };
        for &alg in algorithms {
            let token = sign(&grants(), &private, alg).expect("signed");
            assert!(
                verify(&ring(&public, alg), &token).is_ok(),
                "{key_type:?} {alg:?}"
            );
        }
        let other = sign(&grants(), SECRET, Some("HS384")).expect("signed");
        assert_eq!(
            verify(&ring(&public, None), &other),
            Err(TokenError::Algorithm)
        );
        assert!(load_error(&private, None).contains("a private key"));
        assert!(load_error(&public, Some("HS256")).starts_with("publisher_alg: HS256"));
        assert!(sign(&grants(), &public, None).is_err());
        assert!(sign(&grants(), &private, Some("HS256")).is_err());
    }
    let token = sign(&grants(), SECRET, None).expect("signed");
    assert!(verify(&ring(SECRET, None), &token).is_ok());
}

#[test]
fn only_the_pinned_algorithm_is_accepted() {
    for (pinned, used) in [("HS256", "HS512"), ("HS512", "HS256"), ("HS384", "HS256")] {
        let token = sign(&grants(), SECRET, Some(used)).expect("signed");
        assert_eq!(
            verify(&ring(SECRET, Some(pinned)), &token),
            Err(TokenError::Algorithm)
        );
    }
    // The classic confusion: the public key, which everybody has, as an HMAC secret.
    for (key_type, private, public) in key_pairs() {
        let (public_pem, private) = (pem("PUBLIC KEY", &public), pem("PRIVATE KEY", &private));
        let ring = ring(&public_pem, None);
        for secret in [
            public_pem.as_bytes(),
            public_pem.trim_end().as_bytes(),
            &public,
        ] {
            for alg in ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"] {
                let token = hmac_token(&json!({ "alg": alg }), &grants(), secret);
                assert!(verify(&ring, &token).is_err(), "{key_type:?} {alg}");
            }
        }
        // The right key under another of its own algorithms.
        if key_type == KeyType::Rsa {
            let token = sign(&grants(), &private, Some("PS256")).expect("signed");
            assert_eq!(verify(&ring, &token), Err(TokenError::Algorithm));
        }
    }
}

#[test]
fn unsigned_tokens_are_refused() {
    let ring = ring(SECRET, None);
    let token = sign(&grants(), SECRET, None).expect("signed");
    let (message, _) = token.rsplit_once('.').expect("three parts");
    assert_eq!(
        verify(&ring, &format!("{message}.")),
        Err(TokenError::Signature)
    );
    let payload = message.split_once('.').expect("two parts").1;
    for alg in ["none", "None", "NONE", "nOnE"] {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg }).to_string());
        let refused = verify(&ring, &format!("{header}.{payload}."));
        assert_eq!(refused, Err(TokenError::Algorithm));
    }
}

#[test]
fn any_changed_bit_is_noticed() {
    let ring = ring(SECRET, None);
    let token = sign(&grants(), SECRET, None).expect("signed");
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            let changed = String::from_utf8(bytes).expect("still ASCII");
            assert!(verify(&ring, &changed).is_err(), "byte {at}, bit {bit}");
        }
    }
    for at in 0..token.len() {
        assert!(verify(&ring, &token[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn neighbouring_and_guessable_secrets_are_refused() {
    let ring = ring(SECRET, None);
    let upper = SECRET.to_uppercase();
    for secret in [
        "",
        "secret",
        "!",
        &SECRET[1..],
        &upper,
        &format!("{SECRET}\n"),
    ] {
        let token = hmac_token(&json!({ "alg": "HS256" }), &grants(), secret.as_bytes());
        assert_eq!(
            verify(&ring, &token),
            Err(TokenError::Signature),
            "{secret:?}"
        );
    }
}

#[test]
fn key_names_lead_nowhere_but_into_the_set() {
    let other = "another secret of at least 32 bytes";
    let set = json!({ "keys": [
        { "kty": "oct", "kid": "one", "k": URL_SAFE_NO_PAD.encode(SECRET) },
        { "kty": "oct", "kid": "two", "alg": "HS512", "k": URL_SAFE_NO_PAD.encode(other) },
    ] });
    let ring = ring(&set.to_string(), None);
    let token = |header: Value, secret: &str| hmac_token(&header, &grants(), secret.as_bytes());
    assert!(
        verify(
            &ring,
            &token(json!({ "alg": "HS256", "kid": "one" }), SECRET)
        )
        .is_ok()
    );
    assert!(
        verify(
            &ring,
            &token(json!({ "alg": "HS512", "kid": "two" }), other)
        )
        .is_ok()
    );
    assert!(verify(&ring, &token(json!({ "alg": "HS512" }), other)).is_ok());
    let crossed = verify(
        &ring,
        &token(json!({ "alg": "HS256", "kid": "two" }), SECRET),
    );
    assert_eq!(crossed, Err(TokenError::Algorithm));
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "one' OR '1'='1",
        "http://127.0.0.1:1/jwks",
        "",
        "ONE",
    ] {
        for secret in [SECRET, ""] {
            let refused = verify(&ring, &token(json!({ "alg": "HS256", "kid": kid }), secret));
            assert_eq!(refused, Err(TokenError::UnknownKey), "{kid}");
        }
    }
    // Keys the token brings along change nothing.
    let header = json!({
        "alg": "HS256",
        "kid": "one",
        "jwk": { "kty": "oct", "k": URL_SAFE_NO_PAD.encode("mine") },
        "jku": "http://127.0.0.1:1/",
        "x5u": "http://127.0.0.1:1/",
        "x5c": ["MIIB"],
    });
    assert_eq!(
        verify(&ring, &token(header, "mine")),
        Err(TokenError::Signature)
    );
}

#[test]
fn one_token_costs_few_signatures() {
    let key = |secret: &str| json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(secret) });
    let mut keys: Vec<_> = (0..TRIES_MAX - 1)
        .map(|i| key(&format!("other {i}")))
        .collect();
    keys.push(key(SECRET));
    let token = sign(&grants(), SECRET, None).expect("signed");
    assert!(verify(&ring(&json!({ "keys": keys }).to_string(), None), &token).is_ok());
    keys.insert(0, key("one more"));
    let refused = verify(&ring(&json!({ "keys": keys }).to_string(), None), &token);
    assert_eq!(refused, Err(TokenError::Signature));
}

#[test]
fn a_source_is_text_or_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    let path = path.to_str().expect("UTF-8");
    let write = |text: &str| {
        std::fs::File::create(path)
            .and_then(|mut f| f.write_all(text.as_bytes()))
            .expect("written");
    };
    let token = sign(&grants(), SECRET, None).expect("signed");
    for ending in ["", "\n", "\r\n"] {
        write(&format!("{SECRET}{ending}"));
        for source in [path.to_owned(), format!("@{path}"), format!("file:{path}")] {
            assert!(verify(&ring(&source, None), &token).is_ok(), "{source}");
            assert!(sign(&grants(), &source, None).is_ok());
        }
        assert!(verify(&ring(&format!("file://{path}"), None), &token).is_ok());
    }
    // Only one line break is taken off, and none from text.
    write(&format!("{SECRET}\n\n"));
    assert_eq!(
        verify(&ring(path, None), &token),
        Err(TokenError::Signature)
    );
    assert_eq!(
        verify(&ring(&format!("{SECRET}\n"), None), &token),
        Err(TokenError::Signature)
    );

    let vector = &vectors()[3];
    write(vector["key"].as_str().expect("text"));
    assert!(verify(&ring(path, None), vector["token"].as_str().expect("text")).is_ok());
    // In an environment file, line breaks are written as `\n`.
    let one_line = vector["key"]
        .as_str()
        .expect("text")
        .trim_end()
        .replace('\n', "\\n");
    assert!(
        verify(
            &ring(&one_line, None),
            vector["token"].as_str().expect("text")
        )
        .is_ok()
    );
    write(&json!({ "keys": [vector["jwk"]] }).to_string());
    assert!(verify(&ring(path, None), vector["token"].as_str().expect("text")).is_ok());

    // A secret that looks like a path to nothing is a secret.
    let token = sign(&grants(), "a/b", None).expect("signed");
    assert!(verify(&ring("a/b", None), &token).is_ok());
}

#[test]
fn errors_name_the_option_and_never_the_key() {
    let secret = "hunter2-hunter2";
    let rows = [
        ("", None, "publisher_key: the secret is empty"),
        (
            "@hunter2-hunter2",
            None,
            "publisher_key: the file cannot be read: entity not found",
        ),
        (
            "file:/hunter2-hunter2",
            None,
            "publisher_key: the file cannot be read: entity not found",
        ),
        (
            "-----BEGIN hunter2-hunter2",
            None,
            "publisher_key: not a key in PEM",
        ),
        (
            "{\"hunter2-hunter2\":1}",
            None,
            "publisher_key: not a usable JWK Set: no `keys`",
        ),
        (
            "{\"keys\":[{}]}",
            None,
            "publisher_key: not a usable JWK Set: no key for",
        ),
        (
            "{\"keys\":1}",
            None,
            "publisher_key: not a usable JWK Set: `keys` is not",
        ),
        (
            "http://hunter2-hunter2:x:y/",
            None,
            "publisher_key: not a URL",
        ),
        ("https:///hunter2-hunter2", None, "publisher_key: not a URL"),
        (secret, Some("none"), "publisher_alg: not an algorithm"),
        (
            secret,
            Some("hunter2-hunter2"),
            "publisher_alg: not an algorithm",
        ),
        (
            secret,
            Some("RS256"),
            "publisher_alg: RS256 does not go with a secret",
        ),
        (
            "-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----",
            None,
            "publisher_key: a certificate",
        ),
    ];
    for (source, alg, text) in rows {
        let error = load_error(source, alg);
        assert!(error.starts_with(text), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let debug = format!("{:?}", KeyRing::load("publisher", source, alg));
        assert!(!debug.contains("hunter2"), "{debug}");
    }
}

#[test]
fn a_ring_says_which_role_it_is_for_and_what_is_weak() {
    let error = KeyRing::load("subscriber", "", None)
        .expect_err("empty")
        .to_string();
    assert!(error.starts_with("subscriber_key:"));
    let short = ring("short", None);
    assert!(
        short
            .warning()
            .expect("too short")
            .starts_with("publisher_key: the secret is shorter")
    );
    assert!(ring(SECRET, None).warning().is_none());
    assert!(!format!("{short:?}").contains("short"));
}

#[test]
fn broken_json_in_a_file_is_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks.json");
    std::fs::write(&path, "{\"keys\": [").expect("written");
    assert!(load_error(path.to_str().expect("UTF-8"), None).contains("not a JSON object"));
}

#[test]
fn a_public_key_in_any_form_is_no_secret() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    let source = path.to_str().expect("UTF-8");
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("written");
    for (_, _, public) in key_pairs() {
        write(&public);
        assert!(load_error(source, None).contains("not a key in PEM"));
        let mut with_mark = b"\xef\xbb\xbf".to_vec();
        with_mark.extend_from_slice(pem("PUBLIC KEY", &public).as_bytes());
        write(&with_mark);
        assert!(load_error(source, Some("HS256")).contains("does not go with"));
        assert!(KeyRing::load("publisher", source, None).is_ok());
        let behind_text = format!("subject=x\n{}", pem("PUBLIC KEY", &public));
        write(behind_text.as_bytes());
        assert!(KeyRing::load("publisher", source, None).is_ok());
        assert!(KeyRing::load("publisher", &behind_text, None).is_ok());
    }
    write(format!("\u{feff}{}", json!({ "keys": [vectors()[3]["jwk"]] })).as_bytes());
    assert!(KeyRing::load("publisher", source, None).is_ok());
    for ssh in [
        "ssh-ed25519 AAAA me@host",
        "ssh-rsa AAAA",
        "ecdsa-sha2-nistp256 AAAA",
    ] {
        assert!(load_error(ssh, None).contains("not a key in PEM"));
    }
    for url in ["HTTP://[", "Https://", "HTTPS:///x"] {
        assert!(load_error(url, None).contains("not a URL"), "{url}");
    }
    // Any 32 bytes could be an Ed25519 key; they are what a good secret looks like.
    assert!(KeyRing::load("publisher", "0123456789abcdef0123456789abcdef", None).is_ok());
}

#[test]
fn small_rsa_keys_are_refused_with_the_reason() {
    let small = RsaKeyPair::generate(KeySize::Rsa2048).expect("generated");
    let public = small
        .public_key()
        .as_der()
        .expect("encoded")
        .as_ref()
        .to_vec();
    assert!(KeyRing::load("publisher", &pem("PUBLIC KEY", &public), None).is_ok());
    // 1024 bits, made with openssl for this test.
    let small = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDPzxDoNzRjgk4p8yK+AgEaM9mq
L9ROYYgoXNa62mTV2NebbNfy1jVSpVPVC9F8nM/6IIJT77fJBYMueefqz5ZvXCRK
rgcymGJPYv1BrjbiYwlLkyqrzTE3kE0EsZgON6nlhESpwdIa5jvqsoD7Yv8nKbOR
EqEfNR2inJGohboucwIDAQAB
-----END PUBLIC KEY-----";
    assert!(load_error(small, None).contains("an RSA key of less than 2048"));
}

#[tokio::test]
async fn the_times_of_a_known_token_are_checked_on_every_use() {
    let ring = ring(SECRET, None);
    let claims = json!({ "exp": NOW + 10, "nbf": NOW, "mercure": { "publish": ["a"] } });
    let token = hmac_token(&json!({ "alg": "HS256" }), &claims, SECRET.as_bytes());
    let at = |seconds| ring.verify_known(&token, seconds);
    let early = TokenError::NotYetValid { seconds: 1 };
    let late = TokenError::Expired { seconds: 0 };
    assert_eq!(at(NOW - 1).await, Err(early), "not accepted yet");
    let known = at(NOW).await.expect("valid");
    assert!(Arc::ptr_eq(&known, &at(NOW + 9).await.expect("valid")));
    assert_eq!(at(NOW - 1).await, Err(early));
    assert_eq!(at(NOW + 10).await, Err(late));
    // Anything but the very token is checked in full.
    let (rest, last) = token.split_at(token.len() - 1);
    let changed = format!("{rest}{}", if last == "A" { "Q" } else { "A" });
    let refused = ring.verify_known(&changed, NOW).await;
    assert!(refused.is_err());
    // Another ring, as a reload makes it, knows nothing.
    let other = KeyRing::load("publisher", "another secret of more than 32 bytes..", None);
    let other = other.expect("usable").verify_known(&token, NOW).await;
    assert_eq!(other, Err(TokenError::Signature));
}
