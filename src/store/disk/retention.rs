//! Giving space back, a whole segment at a time, from the oldest on.
//!
//! A segment goes when its messages are older than `retain` (or sooner, if there is little room left) and little in it is still
//! wanted. What is wanted is copied forward first; then a checkpoint that covers the copies is made safe; only then is it
//! released. So a rebuild from what is left of the journal knows all that still holds, and one dead letter pins nothing.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::{debug, error, warn};

use super::{
    committer::{Committer, PATIENCE, failed},
    lock,
    queue::Checkpointed,
};
use crate::sabotage::{self, CrashPoint};
use crate::store::{
    LaneId, StoreError,
    journal::{JournalError, Position},
    records::{
        Carried, CarriedDead, CarriedEntry, CarriedEvent, CarriedState, Header, Outcome, Recorded, Settled, What, nanos,
    },
    request::{Batch, Planned},
    state::{Dead, SegmentUse, State},
    view::{self, Told},
};

/// Messages copied forward between two batches.
const CARRY_MESSAGES: usize = 64;
/// How long what found no room rests: looking for what must be copied takes time that settlements need.
const ROOM_AGAIN: Duration = Duration::from_secs(1);
/// What a record takes beside its payload.
const BESIDE: usize = 32;
/// Attempts kept in a carried message's history.
const CARRY_ATTEMPTS: usize = 16;
/// A segment is copied from when at most one in so many of its messages is still wanted.
const WANTED_MAX: u64 = 4;
/// The same in a full store, whose last reserve the copies would use up: deliveries in order empty it more cheaply.
const WANTED_MAX_FULL: u64 = 8;
/// The same where no lane stands at a message in it: no delivery will empty it, and a full store would stay so for a few
/// dead letters.
const WANTED_MAX_STUCK: u64 = 2;

/// How far the release of the oldest segments has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Releasing {
    #[default]
    Nothing,
    /// Everything before this segment, once the checkpoint being written is safe.
    Before(u64),
}

impl Committer {
    /// One step of giving space back; answers whether the next can follow at once.
    pub(super) fn release_some(&mut self) -> Result<bool, StoreError> {
        if *lock(&self.shared.pinned) || self.checkpoints.writing || self.checkpoints.broken || self.hindered() {
            return Ok(false);
        }
        let Some(segments) = self.releasable() else { return Ok(false) };
        let wanted = wanted(&self.shared.state(), segments.clone(), CARRY_MESSAGES);
        let step = match wanted.is_empty() {
            false => self.carry(&wanted),
            true => match self.release(segments.end) {
                // One is told in less than it gives back.
                Err(JournalError::Full) => self.release(segments.start + 1),
                step => step,
            },
        };
        match step {
            Err(fault @ (JournalError::Full | JournalError::TooLarge)) => {
                if self.no_room.replace(Instant::now() + ROOM_AGAIN).is_none() {
                    warn!(%fault, "no room to copy forward what the oldest segment still holds: free disk space");
                }
                Ok(false)
            }
            step => {
                let busy = step.map_err(|fault| failed(&fault))?;
                self.no_room = None;
                Ok(busy)
            }
        }
    }

    /// Whether what stopped the last step still stands. A dead letter whose message cannot be read any more holds its
    /// segment, and with it all after it, until a person gives it up.
    fn hindered(&mut self) -> bool {
        let state = self.shared.state();
        self.unreadable.retain(|entry| state.dead.contains_key(entry));
        let waits = |at: Option<Instant>| at.is_some_and(|at| Instant::now() < at);
        !self.unreadable.is_empty() || waits(self.again_at) || waits(self.no_room)
    }

