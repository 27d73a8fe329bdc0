//! What a destination counts beside its attempts.

use prometheus::{IntCounter, IntCounterVec};
use tracing::warn;

use crate::metrics::Metrics;

/// Counts under the labels of one destination.
#[derive(Clone)]
pub struct Meter(Option<Counters>);

#[derive(Clone)]
struct Counters {
    labels: [String; 2],
    rate_waits: IntCounter,
    unanswered: IntCounter,
    lookups: IntCounterVec,
    logins: IntCounterVec,
}

impl Meter {
    /// Of a channel's destination.
    pub fn of(metrics: &Metrics, channel: &str, destination: &str) -> Meter {
        Meter(Some(Counters {
            labels: [channel.to_owned(), destination.to_owned()],
            rate_waits: metrics.rate_waits.with_label_values(&[channel, destination]),
            unanswered: metrics.unanswered_entries.with_label_values(&[channel, destination]),
            lookups: metrics.patient_lookups.clone(),
            logins: metrics.logins.clone(),
        }))
    }

    /// Of a destination that is only looked at: nothing is counted.
    pub fn detached() -> Meter {
        Meter(None)
    }

    /// A request waited for `rate`.
    pub(super) fn rate_waited(&self) {
        self.0.iter().for_each(|counters| counters.rate_waits.inc());
    }

    /// A transaction was taken by its status alone: its answer tells of no entry. The log says so once.
    pub(super) fn unanswered(&self) {
        let Some(Counters { labels: [channel, destination], unanswered, .. }) = &self.0 else { return };
        if unanswered.get() == 0 {
            warn!(%channel, %destination, "the server answers a transaction without telling of its entries, and is believed by its status: ask who runs it for the transaction-response that FHIR R4 asks for");
        }
        unanswered.inc();
    }

    /// A patient was looked up: remembered, found, none, several, failed.
    pub(super) fn looked_up(&self, outcome: &str) {
        if let Some(Counters { labels: [channel, destination], lookups, .. }) = &self.0 {
            lookups.with_label_values(&[channel.as_str(), destination.as_str(), outcome]).inc();
        }
    }

    /// A login ended.
    pub(super) fn logged_in(&self, succeeded: bool) {
        if let Some(Counters { labels: [channel, destination], logins, .. }) = &self.0 {
            let outcome = if succeeded { "succeeded" } else { "failed" };
            logins.with_label_values(&[channel.as_str(), destination.as_str(), outcome]).inc();
        }
    }

    #[cfg(test)]
    pub(super) fn rate_waits(&self) -> u64 {
        self.0.as_ref().map_or(0, |counters| counters.rate_waits.get())
    }
}
