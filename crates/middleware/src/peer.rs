//! Whom a connection counts for: the address it came from, or, behind a listed proxy, the one the
//! proxy names.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderMap;

/// An address as limits count it: IPv4 whole, IPv6 by its /64, since everybody has 2^64 of those.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey(u64);

impl AddressKey {
    /// IPv4 addresses written as IPv6 (`::ffff:a.b.c.d`) count as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(u32::from(v4))),
            IpAddr::V6(v6) => {
                let prefix = u128::from(v6) >> 64;
                Self(u64::try_from(prefix).unwrap_or(u64::MAX))
            }
        }
    }

    /// The key for [`crate::KeyedGate`] and [`crate::Keyed`].
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// A network in CIDR form; a bare address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: Ipv6Addr,
    prefix: u8,
}

/// Not a network in CIDR form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotANetwork(String);

impl fmt::Display for NotANetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an address or network such as 10.0.0.0/8 or 2001:db8::/32",
            self.0
        )
    }
}

impl std::error::Error for NotANetwork {}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork(text.chars().take(100).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (most, offset) = match address {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        let prefix = match prefix {
            None => most,
            Some(prefix) => prefix
                .parse()
                .ok()
                .filter(|&prefix: &u8| prefix <= most)
                .ok_or_else(wrong)?,
        };
        Ok(Self {
            address: mapped(address),
            prefix: prefix + offset,
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.to_ipv4_mapped() {
            Some(v4) if self.prefix >= 96 => write!(f, "{v4}/{}", self.prefix - 96),
            _ => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

impl Network {
    /// Whether the address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let differing = u128::from(mapped(address)) ^ u128::from(self.address);
        self.prefix == 0 || differing >> (128 - u32::from(self.prefix)) == 0
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// Most hops of a forwarding header looked at, from the nearest one.
const HOPS_MAX: usize = 32;

/// The proxies that may say whom a request is from. Nobody else is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

impl TrustedProxies {
    /// Requests from these networks may carry `Forwarded` or `X-Forwarded-For`.
    #[must_use]
    pub const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether a peer at this address is such a proxy.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address a request is from: `peer` itself, unless it is a listed proxy. Then the hops
    /// that it and the listed proxies behind it name, from the nearest: the first that is not
    /// listed. A hop that cannot be read (`unknown`, a name) ends the search at the proxy that
    /// named it. `Forwarded` (RFC 7239) goes before `X-Forwarded-For`.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.includes(peer) {
            return peer;
        }
        let hops = forwarded(headers).unwrap_or_else(|| forwarded_for(headers));
        let mut nearest = peer;
        for hop in hops {
            match hop {
                Some(address) if self.includes(address) => nearest = address,
                Some(address) => return address,
                None => return nearest,
            }
        }
        nearest
    }
}

/// Hops of `Forwarded`, nearest first; `None` without that header.
fn forwarded(headers: &HeaderMap) -> Option<Vec<Option<IpAddr>>> {
    let hops = lines(headers, "forwarded")?;
    Some(hops.iter().map(|hop| parse_element(hop)).collect())
}

fn forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let hops = lines(headers, "x-forwarded-for").unwrap_or_default();
    hops.iter().map(|hop| parse_hop(hop)).collect()
}

/// The comma-separated items of all fields of that name, last first, at most [`HOPS_MAX`]; empty
/// ones do not count (RFC 9110, 5.6.1). `None` without any field.
fn lines(headers: &HeaderMap, name: &str) -> Option<Vec<String>> {
    let fields: Vec<_> = headers.get_all(name).iter().collect();
    if fields.is_empty() {
        return None;
    }
    let mut items = Vec::new();
    for field in fields.iter().rev() {
        let text = String::from_utf8_lossy(field.as_bytes());
        let found = split_from_end(&text, b',').into_iter().map(str::trim);
        items.extend(found.filter(|item| !item.is_empty()).map(str::to_owned));
        if items.len() >= HOPS_MAX {
            break;
        }
    }
    items.truncate(HOPS_MAX);
    Some(items)
}

/// Splits at the separators that stand in no quoted string, last part first. From the end, because
/// what stands there is the nearest proxy's own. A client may have put a lone quote before it, or
/// a name into what the proxy quotes, such as the `Host`.
fn split_from_end(text: &str, separator: u8) -> Vec<&str> {
    let bytes = text.as_bytes();
    let (mut parts, mut end, mut is_quoted) = (Vec::new(), text.len(), false);
    for (at, &byte) in bytes.iter().enumerate().rev() {
        if byte == b'"' {
            let slashes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\');
            // An escaped one is text within the string.
            if !is_quoted || slashes.count() % 2 == 0 {
                is_quoted = !is_quoted;
            }
        } else if byte == separator && !is_quoted {
            parts.push(&text[at + 1..end]);
            end = at;
        }
    }
    parts.push(&text[..end]);
    parts
}

/// The `for` of one element of `Forwarded`; it may have one at most (RFC 7239, 4).
fn parse_element(element: &str) -> Option<IpAddr> {
    let pairs = split_from_end(element, b';').into_iter();
    let mut named = pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
    let (_, value) = named.next()?;
    if named.next().is_some() {
        return None;
    }
    parse_hop(value.trim().trim_matches('"'))
}

/// `203.0.113.7`, `203.0.113.7:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn parse_hop(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, _) = rest.split_once(']')?;
        return address.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (address, port) = text.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::HeaderName;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn proxies(networks: &[&str]) -> TrustedProxies {
        let parse = |text: &&str| text.parse().expect("a network");
        TrustedProxies::new(networks.iter().map(parse).collect())
    }

    fn client(trusted: &TrustedProxies, peer: &str, fields: &[(&'static str, &str)]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        trusted.client(ip(peer), &headers)
    }

    #[test]
    fn networks_are_read_and_told() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
        ] {
            let network: Network = text.parse().expect("a network");
            assert_eq!(network.to_string(), shown);
        }
        for text in [
            "",
            "10.0.0.0/33",
            "10/8",
            "::/129",
            "host",
            "10.0.0.1/-1",
            "1.2.3.4/",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        let all: Network = "0.0.0.0/0".parse().expect("all of IPv4");
        assert!(all.contains(ip("8.8.8.8")) && all.contains(ip("::ffff:8.8.8.8")));
        assert!(!all.contains(ip("2001:db8::1")));
    }

    #[test]
    fn only_listed_proxies_are_believed() {
        let trusted = proxies(&["10.0.0.0/8", "::1"]);
        let told = [("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client(&trusted, "198.51.100.1", &told), ip("198.51.100.1"));
        assert_eq!(client(&trusted, "10.1.2.3", &told), ip("203.0.113.7"));
        assert_eq!(
            client(&trusted, "::ffff:10.1.2.3", &told),
            ip("203.0.113.7")
        );
        assert_eq!(
            client(&TrustedProxies::default(), "10.1.2.3", &told),
            ip("10.1.2.3")
        );
    }

    #[test]
    fn what_the_client_wrote_itself_is_passed_over() {
        let trusted = proxies(&["10.0.0.0/8"]);
        // The client wrote 1.2.3.4; the outer proxy added who it saw; the inner one the outer.
        let told = [("x-forwarded-for", "1.2.3.4, 203.0.113.7, 10.0.0.2")];
        assert_eq!(client(&trusted, "10.0.0.1", &told), ip("203.0.113.7"));
        let told = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "203.0.113.7"),
        ];
        assert_eq!(client(&trusted, "10.0.0.1", &told), ip("203.0.113.7"));
    }

    #[test]
    fn forwarded_has_its_own_form() {
        let trusted = proxies(&["10.0.0.0/8"]);
        for value in [
            "for=203.0.113.7",
            "for=1.2.3.4, For=\"203.0.113.7:4711\";proto=https;by=10.0.0.1",
            "proto=http;for=203.0.113.7, for=10.9.9.9",
        ] {
            let told = [("forwarded", value), ("x-forwarded-for", "9.9.9.9")];
            assert_eq!(
                client(&trusted, "10.0.0.1", &told),
                ip("203.0.113.7"),
                "{value}"
            );
        }
        let told = [("forwarded", "for=\"[2001:db8::17]:4711\"")];
        assert_eq!(client(&trusted, "10.0.0.1", &told), ip("2001:db8::17"));
    }

    /// What a proxy quotes may be the client's: a `Host`, say.
    #[test]
    fn nothing_in_a_quoted_string_is_a_hop() {
        let trusted = proxies(&["10.0.0.0/8"]);
        for value in [
            r#"for=203.0.113.7;host="a,for=1.2.3.4""#,
            r#"host="a;for=1.2.3.4";for=203.0.113.7"#,
            r#"for=203.0.113.7;host="a\",for=1.2.3.4""#,
            r#"for=203.0.113.7;host="a\\""#,
            r#"for="x, for=203.0.113.7"#,
            r#"for=1.2.3.4;host="x, for=203.0.113.7;host="y""#,
            r#"for=1.2.3.4;host="x, for=203.0.113.7;host="y", for=10.0.0.2;host="z,""#,
        ] {
            let told = [("forwarded", value)];
            let seen = client(&trusted, "10.0.0.1", &told);
            assert_eq!(seen, ip("203.0.113.7"), "{value}");
        }
        let twice = [("forwarded", "for=203.0.113.7;for=203.0.113.8")];
        assert_eq!(client(&trusted, "10.0.0.1", &twice), ip("10.0.0.1"));
    }

    #[test]
    fn an_empty_item_is_no_hop() {
        let trusted = proxies(&["10.0.0.0/8"]);
        for value in ["203.0.113.7,", ",203.0.113.7, ,", "203.0.113.7,,10.0.0.2"] {
            let told = [("x-forwarded-for", value)];
            let seen = client(&trusted, "10.0.0.1", &told);
            assert_eq!(seen, ip("203.0.113.7"), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_for_the_proxy_that_wrote_it() {
        let trusted = proxies(&["10.0.0.0/8"]);
        for value in ["unknown", "", "_hidden", "1.2.3", "203.0.113.7:x", "[::1"] {
            let told = [("x-forwarded-for", value)];
            assert_eq!(
                client(&trusted, "10.0.0.1", &told),
                ip("10.0.0.1"),
                "{value:?}"
            );
        }
    }

    #[test]
    fn an_endless_list_of_hops_is_cut() {
        let trusted = proxies(&["10.0.0.0/8"]);
        let list = format!("203.0.113.7{}", ", 10.0.0.2".repeat(HOPS_MAX));
        let told = [("x-forwarded-for", list.as_str())];
        assert_eq!(client(&trusted, "10.0.0.1", &told), ip("10.0.0.2"));
    }

    #[test]
    fn addresses_of_one_64_are_one() {
        let key = |text| AddressKey::of(ip(text));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
