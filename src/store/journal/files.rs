//! What the journal asks of the machine's file system, behind a trait so that tests can let each call fail, cut the power
//! between them, or stand a disk in memory in its place. Nothing here decides anything.

use super::{JournalError, direct::Direct};
use std::{
    any::Any,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Of every file of the store, since it holds patients' data.
pub(in crate::store) const OWNER_ONLY: u32 = 0o600;

/// Makes a directory, where there is none, that its owner alone may enter; its parents too.
pub(in crate::store) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// An open file.
pub(in crate::store) type Handle = Arc<dyn Opened>;

/// Keeps others out until it is dropped.
pub(in crate::store) type Lock = Box<dyn Any + Send + Sync>;

/// What can be done with a file that is open.
pub(in crate::store) trait Opened: Any + Send + Sync {
    /// Some of the bytes from `offset` on; 0 at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// All of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// fdatasync.
    fn sync(&self) -> io::Result<()>;
    /// Bytes of the file.
    fn length(&self) -> io::Result<u64>;
}

/// Everything the journal does with files. What has a body here reads, or is done by the file itself; where files are the
/// machine's own it need not be written again.
pub(in crate::store) trait Files: Send + Sync + 'static {
    /// A new empty file for reading and writing; an existing one is a fault.
    fn create(&self, path: &Path) -> io::Result<Handle>;
    /// An existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Handle>;
    /// A new empty file to become a segment, as `open_segment` opens it.
    fn create_segment(&self, path: &Path) -> io::Result<Handle> {
        self.create(path)
    }
    /// An existing file that is only appended to from now on: behind what was written last, zeros may stand to the end of
    /// its page of [`PAGE`](super::direct::PAGE) bytes, or of the file. Nobody else writes to it.
    fn open_segment(&self, path: &Path) -> io::Result<Handle> {
        self.open(path)
    }
    /// All of `bytes` at `offset`.
    fn write_at(&self, file: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_at(bytes, offset)
    }
    /// fdatasync.
    fn sync(&self, file: &Handle) -> io::Result<()> {
        file.sync()
    }
    /// Atomic within one directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Unlinks a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// fsync of a directory: its names survive power loss.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// An existing file for reading alone.
    fn open_to_read(&self, path: &Path) -> io::Result<Handle> {
        Ok(Arc::new(File::open(path)?))
    }
    /// Paths of everything in a directory.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
    }
    /// Bytes of the file.
    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> bool {
        self.length(path).is_ok()
    }
    /// Makes a directory, where there is none, that its owner alone may enter; its parents too.
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        make_directory(path)
    }
    /// Locks the file, which is made where there is none if `make`.
    fn lock(&self, path: &Path, make: bool) -> Result<Lock, TryLockError> {
        let mut options = File::options();
        match make {
            true => options.create(true).truncate(false).write(true).mode(OWNER_ONLY),
            false => options.read(true),
        };
        let file = options.open(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Box::new(file))
    }
    /// Whether `lock` is still of the file at `path`.
    fn locks(&self, lock: &Lock, path: &Path) -> io::Result<bool> {
        let Some(file) = lock.downcast_ref::<File>() else { return Ok(true) };
        let (held, there) = (file.metadata()?, fs::metadata(path)?);
        Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
    }
    /// Whether a thread makes segments ready ahead of need. Where none does, whoever needs one waits for its making.
    fn prepares_ahead(&self) -> bool {
        true
    }
    /// Bytes the disk of `directory` still has for this program, as far as that is known.
    fn free(&self, _directory: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// The machine's own file system.
pub(in crate::store) struct Disk;

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Handle> {
        Ok(Arc::new(new_file().open(path)?))
    }
    fn open(&self, path: &Path) -> io::Result<Handle> {
        Ok(Arc::new(OpenOptions::new().read(true).write(true).open(path)?))
    }
    fn create_segment(&self, path: &Path) -> io::Result<Handle> {
        Direct::open(&new_file(), path)
    }
    fn open_segment(&self, path: &Path) -> io::Result<Handle> {
        Direct::open(OpenOptions::new().read(true).write(true), path)
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
    fn free(&self, directory: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(directory)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// For reading and writing; an existing one is a fault.
fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(OWNER_ONLY);
    options
}

impl Opened for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

/// Fills `bytes` from `offset` on, as far as the file goes; answers how far that was.
pub(super) fn read_full(file: &dyn Opened, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Fills `bytes` from `offset` on; a file that does not go so far is a fault.
pub(super) fn read_exact(file: &dyn Opened, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    if read_full(file, bytes, offset)? < bytes.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Names what was tried on which file, for `map_err`.
pub(super) fn fault(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    move |error| JournalError::Io { action, path: path.to_owned(), error }
}

/// No space: it may come back by itself, and nothing was lost by it.
pub(super) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
