//! Putting a hub together, running it, and taking it down in order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gush_log::Log;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::accept::{Listener, accept};
use crate::answered::HubTail;
use crate::budget::{self, Budget};
use crate::clock::Clock;
use crate::config::{ConfigError, Loaded, Settings, reload_changes};
use crate::conflate::Conflation;
use crate::crowd::Crowd;
use crate::dev::{self, DevInfo};
use crate::drain;
use crate::error::ServeError;
use crate::hub::{Hub, Order, Parts, ShardDoor};
use crate::limits::{self, Plan};
use crate::listeners::{self, Bound};
use crate::metrics::Metrics;
use crate::notify;
use crate::options::OPTIONS;
use crate::policy::{Policy, PolicyCell};
use crate::presence::Presence;
use crate::pressure;
use crate::replay::Replayer;
use crate::request::Door;
use crate::secret::Secret;
use crate::shard::{Seat, Shard, ShardThread, Shared, Table};
use crate::store;
use crate::stream_log::StreamRecords;
use crate::tls::TlsCell;
use crate::upgrade::{Baton, Moving, Taking};
use crate::window::Window;

// A new process in this one's place.
mod handing;

use handing::Successor;

/// Loads the settings again, from the same sources as at the start.
pub type Reload = dyn Fn() -> Result<Loaded, ConfigError> + Send + Sync;

/// What a hub that has started tells.
#[derive(Clone, Debug)]
pub struct Started {
    /// The bound public addresses, in the order of `--listen`.
    pub public: Vec<SocketAddr>,
    /// The bound admin address.
    pub admin: Option<SocketAddr>,
    /// Whether the listeners speak TLS.
    pub tls: bool,
    /// Present with `--dev`.
    pub dev: Option<DevInfo>,
}

/// How often the certificate files are looked at for a renewal.
const TLS_LOOK: Duration = Duration::from_secs(10);

/// Runs a hub until SIGTERM or SIGINT has drained it. Blocks.
///
/// `ready` is called once, when all listeners are bound and the log is open.
///
/// # Errors
///
/// What keeps it from starting, in a sentence that names the option; or the log's last sync
/// failing at the end.
pub fn serve(
    loaded: Loaded,
    reload: &Reload,
    ready: Box<dyn FnOnce(&Started) + Send>,
) -> Result<(), ServeError> {
    let mut taking = None;
    let served = start_and_run(loaded, &mut taking, reload, ready);
    if let (Err(error), Some(taking)) = (&served, &taking) {
        // The old process goes on.
        Taking::failed(taking, error);
    }
    served
}

/// `taking` is filled if this process takes another one's place, and emptied once it has.
fn start_and_run(
    loaded: Loaded,
    taking: &mut Option<Taking>,
    reload: &Reload,
    ready: Box<dyn FnOnce(&Started) + Send>,
) -> Result<(), ServeError> {
    let clock = Clock::real();
    let mut settings = loaded.settings;
    let limit = limits::raise_descriptors();
    let descriptors = limit.saturating_sub(limits::inherited_descriptors(limit));
    let plan = Plan::new(&settings, limits::cores(), descriptors);
    let budget = Budget::new(&settings, plan.connections_max);
    if settings.max_connections > 0 {
        budget
            .check(budget::machine_bytes())
            .map_err(|error| ServeError::new(format!("--max-connections: {error}")))?;
    }
    limits::widen_table(&plan, settings.max_connections);
    let runtime = runtime()?;
    let _inside = runtime.enter();
    // Before anything is open that a shard's own descriptor table should not hold a copy of.
    let seats = seats(&plan)?;
    let mut there = listeners::of_service_manager()?;
    *taking = Taking::begin()?;
    let mut made_key = None;
    if let Some(taking) = taking {
        there.extend(taking.listeners());
        made_key = taking.dev_key().filter(|_| settings.dev);
        settings.publisher_key = settings.publisher_key.or(made_key.clone().map(Secret::new));
    }
    let dev = if settings.dev {
        let had_key = settings.publisher_key.is_some();
        let dev = dev::apply(&mut settings, clock.unix_ms() / 1000)?;
        if !had_key {
            made_key = settings
                .publisher_key
                .as_ref()
                .map(|key| key.expose().to_owned());
        }
        Some(dev)
    } else {
        None
    };
    warn_about(&settings);
    tracing::info!("{budget}");
    let policy = Policy::new(settings)?;
    let settings = &policy.settings;
    let ground = Ground {
        listeners: Arc::new(listeners::open(settings, there)?),
        tls: match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(Arc::new(TlsCell::load(cert, key)?)),
            _ => None,
        },
        made_key,
        dev,
    };
    let log = open_log(settings, taking.as_mut())?;
    tracing::info!(log = %log.describe(), "log open");
    if let Some(taking) = taking {
        taking.opened(&*log)?;
    }
    let running = Running::start(log, policy, clock, (plan, seats))?;
    let result = runtime.block_on(running.run(reload, ground, taking, ready));
    let closed = running.hub.log.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result?;
    closed.map_err(|error| ServeError::new(format!("the log was not closed cleanly: {error}")))
}

