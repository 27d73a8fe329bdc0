//! What goes wrong with each device, and when: decided before the first message, by seed and number alone.

use crate::{mix, unit};

/// Minutes until each device's interval, clock and counter must be known.
const WARM_UP: i64 = 40;
/// Minutes in which one thing goes wrong, at most for [`LONGEST`], and shows that it is over.
const SLOT: i64 = 150;
const LONGEST: i64 = 90;
/// Minutes left free around a restart of the engine.
const AROUND_RESTART: i64 = 75;

/// Something that goes wrong with a device, or looks like it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// So few reports are left out that it is no silence.
    Pause {
        /// One or two.
        reports: i64,
    },
    /// It is off.
    Silence {
        /// For so long.
        minutes: i64,
        /// It sends an alert in the middle, which is no report.
        alert: bool,
    },
    /// Messages are made, numbered, and never arrive.
    Lost {
        /// So many in a row.
        messages: i64,
    },
    /// A message comes again.
    Repeat {
        /// So often.
        times: u64,
    },
    /// The line is down; what was measured meanwhile comes afterwards.
    Offline {
        /// For so long.
        minutes: i64,
        /// The backlog comes a few at a time behind each live report, not at once before them.
        trickles: bool,
    },
    /// Its clock is set.
    ClockSet {
        /// By so much.
        seconds: i64,
    },
    /// The patient, unknown so far, is known from now on.
    PatientKnown,
    /// It is brought to another bed.
    BedSwap,
}

impl Fault {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Pause { .. } => "pause",
            Fault::Silence { .. } => "silence",
            Fault::Lost { .. } => "lost",
            Fault::Repeat { .. } => "repeat",
            Fault::Offline { trickles: false, .. } => "backlog",
            Fault::Offline { trickles: true, .. } => "backlog-among-live",
            Fault::ClockSet { seconds: 3600 } => "summer-time",
            Fault::ClockSet { .. } => "clock-set",
            Fault::PatientKnown => "patient-known",
            Fault::BedSwap => "bed-swap",
        }
    }
}

/// The time table of a ward.
#[derive(Debug, Clone, Copy)]
pub struct Timetable {
    slots: i64,
    /// The slot before which the engine is restarted.
    restart_before: Option<i64>,
}

impl Timetable {
    /// As many slots as fit.
    pub fn of(minutes: i64, restart: bool) -> Timetable {
        let around = if restart { AROUND_RESTART } else { 0 };
        let slots = ((minutes - WARM_UP - around) / SLOT).max(0);
        Timetable { slots, restart_before: restart.then_some((slots + 1) / 2) }
    }

    /// When the engine is stopped, in minutes.
    pub fn restart_at(&self) -> Option<i64> {
        self.restart_before.map(|slot| WARM_UP + SLOT * slot + 5)
    }

    /// When a slot begins, in minutes.
    fn begins(&self, slot: i64) -> i64 {
        let moved = self.restart_before.is_some_and(|before| slot >= before);
        WARM_UP + SLOT * slot + if moved { AROUND_RESTART } else { 0 }
    }

    /// A device's faults with their times in seconds from the start, in order.
    pub fn faults(&self, seed: u64, device: u32) -> Vec<(i64, Fault)> {
        let seed = mix(seed, u64::from(device));
        let fault = |slot: i64| {
            // All clocks of a fifth of the ward are set at the same time.
            if slot == 1 && device.is_multiple_of(5) {
                return ((self.begins(slot) + 10) * 60, Fault::ClockSet { seconds: 3600 });
            }
            let chance = |what: u64| unit(seed, mix(slot as u64, what));
            ((self.begins(slot) * 60) + (chance(0) * 1200.0) as i64, one(chance))
        };
        (0..self.slots).map(fault).collect()
    }
}

fn one(chance: impl Fn(u64) -> f64) -> Fault {
    let between = |what: u64, least: i64, most: i64| least + (chance(what) * (most - least + 1) as f64) as i64;
    match between(1, 0, 11) {
        0 => Fault::Pause { reports: between(2, 1, 2) },
        1 | 2 => Fault::Silence { minutes: between(2, 6, LONGEST), alert: chance(3) < 0.5 },
        3 => Fault::Lost { messages: between(2, 1, 2) },
        4 => Fault::Lost { messages: between(2, 8, 30) },
        5 => Fault::Repeat { times: between(2, 1, 3) as u64 },
        6 | 7 => Fault::Offline { minutes: between(2, 10, LONGEST), trickles: false },
        8 => Fault::Offline { minutes: between(2, 10, LONGEST), trickles: true },
        9 => {
            let minutes = between(2, 5, 120);
            Fault::ClockSet { seconds: 60 * if chance(3) < 0.5 { -minutes } else { minutes } }
        }
        10 => Fault::PatientKnown,
        _ => Fault::BedSwap,
    }
}

/// How far a device's clock is off from the start, in seconds.
pub fn skew(seed: u64, device: u32) -> i64 {
    match (unit(mix(seed, u64::from(device)), 99) * 10.0) as u32 {
        0 => 3600,
        1 => -3600,
        2 => 7,
        3 => -25,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_fault_is_met_in_a_ward_and_each_has_time_to_show() {
        let day = Timetable::of(1440, true);
        let all: Vec<_> = (0..100).map(|device| day.faults(1, device)).collect();
        let names: BTreeSet<_> = all.iter().flatten().map(|(_, fault)| fault.name()).collect();
        assert_eq!(names.len(), 10, "{names:?}");
        let restart = day.restart_at().unwrap() * 60;
        for faults in &all {
            assert!(faults.len() >= 8);
            assert!(faults.windows(2).all(|pair| pair[1].0 - pair[0].0 >= (SLOT - 20) * 60));
            assert!(faults.iter().all(|(at, _)| *at + (LONGEST + 30) * 60 < restart || *at > restart + 60 * 60));
            assert!(faults.iter().all(|(at, _)| at + (LONGEST + 30) * 60 <= 1440 * 60));
        }
        assert_eq!(day.faults(1, 7), day.faults(1, 7));
        assert_ne!(day.faults(1, 7), day.faults(2, 7));
    }
}
