//! Numbered events while the storm goes on. One whose publish was not answered may be in the log
//! or not: it counts as lost only if some got it and others did not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::now_ns;
use crate::engine::publisher::Publisher;
use crate::stamp::Stamp;
use crate::target::Target;

/// Bytes of an event's data.
const SIZE: usize = 100;

/// What was published.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// Numbers given so far.
    pub(super) events: u32,
    /// Those without an answer.
    pub(super) unsure: BTreeSet<u32>,
    /// When the others were answered.
    pub(super) answered_ns: Vec<u64>,
}

/// Longest wait for an answer: in a storm it may take its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Publishes until told to stop.
pub(super) fn publish(
    target: &Target,
    address: SocketAddr,
    topic: &str,
    (rate, stop): (f64, &AtomicBool),
) -> Published {
    let mut published = Published::default();
    let mut connection = Publisher::new(address, ANSWER_TIMEOUT);
    while !stop.load(Ordering::Acquire) {
        let stamp = Stamp {
            group: 0,
            sequence: published.events,
            sent_ns: now_ns(),
        };
        let (mut data, mut request) = (String::new(), Vec::new());
        stamp.push_data(SIZE, &mut data);
        target.push_publish_request(topic, &data, &mut request);
        match connection.request(&request) {
            Ok(200..=299) => {
                published.events += 1;
                published.answered_ns.push(now_ns());
            }
            // Refused: the number is free again.
            Ok(_) => {}
            Err(_) => {
                published.unsure.insert(published.events);
                published.events += 1;
            }
        }
        std::thread::park_timeout(Duration::from_secs_f64(1.0 / rate.clamp(0.001, 1e6)));
    }
    published
}
