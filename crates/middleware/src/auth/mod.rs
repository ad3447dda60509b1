//! The keys that tokens are checked with: where they come from, and which one a token needs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;

mod algorithm;
mod fetch;
pub mod jwks;
mod pem;
mod sign;
mod token;
mod token_cache;

use crate::BreakerState;
use algorithm::{Algorithm, KeyType, VerifyKey};
use jwks::JwkSet;
use token::Signed;
use token_cache::TokenCache;

pub use sign::sign;
pub use token::{Claims, Grants, TOKEN_BYTES_MAX, TokenError};

#[cfg(test)]
mod tests;

/// The largest key file or fetched JWK Set, in bytes.
pub const KEY_FILE_BYTES_MAX: usize = 1024 * 1024;

/// The most signatures checked for one token whose header names no key, or a name several keys
/// share: one token must not cost a whole set's worth of arithmetic.
const TRIES_MAX: usize = 8;

/// Secrets shorter than the hash of HS256 weaken it (RFC 7518 section 3.2 forbids them).
const SECRET_BYTES_MIN: usize = 32;

/// The keys of one kind of peers. `G` is what their tokens grant.
pub struct KeyRing<G> {
    name: &'static str,
    keys: Keys,
    warning: Option<&'static str>,
    known: TokenCache<G>,
}

enum Keys {
    Fixed(KeySet),
    Jwks(Arc<JwkSet>),
}

impl<G: Grants> KeyRing<G> {
    /// Reads a key option's value: PEM text; `file:PATH`, `@PATH` or an existing path with a `/`
    /// (PEM, JWK Set or secret in the file); an `http:` or `https:` URL of a JWK Set; JWK Set
    /// text; anything else is the HMAC secret itself. `alg` pins the algorithm. Errors name the
    /// options `{name}_key` and `{name}_alg`. Reads files and
    /// blocks while doing so; a URL is fetched with the first token, or by [`Self::prefetch`].
    pub fn load(
        name: impl Into<&'static str>,
        source: &str,
        alg: Option<&str>,
    ) -> Result<Self, KeyError> {
        let name = name.into();
        Self::read(name, source, alg).map_err(|kind| KeyError {
            name: Some(name),
            kind,
        })
    }

    fn read(name: &'static str, source: &str, alg: Option<&str>) -> Result<Self, KeyErrorKind> {
        let pinned = pinned_algorithm(alg)?;
        let mut warning = None;
        let keys = match read_source(source)? {
            Material::Secret(secret) => {
                if secret.len() < SECRET_BYTES_MIN {
                    warning = Some("the secret is shorter than 32 bytes, so it can be guessed");
                }
                let algorithm = pinned.unwrap_or(Algorithm::Hs256);
                Keys::Fixed(KeySet::single(VerifyKey::from_secret(&secret, algorithm)?))
            }
            Material::Pem(text) => Keys::Fixed(KeySet::single(public_key(&text, pinned)?)),
            Material::JwkSet { json, path } => {
                let set = jwks::parse(&json, pinned, jwks::Trust::Local)?;
                match path {
                    Some(path) => Keys::Jwks(JwkSet::from_file(path, set, pinned)),
                    None => Keys::Fixed(set),
                }
            }
            Material::Url(url) => {
                if url.scheme_str() == Some("http") {
                    warning = Some("the JWK Set is fetched without TLS, so it can be forged");
                }
                Keys::Jwks(JwkSet::from_url(url, pinned)?)
            }
        };
        Ok(Self {
            name,
            keys,
            warning,
            known: TokenCache::default(),
        })
    }

    /// As [`Self::verify`], for tokens that come again and again: the signature of one that was
    /// accepted with the keys of now is not checked anew, its times are.
    pub async fn verify_known(
        &self,
        token: &str,
        now_unix: u64,
    ) -> Result<Arc<Claims<G>>, TokenError> {
        let version = match &self.keys {
            Keys::Fixed(_) => 0,
            // Read before the check: a set that changes meanwhile is another version.
            Keys::Jwks(set) => set.version(now_unix),
        };
        let digest = token_cache::digest_of(token);
        if let Some(claims) = self.known.get(&digest, version) {
            claims.check_times(now_unix)?;
            return Ok(claims);
        }
        let claims = Arc::new(self.verify(token, now_unix).await?);
        self.known
            .put(digest, version, Arc::clone(&claims), token.len());
        Ok(claims)
    }

    /// Checks a token's signature and times, and reads its claims. `now_unix` is in seconds since
    /// 1970. Waits for a JWK Set to be fetched when the token needs that (at most
    /// [`jwks::FETCH_TIMEOUT`], at most once in [`jwks::FETCH_FLOOR_SECONDS`] for all tokens);
    /// must then run on a tokio runtime.
    pub async fn verify(&self, token: &str, now_unix: u64) -> Result<Claims<G>, TokenError> {
        let signed = token::split(token)?;
        match &self.keys {
            Keys::Fixed(keys) => keys.check(&signed)?,
            Keys::Jwks(set) => set.check(&signed, now_unix).await?,
        }
        token::read_claims(&signed, now_unix)
    }

