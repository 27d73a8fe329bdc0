//! The same message again: as it was, under a new control id (IHE PCD CP-157), and another under an old control id.

use std::time::Duration;

use mllp_test::{Sink, SinkConfig, send::Client};

use crate::engine::Site;

fn alarm(control_id: &str, sent: &str, state: &str) -> String {
    format!(
        "MSH|^~\\&|AR|W|||20260105{sent}+0000||ORU^R40^ORU_R40|{control_id}|P|2.6|||AL|NE\rOBR|1||1^AR|196616^MDC_EVT_ALARM^MDC|||20260105101100+0000\rOBX|1|ST|68482^MDC_ATTR_ALARM_STATE^MDC|1.1.1.1.4|{state}||||||F|||20260105101100+0000\r"
    )
}

fn channel(sink: &Sink, retransmission: &str) -> String {
    let address = sink.address();
    format!(
        "[listener]\naddress = \"LISTENER\"\n[repeat]\nretransmission = \"{retransmission}\"\n[[destination]]\nname = \"alarms\"\ntype = \"mllp\"\naddress = \"{address}\"\n"
    )
}

/// Sends an alarm, the same again, the same under a new control id, and another alarm under the first control id; each must
/// be answered positively. Answers the metrics and how many were delivered.
async fn told(retransmission: &str) -> (Site, String, u64) {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("alarms", &channel(&sink, retransmission))]);
    site.start();
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await.unwrap();
    let first = alarm("1", "101112", "active");
    let sent = [first.clone(), first, alarm("2", "101500", "active"), alarm("1", "101600", "inactive")];
    for message in sent {
        assert!(client.send(message.as_bytes()).await.unwrap().is_positive(), "{message}");
    }
    tokio::task::block_in_place(|| site.drained());
    let metrics = site.get("/metrics").unwrap().1;
    (site, metrics, sink.account().unnamed)
}

fn counted(metrics: &str, name: &str) -> Option<u64> {
    let series = format!("cannula_{name}_total{{channel=\"alarms\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retransmission_is_delivered_and_told_and_an_old_control_id_with_other_content_is_delivered_and_alarmed() {
    let (site, metrics, delivered) = told("mark").await;
    assert_eq!(delivered, 3);
    assert_eq!(counted(&metrics, "repeats"), Some(1));
    assert_eq!(counted(&metrics, "retransmissions"), Some(1));
    assert_eq!(counted(&metrics, "control_id_reuse"), Some(1));
    assert!(site.log().contains("control ids used again for other content"));
    let list = site.json("/api/messages")["items"].clone();
    let timelines = list.as_array().unwrap().iter().map(|item| site.json(&format!("/api/messages/{}", item["id"])));
    let marked = timelines.filter(|message| message["timeline"].to_string().contains("same content as message"));
    assert_eq!(marked.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retransmission_to_be_dropped_is_answered_and_not_delivered_and_other_content_is() {
    let (_site, metrics, delivered) = told("drop").await;
    assert_eq!((delivered, counted(&metrics, "retransmissions")), (2, Some(1)));
    assert_eq!(counted(&metrics, "control_id_reuse"), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retransmissions_that_are_not_looked_for_are_messages_like_any_other() {
    let (_site, metrics, delivered) = told("off").await;
    assert_eq!((delivered, counted(&metrics, "retransmissions")), (3, None));
}
