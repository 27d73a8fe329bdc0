//! The whole table of bad input against the built engine, with the channels that `mllp-test spec` prints for it, and its
//! outbound rows against a lane of the engine's.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mllp_test::{
    MessageId, Sink, SinkConfig,
    send::Client,
    spec::{self, Addresses, Options, OutboundOptions, Report, Splits, Verdict},
};

use crate::engine::Site;

/// The bound on each answer and on each message that is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// A site with the printed channels, and where they listen.
fn site() -> (Site, Addresses) {
    let site = Site::new(&[]);
    let at = |port| SocketAddr::new(site.listener.ip(), port).to_string();
    let addresses =
        Addresses { usual: at(2575), strict: at(2576), batch: at(2578), feed: at(2577), outbound: at(6661) };
    for (name, text) in spec::channels(&addresses) {
        site.write_channel(name, &text);
    }
    (site, addresses)
}

fn told(report: &Report) -> String {
    format!("{}\n{}", report.summary(), report.failures())
}

/// Rows that were left out though they should have been run.
fn skipped(report: &Report) -> Vec<&str> {
    let skipped = report.rows.iter().filter(|row| matches!(row.verdict, Verdict::Skip(_)));
    skipped.map(|row| row.row.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_passes_every_row_of_the_bad_input_table_whole_and_cut_at_many_places() {
    let (mut site, addresses) = site();
    tokio::task::block_in_place(|| site.start());
    let (mut small, small_addresses) = small_site();
    tokio::task::block_in_place(|| small.start());
    let options = Options {
        full: Some(small_addresses.feed),
        strict: Some(addresses.strict),
        batch: Some(addresses.batch),
        ack_timeout: PATIENCE,
        splits: Splits::Some(24),
        jobs: 16,
        frame_timeout: Some(Duration::from_secs(5)),
        write_timeout: Some(Duration::from_secs(3)),
        max_connections: Some(128),
        pid: Some(site.pid()),
        ..Options::to(addresses.usual)
    };
    let report = spec::run(&options, |_| ()).await;
    assert!(report.is_clean() && report.counts()[0] > 150, "{}\n{}", told(&report), site.log());
    // TLS is not configured here.
    assert_eq!(skipped(&report), ["27", "28", "28", "29", "29", "29", "30"]);
    assert!(!site.log().contains("panic"), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_as_sender_passes_every_outbound_row() {
    let (mut site, addresses) = site();
    tokio::task::block_in_place(|| site.start());
    let options = OutboundOptions {
        listen: addresses.outbound,
        feed: Some(addresses.feed),
        only: Vec::new(),
        sender_timeout: Duration::from_secs(1),
        patience: PATIENCE,
    };
    let report = spec::run_outbound(&options, |_| ()).await.unwrap();
    assert!(report.is_clean() && report.rows.len() == 12, "{}\n{}", told(&report), site.log());
}

/// The same with a store that is soon full.
fn small_site() -> (Site, Addresses) {
    let (site, addresses) = site();
    let engine = fs::read_to_string(site.path("cannula.toml")).unwrap();
    let small = "[store]\nsegment_bytes = \"1MiB\"\nmax_bytes = \"24MiB\"\nretain = \"0s\"\n";
    let engine = engine.replace("[store]\n", small) + "[limits]\nhold_when_full = \"1s\"\n";
    fs::write(site.path("cannula.toml"), engine).unwrap();
    for (name, text) in spec::channels(&addresses) {
        site.write_channel(name, &text.replace("[listener]\n", "[listener]\nmax_message = \"512KiB\"\n"));
    }
    (site, addresses)
}

/// A message of 100 kB, so that a small store is soon full.
fn large(number: u32) -> Vec<u8> {
    let (id, pad) = (MessageId { run: 1, sender: 0, seq: u64::from(number) + 1 }, "x".repeat(100_000));
    format!(
        "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|{id}|P|2.6|||AL|NE\rPID|||1^^^H^MR\rOBR|1||1|1^X^MDC|||20260105101112+0000\rNTE|1||{pad}\r"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_refuses_a_good_message_as_the_table_says_and_takes_it_once_there_is_room() {
    let (mut site, addresses) = small_site();
    tokio::task::block_in_place(|| site.start());
    let mut client = Client::connect(&addresses.feed, PATIENCE).await.unwrap();
    let mut number = 0;
    while client.send(&large(number)).await.unwrap().is_positive() {
        number += 1;
        assert!(number < 1_000, "the store is never full:\n{}", site.log());
    }
    let options = Options { ack_timeout: PATIENCE, full: Some(addresses.feed), only: vec![84], ..Options::to("") };
    let report = spec::run(&options, |_| ()).await;
    assert_eq!(report.counts(), [1, 0, 0], "{}", told(&report));
    assert!(report.rows[0].answer.contains("207"), "{}", report.rows[0].in_full());

    let sink = Sink::start(&addresses.outbound, SinkConfig::default()).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while !client.send(&large(number)).await.unwrap().is_positive() {
        assert!(Instant::now() < until, "there is no room again:\n{}", site.log());
    }
    tokio::task::block_in_place(|| site.drained());
    let account = sink.account();
    assert_eq!((account.received, account.unnamed), (u64::from(number) + 1, 0), "each that was taken, and no other");
}
