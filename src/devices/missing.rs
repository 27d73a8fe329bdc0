//! Numbers of a counter that did not come.
//!
//! What must never happen: a number is forgotten before it was told. Ranges are few; beyond that two become one, which
//! remembers how many numbers are missing in it and no longer which.

use serde::{Deserialize, Serialize};

/// A missing number may still come by another connection for so long.
pub(super) const GRACE_MS: i64 = 30_000;
/// Ranges remembered for each counter, so that what comes late is taken off them.
const RANGES_MAX: usize = 16;

/// A gap that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// Whose message showed it.
    pub(super) device: String,
    /// Numbers missing in it.
    pub(super) missing: u64,
    /// Gaps in a row that are told as one.
    pub(super) gaps: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Range {
    first: u64,
    last: u64,
    /// All between `first` and `last`, unless it is of several gaps.
    missing: u64,
    gaps: u64,
    /// Time passed when the first number behind it came.
    since: i64,
    told: bool,
    /// The counter was set anew since: what comes now is no number of this range.
    closed: bool,
    device: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Missing(Vec<Range>);

impl Missing {
    /// `first` to `last` did not come, as a message of `device` shows.
    pub(super) fn add(&mut self, first: u64, last: u64, device: &str, now: i64) {
        let missing = last - first + 1;
        let device = device.to_owned();
        self.0.push(Range { first, last, missing, gaps: 1, since: now, told: false, closed: false, device });
        self.make_room();
    }

    /// Takes a number off that came after all; whether it had been told missing, `None` where it was not missing.
    pub(super) fn fill(&mut self, value: u64) -> Option<bool> {
        let holds = |range: &Range| !range.closed && (range.first..=range.last).contains(&value);
        let at = self.0.iter().position(holds)?;
        let range = &mut self.0[at];
        let told = range.told;
        if range.missing <= range.last - range.first {
            range.missing -= 1;
            self.0.retain(|range| range.missing > 0);
            return Some(told);
        }
        let range = self.0.remove(at);
        let parts = [(range.first, value.checked_sub(1)), (value + 1, Some(range.last))];
        let parts = parts.into_iter().filter_map(|(first, last)| Some((first, last.filter(|last| *last >= first)?)));
        // One gap stays one, whatever comes of its middle.
        let parts = parts.enumerate().map(|(n, (first, last))| {
            let gaps = if n == 0 { range.gaps } else { 0 };
            Range { first, last, missing: last - first + 1, gaps, ..range.clone() }
        });
        self.0.splice(at..at, parts);
        self.make_room();
        Some(told)
    }

    /// The gaps that have waited long enough, each once.
    pub(super) fn due(&mut self, now: i64) -> Vec<Gap> {
        let due = self.0.iter_mut().filter(|range| !range.told && now - range.since >= GRACE_MS);
        let gaps = due.map(|range| {
            range.told = true;
            Gap { device: range.device.clone(), missing: range.missing, gaps: range.gaps }
        });
        let gaps = gaps.collect();
        self.0.retain(|range| !(range.told && range.closed));
        gaps
    }

    /// The counter begins anew: what is yet to be told stays so, and no more of it can come.
    pub(super) fn close(&mut self) {
        self.0.retain(|range| !range.told);
        self.0.iter_mut().for_each(|range| range.closed = true);
    }

    /// None of it was ever sent.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Nothing is yet to be told.
    pub(super) fn is_told(&self) -> bool {
        self.0.iter().all(|range| range.told)
    }

    /// What was measured in the time of another run of the engine begins at `now`.
    pub(super) fn resume(&mut self, now: i64) {
        self.0.iter_mut().for_each(|range| range.since = now);
    }

    fn make_room(&mut self) {
        while self.0.len() > RANGES_MAX {
            let first = self.0.remove(0);
            if first.told {
                continue;
            }
            let next = &mut self.0[0];
            if next.told {
                // It is the older of the two that is not told: its place is all that is given up.
                *next = first;
                continue;
            }
            next.first = next.first.min(first.first);
            next.last = next.last.max(first.last);
            next.missing += first.missing;
            next.gaps += first.gaps;
            next.closed |= first.closed;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn told(missing: &mut Missing, now: i64) -> (u64, u64) {
        missing.due(now).iter().fold((0, 0), |(gaps, sum), gap| (gaps + gap.gaps, sum + gap.missing))
    }

    #[test]
    fn more_gaps_than_are_remembered_are_all_told() {
        let mut missing = Missing::default();
        (1..=100).for_each(|n| missing.add(n * 10, n * 10 + 2, "D", n as i64));
        assert!(missing.0.len() <= RANGES_MAX);
        assert_eq!(told(&mut missing, 100 + GRACE_MS), (100, 300));
        assert!(missing.is_told());
    }

    #[test]
    fn what_is_yet_to_be_told_stays_where_what_was_told_gives_way() {
        let mut missing = Missing::default();
        missing.add(1, 2, "D", 0);
        assert_eq!(told(&mut missing, GRACE_MS), (1, 2));
        (1..=40).for_each(|n| missing.add(n * 10, n * 10, "D", GRACE_MS));
        assert_eq!(told(&mut missing, 2 * GRACE_MS), (40, 40));
    }

    #[test]
    fn a_gap_filled_in_its_middle_again_and_again_is_one_gap_of_what_is_left() {
        let mut missing = Missing::default();
        missing.add(1, 99, "D", 0);
        (2..=98).step_by(2).for_each(|n| assert_eq!(missing.fill(n), Some(false), "{n}"));
        assert!(missing.0.len() <= RANGES_MAX);
        assert_eq!(told(&mut missing, GRACE_MS), (1, 50));
    }

    #[test]
    fn of_ranges_that_became_one_each_number_is_taken_off_once() {
        let mut missing = Missing::default();
        (1..=20).for_each(|n| missing.add(n * 10, n * 10 + 1, "D", 0));
        for n in 1..=20 {
            assert_eq!((missing.fill(n * 10), missing.fill(n * 10 + 1)), (Some(false), Some(false)), "{n}");
        }
        assert_eq!(missing, Missing::default());
    }

    #[test]
    fn numbers_of_before_a_counter_was_set_anew_are_told_and_not_filled_by_later_ones() {
        let mut missing = Missing::default();
        missing.add(5, 6, "D", 0);
        missing.close();
        assert_eq!(missing.fill(5), None);
        assert_eq!(told(&mut missing, GRACE_MS), (1, 2));
        assert_eq!(missing, Missing::default());
    }
}
