//! Addresses for servers that have to come back where they were.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

/// An address of this process alone. It stays free while nobody listens there: no other process is
/// given this one of the loopback's, and connections on their way out have 127.0.0.1.
pub fn own_address() -> SocketAddr {
    static PORTS: AtomicU16 = AtomicU16::new(20_000);
    // Linux has process ids of 22 bits at most.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 64 | high & 63, middle, low);
    SocketAddr::from((host, PORTS.fetch_add(1, Ordering::Relaxed)))
}
