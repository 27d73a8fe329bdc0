//! The figures of a period.
//!
//! | figure | rule |
//! |---|---|
//! | mean, SD | of the readings in mg/dL (mmol/L × 18.0156); SD of a sample (n − 1), from two readings on |
//! | CV | SD ÷ mean × 100 (Danne et al., Diabetes Care 2017;40:1631) |
//! | GMI | 3.31 + 0.02392 × mean in mg/dL (Bergenstal et al., Diabetes Care 2018;41:2275) |
//! | ranges | share of the readings below 54, below 70, up to 180, up to 250 and above, mg/dL; a reading in mmol/L by 3.0, 3.9, 10.0 and 13.9 (Battelino et al., Diabetes Care 2019;42:1593) |
//! | sensor active | readings ÷ readings the period has room for at the sensor's interval, at most 100 % |
//! | days worn | days of 24 hours from the period's start with at least one reading |
//!
//! A reading beyond the scale counts as the scale's end in the mean, and is below or above everything in the ranges. Of
//! one sensor and moment the last told counts, so that a repeat changes nothing and a correction does. A reading within
//! half an interval of the one before, as of a second sensor, is of the same moment and does not count again. A gap is not filled.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::reading::{Bound, Glucose, GlucoseUnit, MG_DL_PER_MMOL_L, Reading};

const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Of a sensor whose interval its readings do not tell.
const INTERVAL_DEFAULT: SignedDuration = SignedDuration::from_mins(5);
const INTERVAL_MAX: SignedDuration = SignedDuration::from_mins(60);
/// The consensus asks for 14 days with 70 % of their readings.
const SUFFICIENT: (u64, f64) = (14, 70.0);

/// A patient's glucose over a period. What cannot be told is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CgmSummary {
    /// Start of the period.
    pub from: Timestamp,
    /// Its end, which is no longer part of it.
    pub to: Timestamp,
    /// Readings that count.
    pub readings: u64,
    /// Of them, beyond either end of the sensor's scale: the mean is no better known than these.
    pub beyond_scale: u64,
    /// Readings of a moment that already had one.
    pub repeats: u64,
    /// Minutes between two readings of the sensor.
    pub interval_minutes: f64,
    /// In which unit most readings came.
    pub unit: GlucoseUnit,
    /// mg/dL.
    pub mean_mg_per_dl: Option<f64>,
    /// mg/dL.
    pub sd_mg_per_dl: Option<f64>,
    /// Coefficient of variation, %.
    pub cv_percent: Option<f64>,
    /// Glucose management indicator, %.
    pub gmi_percent: Option<f64>,
    /// Share of the readings in each range.
    pub ranges: Option<RangeShares>,
    /// Days of 24 hours with a reading.
    pub days_worn: u64,
    /// %.
    pub sensor_active_percent: f64,
    /// 14 days or more with 70 % of their readings: enough to judge by, says the consensus.
    pub sufficient: bool,
}

/// % of the readings in each range; together 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RangeShares {
    /// Below 54 mg/dL.
    pub very_low: f64,
    /// 54 to 69 mg/dL.
    pub low: f64,
    /// 70 to 180 mg/dL.
    pub in_range: f64,
    /// 181 to 250 mg/dL.
    pub high: f64,
    /// Above 250 mg/dL.
    pub very_high: f64,
}

/// The ends of the ranges in one unit.
#[derive(Debug, Clone, Copy)]
struct Bands {
    very_low: f64,
    low: f64,
    high: f64,
    very_high: f64,
}

impl Bands {
    /// As the consensus has them: those in mmol/L are not the converted ones, 10.0 mmol/L being 180.2 mg/dL.
    fn of(unit: GlucoseUnit) -> Bands {
        match unit {
            GlucoseUnit::MgPerDl => Bands { very_low: 54.0, low: 70.0, high: 180.0, very_high: 250.0 },
            GlucoseUnit::MmolPerL => Bands { very_low: 3.0, low: 3.9, high: 10.0, very_high: 13.9 },
        }
    }

