//! Which faults are run how often, several sites at once; progress, and the report after each group of cycles. A cycle
//! counts only once its group is audited.

use super::chance::Chance;
use super::progress::Progress;
use super::{Broken, Fault, Report, Row, Site, Tally, Tools, Violation, faults};
use crate::{mix, v2};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Which faults, how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matrix {
    /// All, as often as with each change.
    Quick,
    /// All, as often as before a release.
    Release,
    /// These, as often as with each change.
    Only(Vec<String>),
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Binaries and where reports go.
    pub tools: Tools,
    /// Which faults.
    pub matrix: Matrix,
    /// Cycles of single faults, otherwise than the matrix says.
    pub counts: Vec<(String, u32)>,
    /// The number of the first cycle; not 0 only to run cycles of an earlier run again.
    pub first: u32,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// Sites at the same time.
    pub jobs: usize,
}

/// Some cycles of a fault that share a site.
#[derive(Debug, Clone, Copy)]
struct Group {
    row: usize,
    fault: &'static Fault,
    first: u32,
    cycles: u32,
}

/// Runs what is wanted and answers the report, which is also in the report's folder. The error says why nothing could
/// be run.
pub async fn run(options: Options) -> Result<Report, String> {
    // A wrong command line leaves nothing behind.
    chosen(&options)?;
    let engine = engine_and_hash(&options.tools).await?;
    let folder = &options.tools.report;
    let before = continued(Report::read(folder), &options, &engine)?;
    fs::create_dir_all(folder).map_err(|fault| format!("{}: {fault}", folder.display()))?;
    let mut report = begun(&options, engine, before)?;
    let written = |report: &Report| report.write(folder).map_err(|fault| format!("{}: {fault}", folder.display()));
    // At once, so that a run stopped early goes on with its seed.
    written(&report)?;
    let mut groups = groups(&options, &report);
    let mut progress = Progress::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < options.jobs.max(1)
            && let Some(group) = groups.pop_front()
        {
            let options = options.clone();
            progress.begun(group.fault.id);
            running.spawn(async move { (group, run_group(group, &options).await) });
        }
        let ended = tokio::select! {
            ended = running.join_next() => ended,
            _ = tokio::signal::ctrl_c() => {
                running.shutdown().await;
                return Err(format!("interrupted; the same command with --report {} goes on", folder.display()));
            }
        };
        let Some(ended) = ended else { break };
        let (group, (tally, violations)) = ended.map_err(|fault| format!("a cycle of the checker failed: {fault}"))?;
        let row = &mut report.rows[group.row];
        row.done += group.cycles;
        row.tally.add(&tally);
        row.violations.extend(violations);
        report.date = Timestamp::now().strftime("%Y-%m-%d").to_string();
        written(&report)?;
        progress.ended(&report.rows[group.row]);
    }
    Ok(report)
}

/// What the engine says of itself, and the hash of its file: two builds of one version are two engines.
async fn engine_and_hash(tools: &Tools) -> Result<(String, String), String> {
    let unusable = |fault| format!("{}: {fault}; name the engine with --engine", tools.engine.display());
    let asked = tokio::process::Command::new(&tools.engine).arg("--version").output().await;
    let version = String::from_utf8_lossy(&asked.map_err(unusable)?.stdout).trim().to_owned();
    let hash = v2::hash(&fs::read(&tools.engine).map_err(unusable)?);
    Ok((version, format!("{hash:016x}")))
}

/// The report to go on with. One of another engine is none: its cycles say nothing of this one.
fn continued(
    before: Option<Report>,
    options: &Options,
    (_, hash): &(String, String),
) -> Result<Option<Report>, String> {
    let Some(before) = before.filter(|report| report.seed == options.seed && options.first == 0) else {
        return Ok(None);
    };
    if before.engine_hash == *hash {
        return Ok(Some(before));
    }
    Err(format!(
        "{}: the report there is of another engine ({}, file hash {}); this one's file hash is {hash}: \
         name another --report, another --seed, or remove that folder",
        options.tools.report.display(),
        before.engine,
        if before.engine_hash.is_empty() { "not known" } else { &before.engine_hash }
    ))
}