    /// The writer's word; what waited for it is released.
    pub(super) fn checkpointed(&mut self, word: Checkpointed) -> Result<(), StoreError> {
        self.checkpoints.ended(word, &mut self.shared.state());
        let Releasing::Before(before) = std::mem::take(&mut self.releasing) else { return Ok(()) };
        // A replay may have asked for something in it meanwhile: then it is copied forward and tried again.
        let live = self.shared.state().segments.range(..before).any(|(_, segment)| segment.live > 0);
        // Held until it is done: a backup begins before it or after.
        let shared = Arc::clone(&self.shared);
        let pinned = lock(&shared.pinned);
        if *pinned {
            return Ok(());
        }
        if word == Checkpointed::Failed || live {
            return Ok(());
        }
        sabotage::crash_at(CrashPoint::BeforeRelease);
        self.journal.release_before(before).map_err(|fault| failed(&fault))?;
        let first = self.journal.segments().into_iter().next();
        if let Some(first) = first {
            self.shared.state().release_before(first.segment, first.first_sequence.unwrap_or(0));
            debug!(before = first.segment, "segments given back");
        }
        Ok(())
    }

    /// The oldest segments that may go: all that nothing is wanted of, or, where the oldest still has something, that one.
    fn releasable(&self) -> Option<Range<u64>> {
        let last = self.applied?.0.segment.min(self.journal.end().segment);
        let state = self.shared.state();
        let pressed = self.journal.is_tight();
        let now = self.shared.steady.now();
        let retain = i64::try_from(self.options.retain.as_nanos()).unwrap_or(i64::MAX);
        let mut end = state.oldest_segment;
        while end < last {
            let segment = state.segments.get(&end).copied().unwrap_or_default();
            let old = received_at(&state, end, now).saturating_add(retain) <= now;
            let share = match pressed {
                false => WANTED_MAX,
                true if is_being_emptied(&state, end) => WANTED_MAX_FULL,
                true => WANTED_MAX_STUCK,
            };
            let may_go = old || pressed && !self.options.retain_when_full;
            if !may_go || segment.live * share > segment.messages && !worth_it(&state, last, share) {
                break;
            }
            // What can go as it is goes first; else copies would be copied again before anything is released.
            if segment.live > 0 && end > state.oldest_segment {
                break;
            }
            end += 1;
            if segment.live > 0 {
                break;
            }
        }
        (end > state.oldest_segment).then_some(state.oldest_segment..end)
    }

    /// Copies messages forward with all that is true of them; answers whether the next step can follow at once.
    fn carry(&mut self, ids: &[u64]) -> Result<bool, JournalError> {
        // The last one wanted frees a segment at once, and what is kept for settlements is twice what they take.
        let kept = self.room_to_settle() / if ids.len() == 1 { 2 } else { 1 };
        let room = self.journal.left().saturating_sub(kept);
        let mut batch = Batch::new(&self.shared.state(), true, self.shared.payload_max);
        for id in ids {
            let planned = self.carried(*id).and_then(|(mut carried, message)| {
                // Its attempts give way where they alone would keep it where it is.
                if (carried.encoded_bytes(&message) + BESIDE) as u64 > room.min(self.shared.payload_max as u64) {
                    carried.events.clear();
                }
                batch.plan_message(Recorded::CarriedMessage(carried), message)
            });
            if let Err(fault) = planned {
                return self.cannot_carry(*id, &fault);
            }
            if bytes(&batch.planned) > room {
                batch.planned.pop();
                break;
            }
        }
        if batch.planned.is_empty() {
            return Err(JournalError::Full);
        }
        self.write_own(batch.planned)?;
        self.again_at = None;
        Ok(true)
    }

    /// A damaged message is a dead letter wherever it waits, and a person must give it up; any other fault may pass.
    fn cannot_carry(&mut self, id: u64, fault: &StoreError) -> Result<bool, JournalError> {
        let (waiting, dead, position) = places(&self.shared.state(), id);
        // This thread alone releases: what is not found now is lost.
        let Some(_) = position.filter(|position| self.shared.is_damaged(*position) || self.shared.is_gone(*position))
        else {
            if self.again_at.replace(Instant::now() + PATIENCE).is_none() {
                error!(id, %fault, "a message cannot be copied forward now: no space is given back until it can");
            }
            return Ok(false);
        };
        let entries = waiting.iter().map(|each| each.entry).chain(dead).collect();
        let mut batch = Batch::new(&self.shared.state(), true, self.shared.payload_max);
        let at = nanos(self.shared.clock.now());
        for CarriedEntry { lane, entry, .. } in waiting {
            let settled = Settled { lane, entry, id, at, outcome: Outcome::damaged(), episodes: Vec::new() };
            batch.plan(Recorded::Settled(settled)).map_err(|_| JournalError::TooLarge)?;
        }
        self.write_own(batch.planned)?;
        error!(id, entries = ?entries, %fault, "a stored message is damaged and holds all space behind it: ask its sender for it, \
            then discard these dead letters");
        self.unreadable = entries;
        Ok(false)
    }

