//! A file with a message, or with a batch of them, and the channel it is read by.

use std::{path::Path, sync::Arc};

use bytes::Bytes;

use super::{Failure, count};
use crate::{
    channel::Channel,
    config::Config,
    hl7::{
        Message, ParseError, ParseErrorKind,
        batch::{self, BatchError, Batches},
        repair::{self, Misframed},
    },
    intake::{Intake, Preview},
    translate::Context,
};

/// As if a message were received now, and where each element comes from told.
pub(super) fn tried() -> Context {
    Context { id: 1, received_at: jiff::Timestamp::now(), origins: true }
}

/// What a file holds.
pub(super) struct MessageFile<'f> {
    file: &'f Path,
    /// As it would be received.
    content: Bytes,
    /// In order.
    pub(super) messages: Vec<Bytes>,
    form: Form,
}

enum Form {
    Message,
    Batch,
    /// One that is refused, the messages that are in it all the same.
    BrokenBatch(BatchError),
    /// Messages one behind the other, or frames.
    Several,
}

impl<'f> MessageFile<'f> {
    pub(super) fn read(file: &'f Path) -> Result<MessageFile<'f>, Failure> {
        let bytes = std::fs::read(file).map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
        // A file saved from a capture may still have its MLLP frame around it.
        let content = bytes.strip_prefix(b"\x0b").unwrap_or(&bytes);
        let content = Bytes::copy_from_slice(content.strip_suffix(b"\x1c\r").unwrap_or(content));
        let apart = messages_in(&content);
        let (form, messages) = match batch::is_batch(&content).then(|| Batches::split(&content)) {
            Some(Ok(batches)) => (Form::Batch, batches.messages().cloned().collect()),
            Some(Err(error)) if apart.is_empty() => {
                return Err(Failure::Failed(format!("{}: {error}", file.display())));
            }
            Some(Err(error)) => (Form::BrokenBatch(error), apart),
            None if apart.len() > 1 => (Form::Several, apart),
            None => (Form::Message, vec![content.clone()]),
        };
        Ok(MessageFile { file, content, messages, form })
    }

    /// Whether there may be more than one message.
    pub(super) fn is_list(&self) -> bool {
        !matches!(self.form, Form::Message)
    }

    /// What is told of a list before its messages are.
    pub(super) fn about(&self) -> Option<String> {
        let messages = count(self.messages.len(), "message");
        let what = match &self.form {
            Form::Message => return None,
            Form::Batch => format!("a batch: {messages}"),
            Form::BrokenBatch(error) => format!("a batch that is not whole ({error}): {messages}"),
            Form::Several => format!("{messages}, each told as in a frame of its own"),
        };
        Some(format!("{} holds {what}", self.file.display()))
    }

    /// What a batch would be answered as a whole.
    pub(super) fn answer(&self, intake: &Intake) -> Option<Preview> {
        matches!(self.form, Form::Batch | Form::BrokenBatch(_)).then(|| intake.preview(&self.content))
    }

    /// A line over each message of a list.
    pub(super) fn heading(&self, number: usize) -> Option<String> {
        self.is_list().then(|| format!("== message {number} of {}", self.messages.len()))
    }

    /// A message of it as it is read, or what is wrong with the file.
    pub(super) fn parsed(&self, read: Result<Message, ParseError>) -> Result<Message, Failure> {
        read.map_err(|error| {
            let remedy = match error.kind {
                ParseErrorKind::OutsideBatch => "; a batch begins with FHS or BHS",
                ParseErrorKind::EncodingCharacters if self.has_doubled_escape() => {
                    "; its escape character stands twice, which `doubled_escape = \"accept\"` in [tolerance] reads as one"
                }
                ParseErrorKind::SegmentId => "; a line break in a text must be sent escaped, as \\X0D\\ or \\.br\\",
                _ => "",
            };
            Failure::Failed(format!("{}: {error}{remedy}", self.file.display()))
        })
    }
}

/// Each from its MSH to the next, or to what ends a frame or a batch.
fn messages_in(content: &Bytes) -> Vec<Bytes> {
    let begins = |at: usize| at == 0 || matches!(content[at - 1], b'\r' | b'\n' | 0x0B);
    let places = (0..content.len().saturating_sub(2)).filter(|at| begins(*at));
    let mut marks: Vec<(usize, bool)> = places
        .filter_map(|at| match &content[at..at + 3] {
            b"MSH" => Some((at, true)),
            b"BHS" | b"BTS" | b"FHS" | b"FTS" => Some((at, false)),
            _ => None,
        })
        .chain(memchr::memchr2_iter(0x0B, 0x1C, content).map(|at| (at, false)))
        .collect();
    marks.sort_unstable();
    let ends = marks.iter().skip(1).map(|(at, _)| *at).chain([content.len()]);
    marks
        .iter()
        .zip(ends)
        .filter(|((_, is_message), _)| *is_message)
        .map(|((at, _), end)| content.slice(*at..end))
        .collect()
}

/// A message that cannot be read is answered all the same.
pub(super) fn unread(why: Failure, answer: &Preview) -> Failure {
    match why {
        Failure::Failed(why) => Failure::Failed(format!("{why}; the engine answers {answer}")),
        other => other,
    }
}

impl MessageFile<'_> {
    fn has_doubled_escape(&self) -> bool {
        let wanted = Misframed { glued: false, doubled: true };
        repair::mend(&self.content, wanted, None).is_some_and(|mended| mended.is_ok())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_behind_each_other_are_told_apart_as_they_came() {
        let apart = |text: &'static str| -> Vec<String> {
            let found = messages_in(&Bytes::from_static(text.as_bytes()));
            found.iter().map(|message| String::from_utf8_lossy(message).into_owned()).collect()
        };
        assert_eq!(apart("MSH|1\rPID|MSH\rMSH|2\r\n"), ["MSH|1\rPID|MSH\r", "MSH|2\r\n"]);
        assert_eq!(apart("MSH|1\r\x1c\r\x0bMSH|2\r\x1c\r\x0bMSH|3"), ["MSH|1\r", "MSH|2\r", "MSH|3"]);
        assert_eq!(apart("BHS|x\nMSH|1\nPID|1\nBTS|2\n"), ["MSH|1\nPID|1\n"]);
        assert_eq!(apart("PID|1\r"), [""; 0]);
        assert_eq!(apart("MS"), [""; 0]);
    }
}
