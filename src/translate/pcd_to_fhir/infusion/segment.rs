//! A stretch of an infusion with one rate, or a bolus: when it ran, and how much it gave.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Amount, Event, Happened, When, delivery::Delivery};

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
    /// Which of its infusion it is; `None` of the first, which has the infusion's name.
    pub name: Option<u32>,
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
    /// Given before it last started to run; `None` where that is not known, and never will be.
    before: Option<Amount>,
    /// The largest volume that was to be infused.
    wanted: Option<Amount>,
    pub(super) delivery: Delivery,
}

impl Segment {
    pub fn begun(name: Option<u32>, event: &Event) -> Segment {
        let mode = event.mode.unwrap_or(Mode::Usual);
        Segment {
            name,
            mode,
            run: Run::Running,
            start: Some(event.at.clone()),
            end: None,
            held: None,
            // A bolus has none that is written.
            rate: event.rate.clone().filter(|_| mode != Mode::Bolus),
            dose: None,
            reason: None,
            before: Some(Amount::zero()),
            wanted: wanted(event),
            delivery: Delivery::started(event),
        }
    }

    /// Its end alone was told. What was given since the last start is its own only where no other start can be the last.
    pub fn startless(name: Option<u32>, event: &Event, sure: bool) -> Segment {
        let mut segment = Segment::begun(name, event);
        // Completion tells what comes after it.
        let completed = event.happened == Happened::Completed && segment.mode == Mode::Kvo;
        segment.mode = if completed { Mode::Usual } else { segment.mode };
        (segment.start, segment.rate, segment.delivery) = (None, None, Delivery::startless(sure));
        segment.end(event);
        segment
    }

    pub fn is_open(&self) -> bool {
        matches!(self.run, Run::Running | Run::Held)
    }

    /// Its end was not told.
    pub fn is_endless(&self) -> bool {
        matches!(self.run, Run::Running | Run::Unknown)
    }

    /// Nanoseconds for which it was paused when the event happened, as far as that is known.
    pub fn was_held_for(&self, event: &Event) -> i64 {
        let known = self.held.as_ref().and_then(When::trusted).zip(event.at.trusted());
        known.map_or(0, |(held, now)| now.at.saturating_sub(held.at))
    }

    /// The clock was found to be wrong within it: what was told by it is not known, but for what was received as it happened.
    pub fn distrust(&mut self) {
        [&mut self.start, &mut self.end, &mut self.held].into_iter().flatten().for_each(When::distrust);
    }

    pub fn has_another_rate(&self, event: &Event) -> bool {
        match (&self.rate, &event.rate) {
            (Some(before), Some(now)) => before.compare(now) != Some(Ordering::Equal),
            _ => false,
        }
    }

    /// It was given by something that was not told, and is nobody else's.
    pub fn was_followed_unseen(&self, event: &Event) -> bool {
        self.delivery.was_followed_unseen(event) && !event.elsewhere
    }

    fn want(&mut self, event: &Event) {
        let larger = |before: &Amount| wanted(event).filter(|now| now.compare(before) != Some(Ordering::Less));
        self.wanted = self.wanted.take().map_or_else(|| wanted(event), |before| larger(&before).or(Some(before)));
    }

    /// It runs again. One that ran, by what was told, stopped without a word of how much it had given.
    pub fn resume(&mut self, event: &Event) {
        if self.run == Run::Running {
            self.doubt();
        }
        self.want(event);
        let unseen = self.was_followed_unseen(event);
        self.before = self.before.take().and(self.dose.clone()).filter(|_| !unseen);
        (self.run, self.held, self.end, self.reason) = (Run::Running, None, None, None);
        let before = std::mem::replace(&mut self.delivery, Delivery::started(event));
        self.delivery.follows(&before, event);
        if event.rate.is_some() {
            self.rate.clone_from(&event.rate);
        }
    }

    /// It stops, or is complete. A bolus nobody takes up again.
    pub fn end(&mut self, event: &Event) {
        self.want(event);
        if self.run == Run::Held {
            self.stop_again(event);
        } else {
            let given = match self.mode {
                Mode::Bolus => self.delivery.bolus_volume(event),
                Mode::Usual | Mode::Kvo => self.delivery.volume(event),
            };
            self.gave(given);
            self.delivery.stop(event);
        }
        let over = event.happened == Happened::Completed || self.mode == Mode::Bolus;
        if over {
            self.run = if event.happened == Happened::Completed { Run::Completed } else { Run::Stopped };
            (self.end, self.held) = (Some(event.at.clone()), None);
        } else {
            self.run = Run::Held;
            self.held.get_or_insert_with(|| event.at.clone());
        }
        if event.happened == Happened::Completed {
            self.reason = None;
        } else if event.reason.is_some() {
            self.reason.clone_from(&event.reason);
        }
    }

    /// A stop without a start since the last: the same run, told again, or one of which nothing else was told.
    pub fn stop_again(&mut self, event: &Event) {
        if self.delivery.is_told_again(event) {
            return;
        }
        // After its end, another run may have been whose start was lost.
        let is_its_end = self.end.as_ref().is_none_or(|end| end.at == event.at.at) && self.mode != Mode::Bolus;
        let given = self.delivery.corrected(event).filter(|_| is_its_end);
        // Then it stopped with this event.
        self.held.take_if(|_| given.is_some());
        self.gave(given);
        self.delivery.stop(event);
    }

    /// It goes on with another rate, which is another segment; `mixed` with a bolus that runs, what each gave is not known.
    pub fn change(&mut self, event: &Event, mixed: bool) {
        // By the volume of the run alone, nothing is what a pump tells that begins to count anew with the rate.
        let is_told = |given: &Amount| !given.is_zero() || event.counter.is_some();
        self.want(event);
        let given = self.delivery.volume(event).filter(|given| !mixed && is_told(given));
        self.gave(given);
        (self.run, self.end) = (Run::Completed, Some(event.at.clone()));
    }

    /// What the segment before it went on as: the pump counts on.
    pub fn go_on(&mut self, event: &Event, mixed: bool) {
        self.delivery = Delivery::changed(event);
        if mixed {
            self.delivery.is_mixed();
        }
    }

    /// It is over since it was paused, or with this event, which tells no volume of it.
    pub fn close(&mut self, run: Run, event: &Event) {
        if self.is_endless() {
            self.doubt();
        }
        self.run = run;
        self.reason.take_if(|_| run != Run::Stopped);
        self.end = Some(self.held.take().unwrap_or_else(|| event.at.clone()));
    }

    /// It is over, and nobody knows since when, or what it gave.
    pub fn lose(&mut self) {
        self.doubt();
        self.run = Run::Unknown;
    }

    /// Of a bolus that is over only what may be written again is remembered.
    pub fn shorten(&mut self) {
        (self.before, self.wanted, self.reason) = (None, None, None);
        self.delivery.is_over();
    }

    /// What it gave is not known, and never will be.
    pub fn doubt(&mut self) {
        (self.before, self.dose) = (None, None);
    }

    fn gave(&mut self, given: Option<Amount>) {
        let dose = self.before.as_ref().zip(given).and_then(|(before, given)| before.plus(&given));
        let is_possible = |dose: &Amount| !self.wanted.as_ref().is_some_and(|wanted| dose.is_far_above(wanted));
        self.dose = dose.filter(is_possible);
        if self.dose.is_none() {
            self.doubt();
        }
    }
}

/// Nothing to be infused is what a pump without a limit tells.
fn wanted(event: &Event) -> Option<Amount> {
    event.to_be_infused.clone().filter(|wanted| !wanted.is_zero())
}
