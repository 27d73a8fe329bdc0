//! A checkpoint: what changed in the state since the last one, as keys and values, with the proof that goes with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::page;
use crate::store::{
    LaneId,
    journal::Position,
    records::steadies,
    state::{CarriedRange, SegmentUse, State, Time, history::page_of},
};

/// Repeats to a block.
pub(super) const BLOCK: u64 = 512;
/// Written into every proof; another number is another layout, and the ledger is rebuilt.
pub(super) const LAYOUT: u32 = 4;

/// Keys to write and to remove, all at once.
pub(in crate::store) struct Image {
    pub(super) put: Vec<(Vec<u8>, Vec<u8>)>,
    /// Everything under these prefixes.
    pub(super) removed: Vec<Vec<u8>>,
    /// Everything from the first key up to the second.
    pub(super) removed_ranges: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the ledger covers and what it must add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Proof {
    pub layout: u32,
    pub store: u64,
    pub checkpoint: u64,
    pub applied: Option<(Position, u64)>,
    pub next: u64,
    pub oldest_segment: u64,
    pub messages: u64,
    pub time: Time,
    pub channels: Vec<Arc<str>>,
    pub paused: Vec<(Arc<str>, Arc<str>)>,
    pub segments: Vec<(u64, SegmentUse)>,
    pub lanes: u32,
    pub waiting: u64,
    pub digest: u64,
    pub dead: u64,
    pub moved: u64,
    pub repeats: (u64, u64),
    /// How many episodes are remembered, and a sum over them.
    pub episodes: (u64, u64),
    pub carried: Vec<CarriedRange>,
    /// Pages before this one were removed.
    pub first_page: u64,
}

/// A lane, but for the packed middle of its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredLane {
    pub id: LaneId,
    pub len: u64,
    pub digest: u64,
    pub chunks: (u64, u64),
    pub ends: Vec<u8>,
}

/// What the ledger already has, as far as the state itself does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::store) struct Covered {
    pub store: u64,
    pub checkpoint: u64,
    pub repeats: (u64, u64),
    pub first_page: u64,
}

pub(super) fn key(prefix: u8, numbers: &[u64]) -> Vec<u8> {
    let mut key = vec![prefix];
    numbers.iter().for_each(|number| key.extend_from_slice(&number.to_be_bytes()));
    key
}

impl Image {
    /// The next checkpoint of `state`, whose last record is `applied`; the state counts it as written. `first_page` is the
    /// oldest page any kept message is in.
    pub fn of(state: &mut State, covered: &mut Covered, applied: Option<(Position, u64)>, first_page: u64) -> Image {
        let mut image = Image { put: Vec::new(), removed: Vec::new(), removed_ranges: Vec::new() };
        covered.checkpoint += 1;
        image.lanes(state);
        image.dead(state);
        image.moved(state);
        image.repeats(state, covered);
        image.episodes(state);
        image.history(state, covered, first_page);
        let proof = proof(state, covered, applied);
        image.store(key(b'!', &[]), &proof);
        image
    }

    fn store<T: Serialize>(&mut self, key: Vec<u8>, value: &T) {
        // Plain owned structs into a growing vector: no way to fail.
        self.put.push((key, postcard::to_extend(value, Vec::new()).unwrap_or_default()));
    }

    fn lanes(&mut self, state: &mut State) {
        for number in std::mem::take(&mut state.dirty.lanes) {
            let lane = &mut state.lanes[number as usize];
            let image = lane.queue.image();
            let number = u64::from(number);
            self.put.extend(image.put.into_iter().map(|(chunk, packed)| (key(b'c', &[number, chunk]), packed.into())));
            if !image.removed.is_empty() {
                let ends = (key(b'c', &[number, image.removed.start]), key(b'c', &[number, image.removed.end]));
                self.removed_ranges.push(ends);
            }
            let (len, digest, chunks, ends) = (image.len, image.digest, image.chunks, image.ends);
            self.store(key(b'l', &[number]), &StoredLane { id: lane.id.clone(), len, digest, chunks, ends });
        }
    }

    fn dead(&mut self, state: &mut State) {
        for entry in std::mem::take(&mut state.dirty.dead) {
            match state.dead.get(&entry) {
                Some(dead) => self.store(key(b'd', &[entry]), dead),
                None => self.removed.push(key(b'd', &[entry])),
            }
        }
    }

    fn moved(&mut self, state: &mut State) {
        for id in std::mem::take(&mut state.dirty.moved) {
            match state.moved.get(&id) {
                Some(moved) => self.store(key(b'm', &[id]), moved),
                None => self.removed.push(key(b'm', &[id])),
            }
        }
    }

    fn repeats(&mut self, state: &State, covered: &mut Covered) {
        let numbers = state.repeats.numbers();
        let from = covered.repeats.1.max(numbers.start) / BLOCK;
        for block in from..numbers.end.div_ceil(BLOCK) {
            let repeats = state.repeats.slice(block * BLOCK..(block + 1) * BLOCK);
            self.store(key(b'r', &[block]), &(&repeats, steadies(&repeats)));
        }
        let gone = covered.repeats.0 / BLOCK..numbers.start / BLOCK;
        if !gone.is_empty() {
            self.removed_ranges.push((key(b'r', &[gone.start]), key(b'r', &[gone.end])));
        }
        covered.repeats = (numbers.start, numbers.end);
    }

    fn episodes(&mut self, state: &mut State) {
        for episode in std::mem::take(&mut state.episodes.dirty) {
            let key = key(b'e', &[episode.0, episode.1]);
            match state.episodes.stored(episode) {
                Some(stored) => self.store(key, &stored),
                None => self.removed.push(key),
            }
        }
    }

    fn history(&mut self, state: &mut State, covered: &mut Covered, first_page: u64) {
        if first_page > covered.first_page {
            for prefix in [b'h', b'o'] {
                self.removed_ranges.push((key(prefix, &[0]), key(prefix, &[first_page])));
            }
            covered.first_page = first_page;
        }
        for (number, page) in state.history.leave(state.next).iter().filter(|(number, _)| **number >= first_page) {
            if !page.rows.is_empty() {
                self.put.push((key(b'h', &[*number]), page::encode(&page.rows)));
            }
            if !page.happened.is_empty() {
                self.store(key(b'o', &[*number, covered.checkpoint]), &page.happened);
            }
        }
    }
}

fn proof(state: &State, covered: &Covered, applied: Option<(Position, u64)>) -> Proof {
    Proof {
        layout: LAYOUT,
        store: covered.store,
        checkpoint: covered.checkpoint,
        applied,
        next: state.next,
        oldest_segment: state.oldest_segment,
        messages: state.messages,
        time: state.time,
        channels: state.channels.clone(),
        paused: state.paused.iter().cloned().collect(),
        segments: state.segments.iter().map(|(number, each)| (*number, *each)).collect(),
        lanes: state.lanes.len() as u32,
        waiting: state.waiting(),
        digest: state.digest(),
        dead: state.dead.len() as u64,
        moved: state.moved.len() as u64,
        repeats: covered.repeats,
        episodes: state.episodes.proof(),
        carried: state.carried.clone(),
        first_page: covered.first_page,
    }
}

/// The first page that can hold anything, given the first sequence kept.
pub(in crate::store) fn first_page(first_sequence: Option<u64>) -> u64 {
    first_sequence.map_or(0, page_of)
}
