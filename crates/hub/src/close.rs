//! Why a stream ended: the one closed list, used by logs, metrics and the reference pages.

/// Why the hub stopped serving a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer closed or reset the connection.
    PeerLeft,
    /// The kernel got no acknowledgement for `tcp_user_timeout`: cable pulled, host gone.
    PeerVanished,
    /// The peer took no byte for `write_timeout` while there was something to send.
    WriteTimeout,
    /// The token's `exp` came.
    TokenExpired,
    /// `max_stream_life` was reached.
    StreamLife,
    /// The hub is shutting down.
    Drain,
    /// The stream goes on in the new process of an upgrade.
    HandedOver,
    /// An operator asked for streams to be closed, for balance.
    Rebalance,
    /// Events the subscriber still needed were trimmed or damaged, and it did not ask for the gap
    /// event. It comes back with its id and learns of the loss from the answer header.
    Gap,
    /// The peer kept sending bytes behind its subscribe request.
    ProtocolError,
    /// The socket failed for another reason.
    SocketError,
    /// The hub failed; the stream can be resumed.
    InternalError,
    /// The hub's code for this stream panicked; the stream can be resumed, the others go on.
    Panic,
    /// The hub had too much to do and ended its slowest readers; they come back with their id.
    Shed,
}

impl CloseReason {
    /// Every reason, in the order of the metric's label values.
    pub const ALL: [Self; 14] = [
        Self::PeerLeft,
        Self::PeerVanished,
        Self::WriteTimeout,
        Self::TokenExpired,
        Self::StreamLife,
        Self::Drain,
        Self::HandedOver,
        Self::Rebalance,
        Self::Gap,
        Self::ProtocolError,
        Self::SocketError,
        Self::InternalError,
        Self::Panic,
        Self::Shed,
    ];

    /// The word in logs, metric labels and documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerLeft => "peer_left",
            Self::PeerVanished => "peer_vanished",
            Self::WriteTimeout => "write_timeout",
            Self::TokenExpired => "token_expired",
            Self::StreamLife => "stream_life",
            Self::Drain => "drain",
            Self::HandedOver => "handed_over",
            Self::Rebalance => "rebalance",
            Self::Gap => "gap",
            Self::ProtocolError => "protocol_error",
            Self::SocketError => "socket_error",
            Self::InternalError => "internal_error",
            Self::Panic => "panic",
            Self::Shed => "shed",
        }
    }

    /// One sentence for the reference page.
    #[must_use]
    pub const fn help(self) -> &'static str {
        match self {
            Self::PeerLeft => "The peer closed or reset the connection.",
            Self::PeerVanished => {
                "The kernel got no acknowledgement for `tcp_user_timeout`: cable pulled, host gone."
            }
            Self::WriteTimeout => {
                "The peer took no byte for `write_timeout` while there was something to send; it \
                 is reset and can resume by id."
            }
            Self::TokenExpired => "The token's `exp` came; a new token is needed.",
            Self::StreamLife => "`max_stream_life` was reached.",
            Self::Drain => "The hub is shutting down; the stream ended with its own `retry:`.",
            Self::HandedOver => {
                "The stream goes on in the new process of an upgrade; its peer noticed nothing."
            }
            Self::Rebalance => {
                "An operator had streams closed with `gush drain`, for balance; the stream ended \
                 with its own `retry:`."
            }
            Self::Gap => {
                "Events the subscriber still needed were trimmed or damaged and it had not asked \
                 for the gap event; it learns of the loss from the next answer's `Last-Event-ID`."
            }
            Self::ProtocolError => "The peer kept sending bytes behind its subscribe request.",
            Self::SocketError => "The socket failed for another reason.",
            Self::InternalError => "The hub failed; the stream can be resumed by id.",
            Self::Panic => {
                "The hub's code for this one stream panicked, which is a fault in it and is in the \
                 log with its backtrace; the stream is reset and can be resumed by id, the others \
                 go on."
            }
            Self::Shed => {
                "The hub had too much to do and ended its slowest readers, which are reset so that \
                 the kernel lets go of what they never read; they can resume by id."
            }
        }
    }

    /// Whether a client should come back with what it has (`false`: only with a new token or a
    /// corrected request).
    #[must_use]
    pub const fn come_back(self) -> bool {
        !matches!(self, Self::TokenExpired | Self::ProtocolError)
    }

    /// Whether the connection is reset instead of ended in order: an orderly end would leave what
    /// the peer never read (up to megabytes) in the kernel until the peer goes away. After a panic
    /// it is not known whether the bytes so far end with a whole frame.
    #[must_use]
    pub const fn resets(self) -> bool {
        matches!(
            self,
            Self::PeerVanished
                | Self::WriteTimeout
                | Self::ProtocolError
                | Self::SocketError
                | Self::Panic
                | Self::Shed
        )
    }
}
