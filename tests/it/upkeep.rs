//! What operators do with the store: backups made beside the running engine, restoring, giving up what nobody wants.

use std::{fs, time::Duration};

use mllp_test::{Sink, SinkConfig, send::Client};
use serde_json::Value;

use crate::engine::Site;

fn message(id: &str) -> String {
    format!(
        "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|{id}|P|2.6|||AL|NE\rPID|||7^^^H^MR\rOBR|1||1|1^X^MDC|||20260105101112+0000\r"
    )
}

fn to(address: &str) -> String {
    format!(
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"legacy\"\ntype = \"mllp\"\naddress = \"{address}\"\nretry = {{ first = \"20ms\", max = \"100ms\" }}\n"
    )
}

async fn client(site: &Site) -> Client {
    Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap()
}

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_backup_under_load_is_delivered_by_the_engine_it_is_restored_to() {
    let mut site = Site::new(&[("pumps", &to(NOBODY))]);
    site.start();
    let mut lines = client(&site).await;
    for n in 0..50 {
        assert!(lines.send(message(&format!("before {n}")).as_bytes()).await.unwrap().is_positive());
    }
    let mut beside = client(&site).await;
    let load = tokio::spawn(async move {
        let mut sent = 0;
        while beside.send(message(&format!("during {sent}")).as_bytes()).await.is_ok_and(|ack| ack.is_positive()) {
            sent += 1;
        }
        sent
    });
    let directory = site.path("backup");
    let (code, told, fault) =
        tokio::task::block_in_place(|| site.command(&["store", "backup", directory.to_str().unwrap()]));
    assert_eq!(code, 0, "{fault}");
    assert!(told.contains("complete backup of"), "{told}");
    let (code, _, fault) =
        tokio::task::block_in_place(|| site.command(&["store", "backup", directory.to_str().unwrap()]));
    assert!(code == 1 && fault.contains("not empty"), "{code} {fault}");
    let audit = site.json("/api/audit").to_string();
    assert!(audit.contains("store.backup") && audit.contains("backup\""), "{audit}");
    site.kill();
    let during: u32 = load.await.unwrap();

    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut other = Site::new(&[("pumps", &to(&sink.address().to_string()))]);
    let (code, told, fault) = other.command(&["store", "restore", directory.to_str().unwrap()]);
    assert!(code == 0 && told.contains("possible repeat"), "{code} {told} {fault}");
    let (code, _, fault) = other.command(&["store", "restore", directory.to_str().unwrap()]);
    assert!(code == 1 && fault.contains("not empty"), "{code} {fault}");
    assert_eq!(other.command(&["store", "verify"]).0, 0);
    assert_eq!(other.command(&["audit", "verify"]).0, 0);
    other.start();
    tokio::task::block_in_place(|| other.drained());
    let delivered = u32::try_from(sink.account().unnamed).unwrap();
    assert!((50..=50 + during + 1).contains(&delivered), "{delivered} delivered, {during} sent beside the backup");
    let metrics = other.get("/metrics").unwrap().1;
    let marked = format!("redelivered_total{{channel=\"pumps\",destination=\"legacy\"}} {delivered}");
    assert!(metrics.contains(&marked), "all of it marked as possible repeat");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_channel_that_is_gone_is_given_up_by_a_person_and_not_before() {
    let mut site = Site::new(&[("pumps", &to(NOBODY))]);
    site.start();
    let mut lines = client(&site).await;
    for n in 0..3 {
        assert!(lines.send(message(&format!("{n}")).as_bytes()).await.unwrap().is_positive());
    }
    let discard = "/api/channels/pumps/destinations/legacy/discard-waiting";
    let (status, why) = site.post(discard);
    assert!(status == 409 && why.contains("is configured"), "{status} {why}");
    fs::remove_file(site.path("channels/pumps.toml")).unwrap();
    assert_eq!(site.post("/api/reload").0, 200);
    let channels = site.json("/api/channels").to_string();
    assert!(channels.contains("orphaned"), "{channels}");
    let (code, told, fault) = tokio::task::block_in_place(|| {
        site.command(&["dead", "discard-waiting", "--channel", "pumps", "--destination", "legacy"])
    });
    assert!(code == 0 && told.contains("unsent: 3"), "{told} {fault}");
    assert_eq!(site.json("/api/store")["waiting"], 0);
    assert_eq!(site.json("/api/messages?channel=pumps&state=discarded")["items"].as_array().map(Vec::len), Some(3));
    let audit: Value = site.json("/api/audit?limit=1");
    assert_eq!(audit["items"][0]["action"], "destination.discard-waiting", "{audit}");
    assert_eq!(site.post(discard).0, 409);
    let metrics = site.get("/metrics").unwrap().1;
    assert!(metrics.contains("cannula_given_up_total{channel=\"pumps\",destination=\"legacy\"} 3"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_keeps_a_gateway_out_is_logged_with_the_key_that_raises_it() {
    let limited = to(NOBODY).replace("address = \"LISTENER\"\n", "address = \"LISTENER\"\nmax_connections = 1\n");
    let mut site = Site::new(&[("pumps", &limited)]);
    site.start();
    let mut first = client(&site).await;
    assert!(first.send(message("m1").as_bytes()).await.unwrap().is_positive());
    assert!(client(&site).await.send(message("m2").as_bytes()).await.is_err());
    site.logged("raise listener.max_connections");
    assert!(first.send(message("m3").as_bytes()).await.unwrap().is_positive());
    let log = site.log();
    assert!(log.contains("channel=pumps") && log.contains("limit=\"connections\" times=1"), "{log}");
}
