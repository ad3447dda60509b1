//! How much one address, one token's subject, one topic and all together may have.
//!
//! The limits themselves stand in the settings and are asked anew for each decision, so a change
//! holds from the next one on and what is open stays open. The machines are those of
//! `gush-middleware`; each map of keys is bounded, and says what happens at its bound.

use std::net::IpAddr;
use std::sync::Arc;

use gush_log::Draft;
use gush_middleware::{
    AddressKey, Bucket, Keyed, KeyedGate, KeyedPermit, KeyedShare, Rate, SlidingWindow,
    TokenBucket, Wait, WindowLimit, key_of,
};
use http::HeaderMap;

use super::{Rejection, no_connection_of_address};
use crate::clock::Clock;
use crate::config::LimitSettings;
use crate::metrics::Number;
use crate::peer::{Client, Peer};
use crate::policy::Policy;
use crate::token::Claims;

/// Addresses and subjects whose rates are told apart at a time, and publishers. Beyond that,
/// newcomers share 64 places among them until others have been idle for a while: inventing
/// addresses buys nobody a fresh rate, and the memory ends at some MiB.
pub const RATE_KEYS_MAX: usize = 65_536;

/// The same for topics, of which a hub has more.
pub const TOPIC_KEYS_MAX: usize = 262_144;

/// How long those wait at least who have too much open: nobody knows when they close some.
pub(super) const OPEN_RETRY: Wait = Wait(std::time::Duration::from_secs(5));

/// The same for publishes that wait for the log; it takes milliseconds.
const IN_FLIGHT_RETRY: Wait = Wait(std::time::Duration::from_secs(1));

/// A limit that has refused something; its name is that of the option that sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the option of its name")]
pub enum Limit {
    MaxConnections,
    MaxConnectionsPerAddress,
    MaxConnectionsPerSubject,
    AcceptRate,
    AcceptRatePerAddress,
    AcceptRatePerSubject,
    PublishRatePerPublisher,
    PublishRatePerTopic,
    MaxTopicsPerStream,
    MaxInFlight,
    MaxInFlightPerPublisher,
    MaxBody,
    ProxyProtocol,
}

impl Limit {
    /// Each of them, in the order of the metrics page.
    pub const ALL: [Self; 13] = [
        Self::MaxConnections,
        Self::MaxConnectionsPerAddress,
        Self::MaxConnectionsPerSubject,
        Self::AcceptRate,
        Self::AcceptRatePerAddress,
        Self::AcceptRatePerSubject,
        Self::PublishRatePerPublisher,
        Self::PublishRatePerTopic,
        Self::MaxTopicsPerStream,
        Self::MaxInFlight,
        Self::MaxInFlightPerPublisher,
        Self::MaxBody,
        Self::ProxyProtocol,
    ];

    /// The label of the metric.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerAddress => "max_connections_per_address",
            Self::MaxConnectionsPerSubject => "max_connections_per_subject",
            Self::AcceptRate => "accept_rate",
            Self::AcceptRatePerAddress => "accept_rate_per_address",
            Self::AcceptRatePerSubject => "accept_rate_per_subject",
            Self::PublishRatePerPublisher => "publish_rate_per_publisher",
            Self::PublishRatePerTopic => "publish_rate_per_topic",
            Self::MaxTopicsPerStream => "max_topics_per_stream",
            Self::MaxInFlight => "max_in_flight",
            Self::MaxInFlightPerPublisher => "max_in_flight_per_publisher",
            Self::MaxBody => "max_body",
            Self::ProxyProtocol => "proxy_protocol",
        }
    }
}

/// What of a limit is in use, for the metrics page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// Addresses with something open.
    pub addresses: usize,
    /// Subjects with a stream.
    pub subjects: usize,
    /// Addresses and subjects whose rate is remembered.
    pub rates: usize,
    /// Publishers whose window is remembered.
    pub publishers: usize,
    /// Topics whose window is remembered.
    pub topics: usize,
}

/// The machines.
#[derive(Debug)]
pub struct Limits {
    clock: Clock,
    addresses: Arc<KeyedGate>,
    subjects: Arc<KeyedGate>,
    accepts: TokenBucket,
    accepts_by_address: Keyed<Bucket>,
    accepts_by_subject: Keyed<Bucket>,
    publishers: Keyed<SlidingWindow>,
    topics: Keyed<SlidingWindow>,
    in_flight_events: Arc<KeyedGate>,
    in_flight_bytes: Arc<KeyedGate>,
    refused: [Number; Limit::ALL.len()],
}

