//! What a sender does with the answers it gets: this side is the receiver, misbehaves in one way a row, and watches what
//! comes next. A sender that takes an answer for another message's, or goes on without one, has lost a message.
//!
//! Any MLLP sender will do that sends one message after the other and has something to send: a person makes it, or with
//! `feed` the messages are given to an engine that delivers here. Rows judge by the control ids that come, so the sender
//! must keep or make one for each message.

mod receiver;
mod rows;
#[cfg(test)]
mod tests;

use super::case::Area;
use super::escaped::escaped;
use super::line::{At, Line, Way};
use super::message::{Draft, Mode};
use super::{Report, RowResult};
use crate::frame::framed;
use crate::v2::Ack;
use bytes::Bytes;
use receiver::{Event, Message, Receiver};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Where to receive, and what of the sender's settings the rows need to know.
#[derive(Debug, Clone)]
pub struct OutboundOptions {
    /// Where to listen.
    pub listen: String,
    /// An engine's listener whose messages are delivered to `listen`; without it a person makes the sender send.
    pub feed: Option<String>,
    /// Only these rows, 1 to 10; all where empty.
    pub only: Vec<u8>,
    /// How long the sender waits for an answer.
    pub sender_timeout: Duration,
    /// How long to wait for a message that is due beside that.
    pub patience: Duration,
}

/// Runs the rows and tells each result as it comes. The error says why nothing could be run.
pub async fn run(options: &OutboundOptions, mut tell: impl FnMut(&RowResult)) -> std::io::Result<Report> {
    let receiver = Receiver::start(&options.listen).await?;
    let mut report = Report::of(&receiver.address().to_string());
    let mut stage = Stage { options, receiver, run: crate::load::new_run(), fed: 0, last: None, log: Vec::new() };
    for row in rows::ROWS.iter().filter(|row| options.only.is_empty() || options.only.contains(&row.number)) {
        stage.log.clear();
        let judged = (row.check)(&mut stage).await;
        let mut result = RowResult::new(format!("O{}", row.number), Area::Outbound, row.what, row.expected);
        row.answered.clone_into(&mut result.sent);
        result.answer = stage.log.join(" ");
        if let Err(fault) = judged {
            result = result.failed(fault);
        }
        tell(&result);
        report.rows.push(result);
    }
    Ok(report)
}

/// The sender as the rows see it.
struct Stage<'o> {
    options: &'o OutboundOptions,
    receiver: Receiver,
    run: u32,
    fed: u32,
    /// The last message that was answered well.
    last: Option<Message>,
    /// What the sender did.
    log: Vec<String>,
}

impl Stage<'_> {
    /// A message that did not come before. What comes again of those that were taken is answered again.
    async fn fresh(&mut self) -> Result<Message, String> {
        self.feed(Mode::Enhanced).await?;
        self.next_new().await
    }

    /// Gives the sender another message, where that is for us to do.
    async fn feed(&mut self, mode: Mode) -> Result<(), String> {
        let draft = self.draft(mode);
        self.feed_text(&draft.text()).await
    }

    fn draft(&mut self, mode: Mode) -> Draft {
        self.fed += 1;
        Draft { id: format!("SPECOUT{:08x}.{}", self.run, self.fed), mode }
    }

    async fn feed_text(&mut self, message: &str) -> Result<(), String> {
        let Some(address) = &self.options.feed else {
            eprintln!("make the sender send a message to {}", self.receiver.address());
            return Ok(());
        };
        let at = At { address: address.clone(), tls: None };
        let mut line = Line::connect(&at, self.options.patience).await?;
        line.writing.write(&framed(message.as_bytes()), Way::Whole).await?;
        let answer = line.reading.answer().await.map_err(|fault| format!("the feed: {fault}"))?;
        match Ack::read(&answer) {
            Some(ack) if ack.is_positive() => Ok(()),
            _ => Err(format!("the feed was answered {}", escaped(&answer))),
        }
    }

    async fn next_new(&mut self) -> Result<Message, String> {
        loop {
            let message = self.message(self.options.patience).await?;
            let known = self.last.as_ref().is_some_and(|last| last.control_id == message.control_id);
            if !known {
                return Ok(message);
            }
            self.accept(&message).await;
        }
    }

    /// The next message within the time; closes on the way are noted.
    async fn message(&mut self, patience: Duration) -> Result<Message, String> {
        let none = || format!("no message within {patience:?}");
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let next = tokio::time::timeout_at(deadline, self.receiver.next()).await.map_err(|_| none())?;
            match next {
                Event::Message(message) => {
                    self.log.push(format!("[connection {}] {}", message.connection, message.told()));
                    return Ok(message);
                }
                Event::Closed(connection) => self.log.push(format!("[connection {connection}] closed")),
            }
        }
    }

    /// The sender must repeat this message over another connection, the one it was on being closed, and send nothing else
    /// before. The repeat is accepted.
    async fn repeated(&mut self, message: &Message) -> Result<(), String> {
        let again = self.message(self.options.sender_timeout + self.options.patience).await;
        let again = again.map_err(|none| format!("the message was not sent again: {none}"))?;
        if again.control_id != message.control_id {
            return Err("another message came before this one was acknowledged".to_owned());
        }
        if again.connection == message.connection {
            return Err("it came again on the connection on which an answer may still come".to_owned());
        }
        if !self.receiver.is_closed(message.connection).await {
            return Err("the connection on which an answer may still come is open".to_owned());
        }
        self.accept(&again).await;
        Ok(())
    }

    /// Answers that it is taken.
    async fn accept(&mut self, message: &Message) {
        self.answer(message, &framed(&message.ack("A", ""))).await;
        self.last = Some(message.clone());
    }

    /// Writes bytes to the connection of the message; that it may be gone shows in what comes next.
    async fn answer(&mut self, message: &Message, bytes: &Bytes) {
        if let Some(writing) = self.receiver.writing(message.connection) {
            let _ = writing.write_all(bytes).await;
        }
    }
}
