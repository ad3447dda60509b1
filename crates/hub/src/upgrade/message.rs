//! What the two processes of an upgrade tell each other.

use std::net::{IpAddr, SocketAddr};

use gush_log::{Conflation, Draft, RecordRef};
use gush_sse::{EventId, EventType, Topic};
use serde::{Deserialize, Serialize};

use crate::request::Door;
use crate::socket::SocketOptions;

/// Of the dialogue and of every message. A process that meets another one refuses the upgrade,
/// and the old one goes on.
pub(super) const VERSION: u32 = 2;

/// Of a handed-over stream's meaning: its note, and the bytes of a frame of which the old process
/// may have sent a part. Where it differs, streams are closed instead. A test holds it against the
/// frames.
pub(super) const STREAMS_VERSION: u32 = 3;

/// Of the state of a stream under TLS 1.3, which comes behind the notes. Where it differs, or the
/// new process says none, such streams are closed instead, and others go over all the same.
pub(super) const TLS_VERSION: u32 = 1;

/// What the old process says, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromOld {
    /// The begin. With it come, as descriptors: the relay, the way of connections, the ways of
    /// streams, the listeners.
    Hello(Hello),
    /// Events of a memory log, oldest first.
    Events(Vec<EventNote>),
    /// The log is given up.
    Yours(LogNote),
    /// There is no way back.
    Go,
}

/// See [`FromOld::Hello`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u32,
    pub(super) streams_version: u32,
    /// How many ways of streams there are.
    pub(super) ways: usize,
    pub(super) listeners: Vec<ListenerNote>,
    /// Which log it is, as configured: another one has other ids, so it takes a restart.
    pub(super) log: String,
    /// The key that `--dev` made, if it is in use.
    pub(super) dev_key: Option<String>,
    /// How the sockets of streams are set.
    pub(super) sockets: Option<SocketNote>,
}

/// [`SocketOptions`], as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SocketNote {
    user_timeout_ms: u64,
    send_buffer_bytes: u64,
}

impl From<SocketOptions> for SocketNote {
    fn from(options: SocketOptions) -> Self {
        let user_timeout_ms = options.user_timeout.as_millis();
        Self {
            user_timeout_ms: u64::try_from(user_timeout_ms).unwrap_or(u64::MAX),
            send_buffer_bytes: options.send_buffer_bytes as u64,
        }
    }
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerNote {
    pub(crate) door: DoorNote,
    /// The address as it was configured; `None` for one that a service manager opened.
    pub(crate) configured: Option<SocketAddr>,
}

/// A [`Door`], as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DoorNote {
    Public,
    Admin,
}

impl From<Door> for DoorNote {
    fn from(door: Door) -> Self {
        match door {
            // The new process counts anew.
            Door::Public | Door::Full | Door::AddressFull => Self::Public,
            Door::Admin | Door::FullAdmin => Self::Admin,
        }
    }
}

impl From<DoorNote> for Door {
    fn from(door: DoorNote) -> Self {
        match door {
            DoorNote::Public => Self::Public,
            DoorNote::Admin => Self::Admin,
        }
    }
}

/// Where the log stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LogNote {
    pub(super) epoch: u64,
    /// The oldest event that was sent, or that none was.
    pub(super) first: u64,
    pub(super) next: u64,
}

/// What the new process says, in this order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromNew {
    /// Everything but the log is there.
    Ready {
        version: u32,
        takes_streams: bool,
        /// See [`TLS_VERSION`].
        #[serde(default)]
        tls_version: u32,
    },
    /// The log is open.
    Opened,
    /// Connections are accepted.
    Serving,
    /// At any step: this process ends.
    Failed(String),
}

/// An event in a memory log, or on its way to the new process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventNote {
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    time_ms: u64,
    topics: Vec<String>,
    is_private: bool,
    id: Option<String>,
    kind: Option<String>,
    retry_ms: Option<u64>,
    #[serde(default)]
    is_latest: bool,
    #[serde(default)]
    key: Option<String>,
    data: String,
}

impl EventNote {
    pub(super) fn of_record(event: &RecordRef<'_>) -> Self {
        Self {
            epoch: event.position.epoch.as_u64(),
            offset: event.offset().as_u64(),
            time_ms: event.time_ms,
            topics: event.topics.iter().map(str::to_owned).collect(),
            is_private: event.is_private,
            id: event.id.map(str::to_owned),
            kind: event.kind.map(str::to_owned),
            retry_ms: event.retry_ms,
            is_latest: event.is_latest,
            key: event.key.map(str::to_owned),
            data: event.data.to_owned(),
        }
    }

