//! Stored before the answer, while the only destination is paused: what an acknowledgement costs and nothing else.

use super::way::paused;
use super::{Found, Row, Setting, Turns, millis};
use crate::report::{Evidence, Goal, Line};
use crate::site::{Beside, Sample};
use crate::spread::Spread;
use mllp_test::measure::Load;
use mllp_test::verify::Broken;
use std::net::SocketAddr;

pub(super) async fn measure(row: Row, setting: &Setting) -> Result<Found, Broken> {
    let load = |address: SocketAddr| match row {
        Row::IntakeOne => setting.load(address, 1),
        Row::IntakePipelined => Load { window: 16, ..setting.load(address, 16) },
        _ => setting.load(address, 16),
    };
    let durable = Beside::start("durable", &setting.folder)?;
    let mut sites = Vec::new();
    for build in &setting.builds {
        sites.push(paused(setting, row.name(), build).await?);
    }
    let (mut reference, mut engines) = (Vec::new(), vec![Vec::new(); sites.len()]);
    for _ in 0..setting.rounds {
        reference.push(durable.send(load(durable.address)).await);
        for (site, samples) in sites.iter_mut().zip(&mut engines) {
            samples.push(site.send(load(site.listener)).await?);
        }
    }
    reference.push(durable.send(load(durable.address)).await);
    let mut found = Found::default();
    for (site, samples) in sites.into_iter().zip(&engines) {
        found.lines.extend(lines(row, &site.build, &reference, samples));
        let mut evidence = Evidence::new(row.name(), &site.build);
        samples.iter().for_each(|sample| evidence.load(&sample.outcome));
        evidence.missing = site.missing().await?;
        found.evidence.push(evidence);
        site.stop().await?;
    }
    let mut evidence = Evidence::new(row.name(), "durable");
    reference.iter().for_each(|sample| evidence.load(&sample.outcome));
    found.evidence.push(evidence);
    Ok(found)
}

fn lines(row: Row, build: &str, reference: &[Sample], engine: &[Sample]) -> Vec<Line> {
    let rates = Turns::of(reference, engine, Sample::rate);
    let (what, reach, aim) = match row {
        Row::IntakeOne => ("the same, one connection", 80.0, 90.0),
        Row::IntakePipelined => ("the same, 16×16 pipelined", 60.0, 85.0),
        _ => ("intake, stored before ACK, 16 connections, its one destination paused", 60.0, 85.0),
    };
    let share = Line::new(row.name(), build, what, "% of `durable`", rates.percent())
        .goals(Goal::AtLeast(reach), Goal::AtLeast(aim))
        .detail(rates.detail("/s", "durable"));
    if row != Row::Intake {
        let cpu: Spread = engine.iter().map(Sample::cpu_micros).collect();
        let cpu = Line::new(row.name(), build, "its CPU a message", "µs", cpu);
        return vec![share, cpu.detail(format!("ACK p50 {} ms, p99 {} ms", millis(engine, 0.5), millis(engine, 0.99)))];
    }
    let late = Turns::of(reference, engine, Sample::p99);
    let late = Line::new(row.name(), build, "ACK p99 at 16 connections against the reference's", "×", late.share())
        .goals(Goal::AtMost(2.0), Goal::AtMost(1.3))
        .detail(late.detail(" ms", "durable"));
    let cpu = Turns::of(reference, engine, Sample::cpu_micros);
    let spread: Spread = cpu.engine.clone().into();
    let cpu = Line::new(row.name(), build, "CPU a message, stored and acknowledged", "µs", spread)
        .goals(Goal::AtMost(45.0), Goal::AtMost(35.0))
        .detail(cpu.detail(" µs", "durable"));
    vec![share, late, cpu]
}
