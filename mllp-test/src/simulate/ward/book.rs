//! What a device did, and so what must be told of it: not more, not less.

use super::plan::Fault;
use super::{GatewayKind, INTERVAL};
use std::ops::RangeInclusive;

/// Reports missed in a row that make a silence.
const SILENT_AFTER: i64 = 3;
/// A message so much older than usual is late; nearer to a minute either verdict is right.
const LATE: i64 = 60;
const NEARLY: i64 = 20;

/// No report arrived from one time to another, seconds from the start.
pub(super) type Silence = (i64, i64);

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) faults: Vec<Fault>,
    pub(super) silences: Vec<Silence>,
    pub(super) gaps: u64,
    pub(super) missing: u64,
    pub(super) repeats: u64,
    pub(super) clock_sets: Vec<i64>,
    pub(super) messages: u64,
    pub(super) reports: u64,
    /// When the last report arrived.
    pub(super) heard: Option<i64>,
    late: u64,
    maybe_late: u64,
    /// How often the next report is to be sent again.
    pub(super) repeat_next: u64,
}

impl Book {
    pub(super) fn begun(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The device numbers its messages, and these are lost in a row.
    pub(super) fn loses(&mut self, kind: GatewayKind, messages: i64) {
        if matches!(kind, GatewayKind::ByDevice | GatewayKind::OneEach) {
            self.gaps += 1;
            self.missing += messages as u64;
        }
    }

    pub(super) fn repeats(&mut self, kind: GatewayKind, times: u64) {
        self.repeats += if kind == GatewayKind::Ticks { 0 } else { times };
    }

    /// A backlog comes behind what is live: where the device numbers its messages, what does not come at once is a gap,
    /// which then fills.
    pub(super) fn trickles(&mut self, kind: GatewayKind, left: usize) {
        self.gaps += u64::from(left > 0 && matches!(kind, GatewayKind::ByDevice | GatewayKind::OneEach));
    }

    /// A report made at `made` arrived at `now`. Time in which the engine was down, up to `up_since`, is no silence.
    pub(super) fn arrived(&mut self, made: i64, now: i64, up_since: i64) {
        self.reports += 1;
        self.late += u64::from(now - made > LATE + NEARLY);
        self.maybe_late += u64::from(now - made > LATE - NEARLY);
        if let Some(heard) = self.heard
            && Book::is_silence(now - heard.max(up_since))
        {
            self.silences.push((heard, now));
        }
        self.heard = Some(now);
    }

    pub(super) fn late(&self) -> RangeInclusive<u64> {
        self.late..=self.maybe_late
    }

    fn is_silence(seconds: i64) -> bool {
        seconds > SILENT_AFTER * INTERVAL + INTERVAL / 2
    }

    /// Whether it must be told silent at `now`; `None` where either is right, within a step of the limit.
    pub(super) fn is_silent(&self, now: i64, up_since: i64, step: i64) -> Option<bool> {
        let quiet = now - self.heard?.max(up_since);
        match (Book::is_silence(quiet - step), Book::is_silence(quiet + step)) {
            (true, _) => Some(true),
            (_, false) => Some(false),
            _ => None,
        }
    }
}
