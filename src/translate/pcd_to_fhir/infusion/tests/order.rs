//! The order of events: late ones, repeats, what was lost.

use super::*;

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
fn events_of_one_instant_are_told_apart_and_repeats_are_not() {
    let events = [start(1, "20"), stop(5, "10"), start(5, "25"), stop(5, "0"), start(5, "30")];
    let record = Record::of(&events);
    let lines = [(1, 5, Run::Completed, "10"), (5, 5, Run::Completed, ""), (5, 0, Run::Running, "")];
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
    assert_eq!(Record::of(&over).told(), told(&[(1, 2, Run::Completed, "")]), "or it is told otherwise");
    let record = Record::of(&[&over[..], &[start(9, "20")]].concat());
    assert_eq!(record.told()[1], told(&[(9, 0, Run::Running, "")])[0], "in the order of their arrival");
    let mut record = Record::of(&over);
    record.take(&start(6, "20"), RULES);
    assert_eq!(record.told(), told(&[(1, 2, Run::Completed, ""), (6, 0, Run::Unknown, "")]));
}

#[test]
fn a_clock_that_was_set_back_stops_no_infusion() {
    let set = Event { clock: 1, ..stop(50, "9") };
    let record = Record::of(&[start(100, "20"), set, Event { clock: 1, ..start(60, "20") }]);
    assert_eq!(record.told(), told(&[(100, 0, Run::Running, "9")]));
}
