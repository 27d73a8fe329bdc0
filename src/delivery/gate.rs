//! Keeps order while a destination's `lanes` or `order` changes: messages of one key are then in two lanes for a while.
//!
//! What must never happen: a message routed the new way passing one of its key that was routed the old way. So what was
//! stored before the change goes first, in its lanes as ever; what was stored while it was made goes one at a time, in the
//! order of the store; and only then does the rest, in all lanes again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    select,
    sync::{Notify, futures::Notified, watch},
    time::sleep,
};

use super::{
    Key,
    backoff::Backoff,
    lane::{Control, STORE_RETRY},
};
use crate::store::{LaneId, Sequence, Store, StoreError};

/// Shared by the lanes of a destination that changes.
pub(super) struct Gate {
    key: Key,
    store: Arc<dyn Store>,
    passing: Mutex<Passing>,
    moved: Notify,
}

struct Passing {
    /// Entries below were all routed the old way.
    old_below: u64,
    /// Entries from here on are all routed the new way, once that is known.
    new_from: Option<u64>,
    /// The first entry of each lane that has told it.
    heads: BTreeMap<u16, Sequence>,
    /// Changes that began before the first one was over.
    changes: u64,
    open: bool,
}

/// Intake routes the new way since a change: what it gave to the store before will all have a place there below any that
/// is given now, which the store must tell.
pub(super) struct RoutedAnew {
    gate: Arc<Gate>,
    change: u64,
}

impl Gate {
    /// Entries below `old_below` are of one way of routing, whatever it was.
    pub(super) fn new(key: Key, store: Arc<dyn Store>, old_below: u64) -> Gate {
        let passing = Passing { old_below, new_from: None, heads: BTreeMap::new(), changes: 0, open: false };
        Gate { key, store, passing: Mutex::new(passing), moved: Notify::new() }
    }

    /// Another change before this one was over; false where it is over.
    pub(super) fn changed_again(&self) -> bool {
        let mut passing = self.passing();
        passing.new_from = None;
        passing.changes += 1;
        !passing.open
    }

    /// Intake routes the way that is configured now.
    pub(super) fn routed_anew(self: &Arc<Gate>) -> RoutedAnew {
        RoutedAnew { gate: Arc::clone(self), change: self.passing().changes }
    }

    /// Entries from `sequence` on are routed the new way, unless that has changed again.
    fn new_from(&self, sequence: u64, change: u64) {
        let mut passing = self.passing();
        if passing.changes == change {
            passing.new_from.get_or_insert(sequence);
        }
        drop(passing);
        self.moved.notify_waiters();
    }

    /// Whether everything goes again.
    pub(super) fn is_open(&self) -> bool {
        self.passing().open
    }

    /// The lane has settled its first entry, or asks for it again.
    pub(super) fn left(&self, lane: u16) {
        self.passing().heads.remove(&lane);
        self.moved.notify_waiters();
    }

    /// Whether the lane may deliver `entry`, its first.
    pub(super) fn lets(&self, lane: u16, entry: Sequence) -> bool {
        let waiting = self.store.lanes();
        let mut passing = self.passing();
        if passing.open {
            return true;
        }
        if passing.heads.insert(lane, entry) != Some(entry) {
            self.moved.notify_waiters();
        }
        let mine = |id: &LaneId| (&id.channel, &id.destination) == (&self.key.0, &self.key.1);
        let waiting = waiting.iter().filter(|status| status.waiting > 0 && mine(&status.lane));
        // Unknown while one of the lanes has not told its first entry.
        let heads: Option<Vec<Sequence>> =
            waiting.map(|status| passing.heads.get(&status.lane.lane).copied()).collect();
        let first = heads.and_then(|heads| heads.into_iter().min());
        if let (Some(first), Some(new_from)) = (first, passing.new_from)
            && first.as_u64() >= new_from
        {
            passing.open = true;
            self.moved.notify_waiters();
            return true;
        }
        entry.as_u64() < passing.old_below || first == Some(entry)
    }

    /// Ends when another lane has moved since this was called and enabled.
    pub(super) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RoutedAnew {
    /// Asks the store, and has the gate know; false where it is to be asked again. One that failed says nothing of what it
    /// was given: some of that may be found when it is opened anew.
    pub(super) async fn is_told(&self) -> bool {
        match self.gate.store.replay(Vec::new(), None).await {
            Ok(_) => self.gate.new_from(self.gate.store.stats().next_sequence, self.change),
            Err(error) => return error == StoreError::Closed,
        }
        true
    }

    /// Asks until the store answers, the engine stops, or the way has changed again.
    pub(super) async fn tell(self, mut control: watch::Receiver<Control>) {
        let mut backoff = Backoff::default();
        loop {
            let wait = backoff.wait(STORE_RETRY.0, STORE_RETRY.1, None);
            select! {
                _ = control.wait_for(|control| control.stopping) => return,
                () = sleep(wait) => {}
            }
            if self.gate.passing().changes != self.change || self.is_told().await {
                return;
            }
        }
    }
}
