//! Courses of infusions on several pumps, with messages lost, repeated and late, against a model that knows what was truly
//! given: a dose is right or absent, nobody gets another's, and an infusion ends by its own end alone.

mod account;
mod clock;
mod pump;

use std::sync::LazyLock;

use proptest::prelude::*;

use self::{
    account::{Kept, Record},
    pump::{COMPLETE, Course, Flow, Habits, Piece, START, STOP, Said, Step},
};
use super::{super::*, settings};

static SETTINGS: LazyLock<PcdToFhir> = LazyLock::new(settings);

/// What becomes of a message on its way.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Arrives,
    Lost,
    /// Once more, after so many others.
    Repeated(usize),
    /// After so many others.
    Late(usize),
}

fn repeated() -> impl Strategy<Value = Fate> {
    prop_oneof![4 => Just(Fate::Arrives), 1 => (0_usize..6).prop_map(Fate::Repeated)]
}

fn any_fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Arrives),
        2 => Just(Fate::Lost),
        1 => (0_usize..6).prop_map(Fate::Repeated),
        1 => (1_usize..8).prop_map(Fate::Late),
    ]
}

/// All pumps' messages by their times, each as it fares.
fn sent(courses: &[Course], fates: &[Fate]) -> Vec<Said> {
    let mut said: Vec<&Said> = courses.iter().flat_map(|course| &course.said).collect();
    said.sort_by_key(|said| said.at);
    let mut arrivals = Vec::new();
    for (n, said) in said.into_iter().enumerate() {
        match fates[n % fates.len()] {
            Fate::Arrives => arrivals.push((n * 2, said)),
            Fate::Lost => {}
            Fate::Repeated(after) => arrivals.extend([(n * 2, said), ((n + after) * 2 + 1, said)]),
            Fate::Late(after) => arrivals.push(((n + after) * 2 + 1, said)),
        }
    }
    arrivals.sort_by_key(|(n, _)| *n);
    arrivals.into_iter().map(|(_, said)| said.clone()).collect()
}

fn recorded(said: &[Said], mut each: impl FnMut(&Record)) -> Record {
    let mut record = Record::default();
    for said in said {
        record.take(&SETTINGS, said);
        each(&record);
    }
    record
}

fn truth(courses: &[Course]) -> Vec<Piece> {
    courses.iter().flat_map(|course| course.truth.iter().copied()).collect()
}

/// What is over ended with a piece of its own, or was cleared.
fn ends_by_its_own_end(kept: &Kept, courses: &[Course]) -> bool {
    let Some(end) = kept.time("end") else { return true };
    let own = |(pump, patient, drug, at): &(u8, u8, u8, i64)| {
        (*pump, *patient, *drug, *at) == (kept.pump, kept.patient(), kept.drug(), end)
    };
    truth(courses).iter().any(|piece| kept.is_of(piece) && piece.end == end)
        || courses.iter().flat_map(|course| &course.ends).any(own)
}

/// Steps of one plain pump: runs in one programme after another.
fn plain() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(prop_oneof![4 => pump::run(pump::given()), 1 => pump::programme()], 1..9)
}

/// No volume is flagged and nothing is given in no time at all.
fn tidy(steps: &mut [Step]) {
    for step in steps {
        if let Step::Run { flow, flagged, .. } = step {
            *flagged = false;
            flow.iter_mut().for_each(|flow| {
                if let Flow::Given { seconds, .. } = flow {
                    *seconds = (*seconds).max(7);
                }
            });
        }
    }
}

