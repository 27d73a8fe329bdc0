//! An engine that dies amid a batch, and between the application ACKs it owes: nothing acknowledged is lost, what comes again
//! is told as a repeat, and what was owed is owed still.

use mllp_test::{Sink, SinkConfig};
use serde_json::Value;

use crate::{
    acks::{Ack, Gateway, message},
    engine::Site,
};

const MESSAGES: u64 = 6;

fn channel(sink: &Sink, listener: &str) -> String {
    format!(
        "[listener]\naddress = \"LISTENER\"\n{listener}\n[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{}\"\nretry = {{ first = \"20ms\", max = \"100ms\" }}\n",
        sink.address()
    )
}

/// An engine that ends at the point.
async fn dying(point: &str, listener: &str) -> (Site, Sink) {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&sink, listener))]);
    site.environment = vec![("CANNULA_CRASH_POINT", point.into())];
    site.start();
    (site, sink)
}

fn started_again(site: &mut Site, point: &str) {
    let name = point.split(':').next().unwrap();
    // What was answered before the point may be read before it is passed.
    site.logged(&format!("crash point {name} reached"));
    site.kill();
    site.environment.clear();
    site.start();
}

fn batch() -> String {
    let messages: String = (1..=MESSAGES).map(|number| message(&number.to_string(), "", "")).collect();
    format!("BHS|^~\\&|GW|W|EHR|H|20260314||||BATCH-7\r{messages}BTS|{MESSAGES}\r")
}

/// Code and control id of each ACK in a batch of them.
fn acks(answer: &str) -> Vec<(String, String)> {
    let messages = answer.split("MSH|").skip(1).map(|rest| Ack::read(&format!("MSH|{rest}")));
    messages.map(|ack| (ack.code, ack.control_id)).collect()
}

fn metric(site: &Site, line: &str) -> u64 {
    let (_, text) = site.get("/metrics").unwrap();
    text.lines().find_map(|each| each.strip_prefix(line)).map_or(0, |value| value.trim().parse().unwrap())
}

fn owed(site: &Site) -> Vec<Value> {
    site.json("/api/owed-acks")["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_amid_a_batch_loses_nothing_and_the_batch_again_is_told_as_repeats() {
    let points = [
        "during-batch:1",
        "during-batch:4",
        "before-append:1",
        "after-append-before-sync:1",
        "after-sync-before-ack:1",
        "after-ack:1",
    ];
    for point in points {
        let (mut site, sink) = dying(point, "batch = true").await;
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&batch());
        let due: Vec<(String, String)> = (1..=MESSAGES).map(|number| ("AA".into(), number.to_string())).collect();
        // A connection that is reset is as good as one that ends.
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gateway.frame())).ok().flatten();
        assert_eq!(answer.is_some(), point.starts_with("after-ack"), "{point}");
        tokio::task::block_in_place(|| started_again(&mut site, point));
        let stored = site.json("/api/store")["messages"].as_u64().unwrap();
        if let Some(answer) = answer {
            assert_eq!((acks(&answer), stored), (due.clone(), MESSAGES), "{point}");
        }
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&batch());
        assert_eq!(acks(&gateway.frame().unwrap()), due, "{point}");
        assert_eq!(metric(&site, "cannula_repeats_total{channel=\"pumps\"}"), stored, "{point}");
        tokio::task::block_in_place(|| site.drained());
        assert_eq!(site.json("/api/store")["messages"], MESSAGES, "{point}");
        let sent_again = metric(&site, "cannula_redelivered_total{channel=\"pumps\",destination=\"ehr\"}");
        let received = sink.account().unnamed;
        assert!(
            (MESSAGES..=MESSAGES + sent_again).contains(&received),
            "{point}: {received}, {sent_again} of them again"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_between_owed_acks_leaves_owed_what_was_not_noted_as_sent_and_it_goes_on_in_order() {
    const OWED: u64 = 20;
    for nth in [1, 7, OWED] {
        let point = format!("after-owed-ack:{nth}");
        let (mut site, sink) = dying(&point, "ack = \"delivered\"").await;
        let steer = |site: &Site, action: &str| {
            assert_eq!(site.post(&format!("/api/channels/pumps/destinations/ehr/{action}")).0, 204);
        };
        steer(&site, "pause");
        let mut gateway = Gateway::connect(site.listener);
        for number in 1..=OWED {
            gateway.send(&message(&number.to_string(), "AL", "AL"));
            assert_eq!(gateway.ack().code, "CA");
        }
        steer(&site, "resume");
        let mut told = Vec::new();
        let next = |gateway: &mut Gateway| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gateway.frame()));
        while let Ok(Some(frame)) = next(&mut gateway) {
            let ack = Ack::read(&frame);
            assert_eq!(ack.code, "AA");
            told.push(ack.control_id.parse::<u64>().unwrap());
        }
        assert_eq!(told, (1..=nth).collect::<Vec<_>>(), "one lane delivers in order");
        tokio::task::block_in_place(|| started_again(&mut site, &point));
        let left = owed(&site).len() as u64;
        assert!((OWED - nth + 1..=OWED).contains(&left), "{point}: {left} are owed");
        let mut gateway = Gateway::connect(site.listener);
        gateway.send(&message("BACK", "AL", "NE"));
        let acks: Vec<Ack> = (0..=left).map(|_| gateway.ack()).collect();
        let again: Vec<u64> =
            acks.iter().filter(|ack| ack.code == "AA").map(|ack| ack.control_id.parse().unwrap()).collect();
        assert_eq!(again, (OWED - left + 1..=OWED).collect::<Vec<_>>(), "{point}");
        tokio::task::block_in_place(|| site.drained());
        assert!(sink.account().unnamed > OWED);
    }
}
