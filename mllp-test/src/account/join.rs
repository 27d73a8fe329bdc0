//! The join: every acknowledged message must be at each destination it was meant for, in its sender's order, or be
//! known as dead there; nothing else may be there.

use super::hashes::Hashes;
use super::{Findings, SenderAccount, SinkAccount};
use crate::id::{Kind, MessageId};
use crate::ledger::{self, Event, Role};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Which messages a destination should get.
#[derive(Clone)]
pub struct Expect(Arc<dyn Fn(MessageId, Kind) -> bool + Send + Sync>);

impl fmt::Debug for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expect")
    }
}

impl Expect {
    /// Every message.
    pub fn all() -> Expect {
        Expect::when(|_, _| true)
    }

    /// Messages of these kinds.
    pub fn kinds(kinds: &[Kind]) -> Expect {
        let kinds = kinds.to_vec();
        Expect::when(move |_, kind| kinds.contains(&kind))
    }

    /// Messages of these senders.
    pub fn senders(senders: Range<u32>) -> Expect {
        Expect::when(move |id, _| senders.contains(&id.sender))
    }

    /// Messages for which `rule` holds.
    pub fn when(rule: impl Fn(MessageId, Kind) -> bool + Send + Sync + 'static) -> Expect {
        Expect(Arc::new(rule))
    }
}

/// One destination in a join.
#[derive(Debug)]
pub struct Route<'a> {
    /// What to call it.
    pub name: &'a str,
    /// What it took.
    pub sink: &'a SinkAccount,
    /// What it should have got.
    pub expects: Expect,
    /// What the engine still shows as dead letters (or as waiting) for it.
    pub dead: HashSet<MessageId>,
}

impl<'a> Route<'a> {
    /// A destination that should get everything and has no dead letters.
    pub fn all(name: &'a str, sink: &'a SinkAccount) -> Route<'a> {
        Route { name, sink, expects: Expect::all(), dead: HashSet::new() }
    }
}

/// The sender's side against every destination.
#[derive(Debug, Clone, Serialize)]
pub struct Account {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged positively.
    pub acked: u64,
    /// Messages refused.
    pub naked: u64,
    /// Messages without an answer; these may or may not be delivered.
    pub unanswered: u64,
    /// Answers that matched no or the wrong message.
    pub wrong_answers: u64,
    /// Each destination.
    pub destinations: Vec<Destination>,
    /// Ledgers that could not be written.
    pub ledger_faults: Vec<String>,
}

/// One destination's part of an [`Account`].
#[derive(Debug, Clone, Default, Serialize)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Acknowledged messages that belong here.
    pub expected: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Of these, not delivered and known as dead letters.
    pub dead: u64,
    /// Of these, neither delivered nor dead: the engine broke its promise.
    pub lost: Findings,
    /// Delivered, but never sent.
    pub phantom: Findings,
    /// Delivered, but meant for other destinations.
    pub misrouted: Findings,
    /// Acknowledged, and first delivered after a later one of the same sender.
    pub reordered: Findings,
    /// Delivered with other bytes than were sent, where that was compared.
    pub changed: Findings,
    /// Observations made twice in the record.
    pub duplicated: Findings,
    /// Deliveries of messages that were there already. Legal after a fault.
    pub repeats: u64,
    /// Messages that could not be named.
    pub unnamed: u64,
}

impl Account {
    /// Joins what senders were told with what each destination got.
    pub fn join<'a>(sender: &SenderAccount, routes: impl IntoIterator<Item = Route<'a>>) -> Account {
        let mut ledger_faults: Vec<String> = sender.ledger_fault.iter().cloned().collect();
        let mut destinations = Vec::new();
        for route in routes {
            ledger_faults.extend(route.sink.ledger_fault.clone());
            destinations.push(destination(sender, &route));
        }
        Account {
            sent: sender.sent,
            acked: sender.acked,
            naked: sender.naked,
            unanswered: sender.unanswered(),
            wrong_answers: sender.mismatched + sender.unexpected,
            destinations,
            ledger_faults,
        }
    }

    /// Acknowledged messages missing at a destination, over all of them.
    pub fn lost(&self) -> u64 {
        self.destinations.iter().map(|destination| destination.lost.count).sum()
    }

    /// Whether the engine kept every promise.
    pub fn balances(&self) -> bool {
        self.wrong_answers == 0 && self.ledger_faults.is_empty() && self.destinations.iter().all(Destination::balances)
    }
}

