//! JWK Sets (RFC 7517) as key sources: parsed, and kept fresh from the file or URL configured.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use serde_json::{Map, Value};

use super::token::{Signed, TokenError};
use super::{Algorithm, KeyErrorKind, KeySet, KeyType, VerifyKey, fetch, read_file};
use crate::{Attempt, Breaker, BreakerSettings, BreakerState};

#[cfg(test)]
mod tests;

/// The most keys in one set.
pub const KEYS_MAX: usize = 100;

/// The longest one fetch may take, from connecting to the last byte.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The least time between two fetches, in seconds: tokens with made-up key names must not turn
/// the hub against the identity provider.
pub const FETCH_FLOOR_SECONDS: u64 = 10;

/// The age at which a fetched set is fetched again, in seconds, so that a key that was taken out
/// of it is not accepted for longer.
pub const REFRESH_SECONDS: u64 = 3_600;

/// When a URL that fails is left alone, and for how long. Shorter than the floor would be no pause;
/// longer than a minute would keep new keys out after the provider is back.
const BREAKER: BreakerSettings = BreakerSettings {
    failures_max: 3,
    open_min: Duration::from_secs(FETCH_FLOOR_SECONDS * 2),
    open_max: Duration::from_mins(1),
};

/// Where a set comes from decides what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// The operator's file or text: may hold secrets.
    Local,
    /// A URL: a secret there is open to everybody who can read the URL, so it is left out.
    Fetched,
}

/// Reads a set, or a single key. Keys that are not for checking signatures, of types or algorithms
/// not known here, or not of the pinned algorithm, are left out; at least one must remain.
pub(super) fn parse(
    json: &[u8],
    pinned: Option<Algorithm>,
    trust: Trust,
) -> Result<KeySet, KeyErrorKind> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(json).map_err(|_| KeyErrorKind::JwkSet("not a JSON object"))?;
    let keys = match object.remove("keys") {
        Some(Value::Array(keys)) => keys,
        Some(_) => return Err(KeyErrorKind::JwkSet("`keys` is not an array")),
        None if object.contains_key("kty") => vec![Value::Object(object)],
        None => return Err(KeyErrorKind::JwkSet("no `keys`")),
    };
    if keys.len() > KEYS_MAX {
        return Err(KeyErrorKind::JwkSet("more than 100 keys"));
    }
    let usable: Vec<_> = keys
        .iter()
        .filter_map(|key| parse_key(key, pinned, trust))
        .collect();
    if usable.is_empty() {
        return Err(KeyErrorKind::JwkSet(
            "no key for a known (or the pinned) algorithm",
        ));
    }
    Ok(KeySet::new(usable))
}

/// `None`: not usable here.
fn parse_key(key: &Value, pinned: Option<Algorithm>, trust: Trust) -> Option<VerifyKey> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let is_for_signatures = text("use").is_none_or(|usage| usage == "sig");
    let operations = key.get("key_ops").and_then(Value::as_array);
    if !is_for_signatures || operations.is_some_and(|list| !list.iter().any(|op| op == "verify")) {
        return None;
    }
    let own = match text("alg") {
        Some(name) => Some(Algorithm::from_name(name)?),
        None => None,
    };
    if own.is_some() && pinned.is_some() && own != pinned {
        return None;
    }
    let algorithm = own.or(pinned);
    let part = |name: &str| text(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let (key_type, bytes) = match (text("kty")?, text("crv")) {
        ("RSA", _) => (KeyType::Rsa, rsa_public_key(&part("n")?, &part("e")?)),
        ("EC", Some("P-256")) => (KeyType::P256, point(&part("x")?, &part("y")?, 32)?),
        ("EC", Some("P-384")) => (KeyType::P384, point(&part("x")?, &part("y")?, 48)?),
        ("EC", Some("P-521")) => (KeyType::P521, point(&part("x")?, &part("y")?, 66)?),
        ("OKP", Some("Ed25519")) => (
            KeyType::Ed25519,
            part("x").filter(|bytes| bytes.len() == 32)?,
        ),
        ("oct", _) if trust == Trust::Local => {
            let algorithm = algorithm.unwrap_or(KeyType::Secret.default_algorithm());
            let key = VerifyKey::from_secret(&part("k")?, algorithm).ok()?;
            return Some(key.with_id(text("kid")));
        }
        _ => return None,
    };
    let key = VerifyKey::from_public(&bytes, key_type, algorithm).ok()?;
    Some(key.with_id(text("kid")))
}

/// An uncompressed curve point (SEC 1 section 2.3.3). The coordinates have their full length.
fn point(x: &[u8], y: &[u8], length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [&[4], x, y].concat())
}

/// `RSAPublicKey` (RFC 8017 appendix A.1.1) in DER.
fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let numbers = [der_integer(modulus), der_integer(exponent)].concat();
    der_element(0x30, &numbers)
}

