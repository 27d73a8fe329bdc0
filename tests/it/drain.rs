//! SIGTERM: what was begun ends in time and with exit 0, whatever the peers do; a second one ends it at once; nothing is lost.

use std::time::{Duration, Instant};

use mllp_test::{
    Account, Simulation, SimulationConfig, Sink, SinkConfig, account::Route, script::Script, sender::SenderConfig,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::engine::Site;

/// Of the tests with a drain that must be cut; a stop ends by then, whatever is stuck.
const DRAIN: Duration = Duration::from_secs(4);
/// On top of it: the store's close, and a busy machine.
const SLACK: Duration = Duration::from_secs(20);

fn site(address: &str, drain: Duration) -> Site {
    let destination = format!(
        "[[destination]]\nname = \"ehr\"\ntype = \"mllp\"\naddress = \"{address}\"\ntimeout = \"300s\"\nretry = {{ first = \"50ms\", max = \"1s\" }}\n"
    );
    let site = Site::new(&[("pumps", &format!("[listener]\naddress = \"LISTENER\"\n\n{destination}"))]);
    site.configure(&format!("[limits]\ndrain_timeout = \"{}s\"\n", drain.as_secs()));
    site
}

fn gateways(site: &Site) -> Simulation {
    let sender = SenderConfig { window: 8, ..SenderConfig::to(site.listener.to_string()) };
    let config =
        SimulationConfig { sender, pumps: 8, cgms: 0, connections: 4, rate: Some(300.0), ..SimulationConfig::to("") };
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

/// SIGTERM; the exit code, which must come by `DRAIN`.
fn stopped_in_time(site: &mut Site) -> i32 {
    let begun = Instant::now();
    let code = tokio::task::block_in_place(|| site.terminate());
    assert!(begun.elapsed() < DRAIN + SLACK, "a stop took {:?}:\n{}", begun.elapsed(), site.log());
    code
}

/// Starts the engine again and has everything delivered: nothing acknowledged is missing, nothing out of order.
async fn balances(site: &mut Site, gateways: Simulation, sink: &Sink) {
    tokio::task::block_in_place(|| site.start());
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.balances() && account.acked > 0, "{account}\n{}", site.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_ends_well_each_time_and_loses_nothing() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let mut site = site(&sink.address().to_string(), Duration::from_secs(30));
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(&site);
    for _ in 0..3 {
        acked(&gateways, 40).await;
        assert_eq!(stopped_in_time(&mut site), 0, "{}", site.log());
        assert!(!site.log().contains("not close in time"), "{}", site.log());
        tokio::task::block_in_place(|| site.start());
    }
    acked(&gateways, 20).await;
    assert_eq!(stopped_in_time(&mut site), 0);
    balances(&mut site, gateways, &sink).await;
    assert_eq!(sink.account().repeats, 0, "a stop without faults repeats nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_a_dead_destination_ends_well() {
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    sink.down().await;
    let mut site = site(&sink.address().to_string(), DRAIN);
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(&site);
    acked(&gateways, 40).await;
    assert_eq!(stopped_in_time(&mut site), 0, "{}", site.log());
    sink.up().await.unwrap();
    balances(&mut site, gateways, &sink).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_with_peers_that_are_stuck_ends_well() {
    // It takes messages and never answers.
    let silent = SinkConfig { script: Script::parse(["first=1:none"]).unwrap(), ..SinkConfig::default() };
    let sink = Sink::start("127.0.0.1:0", silent).await.unwrap();
    let mut site = site(&sink.address().to_string(), DRAIN);
    tokio::task::block_in_place(|| site.start());
    let mut half = TcpStream::connect(site.listener).await.unwrap();
    half.write_all(b"\x0bMSH|^~\\&|GW|W|||20260105101112+0000||ORU^R01|HALF").await.unwrap();
    let _deaf = deaf_sender(&site).await;
    let gateways = gateways(&site);
    acked(&gateways, 40).await;
    assert_eq!(stopped_in_time(&mut site), 0, "{}", site.log());
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "half a message is not answered");
    let repeats_before = sink.account().repeats;
    tokio::task::block_in_place(|| site.start());
    let sent = gateways.stop().await;
    tokio::task::block_in_place(|| site.drained());
    // What the deaf sender sent has no id the account knows.
    let account = Account::join(&sent, [Route::all("ehr", &sink.account())]);
    assert!(account.lost() == 0 && account.destinations[0].reordered.count == 0, "{account}\n{}", site.log());
    assert!(repeats_before == 0 && sink.account().repeats <= 1, "one was outstanding");
}

/// Sends without end and reads no answer, until nothing more can be written.
async fn deaf_sender(site: &Site) -> TcpStream {
    let mut deaf = TcpStream::connect(site.listener).await.unwrap();
    let message =
        "\x0bMSH|^~\\&|DEAF|W|||20260105101112+0000||ORU^R01^ORU_R01|D-1|P|2.6\rPID|||1^^^H^MR\r\x1c\r".repeat(200);
    while let Ok(written) = tokio::time::timeout(Duration::from_secs(2), deaf.write_all(message.as_bytes())).await {
        written.unwrap();
    }
    deaf
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_a_stop_at_once_and_loses_nothing() {
    // Connections are taken and nothing is ever read, so a drain would take all of its time.
    let stuck = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut site = site(&stuck.local_addr().unwrap().to_string(), Duration::from_secs(300));
    tokio::task::block_in_place(|| site.start());
    let gateways = gateways(&site);
    acked(&gateways, 40).await;
    let code = tokio::task::block_in_place(|| {
        site.signal("TERM");
        site.logged("a second signal stops at once");
        site.terminate()
    });
    assert_eq!(code, 1, "{}", site.log());
    assert!(site.log().contains("stopped at once by a second signal"), "{}", site.log());
    drop(stuck);
    let sink = Sink::start("127.0.0.1:0", SinkConfig::default()).await.unwrap();
    let text = std::fs::read_to_string(site.path("channels/pumps.toml")).unwrap();
    let address = text.lines().rfind(|line| line.starts_with("address")).unwrap();
    site.write_channel("pumps", &text.replace(address, &format!("address = \"{}\"", sink.address())));
    balances(&mut site, gateways, &sink).await;
}
