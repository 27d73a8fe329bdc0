//! Answers of a lane's receiver that are not recorded yet.
//!
//! A message goes out once the answer to the one before it is on the disk. Where its destination's `resend_window` is more than
//! one, it goes out while answers to that many less one are on their way there; after a power failure as many come again, in order
//! and marked. Messages sent together are recorded together.
//!
//! What must never happen: a delivery that ends by anything but an acceptance, a wait, or the end of the lane, while an answer
//! before it is not recorded.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{select, time::sleep};

use super::{
    lane::{Lane, Next, STORE_RETRY},
    together::remembered_by,
};
use crate::store::{Sequence, Settlement, StoreError, Waiting};

/// A settlement the store was asked for.
struct Asked {
    entry: Sequence,
    settlement: Settlement,
    recorded: BoxFuture<'static, Result<(), StoreError>>,
}

/// What was asked for, in order.
#[derive(Default)]
pub(super) struct Unrecorded(VecDeque<Asked>);

impl Unrecorded {
    /// What they make of an episode: `None` where they say nothing of it.
    pub(super) fn recall(&self, episode: &[u8]) -> Option<Option<Bytes>> {
        let accepted = self.0.iter().filter_map(|asked| match &asked.settlement {
            Settlement::Accepted(receipt) => Some(&*receipt.episodes),
            Settlement::Dead { .. } => None,
        });
        remembered_by(accepted, episode)
    }
}

impl Lane {
    /// The message behind those that are not recorded, while nothing says that it is not to be sent.
    pub(super) fn behind_unrecorded(&self) -> Option<Waiting> {
        let last = self.unrecorded.0.back()?.entry;
        if self.control.has_changed().unwrap_or(true) || self.control.borrow().gate.is_some() {
            return None;
        }
        self.store.following(&self.id, last, 1).pop()
    }

    fn ask(&mut self, entry: Sequence, settlement: Settlement) -> Asked {
        let recorded = self.store.settle(&self.id, entry, settlement.clone());
        Asked { entry, settlement, recorded }
    }

    /// Ends the head's delivery.
    pub(super) async fn settle(&mut self, entry: Sequence, settlement: Settlement) -> Next {
        self.backoff.reset();
        let asked = self.ask(entry, settlement);
        self.settled(asked, false).await.0
    }

    /// Waits until it is recorded, and whether the store failed meanwhile. A store without space, or failed, is waited for: the
    /// receiver has answered, and must not be asked again only because the answer could not be written down. In doubt it may be
    /// recorded before.
    async fn settled(&mut self, asked: Asked, mut in_doubt: bool) -> (Next, bool) {
        let Asked { entry, settlement, recorded } = asked;
        let mut answer = recorded.await;
        let mut failed = false;
        loop {
            let fault = match answer {
                Ok(()) => break,
                // Written by the try that failed: after it the store found it durable.
                Err(StoreError::NotFound) if in_doubt => break,
                Err(fault @ (StoreError::Full | StoreError::Failed(_))) => fault,
                Err(error) => return (Next::End(error), failed),
            };
            failed = true;
            in_doubt |= fault != StoreError::Full;
            self.board.unsettled(self.id.lane, &fault.to_string());
            let wait = self.backoff.wait(STORE_RETRY.0, STORE_RETRY.1, None);
            select! {
                _ = self.control.wait_for(|control| control.stopping) => return (Next::Leave, failed),
                () = sleep(wait) => {}
            }
            answer = self.store.settle(&self.id, entry, settlement.clone()).await;
        }
        self.board.settled(&self.id, entry, &settlement);
        if failed {
            self.backoff.reset();
            self.board.released(self.id.lane);
        }
        (Next::Go, failed)
    }

    /// Asks for it without waiting for it.
    pub(super) fn record(&mut self, entry: Sequence, settlement: Settlement) {
        let asked = self.ask(entry, settlement);
        self.unrecorded.0.push_back(asked);
    }

    /// Waits until at most `most` are not recorded.
    pub(super) async fn recorded(&mut self, most: usize) -> Next {
        while self.unrecorded.0.len() > most {
            let Some(asked) = self.unrecorded.0.pop_front() else { break };
            let (next, failed) = self.settled(asked, false).await;
            match next {
                Next::Go if failed => return self.recorded_again().await,
                Next::Go => {}
                next => return next,
            }
        }
        Next::Go
    }

    /// What was asked for behind one that failed was refused for it, or is recorded: the store is asked for each anew.
    async fn recorded_again(&mut self) -> Next {
        while let Some(Asked { entry, settlement, recorded }) = self.unrecorded.0.pop_front() {
            let asked = match recorded.await {
                Ok(()) => Asked { entry, settlement, recorded: Box::pin(std::future::ready(Ok(()))) },
                Err(_) => self.ask(entry, settlement),
            };
            match self.settled(asked, true).await.0 {
                Next::Go => {}
                next => return next,
            }
        }
        Next::Go
    }
}
