//! The one thread that writes: gathers, decides, appends, syncs, folds, answers; and keeps house between batches.
//!
//! Whatever goes wrong here, a panic included, nobody is left waiting and nobody is told that something is durable that is not.
//! After a failure this thread opens the store anew and goes on.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};
use tracing::{error, info, warn};

use super::{
    Figures, Options, Shared,
    checkpoints::Checkpoints,
    lock,
    queue::{Answerer, Asked},
    reopen,
    retention::Releasing,
};
use crate::sabotage::{self, CrashPoint, Fault};
use crate::store::{
    Appended, LaneId, StoreError,
    journal::{Journal, JournalError, Left, Position, Record},
    records::Recorded,
    request::{Answer, Batch, Decided, Planned, Request},
};

/// How long it rests at most before it looks whether something can be given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// The same while it is full, so that room is found also when nobody asks.
const PATIENCE_FULL: Duration = Duration::from_secs(1);
/// How long nothing is written before the journal vouches for what was.
const IDLE: Duration = Duration::from_secs(1);
/// What the record takes that settles one delivery, or ends a dead letter: its names and the receiver's answer are short.
/// Where notes on episodes make it longer, twice what it took of late.
const SETTLED_BYTES: u64 = 256;

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) options: Options,
    pub(super) journal: Journal,
    pub(super) checkpoints: Checkpoints,
    /// The last record folded.
    pub(super) applied: Option<(Position, u64)>,
    pub(super) releasing: Releasing,
    /// Dead letters of a message in the oldest segment that cannot be read any more.
    pub(super) unreadable: Vec<u64>,
    /// When to try again what could not be copied forward.
    pub(super) again_at: Option<Instant>,
    /// There was no room for what must be copied forward, which is said once; when to look again.
    pub(super) no_room: Option<Instant>,
    forgotten_repeats: u64,
    /// What to keep free for the end of each delivery.
    settled_bytes: u64,
}

/// The committer's thread: serves until closed, and after a failure with what `reopen` makes of the files.
pub(super) fn run(mut committer: Committer) {
    loop {
        let (shared, options) = (Arc::clone(&committer.shared), committer.options.clone());
        let Some(mut left) = committer.run() else { return };
        let Some(opened) = reopen::until_open(&shared, &options, &mut left) else { return };
        committer = opened;
    }
}

/// How a turn ended.
pub(super) enum Turn {
    /// `busy`: there is more to do at once.
    Over { busy: bool },
    /// Closing was asked for, by these.
    Ending(Closers),
}

/// Who asked for the end.
type Closers = Vec<oneshot::Sender<Result<(), StoreError>>>;

/// Who is to be answered what once the batch is durable.
struct Due {
    answerer: Answerer,
    answer: Result<Answer, StoreError>,
}

impl Due {
    /// Whether its answer holds only once the batch, which begins at sequence `first`, is durable. An earlier message's
    /// repeat needs nothing more; a repeat of one in the batch stands or falls with it.
    fn needs_a_record(&self, first: u64) -> bool {
        match &self.answer {
            Ok(Answer::Appended(Appended::Repeat(known))) => known.sequence().as_u64() >= first,
            Ok(Answer::Added(added)) => *added > 0,
            Ok(_) => true,
            Err(_) => false,
        }
    }

    /// Whether it asks for deliveries, which a store without room refuses.
    fn is_new_work(&self, first: u64) -> bool {
        matches!(self.answer, Ok(Answer::Appended(_) | Answer::Added(_))) && self.needs_a_record(first)
    }
}

impl Planned {
    /// Deliveries it asks for; one that asks for none counts as one.
    fn new_work(&self) -> usize {
        match &self.recorded {
            Recorded::Received(header) => header.routes.len().max(1),
            Recorded::Replayed(replayed) => replayed.items.len(),
            _ => 0,
        }
    }
}

impl Committer {
    pub fn new(
        shared: Arc<Shared>,
        options: Options,
        journal: Journal,
        checkpoints: Checkpoints,
        applied: Option<(Position, u64)>,
    ) -> Committer {
        let committer = Committer {
            shared,
            options,
            journal,
            checkpoints,
            applied,
            releasing: Releasing::default(),
            unreadable: Vec::new(),
            again_at: None,
            no_room: None,
            forgotten_repeats: 0,
            settled_bytes: SETTLED_BYTES,
        };
        committer.measure();
        committer
    }

