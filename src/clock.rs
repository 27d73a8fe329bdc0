//! The wall clock, for times that are shown, sent or kept. Order and deadlines never depend on it.
//!
//! Two things do, and the store bounds both: how long delivered messages are kept (of a message from the future what came
//! after it tells), and the window of a sender's repeats (a clock set forward forgets repeats early; nothing is lost by it).

use std::sync::Arc;

use jiff::Timestamp;

/// Tells the time of day; tests fix it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Clock {
        Clock(Arc::new(Timestamp::now))
    }

    /// A clock that stands still.
    pub fn fixed(at: Timestamp) -> Clock {
        Clock(Arc::new(move || at))
    }

    /// A clock that tells what `tell` does.
    pub fn of(tell: impl Fn() -> Timestamp + Send + Sync + 'static) -> Clock {
        Clock(Arc::new(tell))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}
