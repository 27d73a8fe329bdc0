//! The journal: segment files of records, written by one writer, read by many. It is the truth of the store.
//!
//! A record that `sync` answered for must be found again after any crash, in its place and unchanged, or its loss must be
//! reported; a record that was never written, or was given up, must never appear.
//!
//! # Files
//! `LOCK` is locked by the engine that has the journal open. `MARK` says which segments there must be. `N.journal` (20
//! digits) is segment N; numbers have no holes. `*.spare` will become segments, `*.tmp` are unfinished, `*.damaged` were
//! put aside by [`Journal::open_accepting_damage`].
//!
//! # Bytes
//! All numbers are little endian; all checksums are CRC32C.
//!
//! ```text
//! segment  0 magic "CANNULAJ"    8 u32 version = 1        12 u32 size           16 u64 number     24 u64 generation
//!         32 u32 previous end   36 u32 flags              40 u64 previous first 48 u64 previous last sequence
//!         56 u64 highest sequence before                  64 zeros             124 u32 checksum of bytes 0..124
//!        128 records
//!          flags: 1 stands for a lost segment; 2 the file was as long as the segment from the start
//! record   0 u32 length of header and payload; 0 = none   4 u32 checksum        8 u32 durable to
//!         12 u8 kind            13 three bytes of the generation                16 u64 sequence
//!         24 payload, then zeros to a multiple of 8
//! MARK     two slots, at 0 and 4096, written in turn; the valid one with the higher count rules
//!          0 magic "CANNULAM"    8 u64 count              16 u64 first segment  24 u64 last segment
//!         32 u64, 40 u32 where the journal was closed; 0 while open             44 u64 restored before
//!         52 u32 the last one durable to; 0 where not noted  56 zeros  60 u32 checksum of bytes 0..60
//! ```
//!
//! A record's checksum covers, in this order, its segment's generation and number, its offset, its length, and everything
//! from byte 8 on, padding included. The generation is random and new each time a file begins a new life as a segment,
//! so what a recycled file still holds is never taken for a record, nor is what a sender puts into a message.
//!
//! # Where the journal ends
//! Segment N+1 is begun only when N is synced to its end, and states that end in its header. So every byte of every
//! segment but the last was durable, and whatever is not proved there is damage.
//!
//! The last segment ends where no record is proved. That may be the tail of a batch that power loss tore before it was
//! synced, which nobody was ever answered for; or damage in what was durable. Proved records behind the bad place decide
//! nothing, since the disk may have written the parts of a torn batch in any order. Therefore each record carries how far
//! the segment was known durable when it was written ("durable to"), and the highest of these among all proved records,
//! the ones behind the bad place included, is the line: a bad place at or behind it was never known durable, and is cut
//! with all that follows; a bad place before it was durable, and is damage.
//!
//! No later record speaks for the last batch that was synced. So `vouch`, called when nothing is to be done, notes in `MARK`
//! how far all was durable, which draws the line too; and `close` notes the end: after a clean stop any other end is damage; after an unclean one, whoever keeps positions of durable records elsewhere should compare
//! them with [`Journal::end`], and [`Journal::cut`] tells what was cut.
//!
//! After a write or sync that failed, the same process knows the line exactly: what was durable must be proved again, a new
//! segment states it as the failed one's end, and the failed one is never written again.
//!
//! A cut is made durable, by zeros, before anything is appended, so that no record of the torn batch can come to stand at
//! the end of a later one. What is kept but was not known durable is written once more before it is trusted, since after
//! a failed sync the kernel shows pages the disk may not have.
//!
//! A sector is taken to be either as it was before a write or as after it, also where the write changed only part of it.

mod current;
mod direct;
pub(super) mod files;
mod layout;
mod mark;
#[cfg(test)]
pub(in crate::store) mod memory_disk;
pub(in crate::store) mod prefix;
mod read;
mod recover;
mod reopen;
mod spares;
mod verify;
mod walk;

pub(in crate::store) use prefix::Prefix;
pub use read::Reader;
pub(in crate::store) use reopen::Left;
pub use verify::{Report, verify};