/// The log of the settings, or what another process held of it in memory.
fn open_log(settings: &Settings, taking: Option<&mut Taking>) -> Result<Arc<dyn Log>, ServeError> {
    let held = match taking {
        Some(taking) => taking.await_log(settings)?,
        None => None,
    };
    match held {
        Some(log) => Ok(Arc::new(log)),
        None => store::open(settings),
    }
}

/// What a hub stands on beside its log.
struct Ground {
    listeners: Arc<Vec<Bound>>,
    tls: Option<Arc<TlsCell>>,
    /// The publisher key, if `--dev` made it.
    made_key: Option<String>,
    dev: Option<DevInfo>,
}

/// What an operator should know and no check refuses.
fn warn_about(settings: &Settings) {
    for warning in settings.warnings() {
        tracing::warn!("{warning}");
    }
}

fn runtime() -> Result<Runtime, ServeError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(limits::cores())
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(|error| ServeError::new(format!("the runtime could not start: {error}")))
}

fn seats(plan: &Plan) -> Result<Vec<Seat>, ServeError> {
    let whose = if plan.own_tables {
        tracing::info!(
            shards = plan.shards,
            streams = plan.shard_streams_max,
            "each shard has a descriptor table of its own"
        );
        Table::Own
    } else {
        Table::Shared
    };
    (0..plan.shards)
        .map(|number| Seat::new(number, whose))
        .collect::<Result<_, _>>()
        .map_err(|error| {
            ServeError::new(if plan.own_tables {
                format!(
                    "a shard could not get a descriptor table of its own: {error}; raise the \
                     descriptor limit and set --descriptor-tables shared, or allow unshare(2)"
                )
            } else {
                format!("a shard could not start: {error}")
            })
        })
}

/// A hub and the threads behind it.
struct Running {
    hub: Arc<Hub>,
    baton: Arc<Baton>,
    shards: Mutex<Vec<ShardThread>>,
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
}

impl Running {
    fn start(
        log: Arc<dyn Log>,
        policy: Policy,
        clock: Clock,
        (plan, seats): (Plan, Vec<Seat>),
    ) -> Result<Self, ServeError> {
        let baton = Arc::new(Baton::new(log));
        let log = Arc::clone(&baton) as Arc<dyn Log>;
        let policy = Arc::new(PolicyCell::new(policy));
        let now = policy.load_full();
        let settings = &now.settings;
        let doors: Vec<_> = seats.iter().map(ShardDoor::of).collect();
        let inboxes = doors.iter().map(|door| Arc::clone(&door.inbox)).collect();
        let next = log.bounds().next;
        let conflation = Arc::new(Conflation::new(Arc::clone(&policy), next));
        let window = Window::new(next, settings.window_bytes, settings.window_events, inboxes);
        let window = Arc::new(window.conflating(&conflation));
        log.set_tail(Arc::new(HubTail::new(Arc::clone(&window))));
        let mut metrics = Metrics::new(plan.shards);
        metrics.stream_log = Arc::new(StreamRecords::start(settings)?);
        let replayer = Replayer::start(&log, &conflation, &metrics.panics)
            .map_err(|error| ServeError::new(format!("the log's readers: {error}")))?;
        let replayer = Arc::new(replayer);
        let presence = Arc::new(Presence::new(Arc::clone(&log)));
        let crowd = Arc::<Crowd>::default();
        let shared = Arc::new(Shared {
            window: Arc::clone(&window),
            replayer: Arc::clone(&replayer),
            policy: Arc::clone(&policy),
            clock: clock.clone(),
            crowd: Arc::clone(&crowd),
            panics: Arc::clone(&metrics.panics),
            stream_log: Arc::clone(&metrics.stream_log),
            conflation,
        });
        let started = seats.into_iter().zip(&metrics.shards);
        let shards = started
            .map(|(seat, counters)| Shard::start(seat, Arc::clone(&shared), Arc::clone(counters)))
            .collect();
        // One at a time is obeyed, and one may wait.
        let (orders, ordered) = mpsc::channel(1);
        let parts = Parts {
            orders,
            log,
            window,
            shards: doors,
            policy,
            metrics,
            presence,
            clock,
            replayer,
            crowd,
            plan,
        };
        Ok(Self {
            hub: Arc::new(Hub::new(parts)),
            baton,
            shards: Mutex::new(shards),
            orders: Mutex::new(Some(ordered)),
        })
    }

