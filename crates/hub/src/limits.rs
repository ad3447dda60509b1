//! What the machine gives: cores and descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::hub::ADMIN_CONNECTIONS_MAX;

/// Descriptors kept for everything that is no public connection: the log's open segments and their
/// indexes, the admin's connections, listeners, polls, key sets.
const DESCRIPTORS_RESERVED: usize = 192 + ADMIN_CONNECTIONS_MAX;

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
pub fn connections(configured: usize, descriptors: usize) -> usize {
    // With few descriptors the log opens its segments anew more often; there is still a hub.
    let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
    let possible = (descriptors - reserved).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(connections(0, 20_000), 20_000 - DESCRIPTORS_RESERVED);
        assert_eq!(connections(100, 20_000), 100);
        assert_eq!(connections(100_000, 1024), 1024 - DESCRIPTORS_RESERVED);
        // Half at least, however few there are.
        assert_eq!(connections(0, 256), 128);
        assert_eq!(connections(0, 0), 1);
    }
}
