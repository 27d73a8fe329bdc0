//! What an event names: programmes, orders, fillers' numbers.

use super::*;

#[test]
fn another_drug_or_order_or_a_long_pause_ends_an_infusion() {
    let others = [
        Event { programme: drug("Heparin"), ..start(4, "20") },
        Event { programme: Programme { order: Some((None, "B".into())), ..drug("Dopamine") }, ..start(4, "20") },
        start(2000, "20"),
    ];
    for other in others {
        let order = Some((None, "A".into()));
        let begun = Event { programme: Programme { order, ..drug("Dopamine") }, ..start(1, "20") };
        let record = Record::of(&[begun, stop(2, "1"), other.clone()]);
        assert_eq!(record.told(), told(&[(1, 2, Run::Stopped, "1"), (other.at.at, 0, Run::Running, "")]));
        assert_eq!(record.written[&(1, None)].programme.drug, drug("Dopamine").drug);
    }
    let unnamed = Event { programme: Programme::default(), ..start(4, "20") };
    assert_eq!(
        Record::of(&[start(1, "20"), stop(2, "1"), unnamed]).told().len(),
        1,
        "what it does not say does not differ"
    );
}

#[test]
fn an_end_of_another_programme_is_not_this_ones() {
    let other = |event| Event { programme: drug("Heparin"), ..event };
    // It ran: what stopped may be either's.
    for end in [stop(5, "9"), complete(5, "9")] {
        let record = Record::of(&[start(1, "20"), other(end.clone())]);
        let run = if end.happened == Happened::Stopped { Run::Held } else { Run::Completed };
        let ended = if run == Run::Held { 0 } else { 5 };
        assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (0, ended, run, "")]));
        assert_eq!(record.written[&(1, None)].programme, drug("Dopamine"));
    }
    // It was paused: only the start of the other was lost.
    let record = Record::of(&[start(1, "20"), stop(3, "4"), other(stop(5, "9"))]);
    assert_eq!(record.told(), told(&[(1, 3, Run::Stopped, "4"), (0, 0, Run::Held, "9")]));
    for happened in [Happened::Cleared, Happened::Changed, Happened::CountersCleared] {
        let record = Record::of(&[start(1, "20"), other(Event { happened, ..start(5, "30") }), stop(8, "9")]);
        assert_eq!(record.told(), told(&[(1, 0, Run::Held, "")]), "{happened:?}: its own stop ends it");
    }
    // Until a start is told, nobody knows what ran.
    let third = Event { programme: drug("Insulin"), ..stop(7, "9") };
    let told_unresolved = |events: &[Event]| {
        let mut before = None;
        events.iter().fold(Vec::new(), |_, event| {
            let told = tell(before.take(), event, RULES);
            before = told.now;
            vec![told.unresolved]
        })[0]
    };
    assert!(told_unresolved(&[start(1, "20"), other(stop(5, "9"))]));
    assert!(!told_unresolved(&[start(1, "20"), other(start(5, "9"))]));
    let unresolved = Event { unresolved: true, ..third };
    assert_eq!(Record::of(&[other(stop(5, "9")), unresolved]).told()[1], told(&[(0, 0, Run::Held, "")])[0]);
}

#[test]
fn standard_identifiers_tell_programmes_apart_and_spellings_do_not() {
    let named = |order: &str, code: &str, words: &str| Programme {
        order: (!order.is_empty()).then(|| (None, order.to_owned())),
        drug: (!code.is_empty()).then(|| (Some("s".to_owned()), Some(code.to_owned()), None)).into_iter().collect(),
        words: (!words.is_empty()).then(|| words.to_owned()),
        concentration: None,
    };
    for (one, two, same) in [
        (named("A", "1", "Dopamine"), named("A", "1", "DOPAMIN 200 mg"), true),
        (named("", "1", "Dopamine"), named("", "2", "Dopamine"), false),
        (named("A", "1", "Dopamine"), named("B", "1", "Dopamine"), false),
        (named("A", "", "Dopamine"), named("A", "", "Dopamin"), true),
        (named("A", "1", ""), named("A", "2", ""), false),
        (named("", "", "Dopamine 4 mg"), named("", "", "DOPAMINE (4mg)"), true),
        (named("", "", "Dopamine"), named("", "", "Heparin"), false),
        (named("", "1", "Dopamine"), named("", "", "dopamine"), true),
        (named("", "1", "Dopamine"), named("A", "", ""), true),
    ] {
        assert_eq!((one.is_same(&two), two.is_same(&one)), (same, same), "{one:?} {two:?}");
    }
    let of = |milligrams: &str| Programme { concentration: Amount::of(milligrams, "mg/mL"), ..drug("Dopamine") };
    assert!(of("1.6").is_same(&of("1.60")) && !of("1.6").is_same(&of("3.2")) && of("1.6").is_same(&drug("Dopamine")));
    // What a later word adds is known from then on.
    let unnamed = Event { programme: Programme::default(), ..start(1, "20") };
    let heparin = Event { programme: drug("Heparin"), ..stop(5, "9") };
    let record = Record::of(&[unnamed, Event { happened: Happened::Changed, ..start(2, "20") }, heparin]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (0, 0, Run::Held, "")]));
}

#[test]
fn a_fillers_number_counts_once_it_stayed_the_same() {
    let filled = |filler, event| Event { filler: Some(filler), ..event };
    let begun = [filled(1, start(1, "20")), filled(1, stop(2, "4"))];
    let record = Record::of(&[&begun[..], &[filled(1, start(3, "20")), filled(2, stop(5, "9"))]].concat());
    assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (0, 0, Run::Held, "")]));
    // It numbers messages.
    let record = Record::of(&[
        filled(1, start(1, "20")),
        filled(2, stop(2, "4")),
        filled(3, start(3, "20")),
        filled(4, stop(5, "3")),
    ]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "7")]));
}
