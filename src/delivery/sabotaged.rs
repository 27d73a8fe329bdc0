//! A lane's sender that breaks one promise on purpose, as `sabotage` says: for the tests of the checker alone.
//!
//! What must never happen: this in a build that may see a patient. Only the feature `sabotage` compiles it.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tracing::info;

use crate::{
    destination::{Outgoing, Sender, Taken, Verdict},
    hl7::{Message, Path},
    sabotage::{Fault, is_on, strikes},
};

/// Bytes kept of each message by [`Fault::Unbounded`].
const KEPT: usize = 64 * 1024;

/// `sender`, not to be relied on.
pub(super) fn sabotaged(sender: Box<dyn Sender>) -> Box<dyn Sender> {
    Box::new(Sabotaged { sender, behind: None })
}

struct Sabotaged {
    sender: Box<dyn Sender>,
    /// Counted as delivered, and sent after the next one.
    behind: Option<Outgoing>,
}

impl Sender for Sabotaged {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        Box::pin(self.badly(outgoing))
    }

    fn taken(&self) -> Option<Taken> {
        self.sender.taken()
    }

    fn go_on(&mut self, taken: Taken) {
        self.sender.go_on(taken);
    }
}

impl Sabotaged {
    async fn badly(&mut self, outgoing: &Outgoing) -> Verdict {
        let taken = || Verdict::Accepted { answer: "AA".to_owned() };
        if is_on(Fault::Unbounded) {
            keep(&outgoing.body);
        }
        if strikes(Fault::Leak) {
            info!(patient = patient(&outgoing.body), "delivering");
        }
        if strikes(Fault::Drop) {
            return taken();
        }
        if self.behind.is_none() && strikes(Fault::Swap) {
            self.behind = Some(outgoing.clone());
            return taken();
        }
        if strikes(Fault::Corrupt) {
            return self.sender.send(&corrupted(outgoing)).await;
        }
        let verdict = self.sender.send(outgoing).await;
        let again = match &verdict {
            Verdict::Accepted { .. } if strikes(Fault::Duplicate) => Some(outgoing.clone()),
            Verdict::Accepted { .. } => self.behind.take(),
            _ => None,
        };
        if let Some(again) = again {
            self.sender.send(&again).await;
        }
        verdict
    }
}

/// Never given back. Written, so that the memory is really taken.
fn keep(body: &Bytes) {
    static HOARD: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    let kept = body.iter().copied().cycle().take(KEPT).collect();
    HOARD.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
}

fn patient(body: &Bytes) -> String {
    let name = |path| Message::parse(body.clone()).ok()?.first_text(&path).map(|name| name.into_owned());
    Path::parse("PID-5").ok().and_then(name).unwrap_or_default()
}

/// The last letter or digit changed: within the content, not in what a receiver needs to read it.
fn corrupted(outgoing: &Outgoing) -> Outgoing {
    let mut body = outgoing.body.to_vec();
    if let Some(byte) = body.iter_mut().rfind(|byte| byte.is_ascii_alphanumeric()) {
        *byte ^= 1;
    }
    Outgoing { body: body.into(), ..outgoing.clone() }
}
