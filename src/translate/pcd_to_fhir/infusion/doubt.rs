//! What is no longer believed of an infusion, and of what order an event is that a wrong clock dates.
//!
//! One rule: once the clock is found to have been wrong within an infusion, every time told by it before is not known, but for what was
//! received as it happened. Times that are written come from those alone, and how it stands from the order of events.

use super::{Event, Happened, Infusion, Segment};

impl Infusion {
    /// The clock was found to be wrong: of what goes on, times told by it before are not known.
    pub(super) fn distrust(&mut self) {
        let segment = (self.segment.is_open() || self.segment.is_endless()).then_some(&mut self.segment);
        let bolus = self.bolus.as_mut().filter(|bolus| bolus.is_open());
        segment.into_iter().chain(bolus).for_each(Segment::distrust);
    }

    /// It goes on, and the event is an end of it.
    pub(super) fn is_ended_by(&self, event: &Event) -> bool {
        let ends = matches!(event.happened, Happened::Stopped | Happened::Completed | Happened::Cleared);
        ends && (self.is_open() || self.segment.is_endless()) && self.is_named_by(event)
    }

    /// The event may be an older one, whose volume is another's.
    pub(super) fn doubt_all(&mut self) {
        [&mut self.segment].into_iter().chain(&mut self.bolus).for_each(Segment::doubt);
    }

    /// Whether the event was told before, as far as is remembered.
    pub fn knows(&self, event: &Event) -> bool {
        let told = (event.at.at, event.digest());
        self.past.contains(&told) || self.last == told.0 && self.seen.contains(&told.1)
    }

    /// How long the event's time is before that of the last one, by the same clock.
    pub fn is_before_last_by(&self, event: &Event) -> Option<i64> {
        let before = self.last.saturating_sub(event.at.at);
        (self.clock == event.clock && before > 0).then_some(before)
    }

    /// Another patient was told of at this source: how long this ran until then is not known.
    pub(super) fn doubt(&mut self) {
        let running = self.segment.is_endless().then_some(&mut self.segment);
        let bolus = self.bolus.as_mut().filter(|bolus| bolus.is_open());
        running.into_iter().chain(bolus).for_each(Segment::doubt);
    }
}
