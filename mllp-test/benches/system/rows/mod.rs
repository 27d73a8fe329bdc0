//! The rows by name. Each gives lines of the table and what was right and wrong with its messages.

mod backlog;
mod disk;
mod intake;
mod noted;
mod references;
mod standing;
mod tls;
mod way;

use crate::report::{Evidence, Line};
use crate::site::{Build, Sample};
use crate::spread::{Spread, figure};
use clap::ValueEnum;
use mllp_test::measure::Load;
use mllp_test::verify::Broken;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What every row is measured with.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Builds of the engine, in the order of their turns.
    pub builds: Vec<Build>,
    /// Where stores are made.
    pub folder: PathBuf,
    /// Each measured time.
    pub time: Duration,
    /// How many of them.
    pub rounds: usize,
    /// Messages that wait at the end of `backlog`.
    pub waiting: u64,
}

impl Setting {
    fn load(&self, address: SocketAddr, connections: u64) -> Load {
        Load::to(address, connections, self.time)
    }
}

/// What a row found.
#[derive(Debug, Default)]
pub struct Found {
    /// Lines of the table.
    pub lines: Vec<Line>,
    /// Beside the speed.
    pub evidence: Vec<Evidence>,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// The references alone.
    References,
    /// Stored before the answer, 16 connections, its destination paused.
    Intake,
    /// The same on one connection.
    IntakeOne,
    /// The same on 16 connections with 16 messages unanswered on each.
    IntakePipelined,
    /// MLLP to MLLP in eight lanes, with nothing building up.
    Through,
    /// From sending to delivery on an idle engine.
    Latency,
    /// MLLP to FHIR in eight lanes.
    Fhir,
    /// A backlog into one strict lane.
    Drain,
    /// What many waiting messages cost.
    Backlog,
    /// Memory at rest and of idle connections.
    Idle,
    /// From the start of the process to listening.
    Start,
    /// Bytes that go to the disk.
    Disk,
    /// Frames written together and in pieces.
    Framing,
    /// The field index, from the criterion benchmark.
    Index,
    /// The same over TLS 1.3, against plaintext.
    Tls,
}

impl Row {
    /// All rows, in the order of the table.
    pub const ALL: [Row; 15] = [
        Row::References,
        Row::Intake,
        Row::IntakeOne,
        Row::IntakePipelined,
        Row::Through,
        Row::Latency,
        Row::Fhir,
        Row::Drain,
        Row::Backlog,
        Row::Idle,
        Row::Start,
        Row::Disk,
        Row::Framing,
        Row::Index,
        Row::Tls,
    ];

    /// As it is written on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Row::References => "references",
            Row::Intake => "intake",
            Row::IntakeOne => "intake-one",
            Row::IntakePipelined => "intake-pipelined",
            Row::Through => "through",
            Row::Latency => "latency",
            Row::Fhir => "fhir",
            Row::Drain => "drain",
            Row::Backlog => "backlog",
            Row::Idle => "idle",
            Row::Start => "start",
            Row::Disk => "disk",
            Row::Framing => "framing",
            Row::Index => "index",
            Row::Tls => "tls",
        }
    }

    /// Measures it.
    pub async fn measure(self, setting: &Setting) -> Result<Found, Broken> {
        match self {
            Row::References => references::measure(setting).await,
            Row::Intake | Row::IntakeOne | Row::IntakePipelined => intake::measure(self, setting).await,
            Row::Through => way::through(setting).await,
            Row::Latency => way::latency(setting).await,
            Row::Fhir => way::fhir(setting).await,
            Row::Drain => way::drain(setting).await,
            Row::Backlog => backlog::measure(setting).await,
            Row::Idle => standing::idle(setting).await,
            Row::Start => standing::start(setting).await,
            Row::Disk => disk::measure(setting).await,
            Row::Framing => way::framing(setting).await,
            Row::Index => noted::index(),
            Row::Tls => tls::measure(setting).await,
        }
    }
}

/// Rates and the like of the rounds, and of the reference before, between and after them.
#[derive(Debug, Clone)]
struct Turns {
    reference: Vec<f64>,
    engine: Vec<f64>,
}

impl Turns {
    /// Of `of` each sample, the references one more than the engine's.
    fn of(reference: &[Sample], engine: &[Sample], of: impl Fn(&Sample) -> f64) -> Turns {
        Turns { reference: reference.iter().map(&of).collect(), engine: engine.iter().map(&of).collect() }
    }

    /// Each round over the mean of the reference before and after it.
    fn share(&self) -> Spread {
        let around = self.reference.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        self.engine.iter().zip(around).map(|(engine, reference)| engine / reference).collect()
    }

    fn percent(&self) -> Spread {
        self.share().rounds.into_iter().map(|share| share * 100.0).collect()
    }

    fn detail(&self, unit: &str, reference: &str) -> String {
        let [engine, beside] = [&self.engine, &self.reference].map(|rounds| Spread::from(rounds.clone()));
        format!("{}{unit}; {reference} {}{unit}", engine.words(), beside.words())
    }
}

/// A percentile of each round, in milliseconds, as words.
fn millis(samples: &[Sample], share: f64) -> String {
    let of = |sample: &Sample| sample.outcome.latency.percentile(share).as_secs_f64() * 1e3;
    figure(samples.iter().map(of).collect::<Spread>().median)
}
