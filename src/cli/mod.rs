//! The command line: `run` and what an analyst or operator does beside it.
//!
//! Exit codes: 0 done, 1 failed, 64 configuration fault, of which all are listed at once. What runs on message files
//! (`check`, `try`, `explain`) needs no engine; what looks at messages received (`messages`, `dead`, `replay`) asks the
//! running engine's admin API.

mod api;
mod cgm_summary;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod devices;
mod explain;
mod jwks;
mod mappings;
mod message_file;
mod offline;
mod owed;
mod run;
mod senders;
mod terminal;
#[cfg(feature = "sabotage")]
mod told_clock;
mod try_message;
mod unmapped;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{self, Config, EngineConfig},
    sabotage,
    told::count,
};

/// Cannula: the line between bedside devices and the record.
#[derive(Parser)]
#[command(name = "cannula", version = sabotage::VERSION, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Given with any command.
#[derive(Args, Clone)]
struct Common {
    /// Configuration file; without it ./cannula.toml, and built-in defaults where that does not exist
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print data as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Run the engine until SIGTERM or Ctrl-C, which drain it; a second one stops at once
    #[command(after_help = "Example: cannula run --config /etc/cannula/cannula.toml")]
    Run,
    /// Check the configuration, every channel and its samples; lists all faults at once
    #[command(
        after_help = "Example: cannula check\n         cannula check --online\n         cannula check --schema > cannula.schema.json"
    )]
    Check {
        /// Print the JSON schemas of cannula.toml and of channel files instead
        #[arg(long)]
        schema: bool,
        /// Ask the FHIR servers too whether they can do what is configured; nothing is written there
        #[arg(long)]
        online: bool,
    },
    /// Print exactly what a channel would send for a message file, and where each element came from
    #[command(after_help = "Example: cannula try bedside-pumps message.hl7 --destination ehr")]
    Try(try_message::TryArgs),
    /// Print a message's tree with field names and its IHE PCD meaning
    #[command(
        after_help = "Example: cannula explain message.hl7\n         cannula explain message.hl7 --channel bedside-pumps"
    )]
    Explain {
        /// HL7 v2 file, of a message or a batch; segments may end in CR, LF or CRLF
        file: PathBuf,
        /// Read it as this channel would, and say what the engine would answer: its character set, what it tolerates of its senders, and its rules of which places name the device; and tell where each element comes from that its FHIR destinations are sent
        #[arg(long)]
        channel: Option<String>,
    },
    /// List, show or export messages received, from the running engine
    #[command(after_help = "Example: cannula messages list --channel bedside-pumps --state dead")]
    Messages {
        #[command(subcommand)]
        action: api::MessagesAction,
    },
    /// List dead letters, send them again or give them up
    #[command(after_help = "Example: cannula dead list\n         cannula dead retry 4711")]
    Dead {
        #[command(subcommand)]
        action: api::DeadAction,
    },
    /// List application ACKs that are owed to senders, or give one up
    #[command(after_help = "Example: cannula owed list\n         cannula owed discard 4711")]
    Owed {
        #[command(subcommand)]
        action: owed::OwedAction,
    },
    /// Send a channel's messages of a period again
    #[command(
        after_help = "Example: cannula replay --channel bedside-pumps --from 2026-01-05T08:00:00Z --to 2026-01-05T09:00:00Z --dry-run"
    )]
    Replay(api::ReplayArgs),
    /// List devices: when last heard, whether silent, how far their clocks are off, what is missing
    #[command(
        after_help = "Example: cannula devices --state silent\n         cannula devices 12\n         cannula devices 12 --forget"
    )]
    Devices(devices::DevicesArgs),
    /// Sum up a patient's continuous glucose over a period, from the readings kept by the running engine
    #[command(
        after_help = "Example: cannula cgm-summary --patient 4711 --from 2026-01-05T00:00:00Z --to 2026-01-19T00:00:00Z\n         cannula cgm-summary --patient - --from 2026-01-05T00:00:00Z --to 2026-01-19T00:00:00Z --fhir urn:oid:2.999.1"
    )]
    CgmSummary(cgm_summary::CgmSummaryArgs),
    /// List the codes that no table has, or print them as rows of a table to fill in
    #[command(
        after_help = "Example: cannula unmapped\n         cannula unmapped --table mdc-to-flowsheet.csv --csv --output rows.csv"
    )]
    Unmapped(unmapped::UnmappedArgs),
    /// Write the whole mapping in force for review: codes, units, statuses, systems, choices
    Mappings {
        #[command(subcommand)]
        action: mappings::MappingsAction,
    },
    /// What each sender breaks of the conformance rules, from the running engine
    #[command(after_help = "Example: cannula conformance\n         cannula conformance --rule A03 --json")]
    Conformance(senders::ConformanceArgs),
    /// Print the public keys by which destinations log in (auth.type smart-backend), as a JWK set to register with an EHR
    #[command(after_help = "Example: cannula jwks --channel bedside-pumps --destination ehr > jwks.json")]
    Jwks(jwks::JwksArgs),
    /// Look at the store, back it up, restore it
    #[command(after_help = "Example: cannula store verify\n         cannula store backup /backups/2026-01-05")]
    Store {
        #[command(subcommand)]
        action: offline::StoreAction,
    },
    /// Prove the audit log's chain
    #[command(after_help = "Example: cannula audit verify")]
    Audit {
        #[command(subcommand)]
        action: offline::AuditAction,
    },
    /// Run the engine with the sample channels, simulated gateways and stub EHRs, and print the account
    #[cfg(feature = "demo")]
    #[command(after_help = "Example: cannula demo --seconds 60\n         cannula demo --seconds 60 --outage 10")]
    Demo(demo::DemoArgs),
}

