//! One hostile peer: what it does to the server each time its turn comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect, recv,
    send, shutdown, socket_with, sockopt,
};

use crate::engine::head::{self, Parsed};

/// Receive buffer of a hostile peer: the least that Linux gives, so that what it does not read is
/// soon the server's trouble.
const RECEIVE_BYTES: usize = 2304;
/// Length of a head that is too large: servers take 8 to 64 KiB.
pub(super) const LARGE_HEAD_BYTES: usize = 96 << 10;
/// Most bytes that one turn takes of an answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// The ways to be hostile. The peers take them by turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Subscribes and never reads, not even the head.
    NeverReads,
    /// Subscribes and reads one byte per second.
    OneByte,
    /// Resets the connection, again and again: before it said anything, in the middle of a head,
    /// behind a subscribe, and in the middle of a stream.
    Resets,
    /// Sends half of a head, or nothing, and waits.
    HalfOpens,
    /// Sends a head that never ends, one byte per second.
    SlowHeads,
    /// Opens connections, says nothing and resets them.
    FloodsConnections,
    /// Sends heads that are far too large.
    FloodsHeads,
    /// Publishes with a token of another key.
    FloodsPublishes,
    /// Subscribes with a token of another key.
    FloodsSubscribes,
    /// Subscribes and closes in order, its own side first or both at once, again and again.
    Churns,
}

impl Kind {
    pub(super) const ALL: [Self; 10] = [
        Self::NeverReads,
        Self::OneByte,
        Self::Resets,
        Self::HalfOpens,
        Self::SlowHeads,
        Self::FloodsConnections,
        Self::FloodsHeads,
        Self::FloodsPublishes,
        Self::FloodsSubscribes,
        Self::Churns,
    ];

    /// Time between two turns of one peer.
    pub(super) const fn period(self) -> Duration {
        match self {
            Self::NeverReads
            | Self::OneByte
            | Self::HalfOpens
            | Self::SlowHeads
            | Self::FloodsHeads => Duration::from_secs(1),
            Self::Resets | Self::Churns => Duration::from_millis(500),
            Self::FloodsConnections | Self::FloodsPublishes | Self::FloodsSubscribes => {
                Duration::from_millis(100)
            }
        }
    }

    /// Most bytes that wait in the kernel on a connection of such a peer, where the server lets
    /// one that does not read have `unread_bytes` of them.
    const fn waiting_bytes(self, unread_bytes: u64) -> u64 {
        match self {
            Self::NeverReads | Self::OneByte => unread_bytes,
            // Linux counts what a buffer holds with what it takes to hold it: up to twice.
            Self::FloodsHeads => 2 * LARGE_HEAD_BYTES as u64,
            _ => 0,
        }
    }

    /// The way of peer number `number`.
    fn of(number: u64) -> Self {
        let number = usize::try_from(number).unwrap_or(0);
        Self::ALL[number % Self::ALL.len()]
    }
}

/// Most bytes that wait in the kernel for the first `count` peers.
pub(super) fn waiting_bytes(count: u64, unread_bytes: u64) -> u64 {
    let each = (0..count).map(|number| Kind::of(number).waiting_bytes(unread_bytes));
    each.sum()
}

/// What the hostile peers send.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) subscribe_at: SocketAddr,
    pub(super) publish_at: SocketAddr,
    pub(super) subscribe: Vec<u8>,
    /// A subscribe and a publish with a token of another key.
    pub(super) forged_subscribe: Vec<u8>,
    pub(super) forged_publish: Vec<u8>,
    /// The begin of a head that is larger than any server takes.
    pub(super) large_head: Vec<u8>,
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
    /// Bytes of heads sent, one a second.
    pub(super) trickled: u64,
    /// Bytes of heads that are too large, as far as the system took them.
    pub(super) flooded: u64,
    /// Requests with a token of another key that the server refused.
    pub(super) refused: u64,
    /// Publishes of those that it took, which is a fault.
    pub(super) accepted: u64,
    /// Subscribes of those that it took: one that has no key for subscribers takes anybody.
    pub(super) let_in: u64,
}

impl Tally {
    /// The sum of both.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            connects: self.connects + other.connects,
            failed: self.failed + other.failed,
            cut: self.cut + other.cut,
            dripped: self.dripped + other.dripped,
            trickled: self.trickled + other.trickled,
            flooded: self.flooded + other.flooded,
            refused: self.refused + other.refused,
            accepted: self.accepted + other.accepted,
            let_in: self.let_in + other.let_in,
        }
    }
}

/// A hostile peer.
#[derive(Debug)]
pub(super) struct Peer {
    kind: Kind,
    source: Option<Ipv4Addr>,
    socket: Option<OwnedFd>,
    /// Bytes that went out on this connection.
    sent: usize,
    /// Turns it had.
    turns: u64,
    /// Whether one that half-opens says nothing at all.
    is_silent: bool,
    /// A connection whose one side it has closed; the other follows a turn later.
    left: Option<OwnedFd>,
}

