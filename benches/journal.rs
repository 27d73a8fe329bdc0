//! What the journal costs: a batch appended, a batch appended and synced, records scanned, an empty journal opened.

#![allow(clippy::expect_used)]

use cannula::store::journal::{Journal, Options, Position, Record};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tempfile::TempDir;

const PAYLOAD: usize = 4096;
const START: Position = Position { segment: 0, offset: 0 };

fn opened() -> (TempDir, Journal) {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk measured");
    let journal = Journal::open(directory.path(), Options::default()).expect("an empty journal opens");
    (directory, journal)
}

fn batch(records: usize) -> Vec<Record> {
    let payload = bytes::Bytes::from((0..PAYLOAD).map(|at| at as u8).collect::<Vec<u8>>());
    (1..=records as u64).map(|sequence| Record { sequence, kind: 1, payload: payload.clone() }).collect()
}

fn append(journal: &mut Journal, batch: &[Record], sync: bool) {
    black_box(journal.append(batch).expect("there is room"));
    if sync {
        journal.sync().expect("the disk takes it");
    }
    let segment = journal.end().segment;
    if segment - journal.segments()[0].segment >= 4 {
        journal.release_before(segment).expect("segments are given up");
    }
}

fn appending(criterion: &mut Criterion) {
    for sync in [false, true] {
        let mut group = criterion.benchmark_group(if sync { "append and sync" } else { "append" });
        for records in [1, 16, 64] {
            let (_directory, mut journal) = opened();
            let batch = batch(records);
            group.throughput(Throughput::Elements(records as u64));
            group.bench_function(format!("{records} x 4 KiB"), |bencher| {
                bencher.iter(|| append(&mut journal, &batch, sync));
            });
        }
        group.finish();
    }
}

fn scanning(criterion: &mut Criterion) {
    let (_directory, mut journal) = opened();
    let batch = batch(4096);
    journal.append(&batch).expect("there is room");
    let reader = journal.reader();
    let mut group = criterion.benchmark_group("scan");
    group.throughput(Throughput::Elements(batch.len() as u64));
    group.bench_function("4096 x 4 KiB", |bencher| bencher.iter(|| reader.scan(START).filter(Result::is_ok).count()));
    group.finish();
}

fn opening(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    group.sample_size(10);
    group.bench_function("empty", |bencher| bencher.iter_batched(|| (), |()| opened(), BatchSize::PerIteration));
    group.finish();
}

criterion_group!(benches, appending, scanning, opening);
criterion_main!(benches);
