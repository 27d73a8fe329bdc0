//! Reading by position, from any thread. What is given out was proved by its checksum; a segment that was released
//! meanwhile, even one already written again, answers `NotFound`.

use super::{
    Damage, JournalError, Position, Record, SegmentInfo,
    files::{Files, Handle, fault},
    layout::{SEGMENT_HEADER, SegmentHeader},
    segment_path,
    walk::Walk,
};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

/// Segment files kept open for reading.
const OPEN_MAX: usize = 16;

/// One live segment, as far as it was written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) header: SegmentHeader,
    pub(super) end: u32,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
}

/// Reads by position, from any thread; blocking.
pub struct Reader {
    directory: PathBuf,
    files: Arc<dyn Files>,
    live: RwLock<BTreeMap<u64, Extent>>,
    /// Most recently used last.
    open: Mutex<Vec<(u64, Handle)>>,
}

impl Reader {
    pub(super) fn new(directory: &Path, files: Arc<dyn Files>, live: BTreeMap<u64, Extent>) -> Reader {
        Reader { directory: directory.to_owned(), files, live: RwLock::new(live), open: Mutex::default() }
    }

    /// The record at `position`, its checksum proved. `NotFound` where its segment was released or nothing was written
    /// there yet; `Damaged` where something was and can no longer be proved.
    pub fn read(&self, position: Position) -> Result<Record, JournalError> {
        let extent = self.extent(position.segment).filter(|extent| position.offset < extent.end);
        let extent = extent.ok_or(JournalError::NotFound(position))?;
        let file = self.file(position.segment)?;
        let mut walk = Walk::of_one(file, extent.header.key(), extent.end);
        let found = walk.record_at(position.offset).map(|proved| proved.map(|proved| proved.record()));
        match found.map_err(fault("read", &self.path(position.segment)))? {
            Some(record) => Ok(record),
            None if self.extent(position.segment).is_none() => Err(JournalError::NotFound(position)),
            None => Err(JournalError::Damaged(vec![self.unproved(position, extent.end)])),
        }
    }

    /// Every record from the first at or after `from` on, in order, with its position, up to what is written when the
    /// iterator gets there. Damage is answered as an error at its place, and what follows it after that. Any other error
    /// ends the iterator: `NotFound` where the segment it had come to was released meanwhile.
    pub fn scan(&self, from: Position) -> Box<dyn Iterator<Item = Result<(Position, Record), JournalError>> + '_> {
        Box::new(Scan { reader: self, at: from, walk: None, last: None, ended: false })
    }

    /// The sequence of the oldest record that is kept.
    pub fn first_sequence(&self) -> Option<u64> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.values().find_map(|extent| extent.first)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn publish(&self, extent: Extent) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(extent.header.number, extent);
    }

    /// Called before the file is given up: from here on every reader knows.
    pub(super) fn forget(&self, segment: u64) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(number, _)| *number != segment);
    }

    pub(super) fn extents(&self) -> Vec<Extent> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }

    fn extent(&self, segment: u64) -> Option<Extent> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&segment).copied()
    }

    fn extent_from(&self, segment: u64) -> Option<Extent> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.range(segment..).next().map(|(_, extent)| *extent)
    }

    fn path(&self, segment: u64) -> PathBuf {
        segment_path(&self.directory, segment)
    }

    fn file(&self, segment: u64) -> Result<Handle, JournalError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(number, _)| *number == segment) {
            let entry = open.remove(at);
            let file = Arc::clone(&entry.1);
            open.push(entry);
            return Ok(file);
        }
        let path = self.path(segment);
        let file = match self.files.open_to_read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.extent(segment).is_none() => {
                return Err(JournalError::NotFound(Position { segment, offset: 0 }));
            }
            opened => opened.map_err(fault("open", &path))?,
        };
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((segment, Arc::clone(&file)));
        Ok(file)
    }

    fn unproved(&self, from: Position, to: u32) -> Damage {
        Damage {
            path: self.path(from.segment),
            from,
            to: Position { offset: to, ..from },
            what: "no record is proved here".into(),
            sequences: (None, None),
        }
    }
}

