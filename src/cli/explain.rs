//! `explain`: a message told to a person, as any reads it or as one channel does.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    Common, Failure, Outcome,
    message_file::{MessageFile, listening, tried, unread},
    terminal,
};
use crate::{
    channel::Channel,
    hl7::Message,
    intake::{Intake, Preview},
    pcd::{self, Explanation, Nomenclature},
};

/// One message explained.
struct Told<'c> {
    explanation: Explanation,
    by: Option<ByChannel<'c>>,
}

/// What a channel makes of it.
struct ByChannel<'c> {
    channel: &'c Channel,
    devices: Vec<String>,
    answer: Preview,
}

pub(super) fn explain(common: &Common, file: &Path, channel: Option<&str>) -> Outcome {
    // Without a configuration the built-in codes explain as well; one that was named must be right.
    let config = match common.load_channel(channel) {
        Ok(config) => Some(config),
        Err(fault) if common.config.is_some() || channel.is_some() => return Err(fault),
        Err(_) => None,
    };
    let nomenclature = config.as_ref().map_or_else(Nomenclature::built_in, |config| config.nomenclature.clone());
    let channel = channel.zip(config.as_ref()).map(|(name, config)| listening(config, name)).transpose()?;
    let file = MessageFile::read(file)?;
    let told = file.messages.iter().map(|message| Told::of(&file, message, channel.as_ref(), &nomenclature));
    let told = told.collect::<Result<Vec<_>, _>>()?;
    if common.json {
        let mut all = told.iter().map(Told::json).collect::<Result<Vec<_>, _>>()?;
        let value = if file.is_list() { Value::Array(all) } else { all.pop().unwrap_or_default() };
        println!("{}", terminal::json(&value));
        return Ok(());
    }
    let whole = channel.as_ref().and_then(|(_, intake)| file.answer(intake));
    file.about().into_iter().for_each(|about| println!("{about}"));
    whole.into_iter().for_each(|answer| println!("The engine answers {answer}."));
    for (number, told) in told.iter().enumerate() {
        file.heading(number + 1).into_iter().for_each(|heading| println!("\n{heading}"));
        print!("{}", terminal::lines(&told.text()));
    }
    Ok(())
}

impl<'c> Told<'c> {
    fn of(
        file: &MessageFile<'_>,
        received: &Bytes,
        channel: Option<&(&'c Channel, Arc<Intake>)>,
        nomenclature: &Nomenclature,
    ) -> Result<Told<'c>, Failure> {
        let Some((channel, intake)) = channel else {
            let message = file.parsed(Message::parse(received.clone()))?;
            return Ok(Told { explanation: pcd::explain(&message, nomenclature), by: None });
        };
        let answer = intake.preview(received);
        let message = file.parsed(channel.read(received.clone())).map_err(|why| unread(why, &answer))?;
        let explanation = channel.explain(&message, received.clone(), nomenclature, tried());
        let devices = channel.device.identification.device_keys(&message);
        Ok(Told { explanation, by: Some(ByChannel { channel, devices, answer }) })
    }

    fn json(&self) -> Result<Value, serde_json::Error> {
        let mut told = serde_json::to_value(&self.explanation)?;
        if let Some(ByChannel { devices, answer, .. }) = &self.by {
            told["devices"] = json!(devices);
            told["answer"] = json!(answer);
        }
        Ok(told)
    }

    fn text(&self) -> String {
        let Some(ByChannel { channel, devices, answer }) = &self.by else { return self.explanation.to_string() };
        let devices = if devices.is_empty() { "no device".to_owned() } else { devices.join(", ") };
        let name = &channel.name;
        let mut text = format!("Channel {name} reads it as from {devices}.\nThe engine answers {answer}.\n");
        if let Some(other) = answer.channel.as_ref().filter(|other| *other != name) {
            text.push_str(&format!("Channel {other}, which comes first at this address, takes it.\n"));
        }
        format!("{text}\n{}", self.explanation)
    }
}
