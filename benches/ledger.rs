//! What a checkpoint costs: the ledger's image of so many new messages, made, written in one batch and synced. It is
//! measured as the close of a store that has written no checkpoint yet.

#![allow(clippy::expect_used)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cannula::{
    clock::Clock,
    metrics::Metrics,
    store::{DiskStore, Options, Received, RepeatCheck, Route, SearchKeys, Store},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

const CHANNEL: &str = "pumps";

fn received(number: u64) -> Received {
    let name = |what: &str| format!("{what}{}", number % 256).into_bytes();
    let control_id = number.to_be_bytes().to_vec();
    let window = Duration::from_secs(24 * 3600);
    Received {
        channel: CHANNEL.into(),
        at: "2026-03-01T11:00:05Z".parse().expect("a time"),
        message: Bytes::from(vec![b'x'; 256]),
        routes: vec![Route { destination: "ehr".into(), lane: (number % 8) as u16 }],
        repeat: Some(RepeatCheck { key: control_id.clone(), window, content: None }),
        ack: None,
        keys: SearchKeys { control_id, patient: vec![name("patient")], device: vec![name("device")] },
        findings: Vec::new(),
    }
}

/// How long the close takes of a store with so many messages that wait.
fn close(runtime: &Runtime, messages: u64) -> Duration {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory on the disk measured");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let options = Options { checkpoint_records: u64::MAX, checkpoint_bytes: u64::MAX, ..Options::default() };
    let store = DiskStore::open(directory.path(), options, metrics, Clock::system()).expect("an empty store opens");
    runtime.block_on(async {
        try_join_all((0..messages).map(|number| store.append(received(number)))).await.expect("there is room");
        let begun = Instant::now();
        store.close().await.expect("the disk takes it");
        begun.elapsed()
    })
}

fn checkpoint(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(10);
    for messages in [256, 8_192, 32_768] {
        group.throughput(Throughput::Elements(messages));
        group.bench_function(format!("checkpoint of {messages} messages"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| close(&runtime, messages)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, checkpoint);
criterion_main!(benches);