    async fn run(
        &self,
        reload: &Reload,
        ground: Ground,
        taking: &mut Option<Taking>,
        ready: Box<dyn FnOnce(&Started) + Send>,
    ) -> Result<(), ServeError> {
        let hub = &self.hub;
        watch_keys(&hub.policy.load_full(), hub.now_unix());
        // Before the listeners, so that no signal ever meets the default action.
        let mut signals = Signals::new()?;
        let (stop, stopped) = watch::channel(false);
        // What is told to those who come after that, until the very end.
        let (last, ended) = watch::channel(false);
        let (moving, moves) = watch::channel(Moving::No);
        let listener = |door| Listener {
            hub: Arc::clone(hub),
            door,
            // Plain: it is for this machine, and a page that a browser opens without a warning.
            tls: ground.tls.clone().filter(|_| door == Door::Public),
            stop: stopped.clone(),
            end: ended.clone(),
            moving: moves.clone(),
        };
        let (started, sockets) = listen(&ground)?;
        let _measured = pressure::watch(hub)
            .map_err(|error| ServeError::new(format!("the measuring thread: {error}")))?;
        let leavings = tokio::spawn(publish_leavings(Arc::clone(hub)));
        if let Some(taking) = taking.take() {
            taking.serving(hub, listener)?;
        }
        // Only now: a process that did not come to serve has accepted nobody.
        for (door, socket) in sockets {
            tokio::spawn(accept(listener(door), socket));
        }
        ready(&started);
        notify::ready(std::process::id());
        let end = self
            .until_told(&mut signals, reload, &ground, &moving)
            .await;
        let shards = std::mem::take(&mut *lock(&self.shards));
        let (hurry, hurried) = watch::channel(false);
        let ending = async {
            match end {
                End::Told(broken) => {
                    notify::stopping();
                    drain::drain(hub, shards, &stop, hurried).await;
                    broken.map_or(Ok(()), Err)
                }
                End::Given(successor) => handing::hand_over(hub, shards, &stop, successor).await,
            }
        };
        let result = tokio::select! {
            result = ending => result,
            () = signals.told_again(&hurry) => Ok(()),
        };
        leavings.abort();
        hub.presence.publish_left().await;
        hub.metrics.stream_log.finish();
        hub.replayer.stop();
        drain::end(hub, &last).await;
        result
    }

    /// Serves until there is a reason to end.
    async fn until_told(
        &self,
        signals: &mut Signals,
        reload: &Reload,
        ground: &Ground,
        moving: &watch::Sender<Moving>,
    ) -> End {
        let tls = ground.tls.as_deref();
        let mut tls_changed_at = tls.and_then(TlsCell::changed_at);
        let mut look = tokio::time::interval(TLS_LOOK);
        let Some(mut orders) = lock(&self.orders).take() else {
            return End::Told(None);
        };
        loop {
            let reply = tokio::select! {
                () = signals.stop.recv() => return End::Told(None),
                _ = signals.hangup.recv() => {
                    notify::reloading();
                    self.reload(reload);
                    self.hub.metrics.stream_log.reopen();
                    reload_tls(tls);
                    tls_changed_at = tls.and_then(TlsCell::changed_at);
                    notify::ready(std::process::id());
                    continue;
                }
                _ = look.tick(), if tls.is_some() => {
                    let changed_at = tls.and_then(TlsCell::changed_at);
                    if changed_at != tls_changed_at {
                        tls_changed_at = changed_at;
                        reload_tls(tls);
                    }
                    continue;
                }
                _ = signals.upgrade.recv() => None,
                Some(Order::Upgrade(reply)) = orders.recv() => Some(reply),
            };
            if let Some(end) = self.upgrade(ground, moving, reply, signals).await {
                return end;
            }
        }
    }

