//! A way to a peer's open connection for what no frame of it waits for: an application ACK that comes later.
//!
//! What must never happen: something counts as sent that was not given to the socket. So each message has a receipt, and
//! one whose connection ends first gives none.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::queue::Queue;

/// Messages on their way to one connection.
const MESSAGES_MAX: usize = 64;

/// To one connection; of no more use once that has ended.
#[derive(Clone)]
pub struct Outlet(Arc<Queue<Late>>);

/// Answers once the message was given to the socket; an error where the connection ended first.
pub type Written = oneshot::Receiver<()>;

/// A message that its connection writes when nothing else is due.
pub(super) struct Late {
    pub message: Bytes,
    pub written: oneshot::Sender<()>,
}

/// A connection's outlet, and what comes through it.
pub(super) fn outlet() -> (Outlet, Letters) {
    let queue = Arc::new(Queue::new(MESSAGES_MAX));
    (Outlet(queue.clone()), Letters(queue))
}

/// What comes through an outlet; with it the connection ends.
pub(super) struct Letters(Arc<Queue<Late>>);

impl Letters {
    /// The next message, once there is one.
    pub(super) fn next(&mut self) -> impl Future<Output = Option<Late>> + Unpin {
        self.0.take()
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        self.0.end();
        // Their receipts tell that they were not written.
        while self.0.try_take().is_some() {}
    }
}

impl Outlet {
    /// Has the message written behind what is due; `None` where the connection has ended or has too much to write.
    pub fn send(&self, message: Bytes) -> Option<Written> {
        let (written, receipt) = oneshot::channel();
        self.0.try_put(Late { message, written }).ok()?;
        Some(receipt)
    }

    /// The same, once there is room for it; `None` where the connection ends first.
    pub async fn send_in_turn(&self, message: Bytes) -> Option<Written> {
        let (written, receipt) = oneshot::channel();
        self.0.put(Late { message, written }).await.ok()?;
        Some(receipt)
    }

    /// The connection has not ended.
    pub fn is_open(&self) -> bool {
        !self.0.has_ended()
    }

    /// Whether both lead to the same connection.
    pub fn leads_where(&self, other: &Outlet) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
