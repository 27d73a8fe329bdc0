//! Commands on files: `check`, `try`, `explain`.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::{Common, Failure, Outcome, block_on, count};
use crate::{
    channel::{Channel, Destination},
    config,
    destination::{self, Meter},
    hl7::{Message, ParseError},
    pcd::{self, tolerance::Note},
    translate::{Context, Format, Remembered, TranslateError, Translated, Unmapped},
};

#[derive(Args)]
pub(super) struct TryArgs {
    /// Channel name (its file's name without .toml)
    channel: String,
    /// HL7 v2 file; segments may end in CR, LF or CRLF
    file: PathBuf,
    /// A message delivered before it, such as the start of its infusion; again for each, in order
    #[arg(long, value_name = "FILE")]
    after: Vec<PathBuf>,
    /// Only this destination
    #[arg(long)]
    destination: Option<String>,
    /// Print the body alone, byte for byte, as a sample's expected result wants it
    #[arg(long, requires = "destination", conflicts_with = "json")]
    body: bool,
}

pub(super) fn check(common: &Common, schema: bool, online: bool) -> Outcome {
    if schema {
        println!("{}", serde_json::to_string_pretty(&config::schemas())?);
        return Ok(());
    }
    let config = common.load()?;
    let (mut faults, mut unasked) = (Vec::new(), Vec::new());
    for channel in &config.channels {
        let file = config.channels_dir.join(format!("{}.toml", channel.name));
        check_destinations(channel, &file, online, &mut faults, &mut unasked)?;
    }
    if !faults.is_empty() {
        faults.append(&mut unasked);
        return Err(Failure::Configuration(faults));
    }
    unasked.iter().for_each(|fault| eprintln!("{fault}"));
    let samples = match config::check_samples(&config) {
        Ok(samples) => samples,
        Err(differences) => {
            differences.iter().for_each(|difference| eprintln!("{difference}"));
            return Err(Failure::Failed(format!("{} in the samples", count(differences.len(), "difference"))));
        }
    };
    if !unasked.is_empty() {
        return Err(Failure::Failed(format!("{} could not be asked what it can do", count(unasked.len(), "server"))));
    }
    if common.json {
        println!("{}", json!({ "channels": config.channels.len(), "samples": samples }));
    } else {
        println!("{} and {} hold", count(config.channels.len(), "channel"), count(samples, "sample"));
    }
    Ok(())
}

/// That each destination can be set up, and with `online` that its receiver says it can do what is configured; which could
/// not be asked is told apart.
fn check_destinations(
    channel: &Channel,
    file: &Path,
    online: bool,
    faults: &mut Vec<config::Fault>,
    unasked: &mut Vec<config::Fault>,
) -> Outcome {
    for to in &channel.destinations {
        let fault = |why: &str| {
            let (line, column) = config::place_of_destination(file, &to.name);
            let (what, remedy) = why.split_once(": ").unwrap_or((why, "mend this destination"));
            let what = format!("destination {}: {what}", to.name);
            config::Fault { file: file.to_owned(), line, column, what, remedy: remedy.to_owned() }
        };
        let receiver = match destination::open(&to.settings, &Meter::detached()) {
            Ok(receiver) if online => receiver,
            Ok(_) => continue,
            Err(why) => {
                faults.push(fault(&why));
                continue;
            }
        };
        match block_on(async { Ok(receiver.lacks().await) })? {
            Ok(lacks) => faults.extend(lacks.iter().map(|why| fault(why))),
            Err(why) => unasked.push(fault(&format!(
                "it was not asked what it can do ({why}): start it, or mend `url`, `auth` or `tls`"
            ))),
        }
    }
    Ok(())
}

