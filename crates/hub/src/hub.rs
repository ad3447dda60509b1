//! The parts of a running hub, as requests see them.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, OnceLock};

use gush_log::Log;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::admit::{ConnectionGate, Limit, Limits};
use crate::balance::Balance;
use crate::clock::Clock;
use crate::close::CloseReason;
use crate::crowd::Crowd;
use crate::keys::KeyRing;
use crate::limits::Plan;
use crate::matcher_table::crowds::Crowds;
use crate::metrics::{Metrics, Readings};
use crate::policy::PolicyCell;
use crate::presence::Presence;
use crate::pressure::{LogWaits, Step};
use crate::refuse::Refuser;
use crate::replay::Replayer;
use crate::request::Door;
use crate::shard::{Command, Inbox, NewSubscriber, Seat, ShardPlace};
use crate::socket::{Arriving, table};
use crate::upgrade::{Arrivals, Heir, Leaving};
use crate::window::Window;

/// Connections of the admin listener: a few probes, scrapers and pages.
pub(crate) const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Searches of the log at a time: more would only wait for the same disk and cores.
const LOOKUPS_MAX: usize = 4;

/// A running hub. Every part is made for sharing; the requests hold it by reference count.
pub struct Hub {
    /// Where events go and come from.
    pub log: Arc<dyn Log>,
    /// The newest events.
    pub window: Arc<Window>,
    /// The ways into the shards.
    pub(crate) shards: Vec<ShardDoor>,
    /// Most sockets of one shard.
    shard_streams_max: usize,
    /// Most streams that a shard hands to a new process in one message.
    pub(crate) handed_together: usize,
    /// The settings now.
    pub policy: Arc<PolicyCell>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who is subscribed to what.
    pub presence: Arc<Presence>,
    /// How many templates alike there may be.
    pub(crate) crowds: Arc<Crowds>,
    /// The time.
    pub clock: Clock,
    /// Open connections of the public listeners.
    pub gate: ConnectionGate,
    /// What one address, one subject, one topic may have.
    pub limits: Limits,
    /// Open connections of the admin listener: health and metrics answer also at the limit.
    pub admin_gate: ConnectionGate,
    /// How many there are to come back some day.
    pub(crate) crowd: Arc<Crowd>,
    /// Events on their way through the log.
    pub(crate) log_waits: Arc<LogWaits>,
    /// How refusals are told.
    pub(crate) refuser: Refuser,
    /// Connections over the limit that are read, so that they are refused in their own way.
    pub(crate) farewells: Arc<Semaphore>,
    farewells_max: u32,
    pub(crate) replayer: Arc<Replayer>,
    /// Searches of the log for cursors that may run at a time.
    pub(crate) lookups: Semaphore,
    /// What an operator asks of the hub as a whole.
    orders: mpsc::Sender<Order>,
    /// Streams that are being closed for balance.
    pub(crate) balance: Balance,
    /// The process that serves in this one's place.
    heir: OnceLock<Heir>,
    /// What still comes from the process before this one.
    pub(crate) arrivals: Arrivals,
    /// As many connections as the descriptors of this process are for.
    pub(crate) connections_possible: usize,
    /// Held while settings are changed.
    pub(crate) changing: Mutex<()>,
    next_shard: AtomicUsize,
    lame_duck: AtomicBool,
    draining: AtomicBool,
}

/// What an operator can ask of a hub as a whole.
#[derive(Debug)]
pub(crate) enum Order {
    /// To put a new process in its place; answered with the process's id, or why there is none.
    Upgrade(oneshot::Sender<Result<u32, String>>),
}

/// What a hub is made of.
pub(crate) struct Parts {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) window: Arc<Window>,
    pub(crate) shards: Vec<ShardDoor>,
    pub(crate) policy: Arc<PolicyCell>,
    pub(crate) metrics: Metrics,
    pub(crate) presence: Arc<Presence>,
    pub(crate) clock: Clock,
    pub(crate) replayer: Arc<Replayer>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) plan: Plan,
}

/// The way into one shard.
#[derive(Debug)]
pub(crate) struct ShardDoor {
    pub(crate) inbox: Arc<Inbox>,
    /// Present when the shard has a descriptor table of its own.
    pub(crate) sender: Option<Arc<table::Sender>>,
}

impl ShardDoor {
    pub(crate) fn of(seat: &Seat) -> Self {
        Self {
            inbox: Arc::clone(&seat.inbox),
            sender: seat.sender.clone(),
        }
    }
}

/// Sends a sink's socket into a shard's own table; one without a socket needs none.
async fn send(sender: &table::Sender, arriving: Arriving) -> std::io::Result<Arriving> {
    let Arriving::Here(sink) = arriving else {
        return Ok(arriving);
    };
    match sink.into_socket() {
        Ok((socket, wrapping)) => {
            let ticket = sender.send(socket.as_fd()).await?;
            Ok(Arriving::Sent(ticket, wrapping))
        }
        Err(sink) => Ok(Arriving::Here(sink)),
    }
}

