//! The state machine against what a pump does to it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { rate_segments: true, kvo_segments: true, pause_max_nanoseconds: 1_000 };

fn ml(value: &str) -> Option<Amount> {
    Amount::of(value, "mL")
}

fn rate(value: &str) -> Option<Amount> {
    Amount::of(value, "mL/h")
}

fn at(at: i64) -> When {
    When { at, text: format!("t{at}") }
}

fn drug(code: &str) -> Programme {
    let drug = vec![(None, Some(code.to_owned()), None)];
    Programme { drug, words: Some(code.to_owned()), ..Programme::default() }
}

fn event(happened: Happened, time: i64) -> Event {
    Event {
        happened,
        at: at(time),
        mode: None,
        programme: drug("Dopamine"),
        filler: None,
        rate: None,
        run_volume: None,
        counter: None,
        to_be_infused: None,
        reason: None,
        clock: 0,
        elsewhere: false,
        unresolved: false,
        overtaken: false,
    }
}

fn start(time: i64, at_rate: &str) -> Event {
    Event { rate: rate(at_rate), ..event(Happened::Started, time) }
}

fn stop(time: i64, volume: &str) -> Event {
    Event { run_volume: ml(volume), ..event(Happened::Stopped, time) }
}

fn complete(time: i64, volume: &str) -> Event {
    Event { run_volume: ml(volume), ..event(Happened::Completed, time) }
}

/// A record that takes what is written, and what is remembered beside it.
#[derive(Default, Clone, PartialEq, Debug)]
struct Record {
    remembered: Option<Infusion>,
    /// By names of infusion and segment.
    written: BTreeMap<(i64, Option<u32>), Written>,
}

impl Record {
    fn of(events: &[Event]) -> Record {
        Record::by(RULES, events)
    }

    fn by(rules: Rules, events: &[Event]) -> Record {
        let mut record = Record::default();
        events.iter().for_each(|event| record.take(event, rules));
        record
    }

    fn take(&mut self, event: &Event, rules: Rules) {
        let before = self.remembered.clone();
        let told = tell(before.clone(), event, rules);
        assert_eq!(told, tell(before.clone(), event, rules), "the same each time");
        if let Some(now) = told.now {
            assert!(before.is_none_or(|before| before.clock != now.clock || before.last <= now.last));
            self.remembered = Some(now);
        }
        for written in told.written {
            let over = |segment: &Segment| matches!(segment.run, Run::Completed | Run::Stopped);
            let name = (written.infusion.at, written.segment.name);
            if let Some(known) = self.written.insert(name, written.clone()) {
                assert!(!over(&known.segment) || over(&written.segment), "it was over and goes on again: {known:?}");
            }
        }
    }

    /// Start, end, how it stands and dose of each segment.
    fn told(&self) -> Vec<(Option<i64>, Option<i64>, Run, String)> {
        let time = |when: &Option<When>| when.as_ref().map(|when| when.at);
        let line = |Written { segment, .. }: &Written| {
            let dose = segment.dose.as_ref().map(Amount::value).unwrap_or_default();
            (time(&segment.start), time(&segment.end), segment.run, dose)
        };
        self.written.values().map(line).collect()
    }
}

fn told(lines: &[(i64, i64, Run, &str)]) -> Vec<(Option<i64>, Option<i64>, Run, String)> {
    let time = |time: i64| (time > 0).then_some(time);
    lines.iter().map(|(start, end, run, dose)| (time(*start), time(*end), *run, (*dose).to_owned())).collect()
}

#[test]
fn a_pause_is_no_end_and_a_restart_goes_on_with_what_was_given() {
    let held = Event { reason: Some("occlusion".into()), ..stop(2, "10.5") };
    let mut record = Record::of(&[start(1, "20"), held]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "10.5")]));
    assert_eq!(record.written[&(1, None)].segment.reason.as_deref(), Some("occlusion"));
    record.take(&start(3, "20.0"), RULES);
    assert_eq!(record.told(), told(&[(1, 0, Run::Running, "10.5")]));
    assert_eq!(record.written[&(1, None)].segment.reason, None);
    record.take(&complete(4, "4.25"), RULES);
    assert_eq!(record.told(), told(&[(1, 4, Run::Completed, "14.75")]));
}

