//! The whole way to a receiver: sustained, one at a time, as FHIR, out of a backlog, and with frames cut anywhere. Load and
//! receiver are of this process; what is under way between them is bounded, so that nothing builds up unseen.

use super::{Found, Setting, Turns, millis};
use crate::report::{Evidence, Goal, Line};
use crate::site::{Beside, Build, Sample, Site};
use crate::spread::{Spread, figure};
use mllp_test::load::new_run;
use mllp_test::measure::receiver::Speaks;
use mllp_test::measure::{Flow, Load, Receiver, Taken};
use mllp_test::verify::Broken;
use std::sync::Arc;
use std::time::Duration;

/// Messages under way at most: beyond the 16 unanswered and 8 outstanding of the lanes, little enough that it is no backlog.
const UNDER_WAY: u64 = 1_000;
/// A receiver that hears nothing for so long will hear nothing more.
const PATIENCE: Duration = Duration::from_secs(20);
/// Messages on each of 16 connections that fill a segment of 64 MiB.
const SETTLING_IN: u64 = 1_100;
/// Messages of the backlog that is drained, for each second of the measured time.
const BACKLOG_A_SECOND: f64 = 6_000.0;

/// How an engine is set up for a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// The row.
    pub(super) row: &'static str,
    /// What its receiver speaks.
    pub(super) speaks: Speaks,
    /// Messages under way at most.
    pub(super) under_way: u64,
    /// Order and number of lanes, in TOML.
    pub(super) lanes: &'static str,
    /// Further lines of `cannula.toml`.
    pub(super) store: &'static str,
}

/// MLLP to MLLP in eight lanes.
pub(super) const EIGHT_LANES: Shape = Shape {
    row: "through",
    speaks: Speaks::Mllp,
    under_way: UNDER_WAY,
    lanes: "order = \"device\"\nlanes = 8",
    store: "",
};

/// An engine that is past its beginning and whose only destination is paused.
pub(super) async fn paused(setting: &Setting, row: &'static str, build: &Build) -> Result<Site, Broken> {
    let mut way = Way::open(setting, build, Shape { row, under_way: u64::MAX, ..EIGHT_LANES }).await?;
    way.settle_in().await?;
    if way.evidence.has_faults() {
        return Err(Broken::checker(format!("the first messages were not taken and delivered: {:?}", way.evidence)));
    }
    way.paused().await
}

/// An engine, and the receiver of its destination.
pub(super) struct Way {
    pub(super) site: Site,
    receiver: Receiver,
    flow: Arc<Flow>,
    pub(super) evidence: Evidence,
}

impl Way {
    pub(super) async fn open(setting: &Setting, build: &Build, shape: Shape) -> Result<Way, Broken> {
        let flow = Arc::new(Flow::bounded(shape.under_way));
        let receiver = Receiver::start(shape.speaks, flow.clone())?;
        let (address, lanes) = (receiver.address(), shape.lanes);
        let there = match shape.speaks {
            Speaks::Mllp => format!("type = \"mllp\"\naddress = \"{address}\"\n{lanes}\n"),
            Speaks::Fhir => format!(
                "type = \"fhir\"\nurl = \"http://{address}/fhir\"\n{lanes}\nfhir = {{ identifier_systems = {{ \"GENHOSP\" = \"urn:oid:2.999.1.1\" }} }}\n"
            ),
        };
        let mut site = Site::make(&setting.folder, shape.row, build, &there)?;
        site.configure(shape.store)?;
        site.engine.start().await?;
        Ok(Way { site, receiver, flow, evidence: Evidence::new(shape.row, &build.name) })
    }

    /// Fills the first segment of the store, which a new store writes in a hurry: what follows is how it goes on.
    pub(super) async fn settle_in(&mut self) -> Result<(), Broken> {
        let address = self.site.listener;
        let load =
            Load { messages: Some(SETTLING_IN), warm_up: Duration::ZERO, ..Load::to(address, 16, Duration::ZERO) };
        self.send(load).await.map(drop)
    }

    /// Sends, waits until all of it is delivered, and enters both in the evidence.
    pub(super) async fn send(&mut self, load: Load) -> Result<(Sample, Taken), Broken> {
        let run = new_run();
        self.receiver.expect(run);
        let pid = self.site.engine.pid()?;
        let sample = crate::site::sample(Load { flow: self.flow.clone(), ..load }, pid, run).await;
        let taken = self.settle(&sample).await;
        Ok((sample, taken))
    }

    /// Pauses the destination; from now on what is answered must wait.
    async fn paused(self) -> Result<Site, Broken> {
        self.site.steer("pause").await?;
        Ok(Site { answered: 0, ..self.site })
    }

