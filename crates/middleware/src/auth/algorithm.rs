//! The signature algorithms of RFC 7518 and RFC 8037 that tokens may use, and keys pinned to one.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::signature::{
    self, EcdsaSigningAlgorithm, ParsedPublicKey, RsaSignatureEncoding, VerificationAlgorithm,
};
use aws_lc_rs::{hmac, rsa};

use super::KeyErrorKind;

/// A JWS algorithm. `none` and everything else that is not listed does not exist here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

/// What kind of key an algorithm needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyType {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
}

impl KeyType {
    /// The types a public or private key can have.
    pub(super) const ASYMMETRIC: [Self; 5] =
        [Self::Rsa, Self::P256, Self::P384, Self::P521, Self::Ed25519];

    /// The algorithm of a key when nothing says otherwise.
    pub(super) fn default_algorithm(self) -> Algorithm {
        match self {
            Self::Secret => Algorithm::Hs256,
            Self::Rsa => Algorithm::Rs256,
            Self::P256 => Algorithm::Es256,
            Self::P384 => Algorithm::Es384,
            Self::P521 => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Secret => "a secret",
            Self::Rsa => "an RSA key",
            Self::P256 => "a P-256 key",
            Self::P384 => "a P-384 key",
            Self::P521 => "a P-521 key",
            Self::Ed25519 => "an Ed25519 key",
        }
    }
}

/// Names as they stand in a token's header; case counts.
const NAMES: [(&str, Algorithm); 13] = [
    ("HS256", Algorithm::Hs256),
    ("HS384", Algorithm::Hs384),
    ("HS512", Algorithm::Hs512),
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("PS256", Algorithm::Ps256),
    ("PS384", Algorithm::Ps384),
    ("PS512", Algorithm::Ps512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
    ("EdDSA", Algorithm::EdDsa),
];

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, algorithm)| algorithm)
    }

    pub(super) fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|&&(_, known)| known == self)
            .map_or("", |&(name, _)| name)
    }

    pub(super) fn key_type(self) -> KeyType {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyType::Secret,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => {
                KeyType::Rsa
            }
            Self::Es256 => KeyType::P256,
            Self::Es384 => KeyType::P384,
            Self::Es512 => KeyType::P521,
            Self::EdDsa => KeyType::Ed25519,
        }
    }

    pub(super) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::Hs256 => Some(hmac::HMAC_SHA256),
            Self::Hs384 => Some(hmac::HMAC_SHA384),
            Self::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    fn verification(self) -> Option<&'static dyn VerificationAlgorithm> {
        Some(match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => return None,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            Self::EdDsa => &signature::ED25519,
        })
    }

    pub(super) fn rsa_signing(self) -> Option<&'static RsaSignatureEncoding> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_SHA512),
            _ => None,
        }
    }

    pub(super) fn ecdsa_signing(self) -> Option<&'static EcdsaSigningAlgorithm> {
        match self {
            Self::Es256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Self::Es384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Self::Es512 => Some(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            _ => None,
        }
    }
}

/// A key that checks signatures of exactly one algorithm: a token cannot choose another, so an
/// RSA public key never serves as an HMAC secret.
pub(super) struct VerifyKey {
    /// The key's name in its set.
    id: Option<Box<str>>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl VerifyKey {
    /// A key for HMAC. Empty secrets are refused.
    pub(super) fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Self, KeyErrorKind> {
        if secret.is_empty() {
            return Err(KeyErrorKind::EmptySecret);
        }
        let hmac = algorithm.hmac().ok_or(KeyErrorKind::WrongKeyType {
            algorithm: algorithm.name(),
            key_type: KeyType::Secret.name(),
        })?;
        let material = Material::Secret(Box::new(hmac::Key::new(hmac, secret)));
        Ok(Self {
            id: None,
            algorithm,
            material,
        })
    }

    /// A public key: `SubjectPublicKeyInfo` or, for RSA, `RSAPublicKey` in DER; for curves the
    /// uncompressed point, for Ed25519 the 32 bytes. `pinned` must fit the key's type; without it
    /// the type decides.
    pub(super) fn from_public(
        bytes: &[u8],
        key_type: KeyType,
        pinned: Option<Algorithm>,
    ) -> Result<Self, KeyErrorKind> {
        let algorithm = pinned.unwrap_or(key_type.default_algorithm());
        if algorithm.key_type() != key_type {
            return Err(KeyErrorKind::WrongKeyType {
                algorithm: algorithm.name(),
                key_type: key_type.name(),
            });
        }
        let verification = algorithm.verification().ok_or(KeyErrorKind::Malformed)?;
        let key = ParsedPublicKey::new(verification, bytes).map_err(|_| KeyErrorKind::Malformed)?;
        if key_type == KeyType::Rsa {
            // Checked again with every signature, but there the operator would not learn why.
            let spki = key.as_der().map_err(|_| KeyErrorKind::Malformed)?;
            rsa::PublicEncryptingKey::from_der(spki.as_ref()).map_err(|_| KeyErrorKind::RsaSize)?;
        }
        Ok(Self {
            id: None,
            algorithm,
            material: Material::Public(key),
        })
    }

    /// Finds out which type of key a `SubjectPublicKeyInfo` holds.
    pub(super) fn public_key_type(spki: &[u8]) -> Option<KeyType> {
        KeyType::ASYMMETRIC.into_iter().find(|key_type| {
            let algorithm = key_type.default_algorithm().verification();
            algorithm.is_some_and(|algorithm| ParsedPublicKey::new(algorithm, spki).is_ok())
        })
    }

    pub(super) fn with_id(mut self, id: Option<&str>) -> Self {
        self.id = id.map(Box::from);
        self
    }

    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn is_signature_valid(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}
