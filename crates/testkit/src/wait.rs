//! Waiting for conditions, with an end.

use crate::{Failure, Outcome};
use std::time::{Duration, Instant};

/// A point in time after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline `wait` from now.
    pub fn after(wait: Duration) -> Self {
        Self(Instant::now() + wait)
    }

    /// What is left; `None` once it has passed.
    pub fn left(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }
}

/// Asks `probe` every 10 ms until it answers `Some`, for at most `wait`; the failure names `what`.
///
/// For conditions outside this process that nobody announces (a metric, a health answer). Where an
/// event can be waited for, wait for the event.
pub fn eventually<T>(
    what: &str,
    wait: Duration,
    mut probe: impl FnMut() -> Outcome<Option<T>>,
) -> Outcome<T> {
    let deadline = Deadline::after(wait);
    loop {
        let last = match probe() {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => "not yet".to_owned(),
            Err(failure) => failure.to_string(),
        };
        if deadline.left().is_none() {
            return Err(Failure::new(format!(
                "{what}: not within {} ms; last look: {last}",
                wait.as_millis()
            )));
        }
        poll_pause();
    }
}

/// The pause between two looks at something that cannot announce itself.
#[expect(
    clippy::disallowed_methods,
    reason = "polling: the loop around it has the deadline"
)]
pub(crate) fn poll_pause() {
    std::thread::sleep(Duration::from_millis(10));
}