use bytes::Bytes;
use current::{Current, Plan, begin, next_header};
use files::{Disk, Files, Lock, fault};
use layout::{SEGMENT_HEADER, record_bytes};
use mark::{Mark, MarkFile};
use read::Extent;
use recover::{Examined, Found};
use spares::{Need, Spares};
use std::{
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::sabotage::{self, CrashPoint};

/// Where a record begins. Ordered as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Number of the segment; never used twice.
    pub segment: u64,
    /// Byte in the segment's file.
    pub offset: u32,
}

/// One record. `kind`, `sequence` and `payload` are the caller's; the journal owns length, checksum and place.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Place in the store's order; the journal reports the highest, and requires no order.
    pub sequence: u64,
    /// What the payload is.
    pub kind: u8,
    /// At most [`Journal::payload_bytes_max`] bytes.
    pub payload: Bytes,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Record {{ sequence: {}, kind: {}, {} bytes }}", self.sequence, self.kind, self.payload.len())
    }
}

/// What the operator may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of one segment file; a multiple of 8, at least 1,024. A record must fit one segment.
    pub segment_bytes: u32,
    /// Bytes of all files together; at least three segments.
    pub bytes_max: u64,
}

impl Default for Options {
    /// Segments of 64 MiB, 50 GiB in all.
    fn default() -> Options {
        Options { segment_bytes: 64 << 20, bytes_max: 50 << 30 }
    }
}

/// A stretch of the journal that is not what was written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where it begins.
    pub from: Position,
    /// Byte after the damage, where records are found again or the segment ends; `from` where that cannot be told.
    pub to: Position,
    /// What was found there; no content.
    pub what: String,
    /// Last sequence read before, first after.
    pub sequences: (Option<u64>, Option<u64>),
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (bytes {} to {}", self.path.display(), self.what, self.from.offset, self.to.offset)?;
        match self.sequences {
            (Some(before), Some(after)) => write!(f, ", between sequences {before} and {after})"),
            (Some(before), None) => write!(f, ", after sequence {before})"),
            (None, Some(after)) => write!(f, ", before sequence {after})"),
            (None, None) => write!(f, ")"),
        }
    }
}

/// Why the journal could not do as asked. Always the operator's to mend; nothing here carries content.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// `bytes_max` reached or the disk full. Nothing of the batch was written; accepted again when there is room.
    #[error("the journal has no room: free disk space or raise store.max_bytes")]
    Full,
    /// Another process has the store open.
    #[error("another engine has this store open: stop it, or give this one another store.path ({0} is locked)")]
    Locked(PathBuf),
    /// A record longer than [`Journal::payload_bytes_max`]. Nothing of the batch was written.
    #[error("a record is larger than a segment of the journal holds")]
    TooLarge,
    /// What was durable is missing or changed.
    #[error(
        "the journal is damaged: restore a backup, or keep what is left with `cannula store rebuild`: {}",
        .0.iter().map(Damage::to_string).collect::<Vec<_>>().join("; ")
    )]
    Damaged(Vec<Damage>),
    /// Nothing is kept at this position, or no longer.
    #[error("the journal holds no record at {}:{}", .0.segment, .0.offset)]
    NotFound(Position),
    /// Sizes that cannot work.
    #[error("{0}")]
    Options(&'static str),
    /// The system refused; the journal must be opened again, which examines what is really there.
    #[error("cannot {action} {}: {error}; see to the disk", .path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// As the system said.
        error: io::Error,
    },
}

/// One live segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub segment: u64,
    /// Of its first record.
    pub first_sequence: Option<u64>,
    /// Of its last record.
    pub last_sequence: Option<u64>,
    /// Bytes to the end of its last record.
    pub used: u32,
}

/// The writer. There is one per directory, held by its lock.
pub struct Journal {
    directory: PathBuf,
    files: Arc<dyn Files>,
    options: Options,
    current: Current,
    mark: MarkFile,
    highest: u64,
    reader: Arc<Reader>,
    buffer: Vec<u8>,
    cut: Option<Damage>,
    failed: bool,
    // Ends its thread before the lock is given up.
    spares: Spares,
    lock: Arc<Lock>,
}

impl Journal {
    /// Opens or makes the journal in `directory`: takes its lock, proves every segment's header and the last one's records,
    /// cuts a torn tail. Damage in older segments is found when they are read, and by [`verify`].
    pub fn open(directory: &Path, options: Options) -> Result<Journal, JournalError> {
        let (journal, _) = Journal::open_with(directory, options, Arc::new(Disk), false)?;
        Ok(journal)
    }

