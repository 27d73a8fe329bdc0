//! kill -9 while messages come in: nothing acknowledged is missing at the destinations, and order holds.

use std::{sync::Arc, time::Duration};

use mllp_test::{
    Account, FhirSink, FhirSinkConfig, LoadConfig, Sink, SinkConfig,
    account::{Route, SenderBook},
    load,
    sender::SenderConfig,
};

use crate::engine::Site;

/// Every message to a FHIR server, by device, and as it came to an MLLP receiver, in one lane.
fn channel(ehr: &FhirSink, legacy: &Sink) -> String {
    format!(
        r#"
[listener]
address = "LISTENER"

[[destination]]
name = "ehr"
type = "fhir"
url = "{}"
translate = "pcd-to-fhir"
order = "device"
lanes = 4
retry = {{ first = "50ms", max = "1s" }}
[destination.fhir]
identifier_systems = {{ "GENHOSP" = "urn:oid:2.999.1.1" }}

[[destination]]
name = "legacy"
type = "mllp"
address = "{}"
retry = {{ first = "50ms", max = "1s" }}
"#,
        ehr.url(),
        legacy.address()
    )
}

/// Rounds of kill and restart; more where the environment asks for them.
fn rounds() -> u64 {
    std::env::var("CANNULA_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_after_kill_9_under_load() {
    let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let legacy = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&ehr, &legacy))]);
    site.start();
    let senders = SenderConfig { window: 8, ..SenderConfig::to(site.listener.to_string()) };
    let config = LoadConfig { connections: 4, devices: 3, rate: 300.0, sender: senders, ..LoadConfig::to("") };
    let book = Arc::new(SenderBook::open(None).unwrap());
    let load = tokio::spawn(load::run_with(
        LoadConfig { time: Some(Duration::from_millis(500 * rounds())), ..config },
        book.clone(),
    ));
    let mut site = tokio::task::spawn_blocking(move || {
        for round in 0..rounds() {
            // A different moment each time, so that the kill meets every part of the work.
            std::thread::sleep(Duration::from_millis(40 + 97 * round % 400));
            site.kill();
            site.start();
        }
        site
    })
    .await
    .unwrap();
    load.await.unwrap();
    let site = tokio::task::spawn_blocking(move || {
        site.drained();
        assert_eq!(site.terminate(), 0, "{}", site.log());
        site
    })
    .await
    .unwrap();
    let account =
        Account::join(&book.account(), [Route::all("ehr", &ehr.account()), Route::all("legacy", &legacy.account())]);
    assert!(account.acked > 20 * rounds(), "too little was sent to prove anything: {account}");
    assert_eq!(account.unanswered + account.naked, 0, "{account}");
    assert!(account.balances(), "{account}\n{}", site.log());
    println!("{} rounds: {account}", rounds());
}
