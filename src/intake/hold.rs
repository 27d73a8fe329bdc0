//! The order of one connection's frames while the store is full.
//!
//! A frame that finds the store full is held and tried again. What must never happen: a frame that came after it on the
//! same connection is stored before it. So a frame is held only while no later one was handed to the store, and later
//! ones then wait for their turn, which they have when all before them are answered.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The unanswered frames of every connection.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<SocketAddr, Line>>);

#[derive(Default)]
struct Line {
    /// Frames begun, the last one's number.
    begun: u64,
    unanswered: usize,
    /// A frame is held, or one behind it waits for its turn.
    holding: bool,
}

/// One unanswered frame.
pub(super) struct Turn {
    turns: Arc<Turns>,
    peer: SocketAddr,
    number: u64,
    deferred: bool,
}

impl Turns {
    /// The turn of the next frame of `peer`.
    pub(super) fn begin(self: &Arc<Turns>, peer: SocketAddr) -> Turn {
        let mut lines = self.lock();
        let line = lines.entry(peer).or_default();
        line.unanswered += 1;
        line.begun += 1;
        Turn { turns: self.clone(), peer, number: line.begun, deferred: line.holding }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The frame must not go to the store before its answer is waited for.
    pub(super) fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// Whether the frame may be tried again: no later one was handed to the store. Frames that come from now on are
    /// deferred.
    pub(super) fn hold(&self) -> bool {
        let mut lines = self.turns.lock();
        let Some(line) = lines.get_mut(&self.peer) else { return false };
        line.holding |= line.begun == self.number;
        line.holding
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.turns.lock();
        let Some(line) = lines.get_mut(&self.peer) else { return };
        line.unanswered -= 1;
        if line.unanswered == 0 {
            lines.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_frame_is_held_only_while_no_later_one_is_with_the_store() {
        let turns = Arc::new(Turns::default());
        let peer = "10.0.0.1:5000".parse().unwrap();
        let (first, second) = (turns.begin(peer), turns.begin(peer));
        assert!(!first.hold(), "the second may be stored already");
        assert!(second.hold());
        let third = turns.begin(peer);
        assert!(third.is_deferred() && third.hold());
        let elsewhere = turns.begin("10.0.0.1:5001".parse().unwrap());
        assert!(!elsewhere.is_deferred(), "another connection does not wait");
        drop((first, second, third));
        assert!(!turns.begin(peer).is_deferred(), "all are answered: it is over");
        drop(elsewhere);
        assert!(turns.lock().is_empty());
    }
}