    /// Opens also what is damaged, and says what is lost: records that can still be proved are kept, and writing goes on in
    /// a new segment. A scan meets damage within a segment, and lost segments, as errors at their places from then on.
    pub fn open_accepting_damage(directory: &Path, options: Options) -> Result<(Journal, Vec<Damage>), JournalError> {
        Journal::open_with(directory, options, Arc::new(Disk), true)
    }

    pub(in crate::store) fn open_with(
        directory: &Path,
        options: Options,
        files: Arc<dyn Files>,
        accept_damage: bool,
    ) -> Result<(Journal, Vec<Damage>), JournalError> {
        check(&options)?;
        files.make_directory(directory).map_err(fault("create", directory))?;
        let lock = lock(&*files, directory, true)?;
        let found = Found::in_directory(&*files, directory)?;
        let is_new = found.is_new();
        let mut examined =
            if is_new { Examined::default() } else { recover::examine(&*files, directory, &found, None)? };
        if !examined.damage.is_empty() && !accept_damage {
            return Err(JournalError::Damaged(examined.damage));
        }
        if !examined.damage.is_empty() {
            examined.stand_in(&*files, directory, options.segment_bytes)?;
        }
        let damage = std::mem::take(&mut examined.damage);
        Ok((Journal::resume(directory, options, files, found, examined, Arc::new(lock))?, damage))
    }

    fn resume(
        directory: &Path,
        options: Options,
        files: Arc<dyn Files>,
        found: Found,
        examined: Examined,
        lock: Arc<Lock>,
    ) -> Result<Journal, JournalError> {
        let last = examined.extents.values().next_back().copied();
        let current = match (last, &examined.tail) {
            (Some(extent), Some(tail)) if !tail.failed => {
                Some((Current::mended(&*files, directory, extent, tail)?, tail.damaged))
            }
            _ => None,
        };
        let mut mark = MarkFile::write_first(&*files, directory, found.mark, found.mark_of(&examined))?;
        let live = examined.extents.values().map(|extent| u64::from(extent.header.size)).sum();
        let ready = found.stock(&*files, &options)?;
        let spares = Spares::start(Arc::clone(&files), directory, &options, ready, live)?;
        let reader = Arc::new(Reader::new(directory, Arc::clone(&files), examined.extents));
        let current = match current {
            Some((current, false)) => current,
            _ => {
                spares.secure(Need { segments: 1, bytes: SEGMENT_HEADER, left: 0, keeps_reserve: false })?;
                let header = next_header(last.as_ref(), mark.mark.last + 1, examined.highest, &options);
                begin(&*files, directory, &spares, &mut mark, header)?
            }
        };
        reader.publish(current.extent);
        let cut = examined.tail.and_then(|tail| tail.torn);
        let (highest, buffer) = (examined.highest, Vec::new());
        let directory = directory.to_owned();
        Ok(Journal {
            directory,
            files,
            options,
            current,
            mark,
            highest,
            reader,
            buffer,
            cut,
            failed: false,
            spares,
            lock,
        })
    }

    /// Appends records as one write (rolling to a new segment where needed) and answers the position of each. Not durable
    /// before `sync`. Refused with `Full`, before anything is written, where the reserve for
    /// [`append_essential`](Journal::append_essential) would be touched.
    pub fn append(&mut self, records: &[Record]) -> Result<Vec<Position>, JournalError> {
        self.append_as(records, true)
    }

    /// The same for what must be recorded also while messages are refused: settlements, and what makes room.
    pub fn append_essential(&mut self, records: &[Record]) -> Result<Vec<Position>, JournalError> {
        self.append_as(records, false)
    }

