//! Tokens and keys for tests: good ones, and ones that a hub has to refuse.

use crate::{Failure, Outcome};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use aws_lc_rs::{hmac, rsa::KeySize};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, as tokens count them.
pub fn unix_now() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// The claims of a token, built up field by field.
#[derive(Clone, Debug, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// No claim at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets any claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    fn mercure(mut self, name: &str, value: Value) -> Self {
        let object = self.0.entry("mercure").or_insert_with(|| json!({}));
        if let Value::Object(fields) = object {
            fields.insert(name.to_owned(), value);
        }
        self
    }

    /// Sets `mercure.publish`.
    #[must_use]
    pub fn publish(self, selectors: &[&str]) -> Self {
        self.mercure("publish", json!(selectors))
    }

    /// Sets `mercure.subscribe`.
    #[must_use]
    pub fn subscribe(self, selectors: &[&str]) -> Self {
        self.mercure("subscribe", json!(selectors))
    }

    /// Sets `mercure.payload`.
    #[must_use]
    pub fn payload(self, payload: Value) -> Self {
        self.mercure("payload", payload)
    }

    /// Sets `exp` to this many seconds from now; negative: in the past.
    #[must_use]
    pub fn expires_in(self, seconds: i64) -> Self {
        self.claim("exp", json!(unix_now() + seconds))
    }

    /// Sets `nbf` to this many seconds from now.
    #[must_use]
    pub fn not_before_in(self, seconds: i64) -> Self {
        self.claim("nbf", json!(unix_now() + seconds))
    }

    /// The claims as the JSON text that is signed.
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }
}

