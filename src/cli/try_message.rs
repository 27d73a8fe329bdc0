//! `try`: what a channel would do with a message, and what its sender would be answered.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use clap::Args;
use serde_json::{Value, json};

use super::{
    Common, Failure, Outcome,
    message_file::{MessageFile, listening, tried, unread},
    terminal,
};
use crate::{
    channel::Channel,
    hl7::Message,
    intake::Preview,
    pcd::tolerance::Note,
    translate::{Format, Remembered, TranslateError, Translated, Unmapped},
};

#[derive(Args)]
pub(super) struct TryArgs {
    /// Channel name (its file's name without .toml)
    channel: String,
    /// HL7 v2 file, of a message or a batch; segments may end in CR, LF or CRLF
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

pub(super) fn try_message(common: &Common, args: &TryArgs) -> Outcome {
    let config = common.load_channel(Some(&args.channel))?;
    let (channel, intake) = listening(&config, &args.channel)?;
    if let Some(name) = &args.destination
        && !channel.destinations.iter().any(|destination| *destination.name == **name)
    {
        return Err(Failure::Failed(format!("channel {} has no destination {name:?}", channel.name)));
    }
    let mut delivering = Delivering { channel, only: args.destination.as_deref(), remembered: BTreeMap::new() };
    for file in &args.after {
        let before = MessageFile::read(file)?;
        for received in &before.messages {
            delivering.outcomes(&before.parsed(channel.read(received.clone()))?)?;
        }
    }
    let file = MessageFile::read(&args.file)?;
    if args.body && file.is_list() {
        let what =
            "holds more than one message, and each has a body of its own: write the message into a file of its own";
        return Err(Failure::Failed(format!("{} {what}", args.file.display())));
    }
    let mut tried = Vec::new();
    for received in &file.messages {
        let message =
            file.parsed(channel.read(received.clone())).map_err(|why| unread(why, &intake.preview(received)))?;
        let (accepted, answer) = (channel.accepts(&message)?, intake.preview(received));
        let outcomes = delivering.outcomes(&message)?;
        tried.push(Tried { accepted, answer, outcomes, notes: channel.notes(received.clone()) });
    }
    match tried.as_slice() {
        [one] if args.body => print_body(&one.outcomes),
        tried if common.json => {
            let mut all: Vec<Value> = tried.iter().map(Tried::json).collect();
            let value = if file.is_list() { Value::Array(all) } else { all.pop().unwrap_or_default() };
            println!("{}", terminal::json(&value));
            Ok(())
        }
        tried => {
            let whole = file.answer(&intake);
            file.about().into_iter().for_each(|about| println!("-- {about}"));
            whole.into_iter().for_each(|answer| println!("-- the engine answers {answer}"));
            for (number, one) in tried.iter().enumerate() {
                file.heading(number + 1).into_iter().for_each(|heading| println!("{heading}"));
                print!("{}", terminal::lines(&one.text(channel)));
            }
            Ok(())
        }
    }
}

/// What becomes of one message.
struct Tried {
    accepted: bool,
    answer: Preview,
    outcomes: Vec<ForDestination>,
    notes: Vec<Note>,
}

/// What one destination would be sent; `None` where the message is not routed there.
struct ForDestination {
    destination: String,
    outcome: Option<Result<Translated, TranslateError>>,
}

/// A channel's deliveries one after the other.
struct Delivering<'c> {
    channel: &'c Channel,
    only: Option<&'c str>,
    /// By destination, from the messages before.
    remembered: BTreeMap<Arc<str>, Remembered>,
}

impl Delivering<'_> {
    fn outcomes(&mut self, message: &Message) -> Result<Vec<ForDestination>, Failure> {
        let context = tried();
        let routes = self.channel.route(message)?;
        let wanted = |name: &str| self.only.is_none_or(|only| only == name);
        let mut outcomes = Vec::new();
        for destination in self.channel.destinations.iter().filter(|destination| wanted(&destination.name)) {
            let routed = routes.iter().any(|route| route.destination == destination.name);
            let remembered = self.remembered.entry(destination.name.clone()).or_default();
            let recall = |episode: &[u8]| remembered.recall(episode);
            let outcome = routed.then(|| self.channel.translate(&destination.name, message, context, &recall));
            if let Some(Ok(translated)) = &outcome {
                remembered.change(&translated.episodes);
            }
            outcomes.push(ForDestination { destination: destination.name.to_string(), outcome });
        }
        Ok(outcomes)
    }
}

impl Tried {
    fn text(&self, channel: &Channel) -> String {
        let mut text = format!("-- the engine answers {}\n", self.answer);
        let name = &channel.name;
        if let Some(other) = self.answer.channel.as_ref().filter(|other| *other != name) {
            text += &format!(
                "-- channel {other}, which comes first at this address, takes it; this is what {name} would do\n"
            );
        } else if !self.accepted {
            text += &format!("-- channel {name} does not accept this message; this is what it would do if it did\n");
        } else if !self.answer.is_taken() {
            text += "-- so nothing is sent; this is what would be if it were taken\n";
        }
        for ForDestination { destination, outcome } in &self.outcomes {
            text += &match outcome {
                None => format!("-- {destination}: not routed here (its `where` or `when` does not hold)\n"),
                Some(Ok(Translated { unsent: Some(why), .. })) => format!("-- {destination}: nothing to send: {why}\n"),
                Some(Err(error)) => format!("-- {destination}: would become a dead letter: {error}\n"),
                Some(Ok(translated)) => format!("-- {destination}:\n{}", translated_text(translated)),
            };
        }
        self.notes.iter().for_each(|note| text += &format!("-- quirk {note}\n"));
        text
    }

    fn json(&self) -> Value {
        let destinations: serde_json::Map<String, Value> =
            self.outcomes.iter().map(|tried| (tried.destination.clone(), json_of(tried))).collect();
        json!({ "accepted": self.accepted, "answer": self.answer, "destinations": destinations, "quirks": self.notes })
    }
}

fn print_body(outcomes: &[ForDestination]) -> Outcome {
    for ForDestination { destination, outcome } in outcomes {
        match outcome {
            Some(Ok(translated)) if translated.is_sent() => terminal::write_bytes(&translated.body)?,
            Some(Err(error)) => return Err(Failure::Failed(format!("{destination}: {error}"))),
            Some(Ok(_)) | None => return Err(Failure::Failed(format!("{destination}: nothing would be sent"))),
        }
    }
    Ok(())
}

fn translated_text(translated: &Translated) -> String {
    let body = || String::from_utf8_lossy(&translated.body);
    let mut text = match translated.format {
        Format::Hl7 => body().replace('\r', "\n"),
        Format::FhirBundle => match serde_json::from_slice::<Value>(&translated.body) {
            Ok(bundle) => terminal::json(&bundle),
            Err(_) => body().into_owned(),
        },
    };
    text.push('\n');
    for (element, source) in &translated.origins {
        text += &format!("   {element} <- {source}\n");
    }
    for Unmapped { table, code, text: said, .. } in &translated.unmapped {
        text += &format!("   unmapped: {code} {said} has no row in {table}\n");
    }
    text
}

fn json_of(tried: &ForDestination) -> Value {
    match &tried.outcome {
        None => json!({ "routed": false }),
        Some(Ok(Translated { unsent: Some(why), .. })) => {
            json!({ "routed": true, "unsent": { "reason": why.label(), "why": why.to_string() } })
        }
        Some(Err(error)) => json!({ "routed": true, "dead": error.to_string() }),
        Some(Ok(translated)) => {
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
