//! What a service manager is told (`sd_notify(3)`): a datagram, if it asked for one.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// That the hub is up, and which process it is.
pub(crate) fn ready(pid: u32) {
    tell(&format!("MAINPID={pid}\nREADY=1"));
}

/// That the hub is busy with a reload or an upgrade, until the next [`ready`].
pub(crate) fn reloading() {
    // systemd orders what it is told by this clock, and takes no reload without it.
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
}

/// That the hub ends, and nothing comes in its place: whatever is left of it is killed after a
/// while. Not for the old process of an upgrade.
pub(crate) fn stopping() {
    tell("STOPPING=1");
}

/// Tells lines such as `READY=1`. Does nothing where nobody listens; a failure is logged only,
/// for the hub serves without it.
fn tell(lines: &str) {
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
