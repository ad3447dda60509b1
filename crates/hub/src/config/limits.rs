//! How much of the hub one address, one token's subject and one topic may have.

use std::time::Duration;

use gush_middleware::{Rate, WindowLimit};

/// What of [`super::Settings`] limits clients; `None` and zero are no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitSettings {
    /// Most connections of an address at a time.
    pub connections_per_address: Option<u64>,
    /// Most streams of a token's subject at a time.
    pub connections_per_subject: Option<u64>,
    /// Streams that begin, of all clients.
    pub accept: RateSettings,
    /// Of one address.
    pub accept_per_address: RateSettings,
    /// Of one token's subject.
    pub accept_per_subject: RateSettings,
    /// Networks that no limit per address holds for.
    pub exempt_networks: Vec<String>,
    /// Events of one publisher in a window.
    pub publish_per_publisher: u32,
    /// Events of one topic in a window.
    pub publish_per_topic: u32,
    /// How long that window is.
    pub publish_window: Duration,
    /// Most topics and selectors of a stream.
    pub topics_per_stream: usize,
    /// Most events that wait for the log.
    pub in_flight_events: usize,
    /// Most bytes of them.
    pub in_flight_bytes: usize,
    /// Most events of one publisher that wait for the log.
    pub in_flight_events_per_publisher: Option<u64>,
    /// Most bytes of them.
    pub in_flight_bytes_per_publisher: Option<u64>,
}

/// A rate and its burst as they are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RateSettings {
    /// Zero = no limit.
    pub per_second: u32,
    /// Zero = three times the rate.
    pub burst: u32,
}

/// What a burst is of the rate where it is not set: between two and five times a mean second, as
/// a reconnect after a short break takes.
const BURST_SECONDS: u32 = 3;

impl RateSettings {
    /// The rate, if there is one.
    #[must_use]
    pub fn rate(self) -> Option<Rate> {
        let burst = match self.burst {
            0 => self.per_second.saturating_mul(BURST_SECONDS),
            burst => burst,
        };
        (self.per_second > 0).then(|| Rate::new(f64::from(self.per_second), burst))
    }
}

impl LimitSettings {
    /// Whether anything has to be asked about a publish beyond its token.
    #[must_use]
    pub const fn limits_publishers(&self) -> bool {
        self.publish_per_publisher > 0
            || self.publish_per_topic > 0
            || self.in_flight_events_per_publisher.is_some()
            || self.in_flight_bytes_per_publisher.is_some()
    }

    /// The window of so many events, if there is a limit.
    #[must_use]
    pub fn window(&self, events: u32) -> Option<WindowLimit> {
        (events > 0).then(|| WindowLimit::new(events, self.publish_window))
    }
}
