//! The whole table of bad input against the built engine, with the channels that `mllp-test spec` prints for it, and its
//! outbound rows against a lane of the engine's.

use std::{net::SocketAddr, time::Duration};

use mllp_test::spec::{self, Addresses, Options, OutboundOptions, Report, Splits, Verdict};

use crate::engine::Site;

/// The bound on each answer and on each message that is due.
const PATIENCE: Duration = Duration::from_secs(30);

/// A site with the printed channels, and where they listen.
fn site() -> (Site, Addresses) {
    let site = Site::new(&[]);
    let at = |port| SocketAddr::new(site.listener.ip(), port).to_string();
    let addresses = Addresses { usual: at(2575), strict: at(2576), feed: at(2577), outbound: at(6661) };
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
    let options = Options {
        strict: Some(addresses.strict),
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
    // TLS and batches are not configured, and the store is not full.
    let skipped: Vec<&str> = skipped(&report).into_iter().filter(|row| *row != "66" && *row != "84").collect();
    assert_eq!(skipped, ["27", "28", "28", "29", "29", "29", "30"]);
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
