//! The append-only record of one side, so that another process can join the sides later, even after a crash of this
//! one. An event must be in the file before its consequence is on the wire: sent before the frame, received before the
//! ACK. It holds ids and hashes, never content.
//!
//! One event a line, parted by tabs: nanoseconds since the ledger was opened, event, message id, detail, hash. The
//! first line of each opening names the role: `# mllp-test ledger 1 sender`.

use crate::id::{Kind, MessageId};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A gateway's: what was sent and how it was answered.
    Sender,
    /// A destination's: what came and how it was answered.
    Sink,
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Written to the connection for the first time; the detail is the [`Kind`].
    Sent,
    /// Written again with the same control id.
    Resent,
    /// Answered AA or CA; the detail is the code.
    Acked,
    /// Answered by another code, the detail.
    Naked,
    /// Not answered in time: it may or may not have been taken.
    Timeout,
    /// The connection ended before the answer: it may or may not have been taken.
    Lost,
    /// Taken by the destination; the detail is the [`Kind`].
    Received,
    /// Refused by the destination; the detail is the code.
    Refused,
}

const EVENTS: [(Event, &str); 8] = [
    (Event::Sent, "sent"),
    (Event::Resent, "resent"),
    (Event::Acked, "acked"),
    (Event::Naked, "naked"),
    (Event::Timeout, "timeout"),
    (Event::Lost, "lost"),
    (Event::Received, "received"),
    (Event::Refused, "refused"),
];

/// One line of a ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// To which message.
    pub id: MessageId,
    /// The kind or the code, by event.
    pub detail: String,
    /// [`crate::v2::hash`] of the message, 0 where it was not taken.
    pub hash: u64,
}

/// A ledger open for writing.
#[derive(Debug)]
pub struct Ledger {
    file: BufWriter<File>,
    opened: Instant,
    fault: Option<String>,
}

impl Ledger {
    /// Opens or creates the file and begins a new section at its end.
    pub fn append_to(path: &Path, role: Role) -> io::Result<Ledger> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let mut ledger = Ledger { file: BufWriter::new(file), opened: Instant::now(), fault: None };
        // A line torn by the death of the last writer must not swallow the header.
        let role = if role == Role::Sender { "sender" } else { "sink" };
        writeln!(ledger.file, "\n# mllp-test ledger 1 {role}")?;
        ledger.file.flush()?;
        Ok(ledger)
    }

    /// Adds one event. It is in the file after [`Ledger::flush`].
    pub fn record(&mut self, event: Event, id: MessageId, detail: &str, hash: u64) {
        let at = self.opened.elapsed().as_nanos();
        let name = EVENTS[event as usize].1;
        let written = writeln!(self.file, "{at}\t{name}\t{id}\t{detail}\t{hash:016x}");
        self.note(written);
    }

    /// Hands all events to the operating system.
    pub fn flush(&mut self) {
        let flushed = self.file.flush();
        self.note(flushed);
    }

    /// What went wrong with the file, if anything did: then the account cannot be trusted.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn note(&mut self, result: io::Result<()>) {
        if let (Err(fault), None) = (result, &self.fault) {
            self.fault = Some(format!("the ledger could not be written ({fault}); free space and run again"));
        }
    }
}

/// Reads a ledger: its role and each entry in order. A torn last line is left out.
pub fn read(path: &Path, mut each: impl FnMut(Entry)) -> io::Result<Role> {
    let mut role = None;
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        if let Some(name) = line.strip_prefix("# mllp-test ledger 1 ") {
            role = Some(if name == "sender" { Role::Sender } else { Role::Sink });
        } else if let Some(entry) = entry(&line) {
            each(entry);
        }
    }
    role.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an mllp-test ledger: it has no header line"))
}

fn entry(line: &str) -> Option<Entry> {
    let mut parts = line.split('\t').skip(1);
    let name = parts.next()?;
    let event = EVENTS.iter().find(|(_, known)| *known == name)?.0;
    let id = parts.next()?.parse().ok()?;
    let detail = parts.next()?.to_owned();
    let hash = parts.next().filter(|hash| hash.len() == 16)?;
    Some(Entry { event, id, detail, hash: u64::from_str_radix(hash, 16).ok()? })
}

impl Entry {
    /// The detail as a kind of message.
    pub fn kind(&self) -> Kind {
        Kind::parse(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_ledger_reads_back_even_when_its_last_line_was_torn_and_it_was_reopened() {
        let path = std::env::temp_dir().join(format!("mllp-test-ledger-{}", std::process::id()));
        let id = MessageId { run: 1, sender: 2, seq: 3 };
        let mut ledger = Ledger::append_to(&path, Role::Sink).unwrap();
        ledger.record(Event::Received, id, "R40", 0xabc);
        ledger.flush();
        drop(ledger);
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"12\treceived\t00000001.2.4\tR01\tabc")
            .unwrap();
        let mut ledger = Ledger::append_to(&path, Role::Sink).unwrap();
        ledger.record(Event::Refused, id, "AE", 0);
        drop(ledger);
        let mut entries = Vec::new();
        assert_eq!(read(&path, |entry| entries.push(entry)).unwrap(), Role::Sink);
        std::fs::remove_file(&path).unwrap();
        let entry = |event, detail: &str, hash| Entry { event, id, detail: detail.into(), hash };
        assert_eq!(entries, [entry(Event::Received, "R40", 0xabc), entry(Event::Refused, "AE", 0)]);
    }
}
