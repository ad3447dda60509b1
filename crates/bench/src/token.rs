//! A publisher's token, signed with HS256.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Header of every token here: `{"alg":"HS256","typ":"JWT"}`.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Lets its bearer publish to every topic. No expiry: it lives as long as the run's key does.
const CLAIMS: &str = r#"{"mercure":{"publish":["*"]}}"#;

/// A token that may publish to every topic, signed with `key`.
pub fn publisher(key: &str) -> String {
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(HEADER),
        URL_SAFE_NO_PAD.encode(CLAIMS)
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_token_has_three_parts_and_a_stable_signature() {
        let token = super::publisher("secret");
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(token, super::publisher("secret"));
        assert_ne!(token, super::publisher("other"));
    }
}
