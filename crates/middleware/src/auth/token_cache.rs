//! Tokens whose signature was checked lately: a publisher sends the same one with every request.
//!
//! Only what was verified comes in here, under the SHA-256 of the whole token, so nothing but that
//! token finds it again. The times are checked on every use. A reload makes new key rings and with
//! them new, empty caches; a key set that is fetched anew empties its cache by its version.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;

use super::token::Claims;

/// Most tokens of one half of the cache, which holds at most two halves. Ours: publishers are
/// servers, of which there are dozens, rarely thousands.
const HALF_TOKENS_MAX: usize = 512;

/// Most bytes of tokens that one half stands for: claims take a small multiple of their text.
const HALF_BYTES_MAX: usize = 256 * 1024;

/// The name of a token that does not give it away.
pub(super) type TokenDigest = [u8; 32];

/// The digest of a token, for [`TokenCache`].
pub(super) fn digest_of(token: &str) -> TokenDigest {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    let mut bytes = TokenDigest::default();
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// Claims by token, of one key ring. When one half is full the older one is dropped, so what is
/// in use stays.
#[derive(Debug)]
pub(super) struct TokenCache<G>(Mutex<Halves<G>>);

#[derive(Debug)]
struct Halves<G> {
    /// Of the keys that everything in here was checked with.
    version: u64,
    young: Half<G>,
    old: Half<G>,
}

#[derive(Debug)]
struct Half<G> {
    claims: HashMap<TokenDigest, (Arc<Claims<G>>, usize)>,
    bytes: usize,
}

// Derived ones would ask the same of `G`.
impl<G> Default for TokenCache<G> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<G> Default for Halves<G> {
    fn default() -> Self {
        Self {
            version: 0,
            young: Half::default(),
            old: Half::default(),
        }
    }
}

impl<G> Default for Half<G> {
    fn default() -> Self {
        Self {
            claims: HashMap::new(),
            bytes: 0,
        }
    }
}

impl<G> TokenCache<G> {
    /// The claims of a token that keys of this version have verified. Whether its times still
    /// hold is for the caller to check.
    pub(super) fn get(&self, digest: &TokenDigest, version: u64) -> Option<Arc<Claims<G>>> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.version != version {
            return None;
        }
        if let Some((claims, _)) = halves.young.claims.get(digest) {
            return Some(Arc::clone(claims));
        }
        let (claims, bytes) = halves.old.claims.remove(digest)?;
        halves.old.bytes -= bytes;
        halves.keep(*digest, Arc::clone(&claims), bytes);
        Some(claims)
    }

    /// Keeps the claims of a token of `bytes` bytes. `version` is that of the keys before the token
    /// was checked: if they have changed since, nothing finds it.
    pub(super) fn put(
        &self,
        digest: TokenDigest,
        version: u64,
        claims: Arc<Claims<G>>,
        bytes: usize,
    ) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if version < halves.version {
            return;
        }
        if version > halves.version {
            *halves = Halves {
                version,
                ..Halves::default()
            };
        }
        halves.keep(digest, claims, bytes);
    }
}

impl<G> Halves<G> {
    fn keep(&mut self, digest: TokenDigest, claims: Arc<Claims<G>>, bytes: usize) {
        let is_full =
            self.young.claims.len() >= HALF_TOKENS_MAX || self.young.bytes + bytes > HALF_BYTES_MAX;
        if is_full {
            self.old = std::mem::take(&mut self.young);
        }
        if self.young.claims.insert(digest, (claims, bytes)).is_none() {
            self.young.bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(subject: &str) -> Arc<Claims<()>> {
        Arc::new(Claims {
            subject: Some(subject.to_owned()),
            ..Claims::default()
        })
    }

    #[test]
    fn what_is_in_use_stays_and_the_count_is_bounded() {
        let cache = TokenCache::<()>::default();
        let used = digest_of("used");
        cache.put(used, 0, claims("used"), 100);
        for number in 0..10 * HALF_TOKENS_MAX {
            let token = number.to_string();
            cache.put(digest_of(&token), 0, claims(&token), 100);
            let found = cache.get(&used, 0).expect("it is asked for all the time");
            assert_eq!(found.subject.as_deref(), Some("used"));
        }
        let halves = cache.0.lock().expect("no panic");
        let (young, old) = (&halves.young, &halves.old);
        assert!(young.claims.len() + old.claims.len() <= 2 * HALF_TOKENS_MAX);
        assert_eq!(young.bytes, young.claims.len() * 100);
        drop(halves);
        assert!(cache.get(&digest_of("0"), 0).is_none());
    }

    #[test]
    fn large_tokens_take_the_place_of_many() {
        let cache = TokenCache::<()>::default();
        for number in 0..1000 {
            let token = number.to_string();
            cache.put(digest_of(&token), 0, claims(&token), 8 * 1024);
        }
        let halves = cache.0.lock().expect("no panic");
        assert!(halves.young.bytes <= HALF_BYTES_MAX && halves.old.bytes <= HALF_BYTES_MAX);
    }

    #[test]
    fn other_keys_know_nothing_of_it() {
        let cache = TokenCache::<()>::default();
        let digest = digest_of("a");
        cache.put(digest, 1, claims("a"), 100);
        assert!(cache.get(&digest, 1).is_some());
        assert!(cache.get(&digest, 2).is_none(), "the keys have changed");
        cache.put(digest_of("b"), 2, claims("b"), 100);
        // Checked with the old keys, late.
        cache.put(digest, 1, claims("a"), 100);
        assert!(cache.get(&digest, 1).is_none());
        assert!(cache.get(&digest, 2).is_none());
        assert!(cache.get(&digest_of("b"), 2).is_some());
    }
}
