//! A file with a message, or with a batch of them, and the channel it is read by.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{Failure, count};
use crate::{
    channel::Channel,
    config::Config,
    hl7::{
        Message, ParseError, ParseErrorKind,
        batch::{self, Batches},
    },
    intake::{Intake, Preview},
};

/// What a file holds.
pub(super) struct MessageFile<'f> {
    file: &'f Path,
    /// As it would be received.
    pub(super) content: Bytes,
    /// In order.
    pub(super) messages: Vec<Bytes>,
    pub(super) is_batch: bool,
}

impl<'f> MessageFile<'f> {
    pub(super) fn read(file: &'f Path) -> Result<MessageFile<'f>, Failure> {
        let bytes = std::fs::read(file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
        // A file saved from a capture may still have its MLLP frame around it.
        let content = bytes.strip_prefix(b"\x0b").unwrap_or(&bytes);
        let content = Bytes::copy_from_slice(content.strip_suffix(b"\x1c\r").unwrap_or(content));
        let is_batch = batch::is_batch(&content);
        let messages = match is_batch {
            true => Batches::split(&content)
                .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?
                .messages()
                .cloned()
                .collect(),
            false => vec![content.clone()],
        };
        Ok(MessageFile { file, content, messages, is_batch })
    }

    /// A line over each message where there may be more than one.
    pub(super) fn heading(&self, number: usize) -> Option<String> {
        self.is_batch.then(|| format!("== message {number} of {}", self.messages.len()))
    }

    /// What a batch is told to be before its messages are.
    pub(super) fn about(&self) -> Option<String> {
        self.is_batch
            .then(|| format!("{} holds a batch: {}", self.file.display(), count(self.messages.len(), "message")))
    }

    /// A message of it as it is read, or what is wrong with the file.
    pub(super) fn parsed(&self, read: Result<Message, ParseError>) -> Result<Message, Failure> {
        read.map_err(|error| {
            let remedy = match error.kind {
                ParseErrorKind::SecondMsh => "; write each message into a file of its own",
                ParseErrorKind::OutsideBatch => "; a batch begins with FHS or BHS",
                _ => "",
            };
            Failure::Failed(format!("{}: {error}{remedy}", self.file.display()))
        })
    }
}

/// A message that cannot be read is answered all the same.
pub(super) fn unread(why: Failure, answer: &Preview) -> Failure {
    match why {
        Failure::Failed(why) => Failure::Failed(format!("{why}; the engine answers {answer}")),
        other => other,
    }
}

/// The channel of that name.
pub(super) fn channel_of<'c>(config: &'c Config, name: &str) -> Result<&'c Channel, Failure> {
    let found = config.channels.iter().find(|channel| *channel.name == *name);
    found.map(|channel| &**channel).ok_or_else(|| {
        let names: Vec<&str> = config.channels.iter().map(|channel| &*channel.name).collect();
        Failure::Failed(format!("no channel {name:?}; there are {}", names.join(", ")))
    })
}

/// The same, and what would listen at its address.
pub(super) fn listening<'c>(config: &'c Config, name: &str) -> Result<(&'c Channel, Arc<Intake>), Failure> {
    let channel = channel_of(config, name)?;
    Ok((channel, config.intake_of(channel)?))
}
