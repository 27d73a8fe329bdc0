//! The heads of lanes, given out with their messages: from memory where they are, else from the journal.
//!
//! What cannot be proved any more is never given out; it becomes a dead letter, so that its lane goes on.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::oneshot;
use tracing::error;

use super::{Shared, blocking, lock, queue::Answerer};
use crate::store::{
    LaneId, Sequence, StoreError, Waiting,
    records::{Outcome, nanos, timestamp},
    request::Request,
    state::lane::Entry,
};

pub(super) async fn next(shared: Arc<Shared>, lane: LaneId) -> Result<Waiting, StoreError> {
    let waker = shared.waker(&lane);
    loop {
        let mut woken = std::pin::pin!(waker.notified());
        woken.as_mut().enable();
        shared.usable()?;
        let Some((entry, repeat)) = shared.head(&lane) else {
            woken.await;
            continue;
        };
        if let Some(message) = shared.cached(entry.id) {
            return Ok(shared.waiting(entry, repeat, message));
        }
        let breaks = shared.breaks.load(Ordering::SeqCst);
        let read_lane = lane.clone();
        let read = blocking(Arc::clone(&shared), move |shared| shared.read_ahead(&read_lane, &entry)).await;
        match read {
            Ok(message) => return Ok(shared.waiting(entry, repeat, message)),
            // Opened anew meanwhile, or its ledger was: look again, which answers a fault that stays.
            Err(_) if shared.breaks.load(Ordering::SeqCst) != breaks => {}
            // Carried forward between the look and the read: look again.
            Err(StoreError::NotFound) if shared.head(&lane).is_none_or(|(now, _)| now != entry) => {}
            Err(fault) => shared.bury_if_damaged(&lane, &entry, fault).await?,
        }
    }
}

impl Shared {
    /// The lane's head, where its message is now, and whether it may have been sent before.
    fn head(&self, lane: &LaneId) -> Option<(Entry, bool)> {
        let mut state = self.state();
        let number = state.lane_number(lane) as usize;
        let mut entry = *state.lanes[number].queue.front()?;
        entry.position = state.position_of(entry.id, entry.position);
        let restored = entry.entry < self.restored_before;
        let repeat = entry.again || restored || state.lanes[number].suspect == Some(entry.entry);
        Some((entry, repeat))
    }

    /// Behind `after`, as far as memory has them.
    pub(super) fn following(&self, lane: &LaneId, after: Sequence, limit: usize) -> Vec<Waiting> {
        if self.usable().is_err() {
            return Vec::new();
        }
        let behind: Vec<Entry> = match self.state().lane(lane) {
            Some(lane) => lane.queue.iter_from(after.0 + 1).take(limit).collect(),
            None => Vec::new(),
        };
        let waiting = |entry: Entry| {
            let repeat = entry.again || entry.entry < self.restored_before;
            Some(self.waiting(entry, repeat, self.cached(entry.id)?))
        };
        behind.into_iter().map_while(waiting).collect()
    }

    /// A message that cannot be proved any more, or is gone with its segment though nobody released it, is never given out;
    /// it is a dead letter, so that its lane goes on and a person sees it. Any other fault stays a fault.
    async fn bury_if_damaged(
        self: &Arc<Shared>,
        lane: &LaneId,
        entry: &Entry,
        fault: StoreError,
    ) -> Result<(), StoreError> {
        let position = entry.position;
        let gone = fault == StoreError::NotFound;
        if !gone && !blocking(Arc::clone(self), move |shared| Ok(shared.is_damaged(position))).await? {
            return Err(fault);
        }
        error!(id = entry.id, %fault, "a stored message is damaged: it is a dead letter; ask its sender for it");
        let (answerer, answer) = oneshot::channel();
        let request = Request::Settle {
            lane: lane.clone(),
            entry: entry.entry,
            at: nanos(self.clock.now()),
            outcome: Outcome::damaged(),
            episodes: Vec::new(),
        };
        self.queue.push(request, Answerer::To(answerer));
        match answer.await.unwrap_or_else(|_| Err(self.gone())) {
            // Somebody else was quicker.
            Ok(_) | Err(StoreError::NotFound) => Ok(()),
            Err(fault) => Err(fault),
        }
    }

    fn cached(&self, id: u64) -> Option<bytes::Bytes> {
        let fresh = lock(&self.cache).get(id);
        fresh.or_else(|| lock(&self.ahead).get(id))
    }

    fn waiting(&self, entry: Entry, possible_repeat: bool, message: bytes::Bytes) -> Waiting {
        Waiting {
            entry: Sequence(entry.entry),
            id: Sequence(entry.id),
            received_at: timestamp(entry.received_at),
            message,
            possible_repeat,
        }
    }
}
