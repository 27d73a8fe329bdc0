//! Codes that no table has: told, filled in by a person, put back, and mapped from then on.

use std::{fs, time::Duration};

use mllp_test::{Sink, SinkConfig, send::Client};

use crate::engine::Site;

const CANARY: &str = "ZYXCANARY";

fn message(control_id: &str) -> String {
    format!(
        "MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|{control_id}|P|2.6|||AL|NE\rPID|||{CANARY}^^^H^MR||{CANARY}^A\rOBR|1||1|1^X^MDC|||202601051011{control_id}+0000\rOBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|5||||||F\rOBX|2|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.2|6||||||F\r"
    )
}

fn channel(sink: &Sink) -> String {
    let address = sink.address();
    let map = |path: &str| {
        format!(
            "[[destination.step]]\nmap = {{ each = \"{}\", path = \"{path}\", table = \"rows.csv\", missing = \"keep\" }}\n",
            &path[..3]
        )
    };
    format!(
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{address}\"\n{}{}",
        map("OBX-3"),
        map("PID-3")
    )
}

async fn send(site: &Site, control_id: &str) {
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    assert!(client.send(message(control_id).as_bytes()).await.unwrap().is_positive());
    tokio::task::block_in_place(|| site.drained());
}

fn codes(site: &Site) -> Vec<(String, u64)> {
    let list = site.json("/api/unmapped?channel=pumps&table=rows.csv");
    let told = |code: &serde_json::Value| (code["code"].as_str().unwrap().to_owned(), code["count"].as_u64().unwrap());
    list["items"].as_array().unwrap().iter().map(told).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_without_a_row_are_listed_filled_in_put_back_and_mapped_and_no_patient_is_among_them() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&sink))]);
    fs::write(
        site.path("channels/tables/rows.csv"),
        "from,from_display,to,to_display,to_system\n157784,,7071,Rate,L\n",
    )
    .unwrap();
    site.start();
    send(&site, "10").await;
    send(&site, "11").await;
    assert_eq!(codes(&site), [("158014".to_owned(), 2)]);
    let all = site.get("/api/unmapped").unwrap().1;
    assert!(!all.contains(CANARY) && site.json("/api/unmapped")["unlisted"] == 2, "{all}");
    assert_eq!(site.json("/api/unmapped")["items"][0]["example"], site.json("/api/messages")["items"][1]["id"]);
    let (status, shown, _) = site.command(&["unmapped"]);
    assert!(status == 0 && shown.contains("158014 MDC_FLOW_FLUID_PUMP_CURRENT MDC"), "{shown}");

    let (status, csv, fault) = site.command(&["unmapped", "--table", "rows.csv", "--csv"]);
    assert_eq!(status, 0, "{fault}");
    assert_eq!(site.command(&["unmapped", "--table", "rows", "--csv"]).1, csv, "by its name without .csv too");
    let (status, _, fault) = site.command(&["unmapped", "--table", "mdc-units.csv", "--csv"]);
    assert!(status == 1 && fault.contains("no code lacks a row"), "a table that is known: {fault}");
    let (status, _, fault) = site.command(&["unmapped", "--table", "colums.csv"]);
    assert!(
        status == 1 && fault.contains("colums.csv is no table") && fault.contains("mdc-units, obx-8, rows.csv"),
        "{fault}"
    );
    // A shell empties the file before the command runs.
    fs::write(site.path("channels/tables/rows+more.csv"), "").unwrap();
    assert_eq!(site.command(&["check"]).0, 64);
    assert_eq!(site.command(&["unmapped", "--table", "rows", "--csv"]).1, csv);
    let output = ["unmapped", "--table", "rows", "--csv", "--output", "channels/tables/rows+more.csv"];
    let (status, told, fault) = site.command(&output);
    assert_eq!((status, told.as_str()), (0, "1 row to fill in written to channels/tables/rows+more.csv\n"), "{fault}");
    assert_eq!(fs::read_to_string(site.path("channels/tables/rows+more.csv")).unwrap(), csv);
    let (refused, _, fault) = site.command(&["check"]);
    assert!(refused == 64 && fault.contains("rows+more.csv"), "a row that is not filled in is told: {fault}");
    let filled = csv.replace("CURRENT\",\"\",\"\",\"\"", "CURRENT\",\"7072\",\"Rate now\",\"L\"");
    fs::write(site.path("channels/tables/rows+more.csv"), &filled).unwrap();
    assert_eq!(site.post("/api/reload").0, 200);
    send(&site, "12").await;
    assert_eq!(codes(&site), [], "it has a row now");
    let (status, _, fault) = site.command(&["unmapped", "--table", "rows", "--csv"]);
    assert!(status == 1 && fault.contains("no code lacks a row"), "a row filled in is not asked for again: {fault}");
    fs::remove_file(site.path("channels/tables/rows+more.csv")).unwrap();
    assert_eq!(site.post("/api/reload").0, 200);
    assert_eq!(codes(&site), [("158014".to_owned(), 2)], "it has none again");
    fs::write(site.path("channels/tables/rows+more.csv"), &filled).unwrap();
    assert_eq!(site.post("/api/reload").0, 200);
    let id = site.json("/api/messages")["items"][0]["id"].clone();
    fs::write(site.path("sent.hl7"), site.get(&format!("/api/messages/{id}/raw")).unwrap().1).unwrap();
    let (_, tried, _) = site.command(&["try", "pumps", "sent.hl7"]);
    assert!(tried.contains("|7072^Rate now^L|") && tried.contains("|7071^Rate^L|"), "{tried}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_codes_without_a_row_goes_on_after_a_restart() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&sink))]);
    fs::write(site.path("channels/tables/rows.csv"), "from,to\n157784,7071\n").unwrap();
    site.start();
    send(&site, "10").await;
    let before = site.json("/api/unmapped");
    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    site.start();
    assert_eq!(site.json("/api/unmapped"), before);
    send(&site, "11").await;
    assert_eq!(codes(&site), [("158014".to_owned(), 2)]);
}