fn der_integer(magnitude: &[u8]) -> Vec<u8> {
    let zeros = magnitude.iter().take_while(|&&byte| byte == 0).count();
    let magnitude = &magnitude[zeros..];
    // A leading zero keeps the number from being read as negative.
    let needs_zero = magnitude.first().is_none_or(|&byte| byte >= 0x80);
    let content = if needs_zero {
        [&[0], magnitude].concat()
    } else {
        magnitude.to_vec()
    };
    der_element(0x02, &content)
}

fn der_element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let mut element = vec![tag];
    match (length, u8::try_from(length.len())) {
        ([], _) => element.push(0),
        (&[short], _) if short < 0x80 => element.push(short),
        (long, Ok(count)) => {
            element.push(0x80 | count);
            element.extend_from_slice(long);
        }
        // A usize has eight bytes.
        (_, Err(_)) => {}
    }
    element.extend_from_slice(content);
    element
}

/// A set that follows its source. The last good one stays when a refresh fails.
pub(super) struct JwkSet {
    source: Source,
    pinned: Option<Algorithm>,
    current: ArcSwap<KeySet>,
    /// How often `current` was replaced.
    version: AtomicU64,
    /// When the source was last asked, in seconds since 1970; 0: never.
    asked_unix: AtomicU64,
    /// Held while the source is asked, so that a crowd of tokens asks once.
    asking: tokio::sync::Mutex<()>,
    trouble: Mutex<Option<String>>,
}

enum Source {
    File {
        path: PathBuf,
        stamp: Mutex<Option<Stamp>>,
    },
    Url(Box<Remote>),
}

/// A URL, and whether it is asked at all.
struct Remote {
    fetcher: fetch::Fetcher,
    breaker: Arc<Breaker>,
    steady: Mutex<Steady>,
}

/// Time that only goes on, made of a clock that may be set back: a breaker that opened before must
/// not stay open until that clock has caught up.
#[derive(Default)]
struct Steady {
    last_unix: u64,
    passed: Duration,
}

impl Remote {
    fn now(&self, now_unix: u64) -> Duration {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = now_unix.saturating_sub(steady.last_unix);
        steady.last_unix = now_unix;
        steady.passed += Duration::from_secs(seconds);
        steady.passed
    }

    fn state(&self, now_unix: u64) -> BreakerState {
        self.breaker.state(self.now(now_unix))
    }
}

/// What tells two versions of a file apart without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        })
    }
}

impl JwkSet {
    /// A set that was read from `path` just now.
    pub(super) fn from_file(path: PathBuf, set: KeySet, pinned: Option<Algorithm>) -> Arc<Self> {
        let stamp = Mutex::new(Stamp::of(&path).ok());
        Self::new(Source::File { path, stamp }, set, pinned)
    }

    /// A set that is still to be fetched. Only this URL is ever asked: no redirects, nothing a
    /// token names.
    pub(super) fn from_url(url: Uri, pinned: Option<Algorithm>) -> Result<Arc<Self>, KeyErrorKind> {
        let remote = Remote {
            fetcher: fetch::Fetcher::new(url)?,
            breaker: Breaker::new(BREAKER),
            steady: Mutex::default(),
        };
        Ok(Self::new(
            Source::Url(Box::new(remote)),
            KeySet::new(Vec::new()),
            pinned,
        ))
    }

    fn new(source: Source, set: KeySet, pinned: Option<Algorithm>) -> Arc<Self> {
        Arc::new(Self {
            source,
            pinned,
            current: ArcSwap::from_pointee(set),
            version: AtomicU64::new(0),
            asked_unix: AtomicU64::new(0),
            asking: tokio::sync::Mutex::new(()),
            trouble: Mutex::new(None),
        })
    }

    /// Checks a signature, and asks the source once more when the key may be newer than the set.
    pub(super) async fn check(
        self: &Arc<Self>,
        signed: &Signed<'_>,
        now_unix: u64,
    ) -> Result<(), TokenError> {
        let keys = self.current.load_full();
        let verdict = keys.check(signed);
        let may_be_newer = signed.key_id.as_deref().is_none_or(|id| !keys.has_id(id));
        if verdict.is_err() && may_be_newer {
            self.refresh(now_unix).await;
            let keys = self.current.load_full();
            let verdict = keys.check(signed);
            if verdict.is_err() && (keys.is_empty() || self.may_lack_keys()) {
                return Err(TokenError::KeysUnavailable);
            }
            return verdict;
        }
        self.refresh_if_old(now_unix);
        verdict
    }

    /// Whether the source could not be asked for newer keys than those at hand. (A file that is
    /// broken is the operator's to mend; no provider has newer keys.)
    fn may_lack_keys(&self) -> bool {
        matches!(self.source, Source::Url(_)) && self.trouble().is_some()
    }

    /// Takes over the keys of a set from the same URL, until its own are fetched: a reload while
    /// the provider is away must not forget them.
    pub(super) fn adopt(&self, other: &Self) {
        if let (Source::Url(own), Source::Url(others)) = (&self.source, &other.source)
            && own.fetcher.url() == others.fetcher.url()
            && self.pinned == other.pinned
        {
            self.current.store(other.current.load_full());
        }
    }

