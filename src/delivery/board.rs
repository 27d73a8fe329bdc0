//! What the lanes of one destination are doing, seen together: its state for the API, its metrics, and one log line for
//! each change, however many lanes and retries it takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tracing::{debug, error, info, warn};

use super::{Key, Told, UnmappedCodes};
use crate::{
    metrics::Metrics,
    store::{LaneId, Sequence, Settlement},
    translate::{Unmapped, Unsent},
};

/// Shared by a destination's lanes.
pub(super) struct Board {
    key: Key,
    metrics: Arc<Metrics>,
    told: Arc<Told>,
    codes: Arc<UnmappedCodes>,
    /// Messages of a lane that may have been sent to it, before the last stop, and are not recorded; at least one.
    pub(super) reach: usize,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    /// Lanes that are not simply running.
    troubled: BTreeMap<u16, Trouble>,
    /// The message that such a lane stands at.
    heads: BTreeMap<u16, u64>,
    in_flight: u32,
    last_error: Option<String>,
    /// When each lane that waits tries again.
    next_tries: BTreeMap<u16, Timestamp>,
}

/// Worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Refused,
    Unread,
    Unreached,
    Unsettled,
    Held,
    Ended,
}

/// A destination's state at one moment.
pub(super) struct Seen {
    pub(super) state: &'static str,
    pub(super) in_flight: u32,
    pub(super) last_error: Option<String>,
    pub(super) stands_at: Vec<Sequence>,
    /// When the first of the lanes that wait tries again.
    pub(super) next_try: Option<Timestamp>,
}

/// Lanes of which it is told at what message they stand.
const STANDING_MAX: usize = 16;

/// One message outstanding, until dropped.
pub(super) struct InFlight<'b>(&'b Board);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lanes().in_flight -= 1;
    }
}

impl Board {
    pub(super) fn new(key: Key, metrics: Arc<Metrics>, told: Arc<Told>, codes: Arc<UnmappedCodes>) -> Board {
        Board { key, metrics, told, codes, reach: 1, lanes: Mutex::default() }
    }

    /// The end of a delivery is durable.
    pub(super) fn settled(&self, lane: &LaneId, entry: Sequence, settlement: &Settlement) {
        if let Some(told) = self.told.get() {
            told(lane, entry, settlement);
        }
    }

    /// The destination is configured: every metric of it is shown from now on, since a rate needs a value before the first
    /// attempt, and an alarm on a receiver that is down a value before the first fails.
    pub(super) fn configured(&self) {
        for outcome in ["accepted", "rejected", "unavailable", "ambiguous", "failed"] {
            self.metrics.attempts.with_label_values(&[&*self.key.0, &*self.key.1, outcome]);
        }
        self.metrics.redelivered.with_label_values(&[&*self.key.0, &*self.key.1]);
        let lanes = self.lanes();
        self.set_up(!lanes.is_down());
        self.set_held(&lanes);
    }

    pub(super) fn key(&self) -> Key {
        self.key.clone()
    }

    pub(super) fn seen(&self) -> Seen {
        let lanes = self.lanes();
        let state = match lanes.troubled.values().max() {
            None => "running",
            Some(Trouble::Refused | Trouble::Unread | Trouble::Unreached | Trouble::Unsettled) => "retrying",
            Some(Trouble::Held) => "held",
            Some(Trouble::Ended) => "failed",
        };
        let (in_flight, last_error) = (lanes.in_flight, lanes.last_error.clone());
        let next_try = lanes.next_tries.values().min().copied();
        Seen { state, in_flight, last_error, stands_at: lanes.stand_at(), next_try }
    }

