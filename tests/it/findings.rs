//! What a sender breaks of the framework: its messages are taken all the same, and whoever asks is told.

use std::time::Duration;

use mllp_test::{Sink, SinkConfig, send::Client};

use crate::engine::Site;

const CANARY: &str = "ZYXCANARY";

/// OBX-1 does not count from 1, and OBX-14 has no zone: A19 and A03, once each.
fn message(control_id: &str) -> String {
    format!(
        "MSH|^~\\&|GW^ACDE480000000001^EUI-64|W|||20260105101112+0000||ORU^R01^ORU_R01|{control_id}|P|2.6|||AL|NE|||||DEC^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r\
         PID|||{CANARY}^^^H^MR||{CANARY}^A^^^^^L\rPV1||I|4W^12^1\r\
         OBR|1||1^GW|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260105101112+0000\r\
         OBX|7||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||20260105101112||||G^^ACDE480000000002^EUI-64\r\
         OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20260105101112+0000||||||R\r"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_breaks_is_told_by_message_by_sender_and_in_metrics_and_never_refused() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let channel = format!(
        "[listener]\naddress = \"LISTENER\"\nconformance = \"report\"\nconformance_profile = \"strict\"\n[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{}\"\n",
        sink.address()
    );
    let mut site = Site::new(&[("pumps", &channel)]);
    site.start();
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    for id in ["1", "2"] {
        assert!(client.send(message(id).as_bytes()).await.unwrap().is_positive());
    }
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 2);

    let page = site.get("/api/conformance").unwrap().1;
    let sender = &site.json("/api/conformance")["items"][0];
    assert_eq!((&sender["application"], &sender["messages"]), (&"GW^ACDE480000000001^EUI-64".into(), &2.into()));
    let rules: Vec<&str> =
        sender["rules"].as_array().unwrap().iter().map(|rule| rule["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["A03", "A19"]);
    assert_eq!(site.json("/api/conformance?rule=A28")["items"], serde_json::json!([]));
    for (option, wrong, known) in [("--quirk", "nonsense", "no_zone"), ("--rule", "A99", "A03")] {
        let (code, _, fault) = site.command(&["conformance", option, wrong]);
        assert!(code == 1 && fault.contains(wrong) && fault.contains(known), "{option}: {fault}");
    }
    let (status, shown, _) = site.command(&["conformance", "--rule", "A19"]);
    assert_eq!(status, 0);
    assert!(shown.contains("2 of 2 messages break a rule") && shown.contains("2  A19 error OBX^1^1"), "{shown}");

    let id = site.json("/api/messages")["items"][0]["id"].clone();
    let findings = || site.json(&format!("/api/messages/{id}"))["findings"].clone();
    let before = findings();
    let places: Vec<&str> =
        before.as_array().unwrap().iter().map(|finding| finding["place"].as_str().unwrap()).collect();
    assert_eq!(places, ["OBX^1^14", "OBX^1^1"]);
    let (_, history, _) = site.command(&["messages", "show", &id.to_string()]);
    assert!(history.contains("breaks A03 error OBX^1^14"), "{history}");
    let metrics = site.get("/metrics").unwrap().1;
    assert!(metrics.contains("cannula_broken_rules_total{channel=\"pumps\",rule=\"A19\"} 2"), "{metrics}");
    assert!(![page, shown, before.to_string(), history, metrics].iter().any(|text| text.contains(CANARY)));

    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    site.start();
    assert_eq!(site.json(&format!("/api/messages/{id}"))["findings"], before);
    assert_eq!(site.json("/api/conformance")["items"], serde_json::json!([]));
}
