//! The ledger made again while the store is open: what cannot be written or read any more, or found no room at the start.
//!
//! A thread learns from the journal what the ledger should hold; the committer goes on meanwhile, then folds in what it
//! wrote since and takes over. Nothing is acknowledged on the ledger's word, so nothing waits for this but searches and the
//! giving back of space. Tried again with growing pauses until it is done.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    OpenError, Options,
    checkpoints::Checkpoints,
    committer::Committer,
    lock,
    recovery::{self, Learned, Opened},
    reserve::Reserve,
    retention::Releasing,
    spawn,
};
use crate::store::{
    journal::{Position, Reader, SegmentInfo},
    ledger::{Ledger, LedgerError},
    state::State,
};

/// Pauses between tries; tests are not to wait for them.
const FIRST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });
const LONGEST: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 30_000 });
/// How long searches that still hold the old ledger are waited for.
const SEARCHES: Duration = Duration::from_secs(5);

/// A ledger with the state it belongs to, or why it could not be made.
pub(super) type Learning = Result<Box<Learned>, String>;

/// When the ledger is to be made again, and the thread that does.
#[derive(Default)]
pub(super) struct Learner {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    again: Option<Instant>,
    pause: Duration,
    /// What searches may still hold of the old one.
    held: Weak<Ledger>,
    /// The old one did not read: it is not opened again.
    doubted: bool,
    /// The newest history was learned without a ledger.
    in_memory: bool,
    told: Option<String>,
}

impl Learner {
    /// One for a store that opened with this ledger: where it is absent, the journal was read for its history.
    pub fn of(ledger: &Ledger) -> Learner {
        Learner { in_memory: ledger.is_absent(), ..Learner::default() }
    }

    /// The checkpoints are safe again.
    pub fn succeeded(&mut self) {
        (self.pause, self.told, self.doubted) = (Duration::ZERO, None, false);
    }

    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic in it was its answer.
        self.thread.take().map(JoinHandle::join).into_iter().for_each(drop);
    }

    /// How long until the next try, if one is due at all.
    pub fn rests(&self) -> Duration {
        match self.thread {
            Some(_) => Duration::MAX,
            None => self.again.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())),
        }
    }

    /// What was learned is taken over; where no ledger came with it, one is tried for later.
    fn taken(mut self, in_memory: bool) -> Learner {
        self.in_memory = in_memory;
        if in_memory {
            self.put_off();
        }
        self
    }

    fn put_off(&mut self) {
        self.pause = (self.pause * 2).clamp(FIRST, LONGEST);
        self.again = Some(Instant::now() + self.pause);
    }

    fn failed(&mut self, reason: String) {
        if self.told.as_ref() != Some(&reason) {
            error!(reason, "the ledger cannot be made again yet; it is tried again");
            self.told = Some(reason);
        }
        self.put_off();
    }
}

impl Committer {
    /// Gives up a ledger that failed, has it made again when that is due, takes it over when it is made.
    pub(super) fn see_to_ledger(&mut self, learned: Option<Learning>, doubted: bool) {
        let doubted = doubted && !self.checkpoints.broken;
        let lost = self.checkpoints.is_lost() || doubted && self.checkpoints.learner.is_some();
        if lost {
            self.releasing = Releasing::Nothing;
            let held = self.checkpoints.give_up(&self.shared);
            if let Some(learner) = &mut self.checkpoints.learner {
                (learner.held, learner.doubted, learner.in_memory) = (held, learner.doubted | doubted, false);
                learner.put_off();
            }
        }
        if let Some(learned) = learned {
            let learner = self.checkpoints.learner.as_mut();
            learner.into_iter().for_each(Learner::stop);
            let taken = learned.and_then(|learned| self.take_over(*learned));
            if let (Err(reason), Some(learner)) = (taken, &mut self.checkpoints.learner) {
                learner.failed(reason);
            }
        }
        self.learn_again();
    }

    fn learn_again(&mut self) {
        let store = self.checkpoints.store();
        let Some(learner) = self.checkpoints.learner.as_mut().filter(|_| self.checkpoints.broken) else { return };
        if learner.rests() > Duration::ZERO {
            return;
        }
        learner.stop = Arc::default();
        let lesson = Lesson {
            store_path: self.shared.path.clone(),
            store,
            options: self.options.clone(),
            reader: self.journal.reader(),
            oldest: self.journal.segments().into_iter().next(),
            end: self.journal.end(),
            last: self.applied.map(|(position, _)| position),
            held: learner.held.clone(),
            doubted: learner.doubted,
            in_memory: learner.in_memory,
            stop: Arc::clone(&learner.stop),
        };
        let shared = Arc::clone(&self.shared);
        let thread = spawn("store-ledger-new", move || {
            let learned = catch_unwind(AssertUnwindSafe(|| lesson.learn()));
            let learned = learned.map(|learned| learned.map(Box::new).map_err(|fault| fault.to_string()));
            shared.queue.learned(learned.unwrap_or_else(|_| Err("making it panicked: report it".to_owned())));
        });
        match thread {
            Ok(thread) => learner.thread = Some(thread),
            Err(fault) => learner.failed(fault.to_string()),
        }
    }

