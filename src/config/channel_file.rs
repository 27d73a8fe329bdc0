//! channels/NAME.toml: from what was typed to a compiled channel.

use std::{
    cell::RefCell,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Fault, destination_table,
    document::Document,
    keys,
    reader::{Reader, named_once, nearest},
    source::{Problem, Source},
    summary_table,
    tables::Tables,
    tls_table, tolerance_table, value,
};
use crate::{
    channel::{
        AckWhen, Channel, Condition, Conformance, Destination, DeviceRules, Expression, Filter, Listener, Repeat,
        Retransmission, stable_hash,
    },
    hl7::Charset,
    mllp::{
        server::{Limits, Network},
        tls::Acceptor,
    },
    pcd::{Identification, IdentityRules, PLACES, Transaction, conformance::Profile},
    translate::Plan,
};

/// Longest `max_message`: a message must fit a segment of the store's journal.
const MESSAGE_BYTES_MAX: u64 = 32 << 20;

/// What a channel file is read with.
pub(super) struct Surroundings<'l> {
    /// Where relative paths start.
    pub base: &'l Path,
    pub tables: &'l Tables,
    /// Files that secrets were read from, to be watched.
    pub secret_files: RefCell<Vec<PathBuf>>,
    /// What works and still should be mended.
    pub warnings: RefCell<Vec<Fault>>,
}

/// A channel, and where in its file things stand that only other files show to be faulty. What is known of its listener is
/// there also where the file has faults elsewhere.
pub(super) struct Loaded {
    pub name: String,
    /// `None` where the file has faults.
    pub channel: Option<Channel>,
    pub address: Option<SocketAddr>,
    pub limits: Option<Limits>,
    pub tls: Option<Option<Acceptor>>,
    /// It has no `accept`.
    pub takes_all: bool,
    pub address_at: usize,
    pub max_message_at: usize,
    /// Whether the file says it, or the default holds.
    pub max_message_is_written: bool,
    /// Of each destination, its directory or the whole.
    pub destinations_at: Vec<usize>,
    /// Of each summary, its days or the whole.
    pub summaries_at: Vec<usize>,
}

/// Reads the channel `name` from its file.
pub(super) fn read(source: &Source, name: &str, around: &Surroundings<'_>) -> Option<Loaded> {
    let document = Document::parse(source);
    if !document.sound {
        return None;
    }
    let root = Reader::root(source, &keys::CHANNEL, &document.root);
    let file_name = name;
    let name = value::name(name).map_err(|problem| source.fault(0, problem.what, "rename the file"));
    let description = root.text("description", value::any);
    let listening = root.one("listener");
    let (address, limits) =
        listening.as_ref().map_or((None, None), |table| (table.text("address", value::socket), limits(table)));
    let tls = listening.as_ref().and_then(|table| tls_table::listener(table, around));
    let listener = listening.as_ref().and_then(|table| listener(table, address, limits.as_ref(), tls.clone()));
    if let (Some(table), Some(listener)) = (&listening, &listener) {
        check_exposure(table, listener, around);
    }
    let mut hashed: Vec<Arc<[u8]>> = vec![source.text.as_bytes().into()];
    let accept = root.one("accept").and_then(|table| filter(&table, around, &mut hashed));
    let repeat = root.one("repeat").and_then(|table| repeat(&table));
    let device = root.one("device").and_then(|table| device(&table));
    let tolerance = root.one("tolerance").and_then(|table| tolerance_table::read(&table));
    let mut destinations = destination_table::read_all(&root, around, &mut hashed);
    if let (Some(destinations), Some(device)) = (&mut destinations.read, &device) {
        name_devices(destinations, &device.identification);
    }
    let (summaries, summaries_at) = summary_table::read_all(&root, destinations.read.as_deref());
    let takes_all = accept.as_ref().is_some_and(Filter::is_empty);
    let destinations_at = std::mem::take(&mut destinations.at);
    let listening = listening?;
    check_batch(&listening, listener.as_ref(), repeat.as_ref());
    let channel = || {
        Some(Channel {
            name: name.ok()?.into(),
            description: description?,
            listener: listener?,
            accept: accept?,
            repeat: repeat?,
            device: device?,
            tolerance: tolerance?,
            destinations: destinations.read?,
            summaries: summaries?,
            hash: hash(&hashed),
        })
    };
    Some(Loaded {
        name: file_name.to_owned(),
        address,
        limits,
        tls,
        takes_all,
        address_at: listening.place("address"),
        max_message_at: listening.place("max_message"),
        max_message_is_written: listening.is_written("max_message"),
        destinations_at,
        summaries_at,
        channel: channel(),
    })
}

/// Of all that decides what is sent, each part behind its length.
fn hash(parts: &[Arc<[u8]>]) -> u64 {
    let lengths: Vec<[u8; 8]> = parts.iter().map(|part| (part.len() as u64).to_be_bytes()).collect();
    stable_hash(lengths.iter().zip(parts).flat_map(|(length, part)| [&length[..], &part[..]]))
}

