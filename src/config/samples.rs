//! `channels/NAME/01-what.in.hl7` and `01-what.DESTINATION.out.{json,hl7}`: what a channel must do, proved by doing it.
//!
//! A destination without an expected result must not get the message. The samples of a channel are delivered in the order of
//! their names, and what a destination remembers of one counts for the next. Faults name places, never values.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use serde_json::Value;

use super::{Config, Fault};
use crate::{
    channel::Channel,
    hl7::{Message, batch},
    intake::{Intake, Preview, Refused},
    told,
    translate::{Context, Format, Remembered, Translated},
};

/// When samples are taken to be received: 2026-01-15T12:00:00Z.
pub const SAMPLE_RECEIVED_AT: jiff::Timestamp = jiff::Timestamp::constant(1_768_478_400, 0);
/// The store's id that samples are taken to have.
pub const SAMPLE_ID: u64 = 1;

const IN: &str = ".in.hl7";

/// Proves every sample beside the channels: `Ok(how many)`, or the differences as faults.
pub fn check_samples(config: &Config) -> Result<usize, Vec<Fault>> {
    let mut checked = 0;
    let mut faults = Vec::new();
    for channel in &config.channels {
        let mut samples = match Samples::open(config, channel) {
            Ok(samples) => samples,
            Err(fault) => return Err(vec![fault]),
        };
        for name in samples.names() {
            checked += 1;
            samples.check(&name);
        }
        samples.check_strays();
        faults.append(&mut samples.faults);
    }
    if faults.is_empty() { Ok(checked) } else { Err(faults) }
}

/// The sample folder of one channel.
struct Samples<'c> {
    config: &'c Config,
    channel: &'c Channel,
    /// Of all channels at its address.
    intake: Arc<Intake>,
    folder: PathBuf,
    /// File names not yet accounted for.
    files: BTreeSet<String>,
    /// By destination, from the samples before.
    remembered: BTreeMap<String, Remembered>,
    faults: Vec<Fault>,
}

