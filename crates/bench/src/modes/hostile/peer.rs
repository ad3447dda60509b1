//! One hostile peer: what it does to the server each time its turn comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with, sockopt,
};

use crate::engine::head::{self, Parsed};

/// Receive buffer of a hostile peer: the least that Linux gives, so that what it does not read is
/// soon the server's trouble.
const RECEIVE_BYTES: usize = 2304;
/// Most bytes that one turn takes of an answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// The ways to be hostile. The peers take them by turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Subscribes and never reads, not even the head.
    NeverReads,
    /// Subscribes and reads one byte per second.
    OneByte,
    /// Subscribes and resets the connection, again and again.
    Resets,
    /// Sends half of a head and waits.
    HalfOpens,
    /// Opens connections and says nothing.
    FloodsConnections,
    /// Publishes with a token of another key.
    FloodsPublishes,
    /// Subscribes and closes in order, again and again.
    Churns,
}

impl Kind {
    pub(super) const ALL: [Self; 7] = [
        Self::NeverReads,
        Self::OneByte,
        Self::Resets,
        Self::HalfOpens,
        Self::FloodsConnections,
        Self::FloodsPublishes,
        Self::Churns,
    ];

    /// Time between two turns of one peer.
    pub(super) const fn period(self) -> Duration {
        match self {
            Self::NeverReads | Self::OneByte | Self::HalfOpens => Duration::from_secs(1),
            Self::Resets | Self::Churns => Duration::from_millis(500),
            Self::FloodsConnections | Self::FloodsPublishes => Duration::from_millis(100),
        }
    }
}

/// What the hostile peers send.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) subscribe_at: SocketAddr,
    pub(super) publish_at: SocketAddr,
    pub(super) subscribe: Vec<u8>,
    pub(super) publish: Vec<u8>,
}

/// What they did and saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Connects begun.
    pub(super) connects: u64,
    /// Connects that the system refused at once.
    pub(super) failed: u64,
    /// Connections that the server ended.
    pub(super) cut: u64,
    /// Bytes read, one a second.
    pub(super) dripped: u64,
    /// Publishes with a bad token that the server refused.
    pub(super) refused: u64,
    /// Those that it took, which is a fault.
    pub(super) accepted: u64,
}

/// A hostile peer.
#[derive(Debug)]
pub(super) struct Peer {
    kind: Kind,
    source: Option<Ipv4Addr>,
    socket: Option<OwnedFd>,
    /// Whether the request of this connection is still to be sent.
    is_unsent: bool,
}

impl Peer {
    /// Peer number `number`. On the loopback each has an address of its own, as attackers do.
    pub(super) fn new(number: u64, target: SocketAddr) -> Self {
        let is_loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let byte = |value: u64| u8::try_from(value % 250).unwrap_or(0);
        let kinds = Kind::ALL.len();
        let kind = usize::try_from(number).unwrap_or(0) % kinds;
        Self {
            kind: Kind::ALL[kind],
            source: is_loopback
                .then(|| Ipv4Addr::new(127, 240, byte(number / 250), 1 + byte(number))),
            socket: None,
            is_unsent: false,
        }
    }

    pub(super) fn period(&self) -> Duration {
        self.kind.period()
    }

    /// One turn. Nothing here waits for the server.
    pub(super) fn act(&mut self, requests: &Requests, tally: &mut Tally) {
        match self.kind {
            Kind::NeverReads | Kind::HalfOpens => self.drop_ended(tally),
            Kind::OneByte => self.drip(tally),
            Kind::Resets => {
                let mut head = [0; ANSWER_BYTES_MAX];
                let _ = self.read(&mut head, tally);
                self.reset();
            }
            Kind::FloodsConnections => self.reset(),
            Kind::Churns => self.socket = None,
            Kind::FloodsPublishes => self.read_answer(tally),
        }
        if self.socket.is_none() {
            self.connect(requests, tally);
        }
        self.send(requests, tally);
    }

    fn connect(&mut self, requests: &Requests, tally: &mut Tally) {
        let address = match self.kind {
            Kind::FloodsPublishes => requests.publish_at,
            _ => requests.subscribe_at,
        };
        tally.connects += 1;
        match connected(address, self.source) {
            Ok(socket) => (self.socket, self.is_unsent) = (Some(socket), true),
            Err(_) => tally.failed += 1,
        }
    }

    /// Sends what this peer has to say. While the connect is under way the next turn tries again.
    fn send(&mut self, requests: &Requests, tally: &mut Tally) {
        let request = match self.kind {
            Kind::FloodsConnections => return,
            Kind::FloodsPublishes => &requests.publish[..],
            Kind::HalfOpens => &requests.subscribe[..requests.subscribe.len() / 2],
            _ => &requests.subscribe[..],
        };
        let Some(socket) = self.socket.as_ref().filter(|_| self.is_unsent) else {
            return;
        };
        match send(socket, request, SendFlags::NOSIGNAL) {
            Ok(_) => self.is_unsent = false,
            Err(Errno::AGAIN | Errno::NOTCONN) => {}
            Err(_) => self.cut(tally),
        }
    }

    fn cut(&mut self, tally: &mut Tally) {
        self.socket = None;
        tally.cut += 1;
    }

    /// Lets go of a connection that the server has ended, without reading.
    fn drop_ended(&mut self, tally: &mut Tally) {
        let Some(socket) = &self.socket else {
            return;
        };
        let mut polled = [PollFd::new(socket, PollFlags::RDHUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if matches!(poll(&mut polled, Some(&now)), Ok(1)) {
            self.cut(tally);
        }
    }

    /// How many bytes came; 0 also for a connection that is over, which is dropped.
    fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> usize {
        let Some(socket) = &self.socket else {
            return 0;
        };
        match recv(socket, buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN | Errno::NOTCONN) => 0,
            Ok((_, 0)) | Err(_) => {
                self.cut(tally);
                0
            }
            Ok((_, count)) => count,
        }
    }

    fn drip(&mut self, tally: &mut Tally) {
        let count = self.read(&mut [0], tally);
        tally.dripped += count as u64;
    }

    /// Takes the answer to a publish; until it has come nothing more is sent on this connection.
    fn read_answer(&mut self, tally: &mut Tally) {
        let mut answer = [0; ANSWER_BYTES_MAX];
        let count = self.read(&mut answer, tally);
        if count == 0 {
            return;
        }
        match head::parse(&answer[..count]) {
            Parsed::Head(head) if (200..300).contains(&head.status) => tally.accepted += 1,
            _ => tally.refused += 1,
        }
        self.is_unsent = true;
    }

    /// Closes with a reset instead of an orderly end.
    fn reset(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Without it the end is an orderly one: hostile enough.
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
    }
}

/// A socket that is connected, or being connected.
fn connected(address: SocketAddr, source: Option<Ipv4Addr>) -> Result<OwnedFd, Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES)?;
    if let Some(source) = source {
        bind(&socket, &SocketAddrV4::new(source, 0))?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
