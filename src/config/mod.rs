//! TOML as typed → resolved, every fault at once.
//!
//! Nothing is ignored: an unknown key, a key of another destination type, or one this version does not support is a
//! fault, and a configuration with a fault is not run. Secrets are references; they are followed here, and neither they
//! nor what stands in their place is ever repeated in a fault.

mod channel_file;
mod destination_table;
mod document;
mod engine;
mod fhir_keys;
mod fhir_mapping;
mod fhir_table;
mod in_force;
mod insulin;
mod keys;
mod profiles;
mod reader;
mod samples;
mod schema;
mod secret;
mod source;
mod steps_table;
mod summary_table;
mod tables;
mod tls_table;
mod tolerance_table;
mod value;
mod watch;

use std::{
    cell::RefCell,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use in_force::{InForce, in_force};
pub use samples::{SAMPLE_ID, SAMPLE_RECEIVED_AT, check_samples};
pub use schema::schemas;
pub use watch::{Watch, watch};

use crate::{channel::Channel, destination::Settings, intake::Intake, pcd::Nomenclature, store::Options};
use channel_file::{Loaded, Surroundings};
use document::Document;
use engine::Engine;
use source::{Source, line_column};
use tables::Tables;

/// The configuration file looked for where none is named.
pub const DEFAULT_FILE: &str = "cannula.toml";

/// One fault: who wrote it must act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file it is in.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Character in the line, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// "do this".
    pub remedy: String,
}

/// `file:line:column: what; do this`.
impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}: {}; {}", self.file.display(), self.line, self.column, self.what, self.remedy)
    }
}

/// Everything `run` needs, resolved.
pub struct Config {
    /// The file it was read from, or would have been.
    pub file: PathBuf,
    /// Files that secrets were read from.
    pub secret_files: Vec<PathBuf>,
    /// What works and still should be mended.
    pub warnings: Vec<Fault>,
    /// The store.
    pub store: StoreConfig,
    /// Address of the console, API, metrics and health.
    pub admin: SocketAddr,
    /// Budgets of the whole engine.
    pub limits: LimitsConfig,
    /// Form of a log line.
    pub log: LogFormat,
    /// Folder of the channel files and of their samples.
    pub channels_dir: PathBuf,
    /// Folder of the CSV tables.
    pub tables_dir: PathBuf,
    /// The built-in codes overlaid by the tables' folder.
    pub nomenclature: Arc<Nomenclature>,
    /// By file name; of those that share an address, the first that accepts a message takes it.
    pub channels: Vec<Arc<Channel>>,
}

impl Config {
    /// The intake of a channel's address, as it is when it listens there: to ask what it would answer.
    pub fn intake_of(&self, channel: &Channel) -> Result<Arc<Intake>, prometheus::Error> {
        let address = channel.listener.address;
        let sharing = self.channels.iter().filter(|other| other.listener.address == address);
        let intake = Intake::detached(sharing.cloned().collect(), self.nomenclature.clone())?;
        intake.set_batch_bytes_max(self.limits.in_flight_bytes / 2);
        Ok(intake)
    }
}

/// Settings of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// Its folder.
    pub path: PathBuf,
    /// How long delivered messages are kept.
    pub retain: Duration,
    /// Disk it may use.
    pub bytes_max: u64,
    /// Size of one file of its journal.
    pub segment_bytes: u32,
    /// What the engine plans its memory by.
    pub memory_bytes: usize,
    /// Keep delivered messages for all of `retain`, and refuse new ones where that leaves no room.
    pub retain_when_full: bool,
}

impl StoreConfig {
    /// The audit log, which is beside what the store keeps.
    pub fn audit_log(&self) -> PathBuf {
        self.path.join("audit.ndjson")
    }

    /// As the store takes them; what is not configured keeps its default.
    pub fn options(&self) -> Options {
        let defaults = Options::default();
        Options {
            retain: self.retain,
            bytes_max: self.bytes_max,
            segment_bytes: self.segment_bytes,
            retain_when_full: self.retain_when_full,
            checkpoint_bytes: (self.bytes_max / 16).min(defaults.checkpoint_bytes),
            ..defaults.within(self.memory_bytes)
        }
    }
}

/// Budgets of the whole engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// What the engine plans its memory by.
    pub memory_bytes: usize,
    /// Bytes of messages read and not yet answered, over all listeners.
    pub in_flight_bytes: usize,
    /// How long a stop waits for what was begun.
    pub drain_timeout: Duration,
    /// How long a message is held while the store is full.
    pub hold_when_full: Duration,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// What cannula.toml alone says, for those who ask the running engine or look after its store: a faulty channel or table must
/// not keep them from that.
pub struct EngineConfig {
    /// The store.
    pub store: StoreConfig,
    /// Address of the console, API, metrics and health.
    pub admin: SocketAddr,
}

