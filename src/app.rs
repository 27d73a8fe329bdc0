//! Builds the parts, runs them, changes them on reload, and stops them in order.
//!
//! Start: store, lanes, listeners, admin; nothing is bound before the configuration is known to be good. Reload: what is
//! new is bound first, so a port that cannot be had leaves everything as it was; open connections stay. Stop: listeners
//! answer what they took, lanes finish what is outstanding, and the store closes last. Nothing acknowledged depends on a
//! clean stop.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::Semaphore, task::JoinHandle};
use tracing::{error, info, warn};

use crate::{
    admin::{Admin, Audit, AuditError, Engine, ListenerStatus},
    channel::Channel,
    clock::Clock,
    config::{self, Config, Watch},
    delivery::Delivery,
    intake::{Devices, Intake},
    metrics::Metrics,
    mllp::server::Server,
    store::{DiskStore, OpenError, Store, StoreError},
};

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
    /// The metrics registry refused a family: a fault of this program.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// The running engine.
pub struct App {
    parts: Arc<Parts>,
    admin: Admin,
    watch: Option<JoinHandle<()>>,
    drain_timeout: Duration,
}

impl App {
    /// Starts everything. `source` is the file that a reload reads again.
    pub async fn start(config: Config, source: Option<PathBuf>, clock: Clock) -> Result<App, StartError> {
        let (admin_address, drain_timeout) = (config.admin, config.limits.drain_timeout);
        let parts = Parts::open(&config, source, clock).await?;
        let watch = source_watch(&config, &parts);
        parts.apply(config.channels).await?;
        let audit = Audit::open(&config.store.path.join("audit.ndjson"))?;
        let engine = parts.clone().engine(audit, config.nomenclature);
        let admin = Admin::bind(admin_address, Arc::new(engine)).await;
        let admin = admin.map_err(|error| StartError::Listen {
            address: admin_address,
            key: "admin.listen in cannula.toml".into(),
            error,
        })?;
        let watch = watch.map(|watch| parts.clone().reload_on(watch));
        Ok(App { parts, admin, watch, drain_timeout })
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

    /// Stops in order, within `limits.drain_timeout`.
    pub async fn stop(self) -> Result<(), StoreError> {
        if let Some(watch) = self.watch {
            watch.abort();
        }
        let listeners = std::mem::take(&mut *self.parts.listeners());
        let drains = listeners.into_values().map(|listening| listening.server.drain(self.drain_timeout));
        futures_util::future::join_all(drains).await;
        self.parts.delivery.drain(self.drain_timeout).await;
        self.admin.stop(Duration::from_secs(1)).await;
        let closed = self.parts.store.close().await;
        info!("stopped");
        closed
    }
}

/// Watches the configuration's files where it came from files.
fn source_watch(config: &Config, parts: &Parts) -> Option<Watch> {
    parts.source.as_ref()?;
    let watch = config::watch(config);
    watch.inspect_err(|error| warn!(error, "files are not watched; reload with POST /api/reload or SIGHUP")).ok()
}

/// What listeners, lanes and the API share.
struct Parts {
    source: Option<PathBuf>,
    store: Arc<dyn Store>,
    delivery: Arc<Delivery>,
    devices: Arc<Devices>,
    metrics: Arc<Metrics>,
    clock: Clock,
    channels: Arc<ArcSwap<Vec<Arc<Channel>>>>,
    listeners: Mutex<BTreeMap<SocketAddr, Listening>>,
    /// KiB of frames read and not yet answered, all listeners together.
    in_flight: Arc<Semaphore>,
    drain_timeout: Duration,
    reloading: tokio::sync::Mutex<()>,
}

struct Listening {
    intake: Arc<Intake>,
    server: Server,
}

impl Parts {
    async fn open(config: &Config, source: Option<PathBuf>, clock: Clock) -> Result<Arc<Parts>, StartError> {
        let metrics = Arc::new(Metrics::new().map_err(|error| StartError::Metrics(error.to_string()))?);
        let path = config.store.path.clone();
        let (options, store_metrics, store_clock) = (config.store.options(), metrics.clone(), clock.clone());
        let opened = tokio::task::spawn_blocking({
            let path = path.clone();
            move || DiskStore::open(&path, options, store_metrics, store_clock)
        });
        let store: Arc<dyn Store> = opened.await?.map_err(|error| StartError::Store { path, error })?;
        Ok(Arc::new(Parts {
            source,
            delivery: Delivery::new(store.clone(), clock.clone(), metrics.clone()),
            store,
            devices: Arc::new(Devices::default()),
            metrics,
            clock,
            channels: Arc::new(ArcSwap::from_pointee(Vec::new())),
            listeners: Mutex::new(BTreeMap::new()),
            in_flight: Arc::new(Semaphore::new((config.limits.in_flight_bytes / 1024).max(1))),
            drain_timeout: config.limits.drain_timeout,
            reloading: tokio::sync::Mutex::new(()),
        }))
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
            bound.push((*address, self.bind(*address, group.clone()).await?));
        }
        self.delivery.set_channels(&channels).await.map_err(StartError::Delivery)?;
        self.channels.store(Arc::new(channels));
        let mut listeners = self.listeners();
        listeners.extend(bound);
        for address in known {
            match (by_address.remove(&address), listeners.remove(&address)) {
                (Some(group), Some(listening)) => {
                    listening.server.set_limits(group[0].listener.limits.clone());
                    listening.intake.set_channels(group);
                    listeners.insert(address, listening);
                }
                (_, Some(gone)) => {
                    info!(%address, "listener removed");
                    tokio::spawn(gone.server.drain(self.drain_timeout));
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    async fn bind(&self, address: SocketAddr, group: Vec<Arc<Channel>>) -> Result<Listening, StartError> {
        let limits = group[0].listener.limits.clone();
        let key = format!("listener.address of channel {}", group[0].name);
        let (store, clock, metrics) = (self.store.clone(), self.clock.clone(), self.metrics.clone());
        let intake = Intake::new(group, store, clock, metrics, self.devices.clone());
        let server = Server::bind(address, limits, intake.clone(), self.in_flight.clone(), self.metrics.clone()).await;
        let server = server.map_err(|error| StartError::Listen { address, key, error })?;
        Ok(Listening { intake, server })
    }

    async fn reload(&self) -> Result<usize, Vec<String>> {
        let _one_at_a_time = self.reloading.lock().await;
        let source = self.source.clone();
        let loaded = tokio::task::spawn_blocking(move || config::load(source.as_deref())).await;
        let outcome = match loaded {
            Ok(Ok(config)) => {
                let count = config.channels.len();
                self.apply(config.channels).await.map(|()| count).map_err(|error| vec![error.to_string()])
            }
            Ok(Err(faults)) => Err(faults.iter().map(ToString::to_string).collect()),
            Err(error) => Err(vec![error.to_string()]),
        };
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

    /// Reloads whenever files of the configuration have changed.
    fn reload_on(self: Arc<Self>, mut watch: Watch) -> JoinHandle<()> {
        tokio::spawn(async move {
            while watch.changed().await.is_some() {
                // The outcome is logged where it is made.
                let _ = self.reload().await;
            }
        })
    }

    fn engine(self: Arc<Self>, audit: Audit, nomenclature: Arc<crate::pcd::Nomenclature>) -> Engine {
        let (for_listeners, for_reload) = (self.clone(), self.clone());
        Engine {
            store: self.store.clone(),
            delivery: self.delivery.clone(),
            metrics: self.metrics.clone(),
            channels: self.channels.clone(),
            devices: self.devices.clone(),
            nomenclature,
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
            reload: Box::new(move || {
                let parts = for_reload.clone();
                Box::pin(async move { parts.reload().await })
            }),
        }
    }
}
