//! What IHE PCD and HL7 v2 ask of a message and it does not keep: one row a rule, with its section of the framework.
//!
//! Most real gateways break some rule, so a finding is information first; what it does is the channel's choice, by
//! [`Profile`]. A finding says where and what, in fixed words: never a value of the message. One pass a rule, no pass
//! over pairs of rows: a message of a thousand observations costs a thousand times one of one.

mod alert;
mod answer;
mod base;
mod contradiction;
mod event;
mod header;
mod observation;
mod patient;
mod reading;
mod request;
mod rules;
mod tree;
mod value;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Nomenclature;
use crate::{
    hl7::{Message, Segment},
    told::count,
};
use reading::{On, Reading};
pub use rules::RULES;

/// Findings kept with a message; a message that breaks more has its first ones kept.
pub const MARKS_MAX: usize = 64;

/// Everything in `message` that breaks a rule of its transaction, in the order of [`RULES`]. One finding for each rule and
/// fault, however often it is met.
pub fn check(message: &Message, nomenclature: &Nomenclature) -> Vec<Finding> {
    let reading = Reading::of(message, nomenclature);
    let mut findings = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.on.has(reading.transaction)) {
        let from = findings.len();
        (rule.check)(&reading, &mut Told { rule, from, findings: &mut findings });
    }
    findings
}

/// One rule: a row of the table.
pub struct Rule {
    /// Such as `A03`. Kept in stored messages and dashboards: never given to another rule.
    pub id: &'static str,
    /// Transactions it is for.
    on: On,
    /// Of most of its findings; some have less weight.
    pub severity: Severity,
    /// Section that asks for it.
    pub section: &'static str,
    /// What it asks for.
    pub what: &'static str,
    check: fn(&Reading<'_>, &mut Told<'_>),
}

impl Rule {
    /// The rule of that id.
    pub fn of(id: &str) -> Option<&'static Rule> {
        RULES.iter().find(|rule| rule.id == id)
    }

    /// What makes a message unreadable or impossible to attribute, whatever its transaction.
    pub fn is_base(&self) -> bool {
        self.id.starts_with('H')
    }

    /// What a message says against itself, which a person who reads it must be told first.
    pub fn is_contradiction(&self) -> bool {
        self.id.starts_with('E')
    }

    /// The transactions it is for, such as `PCD-01, PCD-10`.
    pub fn transactions(&self) -> String {
        self.on.to_string()
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The framework advises otherwise, or allows it with a loss.
    Warning,
    /// The framework forbids it.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

/// Which findings a message is refused for, where a channel refuses at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Only what makes the message unreadable or impossible to attribute; all else is annotation, since nearly every real
    /// gateway breaks the framework somewhere, and so do its own examples.
    #[default]
    AsReceived,
    /// Every error by the framework's letter.
    Strict,
}

impl Profile {
    /// Whether a message with this finding does not conform.
    pub fn refuses(self, finding: &Finding) -> bool {
        finding.severity == Severity::Error && (self == Profile::Strict || finding.rule.is_base())
    }
}

/// One fault by one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule broken.
    pub rule: &'static Rule,
    /// Its weight.
    pub severity: Severity,
    /// Where it is met first.
    pub place: Place,
    /// How often it is met.
    pub times: u32,
    /// What is wrong and what the sender must do; no value.
    pub text: &'static str,
    /// ERR-3, table 0357.
    pub code: u16,
}

impl Finding {
    /// What is kept of it with the message.
    pub fn mark(&self) -> Mark {
        let mut rule = [b' '; 3];
        rule.iter_mut().zip(self.rule.id.bytes()).for_each(|(slot, byte)| *slot = byte);
        Mark { rule, error: self.severity == Severity::Error, place: self.place, times: self.times }
    }
}

impl Serialize for Finding {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shown { text: Some(self.text), ..self.mark().shown() }.serialize(serializer)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}: {} ({})", self.rule.id, self.severity, self.place, self.text, self.rule.section)?;
        if self.times > 1 { write!(f, ", {} times", self.times) } else { Ok(()) }
    }
}

