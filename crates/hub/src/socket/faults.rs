//! Sinks that panic where a test wants them to.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

/// Where in a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Register,
    Hear,
    Flush,
    Write,
    /// The socket has taken the bytes.
    Wrote,
    Close,
}

/// By descriptor; each strikes once, since numbers are used again.
static ARMED: Mutex<Vec<(RawFd, Place)>> = Mutex::new(Vec::new());

/// The sink around this descriptor panics the next time that it comes there.
pub(crate) fn arm(descriptor: RawFd, place: Place) {
    let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    armed.push((descriptor, place));
}

/// Panics, if a test has armed this.
pub(crate) fn strike(descriptor: Option<RawFd>, place: Place) {
    let mut armed = ARMED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |fault: &(RawFd, Place)| Some(fault.0) == descriptor && fault.1 == place;
    if let Some(found) = armed.iter().position(is_it) {
        armed.swap_remove(found);
        drop(armed);
        panic!("on purpose, in {place:?}");
    }
}
