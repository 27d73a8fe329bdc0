//! Gateways that are cut off, send again, come twice, trickle, flood, or send what is no HL7. What one of them does must
//! reach no other, and nothing that was sent twice may go out twice.

use super::line::{Bystander, cut_back, cut_there, delivered_more, line, of_gateways, open, traffic, until};
use crate::frame::framed;
use crate::proxy::{At, Conditions, Flow, How};
use crate::send::{Client, NoAnswer};
use crate::spec;
use crate::verify::broken::{Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::site::ReceiverPlan;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Broken, Fault, Plan, Site, channels};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F19",
        what: "gateway cut mid-frame or before its ACK, trickling, the same message over two connections",
        quick: 50,
        release: 2_000,
        group: 25,
        plan: |_| gateway_plan(),
        prepare: |site| Box::pin(open(site, "gateways", 2574, 2575)),
        cycle: |site, chance| Box::pin(bad_gateway(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F24",
        what: "1,000 slow senders, then 10,000 connections with 64 files allowed",
        quick: 2,
        release: 20,
        group: 2,
        needs: |tools| tools.programs(&["prlimit"]),
        plan: |_| flood_plan(),
        cycle: |site, _| Box::pin(flooded(site)),
        ..Fault::BASE
    },
    Fault {
        id: "F24b",
        what: "no file left for the store itself",
        quick: 2,
        release: 20,
        group: 2,
        needs: |tools| tools.programs(&["prlimit"]),
        plan: |_| starved_plan(),
        cycle: |site, _| Box::pin(starved(site)),
        ..Fault::BASE
    },
    Fault {
        id: "F25",
        what: "the bad-input table, whole, byte by byte and split, beside good traffic",
        quick: 1,
        release: 2,
        group: 1,
        patience: Duration::from_secs(3_600),
        plan: |_| table_plan(),
        prepare: |site| Box::pin(table_folder(site)),
        cycle: |site, chance| Box::pin(bad_inputs(site, chance)),
        ..Fault::BASE
    },
];

const LISTENER_PORT: u16 = 2575;

/// Sends by the fault's own hand, over no connection of its own.
const BY_HAND: TrafficPlan = TrafficPlan { name: "by-hand", connections: 0, ..TrafficPlan::USUAL };

fn gateway_plan() -> Plan {
    let gateways =
        TrafficPlan { port: 2574, mode: Mode::Impatient(8, Duration::from_secs(2)), rate: 400.0, ..TrafficPlan::USUAL };
    let strict = Plan::strict();
    // A gateway's fault is no reason to send anything to a destination twice.
    let receivers = strict.receivers.into_iter().map(|receiver| ReceiverPlan { lanes: 0, ..receiver }).collect();
    Plan { receivers, traffic: vec![gateways, BY_HAND], ..Plan::strict() }
}

async fn bad_gateway(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    match chance.within(0..4) {
        0 => same_over_two_connections(site).await?,
        1 => failed_over(site).await?,
        2 => cut_off(site, &mut chance).await?,
        _ => trickled(site, &mut chance).await?,
    }
    site.under_load(10).await?;
    delivered_more(site, "legacy", 10).await
}

async fn cut_off(site: &mut Site, chance: &mut Chance) -> Result<(), Broken> {
    let line = line(site, "gateways")?;
    let (nth, before) = (chance.within(2..12), line.cuts());
    let how = *chance.one_of(&[How::Close, How::Reset, How::HalfClose]);
    line.set(match chance.within(0..5) {
        0 => cut_there(At::InFrame(nth), how),
        1 => cut_there(At::AfterFrame(nth), how),
        2 => cut_there(At::Bytes(chance.within(0..4_000)), how),
        3 => cut_back(At::InFrame(nth), how),
        _ => cut_back(At::AfterFrame(nth), how),
    });
    line.cut(How::Reset);
    until(before + 4, PATIENCE, "connections cut", || Ok(line.cuts())).await?;
    line.heal();
    line.cut(How::Close);
    site.injected(line.cuts() - before);
    Ok(())
}

async fn trickled(site: &mut Site, chance: &mut Chance) -> Result<(), Broken> {
    let line = line(site, "gateways")?;
    let flow = match chance.within(0..3) {
        0 => Flow { piece_bytes: 1, ..Flow::default() },
        1 => Flow { merge: Duration::from_millis(30), ..Flow::default() },
        // Slower than the gateways' patience: they send again what is still on its way.
        _ => Flow { bytes_per_second: 3_000.0, piece_bytes: 500, ..Flow::default() },
    };
    line.set(Conditions { to_target: flow, to_client: Flow::default() });
    site.injected(1);
    sleep(chance.millis(300..2_500)).await;
    line.heal();
    Ok(())
}

