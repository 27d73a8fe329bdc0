//! The write log of a block device, in the format that qemu's `blklogwrites` and Linux's dm-log-writes share: each
//! write, discard and FLUSH in the order in which the device was given them.
//!
//! From it a disk is rebuilt as a power cut may leave it. What a FLUSH covered must be there whole; what came later may
//! be there, missing, or there in part, by sectors.
//!
//! ```text
//! super    0 u64 magic   8 u64 version = 1   16 u64 entries, when last counted   24 u32 sector size   zeros to a sector
//! entry    0 u64 first sector   8 u64 sectors   16 u64 flags   24 u64 length (unused)   zeros to a sector
//!          then the sectors written; none for a discard
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const KNOWN: u64 = 15;

/// The part of a write that reaches the medium whole or not at all.
const TORN_AT: u64 = 512;

/// Writes at the log's end that are not used: the cut that ends the log may have torn the log itself there.
const UNSURE: usize = 64;

/// One entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Byte on the disk.
    at: u64,
    length: u64,
    /// Where its bytes are in the log; `None` is a discard, which reads as zeros.
    source: Option<u64>,
    /// Everything before this entry is on the medium.
    flush: bool,
    /// This write is on the medium by itself.
    durable: bool,
}

/// A log with all its entries.
#[derive(Debug)]
pub struct WriteLog {
    file: File,
    entries: Vec<Entry>,
    /// Entries before this one are on the medium.
    durable: usize,
}

/// What a rebuilt disk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebuilt {
    /// Writes that are on it whole.
    pub applied: usize,
    /// Writes after the last FLUSH that are not.
    pub lost: usize,
    /// Writes after the last FLUSH of which some sectors are.
    pub torn: usize,
}

impl WriteLog {
    /// Reads the headers of all entries, those the super block has not counted yet included.
    pub fn open(path: &Path) -> io::Result<WriteLog> {
        let file = File::open(path)?;
        let sector = sector_size(&file)?;
        let (mut at, mut entries) = (sector, Vec::new());
        while let Some(entry) = entry(&file, at, sector)? {
            at += sector + entry.source.map_or(0, |_| entry.length);
            entries.push(entry);
        }
        let durable = entries.iter().rposition(|entry| entry.flush).unwrap_or(0);
        Ok(WriteLog { file, entries, durable })
    }

    /// How many FLUSH there were.
    pub fn flushes(&self) -> usize {
        self.entries.iter().filter(|entry| entry.flush).count()
    }

    /// Makes `disk`, a copy of the disk as it was when the log began, what the medium held at the last FLUSH: the whole of
    /// a volatile cache is lost.
    pub fn replay(&self, disk: &Path) -> io::Result<Rebuilt> {
        self.rebuild(disk, self.entries.len(), |_| false)
    }

    /// The same, but each sector written since the last FLUSH is on the medium or not as `keeps` says, asked in the order
    /// of the writes: a cache that was written back in part.
    pub fn replay_torn(&self, disk: &Path, mut keeps: impl FnMut() -> bool) -> io::Result<Rebuilt> {
        let sure = self.entries.len().saturating_sub(UNSURE).max(self.durable);
        self.rebuild(disk, sure, |_| keeps())
    }

    fn rebuild(&self, disk: &Path, until: usize, mut keeps: impl FnMut(u64) -> bool) -> io::Result<Rebuilt> {
        let disk = OpenOptions::new().write(true).open(disk)?;
        let mut rebuilt = Rebuilt { applied: 0, lost: self.entries.len() - until, torn: 0 };
        for (number, entry) in self.entries[..until].iter().enumerate().filter(|(_, entry)| entry.length > 0) {
            if number < self.durable || entry.durable {
                self.put(&disk, entry, 0, entry.length)?;
                rebuilt.applied += 1;
                continue;
            }
            let kept = self.put_some(&disk, entry, &mut keeps)?;
            match kept * TORN_AT {
                0 => rebuilt.lost += 1,
                bytes if bytes >= entry.length => rebuilt.applied += 1,
                _ => rebuilt.torn += 1,
            }
        }
        Ok(rebuilt)
    }

    /// How many sectors were kept.
    fn put_some(&self, disk: &File, entry: &Entry, keeps: &mut impl FnMut(u64) -> bool) -> io::Result<u64> {
        let mut kept = 0;
        for at in (0..entry.length).step_by(TORN_AT as usize) {
            if keeps(entry.at + at) {
                self.put(disk, entry, at, TORN_AT.min(entry.length - at))?;
                kept += 1;
            }
        }
        Ok(kept)
    }

    fn put(&self, disk: &File, entry: &Entry, from: u64, length: u64) -> io::Result<()> {
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| broken("an entry is larger than memory"))?];
        if let Some(source) = entry.source {
            self.file.read_exact_at(&mut bytes, source + from)?;
        }
        disk.write_all_at(&bytes, entry.at + from)
    }
}

fn sector_size(log: &File) -> io::Result<u64> {
    let mut head = [0; 28];
    log.read_exact_at(&mut head, 0)?;
    let sector = u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]]));
    if number(&head, 0) != MAGIC || number(&head, 8) != VERSION {
        return Err(broken("this is no write log of version 1"));
    }
    if !sector.is_power_of_two() || sector < TORN_AT {
        return Err(broken("the write log names no possible sector size"));
    }
    Ok(sector)
}

/// The entry at this byte of the log; `None` where nothing was written.
fn entry(log: &File, at: u64, sector: u64) -> io::Result<Option<Entry>> {
    let mut head = [0; 32];
    match log.read_exact_at(&mut head, at) {
        Err(end) if end.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let (first, sectors, flags) = (number(&head, 0), number(&head, 8), number(&head, 16));
    if sectors == 0 && flags == 0 {
        return Ok(None);
    }
    let bytes = |sectors: u64| sectors.checked_mul(sector).ok_or_else(|| broken("an entry lies beyond any disk"));
    if flags & !KNOWN != 0 {
        return Err(broken("an entry has flags that are not known"));
    }
    let source = (flags & DISCARD == 0).then_some(at + sector);
    let (flush, durable) = (flags & FLUSH != 0, flags & FUA != 0);
    Ok(Some(Entry { at: bytes(first)?, length: bytes(sectors)?, source, flush, durable }))
}

fn number(head: &[u8], at: usize) -> u64 {
    head[at..at + 8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