impl Destination {
    /// Whether every promise to this destination was kept.
    pub fn balances(&self) -> bool {
        let faults = [&self.lost, &self.phantom, &self.misrouted, &self.reordered, &self.changed, &self.duplicated];
        faults.iter().all(|findings| findings.count == 0) && self.unnamed == 0
    }
}

fn destination(sender: &SenderAccount, route: &Route<'_>) -> Destination {
    let sink = route.sink;
    let mut destination = Destination {
        name: route.name.to_owned(),
        repeats: sink.repeats,
        unnamed: sink.unnamed,
        changed: sink.changed.clone(),
        duplicated: sink.duplicated.clone(),
        ..Destination::default()
    };
    for (id, _) in sender.acked().filter(|&(id, kind)| (route.expects.0)(id, kind)) {
        destination.expected += 1;
        if sink.has(id) {
            destination.delivered += 1;
        } else if route.dead.contains(&id) {
            destination.dead += 1;
        } else {
            destination.lost.add(id);
        }
    }
    for id in sink.taken() {
        match sender.kind_sent(id) {
            None => destination.phantom.add(id),
            Some(kind) if !(route.expects.0)(id, kind) => destination.misrouted.add(id),
            Some(_) if differs(sender, sink, id) => destination.changed.add(id),
            Some(_) => {}
        }
    }
    // Without a positive answer nothing was promised about the order either.
    sink.late().filter(|&id| sender.was_acked(id)).for_each(|id| destination.reordered.add(id));
    destination
}

fn differs(sender: &SenderAccount, sink: &SinkAccount, id: MessageId) -> bool {
    let (Some(sent), Some(received)) = (&sender.hashes, &sink.hashes) else { return false };
    sent.of(id) != received.of(id)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {}  acknowledged {}  refused {}  unanswered {}  wrong answers {}",
            self.sent, self.acked, self.naked, self.unanswered, self.wrong_answers
        )?;
        for destination in &self.destinations {
            writeln!(f, "{destination}")?;
        }
        self.ledger_faults.iter().try_for_each(|fault| writeln!(f, "{fault}"))?;
        write!(f, "lost {}: the account {}", self.lost(), if self.balances() { "balances" } else { "DOES NOT BALANCE" })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {}  delivered {}  dead {}  lost {}  repeats {}",
            self.name, self.expected, self.delivered, self.dead, self.lost, self.repeats
        )?;
        let rare = [
            ("reordered", &self.reordered),
            ("phantom", &self.phantom),
            ("misrouted", &self.misrouted),
            ("changed", &self.changed),
            ("duplicated", &self.duplicated),
        ];
        rare.iter().filter(|(_, found)| found.count > 0).try_for_each(|(name, found)| write!(f, "  {name} {found}"))?;
        if self.unnamed > 0 { write!(f, "  without id {}", self.unnamed) } else { Ok(()) }
    }
}

/// Adds a sender's ledger file to an account; with `verbatim` the hashes are kept for comparison.
pub fn read_sender(path: &Path, verbatim: bool, account: &mut SenderAccount) -> io::Result<()> {
    if verbatim && account.hashes.is_none() {
        account.hashes = Some(Hashes::default());
    }
    let role = ledger::read(path, |entry| match entry.event {
        Event::Sent => {
            account.sent(entry.id, entry.kind());
            if let Some(hashes) = &mut account.hashes {
                hashes.keep(entry.id, entry.hash);
            }
        }
        Event::Resent => account.sent(entry.id, entry.kind()),
        Event::Acked => account.answered(entry.id, &entry.detail, true),
        Event::Naked => account.answered(entry.id, &entry.detail, false),
        Event::Timeout => account.timeouts += 1,
        Event::Lost => account.lost += 1,
        Event::Received | Event::Refused => {}
    })?;
    must_be(role, Role::Sender)
}

/// Reads a destination's ledger file; with `verbatim` the hashes are kept for comparison.
pub fn read_sink(path: &Path, verbatim: bool) -> io::Result<SinkAccount> {
    let mut account = SinkAccount { hashes: verbatim.then(Hashes::default), ..SinkAccount::default() };
    let role = ledger::read(path, |entry| match entry.event {
        Event::Received => {
            account.took(entry.id);
            account.compare(entry.id, entry.hash);
        }
        Event::Refused => account.refused(entry.id),
        _ => {}
    })?;
    must_be(role, Role::Sink).map(|()| account)
}

