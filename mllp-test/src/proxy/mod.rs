//! A TCP proxy that makes a line bad on order and while it runs: slow, shaky, cut in the middle of a frame or between a
//! frame and its answer, held like a black hole, gone and back. It must never invent, change or reorder a byte: what a
//! peer sees through it is something a real network does.

mod place;
mod relay;
mod rules;
#[cfg(test)]
mod tests;

use crate::lock;
use crate::peer::{Peer, Service, each_connection, stopped};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the line does in each direction. The default passes everything at once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conditions {
    /// From whoever connected.
    pub to_target: Flow,
    /// Back to whoever connected.
    pub to_client: Flow,
}

impl Conditions {
    /// Nothing passes in either direction until the conditions change, and no end of a connection is told.
    pub fn black_hole() -> Conditions {
        Conditions::both(&Flow { held: true, ..Flow::default() })
    }

    /// The same in both directions.
    pub fn both(flow: &Flow) -> Conditions {
        Conditions { to_target: flow.clone(), to_client: flow.clone() }
    }
}

/// One direction of a line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flow {
    /// Each piece waits so long.
    pub latency: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// Share of pieces, 0.0 to 1.0, that come as late as after a retransmission (200 ms).
    pub loss: f64,
    /// Written in pieces of so many bytes; 0 for as they come.
    pub piece_bytes: usize,
    /// What comes within this time is written together.
    pub merge: Duration,
    /// 0 for as fast as it goes.
    pub bytes_per_second: f64,
    /// MLLP frames a second; 0 for as fast as it goes.
    pub frames_per_second: f64,
    /// Nothing is read: the sender's window fills, and later everything passes that still can.
    pub held: bool,
    /// Where each connection ends.
    pub cut: Option<Cut>,
}

/// The end of a connection: where, counted from its beginning in this direction, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub at: At,
    /// How.
    pub how: How,
}

/// A place in one direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After so many bytes; 0 is before the first.
    Bytes(u64),
    /// Within the frame of this number, some bytes after its start.
    InFrame(u64),
    /// Behind the last byte of the frame of this number.
    AfterFrame(u64),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Both peers see the other close it.
    Close,
    /// Both peers see a reset.
    Reset,
    /// Only this direction ends; the other goes on.
    HalfClose,
}

/// A running proxy, or one that is down just now.
#[derive(Debug)]
pub struct Proxy(Peer<Line>);

impl Proxy {
    /// Listens on `address`, such as `127.0.0.1:0`, and connects to `target` for each connection. The seed decides
    /// what is left to chance.
    pub async fn start(address: &str, target: impl Into<String>, seed: u64) -> io::Result<Proxy> {
        let line = Line {
            target: Mutex::new(target.into()),
            seed,
            draws: AtomicU64::new(0),
            conditions: watch::Sender::default(),
            order: watch::Sender::default(),
            cuts: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        };
        Peer::start(address, line, &[]).await.map(Proxy)
    }

    /// Where it listens, also while it is down.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Puts the line under these conditions, also for connections that are there.
    pub fn set(&self, conditions: Conditions) {
        self.line().conditions.send_replace(conditions);
    }

    /// Makes the line good again. Connections that were cut stay cut.
    pub fn heal(&self) {
        self.set(Conditions::default());
    }

    /// Connects what comes from now on to another target.
    pub fn retarget(&self, target: impl Into<String>) {
        *lock(&self.line().target) = target.into();
    }

    /// Ends every connection that is there now; [`How::HalfClose`] means a close here.
    pub fn cut(&self, how: How) {
        self.line().order.send_modify(|order| *order = (order.0 + 1, Some(how)));
    }

    /// Connections ended by an order or a condition so far.
    pub fn cuts(&self) -> u64 {
        self.line().cuts.load(Ordering::Relaxed)
    }

    /// Connections taken so far.
    pub fn connections(&self) -> u64 {
        self.line().connections.load(Ordering::Relaxed)
    }

    /// Stops listening and closes every connection.
    pub async fn down(&self) {
        self.0.down().await;
    }

    /// Listens again on the same port.
    pub async fn up(&self) -> io::Result<()> {
        self.0.up().await
    }

    /// Goes down and comes back, so often; ends up.
    pub async fn flap(&self, up: Duration, down: Duration, times: u32) -> io::Result<()> {
        for _ in 0..times {
            sleep(up).await;
            self.down().await;
            sleep(down).await;
            self.up().await?;
        }
        Ok(())
    }

    fn line(&self) -> &Line {
        self.0.service()
    }
}

/// How many orders there were to end all connections, and how the last one says.
type Order = (u64, Option<How>);

/// What all connections of a proxy share.
#[derive(Debug)]
struct Line {
    target: Mutex<String>,
    seed: u64,
    draws: AtomicU64,
    conditions: watch::Sender<Conditions>,
    order: watch::Sender<Order>,
    cuts: AtomicU64,
    connections: AtomicU64,
}

impl Service for Line {
    async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let join = |client, stop| {
            self.connections.fetch_add(1, Ordering::Relaxed);
            let line = self.clone();
            async move { line.join(client, stop).await }
        };
        each_connection(listener, stop, join).await;
    }
}

impl Line {
    /// Whoever connects while the target does not listen sees a reset.
    async fn join(&self, client: TcpStream, mut stop: watch::Receiver<bool>) {
        let target = lock(&self.target).clone();
        // From here on an order is for this connection too.
        let orders = self.order.subscribe();
        let connected = tokio::select! {
            connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(target)) => connected,
            () = stopped(&mut stop) => return,
        };
        match connected {
            Ok(Ok(target)) => relay::relay(self, client, target, orders, stop).await,
            _ => reset(&client),
        }
    }

    /// A number in `0.0..1.0`.
    fn chance(&self) -> f64 {
        crate::unit(self.seed, self.draws.fetch_add(1, Ordering::Relaxed))
    }
}

/// The stream's end will be a reset.
fn reset(stream: &TcpStream) {
    // It fails only where the peer has ended the connection already.
    let _ = stream.set_zero_linger();
}