/// An asymmetric key pair, made for one test run.
pub enum KeyPair {
    /// For RS* and PS*.
    Rsa(RsaKeyPair),
    /// For ES256, ES384 or ES512; the second part is the JWK name of the curve.
    Ec(EcdsaKeyPair, &'static str),
    /// For `EdDSA`.
    Ed25519(Ed25519KeyPair),
}

impl KeyPair {
    /// A new pair that can sign with this JWT algorithm.
    pub fn generate(algorithm: &str) -> Outcome<Self> {
        let failed = |_| Failure::new(format!("cannot make a key for {algorithm}"));
        match algorithm {
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => {
                RsaKeyPair::generate(KeySize::Rsa2048)
                    .map(Self::Rsa)
                    .map_err(failed)
            }
            "ES256" | "ES384" | "ES512" => {
                let (signing, curve) = match algorithm {
                    "ES256" => (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
                    "ES384" => (&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
                    _ => (&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
                };
                EcdsaKeyPair::generate(signing)
                    .map(|pair| Self::Ec(pair, curve))
                    .map_err(failed)
            }
            "EdDSA" => Ed25519KeyPair::generate()
                .map(Self::Ed25519)
                .map_err(failed),
            _ => Err(Failure::new(format!(
                "no such asymmetric algorithm: {algorithm}"
            ))),
        }
    }

    /// The public half as PEM (`BEGIN PUBLIC KEY`).
    pub fn public_pem(&self) -> Outcome<String> {
        let der: Result<PublicKeyX509Der<'_>, _> = match self {
            Self::Rsa(pair) => pair.public_key().as_der(),
            Self::Ec(pair, _) => pair.public_key().as_der(),
            Self::Ed25519(pair) => pair.public_key().as_der(),
        };
        let der = der.map_err(|_| Failure::new("cannot write the public key"))?;
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text
            .as_bytes()
            .chunks(64)
            .map(String::from_utf8_lossy)
            .collect();
        Ok(format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            lines.join("\n")
        ))
    }

    /// The public half as a JWK with this `kid` and `alg`.
    pub fn public_jwk(&self, kid: &str, algorithm: &str) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match self {
            Self::Rsa(pair) => json!({
                "kty": "RSA",
                "n": encode(pair.public_key().modulus().big_endian_without_leading_zero()),
                "e": encode(pair.public_key().exponent().big_endian_without_leading_zero()),
            }),
            Self::Ec(pair, curve) => {
                // Uncompressed point: 4, then x and y of equal length.
                let (x, y) = pair.public_key().as_ref()[1..]
                    .split_at((pair.public_key().as_ref().len() - 1) / 2);
                json!({"kty": "EC", "crv": curve, "x": encode(x), "y": encode(y)})
            }
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref())})
            }
        };
        jwk["kid"] = json!(kid);
        jwk["alg"] = json!(algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Outcome<Vec<u8>> {
        let failed = |_| Failure::new(format!("cannot sign with {algorithm}"));
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let padding: &'static dyn signature::RsaEncoding = match algorithm {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut out)
                    .map_err(failed)?;
                Ok(out)
            }
            Self::Ec(pair, _) => Ok(pair
                .sign(&random, message)
                .map_err(failed)?
                .as_ref()
                .to_vec()),
            Self::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

/// A key that signs tokens, with its algorithm.
pub struct TokenKey {
    algorithm: String,
    kid: Option<String>,
    material: Material,
}

enum Material {
    Secret(Vec<u8>),
    Pair(KeyPair),
}

impl TokenKey {
    /// An HMAC key for `HS256`, `HS384` or `HS512`.
    pub fn hmac(algorithm: &str, secret: &str) -> Self {
        Self {
            algorithm: algorithm.into(),
            kid: None,
            material: Material::Secret(secret.as_bytes().to_vec()),
        }
    }

    /// An asymmetric key.
    pub fn pair(algorithm: &str, pair: KeyPair) -> Self {
        Self {
            algorithm: algorithm.into(),
            kid: None,
            material: Material::Pair(pair),
        }
    }

    /// Puts a `kid` into the header of every token.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// The JWT name of the algorithm.
    pub fn algorithm(&self) -> &str {
        &self.algorithm
    }

    /// The key pair, when it is one.
    pub fn key_pair(&self) -> Option<&KeyPair> {
        match &self.material {
            Material::Pair(pair) => Some(pair),
            Material::Secret(_) => None,
        }
    }

    /// A signed token with these claims.
    pub fn sign(&self, claims: &Claims) -> Outcome<String> {
        let mut header = json!({"alg": self.algorithm, "typ": "JWT"});
        if let Some(kid) = &self.kid {
            header["kid"] = json!(kid);
        }
        self.sign_texts(&header.to_string(), &claims.to_json())
    }

    /// Signs any header and payload, also ones that are not JSON. The signature is made with this
    /// key's own algorithm, whatever the header says.
    pub fn sign_texts(&self, header: &str, payload: &str) -> Outcome<String> {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = match &self.material {
            Material::Secret(secret) => {
                let algorithm = match self.algorithm.as_str() {
                    "HS256" => hmac::HMAC_SHA256,
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    other => return Err(Failure::new(format!("{other} is not an HMAC"))),
                };
                let key = hmac::Key::new(algorithm, secret);
                hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
            }
            Material::Pair(pair) => pair.sign(&self.algorithm, signed.as_bytes())?,
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// A token without a signature, with this spelling of `alg`.
pub fn unsigned_token(algorithm: &str, claims: &Claims) -> String {
    let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
    format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_json())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7515_appendix_a_1_is_reproduced() {
        let secret = URL_SAFE_NO_PAD
            .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
            .expect("the RFC's key is base64url");
        let key = TokenKey {
            algorithm: "HS256".into(),
            kid: None,
            material: Material::Secret(secret),
        };
        let token = key
            .sign_texts(
                "{\"typ\":\"JWT\",\r\n \"alg\":\"HS256\"}",
                "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}",
            )
            .expect("HMAC cannot fail");
        assert!(
            token.ends_with(".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "{token}"
        );
    }

    #[test]
    fn every_algorithm_makes_a_key_and_signs() {
        for algorithm in ["RS256", "PS512", "ES256", "ES384", "ES512", "EdDSA"] {
            let pair = KeyPair::generate(algorithm).expect("key");
            assert!(pair.public_pem().expect("pem").contains("BEGIN PUBLIC KEY"));
            assert_eq!(pair.public_jwk("k", algorithm)["kid"], "k");
            let token = TokenKey::pair(algorithm, pair)
                .sign(&Claims::new())
                .expect("token");
            assert_eq!(token.split('.').count(), 3);
        }
    }
}
