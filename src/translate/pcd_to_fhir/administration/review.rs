//! What each pump event makes of an infusion, for those who review the mapping: told by the state machine itself.

use super::{Amount, Event, Happened, Mode, Rules, Trust, When, infusion, status};

/// One event of a pump that stands as said.
pub(in crate::translate) struct Reviewed {
    pub event: &'static str,
    /// How the infusion stands before.
    pub before: &'static str,
    /// Status of each administration it writes, in order; none: nothing is written.
    pub statuses: Vec<&'static str>,
}

use Happened::{Changed, Cleared, Completed, CountersCleared, Started, Stopped};

/// A step of a course: what happens, in which mode, at which rate.
type Step = (Happened, Mode, &'static str);

const START: Step = (Started, Mode::Usual, "10");
const STOP: Step = (Stopped, Mode::Usual, "10");
const COMPLETE: Step = (Completed, Mode::Usual, "10");

/// The event that is told last, after the steps before it.
const COURSES: &[(&str, &str, &[Step], Step)] = &[
    ("MDC_EVT_PUMP_DELIV_START", "none is known", &[], START),
    ("MDC_EVT_PUMP_DELIV_START", "paused", &[START, STOP], START),
    ("MDC_EVT_PUMP_DELIV_START, another rate", "paused", &[START, STOP], (Started, Mode::Usual, "20")),
    ("MDC_EVT_PUMP_DELIV_START, another rate", "running", &[START], (Started, Mode::Usual, "20")),
    ("MDC_EVT_PUMP_DELIV_START, a bolus", "running", &[START], (Started, Mode::Bolus, "100")),
    ("MDC_EVT_PUMP_DELIV_START, to keep the vein open", "complete", &[START, COMPLETE], (Started, Mode::Kvo, "1")),
    ("MDC_EVT_PUMP_DELIV_STOP", "none is known", &[], STOP),
    ("MDC_EVT_PUMP_DELIV_STOP", "running", &[START], STOP),
    ("MDC_EVT_PUMP_DELIV_COMP", "running", &[START], COMPLETE),
    ("MDC_EVT_PUMP_PROG_CLEARED", "running", &[START], (Cleared, Mode::Usual, "10")),
    ("MDC_EVT_PUMP_PROG_CLEARED", "paused", &[START, STOP], (Cleared, Mode::Usual, "10")),
    ("MDC_EVT_PUMP_PATIENT_PARAMETER_CHANGE, another rate", "running", &[START], (Changed, Mode::Usual, "20")),
    ("MDC_EVT_PUMP_VOL_COUNTERS_CLEARED", "running", &[START], (CountersCleared, Mode::Usual, "10")),
];

pub(in crate::translate) fn reviewed(rules: Rules) -> Vec<Reviewed> {
    let reviewed = |(event, before, earlier, last): &(&'static str, &'static str, &[Step], Step)| {
        let mut known = None;
        for (at, step) in (0..).zip(*earlier) {
            known = infusion::tell(known, &told(at, *step), rules).now;
        }
        let told = infusion::tell(known, &told(earlier.len() as i64, *last), rules);
        let statuses = told.written.iter().map(|written| status(written.segment.run)).collect();
        Reviewed { event, before, statuses }
    };
    COURSES.iter().map(reviewed).collect()
}

fn told(at: i64, (happened, mode, rate): Step) -> Event {
    let at = When { at, text: String::new(), trust: Trust::Sure };
    Event { mode: Some(mode), rate: Amount::of(rate, "mL/h"), ..Event::bare(happened, at) }
}
