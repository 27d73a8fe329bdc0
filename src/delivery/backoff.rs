//! How long a lane waits before it tries again: full jitter between `retry.first` and a ceiling that doubles up to
//! `retry.max`, so that lanes and engines do not come back in step to a receiver that has just risen.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// Never less, whatever is configured: a lane must not spin.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// No receiver is believed to ask for more.
const ASKED_MAX: Duration = Duration::from_secs(3600);

/// The waits of one lane since its last success.
#[derive(Default)]
pub(super) struct Backoff {
    round: u32,
}

impl Backoff {
    /// The next wait. `asked` (the receiver's `Retry-After`) lengthens it, also beyond `max`, up to an hour: a receiver may
    /// slow a lane down, not switch it off.
    pub(super) fn wait(&mut self, first: Duration, max: Duration, asked: Option<Duration>) -> Duration {
        let first = first.max(WAIT_MIN);
        let max = max.max(first);
        let ceiling = first.saturating_mul(1 << self.round.min(20)).min(max);
        self.round = self.round.saturating_add(1);
        let jittered = first + (ceiling - first).mul_f64(fraction());
        asked.map_or(jittered, |asked| jittered.max(asked.min(ASKED_MAX)))
    }

    /// The receiver answered.
    pub(super) fn reset(&mut self) {
        self.round = 0;
    }
}

/// Between 0 and 1. The standard library's hash keys are random enough to spread waits.
fn fraction() -> f64 {
    #[cfg(test)]
    if let Some(fixed) = FIXED.get() {
        return fixed;
    }
    let random = RandomState::new().build_hasher().finish();
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
thread_local! {
    /// Of this thread, instead of a random one: where every run must be the same.
    pub(super) static FIXED: std::cell::Cell<Option<f64>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn waits_stay_between_first_and_a_ceiling_that_doubles_up_to_max() {
        let mut longest = Duration::ZERO;
        for _ in 0..200 {
            let mut backoff = Backoff::default();
            for round in 0..10 {
                let wait = backoff.wait(FIRST, MAX, None);
                assert!(wait >= FIRST && wait <= (FIRST * (1 << round)).min(MAX), "{wait:?} in round {round}");
                longest = longest.max(wait);
            }
        }
        assert!(longest > MAX / 2, "the ceiling is used");
    }

    #[test]
    fn a_success_begins_anew_and_long_outages_do_not_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.wait(FIRST, MAX, None) <= MAX);
        }
        backoff.reset();
        assert_eq!(backoff.wait(FIRST, MAX, None), FIRST);
    }

    #[test]
    fn the_receivers_wish_is_kept_up_to_an_hour() {
        let ask = |seconds| Backoff::default().wait(FIRST, MAX, Some(Duration::from_secs(seconds)));
        assert_eq!(ask(30), Duration::from_secs(30));
        assert_eq!(ask(0), FIRST);
        assert_eq!(ask(300), Duration::from_secs(300));
        assert_eq!(ask(86_400), ASKED_MAX);
    }

    #[test]
    fn no_configuration_makes_a_lane_spin() {
        assert!(Backoff::default().wait(Duration::ZERO, Duration::ZERO, None) >= WAIT_MIN);
    }
}
