//! What peers do wrong again and again, told once in a while: a gateway that tries each second must not fill the log.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Between two lines of the log about the same fault at one listener.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The faults told of one listener, with when, and how often each came since.
#[derive(Default)]
pub(super) struct Complaints(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl Complaints {
    /// How often it came since it was told last, this time included, where it is to be told now.
    pub(super) fn due(&self, fault: &'static str) -> Option<u64> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, never) = (Instant::now(), !told.contains_key(fault));
        let (at, times) = told.entry(fault).or_insert((now, 0));
        *times += 1;
        if !never && now.duration_since(*at) < TOLD_EVERY {
            return None;
        }
        *at = now;
        Some(std::mem::take(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_told_once_and_another_beside_it() {
        let complaints = Complaints::default();
        assert_eq!(complaints.due("timeout"), Some(1));
        assert_eq!((complaints.due("timeout"), complaints.due("timeout")), (None, None));
        assert_eq!(complaints.due("expired"), Some(1));
        let long_ago = Instant::now().checked_sub(TOLD_EVERY);
        if let (Some(at), Ok(mut told)) = (long_ago, complaints.0.lock()) {
            told.insert("timeout", (at, 2));
        }
        assert_eq!(complaints.due("timeout"), long_ago.map(|_| 3));
    }
}