    /// 0 very low to 4 very high.
    fn place(self, glucose: &Glucose) -> usize {
        match (glucose.bound, glucose.value) {
            (Some(Bound::Below), _) => 0,
            (Some(Bound::Above), _) => 4,
            (None, value) if value < self.very_low => 0,
            (None, value) if value < self.low => 1,
            (None, value) if value <= self.high => 2,
            (None, value) if value <= self.very_high => 3,
            _ => 4,
        }
    }
}

impl CgmSummary {
    /// Of these readings, in the order they were received; `interval` is the sensor's, else it is told by the readings.
    pub fn of(
        readings: Vec<Reading>,
        (from, to): (Timestamp, Timestamp),
        interval: Option<SignedDuration>,
    ) -> CgmSummary {
        let told = last_told(readings, from, to);
        let interval = interval.unwrap_or_else(|| usual_interval(&told.by_sensor));
        let (counted, near) = moments(&told.by_sensor, interval);
        let values: Vec<f64> = counted.iter().map(|(_, glucose)| glucose.mg_per_dl()).collect();
        let (mean, sd) = mean_and_sd(&values);
        let length = to.duration_since(from);
        let room = (length.as_secs_f64() / interval.as_secs_f64()).floor().max(1.0);
        let active = (values.len() as f64 / room * 100.0).min(100.0);
        let days: BTreeSet<i64> =
            counted.iter().map(|(at, _)| at.duration_since(from).as_secs() / DAY.as_secs()).collect();
        CgmSummary {
            from,
            to,
            readings: values.len() as u64,
            beyond_scale: counted.iter().filter(|(_, glucose)| glucose.bound.is_some()).count() as u64,
            repeats: told.repeats + near,
            interval_minutes: interval.as_secs_f64() / 60.0,
            unit: usual_unit(&counted),
            mean_mg_per_dl: mean,
            sd_mg_per_dl: sd,
            cv_percent: sd.zip(mean).map(|(sd, mean)| sd / mean * 100.0),
            gmi_percent: mean.map(|mean| 3.31 + 0.02392 * mean),
            ranges: shares(&counted),
            days_worn: (days.len() as u64).min(whole_days(length)),
            sensor_active_percent: active,
            sufficient: whole_days(length) >= SUFFICIENT.0 && active >= SUFFICIENT.1,
        }
    }
}

impl CgmSummary {
    /// The mean in the unit most readings came in.
    pub fn mean_in_unit(&self) -> Option<f64> {
        self.mean_mg_per_dl.map(|mean| match self.unit {
            GlucoseUnit::MgPerDl => mean,
            GlucoseUnit::MmolPerL => mean / MG_DL_PER_MMOL_L,
        })
    }
}

/// At least one: calendar days in which clocks change have an hour more or less together.
fn whole_days(length: SignedDuration) -> u64 {
    (length.as_secs_f64() / DAY.as_secs_f64()).round().max(1.0) as u64
}

struct Told {
    by_sensor: BTreeMap<(Timestamp, String), Glucose>,
    repeats: u64,
}

/// Of each sensor and moment in the period, what was told last.
fn last_told(readings: Vec<Reading>, from: Timestamp, to: Timestamp) -> Told {
    let mut told = Told { by_sensor: BTreeMap::new(), repeats: 0 };
    for Reading { at, device, glucose } in readings.into_iter().filter(|one| one.at >= from && one.at < to) {
        let before = match glucose {
            Some(glucose) => told.by_sensor.insert((at, device), glucose),
            None => {
                told.by_sensor.remove(&(at, device));
                None
            }
        };
        told.repeats += u64::from(before.is_some());
    }
    told
}

/// The middle of the times between readings of one sensor, in whole minutes; a gap is none of them.
fn usual_interval(told: &BTreeMap<(Timestamp, String), Glucose>) -> SignedDuration {
    let mut last: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut between: Vec<i64> = Vec::new();
    for (at, device) in told.keys() {
        if let Some(before) = last.insert(device, *at) {
            between
                .extend(Some(at.duration_since(before).as_secs()).filter(|seconds| *seconds <= INTERVAL_MAX.as_secs()));
        }
    }
    between.sort_unstable();
    let Some(middle) = between.get(between.len().saturating_sub(1) / 2) else { return INTERVAL_DEFAULT };
    SignedDuration::from_mins(((middle + 30) / 60).max(1))
}

