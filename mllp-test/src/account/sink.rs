//! A destination's book: which messages it took, in which order they first came, and what came again.

use super::Findings;
use super::hashes::Hashes;
use crate::id::{Kind, MessageId, SeqSet};
use crate::ledger::{Event, Ledger, Role};
use crate::{lock, v2};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Mutex;

/// What a destination took.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SinkAccount {
    /// Different messages taken.
    pub received: u64,
    /// Times a message came that was already taken.
    pub repeats: u64,
    /// Times a message was refused.
    pub refused: u64,
    /// Messages without an id of ours; they cannot be accounted.
    pub unnamed: u64,
    /// Bytes outside frames, frames too long.
    pub noise: u64,
    /// Messages that first came after a later one of the same sender.
    pub reordered: Findings,
    /// Messages of the same id and another content.
    pub changed: Findings,
    /// FHIR: resources by what became of them, such as `Observation created`.
    pub resources: BTreeMap<String, u64>,
    /// FHIR: Observations made once more by a message that had been taken before: duplicates in the record.
    pub duplicated: Findings,
    /// FHIR: requests refused because they were not what was promised; each text once.
    pub shape_faults: BTreeMap<String, u64>,
    /// Why the ledger file cannot be trusted, if so.
    pub ledger_fault: Option<String>,
    #[serde(skip)]
    pub(super) senders: BTreeMap<(u32, u32), Arrivals>,
    #[serde(skip)]
    pub(super) hashes: Option<Hashes>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Arrivals {
    taken: SeqSet,
    refused: SeqSet,
    late: SeqSet,
    highest: u64,
}

impl SinkAccount {
    /// Whether the message was taken.
    pub fn has(&self, id: MessageId) -> bool {
        self.arrivals(id).is_some_and(|arrivals| arrivals.taken.contains(id.seq))
    }

    /// Sequence numbers missing below the highest that came, over all senders.
    pub fn gaps(&self) -> u64 {
        self.senders.values().map(|arrivals| arrivals.highest.saturating_sub(arrivals.taken.len())).sum()
    }

    /// Every message taken.
    pub fn taken(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.each(|arrivals| &arrivals.taken)
    }

    /// Every message that first came after a later one of its sender, without having been refused before.
    pub fn late(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.each(|arrivals| &arrivals.late)
    }

    /// Whether the message was refused at some time.
    pub fn was_refused(&self, id: MessageId) -> bool {
        self.arrivals(id).is_some_and(|arrivals| arrivals.refused.contains(id.seq))
    }

    /// Notes a message taken; true when it is the first time.
    pub fn took(&mut self, id: MessageId) -> bool {
        let arrivals = self.senders.entry((id.run, id.sender)).or_default();
        if !arrivals.taken.insert(id.seq) {
            self.repeats += 1;
            return false;
        }
        self.received += 1;
        // One that was refused is let through later by a person's hand: its lateness is not the engine's doing.
        if id.seq < arrivals.highest && !arrivals.refused.contains(id.seq) {
            arrivals.late.insert(id.seq);
            self.reordered.add(id);
        }
        arrivals.highest = arrivals.highest.max(id.seq);
        true
    }

    /// Notes a message refused.
    pub fn refused(&mut self, id: MessageId) {
        self.refused += 1;
        self.senders.entry((id.run, id.sender)).or_default().refused.insert(id.seq);
    }

    pub(super) fn compare(&mut self, id: MessageId, hash: u64) {
        let Some(hashes) = &mut self.hashes else { return };
        if !hashes.keep(id, hash) {
            self.changed.add(id);
        }
    }

    fn arrivals(&self, id: MessageId) -> Option<&Arrivals> {
        self.senders.get(&(id.run, id.sender))
    }

    fn each<'a>(&'a self, which: fn(&'a Arrivals) -> &'a SeqSet) -> impl Iterator<Item = MessageId> + 'a {
        self.senders.iter().flat_map(move |(&(run, sender), arrivals)| {
            which(arrivals).iter().map(move |seq| MessageId { run, sender, seq })
        })
    }
}

impl fmt::Display for SinkAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "received {}  repeats {}  refused {}  gaps {}  reordered {}  without id {}  noise {}",
            self.received,
            self.repeats,
            self.refused,
            self.gaps(),
            self.reordered,
            self.unnamed,
            self.noise
        )?;
        self.resources.iter().try_for_each(|(what, count)| write!(f, "\n  {what} {count}"))?;
        if self.duplicated.count > 0 {
            write!(f, "\n  Observations duplicated by repeats {}", self.duplicated)?;
        }
        self.shape_faults.iter().try_for_each(|(fault, count)| write!(f, "\n  {count} × {fault}"))?;
        self.ledger_fault.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// A [`SinkAccount`] being written, with its ledger.
#[derive(Debug, Default)]
pub struct SinkBook(Mutex<(SinkAccount, Option<Ledger>)>);

impl SinkBook {
    /// A new book, with an append-only file beside it if one is named.
    pub fn open(ledger: Option<&Path>) -> io::Result<SinkBook> {
        let ledger = ledger.map(|path| Ledger::append_to(path, Role::Sink)).transpose()?;
        Ok(SinkBook(Mutex::new((SinkAccount::default(), ledger))))
    }

    /// [`SinkBook::open`], and keeps each message's hash for a join with a sender who does so too.
    pub fn open_verbatim(ledger: Option<&Path>) -> io::Result<SinkBook> {
        let book = SinkBook::open(ledger)?;
        book.with(|account| account.hashes = Some(Hashes::default()));
        Ok(book)
    }

    /// The account as it stands.
    pub fn account(&self) -> SinkAccount {
        let mut book = lock(&self.0);
        book.0.ledger_fault = book.1.as_ref().and_then(Ledger::fault).map(str::to_owned);
        book.0.clone()
    }

    /// Looks at or changes the account without copying it.
    pub fn with<T>(&self, use_: impl FnOnce(&mut SinkAccount) -> T) -> T {
        use_(&mut lock(&self.0).0)
    }

    /// A message taken, written down before its answer goes out; true when it is the first time.
    pub(crate) fn took(&self, id: MessageId, kind: Kind, message: &[u8]) -> bool {
        let hash = if message.is_empty() { 0 } else { v2::hash(message) };
        let mut book = lock(&self.0);
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Received, id, kind.as_str(), hash);
            ledger.flush();
        }
        book.0.compare(id, hash);
        book.0.took(id)
    }

    /// A message refused, written down before its answer goes out.
    pub(crate) fn refused(&self, id: Option<MessageId>, code: &str) {
        let mut book = lock(&self.0);
        let Some(id) = id else {
            book.0.refused += 1;
            return;
        };
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Refused, id, code, 0);
            ledger.flush();
        }
        book.0.refused(id);
    }
}