    /// fdatasync of what was appended. After an error the journal refuses everything: never retried; drop it and open again.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        let synced = self.current.sync(&*self.files);
        self.unless_failed(synced)
    }

    /// Syncs, notes in the mark that all is there, and gives the files up.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.sync()?;
        let end = self.end();
        self.mark.update(&*self.files, |mark| mark.closed_at = Some(end))
    }

    /// Notes in the mark that all written is durable, so that a later loss of it is told from a batch that never was.
    /// Answers at once where that is noted already, or is not so.
    pub fn vouch(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        if self.is_vouched() || self.current.durable_to < self.current.extent.end {
            return Ok(());
        }
        let end = self.current.extent.end;
        let noted = self.mark.update(&*self.files, |mark| mark.durable_to = end);
        self.unless_failed(noted)
    }

    /// Whether the mark says that all written is durable.
    pub fn is_vouched(&self) -> bool {
        self.mark.mark.durable_to == self.current.extent.end
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Position after the last record.
    pub fn end(&self) -> Position {
        Position { segment: self.current.extent.header.number, offset: self.current.extent.end }
    }

    /// Segments oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.reader.extents().iter().map(SegmentInfo::from).collect()
    }

    /// Gives whole segments before `segment` up for reuse; never the one being written. The caller has carried forward
    /// what they said.
    pub fn release_before(&mut self, segment: u64) -> Result<(), JournalError> {
        self.usable()?;
        let segment = segment.min(self.current.extent.header.number);
        if segment <= self.mark.mark.first {
            return Ok(());
        }
        let released = self.release(segment);
        self.unless_failed(released)
    }

    /// What a thread does elsewhere: has a spare segment ready, as far as one is wanted.
    #[cfg(test)]
    pub(in crate::store) fn prepare_spare(&self) {
        self.spares.prepare();
    }

    /// Bytes on disk, spares included.
    pub fn bytes(&self) -> u64 {
        self.spares.bytes()
    }

    /// Keeps so many bytes of the store and of the disk from messages, for `append_essential`.
    pub fn set_reserve(&self, bytes: u64) {
        self.spares.set_reserve(bytes);
    }

    /// Bytes that can still be written without giving anything up, the reserve among them.
    pub fn left(&self) -> u64 {
        u64::from(self.current.limit - self.current.extent.end) + self.spares.left()
    }

    /// Whether messages will soon find no room: time to give up what can be.
    pub fn is_tight(&self) -> bool {
        self.spares.is_tight()
    }

    /// Whether `append` has room for a quarter of a segment now: turns false a little before `append` answers `Full`, and
    /// true again only once there is room for a whole segment.
    pub fn room_for_messages(&self) -> bool {
        let left = self.current.limit - self.current.extent.end;
        !self.failed && self.spares.has_room(left)
    }

    /// The highest sequence written; 0 where there is none.
    pub fn last_sequence(&self) -> u64 {
        self.highest
    }

    /// The longest payload a record can have.
    pub fn payload_bytes_max(&self) -> usize {
        layout::payload_bytes_max(self.options.segment_bytes)
    }

    /// Notes, durably and for good, that all that is in the journal now may have been acted upon elsewhere since: places
    /// before the sequence `before`, which is higher than any in use.
    pub fn mark_restored(&mut self, before: u64) -> Result<(), JournalError> {
        self.usable()?;
        let marked = self.mark.update(&*self.files, |mark| mark.restored_before = before);
        self.unless_failed(marked)
    }

    /// What was marked so last; 0 where nothing was.
    pub fn restored_before(&self) -> u64 {
        self.mark.mark.restored_before
    }

    /// What was cut off on opening: a batch that was never durable. Worth a warning in the log; nobody was answered for it.
    pub fn cut(&self) -> Option<&Damage> {
        self.cut.as_ref()
    }

    /// A handle that reads, shared with other threads.
    pub fn reader(&self) -> Arc<Reader> {
        Arc::clone(&self.reader)
    }

    fn append_as(&mut self, records: &[Record], keeps_reserve: bool) -> Result<Vec<Position>, JournalError> {
        self.usable()?;
        self.secure(records, keeps_reserve)?;
        let appended = self.write(records);
        self.unless_failed(appended)
    }

    /// Sees to it that all of the batch will find its place.
    fn secure(&mut self, records: &[Record], keeps_reserve: bool) -> Result<(), JournalError> {
        let plan = Plan::of(records, &self.current, &self.options)?;
        let plan = match self.current.grow(&*self.files, plan.current_end) {
            Err(JournalError::Full) => Plan::of(records, &self.current, &self.options)?,
            grown => grown.map(|()| plan)?,
        };
        let secured = self.spares.secure(Need { keeps_reserve, ..plan.need });
        if matches!(secured, Err(JournalError::Io { .. })) { self.unless_failed(secured) } else { secured }
    }

    fn write(&mut self, records: &[Record]) -> Result<Vec<Position>, JournalError> {
        let mut positions = Vec::with_capacity(records.len());
        let mut rest = records;
        while !rest.is_empty() {
            let fitting = self.fill_buffer(rest, &mut positions)?;
            self.write_buffer(&rest[..fitting])?;
            rest = &rest[fitting..];
            if !rest.is_empty() {
                self.roll()?;
            }
        }
        Ok(positions)
    }

    /// Encodes as many records as the current segment takes; answers how many.
    fn fill_buffer(&mut self, records: &[Record], positions: &mut Vec<Position>) -> Result<usize, JournalError> {
        let current = &self.current;
        self.buffer.clear();
        for (count, record) in records.iter().enumerate() {
            let offset = current.extent.end + self.buffer.len() as u32;
            if record_bytes(record, self.options.segment_bytes)? > current.limit - offset {
                return Ok(count);
            }
            current.key.encode(record, offset, current.durable_to, &mut self.buffer);
            positions.push(Position { segment: current.extent.header.number, offset });
        }
        Ok(records.len())
    }

    fn write_buffer(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let current = &mut self.current;
        let offset = u64::from(current.extent.end);
        self.files.write_at(&current.file, &self.buffer, offset).map_err(fault("write", &current.path))?;
        current.extent.end += self.buffer.len() as u32;
        current.extent.first = current.extent.first.or(Some(first.sequence));
        current.extent.last = Some(last.sequence);
        self.highest = records.iter().map(|record| record.sequence).fold(self.highest, u64::max);
        self.reader.publish(current.extent);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        self.current.sync(&*self.files)?;
        let extent = self.current.extent;
        let header = next_header(Some(&extent), extent.header.number + 1, self.highest, &self.options);
        self.current = begin(&*self.files, &self.directory, &self.spares, &mut self.mark, header)?;
        self.reader.publish(self.current.extent);
        Ok(())
    }

    fn release(&mut self, segment: u64) -> Result<(), JournalError> {
        let released: Vec<Extent> =
            self.reader.extents().into_iter().filter(|extent| extent.header.number < segment).collect();
        // The mark first: a segment whose file is gone must not be missed after a crash.
        self.mark.update(&*self.files, |mark| mark.first = segment)?;
        sabotage::crash_at(CrashPoint::DuringRelease);
        for extent in released {
            let number = extent.header.number;
            self.reader.forget(number);
            self.spares.recycle(&segment_path(&self.directory, number), extent.header.size)?;
        }
        Ok(())
    }

    fn usable(&self) -> Result<(), JournalError> {
        if !self.failed {
            return Ok(());
        }
        let error = io::Error::other("an earlier write or sync failed");
        Err(fault("go on writing", &self.directory)(error))
    }

    fn unless_failed<T>(&mut self, result: Result<T, JournalError>) -> Result<T, JournalError> {
        self.failed |= result.is_err();
        result
    }
}

