//! After a failure: the store is opened anew in the same process, by the code that opens it after a crash.
//!
//! Tried again with growing pauses while the system refuses, since what ails a disk, or a process without file descriptors,
//! may pass. Damage is the operator's to decide on: then nothing is tried again, and nothing is acknowledged.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tracing::{error, warn};

use super::{
    OpenError, Options, Shared, cache::Cache, checkpoints::Checkpoints, committer::Committer, lock, recovery,
    reserve::Reserve,
};
use crate::store::{
    StoreError,
    journal::{Journal, JournalError, Left, Reader},
    ledger::Ledger,
    state::State,
};

/// Pauses before the tries; tests are not to wait for them.
const FIRST: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 1_000 });
const LONGEST: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 30_000 });
/// How long a search that was running is waited for.
const READERS: Duration = Duration::from_secs(5);

/// A committer for the store as found, once it is open again; `None` when the end is asked for before.
pub(super) fn until_open(shared: &Arc<Shared>, options: &Options, left: &mut Left) -> Option<Committer> {
    // Nothing is decided by them while the store is failed, and they would be in memory twice.
    shared.state().shed();
    let (failed, mut pause, mut told) = (Instant::now(), FIRST, None);
    loop {
        if shared.queue.rest(pause) {
            return None;
        }
        let opened = catch_unwind(AssertUnwindSafe(|| open(shared, options, left)));
        let fault = match opened {
            Ok(Ok(committer)) => {
                warn!(seconds = failed.elapsed().as_secs(), "the store was opened anew: messages are accepted again");
                return Some(committer);
            }
            Ok(Err(fault)) if !may_pass(&fault) => return refuse_for_good(shared, &fault),
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => "opening it panicked: report it".to_owned(),
        };
        if told.as_ref() != Some(&fault) {
            error!(fault, "the store cannot be opened anew yet; it is tried again");
            shared.change_fault(StoreError::Failed(fault.clone()));
            told = Some(fault);
        }
        pause = (pause * 2).min(LONGEST);
    }
}

fn open(shared: &Arc<Shared>, options: &Options, left: &mut Left) -> Result<Committer, OpenError> {
    let ledger = lock(&shared.ledger).take();
    close(ledger.as_ref().map(Arc::downgrade).unwrap_or_default(), ledger, shared)?;
    let journal = Journal::reopen(&shared.path.join("journal"), recovery::sizes(options), left)?;
    let recovered = recovery::around(&shared.path, journal, options)?;
    let ledger = Arc::clone(&recovered.ledger);
    let reserve = Reserve::new(&shared.path, options.bytes_max);
    let checkpoints = Checkpoints::start(shared, recovered.ledger, recovered.covered, recovered.uncovered, reserve);
    let checkpoints = checkpoints.map_err(|error| OpenError::Io {
        action: "start a thread for",
        path: shared.path.clone(),
        error,
    })?;
    shared.heal(recovered.state, recovered.journal.reader(), ledger);
    Ok(Committer::new(Arc::clone(shared), options.clone(), recovered.journal, checkpoints, recovered.applied))
}

/// The old ledger's files are given up before they are opened anew; a search may still hold them for a moment.
fn close(readers: Weak<Ledger>, mine: Option<Arc<Ledger>>, shared: &Shared) -> Result<(), OpenError> {
    drop(mine);
    let deadline = Instant::now() + READERS;
    while readers.strong_count() > 0 {
        if Instant::now() > deadline || shared.queue.rest(Duration::from_millis(10)) {
            *lock(&shared.ledger) = readers.upgrade();
            let error = std::io::Error::other("a search still holds it");
            return Err(OpenError::Io { action: "close", path: shared.path.join("ledger"), error });
        }
    }
    Ok(())
}

/// Whether opening may succeed later without anybody's doing.
pub(super) fn may_pass(fault: &OpenError) -> bool {
    match fault {
        OpenError::Journal(fault) => matches!(fault, JournalError::Io { .. } | JournalError::Full),
        OpenError::Io { .. } | OpenError::JournalMissing { .. } => true,
        OpenError::JournalShort { .. }
        | OpenError::Unreadable { .. }
        | OpenError::RestoreUnfinished { .. }
        | OpenError::KeyDamaged { .. } => false,
    }
}

/// Keeps the lock and the fault until the end.
fn refuse_for_good(shared: &Shared, fault: &OpenError) -> Option<Committer> {
    error!(%fault, "the store stays failed: nothing is acknowledged until an operator has mended it and started again");
    shared.change_fault(StoreError::Failed(fault.to_string()));
    while !shared.queue.rest(LONGEST) {}
    None
}

impl Shared {
    /// What is to be answered from now on instead of the fault so far.
    fn change_fault(&self, fault: StoreError) {
        *lock(&self.fault) = Some(fault.clone());
        self.queue.fail(&fault);
    }

    /// The store was opened anew as `state` and `journal`: everything is served again.
    pub(super) fn heal(&self, state: State, reader: Arc<Reader>, ledger: Arc<Ledger>) {
        *self.state() = state;
        self.reader.store(reader);
        *lock(&self.ledger) = Some(ledger);
        *lock(&self.cache) = Cache::new(self.cache_bytes);
        *lock(&self.ahead) = Cache::new(self.cache_bytes / 4);
        self.queue.heal();
        *lock(&self.fault) = None;
        self.metrics.store_failed.set(0);
        self.metrics.store_reopened.inc();
        lock(&self.wakers).values().for_each(|waker| waker.notify_waiters());
    }
}
