//! How often a device reports, and whether it has fallen silent.
//!
//! What must never happen: a device called silent for time in which we did not listen, or for a pause it often makes. The
//! interval is what three of four pauses do not exceed: a single lost message or a long pause changes nothing, and
//! reports that come in pairs do not halve it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::channel::DeviceRules;

/// Pauses remembered.
const SAMPLES: usize = 16;
/// Pauses after which the interval is known.
const SAMPLES_MIN: usize = 4;
/// What comes within this of another is one report in several messages. Milliseconds.
const ONE_REPORT: i64 = 1_000;
/// No device is silent sooner, however often it reports. Milliseconds.
const SILENCE_MIN: i64 = 5_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rhythm {
    /// Milliseconds, newest last.
    pauses: Vec<u32>,
    /// Of the pauses, once there are enough.
    learned: Option<i64>,
    /// By the device's clock or, where it has none, ours: the report the next pause is measured from.
    from: Option<i64>,
    expected: Option<i64>,
    silent_after: u32,
    /// Time passed at the last observation.
    heard: Option<i64>,
    /// It has been told silent.
    pub(super) silent: bool,
}

impl Rhythm {
    /// Puts the channel's rules in force.
    pub(super) fn follow(&mut self, rules: &DeviceRules) {
        self.expected = rules.expected_interval.map(millis);
        self.silent_after = rules.silent_after;
    }

    /// The expected interval, and whether it was learned. Milliseconds.
    pub(super) fn interval(&self) -> Option<(i64, bool)> {
        let configured = self.expected.map(|expected| (expected, false));
        configured.or_else(|| self.learned.map(|learned| (learned, true)))
    }

    /// How long after its last observation it is silent: so many reports in a row are missed, the last by half an interval.
    pub(super) fn silent_from(&self) -> Option<i64> {
        let (interval, _) = self.interval()?;
        let reports = i64::from(self.silent_after);
        (reports > 0).then(|| (reports * interval + interval / 2).max(SILENCE_MIN))
    }

    /// Milliseconds without an observation.
    pub(super) fn quiet(&self, now: i64) -> i64 {
        self.heard.map_or(0, |heard| now - heard)
    }

    /// It falls silent now: true once, until it is heard again.
    pub(super) fn falls_silent(&mut self, now: i64) -> bool {
        let falls = !self.silent && self.silent_from().is_some_and(|limit| self.quiet(now) > limit);
        self.silent |= falls;
        falls
    }

    /// An observation came. `observed` is its time by a clock whose pauses can be measured; without it the next pause is
    /// measured from the next that has one.
    pub(super) fn heard(&mut self, observed: Option<i64>, now: i64) {
        self.heard = Some(now);
        let after_silence = std::mem::take(&mut self.silent);
        let (Some(observed), Some(from)) = (observed, self.from) else {
            self.from = observed;
            return;
        };
        match observed - from {
            _ if after_silence => self.from = Some(observed),
            pause if pause >= ONE_REPORT => {
                self.learn(u32::try_from(pause).unwrap_or(u32::MAX));
                self.from = Some(observed);
            }
            _ => {}
        }
    }

    fn learn(&mut self, pause: u32) {
        if self.pauses.len() == SAMPLES {
            self.pauses.remove(0);
        }
        self.pauses.push(pause);
        if self.pauses.len() >= SAMPLES_MIN {
            let mut sorted = self.pauses.clone();
            sorted.sort_unstable();
            self.learned = Some(i64::from(sorted[sorted.len() * 3 / 4]));
        }
    }

    /// Time in which the engine did not run is nobody's silence; one that was silent stays so, for as long as before.
    pub(super) fn resume(&mut self, now: i64, quiet: i64) {
        self.heard = self.heard.map(|_| if self.silent { now - quiet } else { now });
        self.from = None;
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(pauses: &[i64]) -> Rhythm {
        let mut rhythm = Rhythm::default();
        rhythm.follow(&DeviceRules::default());
        let mut at = 0;
        rhythm.heard(Some(at), at);
        for pause in pauses {
            at += pause;
            rhythm.heard(Some(at), at);
        }
        rhythm
    }

    fn learned(pauses: &[i64]) -> Option<i64> {
        rhythm(pauses).interval().map(|(interval, _)| interval)
    }

    #[test]
    fn an_interval_is_learned_and_pairs_losses_and_outages_do_not_change_it() {
        assert_eq!(learned(&[60_000; 3]), None);
        assert_eq!(learned(&[60_000; 4]), Some(60_000));
        assert_eq!(
            learned(&[60_000, 60_000, 10_800_000, 60_000, 120_000, 60_000, 60_000, 60_000, 60_000]),
            Some(60_000)
        );
        assert_eq!(learned(&[20, 59_980, 20, 59_980, 20, 59_980, 20, 59_980]), Some(60_000));
        assert_eq!(learned(&[2_000, 58_000].repeat(8)), Some(58_000));
    }

    #[test]
    fn silence_begins_when_so_many_reports_were_missed_and_is_told_once() {
        let mut rhythm = rhythm(&[60_000; 10]);
        assert!(!rhythm.falls_silent(600_000 + 210_000));
        assert!(rhythm.falls_silent(600_000 + 210_001));
        assert!(!rhythm.falls_silent(600_000 + 900_000));
        rhythm.heard(None, 2_000_000);
        assert!(!rhythm.falls_silent(2_000_001));
        assert!(rhythm.falls_silent(2_300_000));
    }

    #[test]
    fn a_configured_interval_holds_from_the_first_message_and_none_is_silent_where_it_is_switched_off() {
        let rules = |silent_after| DeviceRules {
            expected_interval: Some(Duration::from_secs(300)),
            silent_after,
            ..DeviceRules::default()
        };
        for (silent_after, silent) in [(2, true), (0, false)] {
            let mut rhythm = Rhythm::default();
            rhythm.follow(&rules(silent_after));
            rhythm.heard(Some(0), 0);
            assert!(!rhythm.falls_silent(750_000));
            assert_eq!(rhythm.falls_silent(750_001), silent);
        }
    }

    #[test]
    fn time_the_engine_was_down_is_nobodys_silence() {
        let mut rhythm = rhythm(&[60_000; 10]);
        rhythm.resume(0, 200_000);
        assert!(!rhythm.falls_silent(210_000));
        assert!(rhythm.falls_silent(210_001));
        rhythm.resume(0, 500_000);
        assert_eq!((rhythm.silent, rhythm.quiet(1)), (true, 500_001));
    }
}
