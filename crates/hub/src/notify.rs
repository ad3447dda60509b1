//! What a service manager is told (`sd_notify(3)`): a datagram, if it asked for one.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells lines such as `READY=1`. Does nothing where nobody listens; a failure is logged only,
/// for the hub serves without it.
pub(crate) fn tell(lines: &str) {
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&place, lines) {
        tracing::warn!(%error, "the service manager could not be told {lines:?}");
    }
}

fn send(place: &OsStr, lines: &str) -> io::Result<()> {
    let address = match place.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.send_to_addr(lines.as_bytes(), &address)?;
    Ok(())
}
