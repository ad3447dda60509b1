//! Descriptor tables of their own for shards, and the way sockets get into them.
//!
//! A process may open as many descriptors as its limit says, but the limit counts per table, and a
//! thread can leave the process's table for one of its own. So shards that own their sockets hold
//! shards times the limit where the limit cannot be raised. A descriptor is a number in one table:
//! a socket goes over as a message, never as a number (decision 0011).

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Gives the calling thread a descriptor table of its own: a copy of the process's, which from now
/// on neither sees what the other opens.
///
/// Called first thing on a shard's thread, before the log and the listeners are open, so that the
/// copy holds the polls and wake-up descriptors (they keep their numbers) and nothing whose later
/// closing would have to be seen here.
///
/// # Errors
///
/// The kernel refuses: some containers allow the call to privileged processes only.
#[expect(unsafe_code, reason = "decision 0011")]
pub(crate) fn leave_shared_table() -> io::Result<()> {
    // SAFETY: a descriptor owned by a value must not be closed or used under the same number in
    // another table. The thread keeps to that: what it owns it received or opened in its own table,
    // except for its poll, the wake-up descriptors and this module's socket, which were open
    // before and have the same number in both; and nothing that owns a descriptor of its table
    // leaves it (`Arriving::Sent` carries a ticket, and the shard hands back what it shares).
    unsafe { unshare_unsafe(UnshareFlags::FILES) }.map_err(io::Error::from)
}

/// Most sockets that are sent together: about half of what Linux takes in one message.
pub(crate) const SOCKETS_MAX: usize = 128;

/// Bytes of a message: the first ticket, and how many sockets come with it.
const MESSAGE_BYTES: usize = 16;

/// How long descriptors wait to be sent while those that this user has on their way, also in other
/// processes, are as many as a table holds. Ours.
pub(crate) const REFERENCES_PAUSE: Duration = Duration::from_millis(1);

/// How often sockets wait so for their shard. Ours: shards take them in within a turn.
const REFERENCES_PAUSES_MAX: u32 = 5_000;

/// A socket's number while it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// That of a socket so many behind the first of those that were sent together.
    pub(crate) const fn behind(self, count: u64) -> Self {
        Self(self.0.wrapping_add(count))
    }
}

/// The end that sends sockets into a shard's table.
#[derive(Debug)]
pub(crate) struct Sender {
    stream: UnixStream,
    next: AtomicU64,
}

/// The shard's end.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: StdUnixStream,
    /// Received before their turn; `None` for one that found the table full. At most as many as
    /// the kernel holds in one such socket: some hundreds that were sent one by one, and what an
    /// upgrade sends together.
    early: HashMap<Ticket, Option<OwnedFd>>,
}

/// The two ends. Has to be called inside the runtime.
pub(crate) fn pair() -> io::Result<(Sender, Receiver)> {
    let (sender, receiver) = StdUnixStream::pair()?;
    sender.set_nonblocking(true)?;
    receiver.set_nonblocking(true)?;
    Ok((
        Sender {
            stream: UnixStream::from_std(sender)?,
            next: AtomicU64::new(0),
        },
        Receiver {
            stream: receiver,
            early: HashMap::new(),
        },
    ))
}

impl Sender {
    /// Sends a descriptor; the caller closes its own afterwards. Waits while some hundreds are on
    /// their way, which lasts no longer than a turn of the shard.
    pub(crate) async fn send(&self, descriptor: BorrowedFd<'_>) -> io::Result<Ticket> {
        let ticket = self.reserve(1);
        self.send_all(ticket, &[descriptor]).await?;
        Ok(ticket)
    }

    /// Tickets for so many, the first of them.
    pub(crate) fn reserve(&self, count: usize) -> Ticket {
        Ticket(self.next.fetch_add(count as u64, Ordering::Relaxed))
    }

    /// As [`Self::send`], for some together: at most [`SOCKETS_MAX`], which get the tickets from
    /// `first` on.
    pub(crate) async fn send_all(
        &self,
        first: Ticket,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut bytes = [0; MESSAGE_BYTES];
        bytes[..8].copy_from_slice(&first.0.to_ne_bytes());
        bytes[8..].copy_from_slice(&(descriptors.len() as u64).to_ne_bytes());
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
                return Err(io::Error::other("too many sockets at once"));
            }
            let piece = [IoSlice::new(&bytes)];
            let sent = sendmsg(&self.stream, &piece, &mut control, SendFlags::NOSIGNAL);
            // So few bytes go whole or not at all.
            sent.map_err(io::Error::from)
        };
        let mut pauses_left = REFERENCES_PAUSES_MAX;
        loop {
            match self.stream.async_io(Interest::WRITABLE, send).await {
                Err(error) if is_too_many(&error) && pauses_left > 0 => {
                    pauses_left -= 1;
                    tokio::time::sleep(REFERENCES_PAUSE).await;
                }
                other => return other.map(drop),
            }
        }
    }
}

fn is_too_many(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::TOOMANYREFS.raw_os_error())
}

impl Receiver {
    /// The descriptor that was sent under a ticket. It has been sent before the ticket is known
    /// here, so there is nothing to wait for.
    ///
    /// # Errors
    ///
    /// The table is full, so the kernel dropped it.
    pub(crate) fn take(&mut self, ticket: Ticket) -> io::Result<OwnedFd> {
        loop {
            if let Some(found) = self.early.remove(&ticket) {
                let full = || io::Error::other("the shard's descriptor table is full");
                return found.ok_or_else(full);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut bytes = [0; MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            self.stream.as_fd(),
            &mut [IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes != bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let [first, count] = bytes.as_chunks::<8>().0 else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let first = Ticket(u64::from_ne_bytes(*first));
        let count = u64::from_ne_bytes(*count);
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some);
            }
        }
        // Where the table is full the last ones are missing.
        let is_whole = descriptors.len() as u64 == count;
        debug_assert!(is_whole || received.flags.contains(ReturnFlags::CTRUNC));
        let mut descriptors = descriptors.into_iter();
        for number in 0..count {
            self.early.insert(first.behind(number), descriptors.next());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn sockets_arrive_in_a_table_of_its_own_in_any_order() {
        let (sender, mut receiver) = pair().unwrap();
        let mut ours = Vec::new();
        let mut tickets = Vec::new();
        for _ in 0..3 {
            let (here, there) = StdUnixStream::pair().unwrap();
            tickets.push(sender.send(there.as_fd()).await.unwrap());
            ours.push(here);
        }
        let (here, there): (Vec<_>, Vec<_>) =
            (0..3).map(|_| StdUnixStream::pair().unwrap()).unzip();
        let first = sender.reserve(there.len());
        let together: Vec<_> = there.iter().map(AsFd::as_fd).collect();
        sender.send_all(first, &together).await.unwrap();
        tickets.extend((0..3).map(|number| first.behind(number)));
        ours.extend(here);
        drop(there);
        let shard = std::thread::spawn(move || {
            leave_shared_table().unwrap();
            for (number, ticket) in tickets.into_iter().enumerate().rev() {
                let mut stream = StdUnixStream::from(receiver.take(ticket).unwrap());
                stream.write_all(&[u8::try_from(number).unwrap()]).unwrap();
            }
        });
        shard.join().unwrap();
        for (number, here) in ours.iter_mut().enumerate() {
            let mut bytes = Vec::new();
            here.read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, [u8::try_from(number).unwrap()]);
        }
    }
}
