//! A continuous glucose monitor: one value every five minutes from a believable life, a pure function of seed and time.
//! Meals raise it, insulin lowers it again, some nights go too low, some dinners far too high, and the sensor is
//! changed every ten days.

use crate::id::{Kind, MessageId};
use crate::pcd::{self, Draft, Obx, Origin};
use crate::{mix, unit};
use jiff::{SignedDuration, Timestamp};

/// Seconds between two values.
pub const INTERVAL_SECONDS: i64 = 300;
const DAY: i64 = 1440;
const SENSOR_DAYS: i64 = 10;
const WARM_UP_MINUTES: i64 = 120;
/// What the sensor can tell, in mg/dL.
const MEASURABLE: std::ops::RangeInclusive<f64> = 40.0..=400.0;

/// A CGM and its wearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cgm {
    /// Which device; also its patient.
    pub index: u32,
    seed: u64,
}

/// What the CGM says at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reading {
    /// A new sensor warms up: no value.
    WarmUp,
    /// Below 40 mg/dL.
    Low,
    /// Above 400 mg/dL.
    High,
    /// Glucose in mg/dL and its change in mg/dL each minute.
    Value(u32, f64),
}

impl Cgm {
    /// The device of this number in a simulation.
    pub fn new(index: u32, seed: u64) -> Cgm {
        Cgm { index, seed: mix(seed ^ 0xC6A1, u64::from(index)) }
    }

    /// What it says at that time.
    pub fn reading(&self, at: Timestamp) -> Reading {
        let minute = at.as_second().div_euclid(60);
        if self.sensor_age(minute) < WARM_UP_MINUTES {
            return Reading::WarmUp;
        }
        let glucose = self.glucose(minute);
        match glucose {
            low if low < *MEASURABLE.start() => Reading::Low,
            high if high > *MEASURABLE.end() => Reading::High,
            _ => Reading::Value(glucose.round() as u32, (glucose - self.glucose(minute - 15)) / 15.0),
        }
    }

    /// Minutes since the sensor was put on.
    pub fn sensor_age(&self, minute: i64) -> i64 {
        let life = SENSOR_DAYS * DAY;
        (minute + (unit(self.seed, 1) * life as f64) as i64).rem_euclid(life)
    }

    /// Glucose in mg/dL, 30 to 480.
    pub fn glucose(&self, minute: i64) -> f64 {
        let day = minute.div_euclid(DAY);
        let base = 95.0 + 35.0 * unit(self.seed, 2);
        let dawn = 18.0 * bump(minute - day * DAY - 390, 110.0);
        // Yesterday's dinner is still felt after midnight.
        let eaten: f64 = [day - 1, day].iter().map(|&day| self.day(day, minute - day * DAY)).sum();
        let drift = 7.0 * self.noise(minute, 25, 3) + 2.0 * self.noise(minute, 5, 4);
        (base + dawn + eaten + drift).clamp(30.0, 480.0)
    }

    /// What the meals and the night of one day add, `minute` counted from its midnight.
    fn day(&self, day: i64, minute: i64) -> f64 {
        let chance = |what: u64| unit(self.seed, mix(day as u64, what));
        let meals = [(450, 60.0, 80.0), (750, 55.0, 70.0), (1115, 60.0, 90.0)];
        let meals = (0u64..).step_by(4).zip(meals).map(|(number, (at, least, more))| {
            let since = minute - at - (60.0 * (chance(number) - 0.5)) as i64;
            let rise = least + more * chance(number + 1);
            // Now and then the dinner's insulin is forgotten.
            if number == 8 && chance(20) < 0.12 {
                return (rise + 220.0) * meal(since, 150.0);
            }
            rise * meal(since, 75.0) - 0.3 * rise * bump(since - 230, 60.0)
        });
        let night = if chance(21) < 0.2 { -70.0 - 30.0 * chance(22) } else { 0.0 };
        meals.sum::<f64>() + night * bump(minute - 180, 50.0)
    }

