//! IHE PCD conformance as a second opinion: the assertions of the Technical Framework, read and written here without
//! the engine's code, over files or against a listener. A finding names rule, section and place, and must never contain
//! a value from the message.

mod ack;
mod alert;
mod event;
mod files;
mod header;
mod message;
mod observation;
mod order;
mod patient;
mod play;
mod rules;
mod samples;
mod terms;
#[cfg(test)]
mod tests;
mod transaction;
mod values;

pub use files::{Checked, check_files};
pub use play::{Played, play};
pub use rules::{RULES, Rule, Severity};
pub use samples::{EXAMPLES, example};
pub use transaction::Transaction;

use message::{Message, Segment};
use serde::Serialize;
use std::fmt;

/// One breach of one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `A01` … `D02`.
    pub rule: &'static str,
    /// How grave this breach is.
    pub severity: Severity,
    /// Where the framework says so.
    pub section: &'static str,
    /// The segment.
    pub segment: String,
    /// The how manieth of its kind, from 1.
    pub number: usize,
    /// The field; 0 is the whole segment.
    pub field: usize,
    /// What is wrong.
    pub words: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error  ",
            Severity::Warning => "warning",
        };
        write!(f, "{severity} {} {}[{}]", self.rule, self.segment, self.number)?;
        if self.field > 0 {
            write!(f, "-{}", self.field)?;
        }
        write!(f, ": {} (TF-2 {})", self.words, self.section)
    }
}

/// What is to be said of one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// As which transaction it was read.
    pub transaction: Transaction,
    /// Breaches, by rule and then by place.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether any breach is an error.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Collects breaches, of rules that are for the transaction.
struct Notes {
    transaction: Transaction,
    findings: Vec<Finding>,
}

impl Notes {
    fn breach(&mut self, id: &'static str, at: &Segment, field: usize, words: &'static str) {
        let severity = rules::row(id).map_or(Severity::Error, |rule| rule.severity);
        self.add(id, severity, at, field, words);
    }

    fn warn(&mut self, id: &'static str, at: &Segment, field: usize, words: &'static str) {
        self.add(id, Severity::Warning, at, field, words);
    }

    fn add(&mut self, id: &'static str, severity: Severity, at: &Segment, field: usize, words: &'static str) {
        let Some(rule) = rules::row(id).filter(|rule| rule.of.contains(&self.transaction)) else { return };
        let segment = at.id.chars().take(3).collect();
        let (number, section) = (at.number, rule.section);
        self.findings.push(Finding { rule: rule.id, severity, section, segment, number, field, words });
    }
}

/// Checks one message; `None` where it cannot be read at all, or is of no transaction that rules are known for.
pub fn check(bytes: &[u8]) -> Option<Verdict> {
    let message = Message::read(bytes)?;
    let transaction = Transaction::of(&message);
    if matches!(transaction, Transaction::Pcd09 | Transaction::Other) {
        return None;
    }
    let mut notes = Notes { transaction, findings: Vec::new() };
    header::check(&message, bytes, &mut notes);
    patient::check(&message, &mut notes);
    order::check(&message, &mut notes);
    observation::check(&message, &mut notes);
    alert::check(&message, &mut notes);
    event::check(&message, &mut notes);
    ack::check(&message, &mut notes);
    let mut findings = notes.findings;
    findings.sort_by_key(|finding| finding.rule);
    Some(Verdict { transaction, findings })
}
