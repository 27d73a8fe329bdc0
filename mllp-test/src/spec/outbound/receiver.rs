//! The receiving side: connections by number, messages and closes in the order they came.

use crate::frame::Deframer;
use crate::v2;
use bytes::Bytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const FRAME_BYTES_MAX: usize = 64 << 20;
/// A close that was sent before a message over another connection may be seen a little later.
const CLOSE_SEEN_WITHIN: Duration = Duration::from_secs(2);

/// What the sender did.
pub(super) enum Event {
    Message(Message),
    /// The connection of this number.
    Closed(u32),
}

/// A message and where it came.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) connection: u32,
    pub(super) control_id: Vec<u8>,
    pub(super) bytes: Bytes,
}

impl Message {
    /// An answer in the mode the message asks for; `outcome` is A, E or R.
    pub(super) fn ack(&self, outcome: &str, error: &str) -> Vec<u8> {
        self.ack_to(&self.control_id, outcome, error)
    }

    /// The same under another control id.
    pub(super) fn ack_to(&self, control_id: &[u8], outcome: &str, error: &str) -> Vec<u8> {
        let asks = |n| !v2::field(&self.bytes, "MSH", n).unwrap_or_default().is_empty();
        let code = format!("{}{outcome}", if asks(15) || asks(16) { "C" } else { "A" });
        let mut ack = v2::ack(&self.bytes, &code, control_id, 1);
        if let Some(err) = ack.windows(4).position(|window| window == b"\rERR") {
            ack.truncate(err + 1);
        }
        if !error.is_empty() {
            let separator = self.bytes.get(3).copied().map_or('|', char::from);
            ack.extend_from_slice(format!("ERR|||{error}|E\r").replace('|', &separator.to_string()).as_bytes());
        }
        ack
    }

    /// As a report says it.
    pub(super) fn told(&self) -> String {
        super::escaped(&self.control_id)
    }
}

/// Takes every connection and reads it to its end.
pub(super) struct Receiver {
    address: SocketAddr,
    events: mpsc::Receiver<Came>,
    writing: HashMap<u32, OwnedWriteHalf>,
    closed: HashSet<u32>,
    /// Messages that came while a close was waited for.
    kept: VecDeque<Event>,
    _tasks: JoinSet<()>,
}

enum Came {
    Connection(u32, OwnedWriteHalf),
    Event(Event),
}

impl Receiver {
    pub(super) async fn start(address: &str) -> io::Result<Receiver> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (tell, events) = mpsc::channel(1024);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_all(listener, tell));
        Ok(Receiver {
            address,
            events,
            writing: HashMap::new(),
            closed: HashSet::new(),
            kept: VecDeque::new(),
            _tasks: tasks,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where answers to a message of this connection go.
    pub(super) fn writing(&mut self, connection: u32) -> Option<&mut OwnedWriteHalf> {
        self.writing.get_mut(&connection)
    }

    /// What the sender does next.
    pub(super) async fn next(&mut self) -> Event {
        match self.kept.pop_front() {
            Some(event) => event,
            None => self.arrived().await,
        }
    }

    /// Whether the sender has closed the connection, or does so within a moment.
    pub(super) async fn is_closed(&mut self, connection: u32) -> bool {
        let closes = async {
            while !self.closed.contains(&connection) {
                let event = self.arrived().await;
                self.kept.push_back(event);
            }
        };
        timeout(CLOSE_SEEN_WITHIN, closes).await.is_ok()
    }

    async fn arrived(&mut self) -> Event {
        loop {
            match self.events.recv().await {
                Some(Came::Connection(number, writing)) => {
                    self.writing.insert(number, writing);
                }
                Some(Came::Event(event)) => {
                    if let Event::Closed(number) = event {
                        self.closed.insert(number);
                        self.writing.remove(&number);
                    }
                    return event;
                }
                None => std::future::pending().await,
            }
        }
    }
}

async fn accept_all(listener: TcpListener, tell: mpsc::Sender<Came>) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (read, write) = TcpStream::into_split(stream);
        if tell.send(Came::Connection(number, write)).await.is_err() {
            return;
        }
        connections.spawn(read_all(number, read, tell.clone()));
    }
}

async fn read_all(connection: u32, mut read: OwnedReadHalf, tell: mpsc::Sender<Came>) {
    let mut deframer = Deframer::new(FRAME_BYTES_MAX);
    loop {
        match deframer.next_message() {
            Ok(Some(bytes)) => {
                let control_id = v2::field(&bytes, "MSH", 10).unwrap_or_default().to_vec();
                let message = Message { connection, control_id, bytes };
                if tell.send(Came::Event(Event::Message(message))).await.is_err() {
                    return;
                }
            }
            Ok(None) if matches!(read.read_buf(&mut deframer.buffer).await, Ok(1..)) => {}
            _ => break,
        }
    }
    let _ = tell.send(Came::Event(Event::Closed(connection))).await;
}