    /// Serves until closed, `None`, or failed.
    fn run(mut self) -> Option<Left> {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        self.end(served)
    }

    /// Tells everybody how it ended, and gives the files up; after a failure, with what opening them anew needs.
    pub(super) fn end(mut self, served: thread::Result<Result<Closers, StoreError>>) -> Option<Left> {
        let shared = Arc::clone(&self.shared);
        let fault = match served {
            Ok(Ok(close)) => {
                let closed = self.finish(!close.is_empty());
                shared.fail(StoreError::Closed);
                close.into_iter().for_each(|answerer| drop(answerer.send(closed.clone())));
                return None;
            }
            Ok(Err(fault)) => fault,
            Err(_) => StoreError::Failed("its writer panicked: report it".into()),
        };
        error!(%fault, "the store failed: nothing is acknowledged until it was examined and opened anew");
        shared.fail(fault);
        self.checkpoints.settle(&shared);
        shared.queue.forget_words();
        Some(self.journal.give_up())
    }

    fn serve(&mut self) -> Result<Closers, StoreError> {
        let mut patience = PATIENCE;
        loop {
            let (end, since) = (self.journal.end(), Instant::now());
            let rest = if self.journal.is_vouched() { patience } else { patience.min(IDLE) };
            let turn = self.turn(rest)?;
            if self.journal.end() == end && since.elapsed() >= IDLE {
                self.journal.vouch().map_err(|fault| failed(&fault))?;
            }
            match turn {
                Turn::Over { busy: true } => patience = Duration::ZERO,
                Turn::Over { busy: false } if lock(&self.shared.figures).full => patience = PATIENCE_FULL,
                Turn::Over { busy: false } => patience = PATIENCE,
                Turn::Ending(close) => return Ok(close),
            }
        }
    }

    /// Does what is asked for within `patience`, and keeps house.
    pub(super) fn turn(&mut self, patience: Duration) -> Result<Turn, StoreError> {
        let work = self.shared.queue.take(patience.min(self.checkpoints.rests()));
        if let Some(word) = work.checkpointed {
            self.checkpointed(word)?;
        }
        self.see_to_ledger(work.learned, work.doubted);
        if !work.asked.is_empty() {
            self.commit(work.asked.into())?;
        }
        match self.shared.queue.ending() {
            Some(close) => Ok(Turn::Ending(close)),
            None => Ok(Turn::Over { busy: self.keep_house()? }),
        }
    }

    /// One group commit.
    fn commit(&mut self, asked: Vec<Asked>) -> Result<(), StoreError> {
        let started = Instant::now();
        let appends = asked.iter().filter(|(request, _)| matches!(request, Request::Append(_))).count();
        let (planned, due) = self.decide(asked);
        let mut due = if sabotage::is_on(Fault::AckBeforeSync) { answered_early(due) } else { due };
        if !planned.is_empty() {
            if let Err(fault) = self.write(planned, &mut due) {
                // Known to everybody before anybody's answer is given up.
                self.shared.fail(fault.clone());
                return Err(fault);
            }
            self.shared.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
        }
        if appends > 0 {
            self.shared.metrics.store_batch_messages.observe(appends as f64);
            sabotage::crash_at(CrashPoint::AfterSyncBeforeAck);
        }
        due.into_iter().for_each(|due| due.answerer.answer(due.answer));
        Ok(())
    }

    fn decide(&mut self, asked: Vec<Asked>) -> (Vec<Planned>, Vec<Due>) {
        let mut later = Vec::new();
        let mut dues = Vec::with_capacity(asked.len());
        let state = self.shared.state();
        let mut batch = Batch::new(&state, self.journal.room_for_messages(), self.shared.payload_max);
        for (request, answerer) in asked {
            match batch.decide(&state, request) {
                Decided::Answer(answer) => dues.push(Due { answerer, answer }),
                Decided::Later(request) => later.push((request, answerer)),
            }
        }
        drop(state);
        self.shared.queue.put_back(later);
        (batch.planned, dues)
    }

