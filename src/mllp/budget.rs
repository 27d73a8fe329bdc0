//! The engine's byte budget for frames that are read and not yet answered.
//!
//! A frame holds its share from before it is handed on until its answer is written, and one that is still being read
//! holds a share for what it needs above a small free part. A whole frame that holds a share never waits for more, so two
//! frames can never wait for each other for ever.

use std::{sync::Arc, time::Duration};

use prometheus::IntGauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

const PERMIT_BYTES: usize = 1024;

/// The budget as one listening address sees it.
#[derive(Clone)]
pub(super) struct InFlight {
    permits: Arc<Semaphore>,
    /// A frame larger than the whole budget would wait for ever: it is charged with all of it.
    permits_max: usize,
    gauge: IntGauge,
}

impl InFlight {
    pub(super) fn new(permits: Arc<Semaphore>, gauge: IntGauge) -> InFlight {
        let permits_max = permits.available_permits().max(1);
        InFlight { permits, permits_max, gauge }
    }

    /// The share of a frame of so many bytes, waited for. `None` once the budget is closed.
    pub(super) async fn take(&self, bytes: usize) -> Option<Share> {
        let permits = self.permits_for(bytes);
        let permit = self.permits.clone().acquire_many_owned(permits).await.ok()?;
        Some(self.share(permit))
    }

    /// `share` made large enough for so many bytes; `None` where that took longer than `limit`.
    pub(super) async fn grow(&self, share: Option<Share>, bytes: usize, limit: Duration) -> Option<Share> {
        let held = share.as_ref().map_or(0, |share| share.permit.num_permits());
        let missing = (self.permits_for(bytes) as usize).saturating_sub(held);
        let more = self.permits.clone().acquire_many_owned(u32::try_from(missing).unwrap_or(u32::MAX));
        let more = self.share(timeout(limit, more).await.ok()?.ok()?);
        Some(match share {
            None => more,
            Some(share) => share.merge(more),
        })
    }

    fn permits_for(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(PERMIT_BYTES).clamp(1, self.permits_max)).unwrap_or(u32::MAX)
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
        InFlight::new(Arc::new(Semaphore::new(kib)), IntGauge::new("in_flight", "test").unwrap())
    }

    #[tokio::test]
    async fn shares_are_shown_and_given_back() {
        let budget = budget(64);
        let share = budget.take(1025).await.unwrap();
        assert_eq!((budget.gauge.get(), budget.permits.available_permits()), (2048, 62));
        let share = budget.grow(Some(share), 10 * 1024, Duration::from_secs(1)).await;
        assert_eq!((budget.gauge.get(), budget.permits.available_permits()), (10 * 1024, 54));
        drop(share);
        assert_eq!((budget.gauge.get(), budget.permits.available_permits()), (0, 64));
    }

    #[tokio::test]
    async fn a_frame_larger_than_the_budget_takes_all_of_it() {
        let budget = budget(8);
        let share = budget.take(1 << 20).await;
        assert_eq!(budget.permits.available_permits(), 0);
        drop(share);
        assert_eq!(budget.permits.available_permits(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_cannot_grow_in_time_is_given_up() {
        let budget = budget(8);
        let _held = budget.take(6 * 1024).await;
        let share = budget.take(1024).await;
        assert!(budget.grow(share, 4 * 1024, Duration::from_secs(1)).await.is_none());
        assert_eq!(budget.permits.available_permits(), 2);
    }
}
