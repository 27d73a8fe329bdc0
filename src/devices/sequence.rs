//! Counters in control ids (MSH-10) and sequence numbers (MSH-13): what is missing, what came twice.
//!
//! What must never happen: a gap told where nobody counts. Control ids are often times or random, so nothing is told of
//! a counter before it has gone up by one often enough in a row, nor once it no longer mostly does. A number that is
//! missing is told only after others of its sender had time to come by another connection.

use serde::{Deserialize, Serialize};

use crate::hl7::Message;

/// Steps of one in a row after which a number is taken for a counter.
const LEARNED: u32 = 8;
/// How far what is no step of one may outweigh what is, before it is no counter any more.
const DOUBT_MAX: u32 = 32;
const DOUBT_OF_A_JUMP: u32 = 4;
/// A longer jump is a counter set anew.
const JUMP_MAX: u64 = 100_000;
/// A missing number may still come by another connection for so long.
const GRACE_MS: i64 = 30_000;
/// Missing ranges remembered for each counter, so that what comes late is taken off them; the oldest gives way.
const RANGES_MAX: usize = 8;
/// Digits that fit the number; those before belong to what does not count.
const DIGITS_MAX: usize = 18;

/// Where in a counter a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// Of what stands before the digits: numbers behind different text are different counters.
    pub(super) prefix: u64,
    pub(super) value: u64,
}

impl Number {
    /// MSH-13 where it is a number, else the digits at the end of MSH-10.
    pub(super) fn of(message: &Message) -> Option<Number> {
        let msh = message.msh();
        let sequence = msh.field(13).raw().trim_ascii();
        let of_sequence = Number::at_end(sequence).filter(|_| sequence.iter().all(u8::is_ascii_digit));
        of_sequence.or_else(|| Number::at_end(msh.field(10).raw().trim_ascii()))
    }

    fn at_end(text: &[u8]) -> Option<Number> {
        let digits = text.iter().rev().take(DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
        let (prefix, digits) = text.split_at(text.len() - digits);
        let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Number { prefix: fnv(prefix), value })
    }
}

/// FNV-1a: the same in every build, since it is kept.
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The next one, or nothing can be said yet.
    Usual,
    /// It was there before, and no newer message.
    Repeat,
    /// It was missing, and had been told so.
    Recovered,
    /// It was missing, and had not been told yet.
    Overtaken,
    /// The counter was set anew.
    Restart,
}

/// Numbers that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Missing {
    first: u64,
    last: u64,
    /// Time passed when the first one behind them came.
    since: i64,
    told: bool,
    /// The device whose message showed it.
    device: String,
}

/// A gap that is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) device: String,
    pub(super) missing: u64,
}

/// One counter as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    prefix: u64,
    last: u64,
    run: u32,
    doubt: u32,
    learned: bool,
    /// The newest MSH-7, which tells a repeat from a counter set anew.
    newest_sent: Option<i64>,
    missing: Vec<Missing>,
    /// Hash of the device whose message began it.
    device: u64,
    /// Messages of other devices have its numbers too.
    shared: bool,
    /// Time passed at the last message.
    pub(super) heard: i64,
}

impl Counter {
    pub(super) fn new(number: Number, sent: Option<i64>, device: &str, now: i64) -> Counter {
        let Number { prefix, value } = number;
        Counter {
            prefix,
            last: value,
            run: 0,
            doubt: 0,
            learned: false,
            newest_sent: sent,
            missing: Vec::new(),
            device: fnv(device.as_bytes()),
            shared: false,
            heard: now,
        }
    }

    /// It has counted often enough in a row.
    pub(super) fn is_learned(&self) -> bool {
        self.learned
    }

    /// Several devices are numbered by it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Nothing is missing that is yet to be told.
    pub(super) fn is_settled(&self) -> bool {
        self.missing.iter().all(|range| range.told)
    }

    /// Takes the next message's number.
    pub(super) fn take(&mut self, number: Number, sent: Option<i64>, device: &str, now: i64) -> Step {
        self.heard = now;
        self.shared |= self.device != fnv(device.as_bytes());
        let newest = self.newest_sent;
        let step = match (number.prefix == self.prefix, number.value.checked_sub(self.last)) {
            (true, Some(1)) => self.next(number.value),
            (true, Some(ahead @ 2..=JUMP_MAX)) if self.learned => self.skip(number.value, ahead, device, now),
            (true, None | Some(0)) => self.back(number, sent.is_none() || sent <= newest),
            _ => self.restart(number),
        };
        if step != Step::Repeat {
            self.newest_sent = if step == Step::Restart { sent } else { newest.max(sent) };
        }
        step
    }

    fn next(&mut self, value: u64) -> Step {
        self.last = value;
        self.run = self.run.saturating_add(1);
        self.doubt = self.doubt.saturating_sub(1);
        self.learned |= self.run >= LEARNED;
        Step::Usual
    }

    fn skip(&mut self, value: u64, ahead: u64, device: &str, now: i64) -> Step {
        let (first, last) = (value - ahead + 1, value - 1);
        self.last = value;
        if self.doubts() {
            if self.missing.len() == RANGES_MAX {
                self.missing.remove(0);
            }
            self.missing.push(Missing { first, last, since: now, told: false, device: device.to_owned() });
        }
        Step::Usual
    }

