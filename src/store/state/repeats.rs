//! The window of messages a sender's repeat is told by: key and content hashes, the first sequence, the time.
//!
//! Bounded by each entry's window and by count. What the bound pushes out is stored again if repeated: delivered twice, never lost.
//! A repeat is declared only where 64 bits of the key's and 64 of the body's keyed hash both match.

use std::collections::{HashMap, VecDeque};

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

/// The window: a ring in order of arrival and an index into it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Repeats {
    ring: VecDeque<CarriedRepeat>,
    /// Number of the ring's first entry, counted from the store's beginning.
    first: u64,
    index: HashMap<u64, u64>,
    max: usize,
    /// Entries pushed out before their window ended.
    pub forgotten: u64,
}

impl Repeats {
    pub fn new(max: usize) -> Repeats {
        Repeats { ring: VecDeque::new(), first: 0, index: HashMap::new(), max, forgotten: 0 }
    }

    pub fn check(&self, mark: RepeatMark, at: i64) -> Seen {
        match self.index.get(&mark.key).and_then(|number| self.ring.get((number - self.first) as usize)) {
            Some(seen) => compare(seen, mark, at),
            None => Seen::New,
        }
    }

    /// Remembers a message, and forgets what `at` has left behind.
    pub fn insert(&mut self, repeat: CarriedRepeat) {
        self.prune(repeat.at);
        let newer = |number: &u64| {
            self.ring.get((number - self.first) as usize).is_some_and(|seen| seen.sequence >= repeat.sequence)
        };
        if self.index.get(&repeat.mark.key).is_some_and(newer) {
            return;
        }
        self.index.insert(repeat.mark.key, self.first + self.ring.len() as u64);
        self.ring.push_back(repeat);
        while self.ring.len() > self.max {
            self.forgotten += 1;
            self.pop();
        }
    }

    /// The message `id` is lost: from record `sequence` on its repeat counts as other content under its key.
    pub fn distrust(&mut self, id: u64, sequence: u64) {
        let current = |number: u64, each: &CarriedRepeat| self.index.get(&each.mark.key) == Some(&number);
        let mut found = (self.first..).zip(&self.ring).filter(|(_, each)| each.sequence == id);
        let lost = found.find(|(number, each)| current(*number, each)).map(|(_, each)| *each);
        if let Some(CarriedRepeat { mark, at, .. }) = lost {
            self.insert(CarriedRepeat { mark: RepeatMark { body: !mark.body, ..mark }, sequence, at });
        }
    }

    /// Entries that still tell a repeat, of messages before `sequence`.
    pub fn live_before(&self, sequence: u64) -> Vec<CarriedRepeat> {
        let at = self.ring.back().map_or(0, |last| last.at);
        let number = |place: usize| self.first + place as u64;
        let current = |(place, each): &(usize, &CarriedRepeat)| {
            each.sequence < sequence && !expired(each, at) && self.index.get(&each.mark.key) == Some(&number(*place))
        };
        self.ring.iter().enumerate().filter(current).map(|(_, each)| *each).collect()
    }

    /// Numbers of the ring's entries.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.ring.len() as u64
    }

    /// Entries with the given numbers, as far as kept.
    pub fn slice(&self, numbers: std::ops::Range<u64>) -> Vec<CarriedRepeat> {
        let from = numbers.start.max(self.first) - self.first;
        let to = numbers.end.clamp(self.first, self.numbers().end) - self.first;
        self.ring.range(from as usize..(to as usize).max(from as usize)).copied().collect()
    }

    /// A window from what a checkpoint kept of it.
    pub fn load(max: usize, first: u64, entries: Vec<CarriedRepeat>) -> Repeats {
        let index = (first..).zip(&entries).map(|(number, each)| (each.mark.key, number)).collect();
        Repeats { ring: entries.into(), first, index, max, forgotten: 0 }
    }

    fn prune(&mut self, at: i64) {
        while self.ring.front().is_some_and(|front| expired(front, at)) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(gone) = self.ring.pop_front() else { return };
        if self.index.get(&gone.mark.key) == Some(&self.first) {
            self.index.remove(&gone.mark.key);
        }
        self.first += 1;
    }
}

/// How a message with this mark stands to an earlier one with the same key.
pub(in crate::store) fn compare(seen: &CarriedRepeat, mark: RepeatMark, at: i64) -> Seen {
    if at.saturating_sub(seen.at) > i64::from(mark.window_seconds).saturating_mul(SECOND) {
        Seen::New
    } else if seen.mark.body == mark.body {
        Seen::Repeat { sequence: seen.sequence, at: seen.at }
    } else {
        Seen::Reused
    }
}

fn expired(repeat: &CarriedRepeat, at: i64) -> bool {
    at.saturating_sub(repeat.at) > i64::from(repeat.mark.window_seconds).saturating_mul(SECOND)
}