impl From<&Extent> for SegmentInfo {
    fn from(extent: &Extent) -> SegmentInfo {
        SegmentInfo {
            segment: extent.header.number,
            first_sequence: extent.first,
            last_sequence: extent.last,
            used: extent.end,
        }
    }
}

struct Scan<'a> {
    reader: &'a Reader,
    at: Position,
    /// Of the segment `at` is in, and how far it goes.
    walk: Option<(Walk, Extent)>,
    last: Option<u64>,
    ended: bool,
}

impl Iterator for Scan<'_> {
    type Item = Result<(Position, Record), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.step();
        self.ended = !matches!(next, Ok(Some(_)) | Err(JournalError::Damaged(_)));
        next.transpose()
    }
}

impl Scan<'_> {
    fn step(&mut self) -> Result<Option<(Position, Record)>, JournalError> {
        loop {
            let Some(extent) = self.reader.extent_from(self.at.segment) else { return Ok(None) };
            if self.walk.is_some() && extent.header.number != self.at.segment {
                return Err(JournalError::NotFound(self.at));
            }
            self.enter(extent)?;
            let Some((walk, seen)) = &mut self.walk else { return Ok(None) };
            if self.at.offset < seen.end {
                return Scan::record(self.reader, walk, *seen, &mut self.at, &mut self.last).map(Some);
            }
            if !self.advance(extent) {
                return Ok(None);
            }
        }
    }

    /// Has `walk` stand in the extent `at` is in, as far as it is written by now.
    fn enter(&mut self, extent: Extent) -> Result<(), JournalError> {
        let number = extent.header.number;
        if number != self.at.segment {
            self.at = Position { segment: number, offset: SEGMENT_HEADER };
        }
        self.at.offset = self.at.offset.max(SEGMENT_HEADER);
        let stale = self.walk.as_ref().is_none_or(|(_, seen)| {
            seen.header.number != number || (self.at.offset >= seen.end && seen.end < extent.end)
        });
        if stale {
            let begins = self.walk.as_ref().is_none_or(|(_, seen)| seen.header.number != number);
            let file = self.reader.file(number)?;
            self.walk = Some((Walk::new(file, extent.header.key(), extent.end), extent));
            if begins && extent.header.lost {
                let mut damage = self.reader.unproved(self.at, extent.end);
                damage.what = "the segment was lost".into();
                damage.sequences.0 = self.last;
                return Err(JournalError::Damaged(vec![damage]));
            }
        }
        Ok(())
    }

    /// To the segment after `extent`, if there is one.
    fn advance(&mut self, extent: Extent) -> bool {
        let next = Position { segment: extent.header.number + 1, offset: SEGMENT_HEADER };
        let there = self.reader.extent_from(next.segment).is_some();
        if there {
            self.at = next;
        }
        there
    }

    fn record(
        reader: &Reader,
        walk: &mut Walk,
        extent: Extent,
        at: &mut Position,
        last: &mut Option<u64>,
    ) -> Result<(Position, Record), JournalError> {
        let path = reader.path(at.segment);
        let found = walk.record_at(at.offset).map_err(fault("read", &path))?;
        if let Some(proved) = found {
            let (begins, record) = (*at, proved.record());
            at.offset = proved.next;
            *last = Some(record.sequence);
            return Ok((begins, record));
        }
        if reader.extent(at.segment).is_none() {
            return Err(JournalError::NotFound(*at));
        }
        let to = walk.resync(at.offset).map_err(fault("read", &path))?;
        let mut damage = reader.unproved(*at, to.unwrap_or(extent.end));
        let after = to.map(|to| walk.record_at(to)).transpose().map_err(fault("read", &path))?.flatten();
        damage.sequences = (*last, after.map(|record| record.sequence));
        *at = damage.to;
        Err(JournalError::Damaged(vec![damage]))
    }
}
