//! A way to a peer's open connection for what no frame of it waits for: an application ACK that comes later.
//!
//! What must never happen: something counts as sent that was not given to the socket. So each message has a receipt, and
//! one whose connection ends first gives none.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Messages on their way to one connection.
const MESSAGES_MAX: usize = 64;

/// To one connection; of no more use once that has ended.
#[derive(Clone)]
pub struct Outlet(mpsc::Sender<Late>);

/// Answers once the message was given to the socket; an error where the connection ended first.
pub type Written = oneshot::Receiver<()>;

/// A message that its connection writes when nothing else is due.
pub(super) struct Late {
    pub message: Bytes,
    pub written: oneshot::Sender<()>,
}

/// A connection's outlet, and what comes through it.
pub fn outlet() -> (Outlet, Letters) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    (Outlet(sender), Letters(receiver))
}

/// What comes through an outlet.
pub struct Letters(pub(super) mpsc::Receiver<Late>);

impl Letters {
    /// The next message, taken as written; `None` once no outlet is left.
    pub async fn next(&mut self) -> Option<Bytes> {
        let Late { message, written } = self.0.recv().await?;
        // Who asked may have stopped waiting.
        let _ = written.send(());
        Some(message)
    }
}

impl Outlet {
    /// Has the message written behind what is due; `None` where the connection has ended or has too much to write.
    pub fn send(&self, message: Bytes) -> Option<Written> {
        let (written, receipt) = oneshot::channel();
        self.0.try_send(Late { message, written }).ok()?;
        Some(receipt)
    }

    /// The same, once there is room for it; `None` where the connection ends first.
    pub async fn send_in_turn(&self, message: Bytes) -> Option<Written> {
        let (written, receipt) = oneshot::channel();
        self.0.send(Late { message, written }).await.ok()?;
        Some(receipt)
    }

    /// The connection has not ended.
    pub fn is_open(&self) -> bool {
        !self.0.is_closed()
    }

    /// Whether both lead to the same connection.
    pub fn leads_where(&self, other: &Outlet) -> bool {
        self.0.same_channel(&other.0)
    }
}
