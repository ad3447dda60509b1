//! A proxy that forwards bytes and says whom they are from.

use crate::{Failure, Outcome};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};

/// The header of the PROXY protocol, version 2, of a connection from this address over TCP.
pub fn proxy_v2(client: SocketAddr) -> Vec<u8> {
    // The address that the client connected to; nobody looks at it.
    let mut rest = Vec::new();
    let family = match client.ip() {
        IpAddr::V4(address) => {
            rest.extend(address.octets());
            rest.extend([192, 0, 2, 1]);
            0x11
        }
        IpAddr::V6(address) => {
            rest.extend(address.octets());
            rest.extend([0; 16]);
            0x21
        }
    };
    rest.extend(client.port().to_be_bytes());
    rest.extend(443_u16.to_be_bytes());
    proxy_v2_with(0x21, family, &rest)
}

/// Any header with the right signature and, up to 65,535 bytes, the right length.
pub fn proxy_v2_with(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    let [.., high, low] = rest.len().to_be_bytes();
    header.extend([high, low]);
    header.extend(rest);
    header
}

/// Listens on a free loopback port and forwards what comes, each connection begun with these
/// bytes; the address it listens on. Its threads end with their connections.
pub fn forward_to(hub: SocketAddr, begin: Vec<u8>) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A hub that is gone shows as a closed connection.
            let _ = forward(client, hub, &begin);
        }
    });
    Ok(address)
}

fn forward(client: TcpStream, hub: SocketAddr, begin: &[u8]) -> Outcome<()> {
    let mut server = TcpStream::connect(hub).map_err(Failure::from)?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    server.write_all(begin)?;
    let back = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || copy(client, server));
    std::thread::spawn(move || copy(back.0, back.1));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