pub(super) fn try_message(common: &Common, args: &TryArgs) -> Outcome {
    let config = common.load()?;
    let channel = channel_of(&config, &args.channel)?;
    if let Some(name) = &args.destination
        && !channel.destinations.iter().any(|destination| *destination.name == **name)
    {
        return Err(Failure::Failed(format!("channel {} has no destination {name:?}", channel.name)));
    }
    let received = read_file(&args.file)?;
    let message = parsed(&args.file, channel.read(received.clone()))?;
    let notes = channel.notes(received);
    let accepted = channel.accepts(&message)?;
    let before =
        args.after.iter().map(|file| parsed(file, channel.read(read_file(file)?))).collect::<Result<Vec<_>, _>>()?;
    let outcomes = outcomes_of(channel, &before, &message, args.destination.as_deref())?;
    if args.body {
        print_body(&outcomes)
    } else if common.json {
        print_json(accepted, &outcomes, &notes)
    } else {
        print_text(channel, accepted, &outcomes);
        notes.iter().for_each(|note| println!("-- quirk {note}"));
        Ok(())
    }
}

/// As if it were received now.
fn tried() -> Context {
    Context { id: 1, received_at: jiff::Timestamp::now(), origins: true }
}

/// What one destination would be sent; `None` where the message is not routed there.
struct Tried {
    destination: String,
    outcome: Option<Result<Option<Translated>, TranslateError>>,
}

fn outcomes_of(
    channel: &Channel,
    before: &[Message],
    message: &Message,
    only: Option<&str>,
) -> Result<Vec<Tried>, Failure> {
    let context = tried();
    let mut remembered: BTreeMap<Arc<str>, Remembered> = BTreeMap::new();
    let mut outcome = |destination: &Destination, message: &Message| -> Result<_, Failure> {
        let routed = channel.route(message)?.iter().any(|route| route.destination == destination.name);
        let remembered = remembered.entry(destination.name.clone()).or_default();
        let recall = |episode: &[u8]| remembered.recall(episode);
        let outcome = routed.then(|| channel.translate(&destination.name, message, context, &recall));
        if let Some(Ok(Some(translated))) = &outcome {
            remembered.change(&translated.episodes);
        }
        Ok(outcome)
    };
    let destinations =
        channel.destinations.iter().filter(|destination| only.is_none_or(|name| *destination.name == *name));
    let mut tried = Vec::new();
    for destination in destinations {
        for earlier in before {
            outcome(destination, earlier)?;
        }
        let outcome = outcome(destination, message)?;
        tried.push(Tried { destination: destination.name.to_string(), outcome: outcome.map(sent) });
    }
    Ok(tried)
}

/// What only changes what is remembered is not sent.
fn sent(outcome: Result<Option<Translated>, TranslateError>) -> Result<Option<Translated>, TranslateError> {
    outcome.map(|translated| translated.filter(Translated::is_sent))
}

fn print_text(channel: &Channel, accepted: bool, outcomes: &[Tried]) {
    if !accepted {
        println!("-- channel {} does not accept this message; this is what it would do if it did", channel.name);
    }
    for Tried { destination, outcome } in outcomes {
        match outcome {
            None => println!("-- {destination}: not routed here (its `where` or `when` does not hold)"),
            Some(Ok(None)) => println!("-- {destination}: nothing to send"),
            Some(Err(error)) => println!("-- {destination}: would become a dead letter: {error}"),
            Some(Ok(Some(translated))) => print_translated(destination, translated),
        }
    }
}

fn print_body(outcomes: &[Tried]) -> Outcome {
    for Tried { destination, outcome } in outcomes {
        match outcome {
            Some(Ok(Some(translated))) => std::io::stdout().write_all(&translated.body)?,
            Some(Err(error)) => return Err(Failure::Failed(format!("{destination}: {error}"))),
            Some(Ok(None)) | None => return Err(Failure::Failed(format!("{destination}: nothing would be sent"))),
        }
    }
    Ok(())
}

fn print_translated(destination: &str, translated: &Translated) {
    println!("-- {destination}:");
    match translated.format {
        Format::Hl7 => println!("{}", String::from_utf8_lossy(&translated.body).replace('\r', "\n")),
        Format::FhirBundle => match serde_json::from_slice::<Value>(&translated.body) {
            Ok(bundle) => println!("{bundle:#}"),
            Err(_) => println!("{}", String::from_utf8_lossy(&translated.body)),
        },
    }
    for (element, source) in &translated.origins {
        println!("   {element} <- {source}");
    }
    for Unmapped { table, code, text, .. } in &translated.unmapped {
        println!("   unmapped: {code} {text} has no row in {table}");
    }
}