impl Found {
    /// The mark of the journal now open, given what is there.
    fn mark_of(&self, examined: &Examined) -> Mark {
        let numbers = || examined.extents.keys().copied();
        let found = Mark::new(numbers().next().unwrap_or(1));
        let mut mark = self.mark.unwrap_or(found);
        let last = numbers().next_back().unwrap_or(mark.last);
        if mark.last != last {
            (mark.last, mark.durable_to) = (last, 0);
        }
        mark.closed_at = None;
        mark
    }
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}.journal"))
}

fn check(options: &Options) -> Result<(), JournalError> {
    let size = options.segment_bytes;
    if size < 1024 || !size.is_multiple_of(layout::ALIGN) {
        return Err(JournalError::Options("a journal segment must be a multiple of 8 bytes and at least 1,024"));
    }
    if options.bytes_max < 3 * u64::from(size) {
        return Err(JournalError::Options("store.max_bytes must leave room for three journal segments"));
    }
    Ok(())
}

/// Keeps others out for as long as it is held; `make` its file where there is none.
fn lock(files: &dyn Files, directory: &Path, make: bool) -> Result<Lock, JournalError> {
    let path = directory.join("LOCK");
    match files.lock(&path, make) {
        Ok(lock) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(JournalError::Locked(path)),
        Err(TryLockError::Error(error)) => Err(fault("lock", &path)(error)),
    }
}

#[cfg(test)]
mod tests;