/// The rows as far as they were done before.
fn begun(options: &Options, engine: (String, String), before: Option<Report>) -> Result<Report, String> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
    let known: Vec<&Row> = before.iter().flat_map(|report| &report.rows).collect();
    let mut rows = Vec::new();
    for fault in chosen(options)? {
        let done = known.iter().find(|row| row.id == fault.id && row.skipped.is_none());
        let row = done.map_or_else(Row::default, |row| (*row).clone());
        let skipped = (fault.needs)(&options.tools).err();
        if let Some(why) = &skipped {
            eprintln!("{:<4} skipped: {why}", fault.id);
        }
        let (id, what) = (fault.id.to_owned(), fault.what.to_owned());
        rows.push(Row { id, what, wanted: wanted(options, fault), skipped, ..row });
    }
    let (engine, engine_hash) = engine;
    Ok(Report { engine, engine_hash, kernel, date: String::new(), seed: options.seed, rows })
}

fn chosen(options: &Options) -> Result<Vec<&'static Fault>, String> {
    let named = |id: &String| {
        let known = faults::all().find(|fault| fault.id.eq_ignore_ascii_case(id));
        known.ok_or_else(|| format!("there is no fault {id}; --list shows them"))
    };
    options.counts.iter().try_for_each(|(id, _)| named(id).map(|_| ()))?;
    match &options.matrix {
        Matrix::Only(ids) => {
            ids.iter().try_for_each(|id| named(id).map(|_| ()))?;
            let is_wanted = |fault: &str| ids.iter().any(|id| fault.eq_ignore_ascii_case(id));
            if let Some((id, _)) = options.counts.iter().find(|(id, _)| !is_wanted(id)) {
                return Err(format!("--count names {id}, which --faults leaves out; add it there"));
            }
            Ok(faults::all().filter(|fault| is_wanted(fault.id)).collect())
        }
        Matrix::Quick => Ok(faults::all().filter(|fault| wanted(options, fault) > 0).collect()),
        Matrix::Release => Ok(faults::all().collect()),
    }
}

fn wanted(options: &Options, fault: &Fault) -> u32 {
    let given = options.counts.iter().find(|(id, _)| fault.id.eq_ignore_ascii_case(id));
    let usual = if options.matrix == Matrix::Release { fault.release } else { fault.quick };
    // One that was asked for by name is run, also where the quick matrix leaves it out.
    let least = u32::from(matches!(options.matrix, Matrix::Only(_)));
    given.map_or(usual.max(least), |(_, count)| *count)
}

/// The groups still to do; the faults take turns, so that a short run has seen each of them.
fn groups(options: &Options, report: &Report) -> VecDeque<Group> {
    let mut groups = Vec::new();
    for (row, entry) in report.rows.iter().enumerate().filter(|(_, row)| row.skipped.is_none()) {
        let Some(fault) = faults::all().find(|fault| fault.id == entry.id) else { continue };
        let size = fault.group.clamp(1, 50);
        for (turn, first) in (entry.done..entry.wanted).step_by(size as usize).enumerate() {
            let cycles = size.min(entry.wanted - first);
            groups.push((turn, Group { row, fault, first: options.first + first, cycles }));
        }
    }
    groups.sort_by_key(|(turn, group)| (*turn, group.row));
    groups.into_iter().map(|(_, group)| group).collect()
}

async fn run_group(group: Group, options: &Options) -> (Tally, Vec<Violation>) {
    let Group { fault, first, cycles, .. } = group;
    let letters = fault.id.bytes().fold(0, |sum, byte| sum * 256 + u64::from(byte));
    let seed = mix(mix(options.seed, letters), u64::from(first));
    let folder = options.tools.report.join(format!("{}-{first:05}", fault.id));
    // What an interrupted run left there is of no use.
    let _ = fs::remove_dir_all(&folder);
    let (tally, broken) = match Site::open(&folder, (fault.plan)(&options.tools), &options.tools, seed).await {
        Ok(mut site) => {
            let broken = run_cycles(fault, &mut site, cycles, seed).await;
            (std::mem::take(&mut site.tally), broken)
        }
        Err(broken) => (Tally::default(), vec![broken]),
    };
    if broken.is_empty() {
        // The folders of broken cycles stay, to be looked into.
        let _ = fs::remove_dir_all(&folder);
    }
    let replay = replay(group, options);
    let violation =
        |Broken { column, what }| Violation { column, what, replay: replay.clone(), folder: folder.clone() };
    (tally, broken.into_iter().map(violation).collect())
}

fn replay(group: Group, options: &Options) -> String {
    let (id, crash) = (group.fault.id, options.tools.crash_engine.as_ref());
    let crash = crash.map(|path| format!(" --crash-engine {}", path.display())).unwrap_or_default();
    format!(
        "mllp-test verify --engine {}{crash} --seed {} --faults {id} --count {id}={} --first {}",
        options.tools.engine.display(),
        options.seed,
        group.cycles,
        group.first
    )
}

