//! The hub under test, and the few things every case does with it.

use gush_testkit::{
    Claims, Connection, Failure, Outcome, PATIENCE, Request, Response, SseStream, TokenKey,
    encode_form, eventually, exchange,
};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The hub's path.
pub(crate) const HUB: &str = "/.well-known/mercure";

/// What a hub must have, or must not have, for a case to make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Subscribers without a token are let in.
    Anonymous,
    /// Subscribers without a token are refused.
    NotAnonymous,
    /// Subscription events and the active-subscriptions API are on.
    Subscriptions,
    /// They are off.
    NoSubscriptions,
    /// CORS is on for an origin that is known.
    Cors,
    /// CORS is off.
    NoCors,
    /// Publishing with a cookie is allowed from an origin that is known.
    PublishOrigin,
    /// Events are kept for replay.
    History,
    /// The heartbeat interval is known and at most 5 s.
    ShortHeartbeat,
    /// Tokens are signed with a shared secret.
    Hmac,
    /// The admin listener is known.
    Admin,
}

impl Need {
    /// Why a case that needs this was skipped.
    pub fn missing(self) -> &'static str {
        match self {
            Self::Anonymous => "the hub does not let subscribers in without a token",
            Self::NotAnonymous => "the hub lets subscribers in without a token",
            Self::Subscriptions => "the hub has no subscription events",
            Self::NoSubscriptions => "the hub has subscription events",
            Self::Cors => "no allowed CORS origin was named",
            Self::NoCors => "the hub has CORS switched on",
            Self::PublishOrigin => "no allowed publish origin was named",
            Self::History => "the hub keeps no history",
            Self::ShortHeartbeat => "no heartbeat interval of at most 5 s was named",
            Self::Hmac => "the hub's tokens are not signed with a shared secret",
            Self::Admin => "no admin address was named",
        }
    }
}

/// A hub under test.
pub struct Target {
    /// Its public listener, plain HTTP.
    pub address: SocketAddr,
    /// Its admin listener, for gush.
    pub admin: Option<SocketAddr>,
    /// Signs publisher tokens.
    pub publisher: TokenKey,
    /// Signs subscriber tokens.
    pub subscriber: TokenKey,
    /// See [`Need::Anonymous`].
    pub anonymous: bool,
    /// See [`Need::Subscriptions`].
    pub subscriptions: bool,
    /// See [`Need::History`].
    pub history: bool,
    /// An origin that CORS allows.
    pub cors_origin: Option<String>,
    /// An origin that may publish with a cookie.
    pub publish_origin: Option<String>,
    /// The heartbeat interval, when it is short enough to be waited for.
    pub heartbeat: Option<Duration>,
    /// How long a request's head may take.
    pub head_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// Its process on this machine; without it memory is not looked at.
    pub pid: Option<u32>,
    run: String,
    counter: AtomicU64,
}

impl Target {
    /// A hub at this address that keeps history and has every option off.
    pub fn new(address: SocketAddr, publisher: TokenKey, subscriber: TokenKey) -> Self {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        Self {
            address,
            admin: None,
            publisher,
            subscriber,
            anonymous: false,
            subscriptions: false,
            history: true,
            cors_origin: None,
            publish_origin: None,
            heartbeat: None,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            pid: None,
            run: format!("{:x}-{:x}", std::process::id(), nanos & 0xffff_ffff_ffff),
            counter: AtomicU64::new(0),
        }
    }

    /// The socket address of `http://HOST:PORT`.
    pub fn resolve(base_url: &str) -> Outcome<SocketAddr> {
        let rest = base_url
            .trim_end_matches('/')
            .strip_prefix("http://")
            .ok_or_else(|| {
                Failure::new(format!(
                    "{base_url:?} is not an http:// address; the suite speaks plain HTTP"
                ))
            })?;
        let with_port = if rest.contains(':') {
            rest.to_owned()
        } else {
            format!("{rest}:80")
        };
        with_port
            .to_socket_addrs()
            .map_err(|e| Failure::from(e).within(base_url))?
            .next()
            .ok_or_else(|| Failure::new(format!("{base_url} has no address")))
    }

    /// Whether the hub has this.
    pub fn has(&self, need: Need) -> bool {
        match need {
            Need::Anonymous => self.anonymous,
            Need::NotAnonymous => !self.anonymous,
            Need::Subscriptions => self.subscriptions,
            Need::NoSubscriptions => !self.subscriptions,
            Need::Cors => self.cors_origin.is_some(),
            Need::NoCors => self.cors_origin.is_none(),
            Need::PublishOrigin => self.publish_origin.is_some(),
            Need::History => self.history,
            Need::ShortHeartbeat => self.heartbeat.is_some_and(|h| h <= Duration::from_secs(5)),
            Need::Hmac => {
                self.publisher.key_pair().is_none() && self.subscriber.key_pair().is_none()
            }
            Need::Admin => self.admin.is_some(),
        }
    }