fn must_be(role: Role, wanted: Role) -> io::Result<()> {
    let text =
        format!("this is the ledger of a {role:?}, not of a {wanted:?}; give the sender's ledger first").to_lowercase();
    if role == wanted { Ok(()) } else { Err(io::Error::new(io::ErrorKind::InvalidData, text)) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn id(seq: u64) -> MessageId {
        MessageId { run: 1, sender: 0, seq }
    }

    /// Ten messages, all acknowledged.
    fn ten_sent() -> SenderAccount {
        let mut sender = SenderAccount::default();
        for seq in 1..=10 {
            sender.sent(id(seq), if seq == 5 { Kind::R40 } else { Kind::R01 });
            sender.answered(id(seq), "CA", true);
        }
        sender
    }

    fn joined(sender: &SenderAccount, arrivals: &[u64]) -> Destination {
        let mut sink = SinkAccount::default();
        for &seq in arrivals {
            sink.took(id(seq));
        }
        let mut account = Account::join(sender, [Route::all("ehr", &sink)]);
        assert_eq!(account.balances(), account.destinations[0].balances());
        account.destinations.remove(0)
    }

    #[test]
    fn all_delivered_in_order_balances_with_or_without_a_repeat() {
        assert!(joined(&ten_sent(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).balances());
        let repeated = joined(&ten_sent(), &[1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert!(repeated.balances());
        assert_eq!(repeated.repeats, 2);
    }

    #[test]
    fn a_planted_loss_is_found_and_named() {
        let account = joined(&ten_sent(), &[1, 2, 3, 4, 5, 6, 8, 9, 10]);
        assert_eq!(account.lost, Findings { count: 1, first: vec![id(7)] });
        assert!(!account.balances());
    }

    #[test]
    fn a_planted_swap_is_found_and_named() {
        let account = joined(&ten_sent(), &[1, 2, 4, 3, 5, 6, 7, 8, 9, 10]);
        assert_eq!(account.reordered.first, [id(3)]);
        assert!(!account.balances());
    }

    #[test]
    fn a_planted_phantom_is_found_and_named() {
        let account = joined(&ten_sent(), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(account.phantom.first, [id(11)]);
        assert!(!account.balances());
    }

    #[test]
    fn an_unanswered_message_may_come_late_or_not_at_all() {
        let mut sender = ten_sent();
        sender.sent(id(11), Kind::R01);
        sender.sent(id(12), Kind::R01);
        sender.answered(id(12), "CA", true);
        assert!(joined(&sender, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 11]).balances());
        assert!(joined(&sender, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]).balances());
    }

    #[test]
    fn a_dead_letter_is_not_lost_and_its_late_retry_is_not_disorder() {
        let sender = ten_sent();
        let mut sink = SinkAccount::default();
        for seq in 1..=10 {
            if seq == 3 {
                sink.refused(id(seq));
            } else {
                sink.took(id(seq));
            }
        }
        let route = Route { dead: HashSet::from([id(3)]), ..Route::all("ehr", &sink) };
        let account = Account::join(&sender, [route]);
        assert!(account.balances());
        assert_eq!(account.destinations[0].dead, 1);
        assert!(!Account::join(&sender, [Route::all("ehr", &sink)]).balances(), "refused and forgotten is lost");
        sink.took(id(3));
        assert!(Account::join(&sender, [Route::all("ehr", &sink)]).balances());
    }

    #[test]
    fn what_goes_to_the_wrong_destination_is_found() {
        let sender = ten_sent();
        let mut sink = SinkAccount::default();
        sink.took(id(5));
        let alarms = || Route { expects: Expect::kinds(&[Kind::R40]), ..Route::all("alarms", &sink) };
        assert!(Account::join(&sender, [alarms()]).balances());
        let account = Account::join(&sender, [Route { expects: Expect::kinds(&[Kind::R01]), ..alarms() }]);
        assert_eq!(account.destinations[0].misrouted.first, [id(5)]);
        assert_eq!(account.lost(), 9);
    }

    #[test]
    fn a_wrong_answer_or_a_bad_ledger_alone_breaks_the_balance() {
        let sink = SinkAccount::default();
        let unmatched = SenderAccount { mismatched: 1, ..SenderAccount::default() };
        assert!(!Account::join(&unmatched, [Route::all("ehr", &sink)]).balances());
        let unwritten = SenderAccount { ledger_fault: Some("disk full".into()), ..SenderAccount::default() };
        assert!(!Account::join(&unwritten, [Route::all("ehr", &sink)]).balances());
    }
}