    /// Makes the batch durable and folds it in. Where there is no room for new work the rest is written without it.
    fn write(&mut self, mut planned: Vec<Planned>, due: &mut [Due]) -> Result<(), StoreError> {
        let first = planned.first().map_or(0, |planned| planned.sequence);
        let added: usize = planned.iter().map(Planned::new_work).sum();
        let new_work = added > 0;
        if new_work {
            self.keep_room_to_settle(added);
        }
        let mut positions = self.append(&planned, new_work);
        if new_work && matches!(positions, Err(JournalError::Full)) {
            planned.retain(|each| each.new_work() == 0);
            due.iter_mut().filter(|due| due.is_new_work(first)).for_each(|due| due.answer = Err(StoreError::Full));
            positions = self.append(&planned, false);
        }
        let refused = match positions {
            Ok(positions) => {
                self.fold(planned, positions);
                return Ok(());
            }
            // Nothing of the batch was written.
            Err(fault @ (JournalError::Full | JournalError::TooLarge)) => failed(&fault),
            Err(fault) => return Err(failed(&fault)),
        };
        due.iter_mut().filter(|due| due.needs_a_record(first)).for_each(|due| due.answer = Err(refused.clone()));
        Ok(())
    }

    fn append(&mut self, planned: &[Planned], new_work: bool) -> Result<Vec<Position>, JournalError> {
        if planned.is_empty() {
            return Ok(Vec::new());
        }
        let record = |each: &Planned| Record {
            sequence: each.sequence,
            kind: each.recorded.kind(),
            payload: each.payload.clone(),
        };
        let records: Vec<Record> = planned.iter().map(record).collect();
        sabotage::crash_at(CrashPoint::BeforeAppend);
        let positions = match new_work {
            true => self.journal.append(&records)?,
            false => self.journal.append_essential(&records)?,
        };
        sabotage::crash_at(CrashPoint::AfterAppendBeforeSync);
        self.journal.sync()?;
        Ok(positions)
    }

    fn fold(&mut self, planned: Vec<Planned>, positions: Vec<Position>) {
        self.keep_fresh(&planned);
        let mut state = self.shared.state();
        for (planned, position) in planned.iter().zip(positions) {
            state.apply(planned.sequence, position, &planned.recorded, planned.message.len() as u32);
            self.applied = Some((position, planned.sequence));
            self.checkpoints.count(planned.payload.len());
            if let Recorded::Settled(_) = planned.recorded {
                self.settled_bytes = longer_of_late(self.settled_bytes, planned.payload.len() as u64);
            }
        }
        let woken = state.take_woken();
        let woken: Vec<LaneId> = woken.into_iter().map(|lane| state.lanes[lane as usize].id.clone()).collect();
        let forgotten = state.repeats.forgotten;
        let forgotten_episodes = state.episodes.take_forgotten();
        drop(state);
        for (channel, episodes) in forgotten_episodes {
            self.shared.metrics.limits_hit.with_label_values(&[&*channel, "episodes"]).inc_by(episodes);
        }
        if forgotten > 0 && mem::replace(&mut self.forgotten_repeats, forgotten) == 0 {
            warn!(
                limit = self.options.repeats_max,
                "more messages than repeats_max within the repeat window: older repeats are no longer told"
            );
        }
        self.shared.wake(&woken);
    }

    fn keep_fresh(&self, planned: &[Planned]) {
        let mut cache = lock(&self.shared.cache);
        for each in planned {
            match &each.recorded {
                Recorded::Received(header) => cache.put(each.sequence, &each.message, header.routes.len()),
                Recorded::Settled(settled) => {
                    cache.settled(settled.id);
                    lock(&self.shared.ahead).settled(settled.id);
                }
                _ => {}
            }
        }
    }

    /// Writes records of the store's own.
    pub(super) fn write_own(&mut self, planned: Vec<Planned>) -> Result<(), JournalError> {
        let positions = self.append(&planned, false)?;
        self.fold(planned, positions);
        Ok(())
    }

    /// Between batches; answers whether there is more to do at once.
    fn keep_house(&mut self) -> Result<bool, StoreError> {
        self.measure();
        let busy = self.release_some()?;
        if self.checkpoints.due(&self.options) {
            self.checkpoint();
        }
        Ok(busy)
    }

