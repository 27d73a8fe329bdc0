//! What is not sent, and why.

use super::{
    episodes::{CLOCK, COMPLETE, COUNTERS, Record, START, STOP, alert, event, flow, volume},
    *,
};
use crate::translate::Remembered;

#[derive(Default)]
struct Pump(Remembered);

impl Pump {
    fn why(&mut self, text: &str) -> Option<Unsent> {
        let mut settings = settings();
        settings.infusions.written = true;
        let told = super::super::apply(&settings, &parse(text), context(), &|name| self.0.recall(name)).unwrap();
        self.0.change(&told.episodes);
        told.unsent
    }
}

#[test]
fn what_is_not_sent_says_why() {
    let mut pump = Pump::default();
    let mut why = |text: &str| pump.why(text).map(Unsent::label);
    assert_eq!(why(&event(5, COUNTERS, &[])), Some("unknown_infusion"));
    assert_eq!(why(&event(10, START, &[&flow("12.50")])), None);
    assert_eq!(why(&event(0, START, &[&flow("3.00")])), Some("earlier_infusion"));
    assert_eq!(why(&event(11, COUNTERS, &[])), Some("unchanged"));
    assert_eq!(why(&event(12, CLOCK, &[])), Some("clock_set"));
    assert_eq!(why(&alert(10, "start", "active")), None);
    assert_eq!(why(&alert(9, "start", "active")), Some("older"));
}

#[test]
fn an_event_a_day_ahead_of_its_receipt_is_refused_and_makes_nothing_old() {
    let (settings, mut record) = (settings(), Record::default());
    let ahead = event(0, START, &[&flow("12.50")]).replace("20260301", "20260311");
    let refused = super::apply(&settings, &parse(&ahead), context()).unwrap_err().to_string();
    assert!(refused.contains("more than a day after it was received"), "{refused}");
    assert!(record.take(&settings, &event(0, START, &[&flow("12.50")])).is_some());
    let ahead = alert(0, "start", "active").replace("20260301", "20260311");
    assert!(super::apply(&settings, &parse(&ahead), context()).is_err());
}

#[test]
fn what_a_clock_that_was_ahead_makes_old_is_told_of() {
    let mut pump = Pump::default();
    let mut why = |text: &str| pump.why(text);
    // The message was received at 11:00:05 UTC; 20 o'clock at the pump is 19 o'clock.
    let later = |text: String| text.replace("2026030110", "2026030120");
    assert_eq!(why(&later(event(0, START, &[&flow("12.50")]))), None);
    let stop = event(0, STOP, &[]);
    assert_eq!(why(&stop), Some(Unsent::ClockAhead), "{stop}");
    assert_eq!(why(&later(alert(0, "start", "active"))), None);
    assert_eq!(why(&alert(0, "end", "inactive")), Some(Unsent::ClockAhead));
}

#[test]
fn what_happens_after_a_clock_was_set_back_ends_what_began_ahead_of_its_receipt() {
    let mut record = Record::default();
    let received = |time: &str| Context { received_at: format!("2026-03-01T{time}Z").parse().unwrap(), ..context() };
    let mut take = |text: &str, at: &str| {
        let bundle = record.take_at(&settings(), text, received(at));
        (bundle.is_some(), record.kept().last().map(|kept| (*kept).clone()).unwrap_or_default())
    };
    // 12:10 at the pump is 11:10 UTC, and it was 11:00.
    let start = event(210, START, &[&flow("12.50")]);
    assert_eq!(take(&start, "11:00:05").1["status"], "in-progress");
    assert!(!take(&event(159, STOP, &[&volume("9")]), "11:01:00").0, "from before it was received");
    let complete = event(205, COMPLETE, &[&volume("1.50")]);
    let (_, kept) = take(&complete, "11:05:03");
    assert_eq!(kept["status"], "completed");
    assert_eq!(kept["effectivePeriod"], json!({"end": "2026-03-01T12:05:00+01:00"}), "the start is known to be wrong");
    assert_eq!(kept["dosage"]["dose"]["value"].to_string(), "1.50");
    assert!(!take(&start, "11:20:00").0, "told again, it begins nothing");
    // Four minutes ahead is ahead too.
    let mut slightly = Record::default();
    slightly.take_at(&settings(), &event(204, START, &[&flow("12.50")]), received("11:00:05"));
    slightly.take_at(&settings(), &event(201, COMPLETE, &[&volume("1.50")]), received("11:01:03"));
    assert_eq!(slightly.kept().last().map(|kept| kept["status"].clone()), Some(json!("completed")));
    assert!(take(&event(206, START, &[&flow("3")]), "11:06:02").0, "and the next one is told");

    let mut record = Record::default();
    let mut take = |text: &str, at: &str| {
        record.take_at(&settings(), text, received(at));
        record.kept().last().map(|kept| (*kept).clone()).unwrap_or_default()
    };
    assert_eq!(take(&alert(210, "start", "active"), "11:00:05")["status"], "preliminary");
    assert_eq!(take(&alert(159, "end", "inactive"), "11:01:00")["status"], "preliminary");
    let over = take(&alert(205, "end", "inactive"), "11:05:03");
    assert_eq!(
        (&over["status"], &over["effectivePeriod"]),
        (&json!("final"), &json!({"end": "2026-03-01T12:05:00+01:00"}))
    );
}

#[test]
fn a_stop_told_to_the_second_is_not_older_than_its_start_within_that_second() {
    let mut pump = Pump::default();
    let start = event(0, START, &[&flow("12.50")]).replace("20260301100000+0100", "20260301100000.250+0100");
    assert!(start.contains(".250"), "{start}");
    assert_eq!(pump.why(&start), None);
    assert_eq!(pump.why(&event(0, STOP, &[])), None, "the stop is told");
    assert_eq!(pump.why(&start), Some(Unsent::Known), "and the start does not come back");
}
