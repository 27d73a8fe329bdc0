//! Counters in control ids (MSH-10) and sequence numbers (MSH-13): what is missing, what came twice.
//!
//! What must never happen: a gap told where nobody counts, or one that is not told where somebody does. Control ids are often
//! times or random, so nothing is told of a counter before it has gone up by one often enough in a row. What is missing
//! while jumps outweigh steps of one is kept until the counter has proved itself again, or proved to be none. A number that
//! is missing is told only after others of its sender had time to come by another connection.

use serde::{Deserialize, Serialize};

use super::missing::{Gap, Missing};
use crate::hl7::Message;

/// Steps of one in a row after which a number is taken for a counter.
const LEARNED: u32 = 8;
/// The same for one that often proved to be none.
const LEARNED_MAX: u32 = 4_096;
/// A jump counts as so many steps of one, which take the doubt away.
const OF_A_JUMP: u32 = 4;
/// Doubt from which on nothing is told, until all of it is gone. As much contradiction proves that it is no counter.
const DOUBT: u32 = 32;
const DOUBT_MAX: u32 = 2 * DOUBT;
/// Messages in which a counter must prove itself, or jumps in a row that it may make.
const IN_DOUBT_MAX: u32 = 1_000;
const JUMPS_MAX: u32 = 64;
/// A longer jump is a counter set anew.
const JUMP_MAX: u64 = 100_000;
/// Digits that fit the number; those before belong to what does not count.
const DIGITS_MAX: usize = 18;
/// Digits of a time to the minute.
const MINUTE_DIGITS: usize = 12;

/// Where in a counter a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    /// Of what stands before the digits: numbers behind different text are different counters.
    pub(super) prefix: u64,
    pub(super) value: u64,
}

impl Number {
    /// MSH-13 where it is a number, else the digits at the end of MSH-10, unless they tell the time of MSH-7.
    pub(super) fn of(message: &Message) -> Option<Number> {
        let msh = message.msh();
        let sequence = msh.field(13).raw().trim_ascii();
        let of_sequence = Number::at_end(sequence).filter(|_| sequence.iter().all(u8::is_ascii_digit));
        of_sequence.or_else(|| {
            let control_id = msh.field(10).raw().trim_ascii();
            let made = msh.field(7).raw().trim_ascii().get(..MINUTE_DIGITS);
            let is_time = made.is_some_and(|made| digits_at_end(control_id).starts_with(made));
            Number::at_end(control_id).filter(|_| !is_time)
        })
    }

    fn at_end(text: &[u8]) -> Option<Number> {
        let digits = digits_at_end(text).len().min(DIGITS_MAX);
        let (prefix, digits) = text.split_at(text.len() - digits);
        let value = std::str::from_utf8(digits).ok()?.parse().ok()?;
        Some(Number { prefix: fnv(prefix), value })
    }
}

fn digits_at_end(text: &[u8]) -> &[u8] {
    let digits = text.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    &text[text.len() - digits..]
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

/// Whether the numbers are a counter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Standing {
    /// Not known yet, or proved to be none.
    Unproved,
    Counts,
    /// Too many jumps, for so many messages.
    InDoubt {
        messages: u32,
    },
}

/// Who brings a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'d> {
    pub(super) device: &'d str,
    /// It is one more than the device's own last.
    pub(super) follows_own: bool,
    /// MSH-7.
    pub(super) sent: Option<i64>,
}

