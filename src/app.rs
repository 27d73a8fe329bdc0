//! Builds the parts, runs them, changes them on reload, and stops them in order.
//!
//! Start: store, audit log, addresses bound, lanes, and only then is anything accepted. Reload: what is new is bound
//! first, so a port that cannot be had leaves everything as it was; open connections stay. Stop: listeners answer what
//! they took while lanes finish what is outstanding, and the store closes last. Nothing acknowledged depends on a clean
//! stop, and nothing may keep a stop from ending.

mod certificates;
mod reach;
mod unmapped_file;
mod ways;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, timeout, timeout_at},
};
use tracing::{error, info, warn};

use crate::{
    admin::{Admin, Audit, AuditError, Engine, ListenerStatus, audit_files, set_aside_audit},
    channel::Channel,
    clock::Clock,
    config::{self, Config, LimitsConfig, LogFormat, StoreConfig, Watch},
    delivery::{Delivery, Key},
    devices::Devices,
    intake::{Conformity, Intake, Owed},
    metrics::Metrics,
    mllp::server::{Bound, Budget, Server},
    pcd::Nomenclature,
    sabotage::{self, CrashPoint},
    store::{DiskStore, LaneStatus, OpenError, Store, StoreError},
    summary::Summaries,
    threads::Threads,
};
use certificates::Certificates;
use reach::ReachFile;
use unmapped_file::UnmappedFile;
use ways::WaysFile;

/// Kept of the drain timeout for what follows when the rest is over, where a quarter of it is not less.
const CUT: Duration = Duration::from_secs(3);
/// The store's last checkpoint and sync have so long at least, also where everything else took all the time.
const CLOSE: Duration = Duration::from_secs(2);

/// Between two looks for silent devices.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two looks at the certificates.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(60);

/// Why the engine did not start, or a reload was refused. The operator acts.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not open.
    #[error("store {}: {error}", .path.display())]
    Store {
        /// `store.path`.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// A task of this program ended badly while starting.
    #[error("start: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// An address could not be bound.
    #[error("cannot listen on {address}: {error}; stop what holds it or change {key}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The configuration key it came from.
        key: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The audit log did not open.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A destination or lane could not be set up.
    #[error("{0}")]
    Delivery(String),
    /// No thread for the connections of gateways, or for lanes.
    #[error("cannot start a thread: {0}; raise the limit of processes (LimitNPROC, TasksMax)")]
    Threads(std::io::Error),
    /// The metrics registry refused a family: a fault of this program.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// Where a reload reads the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The file given, or the default one where there is one; files are watched.
    Files(Option<PathBuf>),
    /// Nowhere: what was started with stays.
    Fixed,
}

/// The running engine.
pub struct App {
    parts: Arc<Parts>,
    admin: Admin,
    watch: JoinHandle<()>,
    look: JoinHandle<()>,
    unmapped: JoinHandle<()>,
    summaries: JoinHandle<()>,
    certificates: JoinHandle<()>,
}

impl App {
    /// Starts everything.
    pub async fn start(config: Config, source: Source, clock: Clock) -> Result<App, StartError> {
        let (parts, watches) = Parts::open(&config, source, clock).await?;
        let audit = open_audit(&config.store.audit_log(), &parts.clock)?;
        let engine = parts.clone().engine(audit);
        warn_of(&config);
        parts.watch_files(&config);
        parts.apply(config.channels).await?;
        tokio::spawn(parts.owed.clone().watch());
        let admin = Admin::bind(config.admin, Arc::new(engine)).await;
        let admin = admin.map_err(|error| StartError::Listen {
            address: config.admin,
            key: "admin.listen in cannula.toml".into(),
            error,
        })?;
        let watch = tokio::spawn(parts.clone().reload_on_change(watches));
        let look = tokio::spawn(look_after(parts.devices.clone(), parts.store.clone()));
        let unmapped = tokio::spawn(parts.unmapped_file().keep_up(parts.delivery.clone()));
        let summaries = tokio::spawn(parts.summaries.clone().keep_up());
        let certificates = tokio::spawn(parts.clone().look_at_certificates());
        Ok(App { parts, admin, watch, look, unmapped, summaries, certificates })
    }

