//! cannula.toml: where channels and tables are, the store, the admin address, budgets, the log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    LimitsConfig, LogFormat, StoreConfig,
    document::Document,
    keys,
    reader::Reader,
    source::{Problem, Source},
    value,
};

/// Smallest store in segments: the simulation shows that a full one of so many drains by itself.
const STORE_SEGMENTS_MIN: u64 = 8;
/// Smallest budget of memory: a quarter of it takes a message of the default `max_message`.
const MEMORY_MIN: u64 = 64 << 20;

/// cannula.toml, resolved.
pub(super) struct Engine {
    pub channels_dir: PathBuf,
    pub tables_dir: PathBuf,
    pub store: StoreConfig,
    pub admin: SocketAddr,
    pub limits: LimitsConfig,
    pub log: LogFormat,
}

/// The folders, which are needed to go on where the rest of the file is faulty.
pub(super) struct Folders {
    pub channels: PathBuf,
    pub tables: PathBuf,
}

/// Reads cannula.toml. Relative paths in it start at `base`.
pub(super) fn read(source: &Source, base: &Path) -> (Folders, Option<Engine>) {
    let document = Document::parse(source);
    // Of a file with syntax errors only the folders are taken, so that the channels in them are still checked.
    let scratch = Source::new(&source.path, source.text.clone());
    let root = Reader::root(if document.sound { source } else { &scratch }, &keys::ENGINE, &document.root);
    let folder =
        |name: &str, default: &str| base.join(root.text(name, value::filled).unwrap_or_else(|| default.to_owned()));
    let folders = Folders { channels: folder("channels", "channels"), tables: folder("tables", "channels/tables") };
    let engine = rest(&root, &folders, base);
    (folders, engine.filter(|_| document.sound))
}

fn rest(root: &Reader<'_>, folders: &Folders, base: &Path) -> Option<Engine> {
    let limits = root.one("limits").and_then(|table| limits(&table));
    // Where the limits are faulty nothing comes of the store's table, but its own faults are told too.
    let memory = limits.as_ref().map_or(0, |limits| limits.memory_bytes);
    let store = root.one("store").and_then(|table| store(&table, base, memory));
    let admin = root.one("admin").and_then(|table| admin(&table));
    let log = root.one("log").and_then(|table| table.choice("format", &[LogFormat::Text, LogFormat::Json]));
    Some(Engine {
        channels_dir: folders.channels.clone(),
        tables_dir: folders.tables.clone(),
        store: store?,
        admin: admin?,
        limits: limits?,
        log: log?,
    })
}

fn store(table: &Reader<'_>, base: &Path, memory_bytes: usize) -> Option<StoreConfig> {
    let path = table.text("path", value::filled);
    let retain = table.text("retain", value::duration);
    let segment_bytes = table.text("segment_bytes", value::size_within(1 << 20, 1 << 30))?;
    let bytes_max = table.text("max_bytes", value::size_within(STORE_SEGMENTS_MIN * segment_bytes, 1 << 60));
    // The layout keeps eight-byte boundaries.
    let segment_bytes = u32::try_from(segment_bytes & !7).ok()?;
    let retain_when_full = table.flag("retain_when_full");
    Some(StoreConfig {
        path: base.join(path?),
        retain: retain?,
        bytes_max: bytes_max?,
        segment_bytes,
        memory_bytes,
        retain_when_full: retain_when_full?,
    })
}

fn admin(table: &Reader<'_>) -> Option<SocketAddr> {
    let listen = table.text("listen", value::socket);
    let allowed = table.flag("allow_unauthenticated");
    let (listen, allowed) = (listen?, allowed?);
    if !listen.ip().to_canonical().is_loopback() && !allowed {
        table.problem(
            "listen",
            Problem::new(
                "other machines reach this address, and this version has no login",
                "listen on 127.0.0.1 behind a proxy with a login, or set `allow_unauthenticated = true`",
            ),
        );
    }
    Some(listen)
}

fn limits(table: &Reader<'_>) -> Option<LimitsConfig> {
    let memory = table.text("memory", value::size_within(MEMORY_MIN, 1 << 40));
    let in_flight = match table.has("max_in_flight") {
        true => table.text("max_in_flight", value::size_within(1 << 20, 1 << 40)),
        false => memory.map(|memory| memory / 4),
    };
    let drain_timeout = table.text("drain_timeout", value::some_duration);
    let hold_when_full = table.text("hold_when_full", value::duration);
    Some(LimitsConfig {
        memory_bytes: usize::try_from(memory?).ok()?,
        in_flight_bytes: usize::try_from(in_flight?).ok()?,
        drain_timeout: drain_timeout?,
        hold_when_full: hold_when_full?,
    })
}
