//! The PROXY protocol, version 2: what a proxy that forwards bytes writes before them, so that the
//! server knows whom they are from.
//!
//! The binary form only. A receiver has to be told to expect the header (the protocol forbids to
//! guess), and whom to believe it: see [`crate::TrustedProxies`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every header begins with; no other protocol's first bytes look like it.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Addresses and ports of a connection over IPv4, over IPv6, and the paths of one over a Unix
/// socket.
const V4_BYTES: usize = 12;
const V6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

/// The fixed part of the header, which says how much follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyPrefix {
    family: Family,
    rest_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// The proxy speaks for itself, or cannot say for whom.
    None,
    V4,
    V6,
    Unix,
}

impl Family {
    const fn bytes(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => V4_BYTES,
            Self::V6 => V6_BYTES,
            Self::Unix => UNIX_BYTES,
        }
    }
}

/// Not a header of this protocol; the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadProxyHeader {
    /// Other bytes: no proxy, or one that speaks version 1.
    Signature,
    /// A version that is not 2, or a command that is neither LOCAL nor PROXY.
    Command(u8),
    /// A family of addresses that version 2 does not have.
    Family(u8),
    /// Shorter than the addresses of its family.
    TooShort,
    /// Longer than [`ProxyPrefix::REST_BYTES_MAX`].
    TooLong(usize),
}

impl fmt::Display for BadProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature => f.write_str("no PROXY protocol header of version 2"),
            Self::Command(byte) => write!(f, "PROXY version and command {byte:#04x}"),
            Self::Family(byte) => write!(f, "PROXY address family {byte:#04x}"),
            Self::TooShort => f.write_str("PROXY header shorter than its addresses"),
            Self::TooLong(bytes) => write!(f, "PROXY header of {bytes} bytes"),
        }
    }
}

impl std::error::Error for BadProxyHeader {}

impl ProxyPrefix {
    /// Bytes of the fixed part.
    pub const BYTES: usize = 16;

    /// Most bytes after it. Addresses take 216 at most; what proxies add (names, the client's
    /// certificate in short) fits several times.
    pub const REST_BYTES_MAX: usize = 4096;