    async fn settle(&mut self, sample: &Sample) -> Taken {
        self.site.answered += sample.outcome.answered;
        self.evidence.load(&sample.outcome);
        self.receiver.wait_for(sample.outcome.answered, PATIENCE).await;
        let taken = self.receiver.taken();
        self.evidence.delivered(&taken, sample.outcome.answered);
        taken
    }
}

pub(super) async fn through(setting: &Setting) -> Result<Found, Broken> {
    let durable = Beside::start("durable", &setting.folder)?;
    let mut ways = Vec::new();
    for build in &setting.builds {
        let mut way = Way::open(setting, build, EIGHT_LANES).await?;
        way.settle_in().await?;
        ways.push(way);
    }
    let (mut reference, mut engines) = (Vec::new(), vec![Vec::new(); ways.len()]);
    for _ in 0..setting.rounds {
        reference.push(durable.send(setting.load(durable.address, 16)).await);
        for (way, samples) in ways.iter_mut().zip(&mut engines) {
            samples.push(way.send(setting.load(way.site.listener, 16)).await?);
        }
    }
    reference.push(durable.send(setting.load(durable.address, 16)).await);
    let mut found = Found::default();
    for (way, samples) in ways.into_iter().zip(engines) {
        let Way { site, evidence, .. } = way;
        let build = site.build.clone();
        found.evidence.push(evidence);
        site.stop().await?;
        found.lines.extend(through_lines(&build, &reference, &samples, setting.time));
    }
    Ok(found)
}

fn through_lines(build: &str, reference: &[Sample], engine: &[(Sample, Taken)], time: Duration) -> [Line; 3] {
    let delivered = |sample: &Sample| sample.delivered as f64 / time.as_secs_f64();
    let shares = Turns {
        reference: reference.iter().map(Sample::rate).collect(),
        engine: engine.iter().map(|(sample, _)| delivered(sample)).collect(),
    };
    let late =
        |share: f64| figure(engine.iter().map(|(_, taken)| to_delivery(taken, share)).collect::<Spread>().median);
    let rate = Line::new(
        "through",
        build,
        "MLLP → MLLP, 8 lanes, 16 connections in, sustained",
        "/s",
        shares.engine.clone().into(),
    )
    .goals(Goal::AtLeast(10_000.0), Goal::AtLeast(10_000.0))
    .detail(format!("at most {UNDER_WAY} under way; to delivery p50 {} ms, p99 {} ms", late(0.5), late(0.99)));
    let share = Line::new("through", build, "the same as a share", "% of `durable`", shares.percent())
        .goals(Goal::AtLeast(30.0), Goal::AtLeast(50.0))
        .detail(shares.detail("/s", "durable"));
    let cpu = engine.iter().map(|(sample, _)| sample.cpu.as_secs_f64() * 1e6 / sample.delivered.max(1) as f64);
    let cpu = Line::new("through", build, "CPU a message, stored, acknowledged and delivered", "µs", cpu.collect())
        .goals(Goal::AtMost(90.0), Goal::AtMost(70.0));
    [rate, share, cpu]
}

/// From sending to delivery, in milliseconds.
fn to_delivery(taken: &Taken, share: f64) -> f64 {
    taken.latency.percentile(share).as_secs_f64() * 1e3
}

pub(super) async fn latency(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for build in &setting.builds {
        let mut way = Way::open(setting, build, Shape { row: "latency", under_way: 1, ..EIGHT_LANES }).await?;
        let load =
            Load { pause: Duration::from_millis(2), warm_up: Duration::ZERO, ..setting.load(way.site.listener, 1) };
        way.send(load.clone()).await?;
        let (mut samples, mut median, mut late) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..setting.rounds {
            let (sample, taken) = way.send(load.clone()).await?;
            samples.push(sample);
            median.push(to_delivery(&taken, 0.5));
            late.push(to_delivery(&taken, 0.99));
        }
        let acked = format!("ACK p50 {} ms, p99 {} ms", millis(&samples, 0.5), millis(&samples, 0.99));
        let what = "received → stored → delivered, one connection, idle queue, p50";
        let line = Line::new("latency", &build.name, what, "ms", median.into());
        found.lines.push(line.goals(Goal::AtMost(1.5), Goal::AtMost(1.0)).detail(acked));
        let line = Line::new("latency", &build.name, "the same, p99", "ms", late.into());
        found.lines.push(line.goals(Goal::AtMost(12.0), Goal::AtMost(10.0)));
        found.evidence.push(way.evidence);
        way.site.stop().await?;
    }
    Ok(found)
}

