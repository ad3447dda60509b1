//! Messages, some with descriptors, between the old process of an upgrade and the new one.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown,
    socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::socket::table::REFERENCES_PAUSE;

/// Bytes of one packet; a longer message takes several.
const PACKET_BYTES_MAX: usize = 32 * 1024;

/// The longest message: an event as large as any hub takes, in JSON. More is a fault.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// Descriptors of one message: what Linux sends at once, less a few.
pub(super) const DESCRIPTORS_MAX: usize = 250;

/// Before a message's first packet: its length.
const LENGTH_BYTES: usize = 8;

/// One end. Messages of one end keep their order; each end has one sender and one receiver at a
/// time. Calls wait for as long as [`Channel::set_patience`] says.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// An end that came from elsewhere.
    pub(crate) const fn of(socket: OwnedFd) -> Self {
        Self(socket)
    }

    /// Its descriptor, to be sent.
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.0
    }

    /// A second handle on the same end: one sends, the other receives.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// How long a call waits for the other side; `None`: for ever.
    pub(crate) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        // Zero would mean for ever.
        let patience = patience.map(|patience| patience.max(Duration::from_millis(1)));
        set_socket_timeout(&self.0, Timeout::Recv, patience)?;
        set_socket_timeout(&self.0, Timeout::Send, patience)?;
        Ok(())
    }

    /// Ends the channel for both sides: whoever waits, here or there, is told that the other side
    /// is gone.
    pub(super) fn end(&self) {
        // It may have ended by itself.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Sends a message. The caller keeps its own descriptors.
    ///
    /// # Errors
    ///
    /// The other side is gone, or took nothing for as long as the patience lasts.
    pub(crate) fn send(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let bytes = serde_json::to_vec(message).map_err(io::Error::other)?;
        let length = (bytes.len() as u64).to_le_bytes();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::other("too many descriptors for one message"));
        }
        let mut pieces = bytes.chunks(PACKET_BYTES_MAX);
        let first = pieces.next().unwrap_or_default();
        let begin = [IoSlice::new(&length), IoSlice::new(first)];
        let flags = SendFlags::NOSIGNAL;
        // Those that this user has on their way may be as many as a table holds.
        let mut pauses_left = match socket_timeout(&self.0, Timeout::Send)? {
            Some(patience) => patience.as_millis() / REFERENCES_PAUSE.as_millis(),
            None => u128::MAX,
        };
        again(|| {
            loop {
                match sendmsg(&self.0, &begin, &mut control, flags) {
                    Err(rustix::io::Errno::TOOMANYREFS) if pauses_left > 0 => {
                        pauses_left -= 1;
                        thread::park_timeout(REFERENCES_PAUSE);
                    }
                    other => return other,
                }
            }
        })?;
        for piece in pieces {
            let mut none = SendAncillaryBuffer::default();
            again(|| sendmsg(&self.0, &[IoSlice::new(piece)], &mut none, flags))?;
        }
        Ok(())
    }

    /// The next message and the descriptors that came with it.
    ///
    /// # Errors
    ///
    /// The other side is gone, sent nothing for as long as the patience lasts, or sent what is no
    /// such message.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<(T, Vec<OwnedFd>)> {
        let mut packet = vec![0; LENGTH_BYTES + PACKET_BYTES_MAX];
        let mut descriptors = Vec::new();
        let count = self.receive_packet(&mut packet, &mut descriptors)?;
        let Some((length, first)) = packet[..count].split_first_chunk::<LENGTH_BYTES>() else {
            return Err(broken("a message without a length"));
        };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX || first.len() > length {
            return Err(broken("a message of an impossible length"));
        }
        let mut bytes = first.to_vec();
        while bytes.len() < length {
            let count = self.receive_packet(&mut packet, &mut descriptors)?;
            bytes.extend_from_slice(&packet[..count]);
        }
        let message = serde_json::from_slice(&bytes)
            .map_err(|error| broken(&format!("a message that cannot be read: {error}")))?;
        Ok((message, descriptors))
    }

    /// Sends bytes that the message before it has told of. They are nowhere else when this returns:
    /// not in JSON, not in a buffer.
    ///
    /// # Errors
    ///
    /// As [`Self::send`].
    pub(crate) fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(PACKET_BYTES_MAX) {
            let mut none = SendAncillaryBuffer::default();
            let piece = [IoSlice::new(piece)];
            again(|| sendmsg(&self.0, &piece, &mut none, SendFlags::NOSIGNAL))?;
        }
        Ok(())
    }

    /// So many of them, as the message before has told; wiped when they are dropped.
    ///
    /// # Errors
    ///
    /// As [`Self::receive`].
    pub(crate) fn receive_bytes(&self, count: usize) -> io::Result<Zeroizing<Vec<u8>>> {
        if count > MESSAGE_BYTES_MAX {
            return Err(broken("a message of an impossible length"));
        }
        let mut bytes = Zeroizing::new(vec![0; count]);
        for piece in bytes.chunks_mut(PACKET_BYTES_MAX) {
            if self.receive_packet(piece, &mut Vec::new())? < piece.len() {
                return Err(broken("a message that is too short"));
            }
        }
        Ok(bytes)
    }

    fn receive_packet(&self, into: &mut [u8], kept: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = again(|| {
            let mut places = [IoSliceMut::new(into)];
            let received = recvmsg(&self.0, &mut places, &mut control, flags);
            match received {
                // It says so once, before what has come and the end: the other side ended without
                // having read what this one said.
                Err(rustix::io::Errno::CONNRESET) => Err(rustix::io::Errno::INTR),
                other => other,
            }
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                kept.extend(descriptors);
            }
        }
        match received.bytes {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => Ok(bytes),
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn broken(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Goes on after a signal, and names the end of the patience.
fn again<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_long_message_and_its_descriptors_arrive_whole() {
        let (one, other) = Channel::pair().expect("a pair");
        let (mut here, there) = UnixStream::pair().expect("a socket to send");
        let text = "ä".repeat(PACKET_BYTES_MAX);
        let sent = text.clone();
        let sending = std::thread::spawn(move || {
            one.send(&sent, &[there.as_fd()]).expect("sent");
            one.send(&7, &[]).expect("sent");
        });
        let (received, descriptors): (String, _) = other.receive().expect("a message");
        assert_eq!(received, text);
        let [descriptor] = <[OwnedFd; 1]>::try_from(descriptors).expect("one descriptor");
        UnixStream::from(descriptor)
            .write_all(b"x")
            .expect("it is that socket");
        let mut byte = [0];
        here.read_exact(&mut byte).expect("a byte");
        assert_eq!(other.receive::<u32>().expect("the next").0, 7);
        sending.join().expect("the sender");
        let ended = other.receive::<u32>().map_err(|error| error.kind());
        assert!(
            matches!(ended, Err(io::ErrorKind::UnexpectedEof)),
            "{ended:?}"
        );
    }

    #[test]
    fn bytes_follow_the_message_that_tells_of_them() {
        let (one, other) = Channel::pair().expect("a pair");
        let bytes: Vec<u8> = (0..3 * PACKET_BYTES_MAX + 7)
            .map(|n| n.to_le_bytes()[0])
            .collect();
        let sent = bytes.clone();
        let sending = std::thread::spawn(move || {
            one.send(&sent.len(), &[]).expect("sent");
            one.send_bytes(&sent).expect("sent");
            one.send(&0_usize, &[]).expect("sent");
            one.send_bytes(&[]).expect("nothing");
            one.send(&7, &[]).expect("sent");
            one.send_bytes(b"six").expect("sent");
        });
        for expected in [&bytes[..], &[]] {
            let (count, _) = other.receive::<usize>().expect("a message");
            assert_eq!(*other.receive_bytes(count).expect("bytes"), expected);
        }
        let (count, _) = other.receive::<usize>().expect("a message");
        assert!(other.receive_bytes(count).is_err(), "too few");
        assert!(other.receive_bytes(usize::MAX).is_err());
        sending.join().expect("the sender");
    }

    /// The kernel tells of it before it gives out what has come: streams that the old process had
    /// let go of were lost where it ended without having read the last answers.
    #[test]
    fn what_was_sent_arrives_though_the_sender_ends_without_reading() {
        let (one, other) = Channel::pair().expect("a pair");
        other.send(&0, &[]).expect("sent");
        one.send(&1, &[]).expect("sent");
        one.send(&2, &[]).expect("sent");
        drop(one);
        for expected in [1, 2] {
            assert_eq!(other.receive::<u32>().expect("a message").0, expected);
        }
        let ended = other.receive::<u32>().map_err(|error| error.kind());
        assert!(
            matches!(ended, Err(io::ErrorKind::UnexpectedEof)),
            "{ended:?}"
        );
    }

    #[test]
    fn patience_ends() {
        let (one, _other) = Channel::pair().expect("a pair");
        one.set_patience(Some(Duration::from_millis(1)))
            .expect("a timeout");
        let waited = one.receive::<u32>().map_err(|error| error.kind());
        assert!(matches!(waited, Err(io::ErrorKind::TimedOut)), "{waited:?}");
    }
}
