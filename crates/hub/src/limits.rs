//! What the machine gives: cores and descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{LogSpec, Settings};
use crate::hub::ADMIN_CONNECTIONS_MAX;

/// Descriptors kept for everything that is no connection and no log segment: listeners, polls,
/// key sets, the admin's requests.
const DESCRIPTORS_RESERVED: usize = 64 + ADMIN_CONNECTIONS_MAX;

/// Segments reckoned with where retention sets no bound in bytes.
const SEGMENTS_ASSUMED: usize = 1024;

/// Descriptors that the log's segments take at most: each stays open, so that a reader is never
/// in one that is gone.
#[must_use]
pub fn segments(settings: &Settings) -> usize {
    if settings.log == LogSpec::Memory {
        return 0;
    }
    let count = settings
        .retention_bytes
        .map(|kept| kept / settings.segment_bytes.max(1));
    // The one being written, and one that is being trimmed.
    count.map_or(SEGMENTS_ASSUMED, |count| {
        usize::try_from(count).unwrap_or(usize::MAX)
    }) + 2
}

/// Cores this process may use, at least one.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the soft descriptor limit to the hard one; returns what holds now.
pub fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the descriptor limit could not be raised");
            limit.current
        }
    };
    now.map_or(usize::MAX, |descriptors| {
        usize::try_from(descriptors).unwrap_or(usize::MAX)
    })
}

/// Connections the hub takes: what is configured, but never more than there are descriptors.
#[must_use]
pub fn connections(configured: usize, descriptors: usize, segments: usize) -> usize {
    let reserved = DESCRIPTORS_RESERVED.saturating_add(segments);
    let possible = descriptors.saturating_sub(reserved).max(1);
    if possible < descriptors / 2 {
        tracing::warn!(
            descriptors,
            segments,
            "the log's segments take most of the descriptors: raise the limit (ulimit -n) or \
             --segment-bytes"
        );
    }
    if configured == 0 {
        return possible;
    }
    if configured > possible {
        tracing::warn!(
            configured,
            possible,
            "--max-connections is more than the descriptor limit allows"
        );
    }
    configured.min(possible)
}
