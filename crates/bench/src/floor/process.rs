//! A reference in a process of its own, so that its CPU time can be told from the generator's.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::bare_loop::BareLoop;
use super::crew;
use super::sweep::Sweep;
use crate::descriptors;
use crate::error::BenchError;
use crate::options::{BenchOptions, Reference};

/// Set for a reference that must not outlive the run that started it.
const CHILD: &str = "GUSH_BENCH_REFERENCE";
/// What a reference says before its address.
const LISTENING: &str = "listening on http://";

impl Reference {
    /// The word on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loop => "loop",
            Self::Sweep => "sweep",
        }
    }
}

/// Runs a reference in this process until it is killed; says on stdout where it listens.
///
/// # Errors
/// [`BenchError::Io`] when it cannot listen, or be pinned to its core.
pub fn serve(options: &BenchOptions, which: Reference) -> Result<(), BenchError> {
    if std::env::var_os(CHILD).is_some() {
        // Without it the reference only lives longer than it should.
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    descriptors::raise_limit();
    if let Some(core) = options.pin_server {
        descriptors::pin_to(core)
            .map_err(|error| BenchError::io(format!("pin to core {core}"), error))?;
    }
    let threads = options.threads.unwrap_or(1).max(1);
    // Nobody may be there to read it.
    let ready = |address| {
        let mut stdout = std::io::stdout();
        let _ = writeln!(stdout, "{LISTENING}{address}/").and_then(|()| stdout.flush());
    };
    match which {
        Reference::Loop => crew::serve::<BareLoop>(options.listen, threads, ready),
        Reference::Sweep => crew::serve::<Sweep>(options.listen, threads, ready),
    }
}

/// Threads a reference needs for so many sockets. The kernel spreads connections over them by
/// chance, so each is given less than its table could hold.
fn threads_for(subscribers: u64) -> u64 {
    if subscribers <= descriptors::STREAMS_PER_TABLE {
        return 1;
    }
    subscribers.div_ceil(descriptors::STREAMS_PER_TABLE - 2_000)
}

/// A reference that runs beside this process; dropping it ends it.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    /// Starts this program again as the reference.
    pub(super) fn start(which: Reference, options: &BenchOptions) -> Result<Self, BenchError> {
        let what = || format!("start the reference {}", which.name());
        let program = std::env::current_exe().map_err(|error| BenchError::io(what(), error))?;
        let mut command = Command::new(program);
        command.args(["bench", "floor", "--serve", which.name()]);
        command.args(["--listen", "127.0.0.1:0"]);
        let threads = threads_for(options.subscribers);
        command.args(["--threads", &threads.to_string()]);
        if let Some(core) = options.pin_server {
            command.args(["--pin-server", &core.to_string()]);
        }
        let mut child = command
            .env(CHILD, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| BenchError::io(what(), error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|error| BenchError::io(what(), error))?;
        }
        let address = line
            .trim_end()
            .strip_prefix(LISTENING)
            .and_then(|rest| rest.strip_suffix('/')?.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(BenchError::Server(format!(
                "the reference {} said {line:?} instead of its address",
                which.name()
            )));
        };
        Ok(Self { child, address })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
