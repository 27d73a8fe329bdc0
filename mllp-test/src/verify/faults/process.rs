//! Faults of the engine's process: killed, killed while it recovers, stopped and continued, told to stop. The moment is
//! left to chance, so that over many cycles each part of the work is met.

use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::chance::Chance;
use crate::verify::engine::PATIENCE;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Fault, Plan, Site, Tools};
use std::time::Duration;
use tokio::time::sleep;

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F1",
        what: "SIGKILL under load",
        quick: 100,
        release: 3_000,
        group: 25,
        cycle: |site, chance| Box::pin(killed_under_load(site, chance)),
        ..Fault::BASE
    },
    Fault {
        id: "F2",
        what: "death at named points",
        quick: 5 * POINTS,
        release: 100 * POINTS,
        group: POINTS,
        needs: crash_engine,
        plan: |tools| Plan { engine: tools.crash_engine.clone(), ..Plan::default() },
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

const POINTS: u32 = 10;
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

fn crash_engine(tools: &Tools) -> Result<(), String> {
    let missing = || "no engine with crash points; name one with --crash-engine".to_owned();
    tools.crash_engine.as_ref().map(|_| ()).ok_or_else(missing)
}

async fn died_at_a_point(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let points = crash_points(site).await?;
    let point = chance.one_of(&points).clone();
    // Early and late in a life; a point that is passed seldom may not be reached, and then the life goes on.
    let passes = 1 + chance.within(0..40).pow(2) / 40;
    site.quit().await?;
    site.engine.envs.push(("CANNULA_CRASH_POINT".to_owned(), format!("{point}:{passes}")));
    let died = lived_and_died(site, &mut chance).await;
    site.engine.envs.retain(|(name, _)| name != "CANNULA_CRASH_POINT");
    if died? {
        site.injected(1);
    } else {
        site.kill().await?;
    }
    site.start_engine().await?;
    site.under_load(10).await
}

/// Whether the engine died by itself.
async fn lived_and_died(site: &mut Site, chance: &mut Chance) -> Result<bool, Broken> {
    site.spawn_engine()?;
    let started = site.engine.ready(PATIENCE).await;
    if site.engine.exited()?.is_none() {
        started?;
        // Some points are passed only when the configuration is read again.
        let _ = site.engine.post("/api/reload", None).await;
        let _ = site.engine.wait(chance.millis(500..2_000)).await;
    }
    Ok(site.engine.forget_if_dead())
}

async fn crash_points(site: &Site) -> Result<Vec<String>, Broken> {
    let output = tokio::process::Command::new(&site.engine.binary)
        .arg("run")
        .env("CANNULA_CRASH_POINT", "list")
        .current_dir(&site.folder)
        .output()
        .await?;
    let names: Vec<String> = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
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
            site.note_marks().await;
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
