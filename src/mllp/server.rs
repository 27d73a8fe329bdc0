//! The listening side: connections, limits, deadlines, answers in order, drain.
//!
//! ```text
//!            over a cap, not allowed, TLS handshake failed
//! accepted ──────────────────────────────────────────────▶ closed, counted
//!    │
//!    ▼      bytes                      whole frame, budget and place had
//! between ─────────▶ inside a frame ─────────────────────────────────▶ handed on, in order ─▶ between
//!    │                  │                                                    │
//!    │ FIN, idle,       │ FIN, frame_timeout,                                ▼ its turn
//!    │ noise, drain     │ over frame_bytes_max                            answered
//!    ▼                  ▼                                                    │ Answer::close, write_timeout
//! reading ended: what was handed on is answered in order ◀──────────────────┘
//!    ▼
//! FIN sent, what the peer still sends is read away (else the last answers may be lost to a reset), closed
//! ```
//!
//! Reading and writing are two loops of one task; the queue between them holds at most `pipelined_frames_max` frames.
//! A peer that does not read its answers, sends too slowly or too much never holds more than its own connection and a
//! share of the byte budget. A frame handed on is never taken back, and answers are never out of order.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus::IntGauge;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tracing::{debug, info, warn};

use super::{
    Oddities,
    budget::InFlight,
    complaints::Complaints,
    connection::{Connection, Counters},
    outlet::outlet,
    tls::Acceptor,
};
pub use super::{
    budget::Budget,
    network::Network,
    outlet::{Outlet, Written},
};
use crate::{hl7::ack, metrics::Metrics, threads::Threads};

/// Connections the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;
/// Pause before accepting is tried again when the process or machine is out of something.
const ACCEPT_RETRY_AFTER: Duration = Duration::from_millis(100);
/// Longest TLS handshake, where a frame has no shorter time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of one listening address. Durations of zero mean never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Content bytes of one frame. The byte budget must be larger.
    pub frame_bytes_max: usize,
    /// Open connections on the address.
    pub connections_max: usize,
    /// Open connections from one peer address.
    pub connections_per_address_max: usize,
    /// Frames of one connection taken and not yet answered.
    pub pipelined_frames_max: usize,
    /// No byte between frames for this long closes the connection.
    pub idle_timeout: Duration,
    /// A frame begun and not ended within this closes the connection.
    pub frame_timeout: Duration,
    /// An answer not taken by the peer within this closes the connection.
    pub write_timeout: Duration,
    /// Peer networks that may connect; empty means all.
    pub allow: Vec<Network>,
}

/// What is written back for one frame, and whether the connection ends after it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Unframed ACK messages, in order; none means silence.
    pub messages: Vec<Bytes>,
    /// Close once written.
    pub close: bool,
    /// MSA-1 of each message, for the count of answers.
    pub codes: Vec<ack::Code>,
    /// The channel that answers.
    pub channel: Option<Arc<str>>,
}

impl std::fmt::Debug for Answer {
    /// Shapes only: an ACK echoes the control id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("codes", &self.codes).field("close", &self.close).finish_non_exhaustive()
    }
}

/// Takes frames in the order a connection sent them.
pub trait FrameHandler: Send + Sync + 'static {
    /// Everything that depends on order (parse, route, hand to the store) happens in the call; the future only waits for
    /// the outcome. `received` is when the last byte was read. Of one connection's futures only the first unanswered one
    /// is driven to its end: a later one is first polled when all before it have answered.
    fn frame(&self, peer: SocketAddr, frame: Bytes, received: Instant) -> BoxFuture<'static, Answer>;
    /// Bytes of memory the frame takes until it is answered, which it waits for before it is handed on. Called for each frame.
    fn weight(&self, frame: &[u8]) -> usize {
        frame.len()
    }
    /// A frame over the limit, of which `head` was kept: the NAK due, if any.
    fn oversized(&self, peer: SocketAddr, head: Bytes) -> Answer;
    /// Name of the channel for metrics of this connection before any message is known (the first channel of the address).
    fn label(&self) -> Arc<str>;
    /// A connection was accepted; until it is `closed`, `outlet` writes to it between the answers. `sends_as`: the sending
    /// applications that the peer's certificate binds it to; none: any.
    fn opened(&self, _peer: SocketAddr, _outlet: Outlet, _sends_as: Option<Arc<[String]>>) {}
    /// What was tolerated on the connection since its last frame; told before the frame behind it is handed on.
    fn oddities(&self, _peer: SocketAddr, _oddities: &Oddities) {}
    /// The connection has ended, and its outlet with it. Another of the same address may be open already.
    fn closed(&self, _peer: SocketAddr) {}
    /// Told after an answer's last byte was given to the socket.
    fn answered(&self, _answer: &Answer, _received: Instant) {}
}

