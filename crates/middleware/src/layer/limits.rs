//! Connections, rates and windows before a service.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::request::Parts;

use super::check::{Check, CheckLayer, Pass};
use crate::{
    Gate, Keyed, KeyedGate, KeyedPermit, Pacer, Permit, Refusal, SlidingWindow, TokenBucket,
    WindowLimit,
};

impl Pass for Permit {}
impl Pass for KeyedPermit {}

/// At most so many streams at once.
pub type GateLayer = CheckLayer<GateCheck>;

/// See [`GateLayer`].
#[derive(Clone, Debug)]
pub struct GateCheck {
    gate: Arc<Gate>,
    pacer: Arc<Mutex<Pacer>>,
}

impl GateLayer {
    /// Streams beyond the gate's limit are told delays by the pacer.
    #[must_use]
    pub fn new(gate: Arc<Gate>, pacer: Pacer) -> Self {
        Self::of(GateCheck {
            gate,
            pacer: Arc::new(Mutex::new(pacer)),
        })
    }
}

impl Check for GateCheck {
    type Pass = Permit;

    fn check(&self, _head: &mut Parts, now: Duration) -> Result<Permit, Refusal> {
        self.gate.admit().ok_or_else(|| {
            let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
            Refusal::overloaded("no stream to spare", pacer.delay(now))
        })
    }
}

/// Gives a request's key: its address, its subject. `None` is not limited.
pub type KeyOf = Arc<dyn Fn(&Parts) -> Option<u64> + Send + Sync>;

/// At most so many streams at once for each key.
pub type KeyedGateLayer = CheckLayer<KeyedGateCheck>;

/// See [`KeyedGateLayer`].
#[derive(Clone)]
pub struct KeyedGateCheck {
    gate: Arc<KeyedGate>,
    key_of: KeyOf,
    retry: Duration,
}

impl fmt::Debug for KeyedGateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedGateCheck").finish_non_exhaustive()
    }
}

impl KeyedGateLayer {
    /// Streams beyond a key's limit are told to come back after `retry`.
    #[must_use]
    pub fn new(gate: Arc<KeyedGate>, key_of: KeyOf, retry: Duration) -> Self {
        Self::of(KeyedGateCheck {
            gate,
            key_of,
            retry,
        })
    }
}

impl Pass for Option<KeyedPermit> {}

impl Check for KeyedGateCheck {
    type Pass = Option<KeyedPermit>;

    fn check(&self, head: &mut Parts, _now: Duration) -> Result<Self::Pass, Refusal> {
        let Some(key) = (self.key_of)(head) else {
            return Ok(None);
        };
        self.gate.admit(key).map(Some).ok_or_else(|| {
            Refusal::too_many("too many streams of this client", crate::Wait(self.retry))
        })
    }
}

/// A rate with a burst for all requests together.
pub type BucketLayer = CheckLayer<BucketCheck>;

/// See [`BucketLayer`].
#[derive(Clone, Debug)]
pub struct BucketCheck(Arc<TokenBucket>);

impl BucketLayer {
    /// The bucket's time must be this layer's alone: it counts from when the layer is made.
    #[must_use]
    pub fn new(bucket: Arc<TokenBucket>) -> Self {
        Self::of(BucketCheck(bucket))
    }
}

impl Check for BucketCheck {
    type Pass = ();

    fn check(&self, _head: &mut Parts, now: Duration) -> Result<(), Refusal> {
        self.0
            .take(now)
            .map_err(|wait| Refusal::too_many("too many requests at once", wait))
    }
}

/// A sliding window for each key.
pub type WindowLayer = CheckLayer<WindowCheck>;

/// See [`WindowLayer`].
#[derive(Clone)]
pub struct WindowCheck {
    windows: Arc<Keyed<SlidingWindow>>,
    limit: WindowLimit,
    key_of: KeyOf,
}

impl fmt::Debug for WindowCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowCheck")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl WindowLayer {
    /// At most `limit` requests of each key; about `keys_max` keys are told apart.
    #[must_use]
    pub fn new(limit: WindowLimit, keys_max: usize, key_of: KeyOf) -> Self {
        Self::of(WindowCheck {
            windows: Arc::new(Keyed::new(keys_max)),
            limit,
            key_of,
        })
    }
}

impl Check for WindowCheck {
    type Pass = ();

    fn check(&self, head: &mut Parts, now: Duration) -> Result<(), Refusal> {
        let Some(key) = (self.key_of)(head) else {
            return Ok(());
        };
        let is_idle = |seen: &SlidingWindow| seen.is_idle(now, self.limit.window);
        self.windows
            .with(key, is_idle, |seen| seen.admit(now, self.limit))
            .map_err(|wait| Refusal::too_many("too many requests of this client", wait))
    }
}
