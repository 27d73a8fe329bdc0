//! The store's own time, which ages are measured in: it goes on while the store is open, and no setting of the system's
//! clock moves it. A clock that jumps must not let the store give up messages or forget repeats before their time.
//!
//! It is kept with every message and in every checkpoint, and goes on from there. Of the time the store was closed only the
//! system's clock tells, which may have been set meanwhile: it counts as far as it could do no harm.

use std::time::Duration;

use tracing::warn;

use crate::{
    clock::Clock,
    store::{
        records::{nanos, timestamp},
        state::Time,
    },
};

/// Of the time the store was closed no more than this is believed.
const CLOSED_MAX: Duration = Duration::from_secs(3600);
/// A message reaches the store soon after its last byte was read; who tells of a longer time, or of the future, tells of a
/// clock that was set in between.
const HELD_MAX: Duration = Duration::from_secs(2 * 3600);
/// A difference between the clocks that is worth telling of.
const JUMP_MIN: Duration = Duration::from_secs(60);

pub(super) struct Steady {
    clock: Clock,
    /// What it was when `passed` of the clock's time had passed.
    opened: i64,
    passed: Duration,
}

impl Steady {
    /// Goes on from the last moment known; a new store begins with the time of day.
    pub fn after(last: Time, clock: Clock) -> Steady {
        let passed = clock.passed();
        let shown = nanos(clock.now());
        if last == Time::default() {
            return Steady { clock, opened: shown, passed };
        }
        let closed = shown.saturating_sub(last.shown);
        if closed < -whole(JUMP_MIN) {
            warn!(now = %timestamp(shown), last = %timestamp(last.shown), "the system's clock was set back since the store was last open: check it");
        }
        let opened = last.steady.saturating_add(closed.clamp(0, whole(CLOSED_MAX)));
        Steady { clock, opened, passed }
    }

    /// Now.
    pub fn now(&self) -> i64 {
        self.opened.saturating_add(whole(self.clock.passed().saturating_sub(self.passed)))
    }

    /// What the store's time was at a moment the system's clock told just now.
    pub fn of(&self, shown: i64) -> i64 {
        let ago = nanos(self.clock.now()).saturating_sub(shown);
        let believed = (0..=whole(HELD_MAX)).contains(&ago);
        self.now().saturating_sub(if believed { ago } else { 0 })
    }

    /// Now, by both clocks.
    pub fn time(&self) -> Time {
        Time { steady: self.now(), shown: nanos(self.clock.now()) }
    }
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    };

    use super::*;

    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;
    const SECOND: i64 = 1_000_000_000;

    /// A clock to be set, in seconds since 1970, and the seconds passed.
    fn clock(told: i64) -> (Clock, Arc<AtomicI64>, Arc<AtomicU64>) {
        let (told, passed) = (Arc::new(AtomicI64::new(told)), Arc::new(AtomicU64::new(7)));
        let (tell, pass) = (Arc::clone(&told), Arc::clone(&passed));
        let clock = Clock::jumping(
            move || timestamp(tell.load(SeqCst) * SECOND),
            move || Duration::from_secs(pass.load(SeqCst)),
        );
        (clock, told, passed)
    }

    #[test]
    fn a_jump_of_the_wall_clock_moves_it_neither_way() {
        let (clock, told, passed) = clock(100 * DAY);
        let steady = Steady::after(Time::default(), clock);
        assert_eq!(steady.now(), 100 * DAY * SECOND);
        for jump in [HOUR, -HOUR, 2 * DAY, -365 * DAY] {
            told.fetch_add(jump, SeqCst);
            assert_eq!(steady.now(), 100 * DAY * SECOND);
            assert_eq!(steady.of(told.load(SeqCst) * SECOND), steady.now());
        }
        passed.fetch_add(5, SeqCst);
        assert_eq!(steady.now(), (100 * DAY + 5) * SECOND);
    }

    #[test]
    fn a_message_read_before_a_jump_is_no_older_than_it_can_be_and_never_of_the_future() {
        let (clock, told, _) = clock(100 * DAY);
        let steady = Steady::after(Time::default(), clock);
        let read = 100 * DAY * SECOND;
        told.fetch_add(10, SeqCst);
        assert_eq!(steady.of(read), steady.now() - 10 * SECOND);
        for jump in [2 * DAY, -365 * DAY] {
            told.store(100 * DAY + jump, SeqCst);
            assert_eq!(steady.of(read), steady.now(), "{jump}");
        }
    }

    #[test]
    fn time_closed_counts_as_far_as_it_can_be_believed() {
        let last = Time { steady: 50 * DAY * SECOND, shown: 100 * DAY * SECOND };
        for (closed, counted) in [(60, 60), (HOUR, HOUR), (2 * DAY, HOUR), (365 * DAY, HOUR), (-60, 0), (-365 * DAY, 0)]
        {
            let (clock, ..) = clock(100 * DAY + closed);
            assert_eq!(Steady::after(last, clock).now(), last.steady + counted * SECOND, "{closed}");
        }
    }
}