#[test]
fn a_new_rate_is_a_new_segment_that_begins_where_the_last_one_ended() {
    let events = [start(1, "20"), stop(5, "10"), start(6, "25"), complete(9, "7")];
    let record = Record::of(&events);
    assert_eq!(record.told(), told(&[(1, 5, Run::Completed, "10"), (6, 9, Run::Completed, "7")]));
    assert!(record.written.keys().all(|(infusion, _)| *infusion == 1));
    let record = Record::by(Rules { rate_segments: false, ..RULES }, &events);
    assert_eq!(record.told(), told(&[(1, 9, Run::Completed, "17")]));
    assert_eq!(record.written[&(1, None)].segment.rate, rate("25"));
    // Told without a stop: by another start, which was after a stop nobody told of, or by a change.
    let record = Record::of(&[start(1, "20"), start(6, "25"), stop(8, "3")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (6, 0, Run::Held, "3")]));
    let change = |volume| Event { happened: Happened::Changed, run_volume: volume, ..start(6, "25") };
    let record = Record::of(&[start(1, "20"), change(None), stop(8, "3")]);
    assert_eq!(record.told(), told(&[(1, 6, Run::Completed, ""), (6, 0, Run::Held, "")]), "both are in what it tells");
    let record = Record::of(&[start(1, "20"), change(ml("2")), stop(8, "3")]);
    assert_eq!(record.told(), told(&[(1, 6, Run::Completed, "2"), (6, 0, Run::Held, "1")]));
    let record = Record::of(&[start(1, "20"), change(ml("2")), stop(8, "1")]);
    assert_eq!(record.told(), told(&[(1, 6, Run::Completed, "2"), (6, 0, Run::Held, "")]), "it counted anew");
    assert_eq!(Record::of(&[start(1, "20"), Event { happened: Happened::Changed, ..start(2, "20") }]).told().len(), 1);
}

#[test]
fn what_keeps_the_vein_open_is_no_part_of_what_was_complete() {
    let kvo = Event { mode: Some(Mode::Kvo), ..start(5, "1") };
    let events = [start(1, "20"), complete(4, "50"), kvo.clone(), stop(7, "0.5"), start(8, "20")];
    let lines = [(1, 4, Run::Completed, "50"), (5, 7, Run::Completed, "0.5"), (8, 0, Run::Running, "")];
    assert_eq!(Record::of(&events).told(), told(&lines));
    let record = Record::by(Rules { kvo_segments: false, ..RULES }, &events[..4]);
    assert_eq!(record.told(), told(&[(1, 4, Run::Completed, "50")]));
    // That it was complete was lost.
    let record = Record::of(&[start(1, "20"), kvo.clone()]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (5, 0, Run::Running, "")]));
    let record = Record::of(&[start(1, "20"), stop(4, "50"), kvo]);
    assert_eq!(record.told(), told(&[(1, 4, Run::Stopped, "50"), (5, 0, Run::Running, "")]));
}

#[test]
fn a_cleared_programme_is_complete_if_all_of_it_was_given_else_stopped() {
    let begun = Event { to_be_infused: ml("17.0"), ..start(1, "20") };
    let cleared = event(Happened::Cleared, 9);
    for (last, run) in [("7", Run::Completed), ("6.9", Run::Stopped)] {
        let record = Record::of(&[begun.clone(), stop(5, "10"), start(6, "25"), stop(8, last), cleared.clone()]);
        assert_eq!(record.told(), told(&[(1, 5, Run::Completed, "10"), (6, 8, run, last)]), "ended when it was paused");
    }
    let record = Record::of(&[begun, cleared.clone(), start(10, "20")]);
    assert_eq!(record.told(), told(&[(1, 9, Run::Stopped, ""), (10, 0, Run::Running, "")]));
    assert_eq!(Record::of(&[cleared]), Record::default());
}

fn counted(event: Event, counter: &str) -> Event {
    Event { counter: ml(counter), ..event }
}

/// Told by the total alone.
fn total(event: Event, counter: &str) -> Event {
    counted(Event { run_volume: None, ..event }, counter)
}

#[test]
fn a_total_that_was_cleared_counts_as_far_as_it_was_read() {
    let begun = counted(start(1, "20"), "100");
    let cleared = |reading| counted(event(Happened::CountersCleared, 3), reading);
    for (reading, last, given) in [
        ("112", total(stop(4, ""), "3"), "15"),
        ("0", total(stop(4, ""), "3"), ""),
        ("112", counted(stop(4, "15"), "3"), "15"),
        ("112", counted(stop(4, "3.0"), "3"), ""),
        ("112", counted(stop(4, "9.0"), "3"), ""),
        ("0", counted(stop(4, "15"), "3"), "15"),
        ("0", counted(stop(4, "3"), "3"), ""),
    ] {
        let record = Record::of(&[begun.clone(), cleared(reading), last.clone()]);
        assert_eq!(record.told(), told(&[(1, 0, Run::Held, given)]), "{reading} {last:?}");
    }
    // While it was paused.
    let events =
        [begun, total(stop(2, ""), "110"), cleared("0"), counted(start(5, "20"), "0"), total(stop(6, ""), "3")];
    assert_eq!(Record::of(&events).told(), told(&[(1, 0, Run::Held, "13")]));
}

