//! The engine's store on a disk in memory, driven turn by turn by one caller: no thread, no file, no clock of its own.
//!
//! What runs is the product's own: journal, committer, recovery, fold, retention, ledger images. Only what carries them is
//! another: the disk, the tree the ledger's keys are in, and who says whose turn it is.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Checkpoints, Committer, DiskStore, OpenError, Options, Recovered, Shared, checkpoints, committer::Turn, lock,
    recovery, reopen, retention::Releasing,
};
use crate::{
    clock::Clock,
    metrics::Metrics,
    store::{
        LaneId,
        journal::{Journal, Left, memory_disk::MemoryDisk},
        keyed::{Keyed, Kind},
        ledger::{Covered, Image, Ledger, LedgerError, memory::MemoryTree},
        request::Request,
    },
};

const DIRECTORY: &str = "/store/journal";
const KEY: [u8; 32] = [7; 32];

/// What outlives a store that stops: its disk, and how it is to be opened.
pub(crate) struct Machine {
    pub disk: MemoryDisk,
    pub ledger: MemoryTree,
    pub options: Options,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

/// An open store that does nothing but what it is told to do next.
pub(crate) struct SteppedStore {
    pub store: Arc<DiskStore>,
    committer: Option<Committer>,
    images: Images,
    ledger: Arc<Ledger>,
    /// Of a journal that failed.
    left: Option<Left>,
}

/// An entry that waits: its id in the lane, its message's.
pub(crate) type Place = (u64, u64);

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// By lane, in order.
    pub waiting: BTreeMap<LaneId, Vec<Place>>,
    /// By entry: lane and message.
    pub dead: BTreeMap<u64, (LaneId, u64)>,
    /// Messages of both that were asked for, as read from the journal.
    pub messages: BTreeMap<u64, Bytes>,
}

impl Machine {
    /// Opens the store as the engine does, but for the threads and the key.
    pub fn open(&self) -> Result<SteppedStore, OpenError> {
        let (path, sizes) = (Path::new(DIRECTORY), recovery::sizes(&self.options));
        let (journal, _) = Journal::open_with(path, sizes, Arc::new(self.disk.clone()), false)?;
        Ok(self.start(self.recover(journal)?))
    }

    /// The store around a journal that is open.
    fn recover(&self, journal: Journal) -> Result<Recovered, OpenError> {
        let keyed = Keyed::new(&KEY);
        let opened = self.read_ledger(&journal, keyed.hash(Kind::Store, &[]))?;
        recovery::recover(journal, opened, keyed, &self.options)
    }

    /// What the ledger holds; an empty one where it is not used.
    fn read_ledger(&self, journal: &Journal, store: u64) -> Result<recovery::Opened, OpenError> {
        Ok(match recovery::read_ledger(self.ledger.open(), journal, store, self.options.bounds()) {
            Ok(opened) => opened,
            Err(LedgerError::BeyondJournal) => return Err(OpenError::JournalShort { path: DIRECTORY.into() }),
            Err(_) => {
                self.ledger.lose();
                recovery::Opened::empty(self.ledger.open(), store, self.options.bounds())
            }
        })
    }

    /// The same of what a failed journal left.
    fn recover_anew(&self, left: &mut Left) -> Result<Recovered, OpenError> {
        self.recover(Journal::reopen(Path::new(DIRECTORY), recovery::sizes(&self.options), left)?)
    }

    fn start(&self, recovered: Recovered) -> SteppedStore {
        let Recovered { journal, ledger, state, applied, covered, keyed, uncovered, .. } = recovered;
        let (metrics, clock) = (Arc::clone(&self.metrics), self.clock.clone());
        let mut shared = Shared::new(state, &journal, &ledger, keyed, &self.options, metrics, clock);
        shared.reads_in_place = true;
        let shared = Arc::new(shared);
        let images = Arc::default();
        let checkpoints = checkpoints_into(&images, Arc::clone(&ledger), covered, uncovered);
        let committer = Committer::new(Arc::clone(&shared), self.options.clone(), journal, checkpoints, applied);
        let store = Arc::new(DiskStore { shared, committer: Mutex::default() });
        SteppedStore { store, committer: Some(committer), images, ledger, left: None }
    }
}

/// Whether a store that did not open may do so later by itself.
pub(crate) fn may_pass(fault: &OpenError) -> bool {
    reopen::may_pass(fault)
}

/// Checkpoints that wait to be written.
type Images = Arc<Mutex<VecDeque<Image>>>;

fn checkpoints_into(images: &Images, ledger: Arc<Ledger>, covered: Covered, uncovered: u64) -> Checkpoints {
    let asked = Arc::clone(images);
    let hand_over = Box::new(move |image| {
        lock(&asked).push_back(image);
        true
    });
    Checkpoints::written_by(hand_over, ledger, covered, uncovered)
}

impl SteppedStore {
    /// One turn of the committer; false once it has ended.
    pub fn turn(&mut self) -> bool {
        let Some(mut committer) = self.committer.take() else { return false };
        match catch_unwind(AssertUnwindSafe(|| committer.turn(Duration::ZERO))) {
            Ok(Ok(Turn::Over { .. })) => self.committer = Some(committer),
            Ok(Ok(Turn::Ending(close))) => self.left = committer.end(Ok(Ok(close))),
            Ok(Err(fault)) => self.left = committer.end(Ok(Err(fault))),
            Err(panic) => self.left = committer.end(Err(panic)),
        }
        self.committer.is_some()
    }

