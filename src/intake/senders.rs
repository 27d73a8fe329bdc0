//! What each sender breaks since the start, and its quirks: messages, when first and last. Bounded; the longest silent give way.
//!
//! A sender is named as it names itself in MSH-3 and MSH-4. It is told to authorised readers alone, never a metric's label.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    hl7::Message,
    pcd::{
        conformance::{Finding, Rule, Severity},
        tolerance::{Quirk, Quirks},
    },
};

/// Senders remembered at once. Over it the eighth that was silent longest is forgotten, with its counts.
const SENDERS_MAX: usize = 4_096;
/// Bytes kept of each of MSH-3 and MSH-4.
const NAME_BYTES_MAX: usize = 200;

/// One sender and what it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SenderConformance {
    /// MSH-3 as sent.
    pub application: String,
    /// MSH-4 as sent.
    pub facility: String,
    /// The channel that took its last message.
    pub channel: Arc<str>,
    /// When its first message was received since the start of the engine: what is counted is counted from there.
    pub first_seen: Timestamp,
    /// Messages examined for conformance.
    pub messages: u64,
    /// Those with a finding.
    pub nonconforming: u64,
    /// When its last message was received.
    pub last_seen: Timestamp,
    /// Rules it breaks.
    pub rules: Vec<BrokenRule>,
    /// Quirks its messages have.
    pub quirks: Vec<MetQuirk>,
}

/// One quirk of a sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MetQuirk {
    /// Which.
    pub quirk: Quirk,
    /// What it is.
    pub what: &'static str,
    /// Messages that had it.
    pub messages: u64,
    /// When the first of them was received since the start of the engine.
    pub first_seen: Timestamp,
    /// When the last of them was received.
    pub last_seen: Timestamp,
}

/// One rule a sender breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokenRule {
    /// Id of the rule.
    pub rule: &'static str,
    /// Its greatest weight so far.
    pub severity: Severity,
    /// Where it is asked for.
    pub section: &'static str,
    /// What it asks for.
    pub what: &'static str,
    /// Messages that broke it.
    pub messages: u64,
    /// When the last of them was received.
    pub last_seen: Timestamp,
    /// Where it was met last, as in ERR-2.
    pub place: String,
}

/// The senders heard; shared by all intakes.
#[derive(Default)]
pub struct Senders(Mutex<HashMap<Box<[u8]>, Sender>>);

struct Sender {
    channel: Arc<str>,
    messages: u64,
    nonconforming: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    rules: BTreeMap<&'static str, Tally>,
    quirks: BTreeMap<Quirk, Seen>,
}

struct Seen {
    messages: u64,
    first: Timestamp,
    last: Timestamp,
}

struct Tally {
    messages: u64,
    last: Timestamp,
    finding: Finding,
}

impl Senders {
    /// Notes a message that was examined.
    pub(super) fn heard(&self, message: &Message, channel: &Arc<str>, findings: &[Finding], at: Timestamp) {
        self.of(message, channel, at, |sender| sender.note(findings, at));
    }

    /// Notes a message that has quirks.
    pub(super) fn met(&self, message: &Message, channel: &Arc<str>, quirks: Quirks, at: Timestamp) {
        self.of(message, channel, at, |sender| sender.note_quirks(quirks, at));
    }

    fn of(&self, message: &Message, channel: &Arc<str>, at: Timestamp, note: impl FnOnce(&mut Sender)) {
        let name = name_of(message);
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !senders.contains_key(name.as_slice()) && senders.len() >= SENDERS_MAX {
            forget_silent(&mut senders);
        }
        let sender = senders.entry(name.into()).or_insert_with(|| Sender::new(channel, at));
        if sender.channel != *channel {
            sender.channel = channel.clone();
        }
        sender.last_seen = at;
        note(sender);
    }

    /// All of them by name.
    pub fn list(&self) -> Vec<SenderConformance> {
        let senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<SenderConformance> = senders.iter().map(|(name, sender)| sender.shown(name)).collect();
        list.sort_by(|a, b| (&a.application, &a.facility).cmp(&(&b.application, &b.facility)));
        list
    }
}

impl Sender {
    fn new(channel: &Arc<str>, at: Timestamp) -> Sender {
        let (channel, rules, quirks) = (channel.clone(), BTreeMap::new(), BTreeMap::new());
        Sender { channel, messages: 0, nonconforming: 0, first_seen: at, last_seen: at, rules, quirks }
    }

    fn note_quirks(&mut self, quirks: Quirks, at: Timestamp) {
        for quirk in quirks.iter() {
            let seen = self.quirks.entry(quirk).or_insert(Seen { messages: 0, first: at, last: at });
            seen.messages += 1;
            seen.last = at;
        }
    }

