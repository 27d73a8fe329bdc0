//! `verify`: the fault matrix, its report, and what to do when a promise was broken.

use super::Failure;
use super::args::VerifyArgs;
use mllp_test::load;
use mllp_test::verify::{self, Matrix, Options, Report, Tools, faults};
use std::fmt::Display;
use std::path::PathBuf;

impl VerifyArgs {
    pub(super) async fn run(self, json: bool) -> Result<bool, Failure> {
        if self.list {
            let line = |id, quick: &dyn Display, release: &dyn Display, what| {
                println!("{id:<5} {quick:>5} {release:>7}  {what}");
            };
            line("FAULT", &"QUICK", &"RELEASE", "WHAT IS DONE (cycles with each change, and before a release)");
            faults::all().for_each(|it| line(it.id, &it.quick, &it.release, it.what));
            return Ok(true);
        }
        let report = self.report.clone().unwrap_or_else(default_report);
        let options = Options {
            tools: Tools {
                engine: self.engine.clone().map_or_else(engine_beside, |path| Ok(absolute(path)))?,
                crash_engine: self.crash_engine.clone().map(absolute),
                report: absolute(report.clone()),
                release: self.release_matrix,
            },
            matrix: self.matrix(),
            counts: self.count,
            first: self.first,
            seed: self.seed.or_else(|| Report::read(&report).map(|it| it.seed)).unwrap_or_else(new_seed),
            jobs: self.jobs,
        };
        if self.self_test {
            return self_test(&options, json).await;
        }
        println!("seed {}, report in {}", options.seed, report.display());
        let report = verify::run(options).await?;
        print(&report, json)?;
        Ok(report.is_clean())
    }

    fn matrix(&self) -> Matrix {
        match (&self.faults[..], self.release_matrix) {
            ([], true) => Matrix::Release,
            ([], false) => Matrix::Quick,
            (faults, _) => Matrix::Only(faults.to_vec()),
        }
    }
}

async fn self_test(options: &Options, json: bool) -> Result<bool, Failure> {
    std::fs::create_dir_all(&options.tools.report)?;
    let trials = verify::self_test(&options.tools, options.seed, options.jobs).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&trials)?);
    }
    let failed = trials.iter().filter(|trial| !trial.passed()).count();
    println!("{} trials, {failed} failed", trials.len());
    Ok(failed == 0)
}

fn print(report: &Report, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("\n{}", report.markdown());
    }
    Ok(())
}

fn new_seed() -> u64 {
    load::new_run().into()
}

fn default_report() -> PathBuf {
    std::env::temp_dir().join(format!("mllp-test-verify-{}", std::process::id()))
}

/// The engine runs in folders of its own, where a relative path would mean something else.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn engine_beside() -> Result<PathBuf, Failure> {
    let engine = std::env::current_exe()?.with_file_name("cannula");
    if engine.is_file() {
        Ok(engine)
    } else {
        Err(format!("{}: not there; name the engine with --engine", engine.display()).into())
    }
}
