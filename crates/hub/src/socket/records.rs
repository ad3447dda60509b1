//! The records of TLS 1.3 after the handshake, for one stream: all of TLS that a stream needs.
//!
//! rustls does the handshake. What it keeps for a connection afterwards is made for traffic in both
//! directions: 8 KB of buffers, ciphers and key schedules. A stream is written to now and then, and
//! hardly ever read. So its secrets are taken out of rustls, as for a kernel that does TLS itself,
//! and a key is expanded when there is something to seal (decision 0023).

use std::io::{self, IoSlice};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305};
use aws_lc_rs::aead::{LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use rustls::crypto::cipher::{self, Iv, make_tls13_aad};
use rustls::{
    ConnectionTrafficSecrets, Error, ProtocolVersion, ServerConnection, SupportedCipherSuite,
};

// What another process goes on with.
mod state;

#[cfg(test)]
#[path = "records/tests.rs"]
pub(crate) mod tests;

/// Bytes before the content of a record: type, version, length.
const HEAD_BYTES: usize = 5;

/// Most bytes of plain text in one record (RFC 8446, 5.1).
const PLAIN_BYTES_MAX: usize = 1 << 14;

/// Most bytes of a sealed record behind its head (RFC 8446, 5.2).
const SEALED_BYTES_MAX: usize = PLAIN_BYTES_MAX + 256;

/// Bytes that each of the three ciphers adds.
const TAG_BYTES: usize = 16;

/// The outer type of every sealed record, and the types inside (RFC 8446, 5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Level "warning" and `close_notify`.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Both directions of a connection whose handshake is over.
pub(super) struct Records {
    write: Direction,
    /// `None` once the peer has changed its keys. Nothing it sends is of any use, so it is not
    /// worth the key schedule that would be needed to follow.
    read: Option<Direction>,
    /// Most records that one key may seal.
    sealed_max: u64,
    /// The begin of a record from the peer; without memory between records.
    begun: Vec<u8>,
}

/// What the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// So many bytes, none of which end anything. Under TLS they are counted with what is around
    /// them, so that records without content count too.
    Bytes(usize),
    /// It sends no more.
    End,
}

