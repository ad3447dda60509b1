//! Open connections, counted against their limits until their streams end.

use std::sync::Arc;

use gush_middleware::{Gate, KeyedPermit, Permit};

/// Counts open connections: in all, and those that no shard has taken over.
#[derive(Debug)]
pub struct ConnectionGate {
    open: Arc<Gate>,
    lobby: Arc<Gate>,
}

/// One connection's share of the limits, given back on drop: for a subscriber when its stream
/// ends. The default is none.
#[derive(Debug, Default)]
pub struct ConnectionPermit {
    /// Of the limit of all or, for the first stream of a connection that carries many, of that
    /// connection.
    _place: Option<Permit>,
    /// What it counts for its address.
    address: Option<KeyedPermit>,
}

/// The permit of a connection that no shard has taken over.
#[derive(Debug)]
pub struct LobbyPermit {
    connection: ConnectionPermit,
    _lobby: Permit,
}

/// A connection that carries many streams counts as one with its first; each further one is one
/// more.
#[derive(Clone, Debug)]
pub struct Carrier(Arc<Gate>);

impl Default for Carrier {
    fn default() -> Self {
        Self(Gate::new(1))
    }
}

impl ConnectionGate {
    /// At most `max` connections, of which at most `lobby_max` are still in the process's own
    /// descriptor table.
    #[must_use]
    pub fn new(max: usize, lobby_max: usize) -> Self {
        Self {
            open: Gate::new(max),
            lobby: Gate::new(lobby_max),
        }
    }

    /// A permit, or `None` at a limit.
    #[must_use]
    pub fn admit(&self) -> Option<LobbyPermit> {
        let connection = ConnectionPermit::of(self.open.admit()?);
        let lobby = self.lobby.admit()?;
        Some(LobbyPermit {
            connection,
            _lobby: lobby,
        })
    }

    /// A permit of a connection or stream that another process served until now: it counts, and
    /// is not refused.
    #[must_use]
    pub fn taken_over(&self) -> LobbyPermit {
        LobbyPermit {
            connection: ConnectionPermit::of(self.open.count()),
            _lobby: self.lobby.count(),
        }
    }

    /// A permit for a stream of a connection that carries many, or `None` at the limit, and whether
    /// it is one more than the connection.
    #[must_use]
    pub fn admit_stream(&self, carrier: &Carrier) -> Option<(ConnectionPermit, bool)> {
        if let Some(own) = carrier.0.admit() {
            return Some((ConnectionPermit::of(own), false));
        }
        let further = self.open.admit()?;
        Some((ConnectionPermit::of(further), true))
    }

    /// Connections now open, and streams inside others beyond the first of each.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.open()
    }

    /// The limit.
    #[must_use]
    pub fn max(&self) -> usize {
        self.open.max()
    }

    /// Changes the limit; what is open stays open.
    pub fn set_max(&self, max: usize) {
        self.open.set_max(max);
    }
}

impl ConnectionPermit {
    const fn of(place: Permit) -> Self {
        Self {
            _place: Some(place),
            address: None,
        }
    }

    /// From now on it also counts for its address.
    pub(crate) fn count_for_address(&mut self, share: Option<KeyedPermit>) {
        if share.is_some() {
            self.address = share;
        }
    }
}

impl LobbyPermit {
    /// From now on it also counts for its address.
    pub(crate) fn count_for_address(&mut self, share: Option<KeyedPermit>) {
        self.connection.count_for_address(share);
    }

    /// The connection goes on in a shard.
    #[must_use]
    pub fn leave_lobby(self) -> ConnectionPermit {
        self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_is_one_with_its_first_stream() {
        let gate = ConnectionGate::new(3, 3);
        let carrier = Carrier::default();
        let connection = gate.admit();
        let (first, is_further) = gate.admit_stream(&carrier).expect("its own place");
        assert_eq!((gate.open(), is_further), (1, false));
        let further = [gate.admit_stream(&carrier), gate.admit_stream(&carrier)];
        assert!(further.iter().flatten().all(|(_, is_further)| *is_further));
        assert_eq!(gate.open(), 3);
        assert!(gate.admit_stream(&carrier).is_none() && gate.admit().is_none());
        drop(first);
        let again = gate.admit_stream(&carrier);
        assert!(again.is_some_and(|(_, is_further)| !is_further));
        drop((connection, further));
        assert_eq!(gate.open(), 0);
    }
}