/// Reads `file` alone, as [`load`] does.
pub fn load_engine(file: Option<&Path>) -> Result<EngineConfig, Vec<Fault>> {
    let (source, base) = engine_file(file)?;
    let (_, engine) = engine::read(&source, &base);
    match (engine, source.into_faults()) {
        (Some(Engine { store, admin, .. }), faults) if faults.is_empty() => Ok(EngineConfig { store, admin }),
        (_, faults) => Err(faults),
    }
}

/// cannula.toml and its folder.
fn engine_file(file: Option<&Path>) -> Result<(Source, PathBuf), Vec<Fault>> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
            Ok((Source::new(&path, String::new()), base))
        }
        Err(error) => Err(vec![unreadable(&path, &error)]),
        Ok(text) => Ok((Source::new(&path, text), base)),
    }
}

/// Reads `file` (built-in defaults where none is named and there is no ./cannula.toml), its channels and tables. Every
/// relative path starts at the file's folder. All faults, never only the first.
pub fn load(file: Option<&Path>) -> Result<Config, Vec<Fault>> {
    load_with(file, |_| true).map(|(config, _)| config)
}

/// The same for who wants one channel, or none: faults in files of other channels, which are left out, keep nobody from that
/// and are told beside it.
pub fn load_channel(file: Option<&Path>, channel: Option<&str>) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
    load_with(file, |name| channel == Some(name))
}

fn load_with(file: Option<&Path>, is_needed: impl Fn(&str) -> bool) -> Result<(Config, Vec<Fault>), Vec<Fault>> {
    let (source, base) = engine_file(file)?;
    let path = source.path.clone();
    let (folders, engine) = engine::read(&source, &base);
    let tables = Tables::open(&folders.tables);
    let around =
        Surroundings { base: &base, tables: &tables, secret_files: RefCell::default(), warnings: RefCell::default() };
    let files = channel_files(&folders.channels, &source);
    let read: Vec<(Source, Option<Loaded>)> = files.iter().map(|file| read_channel(file, &around)).collect();
    check_together(&source, engine.as_ref(), &read);
    let codes = tables.nomenclature();
    let (secret_files, warnings) = (around.secret_files.into_inner(), around.warnings.into_inner());
    let mut faults = source.into_faults();
    let (mut channels, mut all, mut left_out) = (Vec::new(), true, Vec::new());
    for (file, (source, loaded)) in files.iter().zip(read) {
        let (is_needed, own) = (is_needed(&channel_name(file)), source.into_faults());
        match loaded.and_then(|loaded| loaded.channel).filter(|_| own.is_empty()) {
            Some(channel) => channels.push(Arc::new(channel)),
            None => all &= !is_needed,
        }
        if is_needed { faults.extend(own) } else { left_out.extend(own) }
    }
    faults.extend(tables.into_faults());
    match (engine, codes) {
        (Some(engine), Some(codes)) if all && faults.is_empty() => {
            let Engine { channels_dir, tables_dir, store, admin, limits, log } = engine;
            let (file, nomenclature) = (path, codes.nomenclature);
            let config = Config {
                file,
                secret_files,
                warnings,
                store,
                admin,
                limits,
                log,
                channels_dir,
                tables_dir,
                nomenclature,
                channels,
            };
            Ok((config, left_out))
        }
        _ => {
            faults.extend(left_out);
            Err(faults)
        }
    }
}

/// As its file is called.
fn channel_name(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Where a channel's file names one of its destinations: line and column.
pub fn place_of_destination(file: &Path, name: &str) -> (usize, usize) {
    let source = Source::new(file, fs::read_to_string(file).unwrap_or_default());
    let document = Document::parse(&source);
    let destinations = document.root.get_ref().get("destination").map(|found| found.get_ref());
    let own = destinations.and_then(toml::de::DeValue::as_array).into_iter().flatten().find_map(|table| {
        let written = table.get_ref().as_table()?.get("name")?;
        (written.get_ref().as_str() == Some(name)).then(|| written.span().start)
    });
    own.map_or((1, 1), |at| line_column(&source.text, at))
}

/// The channel files, by name. An empty folder has none; one that is not there is a fault of cannula.toml.
fn channel_files(folder: &Path, source: &Source) -> Vec<PathBuf> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            let what = format!("the folder of channel files, {}, cannot be read: {}", folder.display(), error.kind());
            source.fault(source.text.find("channels").unwrap_or(0), what, "make it or set `channels`");
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    let hidden = |file: &Path| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml") && !hidden(file));
    files.sort();
    files
}

