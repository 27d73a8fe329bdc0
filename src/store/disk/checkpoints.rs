//! When checkpoints are due, and the thread that writes them.
//!
//! One at a time, off the committer's thread. A ledger that cannot be written is given up and made again from the journal
//! (`learn`); nothing of the journal is given up meanwhile.

use std::{
    mem,
    sync::{
        Arc, Weak,
        atomic::Ordering,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tracing::error;

use super::{Options, Shared, learn::Learner, lock, queue::Checkpointed, reserve::Reserve, spawn};
use crate::store::{
    journal::Position,
    ledger::{self, Covered, Image, Ledger},
    state::State,
};

/// How often the reserve is looked after: a disk freed for a moment is to hold it before the disk is full again.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// Has a checkpoint written elsewhere, whose word comes through the queue; false where nobody will.
type HandOver = Box<dyn Fn(Image) -> bool + Send>;

pub(super) struct Checkpoints {
    ledger: Arc<Ledger>,
    covered: Covered,
    hand_over: Option<HandOver>,
    writer: Option<JoinHandle<()>>,
    /// One is being written.
    pub writing: bool,
    pub broken: bool,
    /// How the ledger is made again; `None` where that is left to the next start.
    pub learner: Option<Learner>,
    records: u64,
    bytes: u64,
}

impl Checkpoints {
    pub fn start(
        shared: &Arc<Shared>,
        ledger: Arc<Ledger>,
        covered: Covered,
        uncovered: u64,
        reserve: Reserve,
    ) -> std::io::Result<Checkpoints> {
        let (sender, images): (Sender<Image>, _) = channel();
        let (shared, written) = (Arc::clone(shared), Arc::clone(&ledger));
        let writer = spawn("store-ledger", move || {
            loop {
                match images.recv_timeout(LOOK_AFTER) {
                    Ok(image) => {
                        reserve.see_to();
                        write(&shared, &written, &image);
                    }
                    Err(RecvTimeoutError::Timeout) => reserve.make(),
                    // The last one is written by the caller.
                    Err(RecvTimeoutError::Disconnected) => return reserve.see_to(),
                }
            }
        })?;
        let hand_over = Box::new(move |image| sender.send(image).is_ok());
        let learner = Some(Learner::of(&ledger));
        let written_by = Checkpoints::written_by(hand_over, ledger, covered, uncovered);
        Ok(Checkpoints { writer: Some(writer), learner, ..written_by })
    }

    pub fn written_by(hand_over: HandOver, ledger: Arc<Ledger>, covered: Covered, uncovered: u64) -> Checkpoints {
        let broken = ledger.is_absent();
        Checkpoints {
            ledger,
            covered,
            hand_over: Some(hand_over),
            writer: None,
            writing: false,
            broken,
            learner: None,
            records: uncovered,
            bytes: 0,
        }
    }

    /// One more record since the last checkpoint.
    pub fn count(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }

    pub fn due(&self, options: &Options) -> bool {
        !self.writing && (self.records >= options.checkpoint_records || self.bytes >= options.checkpoint_bytes)
    }

    /// Has the state as it is now written.
    pub fn begin(&mut self, state: &mut State, applied: Option<(Position, u64)>, first_sequence: Option<u64>) {
        match &self.hand_over {
            Some(hand_over) if !self.broken => {
                let image = Image::of(state, &mut self.covered, applied, ledger::first_page(first_sequence));
                self.writing = hand_over(image);
                self.broken |= !self.writing;
            }
            // Nobody will write it; memory must not grow for that.
            _ => state.keep_newest_history(),
        }
        (self.records, self.bytes) = (0, 0);
    }

    /// The writer's word on the checkpoint begun last.
    pub fn ended(&mut self, word: Checkpointed, state: &mut State) {
        self.writing = false;
        self.broken |= word == Checkpointed::Failed;
        if let Some(learner) = self.learner.as_mut().filter(|_| word == Checkpointed::Safe) {
            learner.succeeded();
        }
        state.history.left();
    }

    /// Whether the ledger is broken and not given up yet.
    pub fn is_lost(&self) -> bool {
        self.broken && self.learner.is_some() && !self.ledger.is_absent()
    }

    /// Gives the ledger up; what the journal holds after its last checkpoint is to be learned again. Answers the one that
    /// may still be open, for a search.
    pub fn give_up(&mut self, shared: &Shared) -> Weak<Ledger> {
        self.settle(shared);
        (self.broken, self.writing) = (true, false);
        let old = mem::replace(&mut self.ledger, Arc::new(Ledger::absent()));
        *lock(&shared.ledger) = Some(Arc::clone(&self.ledger));
        shared.state().forget_history();
        shared.breaks.fetch_add(1, Ordering::SeqCst);
        Arc::downgrade(&old)
    }

    /// How long until a ledger is tried to be made again.
    pub fn rests(&self) -> Duration {
        self.learner.as_ref().filter(|_| self.broken).map_or(Duration::MAX, Learner::rests)
    }

    /// What tells the ledger of this store from others'.
    pub fn store(&self) -> u64 {
        self.covered.store
    }

    /// Waits for the writer and ends it.
    pub fn settle(&mut self, shared: &Shared) {
        self.learner.iter_mut().for_each(Learner::stop);
        drop(self.hand_over.take());
        if let Some(writer) = self.writer.take() {
            self.broken |= writer.join().is_err();
        }
        if let Some(word) = shared.queue.last_word() {
            self.broken |= word == Checkpointed::Failed;
        }
    }

    /// The last one, written by the caller.
    pub fn last(&mut self, state: &mut State, applied: Option<(Position, u64)>, first_sequence: Option<u64>) {
        if self.broken {
            return;
        }
        let image = Image::of(state, &mut self.covered, applied, ledger::first_page(first_sequence));
        if let Err(error) = self.ledger.write(&image) {
            error!(%error, "the last checkpoint could not be written: the next start reads the journal instead");
        }
    }
}

/// Writes a checkpoint, and says in the queue what became of it.
pub(super) fn write(shared: &Shared, ledger: &Ledger, image: &Image) {
    let word = match ledger.write(image) {
        Ok(()) => Checkpointed::Safe,
        Err(error) => {
            error!(%error, "a checkpoint could not be written: the ledger is made again from the journal; no space is given back until then");
            Checkpointed::Failed
        }
    };
    shared.queue.checkpointed(word);
}
