//! The order of one connection's frames while the store is full.
//!
//! A frame that finds the store full is held and tried again. What must never happen: a frame that came after it on the
//! same connection is stored before it. So a frame is held only while no later one was handed to the store, and later
//! ones then wait for their turn, which they have when all before them are answered. Once none is held and none waits for
//! its turn, frames go to the store as they come again, whatever is still unanswered.
//!
//! A frame the store failed for closes its connection, and the sender repeats it. So no frame behind it may be stored
//! any more, though the store may work again by then. Its own answer may tell that late, behind one that its sender does
//! not read; so any failure of the store since a connection's first unanswered frame ends what may be stored of it.

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
    /// The last frame handed to the store, by number.
    handed: u64,
    unanswered: usize,
    /// Frames held, and those behind them that wait for their turn.
    kept_back: usize,
    /// Failures of the store when the first of the unanswered frames came.
    failures: u64,
    /// The store failed for one of them, or may have.
    failed: bool,
}

/// One unanswered frame.
pub(super) struct Turn {
    turns: Arc<Turns>,
    peer: SocketAddr,
    number: u64,
    /// It is held, or waits for its turn behind one that is.
    kept_back: bool,
}

impl Turns {
    /// The turn of the next frame of `peer`, while the store has failed so many times.
    pub(super) fn begin(self: &Arc<Turns>, peer: SocketAddr, failures: u64) -> Turn {
        let mut lines = self.lock();
        let line = lines.entry(peer).or_insert_with(|| Line { failures, ..Line::default() });
        line.failed |= line.failures != failures;
        line.unanswered += 1;
        line.begun += 1;
        let kept_back = line.kept_back > 0;
        if kept_back {
            line.kept_back += 1;
        } else {
            line.handed = line.begun;
        }
        Turn { turns: self.clone(), peer, number: line.begun, kept_back }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The frame must not go to the store before its answer is waited for.
    pub(super) fn is_deferred(&self) -> bool {
        self.kept_back
    }

    /// The store failed for this frame.
    pub(super) fn fail(&self) {
        if let Some(line) = self.turns.lock().get_mut(&self.peer) {
            line.failed = true;
        }
    }

    /// The store failed for a frame before this one: it must not be stored.
    pub(super) fn is_behind_failed(&self) -> bool {
        self.turns.lock().get(&self.peer).is_some_and(|line| line.failed)
    }

    /// A deferred frame's turn came, and the store has it or never will.
    pub(super) fn handed_on(&mut self) {
        let mut lines = self.turns.lock();
        if let Some(line) = lines.get_mut(&self.peer) {
            line.handed = self.number;
            line.kept_back -= usize::from(std::mem::take(&mut self.kept_back));
        }
    }

    /// Whether the frame may be tried again: no later one was handed to the store. Frames that come from now on are
    /// deferred.
    pub(super) fn hold(&mut self) -> bool {
        let mut lines = self.turns.lock();
        if let Some(line) = lines.get_mut(&self.peer).filter(|line| line.handed == self.number) {
            line.kept_back += usize::from(!std::mem::replace(&mut self.kept_back, true));
        }
        self.kept_back
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut lines = self.turns.lock();
        let Some(line) = lines.get_mut(&self.peer) else { return };
        line.unanswered -= 1;
        line.kept_back -= usize::from(self.kept_back);
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
        let (mut first, mut second) = (turns.begin(peer, 0), turns.begin(peer, 0));
        assert!(second.hold());
        assert!(!first.hold(), "the second is with the store, and may be stored already");
        let mut third = turns.begin(peer, 0);
        assert!(third.is_deferred());
        let elsewhere = turns.begin("10.0.0.1:5001".parse().unwrap(), 0);
        assert!(!elsewhere.is_deferred(), "another connection does not wait");
        drop((first, second));
        let fourth = turns.begin(peer, 0);
        third.handed_on();
        assert!(fourth.is_deferred() && third.hold(), "the fourth still waits for its turn");
        drop((third, fourth, elsewhere));
        assert!(turns.lock().is_empty());
    }

    #[test]
    fn no_frame_is_stored_behind_one_the_store_failed_for() {
        let turns = Arc::new(Turns::default());
        let peer = "10.0.0.1:5000".parse().unwrap();
        let first = turns.begin(peer, 0);
        assert!(!first.is_behind_failed());
        first.fail();
        let second = turns.begin(peer, 0);
        assert!(second.is_behind_failed());
        assert!(!turns.begin("10.0.0.1:5001".parse().unwrap(), 0).is_behind_failed());
        drop((first, second));
        assert!(!turns.begin(peer, 0).is_behind_failed(), "the connection after it begins anew");
    }

    #[test]
    fn no_frame_is_stored_behind_one_that_was_unanswered_when_the_store_failed() {
        let turns = Arc::new(Turns::default());
        let peer = "10.0.0.1:5000".parse().unwrap();
        let (first, second) = (turns.begin(peer, 3), turns.begin(peer, 3));
        assert!(!second.is_behind_failed(), "failures before it are over");
        drop(first);
        let third = turns.begin(peer, 4);
        assert!(third.is_behind_failed(), "the second may have been refused");
        drop((second, third));
        assert!(!turns.begin(peer, 4).is_behind_failed(), "all before it have their answers");
    }

    #[test]
    fn a_connection_that_always_has_a_frame_unanswered_is_not_deferred_for_ever() {
        let turns = Arc::new(Turns::default());
        let peer = "10.0.0.1:5000".parse().unwrap();
        let mut held = turns.begin(peer, 0);
        assert!(held.hold());
        let mut behind = turns.begin(peer, 0);
        drop(held);
        assert!(behind.is_deferred());
        behind.handed_on();
        let mut after = turns.begin(peer, 0);
        assert!(!after.is_deferred(), "none is held, none waits for its turn");
        assert!(!behind.hold() && after.hold());
    }
}