/// One reading a moment, and how many were of a moment that had one.
fn moments(
    told: &BTreeMap<(Timestamp, String), Glucose>,
    interval: SignedDuration,
) -> (Vec<(Timestamp, Glucose)>, u64) {
    let mut counted: Vec<(Timestamp, Glucose)> = Vec::with_capacity(told.len());
    let mut near = 0;
    for ((at, _), glucose) in told {
        match counted.last() {
            Some((before, _)) if at.duration_since(*before) * 2 < interval => near += 1,
            _ => counted.push((*at, *glucose)),
        }
    }
    (counted, near)
}

fn mean_and_sd(values: &[f64]) -> (Option<f64>, Option<f64>) {
    let count = values.len() as f64;
    if values.is_empty() {
        return (None, None);
    }
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (Some(mean), (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

fn usual_unit(counted: &[(Timestamp, Glucose)]) -> GlucoseUnit {
    let molar = counted.iter().filter(|(_, glucose)| glucose.unit == GlucoseUnit::MmolPerL).count();
    if molar * 2 > counted.len() { GlucoseUnit::MmolPerL } else { GlucoseUnit::MgPerDl }
}

fn shares(counted: &[(Timestamp, Glucose)]) -> Option<RangeShares> {
    if counted.is_empty() {
        return None;
    }
    let mut counts = [0.0_f64; 5];
    counted.iter().for_each(|(_, glucose)| counts[Bands::of(glucose.unit).place(glucose)] += 1.0);
    let [very_low, low, in_range, high, very_high] = counts.map(|count| count / counted.len() as f64 * 100.0);
    Some(RangeShares { very_low, low, in_range, high, very_high })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn start() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    fn reading(second: i64, value: f64, unit: GlucoseUnit) -> Reading {
        let glucose = Some(Glucose { value, unit, bound: None });
        Reading { at: start() + SignedDuration::from_secs(second), device: "A".into(), glucose }
    }

    fn milligrams(values: &[f64]) -> Vec<Reading> {
        values.iter().enumerate().map(|(n, value)| reading(300 * n as i64, *value, GlucoseUnit::MgPerDl)).collect()
    }

    fn of(readings: Vec<Reading>, days: i64) -> CgmSummary {
        CgmSummary::of(readings, (start(), start() + SignedDuration::from_hours(24 * days)), None)
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() < 5e-6)
    }

    #[test]
    fn gmi_is_that_of_the_published_table() {
        // Bergenstal 2018, table 1: mean glucose and GMI.
        for (mean, gmi) in [
            (100.0, "5.7"),
            (125.0, "6.3"),
            (150.0, "6.9"),
            (175.0, "7.5"),
            (200.0, "8.1"),
            // The example of HL7/cgm.
            (145.0, "6.8"),
            (225.0, "8.7"),
            (250.0, "9.3"),
            (275.0, "9.9"),
            (300.0, "10.5"),
            (350.0, "11.7"),
        ] {
            let summary = of(milligrams(&[mean, mean]), 1);
            assert_eq!(format!("{:.1}", summary.gmi_percent.unwrap()), gmi, "{mean}");
        }
    }

    #[test]
    fn the_figures_of_a_day_are_those_of_an_independent_calculation() {
        // Python: statistics.mean, statistics.stdev of the same list; shares counted by hand.
        let summary = of(milligrams(&[50.0, 53.9, 54.0, 69.0, 70.0, 110.0, 180.0, 181.0, 250.0, 251.0]), 1);
        assert!(near(summary.mean_mg_per_dl, 126.89), "{summary:?}");
        assert!(near(summary.sd_mg_per_dl, 81.468_119), "{summary:?}");
        assert!(near(summary.cv_percent, 64.203_734), "{summary:?}");
        assert!(near(summary.gmi_percent, 6.345_209), "{summary:?}");
        let shares = RangeShares { very_low: 20.0, low: 20.0, in_range: 30.0, high: 20.0, very_high: 10.0 };
        assert_eq!(summary.ranges, Some(shares));
        assert_eq!((summary.readings, summary.interval_minutes, summary.days_worn), (10, 5.0, 1));
        assert!(near(Some(summary.sensor_active_percent), 10.0 / 288.0 * 100.0));
    }

    #[test]
    fn a_reading_in_mmol_is_in_the_range_its_own_unit_has() {
        let molar = |value| reading(0, value, GlucoseUnit::MmolPerL);
        let place = |value| {
            let shares = of(vec![molar(value)], 1).ranges.unwrap();
            [shares.very_low, shares.low, shares.in_range, shares.high, shares.very_high].iter().position(|s| *s > 0.0)
        };
        for (value, wanted) in [(2.9, 0), (3.0, 1), (3.8, 1), (3.9, 2), (10.0, 2), (10.1, 3), (13.9, 3), (14.0, 4)] {
            assert_eq!(place(value), Some(wanted), "{value} mmol/L");
        }
        let summary = of(vec![molar(10.0)], 1);
        assert_eq!((summary.mean_mg_per_dl, summary.unit), (Some(180.156), GlucoseUnit::MmolPerL));
    }

    #[test]
    fn of_one_moment_the_last_told_counts_and_a_repeat_changes_nothing() {
        let mut readings = milligrams(&[100.0, 120.0, 140.0]);
        let once = of(readings.clone(), 1);
        readings.extend(readings.clone());
        let twice = of(readings.clone(), 1);
        assert_eq!(CgmSummary { repeats: 0, ..twice.clone() }, once);
        assert_eq!(twice.repeats, 3);
        readings.push(reading(300, 180.0, GlucoseUnit::MgPerDl));
        assert!(near(of(readings.clone(), 1).mean_mg_per_dl, 140.0));
        readings.push(Reading { glucose: None, ..reading(300, 0.0, GlucoseUnit::MgPerDl) });
        assert_eq!(of(readings, 1).readings, 2);
    }

    #[test]
    fn a_second_sensor_does_not_count_the_same_moment_again() {
        let mut readings = milligrams(&[100.0; 12]);
        let other = |n: i64| Reading { device: "B".into(), ..reading(300 * n + 90, 200.0, GlucoseUnit::MgPerDl) };
        readings.extend((0..12).map(other));
        let summary = of(readings, 1);
        assert_eq!((summary.readings, summary.repeats, summary.interval_minutes), (12, 12, 5.0));
    }

    #[test]
    fn beyond_the_scale_is_its_end_in_the_mean_and_the_outermost_range() {
        let mut readings = milligrams(&[60.0, 260.0]);
        readings[0].glucose = Some(Glucose { value: 60.0, unit: GlucoseUnit::MgPerDl, bound: Some(Bound::Below) });
        let summary = of(readings, 1);
        let shares = summary.ranges.unwrap();
        assert_eq!((shares.very_low, shares.very_high, summary.beyond_scale), (50.0, 50.0, 1));
        assert!(near(summary.mean_mg_per_dl, 160.0));
    }

    #[test]
    fn a_period_is_told_by_its_own_readings_alone_and_a_gap_is_not_filled() {
        let day = 24 * 3600;
        let readings: Vec<Reading> = [-1, 0, 300, 600, 2 * day, 14 * day - 1, 14 * day]
            .map(|at| reading(at, 100.0, GlucoseUnit::MgPerDl))
            .into();
        let summary = of(readings, 14);
        assert_eq!((summary.readings, summary.days_worn, summary.sufficient), (5, 3, false));
        let full: Vec<Reading> =
            (0..14 * 288 * 7 / 10 + 1).map(|n| reading(300 * n, 100.0, GlucoseUnit::MgPerDl)).collect();
        assert!(of(full.clone(), 14).sufficient);
        assert!(!of(full, 15).sufficient);
    }

    #[test]
    fn nothing_is_told_where_nothing_was_read() {
        let none = of(Vec::new(), 1);
        assert_eq!((none.mean_mg_per_dl, none.gmi_percent, none.ranges), (None, None, None));
        assert_eq!((none.readings, none.days_worn, none.sensor_active_percent), (0, 0, 0.0));
        let one = of(milligrams(&[100.0]), 1);
        assert_eq!((one.sd_mg_per_dl, one.cv_percent), (None, None));
    }
}
