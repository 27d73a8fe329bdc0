//! What a pump delivers between a start and the stop after it, by the two things it counts: the volume since the last start,
//! and the total since its counters were cleared.
//!
//! Both tell the same, or neither is believed. What must never happen: a volume that holds a bolus, another run, or what was
//! counted before a counter was cleared.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Amount, Event};

/// One run, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Delivery {
    /// When it began.
    since: i64,
    /// The volume since the last start when it began: nothing, unless the pump only changed its rate then.
    volume: Option<Amount>,
    /// The total when it began, or was cleared.
    total: Option<Amount>,
    cleared: Cleared,
    aside: Aside,
    /// Volume and total as told when it stopped.
    stopped_at: Option<(Option<Amount>, Option<Amount>)>,
    /// The total as it was told last since then.
    total_since: Option<Amount>,
    goes_on: GoesOn,
}

/// Whether the volume since the last start may go on from the run before: the start told none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum GoesOn {
    No,
    From(Amount),
    /// From what was not told.
    FromUnknown,
}

/// Whether the total was cleared in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Cleared {
    No,
    /// After so much of it, where that was told.
    After(Option<Amount>),
}

/// What boluses in it added to the total.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Aside {
    /// There were none.
    None,
    Counted(Amount),
    Unknown,
}

impl Delivery {
    /// A start that tells a volume since the last start tells the run's before, or of one that goes on: by that count no
    /// dose is sure.
    pub fn started(event: &Event) -> Delivery {
        let is_new = event.run_volume.as_ref().is_none_or(Amount::is_zero);
        Delivery {
            since: event.at.at,
            volume: is_new.then(Amount::zero),
            total: event.counter.clone(),
            cleared: Cleared::No,
            aside: Aside::None,
            stopped_at: None,
            total_since: None,
            goes_on: GoesOn::No,
        }
    }

    /// It is the run after another of the same.
    pub fn follows(&mut self, before: &Delivery, start: &Event) {
        if start.run_volume.is_none() {
            let volume = before.stopped_at.as_ref().and_then(|(volume, _)| volume.clone());
            self.goes_on = volume.map_or(GoesOn::FromUnknown, GoesOn::From);
        }
    }

    /// So much may hold what the run before gave: a count that is less began anew.
    fn may_go_on(&self, volume: &Amount) -> bool {
        match &self.goes_on {
            GoesOn::No => false,
            GoesOn::From(before) => !before.is_zero() && volume.compare(before) != Some(Ordering::Less),
            GoesOn::FromUnknown => !volume.is_zero(),
        }
    }

    /// It goes on with another rate: the pump counts on, or from there.
    pub fn changed(event: &Event) -> Delivery {
        Delivery { volume: event.run_volume.clone(), ..Delivery::started(event) }
    }

    /// More was counted since it stopped, by nothing that was told.
    pub fn was_followed_unseen(&self, event: &Event) -> bool {
        let more = event.counter.as_ref().zip(self.total_since.as_ref()).and_then(|(now, then)| now.compare(then));
        more == Some(Ordering::Greater)
    }

    /// What else was told since it stopped.
    pub fn note_total(&mut self, event: &Event) {
        if event.counter.is_some() {
            self.total_since.clone_from(&event.counter);
        }
    }

    /// A bolus ended since it stopped: what it added to the total is not unseen. Anything else is.
    pub fn note_bolus(&mut self, bolus: &Delivery, end: &Event, given: Option<&Amount>) {
        if bolus.counted(end).is_some_and(|counted| counted.is_zero() || given.is_some_and(|it| it.is_like(&counted))) {
            self.note_total(end);
        }
    }

    fn counted(&self, event: &Event) -> Option<Amount> {
        event.counter.as_ref().zip(self.total.as_ref()).and_then(|(now, then)| now.minus(then))
    }

    /// Its start was not told, so that no total is of it; `sure` where the last start can only have been its own.
    pub fn startless(sure: bool) -> Delivery {
        Delivery {
            since: i64::MIN,
            volume: sure.then(Amount::zero),
            total: None,
            cleared: Cleared::No,
            aside: Aside::None,
            stopped_at: None,
            total_since: None,
            goes_on: GoesOn::No,
        }
    }

    /// The volume the event tells for it, where that is sure.
    pub fn volume(&self, event: &Event) -> Option<Amount> {
        let volume = self.told(event)?;
        // In the same instant, a volume is of the run before: its stop came after the start that followed. And a second start
        // is not told from the first one told again, so that none was given is not sure either.
        (event.at.at != self.since && !volume.is_negative()).then_some(volume)
    }