    /// Puts new settings in place, or says why the old ones stay.
    fn reload(&self, reload: &Reload) {
        let _changing = self.hub.changing();
        let old = self.hub.policy.load_full();
        let outcome = reload()
            .map_err(|error| error.to_string())
            .and_then(|loaded| {
                let mut settings = loaded.settings;
                if settings.dev {
                    // Made at the start; tokens signed with it stay good.
                    settings.publisher_key = settings
                        .publisher_key
                        .or_else(|| old.settings.publisher_key.clone());
                    dev::apply(&mut settings, self.hub.now_unix())
                        .map_err(|error| error.to_string())?;
                }
                let (changed, fixed) = reload_changes(&old.settings, &settings);
                keep_fixed(&fixed, &old.settings, &mut settings);
                let policy = Policy::new(settings).map_err(|error| error.to_string())?;
                policy.adopt_keys(&old);
                self.hub.put(policy)?;
                self.hub.replayer.forget();
                watch_keys(&self.hub.policy.load_full(), self.hub.now_unix());
                Ok((changed, fixed))
            });
        match outcome {
            Ok((changed, fixed)) => {
                tracing::info!(changed = changed.join(", "), "configuration reloaded");
                if !fixed.is_empty() {
                    tracing::warn!(keys = fixed.join(", "), "changed, but need a restart");
                }
            }
            Err(error) => {
                tracing::error!("configuration not reloaded, the old one stays: {error}");
            }
        }
    }
}

/// Tells of those who leave, without end. After a panic whoever was being told of is passed over.
async fn publish_leavings(hub: Arc<Hub>) {
    let guard = &hub.metrics.panics.request;
    let publish = || guard.watch("presence", hub.presence.publish_leavings());
    while publish().await.is_err() {}
}

/// Why a hub stops serving.
enum End {
    /// It was told to, or has to for a reason.
    Told(Option<ServeError>),
    /// A new process serves in its place.
    Given(Successor),
}

/// The doors, ready to be opened, and where they are.
fn listen(ground: &Ground) -> Result<(Started, Vec<(Door, TcpListener)>), ServeError> {
    let failed = |error: std::io::Error| ServeError::new(format!("a listener: {error}"));
    let mut started = Started {
        public: Vec::new(),
        admin: None,
        tls: ground.tls.is_some(),
        dev: ground.dev.clone(),
    };
    let mut sockets = Vec::new();
    for bound in ground.listeners.iter() {
        let socket = bound.socket.try_clone().map_err(failed)?;
        let socket = TcpListener::from_std(socket).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        match bound.door() {
            Door::Public | Door::Full | Door::AddressFull => started.public.push(address),
            Door::Admin | Door::FullAdmin => started.admin = Some(address),
        }
        sockets.push((bound.door(), socket));
    }
    Ok((started, sockets))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What needs a restart keeps the value it has, also for the next reload's comparison.
fn keep_fixed(fixed: &[&str], old: &Settings, new: &mut Settings) {
    for option in OPTIONS.iter().filter(|option| fixed.contains(&option.key)) {
        option.copy(old, new);
    }
}

/// Says what is weak about the keys, and fetches key sets before the first token needs them.
fn watch_keys(policy: &Arc<Policy>, now_unix: u64) {
    for ring in [&policy.publisher, &policy.subscriber]
        .into_iter()
        .flatten()
    {
        if let Some(warning) = ring.warning() {
            tracing::warn!("{warning}");
        }
    }
    let policy = Arc::clone(policy);
    tokio::spawn(async move {
        for ring in [&policy.publisher, &policy.subscriber]
            .into_iter()
            .flatten()
        {
            ring.prefetch(now_unix).await;
            if let Some(trouble) = ring.trouble() {
                tracing::warn!("{trouble}");
            }
        }
    });
}

fn reload_tls(tls: Option<&TlsCell>) {
    let Some(tls) = tls else { return };
    match tls.reload() {
        Ok(()) => tracing::info!("certificate reloaded"),
        Err(error) => tracing::error!("certificate not reloaded, the old one stays: {error}"),
    }
}

/// The signals a hub obeys.
struct Signals {
    stop: StopSignals,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let watch =
            |kind| signal(kind).map_err(|error| ServeError::new(format!("signals: {error}")));
        Ok(Self {
            stop: StopSignals {
                terminate: watch(SignalKind::terminate())?,
                interrupt: watch(SignalKind::interrupt())?,
            },
            hangup: watch(SignalKind::hangup())?,
            upgrade: watch(SignalKind::user_defined2())?,
        })
    }

    /// Somebody at a terminal does not want to wait: told for the second time, the hub closes what
    /// is left at once; for the third time, this comes back. What was accepted is still synced.
    async fn told_again(&mut self, hurry: &watch::Sender<bool>) {
        self.stop.recv().await;
        tracing::warn!("second signal: streams that are left are closed now");
        hurry.send_replace(true);
        self.stop.recv().await;
        tracing::warn!("third signal: connections that are left are cut");
    }
}

/// SIGTERM and SIGINT: end.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Either of them.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
