//! Descriptors that this process was started with.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::SocketType;
use rustix::net::sockopt::{socket_acceptconn, socket_type};

/// Where a service manager's sockets begin.
const FIRST: RawFd = 3;

/// The listening sockets of a service manager that starts by socket (`LISTEN_FDS` of systemd and
/// others), each with its name. Empty where the variables are for no or for another process.
///
/// Called once, before anything else is opened.
///
/// # Errors
///
/// A descriptor is no listening stream socket.
#[expect(unsafe_code, reason = "the protocol names descriptors by number")]
pub(crate) fn by_service_manager() -> io::Result<Vec<(String, OwnedFd)>> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok());
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let numbers = FIRST..FIRST.saturating_add(count.unwrap_or(0));
    numbers
        .map(|number| {
            // SAFETY: the service manager opened these for this process, whose id the variables
            // hold, and nobody here owns or closes a descriptor that it did not open; this is
            // called once. A number that is not open fails in the next calls, and closing it fails
            // as well.
            let socket = unsafe { OwnedFd::from_raw_fd(number) };
            fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            if socket_type(&socket)? != SocketType::STREAM || !socket_acceptconn(&socket)? {
                let text = format!("descriptor {number} is no listening stream socket");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            Ok((names.next().unwrap_or_default().to_owned(), socket))
        })
        .collect()
}

/// The other end of standard input, if that is a socket that carries messages: how the old process
/// of an upgrade starts the new one. Standard input is empty afterwards.
///
/// # Errors
///
/// The descriptor cannot be moved.
pub(crate) fn by_predecessor() -> io::Result<Option<OwnedFd>> {
    let input = std::io::stdin();
    if !matches!(socket_type(&input), Ok(SocketType::SEQPACKET)) {
        return Ok(None);
    }
    let socket = input.as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(Some(socket))
}