/// Why a command did not do what was asked, as its exit code.
enum Failure {
    /// Exit 1; the text says who must act.
    Failed(String),
    /// Exit 64.
    Configuration(Vec<config::Fault>),
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Failed(error.to_string())
    }
}

type Outcome = Result<(), Failure>;

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    // Every TLS client and listener of the process uses this provider; a second install changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::panic::set_hook(Box::new(|panic| {
        // The place alone: a panic's text can quote what was being read.
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic; this is a fault of Cannula, please report the place");
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            let _ = usage.print();
            return if usage.use_stderr() { ExitCode::from(64) } else { ExitCode::SUCCESS };
        }
    };
    #[cfg(feature = "sabotage")]
    match sabotage::asked() {
        Ok(None) => {}
        Ok(Some(names)) => {
            println!("{names}");
            return ExitCode::SUCCESS;
        }
        Err(unknown) => {
            eprintln!("cannula: {unknown}");
            return ExitCode::from(64);
        }
    }
    match dispatch(&cli.common, cli.command.unwrap_or(Command::Run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Failed(why)) => {
            eprintln!("cannula: {}", terminal::lines(&why));
            ExitCode::FAILURE
        }
        Err(Failure::Configuration(faults)) => {
            if cli.common.json {
                println!("{:#}", faults.iter().map(json_of).collect::<serde_json::Value>());
            }
            faults.iter().for_each(|fault| eprintln!("{fault}"));
            eprintln!("cannula: {} in the configuration; nothing was started", count(faults.len(), "fault"));
            ExitCode::from(64)
        }
    }
}

fn json_of(fault: &config::Fault) -> serde_json::Value {
    let config::Fault { file, line, column, what, remedy } = fault;
    serde_json::json!({ "file": file, "line": line, "column": column, "what": what, "remedy": remedy })
}

fn dispatch(common: &Common, command: Command) -> Outcome {
    match command {
        Command::Run => run::run(common),
        Command::Check { schema, online } => check::check(common, schema, online),
        Command::Try(args) => try_message::try_message(common, &args),
        Command::Explain { file, channel } => explain::explain(common, &file, channel.as_deref()),
        Command::Messages { action } => api::messages(common, action),
        Command::Dead { action } => api::dead(common, action),
        Command::Owed { action } => owed::owed(common, action),
        Command::Replay(args) => api::replay(common, &args),
        Command::Devices(args) => devices::devices(common, args),
        Command::CgmSummary(args) => cgm_summary::cgm_summary(common, args),
        Command::Unmapped(args) => unmapped::unmapped(common, &args),
        Command::Mappings { action } => mappings::mappings(common, &action),
        Command::Conformance(args) => senders::conformance(common, &args),
        Command::Jwks(args) => jwks::jwks(common, &args),
        Command::Store { action } => offline::store(common, &action),
        Command::Audit { action } => offline::audit(common, &action),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::demo(&args),
    }
}

impl Common {
    fn load(&self) -> Result<Config, Failure> {
        config::load(self.config.as_deref()).map_err(Failure::Configuration)
    }

    /// For one channel, or none: that others have faults is said, and keeps nobody from this one.
    fn load_channel(&self, name: Option<&str>) -> Result<Config, Failure> {
        let (config, left_out) = config::load_channel(self.config.as_deref(), name).map_err(Failure::Configuration)?;
        let mut files: Vec<String> = left_out.iter().map(|fault| fault.file.display().to_string()).collect();
        files.dedup();
        if !files.is_empty() {
            let files = files.join(", ");
            eprintln!(
                "cannula: left out for faults, though they may come first at an address: {files}; see cannula check"
            );
        }
        Ok(config)
    }

    /// cannula.toml alone: what is asked of the running engine or its store needs no channel to be sound.
    fn load_engine(&self) -> Result<EngineConfig, Failure> {
        config::load_engine(self.config.as_deref()).map_err(Failure::Configuration)
    }
}

/// The number of something that a command lists.
fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it is the number in the first column of the list: give that".to_owned())
}

/// Starts the runtime that a command's async part runs on.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