#[test]
fn a_counter_set_back_without_a_word_leaves_no_dose() {
    let begun = counted(start(1, "20"), "100");
    for last in [total(stop(2, ""), "3"), counted(stop(2, "13"), "3"), counted(stop(2, "3.0"), "113.5")] {
        assert_eq!(Record::of(&[begun.clone(), last]).told(), told(&[(1, 0, Run::Held, "")]));
    }
}

#[test]
fn a_second_stop_does_not_add_up() {
    for (second, given) in [
        (stop(3, "9.8"), ""),
        (stop(3, "10"), "10"),
        (event(Happened::Stopped, 3), ""),
        (complete(3, "10"), "10"),
        (complete(3, "10.5"), ""),
    ] {
        let record = Record::of(&[start(1, "20"), stop(2, "10"), second.clone()]);
        assert_eq!(record.told()[0].3, given, "{second:?}");
        assert_eq!(record.written[&(1, None)].segment.held.is_some(), second.happened == Happened::Stopped);
    }
    // Both counts say that it is the same run.
    let begun = counted(start(1, "20"), "100");
    let events =
        [begun, counted(stop(2, "10"), "110"), counted(stop(3, "9.8"), "109.8"), counted(stop(4, "11"), "111")];
    assert_eq!(Record::of(&events[..3]).told(), told(&[(1, 0, Run::Held, "9.8")]));
    assert_eq!(Record::of(&events).told(), told(&[(1, 0, Run::Held, "11")]));
}

#[test]
fn a_bolus_is_a_segment_of_its_own_and_the_infusion_stays_as_it_was() {
    let bolus = Event { mode: Some(Mode::Bolus), ..start(3, "600") };
    let events = [start(1, "20"), stop(2, "1"), bolus.clone(), complete(4, "5"), start(5, "20")];
    let record = Record::of(&events);
    assert_eq!(record.told(), told(&[(1, 0, Run::Running, "1"), (3, 4, Run::Completed, "5")]));
    assert_eq!(record.written[&(1, Some(1))].segment.mode, Mode::Bolus);
    // Its end was lost: nobody knows how much of it was given.
    let record = Record::of(&[start(1, "20"), bolus.clone(), start(5, "20")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Running, ""), (3, 0, Run::Unknown, "")]));
    // Alone.
    let record = Record::of(&[bolus.clone(), stop(4, "2"), start(5, "20")]);
    assert_eq!(record.told(), told(&[(3, 4, Run::Stopped, "2"), (5, 0, Run::Running, "")]));
    let record = Record::of(&[bolus, start(5, "20")]);
    assert_eq!(record.told(), told(&[(3, 0, Run::Unknown, ""), (5, 0, Run::Running, "")]));
}

fn of_mode(mode: Mode, event: Event) -> Event {
    Event { mode: Some(mode), ..event }
}

#[test]
fn what_stops_is_what_the_event_names() {
    let usual = |event| of_mode(Mode::Usual, event);
    let bolus = |event| of_mode(Mode::Bolus, event);
    let begun = [usual(start(1, "20")), bolus(start(3, "600"))];
    let of = |events: &[Event]| Record::of(&[&begun, events].concat()).told();
    let (held, given) = ((1, 0, Run::Held, ""), (3, 6, Run::Stopped, "5"));
    assert_eq!(of(&[usual(stop(5, "9"))]), told(&[held, (3, 0, Run::Running, "")]));
    assert_eq!(of(&[usual(stop(5, "9")), bolus(stop(6, "5"))]), told(&[held, given]));
    assert_eq!(of(&[bolus(stop(6, "5"))]), told(&[(1, 0, Run::Running, ""), given]));
    assert_eq!(of(&[bolus(stop(6, "5")), bolus(stop(7, "5.1"))]), told(&[(1, 0, Run::Running, ""), given]));
    // Which of the two is not said.
    assert_eq!(of(&[stop(6, "5")]), told(&[held, (3, 0, Run::Unknown, "")]));
    assert_eq!(of(&[complete(6, "5")]), told(&[(1, 0, Run::Running, ""), (3, 0, Run::Unknown, "")]));
    // The start of the bolus was lost.
    let record = Record::of(&[begun[0].clone(), bolus(stop(6, "5")), usual(stop(8, "9"))]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, ""), (0, 6, Run::Stopped, "")]));
    let record = Record::of(&[begun[0].clone(), usual(stop(2, "4")), bolus(stop(6, "5"))]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "4"), (0, 6, Run::Stopped, "5")]));
    // A bolus alone is no infusion's to stop.
    let record = Record::of(&[begun[1].clone(), usual(stop(6, "5"))]);
    assert_eq!(record.told(), told(&[(3, 0, Run::Running, "")]));
}

