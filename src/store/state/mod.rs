//! What the records add up to: lanes, dead letters, repeats, pauses, history. No I/O and no clock.
//!
//! Both stores, and recovery, fold records through [`State::apply`]; nothing else changes what the store believes.
//! A record about a message that is no longer kept says nothing: a message carried forward brings all that is still true of it.

pub(super) mod episodes;
pub(super) mod history;
pub(super) mod lane;
mod packed;
pub(super) mod repeats;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use self::{
    episodes::Episodes,
    history::{Happened, History, Row},
    lane::{Entry, Queue},
    repeats::Repeats,
};
use super::{
    LaneId,
    journal::Position,
    records::{
        Attempted, Carried, CarriedDead, CarriedRepeat, CarriedState, DeadChange, Header, Outcome, Paused, Recorded,
        Replayed, Settled, What,
    },
};

/// The fold of every record so far.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The sequence the next record takes.
    pub next: u64,
    pub lanes: Vec<Lane>,
    lane_numbers: HashMap<LaneId, u32>,
    pub channels: Vec<Arc<str>>,
    channel_numbers: HashMap<Arc<str>, u32>,
    pub dead: BTreeMap<u64, Dead>,
    pub repeats: Repeats,
    /// Where repeats are told by a later record than their message's own, oldest first.
    pub carried: Vec<CarriedRange>,
    pub paused: BTreeSet<(Arc<str>, Arc<str>)>,
    /// What destinations remember.
    pub episodes: Episodes,
    pub history: History,
    /// Messages copied forward, by id: where they are now. They are in no page.
    pub moved: BTreeMap<u64, Moved>,
    pub segments: BTreeMap<u64, SegmentUse>,
    /// The oldest segment kept.
    pub oldest_segment: u64,
    pub messages: u64,
    /// When the last message was received, or the last checkpoint made if that is later.
    pub time: Time,
    /// What the next checkpoint must write, beyond what it finds by itself.
    pub dirty: Dirty,
    /// Lanes whose head may be new since last taken.
    woken: Vec<u32>,
}

/// One moment by the store's own time, and as the system's clock told it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Time {
    pub steady: i64,
    pub shown: i64,
}

/// A lane and its queue.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    pub id: LaneId,
    pub queue: Queue,
    pub dead: u64,
    /// An entry that may have been sent although it still waits.
    pub suspect: Option<u64>,
}

/// A dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dead {
    pub id: u64,
    pub lane: u32,
    pub message: Position,
    pub received_at: i64,
    pub at: i64,
    /// The record that tells the reason.
    pub told: Position,
}

/// A message copied forward and what happened to it since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Moved {
    pub row: Row,
    /// How each entry stood when it was carried.
    pub stood: Vec<(u32, u64, What)>,
    pub happened: Vec<Happened>,
}

/// What a segment holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SegmentUse {
    pub messages: u64,
    /// Waiting or dead entries of messages in it.
    pub live: u64,
    /// The latest time, of the store's own, a message in it was received.
    pub last_steady: i64,
}

/// The repeats a record carried forward: all that were live from the first of these sequences to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedRange {
    pub segment: u64,
    pub first: u64,
    pub last: u64,
}

/// Keys changed since the last checkpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct Dirty {
    pub lanes: BTreeSet<u32>,
    pub dead: BTreeSet<u64>,
    pub moved: BTreeSet<u64>,
}

/// What a state may keep in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Messages remembered to tell a sender's repeats.
    pub repeats: usize,
    /// Of the journal, into which what destinations remember is carried forward.
    pub segment_bytes: u32,
}

impl State {
    pub fn new(bounds: Bounds) -> State {
        State {
            next: 1,
            lanes: Vec::new(),
            lane_numbers: HashMap::new(),
            channels: Vec::new(),
            channel_numbers: HashMap::new(),
            dead: BTreeMap::new(),
            repeats: Repeats::new(bounds.repeats),
            carried: Vec::new(),
            paused: BTreeSet::new(),
            episodes: Episodes::beside_segments_of(bounds.segment_bytes),
            history: History::default(),
            moved: BTreeMap::new(),
            segments: BTreeMap::new(),
            oldest_segment: 0,
            messages: 0,
            time: Time::default(),
            dirty: Dirty::default(),
            woken: Vec::new(),
        }
    }

    /// Folds in the record at `position`; `bytes` is the length of the message it carries, if any.
    pub fn apply(&mut self, sequence: u64, position: Position, recorded: &Recorded, bytes: u32) {
        self.next = self.next.max(sequence + recorded.sequences());
        match recorded {
            Recorded::Received(header) => self.received(sequence, position, header, bytes),
            Recorded::Settled(settled) => self.settled(sequence, position, settled),
            Recorded::Attempted(attempted) => self.attempted(position, attempted),
            Recorded::Replayed(replayed) => self.replayed(sequence, position, replayed),
            Recorded::DeadRetried(change) => self.dead_retried(sequence, position, change),
            Recorded::DeadDiscarded(change) => self.dead_discarded(position, change),
            Recorded::Paused(paused) => self.pause(paused),
            Recorded::CarriedMessage(carried) => self.carried(position, carried, bytes),
            Recorded::CarriedState(carried) => self.carried_state(position, carried),
        }
    }

