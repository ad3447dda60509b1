//! The listening sockets: bound here, opened by a service manager, or taken over.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Socket, Type};

use crate::config::Settings;
use crate::error::ServeError;
use crate::request::Door;
use crate::socket::given;
use crate::upgrade::{DoorNote, ListenerNote};

/// Connections waiting to be accepted, per listener: what a reconnect storm needs. The kernel
/// cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// The name of a service manager's socket that is the admin listener's.
const ADMIN_NAME: &str = "admin";

/// A listening socket and what it is for.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) note: ListenerNote,
    pub(crate) socket: TcpListener,
}

impl Bound {
    pub(crate) fn door(&self) -> Door {
        self.note.door.into()
    }

    pub(crate) fn of(note: ListenerNote, socket: OwnedFd) -> std::io::Result<Self> {
        let socket = TcpListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self { note, socket })
    }
}

/// What a service manager opened for this process.
///
/// # Errors
///
/// It passed something else than listening stream sockets.
pub(crate) fn of_service_manager() -> Result<Vec<Bound>, ServeError> {
    let refused = |error| {
        ServeError::new(format!(
            "LISTEN_FDS: {error}; check the socket unit's ListenStream"
        ))
    };
    let bound = |(name, socket): (String, OwnedFd)| {
        let door = if name == ADMIN_NAME {
            DoorNote::Admin
        } else {
            DoorNote::Public
        };
        let note = ListenerNote {
            door,
            configured: None,
        };
        Bound::of(note, socket)
    };
    let sockets = given::by_service_manager().map_err(refused)?;
    sockets
        .into_iter()
        .map(|socket| bound(socket).map_err(refused))
        .collect()
}

/// All listeners that the settings ask for. Those that are there already are not bound again, and
/// a service manager's stand for the configured ones. What nobody asks for is closed.
///
/// # Errors
///
/// An address cannot be bound; names the option.
pub(crate) fn open(settings: &Settings, mut there: Vec<Bound>) -> Result<Vec<Bound>, ServeError> {
    let mut all = Vec::new();
    let public: Vec<_> = settings.listen.clone();
    let admin: Vec<_> = settings.admin_listen.into_iter().collect();
    let doors = [
        (DoorNote::Public, public, "--listen"),
        (DoorNote::Admin, admin, "--admin-listen"),
    ];
    for (door, addresses, option) in doors {
        let is_activated =
            |bound: &mut Bound| bound.note.door == door && bound.note.configured.is_none();
        let activated: Vec<_> = there.extract_if(.., is_activated).collect();
        if !activated.is_empty() {
            all.extend(activated);
            continue;
        }
        for address in addresses {
            let note = ListenerNote {
                door,
                configured: Some(address),
            };
            let found = there.iter().position(|bound| bound.note == note);
            all.push(match found {
                Some(index) => there.swap_remove(index),
                None => Bound {
                    note,
                    socket: bind(address, option)?,
                },
            });
        }
    }
    Ok(all)
}

fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, ServeError> {
    let listen = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    listen().map_err(|error| {
        ServeError::new(format!(
            "{option} {address}: {error}; choose another address"
        ))
    })
}