#[test]
fn a_total_is_less_the_bolus_that_it_counts() {
    let usual = |event, total| counted(of_mode(Mode::Usual, event), total);
    let bolus = |event, total| counted(of_mode(Mode::Bolus, event), total);
    for (after_bolus, last, given) in [
        // Counted with the bolus, without it, and with what flowed beside it.
        ("107", "110", "5"),
        ("102", "110", "10"),
        ("107.5", "110", ""),
        ("101", "110", ""),
    ] {
        let events = [
            usual(start(1, "20"), "100"),
            bolus(start(3, "600"), "102"),
            bolus(complete(4, "5.0"), after_bolus),
            usual(Event { run_volume: None, ..stop(9, "") }, last),
        ];
        let record = Record::of(&events);
        assert_eq!(record.told()[0], told(&[(1, 0, Run::Held, given)])[0], "{after_bolus} {last}");
        let by_run = |volume| Record::of(&[&events[..3], &[usual(stop(9, volume), last)]].concat()).told()[0].3.clone();
        assert_eq!((by_run("5.0"), by_run("7.0")), (if given == "5" { "5" } else { "" }.to_owned(), String::new()));
    }
    // While it was paused: the start that came after was lost.
    let paused = [usual(start(1, "20"), "100"), usual(stop(2, "1.0"), "101")];
    let after = [bolus(start(3, "600"), "101"), bolus(complete(4, "5.0"), "106"), usual(stop(9, "6.0"), "106")];
    assert_eq!(Record::of(&[&paused[..], &after[..]].concat()).told()[0], told(&[(1, 0, Run::Held, "")])[0]);
    assert_eq!(Record::of(&[&paused[..], &after[1..]].concat()).told()[0], told(&[(1, 0, Run::Held, "")])[0]);
    // Beside what runs, a total tells of no bolus.
    let without = Event { run_volume: None, ..complete(4, "") };
    let record = Record::of(&[usual(start(1, "20"), "100"), bolus(start(3, "600"), "102"), bolus(without, "107")]);
    assert_eq!(record.told()[1], told(&[(3, 4, Run::Completed, "")])[0]);
}

#[test]
fn what_comes_late_leaves_no_dose_and_changes_nothing_else() {
    let events = [start(1, "20"), complete(9, "50"), stop(8, "49"), start(2, "30"), stop(10, "1"), complete(11, "2")];
    assert_eq!(Record::of(&events).told(), told(&[(1, 9, Run::Completed, "")]));
    assert_eq!(Record::of(&events[..2]).told(), told(&[(1, 9, Run::Completed, "50")]));
    let told_again = Record::of(&[events[0].clone(), events[1].clone(), events[1].clone(), events[0].clone()]);
    assert_eq!(told_again, Record::of(&events[..2]));
}

#[test]
fn the_last_word_told_again_is_said_again() {
    let before = Record::of(&[start(1, "20"), stop(2, "5")]).remembered;
    let again = tell(before, &stop(2, "5"), RULES);
    assert_eq!((again.now, again.written.len()), (None, 1));
}

#[test]
fn a_lost_start_is_not_made_up() {
    let mut record = Record::of(&[stop(5, "10")]);
    assert_eq!(record.told(), told(&[(0, 0, Run::Held, "10")]));
    record.take(&start(6, "20"), RULES);
    assert_eq!(record.told(), told(&[(0, 5, Run::Completed, "10"), (6, 0, Run::Running, "")]));
    let unresolved = Event { unresolved: true, ..stop(5, "10") };
    assert_eq!(Record::of(&[unresolved]).told(), told(&[(0, 0, Run::Held, "")]), "it may be another's");
    assert_eq!(
        Record::of(&[total(stop(5, ""), "10")]).told(),
        told(&[(0, 0, Run::Held, "")]),
        "the total of what is not said"
    );
    assert_eq!(Record::of(&[complete(5, "10")]).told(), told(&[(0, 5, Run::Completed, "10")]));
}

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
        filled(4, stop(5, "9")),
    ]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "13")]));
}