/// The same message at once over two connections of one device: both are answered, it is taken once.
async fn same_over_two_connections(site: &mut Site) -> Result<(), Broken> {
    let (mut one, mut other) = (connect(site).await?, connect(site).await?);
    let by_hand = traffic(site, "by-hand")?;
    for _ in 0..3 {
        let begun = Instant::now();
        let message = by_hand.by_hand(0, |_| {});
        one.send_bytes(&framed(&message.message)).await.map_err(unanswered)?;
        let twice = other.send(&message.message).await.map_err(unanswered)?;
        let first = one.answer().await.map_err(unanswered)?;
        for ack in [first, twice] {
            ensure(by_hand.answered(&message, &ack, begun.elapsed()), Column::AckMismatch, || {
                "a message sent over two connections was answered as another".to_owned()
            })?;
        }
    }
    site.injected(3);
    Ok(())
}

/// Two messages on a connection that goes before their answers come; the other connection sends both again.
async fn failed_over(site: &mut Site) -> Result<(), Broken> {
    let (mut one, mut other) = (connect(site).await?, connect(site).await?);
    let by_hand = traffic(site, "by-hand")?;
    let messages = [by_hand.by_hand(0, |_| {}), by_hand.by_hand(0, |_| {})];
    for message in &messages {
        one.send_bytes(&framed(&message.message)).await.map_err(unanswered)?;
    }
    drop(one);
    for message in &messages {
        let begun = Instant::now();
        let ack = other.send(&message.message).await.map_err(unanswered)?;
        ensure(by_hand.answered(message, &ack, begun.elapsed()), Column::AckMismatch, || {
            "a message sent again was answered as another".to_owned()
        })?;
    }
    site.injected(1);
    Ok(())
}

async fn connect(site: &Site) -> Result<Client, Broken> {
    let at = SocketAddr::from((site.address, LISTENER_PORT)).to_string();
    Client::connect(&at, PATIENCE).await.map_err(unanswered)
}

fn unanswered(none: NoAnswer) -> Broken {
    Broken::new(Column::Liveness, none)
}

fn flood_plan() -> Plan {
    let limits = "address = \"@2575\"\nframe_timeout = \"2s\"\nmax_message = \"256KiB\"";
    Plan {
        channels: vec![("pumps", channels::to_legacy().replace("address = \"@2575\"", limits))],
        traffic: vec![TrafficPlan { rate: 50.0, ..TrafficPlan::USUAL }, BY_HAND],
        open_files_max: 2_000,
        ..Plan::strict()
    }
}

/// Small segments and large messages: the store needs a new file every second.
fn starved_plan() -> Plan {
    Plan {
        traffic: vec![TrafficPlan { rate: 40.0, message_bytes: 25_000, ..TrafficPlan::USUAL }, BY_HAND],
        store: "segment_bytes = \"1MiB\"".to_owned(),
        refusals: true,
        ..flood_plan()
    }
}

/// Connections take the last files, and the store finds none when it needs one: it may refuse, and must go on by itself.
async fn starved(site: &mut Site) -> Result<(), Broken> {
    limit_files(site, "64:").await?;
    let connections = many_connections(site, share_of_files(1_000)).await;
    site.injected(1);
    sleep(Duration::from_secs(4)).await;
    drop(connections);
    limit_files(site, "20000:").await?;
    newcomer(site).await?;
    site.under_load(20).await?;
    delivered_more(site, "legacy", 20).await
}

async fn flooded(site: &mut Site) -> Result<(), Broken> {
    let quiet = Bystander::of(site, "gateways")?;
    sleep(Duration::from_secs(2)).await;
    let quiet = quiet.p99(site)?;
    slow_senders(site, quiet).await?;
    flood(site, quiet).await?;
    delivered_more(site, "legacy", 10).await
}

/// Each begins a frame and goes on byte by byte: none may keep its place, and nobody else may feel it.
async fn slow_senders(site: &mut Site, quiet: Duration) -> Result<(), Broken> {
    let bystander = Bystander::of(site, "gateways")?;
    let connections = many_connections(site, share_of_files(1_000)).await;
    let count = connections.len();
    ensure(count >= 256, Column::Checker, || format!("only {count} connections could be made"))?;
    let mut senders = JoinSet::new();
    connections.into_iter().for_each(|stream| drop(senders.spawn(slowly(stream))));
    site.injected(1);
    let ended = timeout(PATIENCE, senders.join_all()).await;
    ensure(ended.is_ok(), Column::Bounded, || "slow senders keep their connections".to_owned())?;
    bystander.unharmed(site, quiet)?;
    newcomer(site).await
}

/// Until the engine has enough of it.
async fn slowly(mut stream: TcpStream) {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for byte in framed(&[b'M'; 4096]) {
            if writer.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(250)).await;
        }
    };
    let read = async {
        let mut answer = [0; 64];
        while matches!(reader.read(&mut answer).await, Ok(1..)) {}
    };
    tokio::select! {
        () = write => {}
        () = read => {}
    }
}