    /// Notes what else the segments said, and has a checkpoint made after which they can go.
    fn release(&mut self, before: u64) -> Result<bool, JournalError> {
        let first = self.journal.segments().into_iter().find(|segment| segment.segment >= before);
        let first_sequence = first.and_then(|first| first.first_sequence).unwrap_or(u64::MAX);
        let payload_max = self.shared.payload_max;
        let state = self.shared.state();
        let paused: Vec<_> = state.paused.iter().cloned().collect();
        let most = CarriedState::repeats_max(&paused, payload_max).saturating_sub(1).max(1);
        let runs = state.only_said_before(before, first_sequence, most);
        let remembered = state.episodes.only_told_before(before, payload_max / 2);
        let mut batch = Batch::new(&state, true, payload_max);
        drop(state);
        for repeats in runs {
            let carried = CarriedState { paused: paused.clone(), repeats, episodes: Vec::new() };
            batch.plan(Recorded::CarriedState(carried)).map_err(|_| JournalError::TooLarge)?;
        }
        for episodes in remembered {
            let (paused, repeats) = (paused.clone(), Vec::new());
            let carried = CarriedState { paused, repeats, episodes: vec![episodes] };
            batch.plan(Recorded::CarriedState(carried)).map_err(|_| JournalError::TooLarge)?;
        }
        self.write_own(batch.planned)?;
        self.checkpoint();
        debug!(before, "segments are given back once a checkpoint covers what was copied");
        self.releasing = Releasing::Before(before);
        Ok(false)
    }

    fn carried(&self, id: u64) -> Result<(Carried, bytes::Bytes), StoreError> {
        let told = self.shared.told(id)?;
        let (recorded, message) = self.shared.recorded(told.row.position)?;
        let (header, mut events): (Header, Vec<CarriedEvent>) = match recorded {
            Recorded::Received(header) => (header, Vec::new()),
            Recorded::CarriedMessage(carried) => (carried.header, carried.events),
            _ => return Err(StoreError::NotFound),
        };
        // History that cannot be read any more must not hold the message back.
        events.extend(told.happened.iter().filter_map(|each| self.shared.line(each).ok()).flatten());
        let (waiting, dead) = standing(&self.shared.state(), &told);
        let mut carried = Carried { id, header, waiting, dead: Vec::new(), events };
        thin_out(&mut carried.events);
        for (lane, entry, dead) in dead {
            let told = self.shared.recorded(dead.told).ok().and_then(|(told, _)| view::reason(entry, &told));
            let (reason, attempts) = told.unwrap_or_else(|| (view::UNREADABLE.to_owned(), 0));
            carried.dead.push(CarriedDead { lane, entry, at: dead.at, reason, attempts });
        }
        Ok((carried, message))
    }
}

/// Entries of a message that wait, and that are dead.
fn standing(state: &State, told: &Told) -> (Vec<CarriedEntry>, Vec<(LaneId, u64, Dead)>) {
    let first = (told.row.id + 1..).zip(told.row.lanes.iter().copied());
    let carried = told.stood.iter().map(|(lane, entry, _)| (*entry, *lane));
    let later = told.happened.iter().map(|each| (each.entry, each.lane));
    let entries: BTreeMap<u64, u32> = first.chain(carried).chain(later).collect();
    let (mut waiting, mut dead) = (Vec::new(), Vec::new());
    for (entry, number) in entries {
        let lane = &state.lanes[number as usize];
        if let Some(found) = lane.queue.find(entry) {
            waiting.push(CarriedEntry { lane: lane.id.clone(), entry, again: found.again });
        }
        dead.extend(state.dead.get(&entry).map(|found| (lane.id.clone(), entry, *found)));
    }
    (waiting, dead)
}

