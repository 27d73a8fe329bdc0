//! The wall clock, for times that are shown, sent or kept, and time passed, for ages. Order and deadlines depend on neither.
//!
//! A wall clock jumps when a person or a time server sets it. Nothing may be given up, forgotten, sent or held back for that:
//! how long delivered messages are kept and how long a sender's repeats are told is measured in time passed.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

/// Tells the time of day, and how much time passed; tests fix both.
#[derive(Clone)]
pub struct Clock {
    told: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    passed: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        let made = Instant::now();
        Clock { told: Arc::new(Timestamp::now), passed: Arc::new(move || made.elapsed()) }
    }

    /// A clock that stands still.
    pub fn fixed(at: Timestamp) -> Clock {
        Clock { told: Arc::new(move || at), passed: Arc::new(|| Duration::ZERO) }
    }

    /// A clock that tells what `tell` does, and never jumps: what it goes on by is time passed.
    pub fn of(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        let tell = Arc::new(tell);
        let (made, told) = (tell(), Arc::clone(&tell));
        let passed = move || Duration::try_from(told().duration_since(made)).unwrap_or_default();
        Clock { told: tell, passed: Arc::new(passed) }
    }

    /// A clock that tells what `tell` does while time passes as `passed` says.
    pub fn jumping(
        tell: impl Fn() -> Timestamp + Send + Sync + 'static,
        passed: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Clock {
        Clock { told: Arc::new(tell), passed: Arc::new(passed) }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.told)()
    }

    /// Time passed since the clock was made, whatever it told meanwhile.
    pub fn passed(&self) -> Duration {
        (self.passed)()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn time_passed_follows_a_clock_that_never_jumps() {
        let seconds = Arc::new(AtomicI64::new(1_000));
        let told = Arc::clone(&seconds);
        let clock =
            Clock::of(move || Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(told.load(Ordering::SeqCst)));
        assert_eq!(clock.passed(), Duration::ZERO);
        seconds.store(1_090, Ordering::SeqCst);
        assert_eq!(clock.clone().passed(), Duration::from_secs(90));
        seconds.store(10, Ordering::SeqCst);
        assert_eq!(clock.passed(), Duration::ZERO);
    }
}