/// One listening address. Dropped without a drain it cuts its connections.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
    /// Once nothing listens on the address any more.
    free: CancellationToken,
}

struct Shared {
    limits: ArcSwap<Limits>,
    /// None: plaintext.
    tls: ArcSwapOption<Acceptor>,
    complaints: Arc<Complaints>,
    handler: Arc<dyn FrameHandler>,
    in_flight: InFlight,
    metrics: Arc<Metrics>,
    open: Mutex<Open>,
}

/// An address that is bound and whose connections wait; dropped, it is free again.
pub struct Bound {
    listener: TcpListener,
    server: Server,
}

impl Bound {
    /// Accepts from now on; connections live on `threads`.
    pub fn serve(self, threads: Arc<Threads>) -> Server {
        let Bound { listener, server } = self;
        info!(address = %server.address, "listening");
        server.tasks.spawn(accept(
            listener,
            server.shared.clone(),
            threads,
            server.tasks.clone(),
            server.stop.clone(),
            server.cut.clone(),
            server.free.clone().drop_guard(),
        ));
        server
    }
}

impl Server {
    /// Binds (SO_REUSEADDR) without accepting yet. `in_flight` is the engine's budget for frames read and not yet
    /// answered; a connection waits for it before it reads on.
    pub fn bind(
        address: SocketAddr,
        limits: Limits,
        tls: Option<Acceptor>,
        handler: Arc<dyn FrameHandler>,
        in_flight: Budget,
        metrics: Arc<Metrics>,
    ) -> io::Result<Bound> {
        let listener = listen(address)?;
        let server = Server {
            address: listener.local_addr()?,
            shared: Arc::new(Shared {
                limits: ArcSwap::from_pointee(limits),
                tls: ArcSwapOption::from_pointee(tls),
                complaints: Arc::default(),
                in_flight: InFlight::new(in_flight, metrics.in_flight_bytes.clone()),
                handler,
                metrics,
                open: Mutex::default(),
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            cut: CancellationToken::new(),
            free: CancellationToken::new(),
        };
        Ok(Bound { listener, server })
    }

    /// The address bound (its port where 0 was asked for).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New limits for connections accepted from now on; open ones stay.
    pub fn set_limits(&self, limits: Limits) {
        self.shared.limits.store(Arc::new(limits));
    }

    /// How connections accepted from now on are secured; open ones stay as they are.
    pub fn set_tls(&self, tls: Option<Acceptor>) {
        if self.shared.tls.load().as_deref() != tls.as_ref() {
            let secured = tls.is_some();
            self.shared.tls.store(tls.map(Arc::new));
            info!(address = %self.address, tls = secured, "TLS of the listener changed; open connections stay");
        }
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        self.shared.open().total
    }

    /// Stops accepting and reading; when this returns the address is free for another listener.
    pub async fn stop_listening(&self) {
        self.stop.cancel();
        self.free.cancelled().await;
    }

    /// Stops accepting and reading, answers what was taken, closes; whatever is left after `grace` is cut.
    pub async fn drain(self, grace: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            warn!(address = %self.address, connections = self.connections(), "drain: grace is over, connections are cut");
            self.cut.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until told to stop; no error ends it, since a listener that is gone cannot be told from a network fault.
async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    threads: Arc<Threads>,
    tasks: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
    free: DropGuard,
) {
    // Dropped in this order: the address is free only without its listener.
    let _free = free;
    let listener = listener;
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                if let Some(admission) = shared.admit(peer) {
                    let served = serve(stream, peer, admission, shared.clone(), stop.clone(), cut.clone());
                    threads.spawn(&tasks, served);
                }
            }
            Err(error) if is_the_peers(&error) => {}
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot accept connections: raise the limit of open files or free memory");
                }
                failing = true;
                tokio::time::sleep(ACCEPT_RETRY_AFTER).await;
            }
        }
    }
}