    /// Fetches a JWK Set ahead of the first token. Its failure is in [`Self::trouble`].
    pub async fn prefetch(&self, now_unix: u64) {
        if let Keys::Jwks(set) = &self.keys {
            set.prefetch(now_unix).await;
        }
    }

    /// Takes over the fetched keys of another ring with the same URL and algorithm, until its own
    /// are fetched: for a new configuration that replaces `other`.
    pub fn adopt(&self, other: &Self) {
        if let (Keys::Jwks(own), Keys::Jwks(others)) = (&self.keys, &other.keys) {
            own.adopt(others);
        }
    }

    /// What the breaker around the URL of a JWK Set lets through; `None` for keys from elsewhere.
    pub fn breaker_state(&self, now_unix: u64) -> Option<BreakerState> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Jwks(set) => set.breaker_state(now_unix),
        }
    }

    /// For the operator: why the last refresh of a JWK Set failed, `None` when it did not. The
    /// last good set stays in use meanwhile.
    pub fn trouble(&self) -> Option<String> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Jwks(set) => set
                .trouble()
                .map(|trouble| format!("{}_key: {trouble}", self.name)),
        }
    }

    /// For the operator, once after loading: what is weak about the keys.
    pub fn warning(&self) -> Option<String> {
        self.warning
            .map(|warning| format!("{}_key: {warning}", self.name))
    }

    /// Whose tokens these keys are for: the begin of the names of the options they came from.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<G> fmt::Debug for KeyRing<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Keys side by side, at most [`jwks::KEYS_MAX`].
struct KeySet {
    keys: Box<[VerifyKey]>,
}

impl KeySet {
    fn new(keys: Vec<VerifyKey>) -> Self {
        Self { keys: keys.into() }
    }

