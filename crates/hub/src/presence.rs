//! Who is subscribed to what: the active subscriptions, and the events that tell of changes.
//!
//! Off unless `subscriptions` is set; then each subscriber has one entry here from before its
//! answer's head is sent until its stream has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gush_log::{Conflation, Draft, Log};
use gush_sse::Topic;
use tokio::sync::Notify;
use tokio::sync::oneshot::{self, Receiver};

use crate::dialect;

/// Most events of leaving that are on their way into the log at a time.
const UNDER_WAY_MAX: usize = 256;

/// A subscriber as the active-subscriptions API shows it.
#[derive(Debug)]
pub struct Present {
    of: Arc<Presence>,
    number: u64,
    /// `urn:uuid:` and a random UUID, fresh per connection.
    pub subscriber: String,
    /// Its matchers, one subscription each.
    pub matchers: Vec<String>,
    /// The `mercure.payload` of its token.
    pub payload: Option<serde_json::Value>,
}

/// A subscriber's entry, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Attendance(Arc<Present>);

impl Attendance {
    /// What the active subscriptions show.
    #[must_use]
    pub fn present(&self) -> &Present {
        &self.0
    }

    /// The subscriber goes on in another process: it leaves, and nothing is published.
    pub fn hand_over(self) {
        lock(&self.0.of.present).remove(&self.0.number);
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.of.leave(&self.0);
    }
}

/// The active subscriptions of this hub.
///
/// Bounded by the number of connections: an entry each here, and at most once each in the list of
/// those that left.
pub struct Presence {
    numbers: AtomicU64,
    present: Mutex<BTreeMap<u64, Arc<Present>>>,
    left: Mutex<VecDeque<Arc<Present>>>,
    is_failing: Arc<AtomicBool>,
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
            is_failing: Arc::default(),
            changed: Notify::new(),
            log,
        }
    }

    /// Enters a subscriber and publishes that its subscriptions are active.
    #[must_use = "it leaves when this is dropped"]
    pub fn enter(
        self: &Arc<Self>,
        matchers: Vec<String>,
        payload: Option<serde_json::Value>,
    ) -> Attendance {
        let subscriber = format!("urn:uuid:{}", uuid::Uuid::new_v4());
        let attendance = self.resume(subscriber, matchers, payload);
        for matcher in &attendance.present().matchers {
            // In the log's order already; nobody waits for it here.
            drop(self.publish(&attendance.0, matcher, true));
        }
        attendance
    }

    /// Enters a subscriber that another process has told of: nothing is published.
    #[must_use = "it leaves when this is dropped"]
    pub fn resume(
        self: &Arc<Self>,
        subscriber: String,
        matchers: Vec<String>,
        payload: Option<serde_json::Value>,
    ) -> Attendance {
        let present = Arc::new(Present {
            of: Arc::clone(self),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            subscriber,
            matchers,
            payload,
        });
        lock(&self.present).insert(present.number, Arc::clone(&present));
        Attendance(present)
    }

    /// Takes a subscriber out. Shards get here, so the events are published elsewhere, by
    /// [`Self::publish_leavings`].
    fn leave(&self, present: &Arc<Present>) {
        if lock(&self.present).remove(&present.number).is_none() {
            // It goes on in another process.
            return;
        }
        lock(&self.left).push_back(Arc::clone(present));
        self.changed.notify_one();
    }

    /// Publishes who left, for as long as the hub runs.
    pub async fn publish_leavings(&self) {
        loop {
            self.changed.notified().await;
            self.publish_left().await;
        }
    }

    /// Publishes who left so far: a bounded number of events at a time, however many left at once,
    /// so that publishers keep their place in the log.
    pub async fn publish_left(&self) {
        let mut under_way = Vec::with_capacity(UNDER_WAY_MAX);
        loop {
            let Some(present) = lock(&self.left).pop_front() else {
                break;
            };
            for matcher in &present.matchers {
                under_way.push(self.publish(&present, matcher, false));
                if under_way.len() == UNDER_WAY_MAX {
                    settle(&mut under_way).await;
                }
            }
        }
        settle(&mut under_way).await;
    }

    /// The active subscriptions, oldest subscriber first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Present>> {
        lock(&self.present).values().cloned().collect()
    }

    fn publish(&self, present: &Present, matcher: &str, is_active: bool) -> Receiver<()> {
        let topic = dialect::subscription_topic(matcher, &present.subscriber);
        let document = dialect::subscription_event(present, matcher, &topic, is_active);
        let draft = Draft {
            topics: [Topic::parse(&topic).expect("percent-encoded, of some KiB")].into(),
            is_private: true,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: Conflation::default(),
            data: document.into_boxed_str(),
        };
        let (done, settled) = oneshot::channel();
        let is_failing = Arc::clone(&self.is_failing);
        self.log.append(
            draft,
            Box::new(move |outcome| {
                if let Err(error) = outcome {
                    // One line for a whole row of failures.
                    if !is_failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "subscription events are not published");
                    }
                } else {
                    is_failing.store(false, Ordering::Relaxed);
                }
                let _ = done.send(());
            }),
        );
        settled
    }
}

/// Waits until these events are in the log, or refused.
async fn settle(under_way: &mut Vec<Receiver<()>>) {
    for settled in under_way.drain(..) {
        let _ = settled.await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