/// A stream's shares of its address's and of its subject's.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    pub(crate) address: Option<KeyedPermit>,
    pub(crate) subject: Option<KeyedPermit>,
}

/// An event's shares of what its publisher may have waiting for the log; given back on drop.
#[derive(Debug, Default)]
pub(crate) struct InFlight(#[expect(dead_code, reason = "held for its drop")] Option<Box<Waits>>);

#[derive(Debug)]
struct Waits {
    _events: Option<KeyedShare>,
    _bytes: Option<KeyedShare>,
}

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publisher<'r> {
    pub(crate) policy: &'r Policy,
    pub(crate) claims: &'r Claims,
    pub(crate) peer: Peer,
    pub(crate) headers: &'r HeaderMap,
}

impl Publisher<'_> {
    /// What it is known by: its token's subject, else its address.
    fn key(&self) -> u64 {
        if let Some(subject) = &self.claims.subject {
            return key_of(subject);
        }
        let address = self.peer.client_address(self.policy, self.headers);
        key_of(&AddressKey::of(address))
    }
}

impl Limits {
    /// Nobody has anything yet.
    pub(crate) fn new(settings: &LimitSettings, clock: Clock) -> Self {
        let limits = Self {
            clock,
            addresses: KeyedGate::new(None),
            subjects: KeyedGate::new(None),
            accepts: TokenBucket::new(Rate::new(1.0, 1)),
            accepts_by_address: Keyed::new(RATE_KEYS_MAX),
            accepts_by_subject: Keyed::new(RATE_KEYS_MAX),
            publishers: Keyed::new(RATE_KEYS_MAX),
            topics: Keyed::new(TOPIC_KEYS_MAX),
            in_flight_events: KeyedGate::new(None),
            in_flight_bytes: KeyedGate::new(None),
            refused: Default::default(),
        };
        limits.apply(settings);
        limits
    }

    /// Takes over what the machines hold themselves.
    pub(crate) fn apply(&self, settings: &LimitSettings) {
        let count =
            |value: Option<u64>| value.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        self.addresses
            .set_max(count(settings.connections_per_address));
        self.subjects
            .set_max(count(settings.connections_per_subject));
        self.in_flight_events
            .set_max(count(settings.in_flight_events_per_publisher));
        self.in_flight_bytes
            .set_max(count(settings.in_flight_bytes_per_publisher));
        if let Some(rate) = settings.accept.rate() {
            self.accepts.set(rate);
        }
    }

    /// Counts something that a limit refused.
    pub(crate) fn count(&self, limit: Limit) {
        self.refused[limit as usize].add(1);
    }

    /// What this limit refused.
    #[must_use]
    pub fn refused(&self, limit: Limit) -> u64 {
        self.refused[limit as usize].value()
    }

    /// How many keys are told apart now.
    #[must_use]
    pub fn keys(&self) -> KeyCounts {
        KeyCounts {
            addresses: self.addresses.keys(),
            subjects: self.subjects.keys(),
            rates: self.accepts_by_address.keys() + self.accepts_by_subject.keys(),
            publishers: self.publishers.keys(),
            topics: self.topics.keys(),
        }
    }

    /// A connection's share of its address's. None for a listed proxy, whose streams count for
    /// those who are behind it, and none where the address is exempt.
    ///
    /// # Errors
    ///
    /// 429: the address has too many.
    pub(crate) fn connection(
        &self,
        policy: &Policy,
        address: IpAddr,
    ) -> Result<Option<KeyedPermit>, Rejection> {
        if policy.trusted_proxies.includes(address) {
            return Ok(None);
        }
        self.of_address(policy, address)
    }

    fn of_address(
        &self,
        policy: &Policy,
        address: IpAddr,
    ) -> Result<Option<KeyedPermit>, Rejection> {
        if policy.exempt.includes(address) {
            return Ok(None);
        }
        let share = self.addresses.admit(AddressKey::of(address).as_u64());
        share.map(Some).ok_or_else(|| {
            self.count(Limit::MaxConnectionsPerAddress);
            no_connection_of_address()
        })
    }

    /// A share of a stream that another process served until now: it counts, and is not refused.
    pub(crate) fn taken_over(&self, policy: &Policy, address: IpAddr) -> Option<KeyedPermit> {
        let is_counted = !policy.exempt.includes(address);
        is_counted.then(|| self.addresses.count(AddressKey::of(address).as_u64()))
    }

