//! Whom a connection and its requests count for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use gush_middleware::{BadProxyHeader, ProxyPrefix};
use http::HeaderMap;
use http::request::Parts;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::policy::Policy;
use crate::token::Claims;

/// Where a connection comes from: the other end of its socket or, where listed proxies forward
/// bytes, whom they name. Also an extension of the requests that hyper serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Without its port; an IPv4 address that came as IPv6 is IPv4.
    pub address: IpAddr,
    /// Whether its connection counts for it already: not for a further stream of HTTP/2.
    pub is_counted: bool,
}

/// Whom a stream is for, as limits, errors and records name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The peer's address or, behind a listed proxy, the one that the request's headers name.
    pub address: IpAddr,
    /// `sub` of its token.
    pub subject: Option<String>,
    /// Of the request's `traceparent`.
    pub trace_id: Option<String>,
}

/// Why a connection says nothing about whom it is from; it is closed.
#[derive(Debug)]
pub(crate) enum NoPeer {
    /// It has to come from a listed proxy.
    Unlisted,
    /// What it begins with is no header.
    Header(BadProxyHeader),
    /// The header did not come in time.
    Late,
    /// The socket failed or ended.
    Io(io::Error),
}

impl std::fmt::Display for NoPeer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unlisted => out.write_str("with --proxy-protocol, only listed proxies connect"),
            Self::Header(error) => write!(out, "{error}"),
            Self::Late => out.write_str("the PROXY header took too long"),
            Self::Io(error) => write!(out, "{error}"),
        }
    }
}

impl Peer {
    /// The other end of a socket.
    #[must_use]
    pub fn of(socket: SocketAddr) -> Self {
        Self {
            address: socket.ip().to_canonical(),
            is_counted: true,
        }
    }

    /// The same for a stream that is one more than its connection.
    #[must_use]
    pub const fn further(self) -> Self {
        Self {
            is_counted: false,
            ..self
        }
    }

    /// That of a request that hyper serves.
    ///
    /// # Panics
    ///
    /// The request did not come by a connection of this hub.
    #[must_use]
    pub fn of_request(head: &Parts) -> Self {
        let peer = head.extensions.get().copied();
        peer.expect("every connection tells its requests")
    }

    /// Reads the PROXY header that the connection has to begin with, and not a byte more.
    ///
    /// # Errors
    ///
    /// There is none that is to be believed, or not within `patience`.
    pub(crate) async fn behind_proxy(
        self,
        stream: &mut TcpStream,
        policy: &Policy,
        patience: Duration,
    ) -> Result<Self, NoPeer> {
        if !policy.trusted_proxies.includes(self.address) {
            return Err(NoPeer::Unlisted);
        }
        let named = timeout(patience, read_source(stream)).await;
        let address = named.map_err(|_| NoPeer::Late)??.unwrap_or(self.address);
        Ok(Self { address, ..self })
    }

    /// Whom a request with these headers is from.
    #[must_use]
    pub fn client_address(self, policy: &Policy, headers: &HeaderMap) -> IpAddr {
        if policy.trusted_proxies.is_empty() {
            return self.address;
        }
        let address = policy.trusted_proxies.client(self.address, headers);
        address.to_canonical()
    }

    /// Whom a stream that begins with these headers is for.
    #[must_use]
    pub fn client(self, policy: &Policy, headers: &HeaderMap, claims: Option<&Claims>) -> Client {
        Client {
            address: self.client_address(policy, headers),
            subject: claims.and_then(|claims| claims.subject.clone()),
            trace_id: trace_id(headers).map(str::to_owned),
        }
    }
}

async fn read_source(stream: &mut TcpStream) -> Result<Option<IpAddr>, NoPeer> {
    let mut prefix = [0; ProxyPrefix::BYTES];
    stream.read_exact(&mut prefix).await.map_err(NoPeer::Io)?;
    let prefix = ProxyPrefix::parse(&prefix).map_err(NoPeer::Header)?;
    let mut rest = vec![0; prefix.rest_bytes()];
    stream.read_exact(&mut rest).await.map_err(NoPeer::Io)?;
    prefix.source(&rest).map_err(NoPeer::Header)
}

/// The trace id of a `traceparent` header (W3C Trace Context, version 00 and those that extend
/// it). A malformed one counts as none.
#[must_use]
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all("traceparent").iter();
    let text = fields.next()?.to_str().ok()?;
    if fields.next().is_some() {
        return None;
    }
    let mut parts = text.split('-');
    let version = parts.next().filter(|part| is_hex(part, 2))?;
    let trace_id = parts.next().filter(|part| is_hex(part, 32))?;
    parts.next().filter(|part| is_hex(part, 16))?;
    parts.next().filter(|part| is_hex(part, 2))?;
    let ends_here = parts.next().is_none();
    let is_known = version != "ff" && (ends_here || version != "00");
    (is_known && trace_id.bytes().any(|digit| digit != b'0')).then_some(trace_id)
}

/// Lower case only, as the specification has it.
fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    text.len() == digits && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_trace_id_is_taken_from_a_whole_traceparent() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let found = |value: &str| {
            let value = HeaderValue::from_str(value).expect("a value");
            let headers = HeaderMap::from_iter([("traceparent".parse().expect("a name"), value)]);
            trace_id(&headers).map(str::to_owned)
        };
        assert_eq!(
            found(&format!("00-{ID}-00f067aa0ba902b7-01")).as_deref(),
            Some(ID)
        );
        assert_eq!(
            found(&format!("01-{ID}-00f067aa0ba902b7-01-more")).as_deref(),
            Some(ID)
        );
        for broken in [
            String::new(),
            format!("00-{ID}"),
            format!("00-{ID}-00f067aa0ba902b7-01-more"),
            format!("ff-{ID}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
            format!("00-{ID}-00f067aa0ba902b-01"),
        ] {
            assert_eq!(found(&broken), None, "{broken}");
        }
    }
}