    /// Puts the ledger made again, and the state it belongs to, in the place of what is there.
    fn take_over(&mut self, learned: Learned) -> Result<(), String> {
        let Learned { ledger, state, covered, uncovered, .. } =
            self.learn_the_rest(learned).map_err(|fault| fault.to_string())?;
        let (ledger, reserve) = (Arc::new(ledger), Reserve::new(&self.shared.path, self.options.bytes_max));
        let checkpoints = Checkpoints::start(&self.shared, Arc::clone(&ledger), covered, uncovered, reserve);
        let mut checkpoints = checkpoints.map_err(|fault| fault.to_string())?;
        checkpoints.learner = self.checkpoints.learner.take().map(|learner| learner.taken(ledger.is_absent()));
        self.go_on_with(state, ledger, checkpoints);
        Ok(())
    }

    /// What the journal has beyond what was learned of it.
    pub(super) fn learn_the_rest(&self, learned: Learned) -> Result<Learned, OpenError> {
        let (uncovered, oldest) = (learned.uncovered, self.journal.segments().into_iter().next());
        let mut rest = recovery::fold_in(learned.opened(), &self.journal.reader(), oldest, &self.options, |_| true)?;
        rest.uncovered += uncovered;
        Ok(rest)
    }

    pub(super) fn go_on_with(&mut self, mut learned: State, ledger: Arc<Ledger>, checkpoints: Checkpoints) {
        self.checkpoints = checkpoints;
        let mut state = self.shared.state();
        if (state.waiting(), state.digest(), state.dead.len())
            != (learned.waiting(), learned.digest(), learned.dead.len())
        {
            error!("the journal tells of other deliveries than memory did; it is believed: report it");
        }
        for lane in &state.lanes {
            lane.suspect.into_iter().for_each(|entry| learned.suspect(&lane.id, entry));
        }
        learned.next = learned.next.max(state.next);
        *state = learned;
        drop(state);
        if !ledger.is_absent() {
            info!("the ledger is made again: searches and histories are available");
        }
        *lock(&self.shared.ledger) = Some(ledger);
        self.shared.breaks.fetch_add(1, Ordering::SeqCst);
    }
}

/// All the thread needs to know.
struct Lesson {
    store_path: PathBuf,
    store: u64,
    options: Options,
    reader: Arc<Reader>,
    oldest: Option<SegmentInfo>,
    end: Position,
    /// The last record to be folded in: what follows may not be durable yet.
    last: Option<Position>,
    held: Weak<Ledger>,
    doubted: bool,
    in_memory: bool,
    stop: Arc<AtomicBool>,
}

impl Lesson {
    /// Where no ledger can be made, the newest history without one, once.
    fn learn(&self) -> Result<Learned, OpenError> {
        match self.with_ledger() {
            Err(fault) if !self.in_memory => self.fold_into(recovery::without(&fault, self.store, &self.options)),
            learned => learned,
        }
    }

    fn with_ledger(&self) -> Result<Learned, OpenError> {
        let path = self.store_path.join("ledger");
        let deadline = Instant::now() + SEARCHES;
        while self.held.strong_count() > 0 {
            if Instant::now() > deadline || self.stop.load(Ordering::Relaxed) {
                let error = std::io::Error::other("a search still holds it");
                return Err(OpenError::Io { action: "close", path, error });
            }
            thread::sleep(Duration::from_millis(10));
        }
        Reserve::new(&self.store_path, self.options.bytes_max).see_to();
        let bounds = self.options.bounds();
        let image = match self.doubted {
            true => Err(LedgerError::Unproved("a search could not read it")),
            false => Ledger::open(&path)
                .and_then(|ledger| recovery::read_image(ledger, &self.reader, self.end, self.store, bounds)),
        };
        let opened = match image {
            Ok(opened) => opened,
            Err(reason) => recovery::rebuild(&path, self.store, &self.options, &reason)?,
        };
        self.fold_into(opened.strict())
    }

    fn fold_into(&self, opened: Opened) -> Result<Learned, OpenError> {
        let wanted = |position| Some(position) <= self.last && !self.stop.load(Ordering::Relaxed);
        recovery::fold_in(opened, &self.reader, self.oldest.clone(), &self.options, wanted)
    }
}
