//! kill -9 while messages come in: nothing acknowledged is missing at the destinations, and order holds.

use std::time::{Duration, Instant};

use mllp_test::{
    Account, Expect, FhirSink, FhirSinkConfig, Kind, SenderAccount, Simulation, SimulationConfig, Sink, SinkConfig,
    account::Route, sender::SenderConfig,
};

use crate::engine::Site;

/// Observations to a FHIR server, by device, and every message as it came to an MLLP receiver, in one lane.
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
where = {{ "MSH-9" = "ORU^R01" }}
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

/// Pumps send while the engine is killed and started so often; what they sent, once all of it is delivered and the engine ended.
pub async fn killed_under_load(site: &mut Site, sender: SenderConfig, rounds: u64) -> SenderAccount {
    let config =
        SimulationConfig { sender, pumps: 12, cgms: 0, connections: 4, rate: Some(300.0), ..SimulationConfig::to("") };
    let gateways = Simulation::start(config).unwrap();
    for round in 0..rounds {
        under_load(&gateways).await;
        // A different moment each time, so that the kill meets every part of the work.
        tokio::time::sleep(Duration::from_millis(97 * round % 300)).await;
        tokio::task::block_in_place(|| {
            site.kill();
            site.start();
        });
    }
    under_load(&gateways).await;
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| {
        site.drained();
        assert_eq!(site.terminate(), 0, "{}", site.log());
    });
    sent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_after_kill_9_under_load() {
    let ehr = FhirSink::start("127.0.0.1:0", FhirSinkConfig::default()).await.unwrap();
    let legacy = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&ehr, &legacy))]);
    site.start();
    let sender = SenderConfig { window: 8, ..SenderConfig::to(site.listener.to_string()) };
    let sent = killed_under_load(&mut site, sender, rounds()).await;
    let (ehr, legacy) = (ehr.account(), legacy.account());
    let to_ehr = Route { expects: Expect::kinds(&[Kind::R01]), ..Route::all("ehr", &ehr) };
    let account = Account::join(&sent, [to_ehr, Route::all("legacy", &legacy)]);
    assert_eq!(account.unanswered + account.naked, 0, "{account}");
    assert!(account.balances(), "{account}\n{}", site.log());
    println!("{} rounds: {account}", rounds());
}

/// Until more messages have been acknowledged than when asked: the engine is at work.
async fn under_load(gateways: &Simulation) {
    let (before, until) = (gateways.account().acked, Instant::now() + Duration::from_secs(60));
    while gateways.account().acked < before + 20 {
        assert!(Instant::now() < until, "nothing is acknowledged any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
