#![allow(clippy::unwrap_used, clippy::expect_used)]

mod basics;
mod crashes;
mod damage;
mod faults;

use super::*;
use std::fs::{self, File};
use tempfile::TempDir;

/// Segments so small that a few records roll.
const SMALL: Options = Options { segment_bytes: 4096, bytes_max: 1 << 20 };

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &TempDir) -> Journal {
    Journal::open(directory.path(), SMALL).unwrap()
}

/// A record of `bytes` bytes, none of them zero, that differ from sequence to sequence.
fn record(sequence: u64, bytes: usize) -> Record {
    let payload: Vec<u8> = (0..bytes as u64).map(|at| ((sequence * 31 + at * at) % 255) as u8 + 1).collect();
    Record { sequence, kind: (sequence % 7) as u8, payload: payload.into() }
}

fn records(sequences: std::ops::Range<u64>, bytes: usize) -> Vec<Record> {
    sequences.map(|sequence| record(sequence, bytes)).collect()
}

fn store(journal: &mut Journal, records: &[Record]) -> Vec<Position> {
    let positions = journal.append(records).unwrap();
    journal.sync().unwrap();
    positions
}

const START: Position = Position { segment: 0, offset: 0 };

fn all(journal: &Journal) -> Vec<Record> {
    journal.reader().scan(START).map(|found| found.unwrap().1).collect()
}

fn segment_file(directory: &TempDir, number: u64) -> PathBuf {
    segment_path(directory.path(), number)
}
