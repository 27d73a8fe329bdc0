//! A journal as it was at one moment, to be copied: which bytes of which files, and the mark that says where it ended.
//!
//! Whoever copies must keep the segments from being released meanwhile, and have every byte in it known durable first.

use super::{
    JournalError, Position, Reader,
    files::{self, Disk, Files, Lock},
    lock,
    mark::MarkFile,
    read::Extent,
    recover::{self, Examined, Found},
    segment_path,
};
use std::path::{Path, PathBuf};

/// All records up to one place.
pub(in crate::store) struct Prefix {
    directory: PathBuf,
    extents: Vec<Extent>,
    /// Of a journal that no engine has open: keeps engines out.
    _lock: Option<Lock>,
}

/// A segment's file and what of it belongs to the prefix.
pub(in crate::store) struct Part {
    pub(in crate::store) path: PathBuf,
    /// Bytes up to the end of its last record.
    pub(in crate::store) used: u64,
    /// Bytes its copy must have, zeros after `used`.
    pub(in crate::store) length: u64,
}

impl Prefix {
    /// Of an open journal, all that was written by now.
    pub(in crate::store) fn of(reader: &Reader) -> Prefix {
        Prefix { directory: reader.directory().to_owned(), extents: reader.extents(), _lock: None }
    }

    /// Of a journal that no engine has open, without what was torn off its end. `Damaged` where a segment is missing or
    /// cannot be believed.
    pub(in crate::store) fn of_stopped(directory: &Path) -> Result<Prefix, JournalError> {
        let files: &dyn Files = &Disk;
        let lock = lock(files, directory, false)?;
        let found = Found::in_directory(files, directory)?;
        let Examined { extents, damage, .. } =
            if found.is_new() { Examined::default() } else { recover::examine(files, directory, &found, None)? };
        if !damage.is_empty() {
            return Err(JournalError::Damaged(damage));
        }
        Ok(Prefix { directory: directory.to_owned(), extents: extents.into_values().collect(), _lock: Some(lock) })
    }

    pub(in crate::store) fn parts(&self) -> impl Iterator<Item = Part> {
        self.extents.iter().map(|extent| {
            let (header, used) = (&extent.header, u64::from(extent.end));
            let length = if header.whole { u64::from(header.size) } else { used };
            Part { path: segment_path(&self.directory, header.number), used, length }
        })
    }

    /// Makes the copied segments in `directory` a journal that was closed here.
    pub(in crate::store) fn close_copy(&self, directory: &Path) -> Result<(), JournalError> {
        let ends = |extent: &Extent| Position { segment: extent.header.number, offset: extent.end };
        if let (Some(first), Some(last)) = (self.extents.first(), self.extents.last()) {
            MarkFile::write_closed(&Disk, directory, first.header.number, ends(last))?;
        }
        drop(lock(&Disk, directory, true)?);
        Disk.sync_directory(directory).map_err(files::fault("sync", directory))
    }
}
