//! A hub as a child process: killed, and started again on the same port and log.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{self, Pid, Signal};

use crate::clock::now_ns;
use crate::error::BenchError;

/// Longest wait until a hub takes connections.
const START_MAX: Duration = Duration::from_mins(1);
/// Time between two tries to connect.
const LOOK: Duration = Duration::from_millis(2);

/// How a hub ended that was told to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// When it was told, in nanoseconds of our clock.
    pub(super) told_ns: u64,
    pub(super) at_ns: u64,
    pub(super) status: ExitStatus,
}

/// A hub of our own. It is killed when this is dropped.
pub(super) struct Hub {
    program: PathBuf,
    arguments: Vec<String>,
    pub(super) address: SocketAddr,
    child: Child,
}

impl Hub {
    pub(super) fn start(program: PathBuf, arguments: &[String]) -> Result<Self, BenchError> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| BenchError::io("find a free port", error))?;
        let port = address.port().to_string();
        let with_port = arguments.iter().map(|word| word.replace("{port}", &port));
        let arguments: Vec<String> = with_port.collect();
        let child = spawned(&program, &arguments)?;
        let mut hub = Self {
            program,
            arguments,
            address,
            child,
        };
        hub.wait()?;
        Ok(hub)
    }

    /// Kills it; every stream ends in that moment.
    pub(super) fn kill(&mut self) {
        // It may have ended by itself: the next start says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM, and waits for as long as a drain may take.
    pub(super) fn drain(&mut self, patience: Duration) -> Result<Ended, BenchError> {
        let (told_ns, begin) = (now_ns(), Instant::now());
        process::kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| BenchError::io("send SIGTERM", std::io::Error::from(error)))?;
        loop {
            let status = self.child.try_wait();
            let status = status.map_err(|error| BenchError::io("wait for the hub", error))?;
            if let Some(status) = status {
                return Ok(Ended {
                    told_ns,
                    at_ns: now_ns(),
                    status,
                });
            }
            if begin.elapsed() > patience {
                return Err(BenchError::Server("the drain does not end".into()));
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// Starts it again and waits until it takes connections.
    pub(super) fn restart(&mut self) -> Result<(), BenchError> {
        self.child = spawned(&self.program, &self.arguments)?;
        self.wait()
    }

    fn wait(&mut self) -> Result<(), BenchError> {
        let begin = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().ok().flatten();
            if let Some(status) = ended {
                return Err(BenchError::Server(format!("the hub ended: {status}")));
            }
            if begin.elapsed() > START_MAX {
                return Err(BenchError::Server("the hub does not listen".into()));
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawned(program: &PathBuf, arguments: &[String]) -> Result<Child, BenchError> {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| BenchError::io(format!("start {}", program.display()), error))
}
