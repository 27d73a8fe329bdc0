//! Events that come after later ones of their infusion were taken.
//!
//! One that was told before says nothing. A start that was missed fills in what it knows. Of anything else nobody knows how much of
//! the dose it changes, so the dose is left out and all else stays. What must never happen: an older state comes back.

use super::{super::Unsent, Event, Happened, Infusion, Mode, Segment, Told, Written};

/// Events that are told from those that come late.
const PAST_MAX: usize = 6;

impl Infusion {
    /// Remembers the event as one that was told, the latest ones alone.
    pub(super) fn note_past(&mut self, event: &Event) {
        let told = (event.at.at, event.digest());
        self.past.insert(self.past.partition_point(|past| past.0 <= told.0), told);
        if self.past.len() > PAST_MAX {
            self.past.remove(0);
        }
    }

    /// What comes after later events were taken: a start fills in what was missing; of anything else that was not told
    /// before, nobody knows how much of the dose it changes. Else why it says nothing.
    pub(super) fn told_late(self, event: &Event) -> Result<Told, Unsent> {
        if let Some(told) = self.clone().started_late(event) {
            return Ok(told);
        }
        let at = event.at.at;
        let since = self.segment.start.as_ref().map_or(i64::MIN, |start| start.at).max(self.after);
        let known = self.past.contains(&(at, event.digest()));
        let is_remembered = self.past.len() < PAST_MAX || self.past.first().is_some_and(|(first, _)| *first <= at);
        if known {
            return Err(Unsent::Known);
        }
        if at <= since || !self.is_named_by(event) {
            return Err(Unsent::EarlierInfusion);
        }
        if !is_remembered {
            return Err(Unsent::Older);
        }
        let mut doubted = self;
        doubted.note_past(event);
        doubted.earlier = None;
        doubted.segment.doubt();
        let mut written = Vec::new();
        doubted.write(&mut written);
        if event.mode.is_none_or(|mode| mode == Mode::Bolus) {
            doubted.bolus.iter_mut().for_each(Segment::doubt);
            doubted.write_bolus(&mut written);
        }
        Ok(Told { now: Some(doubted), written, unresolved: event.unresolved, unwritten: Unsent::Older })
    }

    /// What comes of a stop after the end. The same told again says nothing; a volume that is withdrawn or another corrects the
    /// dose where both counts say so, and else leaves none.
    pub(super) fn told_over(mut self, event: &Event) -> Told {
        self.stopped_again = Some(event.at.at);
        let mut written = Vec::new();
        let keeps_open = self.keeps_open || event.mode == Some(Mode::Kvo) && self.segment.mode != Mode::Kvo;
        if !keeps_open || event.happened == Happened::Completed {
            self.correct(event, &mut written);
        }
        Told { now: Some(self), written, unresolved: event.unresolved, unwritten: Unsent::Unchanged }
    }

    fn correct(&mut self, event: &Event, written: &mut Vec<Written>) {
        let names = |mode| event.mode.is_none_or(|told| (told == Mode::Bolus) == (mode == Mode::Bolus));
        let ends = [&mut self.segment].into_iter().chain(&mut self.bolus).filter(|end| names(end.mode));
        let mut ends: Vec<&mut Segment> = ends.collect();
        if ends.iter().any(|end| end.delivery.is_told_again(event)) {
            return;
        }
        let mut corrected = Vec::new();
        for end in &mut ends {
            let before = end.dose.clone();
            end.stop_again(event);
            corrected.extend((end.dose != before).then(|| end.clone()));
        }
        corrected.iter().for_each(|segment| self.write_segment(segment, written));
    }

    /// A bolus' end told once more, with something else.
    pub(super) fn bolus_told_over(&mut self, event: &Event, written: &mut Vec<Written>) {
        let Some(bolus) = self.bolus.as_mut().filter(|bolus| !bolus.delivery.is_told_again(event)) else { return };
        bolus.stop_again(event);
        self.write_bolus(written);
    }

    /// A start that comes after its own stop fills in what was missing: since when, how fast, and what.
    fn started_late(mut self, event: &Event) -> Option<Told> {
        let of_this =
            event.happened == Happened::Started && self.segment.name.is_none() && self.segment.start.is_none();
        let bolus = event.mode == Some(Mode::Bolus) || self.segment.mode == Mode::Bolus;
        let in_time = event.at.at > self.after && event.at.at < self.name.at;
        if !of_this || bolus || !in_time || !self.programme.is_same(&event.programme) {
            return None;
        }
        self.segment.start = Some(event.at.clone());
        self.segment.rate.clone_from(&event.rate);
        self.programme.complete(&event.programme);
        if self.segment.dose.as_ref().is_some_and(|given| !self.segment.delivery.may_have_begun(event, given)) {
            self.segment.doubt();
        }
        let mut written = Vec::new();
        self.write(&mut written);
        Some(Told { now: Some(self), written, unresolved: event.unresolved, unwritten: Unsent::Older })
    }
}
