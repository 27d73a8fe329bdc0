//! Times to acknowledgement in fixed memory: 16 steps to each doubling, so a percentile is at most 7 % too high.

use std::time::Duration;

const STEPS: u64 = 16;

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
    fn a_percentile_is_at_most_seven_percent_too_high_and_never_too_low() {
        for micros in (0..100_000).chain([1 << 30, u64::MAX >> 20]) {
            let upper = upper(slot(micros));
            assert!(upper >= micros && upper <= micros + micros / 14, "{micros} became {upper}");
        }
        let mut latency = Latency::default();
        (1..=1000).for_each(|millis| latency.record(Duration::from_millis(millis)));
        let median = latency.percentile(0.5).as_millis();
        assert!((500..=535).contains(&median), "{median}");
        assert_eq!(latency.percentile(1.0), Duration::from_secs(1));
        assert_eq!(Latency::default().percentile(0.99), Duration::ZERO);
    }
}
