//! Going on in the same process after a write or sync failed.
//!
//! What this process knew to be durable must be proved again; what it did not is cut off by beginning a new segment that
//! states where the failed one ends. The failed one is not written again, but where there is no room for another: then, as
//! after a restart, all that was not durable in it is. No failed sync is tried again and believed, and no other engine gets
//! hold of the journal meanwhile.

use super::{
    Journal, JournalError, Options, Position,
    files::{Files, Lock, fault},
    recover::{self, Examined, Found},
};
use std::{io, path::Path, sync::Arc};

/// What a failed journal leaves to the one opened after it.
pub(in crate::store) struct Left {
    files: Arc<dyn Files>,
    lock: Arc<Lock>,
    /// End of what was durable, or has been made so since.
    durable: Position,
}

impl Journal {
    /// Gives all files up but the lock.
    pub(in crate::store) fn give_up(self) -> Left {
        let durable = Position { segment: self.current.extent.header.number, offset: self.current.durable_to };
        Left { files: self.files, lock: self.lock, durable }
    }

    /// Opens the journal that `left` is of anew. May be tried again with the same `left`, unless it answers `Damaged`, and
    /// also after it answered a journal that was given up again.
    pub(in crate::store) fn reopen(
        directory: &Path,
        options: Options,
        left: &mut Left,
    ) -> Result<Journal, JournalError> {
        left.prove_locked(directory)?;
        match left.resume(directory, &options, Some(left.durable)) {
            Err(JournalError::Full) => {
                let journal = left.resume(directory, &options, None)?;
                // A ledger may be written of it before the store is open: another try must not cut that off.
                left.durable = journal.end();
                Ok(journal)
            }
            resumed => resumed,
        }
    }
}

fn examine(files: &dyn Files, directory: &Path, durable: Option<Position>) -> Result<(Found, Examined), JournalError> {
    let found = Found::in_directory(files, directory)?;
    let examined = recover::examine(files, directory, &found, durable)?;
    if examined.damage.is_empty() { Ok((found, examined)) } else { Err(JournalError::Damaged(examined.damage)) }
}

impl Left {
    fn resume(&self, directory: &Path, options: &Options, durable: Option<Position>) -> Result<Journal, JournalError> {
        let (found, examined) = examine(&*self.files, directory, durable)?;
        let (files, lock) = (Arc::clone(&self.files), Arc::clone(&self.lock));
        Journal::resume(directory, options.clone(), files, found, examined, lock)
    }

    /// A volume that went away must not be taken for an empty journal.
    fn prove_locked(&self, directory: &Path) -> Result<(), JournalError> {
        let path = directory.join("LOCK");
        match self.files.locks(&self.lock, &path).map_err(fault("find", &path))? {
            true => Ok(()),
            false => Err(fault("find", &path)(io::Error::other("it is another file by now"))),
        }
    }
}
