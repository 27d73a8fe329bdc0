//! A device's clock against ours: how far it is off, when it was set, which of its messages are late or out of order.
//!
//! A message observed an hour ago is late, or comes from a clock that is an hour behind, and alone it does not say which.
//! A clock that was set stays where it is while time passes; a backlog catches up. So what differs from the device's
//! usual lag counts as neither until one of the two has shown.

use serde::{Deserialize, Serialize};

/// What is within this of the device's usual lag came in time. Milliseconds.
const TIMELY: i64 = 60_000;
/// A new lag must hold for so long at least, and for two intervals, to be the clock's.
const HOLDS: i64 = 10_000;
/// A lag is learned as a moving average over about so many messages.
const WEIGHT: i64 = 8;
/// After so many messages without a steady lag the device's times say nothing.
const PATIENCE: u32 = 8;

/// One message's times, milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// By the device.
    pub(super) observed: i64,
    /// By us, wall clock.
    pub(super) received: i64,
    /// By us, time passed.
    pub(super) now: i64,
}

/// What the times said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// In time by the device's usual lag, so that its times can be reckoned with.
    pub(super) timely: bool,
    /// The clock was set by so much, forward where positive.
    pub(super) clock_set: Option<i64>,
    /// Messages that turned out late.
    pub(super) late: u32,
    /// Messages older than one before them, or from a future that did not stay.
    pub(super) out_of_order: u32,
}

/// Messages with a lag that is not the usual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Unusual {
    lag: i64,
    since: i64,
    count: u32,
    out_of_order: u32,
    newest: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Timing {
    /// Received minus observed, in usual times.
    lag: Option<i64>,
    newest: Option<i64>,
    unusual: Option<Unusual>,
    unsteady: u32,
}

impl Timing {
    /// How far the device's clock is ahead of ours, as its usual lag shows: a delay on the way counts as behind.
    pub(super) fn skew(&self) -> Option<i64> {
        self.lag.map(|lag| -lag)
    }

    /// Its times follow no clock.
    pub(super) fn is_without_clock(&self) -> bool {
        self.lag.is_none() && self.unsteady >= PATIENCE
    }

    /// Our own clock was set by so much.
    pub(super) fn own_clock_set(&mut self, by: i64) {
        self.lag = self.lag.map(|lag| lag + by);
        self.unusual = None;
    }

    /// What was measured in the time of another run of the engine is given up.
    pub(super) fn resume(&mut self) {
        self.unusual = None;
    }

    pub(super) fn take(&mut self, moment: Moment, interval: Option<i64>) -> Told {
        let lag = moment.received - moment.observed;
        match self.lag {
            Some(usual) if (lag - usual).abs() <= TIMELY => self.usual(moment.observed, lag, usual),
            _ => self.unusual(moment, lag, interval.unwrap_or_default()),
        }
    }

    fn usual(&mut self, observed: i64, lag: i64, usual: i64) -> Told {
        let mut told = self.give_up_unusual(lag);
        told.timely = true;
        told.out_of_order += u32::from(self.newest.is_some_and(|newest| observed < newest));
        self.newest = self.newest.max(Some(observed));
        self.lag = Some(usual + (lag - usual) / WEIGHT);
        told
    }

    fn unusual(&mut self, moment: Moment, lag: i64, interval: i64) -> Told {
        let Moment { observed, now, .. } = moment;
        let goes_on = self.unusual.as_mut().filter(|begun| (lag - begun.lag).abs() <= TIMELY);
        let Some(begun) = goes_on else {
            let told = self.give_up_unusual(lag);
            let out_of_order = u32::from(self.newest.is_some_and(|newest| observed < newest));
            self.unusual = Some(Unusual { lag, since: now, count: 1, out_of_order, newest: observed });
            self.unsteady = self.unsteady.saturating_add(1);
            return told;
        };
        begun.count += 1;
        begun.out_of_order += u32::from(observed < begun.newest);
        begun.newest = begun.newest.max(observed);
        if now - begun.since < HOLDS.max(2 * interval) {
            return Told::default();
        }
        let (lag, newest) = (begun.lag, begun.newest);
        let clock_set = self.lag.map(|usual| usual - lag);
        *self = Timing { lag: Some(lag), newest: Some(newest), unusual: None, unsteady: 0 };
        Told { clock_set, ..Told::default() }
    }

