//! The new process's side of an upgrade.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gush_log::{AppendErrorKind, Epoch, Log, MemoryConfig, MemoryLog, Offset};

use super::adopt;
use super::channel::Channel;
use super::message::{
    EventNote, FromNew, FromOld, Hello, LogNote, STREAMS_VERSION, TLS_VERSION, VERSION,
};
use super::relay;
use crate::accept::Listener;
use crate::config::{LogSpec, Settings};
use crate::error::ServeError;
use crate::hub::Hub;
use crate::listeners::Bound;
use crate::request::Door;
use crate::socket::{SocketOptions, given};

/// Tells a process that it is the new one of an upgrade.
pub(super) const VARIABLE: &str = "GUSH_UPGRADE";

/// An upgrade that makes this process the new one.
#[derive(Debug)]
pub(crate) struct Taking {
    control: Channel,
    hello: Hello,
    relay: Channel,
    connections: Channel,
    ways: Vec<Channel>,
    listeners: Vec<Bound>,
    /// Where the old process left a disk log.
    place: Option<LogNote>,
}

/// The log's name in [`Hello`].
pub(super) fn log_name(settings: &Settings) -> String {
    match &settings.log {
        LogSpec::Memory => "memory".into(),
        LogSpec::Disk(directory) => format!("disk:{}", directory.display()),
    }
}

/// Puts an event of a memory log in its place; else says why it cannot be there.
pub(super) fn restore(log: &MemoryLog, note: EventNote) -> Result<(), String> {
    let (offset, time_ms) = note.place();
    let draft = note.into_draft().ok_or_else(|| {
        format!(
            "upgrade: event {offset} of the memory log has a topic, id or type that this version \
             does not take; restart the hub instead"
        )
    })?;
    log.restore(Offset::from_u64(offset), time_ms, draft)
        .map_err(|error| match error.kind {
            AppendErrorKind::TooLarge => format!(
                "upgrade: event {offset} of the memory log does not fit --window-bytes ({}); \
                 restart the hub to lower it",
                error.detail
            ),
            _ => format!(
                "upgrade: event {offset} of the memory log came out of order: {}",
                error.detail
            ),
        })
}

fn lost(error: &io::Error) -> ServeError {
    ServeError::new(format!("upgrade: the old process cannot be heard: {error}"))
}

