//! The old process's side of an upgrade.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gush_log::{Flow, Log, Offset, ReadLimit};
use tokio::sync::watch;

use super::channel::{Channel, DESCRIPTORS_MAX};
use super::message::{
    EventNote, FromNew, FromOld, Hello, LogNote, STREAMS_VERSION, TLS_VERSION, VERSION,
};
use super::take::{VARIABLE, log_name};
use super::{Baton, Heir, Moving};
use crate::config::{LogSpec, Settings};
use crate::listeners::Bound;
use crate::socket::SocketOptions;
use crate::store;

/// Bytes of events in one message.
const EVENTS_BYTES: usize = 256 * 1024;

/// What is to be handed over, and what stays to be kept if that fails.
pub(crate) struct Offer {
    pub(crate) baton: Arc<Baton>,
    pub(crate) listeners: Arc<Vec<Bound>>,
    pub(crate) moving: watch::Sender<Moving>,
    /// As they were at the start or the last reload.
    pub(crate) settings: Settings,
    pub(crate) ways: usize,
    pub(crate) dev_key: Option<String>,
    pub(crate) recall: Arc<Recall>,
}

/// Takes an offer back, up to the moment when the new process is told to serve.
#[derive(Debug, Default)]
pub(crate) struct Recall(Mutex<Recalled>);

#[derive(Debug, Default)]
struct Recalled {
    is_called: bool,
    /// A second handle on the way to the new process.
    control: Option<Channel>,
}

impl Recall {
    /// The new process is given nothing more, and ended.
    pub(crate) fn call(&self) {
        let mut recalled = self.lock();
        recalled.is_called = true;
        if let Some(control) = recalled.control.take() {
            control.end();
        }
    }

    fn watch(&self, control: Channel) {
        let mut recalled = self.lock();
        if recalled.is_called {
            control.end();
        } else {
            recalled.control = Some(control);
        }
    }

    /// From now on it is too late; `false` if it has been called before.
    fn end(&self) -> bool {
        let mut recalled = self.lock();
        recalled.control = None;
        !recalled.is_called
    }

    fn is_called(&self) -> bool {
        self.lock().is_called
    }