pub(super) async fn fhir(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for build in &setting.builds {
        let mut way = Way::open(setting, build, Shape { row: "fhir", speaks: Speaks::Fhir, ..EIGHT_LANES }).await?;
        let (mut rates, mut cpu) = (Vec::new(), Vec::new());
        for _ in 0..setting.rounds {
            let (sample, _) = way.send(setting.load(way.site.listener, 16)).await?;
            rates.push(sample.delivered as f64 / setting.time.as_secs_f64());
            cpu.push(sample.cpu.as_secs_f64() * 1e6 / sample.delivered.max(1) as f64);
        }
        let line = Line::new("fhir", &build.name, "MLLP → FHIR, 8 lanes, bundles", "/s", rates.into());
        let line = line.goals(Goal::AtLeast(3_000.0), Goal::AtLeast(6_000.0));
        found.lines.push(line.detail(format!("CPU a bundle {} µs", Spread::from(cpu).words())));
        found.evidence.push(way.evidence);
        way.site.stop().await?;
    }
    Ok(found)
}

pub(super) async fn drain(setting: &Setting) -> Result<Found, Broken> {
    let echo = Beside::start("echo", &setting.folder)?;
    let mut ways = Vec::new();
    let plain = Shape { row: "drain", under_way: u64::MAX, lanes: "order = \"strict\"", ..EIGHT_LANES };
    let ahead = Shape { row: "ahead", lanes: "order = \"strict\"\nresend_window = 64", ..plain };
    // An earlier build may not know the window.
    let of_builds = setting.builds.iter().map(|build| (build, plain));
    for (build, strict) in of_builds.chain(setting.builds.first().map(|build| (build, ahead))) {
        let mut way = Way::open(setting, build, strict).await?;
        way.settle_in().await?;
        ways.push((way, strict.row == "ahead"));
    }
    let echoed = || async { echo.send(Load { echo: true, ..setting.load(echo.address, 1) }).await.rate() };
    let mut turns = vec![Turns { reference: Vec::new(), engine: Vec::new() }; ways.len()];
    for _ in 0..setting.rounds {
        let reference = echoed().await;
        for ((way, _), turns) in ways.iter_mut().zip(&mut turns) {
            turns.reference.push(reference);
            turns.engine.push(drained(way, setting.time).await?);
        }
    }
    let reference = echoed().await;
    let mut found = Found::default();
    for ((way, is_ahead), mut turns) in ways.into_iter().zip(turns) {
        turns.reference.push(reference);
        let (row, what) = match is_ahead {
            true => ("ahead", "the same with `resend_window = 64`"),
            false => {
                ("drain", "drain of a backlog into one strict lane, each answer on the disk before the next message")
            }
        };
        let line = Line::new(row, &way.site.build, what, "% of one connection's `echo`", turns.percent());
        let line = if is_ahead { line.goals(Goal::AtLeast(35.0), Goal::AtLeast(50.0)) } else { line };
        found.lines.push(line.detail(turns.detail("/s", "echo")));
        found.evidence.push(way.evidence);
        way.site.stop().await?;
    }
    Ok(found)
}

/// Messages a second from the first delivered to the last, of a backlog made while the destination was paused.
async fn drained(way: &mut Way, time: Duration) -> Result<f64, Broken> {
    way.site.steer("pause").await?;
    let each = (time.as_secs_f64() * BACKLOG_A_SECOND / 16.0).ceil() as u64;
    let load = Load {
        window: 16,
        messages: Some(each),
        warm_up: Duration::ZERO,
        ..Load::to(way.site.listener, 16, Duration::ZERO)
    };
    let (run, pid) = (new_run(), way.site.engine.pid()?);
    way.receiver.expect(run);
    let sample = crate::site::sample(load, pid, run).await;
    way.site.steer("resume").await?;
    let taken = way.settle(&sample).await;
    let took = taken.first.zip(taken.last).map_or(f64::INFINITY, |(first, last)| (last - first).as_secs_f64());
    Ok(taken.messages.saturating_sub(1) as f64 / took)
}

pub(super) async fn framing(setting: &Setting) -> Result<Found, Broken> {
    let mut found = Found::default();
    for build in &setting.builds {
        let mut way = Way::open(setting, build, Shape { row: "framing", ..EIGHT_LANES }).await?;
        let mut rates = Vec::new();
        for _ in 0..setting.rounds {
            let load = Load { window: 16, pieces: true, ..setting.load(way.site.listener, 16) };
            rates.push(way.send(load).await?.0.rate());
        }
        let what = "frames written together and in pieces, 16×16 pipelined, delivered";
        let line = Line::new("framing", &build.name, what, "/s", rates.into());
        found.lines.push(line.detail("for the counts below; no goal"));
        found.evidence.push(way.evidence);
        way.site.stop().await?;
    }
    Ok(found)
}