    /// Number of a lane, made known if it was not.
    pub fn lane_number(&mut self, id: &LaneId) -> u32 {
        if let Some(number) = self.lane_numbers.get(id) {
            return *number;
        }
        let number = self.lanes.len() as u32;
        self.lanes.push(Lane { id: id.clone(), queue: Queue::default(), dead: 0, suspect: None });
        self.lane_numbers.insert(id.clone(), number);
        self.dirty.lanes.insert(number);
        number
    }

    pub fn lane(&self, id: &LaneId) -> Option<&Lane> {
        self.lane_numbers.get(id).and_then(|number| self.lanes.get(*number as usize))
    }

    /// Where a message is now, `then` being where it was when that was noted.
    pub fn position_of(&self, id: u64, then: Position) -> Position {
        self.moved.get(&id).map_or(then, |moved| moved.row.position)
    }

    /// Lanes that got a new head since last asked.
    pub fn take_woken(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.woken)
    }

    /// After a restart: whatever heads a lane may have been on its way when the process stopped.
    pub fn suspect_heads(&mut self) {
        for lane in &mut self.lanes {
            lane.suspect = lane.queue.front().map(|head| head.entry);
        }
    }

    /// Gives up what is only of use for deciding and searching, before the state is made anew. What destinations remember is
    /// not: a lane may be about to translate.
    pub fn shed(&mut self) {
        self.repeats = Repeats::new(0);
        self.forget_history();
    }

    /// Gives up what only a ledger could tell, since there is none any more.
    pub fn forget_history(&mut self) {
        self.history.forget(self.next);
        self.clean();
    }

    /// Keeps of history what memory has room for, where there is no ledger.
    pub fn keep_newest_history(&mut self) {
        self.history.keep_newest();
        self.clean();
    }

    /// Nothing is left for a checkpoint to write.
    pub fn clean(&mut self) {
        self.dirty = Dirty::default();
        self.episodes.dirty.clear();
    }

    /// Notes that this entry may have been sent.
    pub fn suspect(&mut self, lane: &LaneId, entry: u64) {
        let number = self.lane_number(lane);
        self.lanes[number as usize].suspect = Some(entry);
    }

    /// Forgets what lies before `segment`, whose first record is `first_sequence` or later; what was alive in it was carried forward.
    pub fn release_before(&mut self, segment: u64, first_sequence: u64) {
        self.oldest_segment = segment;
        let kept = self.segments.split_off(&segment);
        let gone: u64 = self.segments.values().map(|each| each.messages).sum();
        self.segments = kept;
        self.messages = self.messages.saturating_sub(gone);
        self.carried.retain(|range| range.segment >= segment);
        self.history.release(history::page_of(first_sequence), segment);
        let gone: Vec<u64> =
            self.moved.iter().filter(|(_, each)| each.row.position.segment < segment).map(|(id, _)| *id).collect();
        for id in gone {
            self.moved.remove(&id);
            self.dirty.moved.insert(id);
        }
    }

    /// Live repeats that no record from `segment` on tells, whose first sequence is `first_sequence`; in runs of at most
    /// `most`, none of which has another live repeat within its range: what is of one message stays together, at the price
    /// of one more. At least one run, which may be empty.
    pub fn only_said_before(&self, segment: u64, first_sequence: u64, most: usize) -> Vec<Vec<CarriedRepeat>> {
        let mut live = self.repeats.live_before(first_sequence);
        live.sort_unstable_by_key(|repeat| repeat.sequence);
        let mut later: Vec<_> = self.carried.iter().filter(|range| range.segment >= segment).collect();
        later.sort_unstable_by_key(|range| range.first);
        let (mut later, mut told_to) = (later.into_iter().peekable(), 0);
        let (mut runs, mut run) = (Vec::new(), Vec::new());
        for repeat in live {
            while let Some(range) = later.next_if(|range| range.first <= repeat.sequence) {
                told_to = range.last.max(told_to);
            }
            let told = repeat.sequence <= told_to;
            let together = run.last().is_some_and(|last: &CarriedRepeat| last.sequence == repeat.sequence);
            if run.len() >= most && !together || told && !run.is_empty() {
                runs.push(std::mem::take(&mut run));
            }
            if !told {
                run.push(repeat);
            }
        }
        if !run.is_empty() || runs.is_empty() {
            runs.push(run);
        }
        runs
    }

    /// Total waiting entries.
    pub fn waiting(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.queue.len()).sum()
    }

    /// A sum over everything that waits.
    pub fn digest(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.queue.digest()).fold(0, u64::wrapping_add)
    }

    pub fn channel_number(&mut self, channel: &Arc<str>) -> u32 {
        if let Some(number) = self.channel_numbers.get(channel) {
            return *number;
        }
        let number = self.channels.len() as u32;
        self.channels.push(Arc::clone(channel));
        self.channel_numbers.insert(Arc::clone(channel), number);
        number
    }

    fn received(&mut self, sequence: u64, position: Position, header: &Header, bytes: u32) {
        let row = self.row(sequence, position, header, bytes);
        for (entry, lane) in (sequence + 1..).zip(row.lanes.iter().copied()) {
            self.enqueue(lane, Entry { entry, id: sequence, position, received_at: header.at, again: false });
        }
        for mark in header.marks() {
            self.repeats.insert(CarriedRepeat { mark, sequence, at: header.at, steady: header.steady });
        }
        self.holds_message(position, header.steady);
        self.time = Time { steady: header.steady, shown: header.at };
        self.history.received(row);
    }

    fn row(&mut self, id: u64, position: Position, header: &Header, bytes: u32) -> Row {
        let lane = |(destination, lane): &(Arc<str>, u16)| LaneId {
            channel: Arc::clone(&header.channel),
            destination: Arc::clone(destination),
            lane: *lane,
        };
        Row {
            id,
            at: header.at,
            position,
            bytes,
            channel: self.channel_number(&header.channel),
            ack: header.ack,
            control: header.control,
            patient: header.patient.as_slice().into(),
            device: header.device.as_slice().into(),
            lanes: header.routes.iter().map(|route| self.lane_number(&lane(route))).collect(),
        }
    }

    fn holds_message(&mut self, position: Position, steady: i64) {
        self.messages += 1;
        let segment = self.segments.entry(position.segment).or_default();
        segment.messages += 1;
        segment.last_steady = segment.last_steady.max(steady);
    }

    fn enqueue(&mut self, lane: u32, entry: Entry) {
        let queue = &mut self.lanes[lane as usize].queue;
        if !queue.insert(entry) {
            return;
        }
        if queue.front().is_some_and(|front| front.entry == entry.entry) {
            self.woken.push(lane);
        }
        self.dirty.lanes.insert(lane);
        let segment = self.position_of(entry.id, entry.position).segment;
        self.segments.entry(segment).or_default().live += 1;
    }

    fn dequeue(&mut self, lane: u32, entry: u64) -> Option<Entry> {
        let removed = self.lanes[lane as usize].queue.remove(entry)?;
        if !self.lanes[lane as usize].queue.is_empty() {
            self.woken.push(lane);
        }
        self.dirty.lanes.insert(lane);
        Some(removed)
    }

    fn no_longer_live(&mut self, position: Position) {
        if let Some(segment) = self.segments.get_mut(&position.segment) {
            segment.live = segment.live.saturating_sub(1);
        }
    }

    fn settled(&mut self, sequence: u64, position: Position, settled: &Settled) {
        let lane = self.lane_number(&settled.lane);
        self.remember(sequence, position, settled);
        let Some(entry) = self.dequeue(lane, settled.entry) else { return };
        let message = self.position_of(entry.id, entry.position);
        match settled.outcome {
            Outcome::Accepted { .. } => self.no_longer_live(message),
            Outcome::Dead { .. } => {
                let received_at = entry.received_at;
                let dead = Dead { id: entry.id, lane, message, received_at, at: settled.at, told: position };
                self.bury(entry.entry, dead);
            }
        }
        if settled.outcome == Outcome::damaged() {
            // What its sender sends again, having been asked to, must be stored.
            self.repeats.distrust(entry.id, sequence);
        }
        self.happened(Happened { id: entry.id, entry: entry.entry, lane, what: settled.outcome.what(), position });
    }

    /// Also where the message is not kept any more: a memory outlives it.
    fn remember(&mut self, sequence: u64, position: Position, settled: &Settled) {
        let owner = (&settled.lane.channel, &settled.lane.destination);
        for note in &settled.episodes {
            self.episodes.change(owner, sequence, position.segment, note);
        }
    }

    fn bury(&mut self, entry: u64, dead: Dead) {
        self.lanes[dead.lane as usize].dead += 1;
        self.dirty.lanes.insert(dead.lane);
        self.dirty.dead.insert(entry);
        self.dead.insert(entry, dead);
    }

    fn unbury(&mut self, entry: u64) -> Option<Dead> {
        let dead = self.dead.remove(&entry)?;
        let lane = &mut self.lanes[dead.lane as usize];
        lane.dead = lane.dead.saturating_sub(1);
        self.dirty.lanes.insert(dead.lane);
        self.dirty.dead.insert(entry);
        Some(dead)
    }

    fn happened(&mut self, happened: Happened) {
        match self.moved.get_mut(&happened.id) {
            Some(moved) => {
                moved.happened.push(happened);
                self.dirty.moved.insert(happened.id);
            }
            None => self.history.happened(happened),
        }
    }

    fn attempted(&mut self, position: Position, attempted: &Attempted) {
        let lane = self.lane_number(&attempted.lane);
        if self.lanes[lane as usize].queue.front().is_some_and(|head| head.entry == attempted.entry) {
            let Attempted { id, entry, .. } = *attempted;
            self.happened(Happened { id, entry, lane, what: What::Attempt, position });
        }
    }

    fn replayed(&mut self, sequence: u64, position: Position, replayed: &Replayed) {
        for (entry, item) in (sequence..).zip(&replayed.items) {
            let message = self.position_of(item.id, item.position);
            if message.segment < self.oldest_segment {
                continue;
            }
            let lane = self.lane_number(&item.lane);
            let received_at = item.received_at;
            self.enqueue(lane, Entry { entry, id: item.id, position: message, received_at, again: true });
            self.happened(Happened { id: item.id, entry, lane, what: What::Replayed, position });
        }
    }

    fn dead_retried(&mut self, sequence: u64, position: Position, change: &DeadChange) {
        let Some(dead) = self.unbury(change.entry) else { return };
        let entry =
            Entry { entry: sequence, id: dead.id, position: dead.message, received_at: dead.received_at, again: true };
        self.no_longer_live(dead.message);
        self.enqueue(dead.lane, entry);
        let Dead { id, lane, .. } = dead;
        self.happened(Happened { id, entry: change.entry, lane, what: What::Retried, position });
        self.happened(Happened { id, entry: sequence, lane, what: What::Replayed, position });
    }

    fn dead_discarded(&mut self, position: Position, change: &DeadChange) {
        let Some(dead) = self.unbury(change.entry) else { return };
        self.no_longer_live(dead.message);
        let Dead { id, lane, .. } = dead;
        self.happened(Happened { id, entry: change.entry, lane, what: What::Discarded, position });
    }

    fn pause(&mut self, paused: &Paused) {
        let key = (Arc::clone(&paused.channel), Arc::clone(&paused.destination));
        match paused.paused {
            true => self.paused.insert(key),
            false => self.paused.remove(&key),
        };
    }

    fn carried(&mut self, position: Position, carried: &Carried, bytes: u32) {
        let row = self.row(carried.id, position, &carried.header, bytes);
        let mut stood: BTreeMap<u64, (u32, What)> = BTreeMap::new();
        for event in &carried.events {
            stood.insert(event.entry, (self.lane_number(&event.lane), event.what));
        }
        let stood = stood.into_iter().map(|(entry, (lane, what))| (lane, entry, what)).collect();
        let (id, received_at) = (carried.id, carried.header.at);
        // Known entries move with their message; those of a message whose first record is gone are put back in their places.
        for each in &carried.waiting {
            let lane = self.lane_number(&each.lane);
            if let Some(known) = self.lanes[lane as usize].queue.remove(each.entry) {
                let then = self.position_of(id, known.position);
                self.no_longer_live(then);
            }
        }
        for each in &carried.dead {
            if let Some(known) = self.unbury(each.entry) {
                self.no_longer_live(known.message);
            }
        }
        self.dirty.moved.insert(id);
        self.moved.insert(id, Moved { row, stood, happened: Vec::new() });
        self.holds_message(position, carried.header.steady);
        for each in &carried.waiting {
            let lane = self.lane_number(&each.lane);
            self.enqueue(lane, Entry { entry: each.entry, id, position, received_at, again: each.again });
        }
        for each in &carried.dead {
            self.carried_dead(position, carried, each);
        }
    }

    fn carried_dead(&mut self, position: Position, carried: &Carried, dead: &CarriedDead) {
        let lane = self.lane_number(&dead.lane);
        let received_at = carried.header.at;
        self.bury(
            dead.entry,
            Dead { id: carried.id, lane, message: position, received_at, at: dead.at, told: position },
        );
        self.segments.entry(position.segment).or_default().live += 1;
    }

    fn carried_state(&mut self, position: Position, carried: &CarriedState) {
        self.paused = carried.paused.iter().cloned().collect();
        for repeat in &carried.repeats {
            self.repeats.insert(*repeat);
        }
        for episodes in &carried.episodes {
            self.episodes.carried(position.segment, episodes);
        }
        let sequences = || carried.repeats.iter().map(|repeat| repeat.sequence);
        if let (Some(first), Some(last)) = (sequences().min(), sequences().max()) {
            self.carried.push(CarriedRange { segment: position.segment, first, last });
        }
    }
}
