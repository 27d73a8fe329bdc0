//! When checkpoints are due, and the thread that writes them.
//!
//! One at a time, off the committer's thread. A ledger that cannot be written is left as it is: the next start goes on from
//! its last checkpoint, and nothing of the journal is given up meanwhile.

use std::{
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
};

use tracing::error;

use super::{Options, Shared, queue::Checkpointed, reserve::Reserve, spawn};
use crate::store::{
    journal::Position,
    ledger::{self, Covered, Image, Ledger},
    state::State,
};

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
            for image in images {
                reserve.see_to();
                write(&shared, &written, &image);
            }
        })?;
        let hand_over = Box::new(move |image| sender.send(image).is_ok());
        Ok(Checkpoints { writer: Some(writer), ..Checkpoints::written_by(hand_over, ledger, covered, uncovered) })
    }

    pub fn written_by(hand_over: HandOver, ledger: Arc<Ledger>, covered: Covered, uncovered: u64) -> Checkpoints {
        let (hand_over, writer) = (Some(hand_over), None);
        Checkpoints { ledger, covered, hand_over, writer, writing: false, broken: false, records: uncovered, bytes: 0 }
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
        let image = self.image(state, applied, first_sequence);
        match &self.hand_over {
            Some(hand_over) if !self.broken => self.writing = hand_over(image),
            // Nobody will write it; memory must not grow for that.
            _ => state.history.left(),
        }
    }

    /// The writer's word on the checkpoint begun last.
    pub fn ended(&mut self, word: Checkpointed, state: &mut State) {
        self.writing = false;
        self.broken |= word == Checkpointed::Failed;
        state.history.left();
    }

    /// Waits for the writer and ends it.
    pub fn settle(&mut self, shared: &Shared) {
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
        let image = self.image(state, applied, first_sequence);
        if let Err(error) = self.ledger.write(&image) {
            error!(%error, "the last checkpoint could not be written: the next start reads the journal instead");
        }
    }

    fn image(&mut self, state: &mut State, applied: Option<(Position, u64)>, first_sequence: Option<u64>) -> Image {
        (self.records, self.bytes) = (0, 0);
        Image::of(state, &mut self.covered, applied, ledger::first_page(first_sequence))
    }
}

/// Writes a checkpoint, and says in the queue what became of it.
pub(super) fn write(shared: &Shared, ledger: &Ledger, image: &Image) {
    let word = match ledger.write(image) {
        Ok(()) => Checkpointed::Safe,
        Err(error) => {
            error!(%error, "a checkpoint could not be written: no space is given back until a restart");
            Checkpointed::Failed
        }
    };
    shared.queue.checkpointed(word);
}
