//! What waiting messages cost: an engine in which few wait and one in which many do take turns at the same load. Then how
//! much memory the many took, and how long the engine needs to listen again with all of them.

use super::standing::listening;
use super::way::paused;
use super::{Found, Setting};
use crate::report::{Evidence, Goal, Line};
use crate::site::{Build, Sample, Site};
use crate::spread::{Spread, figure};
use mllp_test::measure::{Load, process};
use mllp_test::verify::Broken;
use std::time::Duration;
use tokio::time::sleep;

const FEW: u64 = 1_000;
/// The allocator gives back what is free after a second.
const CALM: Duration = Duration::from_millis(2_500);
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn measure(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for build in &setting.builds {
        of_build(setting, build, &mut found).await?;
    }
    Ok(found)
}

async fn of_build(setting: &Setting, build: &Build, found: &mut Found) -> Result<(), Broken> {
    let mut many = paused(setting, "many", build).await?;
    let mut evidence = Evidence::new("backlog", &build.name);
    wait(&mut many, FEW, &mut evidence).await?;
    let with_few = memory(&many).await?;
    wait(&mut many, setting.waiting, &mut evidence).await?;
    let growth = memory(&many).await? - with_few;
    let waiting = many.answered;

    let (mut rates, mut late) = (Vec::new(), Vec::new());
    for _ in 0..setting.rounds {
        let mut few = paused(setting, "few", build).await?;
        wait(&mut few, FEW, &mut evidence).await?;
        let before = few.send(setting.load(few.listener, 16)).await?;
        evidence.missing += few.missing().await?;
        few.stop().await?;
        let after = many.send(setting.load(many.listener, 16)).await?;
        let pair = [&before, &after];
        pair.iter().for_each(|sample| evidence.load(&sample.outcome));
        rates.push(change(pair, Sample::rate));
        late.push(change(pair, Sample::p99));
    }
    let again = restart(&mut many, setting.rounds).await?;
    evidence.missing += many.missing().await?;
    many.stop().await?;

    let line = |what: &str, unit, spread: Spread, reach, aim| {
        Line::new("backlog", &build.name, what, unit, spread).goals(Goal::AtMost(reach), Goal::AtMost(aim))
    };
    let many = format!("{} waiting against {} and what a round adds", figure(waiting as f64), figure(FEW as f64));
    let slower = rates.iter().map(|change| -change).collect();
    found.lines.push(line("cost of many waiting: intake rate lost", "%", slower, 15.0, 10.0).detail(many));
    found.lines.push(line("cost of many waiting: ACK p99 more", "%", late.into(), 15.0, 10.0));
    let what = "cost of many waiting: memory more";
    found
        .lines
        .push(line(what, "MB", vec![growth / 1e6].into(), 96.0, 64.0).detail("the engine's own, 2.5 s after the last"));
    found.lines.push(line("restart to listening with many waiting", "s", again, 2.0, 1.0));
    found.evidence.push(evidence);
    Ok(())
}

/// Sends until `waiting` messages wait.
async fn wait(site: &mut Site, waiting: u64, evidence: &mut Evidence) -> Result<(), Broken> {
    let each = waiting.saturating_sub(site.answered).div_ceil(16);
    let load = Load {
        window: 16,
        messages: Some(each),
        warm_up: Duration::ZERO,
        ..Load::to(site.listener, 16, Duration::ZERO)
    };
    evidence.load(&site.send(load).await?.outcome);
    Ok(())
}

async fn memory(site: &Site) -> Result<f64, Broken> {
    sleep(CALM).await;
    Ok(process::own_rss(site.engine.pid()?) as f64)
}

/// By how many percent the second is more than the first.
fn change(pair: [&Sample; 2], of: impl Fn(&Sample) -> f64) -> f64 {
    (of(pair[1]) / of(pair[0]) - 1.0) * 100.0
}

/// Seconds from the start of the process to listening, with what waits.
async fn restart(site: &mut Site, rounds: usize) -> Result<Spread, Broken> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        site.engine.terminate(PATIENCE).await?;
        times.push(listening(&mut site.engine, site.listener).await?.as_secs_f64());
        site.engine.ready(PATIENCE).await?;
    }
    Ok(times.into())
}