    fn note(&mut self, findings: &[Finding], at: Timestamp) {
        self.messages += 1;
        self.nonconforming += u64::from(!findings.is_empty());
        for broken in findings.chunk_by(|a, b| a.rule == b.rule) {
            let finding = &broken[0];
            let tally = self.rules.entry(finding.rule.id).or_insert_with(|| Tally {
                messages: 0,
                last: at,
                finding: finding.clone(),
            });
            let severity = broken.iter().map(|finding| finding.severity).max().max(Some(tally.finding.severity));
            tally.messages += 1;
            tally.last = at;
            tally.finding = Finding { severity: severity.unwrap_or(finding.severity), ..finding.clone() };
        }
    }

    fn shown(&self, name: &[u8]) -> SenderConformance {
        let mut parts = name.splitn(2, |byte| *byte == END_OF_NAME);
        let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let (application, facility) = (text(), text());
        let rule = |tally: &Tally| {
            let Rule { id, section, what, .. } = *tally.finding.rule;
            let (severity, place) = (tally.finding.severity, tally.finding.place.to_string());
            BrokenRule { rule: id, severity, section, what, messages: tally.messages, last_seen: tally.last, place }
        };
        let quirk = |(quirk, seen): (&Quirk, &Seen)| MetQuirk {
            quirk: *quirk,
            what: quirk.about().what,
            messages: seen.messages,
            first_seen: seen.first,
            last_seen: seen.last,
        };
        SenderConformance {
            application,
            facility,
            channel: self.channel.clone(),
            first_seen: self.first_seen,
            messages: self.messages,
            nonconforming: self.nonconforming,
            last_seen: self.last_seen,
            rules: self.rules.values().map(rule).collect(),
            quirks: self.quirks.iter().map(quirk).collect(),
        }
    }
}

/// Stands in no name.
const END_OF_NAME: u8 = 0;

fn name_of(message: &Message) -> Vec<u8> {
    let [application, facility] = [3, 4].map(|n| {
        let raw = message.msh().field(n).raw();
        raw[..raw.len().min(NAME_BYTES_MAX)].iter().copied().filter(|byte| *byte != END_OF_NAME).collect::<Vec<u8>>()
    });
    [&application[..], &[END_OF_NAME], &facility].concat()
}

/// At once, so that a flood of new names costs little each.
fn forget_silent(senders: &mut HashMap<Box<[u8]>, Sender>) {
    let mut times: Vec<Timestamp> = senders.values().map(|sender| sender.last_seen).collect();
    times.sort_unstable();
    let limit = times[times.len() / 8];
    senders.retain(|_, sender| sender.last_seen > limit);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::pcd::{Nomenclature, conformance::check};

    fn second(n: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(n).unwrap()).unwrap()
    }

    fn hear(senders: &Senders, sender: &str, value: &str, at: usize) {
        let text = format!(
            "MSH|^~\\&|{sender}|4W|||20260301||ORU^R01|1|P|2.6\rPID|||7\rOBR|1\rOBX|1|NM|8867-4^Rate^LN||{value}|/min|||||F\r"
        );
        let message = Message::parse(text).unwrap();
        let findings = check(&message, &Nomenclature::built_in());
        senders.heard(&message, &Arc::from("pumps"), &findings, second(at));
    }

    #[test]
    fn what_a_sender_breaks_is_counted_by_rule_with_its_last_time() {
        let senders = Senders::default();
        hear(&senders, "GW^1^EUI-64", "80", 1);
        hear(&senders, "GW^1^EUI-64", "high", 2);
        hear(&senders, "GW^1^EUI-64", "low~mid", 3);
        hear(&senders, "GW^1^EUI-64", "90", 4);
        hear(&senders, "OTHER", "90", 4);
        let list = senders.list();
        assert_eq!(list.len(), 2);
        let (gateway, other) = (&list[0], &list[1]);
        assert_eq!((gateway.application.as_str(), gateway.facility.as_str()), ("GW^1^EUI-64", "4W"));
        assert_eq!((gateway.messages, gateway.nonconforming, gateway.last_seen), (4, 2, second(4)));
        assert_eq!(gateway.first_seen, second(1));
        let broken: Vec<_> = gateway.rules.iter().map(|rule| (rule.rule, rule.messages, rule.last_seen)).collect();
        assert_eq!(broken, [("H07", 2, second(3))]);
        assert_eq!((other.nonconforming, other.rules.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_senders_stays_bounded_and_forgets_the_longest_silent() {
        let senders = Senders::default();
        for n in 0..2 * SENDERS_MAX {
            hear(&senders, &format!("{n:08}"), "80", n);
        }
        let list = senders.list();
        assert!(list.len() <= SENDERS_MAX);
        assert_eq!(list.last().unwrap().application, format!("{:08}", 2 * SENDERS_MAX - 1));
    }
}