/// The peer does not keep to the protocol, or somebody else writes on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl Records {
    /// Whether a connection can go on this way: its protocol is TLS 1.3, and it owes nothing.
    pub(super) fn can_take(connection: &ServerConnection) -> bool {
        connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
            && !connection.is_handshaking()
            && !connection.wants_write()
    }

    /// Takes over. The connection must not have read a part of a record.
    ///
    /// # Errors
    ///
    /// The connection is not one that [`Self::can_take`], or does not give its secrets.
    pub(super) fn take(connection: ServerConnection) -> Result<Self, Error> {
        let Some(SupportedCipherSuite::Tls13(suite)) = connection.negotiated_cipher_suite() else {
            return Err(Error::HandshakeNotComplete);
        };
        let secrets = connection.dangerous_extract_secrets()?;
        Ok(Self {
            write: Direction::new(secrets.tx),
            read: Some(Direction::new(secrets.rx)),
            sealed_max: suite.common.confidentiality_limit,
            begun: Vec::new(),
        })
    }

    /// Appends records with the plain text of `slices` to `out` until it holds `out_bytes_max` or
    /// a little more. Returns how much of the text is in it.
    ///
    /// # Errors
    ///
    /// The key has sealed as many records as it may: the connection has to end.
    pub(super) fn seal(
        &mut self,
        slices: &[IoSlice<'_>],
        out_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let key = self.write.key().map_err(io::Error::other)?;
        let mut pieces = slices.iter().map(|slice| &slice[..]);
        let mut piece: &[u8] = &[];
        let mut sealed = 0;
        while out.len() < out_bytes_max {
            let start = begin_record(out);
            let mut room = PLAIN_BYTES_MAX;
            while room > 0 {
                if piece.is_empty() {
                    let Some(next) = pieces.next() else { break };
                    piece = next;
                }
                let (now, later) = piece.split_at(piece.len().min(room));
                out.extend_from_slice(now);
                piece = later;
                room -= now.len();
            }
            if room == PLAIN_BYTES_MAX {
                out.truncate(start);
                break;
            }
            self.end_record(&key, APPLICATION_DATA, start, out)?;
            sealed += PLAIN_BYTES_MAX - room;
        }
        Ok(sealed)
    }

    /// Appends the alert that ends this side in order.
    ///
    /// # Errors
    ///
    /// As [`Self::seal`].
    pub(super) fn seal_close_notify(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let key = self.write.key().map_err(io::Error::other)?;
        let start = begin_record(out);
        out.extend_from_slice(&CLOSE_NOTIFY);
        self.end_record(&key, ALERT, start, out)
    }

    fn end_record(
        &mut self,
        key: &LessSafeKey,
        kind: u8,
        start: usize,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        if self.write.sequence >= self.sealed_max {
            out.truncate(start);
            return Err(io::Error::other("the key has sealed as much as it may"));
        }
        out.push(kind);
        let plain = start + HEAD_BYTES;
        let head = make_tls13_aad(out.len() - plain + TAG_BYTES);
        out[start..plain].copy_from_slice(&head);
        let nonce = self.write.next_nonce();
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(head), &mut out[plain..])
            .map_err(io::Error::other)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Reads what came from the socket.
    ///
    /// # Errors
    ///
    /// [`Broken`]: there is nothing more to be had from this peer.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<Received, Broken> {
        if self.read.is_none() {
            return Ok(Received::Bytes(bytes.len()));
        }
        let mut waiting = std::mem::take(&mut self.begun);
        waiting.extend_from_slice(bytes);
        let mut rest = &mut waiting[..];
        let mut count = 0;
        while let Some((head, after)) = rest.split_first_chunk_mut::<HEAD_BYTES>() {
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if head[0] != APPLICATION_DATA || length > SEALED_BYTES_MAX {
                return Err(Broken);
            }
            if after.len() < length {
                break;
            }
            let head = *head;
            let (sealed, after) = std::mem::take(&mut rest)[HEAD_BYTES..].split_at_mut(length);
            rest = after;
            let Some(read) = &mut self.read else {
                return Ok(Received::Bytes(count));
            };
            match read.open(head, sealed)? {
                ALERT => return Ok(Received::End),
                // A new key, the only thing of a handshake that a peer may still send.
                HANDSHAKE => self.read = None,
                _ => {}
            }
            count += HEAD_BYTES + length;
        }
        self.begun.extend_from_slice(rest);
        Ok(Received::Bytes(count))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Records").finish_non_exhaustive()
    }
}

/// Secrets of one direction. They are wiped when they are dropped.
struct Direction {
    secrets: ConnectionTrafficSecrets,
    /// Of the next record.
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        Self { secrets, sequence }
    }

    fn parts(&self) -> Option<(&'static Algorithm, &cipher::AeadKey, &Iv)> {
        Some(match &self.secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return None,
        })
    }

    fn key(&self) -> Result<LessSafeKey, Unspecified> {
        let (algorithm, key, _) = self.parts().ok_or(Unspecified)?;
        // One that came from another process has zeros behind it.
        let key = key.as_ref().get(..algorithm.key_len()).ok_or(Unspecified)?;
        UnboundKey::new(algorithm, key).map(LessSafeKey::new)
    }

    /// Each record has its own: never given out twice, because the count goes on with each.
    fn next_nonce(&mut self) -> Nonce {
        let (_, _, iv) = self.parts().expect("there was a key for it");
        let nonce = cipher::Nonce::new(iv, self.sequence);
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce.0)
    }

    /// The type inside a record.
    fn open(&mut self, head: [u8; HEAD_BYTES], sealed: &mut [u8]) -> Result<u8, Broken> {
        let key = self.key().map_err(|_| Broken)?;
        let nonce = self.next_nonce();
        let plain = key
            .open_in_place(nonce, Aad::from(head), sealed)
            .map_err(|_| Broken)?;
        // The type stands behind the content, and zeros behind it.
        let kind = plain.iter().rfind(|&&byte| byte != 0);
        match kind {
            Some(kind @ &(ALERT | HANDSHAKE | APPLICATION_DATA)) => Ok(*kind),
            _ => Err(Broken),
        }
    }
}

/// Room for a head; where the record begins.
fn begin_record(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    start
}