/// One counter as last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counter {
    prefix: u64,
    last: u64,
    standing: Standing,
    /// Steps of one in a row, and jumps.
    run: u32,
    jumps: u32,
    /// Steps of one in a row that prove it: more each time it proved to be none.
    proof: u32,
    /// Jumps that outweigh steps of one.
    doubt: u32,
    /// What cannot be of one counter, likewise.
    contradiction: u32,
    /// The newest MSH-7, which tells a repeat from a counter set anew.
    newest_sent: Option<i64>,
    missing: Missing,
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
            standing: Standing::Unproved,
            run: 0,
            jumps: 0,
            proof: LEARNED,
            doubt: 0,
            contradiction: 0,
            newest_sent: sent,
            missing: Missing::default(),
            device: fnv(device.as_bytes()),
            shared: false,
            heard: now,
        }
    }

    /// It has counted often enough in a row.
    pub(super) fn is_learned(&self) -> bool {
        self.standing != Standing::Unproved
    }

    /// Several devices are numbered by it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Nothing is missing that is yet to be told.
    pub(super) fn is_settled(&self) -> bool {
        self.standing != Standing::Counts || self.missing.is_told()
    }

    /// The number is one more than the last.
    pub(super) fn precedes(&self, number: Number) -> bool {
        self.prefix == number.prefix && self.last.checked_add(1) == Some(number.value)
    }

    /// Takes the next message's number.
    pub(super) fn take(&mut self, number: Number, by: By<'_>, now: i64) -> Step {
        self.heard = now;
        let is_first_of_others = !self.shared && self.device != fnv(by.device.as_bytes());
        self.shared |= is_first_of_others;
        let ahead = number.value.checked_sub(self.last);
        let step = match (number.prefix == self.prefix, ahead) {
            (true, Some(1)) => self.next(number.value),
            (true, None | Some(0)) => self.back(number, by, is_first_of_others),
            (true, Some(2..)) if by.follows_own => self.beside(number),
            (true, Some(2..=JUMP_MAX)) if self.is_learned() => self.skip(number.value, by, is_first_of_others, now),
            _ if is_first_of_others => self.beside(number),
            _ => self.restart(number),
        };
        if step != Step::Repeat {
            self.newest_sent = if step == Step::Restart { by.sent } else { self.newest_sent.max(by.sent) };
        }
        self.examine();
        step
    }

    fn next(&mut self, value: u64) -> Step {
        self.last = value;
        self.jumps = 0;
        self.run = self.run.saturating_add(1);
        self.doubt = self.doubt.saturating_sub(1);
        self.contradiction = self.contradiction.saturating_sub(1);
        Step::Usual
    }

    fn skip(&mut self, value: u64, by: By<'_>, is_first_of_others: bool, now: i64) -> Step {
        self.missing.add(self.last + 1, value - 1, by.device, now);
        self.last = value;
        self.run = 0;
        self.jumps += 1;
        self.doubt = (self.doubt + OF_A_JUMP).min(DOUBT_MAX);
        if is_first_of_others {
            // Missing numbers, or a second device that counts for itself: what comes next shows which.
            (self.doubt, self.contradiction) = (DOUBT_MAX, DOUBT);
        }
        Step::Usual
    }

    /// A number at or before the last one.
    fn back(&mut self, number: Number, by: By<'_>, is_first_of_others: bool) -> Step {
        let is_old = by.sent.is_none() || by.sent <= self.newest_sent;
        if let Some(told) = self.missing.fill(number.value) {
            if by.follows_own {
                self.contradiction += OF_A_JUMP / 2;
            }
            return if told { Step::Recovered } else { Step::Overtaken };
        }
        match (self.is_learned(), is_old) {
            (true, _) if by.follows_own || is_first_of_others => self.beside(number),
            (true, true) => Step::Repeat,
            (false, true) if number.value == self.last => Step::Usual,
            _ => self.restart(number),
        }
    }

    /// A number that fits its device's own last one, or is the first of another device, and does not follow here.
    fn beside(&mut self, number: Number) -> Step {
        self.last = number.value;
        self.run = 0;
        self.contradiction += OF_A_JUMP;
        Step::Usual
    }

    fn restart(&mut self, number: Number) -> Step {
        self.prefix = number.prefix;
        self.last = number.value;
        self.run = 0;
        self.missing.close();
        self.contradiction += OF_A_JUMP;
        match self.is_learned() && self.contradiction <= DOUBT {
            true => Step::Restart,
            false => Step::Usual,
        }
    }

    /// Whether it counts, after what the last number said.
    fn examine(&mut self) {
        self.standing = match self.standing {
            Standing::Unproved => {
                (self.doubt, self.contradiction) = (0, 0);
                if self.run >= self.proof { Standing::Counts } else { Standing::Unproved }
            }
            Standing::InDoubt { messages } if messages >= IN_DOUBT_MAX => return self.disproved(),
            _ if self.contradiction > DOUBT || self.jumps > JUMPS_MAX => return self.disproved(),
            Standing::Counts if self.doubt > DOUBT => Standing::InDoubt { messages: 0 },
            Standing::InDoubt { messages } if self.doubt > 0 => Standing::InDoubt { messages: messages + 1 },
            _ => Standing::Counts,
        }
    }

    fn disproved(&mut self) {
        self.standing = Standing::Unproved;
        (self.run, self.jumps, self.doubt, self.contradiction) = (0, 0, 0, 0);
        self.proof = (self.proof * 2).min(LEARNED_MAX);
        self.missing.clear();
    }

    /// The gaps that have waited long enough, each once.
    pub(super) fn gaps(&mut self, now: i64) -> Vec<Gap> {
        match self.standing {
            Standing::Counts => self.missing.due(now),
            _ => Vec::new(),
        }
    }

    /// What was measured in the time of another run of the engine begins at `now`.
    pub(super) fn resume(&mut self, now: i64) {
        self.heard = now;
        self.missing.resume(now);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::devices::missing::GRACE_MS;

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
        counter.take(number(&n.to_string()), by("D", sent), 0)
    }

    fn by(device: &str, sent: u64) -> By<'_> {
        By { device, follows_own: false, sent: Some(sent as i64) }
    }

    /// Gaps told by `now`, and numbers missing in them.
    fn told(counter: &mut Counter, now: i64) -> (u64, u64) {
        counter.gaps(now).iter().fold((0, 0), |(gaps, sum), gap| (gaps + gap.gaps, sum + gap.missing))
    }

    #[test]
    fn what_is_missing_is_told_once_and_only_after_its_grace() {
        let mut counter = counted();
        take(&mut counter, 14, 14);
        assert_eq!(counter.gaps(GRACE_MS - 1), []);
        assert_eq!(counter.gaps(GRACE_MS), [Gap { device: "D".into(), missing: 3, gaps: 1 }]);
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
        (2..80).for_each(|n| {
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
        assert_eq!(counter.take(number("day2-1"), by("D", 99), 0), Step::Restart);
    }

    #[test]
    fn what_is_missing_while_many_are_is_told_once_the_counter_goes_on() {
        // Of fifteen devices behind it several lose their messages at a time, for half an hour.
        for losing in [&[3][..], &[1, 4, 9, 12], &[0, 2, 4, 6, 8, 10, 12]] {
            let (mut counter, mut gaps, mut missing, mut lost) = (counted(), 0, 0, 0);
            for n in 11..11 + 15 * 60 {
                let now = n as i64 * 4_000;
                let is_lost = (20..50).contains(&(n / 15)) && losing.contains(&(n % 15));
                lost += u64::from(is_lost);
                if !is_lost {
                    counter.take(number(&n.to_string()), by("D", n), now);
                }
                let (more, sum) = told(&mut counter, now);
                (gaps, missing) = (gaps + more, missing + sum);
            }
            assert_eq!((gaps, missing), (lost, lost), "{losing:?}");
        }
    }

    /// A number below `limit`, from a state that goes on.
    fn chance(state: &mut u64, limit: u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) % limit
    }

    /// Numbers lost and gaps in the books of a gateway that numbers for its devices, and as told. One message a minute each.
    fn lost_and_told(seed: u64) -> [(u64, u64); 2] {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let devices = 2 + chance(&mut state, 24);
        let often = 30 + chance(&mut state, 200);
        // Of each device: messages still to be lost, and minutes until it may lose again.
        let mut losing = vec![(0u64, 0u64); devices as usize];
        let (mut counter, mut n, mut was_lost) = (Counter::new(number("1"), Some(1), "D", 0), 1, false);
        let (mut lost, mut seen) = ((0, 0), (0, 0));
        for (minute, device) in (0..400).flat_map(|minute| (0..devices).map(move |device| (minute, device))) {
            let (left, rest) = &mut losing[device as usize];
            let begins = (26..260).contains(&minute) && *rest == 0 && chance(&mut state, often) == 0;
            if begins {
                let few = chance(&mut state, 2) == 0;
                *left = if few { 1 + chance(&mut state, 2) } else { 8 + chance(&mut state, 23) };
                *rest = 150;
            }
            (n, *rest) = (n + 1, rest.saturating_sub(1));
            let (is_lost, now) = (*left > 0, minute as i64 * 60_000 + device as i64 * 2_000);
            *left = left.saturating_sub(1);
            match is_lost {
                true => lost = (lost.0 + 1, lost.1 + u64::from(!was_lost)),
                false => assert_eq!(counter.take(number(&n.to_string()), by("D", n), now), Step::Usual),
            }
            was_lost = is_lost;
            let (gaps, missing) = told(&mut counter, now);
            seen = (seen.0 + missing, seen.1 + gaps);
        }
        [lost, seen]
    }

    #[test]
    fn whatever_the_devices_behind_a_gateway_lose_is_told_and_nothing_else() {
        for seed in 1..=300 {
            let [lost, told] = lost_and_told(seed);
            assert_eq!(told, lost, "seed {seed}");
        }
    }

    #[test]
    fn what_is_missing_when_a_counter_is_set_anew_is_told() {
        let mut counter = counted();
        take(&mut counter, 14, 14);
        assert_eq!(take(&mut counter, 1, 20), Step::Restart);
        assert_eq!(take(&mut counter, 2, 21), Step::Usual);
        assert_eq!(told(&mut counter, GRACE_MS), (1, 3));
        (3..=20).for_each(|n| assert_eq!(take(&mut counter, n, 20 + n), Step::Usual, "{n}"));
        assert_eq!(told(&mut counter, 2 * GRACE_MS), (0, 0));
    }

    #[test]
    fn a_second_device_that_counts_for_itself_is_no_gap_no_restart_and_no_repeat() {
        for begins in [1, 11, 40, 5_000, 900_000] {
            let mut counter = counted();
            for n in 0..60 {
                let mut heard = |device: &str, value: u64, follows_own: bool| {
                    let step = counter.take(
                        number(&value.to_string()),
                        By { follows_own, ..by(device, 100 + n) },
                        n as i64 * 60_000,
                    );
                    assert!(matches!(step, Step::Usual | Step::Overtaken), "{device} {value}: {step:?}");
                    assert_eq!(counter.gaps(n as i64 * 60_000 + 50_000), [], "{device} {value}");
                };
                heard("E", begins + n, n > 0);
                heard("D", 11 + n, true);
            }
            assert!(!counter.is_learned(), "{begins}");
        }
    }

    #[test]
    fn an_id_that_is_its_message_s_time_is_no_counter() {
        let of = |id: &str| {
            let text = format!("MSH|^~\\&|GW||||20260301115958+0100||ORU^R01|{id}|P|2.6\r");
            Number::of(&Message::parse(text.into_bytes()).unwrap()).map(|number| number.value)
        };
        for id in ["20260301115958", "GW20260301115958", "GW-20260301115958123", "20260301115958123456"] {
            assert_eq!(of(id), None, "{id}");
        }
        assert_eq!((of("20260301-17"), of("2026030100017")), (Some(17), Some(2_026_030_100_017)));
    }
}
