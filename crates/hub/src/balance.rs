//! Closing streams at a steady rate on an operator's word: their clients come back by the load
//! balancer, to nodes that have fewer. The hub goes on, and takes new streams unless it is told not
//! to.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Buf;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::admit::{self, Rejection};
use crate::crowd::Place;
use crate::hub::Hub;
use crate::publish;
use crate::shard::Command;

/// Bytes of an order.
const ORDER_BYTES_MAX: usize = 4096;

/// How often streams are closed.
const STEP: Duration = Duration::from_millis(100);

/// The most streams a second: what a hub of any size has closed at once.
const RATE_MAX: u64 = 1_000_000;

/// The last order, and whether new streams are refused because of it.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    last: Mutex<Option<Arc<Closing>>>,
    refuses: AtomicBool,
}

/// An order that is carried out, or was.
#[derive(Debug)]
pub(crate) struct Closing {
    rate: u64,
    /// Streams that were open when it began, and how many of them are to end.
    open: u64,
    total: u64,
    /// The tick in which it began: streams that began later are left alone.
    pub(crate) since: u32,
    closed: AtomicU64,
    /// Streams that a shard was to end and did not have.
    missing: AtomicU64,
    /// Shards, by number, that have none left that are old enough.
    empty: Box<[AtomicBool]>,
    cancelled: AtomicBool,
    over: AtomicBool,
}

/// Streams of one shard that are to end now.
#[derive(Debug)]
pub struct Due {
    pub(crate) closing: Arc<Closing>,
    pub(crate) count: u64,
    shard: usize,
}

impl Due {
    /// One of them is about to end; where it stands among those of the order.
    #[expect(clippy::cast_precision_loss, reason = "numbers of streams")]
    pub(crate) fn close_one(&mut self) -> Place {
        self.count -= 1;
        let closing = &self.closing;
        let nth = closing.closed.fetch_add(1, Ordering::Relaxed);
        Place {
            crowd: usize::try_from(closing.total).unwrap_or(usize::MAX),
            window: Duration::from_secs_f64(closing.total as f64 / closing.rate as f64),
            share: nth as f64 / closing.total.max(1) as f64,
        }
    }

    /// The shard has none of them left.
    pub(crate) fn could_not(&mut self) {
        let closing = &self.closing;
        closing.missing.fetch_add(self.count, Ordering::Relaxed);
        self.count = 0;
        closing.empty[self.shard].store(true, Ordering::Relaxed);
    }
}

impl Closing {
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.empty.iter().all(|one| one.load(Ordering::Relaxed))
    }

    /// Streams that are still to end; 0 once it is over.
    fn left(&self) -> u64 {
        if self.is_over() {
            return 0;
        }
        self.total.saturating_sub(self.closed())
    }

    /// Nothing of it goes on.
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.is_cancelled()
    }
}

