//! What a run is doing right now, on stderr: a bar on a terminal, else a line every few seconds.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two drawings of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// Time between two lines, where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Characters between the brackets of the bar.
const BAR_WIDTH: u64 = 30;

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Redrawn in place.
    Bar,
    /// A line now and then.
    Lines,
    /// Nowhere.
    Silent,
}

/// Tells the person who waits how far the run is. Any thread may count; only one at a time draws.
#[derive(Debug)]
pub struct Progress {
    kind: Kind,
    done: AtomicU64,
    /// Nanoseconds after `started_at` before which nobody needs to draw.
    draw_at: AtomicU64,
    started_at: Instant,
    phase: Mutex<Phase>,
}

#[derive(Debug)]
struct Phase {
    name: String,
    total: u64,
    /// How long it takes, where time is what ends it.
    time: Option<Duration>,
    started_at: Instant,
    /// Characters the bar takes up on the screen.
    drawn: usize,
}

impl Progress {
    /// On stderr: a bar when that is a terminal, else lines.
    pub fn stderr() -> Self {
        let is_terminal = io::stderr().is_terminal();
        Self::new(if is_terminal { Kind::Bar } else { Kind::Lines })
    }

    /// Nowhere, for tests and programs.
    pub fn silent() -> Self {
        Self::new(Kind::Silent)
    }

    fn new(kind: Kind) -> Self {
        let started_at = Instant::now();
        let phase = Phase {
            name: String::new(),
            total: 0,
            time: None,
            started_at,
            drawn: 0,
        };
        Self {
            kind,
            done: AtomicU64::new(0),
            draw_at: AtomicU64::new(0),
            started_at,
            phase: Mutex::new(phase),
        }
    }

    /// Begins a part of the run ("opening streams") that has `total` steps; 0 is unknown. Ends the
    /// part before it.
    pub fn phase(&self, name: &str, total: u64) {
        self.begin(name, total, None);
    }

    /// The same for a part that ends after `time`, however many steps it has.
    pub fn timed_phase(&self, name: &str, time: Duration) {
        self.begin(name, 0, Some(time));
    }

    fn begin(&self, name: &str, total: u64, time: Option<Duration>) {
        self.end();
        {
            let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
            phase.name.clear();
            phase.name.push_str(name);
            (phase.total, phase.time) = (total, time);
            phase.started_at = Instant::now();
        }
        self.done.store(0, Ordering::Relaxed);
        self.draw(true);
    }