    /// What was unusual was no clock: it was late, or out of order. `lag` is that of the message that shows it.
    fn give_up_unusual(&mut self, lag: i64) -> Told {
        let Some(Unusual { lag: unusual, count, out_of_order, .. }) = self.unusual.take() else {
            return Told::default();
        };
        let usual = self.lag.unwrap_or(lag);
        let late = if unusual > usual + TIMELY { count } else { 0 };
        let from_future = if unusual < usual - TIMELY && self.lag.is_some() { count } else { 0 };
        Told { late, out_of_order: out_of_order.max(from_future), ..Told::default() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MINUTE: i64 = 60_000;

    /// Takes a message each, by the minute received and the minute observed; the sums of what they said.
    fn take(timing: &mut Timing, messages: impl IntoIterator<Item = (i64, i64)>) -> (Vec<i64>, u32, u32) {
        let (mut set, mut late, mut out_of_order) = (Vec::new(), 0, 0);
        for (received, observed) in messages {
            let moment =
                Moment { observed: observed * MINUTE, received: received * MINUTE, now: (received - 1) * MINUTE };
            let told = timing.take(moment, Some(MINUTE));
            set.extend(told.clock_set.map(|by| by / MINUTE));
            late += told.late;
            out_of_order += told.out_of_order;
        }
        (set, late, out_of_order)
    }

    fn steady(behind: i64) -> Timing {
        let mut timing = Timing::default();
        assert_eq!(take(&mut timing, (0..10).map(|n| (n, n - behind))), (vec![], 0, 0));
        assert_eq!(timing.skew(), Some(-behind * MINUTE));
        timing
    }

    #[test]
    fn a_clock_an_hour_off_from_the_start_is_a_skew_and_nothing_else() {
        steady(60);
        steady(-60);
    }

    #[test]
    fn a_clock_that_is_set_is_told_once_and_its_messages_are_not_late() {
        for by in [-60, 60, -5, 1440] {
            let mut timing = steady(0);
            assert_eq!(take(&mut timing, (10..30).map(|n| (n, n + by))), (vec![by], 0, 0), "{by}");
            assert_eq!(timing.skew(), Some(by * MINUTE));
        }
    }

    #[test]
    fn a_backlog_sent_at_once_is_late_and_no_clock() {
        let mut timing = steady(0);
        let backlog = (10..190).map(|n| (190, n));
        let (set, late, out_of_order) = take(&mut timing, backlog.chain((191..200).map(|n| (n, n))));
        assert_eq!((set, out_of_order), (vec![], 0));
        assert!((178..=180).contains(&late), "{late}");
    }

    #[test]
    fn a_backlog_between_what_is_live_is_late_and_out_of_order() {
        let mut timing = steady(0);
        let mixed = (190..230).flat_map(|n| [(n, n), (n, n - 180)]);
        let (set, late, out_of_order) = take(&mut timing, mixed.chain([(230, 230)]));
        assert_eq!((set, late), (vec![], 40));
        assert!(out_of_order > 30, "{out_of_order}");
    }

    #[test]
    fn one_time_ten_years_ahead_moves_nothing() {
        let mut timing = steady(0);
        let far = [(10, 5_000_000)];
        assert_eq!(take(&mut timing, far.into_iter().chain((11..20).map(|n| (n, n)))), (vec![], 0, 1));
        assert_eq!(timing.skew(), Some(0));
    }

    #[test]
    fn a_device_first_heard_with_its_backlog_is_late_and_its_clock_right() {
        let mut timing = Timing::default();
        let (set, late, _) = take(&mut timing, (0..100).map(|n| (100, n)).chain((101..110).map(|n| (n, n))));
        assert_eq!((set, timing.skew().map(|skew| skew / MINUTE)), (vec![], Some(0)));
        assert!(late > 90, "{late}");
    }
}