    fn lock(&self) -> MutexGuard<'_, Recalled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The new process, once it serves.
pub(crate) struct Given {
    pub(crate) child: Child,
    pub(crate) heir: Heir,
    /// One for each shard; empty where the new process does not take streams.
    pub(crate) ways: Vec<Channel>,
    /// Whether those under TLS 1.3 may go by them.
    pub(crate) takes_tls: bool,
}

/// Why there was no upgrade.
#[derive(Debug)]
pub(crate) enum NotGiven {
    /// The hub goes on as before.
    Kept(String),
    /// The log could not be opened again: the hub has to end.
    Broken(String),
}

/// Starts the new process and hands listeners and log over to it. Blocks.
///
/// # Errors
///
/// [`NotGiven`]: the new process did not come to serve, and is gone.
pub(crate) fn give(offer: &Offer) -> Result<Given, NotGiven> {
    let reason = |error: io::Error| {
        if offer.recall.is_called() {
            return "the hub is told to end".to_owned();
        }
        error.to_string()
    };
    let kept = |error: io::Error| NotGiven::Kept(reason(error));
    let mut successor = Successor::start(offer).map_err(kept)?;
    let sent = successor.wait_ready(offer).map_err(kept)?;
    offer.moving.send_replace(Moving::Paused);
    let log = offer.baton.hold();
    let child = match successor.pass_log(&*log, sent, &offer.recall) {
        Ok(child) => child,
        Err(error) => {
            // It must be gone before the log is opened again.
            drop(successor);
            let kept = take_back(offer, &log);
            offer.moving.send_replace(Moving::No);
            let reason = reason(error);
            return Err(match kept {
                Ok(()) => NotGiven::Kept(reason),
                Err(broken) => NotGiven::Broken(format!("{reason}; {broken}")),
            });
        }
    };
    successor.become_heir(offer, child).map_err(|error| {
        // The new process serves: this one can only end.
        NotGiven::Broken(format!("the hand-over stopped half way: {error}"))
    })
}

/// The log goes on here.
fn take_back(offer: &Offer, held: &Arc<dyn Log>) -> Result<(), String> {
    if offer.settings.log == LogSpec::Memory {
        offer.baton.keep(held);
        return Ok(());
    }
    match store::open(&offer.settings) {
        Ok(log) => {
            offer.baton.keep(&log);
            Ok(())
        }
        Err(error) => {
            // Publishers are told that it is closed.
            offer.baton.keep(held);
            Err(format!("the log could not be opened again: {error}"))
        }
    }
}

/// The new process. Killed when this is dropped before it serves.
struct Successor {
    /// `None` once it serves.
    child: Option<Child>,
    control: Channel,
    relay: Option<Channel>,
    connections: Option<Channel>,
    ways: Vec<Channel>,
    takes_streams: bool,
    takes_tls: bool,
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The program and its arguments as this process was started, so that a path leads to what is
/// there now.
fn same_command() -> io::Result<Command> {
    let mut arguments = std::env::args_os();
    let named = arguments.next().filter(|name| !name.is_empty());
    let program: OsString = match named {
        Some(name) => name,
        None => std::env::current_exe()?.into(),
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env(VARIABLE, "1")
        // They are for this process.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES");
    Ok(command)
}

impl Successor {
    fn start(offer: &Offer) -> io::Result<Self> {
        let (control, theirs) = Channel::pair()?;
        let (relay, their_relay) = Channel::pair()?;
        let (connections, their_connections) = Channel::pair()?;
        let (ways, their_ways): (Vec<_>, Vec<_>) = (0..offer.ways)
            .map(|_| Channel::pair())
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .unzip();
        let mut command = same_command()?;
        let child = command
            .stdin(Stdio::from(theirs.into_socket()))
            .spawn()
            .map_err(|error| {
                let program = command.get_program().display();
                io::Error::other(format!("{program} could not be started: {error}"))
            })?;
        // It holds the other end of the control channel, which is to end with the child.
        drop(command);
        let successor = Self {
            child: Some(child),
            control,
            relay: Some(relay),
            connections: Some(connections),
            ways,
            takes_streams: false,
            takes_tls: false,
        };
        successor
            .control
            .set_patience(Some(offer.settings.upgrade_timeout))?;
        offer.recall.watch(successor.control.try_clone()?);
        let hello = Hello {
            version: VERSION,
            streams_version: STREAMS_VERSION,
            ways: their_ways.len(),
            listeners: offer
                .listeners
                .iter()
                .map(|bound| bound.note.clone())
                .collect(),
            log: log_name(&offer.settings),
            dev_key: offer.dev_key.clone(),
            sockets: Some(SocketOptions::of(&offer.settings).into()),
        };
        let descriptors: Vec<BorrowedFd<'_>> = [their_relay.as_fd(), their_connections.as_fd()]
            .into_iter()
            .chain(their_ways.iter().map(AsFd::as_fd))
            .chain(offer.listeners.iter().map(|bound| bound.socket.as_fd()))
            .collect();
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(io::Error::other(
                "too many shards and listeners to hand over",
            ));
        }
        let sent = successor.control.send(&FromOld::Hello(hello), &descriptors);
        sent.map_err(|error| named("reading its configuration", &error))?;
        Ok(successor)
    }

    fn hear(&self, step: &str) -> io::Result<FromNew> {
        let (message, _) = self
            .control
            .receive()
            .map_err(|error| named(step, &error))?;
        match message {
            FromNew::Failed(reason) => Err(io::Error::other(reason)),
            other => Ok(other),
        }
    }

    /// Waits until the new process needs nothing but the log. A memory log's events are sent
    /// ahead; the offset behind the last of them.
    fn wait_ready(&mut self, offer: &Offer) -> io::Result<Option<Sent>> {
        match self.hear("reading its configuration")? {
            FromNew::Ready {
                version,
                takes_streams,
                tls_version,
            } if version == VERSION => {
                self.takes_streams = takes_streams;
                self.takes_tls = tls_version == TLS_VERSION;
            }
            _ => return Err(io::Error::other("the new process is of another version")),
        }
        if offer.settings.log != LogSpec::Memory {
            return Ok(None);
        }
        let bounds = offer.baton.bounds();
        let mut sent = Sent {
            first: bounds.first,
            next: bounds.first,
        };
        self.send_events(&*offer.baton, &mut sent)?;
        Ok(Some(sent))
    }

    fn send_events(&self, log: &dyn Log, sent: &mut Sent) -> io::Result<()> {
        let limit = ReadLimit {
            events_max: 1024,
            bytes_max: EVENTS_BYTES,
        };
        let end = log.bounds().next;
        while sent.next < end {
            let mut notes = Vec::new();
            let mut bytes = 0;
            let read = log.read(sent.next, limit, &mut |event| {
                let note = EventNote::of_record(event);
                bytes += note.bytes();
                notes.push(note);
                if bytes < EVENTS_BYTES {
                    Flow::Continue
                } else {
                    Flow::Stop
                }
            });
            let read = read.map_err(|error| io::Error::other(error.to_string()))?;
            if read.lost > 0
                && let Some(first) = notes.first()
            {
                // Dropped meanwhile: what was sent before is too old to be kept.
                sent.first = Offset::from_u64(first.place().0);
            }
            sent.next = read.next;
            let message = FromOld::Events(notes);
            let told = self.control.send(&message, &[]);
            told.map_err(|error| named("taking the log", &error))?;
        }
        Ok(())
    }

    /// Gives the log up, and waits until the new process serves: from then on it is not killed.
    fn pass_log(
        &mut self,
        log: &dyn Log,
        sent: Option<Sent>,
        recall: &Recall,
    ) -> io::Result<Child> {
        let mut first = log.bounds().first;
        if let Some(mut sent) = sent {
            self.send_events(log, &mut sent)?;
            first = sent.first;
        } else {
            log.close().map_err(|error| {
                io::Error::other(format!("the log was not closed cleanly: {error}"))
            })?;
        }
        // After what was under way.
        let bounds = log.bounds();
        let note = LogNote {
            epoch: bounds.epoch.as_u64(),
            first: first.as_u64(),
            next: bounds.next.as_u64(),
        };
        let told = self.control.send(&FromOld::Yours(note), &[]);
        told.map_err(|error| named("taking the log", &error))?;
        let FromNew::Opened = self.hear("opening the log")? else {
            return Err(io::Error::other("the new process spoke out of turn"));
        };
        if !recall.end() {
            return Err(io::Error::other("recalled"));
        }
        let told = self.control.send(&FromOld::Go, &[]);
        told.map_err(|error| named("beginning to serve", &error))?;
        let FromNew::Serving = self.hear("beginning to serve")? else {
            return Err(io::Error::other("the new process spoke out of turn"));
        };
        let child = self.child.take();
        child.ok_or_else(|| io::Error::other("the new process is gone"))
    }

    /// From now on publishes and connections go to the new process.
    fn become_heir(mut self, offer: &Offer, child: Child) -> io::Result<Given> {
        let patience = Some(offer.settings.upgrade_timeout);
        let taken = || io::Error::other("taken already");
        let relay = self.relay.take().ok_or_else(taken)?;
        offer.baton.give(relay)?;
        let connections = self.connections.take().ok_or_else(taken)?;
        connections.set_patience(patience)?;
        let heir = Heir::start(connections)?;
        let mut ways = std::mem::take(&mut self.ways);
        if !self.takes_streams {
            ways.clear();
        }
        for way in &ways {
            way.set_patience(patience)?;
        }
        Ok(Given {
            child,
            heir,
            ways,
            takes_tls: self.takes_tls,
        })
    }
}

/// Events of a memory log that were sent: `[first, next)`.
#[derive(Clone, Copy, Debug)]
struct Sent {
    first: Offset,
    next: Offset,
}

fn named(step: &str, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::TimedOut => format!("the new process took too long at {step}"),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => {
            format!("the new process ended at {step}; its own messages say why")
        }
        _ => format!("the new process failed at {step}: {error}"),
    };
    io::Error::other(text)
}
