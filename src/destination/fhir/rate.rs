//! When a request may go: a token bucket and a bound on requests without an answer, for all lanes of a destination.
//!
//! A server that asks one lane to wait (429 or 503 with Retry-After) asks all of them: until then they are told so at once,
//! and their messages wait where they are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

use super::{super::Verdict, settings::Rate};
use crate::destination::Meter;

/// No server is believed to ask for more.
const HOLD_MAX: Duration = Duration::from_secs(3600);

pub(super) struct Turns {
    /// Between two requests.
    interval: Option<Duration>,
    burst: u32,
    concurrent: Option<Arc<Semaphore>>,
    state: Mutex<State>,
    meter: Meter,
}

#[derive(Default)]
struct State {
    /// When the bucket would be full again.
    full_at: Option<Instant>,
    held_until: Option<Instant>,
}

impl Turns {
    pub(super) fn new(rate: Rate, meter: Meter) -> Turns {
        let permits = |count: u32| Arc::new(Semaphore::new(usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS)));
        Turns {
            interval: rate.per_second.map(|count| Duration::from_secs(1) / count.max(1)),
            burst: rate.per_second.unwrap_or(1).max(1),
            concurrent: rate.concurrent.map(permits),
            state: Mutex::default(),
            meter,
        }
    }

    /// Waits for a request's turn, which lasts until what is answered is dropped.
    pub(super) async fn next(&self) -> Result<Option<OwnedSemaphorePermit>, Verdict> {
        self.check_hold()?;
        let mut waited = false;
        let permit = match &self.concurrent {
            None => None,
            Some(turns) => match turns.clone().try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    waited = true;
                    turns.clone().acquire_owned().await.ok()
                }
            },
        };
        let (at, now) = (self.reserve(), Instant::now());
        if at > now {
            waited = true;
            sleep_until(at).await;
        }
        if waited {
            self.meter.rate_waited();
            self.check_hold()?;
        }
        Ok(permit)
    }

    /// The server asked for this.
    pub(super) fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait.min(HOLD_MAX);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held_until = state.held_until.max(Some(until));
    }

    fn check_hold(&self) -> Result<(), Verdict> {
        let held_until = self.state.lock().unwrap_or_else(PoisonError::into_inner).held_until;
        let left =
            held_until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero());
        match left {
            None => Ok(()),
            left => Err(Verdict::Unavailable { reason: "the server asked to wait".to_owned(), retry_after: left }),
        }
    }

    /// Takes a token; when it may be used.
    fn reserve(&self) -> Instant {
        let now = Instant::now();
        let Some(interval) = self.interval else { return now };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = state.full_at.map_or(now, |at| at.max(now));
        state.full_at = Some(full_at + interval);
        full_at.checked_sub(interval * (self.burst - 1)).map_or(now, |at| at.max(now))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::metrics::Metrics;

    fn meter() -> Meter {
        Meter::of(&Metrics::new().unwrap(), "pumps", "ehr")
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_then_so_many_a_second() {
        let turns = Turns::new(Rate { per_second: Some(10), concurrent: None }, meter());
        let begun = Instant::now();
        for _ in 0..10 {
            turns.next().await.unwrap();
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            turns.next().await.unwrap();
        }
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
        assert_eq!(turns.meter.rate_waits(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_answer_are_bounded() {
        let turns = Turns::new(Rate { per_second: None, concurrent: Some(2) }, Meter::detached());
        let (first, _second) = (turns.next().await.unwrap(), turns.next().await.unwrap());
        let mut third = std::pin::pin!(turns.next());
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut third).await.is_err());
        drop(first);
        assert!(third.await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_asks_of_one_lane_holds_for_all_until_then() {
        let turns = Turns::new(Rate::default(), Meter::detached());
        turns.hold(Duration::from_secs(30));
        turns.hold(Duration::from_secs(5));
        let Err(Verdict::Unavailable { retry_after, .. }) = turns.next().await else { panic!("not held") };
        assert_eq!(retry_after, Some(Duration::from_secs(30)));
        tokio::time::advance(Duration::from_secs(31)).await;
        assert!(turns.next().await.is_ok());
    }
}
