//! Courses by chance.

use proptest::prelude::*;

use super::*;

fn any_event() -> impl Strategy<Value = Event> {
    let happened = prop::sample::select(vec![
        Happened::Started,
        Happened::Started,
        Happened::Stopped,
        Happened::Stopped,
        Happened::Completed,
        Happened::Cleared,
        Happened::CountersCleared,
        Happened::Changed,
    ]);
    let modes = [None, None, Some(Mode::Usual), Some(Mode::Kvo), Some(Mode::Bolus)];
    let mode = prop::sample::select(modes.to_vec());
    let amount =
        |unit: &'static str| prop::option::of((0_u32..40).prop_map(move |n| Amount::of(&n.to_string(), unit).unwrap()));
    let named = prop::sample::select(vec!["Dopamine", "Dopamine", "Dopamine", "Heparin"]);
    let numbers = (amount("mL/h"), amount("mL"), amount("mL"), amount("mL"));
    (happened, mode, named, numbers).prop_map(|(happened, mode, name, (rate, run_volume, counter, to_be_infused))| {
        Event { mode, programme: drug(name), rate, run_volume, counter, to_be_infused, ..event(happened, 0) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Duplicates change nothing, and whatever comes after a later event leaves no dose at most: what is left is as if the others
    /// had come alone, in order. (That nothing goes back to an older state is asserted of every step.)
    #[test]
    fn whatever_is_repeated_or_late_ends_as_if_it_had_not_come(
        events in prop::collection::vec(any_event(), 1..25),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        rules in (any::<bool>(), any::<bool>(), 1_i64..300),
    ) {
        let (rate_segments, kvo_segments, pause_max_nanoseconds) = rules;
        let rules = Rules { rate_segments, kvo_segments, pause_max_nanoseconds };
        let timed = (1..).zip(events).map(|(n, event)| Event { at: at(n * 10), ..event });
        let timed: Vec<Event> = timed.collect();
        let delivered: Vec<Event> = order.iter().map(|index| index.get(&timed).clone()).collect();
        let mut latest = 0;
        let mut in_order = delivered.clone();
        in_order.retain(|event| {
            let newer = event.at.at > latest;
            latest = latest.max(event.at.at);
            newer
        });
        // A start that comes late may fill in its own infusion: see below.
        let mut newest = 0;
        let mut delivered = delivered;
        delivered.retain(|event| {
            let late = event.at.at < newest && event.happened == Happened::Started;
            newest = newest.max(event.at.at);
            !late
        });
        let remembered = |events: &[Event]| Record::by(rules, events);
        let (all, alone) = (remembered(&delivered), remembered(&in_order));
        let first = delivered.iter().position(|event| tell(None, event, rules).now.is_some());
        // Before it is heard of there is nothing to be late for.
        if first.is_none_or(|first| delivered[..first].iter().all(|event| event.at.at <= delivered[first].at.at)) {
            let (all, alone) = (all.told(), alone.told());
            prop_assert_eq!(all.len(), alone.len());
            for (late, alone) in all.iter().zip(&alone) {
                prop_assert_eq!((late.0, late.1), (alone.0, alone.1));
                prop_assert!(late.3 == alone.3 || late.3.is_empty());
                // Whether all was given that was to be is not known then.
                let unsure = late.3.is_empty() && (late.2, alone.2) == (Run::Stopped, Run::Completed);
                prop_assert!(late.2 == alone.2 || unsure);
            }
        }
    }

    /// Delivered in order, what was given is what the pump told for its runs.
    #[test]
    fn the_doses_of_an_infusion_are_the_volumes_of_its_runs(
        runs in prop::collection::vec((0_u32..1000, 1_u32..4), 1..12),
    ) {
        let (mut events, mut sum) = (Vec::new(), Amount::zero());
        for (n, (volume, run_rate)) in (0..).zip(&runs) {
            let volume = format!("{}.{}", volume / 10, volume % 10);
            sum = sum.plus(&ml(&volume).unwrap()).unwrap();
            let begun = Event { run_volume: ml("0"), ..start(n * 10 + 1, &run_rate.to_string()) };
            events.extend([begun, stop(n * 10 + 5, &volume)]);
        }
        let record = Record::of(&events);
        let doses = record.written.values().filter_map(|written| written.segment.dose.clone());
        let given = doses.reduce(|one, two| one.plus(&two).unwrap()).unwrap();
        prop_assert_eq!(given.compare(&sum), Some(std::cmp::Ordering::Equal));
    }
}
