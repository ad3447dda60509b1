//! The most memory that was taken while something went on.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::error::BenchError;
use crate::modes::common::Moment;
use crate::procfs::Processes;

/// Time between two looks: reading the kernel's tables is not free.
const LOOK: Duration = Duration::from_millis(250);

/// The most that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peak {
    /// Resident memory of the server.
    pub(super) rss_bytes: Option<u64>,
    /// The kernel's for all sockets.
    pub(super) kernel_bytes: u64,
}

impl Peak {
    fn look(&mut self, server: &Processes) {
        let now = Moment::now(server);
        self.rss_bytes = self.rss_bytes.max(now.server_rss());
        self.kernel_bytes = self.kernel_bytes.max(now.kernel.total_bytes());
    }
}

/// Runs `work`, and looks meanwhile.
///
/// # Errors
/// [`BenchError::Io`] when the thread that looks cannot be started.
pub(super) fn watched<T>(
    server: &Processes,
    work: impl FnOnce() -> T,
) -> Result<(T, Peak), BenchError> {
    std::thread::scope(|scope| {
        let (stop, is_over) = sync_channel::<()>(1);
        let watcher = std::thread::Builder::new()
            .name("watch".into())
            .spawn_scoped(scope, move || {
                let mut peak = Peak::default();
                loop {
                    peak.look(server);
                    if is_over.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                        peak.look(server);
                        return peak;
                    }
                }
            })
            .map_err(|error| BenchError::io("start the thread that watches memory", error))?;
        let done = work();
        drop(stop);
        // A panic there has been printed; the peak is then not known.
        Ok((done, watcher.join().unwrap_or_default()))
    })
}