    pub(super) fn checkpoint(&mut self) {
        let first_sequence = self.journal.segments().first().and_then(|first| first.first_sequence);
        let mut state = self.shared.state();
        state.time = self.shared.steady.time();
        self.checkpoints.begin(&mut state, self.applied, first_sequence);
    }

    /// Keeps from messages what it takes to record the end of all that waits, and of so many more deliveries.
    fn keep_room_to_settle(&self, more: usize) {
        let state = self.shared.state();
        let unsettled = state.waiting() + state.dead.len() as u64 + more as u64;
        self.journal.set_reserve(unsettled * self.settled_bytes);
    }

    /// What it takes to record the end of all that waits.
    pub(super) fn room_to_settle(&self) -> u64 {
        self.shared.state().waiting() * self.settled_bytes
    }

    fn measure(&self) {
        self.keep_room_to_settle(0);
        let state = self.shared.state();
        let segments = self.journal.end().segment + 1 - state.oldest_segment;
        drop(state);
        let full = !self.journal.room_for_messages();
        let figures = Figures { bytes: self.journal.bytes(), segments, full };
        let before = mem::replace(&mut *lock(&self.shared.figures), figures);
        let metrics = &self.shared.metrics;
        metrics.store_bytes.set(figures.bytes.try_into().unwrap_or(i64::MAX));
        metrics.store_full.set(full.into());
        match (before.full, full) {
            (false, true) => {
                error!("the store is full: new messages are refused; free disk space or raise store.max_bytes")
            }
            (true, false) => info!("the store has room again: new messages are accepted"),
            _ => {}
        }
    }

    /// The end: a checkpoint if this is a proper close, and the files given up.
    fn finish(mut self, proper: bool) -> Result<(), StoreError> {
        let first_sequence = self.journal.segments().first().and_then(|first| first.first_sequence);
        self.checkpoints.settle(&self.shared);
        if proper {
            let mut state = self.shared.state();
            state.time = self.shared.steady.time();
            self.checkpoints.last(&mut state, self.applied, first_sequence);
        }
        lock(&self.shared.ledger).take();
        if proper { self.journal.close().map_err(|fault| failed(&fault)) } else { Ok(()) }
    }
}

/// Twice the mean of the last records, about, and never less than what one without notes takes.
fn longer_of_late(before: u64, bytes: u64) -> u64 {
    const LAST: u64 = 64;
    ((before * (LAST - 1) + 2 * bytes).div_ceil(LAST)).max(SETTLED_BYTES)
}

/// Senders are answered before their messages are written, which is done a little later: the fault itself.
fn answered_early(due: Vec<Due>) -> Vec<Due> {
    let (early, due): (Vec<Due>, Vec<Due>) =
        due.into_iter().partition(|due| matches!(due.answer, Ok(Answer::Appended(_))));
    if !early.is_empty() {
        early.into_iter().for_each(|due| due.answerer.answer(due.answer));
        std::thread::sleep(Duration::from_millis(200));
    }
    due
}

pub(super) fn failed(fault: &JournalError) -> StoreError {
    match fault {
        JournalError::Full => StoreError::Full,
        JournalError::TooLarge => StoreError::TooLarge,
        fault => StoreError::Failed(fault.to_string()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::store::{Sequence, Stored};

    #[test]
    fn a_repeat_of_what_is_durable_needs_no_room_and_one_of_its_own_batch_does() {
        let stored = |sequence| Stored {
            sequence: Sequence(sequence),
            at: jiff::Timestamp::UNIX_EPOCH,
            reused: false,
            resends: None,
        };
        let due = |answer| Due { answerer: Answerer::Nobody, answer };
        let appended = |appended| due(Ok(Answer::Appended(appended)));
        let first = 10;
        assert!(!appended(Appended::Repeat(stored(9))).needs_a_record(first));
        assert!(appended(Appended::Repeat(stored(10))).is_new_work(first));
        assert!(appended(Appended::New(stored(12))).is_new_work(first));
        assert!(due(Ok(Answer::Done)).needs_a_record(first) && !due(Ok(Answer::Done)).is_new_work(first));
        assert!(!due(Ok(Answer::Added(0))).needs_a_record(first));
        assert!(!due(Err(StoreError::NotFound)).needs_a_record(first));
    }
}