    /// What the breaker around the URL lets through; `None` for a file.
    pub(super) fn breaker_state(&self, now_unix: u64) -> Option<BreakerState> {
        match &self.source {
            Source::File { .. } => None,
            Source::Url(remote) => Some(remote.state(now_unix)),
        }
    }

    /// Which of its sets this is: what was checked with another one is not checked. Asked for
    /// every token, so it also sees to it that a set does not grow old.
    pub(super) fn version(self: &Arc<Self>, now_unix: u64) -> u64 {
        self.refresh_if_old(now_unix);
        self.version.load(Ordering::SeqCst)
    }

    fn refresh_if_old(self: &Arc<Self>, now_unix: u64) {
        // A file is asked again on SIGHUP; a URL has only us to notice that a key is gone.
        let is_fetched = matches!(self.source, Source::Url(_)) && !self.current.load().is_empty();
        if is_fetched && self.is_older(now_unix, REFRESH_SECONDS) {
            drop(tokio::spawn(
                Arc::clone(self).ask(now_unix, REFRESH_SECONDS),
            ));
        }
    }

    /// Fetches the set if that has not happened yet.
    pub(super) async fn prefetch(self: &Arc<Self>, now_unix: u64) {
        let is_read = matches!(self.source, Source::File { .. });
        if !is_read && self.asked_unix.load(Ordering::Relaxed) == 0 {
            self.refresh(now_unix).await;
        }
    }

    /// Why the source's last answer was not usable.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the source unless it was asked just now. Runs as a task of its own: a peer that
    /// leaves while it waits must not cancel it, or it could keep the set from ever changing.
    async fn refresh(self: &Arc<Self>, now_unix: u64) {
        let floor_seconds = match self.source {
            Source::File { .. } => 0, // looking at a file's time stamp costs little
            Source::Url(_) => FETCH_FLOOR_SECONDS,
        };
        // An error means that the task panicked; the set is then as it was.
        let _ = tokio::spawn(Arc::clone(self).ask(now_unix, floor_seconds)).await;
    }

    async fn ask(self: Arc<Self>, now_unix: u64, age_seconds_min: u64) {
        let _asking = self.asking.lock().await;
        if !self.is_older(now_unix, age_seconds_min) {
            return; // whoever held the lock has asked
        }
        // While the source is left alone nothing is asked, and nobody waits.
        let Ok(attempt) = self.attempt(now_unix) else {
            return;
        };
        self.asked_unix.store(now_unix, Ordering::Relaxed);
        let loaded = self.load().await;
        self.settle(attempt, loaded.is_ok(), now_unix);
        let trouble = match loaded {
            Ok(None) => return,
            Ok(Some(set)) => {
                self.current.store(Arc::new(set));
                self.version.fetch_add(1, Ordering::SeqCst);
                None
            }
            Err(trouble) => {
                tracing::warn!(trouble, "the JWK Set was not refreshed");
                Some(trouble)
            }
        };
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Leave to ask; nothing is needed for a file.
    fn attempt(&self, now_unix: u64) -> Result<Option<Attempt>, crate::Wait> {
        match &self.source {
            Source::File { .. } => Ok(None),
            Source::Url(remote) => remote.breaker.admit(remote.now(now_unix)).map(Some),
        }
    }

    fn settle(&self, attempt: Option<Attempt>, is_good: bool, now_unix: u64) {
        let (Some(attempt), Source::Url(remote)) = (attempt, &self.source) else {
            return;
        };
        let before = remote.state(now_unix);
        if is_good {
            attempt.succeeded();
        } else {
            attempt.failed(remote.now(now_unix));
        }
        let after = remote.state(now_unix);
        if before != after {
            tracing::warn!(breaker = after.name(), "asking for the JWK Set");
        }
    }

    /// The source's set; `None` when a file has not changed.
    async fn load(self: &Arc<Self>) -> Result<Option<KeySet>, String> {
        let (json, trust) = match &self.source {
            Source::Url(remote) => (remote.fetcher.fetch().await?, Trust::Fetched),
            Source::File { .. } => {
                let set = Arc::clone(self);
                let read = tokio::task::spawn_blocking(move || set.read_if_changed()).await;
                match read.map_err(|_| "reading it panicked".to_owned())? {
                    Ok(None) => return Ok(None),
                    Ok(Some(json)) => (json, Trust::Local),
                    Err(error) => return Err(format!("the file cannot be read: {}", error.kind())),
                }
            }
        };
        parse(&json, self.pinned, trust)
            .map(Some)
            .map_err(|kind| kind.to_string())
    }

    fn read_if_changed(&self) -> io::Result<Option<Vec<u8>>> {
        let Source::File { path, stamp } = &self.source else {
            return Ok(None);
        };
        let now = Stamp::of(path)?;
        let mut last = stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == Some(now) {
            return Ok(None);
        }
        let json = read_file(path)?;
        *last = Some(now);
        Ok(Some(json))
    }

    fn is_older(&self, now_unix: u64, seconds: u64) -> bool {
        // Also true after the clock was set back, or nothing would be asked until it caught up.
        now_unix.abs_diff(self.asked_unix.load(Ordering::Relaxed)) >= seconds
    }
}