    /// The same of a connection; none for a listed proxy, as for a new one.
    pub(crate) fn connection_taken_over(
        &self,
        policy: &Policy,
        address: IpAddr,
    ) -> Option<KeyedPermit> {
        let is_proxy = policy.trusted_proxies.includes(address);
        (!is_proxy)
            .then(|| self.taken_over(policy, address))
            .flatten()
    }

    /// The same for a token's subject.
    pub(crate) fn subject_taken_over(&self, client: &Client) -> Option<KeyedPermit> {
        let subject = client.subject.as_ref()?;
        Some(self.subjects.count(key_of(subject)))
    }

    /// May one more stream begin from this address? Asked before its token is looked at.
    ///
    /// # Errors
    ///
    /// 429 with the time until the address has a token.
    pub(crate) fn begin_from(&self, policy: &Policy, address: IpAddr) -> Result<(), Rejection> {
        let Some(rate) = policy.settings.limits.accept_per_address.rate() else {
            return Ok(());
        };
        if policy.exempt.includes(address) {
            return Ok(());
        }
        let key = AddressKey::of(address).as_u64();
        self.take(&self.accepts_by_address, key, rate)
            .map_err(|wait| {
                self.too_many(
                    Limit::AcceptRatePerAddress,
                    "too many streams begin from this address",
                    wait,
                )
            })
    }

    /// May a stream have so many topics and selectors?
    ///
    /// # Errors
    ///
    /// 400: another request of this form is refused as well.
    pub(crate) fn topics(&self, policy: &Policy, count: usize) -> Result<(), Rejection> {
        let most = policy.settings.limits.topics_per_stream;
        if count <= most {
            return Ok(());
        }
        self.count(Limit::MaxTopicsPerStream);
        Err(Rejection::bad_request(format!("more than {most} topics")))
    }

    /// The shares of a stream that is about to begin, after [`Self::begin_from`]. `is_counted`:
    /// its connection counts for the same address already.
    ///
    /// # Errors
    ///
    /// 429: its address or its subject has too many streams, or too many begin.
    pub(crate) fn begin(
        &self,
        policy: &Policy,
        client: &Client,
        is_counted: bool,
    ) -> Result<Shares, Rejection> {
        let address = if is_counted {
            None
        } else {
            self.of_address(policy, client.address)?
        };
        let subject_key = client.subject.as_ref().map(key_of);
        let subject = match subject_key {
            None => None,
            Some(key) => Some(self.subjects.admit(key).ok_or_else(|| {
                self.too_many(
                    Limit::MaxConnectionsPerSubject,
                    "too many streams with this token's subject; close one of them first",
                    OPEN_RETRY,
                )
            })?),
        };
        self.take_rates(policy, client, subject_key)?;
        Ok(Shares { address, subject })
    }

    /// A token of the subject's and one of the hub's. What one has given is given back where the
    /// other has none: who waits for the hub must not lose its own rate by asking.
    fn take_rates(
        &self,
        policy: &Policy,
        client: &Client,
        subject: Option<u64>,
    ) -> Result<(), Rejection> {
        let settings = &policy.settings.limits;
        let of_subject = subject.zip(settings.accept_per_subject.rate());
        if let Some((key, rate)) = of_subject {
            self.take(&self.accepts_by_subject, key, rate)
                .map_err(|wait| {
                    self.too_many(
                        Limit::AcceptRatePerSubject,
                        "too many streams begin with this token's subject",
                        wait,
                    )
                })?;
        }
        if settings.accept.rate().is_none() {
            return Ok(());
        }
        let Err(wait) = self.accepts.take(self.clock.now()) else {
            return Ok(());
        };
        if let Some((key, rate)) = of_subject {
            self.give_back(&self.accepts_by_subject, key, rate);
        }
        let of_address = settings.accept_per_address.rate();
        if let Some(rate) = of_address.filter(|_| !policy.exempt.includes(client.address)) {
            let key = AddressKey::of(client.address).as_u64();
            self.give_back(&self.accepts_by_address, key, rate);
        }
        Err(self.too_many(
            Limit::AcceptRate,
            "too many streams begin at the moment",
            wait,
        ))
    }