    /// The admin address bound.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The addresses bound, by the address configured.
    pub fn listening(&self) -> BTreeMap<SocketAddr, SocketAddr> {
        let listeners = self.parts.listeners();
        listeners.iter().map(|(configured, listening)| (*configured, listening.server.address())).collect()
    }

    /// What is stored.
    pub fn store(&self) -> Arc<dyn Store> {
        self.parts.store.clone()
    }

    /// Everything counted.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.parts.metrics.clone()
    }

    /// Loads the configuration again: the number of channels now in force, or every fault; then nothing has changed.
    pub async fn reload(&self) -> Result<usize, Vec<String>> {
        self.parts.reload().await
    }

    /// Stops in order; what is not done within `limits.drain_timeout` is cut.
    pub async fn stop(self) -> Result<(), StoreError> {
        let limit = self.parts.settings.limits.drain_timeout;
        let deadline = Instant::now() + limit;
        // The end of it is for what follows a cut.
        let cut_at = deadline - (limit / 4).min(CUT);
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        self.watch.abort();
        self.look.abort();
        self.unmapped.abort();
        self.summaries.abort();
        self.certificates.abort();
        // A reload that hangs is not waited for; what it still tries to put in force, delivery refuses.
        let _ = timeout_at(cut_at, async { *self.parts.stopping.lock().await = true }).await;
        self.parts.owed.stop();
        let listeners = std::mem::take(&mut *self.parts.listeners());
        let drains = listeners.into_values().map(|listening| listening.server.drain(left(cut_at)));
        tokio::join!(futures_util::future::join_all(drains), self.parts.delivery.drain(left(cut_at)));
        let _ = timeout(left(deadline), self.parts.keep_ways()).await;
        let (devices, store) = (self.parts.devices.clone(), self.parts.store.clone());
        let saved = tokio::task::spawn_blocking(move || devices.save(true, || store.stats().next_sequence));
        let _ = timeout(left(deadline), saved).await;
        let _ = timeout(left(deadline), self.parts.unmapped_file().keep(&self.parts.delivery)).await;
        self.admin.stop(left(deadline).min(Duration::from_secs(1))).await;
        let closed = timeout(left(deadline).max(CLOSE), self.parts.store.close()).await;
        info!("stopped");
        closed.unwrap_or_else(|_| {
            warn!("the store did not close in time: the next start reads its journal instead");
            // Dropping it would wait for its disk.
            std::mem::forget(self.parts.store.clone());
            Ok(())
        })
    }
}

fn warn_of(config: &Config) {
    config.warnings.iter().for_each(|warning| warn!(%warning, "configuration"));
}

/// Looks for silent devices, and keeps what is known of all.
async fn look_after(devices: Arc<Devices>, store: Arc<dyn Store>) {
    let mut due = tokio::time::interval(LOOK_EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        devices.look();
        let (devices, store) = (devices.clone(), store.clone());
        // A panic in it was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || devices.save(false, || store.stats().next_sequence)).await;
    }
}

/// A log whose chain does not hold is kept aside for whoever asks why, and a new one begun that says so: patients'
/// messages do not wait for an inquiry.
fn open_audit(path: &Path, clock: &Clock) -> Result<Audit, StartError> {
    let broken = match Audit::open(path) {
        Err(AuditError::Broken { line, what }) => (line, what),
        opened => return Ok(opened?),
    };
    let now = clock.now();
    let aside = set_aside_audit(path, now)?;
    error!(line = broken.0, what = broken.1, aside = %aside.display(), "the audit log was changed; compare it with a backup");
    let audit = Audit::open(path)?;
    if let Err(fault) = audit.record(now, "audit.broken", &format!("line {} of {}", broken.0, aside.display())) {
        error!(%fault, "the audit log cannot be written");
    }
    Ok(audit)
}