fn read_channel(file: &Path, around: &Surroundings<'_>) -> (Source, Option<Loaded>) {
    match fs::read_to_string(file) {
        Ok(text) => {
            let source = Source::new(file, text);
            let loaded = channel_file::read(&source, &channel_name(file), around);
            (source, loaded)
        }
        Err(error) => {
            let source = Source::new(file, String::new());
            let fault = unreadable(file, &error);
            source.fault(0, fault.what, fault.remedy);
            (source, None)
        }
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Fault {
    let (what, remedy) = match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file".to_owned(), "name the right one with --config"),
        io::ErrorKind::InvalidData => ("the file is not UTF-8 text".to_owned(), "save it as UTF-8"),
        kind => (format!("the file cannot be read: {kind}"), "let the engine's user read it"),
    };
    Fault { file: file.to_owned(), line: 1, column: 1, what, remedy: remedy.to_owned() }
}

/// What only shows when all files are seen.
fn check_together(engine_source: &Source, engine: Option<&Engine>, read: &[(Source, Option<Loaded>)]) {
    let loaded: Vec<(&Source, &Loaded)> = read.iter().filter_map(|(s, l)| l.as_ref().map(|l| (s, l))).collect();
    let mut directories: Vec<&Path> = Vec::new();
    for (at, (source, this)) in loaded.iter().enumerate() {
        check_address(source, this, &loaded[..at]);
        check_directories(source, this, &mut directories);
        let Some(engine) = engine else { continue };
        if this.address.is_some_and(|address| overlap(address, engine.admin)) {
            source.fault(this.address_at, "listener.address is the admin address", "listen on another port");
        }
        check_message_size(source, this, engine, engine_source);
        check_summaries(source, this, engine);
    }
}

/// The largest message against what the engine holds of messages.
fn check_message_size(source: &Source, this: &Loaded, engine: &Engine, engine_source: &Source) {
    let size = |bytes: usize| value::shown(bytes as u64);
    let Some(max) = this.limits.as_ref().map(|limits| limits.frame_bytes_max) else { return };
    let default = if this.max_message_is_written { "" } else { ", its default" };
    let over = |bound: usize, told: String, key: &str| {
        if max > bound {
            let file = engine_source.path.display();
            let what = format!("listener.max_message ({}{default}) is over {told} in {file}", size(max));
            let remedy = format!("set `max_message` to at most {}, or raise `{key}`", size(bound));
            source.fault(this.max_message_at, what, remedy);
        }
    };
    let (in_flight, segment) = (engine.limits.in_flight_bytes, engine.store.segment_bytes as usize);
    over(in_flight, format!("limits.max_in_flight ({})", size(in_flight)), "max_in_flight");
    over(segment / 2, format!("half of store.segment_bytes ({})", size(segment)), "segment_bytes");
}

/// A summary of readings that are gone by the time it is made.
fn check_summaries(source: &Source, this: &Loaded, engine: &Engine) {
    let kept = engine.store.retain.as_secs() / 86_400;
    let summaries = this.channel.iter().flat_map(|channel| &channel.summaries);
    for (summary, at) in summaries.zip(&this.summaries_at).filter(|(summary, _)| u64::from(summary.days) >= kept) {
        let what = format!("summary.days is {}, and messages are kept for {kept} days only", summary.days);
        source.fault(*at, what, "make it shorter, or `store.retain` longer than it by a day at least");
    }
}

/// An address that clashes with another channel's, or at which nothing is left for this channel.
fn check_address(source: &Source, this: &Loaded, earlier: &[(&Source, &Loaded)]) {
    let earlier = || earlier.iter().map(|(_, other)| *other);
    if let Some(other) = earlier().find(|other| clash(other, this)) {
        let what = format!("listener.address is shared with channel {}", other.name);
        source.fault(this.address_at, what, "give both the same address, limits and `tls`, or another port");
    }
    let same_address = |other: &&Loaded| this.address.is_some() && other.address == this.address;
    if let Some(other) = earlier().filter(same_address).find(|other| other.takes_all) {
        let what = format!("channel {}, which comes first at this address, takes every message", other.name);
        source.fault(this.address_at, what, "give that one an `accept`, or listen on another port");
    }
}

/// Two destinations that write into one folder would number and mend each other's files.
fn check_directories<'l>(source: &Source, this: &'l Loaded, taken: &mut Vec<&'l Path>) {
    let destinations = this.channel.iter().flat_map(|channel| &channel.destinations);
    for (destination, at) in destinations.zip(&this.destinations_at) {
        let Settings::File(file) = &destination.settings else { continue };
        if taken.contains(&file.directory.as_path()) {
            let what = format!("destination {}: another destination writes into the same directory", destination.name);
            source.fault(*at, what, "give each its own");
        }
        taken.push(&file.directory);
    }
}

/// Two channels that cannot both be served: the same address with different limits or `tls`, or addresses that overlap without
/// being the same.
fn clash(one: &Loaded, other: &Loaded) -> bool {
    match (one.address, other.address) {
        (Some(this), Some(that)) if this == that => {
            one.limits.as_ref().zip(other.limits.as_ref()).is_some_and(|(this, that)| this != that)
                || one.tls.as_ref().zip(other.tls.as_ref()).is_some_and(|(this, that)| this != that)
        }
        (Some(this), Some(that)) => overlap(this, that),
        _ => false,
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_address = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same_address
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod device_tests;
#[cfg(test)]
mod fhir_mapping_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod fhir_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tls_tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tolerance_tests;