impl Peer {
    /// Peer number `number`. On the loopback each has an address of its own, as attackers do.
    pub(super) fn new(number: u64, target: SocketAddr) -> Self {
        let is_loopback = matches!(target.ip(), IpAddr::V4(ip) if ip.is_loopback());
        let byte = |value: u64| u8::try_from(value % 250).unwrap_or(0);
        let of_kind = number / Kind::ALL.len() as u64;
        Self {
            kind: Kind::of(number),
            source: is_loopback
                .then(|| Ipv4Addr::new(127, 240, byte(number / 250), 1 + byte(number))),
            socket: None,
            sent: 0,
            // Peers of one kind begin in different states.
            turns: of_kind,
            is_silent: of_kind.is_multiple_of(2),
            left: None,
        }
    }

    pub(super) fn period(&self) -> Duration {
        self.kind.period()
    }

    /// One turn. Nothing here waits for the server.
    pub(super) fn act(&mut self, requests: &Requests, tally: &mut Tally) {
        self.turns += 1;
        match self.kind {
            Kind::NeverReads | Kind::HalfOpens | Kind::SlowHeads => self.drop_ended(tally),
            Kind::OneByte => self.drip(tally),
            Kind::Resets => {
                let mut head = [0; ANSWER_BYTES_MAX];
                let _ = self.read(&mut head, tally);
                self.reset();
            }
            Kind::FloodsConnections => self.reset(),
            Kind::FloodsHeads => {
                self.drop_ended(tally);
                self.socket = None;
            }
            Kind::Churns => self.leave(),
            Kind::FloodsPublishes | Kind::FloodsSubscribes => self.read_answer(tally),
        }
        if self.socket.is_none() {
            self.connect(requests, tally);
        }
        self.send(requests, tally);
        let is_short = self.kind == Kind::Resets && !self.turns.is_multiple_of(4);
        if is_short {
            self.reset();
        }
    }

    fn connect(&mut self, requests: &Requests, tally: &mut Tally) {
        let address = match self.kind {
            Kind::FloodsPublishes => requests.publish_at,
            _ => requests.subscribe_at,
        };
        tally.connects += 1;
        self.sent = 0;
        match connected(address, self.source) {
            Ok(socket) => self.socket = Some(socket),
            Err(_) => tally.failed += 1,
        }
    }

    /// What this peer has to say on this connection by the end of this turn.
    fn words<'r>(&self, requests: &'r Requests) -> &'r [u8] {
        let subscribe = &requests.subscribe[..];
        let half = &subscribe[..subscribe.len() / 2];
        match self.kind {
            Kind::FloodsConnections => &[],
            Kind::FloodsHeads => &requests.large_head,
            Kind::FloodsPublishes => &requests.forged_publish,
            Kind::FloodsSubscribes => &requests.forged_subscribe,
            Kind::HalfOpens if self.is_silent => &[],
            Kind::HalfOpens => half,
            Kind::Resets if self.turns % 4 == 1 => &[],
            Kind::Resets if self.turns % 4 == 2 => half,
            // All but its end, and never that.
            Kind::SlowHeads => &subscribe[..(self.sent + 1).min(subscribe.len() - 1)],
            Kind::NeverReads | Kind::OneByte | Kind::Resets | Kind::Churns => subscribe,
        }
    }

    /// Sends what this peer has to say. While the connect is under way the next turn tries again.
    fn send(&mut self, requests: &Requests, tally: &mut Tally) {
        let words = self.words(requests);
        let (Some(socket), Some(rest)) = (&self.socket, words.get(self.sent..)) else {
            return;
        };
        if rest.is_empty() {
            return;
        }
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(count) => {
                self.sent += count;
                match self.kind {
                    Kind::SlowHeads => tally.trickled += count as u64,
                    Kind::FloodsHeads => tally.flooded += count as u64,
                    _ => {}
                }
            }
            Err(Errno::AGAIN | Errno::NOTCONN) => {}
            Err(_) => self.cut(tally),
        }
    }

    /// Closes in order; every other time its own side first, so that the server ends the stream.
    fn leave(&mut self) {
        self.left = None;
        let Some(socket) = self.socket.take() else {
            return;
        };
        if self.turns.is_multiple_of(2) {
            // A connection that is over already is left all the same.
            let _ = shutdown(&socket, Shutdown::Write);
            self.left = Some(socket);
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

    /// Takes an answer; until it has come nothing more is sent on this connection.
    fn read_answer(&mut self, tally: &mut Tally) {
        let mut answer = [0; ANSWER_BYTES_MAX];
        let count = self.read(&mut answer, tally);
        if count == 0 {
            return;
        }
        match head::parse(&answer[..count]) {
            Parsed::Head(head) if (200..300).contains(&head.status) => match self.kind {
                Kind::FloodsSubscribes => {
                    tally.let_in += 1;
                    // Another request on a stream would be none.
                    self.socket = None;
                }
                _ => tally.accepted += 1,
            },
            _ => tally.refused += 1,
        }
        self.sent = 0;
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
