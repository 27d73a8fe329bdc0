//! The write log, on logs made by hand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

const SECTOR: usize = 512;

/// A log and a disk of eight sectors in a folder of their own.
struct Bench {
    folder: PathBuf,
    log: Vec<u8>,
    entries: u64,
}

impl Bench {
    fn new() -> Bench {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("write-log-{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        Bench { folder, log: vec![0; SECTOR], entries: 0 }
    }

    fn entry(mut self, first: u64, sectors: u64, flags: u64) -> Bench {
        let head: Vec<u8> = [first, sectors, flags, 0].iter().flat_map(|number| number.to_le_bytes()).collect();
        self.log.extend(head);
        self.log.resize(self.log.len().next_multiple_of(SECTOR), 0);
        self.entries += 1;
        self
    }

    fn write(self, first: u64, bytes: &[u8], flags: u64) -> Bench {
        let mut bench = self.entry(first, bytes.len() as u64, flags);
        bytes.iter().for_each(|&byte| bench.log.extend([byte; SECTOR]));
        bench
    }

    fn log(&mut self, counted: u64) -> io::Result<WriteLog> {
        self.log[..8].copy_from_slice(&MAGIC.to_le_bytes());
        self.log[8..16].copy_from_slice(&VERSION.to_le_bytes());
        self.log[16..24].copy_from_slice(&counted.to_le_bytes());
        self.log[24..28].copy_from_slice(&(SECTOR as u32).to_le_bytes());
        fs::write(self.folder.join("log"), &self.log).unwrap();
        WriteLog::open(&self.folder.join("log"))
    }

    /// The first byte of each sector of a disk of `9`s after `rebuild`.
    fn disk(&self, rebuild: impl FnOnce(&Path) -> io::Result<Rebuilt>) -> (Rebuilt, [u8; 8]) {
        let disk = self.folder.join("disk");
        fs::write(&disk, [9; 8 * SECTOR]).unwrap();
        let rebuilt = rebuild(&disk).unwrap();
        let bytes = fs::read(&disk).unwrap();
        assert_eq!(bytes.len(), 8 * SECTOR);
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|&byte| byte == sector[0])));
        (rebuilt, std::array::from_fn(|sector| bytes[sector * SECTOR]))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Two writes made durable, one that is not, one that is by itself, another that is not.
fn usual() -> Bench {
    Bench::new()
        .write(0, &[1, 2], 0)
        .write(1, &[3], 0)
        .entry(0, 0, FLUSH)
        .write(2, &[4, 4], 0)
        .write(5, &[5], FUA)
        .write(6, &[6], 0)
}

#[test]
fn what_came_after_the_last_flush_is_lost_but_for_writes_that_are_durable_by_themselves() {
    let mut bench = usual();
    let log = bench.log(6).unwrap();
    assert_eq!(log.flushes(), 1);
    let (rebuilt, disk) = bench.disk(|disk| log.replay(disk));
    assert_eq!(disk, [1, 3, 9, 9, 9, 5, 9, 9]);
    assert_eq!(rebuilt, Rebuilt { applied: 3, lost: 2, torn: 0 });
}

#[test]
fn without_a_flush_nothing_is_sure() {
    let mut bench = Bench::new().write(0, &[1], 0).entry(3, 1, DISCARD);
    let log = bench.log(2).unwrap();
    let (rebuilt, disk) = bench.disk(|disk| log.replay(disk));
    assert_eq!((rebuilt.lost, disk), (2, [9; 8]));
}

#[test]
fn a_discard_before_a_flush_reads_as_zeros() {
    let mut bench = Bench::new().entry(3, 2, DISCARD).write(4, &[7], 0).entry(0, 0, FLUSH);
    let log = bench.log(3).unwrap();
    assert_eq!(bench.disk(|disk| log.replay(disk)).1, [9, 9, 9, 0, 7, 9, 9, 9]);
}

#[test]
fn entries_the_super_block_has_not_counted_yet_are_read() {
    let mut bench = usual();
    assert_eq!(bench.log(0).unwrap().entries.len(), 6);
}

#[test]
fn a_write_that_carries_a_flush_is_not_covered_by_it() {
    let mut bench = Bench::new().write(0, &[1], 0).write(1, &[2], FLUSH);
    let log = bench.log(2).unwrap();
    assert_eq!(bench.disk(|disk| log.replay(disk)).1, [1, 9, 9, 9, 9, 9, 9, 9]);
}

#[test]
fn a_cache_written_back_in_part_tears_only_what_no_flush_covered() {
    let mut bench = usual();
    for number in 0..UNSURE as u64 {
        bench = bench.write(7, &[number as u8], 0);
    }
    let log = bench.log(0).unwrap();
    let mut turn = 0;
    let every_other = || {
        turn += 1;
        turn % 2 == 1
    };
    let (rebuilt, disk) = bench.disk(|disk| log.replay_torn(disk, every_other));
    assert_eq!(disk, [1, 3, 4, 9, 9, 5, 6, 9]);
    assert_eq!(rebuilt, Rebuilt { applied: 4, lost: UNSURE, torn: 1 });
}

#[test]
fn what_is_no_write_log_is_refused() {
    let bench = Bench::new();
    for bytes in [vec![], vec![0; 2 * SECTOR]] {
        fs::write(bench.folder.join("log"), bytes).unwrap();
        assert!(WriteLog::open(&bench.folder.join("log")).is_err());
    }
    let mut odd = Bench::new().entry(0, 1, 1 << 20);
    assert_eq!(odd.log(1).unwrap_err().kind(), ErrorKind::InvalidData);
    let mut far = Bench::new().entry(0, u64::MAX, 0);
    assert_eq!(far.log(1).unwrap_err().kind(), ErrorKind::InvalidData);
}
