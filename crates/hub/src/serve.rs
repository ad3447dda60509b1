//! Putting a hub together, running it, and taking it down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gush_log::Log;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::accept::{Listener, accept};
use crate::budget::{self, Budget};
use crate::clock::Clock;
use crate::config::{ConfigError, Loaded, Settings, reload_changes};
use crate::conflate::Conflation;
use crate::crowd::Crowd;
use crate::dev::{self, DevInfo};
use crate::drain;
use crate::error::ServeError;
use crate::hub::{Hub, Parts, ShardDoor};
use crate::limits::{self, Plan};
use crate::metrics::Metrics;
use crate::options::OPTIONS;
use crate::policy::{Policy, PolicyCell};
use crate::presence::Presence;
use crate::pressure;
use crate::replay::Replayer;
use crate::request::Door;
use crate::shard::{Seat, Shard, ShardThread, Shared, Table};
use crate::store;
use crate::stream_log::StreamRecords;
use crate::tls::TlsCell;
use crate::window::Window;

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

/// Connections waiting to be accepted, per listener: what a reconnect storm needs. The kernel
/// cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

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
    let clock = Clock::real();
    let mut settings = loaded.settings;
    let dev = if settings.dev {
        Some(dev::apply(&mut settings, clock.unix_ms() / 1000)?)
    } else {
        None
    };
    warn_about(&settings);
    let descriptors = limits::raise_descriptors();
    let policy = Policy::new(settings)?;
    let plan = Plan::new(&policy.settings, limits::cores(), descriptors);
    let budget = Budget::new(&policy.settings, plan.connections_max);
    tracing::info!("{budget}");
    if policy.settings.max_connections > 0 {
        budget
            .check(budget::machine_bytes())
            .map_err(|error| ServeError::new(format!("--max-connections: {error}")))?;
    }
    limits::widen_table(&plan, policy.settings.max_connections);
    let runtime = runtime()?;
    // Before anything is open that a shard's own descriptor table should not hold a copy of.
    let seats = {
        let _inside = runtime.enter();
        seats(&plan)?
    };
    let log = store::open(&policy.settings)?;
    tracing::info!(log = %log.describe(), "log open");
    let running = Running::start(log, policy, clock, (plan, seats))?;
    let result = runtime.block_on(running.run(reload, dev, ready));
    let closed = running.hub.log.close();
    runtime.shutdown_timeout(Duration::from_secs(1));
    result?;
    closed.map_err(|error| ServeError::new(format!("the log was not closed cleanly: {error}")))
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
    shards: std::sync::Mutex<Vec<ShardThread>>,
}

impl Running {
    fn start(
        log: Arc<dyn Log>,
        policy: Policy,
        clock: Clock,
        (plan, seats): (Plan, Vec<Seat>),
    ) -> Result<Self, ServeError> {
        let policy = Arc::new(PolicyCell::new(policy));
        let now = policy.load_full();
        let settings = &now.settings;
        let doors: Vec<_> = seats.iter().map(ShardDoor::of).collect();
        let inboxes = doors.iter().map(|door| Arc::clone(&door.inbox)).collect();
        let next = log.bounds().next;
        let conflation = Arc::new(Conflation::new(Arc::clone(&policy), next));
        let window = Window::new(next, settings.window_bytes, settings.window_events, inboxes);
        let window = Arc::new(window.conflating(&conflation));
        log.set_tail(Arc::clone(&window) as Arc<dyn gush_log::Tail>);
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
        let parts = Parts {
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
            shards: std::sync::Mutex::new(shards),
        })
    }

    async fn run(
        &self,
        reload: &Reload,
        dev: Option<DevInfo>,
        ready: Box<dyn FnOnce(&Started) + Send>,
    ) -> Result<(), ServeError> {
        let hub = &self.hub;
        let policy = hub.policy.load_full();
        let settings = &policy.settings;
        watch_keys(&policy, hub.now_unix());
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(Arc::new(TlsCell::load(cert, key)?)),
            _ => None,
        };
        // Before the listeners, so that no signal ever meets the default action.
        let mut signals = Signals::new()?;
        let (stop, stopped) = watch::channel(false);
        let listener = |door| Listener {
            hub: Arc::clone(hub),
            door,
            tls: tls.clone(),
            stop: stopped.clone(),
        };
        let mut public = Vec::new();
        for address in &settings.listen {
            let (socket, bound) = bind(*address, "--listen")?;
            public.push(bound);
            tokio::spawn(accept(listener(Door::Public), socket));
        }
        let admin = match settings.admin_listen {
            Some(address) => {
                let (socket, bound) = bind(address, "--admin-listen")?;
                // Plain: it is for this machine, and a page that a browser opens without a warning.
                let listener = Listener {
                    tls: None,
                    ..listener(Door::Admin)
                };
                tokio::spawn(accept(listener, socket));
                Some(bound)
            }
            None => None,
        };
        let _measured = pressure::watch(hub)
            .map_err(|error| ServeError::new(format!("the measuring thread: {error}")))?;
        let leavings = tokio::spawn(publish_leavings(Arc::clone(hub)));
        ready(&Started {
            public,
            admin,
            tls: tls.is_some(),
            dev,
        });
        drop(policy);
        self.until_signalled(&mut signals, reload, tls.as_deref())
            .await;
        let shards = std::mem::take(
            &mut *self
                .shards
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        tokio::select! {
            () = drain::drain(hub, shards, &stop) => {}
            // Somebody at a terminal does not want to wait; what was accepted is still synced.
            () = stop_signal(&mut signals.terminate, &mut signals.interrupt) => {
                tracing::warn!("second signal: the drain is cut short");
            }
        }
        leavings.abort();
        hub.presence.publish_left().await;
        hub.metrics.stream_log.finish();
        hub.replayer.stop();
        Ok(())
    }

    async fn until_signalled(&self, signals: &mut Signals, reload: &Reload, tls: Option<&TlsCell>) {
        let mut tls_changed_at = tls.and_then(TlsCell::changed_at);
        let mut look = tokio::time::interval(TLS_LOOK);
        loop {
            tokio::select! {
                () = stop_signal(&mut signals.terminate, &mut signals.interrupt) => return,
                _ = signals.hangup.recv() => {
                    self.reload(reload);
                    self.hub.metrics.stream_log.reopen();
                    reload_tls(tls);
                    tls_changed_at = tls.and_then(TlsCell::changed_at);
                }
                _ = look.tick(), if tls.is_some() => {
                    let changed_at = tls.and_then(TlsCell::changed_at);
                    if changed_at != tls_changed_at {
                        tls_changed_at = changed_at;
                        reload_tls(tls);
                    }
                }
            }
        }
    }

    /// Puts new settings in place, or says why the old ones stay.
    fn reload(&self, reload: &Reload) {
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
                self.hub.policy.store(policy);
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

fn bind(address: SocketAddr, option: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listen = || -> std::io::Result<(TcpListener, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    listen().map_err(|error| {
        ServeError::new(format!(
            "{option} {address}: {error}; choose another address"
        ))
    })
}

/// The signals a hub obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServeError> {
        let watch =
            |kind| signal(kind).map_err(|error| ServeError::new(format!("signals: {error}")));
        Ok(Self {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }
}

/// SIGTERM or SIGINT: end.
async fn stop_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
