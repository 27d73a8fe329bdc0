//! Reloads while messages come in: what changes takes effect, what is broken leaves everything running, and nothing is lost.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mllp_test::{
    Account, Simulation, SimulationConfig, Sink, SinkConfig, account::Route, script::Script, sender::SenderConfig,
};

use crate::engine::Site;

fn gateways(address: SocketAddr) -> Simulation {
    let sender = SenderConfig { window: 8, ..SenderConfig::to(address.to_string()) };
    let config =
        SimulationConfig { sender, pumps: 8, cgms: 0, connections: 4, rate: Some(200.0), ..SimulationConfig::to("") };
    Simulation::start(config).unwrap()
}

/// Until so many more messages are acknowledged.
async fn acked(gateways: &Simulation, more: u64) {
    let (wanted, until) = (gateways.progress().1 + more, Instant::now() + Duration::from_secs(60));
    while gateways.progress().1 < wanted {
        assert!(Instant::now() < until, "nothing is acknowledged any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn channel(listener: SocketAddr, sink: &Sink, more: &str) -> String {
    let destination =
        format!("[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{}\"\n{more}", sink.address());
    format!("[listener]\naddress = \"{listener}\"\n{destination}\nretry = {{ first = \"50ms\", max = \"1s\" }}\n")
}

fn reload(site: &Site) -> (u16, String) {
    tokio::task::block_in_place(|| site.post("/api/reload"))
}

fn reloaded(site: &Site) {
    let (status, body) = reload(site);
    assert_eq!(status, 200, "{body}\n{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_lanes_and_another_order_keep_each_devices_order_under_load() {
    // Slow enough that messages of each device always wait.
    let slow = SinkConfig { script: Script::parse(["slow:20ms"]).unwrap(), ..SinkConfig::default() };
    let sink = Sink::start("127.0.0.1:0", slow).await.unwrap();
    let mut site = Site::new(&[]);
    let write = |site: &Site, order: &str, lanes: u16| {
        let lanes = format!("order = \"{order}\"\nlanes = {lanes}");
        site.write_channel("pumps", &channel(site.listener, &sink, &lanes));
    };
    write(&site, "device", 4);
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(site.listener);
    for (order, lanes) in [("device", 7), ("device", 2), ("MSH-10", 1), ("device", 8)] {
        acked(&gateways, 60).await;
        write(&site, order, lanes);
        reloaded(&site);
    }
    acked(&gateways, 60).await;
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.balances() && account.naked == 0, "{account}\n{}", site.log());
    assert_eq!(account.destinations[0].reordered.count, 0);
    assert!(site.log().contains("lanes or order changed"), "{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_lanes_after_a_stop_or_a_crash_keeps_each_devices_order() {
    let slow = SinkConfig { script: Script::parse(["slow:10ms"]).unwrap(), ..SinkConfig::default() };
    let sink = Sink::start("127.0.0.1:0", slow).await.unwrap();
    sink.down().await;
    let mut site = Site::new(&[]);
    let write = |site: &Site, lanes: u16| {
        let lanes = format!("order = \"device\"\nlanes = {lanes}");
        site.write_channel("pumps", &channel(site.listener, &sink, &lanes));
    };
    write(&site, 4);
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(site.listener);
    acked(&gateways, 100).await;
    assert_eq!(tokio::task::block_in_place(|| site.terminate()), 0);
    write(&site, 7);
    tokio::task::block_in_place(|| site.start());
    acked(&gateways, 60).await;
    // What waits came by two ways now, and there is a third after the crash.
    tokio::task::block_in_place(|| site.kill());
    write(&site, 3);
    tokio::task::block_in_place(|| site.start());
    acked(&gateways, 60).await;
    sink.up().await.unwrap();
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.balances() && account.destinations[0].reordered.count == 0, "{account}\n{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_come_go_change_names_and_addresses_under_load_and_nothing_acknowledged_is_lost() {
    let north = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let south = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[]);
    let [a, b, c] = [0, 1, 2].map(|n| SocketAddr::new(site.listener.ip(), site.listener.port() + n));
    site.write_channel("north", &channel(a, &north, ""));
    site.write_channel("south", &channel(b, &south, ""));
    tokio::task::block_in_place(|| site.start());
    let (to_a, to_b) = (gateways(a), gateways(b));
    let both = async || {
        acked(&to_a, 30).await;
        acked(&to_b, 30).await;
    };
    both().await;
    // They change addresses.
    site.write_channel("north", &channel(b, &north, ""));
    site.write_channel("south", &channel(a, &south, ""));
    reloaded(&site);
    both().await;
    // One has another name from now on.
    fs::rename(site.path("channels/north.toml"), site.path("channels/nord.toml")).unwrap();
    reloaded(&site);
    both().await;
    // One comes, goes and comes again at once, and so must its address.
    for _ in 0..3 {
        site.write_channel("extra", &channel(c, &north, ""));
        reloaded(&site);
        fs::remove_file(site.path("channels/extra.toml")).unwrap();
        reloaded(&site);
    }
    both().await;
    // One is gone for a while, and its senders wait.
    fs::remove_file(site.path("channels/south.toml")).unwrap();
    reloaded(&site);
    acked(&to_b, 30).await;
    site.write_channel("south", &channel(a, &south, ""));
    reloaded(&site);
    both().await;
    // What waited under the old name is delivered once the name is there again.
    site.write_channel("north", &channel(c, &north, ""));
    reloaded(&site);
    let (sent_a, sent_b) = (to_a.stop().await, to_b.stop().await);
    tokio::task::block_in_place(|| site.drained());
    let (north, south) = (north.account(), south.account());
    for sent in [&sent_a, &sent_b] {
        assert_eq!(sent.naked, 0, "{}", site.log());
        let lost = sent.acked().filter(|(id, _)| !north.has(*id) && !south.has(*id)).count();
        assert_eq!((lost, sent.unanswered()), (0, 0), "{}", site.log());
    }
    assert!(north.received > 100 && south.received > 100, "{north} {south}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_leaves_the_configuration_before_in_force_and_says_why() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = Site::new(&[]);
    let good = channel(site.listener, &sink, "");
    site.write_channel("pumps", &good);
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(site.listener);
    let taken = std::net::TcpListener::bind(SocketAddr::new(site.listener.ip(), 2599)).unwrap();
    let elsewhere = good.replace(&site.listener.to_string(), &taken.local_addr().unwrap().to_string());
    for (broken, why) in [
        ("[listener\n", "pumps.toml:1"),
        (&*good.replace("mllp", "mlp"), "pumps.toml:"),
        ("", "pumps.toml"),
        (&*elsewhere, "cannot listen on"),
    ] {
        acked(&gateways, 20).await;
        site.write_channel("pumps", broken);
        let (status, body) = reload(&site);
        assert!((400..600).contains(&status) && body.contains(why), "{why}: {status} {body}");
        acked(&gateways, 20).await;
    }
    assert!(site.log().contains("the configuration before stays in force"), "{}", site.log());
    let (_, metrics) = site.get("/metrics").unwrap();
    let failures = metrics.lines().find_map(|line| line.strip_prefix("cannula_reload_failures_total "));
    assert!(
        failures.is_some_and(|failures| failures.parse::<u64>().is_ok_and(|failures| failures >= 4)),
        "{failures:?}"
    );
    site.write_channel("pumps", &good);
    reloaded(&site);
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.balances() && account.naked == 0, "{account}\n{}", site.log());
}
