//! Devices as an operator sees them: over the API and the command line, and again after a restart.

use std::time::Duration;

use mllp_test::send::Client;
use serde_json::Value;

use crate::engine::Site;

const PATIENCE: Duration = Duration::from_secs(20);
/// Stands for a patient; must never be seen outside the message.
const CANARY: &str = "ZYXCANARY";

fn channel() -> &'static str {
    "[listener]\naddress = \"LISTENER\"\n[device]\nexpected_interval = \"1h\"\n[[destination]]\nname = \"nowhere\"\ntype = \"file\"\ndirectory = \".\"\nwhere = { \"MSH-3.1\" = \"NOBODY\" }\n"
}

fn report(device: u32, number: u32) -> String {
    let eui = format!("0A00A1FFFE10{device:04X}");
    format!(
        "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|D{device}-{number}|P|2.6|||AL|NE\rPID|||{CANARY}^^^H^MR||{CANARY}^A\rOBR|1||1|1^X^MDC|||20260105101112+0000\rOBX|1||69985^MDC_DEV_PUMP_INFUS_MDS^MDC|1.0.0.0|||||||X|||||||{eui}^^{eui}^EUI-64\rOBX|2|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|5|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R\r"
    )
}

async fn send(site: &Site, messages: impl IntoIterator<Item = (u32, u32)>) {
    let mut client = Client::connect(&site.listener.to_string(), PATIENCE).await.unwrap();
    for (device, number) in messages {
        assert!(client.send(report(device, number).as_bytes()).await.unwrap().is_positive());
    }
}