    fn single(key: VerifyKey) -> Self {
        Self::new(vec![key])
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Checks the signature with the key the header names, or with those that have no name, or,
    /// when the header names none, with all; in each case only keys of the header's algorithm.
    fn check(&self, signed: &Signed<'_>) -> Result<(), TokenError> {
        let is_named = |key: &&VerifyKey| match (&signed.key_id, key.id()) {
            (Some(wanted), Some(id)) => wanted == id,
            _ => true,
        };
        let mut named = self.keys.iter().filter(is_named).peekable();
        if named.peek().is_none() {
            return Err(TokenError::UnknownKey);
        }
        let mut fitting = named
            .filter(|key| key.algorithm() == signed.algorithm)
            .peekable();
        if fitting.peek().is_none() {
            return Err(TokenError::Algorithm);
        }
        let is_valid = |key: &VerifyKey| key.is_signature_valid(signed.message, &signed.signature);
        if fitting.take(TRIES_MAX).any(is_valid) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    /// Whether a key has this very name.
    fn has_id(&self, wanted: &str) -> bool {
        self.keys.iter().any(|key| key.id() == Some(wanted))
    }
}

/// What every PEM block starts with.
const PEM_MARK: &str = "-----BEGIN ";

/// What a key option's value led to.
enum Material {
    Secret(Vec<u8>),
    Pem(String),
    JwkSet {
        json: Vec<u8>,
        path: Option<PathBuf>,
    },
    Url(Uri),
}

fn read_source(source: &str) -> Result<Material, KeyErrorKind> {
    if let Some(path) = file_path(source) {
        let bytes = read_file(path).map_err(|error| KeyErrorKind::Unreadable(error.kind()))?;
        return file_material(bytes, path);
    }
    let scheme = source.split_once("://").map_or("", |(scheme, _)| scheme);
    if ["http", "https"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
    {
        return source
            .parse()
            .map(Material::Url)
            .map_err(|_| KeyErrorKind::Url);
    }
    if source.contains(PEM_MARK) {
        // An environment file has no line breaks in values, so people write `\n`.
        return Ok(Material::Pem(source.replace("\\n", "\n")));
    }
    if serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(source).is_ok() {
        return Ok(Material::JwkSet {
            json: source.as_bytes().to_vec(),
            path: None,
        });
    }
    secret(source.as_bytes())
}

/// The path a key option names, if it names one.
fn file_path(source: &str) -> Option<&Path> {
    if let Some(path) = source.strip_prefix("file:") {
        // `file:///etc/key` is how the reference hub writes it.
        return Some(Path::new(path.strip_prefix("//").unwrap_or(path)));
    }
    if let Some(path) = source.strip_prefix('@') {
        return Some(Path::new(path));
    }
    let path = Path::new(source);
    (source.contains('/') && path.is_file()).then_some(path)
}

fn file_material(bytes: Vec<u8>, path: &Path) -> Result<Material, KeyErrorKind> {
    if memchr::memmem::find(&bytes, PEM_MARK.as_bytes()).is_some() {
        return String::from_utf8(bytes)
            .map(Material::Pem)
            .map_err(|_| KeyErrorKind::Malformed);
    }
    // Broken JSON is an error later on, never a secret.
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(Material::JwkSet {
            json: bytes,
            path: Some(path.to_owned()),
        });
    }
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    secret(text.strip_suffix(b"\r").unwrap_or(text))
}

/// What is neither PEM nor JSON is a secret, unless it is a public key in another form: that must
/// never be taken for one, since everybody who knows it could then make tokens.
fn secret(bytes: &[u8]) -> Result<Material, KeyErrorKind> {
    let is_ssh = bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-sha2-");
    // Of all types only a secret can be 32 bytes long without a form.
    let is_der = bytes.len() != 32 && VerifyKey::public_key_type(bytes).is_some();
    if is_ssh || is_der {
        return Err(KeyErrorKind::Malformed);
    }
    Ok(Material::Secret(bytes.to_vec()))
}

/// Reads a file of at most [`KEY_FILE_BYTES_MAX`] bytes; a byte order mark is not part of it.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(KEY_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > KEY_FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

fn pinned_algorithm(alg: Option<&str>) -> Result<Option<Algorithm>, KeyErrorKind> {
    match alg {
        None | Some("") => Ok(None),
        Some(name) => Algorithm::from_name(name)
            .map(Some)
            .ok_or(KeyErrorKind::UnknownAlgorithm),
    }
}

fn public_key(text: &str, pinned: Option<Algorithm>) -> Result<VerifyKey, KeyErrorKind> {
    let block = pem::first_block(text).ok_or(KeyErrorKind::Malformed)?;
    let key_type = match block.label {
        "PUBLIC KEY" => VerifyKey::public_key_type(&block.bytes).ok_or(KeyErrorKind::Malformed)?,
        "RSA PUBLIC KEY" => KeyType::Rsa,
        "CERTIFICATE" => return Err(KeyErrorKind::Certificate),
        label if label.ends_with("PRIVATE KEY") => return Err(KeyErrorKind::PrivateKey),
        _ => return Err(KeyErrorKind::Malformed),
    };
    VerifyKey::from_public(&block.bytes, key_type, pinned)
}

/// Why a key cannot be used. `Display` is meant for the operator: it names the option to change
/// and never shows any of the option's value, which may be the key itself.
#[derive(Debug)]
pub struct KeyError {
    /// `None`: a key given to [`sign`].
    name: Option<&'static str>,
    kind: KeyErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeyErrorKind {
    EmptySecret,
    UnknownAlgorithm,
    WrongKeyType {
        algorithm: &'static str,
        key_type: &'static str,
    },
    Unreadable(io::ErrorKind),
    Malformed,
    Certificate,
    PrivateKey,
    Encrypted,
    CannotSign,
    RsaSize,
    Url,
    NoRoots,
    JwkSet(&'static str),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_about_algorithm = matches!(
            self.kind,
            KeyErrorKind::UnknownAlgorithm | KeyErrorKind::WrongKeyType { .. }
        );
        let kind = self.kind;
        match self.name {
            Some(name) if is_about_algorithm => write!(f, "{name}_alg: {kind}"),
            Some(name) => write!(f, "{name}_key: {kind}"),
            None if is_about_algorithm => write!(f, "the algorithm: {kind}"),
            None => write!(f, "the key: {kind}"),
        }
    }
}

impl std::error::Error for KeyError {}

impl fmt::Display for KeyErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptySecret => f.write_str("the secret is empty"),
            Self::UnknownAlgorithm => f.write_str(
                "not an algorithm; HS256, RS256, PS256 and ES256, each also with 384 and 512, \
                 and EdDSA are",
            ),
            Self::WrongKeyType {
                algorithm,
                key_type,
            } => {
                write!(f, "{algorithm} does not go with {key_type}")
            }
            Self::Unreadable(kind) => write!(f, "the file cannot be read: {kind}"),
            Self::Malformed => f.write_str("not a key in PEM that this hub can use"),
            Self::Certificate => f.write_str(
                "a certificate, not a key; take the key out with \
                 `openssl x509 -pubkey -noout -in FILE`",
            ),
            Self::PrivateKey => f.write_str(
                "a private key; the hub needs only the public one, \
                 `openssl pkey -pubout -in FILE`",
            ),
            Self::Encrypted => f.write_str("the private key is encrypted"),
            Self::CannotSign => f.write_str("signing needs a secret or a private key in PEM"),
            Self::RsaSize => f.write_str("an RSA key of less than 2048 or more than 8192 bits"),
            Self::Url => f.write_str("not a URL of a JWK Set"),
            Self::NoRoots => f.write_str("no root certificates are found to fetch the URL with"),
            Self::JwkSet(problem) => write!(f, "not a usable JWK Set: {problem}"),
        }
    }
}