#[test]
fn what_ran_again_has_no_dose_of_its_earlier_run() {
    let begun = [start(1, "20"), stop(2, "5"), start(3, "20")];
    let heparin = Event { programme: drug("Heparin"), ..start(5, "20") };
    for (last, end, run) in
        [(event(Happened::Cleared, 5), 5, Run::Stopped), (heparin, 0, Run::Unknown), (start(5, "30"), 0, Run::Unknown)]
    {
        let record = Record::of(&[&begun[..], &[last]].concat());
        assert_eq!(record.told()[0], told(&[(1, end, run, "")])[0]);
    }
}

#[test]
fn what_another_patient_was_told_of_in_between_is_not_counted() {
    let elsewhere = |event| Event { elsewhere: true, unresolved: true, ..event };
    let record = Record::of(&[start(1, "20"), elsewhere(complete(5, "9"))]);
    assert_eq!(record.told(), told(&[(1, 5, Run::Completed, "")]));
    let record = Record::of(&[start(1, "20"), stop(2, "4"), elsewhere(start(5, "20")), stop(7, "1")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "5")]));
    let overtaken = Event { overtaken: true, ..start(1, "20") };
    assert_eq!(Record::of(&[overtaken]).told(), told(&[(1, 0, Run::Unknown, "")]));
}

#[test]
fn events_of_one_instant_are_told_apart_and_repeats_are_not() {
    let events = [start(1, "20"), stop(5, "10"), start(5, "25"), stop(5, "0"), start(5, "30")];
    let record = Record::of(&events);
    let lines = [(1, 5, Run::Completed, "10"), (5, 5, Run::Completed, "0"), (5, 0, Run::Running, "")];
    assert_eq!(record.told(), told(&lines));
    assert_eq!(record.written[&(1, Some(2))].segment.rate, rate("30"));
    for repeated in &events {
        assert_eq!(Record::of(&[&events[..], std::slice::from_ref(repeated)].concat()), record);
    }
    // A stop that comes after the start that followed it is not the new run's.
    let record = Record::of(&[start(1, "20"), start(5, "25"), stop(5, "10")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (5, 0, Run::Held, "")]));
}

#[test]
fn a_start_that_comes_after_its_stop_fills_in_what_it_knows() {
    let mut record = Record::of(&[stop(5, "10")]);
    record.take(&start(2, "20"), RULES);
    assert_eq!(record.told(), told(&[(2, 0, Run::Held, "10")]));
    assert_eq!(record.written[&(5, None)].segment.rate, rate("20"));
    let filled = record.clone();
    for nothing in [start(1, "30"), Event { programme: drug("Heparin"), ..start(2, "20") }, start(2, "20")] {
        record.take(&nothing, RULES);
        assert_eq!(record, filled);
    }
    // After an infusion that was over: that it ran is known, and how long is not.
    let over = [start(1, "20"), complete(2, "50"), stop(9, "3")];
    let record = Record::of(&[&over[..], &[start(9, "20")]].concat());
    assert_eq!(record.told()[1], told(&[(9, 0, Run::Running, "")])[0], "in the order of their arrival");
    let mut record = Record::of(&over);
    record.take(&start(6, "20"), RULES);
    assert_eq!(record.told(), told(&[(1, 2, Run::Completed, "50"), (6, 0, Run::Unknown, "")]));
}

#[test]
fn a_run_whose_end_was_lost_leaves_no_dose() {
    let record = Record::of(&[counted(start(1, "20"), "0"), start(3, "20"), counted(stop(5, "4"), "11")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "")]), "nor does the total say whose it is");
    let record = Record::of(&[start(1, "20"), start(3, "20"), stop(5, "4")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "")]), "no dose rather than too small a one");
}

#[test]
fn a_clock_that_was_set_back_stops_no_infusion() {
    let set = Event { clock: 1, ..stop(50, "9") };
    let record = Record::of(&[start(100, "20"), set, Event { clock: 1, ..start(60, "20") }]);
    assert_eq!(record.told(), told(&[(100, 0, Run::Running, "9")]));
}

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
            events.extend([start(n * 10 + 1, &run_rate.to_string()), stop(n * 10 + 5, &volume)]);
        }
        let record = Record::of(&events);
        let doses = record.written.values().filter_map(|written| written.segment.dose.clone());
        let given = doses.reduce(|one, two| one.plus(&two).unwrap()).unwrap();
        prop_assert_eq!(given.compare(&sum), Some(std::cmp::Ordering::Equal));
    }
}
