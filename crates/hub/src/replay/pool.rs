//! Buffers of stretches, used again once nobody holds what is in them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept, and the largest of them. Ours: one being sent, one framed ahead and one free for
/// each of a few replays; the pages of a fresh buffer cost more than the framing.
const BUFFERS_MAX: usize = 8;
const BUFFER_BYTES_MAX: usize = 512 * 1024;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

/// A buffer that goes back to its pool.
struct Lent {
    bytes: Vec<u8>,
    pool: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.put(std::mem::take(&mut self.bytes));
    }
}

impl Pool {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.buffers().pop().unwrap_or_default()
    }

    /// Shares what was written to a buffer.
    pub(super) fn freeze(&self, bytes: Vec<u8>) -> Bytes {
        // What few bytes leave unused would be held for as long as they are.
        if bytes.len() < bytes.capacity() / 2 {
            let copy = Bytes::copy_from_slice(&bytes);
            self.put(bytes);
            return copy;
        }
        Bytes::from_owner(Lent {
            bytes,
            pool: self.clone(),
        })
    }

    fn put(&self, mut bytes: Vec<u8>) {
        let mut buffers = self.buffers();
        if buffers.len() < BUFFERS_MAX && (1..=BUFFER_BYTES_MAX).contains(&bytes.capacity()) {
            bytes.clear();
            buffers.push(bytes);
        }
    }

    /// Gives the memory back.
    pub(super) fn clear(&self) {
        *self.buffers() = Vec::new();
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
