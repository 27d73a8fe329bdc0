//! The engine's byte budget for frames that are read and not yet answered.
//!
//! Half of it is for whole frames: one holds its share from before it is handed on until its answer is written. The other
//! half is for what large frames need while they are still being read, above a small free part; such a share stays with
//! its frame to the end. So frames that are never finished cannot keep whole ones waiting, and no frame ever waits for one
//! half while it holds the other.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

const PERMIT_BYTES: usize = 1024;

/// The budget of the engine; clones are the same budget.
#[derive(Clone)]
pub struct Budget {
    whole: Arc<Semaphore>,
    partial: Arc<Semaphore>,
    /// A frame larger than its half would wait for ever: it is charged with all of it.
    permits_max: usize,
}

impl Budget {
    /// A budget of so many bytes, at least 2 KiB.
    pub fn of_bytes(bytes: usize) -> Budget {
        let half = (bytes / 2 / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Budget { whole: Arc::new(Semaphore::new(half)), partial: Arc::new(Semaphore::new(half)), permits_max: half }
    }
}

#[cfg(test)]
impl Budget {
    /// Free permits for whole frames.
    pub(super) fn available(&self) -> usize {
        self.whole.available_permits()
    }

    /// Leaves nothing for frames still being read while the answer lives.
    pub(super) fn hog_partial(&self) -> Option<OwnedSemaphorePermit> {
        self.partial.clone().try_acquire_many_owned(u32::try_from(self.permits_max).ok()?).ok()
    }
}

/// The budget as one listening address sees it.
#[derive(Clone)]
pub(super) struct InFlight {
    budget: Budget,
    gauge: IntGauge,
}

impl InFlight {
    pub(super) fn new(budget: Budget, gauge: IntGauge) -> InFlight {
        InFlight { budget, gauge }
    }

    /// The share of a whole frame of so many bytes, waited for. `None` once the budget is closed.
    pub(super) async fn take(&self, bytes: usize) -> Option<Share> {
        let permits = self.permits_for(bytes);
        let permit = match self.budget.whole.clone().try_acquire_many_owned(permits) {
            Ok(permit) => permit,
            // In a box, as most need not wait.
            Err(_) => Box::pin(self.budget.whole.clone().acquire_many_owned(permits)).await.ok()?,
        };
        Some(self.share(permit))
    }

    /// `share`, itself of a frame still being read, made large enough for so many bytes; `None` where that took longer than `limit`.
    pub(super) async fn grow(&self, share: Option<Share>, bytes: usize, limit: Duration) -> Option<Share> {
        let held = share.as_ref().map_or(0, |share| share.permit.num_permits());
        let missing = (self.permits_for(bytes) as usize).saturating_sub(held);
        let more = self.budget.partial.clone().acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX));
        let more = self.share(Box::pin(timeout(limit, more)).await.ok()?.ok()?);
        Some(match share {
            None => more,
            Some(share) => share.merge(more),
        })
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PERMIT_BYTES).clamp(1, self.budget.permits_max)).unwrap_or(u32::MAX)
    }

    fn share(&self, permit: OwnedSemaphorePermit) -> Share {
        self.gauge.add(gauge_bytes(permit.num_permits()));
        Share { permit, gauge: self.gauge.clone() }
    }
}

/// A part of the budget, given back on drop.
pub(super) struct Share {
    permit: OwnedSemaphorePermit,
    gauge: IntGauge,
}

impl Share {
    fn merge(mut self, mut more: Share) -> Share {
        if let Some(permit) = more.permit.split(more.permit.num_permits()) {
            self.gauge.add(gauge_bytes(permit.num_permits()));
            more.gauge.sub(gauge_bytes(permit.num_permits()));
            self.permit.merge(permit);
        }
        self
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gauge.sub(gauge_bytes(self.permit.num_permits()));
    }
}

fn gauge_bytes(permits: usize) -> i64 {
    i64::try_from(permits * PERMIT_BYTES).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn budget(kib: usize) -> InFlight {
        InFlight::new(Budget::of_bytes(kib * 1024), IntGauge::new("in_flight", "test").unwrap())
    }

    fn free(in_flight: &InFlight) -> (usize, usize) {
        (in_flight.budget.whole.available_permits(), in_flight.budget.partial.available_permits())
    }

    #[tokio::test]
    async fn shares_are_shown_and_given_back() {
        let budget = budget(64);
        let whole = budget.take(1025).await.unwrap();
        assert_eq!((budget.gauge.get(), free(&budget)), (2048, (30, 32)));
        let partial = budget.grow(None, 4 * 1024, Duration::from_secs(1)).await;
        let partial = budget.grow(partial, 10 * 1024, Duration::from_secs(1)).await;
        assert_eq!((budget.gauge.get(), free(&budget)), (12 * 1024, (30, 22)));
        drop((whole, partial));
        assert_eq!((budget.gauge.get(), free(&budget)), (0, (32, 32)));
    }

    #[tokio::test]
    async fn a_frame_larger_than_its_half_takes_all_of_it() {
        let budget = budget(16);
        let share = budget.take(1 << 20).await;
        assert_eq!(free(&budget), (0, 8));
        drop(share);
        assert_eq!(free(&budget), (8, 8));
    }

    #[tokio::test]
    async fn frames_that_are_never_finished_do_not_keep_whole_ones_waiting() {
        let budget = budget(16);
        let _unfinished = budget.grow(None, 1 << 20, Duration::from_secs(1)).await.unwrap();
        let whole = timeout(Duration::from_secs(10), budget.take(1024)).await;
        assert!(whole.is_ok_and(|share| share.is_some()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_cannot_grow_in_time_is_given_up() {
        let budget = budget(16);
        let _held = budget.grow(None, 6 * 1024, Duration::from_secs(1)).await;
        let share = budget.grow(None, 1024, Duration::from_secs(1)).await;
        assert!(budget.grow(share, 4 * 1024, Duration::from_secs(1)).await.is_none());
        assert_eq!(free(&budget), (8, 2));
    }
}
