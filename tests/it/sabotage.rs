//! The build that breaks promises on purpose says what it is, and ends at the points asked for.

use std::time::Duration;

use cannula::sabotage::{CrashPoint, Fault};
use mllp_test::{
    Sink, SinkConfig,
    send::{Client, NoAnswer},
};

use crate::engine::Site;

async fn site_with(sink: &Sink, variable: &'static str, value: &str) -> Site {
    let (listener, address) = ("[listener]\naddress = \"LISTENER\"", sink.address());
    let destination = format!("[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{address}\"\n");
    let mut site = Site::new(&[("all", &format!("{listener}\n{destination}"))]);
    site.environment = vec![("CANNULA_SABOTAGE_EVERY", "2".into()), (variable, value.into())];
    tokio::task::block_in_place(|| site.start());
    site
}

async fn send(site: &Site, number: u32) -> Result<String, NoAnswer> {
    let message = format!("MSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01^ORU_R01|M-{number}|P|2.6\rPID|||1^^^H^MR\r");
    let mut client = Client::connect(&site.listener.to_string(), Duration::from_secs(20)).await?;
    let answer = client.send(message.as_bytes()).await?;
    Ok(String::from_utf8_lossy(&answer.control_id).into_owned())
}

#[test]
fn the_names_are_listed_and_a_wrong_one_is_a_fault() {
    let mut site = Site::new(&[]);
    let mut check = |variable, value: &str| {
        site.environment = vec![(variable, value.to_owned())];
        site.command(&["check"])
    };
    let (code, points, _) = check("CANNULA_CRASH_POINT", "list");
    assert_eq!((code, points.lines().count()), (0, CrashPoint::NAMES.len()), "{points}");
    let (code, faults, _) = check("CANNULA_SABOTAGE", "list");
    assert_eq!((code, faults.lines().count()), (0, Fault::NAMES.len()), "{faults}");
    for (variable, value) in [("CANNULA_SABOTAGE", "dorp"), ("CANNULA_CRASH_POINT", "after-ack:0")] {
        let (code, _, error) = check(variable, value);
        assert!(code == 64 && error.contains(variable), "{code} {error}");
    }
    let (_, version, _) = site.command(&["--version"]);
    assert!(version.contains("sabotaged"), "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_ends_at_its_crash_point_and_the_message_it_did_not_answer_is_stored() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = site_with(&sink, "CANNULA_CRASH_POINT", "after-sync-before-ack:1").await;
    assert!(send(&site, 1).await.is_err(), "answered after the crash");
    tokio::task::block_in_place(|| site.kill());
    assert!(site.log().contains("crash point after-sync-before-ack reached"), "{}", site.log());
    assert!(site.log().contains("sabotaged"), "{}", site.log());
    site.environment.clear();
    tokio::task::block_in_place(|| {
        site.start();
        site.drained();
    });
    assert_eq!(site.json("/api/store")["messages"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sabotaged_engine_loses_one_in_so_many_and_one_that_lies_answers_for_another_message() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let site = site_with(&sink, "CANNULA_SABOTAGE", "drop").await;
    for number in 1..=4 {
        assert_eq!(send(&site, number).await.unwrap(), format!("M-{number}"));
    }
    tokio::task::block_in_place(|| site.drained());
    assert_eq!(sink.account().unnamed, 2);
    let site = site_with(&sink, "CANNULA_SABOTAGE", "wrong-msa2").await;
    assert_eq!((send(&site, 1).await.unwrap(), send(&site, 2).await.unwrap()), ("M-1".into(), "M-3".into()));
}
