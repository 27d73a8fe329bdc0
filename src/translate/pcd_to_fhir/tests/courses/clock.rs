//! Courses by a clock that is ahead, by so much and then by so much, whether that is told or not. One that is set by less than a
//! minute without a word is for docs/FHIR.md: its events are of the wrong order, and nothing shows it.

use std::collections::BTreeSet;

use super::*;
use crate::translate::pcd_to_fhir::tests::context;

const CLOCK: &str = "0^MDC_EVT_PUMP_DEVICE_TIME_CHANGED^MDC";
/// Seconds by which a time may be off that was received as it happened.
const OFF: i64 = 65;
/// The clock is set among so many messages.
const AMONG: usize = 12;

/// From so many messages on, ahead by so much; whether the pump says that it was set.
fn settings_of_clock() -> impl Strategy<Value = Vec<(prop::sample::Index, i64, bool)>> {
    let ahead = prop::sample::select(vec![0_i64, 0, 300, 3_600, 10_800]);
    prop::collection::vec((any::<prop::sample::Index>(), ahead, any::<bool>()), 1..5)
}

/// What is said and when truly, by the clock.
fn by_clock(said: &[Said], changes: &[(prop::sample::Index, i64, bool)]) -> Vec<(Said, i64)> {
    let mut ahead = 0;
    let mut told = Vec::new();
    for (n, said) in said.iter().enumerate() {
        for (_, to, is_told) in changes.iter().filter(|(at, ..)| at.index(AMONG) == n) {
            if *is_told && *to != ahead {
                told.push((
                    Said { event: CLOCK, at: said.at + to, volume: None, total: None, ..said.clone() },
                    said.at,
                ));
            }
            ahead = *to;
        }
        told.push((Said { at: said.at + ahead, ..said.clone() }, said.at));
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A time is right or absent, and so is a dose; what has ended is not left running.
    #[test]
    fn a_clock_that_is_ahead_leaves_no_wrong_time(
        mut steps in plain(),
        changes in settings_of_clock(),
        delays in prop::collection::vec(0_i64..4, 1..9),
    ) {
        tidy(&mut steps);
        let course = pump::course(1, PLAIN, &steps);
        let mut record = Record::default();
        let begin: jiff::Timestamp = "2026-03-01T10:00:00+01:00".parse().unwrap();
        for (n, (said, truly)) in by_clock(&course.said, &changes).iter().enumerate() {
            let received = truly + delays[n % delays.len()];
            let received_at = begin + jiff::SignedDuration::from_secs(received);
            record.take_at(&SETTINGS, said, Context { received_at, ..context() });
        }
        let near = |one: i64, two: i64| (one - two).abs() <= OFF;
        for kept in record.kept.values() {
            let own: Vec<&Piece> = course.truth.iter().filter(|piece| kept.is_of(piece)).collect();
            let start = kept.time("start").is_none_or(|at| own.iter().any(|piece| near(piece.start, at)));
            let ends = course.ends.iter().map(|end| end.3);
            let end = kept.time("end").is_none_or(|at| {
                own.iter().any(|piece| near(piece.end, at)) || ends.clone().any(|end| near(end, at))
            });
            prop_assert!(start && end, "{}: {:?}", kept.describe(), own);
            let sums: BTreeSet<i64> = (0..own.len())
                .flat_map(|from| own[from..].iter().scan(0, |sum, piece| { *sum += piece.volume; Some(*sum) }))
                .collect();
            prop_assert!(kept.dose().is_none_or(|dose| sums.contains(&dose)), "{}: {:?}", kept.describe(), own);
            prop_assert!(kept.status() != "in-progress", "{}: {:?}", kept.describe(), own);
        }
    }
}
