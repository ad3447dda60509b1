//! Tokens: JSON Web Tokens in compact form, and what they claim.
//!
//! Nothing in a token is believed before its signature is checked, except which algorithm and
//! which key it says it was signed with; and the key has the last word on the algorithm.

use std::fmt;
use std::ops::Deref;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::Algorithm;

#[cfg(test)]
mod tests;

/// The longest token, in bytes. Real ones take some hundred; cookies end at 4 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// What an application reads from a token's claims beside its times and its subject.
pub trait Grants: Sized {
    /// Takes what it knows out of the claims of a token whose signature and times were checked.
    ///
    /// # Errors
    ///
    /// What is wrong with them, for the peer: the token is refused.
    fn read(claims: &mut Map<String, Value>) -> Result<Self, &'static str>;
}

/// Nothing: a good token is enough.
impl Grants for () {
    fn read(_claims: &mut Map<String, Value>) -> Result<Self, &'static str> {
        Ok(())
    }
}

/// Everything, as it stands.
impl Grants for Map<String, Value> {
    fn read(claims: &mut Map<String, Value>) -> Result<Self, &'static str> {
        Ok(std::mem::take(claims))
    }
}

/// Why a token is not accepted. `Display` is meant for the peer and says nothing of keys or of
/// the token's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// Over [`TOKEN_BYTES_MAX`].
    TooLong,
    /// Not three parts of base64url, or its header is not what it should be.
    Malformed,
    /// An algorithm that does not exist here (`none` among them), or not the key's own.
    Algorithm,
    /// The header lists extensions that must be understood; we understand none.
    Critical,
    /// The header names a key that is not in the key set.
    UnknownKey,
    /// The key set has never been fetched successfully: our fault, worth another try later.
    KeysUnavailable,
    /// The signature is not the key's.
    Signature,
    /// `exp` has passed.
    Expired {
        /// Since when, rounded up.
        seconds: u64,
    },
    /// `nbf` is still to come.
    NotYetValid {
        /// For how much longer, rounded up.
        seconds: u64,
    },
    /// The claims are not of the right form; the text says which.
    Claims(&'static str),
}

impl TokenError {
    /// Whether the fault is the hub's, so that the same token may be fine later.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::KeysUnavailable)
    }

    /// A hint for the operator's log; holds nothing secret either.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::TooLong => "the token is over 8 KiB",
            Self::Malformed => "what was sent is not a JWS in compact form",
            Self::Algorithm => "the token's `alg` is not the one its key is pinned to",
            Self::Critical => "the token's header has `crit`",
            Self::UnknownKey => "the token's `kid` is in no key set, also after a refresh",
            Self::KeysUnavailable => "the JWK Set could not be fetched yet",
            Self::Signature => {
                "the signature is wrong: another key, another role's key, or a changed token"
            }
            Self::Expired { .. } => "the token's `exp` has passed, or the clocks differ",
            Self::NotYetValid { .. } => "the token's `nbf` is to come, or the clocks differ",
            Self::Claims(problem) => problem,
        }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "token longer than {TOKEN_BYTES_MAX} bytes"),
            Self::Malformed => f.write_str("not a JSON Web Token in compact form"),
            Self::Algorithm => f.write_str("token signed with an algorithm not accepted here"),
            Self::Critical => f.write_str("token with a critical header not known here"),
            Self::UnknownKey => f.write_str("token signed with a key not known here"),
            Self::KeysUnavailable => f.write_str("keys to check tokens with not available yet"),
            Self::Signature => f.write_str("token with a wrong signature"),
            Self::Expired { seconds } => write!(f, "token expired {seconds} s ago"),
            Self::NotYetValid { seconds } => write!(f, "token not valid for another {seconds} s"),
            Self::Claims(problem) => write!(f, "token with invalid claims: {problem}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// A token taken apart, its signature not yet checked.
#[derive(Debug)]
pub(super) struct Signed<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    /// What is signed: header and claims as they stand in the token.
    pub(super) message: &'t [u8],
    pub(super) signature: Vec<u8>,
    /// Decoded, not parsed.
    claims: Vec<u8>,
}