impl Balance {
    /// Whether an operator wants no new streams here.
    pub(crate) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Relaxed)
    }

    /// Streams that are still to end.
    pub(crate) fn left(&self) -> u64 {
        self.lock().as_ref().map_or(0, |closing| closing.left())
    }

    /// What became of the last order, for `GET`.
    pub(crate) fn status(&self) -> Value {
        let refusing = self.refuses();
        let last = self.lock().clone();
        let Some(closing) = last else {
            return json!({ "state": "idle", "refusing": refusing });
        };
        let state = if closing.is_cancelled() {
            "cancelled"
        } else if closing.is_over() {
            "done"
        } else {
            "closing"
        };
        json!({
            "state": state,
            "rate": closing.rate,
            "open": closing.open,
            "closing": closing.total,
            "closed": closing.closed(),
            "left": closing.left(),
            "refusing": refusing,
        })
    }

    /// Stops, and takes new streams again; what was stopped.
    pub(crate) fn cancel(&self) -> Value {
        let refused = self.refuses.swap(false, Ordering::Relaxed);
        let last = self.lock().clone();
        let under_way = last.filter(|closing| !closing.is_over());
        if refused {
            tracing::info!("new streams are taken again");
        }
        let Some(closing) = under_way else {
            return if refused {
                json!({ "cancelled": false, "refused": true })
            } else {
                json!({ "cancelled": false })
            };
        };
        closing.cancelled.store(true, Ordering::Relaxed);
        let closed = closing.closed();
        tracing::info!(
            streams = closed,
            "closing streams for balance was cancelled"
        );
        json!({ "cancelled": true, "closed": closed, "closing": closing.total })
    }

    /// A new order takes the place of the last one.
    fn replace(&self, closing: &Arc<Closing>, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
        if let Some(before) = self.lock().replace(Arc::clone(closing)) {
            before.cancelled.store(true, Ordering::Relaxed);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Closing>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    rate: Option<u64>,
    count: Option<u64>,
    share: Option<f64>,
    #[serde(default)]
    refuse: bool,
    #[serde(default)]
    cancel: bool,
}

/// Obeys an order; what is done now. A new order takes the place of the last one.
pub(crate) async fn order(hub: &Arc<Hub>, body: Incoming) -> Result<Value, Rejection> {
    let wrong = |error: &dyn std::fmt::Display| Rejection::bad_request(format!("drain: {error}"));
    let policy = hub.policy.load_full();
    let body = Limited::new(body, ORDER_BYTES_MAX).collect();
    let body = publish::in_time(&policy.settings, body).await?;
    let body = body.map_err(|error| wrong(&error))?.aggregate();
    let asked: Asked = serde_json::from_reader(body.reader()).map_err(|error| wrong(&error))?;
    if asked.cancel {
        if asked.rate.is_some() || asked.count.is_some() || asked.share.is_some() || asked.refuse {
            return Err(wrong(&"cancel stands alone"));
        }
        return Ok(hub.balance.cancel());
    }
    let Some(rate) = asked.rate.filter(|rate| (1..=RATE_MAX).contains(rate)) else {
        return Err(wrong(&format!(
            "rate has to be from 1 to {RATE_MAX} streams a second"
        )));
    };
    let open = hub.metrics.streams_open();
    let total = match (asked.count, asked.share) {
        (Some(_), Some(_)) => return Err(wrong(&"either count or share")),
        (Some(count), None) => count.min(open),
        (None, Some(share)) if share > 0.0 && share <= 100.0 => part_of(open, share),
        (None, Some(_)) => return Err(wrong(&"share has to be over 0 and at most 100 percent")),
        (None, None) => open,
    };
    if hub.is_draining() {
        return Err(admit::while_draining());
    }
    let closing = Arc::new(Closing {
        rate,
        open,
        total,
        since: hub.clock.tick(),
        closed: AtomicU64::new(0),
        missing: AtomicU64::new(0),
        empty: hub.shards.iter().map(|_| AtomicBool::new(false)).collect(),
        cancelled: AtomicBool::new(false),
        over: AtomicBool::new(false),
    });
    hub.balance.replace(&closing, asked.refuse);
    tracing::info!(
        streams = total,
        rate,
        refuse = asked.refuse,
        "closing streams for balance"
    );
    tokio::spawn(carry_out(Arc::clone(hub), closing));
    Ok(json!({ "open": open, "closing": total, "rate": rate }))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of streams are far below 2^53, and the share is checked"
)]
fn part_of(open: u64, share: f64) -> u64 {
    (open as f64 * share / 100.0).ceil() as u64
}

/// Has the shards close what is due, at one pace for all of them, until everything is closed or
/// nothing is left that was open when the order came.
async fn carry_out(hub: Arc<Hub>, closing: Arc<Closing>) {
    let began = Instant::now();
    let mut step = interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = 0;
    while closing.closed() < closing.total && !closing.is_empty() && !hub.is_draining() {
        step.tick().await;
        if closing.is_cancelled() {
            return;
        }
        // The first go with the first step.
        let elapsed = began.elapsed() + STEP;
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let due = elapsed_ms.saturating_mul(closing.rate) / 1000;
        let due = due.min(closing.total) + closing.missing.load(Ordering::Relaxed);
        asked += hand_out(&hub, &closing, due.saturating_sub(asked));
    }
    closing.over.store(true, Ordering::Relaxed);
    let streams = closing.closed();
    tracing::info!(streams, "streams closed for balance");
}

/// Asks each shard for its part, in proportion to what it has; how many were asked for.
fn hand_out(hub: &Hub, closing: &Arc<Closing>, count: u64) -> u64 {
    let open = hub.metrics.streams_open_by_shard();
    let open: Vec<u64> = open
        .zip(&closing.empty)
        .map(|(open, empty)| {
            if empty.load(Ordering::Relaxed) {
                0
            } else {
                open
            }
        })
        .collect();
    let mut open_left: u64 = open.iter().sum();
    if open_left == 0 {
        // Nobody is left of those that are asked, and they find that out.
        for empty in &closing.empty {
            empty.store(true, Ordering::Relaxed);
        }
        return 0;
    }
    let mut left = count;
    for (shard, open) in open.into_iter().enumerate() {
        if open == 0 || left == 0 {
            continue;
        }
        // Rounded up, so that the last shard gets what is left.
        let share = (left * open).div_ceil(open_left).min(left);
        left -= share;
        open_left -= open;
        let due = Due {
            closing: Arc::clone(closing),
            count: share,
            shard,
        };
        if let Err(Command::Rebalance(mut due)) =
            hub.shards[shard].inbox.send(Command::Rebalance(due))
        {
            // A shard that has ended has no streams.
            due.could_not();
        }
    }
    count - left
}