/// More connections than the engine may have files.
async fn flood(site: &mut Site, quiet: Duration) -> Result<(), Broken> {
    limit_files(site, "64:").await?;
    // What is open above the limit stays open.
    let above = files_above(site.engine.pid()?, 64);
    let bystander = Bystander::of(site, "gateways")?;
    let connections = many_connections(site, share_of_files(10_000)).await;
    let (count, open) = (connections.len(), site.engine.usage().open_files);
    site.injected(1);
    ensure(count as u64 > 64, Column::Checker, || format!("only {count} connections could be made"))?;
    ensure(open <= 64 + above, Column::Bounded, || format!("{open} files open, 64 allowed, {above} were above"))?;
    ensure(open > 60, Column::Checker, || format!("only {open} files open: the limit was not felt"))?;
    sleep(Duration::from_secs(2)).await;
    bystander.unharmed(site, quiet)?;
    drop(connections);
    limit_files(site, "20000:").await?;
    newcomer(site).await
}

/// Open files whose numbers are not below the limit.
fn files_above(pid: u32, limit: u64) -> u64 {
    let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let number = |name: std::ffi::OsString| name.to_str().and_then(|name| name.parse::<u64>().ok());
    files.filter_map(|file| number(file.ok()?.file_name())).filter(|number| *number >= limit).count() as u64
}

async fn limit_files(site: &Site, limit: &str) -> Result<(), Broken> {
    let pid = site.engine.pid()?.to_string();
    let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}")]).status().await?;
    ensure(set.success(), Column::Checker, || format!("the limit of files could not be set to {limit}"))
}

/// As many as wanted, as far as this process may have files: other sites need theirs.
fn share_of_files(wanted: u64) -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let allowed = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).unwrap_or(1_024);
    wanted.min(allowed / 3)
}

/// Connections from many addresses, as far as they can be had within a moment each.
async fn many_connections(site: &Site, wanted: u64) -> Vec<TcpStream> {
    let to = SocketAddr::from((site.address, LISTENER_PORT));
    let mut connections = Vec::new();
    let mut attempts = JoinSet::new();
    for number in 0..wanted {
        let from = SocketAddr::from((Ipv4Addr::new(127, 50, 0, 1 + (number / 100 % 250) as u8), 0));
        attempts.spawn(timeout(Duration::from_secs(2), connect_from(from, to)));
        while attempts.len() >= 200 {
            connections.extend(attempts.join_next().await.and_then(|made| made.ok()?.ok()?.ok()));
        }
    }
    connections.extend(attempts.join_all().await.into_iter().filter_map(|made| made.ok()?.ok()));
    connections
}

async fn connect_from(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    socket.connect(to).await
}

/// A gateway that comes now is taken and answered.
async fn newcomer(site: &Site) -> Result<(), Broken> {
    let by_hand = traffic(site, "by-hand")?;
    let begun = Instant::now();
    let message = by_hand.by_hand(0, |_| {});
    loop {
        let mut client = connect(site).await?;
        match client.send(&message.message).await {
            Ok(ack) => {
                let fits = by_hand.answered(&message, &ack, begun.elapsed());
                return ensure(fits, Column::AckMismatch, || "a newcomer was answered another's answer".to_owned());
            }
            // The crowd before it may still be on its way out.
            Err(_) if begun.elapsed() < PATIENCE / 2 => sleep(Duration::from_millis(50)).await,
            Err(none) => return Err(Broken::new(Column::Liveness, format!("a newcomer: {none}"))),
        }
    }
}

/// The table's messages go to a folder: they carry no ids of the books.
const TABLE: &str = r#"
[listener]
address = "@2577"
charset_default = "8859/1"

[accept]
where = { "MSH-9" = "ORU^R01" }

[[destination]]
name = "folder"
type = "file"
directory = "table"
"#;

fn table_plan() -> Plan {
    let mut plan = Plan { traffic: vec![TrafficPlan { rate: 50.0, ..TrafficPlan::USUAL }], ..Plan::default() };
    plan.receivers.iter_mut().for_each(|receiver| receiver.expects = of_gateways(0));
    plan.channels.push(("table", TABLE.to_owned()));
    plan
}

async fn table_folder(site: &mut Site) -> Result<(), Broken> {
    Ok(std::fs::create_dir_all(site.folder.join("table"))?)
}

async fn bad_inputs(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let address = SocketAddr::from((site.address, 2577)).to_string();
    let bystander = Bystander::of(site, "gateways")?;
    let splits = if site.tools.release { spec::Splits::All } else { spec::Splits::Some(12) };
    let options =
        spec::Options { splits, seed: chance.draw(), ack_timeout: PATIENCE, jobs: 8, ..spec::Options::to(address) };
    let report = spec::run(&options, |_| ()).await;
    let [passed, failed, _] = report.counts();
    site.injected((passed + failed) as u64);
    ensure(failed == 0 && passed > 120, Column::AckMismatch, || {
        format!("{failed} of {} inputs fail:\n{}", passed + failed, report.failures())
    })?;
    bystander.unharmed(site, PATIENCE)
}