    /// Sets how many steps of the phase are done. Cheap: draws only when it is time to.
    pub fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.draw(false);
    }

    /// Counts further steps. Cheap, as [`Progress::set`].
    pub fn add(&self, steps: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
        self.draw(false);
    }

    /// Says something that stays on the screen.
    pub fn note(&self, text: &str) {
        if self.kind == Kind::Silent {
            return;
        }
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear(&mut phase);
        say(&format!("{text}\n"));
    }

    /// Ends the phase: takes the bar away, or writes its last line.
    pub fn end(&self) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if phase.name.is_empty() {
            return;
        }
        match self.kind {
            Kind::Bar => self.clear(&mut phase),
            Kind::Lines => {
                let done = self.done.load(Ordering::Relaxed);
                say(&format!("{}\n", line(&phase, done)));
            }
            Kind::Silent => {}
        }
        phase.name.clear();
    }

    fn draw(&self, is_first: bool) {
        let every = match self.kind {
            Kind::Bar => BAR_EVERY,
            Kind::Lines => LINE_EVERY,
            Kind::Silent => return,
        };
        let now = u64::try_from(self.started_at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let due = self.draw_at.load(Ordering::Relaxed);
        if now < due && !is_first {
            return;
        }
        let next = now + u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
        let taken = self
            .draw_at
            .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed);
        // Another thread draws.
        let (Ok(_), Ok(mut phase)) = (taken, self.phase.try_lock()) else {
            return;
        };
        if phase.name.is_empty() || (is_first && self.kind == Kind::Lines) {
            return;
        }
        let done = self.done.load(Ordering::Relaxed);
        if self.kind == Kind::Lines {
            say(&format!("{}\n", line(&phase, done)));
            return;
        }
        let text = bar(&phase, done);
        let width = text.chars().count();
        let blank = phase.drawn.saturating_sub(width);
        say(&format!("\r{text}{:blank$}", ""));
        phase.drawn = width;
    }

    fn clear(&self, phase: &mut Phase) {
        if self.kind == Kind::Bar && phase.drawn > 0 {
            say(&format!("\r{:width$}\r", "", width = phase.drawn));
            phase.drawn = 0;
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// `opening streams: 4000 of 10000, 2.1 s`
fn line(phase: &Phase, done: u64) -> String {
    let mut text = format!("{}: {done}", phase.name);
    if phase.total > 0 {
        let _ = write!(text, " of {}", phase.total);
    }
    let _ = write!(text, ", {:.1}", phase.started_at.elapsed().as_secs_f64());
    if let Some(time) = phase.time {
        let _ = write!(text, " of {:.1}", time.as_secs_f64());
    }
    text.push_str(" s");
    text
}

/// `opening streams [############------------------] 4000 of 10000, 2.1 s`
fn bar(phase: &Phase, done: u64) -> String {
    let text = line(phase, done);
    // Milliseconds, where time is what ends it.
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (done, total) = match phase.time {
        Some(time) => (millis(phase.started_at.elapsed()), millis(time)),
        None => (done, phase.total),
    };
    if total == 0 {
        return text;
    }
    let share = u128::from(done.min(total)) * u128::from(BAR_WIDTH) / u128::from(total);
    let share = usize::try_from(share).unwrap_or_default();
    let rest = usize::try_from(BAR_WIDTH)
        .unwrap_or_default()
        .saturating_sub(share);
    let (full, empty) = ("#".repeat(share), "-".repeat(rest));
    let after = text.strip_prefix(phase.name.as_str()).unwrap_or(&text);
    let after = after.strip_prefix(':').unwrap_or(after);
    format!("{} [{full}{empty}]{after}", phase.name)
}

/// Nobody may be there to read; that is no reason to stop.
fn say(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(total: u64) -> Phase {
        Phase {
            name: "opening streams".to_owned(),
            total,
            time: None,
            started_at: Instant::now(),
            drawn: 0,
        }
    }

    #[test]
    fn a_part_that_time_ends_has_a_bar_too() {
        let ended = Phase {
            time: Some(Duration::from_millis(1)),
            started_at: Instant::now().checked_sub(Duration::from_secs(1)).unwrap(),
            ..phase(0)
        };
        let text = bar(&ended, 7);
        assert!(
            text.contains(&format!("[{}] 7, 1.0 of 0.0 s", "#".repeat(30))),
            "{text}"
        );
        let begun = Phase {
            time: Some(Duration::from_hours(1)),
            ..phase(0)
        };
        assert!(bar(&begun, 7).contains(&format!("[{}] 7, 0.0 of 3600.0 s", "-".repeat(30))));
    }

    #[test]
    fn a_bar_shows_the_share_that_is_done() {
        let text = bar(&phase(10), 5);
        let expected = format!(
            "opening streams [{}{}] 5 of 10, ",
            "#".repeat(15),
            "-".repeat(15)
        );
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn more_than_the_total_and_an_unknown_total_are_shown_as_they_are() {
        let text = bar(&phase(10), 25);
        assert!(
            text.contains(&"#".repeat(30)) && text.contains("25 of 10"),
            "{text}"
        );
        assert!(bar(&phase(0), 3).starts_with("opening streams: 3, "));
    }

    #[test]
    fn a_silent_one_counts_and_says_nothing() {
        let progress = Progress::silent();
        progress.phase("publishing", 3);
        progress.add(2);
        progress.set(3);
        progress.end();
        assert_eq!(progress.done.load(Ordering::Relaxed), 3);
    }
}
