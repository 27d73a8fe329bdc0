//! Disks that refuse, stutter or drag: single calls of the engine fail (F9, F10) or take long (F13). A failed write or
//! sync must never be followed by a positive answer for what it covered, and once the disk works again the engine must
//! accept again by itself.

use super::power::small_messages;
use super::shim::Shim;
use crate::verify::broken::ensure;
use crate::verify::chance::Chance;
use crate::verify::site::Plan;
use crate::verify::traffic::{Mode, TrafficPlan};
use crate::verify::{Broken, Column, Fault, Site, Tools, channels};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const SHIM: &str = "shim";
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a planned call may let itself be waited for, before one is chosen that is always made.
const RARE: Duration = Duration::from_secs(3);
const FOR_EVER: u64 = 1_000_000_000;

/// Every call the engine changes its store's disk with; those it makes most often are there more than once.
const CALLS: &[&str] =
    &["pwrite", "pwrite", "pwrite", "fdatasync", "fdatasync", "fdatasync", "fsync", "rename", "unlink", "open"];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        id: "F9",
        what: "the Nth call on the store's files fails with EIO",
        quick: 60,
        release: 600,
        cycle: |site, chance| Box::pin(failing(site, chance, &["errno 5", "errno 5", "torn 5"])),
        ..SHIMMED
    },
    Fault {
        id: "F10",
        what: "the same with ENOSPC, EDQUOT, short and interrupted writes",
        quick: 60,
        release: 600,
        cycle: |site, chance| {
            let hows = &["errno 28", "torn 28", "errno 122", "short 0", "interrupted 0"];
            Box::pin(failing(site, chance, hows))
        },
        ..SHIMMED
    },
    Fault {
        id: "F13",
        what: "slow disk: each sync takes 500 ms longer",
        quick: 1,
        release: 10,
        cycle: |site, chance| Box::pin(slow(site, chance)),
        ..SHIMMED
    },
];

const SHIMMED: Fault = Fault {
    group: 15,
    patience: Duration::from_secs(600),
    needs,
    plan: |_| plan(),
    prepare: |site| Box::pin(async { prepare(site) }),
    ..Fault::BASE
};

fn needs(tools: &Tools) -> Result<(), String> {
    tools.programs(&["gcc"])
}

/// Small segments, so that beginning one, giving one up and using one again come often.
fn plan() -> Plan {
    Plan {
        channels: vec![("pumps", small_messages(&channels::to_legacy_and_ehr()))],
        store: "retain = \"1s\"\nsegment_bytes = \"1MiB\"\nmax_bytes = \"64MiB\"\n".to_owned(),
        traffic: vec![TrafficPlan { rate: 100.0, message_bytes: 8_000, ..TrafficPlan::USUAL }],
        refusals: true,
        ..Plan::default()
    }
}

fn prepare(site: &mut Site) -> Result<(), Broken> {
    let shim = Shim::install(site)?;
    site.props.insert(SHIM, Box::new(shim));
    Ok(())
}

async fn failing(site: &mut Site, mut chance: Chance, hows: &[&str]) -> Result<(), Broken> {
    site.under_load(10).await?;
    let (call, how) = (*chance.one_of(CALLS), *chance.one_of(hows));
    // The disk stays bad until it is healed only where that can be told from the acknowledgements.
    let for_ever = ["pwrite", "fdatasync"].contains(&call) && how.starts_with("errno") && chance.within(0..4) == 0;
    let (from, to) = if for_ever { (1, FOR_EVER) } else { between(&mut chance) };
    let told = site.prop::<Shim>(SHIM)?.told()?;
    site.prop::<Shim>(SHIM)?.plan(&format!("{call} {from} {to} {how}"))?;
    if !met(site, told, RARE).await? {
        site.prop::<Shim>(SHIM)?.plan(&format!("fdatasync 1 {} {how}", to - from + 1))?;
        let met = met(site, told, PATIENCE).await?;
        ensure(met, Column::Checker, || format!("{call} {from} {to} {how}: no call met the fault"))?;
    }
    let acked = site.acked();
    sleep(chance.millis(0..600)).await;
    if for_ever {
        let (more, in_flight) = (site.acked() - acked, in_flight(site));
        ensure(more <= in_flight, Column::Lost, || {
            format!(
                "{call} fails each time, yet {more} more messages are acknowledged, of which {in_flight} were stored before"
            )
        })?;
    }
    healed(site, told)
        .await
        .map_err(|broken| Broken { what: format!("{call} {from}..{to} {how}: {}", broken.what), ..broken })
}

/// The first and the last call to fail: a single one, a few, or many.
fn between(chance: &mut Chance) -> (u64, u64) {
    let from = chance.within(1..61);
    (from, from + chance.one_of(&[1, 1, 3, 20]) - 1)
}

async fn met(site: &mut Site, told: u64, patience: Duration) -> Result<bool, Broken> {
    let until = Instant::now() + patience;
    while site.prop::<Shim>(SHIM)?.told()? == told {
        if Instant::now() > until {
            return Ok(false);
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(true)
}

/// The disk works again: so must the engine, and nobody helps it.
async fn healed(site: &mut Site, told: u64) -> Result<(), Broken> {
    let shim = site.prop::<Shim>(SHIM)?;
    shim.heal()?;
    let faults = shim.told()? - told;
    site.injected(faults);
    site.engine.ready(PATIENCE).await?;
    site.under_load(20).await
}

/// Messages that may be stored and not yet answered.
fn in_flight(site: &Site) -> u64 {
    let windows = site.traffic.iter().map(|traffic| {
        let window = match traffic.plan.mode {
            Mode::Lockstep | Mode::Unanswered => 1,
            Mode::Pipelined(window) | Mode::Impatient(window, _) => window as u64,
        };
        u64::from(traffic.plan.connections) * window
    });
    windows.sum()
}

/// Slow is not broken: messages are still taken, only later.
async fn slow(site: &mut Site, mut chance: Chance) -> Result<(), Broken> {
    let told = site.prop::<Shim>(SHIM)?.told()?;
    site.prop::<Shim>(SHIM)?.plan(&format!("fdatasync 1 {FOR_EVER} delay 500"))?;
    let until = Instant::now() + Duration::from_secs(5) + chance.millis(0..1000);
    while Instant::now() < until {
        site.under_load(1).await?;
        let usage = site.engine.usage();
        let allowed = site.plan.rss_bytes_max;
        ensure(usage.rss_bytes <= allowed, Column::Bounded, || format!("{} bytes resident", usage.rss_bytes))?;
    }
    ensure(site.engine.is_ready().await, Column::Liveness, || "a slow disk makes it unready".to_owned())?;
    let shim = site.prop::<Shim>(SHIM)?;
    ensure(shim.told()? > told, Column::Checker, || "no sync was slowed down".to_owned())?;
    shim.heal()?;
    site.injected(1);
    site.under_load(20).await
}
