//! Commands on the files of the store: `store`, `audit`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Common, Failure, Outcome, api, block_on, count};
use crate::{
    admin,
    clock::Clock,
    config::EngineConfig,
    metrics::Metrics,
    store::{DiskStore, Stats, Store},
};

#[derive(Subcommand)]
pub(super) enum StoreAction {
    /// Figures: messages, waiting, dead letters, bytes; of the running engine, or of a stopped engine's files
    Stats,
    /// Read every record of a stopped engine's journal and prove its checksum
    Verify,
    /// Keep what can be proved of a stopped engine's damaged store, and say what is lost; copy its folder first
    Rebuild,
    /// Write a backup into a directory on the engine's machine; of the running engine, or of a stopped engine's files
    Backup {
        /// Made where it does not exist; must be empty
        directory: PathBuf,
    },
    /// Make the store of a stopped engine, where there is none, from a backup
    Restore {
        /// The backup
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
pub(super) enum AuditAction {
    /// Prove that no line was changed, removed or moved
    Verify,
}

pub(super) fn store(common: &Common, action: &StoreAction) -> Outcome {
    let config = common.load_engine()?;
    match action {
        StoreAction::Stats => stats(common, &config),
        StoreAction::Verify => verify(common, &config.store.path),
        StoreAction::Rebuild => {
            existing(&config.store.path)?;
            print!("{}", DiskStore::rebuild(&config.store.path, config.store.options())?);
            Ok(())
        }
        StoreAction::Backup { directory } => backup(common, &config, &std::path::absolute(directory)?),
        StoreAction::Restore { directory } => {
            let backup = DiskStore::restore(directory, &config.store.path, &config.store.options())?;
            tell(common, &serde_json::to_value(backup)?);
            if !common.json {
                println!("restored to {}; all that waits is marked as possible repeat", config.store.path.display());
            }
            Ok(())
        }
    }
}

fn backup(common: &Common, config: &EngineConfig, directory: &Path) -> Outcome {
    let made = match api::running_stats(common)? {
        Some(_) => api::running_backup(common, directory)?,
        None => {
            existing(&config.store.path)?;
            let (store, audit) = (&config.store, admin::audit_files(&config.store.audit_log()));
            serde_json::to_value(DiskStore::backup_stopped(&store.path, directory, &audit, Timestamp::now())?)?
        }
    };
    tell(common, &made);
    match made["damage"].as_array().map_or(0, Vec::len) {
        0 => Ok(()),
        n => Err(Failure::Failed(format!("the backup is as the store is: {} of damage in it", count(n, "place")))),
    }
}

fn tell(common: &Common, backup: &Value) {
    if common.json {
        return println!("{backup:#}");
    }
    let figure = |name: &str| backup[name].as_u64().unwrap_or_default();
    let (segments, records) = (count(figure("segments"), "segment"), count(figure("records"), "record"));
    let made_at = backup["made_at"].as_str().unwrap_or_default();
    let last = figure("last_sequence");
    println!("complete backup of {made_at}: {segments}, {records}, up to sequence {last}, each proved");
    backup["damage"].as_array().into_iter().flatten().for_each(|damage| println!("damaged in the store: {damage}"));
}

fn stats(common: &Common, config: &EngineConfig) -> Outcome {
    let stats = match api::running_stats(common)? {
        Some(running) => running,
        None => serde_json::to_value(stopped_stats(config)?)?,
    };
    if common.json {
        println!("{stats:#}");
    } else {
        let figures = stats.as_object().into_iter().flatten();
        figures.for_each(|(name, figure)| println!("{name:<16} {figure}"));
    }
    Ok(())
}

fn stopped_stats(config: &EngineConfig) -> Result<Stats, Failure> {
    let path = &config.store.path;
    existing(path)?;
    let metrics = Arc::new(Metrics::new()?);
    let store = DiskStore::open(path, config.store.options(), metrics, Clock::system())?;
    let stats = store.stats();
    block_on(async { Ok(store.close().await?) })?;
    Ok(stats)
}

fn existing(path: &Path) -> Outcome {
    let nothing = || Failure::Failed(format!("{}: there is no store here", path.display()));
    if path.is_dir() { Ok(()) } else { Err(nothing()) }
}

fn verify(common: &Common, path: &Path) -> Outcome {
    existing(path)?;
    let report = DiskStore::verify(path, |_, _| {})?;
    let damage: Vec<String> = report.damage.iter().map(ToString::to_string).collect();
    if common.json {
        let (first, last) = report.sequences;
        println!(
            "{:#}",
            json!({
                "segments": report.segments, "records": report.records, "bytes": report.bytes,
                "first_sequence": first, "last_sequence": last,
                "torn": report.torn.as_ref().map(ToString::to_string), "damage": damage,
            })
        );
    } else {
        let (segments, records) = (count(report.segments, "segment"), count(report.records, "record"));
        println!("{}: {segments}, {records}, {} bytes read", path.display(), report.bytes);
        report.torn.iter().for_each(|torn| println!("never durable, cut at the next start: {}", torn));
        damage.iter().for_each(|damage| println!("damaged: {damage}"));
    }
    match damage.len() {
        0 => Ok(()),
        _ => Err(Failure::Failed("the journal is damaged; copy its folder before anything else is done to it".into())),
    }
}

pub(super) fn audit(common: &Common, action: &AuditAction) -> Outcome {
    let AuditAction::Verify = action;
    let path = common.load_engine()?.store.audit_log();
    let lines = admin::verify_audit(&path)?;
    if common.json {
        println!("{}", json!({ "lines": lines, "chain": "holds" }));
    } else {
        println!("{}: the chain of {} holds", path.display(), count(lines, "line"));
    }
    Ok(())
}
