//! Conformance at intake: what a message breaks is counted, kept with it, and refused for where its channel wants that.
//!
//! A channel that reports never refuses; one that examines nothing pays nothing. Of the content nothing is kept but rules
//! and places.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::{Shared, refusal::Refusal, senders::Senders};
use crate::{
    channel::{Channel, Conformance},
    hl7::Message,
    pcd::{
        Nomenclature,
        conformance::{Finding, MARKS_MAX, Mark, check},
    },
};

/// What all intakes share to judge by, and what they found; the codes are replaced when the tables are.
pub struct Conformity {
    nomenclature: Arc<ArcSwap<Nomenclature>>,
    /// What each sender breaks.
    pub senders: Senders,
}

impl Conformity {
    /// Judges by these codes; nothing found yet.
    pub fn new(nomenclature: Arc<ArcSwap<Nomenclature>>) -> Conformity {
        Conformity { nomenclature, senders: Senders::default() }
    }
}

impl Default for Conformity {
    /// By the codes that are built in.
    fn default() -> Conformity {
        Conformity::new(Arc::new(ArcSwap::new(Nomenclature::built_in())))
    }
}

impl Shared {
    /// What the message breaks, to be kept with it; or why it is refused. Another try of the same message is not counted.
    pub(super) fn conformance(
        &self,
        channel: &Channel,
        message: &Message,
        at: Timestamp,
        first: bool,
    ) -> Result<Vec<Mark>, Refusal> {
        let listener = &channel.listener;
        if listener.conformance == Conformance::Off {
            return Ok(Vec::new());
        }
        let conformity = self.conformity.load();
        let findings = check(message, &conformity.nomenclature.load());
        if first {
            conformity.senders.heard(message, &channel.name, &findings, at);
            self.count(channel, &findings);
        }
        let refused = findings.iter().find(|finding| listener.profile.refuses(finding));
        match refused.filter(|_| listener.conformance == Conformance::Reject) {
            Some(finding) => Err(refusal(finding)),
            None => Ok(findings.iter().take(MARKS_MAX).map(Finding::mark).collect()),
        }
    }

    fn count(&self, channel: &Channel, findings: &[Finding]) {
        if let Some(base) = findings.iter().find(|finding| finding.rule.is_base()) {
            self.metrics.nonconforming.with_label_values(&[&*channel.name, &base.code.to_string()]).inc();
        }
        // A message counts once for a rule, in however many ways it breaks it.
        for broken in findings.chunk_by(|a, b| a.rule == b.rule) {
            self.metrics.broken_rules.with_label_values(&[&*channel.name, broken[0].rule.id]).inc();
        }
    }
}

fn refusal(finding: &Finding) -> Refusal {
    let text = format!("{} (rule {}, {})", finding.text, finding.rule.id, finding.rule.section);
    Refusal::error("conformance", finding.code, finding.place.to_string(), &text)
}
