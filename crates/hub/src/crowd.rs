//! How many streams there are, and what each is told for the day when it loses its own.
//!
//! The rule is `gush_middleware::Comeback`: a delay drawn from a window in which all of them can be
//! taken in again. It is told when a stream begins, and anew when the crowd has become another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gush_middleware::Comeback;
use gush_sse::encode_retry;

use crate::config::Settings;
use crate::frame::Frame;

/// The open streams of all shards.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    streams: AtomicUsize,
}

/// A delay that was drawn for one stream.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// The `retry:` line; empty where none is sent.
    pub(crate) line: Vec<u8>,
    /// How large the crowd was.
    pub(crate) level: u8,
}

/// Where in a drain a stream stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Streams of the hub when the drain began.
    pub(crate) crowd: usize,
    /// How long the drain takes.
    pub(crate) window: Duration,
    /// From 0 for the first that is closed to 1 for the last.
    pub(crate) share: f64,
}

impl Crowd {
    pub(crate) fn join(&self) {
        self.streams.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// How large the crowd is now, in steps.
    pub(crate) fn level(&self, settings: &Settings) -> u8 {
        rule(settings).level(self.streams())
    }

    /// Draws a delay for one of all who are there.
    pub(crate) fn tell(&self, settings: &Settings) -> Told {
        let (rule, streams) = (rule(settings), self.streams());
        Told {
            line: line(&rule, rule.delay(streams, fastrand::f64())),
            level: rule.level(streams),
        }
    }
}

/// The delay of one that a drain closes. Those are spread by being closed one after the other; what
/// the drain's window is too short for is put on top, in the same order.
pub(crate) fn tell_drained(settings: &Settings, place: Place) -> Told {
    let rule = rule(settings);
    let own = rule.delay(0, fastrand::f64());
    let lacking = rule.window(place.crowd).saturating_sub(place.window);
    let later = lacking.mul_f64(place.share.clamp(0.0, 1.0));
    Told {
        line: line(&rule, own + later),
        level: 0,
    }
}

impl Told {
    pub(crate) fn frame(&self) -> Option<Frame> {
        (!self.line.is_empty()).then(|| Frame::of_text(&self.line))
    }
}

fn rule(settings: &Settings) -> Comeback {
    Comeback {
        retry: settings.retry,
        per_second: f64::from(settings.overload.comeback_rate),
        window_max: settings.overload.retry_max,
    }
}

fn line(rule: &Comeback, delay: Duration) -> Vec<u8> {
    let mut line = Vec::new();
    if !rule.retry.is_zero() {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        encode_retry(delay_ms.max(1), &mut line);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_ms(told: &Told) -> u64 {
        let text = std::str::from_utf8(&told.line).expect("ASCII");
        let digits = text
            .strip_prefix("retry: ")
            .and_then(|rest| rest.strip_suffix('\n'));
        digits.expect("a retry line").parse().expect("digits")
    }

    #[test]
    fn the_window_is_as_wide_as_the_crowd_needs() {
        let (settings, crowd) = (Settings::default(), Crowd::default());
        let few = (0..1000).map(|_| told_ms(&crowd.tell(&settings)));
        assert!(few.into_iter().all(|ms| (1000..=3000).contains(&ms)));
        for _ in 0..50_000 {
            crowd.join();
        }
        let many: Vec<u64> = (0..1000).map(|_| told_ms(&crowd.tell(&settings))).collect();
        assert!(many.iter().all(|ms| (1000..=6000).contains(ms)));
        let late = many.iter().filter(|ms| **ms > 3500).count();
        assert!((350..=650).contains(&late), "evenly: {late}");
        assert!(crowd.level(&settings) > 0);
        for _ in 0..50_000 {
            crowd.leave();
        }
        assert_eq!(crowd.level(&settings), 0);
    }

    #[test]
    fn a_drain_that_is_too_quick_is_stretched_in_its_own_order() {
        let mut settings = Settings::default();
        settings.overload.comeback_rate = 1000;
        let at = |crowd, share| {
            let window = Duration::from_secs(20);
            told_ms(&tell_drained(
                &settings,
                Place {
                    crowd,
                    window,
                    share,
                },
            ))
        };
        assert!((1000..=3000).contains(&at(50_000, 0.0)));
        assert!((16_000..=18_000).contains(&at(50_000, 0.5)));
        assert!((31_000..=33_000).contains(&at(50_000, 1.0)));
        assert!((1000..=3000).contains(&at(10_000, 1.0)), "long enough");
    }

    #[test]
    fn nothing_is_told_where_that_is_off() {
        let settings = Settings {
            retry: Duration::ZERO,
            ..Settings::default()
        };
        let told = Crowd::default().tell(&settings);
        assert!(told.line.is_empty() && told.frame().is_none());
    }
}
