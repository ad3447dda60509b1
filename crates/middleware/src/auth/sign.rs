//! Making tokens, for `gush token`, the development mode and tests.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::algorithm::{Algorithm, KeyType};
use super::{KeyError, KeyErrorKind, Material, pem, pinned_algorithm, read_source};

/// Signs `claims` as a compact token. `key_source` has the forms of a key option, as far as they
/// can sign: a secret, or a private key in PEM (PKCS#8, PKCS#1 or SEC 1, not encrypted). `alg`
/// is by the key's type when absent. Reads files and blocks while doing so.
pub fn sign(claims: &Value, key_source: &str, alg: Option<&str>) -> Result<String, KeyError> {
    signed(claims, key_source, alg).map_err(|kind| KeyError { name: None, kind })
}

fn signed(claims: &Value, key_source: &str, alg: Option<&str>) -> Result<String, KeyErrorKind> {
    let pinned = pinned_algorithm(alg)?;
    let key = match read_source(key_source)? {
        Material::Secret(secret) => SigningKey::from_secret(&secret, pinned)?,
        Material::Pem(text) => SigningKey::from_pem(&text, pinned)?,
        Material::JwkSet { .. } | Material::Url(_) => return Err(KeyErrorKind::CannotSign),
    };
    let header = serde_json::json!({ "alg": key.algorithm().name(), "typ": "JWT" });
    let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims.to_string(), &mut token);
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

enum SigningKey {
    Secret(Box<hmac::Key>, Algorithm),
    Rsa(Box<RsaKeyPair>, Algorithm),
    Ecdsa(EcdsaKeyPair, Algorithm),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    fn from_secret(secret: &[u8], pinned: Option<Algorithm>) -> Result<Self, KeyErrorKind> {
        if secret.is_empty() {
            return Err(KeyErrorKind::EmptySecret);
        }
        let algorithm = pinned.unwrap_or(Algorithm::Hs256);
        let hmac = algorithm.hmac().ok_or(KeyErrorKind::WrongKeyType {
            algorithm: algorithm.name(),
            key_type: KeyType::Secret.name(),
        })?;
        Ok(Self::Secret(
            Box::new(hmac::Key::new(hmac, secret)),
            algorithm,
        ))
    }

    fn from_pem(text: &str, pinned: Option<Algorithm>) -> Result<Self, KeyErrorKind> {
        let block = pem::first_block(text).ok_or(KeyErrorKind::Malformed)?;
        match block.label {
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {}
            "ENCRYPTED PRIVATE KEY" => return Err(KeyErrorKind::Encrypted),
            _ => return Err(KeyErrorKind::CannotSign),
        }
        // The key's own type decides; a pinned algorithm has to go with it.
        let (key_type, key) = KeyType::ASYMMETRIC
            .into_iter()
            .find_map(|key_type| {
                let algorithm = pinned.filter(|pinned| pinned.key_type() == key_type);
                let algorithm = algorithm.unwrap_or(key_type.default_algorithm());
                Some((key_type, Self::from_der(&block.bytes, algorithm)?))
            })
            .ok_or(KeyErrorKind::Malformed)?;
        match pinned {
            Some(pinned) if pinned.key_type() != key_type => Err(KeyErrorKind::WrongKeyType {
                algorithm: pinned.name(),
                key_type: key_type.name(),
            }),
            _ => Ok(key),
        }
    }

    /// `None`: not a private key of the algorithm's type.
    fn from_der(der: &[u8], algorithm: Algorithm) -> Option<Self> {
        if let Some(curve) = algorithm.ecdsa_signing() {
            let key = EcdsaKeyPair::from_pkcs8(curve, der)
                .or_else(|_| EcdsaKeyPair::from_private_key_der(curve, der));
            return Some(Self::Ecdsa(key.ok()?, algorithm));
        }
        if algorithm == Algorithm::EdDsa {
            return Ed25519KeyPair::from_pkcs8(der).ok().map(Self::Ed25519);
        }
        let key = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        Some(Self::Rsa(Box::new(key.ok()?), algorithm))
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Secret(_, algorithm) | Self::Rsa(_, algorithm) | Self::Ecdsa(_, algorithm) => {
                *algorithm
            }
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyErrorKind> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(key, _) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Self::Rsa(key, algorithm) => {
                let encoding = algorithm.rsa_signing().ok_or(KeyErrorKind::Malformed)?;
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, message, &mut signature)
                    .map_err(|_| KeyErrorKind::Malformed)?;
                Ok(signature)
            }
            Self::Ecdsa(key, _) => {
                let signature = key.sign(&random, message);
                signature
                    .map(|s| s.as_ref().to_vec())
                    .map_err(|_| KeyErrorKind::Malformed)
            }
            Self::Ed25519(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}