/// The same for some together.
async fn send_all(
    sender: &table::Sender,
    streams: Vec<NewSubscriber>,
) -> std::io::Result<Vec<NewSubscriber>> {
    let first = sender.reserve(streams.len());
    let mut sockets = Vec::with_capacity(streams.len());
    let mut sent = |stream: NewSubscriber| {
        let sink = match stream.sink {
            Arriving::Here(sink) => match sink.into_socket() {
                Ok((socket, wrapping)) => {
                    let ticket = first.behind(sockets.len() as u64);
                    sockets.push(socket);
                    Arriving::Sent(ticket, wrapping)
                }
                Err(sink) => Arriving::Here(sink),
            },
            sent @ Arriving::Sent(..) => sent,
        };
        NewSubscriber { sink, ..stream }
    };
    let streams = streams.into_iter().map(&mut sent).collect();
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    sender.send_all(first, &descriptors).await?;
    Ok(streams)
}

impl Hub {
    pub(crate) fn new(parts: Parts) -> Self {
        let settings = parts.policy.load().settings.limits.clone();
        parts
            .log
            .set_waiting_max(settings.in_flight_events, settings.in_flight_bytes);
        let limits = Limits::new(&settings, parts.clock.clone());
        Self {
            limits,
            log: parts.log,
            window: parts.window,
            shards: parts.shards,
            refuser: Refuser::new(&parts.policy.load().settings),
            farewells: Arc::new(Semaphore::new(parts.plan.farewells_max)),
            farewells_max: u32::try_from(parts.plan.farewells_max).unwrap_or(u32::MAX),
            log_waits: LogWaits::new(parts.clock.clone()),
            policy: parts.policy,
            metrics: parts.metrics,
            presence: parts.presence,
            crowds: Arc::default(),
            crowd: parts.crowd,
            clock: parts.clock,
            replayer: parts.replayer,
            lookups: Semaphore::new(LOOKUPS_MAX),
            shard_streams_max: parts.plan.shard_streams_max,
            handed_together: parts.plan.handed_together,
            gate: ConnectionGate::new(parts.plan.connections_max, parts.plan.lobby_max),
            admin_gate: ConnectionGate::new(ADMIN_CONNECTIONS_MAX, ADMIN_CONNECTIONS_MAX),
            orders: parts.orders,
            balance: Balance::default(),
            heir: OnceLock::new(),
            arrivals: Arrivals::default(),
            connections_possible: parts.plan.possible,
            changing: Mutex::default(),
            next_shard: AtomicUsize::new(0),
            lame_duck: AtomicBool::new(false),
            draining: AtomicBool::new(false),
        }
    }

    /// A place for a socket, in each shard in turn, passing over full ones.
    pub(crate) fn claim_place(&self) -> Option<ShardPlace> {
        let max = self.shard_streams_max;
        self.in_turn()
            .find_map(|shard| ShardPlace::claim(&self.shards[shard].inbox, shard, max))
    }

    /// The same, in this shard as long as it has room.
    pub(crate) fn claim_place_in(&self, shard: usize) -> Option<ShardPlace> {
        let max = self.shard_streams_max;
        let here = ShardPlace::claim(&self.shards[shard].inbox, shard, max);
        here.or_else(|| self.claim_place())
    }

    /// A shard, each in turn.
    pub(crate) fn next_shard(&self) -> usize {
        self.in_turn().next().expect("a hub has shards")
    }

    /// The way into a shard, each in turn, for a stream without a socket of its own.
    pub(crate) fn place_without_socket(&self) -> ShardPlace {
        let shard = self.next_shard();
        ShardPlace::without_socket(&self.shards[shard].inbox, shard)
    }

    fn in_turn(&self) -> impl Iterator<Item = usize> {
        let count = self.shards.len();
        let turn = self.next_shard.fetch_add(1, Ordering::Relaxed);
        (0..count).map(move |further| (turn % count + further) % count)
    }

    /// Hands an admitted subscriber to its shard. If the shard has ended meanwhile (the drain was
    /// quicker than the admission), the stream ends at once.
    pub async fn hand_over(&self, mut subscriber: NewSubscriber) {
        let shard = &self.shards[subscriber.place.shard()];
        if let Some(sender) = &shard.sender {
            subscriber.sink = match send(sender, subscriber.sink).await {
                Ok(sink) => sink,
                Err(error) => {
                    tracing::error!(%error, "a subscriber's socket could not be handed over");
                    return;
                }
            };
        }
        shard.inbox.drop_leftovers();
        let refused = shard.inbox.send(Command::Subscribe(Box::new(subscriber)));
        if let Err(Command::Subscribe(subscriber)) = refused {
            self.end(*subscriber);
        }
    }

    fn end(&self, subscriber: NewSubscriber) {
        let words = self.crowd.tell(&self.policy.load().settings).frame();
        // A socket that was sent ends with the shard that it was sent to.
        if let Arriving::Here(sink) = subscriber.sink {
            sink.close(CloseReason::Drain, words.as_ref(), true);
        }
    }