    fn take(&self, buckets: &Keyed<Bucket>, key: u64, rate: Rate) -> Result<(), Wait> {
        let now = self.clock.now();
        let is_idle = |bucket: &Bucket| bucket.is_full(now);
        buckets.with(key, is_idle, |bucket| bucket.take(now, rate))
    }

    fn give_back(&self, buckets: &Keyed<Bucket>, key: u64, rate: Rate) {
        let now = self.clock.now();
        let is_idle = |bucket: &Bucket| bucket.is_full(now);
        buckets.with(key, is_idle, |bucket| bucket.give_back(rate));
    }

    /// May this publisher publish this event now? What it is given is held until the log has
    /// decided. Costs nothing but a look at the settings while no limit is set.
    ///
    /// # Errors
    ///
    /// 429: the publisher, or one of the topics, has had too many in the window, or too much of
    /// the publisher's waits for the log. Nothing of the event counts then.
    pub(crate) fn publish(
        &self,
        publisher: &Publisher<'_>,
        draft: &Draft,
    ) -> Result<InFlight, Rejection> {
        let settings = &publisher.policy.settings.limits;
        if !settings.limits_publishers() {
            return Ok(InFlight::default());
        }
        let key = publisher.key();
        let in_flight = self.in_flight(settings, key, draft)?;
        let of_publisher = settings.window(settings.publish_per_publisher);
        if let Some(limit) = of_publisher {
            self.pass(&self.publishers, key, limit).map_err(|wait| {
                let text = "this publisher publishes too much at a time";
                self.too_many(Limit::PublishRatePerPublisher, text, wait)
            })?;
        }
        let Some(limit) = settings.window(settings.publish_per_topic) else {
            return Ok(in_flight);
        };
        for (index, topic) in draft.topics.iter().enumerate() {
            let Err(wait) = self.pass(&self.topics, key_of(topic.as_str()), limit) else {
                continue;
            };
            for passed in &draft.topics[..index] {
                self.take_back(&self.topics, key_of(passed.as_str()), limit);
            }
            if let Some(limit) = of_publisher {
                self.take_back(&self.publishers, key, limit);
            }
            let shown: String = topic.as_str().chars().take(200).collect();
            let text = format!("too much is published to the topic {shown:?} at a time");
            return Err(self.too_many(Limit::PublishRatePerTopic, text, wait));
        }
        Ok(in_flight)
    }

    fn in_flight(
        &self,
        settings: &LimitSettings,
        key: u64,
        draft: &Draft,
    ) -> Result<InFlight, Rejection> {
        let share = |gate: &Arc<KeyedGate>, max: Option<u64>, amount: u32| {
            let Some(_) = max else { return Ok(None) };
            gate.admit_many(key, amount).map(Some).ok_or_else(|| {
                let text = "too much of this publisher waits for the event log";
                self.too_many(Limit::MaxInFlightPerPublisher, text, IN_FLIGHT_RETRY)
            })
        };
        let events_max = settings.in_flight_events_per_publisher;
        let bytes_max = settings.in_flight_bytes_per_publisher;
        if events_max.or(bytes_max).is_none() {
            return Ok(InFlight::default());
        }
        Ok(InFlight(Some(Box::new(Waits {
            _events: share(&self.in_flight_events, events_max, 1)?,
            _bytes: share(&self.in_flight_bytes, bytes_max, bytes_of(draft))?,
        }))))
    }

    fn pass(
        &self,
        windows: &Keyed<SlidingWindow>,
        key: u64,
        limit: WindowLimit,
    ) -> Result<(), Wait> {
        let now = self.clock.now();
        let is_idle = |seen: &SlidingWindow| seen.is_idle(now, limit.window);
        windows.with(key, is_idle, |seen| seen.admit(now, limit))
    }

    fn take_back(&self, windows: &Keyed<SlidingWindow>, key: u64, limit: WindowLimit) {
        let now = self.clock.now();
        let is_idle = |seen: &SlidingWindow| seen.is_idle(now, limit.window);
        windows.with(key, is_idle, SlidingWindow::give_back);
    }

    fn too_many(&self, limit: Limit, text: impl Into<String>, wait: Wait) -> Rejection {
        self.count(limit);
        Rejection::too_many(text, wait)
    }
}

/// Bytes of an event that wait with it.
fn bytes_of(draft: &Draft) -> u32 {
    let topics: usize = draft.topics.iter().map(|topic| topic.as_str().len()).sum();
    u32::try_from(topics + draft.data.len()).unwrap_or(u32::MAX)
}
