//! A reference with more sockets than one descriptor table has room for: threads that each have
//! sockets and a table of their own, and pass each other the events.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::frame::Frame;
use super::reference::{self, Fanout};
use crate::descriptors;
use crate::error::BenchError;

/// Frames that wait for a thread; the oldest goes when there are more, which the checks of a run
/// then show as lost.
const MAILBOX_FRAMES_MAX: usize = 4096;

/// One for each thread.
pub(super) struct Mailboxes {
    boxes: Vec<(Mutex<VecDeque<Frame>>, OwnedFd)>,
}

impl Mailboxes {
    fn new(threads: usize) -> io::Result<Self> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let one = || Ok((Mutex::default(), eventfd(0, flags)?));
        let boxes = (0..threads).map(|_| one()).collect::<io::Result<_>>()?;
        Ok(Self { boxes })
    }

    /// Readable when there is something in the box of thread `index`.
    pub(super) fn bell(&self, index: usize) -> &OwnedFd {
        &self.boxes[index].1
    }

    /// Gives a frame to all threads but `from`.
    pub(super) fn post(&self, from: usize, frame: &Frame) {
        for (to, (frames, bell)) in self.boxes.iter().enumerate() {
            if to == from {
                continue;
            }
            let mut frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
            if frames.len() == MAILBOX_FRAMES_MAX {
                frames.pop_front();
            }
            frames.push_back(Frame::clone(frame));
            // Fails only when it has been rung so often that it need not be again.
            let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
        }
    }

    /// What is in the box of thread `index`.
    pub(super) fn take(&self, index: usize) -> VecDeque<Frame> {
        let (frames, bell) = &self.boxes[index];
        // Silent before the box is emptied, so that nothing stays in it unheard.
        let _ = rustix::io::read(bell, &mut [0; 8]);
        std::mem::take(&mut *frames.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves with that many threads until the process ends. Calls `ready` with the address once all
/// of them listen.
pub(super) fn serve<F: Fanout + Default>(
    address: SocketAddr,
    threads: usize,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), BenchError> {
    let failed = |error: io::Error| BenchError::io(format!("serve on {address}"), error);
    let mailboxes = Arc::new(Mailboxes::new(threads).map_err(failed)?);
    let listener = reference::listen(address, threads > 1).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    for index in 1..threads {
        let (sender, listening) = sync_channel(1);
        let mailboxes = Arc::clone(&mailboxes);
        std::thread::Builder::new()
            .name(format!("reference-{index}"))
            .spawn(move || match own_listener(address) {
                Ok(listener) => {
                    let _ = SyncSender::send(&sender, Ok(()));
                    reference::serve(listener, F::default(), &mailboxes, index)
                }
                Err(error) => {
                    let _ = SyncSender::send(&sender, Err(error));
                    Ok(())
                }
            })
            .map_err(failed)?;
        let listening = listening.recv();
        listening
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(failed)?;
    }
    ready(address);
    reference::serve(listener, F::default(), &mailboxes, 0).map_err(failed)
}

/// A listener in a descriptor table of the calling thread's own.
fn own_listener(address: SocketAddr) -> io::Result<TcpListener> {
    descriptors::take_own_table()?;
    reference::listen(address, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_goes_to_all_others_and_the_box_is_bounded() {
        let mailboxes = Mailboxes::new(3).unwrap();
        for _ in 0..=MAILBOX_FRAMES_MAX {
            mailboxes.post(1, &Frame::from(&b"x"[..]));
        }
        assert_eq!(mailboxes.take(0).len(), MAILBOX_FRAMES_MAX);
        assert_eq!(mailboxes.take(1).len(), 0);
        assert_eq!(mailboxes.take(2).len(), MAILBOX_FRAMES_MAX);
        assert_eq!(mailboxes.take(2).len(), 0);
    }
}