impl<'c> Samples<'c> {
    fn open(config: &'c Config, channel: &'c Channel) -> Result<Samples<'c>, Fault> {
        let folder = config.channels_dir.join(&*channel.name);
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let files = files.filter(|name| name.ends_with(IN) || name.contains(".out.")).collect();
        let intake = config.intake_of(channel).map_err(|error| {
            let (what, remedy) = (format!("samples cannot be tried: {error}"), "report this".to_owned());
            Fault { file: folder.clone(), line: 1, column: 1, what, remedy }
        })?;
        Ok(Samples { config, channel, intake, folder, files, remembered: BTreeMap::new(), faults: Vec::new() })
    }

    fn names(&self) -> Vec<String> {
        self.files.iter().filter_map(|file| file.strip_suffix(IN)).map(str::to_owned).collect()
    }

    fn check(&mut self, name: &str) {
        let file = format!("{name}{IN}");
        self.files.remove(&file);
        let Some(bytes) = self.read(&file) else { return };
        let frame = Bytes::from(with_cr(&bytes));
        if batch::is_batch(&frame) {
            let what = "the sample is a batch".to_owned();
            return self.fault(&file, 1, what, "write each of its messages in a file of its own");
        }
        let message = match self.channel.read(frame.clone()) {
            Ok(message) => message,
            Err(error) => return self.fault(&file, error.segment.max(1), error.to_string(), "mend the sample"),
        };
        if !self.is_taken(&file, &message) || self.is_refused(&file, &frame) {
            return;
        }
        let routes = match self.channel.route(&message) {
            Ok(routes) => routes,
            Err(error) => return self.fault(&file, 1, error.to_string(), "mend the channel's expression"),
        };
        for destination in &self.channel.destinations {
            let routed = routes.iter().any(|route| route.destination == destination.name);
            self.check_destination(name, &destination.name, routed.then_some(&message));
        }
    }

    /// Whether this channel is the one that would take the message at its address.
    fn is_taken(&mut self, file: &str, message: &Message) -> bool {
        let address = self.channel.listener.address;
        let sharing = self.config.channels.iter().filter(|channel| channel.listener.address == address);
        for channel in sharing {
            match (channel.accepts(message), channel.name == self.channel.name) {
                (Ok(true), true) => return true,
                (Ok(false), false) => {}
                (Ok(false), true) => break,
                (Ok(true), false) => {
                    let what =
                        format!("channel {}, which comes first at this address, takes the message", channel.name);
                    self.fault(file, 1, what, "narrow its `accept`, or rename the file that must come first");
                    return false;
                }
                (Err(error), _) => {
                    self.fault(file, 1, error.to_string(), "mend the channel's expression");
                    return false;
                }
            }
        }
        self.fault(
            file,
            1,
            "the channel's `accept` does not take the message".to_owned(),
            "mend `accept` or the sample",
        );
        false
    }

    /// Whether the engine would not take the message, and so send nothing.
    fn is_refused(&mut self, file: &str, frame: &Bytes) -> bool {
        let preview = self.intake.preview(frame);
        let Preview { refusal: Some(Refused { place, setting, .. }), .. } = &preview else {
            if !preview.is_taken() {
                self.fault(file, 1, format!("the engine answers {preview}"), "remove the sample");
            }
            return !preview.is_taken();
        };
        let remedy = match setting {
            Some(_) => "mend the sample, or the setting",
            None => "mend the sample",
        };
        self.fault(file, line_of(frame, place), format!("the engine answers {preview}"), remedy);
        true
    }

    fn check_destination(&mut self, name: &str, destination: &str, routed: Option<&Message>) {
        let expected_file = self.expected_file(name, destination);
        let context = Context { id: SAMPLE_ID, received_at: SAMPLE_RECEIVED_AT, origins: false };
        let remembered = self.remembered.entry(destination.to_owned()).or_default();
        let recall = |episode: &[u8]| remembered.recall(episode);
        let sent = routed.map(|message| self.channel.translate(destination, message, context, &recall)).transpose();
        if let Ok(Some(sent)) = &sent {
            remembered.change(&sent.episodes);
        }
        let sent = match sent {
            Ok(sent) => sent.filter(Translated::is_sent),
            Err(error) => {
                let what = format!("for destination {destination} it becomes a dead letter: {error}");
                return self.fault(&format!("{name}{IN}"), 1, what, "mend the channel or the sample");
            }
        };
        match (expected_file, sent) {
            (None, None) => {}
            (Some(file), None) => {
                let what = format!("the message is not sent to destination {destination}");
                self.fault(&file, 1, what, "remove the file, or mend the destination's `where`");
            }
            (None, Some(sent)) => {
                let what = format!("it is sent to destination {destination}, and no expected result is there");
                let remedy =
                    format!("add {name}.{destination}.out.{}, which `cannula try` prints", extension(sent.format));
                self.fault(&format!("{name}{IN}"), 1, what, &remedy);
            }
            (Some(file), Some(sent)) => self.compare(&file, &sent),
        }
    }

    /// The expected result's file, accounted for.
    fn expected_file(&mut self, name: &str, destination: &str) -> Option<String> {
        let stem = format!("{name}.{destination}.out.");
        let found: Vec<String> = ["json", "hl7"].iter().map(|kind| format!("{stem}{kind}")).collect();
        found.into_iter().find(|file| self.files.remove(file))
    }

    fn compare(&mut self, file: &str, sent: &Translated) {
        if !file.ends_with(extension(sent.format)) {
            let what = format!("the message is sent as {}", extension(sent.format));
            return self.fault(file, 1, what, "rename the file and write the right result");
        }
        let Some(expected) = self.read(file) else { return };
        let remedy = "compare with what `cannula try` prints, and mend the channel or the file";
        let difference = match sent.format {
            Format::Hl7 => hl7_difference(&expected, &sent.body),
            Format::FhirBundle => json_difference(&expected, &sent.body),
        };
        if let Some((line, place)) = difference {
            self.fault(file, line, place, remedy);
        }
    }

    /// Expected results that belong to no sample or destination.
    fn check_strays(&mut self) {
        for file in std::mem::take(&mut self.files) {
            let what = "the result belongs to no sample and destination of the channel".to_owned();
            self.fault(&file, 1, what, "name it SAMPLE.DESTINATION.out.json or .hl7 beside SAMPLE.in.hl7");
        }
    }

    fn read(&mut self, file: &str) -> Option<Vec<u8>> {
        let read = fs::read(self.folder.join(file));
        read.map_err(|error| self.fault(file, 1, format!("the file cannot be read: {}", error.kind()), "mend it")).ok()
    }

    fn fault(&mut self, file: &str, line: usize, what: String, remedy: &str) {
        let file = self.folder.join(file);
        self.faults.push(Fault { file, line, column: 1, what, remedy: remedy.to_owned() });
    }
}

