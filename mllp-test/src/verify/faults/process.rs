//! Faults of the engine's process: killed, killed while it recovers, stopped and continued, told to stop. The moment is
//! left to chance, so that over many cycles each part of the work is met.

use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Fault, Plan, Site, Tools};
use std::iter::Cycle;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// F1, also the trial for an engine that acknowledges too early.
pub(in crate::verify) const UNDER_KILLS: Fault = Fault {
    id: "F1",
    what: "SIGKILL under load",
    quick: 100,
    release: 3_000,
    group: 25,
    cycle: |site, chance| Box::pin(killed_under_load(site, chance)),
    ..Fault::BASE
};

pub(super) const FAULTS: &[Fault] = &[
    UNDER_KILLS,
    Fault {
        id: "F2",
        what: "death at named points",
        quick: 5 * POINTS,
        release: 100 * POINTS,
        group: POINTS,
        needs: crash_engine,
        plan: |tools| Plan { engine: tools.crash_engine.clone(), ..busy() },
        cycle: |site, chance| Box::pin(died_at_a_point(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F3",
        what: "SIGKILL while it recovers from SIGKILL",
        quick: 30,
        release: 500,
        cycle: |site, chance| Box::pin(killed_while_recovering(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F22",
        what: "process stopped (SIGSTOP) while gateways grow impatient",
        quick: 5,
        release: 100,
        group: 5,
        plan: impatient,
        cycle: |site, chance| Box::pin(paused(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F27",
        what: "SIGTERM under load, with a dead destination, and twice",
        quick: 20,
        release: 500,
        plan: |_| Plan { tables: format!("[limits]\ndrain_timeout = \"{}s\"\n", DRAIN.as_secs()), ..Plan::default() },
        cycle: |site, chance| Box::pin(told_to_stop(site, chance)),
        ..Fault::BASE
    },
];

/// About as many as the engine has.
const POINTS: u32 = 11;
/// `limits.drain_timeout` where stops are tried.
const DRAIN: Duration = Duration::from_secs(5);

async fn killed_under_load(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    sleep(chance.millis(0..300)).await;
    site.kill_and_start().await?;
    site.under_load(10).await
}

/// Up to three deaths, each before the one before may be recovered from.
pub(super) async fn killed_while_recovering(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    site.kill().await?;
    for _ in 0..chance.within(1..4) {
        site.spawn_engine()?;
        sleep(chance.millis(0..500)).await;
        site.engine.kill().await?;
        site.injected(1);
    }
    site.start_engine().await?;
    site.under_load(10).await
}

/// Small segments that are soon given up, and dead letters: each named point is passed.
fn busy() -> Plan {
    let mut plan = Plan { store: BUSY_STORE.to_owned(), ..Plan::default() };
    plan.channels[0].1 = plan.channels[0].1.replace("@2575\"", "@2575\"\nmax_message = \"64KiB\"");
    plan.receivers[0].script = vec!["every=40:AE".to_owned()];
    plan.traffic[0] = TrafficPlan { rate: 300.0, message_bytes: 8_000, ..TrafficPlan::USUAL };
    plan
}

const BUSY_STORE: &str = "retain = \"0s\"\nsegment_bytes = \"1MiB\"";

fn crash_engine(tools: &Tools) -> Result<(), String> {
    let missing = || "no engine with crash points; name one with --crash-engine".to_owned();
    tools.crash_engine.as_ref().map(|_| ()).ok_or_else(missing)
}

async fn died_at_a_point(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let point = next_point(site).await?;
    // Some points are passed for each message, others only now and then.
    let often = OFTEN.contains(&point.as_str());
    let passes = if often { 1 + chance.within(0..40) } else { 1 };
    site.quit().await?;
    site.engine.envs.push((CRASH_POINT.to_owned(), format!("{point}:{passes}")));
    let died = died(site).await;
    site.engine.envs.retain(|(name, _)| name != CRASH_POINT);
    ensure(died?, Column::Checker, || {
        format!("the point {point} was not passed {passes} times, so nothing is proved")
    })?;
    site.injected(1);
    site.start_engine().await?;
    site.under_load(10).await
}

const CRASH_POINT: &str = "CANNULA_CRASH_POINT";
const OFTEN: [&str; 5] =
    ["before-append", "after-append-before-sync", "after-sync-before-ack", "after-ack", "after-send-before-settle"];

/// Passed only with batches, and with ACKs after delivery: the engine's own tests die there.
const WITHOUT_US: [&str; 2] = ["during-batch", "after-owed-ack"];

/// The points take turns.
async fn next_point(site: &mut Site) -> Result<String, Broken> {
    if !site.props.contains_key("points") {
        let points = crash_points(site).await?;
        site.props.insert("points", Box::new(points.into_iter().cycle()));
    }
    let points = site.prop::<Cycle<std::vec::IntoIter<String>>>("points")?;
    points.next().ok_or_else(|| Broken::checker("there are no crash points"))
}

/// Whether the engine dies by itself within the time for a start.
async fn died(site: &mut Site) -> Result<bool, Broken> {
    site.spawn_engine()?;
    let until = Instant::now() + PATIENCE;
    while !site.engine.forget_if_dead() {
        if Instant::now() > until {
            site.kill().await?;
            return Ok(false);
        }
        // One point is passed only when the configuration is read again; while it starts or dies there is no answer.
        let _ = site.engine.post("/api/reload", None).await;
        sleep(Duration::from_millis(100)).await;
    }
    Ok(true)
}

async fn crash_points(site: &Site) -> Result<Vec<String>, Broken> {
    let output = tokio::process::Command::new(&site.engine.binary)
        .arg("run")
        .env(CRASH_POINT, "list")
        .current_dir(&site.folder)
        .output()
        .await?;
    let names = String::from_utf8_lossy(&output.stdout);
    let names = names.split_whitespace().filter(|name| !WITHOUT_US.contains(name));
    let names: Vec<String> = names.map(str::to_owned).collect();
    let listed = output.status.success() && !names.is_empty();
    ensure(listed, Column::Checker, || "the crash engine lists no crash points; build it with its feature".to_owned())?;
    Ok(names)
}

fn impatient(_: &Tools) -> Plan {
    let gateways = TrafficPlan { mode: Mode::Impatient(8, Duration::from_millis(400)), ..TrafficPlan::USUAL };
    Plan { traffic: vec![gateways], ..Plan::default() }
}

pub(super) async fn paused(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    let longest = if site.tools.release && chance.within(0..10) == 0 { 120_000 } else { 3_000 };
    site.engine.signal("STOP").await?;
    sleep(chance.millis(100..longest)).await;
    site.engine.signal("CONT").await?;
    site.injected(1);
    site.under_load(10).await
}

async fn told_to_stop(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    site.under_load(10).await?;
    match chance.within(0..3) {
        0 => stopped_in_time(site).await?,
        1 => {
            let name = *chance.one_of(&["legacy", "ehr"]);
            site.receiver(name)?.down().await;
            // Cut while a message may be on its way.
            site.injected(1);
            site.under_load(10).await?;
            stopped_in_time(site).await?;
            site.receiver(name)?.up().await?;
        }
        _ => {
            site.engine.signal("TERM").await?;
            site.engine.signal("TERM").await?;
            site.engine.wait(PATIENCE).await?;
            site.injected(1);
        }
    }
    site.start_engine().await?;
    site.under_load(10).await
}

async fn stopped_in_time(site: &mut Site) -> Result<(), Broken> {
    site.note_marks().await;
    let took = site.engine.stop().await?;
    // What is left when the time is over must still be written down.
    ensure(took < 2 * DRAIN, Column::Stop, || format!("the stop took {took:?}, drain_timeout is {DRAIN:?}"))
}
