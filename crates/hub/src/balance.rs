//! Closing streams at a steady rate on an operator's word: their clients come back by the load
//! balancer, to nodes that have fewer. The hub goes on, and takes new streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Buf;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::admit::Rejection;
use crate::hub::Hub;
use crate::shard::Command;

/// Bytes of an order.
const ORDER_BYTES_MAX: usize = 4096;

/// How often streams are closed.
const STEP: Duration = Duration::from_millis(100);

/// The most streams a second: what a hub of any size has closed at once.
const RATE_MAX: u64 = 1_000_000;

/// The order that is being carried out, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Balance(Mutex<Option<Running>>);

#[derive(Debug)]
struct Running {
    task: AbortHandle,
    total: u64,
    closed: Arc<AtomicU64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    rate: Option<u64>,
    count: Option<u64>,
    share: Option<f64>,
    #[serde(default)]
    cancel: bool,
}

/// Obeys an order; what is done now. A new order takes the place of the last one.
pub(crate) async fn order(hub: &Arc<Hub>, body: Incoming) -> Result<Value, Rejection> {
    let wrong = |error: &dyn std::fmt::Display| Rejection::bad_request(format!("drain: {error}"));
    let body = Limited::new(body, ORDER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| wrong(&error))?.aggregate();
    let asked: Asked = serde_json::from_reader(body.reader()).map_err(|error| wrong(&error))?;
    if asked.cancel {
        if asked.rate.is_some() || asked.count.is_some() || asked.share.is_some() {
            return Err(wrong(&"cancel stands alone"));
        }
        return Ok(cancel(hub));
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
    start(hub, rate, total);
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

fn cancel(hub: &Hub) -> Value {
    let running = lock(&hub.balance).take();
    let Some(running) = running else {
        return json!({ "cancelled": false });
    };
    let was_running = !running.task.is_finished();
    running.task.abort();
    let closed = running.closed.load(Ordering::Relaxed);
    json!({ "cancelled": was_running, "closed": closed, "closing": running.total })
}

fn start(hub: &Arc<Hub>, rate: u64, total: u64) {
    let closed = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&closed);
    let of = Arc::clone(hub);
    let task = tokio::spawn(async move {
        let began = Instant::now();
        let mut step = interval(STEP);
        step.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut done = 0;
        while done < total && !of.is_draining() {
            step.tick().await;
            let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            // The first go with the first step.
            let step_ms = 100;
            let due = elapsed_ms.saturating_add(step_ms).saturating_mul(rate) / 1000;
            let due = due.min(total);
            close(&of, due.saturating_sub(done));
            done = done.max(due);
            counted.store(done, Ordering::Relaxed);
        }
        tracing::info!(streams = done, "streams closed for balance");
    });
    tracing::info!(streams = total, rate, "closing streams for balance");
    let running = Running {
        task: task.abort_handle(),
        total,
        closed,
    };
    if let Some(before) = lock(&hub.balance).replace(running) {
        before.task.abort();
    }
}

/// Closes streams of each shard, in proportion to what it has.
fn close(hub: &Hub, count: u64) {
    let open: Vec<u64> = hub.metrics.streams_open_by_shard().collect();
    let all: u64 = open.iter().sum();
    let (mut left, mut open_left) = (count.min(all), all);
    for (shard, open) in hub.shards.iter().zip(open) {
        if left == 0 || open_left == 0 {
            return;
        }
        // Rounded up, so that the last shard gets what is left.
        let share = (left * open).div_ceil(open_left).min(left);
        left -= share;
        open_left -= open;
        let share = usize::try_from(share).unwrap_or(usize::MAX);
        // A shard that has ended has no streams.
        let _ = shard.inbox.send(Command::Rebalance(share));
    }
}

fn lock(balance: &Balance) -> std::sync::MutexGuard<'_, Option<Running>> {
    balance.0.lock().unwrap_or_else(PoisonError::into_inner)
}