impl Taking {
    /// `None` for a process that was started in the usual way. To be called before anything is
    /// opened.
    ///
    /// # Errors
    ///
    /// The old process is of another version, or gone.
    pub(crate) fn begin() -> Result<Option<Self>, ServeError> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let socket = given::by_predecessor().map_err(|error| lost(&error))?;
        let Some(control) = socket.map(Channel::of) else {
            // A variable that went astray.
            return Ok(None);
        };
        let begun = Self::greet(&control);
        match begun {
            Ok((hello, descriptors)) => Self::of(control, hello, descriptors)
                .map(Some)
                .map_err(|error| lost(&error)),
            Err(error) => {
                let _ = control.send(&FromNew::Failed(error.to_string()), &[]);
                Err(error)
            }
        }
    }

    fn greet(control: &Channel) -> Result<(Hello, Vec<OwnedFd>), ServeError> {
        let (message, descriptors) = control.receive().map_err(|error| lost(&error))?;
        let FromOld::Hello(hello) = message else {
            return Err(lost(&io::Error::other("it began with something else")));
        };
        if hello.version != VERSION {
            return Err(ServeError::new(format!(
                "upgrade: the old process speaks version {} of the hand-over, this binary \
                 {VERSION}; restart the hub instead",
                hello.version
            )));
        }
        Ok((hello, descriptors))
    }

    fn of(control: Channel, hello: Hello, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || {
            let missing = || io::Error::other("a descriptor is missing");
            descriptors.next().ok_or_else(missing)
        };
        let relay = Channel::of(next()?);
        let connections = Channel::of(next()?);
        let ways = (0..hello.ways)
            .map(|_| next().map(Channel::of))
            .collect::<io::Result<_>>()?;
        let listeners = hello
            .listeners
            .iter()
            .map(|note| Bound::of(note.clone(), next()?))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            control,
            hello,
            relay,
            connections,
            ways,
            listeners,
            place: None,
        })
    }

    /// The listeners that come over.
    pub(crate) fn listeners(&mut self) -> Vec<Bound> {
        std::mem::take(&mut self.listeners)
    }

    /// The key that the old process made for `--dev`.
    pub(crate) fn dev_key(&mut self) -> Option<String> {
        self.hello.dev_key.take()
    }

    /// Says that all but the log is there, and waits for that. The events of a memory log come
    /// with it.
    ///
    /// # Errors
    ///
    /// The old process keeps it, or is gone.
    pub(crate) fn await_log(
        &mut self,
        settings: &Settings,
    ) -> Result<Option<MemoryLog>, ServeError> {
        let name = log_name(settings);
        if self.hello.log != name {
            return Err(ServeError::new(format!(
                "upgrade: the log {} cannot be exchanged for {name} while the hub runs: restart \
                 it to change --log",
                self.hello.log
            )));
        }
        let takes_streams = self.hello.streams_version == STREAMS_VERSION;
        self.say(&FromNew::Ready {
            version: VERSION,
            takes_streams,
            tls_version: TLS_VERSION,
        })?;
        let mut notes: Vec<EventNote> = Vec::new();
        let place = loop {
            match self.control.receive().map_err(|error| lost(&error))?.0 {
                FromOld::Events(more) => {
                    let goes_on = notes
                        .last()
                        .zip(more.first())
                        .is_none_or(|(last, first)| first.place().0 == last.place().0 + 1);
                    if !goes_on {
                        // The old log has dropped what lies between, and so all before it.
                        notes.clear();
                    }
                    notes.extend(more);
                }
                FromOld::Yours(place) => break place,
                FromOld::Hello(_) | FromOld::Go => {
                    return Err(lost(&io::Error::other("it said something out of turn")));
                }
            }
        };
        if settings.log != LogSpec::Memory {
            self.place = Some(place);
            return Ok(None);
        }
        let config = MemoryConfig {
            bytes_max: settings.window_bytes,
            events_max: settings.window_events,
        };
        let LogNote { epoch, first, next } = place;
        let (epoch, first) = (Epoch::from_u64(epoch), Offset::from_u64(first));
        let log = MemoryLog::resumed(config, epoch, first);
        for note in notes {
            restore(&log, note).map_err(ServeError::new)?;
        }
        if log.bounds().next.as_u64() != next {
            return Err(lost(&io::Error::other(
                "events of the memory log are missing",
            )));
        }
        Ok(Some(log))
    }

    /// Says that the log is open, and waits until there is no way back.
    ///
    /// # Errors
    ///
    /// It is not where the old process left it, that keeps serving, or is gone.
    pub(crate) fn opened(&self, log: &dyn Log) -> Result<(), ServeError> {
        let bounds = log.bounds();
        let found = (bounds.epoch.as_u64(), bounds.next.as_u64());
        if self
            .place
            .is_some_and(|left| (left.epoch, left.next) != found)
        {
            return Err(ServeError::new(
                "upgrade: what was opened is not the log that the old process closed",
            ));
        }
        self.say(&FromNew::Opened)?;
        match self.control.receive().map_err(|error| lost(&error))?.0 {
            FromOld::Go => Ok(()),
            _ => Err(lost(&io::Error::other("it said something out of turn"))),
        }
    }

    /// Says that connections are accepted, and takes in what the old process hands over, for as
    /// long as it does. Has to be called inside the runtime.
    ///
    /// # Errors
    ///
    /// The old process is gone, or there is no thread to be had.
    pub(crate) fn serving(
        self,
        hub: &Arc<Hub>,
        listener: impl Fn(Door) -> Listener,
    ) -> Result<(), ServeError> {
        let failed = |error: io::Error| ServeError::new(format!("upgrade: {error}"));
        relay::serve(
            self.relay.try_clone().map_err(failed)?,
            Arc::clone(&hub.log),
        )
        .map_err(failed)?;
        let doors = [listener(Door::Public), listener(Door::Admin)];
        let connections = self.connections.try_clone().map_err(failed)?;
        adopt::connections(connections, doors).map_err(failed)?;
        let options = SocketOptions::of(&hub.policy.load().settings);
        // Three calls for each of many streams, mostly for what is so already.
        let options = (self.hello.sockets != Some(options.into())).then_some(options);
        for way in &self.ways {
            adopt::streams(way.try_clone().map_err(failed)?, hub, options).map_err(failed)?;
        }
        self.say(&FromNew::Serving)
    }

    /// Tells the old process why this one ends. It may have gone; then nobody needs to know.
    pub(crate) fn failed(&self, error: &ServeError) {
        let _ = self.control.send(&FromNew::Failed(error.to_string()), &[]);
    }

    fn say(&self, message: &FromNew) -> Result<(), ServeError> {
        self.control
            .send(message, &[])
            .map_err(|error| lost(&error))
    }
}
