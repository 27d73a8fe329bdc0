//! The bytes of segment headers and records: encoding, and decoding that proves before it believes.
//! A byte that was not proved by a checksum of its own segment's generation never leaves this module.

use super::{JournalError, Record};
use std::hash::{BuildHasher, RandomState};

/// Bytes of a segment header; the first record follows.
pub(super) const SEGMENT_HEADER: u32 = 128;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEADER: u32 = 24;
/// Where in a record's header the bytes of its segment's generation are.
pub(super) const TAG: usize = 13;
/// Records begin at multiples of this.
pub(super) const ALIGN: u32 = 8;

const MAGIC: [u8; 8] = *b"CANNULAJ";
const VERSION: u32 = 1;
const FLAG_LOST: u32 = 1;
const FLAG_WHOLE: u32 = 2;

/// What a segment's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Bytes the segment may take.
    pub(super) size: u32,
    pub(super) number: u64,
    /// Random; a new one each time a file begins a new life.
    pub(super) generation: u64,
    /// Where the segment before this one ends; 0 where there is none.
    pub(super) previous_end: u32,
    /// Stands in for a segment that was lost, and holds no records.
    pub(super) lost: bool,
    /// Its file was as long as the segment from the start: a shorter one was truncated.
    pub(super) whole: bool,
    /// Of the segment before this one; meaningless where that one is empty.
    pub(super) previous_first: u64,
    pub(super) previous_last: u64,
    /// Highest sequence in all segments before.
    pub(super) highest: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.previous_end.to_le_bytes());
        let flags = (u32::from(self.lost) * FLAG_LOST) | (u32::from(self.whole) * FLAG_WHOLE);
        bytes[36..40].copy_from_slice(&flags.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous_first.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous_last.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.highest.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..124]);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `Err` says what is wrong.
    pub(super) fn decode(bytes: &[u8]) -> Result<SegmentHeader, &'static str> {
        if bytes.len() < SEGMENT_HEADER as usize {
            return Err("shorter than a segment header");
        }
        if bytes[..8] != MAGIC {
            return Err("not a journal segment");
        }
        if crc32c::crc32c(&bytes[..124]) != u32_at(bytes, 124) {
            return Err("the segment header fails its checksum");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("written by a version of the journal this one does not read");
        }
        Ok(SegmentHeader {
            size: u32_at(bytes, 12),
            number: u64_at(bytes, 16),
            generation: u64_at(bytes, 24),
            previous_end: u32_at(bytes, 32),
            lost: u32_at(bytes, 36) & FLAG_LOST != 0,
            whole: u32_at(bytes, 36) & FLAG_WHOLE != 0,
            previous_first: u64_at(bytes, 40),
            previous_last: u64_at(bytes, 48),
            highest: u64_at(bytes, 56),
        })
    }

    pub(super) fn key(&self) -> Key {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.generation.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        let tag = self.generation.to_le_bytes();
        Key { seed: crc32c::crc32c(&bytes), tag: [tag[0], tag[1], tag[2]] }
    }
}

/// What ties a record to the one life of the one segment it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    seed: u32,
    /// Never of zeros alone, so that a search for it passes over what is only prepared.
    pub(super) tag: [u8; 3],
}

impl Key {
    /// Appends the record as it stands at `offset`; `durable_to` is how far the segment was known durable by then.
    pub(super) fn encode(&self, record: &Record, offset: u32, durable_to: u32, out: &mut Vec<u8>) {
        let start = out.len();
        let length = RECORD_HEADER + record.payload.len() as u32;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&durable_to.to_le_bytes());
        out.push(record.kind);
        out.extend_from_slice(&self.tag);
        out.extend_from_slice(&record.sequence.to_le_bytes());
        out.extend_from_slice(&record.payload);
        out.resize(start + padded(length) as usize, 0);
        let crc = self.checksum(offset, length, &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Whether `head`, the first 16 bytes or more of something at `offset`, could begin a record: its padded length.
    pub(super) fn claims(&self, head: &[u8], offset: u32, limit: u32) -> Option<u32> {
        let length = u32_at(head, 0);
        if length < RECORD_HEADER || head[TAG..TAG + 3] != self.tag {
            return None;
        }
        let room = limit.checked_sub(offset)?;
        (length <= room && padded(length) <= room).then(|| padded(length))
    }

    /// `bytes` are the claimed ones, padding included.
    pub(super) fn proves(&self, bytes: &[u8], offset: u32) -> bool {
        self.checksum(offset, u32_at(bytes, 0), &bytes[8..]) == u32_at(bytes, 4)
    }

    fn checksum(&self, offset: u32, length: u32, rest: &[u8]) -> u32 {
        let mut place = [0; 8];
        place[..4].copy_from_slice(&offset.to_le_bytes());
        place[4..].copy_from_slice(&length.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c_append(self.seed, &place), rest)
    }
}

/// A proved record, borrowed from where it was read into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proved<'a> {
    pub(super) durable_to: u32,
    pub(super) kind: u8,
    pub(super) sequence: u64,
    pub(super) payload: &'a [u8],
    /// Where the next record would begin.
    pub(super) next: u32,
}

impl<'a> Proved<'a> {
    /// Of bytes that `Key::proves` said yes to.
    pub(super) fn of(bytes: &'a [u8], offset: u32) -> Proved<'a> {
        Proved {
            durable_to: u32_at(bytes, 8),
            kind: bytes[12],
            sequence: u64_at(bytes, 16),
            payload: &bytes[RECORD_HEADER as usize..u32_at(bytes, 0) as usize],
            next: offset + bytes.len() as u32,
        }
    }

    pub(super) fn record(&self) -> Record {
        Record { sequence: self.sequence, kind: self.kind, payload: bytes::Bytes::copy_from_slice(self.payload) }
    }
}

/// Bytes a record takes in a segment of `segment_bytes`.
pub(super) fn record_bytes(record: &Record, segment_bytes: u32) -> Result<u32, JournalError> {
    if record.payload.len() > payload_bytes_max(segment_bytes) {
        return Err(JournalError::TooLarge);
    }
    Ok(padded(RECORD_HEADER + record.payload.len() as u32))
}

/// The longest payload a segment of this size takes.
pub(super) fn payload_bytes_max(segment_bytes: u32) -> usize {
    (segment_bytes / ALIGN * ALIGN).saturating_sub(SEGMENT_HEADER + RECORD_HEADER) as usize
}

/// A generation nobody can guess, so that no sender can put valid records into a message.
pub(super) fn new_generation() -> u64 {
    RandomState::new().hash_one(std::process::id()) | 1
}

fn padded(length: u32) -> u32 {
    length.div_ceil(ALIGN) * ALIGN
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
