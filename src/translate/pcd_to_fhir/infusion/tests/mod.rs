//! The state machine against what a pump does to it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chance;
mod doses;
mod names;
mod order;

use std::collections::BTreeMap;

use super::*;

const RULES: Rules = Rules { rate_segments: true, kvo_segments: true, pause_max_nanoseconds: 1_000 };

fn ml(value: &str) -> Option<Amount> {
    Amount::of(value, "mL")
}

fn rate(value: &str) -> Option<Amount> {
    Amount::of(value, "mL/h")
}

fn at(at: i64) -> When {
    When { at, text: format!("t{at}"), trust: Trust::Told }
}

fn drug(code: &str) -> Programme {
    let drug = vec![(None, Some(code.to_owned()), None)];
    Programme { drug, words: Some(code.to_owned()), ..Programme::default() }
}

fn event(happened: Happened, time: i64) -> Event {
    Event { programme: drug("Dopamine"), ..Event::bare(happened, at(time)) }
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

fn counted(event: Event, counter: &str) -> Event {
    Event { counter: ml(counter), ..event }
}

/// Told by the total alone.
fn total(event: Event, counter: &str) -> Event {
    counted(Event { run_volume: None, ..event }, counter)
}

fn of_mode(mode: Mode, event: Event) -> Event {
    Event { mode: Some(mode), ..event }
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
    let anew = Event { run_volume: ml("0"), ..start(6, "25") };
    for (resumed, given) in [(anew, "3"), (start(6, "25"), "")] {
        let record = Record::of(&[start(1, "20"), resumed, stop(8, "3")]);
        assert_eq!(record.told(), told(&[(1, 0, Run::Unknown, ""), (6, 0, Run::Held, given)]));
    }
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
