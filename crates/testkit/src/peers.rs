//! Peers that make life hard for a hub.

use crate::{Connection, Failure, Outcome, PATIENCE, Request};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Writes the bytes one at a time, each in a packet of its own.
pub fn send_byte_by_byte(connection: &mut Connection, bytes: &[u8]) -> Outcome<()> {
    for byte in bytes {
        connection.send(std::slice::from_ref(byte))?;
    }
    Ok(())
}

/// A connection from this address of the machine, such as another one of the loopback's.
pub fn open_from(source: IpAddr, address: SocketAddr) -> Outcome<Connection> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    Connection::over(socket.into(), address)
}

/// A connection whose receive buffer is as small as the kernel allows (a few KiB), so that a
/// subscriber that does not read is noticed early. The request has been sent; nothing is read.
pub fn unread_request(address: SocketAddr, request: &Request) -> Outcome<Connection> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Has to be set before connecting, or the window has been announced already.
    socket.set_recv_buffer_size(1)?;
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let mut connection = Connection::over(socket.into(), address)?;
    connection.send_request(request)?;
    Ok(connection)
}

/// Reads at most `step` bytes of whatever comes; 0: the hub closed.
pub fn read_step(connection: &Connection, step: usize, wait: Duration) -> Outcome<usize> {
    let mut socket = connection.socket();
    socket.set_read_timeout(Some(wait))?;
    let mut buffer = vec![0; step];
    match socket.read(&mut buffer) {
        Ok(n) => Ok(n),
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => Ok(0),
        Err(e) => Err(Failure::from(e).within("reading a step")),
    }
}

/// Closes with a reset instead of a regular end.
pub fn reset(connection: Connection) -> Outcome<()> {
    SockRef::from(connection.socket()).set_linger(Some(Duration::ZERO))?;
    drop(connection);
    Ok(())
}

/// Open sockets that every process started from here has as well, until they are dropped.
pub fn inherited_by_children(count: usize) -> Outcome<Vec<Socket>> {
    let one = || -> Outcome<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_cloexec(false)?;
        Ok(socket)
    };
    std::iter::repeat_with(one).take(count).collect()
}