/// What was broken in so many cycles and in the audit after them.
pub(super) async fn run_cycles(fault: &Fault, site: &mut Site, cycles: u32, seed: u64) -> Vec<Broken> {
    let mut ended = begin(fault, site).await;
    for cycle in 0..cycles {
        if ended.is_err() {
            break;
        }
        site.tally.cycles += 1;
        let before = site.repeats();
        let done = (fault.cycle)(site, Chance::new(mix(seed, u64::from(cycle))));
        ended = timeout(fault.patience, done).await.unwrap_or_else(|_| {
            Err(Broken::new(super::Column::Liveness, format!("a cycle is not over after {:?}", fault.patience)))
        });
        ended = ended.map_err(|broken| Broken { what: format!("cycle {}: {}", cycle + 1, broken.what), ..broken });
        site.tally.repeats_max = site.tally.repeats_max.max(site.repeats() - before);
    }
    // Also after a broken cycle: what is lost is worth more than that something is.
    let settled = timeout(fault.patience, (fault.settle)(site)).await;
    let settled = settled.unwrap_or_else(|_| Err(Broken::checker("the audit is not over in time")));
    let mut broken: Vec<Broken> = ended.err().into_iter().collect();
    broken.append(&mut site.broken);
    broken.extend(settled.err());
    broken
}

async fn begin(fault: &Fault, site: &mut Site) -> Result<(), Broken> {
    (fault.prepare)(site).await?;
    if fault.started { site.start().await } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn options(counts: &[(&str, u32)]) -> Options {
        let no = std::path::PathBuf::from("no-engine");
        Options {
            tools: Tools { engine: no.clone(), crash_engine: None, report: no, release: false },
            matrix: Matrix::Only(counts.iter().map(|(id, _)| (*id).to_owned()).collect()),
            counts: counts.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect(),
            first: 0,
            seed: 7,
            jobs: 1,
        }
    }

    fn engine_of(hash: &str) -> (String, String) {
        ("cannula 0.1".to_owned(), hash.to_owned())
    }

    fn planned(options: &Options, before: Option<Report>) -> Vec<(&'static str, u32, u32)> {
        let report = begun(options, engine_of("1"), before).unwrap();
        groups(options, &report).iter().map(|group| (group.fault.id, group.first, group.cycles)).collect()
    }

    #[test]
    fn a_run_goes_on_where_it_stopped_and_leaves_out_what_is_done() {
        let options = options(&[("F1", 60), ("F3", 10)]);
        assert_eq!(planned(&options, None), [("F1", 0, 25), ("F3", 0, 10), ("F1", 25, 25), ("F1", 50, 10)]);
        let mut before = begun(&options, engine_of("1"), None).unwrap();
        (before.rows[0].done, before.rows[1].done) = (50, 10);
        assert_eq!(planned(&options, Some(before)), [("F1", 50, 10)]);
    }

    #[test]
    fn a_report_of_another_engine_or_of_one_not_known_is_not_gone_on_with_and_left_alone() {
        let options = options(&[("F1", 60)]);
        let before = |hash| Some(begun(&options, engine_of(hash), None).unwrap());
        assert!(continued(before("1"), &options, &engine_of("1")).unwrap().is_some());
        for other in ["2", ""] {
            let refused = continued(before(other), &options, &engine_of("1")).unwrap_err();
            assert!(refused.contains("another engine") && refused.contains("--report"), "{refused}");
        }
        let other_seed = Options { seed: 8, ..options.clone() };
        assert!(continued(before("2"), &other_seed, &engine_of("1")).unwrap().is_none());
    }

    #[test]
    fn a_group_can_be_run_again_by_its_first_cycle() {
        let wanted = Options { first: 50, ..options(&[("F1", 10)]) };
        assert_eq!(planned(&wanted, None), [("F1", 50, 10)]);
    }

    #[test]
    fn a_fault_that_is_not_known_and_one_that_cannot_be_done_are_said_so() {
        assert!(begun(&options(&[("F99", 1)]), engine_of("1"), None).unwrap_err().contains("F99"));
        let report = begun(&options(&[("F2", 1)]), engine_of("1"), None).unwrap();
        assert!(report.rows[0].skipped.as_ref().unwrap().contains("--crash-engine"));
        assert!(planned(&options(&[("F2", 1)]), None).is_empty());
    }
}
