//! The operators' HTTP: health, metrics and the JSON API, on a loopback address.
//!
//! It shows and steers what the engine holds and decides nothing itself. Message content leaves only by `raw` and
//! `explain`, each read written to the audit log first. Until readers can be authorised the address must be loopback, and
//! a request that a browser sends for another site is refused.

mod api;
mod audit;
mod cgm;
mod devices;
mod guard;
mod owed;
mod problem;
mod senders;
mod unmapped;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    channel::Channel,
    clock::Clock,
    delivery::Delivery,
    devices::Devices,
    intake::{Conformity, Owed},
    metrics::Metrics,
    pcd::Nomenclature,
    store::{Backup, BackupError, Store},
};

pub use audit::{
    Audit, AuditEntry, AuditError, files as audit_files, set_aside as set_aside_audit, verify as verify_audit,
};
use problem::Problem;

/// What the API shows and steers.
pub struct Engine {
    /// Messages, dead letters, lanes.
    pub store: Arc<dyn Store>,
    /// Destinations at work.
    pub delivery: Arc<Delivery>,
    /// Everything counted.
    pub metrics: Arc<Metrics>,
    /// The channels in force.
    pub channels: Arc<ArcSwap<Vec<Arc<Channel>>>>,
    /// Devices heard.
    pub devices: Arc<Devices>,
    /// Application ACKs owed to senders.
    pub owed: Arc<Owed>,
    /// Codes for `explain`.
    pub nomenclature: Arc<ArcSwap<Nomenclature>>,
    /// What each sender breaks.
    pub conformity: Arc<Conformity>,
    /// Who did what.
    pub audit: Audit,
    /// Times shown.
    pub clock: Clock,
    /// Listening addresses and their open connections.
    pub listeners: Box<dyn Fn() -> Vec<ListenerStatus> + Send + Sync>,
    /// Writes a backup of the store and of the audit log into a directory.
    pub backup: Box<dyn Fn(PathBuf) -> BoxFuture<'static, Result<Backup, BackupError>> + Send + Sync>,
    /// Loads the configuration again: the number of channels now in force, or every fault.
    pub reload: Box<dyn Fn() -> BoxFuture<'static, Result<usize, Vec<String>>> + Send + Sync>,
}

/// One listening address.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// Where it listens.
    pub address: SocketAddr,
    /// Open connections.
    pub connections: usize,
}

/// The running HTTP server.
pub struct Admin {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Admin {
    /// Binds and serves until `stop`.
    pub async fn bind(address: SocketAddr, engine: Arc<Engine>) -> std::io::Result<Admin> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = axum::serve(listener, router(engine)).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            if let Err(error) = served.await {
                warn!(%error, "admin server ended");
            }
        });
        info!(%address, "admin listening");
        Ok(Admin { address, stop, task })
    }

    /// The address bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting and waits at most `grace` for requests that run.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(grace, self.task).await;
    }
}

fn router(engine: Arc<Engine>) -> Router {
    Router::new()
        .route("/health/live", get(async || "live\n"))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/channels", get(api::channels))
        .route("/api/channels/{channel}", get(api::channel))
        .route("/api/channels/{channel}/destinations/{destination}/{action}", post(api::steer))
        .route("/api/reload", post(api::reload))
        .route("/api/messages", get(api::messages))
        .route("/api/messages/{id}", get(api::message))
        .route("/api/messages/{id}/raw", get(api::raw))
        .route("/api/messages/{id}/explain", get(api::explain))
        .route("/api/messages/{id}/replay", post(api::replay_one))
        .route("/api/replay", post(api::replay))
        .route("/api/dead", get(api::dead))
        .route("/api/dead/{entry}/{action}", post(api::settle_dead))
        .route("/api/owed-acks", get(owed::list))
        .route("/api/owed-acks/{entry}/discard", post(owed::discard))
        .route("/api/devices", get(devices::list))
        .route("/api/devices/{id}", get(devices::one))
        .route("/api/devices/{id}/forget", post(devices::forget))
        .route("/api/unmapped", get(unmapped::list))
        .route("/api/conformance", get(senders::conformance))
        .route("/api/cgm-summary", post(cgm::summary))
        .route("/api/audit", get(api::audit))
        .route("/api/store", get(api::store))
        .route("/api/store/backup", post(api::backup))
        .fallback(async || Problem::not_found("no such resource"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(axum::middleware::from_fn(guard::same_site))
        .with_state(engine)
}

async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    match engine.store.health() {
        Ok(()) => "ready\n".into_response(),
        Err(error) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn metrics(State(engine): State<Arc<Engine>>) -> Response {
    engine.delivery.refresh_metrics();
    engine.owed.refresh_metrics();
    engine.metrics.store_bytes.set(i64::try_from(engine.store.stats().bytes).unwrap_or(i64::MAX));
    match engine.metrics.text() {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
