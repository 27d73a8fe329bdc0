//! `cargo bench --bench system`: a built engine measured from outside, beside references that show what this machine can do.
//! Each row starts what it needs, takes turns in short rounds (reference, engine, reference, engine …) and holds every answer
//! and every delivery against what was sent. It builds nothing: run `cargo build --release` first. docs/PERFORMANCE.md says
//! what the numbers mean and what they do not.

mod report;
mod rows;
mod site;
mod spread;

use clap::{Parser, Subcommand};
use jiff::Zoned;
use mllp_test::measure::Reference;
use mllp_test::verify::Broken;
use report::Report;
use rows::{Found, Row, Setting};
use site::{Build, mounted};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

/// Files a load and its server open for each connection, with room for the rest.
const OPEN_FILES: u64 = 16_384;

#[derive(Debug, Parser)]
#[command(name = "system", about = "Measures a built engine from outside, row by row, beside this machine's limits")]
struct Arguments {
    /// Rows to measure; all of them where none is named.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…")]
    rows: Vec<Row>,
    /// Seconds of each measured time.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds of each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The engine's program; target/release/cannula of this workspace where none is named.
    #[arg(long, value_name = "FILE")]
    engine: Option<PathBuf>,
    /// Another build of the engine, which takes its turns in the same rounds: the one before a change.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Five million waiting messages in the row `backlog`, which needs 60 GB of disk and some ten minutes.
    #[arg(long)]
    full: bool,
    /// Writes everything measured, each round too, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where stores are made, on the disk to be measured.
    #[arg(long, value_name = "FOLDER", default_value = env!("CARGO_TARGET_TMPDIR"))]
    folder: PathBuf,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    reference: Option<Hidden>,
}

impl Arguments {
    /// With paths from the workspace's root, since Cargo runs a benchmark in its package's folder.
    fn in_workspace(self) -> Arguments {
        let from_root = |path: PathBuf| Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path);
        Arguments {
            engine: self.engine.map(from_root),
            before: self.before.map(from_root),
            json: self.json.map(from_root),
            folder: from_root(self.folder),
            ..self
        }
    }
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// Serves as a reference on a free local port and prints its address.
    #[command(hide = true)]
    Reference { kind: String, file: PathBuf },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse().in_workspace();
    let ended = match &arguments.reference {
        Some(Hidden::Reference { kind, file }) => serve(kind, file).await.map(|()| true),
        None => measure(&arguments).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("system: a message was not answered or not delivered as it must be; see the counts above");
            ExitCode::from(1)
        }
        Err(fault) => {
            eprintln!("system: {}", fault.what);
            ExitCode::from(1)
        }
    }
}

async fn serve(kind: &str, file: &Path) -> Result<(), Broken> {
    let reference = match kind {
        "echo" => Reference::Echo,
        "ack" => Reference::Ack,
        "durable" => Reference::Durable(file.to_owned()),
        other => return Err(Broken::checker(format!("there is no reference {other}"))),
    };
    Ok(reference.serve(([127, 0, 0, 1], 0).into()).await?)
}

async fn measure(arguments: &Arguments) -> Result<bool, Broken> {
    // The soft limit is often below what the row `idle` needs; where it cannot be raised that row says so.
    let _ = rlimit::increase_nofile_limit(OPEN_FILES);
    let builds = builds(arguments)?;
    let folder = arguments.folder.join(format!("system-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let setting = Setting {
        builds,
        folder: folder.clone(),
        time: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds.into(),
        waiting: if arguments.full { 5_000_000 } else { 250_000 },
    };
    let mut report = Report { setting: surroundings(arguments, &folder), lines: Vec::new(), evidence: Vec::new() };
    let rows = if arguments.rows.is_empty() { Row::ALL.to_vec() } else { arguments.rows.clone() };
    for row in rows {
        eprintln!("{} …", row.name());
        let found = row.measure(&setting).await;
        let Found { lines, evidence } =
            found.inspect_err(|_| eprintln!("stores and logs stay in {}", folder.display()))?;
        report.lines.extend(lines);
        report.evidence.extend(evidence);
    }
    fs::remove_dir_all(&folder)?;
    println!("{}", report.markdown());
    if let Some(file) = &arguments.json {
        let json = serde_json::to_vec_pretty(&report).map_err(Broken::checker)?;
        fs::write(file, json)?;
    }
    Ok(report.is_right())
}

fn builds(arguments: &Arguments) -> Result<Vec<Build>, Broken> {
    let ours = match &arguments.engine {
        Some(program) => program.clone(),
        // This program is target/release/deps/system-….
        None => env::current_exe()?.ancestors().nth(2).map(|folder| folder.join("cannula")).unwrap_or_default(),
    };
    let named = [("engine", Some(ours)), ("before", arguments.before.clone())];
    let builds =
        named.into_iter().filter_map(|(name, program)| Some(Build { name: name.to_owned(), program: program? }));
    builds.map(existing).collect()
}

fn existing(build: Build) -> Result<Build, Broken> {
    let whole = build.program.canonicalize().map_err(|_| {
        Broken::checker(format!(
            "there is no engine at {}: run `cargo build --release`, or name a program with --engine",
            build.program.display()
        ))
    })?;
    Ok(Build { program: whole, ..build })
}

fn surroundings(arguments: &Arguments, folder: &Path) -> Vec<(&'static str, String)> {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (_, device, kind) = mounted(folder);
    let load = read("/proc/loadavg");
    let busy = load.split(' ').next().unwrap_or_default();
    vec![
        ("taken", Zoned::now().strftime("%F %H:%M %Z").to_string()),
        ("machine", format!("{cores} × {}, Linux {}", model.trim(), read("/proc/sys/kernel/osrelease").trim())),
        ("disk", format!("{kind} on {}", device.display())),
        ("busy before", format!("{busy} processes, from the kernel's load average of a minute")),
        ("rounds", format!("{} of {} s", arguments.rounds, arguments.seconds)),
    ]
}
