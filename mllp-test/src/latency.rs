//! Times to acknowledgement in fixed memory: 128 steps to each doubling, so a percentile is at most 1 % too high.

use std::time::Duration;

const STEPS: u64 = 128;

/// A histogram of durations.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let slot = slot(took.as_micros() as u64);
        if self.counts.len() <= slot {
            self.counts.resize(slot + 1, 0);
        }
        self.counts[slot] += 1;
        self.total += 1;
        self.max = self.max.max(took);
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: &Latency) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// Those counted since `earlier`, which must be a copy of this one from before.
    pub fn since(&self, earlier: &Latency) -> Latency {
        let before = |slot: usize| earlier.counts.get(slot).copied().unwrap_or(0);
        let counts: Vec<u64> = self.counts.iter().enumerate().map(|(slot, count)| count - before(slot)).collect();
        let last = counts.iter().rposition(|&count| count > 0);
        let max = last.map_or(Duration::ZERO, |slot| Duration::from_micros(upper(slot)).min(self.max));
        Latency { counts, total: self.total - earlier.total, max }
    }

    /// The duration that `share` (0.0 to 1.0) of all stayed within; zero when nothing was counted.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(upper(slot)).min(self.max);
            }
        }
        self.max
    }

    /// The longest of all.
    pub fn max(&self) -> Duration {
        self.max
    }
}

fn slot(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let shift = micros.ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

fn upper(slot: usize) -> u64 {
    let slot = slot as u64;
    if slot < 2 * STEPS {
        return slot;
    }
    let shift = slot / STEPS - 1;
    (((slot % STEPS) + STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_at_most_one_percent_too_high_and_never_too_low() {
        for micros in (0..100_000).chain([1 << 30, u64::MAX >> 20]) {
            let upper = upper(slot(micros));
            assert!(upper >= micros && upper <= micros + micros / 127, "{micros} became {upper}");
        }
        let mut latency = Latency::default();
        (1..=1000).for_each(|millis| latency.record(Duration::from_millis(millis)));
        let median = latency.percentile(0.5).as_millis();
        assert!((500..=505).contains(&median), "{median}");
        assert_eq!(latency.percentile(1.0), Duration::from_secs(1));
        assert_eq!(Latency::default().percentile(0.99), Duration::ZERO);
    }

    #[test]
    fn what_was_counted_since_a_copy_is_told_apart_from_what_was_before() {
        let mut latency = Latency::default();
        latency.record(Duration::from_secs(9));
        let earlier = latency.clone();
        assert_eq!(latency.since(&earlier).percentile(0.99), Duration::ZERO);
        (0..100).for_each(|_| latency.record(Duration::from_millis(1)));
        let since = latency.since(&earlier);
        assert!(since.percentile(0.99) < Duration::from_millis(2) && since.max() < Duration::from_millis(2));
        latency.record(Duration::from_secs(1));
        assert!(latency.since(&earlier).max() >= Duration::from_secs(1));
    }
}