    /// Opens the store anew after a failure, as the committer's thread does by itself.
    pub fn reopen(&mut self, machine: &Machine) -> Result<(), OpenError> {
        let Some(left) = &mut self.left else { return Ok(()) };
        lock(&self.images).clear();
        let recovered = machine.recover_anew(left)?;
        let Recovered { journal, ledger, state, applied, covered, uncovered, .. } = recovered;
        let shared = Arc::clone(&self.store.shared);
        let checkpoints = checkpoints_into(&self.images, Arc::clone(&ledger), covered, uncovered);
        shared.heal(state, journal.reader(), Arc::clone(&ledger));
        self.ledger = ledger;
        self.committer = Some(Committer::new(shared, machine.options.clone(), journal, checkpoints, applied));
        self.left = None;
        Ok(())
    }

    /// Writes the checkpoint that was asked for; false where none was.
    pub fn write_checkpoint(&mut self) -> bool {
        let Some(image) = lock(&self.images).pop_front() else { return false };
        checkpoints::write(&self.store.shared, &self.ledger, &image);
        true
    }

    /// Makes a ledger that could not be written again, as the engine does by itself; `Ok(false)` where none is to be made.
    pub fn learn(&mut self, machine: &Machine) -> Result<bool, OpenError> {
        let Some(committer) = self.committer.as_mut().filter(|committer| committer.checkpoints.broken) else {
            return Ok(false);
        };
        lock(&self.images).clear();
        committer.releasing = Releasing::Nothing;
        drop(committer.checkpoints.give_up(&self.store.shared));
        let opened = machine.read_ledger(&committer.journal, committer.checkpoints.store())?;
        let (reader, oldest) = (committer.journal.reader(), committer.journal.segments().into_iter().next());
        let last = committer.applied.map(|(position, _)| position);
        let wanted = |position| Some(position) <= last;
        let learned = recovery::fold_in(opened.strict(), &reader, oldest, &machine.options, wanted)?;
        let recovery::Learned { ledger, state, covered, uncovered, .. } = committer.learn_the_rest(learned)?;
        self.ledger = Arc::new(ledger);
        let checkpoints = checkpoints_into(&self.images, Arc::clone(&self.ledger), covered, uncovered);
        committer.go_on_with(state, Arc::clone(&self.ledger), checkpoints);
        Ok(true)
    }

    /// Has a spare segment ready, as far as one is wanted.
    pub fn prepare_spare(&self) {
        if let Some(committer) = &self.committer {
            committer.journal.prepare_spare();
        }
    }

    /// Segments before this one were given back.
    pub fn oldest_segment(&self) -> u64 {
        self.store.shared.state().oldest_segment
    }

    /// A fault on purpose: the last two messages that wait to be stored change places.
    pub fn swap_two(&self) -> bool {
        self.store.shared.queue.swap_last(|(request, _)| matches!(request, Request::Append(_)))
    }

    /// Everything it holds that is still wanted, with the messages whose ids `unknown` answers for.
    pub fn standing(&self, unknown: impl Fn(u64) -> bool) -> Standing {
        let mut standing = Standing::default();
        let mut positions = BTreeMap::new();
        {
            let state = self.store.shared.state();
            for lane in state.lanes.iter().filter(|lane| !lane.queue.is_empty()) {
                let places = lane.queue.iter().map(|entry| (entry.entry, entry.id)).collect();
                standing.waiting.insert(lane.id.clone(), places);
                positions.extend(lane.queue.iter().map(|each| (each.id, state.position_of(each.id, each.position))));
            }
            for (entry, dead) in &state.dead {
                standing.dead.insert(*entry, (state.lanes[dead.lane as usize].id.clone(), dead.id));
                positions.insert(dead.id, state.position_of(dead.id, dead.message));
            }
        }
        for (id, position) in positions.into_iter().filter(|(id, _)| unknown(*id)) {
            // Without its message where it cannot be read: whoever compares says so.
            standing.messages.extend(self.store.shared.recorded(position).ok().map(|(_, message)| (id, message)));
        }
        standing
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::{
        Store,
        conformance::{lane, received},
        journal::files::Files,
    };

    fn machine() -> Machine {
        Machine {
            disk: MemoryDisk::default(),
            ledger: MemoryTree::default(),
            options: Options { segment_bytes: 65_536, bytes_max: 1 << 20, checkpoint_records: 2, ..Options::default() },
            metrics: Arc::new(Metrics::new().unwrap()),
            clock: Clock::system(),
        }
    }

    /// The disk is full to the last, and what was made ready on it is gone.
    fn fill(disk: &MemoryDisk) {
        let is_spare = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "spare");
        for spare in disk.list(Path::new(DIRECTORY)).unwrap().into_iter().filter(is_spare) {
            disk.remove(&spare).unwrap();
        }
        disk.set_full(true);
    }

    /// The failed try has written a checkpoint of what it kept; the disk has room when the next one comes.
    #[tokio::test]
    async fn a_store_whose_opening_failed_at_its_last_step_is_opened_at_the_next_try() {
        let machine = machine();
        let mut stepped = machine.open().unwrap();
        let store = Arc::clone(&stepped.store);
        let durable = tokio::spawn(store.append(received("durable", &[0])));
        tokio::task::yield_now().await;
        assert!(stepped.turn());
        durable.await.unwrap().unwrap();
        let refused: Vec<_> = (0..3).map(|number| store.append(received(&format!("kept {number}"), &[0]))).collect();
        machine.disk.fail_in(1, io::ErrorKind::Other);
        assert!(!stepped.turn(), "written, and not synced");
        for answer in refused {
            answer.await.unwrap_err();
        }
        fill(&machine.disk);
        drop(machine.recover_anew(stepped.left.as_mut().unwrap()).unwrap());
        machine.disk.heal();
        stepped.reopen(&machine).unwrap();
        let waiting = stepped.standing(|_| true).waiting;
        assert_eq!(waiting[&lane(0)].len(), 4, "kept once, kept for good");
    }
}
