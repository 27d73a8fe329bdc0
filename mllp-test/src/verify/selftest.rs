//! The checker checked: engines broken on purpose, one promise each. Every one must be caught in the column it belongs in,
//! and the same cycles with the same engine unbroken must be clean. A sabotage that the engine offers and no trial here
//! knows is a failure too: an unwatched promise must not look watched.

use super::broken::{Broken, Column};
use super::run::run_cycles;
use super::{Fault, Plan, Site, Tools, faults};
use crate::verify::traffic::TrafficPlan;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use tokio::process::Command;
use tokio::task::JoinSet;

/// One engine and what was seen of it.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The promise broken; `None` for the engine unbroken.
    pub sabotage: Option<String>,
    /// The cycles it went through.
    pub fault: &'static str,
    /// The column in which it must be seen.
    pub expected: Option<Column>,
    /// The columns in which something was seen.
    pub seen: BTreeSet<Column>,
    /// What was seen.
    pub found: Vec<Broken>,
}

impl Trial {
    /// Whether what was to be seen was seen: for an unbroken engine nothing.
    pub fn passed(&self) -> bool {
        self.expected.map_or(self.seen.is_empty(), |expected| self.seen.contains(&expected))
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.sabotage.as_deref().unwrap_or("unbroken");
        let seen: Vec<String> = self.seen.iter().map(|column| format!("{column:?}")).collect();
        let verdict = match (self.passed(), self.expected) {
            (true, Some(_)) => "caught",
            (true, None) => "clean",
            (false, Some(_)) => "NOT CAUGHT",
            (false, None) => "NOT CLEAN",
        };
        write!(f, "{what:<16} {:<12} seen: {:<24} {verdict}", self.fault, seen.join(", "))?;
        if self.passed() {
            return Ok(());
        }
        self.found.iter().try_for_each(|broken| write!(f, "\n    {broken}"))
    }
}

struct Wanted {
    sabotage: Option<&'static str>,
    fault: &'static Fault,
    expected: Option<Column>,
}

const fn broken(sabotage: &'static str, fault: &'static Fault, expected: Column) -> Wanted {
    Wanted { sabotage: Some(sabotage), fault, expected: Some(expected) }
}

const TRIALS: &[Wanted] = &[
    broken("ack-before-sync", &faults::UNDER_KILLS, Column::Lost),
    broken("drop", &UNDISTURBED, Column::Lost),
    broken("swap", &UNDISTURBED, Column::Reordered),
    broken("duplicate", &UNDISTURBED, Column::Repeats),
    broken("wrong-msa2", &UNDISTURBED, Column::AckMismatch),
    broken("leak", &UNDISTURBED, Column::Leaked),
    broken("unbounded", &UNDISTURBED, Column::Bounded),
    broken("corrupt", &UNDISTURBED, Column::Corrupt),
    Wanted { sabotage: None, fault: &UNDISTURBED, expected: None },
    Wanted { sabotage: None, fault: &faults::UNDER_KILLS, expected: None },
];

/// Cycles of each trial.
const CYCLES: u32 = 5;
/// One message in so many is treated badly.
const EVERY: &str = "40";
/// An engine at rest holds half of this, and one that hoards these few messages more than all of it.
const RSS_BYTES_MAX: u64 = 64 << 20;

/// Load and nothing else.
const UNDISTURBED: Fault = Fault {
    id: "undisturbed",
    what: "load and nothing else",
    cycle: |site, _| Box::pin(async { site.under_load(200).await }),
    ..Fault::BASE
};

/// Runs every trial with an engine built with the feature `sabotage`. The error says why that cannot be done.
pub async fn self_test(tools: &Tools, seed: u64, jobs: usize) -> Result<Vec<Trial>, String> {
    let offered = offered(tools).await?;
    let unknown = |name: &&String| !TRIALS.iter().any(|trial| trial.sabotage == Some(name.as_str()));
    if let Some(name) = offered.iter().find(unknown) {
        return Err(format!("no trial knows the sabotage `{name}`; write one"));
    }
    let mut waiting = TRIALS.iter();
    let mut running = JoinSet::new();
    let mut trials = Vec::new();
    loop {
        while running.len() < jobs.max(1)
            && let Some(wanted) = waiting.next()
        {
            let tools = tools.clone();
            running.spawn(async move { trial(wanted, &tools, seed).await });
        }
        let Some(trial) = running.join_next().await else { return Ok(trials) };
        let trial = trial.map_err(|fault| format!("a trial of the checker failed: {fault}"))?;
        eprintln!("{trial}");
        trials.push(trial);
    }
}

/// The sabotages that this engine can be told to commit.
async fn offered(tools: &Tools) -> Result<Vec<String>, String> {
    let asked = Command::new(&tools.engine).arg("check").env("CANNULA_SABOTAGE", "list").output().await;
    let output = asked.map_err(|fault| format!("{}: {fault}", tools.engine.display()))?;
    let names: Vec<String> = String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect();
    let known = names.iter().any(|name| TRIALS.iter().any(|trial| trial.sabotage == Some(name.as_str())));
    if output.status.success() && known {
        return Ok(names);
    }
    Err(format!(
        "{}: this engine breaks no promise on purpose; build it with the feature `sabotage`",
        tools.engine.display()
    ))
}

async fn trial(wanted: &Wanted, tools: &Tools, seed: u64) -> Trial {
    let name = format!("self-test-{}-{}", wanted.sabotage.unwrap_or("unbroken"), wanted.fault.id);
    let folder = tools.report.join(name);
    let _ = fs::remove_dir_all(&folder);
    let found = match Site::open(&folder, plan(wanted), tools, seed).await {
        Ok(mut site) => run_cycles(wanted.fault, &mut site, CYCLES, seed).await,
        Err(broken) => vec![broken],
    };
    let trial = Trial {
        sabotage: wanted.sabotage.map(str::to_owned),
        fault: wanted.fault.id,
        expected: wanted.expected,
        seen: found.iter().map(|broken| broken.column).collect(),
        found,
    };
    if trial.passed() {
        let _ = fs::remove_dir_all(&folder);
    }
    trial
}

fn plan(wanted: &Wanted) -> Plan {
    let sabotage = wanted.sabotage.map(|name| ("CANNULA_SABOTAGE".to_owned(), name.to_owned()));
    let every = ("CANNULA_SABOTAGE_EVERY".to_owned(), EVERY.to_owned());
    Plan {
        envs: sabotage.into_iter().chain([every]).collect(),
        traffic: vec![TrafficPlan { rate: 0.0, ..TrafficPlan::USUAL }],
        rss_bytes_max: RSS_BYTES_MAX,
        ..Plan::strict()
    }
}