fn listener(
    table: &Reader<'_>,
    address: Option<SocketAddr>,
    limits: Option<&Limits>,
    tls: Option<Option<Acceptor>>,
) -> Option<Listener> {
    let fixed = table.text("charset", |text| if text == "msh-18" { Ok(None) } else { charset(text).map(Some) });
    let charset_default = table.text("charset_default", charset);
    let processing_ids = table.texts("processing_ids", value::filled);
    let versions = table.texts("versions", value::filled);
    let ack = ack(table);
    let batch = table.flag("batch");
    let conformance = table.choice("conformance", &[Conformance::Off, Conformance::Report, Conformance::Reject]);
    let profile = table.choice("conformance_profile", &[Profile::AsReceived, Profile::Strict]);
    Some(Listener {
        address: address?,
        limits: limits?.clone(),
        tls: tls?,
        ack: ack?,
        batch: batch?,
        conformance: conformance?,
        profile: profile?,
        charset: fixed?,
        charset_default: charset_default?,
        processing_ids: processing_ids?,
        versions: versions?,
    })
}

fn ack(table: &Reader<'_>) -> Option<AckWhen> {
    let is_delivered = table.choice("ack", &[false, true]);
    let timeout = table.text("ack_timeout", value::some_duration);
    let keep = table.text("ack_keep", value::some_duration);
    let address = match table.has("ack_address") {
        true => table.text("ack_address", value::host_and_port).map(Some),
        false => Some(None),
    };
    if !is_delivered? {
        for name in ["ack_timeout", "ack_keep", "ack_address"].into_iter().filter(|name| table.has(name)) {
            table.problem(name, Problem::new("it is for `ack = \"delivered\"`", "set that, or remove the line"));
        }
        return Some(AckWhen::Stored);
    }
    Some(AckWhen::Delivered { timeout: timeout?, keep: keep?, address: address? })
}

/// A batch that is repeated after a crash amid it must be known to be one.
fn check_batch(table: &Reader<'_>, listener: Option<&Listener>, repeat: Option<&Repeat>) {
    let (Some(listener), Some(repeat)) = (listener, repeat) else { return };
    if listener.batch && (repeat.key.is_empty() || repeat.window.is_zero()) {
        let remedy = "give `[repeat]` a key and a window, or take its messages singly";
        table.problem("batch", Problem::new("batches are taken where repeats are told only", remedy));
    }
}

/// Unencrypted and unauthenticated, an address that other machines reach must be asked for.
fn check_exposure(table: &Reader<'_>, listener: &Listener, around: &Surroundings<'_>) {
    if listener.address.ip().to_canonical().is_loopback() {
        return;
    }
    let remedy = "name the gateways' networks, such as `allow = [\"10.4.0.0/16\"]`";
    let is_open = listener.limits.allow.is_empty();
    if let Some(tls) = &listener.tls {
        if is_open && !tls.proves_peers() {
            let what = format!("{}: any machine may send to this address", table.key("address"));
            let remedy = format!("set `tls.client_ca`, or {remedy}");
            around.warnings.borrow_mut().push(table.source.told(table.place("address"), what, remedy));
        }
    } else if table.flag("allow_plaintext") == Some(false) {
        table.problem(
            "address",
            Problem::new(
                "other machines reach this address, and messages to it are not encrypted",
                "set `tls`, or where the network is trusted `allow_plaintext = true` and `allow`",
            ),
        );
    } else if is_open {
        table.problem("address", Problem::new("any machine may send to this address", remedy));
    }
}

fn limits(table: &Reader<'_>) -> Option<Limits> {
    let frame_bytes_max = table.text("max_message", value::size_within(1 << 10, MESSAGE_BYTES_MAX));
    let connections_max = table.count("max_connections");
    let connections_per_address_max = table.count("max_connections_per_address");
    let pipelined_frames_max = table.count("max_pipelined");
    let idle_timeout = table.text("idle_timeout", value::duration);
    let frame_timeout = table.text("frame_timeout", value::duration);
    let write_timeout = table.text("write_timeout", value::duration);
    let allow = table.texts("allow", network);
    Some(Limits {
        frame_bytes_max: usize::try_from(frame_bytes_max?).ok()?,
        connections_max: usize::try_from(connections_max?).ok()?,
        connections_per_address_max: usize::try_from(connections_per_address_max?).ok()?,
        pipelined_frames_max: usize::try_from(pipelined_frames_max?).ok()?,
        idle_timeout: idle_timeout?,
        frame_timeout: frame_timeout?,
        write_timeout: write_timeout?,
        allow: allow?,
    })
}

fn network(text: &str) -> Result<Network, Problem> {
    text.parse().map_err(|_| {
        Problem::new(format!("{text:?} is not a network"), "write an address and a prefix length, such as 10.4.0.0/16")
    })
}

pub(super) fn charset(text: &str) -> Result<Charset, Problem> {
    Charset::from_label(text).ok_or_else(|| {
        Problem::new(
            format!("{text:?} is no known charset"),
            "write a name of table 0211, such as UNICODE UTF-8 or 8859/1",
        )
    })
}