/// The line of a place such as `OBX^2^14`; 1 where it is of the whole message.
fn line_of(frame: &[u8], place: &str) -> usize {
    let mut parts = place.split('^');
    let (id, nth) =
        (parts.next().unwrap_or_default(), parts.next().and_then(|nth| nth.parse().ok()).unwrap_or(1_usize));
    let lines = frame.split(|byte| *byte == b'\r').zip(1..);
    let found = lines.filter(|(line, _)| !id.is_empty() && line.starts_with(id.as_bytes()));
    found.map(|(_, number)| number).nth(nth.saturating_sub(1)).unwrap_or(1)
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Hl7 => "hl7",
        Format::FhirBundle => "json",
    }
}

/// Samples are text files, in which lines end in LF; a message's segments end in CR.
fn with_cr(bytes: &[u8]) -> Vec<u8> {
    let mut segments: Vec<u8> = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && bytes[at - 1] == b'\r' => {}
            b'\n' => segments.push(b'\r'),
            other => segments.push(*other),
        }
    }
    segments
}

/// Line and place of the first difference; how lines end, and whether the last does, does not count.
fn hl7_difference(expected: &[u8], sent: &[u8]) -> Option<(usize, String)> {
    let (expected, sent) = (with_cr(expected), with_cr(sent));
    let trimmed = |bytes: &[u8]| bytes.strip_suffix(b"\r").unwrap_or(bytes).to_vec();
    let (expected, sent) = (trimmed(&expected), trimmed(&sent));
    let mut lines = sent.split(|b| *b == b'\r').zip(expected.split(|b| *b == b'\r'));
    if let Some(at) = lines.position(|(sent, expected)| sent != expected) {
        return Some((at + 1, format!("segment {} is sent otherwise than expected", at + 1)));
    }
    let count = |bytes: &[u8]| bytes.split(|b| *b == b'\r').count();
    let (expected, sent) = (count(&expected), count(&sent));
    (expected != sent)
        .then(|| (expected.min(sent), format!("{} sent where {expected} expected", told::count(sent, "segment"))))
}

/// Line and place of the first difference. Values are compared, so white space and the order of keys do not count;
/// numbers are compared as they are written, so that 5.60 is not 5.6.
fn json_difference(expected: &[u8], sent: &[u8]) -> Option<(usize, String)> {
    let expected: Value = match serde_json::from_slice(expected) {
        Ok(expected) => expected,
        Err(error) => return Some((error.line().max(1), "the expected result is not JSON".to_owned())),
    };
    match serde_json::from_slice::<Value>(sent) {
        Ok(sent) => differing_path(&expected, &sent, String::new()).map(|path| (1, format!("{path} differs"))),
        Err(_) => Some((1, "what is sent is not JSON".to_owned())),
    }
}

fn differing_path(expected: &Value, sent: &Value, path: String) -> Option<String> {
    match (expected, sent) {
        (Value::Object(expected), Value::Object(sent)) => {
            let keys: BTreeSet<&String> = expected.keys().chain(sent.keys()).collect();
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            keys.into_iter().find_map(|key| match (expected.get(key), sent.get(key)) {
                (Some(expected), Some(sent)) => differing_path(expected, sent, below(key)),
                _ => Some(below(key)),
            })
        }
        (Value::Array(expected), Value::Array(sent)) => {
            let pairs = expected.iter().zip(sent).enumerate();
            let inside = pairs.map(|(at, (e, s))| differing_path(e, s, format!("{path}[{at}]")));
            let longer =
                || (expected.len() != sent.len()).then(|| format!("{path}[{}]", expected.len().min(sent.len())));
            inside.flatten().next().or_else(longer)
        }
        _ => (expected != sent).then_some(if path.is_empty() { "the whole".to_owned() } else { path }),
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod tests;