    pub(super) fn sending(&self) -> InFlight<'_> {
        self.lanes().in_flight += 1;
        InFlight(self)
    }

    /// Counts an attempt: accepted, rejected, unavailable, ambiguous, failed.
    pub(super) fn attempted(&self, outcome: &str) {
        self.metrics.attempts.with_label_values(&[&*self.key.0, &*self.key.1, outcome]).inc();
    }

    /// The lane waits to try again then; `None`: it waits no longer.
    pub(super) fn waits(&self, lane: u16, next_try: Option<Timestamp>) {
        let mut lanes = self.lanes();
        match next_try {
            Some(at) => lanes.next_tries.insert(lane, at),
            None => lanes.next_tries.remove(&lane),
        };
    }

    /// There was nothing to send. Where that is for a clock, a person must act.
    pub(super) fn unsent(&self, why: Unsent, id: u64) {
        let (channel, destination) = &self.key;
        self.metrics.unsent.with_label_values(&[channel, destination, why.label()]).inc();
        match why {
            Unsent::ClockAhead => {
                warn!(%channel, %destination, id, "an event is not told, since an earlier one had a time ahead of its receipt: have the device's clock set, and the record compared by hand");
            }
            Unsent::EarlierInfusion => {
                warn!(%channel, %destination, id, "an event of an earlier infusion is not told, since nothing is remembered of it: unless it was told before, mend the record by hand");
            }
            _ => {}
        }
    }

    /// What is remembered of an infusion or alert is another version's. The log says so once, the metric how often.
    pub(super) fn unreadable_note(&self) {
        let (channel, destination) = &self.key;
        let count = self.metrics.left_out.with_label_values(&[channel, destination, "layout"]);
        if count.get() == 0 {
            warn!(%channel, %destination, "what is remembered of an infusion or alert is of another version of the engine and is not read; cannula_left_out_total{{reason=\"layout\"}} counts them: what was open then stays so in the record, which is to be compared by hand");
        }
        count.inc();
    }

    /// It was sent without something that may be wrong, for which a person must act.
    pub(super) fn left_out(&self, why: Unsent, id: u64) {
        let (channel, destination) = &self.key;
        self.metrics.left_out.with_label_values(&[channel, destination, why.label()]).inc();
        warn!(%channel, %destination, id, reason = why.label(), "an event has a time ahead of its receipt, which is not written: have the device's clock set, and the record completed by hand");
    }

    /// A possible repeat was sent, and the receiver may have it.
    pub(super) fn redelivered(&self) {
        self.metrics.redelivered.with_label_values(&[&*self.key.0, &*self.key.1]).inc();
    }

    /// Counts codes of message `id` that have no row, and notes which.
    pub(super) fn unmapped(&self, unmapped: &[Unmapped], id: u64, at: Timestamp) {
        for code in unmapped {
            self.metrics.unmapped.with_label_values(&[&*self.key.0, &code.table]).inc();
        }
        self.codes.note(&self.key.0, unmapped, id, at);
    }

    pub(super) fn delivered(&self, since_received: Duration) {
        let seconds = since_received.as_secs_f64();
        self.metrics.delivery_seconds.with_label_values(&[&*self.key.0, &*self.key.1]).observe(seconds);
    }

    /// The lane's last attempt got an answer.
    pub(super) fn reached(&self, lane: u16) {
        let mut lanes = self.lanes();
        let was_down = lanes.is_down();
        lanes.is_past(lane);
        let is_down = lanes.is_down();
        if lanes.troubled.is_empty() {
            lanes.last_error = None;
        }
        drop(lanes);
        self.set_up(!is_down);
        if was_down && !is_down {
            info!(channel = %self.key.0, destination = %self.key.1, "destination available again");
        }
    }

    /// The lane's last attempt got none.
    pub(super) fn unreached(&self, lane: u16, id: u64, reason: &str) {
        let mut lanes = self.lanes();
        let was_down = lanes.is_down();
        lanes.heads.insert(lane, id);
        lanes.troubled.insert(lane, Trouble::Unreached);
        lanes.last_error = Some(reason.to_owned());
        drop(lanes);
        self.set_up(false);
        if !was_down {
            warn!(channel = %self.key.0, destination = %self.key.1, lane, id, reason, "destination unavailable");
        }
    }

    /// The receiver refused the lane's message, which is sent to it again.
    pub(super) fn refused(&self, lane: u16, id: u64, reason: &str) {
        let mut lanes = self.lanes();
        lanes.heads.insert(lane, id);
        lanes.last_error = Some(reason.to_owned());
        lanes.troubled.insert(lane, Trouble::Refused);
        drop(lanes);
        debug!(channel = %self.key.0, destination = %self.key.1, lane, id, reason, "message refused, to be sent again");
    }

    /// The receiver has answered lane's message, and the store has no space to record that.
    pub(super) fn unsettled(&self, lane: u16, reason: &str) {
        let mut lanes = self.lanes();
        lanes.last_error = Some(reason.to_owned());
        if lanes.troubled.insert(lane, Trouble::Unsettled) != Some(Trouble::Unsettled) {
            error!(channel = %self.key.0, destination = %self.key.1, lane, reason, "delivery not recorded yet");
        }
    }

    /// The store could not read the lane's next message; the receiver is not at fault.
    pub(super) fn unread(&self, lane: u16, reason: &str) {
        let mut lanes = self.lanes();
        lanes.last_error = Some(reason.to_owned());
        if lanes.troubled.insert(lane, Trouble::Unread) != Some(Trouble::Unread) {
            error!(channel = %self.key.0, destination = %self.key.1, lane, reason, "message not read from the store yet");
        }
    }

    /// A dead letter was made of message `id`.
    pub(super) fn parked(&self, lane: u16, id: u64, reason: &str) {
        self.lanes().last_error = Some(reason.to_owned());
        error!(channel = %self.key.0, destination = %self.key.1, lane, id, reason, "dead letter");
    }

    /// The lane stands at message `id` until the operator acts.
    pub(super) fn held(&self, lane: u16, id: u64, reason: &str) {
        let mut lanes = self.lanes();
        lanes.troubled.insert(lane, Trouble::Held);
        lanes.heads.insert(lane, id);
        lanes.last_error = Some(reason.to_owned());
        self.set_held(&lanes);
        let is_down = lanes.is_down();
        drop(lanes);
        self.set_up(!is_down);
        error!(channel = %self.key.0, destination = %self.key.1, lane, id, reason, "lane held: retry or park the message");
    }

    /// The lane is past what kept it: a hold, a message that did not get through, a store without space or that could not
    /// read. That says nothing of the receiver; where no lane misses it, it counts as up again.
    pub(super) fn released(&self, lane: u16) {
        let mut lanes = self.lanes();
        lanes.is_past(lane);
        let is_down = lanes.is_down();
        self.set_held(&lanes);
        drop(lanes);
        self.set_up(!is_down);
    }

    /// Whether a lane stands at a refused message.
    pub(super) fn holds(&self) -> bool {
        self.lanes().troubled.values().any(|trouble| *trouble == Trouble::Held)
    }

    /// Whether a lane stands at a message that a person can park: a refused one, or one that did not get through.
    pub(super) fn stands(&self) -> bool {
        let can_be_parked =
            |trouble: &Trouble| matches!(trouble, Trouble::Held | Trouble::Refused | Trouble::Unreached);
        self.lanes().troubled.values().any(can_be_parked)
    }

    /// The lane does nothing more until the engine is started again.
    pub(super) fn ended(&self, lane: u16, reason: &str) {
        let mut lanes = self.lanes();
        let first = !lanes.troubled.values().any(|trouble| *trouble == Trouble::Ended);
        lanes.troubled.insert(lane, Trouble::Ended);
        lanes.last_error = Some(reason.to_owned());
        drop(lanes);
        if first {
            error!(channel = %self.key.0, destination = %self.key.1, lane, reason, "delivery ended: restart the engine");
        }
    }

    /// Under the lock, so that two lanes leave the gauge as the later found it.
    fn set_held(&self, lanes: &Lanes) {
        let held = lanes.troubled.values().filter(|trouble| **trouble == Trouble::Held).count();
        let gauge = self.metrics.held_lanes.with_label_values(&[&*self.key.0, &*self.key.1]);
        gauge.set(held.try_into().unwrap_or(i64::MAX));
    }

    fn set_up(&self, up: bool) {
        self.metrics.destination_up.with_label_values(&[&*self.key.0, &*self.key.1]).set(up.into());
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// The lane simply runs.
    fn is_past(&mut self, lane: u16) {
        self.troubled.remove(&lane);
        self.heads.remove(&lane);
    }

    /// The messages that lanes stand at, held ones first.
    fn stand_at(&self) -> Vec<Sequence> {
        let mut standing: Vec<_> = self.heads.iter().collect();
        standing.sort_by_key(|(lane, id)| (std::cmp::Reverse(self.troubled.get(lane)), **id));
        standing.into_iter().take(STANDING_MAX).map(|(_, id)| Sequence::from_u64(*id)).collect()
    }

    fn is_down(&self) -> bool {
        self.troubled.values().any(|trouble| *trouble == Trouble::Unreached)
    }
}
