//! The system calls the journal changes the disk with, behind a trait so that tests can let each of them fail and can
//! cut the power between them. Nothing here decides anything.

use super::JournalError;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

/// Of every file of the store, since it holds patients' data.
pub(in crate::store) const OWNER_ONLY: u32 = 0o600;

/// Makes a directory, where there is none, that its owner alone may enter; its parents too.
pub(in crate::store) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Every change the journal makes to the disk. Reads are not among them: they go through `std` directly.
pub(in crate::store) trait Files: Send + Sync + 'static {
    /// A new empty file for reading and writing; an existing one is a fault.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// An existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<File>;
    /// All of `bytes` at `offset`.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Atomic within one directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// fsync of a directory: its names survive power loss.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
}

/// The machine's own file system.
pub(in crate::store) struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(OWNER_ONLY).open(path)
    }
    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

/// Names what was tried on which file, for `map_err`.
pub(super) fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    move |error| JournalError::Io { action, path: path.to_owned(), error }
}

/// No space: it may come back by itself, and nothing was lost by it.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