/// A line for each finding, behind a line that counts them.
pub(super) fn write_all(f: &mut fmt::Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let (errors, warnings) = (count(errors, "error"), count(findings.len() - errors, "warning"));
    writeln!(f, "conformance: {errors}, {warnings}")?;
    findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
}

/// A finding as kept with a stored message: some ten bytes, no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    rule: [u8; 3],
    error: bool,
    place: Place,
    times: u32,
}

impl Mark {
    /// As shown to people and programs.
    pub fn shown(&self) -> Shown {
        let id = std::str::from_utf8(&self.rule).unwrap_or("???");
        let rule = Rule::of(id);
        Shown {
            rule: id.to_owned(),
            severity: if self.error { Severity::Error } else { Severity::Warning },
            place: self.place.to_string(),
            times: self.times,
            text: None,
            what: rule.map_or("a rule of another version", |rule| rule.what),
            section: rule.map_or("", |rule| rule.section),
        }
    }
}

/// A finding for people and programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Id of the rule.
    pub rule: String,
    /// Its weight.
    pub severity: Severity,
    /// Where it was met first, as in ERR-2.
    pub place: String,
    /// How often it was met.
    pub times: u32,
    /// What is wrong in this message; known only while the message is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'static str>,
    /// What the rule asks for.
    pub what: &'static str,
    /// Where it is asked for.
    pub section: &'static str,
}

/// A field of the message as ERR-2 names it: `OBX^3^5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    segment: [u8; 3],
    nth: u32,
    field: u16,
}

impl Place {
    /// Field `field` of this segment; 0 is the segment itself.
    fn of(segment: Segment<'_>, field: usize) -> Place {
        let before = segment.message().segments().take(segment.number() + 1);
        let nth = before.filter(|other| other.id() == segment.id()).count();
        Place::named(segment.id(), nth, field)
    }

    fn named(id: &str, nth: usize, field: usize) -> Place {
        let mut segment = [b'?'; 3];
        segment.iter_mut().zip(id.bytes()).for_each(|(slot, byte)| *slot = byte);
        let narrow = |n: usize| n.min(usize::from(u16::MAX)) as u16;
        Place { segment, nth: u32::try_from(nth).unwrap_or(u32::MAX), field: narrow(field) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}^{}", std::str::from_utf8(&self.segment).unwrap_or("???"), self.nth)?;
        if self.field == 0 { Ok(()) } else { write!(f, "^{}", self.field) }
    }
}

/// Takes what a rule finds. What is met again counts once more and costs no memory.
struct Told<'f> {
    rule: &'static Rule,
    /// Where this rule's findings begin.
    from: usize,
    findings: &'f mut Vec<Finding>,
}

impl Told<'_> {
    fn error(&mut self, segment: Segment<'_>, field: usize, code: u16, text: &'static str) {
        self.tell(Severity::Error, || Place::of(segment, field), code, text);
    }

    fn warning(&mut self, segment: Segment<'_>, field: usize, code: u16, text: &'static str) {
        self.tell(Severity::Warning, || Place::of(segment, field), code, text);
    }

    /// A segment that should be there is not.
    fn absent(&mut self, id: &str, text: &'static str) {
        self.tell(Severity::Error, || Place::named(id, 1, 0), 100, text);
    }

    /// With the rule's own weight.
    fn tell(&mut self, severity: Severity, place: impl FnOnce() -> Place, code: u16, text: &'static str) {
        let known = self.findings[self.from..].iter_mut().find(|known| known.text == text);
        match known {
            Some(known) => known.times = known.times.saturating_add(1),
            None => self.findings.push(Finding { rule: self.rule, severity, place: place(), times: 1, text, code }),
        }
    }
}

#[cfg(test)]
mod documented_tests;
#[cfg(test)]
mod tests;