    /// A smooth wandering between -1 and 1, with a new direction every `step` minutes.
    fn noise(&self, minute: i64, step: i64, what: u64) -> f64 {
        let node = |n: i64| 2.0 * unit(self.seed, mix(n as u64, what + 100)) - 1.0;
        let (before, share) = (minute.div_euclid(step), minute.rem_euclid(step) as f64 / step as f64);
        node(before) * (1.0 - share) + node(before + 1) * share
    }

    /// The report of that time.
    pub fn message(&self, at: Timestamp, id: MessageId, canary: Option<String>) -> Vec<u8> {
        let patient = 100_000 + self.index;
        let origin = Origin { gateway: "CGM_GATEWAY", gateway_eui: 0x0A00_27FF_FE00_0020, patient, canary };
        let time = pcd::dtm(at);
        let mut draft = Draft::begin(Kind::R01, id, &origin, &time);
        draft.order(&origin, &id.to_string(), "528409^MDC_DEV_SPEC_PROFILE_CGM^MDC", &time, "");
        let device = pcd::eui_64(0x0A00_C6FF_FE00_0000 + u64::from(self.index));
        draft.device("528409^MDC_DEV_SPEC_PROFILE_CGM^MDC", "1.0.0.0", &device);
        draft.device_time("1.0.0.1", &time);
        self.value(self.reading(at), &time, &mut draft);
        let age = self.sensor_age(at.as_second().div_euclid(60)).to_string();
        draft.number("8418040^MDC_CGM_SENSOR_RUN_TIME^MDC", "1.0.0.4", &age, pcd::MIN);
        draft.setting("8418044^MDC_CGM_SENSOR_SAMPLE_INTERVAL^MDC", "1.0.0.5", "5", pcd::MIN);
        draft.finish()
    }

    fn value(&self, reading: Reading, time: &str, draft: &mut Draft) {
        let plain = Obx {
            value_type: "NM",
            term: "160212^MDC_CONC_GLU_ISF^MDC",
            path: "1.0.0.2",
            units: pcd::MG_PER_DL,
            range: "70-180",
            status: "R",
            time,
            ..Obx::default()
        };
        match reading {
            // A missing value has its reason in OBX-8 and then X as status (TF-2 B.8.5-6).
            Reading::WarmUp => {
                draft.obx(&Obx { value_type: "", units: "", interpretation: "NAV", status: "X", ..plain })
            }
            Reading::Low => draft.obx(&Obx { value_type: "SN", value: "<^40", interpretation: "LL", ..plain }),
            Reading::High => draft.obx(&Obx { value_type: "SN", value: ">^400", interpretation: "HH", ..plain }),
            Reading::Value(glucose, trend) => {
                let interpretation = match glucose {
                    ..70 => "L",
                    181.. => "H",
                    _ => "",
                };
                draft.obx(&Obx { value: &glucose.to_string(), interpretation, ..plain });
                let term = "8418008^MDC_CONC_GLU_TREND^MDC";
                draft.number(term, "1.0.0.3", &format!("{trend:.1}"), pcd::MG_PER_DL_PER_MIN);
            }
        }
    }
}

/// The next time a value is due, at or after `at`; devices are spread over the five minutes.
pub fn next_due(at: Timestamp, index: u32) -> Timestamp {
    let offset = i64::from(index) * 37 % INTERVAL_SECONDS;
    let wait = (offset - at.as_second()).rem_euclid(INTERVAL_SECONDS);
    at + SignedDuration::from_secs(wait)
}

/// A meal's rise: nothing before, 1 after `peak` minutes, gone after some hours.
fn meal(since: i64, peak: f64) -> f64 {
    let x = since as f64 / peak;
    if x <= 0.0 { 0.0 } else { (x * (1.0 - x).exp()).powi(2) }
}

fn bump(distance: i64, width: f64) -> f64 {
    (-(distance as f64 / width).powi(2) / 2.0).exp()
}