fn ids(page: &Value) -> Vec<u64> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_listed_page_by_page_filtered_and_one_by_one() {
    let mut site = Site::new(&[("pumps", channel())]);
    site.start();
    send(&site, (0..5).map(|device| (device, 1))).await;
    let first = site.json("/api/devices?limit=3");
    let second = site.json(&format!("/api/devices?limit=3&cursor={}", first["next"]));
    assert_eq!([ids(&first), ids(&second)].concat(), [1, 2, 3, 4, 5]);
    assert_eq!(second["next"], Value::Null);
    assert!(ids(&site.json("/api/devices?state=silent")).is_empty());
    assert_eq!(ids(&site.json("/api/devices?state=reporting&channel=pumps")).len(), 5);
    let one = site.json("/api/devices/1");
    assert_eq!((&one["device"], &one["expected_interval_seconds"]), (&"0A00A1FFFE100000".into(), &3600.0.into()));
    assert!(one["history"].is_array());
    for (path, status) in [
        ("/api/devices/77", 404),
        ("/api/devices/x", 400),
        ("/api/devices?state=dead", 400),
        ("/api/devices?channel=pmps", 404),
    ] {
        assert_eq!(site.get(path).unwrap().0, status, "{path}");
    }
    let (code, table, _) = site.command(&["devices", "--state", "reporting"]);
    assert_eq!((code, table.lines().count()), (0, 6), "{table}");
    assert!(table.contains("0A00A1FFFE100003") && !table.contains(CANARY), "{table}");
    let (_, cut, said) = site.command(&["devices", "--limit", "2"]);
    assert!(cut.lines().count() == 3 && said.contains("2 shown, and there may be more"), "{cut}{said}");
    let (code, list, said) = site.command(&["devices", "--json"]);
    assert_eq!(said, "", "all are shown");
    assert_eq!((code, serde_json::from_str::<Value>(&list).unwrap().as_array().unwrap().len()), (0, 5));
    assert_eq!(site.command(&["devices", "2"]).0, 0);
    assert_eq!(site.command(&["devices", "77"]).0, 1);
    let told = site.command(&["devices", "2", "--forget"]);
    assert_eq!(told.0, 0, "{}", told.2);
    assert_eq!((site.post("/api/devices/2/forget").0, site.get("/api/devices/2").unwrap().0), (404, 404));
    send(&site, [(1, 2)]).await;
    assert_eq!(ids(&site.json("/api/devices")), [1, 3, 4, 5, 6], "it comes back when heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_of_devices_survives_a_restart_and_a_repeat_is_told_and_no_metric_names_one() {
    let mut site = Site::new(&[("pumps", channel())]);
    site.start();
    send(&site, (1..=12).map(|number| (7, number))).await;
    let before = site.json("/api/devices/1");
    assert_eq!(before["sequence"]["of"], "device", "{before}");
    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    site.start();
    let after = site.json("/api/devices/1");
    for key in ["device", "messages", "first_seen", "last_seen", "sequence", "state"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    send(&site, [(7, 12)]).await;
    let repeated = site.json("/api/devices/1");
    assert_eq!((&repeated["messages"], &repeated["sequence"]["repeats"]), (&13.into(), &1.into()));
    // The gauge is brought up to date by looking.
    let (_, metrics) = site.get("/metrics").unwrap();
    assert!(metrics.contains("cannula_devices{channel=\"pumps\",state=\"reporting\"} 1"), "{metrics}");
    assert!(metrics.contains("cannula_device_repeats_total{channel=\"pumps\"} 1"));
    assert!(!metrics.contains("0A00A1FFFE10"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_listed_with_their_device_and_neither_a_laboratory_nor_an_orderer_is_one_also_while_a_channel_is_faulty()
 {
    let mut site = Site::new(&[("pumps", channel())]);
    site.start();
    send(&site, [(1, 1)]).await;
    let lab = format!(
        "MSH|^~\\&|LIS|H|||20260105101112+0000||ORU^R01^ORU_R01|L1|P|2.6|||AL|NE\rPID|||{CANARY}^^^H^MR\rOBR|1||1|24323-8^Metabolic panel^LN|||20260105101112+0000\rOBX|1|NM|2823-3^Potassium^LN||4.1|mmol/L^^UCUM|||||F\r"
    );
    let mut client = Client::connect(&site.listener.to_string(), PATIENCE).await.unwrap();
    assert!(client.send(lab.as_bytes()).await.unwrap().is_positive());
    let order = format!(
        "MSH|^~\\&|BCMA|H|||20260105101112+0000||RGV^O15^RGV_O15|O1|P|2.6|||AL|NE\rPID|||{CANARY}^^^H^MR\rORC|RE|1\rRXG|1|||1^Dopamine|250||263762^MDC_DIM_MILLI_L^MDC\rRXR|IV\rOBX|1||69986^MDC_DEV_PUMP_INFUS_VMD^MDC||||||||X|||||||^^A0001^VENDOR\r"
    );
    assert!(client.send(order.as_bytes()).await.unwrap().is_positive());
    // What only asks the engine or looks at its store needs no sound channel.
    site.write_channel("broken", "nonsense = 1\n");
    assert_eq!(site.command(&["check"]).0, 64);
    let (code, table, fault) = site.command(&["devices"]);
    assert!(code == 0 && table.lines().count() == 2 && table.contains("0A00A1FFFE100001"), "{table}{fault}");
    let (code, list, fault) = site.command(&["messages", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(code == 0 && lines.len() == 3 && !list.contains(CANARY), "{list}{fault}");
    assert!(!lines[0].contains("BCMA") && !lines[1].contains("LIS"), "{list}");
    assert!(lines[2].contains("pumps  0A00A1FFFE100001  "), "{list}");
    assert!(site.json("/api/messages")["items"][0].get("device").is_none(), "unless it is asked for");
    assert_eq!(site.command(&["messages", "list", "--device", "0A00A1FFFE100001"]).1.lines().count(), 1);
    for command in [&["dead", "list"][..], &["store", "stats"], &["audit", "verify"]] {
        assert_eq!(site.command(command).0, 0, "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_heard_in_the_minute_before_a_kill_keep_their_ids_and_what_they_showed() {
    let mut site = Site::new(&[("pumps", channel())]);
    site.start();
    send(&site, (1..=12).map(|number| (7, number))).await;
    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    site.start();
    send(&site, [(7, 13), (8, 1), (9, 1)]).await;
    let before = site.json("/api/devices");
    site.kill();
    site.start();
    let after = site.json("/api/devices");
    assert_eq!(ids(&after), [1, 2, 3]);
    for (before, after) in before["items"].as_array().unwrap().iter().zip(after["items"].as_array().unwrap()) {
        for key in ["id", "device", "messages", "first_seen", "last_seen", "state"] {
            assert_eq!(before[key], after[key], "{key}");
        }
    }
    send(&site, [(10, 1)]).await;
    assert_eq!(ids(&site.json("/api/devices")), [1, 2, 3, 4], "no id is given again");
}

#[test]
fn a_damaged_file_of_devices_keeps_no_engine_from_starting() {
    let mut site = Site::new(&[("pumps", channel())]);
    std::fs::create_dir_all(site.path("store")).unwrap();
    std::fs::write(site.path("store/devices.bin"), b"CANDEV01 torn").unwrap();
    site.start();
    assert!(ids(&site.json("/api/devices")).is_empty());
    assert!(site.log().contains("learned anew"), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_of_devices_keeps_no_engine_from_starting_and_devices_are_learned_anew() {
    let mut site = Site::new(&[("pumps", channel())]);
    site.start();
    send(&site, [(0, 1), (1, 1)]).await;
    let path = site.path("store/devices.bin");
    let damages: [fn(&mut Vec<u8>); 3] = [|bytes| bytes.truncate(9), |bytes| bytes[20] ^= 1, Vec::clear];
    for damage in damages {
        assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() > 40, "it is written at a stop");
        damage(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        std::fs::remove_file(site.path("log")).unwrap();
        site.start();
        assert!(site.log().contains("learned anew"), "{}", site.log());
        assert_eq!(ids(&site.json("/api/devices")), [0; 0]);
        send(&site, [(1, 2), (2, 1)]).await;
        assert_eq!(ids(&site.json("/api/devices")), [1, 2]);
    }
}
