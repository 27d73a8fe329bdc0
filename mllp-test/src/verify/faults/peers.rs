//! Destinations that are slow, cut off, lying, flapping, or refuse a message amid good ones, and networks that lose what
//! they carry. What a bad destination costs must be its own lanes' time, and nothing else.

use super::line::{
    Bystander, before_receiver, caught_up, cut_back, cut_there, delivered_more, follow, line, misbehaved, of_gateways,
    open, treated, until,
};
use crate::proxy::{At, Conditions, Flow, How};
use crate::verify::broken::{Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::site::ReceiverPlan;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Broken, Fault, Plan, Site, channels};
use serde_json::Value;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F15",
        what: "destination slow: 1 message a second, zero window, trickling ACK",
        quick: 2,
        release: 60,
        group: 2,
        plan: |_| slow_plan(),
        prepare: |site| Box::pin(both_proxies(site)),
        cycle: |site, _| Box::pin(slow(site)),
        ..Fault::BASE
    },
    Fault {
        id: "F16",
        what: "destination cut or lying at each point of an exchange",
        quick: 20,
        release: 500,
        group: 5,
        plan: |_| liar_plan(),
        prepare: |site| Box::pin(before_receiver(site, "legacy")),
        cycle: |site, chance| Box::pin(lied_to(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F17",
        what: "destinations flapping, up 2 s and down 2 s",
        quick: 4,
        release: 225,
        group: 4,
        plan: |_| behind_proxies(),
        prepare: |site| Box::pin(both_proxies(site)),
        cycle: |site, chance| Box::pin(flapping(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F18",
        what: "poison message amid good ones, to a lane that parks and one that holds",
        quick: 20,
        release: 500,
        group: 10,
        plan: |_| poison_plan(),
        cycle: |site, chance| Box::pin(poisoned(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F20",
        what: "network of both sides: loss, a narrow link, resets, black holes",
        quick: 4,
        release: 1_000,
        group: 2,
        plan: |_| network_plan(),
        prepare: |site| Box::pin(all_proxies(site)),
        cycle: |site, chance| Box::pin(bad_network(site, chance)),
        ..Fault::BASE
    },
];

/// The second channel, whose gateways are the bystanders.
const BESIDE_TRAFFIC: TrafficPlan = TrafficPlan {
    name: "bystanders",
    port: 2576,
    connections: 1,
    mode: Mode::Lockstep,
    rate: 25.0,
    ..TrafficPlan::USUAL
};

fn slow_plan() -> Plan {
    let usual = behind_proxies();
    let mut receivers = usual.receivers;
    receivers.push(ReceiverPlan { expects: of_gateways(1), ..ReceiverPlan::mllp("beside", 6663) });
    Plan {
        channels: vec![("pumps", channels::to_legacy_and_ehr()), ("wards", channels::beside())],
        receivers,
        traffic: vec![TrafficPlan { rate: 40.0, ..TrafficPlan::USUAL }, BESIDE_TRAFFIC],
        ..usual
    }
}

/// The usual plan with proxies before both destinations.
fn behind_proxies() -> Plan {
    Plan {
        receivers: vec![
            ReceiverPlan { via: Some(6660), expects: of_gateways(0), ..ReceiverPlan::mllp("legacy", 6661) },
            ReceiverPlan { via: Some(8079), expects: of_gateways(0), ..ReceiverPlan::fhir("ehr", 8080) },
        ],
        traffic: vec![TrafficPlan { rate: 40.0, ..TrafficPlan::USUAL }],
        ..Plan::default()
    }
}

async fn both_proxies(site: &mut Site) -> Result<(), Broken> {
    before_receiver(site, "legacy").await?;
    before_receiver(site, "ehr").await
}

/// Each kind of slowness for a third of the cycle.
async fn slow(site: &mut Site) -> Result<(), Broken> {
    let paced = Flow { frames_per_second: 1.0, ..Flow::default() };
    let trickle = Flow { piece_bytes: 1, bytes_per_second: 40.0, ..Flow::default() };
    slowed(site, Conditions { to_target: paced, to_client: Flow::default() }).await?;
    slowed(site, Conditions { to_client: trickle, to_target: Flow::default() }).await?;
    slowed(site, Conditions::black_hole()).await
}

async fn slowed(site: &mut Site, conditions: Conditions) -> Result<(), Broken> {
    let line = line(site, "legacy")?;
    let quiet = Bystander::of(site, "bystanders")?;
    sleep(Duration::from_secs(3)).await;
    let quiet = quiet.p99(site)?;
    let (connections, bystander) = (line.connections(), Bystander::of(site, "bystanders")?);
    line.set(conditions);
    sleep(Duration::from_secs(20)).await;
    felt(site, "legacy", 100).await?;
    bystander.unharmed(site, quiet)?;
    caught_up(site, "beside", "bystanders", Duration::from_secs(10)).await?;
    caught_up(site, "ehr", "gateways", Duration::from_secs(10)).await?;
    line.heal();
    // Each connection of that time may have carried the message once.
    site.injected(1 + line.connections() - connections);
    caught_up(site, "legacy", "gateways", PATIENCE).await
}

/// So many messages wait for the destination: the fault was there.
async fn felt(site: &Site, destination: &str, messages: u64) -> Result<(), Broken> {
    let status = status(site, "pumps", destination).await?;
    let waiting = status["waiting"].as_u64().unwrap_or_default();
    ensure(waiting >= messages, Column::Checker, || format!("only {waiting} wait for {destination}: no fault was felt"))
}

/// What the API tells of a destination.
async fn status(site: &Site, channel: &str, destination: &str) -> Result<Value, Broken> {
    let channel = site.engine.json(&format!("/api/channels/{channel}")).await?;
    let mut destinations = channel["destinations"].as_array().into_iter().flatten();
    let found = destinations.find(|status| status["destination"] == destination).cloned();
    found.ok_or_else(|| Broken::checker(format!("the API does not know {destination}")))
}

fn liar_plan() -> Plan {
    let channel = channels::to_legacy().replace("timeout = \"5s\"", "timeout = \"600ms\"");
    Plan {
        channels: vec![("pumps", channel)],
        receivers: vec![ReceiverPlan { via: Some(6660), ..ReceiverPlan::mllp("legacy", 6661) }],
        ..Plan::strict()
    }
}

/// Lies of the receiver, each the fate of its third or fourth message from then on. A second answer or the answer before is
/// followed by a message that is not taken: an engine that counts it as that one's has lost it.
const LIES: [&[&str]; 10] = [
    &["nth=3:none"],
    &["nth=3:ignore"],
    &["nth=3:late:900ms"],
    &["nth=3:wrong-msa2"],
    &["nth=3:previous"],
    &["nth=3:double", "nth=4:ignore"],
    &["nth=3:unframed"],
    &["nth=3:split"],
    &["nth=3:drop"],
    &["nth=3:close"],
];

/// Ends of connections, and writes that fall otherwise than frames do.
fn cuts() -> [Conditions; 9] {
    let pieces = Flow { piece_bytes: 1, ..Flow::default() };
    [
        cut_there(At::Bytes(0), How::Reset),
        cut_there(At::InFrame(3), How::Close),
        cut_there(At::InFrame(3), How::Reset),
        cut_there(At::InFrame(3), How::HalfClose),
        cut_there(At::AfterFrame(3), How::Close),
        cut_there(At::AfterFrame(3), How::Reset),
        cut_back(At::InFrame(3), How::Close),
        cut_back(At::InFrame(3), How::Reset),
        Conditions { to_client: pieces, to_target: Flow::default() },
    ]
}

/// Every lie and every cut once, in an order left to chance.
async fn lied_to(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let cuts = cuts();
    let mut kinds: Vec<usize> = (0..LIES.len() + cuts.len()).collect();
    while !kinds.is_empty() {
        let kind = kinds.swap_remove(chance.within(0..kinds.len() as u64) as usize);
        match LIES.get(kind) {
            Some(rules) => lie(site, rules).await?,
            None => cut(site, cuts[kind - LIES.len()].clone()).await?,
        }
    }
    Ok(())
}

async fn lie(site: &mut Site, rules: &[&str]) -> Result<(), Broken> {
    let before = treated(site, "legacy")?;
    follow(site, "legacy", rules)?;
    misbehaved(site, "legacy", before, rules.len() as u64).await?;
    site.injected(rules.len() as u64);
    delivered_more(site, "legacy", 5).await?;
    follow(site, "legacy", &[])
}

async fn cut(site: &mut Site, conditions: Conditions) -> Result<(), Broken> {
    let line = line(site, "legacy")?;
    let (before, is_cut) = (line.cuts(), conditions.to_client.piece_bytes == 0);
    line.set(conditions);
    // Only a new connection is cut at its third frame.
    line.cut(How::Close);
    until(before + if is_cut { 3 } else { 1 }, PATIENCE, "connections cut", || Ok(line.cuts())).await?;
    delivered_more(site, "legacy", if is_cut { 0 } else { 5 }).await?;
    line.heal();
    line.cut(How::Close);
    delivered_more(site, "legacy", 5).await?;
    site.injected(line.cuts() - before);
    Ok(())
}

async fn flapping(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let (legacy, ehr) = (line(site, "legacy")?, line(site, "ehr")?);
    let time = Duration::from_secs(2);
    // The destinations do not flap together.
    let later = chance.millis(0..2_000);
    let flap = async {
        sleep(later).await;
        ehr.flap(time, time, 4).await
    };
    let (one, other) = tokio::join!(legacy.flap(time, time, 4), flap);
    one.and(other)?;
    site.injected(4);
    caught_up(site, "legacy", "gateways", PATIENCE).await?;
    caught_up(site, "ehr", "gateways", PATIENCE).await
}

fn poison_plan() -> Plan {
    let held = channels::beside().replace("type = \"mllp\"", "type = \"mllp\"\non_reject = \"hold\"");
    let mut receivers = Plan::default().receivers;
    receivers.iter_mut().for_each(|receiver| receiver.expects = of_gateways(0));
    receivers.push(ReceiverPlan { expects: of_gateways(1), ..ReceiverPlan::mllp("beside", 6663) });
    Plan {
        channels: vec![("pumps", channels::to_legacy_and_ehr()), ("wards", held)],
        receivers,
        traffic: vec![TrafficPlan { rate: 40.0, ..TrafficPlan::USUAL }, BESIDE_TRAFFIC],
        ..Plan::default()
    }
}

async fn poisoned(site: &mut Site, chance: Chance) -> Result<(), Broken> {
    parked(site, "legacy", "nth=3:AE").await?;
    parked(site, "ehr", "nth=3:422").await?;
    held(site, chance).await
}

/// The refused message is a dead letter with its reason, and the lane has gone on.
async fn parked(site: &mut Site, name: &'static str, rule: &str) -> Result<(), Broken> {
    let (dead, before) = (dead_of(site, name).await?, treated(site, name)?);
    follow(site, name, &[rule])?;
    misbehaved(site, name, before, 1).await?;
    site.injected(1);
    delivered_more(site, name, 10).await?;
    let after = dead_of(site, name).await?;
    ensure(after.len() == dead.len() + 1, Column::Liveness, || {
        format!("{name}: {} dead letters after one refusal, {} before it", after.len(), dead.len())
    })?;
    let told = after.iter().all(|reason| reason.contains("answered") || reason.contains("422"));
    ensure(told, Column::Liveness, || format!("{name}: a dead letter does not say why"))
}

/// Reasons of the dead letters of a destination.
async fn dead_of(site: &Site, destination: &str) -> Result<Vec<String>, Broken> {
    let letters = site.engine.items("/api/dead").await?;
    let ours = letters.iter().filter(|letter| letter["destination"] == destination);
    Ok(ours.map(|letter| letter["reason"].as_str().unwrap_or_default().to_owned()).collect())
}

/// The refused message stands, nothing passes it, the state says so, and a person's word ends it.
async fn held(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let before = treated(site, "beside")?;
    follow(site, "beside", &["after=2:AE"])?;
    misbehaved(site, "beside", before, 1).await?;
    site.injected(1);
    let taken = site.receiver("beside")?.received();
    state(site, "held").await?;
    site.under_load(40).await?;
    let passed = site.receiver("beside")?.received() - taken;
    ensure(passed == 0, Column::Reordered, || format!("{passed} messages passed the one that is held"))?;
    ensure(status(site, "wards", "beside").await?["waiting"].as_u64() > Some(0), Column::Checker, || {
        "nothing waits behind the held message".to_owned()
    })?;
    follow(site, "beside", &[])?;
    let action = *chance.one_of(&["retry", "park"]);
    let (status, _) = site.engine.post(&format!("/api/channels/wards/destinations/beside/{action}"), None).await?;
    ensure((200..300).contains(&status), Column::Liveness, || format!("{action} is answered with {status}"))?;
    delivered_more(site, "beside", 10).await?;
    state(site, "running").await
}

/// Waits until the API tells this state of the destination that holds.
async fn state(site: &Site, wanted: &str) -> Result<(), Broken> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let state = status(site, "wards", "beside").await?["state"].clone();
        if state == wanted {
            return Ok(());
        }
        ensure(Instant::now() < give_up, Column::Liveness, || format!("the state is {state} and not {wanted}"))?;
        sleep(Duration::from_millis(10)).await;
    }
}

/// Proxies everywhere; the gateways send again what was not answered.
fn network_plan() -> Plan {
    let gateways =
        TrafficPlan { port: 2574, mode: Mode::Impatient(8, Duration::from_secs(3)), rate: 40.0, ..TrafficPlan::USUAL };
    Plan { traffic: vec![gateways], ..behind_proxies() }
}

async fn all_proxies(site: &mut Site) -> Result<(), Broken> {
    open(site, "gateways", 2574, 2575).await?;
    both_proxies(site).await
}

const LINES: [&str; 3] = ["gateways", "legacy", "ehr"];

async fn bad_network(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let time = Duration::from_secs(if site.tools.release { 10 } else { 5 });
    for loss in [0.01, 0.2] {
        let flow = Flow { loss, jitter: Duration::from_millis(20), ..Flow::default() };
        under(site, &Conditions::both(&flow), time).await?;
    }
    let narrow = Flow { bytes_per_second: 32_000.0, latency: Duration::from_millis(10), ..Flow::default() };
    under(site, &Conditions::both(&narrow), time).await?;
    resets(site, &mut chance, time).await?;
    under(site, &Conditions::black_hole(), time + Duration::from_secs(2)).await?;
    black_hole(site, time + Duration::from_secs(2), 0).await?;
    // It takes two minutes.
    if site.tools.release && chance.within(0..20) == 0 {
        black_hole(site, Duration::from_secs(1), 50).await?;
    }
    Ok(())
}

/// All lines under these conditions for a time; then everything goes on.
async fn under(site: &mut Site, conditions: &Conditions, time: Duration) -> Result<(), Broken> {
    let lines = LINES.iter().map(|name| line(site, name)).collect::<Result<Vec<_>, _>>()?;
    let before: u64 = lines.iter().map(|line| line.connections()).sum();
    lines.iter().for_each(|line| line.set(conditions.clone()));
    sleep(time).await;
    lines.iter().for_each(|line| line.heal());
    recovered(site).await?;
    let after: u64 = lines.iter().map(|line| line.connections()).sum();
    site.injected(1 + after - before);
    Ok(())
}

async fn resets(site: &mut Site, chance: &mut Chance, time: Duration) -> Result<(), Broken> {
    let lines = LINES.iter().map(|name| line(site, name)).collect::<Result<Vec<_>, _>>()?;
    let before: u64 = lines.iter().map(|line| line.cuts()).sum();
    let end = Instant::now() + time;
    while Instant::now() < end {
        sleep(chance.millis(50..500)).await;
        chance.one_of(&lines).cut(How::Reset);
    }
    recovered(site).await?;
    site.injected(lines.iter().map(|line| line.cuts()).sum::<u64>() - before);
    Ok(())
}

/// A route that drops every packet to the site's address: nobody is told anything, and what the kernels send again
/// arrives once it is gone. Needs root; without it the proxies' black hole must do. So many gateways vanish meanwhile,
/// and must not keep their places.
async fn black_hole(site: &mut Site, time: Duration, vanishing: u64) -> Result<(), Broken> {
    if !site.tools.is_root() || site.tools.program("ip").is_none() {
        return Ok(());
    }
    let lines = LINES.iter().map(|name| line(site, name)).collect::<Result<Vec<_>, _>>()?;
    let before: u64 = lines.iter().map(|line| line.connections()).sum();
    let open = site.engine.usage().open_files;
    let mut gateways = Vec::new();
    for _ in 0..vanishing {
        gateways.push(TcpStream::connect((site.address, 2575)).await?);
    }
    files(site, |now| now + 10 >= open + vanishing, "the gateways are taken").await?;
    let hole = Hole::open(site.address)?;
    drop(gateways);
    sleep(time).await;
    files(site, |now| now <= open + 10, "gateways that vanished lose their places").await?;
    drop(hole);
    recovered(site).await?;
    site.injected(1 + lines.iter().map(|line| line.connections()).sum::<u64>() - before);
    Ok(())
}

/// Waits until the engine's open files are as they should be, for as long as a place may be kept for nobody.
async fn files(site: &mut Site, fits: impl Fn(u64) -> bool, what: &str) -> Result<(), Broken> {
    let give_up = Instant::now() + 2 * PATIENCE;
    loop {
        let now = site.engine.usage().open_files;
        if fits(now) {
            return Ok(());
        }
        ensure(Instant::now() < give_up, Column::Bounded, || format!("{what}: {now} files are open"))?;
        sleep(Duration::from_millis(50)).await;
    }
}

/// Gateways and destinations are at work again, and nothing is left behind.
async fn recovered(site: &mut Site) -> Result<(), Broken> {
    site.under_load(20).await?;
    caught_up(site, "legacy", "gateways", PATIENCE).await?;
    caught_up(site, "ehr", "gateways", PATIENCE).await
}

/// While it lives, what is sent to the address is lost without a word.
struct Hole(Ipv4Addr);

impl Hole {
    fn open(address: Ipv4Addr) -> Result<Hole, Broken> {
        let made = Hole::route("add", address);
        ensure(made, Column::Checker, || "the route that loses packets could not be made".to_owned())
            .map(|()| Hole(address))
    }

    fn route(action: &str, address: Ipv4Addr) -> bool {
        let address = format!("{address}/32");
        let made = Command::new("ip").args(["route", action, "blackhole", &address, "table", "local"]).status();
        made.is_ok_and(|status| status.success())
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        Hole::route("del", self.0);
    }
}
