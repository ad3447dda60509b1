//! The state of records, for another process that goes on with them (decision 0032).
//!
//! Two processes that seal under one key would use a nonce twice, and whoever listens could read
//! both records. So the state is given once: from then on nothing is sealed here.

use aws_lc_rs::aead::NONCE_LEN;
use rustls::ConnectionTrafficSecrets;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::cipher::{AeadKey, Iv};
use rustls::{CipherSuite, SupportedCipherSuite};
use zeroize::Zeroizing;

use super::{Direction, HEAD_BYTES, Records, SEALED_BYTES_MAX};

/// The longest key of the three ciphers; shorter ones have zeros behind them.
const KEY_BYTES: usize = 32;

/// A key, an IV, and the number of the next record.
const DIRECTION_BYTES: usize = KEY_BYTES + NONCE_LEN + 8;

/// Both directions, whether the second one is of use, and the length of what follows.
const FIXED_BYTES: usize = 2 * DIRECTION_BYTES + 1 + 4;

impl Records {
    /// The suite by its registered number, which names the cipher.
    pub(in crate::socket) fn suite(&self) -> Option<u16> {
        suite_of(&self.write.secrets).map(|suite| u16::from(suite.suite()))
    }

    /// How many bytes [`Self::give`] appends.
    pub(in crate::socket) fn state_bytes(&self) -> usize {
        FIXED_BYTES + self.begun.len()
    }

    /// Appends all that another process needs. From now on nothing is sealed here. `out` has room:
    /// one that grew would leave secrets behind.
    pub(in crate::socket) fn give(&mut self, out: &mut Vec<u8>) {
        debug_assert!(out.capacity() - out.len() >= self.state_bytes());
        self.sealed_max = 0;
        self.write.give(out);
        match &self.read {
            Some(read) => read.give(out),
            None => out.extend_from_slice(&[0; DIRECTION_BYTES]),
        }
        out.push(u8::from(self.read.is_some()));
        let begun = u32::try_from(self.begun.len()).expect("less than a record");
        out.extend_from_slice(&begun.to_be_bytes());
        out.extend_from_slice(&self.begun);
    }

    /// What was given has not reached anybody: it goes on here.
    pub(in crate::socket) fn keep(&mut self) {
        self.sealed_max = suite_of(&self.write.secrets).map_or(0, sealed_max);
    }

    /// Goes on with what another process gave; the rest of the bytes are not its. `None` for what
    /// no process of this version gives.
    pub(in crate::socket) fn taken_over(suite: u16, state: &[u8]) -> Option<(Self, &[u8])> {
        let (write, rest) = state.split_first_chunk::<DIRECTION_BYTES>()?;
        let (read, rest) = rest.split_first_chunk::<DIRECTION_BYTES>()?;
        let ([is_reading], rest) = rest.split_first_chunk::<1>()?;
        let (begun, rest) = rest.split_first_chunk::<4>()?;
        let begun = usize::try_from(u32::from_be_bytes(*begun)).ok()?;
        let (begun, rest) = rest.split_at_checked(begun)?;
        if begun.len() > HEAD_BYTES + SEALED_BYTES_MAX {
            return None;
        }
        let read = match is_reading {
            0 => None,
            1 => Some(Direction::taken_over(suite, read)?),
            _ => return None,
        };
        let write = Direction::taken_over(suite, write)?;
        let records = Self {
            sealed_max: suite_of(&write.secrets).map_or(0, sealed_max),
            write,
            read,
            begun: begun.to_vec(),
        };
        Some((records, rest))
    }
}

impl Direction {
    fn give(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if let Some((_, key, iv)) = self.parts() {
            out.extend_from_slice(key.as_ref());
            out.resize(start + KEY_BYTES, 0);
            out.extend_from_slice(iv.as_ref());
        }
        out.resize(start + KEY_BYTES + NONCE_LEN, 0);
        out.extend_from_slice(&self.sequence.to_be_bytes());
    }

    fn taken_over(suite: u16, state: &[u8; DIRECTION_BYTES]) -> Option<Self> {
        let (secret, rest) = state.split_first_chunk::<KEY_BYTES>()?;
        let (iv, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (sequence, _) = rest.split_first_chunk::<8>()?;
        // It wipes itself, and so does the copy.
        let secret = Zeroizing::new(*secret);
        let (key, iv) = (AeadKey::from(*secret), Iv::from(*iv));
        let secrets = match CipherSuite::from(suite) {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => {
                ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            }
            CipherSuite::TLS13_AES_256_GCM_SHA384 => {
                ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            }
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => {
                ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }
            }
            _ => return None,
        };
        Some(Self {
            secrets,
            sequence: u64::from_be_bytes(*sequence),
        })
    }
}

fn suite_of(secrets: &ConnectionTrafficSecrets) -> Option<SupportedCipherSuite> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { .. } => Some(TLS13_AES_128_GCM_SHA256),
        ConnectionTrafficSecrets::Aes256Gcm { .. } => Some(TLS13_AES_256_GCM_SHA384),
        ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Some(TLS13_CHACHA20_POLY1305_SHA256),
        _ => None,
    }
}

fn sealed_max(suite: SupportedCipherSuite) -> u64 {
    suite
        .tls13()
        .map_or(0, |suite| suite.common.confidentiality_limit)
}
