//! Tokens: any text, any header and claims under a wrong signature, any claims under a right one.
#![no_main]

use std::future::Future;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use gush_hub::keys::{KeyRing, Role, sign};
use gush_hub::token::{Claims, TokenError};
use libfuzzer_sys::fuzz_target;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret for fuzzing, of more than 32 bytes";

static RING: LazyLock<KeyRing> =
    LazyLock::new(|| KeyRing::load(Role::Publisher, SECRET, None).expect("a usable key"));

fuzz_target!(|text: &str| {
    // Nobody here knows how to forge HMAC-SHA256, so nothing but what we sign is accepted.
    assert!(verify(text).is_err());
    if let Some((header, claims)) = text.split_once('\n') {
        let token = format!("{}.{}.AAAA", base64url(header), base64url(claims));
        assert!(verify(&token).is_err());
    }
    if let Ok(claims) = serde_json::from_str(text) {
        let token = sign(&claims, SECRET, None).expect("signs any JSON");
        if let Ok(claims) = verify(&token) {
            assert!(claims.expires_unix.is_none_or(|at| at > NOW));
            assert!(!claims.may_publish(std::iter::empty()));
            let _ = claims.may_publish(["https://example.com/1"].into_iter());
            let _ = claims.may_read(["https://example.com/1"].into_iter());
        }
    }
    // A key source is the operator's, but it should not bring the hub down either.
    if text.starts_with('{') || text.starts_with("-----BEGIN") {
        let _ = KeyRing::load(Role::Publisher, text, None).map(|ring| ring.warning());
    }
});

/// Fixed keys never wait, so one poll is the answer.
fn verify(token: &str) -> Result<Claims, TokenError> {
    let mut verdict = std::pin::pin!(RING.verify(token, NOW));
    match verdict
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(verdict) => verdict,
        Poll::Pending => panic!("fixed keys do not wait"),
    }
}

fn base64url(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            let index = bits >> (18 - 6 * digit) & 63;
            encoded.push(char::from(DIGITS[index as usize]));
        }
    }
    encoded
}