/// Takes a token apart. Headers that carry or point to keys (`jwk`, `jku`, `x5c`, `x5u`) are not
/// looked at, whatever they hold.
pub(super) fn split(token: &str) -> Result<Signed<'_>, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let mut parts = token.splitn(4, '.');
    let (Some(header), Some(claims), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenError::Malformed);
    };
    let message = &token.as_bytes()[..header.len() + 1 + claims.len()];
    let header: Map<String, Value> =
        serde_json::from_slice(&decode(header)?).map_err(|_| TokenError::Malformed)?;
    let Some(Value::String(algorithm)) = header.get("alg") else {
        return Err(TokenError::Malformed);
    };
    let key_id = match header.get("kid") {
        None => None,
        Some(Value::String(id)) => Some(id.clone()),
        Some(_) => return Err(TokenError::Malformed),
    };
    if header.contains_key("crit") {
        return Err(TokenError::Critical);
    }
    let algorithm = Algorithm::from_name(algorithm).ok_or(TokenError::Algorithm)?;
    let (signature, claims) = (decode(signature)?, decode(claims)?);
    Ok(Signed {
        algorithm,
        key_id,
        message,
        signature,
        claims,
    })
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed)
}

/// What a token says. Only made of tokens whose signature was checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims<G> {
    /// When the token expires, in whole seconds since 1970, rounded down: a stream must not
    /// outlive this.
    pub expires_unix: Option<u64>,
    /// When the token begins to be valid, in whole seconds since 1970, rounded up.
    pub not_before_unix: Option<u64>,
    /// `sub`, when it is a string: whom limits count it for. Not looked at for any grant.
    pub subject: Option<String>,
    /// What the application reads from it.
    pub grants: G,
}

impl<G> Deref for Claims<G> {
    type Target = G;

    fn deref(&self) -> &G {
        &self.grants
    }
}

impl<G> Claims<G> {
    /// Whether the token is valid at this moment. There is no leeway.
    ///
    /// # Errors
    ///
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`].
    pub fn check_times(&self, now_unix: u64) -> Result<(), TokenError> {
        if let Some(at) = self.expires_unix.filter(|&at| at <= now_unix) {
            return Err(TokenError::Expired {
                seconds: now_unix - at,
            });
        }
        if let Some(at) = self.not_before_unix.filter(|&at| at > now_unix) {
            return Err(TokenError::NotYetValid {
                seconds: at - now_unix,
            });
        }
        Ok(())
    }
}

/// Reads the claims of a token whose signature was checked. There is no leeway on the times.
pub(super) fn read_claims<G: Grants>(
    signed: &Signed<'_>,
    now_unix: u64,
) -> Result<Claims<G>, TokenError> {
    // The parser refuses what is nested deeper than 128 levels, so the stack is safe.
    let mut claims: Map<String, Value> = serde_json::from_slice(&signed.claims)
        .map_err(|_| TokenError::Claims("not a JSON object"))?;
    let time = |name: &str, round, problem| match claims.get(name) {
        None => Ok(None),
        Some(at) => seconds(at, round)
            .map(Some)
            .ok_or(TokenError::Claims(problem)),
    };
    let times = Claims {
        expires_unix: time("exp", f64::floor, "bad `exp`")?,
        not_before_unix: time("nbf", f64::ceil, "bad `nbf`")?,
        subject: None,
        grants: (),
    };
    times.check_times(now_unix)?;
    let subject = match claims.get("sub") {
        Some(Value::String(subject)) => Some(subject.clone()),
        _ => None,
    };
    Ok(Claims {
        expires_unix: times.expires_unix,
        not_before_unix: times.not_before_unix,
        subject,
        grants: G::read(&mut claims).map_err(TokenError::Claims)?,
    })
}

/// A time claim in whole seconds since 1970; earlier times are 0. `None`: not a number.
fn seconds(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|seconds| round(seconds) as u64))
}
