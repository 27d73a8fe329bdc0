//! Going through the records of one segment in order, and finding the way again behind a bad one.

use super::{
    files::{self, Handle},
    layout::{ALIGN, Key, Proved, RECORD_HEADER, SEGMENT_HEADER, TAG},
};
use memchr::memmem;
use std::io;

/// Bytes read at a time when going through a segment; a longer record is read whole.
const WINDOW: usize = 256 * 1024;
/// The same when one record is read: most are shorter.
const WINDOW_OF_ONE: usize = 8 * 1024;

/// Reads one segment's records between its header and `limit`.
pub(super) struct Walk {
    file: Handle,
    key: Key,
    limit: u32,
    window: usize,
    start: u32,
    bytes: Vec<u8>,
}

impl Walk {
    /// No byte at or after `limit` is looked at.
    pub(super) fn new(file: Handle, key: Key, limit: u32) -> Walk {
        Walk { file, key, limit, window: WINDOW, start: 0, bytes: Vec::new() }
    }

    /// The same for reading one record.
    pub(super) fn of_one(file: Handle, key: Key, limit: u32) -> Walk {
        Walk { window: WINDOW_OF_ONE, ..Walk::new(file, key, limit) }
    }

    /// The record beginning at `offset`, if one is proved there.
    pub(super) fn record_at(&mut self, offset: u32) -> io::Result<Option<Proved<'_>>> {
        let (key, limit) = (self.key, self.limit);
        let head = self.view(offset, RECORD_HEADER as usize)?;
        if head.len() < RECORD_HEADER as usize {
            return Ok(None);
        }
        let Some(length) = key.claims(head, offset, limit) else { return Ok(None) };
        let bytes = self.view(offset, length as usize)?;
        let proved = bytes.len() == length as usize && key.proves(bytes, offset);
        Ok(proved.then(|| Proved::of(bytes, offset)))
    }

    /// Bytes that something at `offset` says to be as a record of this segment; 0 where it does not look like one.
    pub(super) fn claimed_at(&mut self, offset: u32) -> io::Result<u32> {
        let (key, limit) = (self.key, self.limit);
        let head = self.view(offset, RECORD_HEADER as usize)?;
        let whole = head.len() == RECORD_HEADER as usize;
        Ok(if whole { key.claims(head, offset, limit).unwrap_or(0) } else { 0 })
    }

    /// Where the next proved record at or after `from` begins.
    pub(super) fn resync(&mut self, from: u32) -> io::Result<Option<u32>> {
        let mut at = from.next_multiple_of(ALIGN);
        while let Some(candidate) = self.candidate(at)? {
            if self.record_at(candidate)?.is_some() {
                return Ok(Some(candidate));
            }
            at = candidate + ALIGN;
        }
        Ok(None)
    }

    /// Where something at or after `from` has the looks of this segment's records.
    fn candidate(&mut self, from: u32) -> io::Result<Option<u32>> {
        let (key, limit) = (self.key, self.limit);
        let tag = memmem::Finder::new(&key.tag);
        let mut at = from;
        loop {
            let bytes = self.view(at, WINDOW)?;
            let heads = (bytes.len() + 1).saturating_sub(RECORD_HEADER as usize);
            if heads == 0 {
                return Ok(None);
            }
            let looks = |step: &usize| {
                let step = *step;
                step.is_multiple_of(ALIGN as usize) && key.claims(&bytes[step..], at + step as u32, limit).is_some()
            };
            // Overlapping finds are left out, but two tags a record apart never overlap.
            let mut tagged = tag.find_iter(&bytes[TAG..heads + TAG + 2]);
            if let Some(step) = tagged.find(looks) {
                return Ok(Some(at + step as u32));
            }
            at += heads.next_multiple_of(ALIGN as usize) as u32;
        }
    }

    /// `length` bytes at `offset`; fewer only where the file or the limit ends.
    fn view(&mut self, offset: u32, length: usize) -> io::Result<&[u8]> {
        let length = length.min(self.limit.saturating_sub(offset) as usize);
        let held = offset >= self.start && offset as usize + length <= self.start as usize + self.bytes.len();
        if !held {
            self.fill(offset, length)?;
        }
        let from = (offset - self.start) as usize;
        let to = (from + length).min(self.bytes.len());
        Ok(&self.bytes[from.min(to)..to])
    }

    fn fill(&mut self, offset: u32, length: usize) -> io::Result<()> {
        let wanted = length.max(self.window).min(self.limit.saturating_sub(offset) as usize);
        self.bytes.resize(wanted, 0);
        self.start = offset;
        let filled = files::read_full(&*self.file, &mut self.bytes, u64::from(offset));
        self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(|_| ())
    }
}

/// A stretch in which no record is proved, between the sequences around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) sequences: (Option<u64>, Option<u64>),
}

/// Everything proved in one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Survey {
    pub(super) records: u64,
    pub(super) first: Option<u64>,
    pub(super) last: Option<u64>,
    pub(super) highest: Option<u64>,
    /// After the last proved record.
    pub(super) end: u32,
    /// The highest `durable_to` any of them carries.
    pub(super) durable_to: u32,
    /// Between proved records; what follows the last is not among them.
    pub(super) gaps: Vec<Gap>,
}

impl Survey {
    /// Goes through the segment from its header to the walk's limit.
    pub(super) fn of(walk: &mut Walk) -> io::Result<Survey> {
        let mut survey = Survey { end: SEGMENT_HEADER, durable_to: SEGMENT_HEADER, ..Survey::default() };
        loop {
            if let Some(record) = walk.record_at(survey.end)? {
                survey.note(&record);
                continue;
            }
            let Some(to) = walk.resync(survey.end + ALIGN)? else { return Ok(survey) };
            let Some(record) = walk.record_at(to)? else { return Ok(survey) };
            let sequences = (survey.last, Some(record.sequence));
            survey.gaps.push(Gap { from: survey.end, to, sequences });
            survey.note(&record);
        }
    }

    fn note(&mut self, record: &Proved<'_>) {
        self.records += 1;
        self.first = self.first.or(Some(record.sequence));
        self.last = Some(record.sequence);
        self.highest = self.highest.max(Some(record.sequence));
        self.durable_to = self.durable_to.max(record.durable_to);
        self.end = record.next;
    }
}
