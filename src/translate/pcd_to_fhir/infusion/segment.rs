//! A stretch of an infusion with one rate, or a bolus: when it ran, and how much it gave.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Amount, Event, Happened, When};

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) enum Run {
    Running,
    /// It stopped, and may go on.
    Held,
    Completed,
    Stopped,
    /// Its end was not told, and it is over.
    Unknown,
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) enum Mode {
    Usual,
    /// To keep the vein open.
    Kvo,
    Bolus,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) struct Segment {
    /// When it was first told, which tells it from the others; `None` of the infusion's first, which has its name.
    pub name: Option<i64>,
    pub mode: Mode,
    pub run: Run,
    /// `None` where it was lost.
    pub start: Option<When>,
    pub end: Option<When>,
    /// Since when it is paused.
    pub held: Option<When>,
    pub rate: Option<Amount>,
    /// Given so far, where that is known.
    pub dose: Option<Amount>,
    /// Why it does not deliver.
    pub reason: Option<String>,
    /// What the counter told when it began.
    pub(super) counted_at_start: Option<Amount>,
    /// Given before it last started to run.
    before_run: Amount,
    /// The end of a run was not told: what was given in it only the counter knows.
    missed_run: bool,
}

impl Segment {
    pub fn begun(name: Option<i64>, event: &Event, counted: Option<Amount>) -> Segment {
        Segment {
            name,
            mode: event.mode,
            run: Run::Running,
            start: Some(event.at.clone()),
            end: None,
            held: None,
            rate: event.rate.clone(),
            dose: None,
            reason: None,
            counted_at_start: counted,
            before_run: Amount::zero(),
            missed_run: false,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.run, Run::Running | Run::Held)
    }

    /// Nanoseconds for which it was paused when the event happened.
    pub fn was_held_for(&self, event: &Event) -> i64 {
        self.held.as_ref().map_or(0, |held| event.at.at.saturating_sub(held.at))
    }

    pub fn has_another_rate(&self, event: &Event) -> bool {
        match (&self.rate, &event.rate) {
            (Some(before), Some(now)) => before.compare(now) != Some(Ordering::Equal),
            _ => false,
        }
    }

    /// It runs again.
    pub fn resume(&mut self, event: &Event) {
        self.missed_run |= self.run == Run::Running || self.dose.is_none();
        (self.run, self.held, self.end, self.reason) = (Run::Running, None, None, None);
        self.before_run = self.dose.clone().unwrap_or_else(Amount::zero);
        if event.rate.is_some() {
            self.rate.clone_from(&event.rate);
        }
    }

    /// It stops, or is complete.
    pub fn end(&mut self, event: &Event, counted: Option<&Amount>) {
        match self.mode {
            Mode::Bolus => self.end_bolus(event, counted),
            Mode::Usual | Mode::Kvo => self.end_run(event, counted),
        }
    }

    fn end_run(&mut self, event: &Event, counted: Option<&Amount>) {
        self.gave(event, counted);
        if event.happened == Happened::Completed {
            (self.run, self.end, self.held, self.reason) = (Run::Completed, Some(event.at.clone()), None, None);
        } else {
            self.run = Run::Held;
            self.held.get_or_insert_with(|| event.at.clone());
            if event.reason.is_some() {
                self.reason.clone_from(&event.reason);
            }
        }
    }

    /// A bolus nobody takes up again.
    fn end_bolus(&mut self, event: &Event, counted: Option<&Amount>) {
        self.gave(event, counted);
        let complete = event.happened == Happened::Completed;
        self.run = if complete { Run::Completed } else { Run::Stopped };
        (self.end, self.reason) = (Some(event.at.clone()), event.reason.clone().filter(|_| !complete));
    }

    /// It is over since it was paused, or with this event.
    pub fn close(&mut self, run: Run, event: &Event) {
        self.run = run;
        self.reason.take_if(|_| run != Run::Stopped);
        self.end = Some(self.held.take().unwrap_or_else(|| event.at.clone()));
    }

    /// Takes the volume the event tells; what was given never becomes less.
    fn gave(&mut self, event: &Event, counted: Option<&Amount>) {
        let by_run = event.run_volume.as_ref().and_then(|volume| self.before_run.plus(volume));
        let counted = event.counter.as_ref().and(counted);
        let by_counter = counted.zip(self.counted_at_start.as_ref()).and_then(|(now, then)| now.minus(then));
        let told = if self.missed_run { by_counter } else { by_run.or(by_counter) };
        let Some(told) = told else {
            // Less than what was given is no dose.
            let ended = matches!(event.happened, Happened::Stopped | Happened::Completed);
            self.missed_run |= ended && self.run == Run::Running;
            self.dose.take_if(|_| self.missed_run);
            return;
        };
        match self.dose.as_ref().and_then(|dose| told.compare(dose)) {
            // The pump counts anew within a run: what it told before was given as well.
            Some(Ordering::Less) => {
                let dose = self.dose.take();
                self.before_run = dose.clone().unwrap_or_else(Amount::zero);
                self.dose = event.run_volume.as_ref().and_then(|volume| self.before_run.plus(volume)).or(dose);
            }
            None if self.dose.is_some() => {}
            _ => self.dose = Some(told),
        }
    }
}
