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
    /// End of what was durable.
    durable: Position,
}

impl Journal {
    /// Gives all files up but the lock.
    pub(in crate::store) fn give_up(self) -> Left {
        let durable = Position { segment: self.current.extent.header.number, offset: self.current.durable_to };
        Left { files: self.files, lock: self.lock, durable }
    }

    /// Opens the journal that `left` is of anew. May be tried again with the same `left`, unless it answers `Damaged`.
    pub(in crate::store) fn reopen(directory: &Path, options: Options, left: &Left) -> Result<Journal, JournalError> {
        left.prove_locked(directory)?;
        let (found, examined) = examine(&*left.files, directory, Some(left.durable))?;
        let resume = |found, examined| {
            let (files, lock) = (Arc::clone(&left.files), Arc::clone(&left.lock));
            Journal::resume(directory, options.clone(), files, found, examined, lock)
        };
        match resume(found, examined) {
            Err(JournalError::Full) => {
                let (found, examined) = examine(&*left.files, directory, None)?;
                resume(found, examined)
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
    /// A volume that went away must not be taken for an empty journal.
    fn prove_locked(&self, directory: &Path) -> Result<(), JournalError> {
        let path = directory.join("LOCK");
        match self.files.locks(&self.lock, &path).map_err(fault("find", &path))? {
            true => Ok(()),
            false => Err(fault("find", &path)(io::Error::other("it is another file by now"))),
        }
    }
}
