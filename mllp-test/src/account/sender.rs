//! A sender's book: each message by its last known fate. Positive and negative answers are certain; a timeout or a
//! broken connection says nothing, and either outcome is legal for it.

use super::hashes::Hashes;
use crate::id::{Kind, MessageId, SeqSet};
use crate::latency::Latency;
use crate::ledger::{Event, Ledger, Role};
use crate::{lock, v2};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// What senders sent and what they were told.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SenderAccount {
    /// Messages sent at least once.
    pub sent: u64,
    /// Times a message was sent again with the same control id.
    pub resent: u64,
    /// Messages answered AA or CA.
    pub acked: u64,
    /// Messages whose last answer was negative.
    pub naked: u64,
    /// Times an answer did not come in time.
    pub timeouts: u64,
    /// Messages given up when their connection ended before the answer.
    pub lost: u64,
    /// Answers that did not match the oldest unanswered message.
    pub mismatched: u64,
    /// Answers while nothing was unanswered.
    pub unexpected: u64,
    /// Answers in which the canary stood: patient data.
    pub leaked: u64,
    /// Bytes outside frames.
    pub noise: u64,
    /// Connections made.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections given up, with what they had still to send, since nobody took them.
    pub unreachable: u64,
    /// MSA-1 codes by how often they came.
    pub codes: BTreeMap<String, u64>,
    /// Why the ledger file cannot be trusted, if so.
    pub ledger_fault: Option<String>,
    /// Time from writing a frame to reading its positive answer.
    #[serde(skip)]
    pub latency: Latency,
    #[serde(skip)]
    pub(super) senders: BTreeMap<(u32, u32), Fates>,
    #[serde(skip)]
    pub(super) hashes: Option<Hashes>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fates {
    sent: [SeqSet; Kind::ALL.len()],
    acked: SeqSet,
    naked: SeqSet,
}

impl SenderAccount {
    /// Messages with no answer yet: sent, and neither acknowledged nor refused.
    pub fn unanswered(&self) -> u64 {
        self.sent.saturating_sub(self.acked + self.naked)
    }

    /// Whether each message was answered positively, once and in order.
    pub fn is_clean(&self) -> bool {
        self.acked == self.sent
            && self.mismatched + self.unexpected + self.leaked + self.noise == 0
            && self.ledger_fault.is_none()
    }

    /// Whether the message was answered positively.
    pub fn was_acked(&self, id: MessageId) -> bool {
        self.fates(id).is_some_and(|fates| fates.acked.contains(id.seq))
    }

    /// The kind of a message that was sent.
    pub fn kind_sent(&self, id: MessageId) -> Option<Kind> {
        let fates = self.fates(id)?;
        Kind::ALL.into_iter().find(|kind| fates.sent[kind.index()].contains(id.seq))
    }

    /// Every acknowledged message with its kind.
    pub fn acked(&self) -> impl Iterator<Item = (MessageId, Kind)> + '_ {
        self.senders.iter().flat_map(|(&(run, sender), fates)| {
            Kind::ALL.into_iter().flat_map(move |kind| {
                let acked = fates.sent[kind.index()].iter().filter(|&seq| fates.acked.contains(seq));
                acked.map(move |seq| (MessageId { run, sender, seq }, kind))
            })
        })
    }

    /// Adds the account of other senders; none may be in both.
    pub fn absorb(&mut self, other: SenderAccount) {
        self.sent += other.sent;
        self.resent += other.resent;
        self.acked += other.acked;
        self.naked += other.naked;
        self.timeouts += other.timeouts;
        self.lost += other.lost;
        self.mismatched += other.mismatched;
        self.unexpected += other.unexpected;
        self.leaked += other.leaked;
        self.noise += other.noise;
        self.connections += other.connections;
        self.connect_failures += other.connect_failures;
        self.unreachable += other.unreachable;
        other.codes.into_iter().for_each(|(code, count)| *self.codes.entry(code).or_default() += count);
        self.ledger_fault = self.ledger_fault.take().or(other.ledger_fault);
        self.latency.add(&other.latency);
        self.senders.extend(other.senders);
        if let Some(hashes) = other.hashes {
            self.hashes.get_or_insert_default().append(hashes);
        }
    }

    pub(super) fn sent(&mut self, id: MessageId, kind: Kind) {
        let fates = self.senders.entry((id.run, id.sender)).or_default();
        if fates.sent[kind.index()].insert(id.seq) {
            self.sent += 1;
        } else {
            self.resent += 1;
        }
    }

    pub(super) fn answered(&mut self, id: MessageId, code: &str, positive: bool) {
        *self.codes.entry(code.to_owned()).or_default() += 1;
        let fates = self.senders.entry((id.run, id.sender)).or_default();
        if positive {
            self.naked -= u64::from(fates.naked.remove(id.seq));
            self.acked += u64::from(fates.acked.insert(id.seq));
        } else if !fates.acked.contains(id.seq) {
            self.naked += u64::from(fates.naked.insert(id.seq));
        }
    }

    fn fates(&self, id: MessageId) -> Option<&Fates> {
        self.senders.get(&(id.run, id.sender))
    }
}