fn repeat(table: &Reader<'_>) -> Option<Repeat> {
    let key = table.texts("key", value::path);
    let window = table.text("window", value::duration);
    let retransmission = [Retransmission::Mark, Retransmission::Drop, Retransmission::Off];
    let retransmission = table.choice("retransmission", &retransmission);
    Some(Repeat { key: key?, window: window?, retransmission: retransmission? })
}

fn device(table: &Reader<'_>) -> Option<DeviceRules> {
    let expected = match table.has("expected_interval") {
        true => table.text("expected_interval", value::positive_duration).map(Some),
        false => Some(None),
    };
    let silent_after = table.count("silent_after");
    let usual = identity(table);
    let own = |sender: &Reader<'_>| Some((sender.text("name", value::trimmed)?, identity(sender)?));
    let senders = table.many("sender");
    named_once(&senders);
    let senders: Vec<_> = senders.iter().map(own).collect();
    Some(DeviceRules {
        expected_interval: expected?,
        silent_after: u32::try_from(silent_after?).ok()?,
        identification: Arc::new(Identification {
            usual: usual?,
            senders: senders.into_iter().collect::<Option<_>>()?,
        }),
    })
}

fn identity(table: &Reader<'_>) -> Option<IdentityRules> {
    let places = table.texts("identity", |text| {
        let place = PLACES.iter().find(|(name, _)| *name == text).map(|(_, rule)| *rule);
        let known: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
        place.ok_or_else(|| Problem::new(format!("{text:?} is no place"), format!("write one of {}", known.join(", "))))
    });
    let strip_prefix = table.texts("strip_prefix", value::filled);
    Some(IdentityRules { places: places?, strip_prefix: strip_prefix? })
}

/// What is sent names a device as intake does.
fn name_devices(destinations: &mut [Arc<Destination>], identification: &Arc<Identification>) {
    for destination in destinations.iter_mut().filter_map(Arc::get_mut) {
        if let Plan::PcdToFhir(settings) = &mut destination.plan {
            settings.identification = identification.clone();
        }
    }
}

/// `transaction`, `where` and `when` of `[accept]` or of a destination.
pub(super) fn filter(table: &Reader<'_>, around: &Surroundings<'_>, hashed: &mut Vec<Arc<[u8]>>) -> Option<Filter> {
    let transactions = transactions(table);
    let conditions = conditions(table);
    let when = match table.has("when") {
        true => table.text("when", expression).map(Some),
        false => Some(None),
    };
    let filter = Filter::new(conditions?, when?);
    let transactions = transactions?;
    if transactions.is_empty() {
        return Some(filter);
    }
    let codes = around.tables.nomenclature()?;
    hashed.push(codes.bytes);
    Some(filter.of(transactions, codes.nomenclature))
}

/// None written: every one.
fn transactions(table: &Reader<'_>) -> Option<Vec<Transaction>> {
    let names: Vec<&str> = Transaction::all().map(Transaction::name).collect();
    let read = table.texts("transaction", |text| {
        let what = || Problem::new(format!("{text:?} is none of {}", names.join(", ")), nearest(text, &names));
        text.parse::<Transaction>().map_err(|()| what())
    })?;
    if read.is_empty() && table.has("transaction") {
        let problem = Problem::new("no value is given, so nothing is ever taken", "name values or remove the line");
        table.problem("transaction", problem);
        return None;
    }
    Some(read)
}

fn conditions(table: &Reader<'_>) -> Option<Vec<Condition>> {
    let (name, source) = (table.key("where"), table.source);
    let entries = table.entries("where");
    let count = entries.len();
    let read = entries.into_iter().filter_map(|entry| {
        let path = value::path(&entry.key.text).map_err(|problem| source.problem(&name, &entry.key.span, problem)).ok();
        let wanted: Vec<String> =
            table.strings("where", entry.value)?.into_iter().map(|text| text.text.into_owned()).collect();
        if wanted.is_empty() {
            let problem = Problem::new("no value is given, so nothing is ever taken", "name values or remove the line");
            source.problem(&name, &entry.value.span(), problem);
            return None;
        }
        Some(Condition::new(path?, &wanted))
    });
    let read: Vec<Condition> = read.collect();
    // A `where` that is no table has no entries, and its fault was noted.
    (read.len() == count).then_some(read)
}

fn expression(text: &str) -> Result<Expression, Problem> {
    Expression::compile(text).map_err(|error| {
        let line_start: usize = text.split_inclusive('\n').take(error.line - 1).map(str::len).sum();
        let before = text[line_start..].chars().take(error.column - 1).map(char::len_utf8).sum::<usize>();
        let remedy = remedy_for(&error.what).to_owned();
        Problem { what: error.what, remedy, at: line_start + before }
    })
}

/// What is wrong most often: one sign of equality, and a path without quotes.
fn remedy_for(what: &str) -> &'static str {
    match what {
        _ if what.contains("'='") => "compare with ==",
        _ if what.contains("undefined variable") => "write paths and texts in quotes, such as msg[\"PV1-3.1\"]",
        _ => "mend the expression",
    }
}