/// Every place a message has, looked for in all lanes: entries that wait, entries that are dead, where the message is.
fn places(state: &State, id: u64) -> (Vec<CarriedEntry>, Vec<u64>, Option<Position>) {
    let (mut waiting, mut dead, mut position) = (Vec::new(), Vec::new(), None);
    for lane in &state.lanes {
        for each in lane.queue.iter().filter(|each| each.id == id) {
            waiting.push(CarriedEntry { lane: lane.id.clone(), entry: each.entry, again: each.again });
            position = Some(state.position_of(id, each.position));
        }
    }
    for (entry, each) in state.dead.iter().filter(|(_, each)| each.id == id) {
        dead.push(*entry);
        position = Some(state.position_of(id, each.message));
    }
    (waiting, dead, position)
}

/// When the last of a segment's messages was received. Times ahead of the clock are of a clock that was wrong then: the
/// messages are as old as those received after them.
fn received_at(state: &State, segment: u64, now: i64) -> i64 {
    let believed =
        |(_, each): (&u64, &SegmentUse)| (each.messages > 0 && each.last_steady <= now).then_some(each.last_steady);
    match state.segments.get(&segment) {
        Some(each) if each.last_steady > now => state.segments.range(segment + 1..).find_map(believed).unwrap_or(now),
        each => each.map_or(0, |each| each.last_steady),
    }
}

/// What these records take, about.
fn bytes(planned: &[Planned]) -> u64 {
    planned.iter().map(|each| (each.payload.len() + BESIDE) as u64).sum()
}

/// Whether a lane stands at a message in this segment: its deliveries will free it.
fn is_being_emptied(state: &State, segment: u64) -> bool {
    let heads = state.lanes.iter().filter_map(|lane| lane.queue.front());
    heads.into_iter().any(|head| state.position_of(head.id, head.position).segment == segment)
}

/// Whether copying a segment that is mostly wanted pays, since little is wanted in those behind it, which it pins.
fn worth_it(state: &State, last: u64, share: u64) -> bool {
    const WHOLE: u64 = 1024;
    let segments = state.segments.range(..last).map(|(_, segment)| *segment);
    let wanted: u64 = segments.map(|segment| WHOLE * segment.live / segment.messages.max(1)).sum();
    wanted * share <= WHOLE * (last - state.oldest_segment)
}

/// Ids of messages in these segments that still wait or are dead, oldest first, up to `limit`.
fn wanted(state: &State, segments: Range<u64>, limit: usize) -> Vec<u64> {
    let live: u64 = state.segments.range(segments.clone()).map(|(_, segment)| segment.live).sum();
    let mut ids = Vec::new();
    if live == 0 {
        return ids;
    }
    let inside = |id, position| segments.contains(&state.position_of(id, position).segment);
    let dead = state.dead.values().filter(|dead| inside(dead.id, dead.message)).map(|dead| dead.id);
    ids.extend(dead.take(limit));
    for lane in &state.lanes {
        let waiting = lane.queue.iter().filter(|entry| inside(entry.id, entry.position)).map(|entry| entry.id);
        ids.extend(waiting.take(limit));
    }
    ids.sort_unstable();
    ids.dedup();
    ids.truncate(limit);
    ids
}

/// Keeps all that decided something and the last attempts.
fn thin_out(events: &mut Vec<CarriedEvent>) {
    let attempts = events.iter().filter(|event| event.what == What::Attempt).count();
    let mut surplus = attempts.saturating_sub(CARRY_ATTEMPTS);
    events.retain(|event| {
        let drop = event.what == What::Attempt && surplus > 0;
        surplus -= usize::from(drop);
        !drop
    });
}
