//! What was given: volumes, totals, counters and boluses.

use super::*;

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
    assert_eq!(of(&[bolus(stop(6, "5")), bolus(stop(7, "5"))]), told(&[(1, 0, Run::Running, ""), given]));
    let doubted = (3, 6, Run::Stopped, "");
    assert_eq!(of(&[bolus(stop(6, "5")), bolus(stop(7, "5.1"))]), told(&[(1, 0, Run::Running, ""), doubted]));
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
fn a_run_whose_end_was_lost_leaves_no_dose() {
    let record = Record::of(&[counted(start(1, "20"), "0"), start(3, "20"), counted(stop(5, "4"), "11")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "")]), "nor does the total say whose it is");
    let record = Record::of(&[start(1, "20"), start(3, "20"), stop(5, "4")]);
    assert_eq!(record.told(), told(&[(1, 0, Run::Held, "")]), "no dose rather than too small a one");
}
