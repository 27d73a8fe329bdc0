//! The `MARK` file: which segments there must be, where a cleanly closed journal ended, and how far an idle one was durable.
//! Without it a deleted first or last segment could not be told from one that never was.

use super::{
    JournalError, Position,
    files::{self, Files, Handle, fault},
    layout::{u32_at, u64_at},
};
use std::{
    io,
    path::{Path, PathBuf},
};

const MAGIC: [u8; 8] = *b"CANNULAM";
const SLOT: usize = 64;
/// Slots are a page apart: a torn write of one leaves the other whole.
const SLOT_APART: u64 = 4096;

/// What the mark says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Counts writes; the higher valid slot rules.
    count: u64,
    /// Lowest segment that must exist.
    pub(super) first: u64,
    /// Highest segment that must exist; `first - 1` where none must.
    pub(super) last: u64,
    /// The end of the journal when it was closed; `None` while it is open.
    pub(super) closed_at: Option<Position>,
    /// What waits under sequences below may have been sent since: the journal was restored from a backup. 0: nothing.
    pub(super) restored_before: u64,
    /// How far segment `last` was durable when that was last noted; 0 where it was not.
    pub(super) durable_to: u32,
}

impl Mark {
    /// Of a journal that has no segment yet.
    pub(super) fn new(first: u64) -> Mark {
        Mark { count: 0, first, last: first - 1, closed_at: None, restored_before: 0, durable_to: 0 }
    }

    fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        let closed = self.closed_at.unwrap_or(Position { segment: 0, offset: 0 });
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.last.to_le_bytes());
        bytes[32..40].copy_from_slice(&closed.segment.to_le_bytes());
        bytes[40..44].copy_from_slice(&closed.offset.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.restored_before.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.durable_to.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..SLOT - 4]);
        bytes[SLOT - 4..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Mark> {
        let whole = bytes.len() >= SLOT && bytes[..8] == MAGIC;
        if !whole || crc32c::crc32c(&bytes[..SLOT - 4]) != u32_at(bytes, SLOT - 4) {
            return None;
        }
        let closed = Position { segment: u64_at(bytes, 32), offset: u32_at(bytes, 40) };
        Some(Mark {
            count: u64_at(bytes, 8),
            first: u64_at(bytes, 16),
            last: u64_at(bytes, 24),
            closed_at: (closed.offset != 0).then_some(closed),
            restored_before: u64_at(bytes, 44),
            durable_to: u32_at(bytes, 52),
        })
    }
}

/// The open file.
pub(super) struct MarkFile {
    file: Handle,
    path: PathBuf,
    pub(super) mark: Mark,
}

impl MarkFile {
    /// Opens the file or makes it, and writes `mark` durably, in the slot that does not hold `found`, what was read of it.
    ///
    /// The names of the segments that it says must be there are made durable first: an engine that died may have renamed one
    /// just before. So is `found`: a sync of it may have failed, and then the kernel shows what the disk does not have. Were
    /// the next write torn, only the mark before it would be left.
    pub(super) fn write_first(
        files: &dyn Files,
        directory: &Path,
        found: Option<Mark>,
        mark: Mark,
    ) -> Result<MarkFile, JournalError> {
        let path = path(directory);
        let file = match files.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => files.create(&path),
            opened => opened,
        };
        let mut written = MarkFile { file: file.map_err(fault("open", &path))?, path, mark };
        files.sync_directory(directory).map_err(fault("sync", directory))?;
        found.map_or(Ok(()), |found| written.write(files, found))?;
        written.update(files, |_| ())?;
        Ok(written)
    }

    /// The mark of a journal that has segments from `first` to where it ends at `end`, and is not open.
    pub(super) fn write_closed(
        files: &dyn Files,
        directory: &Path,
        first: u64,
        end: Position,
    ) -> Result<(), JournalError> {
        let mark = Mark { last: end.segment, closed_at: Some(end), ..Mark::new(first) };
        MarkFile::write_first(files, directory, None, mark).map(drop)
    }

    /// Changes the mark durably.
    pub(super) fn update(&mut self, files: &dyn Files, change: impl FnOnce(&mut Mark)) -> Result<(), JournalError> {
        change(&mut self.mark);
        self.mark.count += 1;
        self.write(files, self.mark)
    }

    fn write(&self, files: &dyn Files, mark: Mark) -> Result<(), JournalError> {
        let offset = mark.count % 2 * SLOT_APART;
        files.write_at(&self.file, &mark.encode(), offset).map_err(fault("write", &self.path))?;
        files.sync(&self.file).map_err(fault("sync", &self.path))
    }
}

/// What is marked in `directory`; `None` where no mark can be read.
pub(super) fn read(files: &dyn Files, directory: &Path) -> Result<Option<Mark>, JournalError> {
    let path = path(directory);
    let mut bytes = [0; SLOT_APART as usize + SLOT];
    let there = match files.open_to_read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault("open", &path)(error)),
        Ok(file) => files::read_full(&*file, &mut bytes, 0).map_err(fault("read", &path))?,
    };
    let bytes = &bytes[..there];
    let second = bytes.get(SLOT_APART as usize..).unwrap_or_default();
    Ok(Mark::decode(bytes).into_iter().chain(Mark::decode(second)).max_by_key(|mark| mark.count))
}

fn path(directory: &Path) -> PathBuf {
    directory.join("MARK")
}
