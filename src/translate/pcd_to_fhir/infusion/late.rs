//! Events that come after later ones of their infusion were taken.
//!
//! One that was told before says nothing. A start that was missed fills in what it knows. Of anything else nobody knows how much of
//! the dose it changes, so the dose is left out and all else stays. What must never happen: an older state comes back.

use super::{super::Unsent, Event, Happened, Infusion, Mode, Told};

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
    /// before, nobody knows how much of the dose it changes.
    pub(super) fn told_late(self, event: &Event) -> Option<Told> {
        if let Some(told) = self.clone().started_late(event) {
            return Some(told);
        }
        let at = event.at.at;
        let since = self.segment.start.as_ref().map_or(i64::MIN, |start| start.at).max(self.after);
        let known = self.past.contains(&(at, event.digest()));
        let is_remembered = self.past.len() < PAST_MAX || self.past.first().is_some_and(|(first, _)| *first <= at);
        if known || !is_remembered || at <= since || at >= self.last || !self.is_named_by(event) {
            return None;
        }
        let mut doubted = self;
        doubted.note_past(event);
        doubted.earlier = None;
        doubted.segment.doubt();
        let mut written = Vec::new();
        doubted.write(&mut written);
        Some(Told { now: Some(doubted), written, unresolved: event.unresolved, unwritten: Unsent::Older })
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
        let mut written = Vec::new();
        self.write(&mut written);
        Some(Told { now: Some(self), written, unresolved: event.unresolved, unwritten: Unsent::Older })
    }
}