    pub(super) fn of_draft(draft: Draft) -> Self {
        let own = |text: Box<str>| text.into_string();
        Self {
            epoch: 0,
            offset: 0,
            time_ms: 0,
            topics: draft.topics.iter().map(Topic::to_string).collect(),
            is_private: draft.is_private,
            id: draft.id.map(|id| id.as_str().to_owned()),
            kind: draft.kind.map(|kind| kind.as_str().to_owned()),
            retry_ms: draft.retry_ms,
            is_latest: draft.conflation.is_latest,
            key: draft.conflation.key.map(own),
            data: draft.data.into_string(),
        }
    }

    /// The offset and the time it was appended at.
    pub(super) const fn place(&self) -> (u64, u64) {
        (self.offset, self.time_ms)
    }

    /// About as many bytes as it takes in a message.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.topics.iter().map(String::len).sum::<usize>() + 128
    }

    /// `None` for what no publisher could have published.
    pub(super) fn into_draft(self) -> Option<Draft> {
        let id = match self.id {
            Some(id) => EventId::parse(&id).ok()?,
            None => None,
        };
        let kind = match self.kind {
            Some(kind) => EventType::parse(&kind).ok()?,
            None => None,
        };
        let topics = self.topics.iter().map(|topic| Topic::parse(topic).ok());
        Some(Draft {
            topics: topics.collect::<Option<_>>()?,
            is_private: self.is_private,
            id,
            kind,
            retry_ms: self.retry_ms,
            conflation: Conflation {
                is_latest: self.is_latest,
                key: self.key.map(String::into_boxed_str),
            },
            data: self.data.into_boxed_str(),
        })
    }
}

/// A connection between two requests; its socket comes with it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConnectionNote {
    pub(super) door: DoorNote,
    pub(super) peer: IpAddr,
    /// It is not one over the limit, to be refused.
    pub(super) was_counted: bool,
    /// What was read of its next request.
    pub(super) bytes: Vec<u8>,
}

/// Some live streams, at most [`SOCKETS_MAX`](crate::socket::table::SOCKETS_MAX): their sockets
/// come with them, in the same order and non-blocking. If some are under TLS, the bytes of their
/// states follow, in the same order too.
pub(crate) type StreamNotes = Vec<StreamNote>;

/// The new process's answer to each such message: its streams are on their way to their shard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct StreamsTaken;

/// A live stream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StreamNote {
    pub(crate) is_chunked: bool,
    pub(crate) tls: Option<TlsNote>,
    pub(crate) matchers: Vec<String>,
    pub(crate) grants: Vec<String>,
    pub(crate) wants_gap: bool,
    pub(crate) told_until: Option<u64>,
    /// The first offset it may still need.
    pub(crate) cursor: u64,
    /// Bytes of the frame at the cursor that are out.
    pub(crate) partial: u32,
    /// How large the crowd was for which its delay was drawn.
    pub(crate) told_level: u8,
    /// When its token expires, in milliseconds since 1970: a time on its way here does not count.
    pub(crate) expires_unix_ms: Option<u64>,
    /// Since when nothing was written to it.
    pub(crate) silent_ms: u64,
    /// Until `max_stream_life` ends it.
    pub(crate) ends_in_ms: Option<u64>,
    pub(crate) present: Option<PresentNote>,
    /// Whom it is for: for the limits and the record of its end.
    pub(crate) client: Option<ClientNote>,
}

/// What is told of a stream's TLS; its secrets are not in here.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct TlsNote {
    /// By its registered number.
    pub(crate) suite: u16,
    /// Of its state.
    pub(crate) bytes: usize,
}

impl StreamNote {
    /// Bytes of its TLS state.
    pub(crate) fn tls_bytes(&self) -> usize {
        self.tls.map_or(0, |tls| tls.bytes)
    }

    /// About as many bytes as it takes in a message.
    pub(crate) fn bytes(&self) -> usize {
        let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
        let present = self.present.as_ref();
        bytes(&self.matchers)
            + bytes(&self.grants)
            + present.map_or(0, |present| bytes(&present.matchers) + PAYLOAD_BYTES)
            + self.tls_bytes()
            + 512
    }
}

/// What a `mercure.payload` takes in a message, about: the token it came in fits a request's head.
const PAYLOAD_BYTES: usize = 1024;

/// Whom a stream is for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ClientNote {
    pub(crate) address: IpAddr,
    pub(crate) subject: Option<String>,
    pub(crate) trace_id: Option<String>,
}

/// A subscriber's entry in the active subscriptions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PresentNote {
    pub(crate) subscriber: String,
    pub(crate) matchers: Vec<String>,
    pub(crate) payload: Option<serde_json::Value>,
}

/// What became of a relayed publish.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RelayOutcome {
    Appended { epoch: u64, offset: u64 },
    Refused { kind: u8, detail: String },
}

/// A publish that came to the old process after the log had gone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Relayed {
    pub(super) number: u64,
    pub(super) event: EventNote,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RelayAnswer {
    pub(super) number: u64,
    pub(super) outcome: RelayOutcome,
}
