//! A pump's clock that is wrong, or set, while it gives something: a time is right or absent, and nothing stays open for it.

use super::{
    episodes::{CLOCK, COMPLETE, Record, START, STOP, event, flow, volume},
    *,
};

#[derive(Default)]
struct Pump(Record);

impl Pump {
    /// The administration told of last, after this event was received.
    fn takes(&mut self, text: &str, at: &str) -> Value {
        let received_at = format!("2026-03-01T{at}Z").parse().unwrap();
        self.0.take_at(&settings(), text, Context { received_at, ..context() });
        self.0.kept().last().map(|kept| (*kept).clone()).unwrap_or_default()
    }
}

fn unknown() -> Value {
    let url = "http://hl7.org/fhir/StructureDefinition/data-absent-reason";
    json!({"extension": [{"url": url, "valueCode": "unknown"}]})
}

/// Hour and minute as the pump has them, an hour ahead of UTC.
fn start(at: u32) -> String {
    event(at, START, &[&flow("12.50")])
}

#[test]
fn a_start_ahead_of_its_receipt_has_no_time_and_its_end_by_a_clock_set_back_ends_it() {
    let mut pump = Pump::default();
    let kept = pump.takes(&start(500), "11:00:05");
    assert_eq!((&kept["status"], &kept["effectivePeriod"]), (&json!("in-progress"), &unknown()));
    // From three hours ahead to one: still ahead.
    let kept = pump.takes(&event(310, COMPLETE, &[&volume("2")]), "11:10:00");
    assert_eq!((&kept["status"], &kept["effectivePeriod"]), (&json!("completed"), &unknown()));
    assert!(kept["dosage"]["dose"].is_null(), "it may be an older one");
    // Both in one burst, and the end is by a right clock.
    let mut pump = Pump::default();
    pump.takes(&start(500), "11:00:05");
    let kept = pump.takes(&event(200, COMPLETE, &[&volume("2")]), "11:00:05");
    assert_eq!(
        (&kept["status"], &kept["effectivePeriod"]),
        (&json!("completed"), &json!({"end": "2026-03-01T12:00:00+01:00"}))
    );
    assert_eq!(kept["dosage"]["dose"]["value"].to_string(), "2");
}

#[test]
fn an_end_ahead_of_its_receipt_ends_it_and_has_no_time() {
    let mut pump = Pump::default();
    pump.takes(&start(200), "11:00:05");
    let kept = pump.takes(&event(500, COMPLETE, &[&volume("2")]), "11:30:00");
    let since = json!({"start": "2026-03-01T12:00:00+01:00"});
    assert_eq!((&kept["status"], &kept["effectivePeriod"]), (&json!("completed"), &since));
    assert_eq!(kept["dosage"]["dose"]["value"].to_string(), "2");
    // What follows by the right clock is told.
    let next = pump.takes(&start(240), "11:40:02");
    assert_eq!(next["effectivePeriod"]["start"], "2026-03-01T12:40:00+01:00");

    let mut pump = Pump::default();
    pump.takes(&start(200), "11:00:05");
    assert_eq!(pump.takes(&event(500, STOP, &[&volume("2")]), "11:30:00")["status"], "on-hold");
    let kept = pump.takes(&event(231, COMPLETE, &[&volume("2")]), "11:31:00");
    assert_eq!(kept["status"], "completed");
    assert_eq!(
        kept["effectivePeriod"],
        json!({"start": "2026-03-01T12:00:00+01:00", "end": "2026-03-01T12:31:00+01:00"})
    );
}

#[test]
fn a_clock_that_is_set_within_an_infusion_leaves_no_time_that_was_not_received_as_it_happened() {
    let ends = |started: &str, begun: u32| {
        let mut pump = Pump::default();
        pump.takes(&start(begun), started);
        pump.takes(&event(203, CLOCK, &[]), "11:03:00");
        pump.takes(&event(210, COMPLETE, &[&volume("2")]), "11:10:03")["effectivePeriod"].clone()
    };
    let end = "2026-03-01T12:10:00+01:00";
    assert_eq!(ends("11:00:05", 5), json!({"end": end}), "two hours behind, or received late");
    assert_eq!(ends("11:00:05", 200), json!({"start": "2026-03-01T12:00:00+01:00", "end": end}));
}

#[test]
fn an_event_that_is_ahead_says_that_something_is_left_out() {
    let doubt = |at: u32| {
        let translated = super::super::apply(&settings(), &parse(&start(at)), context(), &nothing_remembered);
        translated.unwrap().doubt
    };
    assert_eq!((doubt(203), doubt(200)), (Some(Unsent::ClockAhead), None));
}