/// What listeners, lanes and the API share.
struct Parts {
    source: Source,
    settings: Settings,
    store: Arc<dyn Store>,
    /// The same, for what is asked of files.
    disk: Arc<DiskStore>,
    delivery: Arc<Delivery>,
    devices: Arc<Devices>,
    owed: Arc<Owed>,
    summaries: Arc<Summaries>,
    certificates: Certificates,
    metrics: Arc<Metrics>,
    clock: Clock,
    nomenclature: Arc<ArcSwap<Nomenclature>>,
    conformity: Arc<Conformity>,
    channels: Arc<ArcSwap<Vec<Arc<Channel>>>>,
    listeners: Mutex<BTreeMap<SocketAddr, Listening>>,
    in_flight: Budget,
    threads: Arc<Threads>,
    watches: mpsc::UnboundedSender<Watch>,
    /// Held while the configuration changes; true once nothing may be put in force any more.
    stopping: tokio::sync::Mutex<bool>,
}

struct Listening {
    intake: Arc<Intake>,
    server: Server,
}

/// What is read at the start only.
#[derive(Clone, PartialEq, Eq)]
struct Settings {
    store: StoreConfig,
    admin: SocketAddr,
    limits: LimitsConfig,
    log: LogFormat,
}

impl Settings {
    fn of(config: &Config) -> Settings {
        let (store, limits) = (config.store.clone(), config.limits.clone());
        Settings { store, admin: config.admin, limits, log: config.log }
    }
}

