//! The life of a server that can vanish and come back: one address, one account, any number of outages. While it is
//! down nothing listens on the port and no old connection lives on.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

const REBIND_PAUSE: Duration = Duration::from_millis(20);
const REBIND_FOR: Duration = Duration::from_secs(10);

/// What a peer does with its listener.
pub trait Service: Send + Sync + 'static {
    /// Serves until [`stopped`] says so, and returns when its last connection is closed.
    fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send;
}

/// Waits until the peer is to go down.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the peer itself is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Takes connections until the peer is to go down, each in a task of its own; returns when the last one is closed.
pub async fn each_connection<F>(
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
    converse: impl Fn(TcpStream, watch::Receiver<bool>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                drop(connections.spawn(converse(stream, stop.clone())));
            },
        }
    }
    drop(listener);
    connections.join_all().await;
}

/// A running (or just now down) server.
#[derive(Debug)]
pub struct Peer<S: Service> {
    inner: Arc<Inner<S>>,
    outages: JoinSet<()>,
}

#[derive(Debug)]
struct Inner<S> {
    service: Arc<S>,
    address: SocketAddr,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl<S: Service> Peer<S> {
    /// Binds and serves. Port 0 takes a free port, which is kept over outages.
    pub async fn start(address: &str, service: S, outages: &[Range<Duration>]) -> io::Result<Peer<S>> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner { service: Arc::new(service), address, running: Mutex::new(None) });
        inner.serve(listener).await;
        let mut peer = Peer { inner: inner.clone(), outages: JoinSet::new() };
        let started = Instant::now();
        for outage in outages.iter().cloned() {
            let inner = inner.clone();
            peer.outages.spawn(async move {
                sleep_until(started + outage.start).await;
                inner.down().await;
                sleep_until(started + outage.end).await;
                // Its failure shows as a peer that stays down.
                let _ = inner.up().await;
            });
        }
        Ok(peer)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// The service behind it.
    pub fn service(&self) -> &S {
        &self.inner.service
    }

    /// Stops listening and closes every connection; returns when that is done.
    pub async fn down(&self) {
        self.inner.down().await;
    }

    /// Listens again on the same port. Does nothing where it already does.
    pub async fn up(&self) -> io::Result<()> {
        self.inner.up().await
    }
}

impl<S: Service> Inner<S> {
    async fn serve(&self, listener: TcpListener) {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(self.service.clone().serve(listener, stopped));
        *self.running.lock().await = Some(Running { task, stop });
    }

    async fn down(&self) {
        if let Some(running) = self.running.lock().await.take() {
            let _ = running.stop.send(true);
            let _ = running.task.await;
        }
    }

    async fn up(&self) -> io::Result<()> {
        if self.running.lock().await.is_some() {
            return Ok(());
        }
        let give_up = Instant::now() + REBIND_FOR;
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => {
                    self.serve(listener).await;
                    return Ok(());
                }
                Err(fault) if Instant::now() > give_up => return Err(fault),
                Err(_) => sleep(REBIND_PAUSE).await,
            }
        }
    }
}
