//! What a child process writes.

use crate::{Deadline, PATIENCE};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Output lines kept per stream; the oldest go first.
const LINES_KEPT: usize = 2000;

/// Lines a child process wrote, collected by a thread.
#[derive(Clone, Debug)]
pub(super) struct Lines(Arc<(Mutex<Collected>, Condvar)>);

#[derive(Debug, Default)]
struct Collected {
    lines: VecDeque<String>,
    closed: bool,
}

impl Lines {
    pub(super) fn read_from(pipe: Option<impl Read + Send + 'static>) -> Self {
        let lines = Self(Arc::default());
        let writer = lines.clone();
        let pipe = pipe.expect("the command was built with pipes");
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
                let mut collected = writer.lock();
                if collected.lines.len() == LINES_KEPT {
                    collected.lines.pop_front();
                }
                collected
                    .lines
                    .push_back(String::from_utf8_lossy(&line).into_owned());
                writer.0.1.notify_all();
            }
            writer.lock().closed = true;
            writer.0.1.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Collected> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// Waits for a line; false when it did not come in time or the process closed the pipe.
    pub(super) fn wait_for(&self, fits: impl Fn(&str) -> bool, wait: Duration) -> bool {
        let deadline = Deadline::after(wait);
        let mut collected = self.lock();
        loop {
            if collected.lines.iter().any(|line| fits(line)) {
                return true;
            }
            let Some(left) = deadline.left().filter(|_| !collected.closed) else {
                return false;
            };
            let waited = self.0.1.wait_timeout(collected, left);
            collected = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All lines, once the pipe is closed.
    pub(super) fn finished(&self) -> String {
        self.wait_for(|_| false, PATIENCE);
        self.all().join("\n")
    }
}
