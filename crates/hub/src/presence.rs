//! Who is subscribed to what: the active subscriptions, and the events that tell of changes.
//!
//! Off unless `subscriptions` is set; then each subscriber has one entry here from before its
//! answer's head is sent until its stream has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gush_log::{Draft, Log};
use tokio::sync::Notify;

use crate::dialect;

/// A subscriber as the active-subscriptions API shows it.
#[derive(Debug)]
pub struct Present {
    number: u64,
    /// `urn:uuid:` and a random UUID, fresh per connection.
    pub subscriber: String,
    /// Its matchers, one subscription each.
    pub matchers: Vec<String>,
    /// The `mercure.payload` of its token.
    pub payload: Option<serde_json::Value>,
}

/// The active subscriptions of this hub.
///
/// Bounded by the number of connections: an entry each here, and at most once each in the list of
/// those that left.
pub struct Presence {
    numbers: AtomicU64,
    present: Mutex<BTreeMap<u64, Arc<Present>>>,
    left: Mutex<Vec<Arc<Present>>>,
    changed: Notify,
    log: Arc<dyn Log>,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Presence").finish_non_exhaustive()
    }
}

impl Presence {
    /// An empty registry whose events go to `log`.
    #[must_use]
    pub fn new(log: Arc<dyn Log>) -> Self {
        Self {
            numbers: AtomicU64::new(0),
            present: Mutex::default(),
            left: Mutex::default(),
            changed: Notify::new(),
            log,
        }
    }

    /// Enters a subscriber and publishes that its subscriptions are active.
    pub fn enter(&self, matchers: Vec<String>, payload: Option<serde_json::Value>) -> Arc<Present> {
        let present = Arc::new(Present {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            subscriber: format!("urn:uuid:{}", uuid::Uuid::new_v4()),
            matchers,
            payload,
        });
        self.present
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(present.number, Arc::clone(&present));
        self.publish(&present, true);
        present
    }

    /// Takes a subscriber out. Called by shards, so it only notes the leaving; the events are
    /// published by [`Self::publish_leavings`].
    pub fn leave(&self, present: &Arc<Present>) {
        self.left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(present));
        self.changed.notify_one();
    }

    /// Publishes what shards noted, for as long as the hub runs.
    pub async fn publish_leavings(&self) {
        loop {
            self.changed.notified().await;
            self.publish_left();
        }
    }

    /// Publishes what was noted so far.
    pub fn publish_left(&self) {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        for present in left {
            self.present
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&present.number);
            self.publish(&present, false);
        }
    }

    /// The active subscriptions, oldest subscriber first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Present>> {
        self.publish_left();
        self.present
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    fn publish(&self, present: &Present, is_active: bool) {
        for matcher in &present.matchers {
            let topic = dialect::subscription_topic(matcher, &present.subscriber);
            let document = dialect::subscription_event(present, matcher, &topic, is_active);
            let draft = Draft {
                topics: [topic.into_boxed_str()].into(),
                is_private: true,
                id: None,
                kind: None,
                retry_ms: None,
                data: document.into_boxed_str(),
            };
            self.log.append(
                draft,
                Box::new(|outcome| {
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "a subscription event was not published");
                    }
                }),
            );
        }
    }
}
