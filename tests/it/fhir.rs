//! FHIR servers that want a login, or that take nothing but one resource at a time.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use mllp_test::{
    Account, Expect, FhirSink, FhirSinkConfig, Kind, Simulation, SimulationConfig, SinkAccount,
    account::Route,
    fhir_sink::{LoginConfig, Record, RecordConfig},
    sender::SenderConfig,
};
use serde_json::Value;

use crate::engine::Site;

const RSA: &str = include_str!("../keys/rsa-2048.pem");

fn channel(url: &str, more: &str) -> String {
    format!(
        "[listener]\naddress = \"LISTENER\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\nurl = \"{url}\"\n\
         where = {{ \"MSH-9\" = \"ORU^R01\" }}\n\
         order = \"device\"\nlanes = 8\nretry = {{ first = \"20ms\", max = \"200ms\" }}\n{more}\n"
    )
}

const LOGIN: &str = "auth = { type = \"smart-backend\", client_id = \"gw\", key = { file = \"key.pem\" }, scopes = \"system/Observation.cu\" }";

/// Device reports alone: a FHIR server takes no alerts yet.
fn to_ehr(sink: &SinkAccount) -> Route<'_> {
    Route { expects: Expect::kinds(&[Kind::R01]), ..Route::all("ehr", sink) }
}

fn jwks(site: &Site) -> Value {
    let (code, printed, error) = site.command(&["jwks", "--channel", "pumps", "--destination", "ehr"]);
    assert_eq!(code, 0, "{error}");
    assert!(!printed.contains("\"d\""), "the private half is printed");
    serde_json::from_str(&printed).unwrap()
}

async fn send(site: &Site, messages: u64) -> Simulation {
    let sender = SenderConfig { window: 8, ..SenderConfig::to(site.listener.to_string()) };
    let (messages, rate) = (Some(messages), Some(100.0));
    let config =
        SimulationConfig { sender, pumps: 8, cgms: 0, connections: 2, rate, messages, ..SimulationConfig::to("") };
    Simulation::start(config).unwrap()
}