    /// A number at or before the last one.
    fn back(&mut self, number: Number, is_old: bool) -> Step {
        if let Some(told) = self.fill(number.value) {
            return if told { Step::Recovered } else { Step::Overtaken };
        }
        match (self.learned, is_old) {
            (true, true) => Step::Repeat,
            (false, true) if number.value == self.last => Step::Usual,
            _ => self.restart(number),
        }
    }

    fn restart(&mut self, number: Number) -> Step {
        let was_learned = self.learned && self.doubts();
        self.prefix = number.prefix;
        self.last = number.value;
        self.run = 0;
        self.missing.clear();
        if was_learned { Step::Restart } else { Step::Usual }
    }

    /// Notes that this was no step of one; false once too many were not.
    fn doubts(&mut self) -> bool {
        self.doubt += DOUBT_OF_A_JUMP;
        if self.doubt > DOUBT_MAX {
            (self.learned, self.run, self.doubt) = (false, 0, 0);
            self.missing.clear();
        }
        self.learned
    }

    /// Takes the number off those missing; whether that had been told, `None` where it was not missing.
    fn fill(&mut self, value: u64) -> Option<bool> {
        let at = self.missing.iter().position(|range| (range.first..=range.last).contains(&value))?;
        let range = self.missing.remove(at);
        if value < range.last {
            self.missing.insert(at, Missing { first: value + 1, ..range.clone() });
        }
        if range.first < value {
            self.missing.insert(at, Missing { last: value - 1, ..range.clone() });
        }
        self.missing.truncate(RANGES_MAX);
        Some(range.told)
    }

    /// The gaps that have waited long enough, each once.
    pub(super) fn gaps(&mut self, now: i64) -> Vec<Gap> {
        let due = self.missing.iter_mut().filter(|range| !range.told && now - range.since >= GRACE_MS);
        due.map(|range| {
            range.told = true;
            Gap { device: range.device.clone(), missing: range.last - range.first + 1 }
        })
        .collect()
    }

    /// What was measured in the time of another run of the engine begins at `now`.
    pub(super) fn resume(&mut self, now: i64) {
        self.heard = now;
        self.missing.iter_mut().for_each(|range| range.since = now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn number(text: &str) -> Number {
        Number::at_end(text.as_bytes()).unwrap()
    }

    /// The counter after 1 to 10, and how far it says it is.
    fn counted() -> Counter {
        let mut counter = Counter::new(number("1"), Some(1), "D", 0);
        (2..=10).for_each(|n| assert_eq!(take(&mut counter, n, n), Step::Usual));
        assert!(counter.is_learned());
        counter
    }

    fn take(counter: &mut Counter, n: u64, sent: u64) -> Step {
        counter.take(number(&n.to_string()), Some(sent as i64), "D", 0)
    }

    #[test]
    fn what_is_missing_is_told_once_and_only_after_its_grace() {
        let mut counter = counted();
        take(&mut counter, 14, 14);
        assert_eq!(counter.gaps(GRACE_MS - 1), []);
        assert_eq!(counter.gaps(GRACE_MS), [Gap { device: "D".into(), missing: 3 }]);
        assert_eq!(counter.gaps(2 * GRACE_MS), []);
        assert_eq!(take(&mut counter, 12, 12), Step::Recovered);
        assert_eq!(take(&mut counter, 12, 12), Step::Repeat);
        assert_eq!((take(&mut counter, 11, 11), take(&mut counter, 13, 13)), (Step::Recovered, Step::Recovered));
    }

    #[test]
    fn what_another_connection_overtook_is_no_gap() {
        let mut counter = counted();
        take(&mut counter, 12, 12);
        assert_eq!(take(&mut counter, 11, 11), Step::Overtaken);
        assert_eq!(counter.gaps(GRACE_MS), []);
    }

    #[test]
    fn the_same_number_again_is_a_repeat_and_with_a_newer_time_a_counter_set_anew() {
        let mut counter = counted();
        assert_eq!((take(&mut counter, 9, 9), take(&mut counter, 10, 10)), (Step::Repeat, Step::Repeat));
        assert_eq!(take(&mut counter, 1, 20), Step::Restart);
        assert_eq!(take(&mut counter, 2, 21), Step::Usual);
        assert_eq!(counter.gaps(GRACE_MS), []);
    }

    #[test]
    fn ids_that_are_times_or_random_are_no_sequence() {
        for step in [2, 997, 10_000_000] {
            let mut counter = Counter::new(number("1"), Some(1), "D", 0);
            (2..200).for_each(|n| assert_eq!(take(&mut counter, n * step + n % 7, n), Step::Usual));
            assert_eq!(counter.gaps(GRACE_MS), []);
        }
        let mut counter = counted();
        (2..40).for_each(|n| {
            take(&mut counter, n * 10, n + 20);
        });
        assert!(!counter.is_learned());
        assert_eq!(counter.gaps(GRACE_MS), []);
    }

    #[test]
    fn numbers_behind_other_text_are_another_counter() {
        assert_eq!(number("run.7.42"), Number { prefix: fnv(b"run.7."), value: 42 });
        assert_eq!(number("20260123456789012345678").value, 123_456_789_012_345_678);
        assert_eq!(Number::at_end(b"550e8400-a"), None);
        let mut counter = counted();
        assert_eq!(counter.take(number("day2-1"), Some(99), "D", 0), Step::Restart);
    }
}