    /// A text no other case and no other run uses, without characters that mean something.
    pub(crate) fn unique(&self) -> String {
        format!(
            "{}-{}",
            self.run,
            self.counter.fetch_add(1, Ordering::Relaxed)
        )
    }

    /// A topic of its own.
    pub(crate) fn topic(&self) -> String {
        format!("https://conformance.example/{}", self.unique())
    }

    /// A token that may publish everything.
    pub(crate) fn publisher_token(&self) -> Outcome<String> {
        self.publisher.sign(&Claims::new().publish(&["*"]))
    }

    /// A token that may receive everything.
    pub(crate) fn subscriber_token(&self) -> Outcome<String> {
        self.subscriber.sign(&Claims::new().subscribe(&["*"]))
    }

    /// A token that lets a subscriber in and grants no private update.
    pub(crate) fn plain_token(&self) -> Outcome<String> {
        self.subscriber.sign(&Claims::new())
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, request: &Request) -> Outcome<Response> {
        exchange(self.address, request)
    }

    /// A publish with a token for everything.
    pub(crate) fn try_publish(&self, fields: &[(&str, &str)]) -> Outcome<Response> {
        self.send(&Request::form(HUB, fields).bearer(&self.publisher_token()?))
    }

    /// A publish that has to succeed; its id.
    pub(crate) fn publish(&self, fields: &[(&str, &str)]) -> Outcome<String> {
        let response = self.try_publish(fields)?;
        response
            .expect_status(&[200])
            .map_err(|f| f.within("publish"))?;
        Ok(response.text())
    }

    /// A publish of data to one topic; its id.
    pub(crate) fn say(&self, topic: &str, data: &str) -> Outcome<String> {
        self.publish(&[("topic", topic), ("data", data)])
    }

    /// A subscribe request without any token.
    pub(crate) fn subscribe_bare(query: &[(&str, &str)]) -> Request {
        Request::get(&format!("{HUB}?{}", encode_form(query)))
    }

    /// Subscribes with a token for everything.
    pub(crate) fn subscribe(&self, query: &[(&str, &str)]) -> Outcome<SseStream> {
        self.subscribe_as(&self.subscriber_token()?, query)
    }

    /// Subscribes with this token.
    pub(crate) fn subscribe_as(&self, token: &str, query: &[(&str, &str)]) -> Outcome<SseStream> {
        self.open(&Self::subscribe_bare(query).bearer(token))
    }

    /// Subscribes with a token for everything and a `Last-Event-ID` header.
    pub(crate) fn resume(&self, topic: &str, cursor: &str) -> Outcome<SseStream> {
        let request = Self::subscribe_bare(&[("topic", topic)])
            .bearer(&self.subscriber_token()?)
            .header("Last-Event-ID", cursor);
        self.open(&request)
    }

    /// Sends a request that has to become a stream.
    pub(crate) fn open(&self, request: &Request) -> Outcome<SseStream> {
        SseStream::open(self.address, request)
    }

    /// A connection of its own.
    pub(crate) fn connect(&self) -> Outcome<Connection> {
        Connection::open(self.address)
    }

    /// The resident memory of the hub's process; `None` where the process is not known.
    pub(crate) fn memory_bytes(&self) -> Outcome<Option<usize>> {
        let Some(pid) = self.pid else {
            return Ok(None);
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: Option<usize> =
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
        let kib = kib.ok_or_else(|| Failure::new(format!("no VmRSS of process {pid}")))?;
        Ok(Some(kib * 1024))
    }

    /// Fails if the hub's memory grew by `most` bytes or more since `before` was read.
    pub(crate) fn memory_grew_less(&self, before: Option<usize>, most: usize) -> Outcome<()> {
        let Some((before, now)) = before.zip(self.memory_bytes()?) else {
            return Ok(());
        };
        let grown = now.saturating_sub(before);
        if grown < most {
            return Ok(());
        }
        let wanted = format!("less than {} KiB more", most >> 10);
        Failure::mismatch("memory", wanted, format!("{} KiB more", grown >> 10))
    }

    /// Streams that are open by the hub's own count; `None` where its admin listener is not known.
    pub(crate) fn open_subscribers(&self) -> Outcome<Option<u64>> {
        let Some(admin) = self.admin else {
            return Ok(None);
        };
        let page = exchange(admin, &Request::get("/metrics"))?.text();
        let open = page
            .lines()
            .filter(|line| line.starts_with("gush_subscribers_open{"));
        let counts = open.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(Some(counts.sum()))
    }

    /// Waits until at most `most` streams are open. A hub counts a stream at the end of the turn
    /// that took it in, which can be after its first event: count before opening those that stay.
    pub(crate) fn until_subscribers(&self, most: Option<u64>) -> Outcome<()> {
        eventually("streams that have left are gone", PATIENCE, || {
            let open = self.open_subscribers()?;
            Ok((open <= most).then_some(()))
        })
    }
}