    /// Reads the fixed part.
    ///
    /// # Errors
    ///
    /// It is none, or asks for more than is read.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, BadProxyHeader> {
        let [.., command, family, high, low] = *bytes;
        if bytes[..SIGNATURE.len()] != SIGNATURE {
            return Err(BadProxyHeader::Signature);
        }
        let family = match (command, family) {
            // LOCAL: a check of the proxy's own, its addresses are to be ignored.
            (0x20, _) | (0x21, 0x00) => Family::None,
            (0x21, 0x11 | 0x12) => Family::V4,
            (0x21, 0x21 | 0x22) => Family::V6,
            (0x21, 0x31 | 0x32) => Family::Unix,
            (0x21, other) => return Err(BadProxyHeader::Family(other)),
            (other, _) => return Err(BadProxyHeader::Command(other)),
        };
        let rest_bytes = usize::from(u16::from_be_bytes([high, low]));
        if rest_bytes < family.bytes() {
            return Err(BadProxyHeader::TooShort);
        }
        if rest_bytes > Self::REST_BYTES_MAX {
            return Err(BadProxyHeader::TooLong(rest_bytes));
        }
        Ok(Self { family, rest_bytes })
    }

    /// Bytes of the header that follow.
    #[must_use]
    pub const fn rest_bytes(&self) -> usize {
        self.rest_bytes
    }

    /// Whom the connection is from, by the bytes that follow; `None` where the connection's own
    /// address holds. What stands behind the addresses is passed over.
    ///
    /// # Errors
    ///
    /// `rest` has fewer bytes than the addresses.
    pub fn source(&self, rest: &[u8]) -> Result<Option<IpAddr>, BadProxyHeader> {
        let too_short = BadProxyHeader::TooShort;
        Ok(match self.family {
            Family::None | Family::Unix => None,
            Family::V4 => {
                let address: [u8; 4] = *rest.first_chunk().ok_or(too_short)?;
                Some(IpAddr::V4(Ipv4Addr::from(address)))
            }
            Family::V6 => {
                let address: [u8; 16] = *rest.first_chunk().ok_or(too_short)?;
                Some(IpAddr::V6(Ipv6Addr::from(address)).to_canonical())
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(command: u8, family: u8, rest_bytes: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&SIGNATURE);
        bytes[12..14].copy_from_slice(&[command, family]);
        bytes[14..].copy_from_slice(&rest_bytes.to_be_bytes());
        bytes
    }

    fn source(command: u8, family: u8, rest: &[u8]) -> Result<Option<IpAddr>, BadProxyHeader> {
        let rest_bytes = u16::try_from(rest.len()).expect("short");
        ProxyPrefix::parse(&prefix(command, family, rest_bytes))?.source(rest)
    }

    #[test]
    fn addresses_are_read_and_what_follows_is_passed_over() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let told: IpAddr = "203.0.113.7".parse().expect("an address");
        assert_eq!(source(0x21, 0x11, &v4), Ok(Some(told)));
        let with_more = [&v4[..], &[0x04, 0, 1, 0]].concat();
        assert_eq!(source(0x21, 0x11, &with_more), Ok(Some(told)));
        let address: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let v6 = [&address.octets()[..], &[0; 20]].concat();
        assert_eq!(source(0x21, 0x21, &v6), Ok(Some(IpAddr::V6(address))));
        let mapped: Ipv6Addr = "::ffff:203.0.113.7".parse().expect("an address");
        let v6 = [&mapped.octets()[..], &[0; 20]].concat();
        assert_eq!(source(0x21, 0x21, &v6), Ok(Some(told)));
    }

    #[test]
    fn without_an_address_the_connections_own_holds() {
        assert_eq!(source(0x20, 0x11, &[0; 12]), Ok(None));
        assert_eq!(source(0x20, 0xff, &[]), Ok(None), "LOCAL: all is ignored");
        assert_eq!(source(0x21, 0x00, &[1, 2, 3]), Ok(None));
        assert_eq!(source(0x21, 0x31, &[0; 216]), Ok(None));
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut other = prefix(0x21, 0x11, 12);
        other[11] = b'\r';
        assert_eq!(ProxyPrefix::parse(&other), Err(BadProxyHeader::Signature));
        let v1 = *b"PROXY TCP4 1.2.3";
        assert_eq!(ProxyPrefix::parse(&v1), Err(BadProxyHeader::Signature));
        for (command, family, rest_bytes, error) in [
            (0x11, 0x11, 12, BadProxyHeader::Command(0x11)),
            (0x22, 0x11, 12, BadProxyHeader::Command(0x22)),
            (0x21, 0x13, 12, BadProxyHeader::Family(0x13)),
            (0x21, 0x41, 12, BadProxyHeader::Family(0x41)),
            (0x21, 0x11, 11, BadProxyHeader::TooShort),
            (0x21, 0x21, 35, BadProxyHeader::TooShort),
            (0x21, 0x31, 215, BadProxyHeader::TooShort),
            (0x20, 0x00, 4097, BadProxyHeader::TooLong(4097)),
        ] {
            let parsed = ProxyPrefix::parse(&prefix(command, family, rest_bytes));
            assert_eq!(parsed, Err(error));
        }
    }

    proptest! {
        /// Whatever comes: no panic, and no more is asked for than is allowed.
        #[test]
        fn any_bytes_are_judged(
            tail in any::<[u8; 4]>(), rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let [command, family, high, low] = tail;
            let bytes = prefix(command, family, u16::from_be_bytes([high, low]));
            if let Ok(prefix) = ProxyPrefix::parse(&bytes) {
                prop_assert!(prefix.rest_bytes() <= ProxyPrefix::REST_BYTES_MAX);
                let source = prefix.source(&rest);
                if rest.len() >= prefix.rest_bytes() {
                    prop_assert!(source.is_ok());
                }
            }
        }

        /// What a proxy writes is what is read, whatever it adds.
        #[test]
        fn what_is_written_is_read(
            address in any::<[u8; 16]>(), is_v6 in any::<bool>(),
            more in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (family, wanted, addresses) = if is_v6 {
                let address = IpAddr::V6(address.into()).to_canonical();
                (0x21, address, V6_BYTES)
            } else {
                let [a, b, c, d, ..] = address;
                (0x11, IpAddr::from([a, b, c, d]), V4_BYTES)
            };
            let mut rest = address.to_vec();
            rest.resize(addresses, 7);
            rest.extend(more);
            prop_assert_eq!(source(0x21, family, &rest), Ok(Some(wanted)));
        }
    }
}