impl fmt::Display for SenderAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [median, p99, max] = [self.latency.percentile(0.5), self.latency.percentile(0.99), self.latency.max()];
        writeln!(
            f,
            "sent {}  acknowledged {}  refused {}  unanswered {}",
            self.sent,
            self.acked,
            self.naked,
            self.unanswered()
        )?;
        writeln!(
            f,
            "resent {}  timeouts {}  connections {}  failed to connect {}  wrong answers {}  unasked answers {}",
            self.resent, self.timeouts, self.connections, self.connect_failures, self.mismatched, self.unexpected
        )?;
        write!(f, "acknowledged within: half {median:.1?}, 99 % {p99:.1?}, all {max:.1?}")?;
        self.ledger_fault.iter().try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

/// A [`SenderAccount`] being written, with its ledger.
#[derive(Debug, Default)]
pub struct SenderBook(Mutex<(SenderAccount, Option<Ledger>)>);

impl SenderBook {
    /// A new book, with an append-only file beside it if one is named.
    pub fn open(ledger: Option<&Path>) -> io::Result<SenderBook> {
        let ledger = ledger.map(|path| Ledger::append_to(path, Role::Sender)).transpose()?;
        Ok(SenderBook(Mutex::new((SenderAccount::default(), ledger))))
    }

    /// [`SenderBook::open`], and keeps each message's hash for a join with destinations that do so too.
    pub fn open_verbatim(ledger: Option<&Path>) -> io::Result<SenderBook> {
        let book = SenderBook::open(ledger)?;
        book.count(|account| account.hashes = Some(Hashes::default()));
        Ok(book)
    }

    /// The account as it stands.
    pub fn account(&self) -> SenderAccount {
        let mut book = lock(&self.0);
        book.0.ledger_fault = book.1.as_ref().and_then(Ledger::fault).map(str::to_owned);
        book.0.clone()
    }

    /// Looks at the account without copying it.
    pub fn with<T>(&self, look: impl FnOnce(&SenderAccount) -> T) -> T {
        look(&lock(&self.0).0)
    }

    /// Changes plain counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut SenderAccount)) {
        change(&mut lock(&self.0).0);
    }

    /// About to be written. The ledger is flushed by [`SenderBook::flush`], before the frame goes out.
    pub(crate) fn sent(&self, id: MessageId, kind: Kind, message: &[u8]) {
        let hash = v2::hash(message);
        let mut book = lock(&self.0);
        book.0.sent(id, kind);
        if let Some(hashes) = &mut book.0.hashes {
            hashes.keep(id, hash);
        }
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Sent, id, kind.as_str(), hash);
        }
    }

    pub(crate) fn resent(&self, id: MessageId, kind: Kind) {
        let mut book = lock(&self.0);
        book.0.sent(id, kind);
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Resent, id, kind.as_str(), 0);
        }
    }

    pub(crate) fn answered(&self, id: MessageId, ack: &v2::Ack, took: Duration) {
        let mut book = lock(&self.0);
        let positive = ack.is_positive();
        book.0.answered(id, &ack.code, positive);
        if positive {
            book.0.latency.record(took);
        }
        if let Some(ledger) = &mut book.1 {
            ledger.record(if positive { Event::Acked } else { Event::Naked }, id, &ack.code, 0);
        }
    }

    pub(crate) fn timed_out(&self, id: MessageId) {
        let mut book = lock(&self.0);
        book.0.timeouts += 1;
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Timeout, id, "-", 0);
        }
    }

    pub(crate) fn lost(&self, id: MessageId) {
        let mut book = lock(&self.0);
        book.0.lost += 1;
        if let Some(ledger) = &mut book.1 {
            ledger.record(Event::Lost, id, "-", 0);
        }
    }

    pub(crate) fn flush(&self) {
        if let Some(ledger) = &mut lock(&self.0).1 {
            ledger.flush();
        }
    }
}
