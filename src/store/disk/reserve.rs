//! The file `reserve`: space the disk keeps for the ledger while other files fill the rest.
//!
//! A ledger that cannot be written gives no space back, and one that cannot be opened keeps the engine from starting: both
//! would make a full disk stay full. So where the disk is nearly full the reserve is given up before the ledger needs it,
//! and made again once there is clearly room. It holds nothing; losing it is no fault.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tracing::{info, warn};

use crate::store::journal::files::{Disk, Files, OWNER_ONLY};

/// Bytes held; less in a small store, and on a small disk, where so much would seldom be free again.
const BYTES_MAX: u64 = 16 << 20;
/// The part of the store's bytes, and of the disk's, that is held at most.
const SHARE: u64 = 8;

pub(super) struct Reserve {
    directory: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub fn new(store: &Path, bytes_max: u64) -> Reserve {
        let disk = statvfs(store).map_or(u64::MAX, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        Reserve { directory: store.to_owned(), bytes: (bytes_max.min(disk) / SHARE).min(BYTES_MAX) }
    }

    /// Called before the ledger is opened or written, and no earlier: who fills the disk takes what is given up. What cannot
    /// be done is left: the ledger tells what it lacks.
    pub fn see_to(&self) {
        let path = self.path();
        if !path.exists() || !Disk.free(&self.directory).is_ok_and(|free| free < self.bytes / 2) {
            return self.make();
        }
        match fs::remove_file(&path) {
            Ok(()) => warn!(bytes = self.bytes, "the disk is nearly full: the store's reserve is given up; free space"),
            Err(error) => warn!(%error, "the disk is nearly full, and the store's reserve cannot be given up"),
        }
    }

    /// Makes it where it is not and there is clearly room.
    pub fn make(&self) {
        let room = || Disk.free(&self.directory).is_ok_and(|free| free / 3 >= self.bytes);
        if !self.path().exists() && room() && self.hold().is_ok() {
            info!(bytes = self.bytes, "the store's reserve is made");
        }
    }

    /// Allocated, not written: nobody waits for it.
    fn hold(&self) -> io::Result<()> {
        let unready = self.directory.join("reserve.tmp");
        let file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&unready)?;
        let held = fallocate(&file, FallocateFlags::empty(), 0, self.bytes).map_err(io::Error::from);
        held.and_then(|()| fs::rename(&unready, self.path())).inspect_err(|_| {
            let _ = fs::remove_file(&unready);
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("reserve")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn it_is_held_where_there_is_room_and_given_up_where_there_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(directory.path(), 16 << 20);
        reserve.see_to();
        assert_eq!(fs::metadata(reserve.path()).unwrap().len(), 2 << 20);
        reserve.see_to();
        // More than any disk has.
        let pressed = Reserve { bytes: u64::MAX / 4, ..Reserve::new(directory.path(), 0) };
        pressed.see_to();
        assert!(!reserve.path().exists());
        pressed.see_to();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
