//! A destination that is away for long: everything must be taken meanwhile, held in bounded memory, found again by a
//! start that does not take longer for it, and delivered at a rate that does not fall with what waits.

use crate::verify::broken::{Broken, Column, ensure};
use crate::verify::site::ReceiverPlan;
use crate::verify::traffic::{Mode, Traffic, TrafficPlan};
use crate::verify::{Fault, Plan, Site, Tools, channels};
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub(super) const FAULTS: &[Fault] = &[Fault {
    id: "F14",
    what: "destination away while a backlog grows (100,000 messages; before a release 10 million)",
    quick: 1,
    release: 1,
    group: 1,
    patience: Duration::from_secs(48 * 3600),
    plan,
    cycle: |site, _| Box::pin(away_for_long(site)),
    ..Fault::BASE
}];

const LANES: u32 = 8;
/// A start may take so long for each million that waits, and so long at least.
const START_PER_MILLION: Duration = Duration::from_secs(10);
/// The last part of the backlog may take so many times as long as the first; a quadratic one takes far more.
const SLOWER: u32 = 6;
const PARTS: u64 = 10;

fn messages(tools: &Tools) -> u64 {
    if tools.release { 10_000_000 } else { 100_000 }
}

/// Eight gateways, each of them a device with a lane of its own.
fn plan(tools: &Tools) -> Plan {
    let by_device = "name = \"legacy\"\norder = \"device\"\nlanes = 8";
    let gateways = TrafficPlan {
        connections: LANES,
        mode: Mode::Pipelined(64),
        rate: 0.0,
        obx: 2,
        messages: Some(messages(tools) / u64::from(LANES)),
        ..TrafficPlan::USUAL
    };
    let legacy = ReceiverPlan { lanes: u64::from(LANES), ..ReceiverPlan::mllp("legacy", 6661) };
    Plan {
        channels: vec![("pumps", channels::to_legacy().replace("name = \"legacy\"", by_device))],
        receivers: vec![legacy],
        traffic: vec![gateways],
        ..Plan::default()
    }
}

async fn away_for_long(site: &mut Site) -> Result<(), Broken> {
    site.receiver("legacy")?.down().await;
    site.injected(1);
    for traffic in &mut site.traffic {
        Traffic::finished(traffic).await;
    }
    let acked = site.acked();
    ensure(acked == messages(&site.tools), Column::Liveness, || {
        format!("{acked} acknowledged with the destination away: {}", site.engine.last_words())
    })?;
    let waiting = site.engine.json("/api/store").await?["waiting"].as_u64().unwrap_or(0);
    site.quit().await?;
    let begun = Instant::now();
    site.start_engine().await?;
    let allowed = START_PER_MILLION * (1 + waiting / 1_000_000) as u32;
    ensure(begun.elapsed() <= allowed, Column::Start, || {
        format!("the start took {:?} with {waiting} waiting", begun.elapsed())
    })?;
    site.receiver("legacy")?.up().await?;
    delivered_evenly(site, waiting).await
}

/// Sees the backlog go down part by part, each in about the same time.
async fn delivered_evenly(site: &mut Site, waiting: u64) -> Result<(), Broken> {
    let begun = Instant::now();
    let mut first = None;
    let mut left = waiting;
    for part in 1..=PARTS {
        let (started, target) = (Instant::now(), waiting - waiting * part / PARTS);
        let mut moved = Instant::now();
        while left > target {
            let now = site.engine.json("/api/store").await?["waiting"].as_u64().unwrap_or(0);
            if now < left {
                moved = Instant::now();
            }
            left = now;
            ensure(moved.elapsed() < site.plan.drain, Column::Liveness, || format!("{left} wait and none moves"))?;
            sleep(Duration::from_millis(50)).await;
        }
        let took = started.elapsed();
        let allowed = SLOWER * *first.get_or_insert(took.max(Duration::from_secs(1)));
        ensure(took <= allowed, Column::Liveness, || {
            format!("part {part} of {PARTS} of the backlog took {took:?}, the first took {first:?}")
        })?;
    }
    site.tally.drain_ms = site.tally.drain_ms.max(begun.elapsed().as_millis() as u64);
    Ok(())
}
