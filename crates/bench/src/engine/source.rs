//! Source addresses: one has too few ports for many streams, but 127.0.0.0/8 has many addresses.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

/// Streams from one source address, and streams up to which the system may choose: half of the
/// ports of Linux's default range, so that finding a free one stays quick.
const STREAMS_PER_SOURCE: u64 = 14_000;
/// First port, below the range the system chooses from; named ports need no search.
const FIRST_PORT: u16 = 16_000;
/// Times another port is tried when one is taken.
pub(crate) const ATTEMPTS: u16 = 4;

/// Chooses where streams come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sources {
    is_spread: bool,
    /// Second byte of the addresses: another one in each run, so that connections of the run
    /// before, which linger for a minute, are not in the way.
    net: u8,
}

impl Sources {
    /// For `streams` to `target`. Only the loopback's addresses can be chosen freely.
    pub(crate) fn new(target: SocketAddr, streams: u64) -> Self {
        let is_loopback = matches!(target, SocketAddr::V4(v4) if v4.ip().is_loopback());
        let entropy = u64::from(std::process::id()) ^ (crate::clock::now_ns() >> 20);
        Self {
            is_spread: is_loopback && streams > STREAMS_PER_SOURCE,
            net: 16 + u8::try_from(entropy % 200).unwrap_or(0),
        }
    }

    /// Where stream `index` comes from; nothing where the system chooses.
    pub(crate) fn of(self, index: u64, attempt: u16) -> Option<SocketAddrV4> {
        if !self.is_spread {
            return None;
        }
        let block = index / STREAMS_PER_SOURCE;
        let third = u8::try_from(block / 250 % 250).unwrap_or(0);
        let fourth = 1 + u8::try_from(block % 250).unwrap_or(0);
        let step = u16::try_from(index % STREAMS_PER_SOURCE).unwrap_or(0);
        let port = FIRST_PORT + step + attempt * 11_000;
        let address = Ipv4Addr::new(127, self.net, third, fourth);
        Some(SocketAddrV4::new(address, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_million_streams_have_addresses_of_their_own() {
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let sources = Sources::new(target, 1_000_000);
        let all: HashSet<_> = (0..1_000_000)
            .map(|index| sources.of(index, 0).expect("spread"))
            .collect();
        assert_eq!(all.len(), 1_000_000);
        assert!(sources.of(13_999, ATTEMPTS - 1).is_some());
    }

    #[test]
    fn few_streams_and_far_targets_are_left_to_the_system() {
        let near = SocketAddr::from(([127, 0, 0, 1], 80));
        let far = SocketAddr::from(([192, 0, 2, 1], 80));
        assert_eq!(Sources::new(near, 1000).of(0, 0), None);
        assert_eq!(Sources::new(far, 1_000_000).of(0, 0), None);
    }
}