fn print_json(accepted: bool, outcomes: &[Tried], notes: &[Note]) -> Outcome {
    let destinations: serde_json::Map<String, Value> =
        outcomes.iter().map(|tried| (tried.destination.clone(), json_of(tried))).collect();
    println!("{:#}", json!({ "accepted": accepted, "destinations": destinations, "quirks": notes }));
    Ok(())
}

fn json_of(tried: &Tried) -> Value {
    match &tried.outcome {
        None => json!({ "routed": false }),
        Some(Ok(None)) => json!({ "routed": true, "dropped": true }),
        Some(Err(error)) => json!({ "routed": true, "dead": error.to_string() }),
        Some(Ok(Some(translated))) => {
            let text = || Value::String(String::from_utf8_lossy(&translated.body).into_owned());
            let body = match translated.format {
                Format::Hl7 => text(),
                Format::FhirBundle => serde_json::from_slice(&translated.body).unwrap_or_else(|_| text()),
            };
            let origins: serde_json::Map<String, Value> =
                translated.origins.iter().map(|(element, source)| (element.clone(), source.clone().into())).collect();
            let unmapped: Vec<_> = translated.unmapped.iter().map(|found| [&found.table, &found.code]).collect();
            json!({ "routed": true, "body": body, "origins": origins, "unmapped": unmapped })
        }
    }
}

fn channel_of<'c>(config: &'c config::Config, name: &str) -> Result<&'c Channel, Failure> {
    let found = config.channels.iter().find(|channel| *channel.name == *name);
    found.map(|channel| &**channel).ok_or_else(|| {
        let names: Vec<&str> = config.channels.iter().map(|channel| &*channel.name).collect();
        Failure::Failed(format!("no channel {name:?}; there are {}", names.join(", ")))
    })
}

pub(super) fn explain(common: &Common, file: &Path, channel: Option<&str>) -> Outcome {
    // Without a configuration the built-in codes explain as well; one that was named must be right.
    let config = match common.load() {
        Ok(config) => Some(config),
        Err(fault) if common.config.is_some() || channel.is_some() => return Err(fault),
        Err(_) => None,
    };
    let nomenclature = config.as_ref().map_or_else(pcd::Nomenclature::built_in, |config| config.nomenclature.clone());
    let channel = channel.zip(config.as_ref()).map(|(name, config)| channel_of(config, name)).transpose()?;
    let received = read_file(file)?;
    let read = channel.map_or_else(|| Message::parse(received.clone()), |channel| channel.read(received.clone()));
    let message = parsed(file, read)?;
    let devices = channel.map(|channel| channel.device.identification.device_keys(&message));
    let explanation = match channel {
        Some(channel) => channel.explain(&message, received, &nomenclature, tried()),
        None => pcd::explain(&message, &nomenclature),
    };
    if common.json {
        let mut explanation = serde_json::to_value(&explanation)?;
        if let Some(devices) = devices {
            explanation["devices"] = json!(devices);
        }
        println!("{}", serde_json::to_string_pretty(&explanation)?);
    } else {
        if let Some((channel, devices)) = channel.zip(devices) {
            let devices = if devices.is_empty() { "no device".to_owned() } else { devices.join(", ") };
            println!("Channel {} reads it as from {devices}.\n", channel.name);
        }
        print!("{explanation}");
    }
    Ok(())
}

fn read_file(file: &Path) -> Result<Bytes, Failure> {
    let bytes = std::fs::read(file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    // A file saved from a capture may still have its MLLP frame around it.
    let content = bytes.strip_prefix(b"\x0b").unwrap_or(&bytes);
    let content = content.strip_suffix(b"\x1c\r").unwrap_or(content);
    Ok(Bytes::copy_from_slice(content))
}

fn parsed(file: &Path, message: Result<Message, ParseError>) -> Result<Message, Failure> {
    message.map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))
}
