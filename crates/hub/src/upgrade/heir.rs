//! The way of connections to the new process.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;

use tokio::sync::mpsc::{self, Sender};

use super::channel::Channel;
use super::message::ConnectionNote;
use crate::admit::LobbyPermit;
use crate::peer::Peer;
use crate::request::Door;

/// Connections on their way at a time; one more would be closed. Ours: more than one descriptor
/// table holds.
const LEAVING_MAX: usize = 1 << 21;

/// The new process, as connections of the old one see it. Each connection counts as open until it
/// is gone.
#[derive(Debug)]
pub(crate) struct Heir(Sender<Leaving>);

/// A connection on its way.
#[derive(Debug)]
pub(crate) struct Leaving {
    pub(crate) stream: TcpStream,
    pub(crate) door: Door,
    pub(crate) peer: Peer,
    /// What was read of its next request.
    pub(crate) bytes: Vec<u8>,
    /// Held until it is gone; none for a connection over the limit.
    pub(crate) permit: Option<LobbyPermit>,
}

impl Heir {
    pub(super) fn start(channel: Channel) -> io::Result<Self> {
        let (queue, mut queued) = mpsc::channel::<Leaving>(LEAVING_MAX);
        thread::Builder::new()
            .name("give-connections".into())
            .spawn(move || {
                while let Some(leaving) = queued.blocking_recv() {
                    let note = ConnectionNote {
                        door: leaving.door.into(),
                        peer: leaving.peer.address,
                        was_counted: leaving.permit.is_some(),
                        bytes: leaving.bytes,
                    };
                    // If the new process is gone, so is the connection.
                    if let Err(error) = channel.send(&note, &[leaving.stream.as_fd()]) {
                        tracing::warn!(%error, "a connection could not be handed over");
                    }
                }
            })?;
        Ok(Self(queue))
    }

    /// Hands a connection over. Does not wait.
    pub(crate) fn take(&self, leaving: Leaving) {
        // The thread ends no sooner than this.
        let _ = self.0.try_send(leaving);
    }
}