async fn all_acknowledged(gateways: &Simulation, messages: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while gateways.progress().1 < messages {
        assert!(Instant::now() < until, "not everything is acknowledged");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_tokens_of_a_second_gets_every_message_also_while_the_key_is_replaced() {
    let mut site = Site::new(&[("pumps", &channel("http://127.0.0.1:1/fhir", LOGIN))]);
    fs::write(site.path("key.pem"), RSA).unwrap();
    let login = LoginConfig {
        client_id: "gw".into(),
        jwks: tokio::task::block_in_place(|| jwks(&site)),
        secret: None,
        scopes: vec!["system/Observation.cu".into()],
        token_life: Duration::from_secs(1),
        told_life: None,
        https: false,
    };
    let sink = FhirSink::start("127.0.0.1:0", FhirSinkConfig { login: Some(login), ..FhirSinkConfig::default() });
    let sink = sink.await.unwrap();
    site.write_channel("pumps", &channel(&sink.url(), LOGIN));
    tokio::task::block_in_place(|| site.start());
    let gateways = send(&site, 400).await;
    all_acknowledged(&gateways, 150).await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
    fs::write(site.path("key.pem"), key).unwrap();
    sink.register_keys(tokio::task::block_in_place(|| jwks(&site)));
    let before = sink.logins();
    all_acknowledged(&gateways, 400).await;
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    let account = Account::join(&sent, [to_ehr(&sink.account())]);
    assert!(account.balances(), "{account}\n{}", site.log());
    assert!(before >= 1 && sink.logins() > before, "{before} logins, then {}", sink.logins());
    let (_, metrics) = site.get("/metrics").unwrap();
    assert!(metrics.contains("cannula_dead_letters{channel=\"pumps\",destination=\"ehr\"} 0"), "{metrics}");
    for told in [site.log(), metrics, site.json("/api/channels").to_string()] {
        assert!(!told.contains("token-") && !told.contains("PRIVATE KEY") && !told.contains("eyJ"), "{told}");
    }
}

#[test]
fn jwks_without_a_login_by_key_says_what_to_configure() {
    let site = Site::new(&[("pumps", &channel("http://127.0.0.1:1/fhir", ""))]);
    let (code, printed, error) = site.command(&["jwks"]);
    assert!(code == 1 && printed.is_empty() && error.contains("smart-backend"), "{code} {printed} {error}");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// That the server has what was stored, each observation once.
fn every_observation_once(site: &Site, record: &Record) -> Vec<Value> {
    let (dead, observations) = (site.json("/api/dead"), record.all("Observation"));
    assert_eq!(dead["items"].as_array().unwrap().len(), 0, "{dead}");
    let named: BTreeSet<String> = observations.iter().map(|it| text(&it["identifier"][0]["value"])).collect();
    assert_eq!(named.len(), observations.len(), "an observation is there twice");
    let sources: BTreeSet<String> = observations.iter().map(|it| text(&it["meta"]["source"])).collect();
    let stored = site.json("/api/messages?limit=1000");
    let ids = stored["items"].as_array().unwrap().iter().map(|it| it["id"].as_u64().unwrap());
    let raw = ids.map(|id| site.get(&format!("/api/messages/{id}/raw")).unwrap().1);
    let reports = raw.filter(|message| message.contains("ORU^R01"));
    assert_eq!(sources.len(), reports.count(), "a message is missing");
    observations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_any_conditions_has_every_observation_once_after_kill_9() {
    let record = Record::start(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await.unwrap();
    let writing = "[destination.fhir]\nidempotency = \"none\"\nbundle = \"single\"\npatient = \"conditional-create\"\n";
    let mut site = Site::new(&[("pumps", &channel(&record.url(), writing))]);
    tokio::task::block_in_place(|| site.start());
    let gateways = send(&site, 200).await;
    for acknowledged in [40, 90, 140] {
        all_acknowledged(&gateways, acknowledged).await;
        tokio::task::block_in_place(|| {
            site.kill();
            site.start();
        });
    }
    all_acknowledged(&gateways, 200).await;
    assert_eq!(gateways.stop().await.naked, 0);
    tokio::task::block_in_place(|| site.drained());
    let observations = every_observation_once(&site, &record);
    let stored = site.json("/api/messages?limit=1000");
    let first = stored["items"].as_array().unwrap().last().unwrap()["id"].as_u64().unwrap();
    let explained = site.json(&format!("/api/messages/{first}/explain"));
    let value = "resource.valueQuantity";
    let told = explained["fhir"][0]["elements"].as_array().unwrap().iter();
    assert!(told.clone().any(|it| text(&it["element"]).ends_with(value) && text(&it["from"]).starts_with("OBX[")));
    for observation in &observations {
        let subject = text(&observation["subject"]["reference"]);
        assert!(record.all("Patient").iter().any(|it| subject == format!("Patient/{}", text(&it["id"]))), "{subject}");
    }
    let (devices, identified) = (record.all("Device"), |it: &Value| it["identifier"][0].to_string());
    assert_eq!(devices.iter().map(identified).collect::<BTreeSet<_>>().len(), devices.len(), "a device is there twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_messages_in_one_transaction_are_there_once_after_kill_9() {
    let record = Record::start(RecordConfig::default()).await.unwrap();
    let writing = "[destination.fhir]\nmessages_per_bundle = 10\npatient = \"conditional-create\"\n";
    let mut site = Site::new(&[("pumps", &channel(&record.url(), writing))]);
    tokio::task::block_in_place(|| site.start());
    assert_eq!(site.post("/api/channels/pumps/destinations/ehr/pause").0, 204);
    let gateways = send(&site, 160).await;
    all_acknowledged(&gateways, 160).await;
    assert_eq!(gateways.stop().await.naked, 0);
    assert_eq!(record.all("Observation").len(), 0, "it is paused");
    assert_eq!(site.post("/api/channels/pumps/destinations/ehr/resume").0, 204);
    for part in 1..=3 {
        let until = Instant::now() + Duration::from_secs(60);
        while record.all("Observation").len() < part * 60 {
            assert!(Instant::now() < until, "nothing is delivered");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::task::block_in_place(|| {
            site.kill();
            site.start();
        });
    }
    tokio::task::block_in_place(|| site.drained());
    every_observation_once(&site, &record);
    let requests = record.requests().len();
    assert!(requests < 100, "{requests} requests for 160 messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_online_refuses_a_channel_that_its_server_cannot_serve_and_run_only_warns() {
    let record = Record::start(RecordConfig { ignores_conditions: true, ..RecordConfig::default() }).await.unwrap();
    let mut site = Site::new(&[("pumps", &channel(&record.url(), ""))]);
    tokio::task::block_in_place(|| {
        let (code, _, error) = site.command(&["check", "--online"]);
        assert!(code == 64 && error.contains("destination ehr: it has no conditional create"), "{code} {error}");
        assert_eq!(site.command(&["check"]).0, 0);
        site.start();
        site.logged("the receiver cannot do what is configured");
        site.write_channel("pumps", &channel(&record.url(), "[destination.fhir]\nidempotency = \"none\"\n"));
        let (code, printed, error) = site.command(&["check", "--online"]);
        assert_eq!(code, 0, "{printed} {error}");
        site.write_channel("pumps", &channel("http://127.0.0.1:1/fhir", ""));
        let (code, _, error) = site.command(&["check", "--online"]);
        assert!(code == 1 && error.contains("Connection refused"), "{code} {error}");
        // Each of them is told, at the line of its name, and beside one that was asked.
        let two = |last: &str| {
            let other = "[[destination]]\nname = \"study\"\ntype = \"fhir\"\nurl = \"http://127.0.0.1:2/fhir\"\n";
            let third = format!("[[destination]]\nname = \"third\"\ntype = \"fhir\"\nurl = \"{last}\"\n");
            [channel("http://127.0.0.1:1/fhir", ""), "\n".to_owned(), other.to_owned(), third].concat()
        };
        site.write_channel("pumps", &two("http://127.0.0.1:3/fhir"));
        let (code, _, error) = site.command(&["check", "--online"]);
        let text = two("");
        let line = |name: &str| text.lines().position(|line| line == format!("name = \"{name}\"")).unwrap() + 1;
        for name in ["ehr", "study", "third"] {
            assert!(
                error.contains(&format!("pumps.toml:{}:8: destination {name}: it was not asked", line(name))),
                "{error}"
            );
        }
        assert!(code == 1 && error.contains("3 servers could not be asked"), "{code} {error}");
        site.write_channel("pumps", &two(&record.url()));
        let (code, _, error) = site.command(&["check", "--online"]);
        let told =
            format!("pumps.toml:{}:8: destination third: it has no conditional create; set idempotency", line("third"));
        assert!(
            code == 64 && error.contains(&told) && error.contains("destination study: it was not asked"),
            "{error}"
        );
    });
    assert!(record.requests().iter().all(|request| request.starts_with("GET metadata")), "{:?}", record.requests());
}