const PLAIN: Habits = Habits {
    volume: true,
    total: true,
    total_has_bolus: true,
    volume_has_bolus: false,
    flows_beside_bolus: false,
    clears_volume: false,
    programme_clears: false,
    order: true,
    mode: true,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is lost: every dose is there, and right; each piece is in one administration; the rate is the one it runs at.
    #[test]
    fn what_is_told_whole_is_written_whole(
        mut steps in prop::collection::vec(plain(), 1..3),
        told in prop::sample::select(vec![(true, false), (true, true), (false, true)]),
        fates in prop::collection::vec(repeated(), 1..30),
        order in any::<bool>(),
    ) {
        steps.iter_mut().for_each(|steps| tidy(steps));
        let habits = Habits { volume: told.0, total: told.1, order, ..PLAIN };
        let courses: Vec<Course> = (1..).zip(&steps).map(|(n, steps)| pump::course(n, habits, steps)).collect();
        let record = recorded(&sent(&courses, &fates), |_| {});
        let truth = truth(&courses);
        let mut pieces = 0;
        for kept in record.kept.values() {
            prop_assert_eq!(kept.dose(), Some(kept.given(&truth)), "{}", kept.describe());
            prop_assert!(matches!(kept.status(), "on-hold" | "completed" | "stopped"), "{}", kept.describe());
            prop_assert!(ends_by_its_own_end(kept, &courses), "{}", kept.describe());
            pieces += kept.pieces(&truth).len();
        }
        prop_assert_eq!(pieces, truth.len());
    }

    /// Whatever a pump does and counts: what is repeated adds nothing, and a dose is right or absent.
    #[test]
    fn a_dose_is_right_or_absent(
        mut steps in prop::collection::vec((pump::habits(), pump::steps()), 1..3),
        fates in prop::collection::vec(repeated(), 1..30),
    ) {
        // Nothing in a total alone says what of it was a bolus.
        steps.iter_mut().for_each(|(habits, _)| habits.mode |= !habits.volume);
        let courses: Vec<Course> = (1..).zip(&steps).map(|(n, (habits, steps))| pump::course(n, *habits, steps)).collect();
        let truth = truth(&courses);
        // What alone began anew does not show it, unless it is less than before; nor does a total that counted a bolus
        // before, and then as much as the run.
        let blind = |habits: &Habits, steps: &[Step]| {
            !habits.volume || habits.clears_volume || habits.total_has_bolus && has_bolus(steps)
        };
        let blind: Vec<bool> = steps.iter().map(|(habits, steps)| blind(habits, steps) && clears_untold(steps)).collect();
        let check = |record: &Record| {
            for kept in record.kept.values() {
                let (dose, given) = (kept.dose().unwrap_or_default(), kept.given(&truth));
                let over = kept.dose().is_some() && kept.status() != "in-progress";
                let says_mode = steps[usize::from(kept.pump) - 1].0.mode;
                let right = if over { dose == given } else { kept.is_sum(&truth) };
                let right = right || dose <= given && (blind[usize::from(kept.pump) - 1] || !says_mode);
                assert!(right, "{}: {:?}", kept.describe(), kept.pieces(&truth));
                assert!(ends_by_its_own_end(kept, &courses), "{}", kept.describe());
            }
        };
        recorded(&sent(&courses, &fates), check);
    }

    /// Messages are lost and late too: no dose is more than what was truly given by it, whoever else the pump was at. Where
    /// the pump tells both its counts and never began anew, and its total counts boluses too, it is right or absent still.
    #[test]
    fn what_is_lost_makes_no_dose_larger(
        mut steps in prop::collection::vec((pump::habits(), pump::steps()), 1..3),
        fates in prop::collection::vec(any_fate(), 1..40),
    ) {
        for (habits, _) in &mut steps {
            // Else nothing in what is told shows that a bolus, or another's run, is missing.
            (habits.volume, habits.mode, habits.volume_has_bolus) = (true, true, false);
        }
        let courses: Vec<Course> = (1..).zip(&steps).map(|(n, (habits, steps))| pump::course(n, *habits, steps)).collect();
        let truth = truth(&courses);
        let flagged = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Run { flagged: true, .. }));
        let strict: Vec<bool> = courses.iter().zip(&steps).map(|(course, (habits, steps))| {
            habits.total && habits.total_has_bolus && !course.total_began_anew && !flagged(steps)
        }).collect();
        let check = |record: &Record| {
            for kept in record.kept.values() {
                let given = kept.given(&truth);
                assert!(kept.dose().is_none_or(|dose| dose <= given), "{}: {:?}", kept.describe(), kept.pieces(&truth));
                let over = !matches!(kept.status(), "in-progress") && kept.time("start").is_some();
                let right = kept.dose().is_none_or(|dose| dose == given);
                assert!(right || !over || !strict[usize::from(kept.pump) - 1], "{}: {:?}", kept.describe(), kept.pieces(&truth));
                assert!(ends_by_its_own_end(kept, &courses), "{}", kept.describe());
            }
        };
        recorded(&sent(&courses, &fates), check);
    }

    /// A stop names the wrong patient: they get nothing of it, and it completes nothing of the right one's.
    #[test]
    fn a_stop_that_names_another_patient_is_neithers(
        mut steps in plain(),
        habits in pump::habits(),
        which in any::<prop::sample::Index>(),
        fates in prop::collection::vec(repeated(), 1..30),
    ) {
        tidy(&mut steps);
        let mut course = pump::course(1, habits, &steps);
        let stops: Vec<usize> =
            (0..course.said.len()).filter(|n| matches!(course.said[*n].event, STOP | COMPLETE)).collect();
        if stops.is_empty() {
            return Ok(());
        }
        let wrong = *which.get(&stops);
        let start = course.said[..wrong].iter().rposition(|said| said.event == START).unwrap();
        let (began, at) = (course.said[start].at, course.said[wrong].at);
        course.said[wrong].patient = 9;
        let courses = [course];
        let truth = truth(&courses);
        let record = recorded(&sent(&courses, &fates), |record| {
            for kept in record.kept.values() {
                assert!(kept.patient() != 9 || kept.dose().is_none(), "{}", kept.describe());
                let ended = kept.patient() != 9 && kept.time("end") == Some(at) && at > began;
                assert!(!ended, "{}", kept.describe());
                assert!(kept.dose().is_none_or(|dose| dose <= kept.given(&truth)), "{}", kept.describe());
            }
        });
        prop_assert!(record.kept.values().any(|kept| kept.patient() == 9));
    }

    /// Rates change several times in one second: the last one stands.
    #[test]
    fn of_rates_that_change_in_one_second_the_last_one_stands(
        rates in prop::collection::vec(1_u32..60, 2..5),
        volume in 20_i64..90_000,
        fates in prop::collection::vec(repeated(), 1..9),
    ) {
        let mut rates = rates;
        rates.dedup();
        let mut steps = vec![run(100, 0, vec![Flow::Given { seconds: 60, volume }])];
        // Stops in the same second that tell the same cannot be told apart.
        steps.extend(rates.iter().take(2).map(|rate| run(*rate, 0, vec![Flow::Given { seconds: 0, volume: 0 }])));
        let mut course = pump::course(1, PLAIN, &steps);
        course.said.pop();
        let last = rates[rates.len().min(2) - 1];
        let record = recorded(&sent(&[course], &fates), |_| {});
        let running: Vec<&Kept> = record.kept.values().filter(|kept| kept.status() == "in-progress").collect();
        prop_assert_eq!(running.len(), 1);
        prop_assert_eq!(running[0].rate(), Some(last.to_string()));
    }

    /// A start that comes after its stop, since it was refused at first, fills in what it knows.
    #[test]
    fn a_start_that_comes_after_its_stop_fills_in_the_record(rate in 1_u32..90, volume in 20_i64..90_000) {
        let course = pump::course(1, PLAIN, &[run(rate, 5, vec![Flow::Given { seconds: 60, volume }])]);
        let mut said = course.said;
        said.reverse();
        let record = recorded(&said, |_| {});
        let kept = record.kept.values().next().unwrap();
        prop_assert_eq!((record.kept.len(), kept.time("start"), kept.rate()), (1, Some(6), Some(rate.to_string())));
        prop_assert_eq!((kept.status(), kept.dose()), ("on-hold", Some(volume)));
    }
}

fn clears_untold(steps: &[Step]) -> bool {
    flows(steps, |flow| matches!(flow, Flow::ClearCounters { told: false, .. }))
}

fn has_bolus(steps: &[Step]) -> bool {
    flows(steps, |flow| matches!(flow, Flow::Bolus { .. }))
}

fn flows(steps: &[Step], is_such: fn(&Flow) -> bool) -> bool {
    steps.iter().any(|step| matches!(step, Step::Run { flow, .. } if flow.iter().any(is_such)))
}

fn run(rate: u32, pause: i64, flow: Vec<Flow>) -> Step {
    Step::Run { pause, rate, flow, completes: false, flagged: false }
}
