//! The API and what operators do with it: pause, look, retry, replay, reload; and that patients are not in it.

use std::{fs, time::Duration};

use mllp_test::{Sink, SinkConfig, send::Client};
use serde_json::Value;

use crate::engine::Site;

/// Stands for a patient; must never be seen outside the message.
const CANARY: &str = "ZYXCANARY";

fn message(id: &str) -> String {
    format!(
        "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|{id}|P|2.6|||AL|NE\rPID|||{CANARY}^^^H^MR||{CANARY}^A\rOBR|1||1|1^X^MDC|||20260105101112+0000\r"
    )
}

fn to_legacy(sink: &Sink) -> String {
    let address = sink.address();
    format!(
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"legacy\"\ntype = \"mllp\"\naddress = \"{address}\"\nretry = {{ first = \"20ms\", max = \"100ms\" }}\n"
    )
}

async fn send(site: &Site, id: &str) {
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    assert!(client.send(message(id).as_bytes()).await.unwrap().is_positive());
}

fn waiting(site: &Site) -> Value {
    site.json("/api/channels/pumps")["destinations"][0]["waiting"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_destination_keeps_its_messages_over_a_restart_until_it_is_resumed() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &to_legacy(&sink))]);
    site.start();
    assert_eq!(site.post("/api/channels/pumps/destinations/legacy/pause").0, 204);
    send(&site, "1").await;
    assert_eq!(waiting(&site), 1);
    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    site.start();
    assert_eq!(waiting(&site), 1);
    assert_eq!(site.json("/api/channels/pumps")["destinations"][0]["state"], "paused");
    let (status, why) = site.post("/api/channels/pumps/destinations/legacy/park");
    assert!(status == 409 && why.contains("nothing to park"), "{status} {why}");
    assert_eq!(site.post("/api/channels/pumps/destinations/legcy/park").0, 404);
    assert_eq!(site.post("/api/channels/pumps/destinations/legacy/resume").0, 204);
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_message_becomes_a_dead_letter_that_can_be_sent_again() {
    let script = mllp_test::script::Script::parse(["nth=1:AE"]).unwrap();
    let sink = Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap();
    let mut site = Site::new(&[("pumps", &to_legacy(&sink))]);
    site.start();
    send(&site, "1").await;
    tokio::task::block_in_place(|| site.drained());
    let dead = site.json("/api/dead");
    let entry = dead["items"][0]["entry"].as_u64().unwrap_or_else(|| panic!("{dead}\n{}", site.log()));
    assert!(dead["items"][0]["reason"].as_str().unwrap().contains("102"), "{dead}");
    let (status, told) = site.post(&format!("/api/dead/{entry}/retry"));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["lane"]["delivered"], &told["lane"]["waiting"]), (200, &0.into(), &0.into()), "{told}");
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(site.json("/api/dead")["items"], Value::Array(Vec::new()));
    let id = site.json("/api/messages")["items"][0]["id"].clone();
    let timeline = site.json(&format!("/api/messages/{id}"))["timeline"].clone();
    let told: Vec<&str> = timeline.as_array().unwrap().iter().map(|event| event["what"].as_str().unwrap()).collect();
    for what in ["received", "dead", "retried", "accepted"] {
        assert!(told.contains(&what), "{what} is not in {told:?}");
    }
    let (replayed, _) = site.post(&format!("/api/messages/{id}/replay"));
    assert_eq!(replayed, 200);
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(site.json("/api/messages?state=delivered")["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_sent_again_says_what_it_comes_after() {
    let script = mllp_test::script::Script::parse(["nth=1:AE"]).unwrap();
    let sink = Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap();
    let mut site = Site::new(&[("pumps", &to_legacy(&sink))]);
    site.start();
    for id in ["1", "2", "3"] {
        send(&site, id).await;
    }
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(site.post("/api/channels/pumps/destinations/legacy/pause").0, 204);
    send(&site, "4").await;
    let dead = site.json("/api/dead");
    let entry = dead["items"][0]["entry"].to_string();
    let (code, told, fault) = tokio::task::block_in_place(|| site.command(&["dead", "retry", &entry]));
    assert_eq!(code, 0, "{fault}");
    assert!(
        told.contains("out of order: 2 messages of its lane that came after it were delivered to legacy already"),
        "{told}"
    );
    assert!(told.contains("1 message of its lane that came after it"), "{told}");
    let (code, _, fault) = tokio::task::block_in_place(|| site.command(&["dead", "retry", &entry]));
    assert!(code == 1 && fault.contains("no dead letter"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_patient_is_in_logs_metrics_lists_or_errors_and_each_look_is_written_down() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &to_legacy(&sink))]);
    site.start();
    send(&site, "1").await;
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    let refusal = client.send(message("2").replace("|P|2.6", "|P|9.9").as_bytes()).await.unwrap();
    assert!(!refusal.is_positive());
    tokio::task::block_in_place(|| site.drained());
    let id = site.json("/api/messages")["items"][0]["id"].clone();
    let seen = [
        site.log(),
        site.get("/metrics").unwrap().1,
        site.get("/api/messages").unwrap().1,
        site.get(&format!("/api/messages/{id}")).unwrap().1,
        site.get("/api/channels").unwrap().1,
        site.get("/api/devices").unwrap().1,
        site.get("/api/messages?patient=nobody&surplus=1").unwrap().1,
    ];
    for text in &seen {
        assert!(!text.contains(CANARY), "{text}");
    }
    assert!(seen[1].contains("cannula_messages_received_total{channel=\"pumps\"} 2"), "{}", seen[1]);
    let found = site.json(&format!("/api/messages?patient={CANARY}"));
    assert_eq!(found["items"].as_array().unwrap().len(), 1);
    assert!(site.get(&format!("/api/messages/{id}/raw")).unwrap().1.contains(CANARY));
    let audit = site.json("/api/audit");
    assert_eq!(audit["items"][0]["action"], "message.raw", "{audit}");
    assert_eq!(site.command(&["audit", "verify"]).0, 0);
    assert!(!fs::read_to_string(site.path("store/audit.ndjson")).unwrap().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_connections_and_a_faulty_one_changes_nothing() {
    let (first, second) = (
        Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap(),
        Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap(),
    );
    let mut site = Site::new(&[("pumps", &to_legacy(&first))]);
    site.start();
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    assert!(client.send(message("1").as_bytes()).await.unwrap().is_positive());
    tokio::task::block_in_place(|| site.drained());
    site.write_channel("pumps", "[listener]\nadress = \"127.0.0.1:1\"\n");
    let (status, faults) = site.post("/api/reload");
    assert_eq!(status, 422, "{faults}");
    assert!(faults.contains("adress") && faults.contains("address"), "{faults}");
    assert!(client.send(message("2").as_bytes()).await.unwrap().is_positive());
    tokio::task::block_in_place(|| site.drained());
    site.write_channel("pumps", &to_legacy(&second));
    assert_eq!(site.post("/api/reload").0, 200);
    assert!(client.send(message("3").as_bytes()).await.unwrap().is_positive(), "the connection did not stay");
    tokio::task::block_in_place(|| site.drained());
    assert_eq!((first.account().unnamed, second.account().unnamed), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_cannula_toml_the_defaults_hold_and_a_channel_added_later_is_loaded() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let Some(mut site) = Site::without_configuration() else { return };
    site.start();
    site.write_channel("pumps", &to_legacy(&sink));
    assert_eq!(site.post("/api/reload").0, 200, "{}", site.log());
    send(&site, "1").await;
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 1);
}

#[test]
fn a_name_nobody_knows_is_an_error_and_not_an_empty_list() {
    let one =
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"copy\"\ntype = \"file\"\ndirectory = \"out\"\n";
    let mut site = Site::new(&[("pumps", one)]);
    site.start();
    for path in [
        "/api/messages?channel=pmps",
        "/api/dead?channel=pmps",
        "/api/channels/pmps",
        "/api/messages/7",
        "/api/messages/x",
    ] {
        let (status, body) = site.get(path).unwrap();
        assert!((status == 404 || status == 400) && body.contains("\"detail\""), "{path}: {status} {body}");
    }
    assert_eq!(site.post("/api/messages/7/replay").0, 404);
    assert_eq!(site.get("/api/messages?channel=pumps").unwrap().0, 200);
}
