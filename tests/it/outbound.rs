//! Receivers that answer wrongly, late, twice, in pieces or not at all: no answer is taken for another message's, and what
//! is sent again is marked, counted and told.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mllp_test::{
    Account, Simulation, SimulationConfig, Sink, SinkConfig, account::Route, script::Script, sender::SenderConfig,
};

use crate::engine::Site;

fn gateways(address: SocketAddr, messages: Option<u64>) -> Simulation {
    let sender = SenderConfig { window: 8, ..SenderConfig::to(address.to_string()) };
    let config = SimulationConfig {
        sender,
        pumps: 4,
        cgms: 0,
        connections: 2,
        rate: Some(200.0),
        messages,
        ..SimulationConfig::to("")
    };
    Simulation::start(config).unwrap()
}

fn channel(listener: SocketAddr, sink: &Sink, timeout: &str) -> String {
    format!(
        "[listener]\naddress = \"{listener}\"\n[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{}\"\ntimeout = \"{timeout}\"\nretry = {{ first = \"20ms\", max = \"100ms\" }}\n",
        sink.address()
    )
}

/// A counter or gauge of the one destination.
fn metric(site: &Site, name: &str, labels: &str) -> u64 {
    let (_, text) = site.get("/metrics").unwrap();
    let line = format!("cannula_{name}{{channel=\"pumps\",destination=\"ehr\"{labels}}} ");
    let value = text.lines().find_map(|each| each.strip_prefix(&line)).unwrap_or_else(|| panic!("{line} in {text}"));
    value.parse().unwrap()
}

async fn sent_all(gateways: &Simulation, messages: u64) {
    let until = Instant::now() + Duration::from_secs(60);
    while gateways.progress().1 < messages {
        assert!(Instant::now() < until, "not everything is acknowledged");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_taken_for_another_messages_and_what_is_sent_again_is_marked() {
    for (faults, is_repeat) in [
        (&["every=10:none"][..], true),
        (&["every=10:wrong-msa2"], true),
        (&["every=10:previous"], false),
        (&["every=10:late:600ms"], true),
        (&["every=10:unframed"], true),
        (&["every=10:drop"], true),
        // The message was not taken, which the sender cannot know.
        (&["every=10:close"], false),
        (&["every=10:ignore"], false),
        (&["every=3:double", "every=7:split"], false),
    ] {
        let script = Script::parse(faults.iter().copied()).unwrap();
        let sink = Sink::start("127.0.0.1:0", SinkConfig { script, ..SinkConfig::default() }).await.unwrap();
        let mut site = Site::new(&[]);
        site.write_channel("pumps", &channel(site.listener, &sink, "300ms"));
        tokio::task::block_in_place(|| site.start());
        let gateways = gateways(site.listener, Some(60));
        sent_all(&gateways, 60).await;
        let sent = gateways.stop().await;
        tokio::task::block_in_place(|| site.drained());
        let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
        assert!(account.balances(), "{faults:?}: {account}\n{}", site.log());
        let (repeats, marked) = (sink.account().repeats, metric(&site, "redelivered_total", ""));
        let ambiguous = metric(&site, "attempts_total", ",outcome=\"ambiguous\"");
        assert_eq!(repeats > 0, is_repeat, "{faults:?}: {repeats} repeats");
        assert!(repeats <= marked && marked == ambiguous, "{faults:?}: {repeats} repeats, {marked} of {ambiguous}");
        assert_eq!(told_as_repeats(&site), marked, "{faults:?}");
        assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    }
}

/// Messages whose timeline says that they were sent as a possible repeat.
fn told_as_repeats(site: &Site) -> u64 {
    let found = site.json("/api/messages?limit=1000");
    let ids = found["items"].as_array().unwrap().iter().map(|message| message["id"].as_u64().unwrap());
    let told = ids.filter(|id| site.json(&format!("/api/messages/{id}")).to_string().contains("possible repeat"));
    told.count() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_is_dead_or_silent_holds_up_no_other_channel() {
    let silent = SinkConfig { script: Script::parse(["none"]).unwrap(), ..SinkConfig::default() };
    let silent = Sink::start("127.0.0.1:0", silent).await.unwrap();
    let (dead, healthy) = (
        Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap(),
        Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap(),
    );
    dead.down().await;
    let mut site = Site::new(&[]);
    let at = |n| SocketAddr::new(site.listener.ip(), site.listener.port() + n);
    let addresses = [at(0), at(1), at(2)];
    for (name, (address, sink)) in
        ["silent", "dead", "pumps"].iter().zip(addresses.iter().zip([&silent, &dead, &healthy]))
    {
        site.write_channel(name, &channel(*address, sink, "300s"));
    }
    tokio::task::block_in_place(|| site.start());
    let stuck = [gateways(addresses[0], None), gateways(addresses[1], None)];
    for gateways in &stuck {
        sent_all(gateways, 100).await;
    }
    let gateways = gateways(addresses[2], Some(100));
    sent_all(&gateways, 100).await;
    let sent = gateways.stop().await;
    let until = Instant::now() + Duration::from_secs(60);
    while healthy.received() < 100 {
        assert!(Instant::now() < until, "held up: {}", site.json("/api/channels"));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let account = Account::join(&sent, [Route::all("ehr", &healthy.account())]);
    assert!(account.balances() && account.naked == 0, "{account}\n{}", site.log());
    assert!(silent.received() <= 1 && dead.received() == 0, "they are stuck, as they were meant to be");
    for gateways in stuck {
        assert_eq!(gateways.stop().await.naked, 0);
    }
}
