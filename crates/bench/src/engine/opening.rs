//! The part of a generator thread that opens streams, on a schedule or as fast as they are
//! answered.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SendFlags, SocketFlags, SocketType};

use super::Role;
use super::parse::BodyParser;
use super::source::{ATTEMPTS, Sources};
use super::stats::Stats;
use super::worker::{LOOK_NS, State, Stream, Worker, fail};
use crate::clock::now_ns;

/// Connects begun before streams are looked at again.
const CONNECTS_PER_TURN: usize = 64;
/// Streams of all threads that may wait for their answer at once, without a rate. Fewer than the
/// shortest accept queue that is usual (128), or connects would be dropped and tried again later.
const PENDING_MAX: u64 = 100;

impl Worker {
    /// Begins connects that are due. Gives the nanoseconds until the next one, at most
    /// [`LOOK_NS`].
    pub(super) fn open_some(&mut self) -> u64 {
        if let Some(pace) = self.shared.pace_after(&mut self.pace_version) {
            self.pace = pace;
        }
        let pending_max = (PENDING_MAX / self.shared.threads).max(1);
        for _ in 0..CONNECTS_PER_TURN {
            let number = self.streams.len() as u64 * self.shared.threads + self.index as u64;
            if number >= self.pace.until {
                return LOOK_NS;
            }
            let now = now_ns();
            let due = self.due_ns(number);
            match due {
                Some(due) if due > now => return (due - now).min(LOOK_NS),
                None if self.pending >= pending_max => return LOOK_NS,
                _ => {}
            }
            let shared = Arc::clone(&self.shared);
            let mut stats = shared.stats_of(self.index);
            if let Some(due) = due {
                stats.latencies.connect_late.saturating_record(now - due);
            }
            self.begin(number, now, &mut stats);
        }
        0
    }

    /// When stream `number` is to be opened, where there is a schedule.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "times of a schedule, far below 2^52 ns"
    )]
    fn due_ns(&self, number: u64) -> Option<u64> {
        let rate = self.pace.rate?;
        let steps = number.saturating_sub(self.pace.first) as f64;
        Some(
            self.pace
                .begin_ns
                .saturating_add((steps / rate * 1e9) as u64),
        )
    }

    /// Begins the connect of the stream with that number.
    fn begin(&mut self, number: u64, now: u64, stats: &mut Stats) {
        let id = self.streams.len();
        self.tracker.push();
        let mut stream = Stream {
            body: BodyParser::default(),
            at_ns: now,
            socket: None,
            role: (self.shared.plan.assign)(number),
            state: State::Closed,
        };
        match connect(self.shared.plan.address, self.shared.sources, number) {
            Ok((socket, is_connected)) => {
                let flags = if is_connected {
                    epoll::EventFlags::IN
                } else {
                    epoll::EventFlags::IN | epoll::EventFlags::OUT
                };
                let data = epoll::EventData::new_u64(id as u64);
                let sent = if is_connected {
                    self.send_request(&socket, stream.role)
                } else {
                    Ok(())
                };
                match sent.and_then(|()| epoll::add(&self.epoll, &socket, data, flags)) {
                    Ok(()) => {
                        stream.socket = Some(socket);
                        stream.state = if is_connected {
                            State::Head
                        } else {
                            State::Connecting
                        };
                        self.pending += 1;
                    }
                    Err(error) => fail(stats, "open a stream", error),
                }
            }
            Err(error) => fail(stats, "connect", error),
        }
        self.streams.push(stream);
    }

    /// A request fits into the empty send buffer of a new connection; less is an error.
    pub(super) fn send_request(&self, socket: &OwnedFd, role: Role) -> Result<(), Errno> {
        let request = (self.shared.plan.request)(role);
        match net::send(socket, &request, SendFlags::NOSIGNAL) {
            Ok(sent) if sent == request.len() => Ok(()),
            Ok(_) => Err(Errno::NOBUFS),
            Err(error) => Err(error),
        }
    }
}

/// A socket to `address` for stream `number`, and whether it is connected already: on the loopback
/// it usually is.
pub(crate) fn connect(
    address: SocketAddr,
    sources: Sources,
    number: u64,
) -> Result<(OwnedFd, bool), Errno> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let mut last = Errno::ADDRINUSE;
    for attempt in 0..ATTEMPTS {
        let socket = net::socket_with(family, SocketType::STREAM, flags, None)?;
        if let Some(source) = sources.of(number, attempt) {
            net::sockopt::set_socket_reuseaddr(&socket, true)?;
            match net::bind(&socket, &source) {
                Ok(()) => {}
                Err(Errno::ADDRINUSE) => continue,
                Err(error) => return Err(error),
            }
        }
        match net::connect(&socket, &address) {
            Ok(()) => return Ok((socket, true)),
            Err(Errno::INPROGRESS) => return Ok((socket, false)),
            Err(error @ (Errno::ADDRINUSE | Errno::ADDRNOTAVAIL)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