    /// Hands streams of another process to the shard where all of them have their places, at most
    /// [`SOCKETS_MAX`](table::SOCKETS_MAX) of them. What comes back ends once the shard has them.
    pub(crate) async fn take_over(
        &self,
        shard: usize,
        mut streams: Vec<NewSubscriber>,
    ) -> Option<Receiver<()>> {
        let door = &self.shards[shard];
        if let Some(sender) = &door.sender {
            streams = match send_all(sender, streams).await {
                Ok(streams) => streams,
                Err(error) => {
                    tracing::error!(%error, "streams could not be handed to their shard");
                    return None;
                }
            };
        }
        door.inbox.drop_leftovers();
        let (told, obeyed) = std::sync::mpsc::sync_channel(0);
        let subscribe = |stream| Command::Subscribe(Box::new(stream));
        let mut commands: Vec<_> = streams.into_iter().map(subscribe).collect();
        commands.push(Command::Obeyed(told));
        if let Err(refused) = door.inbox.send_all(commands) {
            for command in refused {
                if let Command::Subscribe(stream) = command {
                    self.end(*stream);
                }
            }
        }
        Some(obeyed)
    }

    /// Puts a new process in this one's place; its id.
    ///
    /// # Errors
    ///
    /// Why this process goes on, or has to end.
    pub(crate) async fn upgrade(&self) -> Result<u32, String> {
        let (reply, outcome) = oneshot::channel();
        let busy = "another upgrade or the end of the hub is under way";
        let asked = self.orders.try_send(Order::Upgrade(reply));
        asked.map_err(|_| busy.to_owned())?;
        outcome.await.unwrap_or_else(|_| Err(busy.to_owned()))
    }

    /// Names the process that serves in this one's place. Once.
    pub(crate) fn set_heir(&self, heir: Heir) {
        let _ = self.heir.set(heir);
    }

    /// Hands a connection to that process; gone if there is none.
    pub(crate) fn pass_on(&self, leaving: Leaving) {
        if let Some(heir) = self.heir.get() {
            heir.take(leaving);
        }
    }

    /// From now on not ready: new streams are taken, but should go elsewhere.
    pub(crate) fn begin_lame_duck(&self) {
        self.lame_duck.store(true, Ordering::SeqCst);
    }

    /// Whether whoever sends clients here should send them elsewhere, because the hub ends.
    pub(crate) fn is_lame_duck(&self) -> bool {
        self.lame_duck.load(Ordering::SeqCst)
    }

    /// Waits until no connection is read any more that is refused. Others find no place meanwhile.
    pub(crate) async fn farewells_said(&self) {
        // It is never closed.
        let _all = self.farewells.acquire_many(self.farewells_max).await;
    }

    /// From now on no new streams, and not ready.
    pub fn begin_drain(&self) {
        self.begin_lame_duck();
        self.draining.store(true, Ordering::SeqCst);
    }

    /// What the hub gives up because it is pressed.
    #[must_use]
    pub fn brownout(&self) -> Step {
        self.metrics.pressure.step.load()
    }

    /// Whether the hub is ending its streams.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Open connections of every listener.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.gate.open() + self.admin_gate.open()
    }

    /// What counts the connections of a listener.
    pub(crate) fn gate_of(&self, door: Door) -> &ConnectionGate {
        match door {
            Door::Public | Door::Full | Door::AddressFull => &self.gate,
            Door::Admin | Door::FullAdmin => &self.admin_gate,
        }
    }

    /// Seconds since 1970, as tokens count.
    #[must_use]
    pub fn now_unix(&self) -> u64 {
        self.clock.unix_ms() / 1000
    }

    /// The metrics page.
    #[must_use]
    pub fn metrics_page(&self) -> String {
        let bounds = self.log.bounds();
        let (events, bytes) = self.log.waiting();
        #[allow(clippy::cast_precision_loss)] // milliseconds of uptime are far below 2^53
        let uptime_seconds = self.clock.now_ms() as f64 / 1000.0;
        let policy = self.policy.load();
        let breaker = |ring: &Option<Arc<KeyRing>>| ring.as_ref()?.breaker_state(self.now_unix());
        self.metrics.page(&Readings {
            connections: self.connections() as u64,
            connections_max: self.gate.max() as u64,
            refused: Limit::ALL.map(|limit| self.limits.refused(limit)),
            keys: self.limits.keys(),
            in_flight: (events as u64, bytes as u64),
            log_first: bounds.first.as_u64(),
            log_next: bounds.next.as_u64(),
            log_writable: self.log.writable().is_ok(),
            draining: self.is_draining(),
            drain_left: self.balance.left(),
            uptime_seconds,
            breakers: [breaker(&policy.publisher), breaker(&policy.subscriber)],
        })
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Hub")
            .field("log", &self.log.describe())
            .finish_non_exhaustive()
    }
}