/// The peer was gone before it was accepted: no reason to wait.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    _admission: Admission,
    shared: Arc<Shared>,
    stop: CancellationToken,
    cut: CancellationToken,
) {
    let stream = match moved_here(stream).and_then(|stream| super::tune(&stream).map(|()| stream)) {
        Ok(stream) => stream,
        Err(error) => {
            debug!(%peer, %error, "connection ended before its options were set");
            return;
        }
    };
    let connection = Connection {
        peer,
        limits: shared.limits.load_full(),
        handler: shared.handler.clone(),
        in_flight: shared.in_flight.clone(),
        counters: Counters {
            metrics: shared.metrics.clone(),
            label: shared.handler.label(),
            complaints: shared.complaints.clone(),
        },
        stop,
    };
    match shared.tls.load_full() {
        None => {
            let (read, write) = stream.into_split();
            talk(&connection, read, write, None, &cut).await;
        }
        // On the heap: a connection without TLS has no room for one with it.
        Some(tls) => Box::pin(secure(tls, stream, connection, cut)).await,
    }
}

/// Woken by the runtime of the thread that serves it, no longer by that of the one that accepted it.
fn moved_here(stream: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(stream.into_std()?)
}

/// The handshake, then the rest over TLS.
async fn secure(tls: Arc<Acceptor>, stream: TcpStream, connection: Connection, cut: CancellationToken) {
    let limit = match connection.limits.frame_timeout {
        Duration::ZERO => HANDSHAKE_TIMEOUT,
        frame => frame.min(HANDSHAKE_TIMEOUT),
    };
    let accepted = tokio::select! {
        biased;
        () = cut.cancelled() => return,
        () = connection.stop.cancelled() => return,
        accepted = tls.accept(stream, limit) => accepted,
    };
    match accepted {
        Ok(None) => debug!(peer = %connection.peer, "connection ended before its TLS handshake"),
        Ok(Some(secured)) => {
            let sends_as = tls.sends_as(&secured);
            drop(tls);
            let (read, write) = tokio::io::split(secured);
            talk(&connection, read, write, sends_as, &cut).await;
        }
        Err(refused) => connection.counters.refused(connection.peer, refused),
    }
}

async fn talk<R, W>(
    connection: &Connection,
    read: R,
    write: W,
    sends_as: Option<Arc<[String]>>,
    cut: &CancellationToken,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    // Dropped last: by then the outlet has ended.
    let _closed = Closed { handler: connection.handler.clone(), peer: connection.peer };
    let (outlet, mut late) = outlet();
    connection.handler.opened(connection.peer, outlet, sends_as);
    tokio::select! {
        biased;
        () = cut.cancelled() => {}
        () = connection.serve(read, write, &mut late) => {}
    }
}

/// Tells the handler that the connection has ended, however it did.
struct Closed {
    handler: Arc<dyn FrameHandler>,
    peer: SocketAddr,
}

impl Drop for Closed {
    fn drop(&mut self) {
        self.handler.closed(self.peer);
    }
}

/// Open connections, in all and by peer address.
#[derive(Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place among the open connections, given back on drop.
struct Admission {
    shared: Arc<Shared>,
    address: IpAddr,
    gauge: IntGauge,
}

impl Shared {
    /// Whole even after a panic elsewhere: the counts are changed in one step each.
    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `peer`, unless a limit forbids it.
    fn admit(self: &Arc<Shared>, peer: SocketAddr) -> Option<Admission> {
        let limits = self.limits.load();
        let (address, label) = (peer.ip().to_canonical(), self.handler.label());
        let mut open = self.open();
        let from_address = open.by_address.get(&address).copied().unwrap_or(0);
        let refused = if !limits.allow.is_empty() && !limits.allow.iter().any(|network| network.contains(address)) {
            Some(("allow", "add its network to listener.allow, where it is a gateway of yours"))
        } else if open.total >= limits.connections_max {
            Some(("connections", "raise listener.max_connections, or find who opens so many"))
        } else if from_address >= limits.connections_per_address_max {
            let remedy =
                "raise listener.max_connections_per_address, or have its administrator see why it opens so many";
            Some(("connections_per_address", remedy))
        } else {
            None
        };
        if let Some((limit, remedy)) = refused {
            self.metrics.limits_hit.with_label_values(&[&*label, limit]).inc();
            if let Some(times) = self.complaints.due(limit) {
                warn!(channel = %label, %peer, limit, times, remedy, "connection refused");
            }
            return None;
        }
        open.total += 1;
        open.by_address.insert(address, from_address + 1);
        let gauge = self.metrics.connections.with_label_values(&[&*label]);
        gauge.inc();
        Some(Admission { shared: self.clone(), address, gauge })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.gauge.dec();
        let mut open = self.shared.open();
        open.total -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
