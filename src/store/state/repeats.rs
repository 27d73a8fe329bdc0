//! The window of messages a sender's repeat is told by: key and content hashes, the first sequence, the time.
//!
//! Bounded by each entry's window and by count. What the bound pushes out is stored again if repeated: delivered twice, never lost.
//! A repeat is declared only where 64 bits of the key's and 64 of the body's keyed hash both match. Windows are measured in
//! the store's own time, so that setting the system's clock forgets nothing.

mod index;
mod ring;

use self::{index::Index, ring::Ring};
use crate::store::records::{CarriedRepeat, RepeatMark};

const SECOND: i64 = 1_000_000_000;

/// What a message is, seen against the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Seen {
    New,
    /// The key was seen with other content.
    Reused,
    /// Key and content were seen, first as this sequence, received at this time.
    Repeat {
        sequence: u64,
        at: i64,
    },
}

/// The window: a ring in order of arrival and an index into it, some 56 bytes an entry.
#[derive(Debug, Clone)]
pub(in crate::store) struct Repeats {
    ring: Ring,
    /// Of each key the number of its latest entry.
    index: Index,
    max: usize,
    /// Entries pushed out before their window ended.
    pub forgotten: u64,
}

impl Repeats {
    pub fn new(max: usize) -> Repeats {
        Repeats::starting_at(max, 0)
    }

    /// An empty window whose first entry will have this number, counted from the store's beginning.
    pub fn starting_at(max: usize, first: u64) -> Repeats {
        Repeats { ring: Ring::starting_at(first), index: Index::default(), max, forgotten: 0 }
    }

    /// How a message with this mark, received at this time of the store's own, stands to those before it.
    pub fn check(&self, mark: RepeatMark, steady: i64) -> Seen {
        self.latest(mark.key).map_or(Seen::New, |(_, seen)| compare(&seen, mark, steady))
    }

    /// Remembers a message, and forgets what its time has left behind.
    pub fn insert(&mut self, repeat: CarriedRepeat) {
        self.prune(repeat.steady);
        if self.latest(repeat.mark.key).is_some_and(|(_, seen)| seen.sequence >= repeat.sequence) {
            return;
        }
        self.restore(repeat);
        while self.ring.len() > self.max {
            self.forgotten += 1;
            self.pop();
        }
    }

    /// Puts back the next entry a checkpoint kept.
    pub fn restore(&mut self, repeat: CarriedRepeat) {
        let number = self.ring.push(repeat);
        self.index.insert(number, &self.ring);
    }

    /// The message `id` is lost: from record `sequence` on its repeat counts as other content under its key.
    pub fn distrust(&mut self, id: u64, sequence: u64) {
        let lost = self.ring.iter().filter(|(_, each)| each.sequence == id).filter(|(number, each)| {
            let latest = self.latest(each.mark.key);
            latest.is_some_and(|(latest, _)| latest == *number)
        });
        let lost: Vec<_> = lost.collect();
        for (_, CarriedRepeat { mark, at, steady, .. }) in lost {
            let mark = RepeatMark { body: !mark.body, ..mark };
            self.insert(CarriedRepeat { mark, sequence, at, steady });
        }
    }

    /// Entries that still tell a repeat, of messages before `sequence`.
    pub fn live_before(&self, sequence: u64) -> Vec<CarriedRepeat> {
        let now = self.ring.last().map_or(0, |last| last.steady);
        let live = |(number, each): &(u64, CarriedRepeat)| {
            let latest = || self.latest(each.mark.key).is_some_and(|(latest, _)| latest == *number);
            each.sequence < sequence && !expired(each, now) && latest()
        };
        self.ring.iter().filter(live).map(|(_, each)| each).collect()
    }

    /// Numbers of the ring's entries.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.ring.numbers()
    }

    /// Entries with the given numbers, as far as kept.
    pub fn slice(&self, numbers: std::ops::Range<u64>) -> Vec<CarriedRepeat> {
        numbers.filter_map(|number| self.ring.entry(number)).collect()
    }

    fn latest(&self, key: u64) -> Option<(u64, CarriedRepeat)> {
        let number = self.index.find(key, &self.ring)?;
        Some((number, self.ring.entry(number)?))
    }

    fn prune(&mut self, steady: i64) {
        while self.ring.first().is_some_and(|first| expired(&first, steady)) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(gone) = self.ring.first() else { return };
        self.index.remove(gone.mark.key, self.ring.numbers().start, &self.ring);
        self.ring.pop();
    }
}

/// How a message with this mark stands to an earlier one with the same key.
pub(in crate::store) fn compare(seen: &CarriedRepeat, mark: RepeatMark, steady: i64) -> Seen {
    if steady.saturating_sub(seen.steady) > i64::from(mark.window_seconds).saturating_mul(SECOND) {
        Seen::New
    } else if seen.mark.body == mark.body {
        Seen::Repeat { sequence: seen.sequence, at: seen.at }
    } else {
        Seen::Reused
    }
}

fn expired(repeat: &CarriedRepeat, steady: i64) -> bool {
    steady.saturating_sub(repeat.steady) > i64::from(repeat.mark.window_seconds).saturating_mul(SECOND)
}