impl Parts {
    async fn open(
        config: &Config,
        source: Source,
        clock: Clock,
    ) -> Result<(Arc<Parts>, mpsc::UnboundedReceiver<Watch>), StartError> {
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let path = config.store.path.clone();
        let (options, store_metrics, store_clock) = (config.store.options(), metrics.clone(), clock.clone());
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || DiskStore::open(&path, options, store_metrics, store_clock)
        });
        let disk = opened.await?.map_err(|error| StartError::Store { path, error })?;
        let store: Arc<dyn Store> = disk.clone();
        let (watches, watched) = mpsc::unbounded_channel();
        let delivery = Delivery::new(store.clone(), clock.clone(), metrics.clone());
        delivery.run_on(Threads::for_lanes().map_err(StartError::Threads)?);
        delivery.came_by(WaysFile::in_store(&config.store.path).read());
        let owed = Owed::new(store.clone(), clock.clone(), metrics.clone());
        let told = owed.clone();
        delivery.tell(move |lane, entry, settlement| told.ended(lane, entry, settlement));
        let (at, devices_clock, devices_metrics) = (config.store.path.clone(), clock.clone(), metrics.clone());
        let devices =
            tokio::task::spawn_blocking(move || Arc::new(Devices::open(Some(&at), devices_clock, devices_metrics)));
        let devices = devices.await?;
        devices.catch_up(&*store, &config.channels).await;
        delivery.unmapped().restore(UnmappedFile::in_store(&config.store.path).read());
        let nomenclature = Arc::new(ArcSwap::new(config.nomenclature.clone()));
        let summaries =
            Summaries::open(&config.store.path, store.clone(), clock.clone(), metrics.clone(), nomenclature.clone());
        let parts = Parts {
            source,
            settings: Settings::of(config),
            delivery,
            store,
            disk,
            devices,
            owed,
            summaries: Arc::new(summaries),
            certificates: Certificates::new(metrics.clone()),
            metrics,
            clock,
            conformity: Arc::new(Conformity::new(nomenclature.clone())),
            nomenclature,
            channels: Arc::new(ArcSwap::from_pointee(Vec::new())),
            listeners: Mutex::new(BTreeMap::new()),
            in_flight: Budget::of_bytes(config.limits.in_flight_bytes),
            threads: Arc::new(Threads::for_gateways().map_err(StartError::Threads)?),
            watches,
            stopping: tokio::sync::Mutex::new(false),
        };
        Ok((Arc::new(parts), watched))
    }

    fn unmapped_file(&self) -> UnmappedFile {
        UnmappedFile::in_store(&self.settings.store.path)
    }

    fn audit_files(&self) -> Vec<PathBuf> {
        audit_files(&self.settings.store.audit_log())
    }

    fn listeners(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Listening>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts `channels` in force.
    async fn apply(&self, channels: Vec<Arc<Channel>>) -> Result<(), StartError> {
        let mut by_address: BTreeMap<SocketAddr, Vec<Arc<Channel>>> = BTreeMap::new();
        for channel in &channels {
            by_address.entry(channel.listener.address).or_default().push(channel.clone());
        }
        let known: Vec<SocketAddr> = self.listeners().keys().copied().collect();
        let mut bound = Vec::new();
        for (address, group) in by_address.iter().filter(|(address, _)| !known.contains(address)) {
            bound.push((*address, self.bind(*address, group.clone())?));
        }
        self.note_reach(&channels).await;
        // Lanes first: nothing may be acknowledged for a channel that does not come into force.
        self.delivery.set_channels(&channels).await.map_err(StartError::Delivery)?;
        sabotage::crash_at(CrashPoint::DuringReload);
        self.owed.set_channels(&channels);
        self.summaries.set_channels(&channels);
        self.devices.channels_changed(&channels);
        self.certificates.look(&channels, self.clock.now());
        self.channels.store(Arc::new(channels));
        self.keep_ways().await;
        let gone = self.listen(by_address, bound);
        self.delivery.routes_changed().await;
        for (address, server) in gone {
            // The next reload may want the address again.
            server.stop_listening().await;
            info!(%address, "listener removed");
            tokio::spawn(server.drain(self.settings.limits.drain_timeout));
        }
        Ok(())
    }

    /// Before anything is sent by these channels.
    async fn note_reach(&self, channels: &[Arc<Channel>]) {
        let (path, channels, store) = (self.settings.store.path.clone(), channels.to_vec(), self.store.clone());
        let noted = tokio::task::spawn_blocking(move || {
            let lanes = store.lanes();
            let waits = |key: &Key| {
                let own = |status: &LaneStatus| (&status.lane.channel, &status.lane.destination) == (&key.0, &key.1);
                lanes.iter().any(|status| status.waiting > 0 && own(status))
            };
            ReachFile::in_store(&path).noted(&channels, waits)
        });
        // A panic in it was reported when it happened.
        self.delivery.may_have_sent(noted.await.unwrap_or_default());
    }

    /// Before anything is received by a new way, and at the end, when what waits may have come by one alone.
    async fn keep_ways(&self) {
        let (path, ways) = (self.settings.store.path.clone(), self.delivery.ways());
        // A panic in it was reported when it happened.
        let _ = tokio::task::spawn_blocking(move || WaysFile::in_store(&path).write(&ways)).await;
    }

    /// Gives the listeners kept their channels and starts those bound; answers the others, taken out.
    fn listen(
        &self,
        mut by_address: BTreeMap<SocketAddr, Vec<Arc<Channel>>>,
        bound: Vec<(SocketAddr, (Arc<Intake>, Bound))>,
    ) -> Vec<(SocketAddr, Server)> {
        let mut listeners = self.listeners();
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut *listeners).into_iter().partition(|(address, _)| by_address.contains_key(address));
        for (address, listening) in &kept {
            if let Some(group) = by_address.remove(address) {
                listening.server.set_limits(group[0].listener.limits.clone());
                listening.server.set_tls(group[0].listener.tls.clone());
                listening.intake.set_channels(group);
            }
        }
        let serve =
            |(intake, bound): (Arc<Intake>, Bound)| Listening { intake, server: bound.serve(self.threads.clone()) };
        *listeners = kept;
        listeners.extend(bound.into_iter().map(|(address, ready)| (address, serve(ready))));
        gone.into_iter().map(|(address, listening)| (address, listening.server)).collect()
    }

    fn bind(&self, address: SocketAddr, group: Vec<Arc<Channel>>) -> Result<(Arc<Intake>, Bound), StartError> {
        let (limits, tls) = (group[0].listener.limits.clone(), group[0].listener.tls.clone());
        let key = format!("listener.address of channel {}", group[0].name);
        let (store, clock, metrics) = (self.store.clone(), self.clock.clone(), self.metrics.clone());
        let (devices, owed, hold) = (self.devices.clone(), self.owed.clone(), self.settings.limits.hold_when_full);
        let intake = Intake::new(group, store, clock, metrics, devices, owed, hold);
        intake.set_batch_bytes_max(self.settings.limits.in_flight_bytes / 2);
        intake.set_conformity(self.conformity.clone());
        let bound = Server::bind(address, limits, tls, intake.clone(), self.in_flight.clone(), self.metrics.clone());
        let bound = bound.map_err(|error| StartError::Listen { address, key, error })?;
        Ok((intake, bound))
    }

    async fn reload(&self) -> Result<usize, Vec<String>> {
        let stopping = self.stopping.lock().await;
        if *stopping {
            return Err(vec!["the engine is stopping".into()]);
        }
        let outcome = self.load_and_apply().await;
        match &outcome {
            Ok(channels) => info!(channels, "configuration reloaded"),
            Err(faults) => {
                self.metrics.reload_failures.inc();
                faults.iter().for_each(|fault| error!(fault, "configuration fault"));
                warn!("reload refused; the configuration before stays in force");
            }
        }
        outcome
    }

    async fn load_and_apply(&self) -> Result<usize, Vec<String>> {
        let Source::Files(file) = self.source.clone() else {
            return Err(vec!["this engine was started without files; there is nothing to load again".into()]);
        };
        let loaded = tokio::task::spawn_blocking(move || config::load(file.as_deref())).await;
        let loaded = loaded.map_err(|error| vec![error.to_string()])?;
        let config = loaded.map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if Settings::of(&config) != self.settings {
            warn!("store, admin, limits and log of cannula.toml have changed; restart to put them in force");
        }
        warn_of(&config);
        self.watch_files(&config);
        let channels = config.channels.len();
        self.apply(config.channels).await.map_err(|error| vec![error.to_string()])?;
        self.nomenclature.store(config.nomenclature);
        self.warn_of_orphans();
        Ok(channels)
    }

    /// Says what waits for destinations that are no longer configured.
    fn warn_of_orphans(&self) {
        for orphan in self.delivery.status().into_iter().filter(|destination| destination.state == "orphaned") {
            let (channel, destination, waiting, dead) =
                (orphan.channel, orphan.destination, orphan.waiting, orphan.dead);
            warn!(%channel, %destination, waiting, dead, "no longer configured; configure it again to deliver what waits, or park or discard it");
        }
    }

    /// Watches the files this configuration was read from, in place of those watched before.
    fn watch_files(&self, config: &Config) {
        if self.source == Source::Fixed {
            return;
        }
        match config::watch(config) {
            Ok(watch) => drop(self.watches.send(watch)),
            Err(error) => warn!(error, "files are not watched; reload with POST /api/reload or SIGHUP"),
        }
    }

    async fn look_at_certificates(self: Arc<Self>) {
        let mut due = tokio::time::interval(CERTIFICATES_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            self.certificates.look(&self.channels.load(), self.clock.now());
        }
    }

    /// Reloads whenever files of the configuration have changed.
    async fn reload_on_change(self: Arc<Self>, mut watches: mpsc::UnboundedReceiver<Watch>) {
        let Some(mut watch) = watches.recv().await else { return };
        loop {
            tokio::select! {
                Some(next) = watches.recv() => watch = next,
                Some(()) = watch.changed() => {
                    // The outcome is logged where it is made.
                    let _ = self.reload().await;
                }
                else => return,
            }
        }
    }

    fn engine(self: Arc<Self>, audit: Audit) -> Engine {
        let (for_listeners, for_reload, for_backup) = (self.clone(), self.clone(), self.clone());
        Engine {
            store: self.store.clone(),
            delivery: self.delivery.clone(),
            metrics: self.metrics.clone(),
            channels: self.channels.clone(),
            devices: self.devices.clone(),
            owed: self.owed.clone(),
            nomenclature: self.nomenclature.clone(),
            conformity: self.conformity.clone(),
            audit,
            clock: self.clock.clone(),
            listeners: Box::new(move || {
                let listeners = for_listeners.listeners();
                let status = |(address, listening): (&SocketAddr, &Listening)| ListenerStatus {
                    address: *address,
                    connections: listening.server.connections(),
                };
                listeners.iter().map(status).collect()
            }),
            backup: Box::new(move |directory| for_backup.disk.backup(directory, for_backup.audit_files())),
            reload: Box::new(move || {
                let parts = for_reload.clone();
                // On its own: who asked may hang up, and half a reload must not stay.
                let reload = tokio::spawn(async move { parts.reload().await });
                Box::pin(async move { reload.await.unwrap_or_else(|error| Err(vec![error.to_string()])) })
            }),
        }
    }
}
