//! When the next request of a thread is due, and when there is none any more.

use super::{DURATION_DEFAULT, Load};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Send a request of so many events; latency counts from `due_ns`.
    Send { due_ns: u64, events: u32 },
    /// Nothing before this time.
    Wait(u64),
    /// Nothing any more.
    Over,
}

/// One thread's share of a load.
#[derive(Debug)]
pub(super) struct Schedule {
    begin_ns: u64,
    /// Nanoseconds between two requests; `None`: as soon as a connection is free.
    every_ns: Option<f64>,
    requests: u64,
    /// Events that are left.
    left: u64,
    until_ns: u64,
    batch: u32,
}

impl Schedule {
    pub(super) fn new(load: &Load<'_>, (index, threads): (usize, usize), begin_ns: u64) -> Self {
        let threads = threads.max(1) as u64;
        let share = |all: u64| all / threads + u64::from((index as u64) < all % threads);
        let duration = match (load.events, load.duration) {
            (Some(_), _) => None,
            (None, duration) => Some(duration.unwrap_or(DURATION_DEFAULT)),
        };
        let nanos = duration.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        #[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
        let every_ns = load.rate.map(|rate| 1e9 * threads as f64 / rate);
        Self {
            begin_ns,
            every_ns,
            requests: 0,
            left: load.events.map_or(u64::MAX, share),
            until_ns: nanos.map_or(u64::MAX, |nanos| begin_ns.saturating_add(nanos)),
            batch: load.batch.max(1),
        }
    }

    /// What a free connection does at `now_ns`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a run are far below 2^53 ns, and not negative"
    )]
    pub(super) fn next(&mut self, now_ns: u64) -> Next {
        if self.left == 0 || now_ns >= self.until_ns {
            return Next::Over;
        }
        let due_ns = match self.every_ns {
            None => now_ns,
            Some(every) => self.begin_ns + (self.requests as f64 * every) as u64,
        };
        if due_ns >= self.until_ns {
            return Next::Over;
        }
        if due_ns > now_ns {
            return Next::Wait(due_ns);
        }
        let events = u32::try_from(self.left).unwrap_or(u32::MAX).min(self.batch);
        self.left -= u64::from(events);
        self.requests += 1;
        Next::Send { due_ns, events }
    }

    /// Ends it now.
    pub(super) fn end(&mut self) {
        self.left = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{BenchOptions, Target};

    fn schedule(options: &BenchOptions, index: usize, threads: usize) -> Schedule {
        let target = Target::from_options(options).unwrap();
        Schedule::new(&Load::of(options, &target, "t"), (index, threads), 1000)
    }

    #[test]
    fn events_are_shared_out_and_the_last_batch_is_smaller() {
        let options = BenchOptions {
            events: Some(25),
            batch: 10,
            ..BenchOptions::default()
        };
        let mut first = schedule(&options, 0, 2);
        let send = |events| Next::Send {
            due_ns: 1000,
            events,
        };
        let all = [first.next(1000), first.next(1000), first.next(1000)];
        assert_eq!(all, [send(10), send(3), Next::Over]);
        let mut second = schedule(&options, 1, 2);
        assert_eq!([second.next(1000), second.next(1000)], [send(10), send(2)]);
    }

    #[test]
    fn a_rate_sets_due_times_that_do_not_wait_for_the_server() {
        let duration = Some(Duration::from_nanos(2500));
        let options = BenchOptions {
            rate: Some(1e6),
            duration,
            ..BenchOptions::default()
        };
        let mut schedule = schedule(&options, 0, 1);
        let send = |due_ns| Next::Send { due_ns, events: 1 };
        assert_eq!(schedule.next(1000), send(1000));
        assert_eq!(schedule.next(1000), Next::Wait(2000));
        assert_eq!(schedule.next(3400), send(2000), "late, and still due then");
        assert_eq!(schedule.next(3400), send(3000));
        assert_eq!(
            schedule.next(3400),
            Next::Over,
            "the next would be after the end"
        );
    }
}