    fn told(&self, event: &Event) -> Option<Amount> {
        let by_run = event.run_volume.as_ref().zip(self.volume.as_ref()).and_then(|(now, then)| now.minus(then));
        let counted = self.counted(event);
        let by_run = by_run.filter(|run| counted.is_some() || !self.may_go_on(run));
        match (&self.cleared, &self.aside) {
            (_, Aside::Unknown) => None,
            (Cleared::No, Aside::None) => match (by_run, counted) {
                (Some(by_run), Some(counted)) => by_run.is_like(&counted).then_some(by_run),
                (by_run, counted) => by_run.or(counted),
            },
            (Cleared::No, Aside::Counted(aside)) => without(by_run, &counted?, aside),
            (Cleared::After(Some(before)), Aside::Counted(aside)) => without(by_run, &before.plus(&counted?)?, aside),
            (Cleared::After(Some(before)), Aside::None) => {
                let whole = before.plus(&counted?)?;
                by_run.is_none_or(|run| run.is_like(&whole)).then_some(whole)
            }
            // More than since the counters were cleared: not cleared with them.
            (Cleared::After(None), Aside::None) => counted.zip(by_run).and_then(|(counted, run)| {
                let more = run.compare(&counted).is_some_and(Ordering::is_gt) && !run.is_like(&counted);
                more.then_some(run)
            }),
            (Cleared::After(None), Aside::Counted(_)) => None,
        }
    }

    /// It stopped.
    pub fn stop(&mut self, event: &Event) {
        self.stopped_at = Some((event.run_volume.clone(), event.counter.clone()));
        self.total_since.clone_from(&event.counter);
    }

    /// So much may have been given since this start, by the totals told then and when it stopped.
    pub fn may_have_begun(&self, start: &Event, given: &Amount) -> bool {
        let stopped = self.stopped_at.as_ref().and_then(|(_, total)| total.as_ref());
        let counted = stopped.zip(start.counter.as_ref()).map(|(then, begun)| then.minus(begun));
        counted.is_none_or(|counted| counted.is_some_and(|counted| counted.is_like(given)))
            && start.run_volume.as_ref().is_none_or(Amount::is_zero)
    }

    /// Nobody takes it up again: only what was told of its end is remembered.
    pub fn is_over(&mut self) {
        *self = Delivery { stopped_at: self.stopped_at.take(), ..Delivery::startless(false) };
    }

    /// A stop after the stop tells the same once more.
    pub fn is_told_again(&self, event: &Event) -> bool {
        let told = (event.run_volume.clone(), event.counter.clone());
        told != (None, None) && self.stopped_at.as_ref() == Some(&told)
    }

    /// The volume that a stop after the stop tells, where both counts say that it is of the same run.
    pub fn corrected(&self, event: &Event) -> Option<Amount> {
        let both =
            event.run_volume.is_some() && self.volume.is_some() && event.counter.is_some() && self.total.is_some();
        let plain = self.cleared == Cleared::No && self.aside == Aside::None;
        self.volume(event).filter(|_| both && plain)
    }

    /// The counters were cleared while it ran. Some tell the reading from before, some the one after.
    pub fn clear(&mut self, event: &Event) {
        let earlier = match &self.cleared {
            Cleared::No => Some(Amount::zero()),
            Cleared::After(earlier) => earlier.clone(),
        };
        let reading = event.counter.as_ref().filter(|reading| !reading.is_zero());
        let counted = reading.zip(self.total.as_ref()).and_then(|(now, then)| now.minus(then));
        let counted = counted.filter(|counted| !counted.is_negative()).zip(earlier);
        let before = counted.and_then(|(counted, earlier)| earlier.plus(&counted));
        self.cleared = Cleared::After(before);
        self.total = Some(Amount::zero());
        self.total_since = self.total_since.take().and_then(|_| self.total.clone());
    }

    /// A bolus that gave so much ended within it. Where the total counted just that, or nothing, it is known how much of the
    /// total is not of this run; else both may have flowed at once.
    pub fn set_aside(&mut self, bolus: &Delivery, end: &Event, given: Option<&Amount>) {
        let counted =
            bolus.counted(end).zip(given).filter(|(counted, given)| counted.is_zero() || counted.is_like(given));
        let before = match &self.aside {
            Aside::None => Some(Amount::zero()),
            Aside::Counted(before) => Some(before.clone()),
            Aside::Unknown => None,
        };
        let whole = bolus.cleared == Cleared::No && given.is_some_and(|given| !given.is_zero());
        let sum = counted.filter(|_| whole).zip(before).and_then(|((counted, _), before)| before.plus(&counted));
        self.aside = sum.map_or(Aside::Unknown, Aside::Counted);
    }

    /// Something else was given while it ran, and nobody knows how much.
    pub fn is_mixed(&mut self) {
        self.aside = Aside::Unknown;
    }

    /// The volume of a bolus: the total alone may count what runs beside it too, or no bolus at all.
    pub fn bolus_volume(&self, event: &Event) -> Option<Amount> {
        if self.cleared != Cleared::No || event.at.at == self.since {
            return None;
        }
        let given = Delivery { total: None, ..self.clone() }.volume(event);
        match (given, self.counted(event)) {
            (Some(given), Some(total)) => (total.is_zero() || total.is_like(&given)).then_some(given),
            (given, _) => given,
        }
    }
}

/// What was counted less what boluses added to it, unless the volume of the run says neither that nor the whole.
fn without(by_run: Option<Amount>, counted: &Amount, aside: &Amount) -> Option<Amount> {
    let own = counted.minus(aside)?;
    by_run.is_none_or(|run| run.is_like(&own) || run.is_like(counted)).then_some(own)
}
