//! What one source of one pump gives one patient, told event by event (PCD-10): a state machine, without FHIR.
//!
//! ```text
//!         START             STOP                PROG_CLEARED, another programme, paused for too long
//!  (none) ─────▶ running ◀───────────▶ held ─────────────────────────────────────────────────────▶ stopped
//!                   │   START, same     │
//!                   └─────── COMP ──────┴────▶ completed ─── START to keep the vein open ──▶ a segment of its own
//! ```
//!
//! An infusion is one or more segments, each with one rate; a bolus is a segment beside them. What must never happen: an
//! older event takes it back to an older state, or a dose falls because a counter was cleared or told twice. Events are in
//! the order of their times; one that is older than what was told last says nothing any more.

mod amount;
mod segment;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(super) use self::{
    amount::Amount,
    segment::{Mode, Run, Segment},
};

/// A moment, and as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct When {
    /// Nanoseconds since 1970.
    pub at: i64,
    /// FHIR dateTime, as precise as it was sent.
    pub text: String,
}

/// What a pump was told to give.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Programme {
    /// The order: system and value.
    pub order: Option<(Option<String>, String)>,
    /// Codes of the drug: system, code, display.
    pub drug: Vec<Code>,
    /// The drug in words.
    pub words: Option<String>,
}

/// System, code, display.
pub(super) type Code = (Option<String>, Option<String>, Option<String>);

/// What happened to an infusion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happened {
    Started,
    Stopped,
    Completed,
    /// The programme was cleared.
    Cleared,
    /// Volume counters were set to nothing.
    CountersCleared,
    /// Something of the programme changed while it ran.
    Changed,
}

/// One event.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub happened: Happened,
    pub at: When,
    pub mode: Mode,
    pub programme: Programme,
    pub rate: Option<Amount>,
    /// Given since the last start.
    pub run_volume: Option<Amount>,
    /// Given since the counters were cleared.
    pub counter: Option<Amount>,
    pub to_be_infused: Option<Amount>,
    /// Why it does not deliver.
    pub reason: Option<String>,
    /// How often the pump's clock was set: times before and after cannot be compared.
    pub clock: u32,
}

/// What of it is a site's choice.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// A new rate is a new segment, rather than the same one with another rate.
    pub rate_segments: bool,
    /// Keeping the vein open is a segment of its own, rather than nothing.
    pub kvo_segments: bool,
    /// Paused for longer, an infusion is stopped and what starts then is another.
    pub pause_max_nanoseconds: i64,
}

/// What is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Infusion {
    clock: u32,
    /// When it was last told.
    last: i64,
    /// What happened then, a bit each.
    seen: u8,
    /// When it was first told: part of its name.
    pub name: i64,
    pub programme: Programme,
    /// The one now, or the last.
    pub segment: Segment,
    pub bolus: Option<Segment>,
    /// Given in its segments before; `None` where that is not known.
    earlier: Option<Amount>,
    to_be_infused: Option<Amount>,
    /// As last read.
    counter: Option<Amount>,
    /// What was counted before it was cleared.
    uncounted: Option<Amount>,
}

/// A segment to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Name of its infusion.
    pub infusion: i64,
    pub programme: Programme,
    pub segment: Segment,
}

/// What comes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    /// To be remembered; `None` where nothing changed.
    pub now: Option<Infusion>,
    /// In order; of one segment only the last word.
    pub written: Vec<Written>,
}

/// What comes of an event, of an infusion of which this is remembered.
pub(super) fn tell(before: Option<Infusion>, event: &Event, rules: Rules) -> Told {
    let Some(mut infusion) = before else { return first_told(event) };
    let mut written = Vec::new();
    match infusion.takes(event) {
        News::Older => return Told { now: None, written: Vec::new() },
        News::Again => {
            infusion.write(&mut written);
            return Told { now: None, written };
        }
        News::New => {}
    }
    // What was read before tells nothing of an infusion that ran since.
    let is_read = event.counter.is_some() || infusion.segment.run != Run::Running;
    let counted = infusion.count(event).filter(|_| is_read);
    let now = match event.happened {
        Happened::Started => infusion.started(event, counted, rules, &mut written),
        Happened::Stopped | Happened::Completed => infusion.ended(event, counted, &mut written),
        Happened::Cleared => infusion.cleared(event, &mut written),
        Happened::CountersCleared => infusion,
        Happened::Changed => infusion.changed(event, counted, rules, &mut written),
    };
    Told { now: Some(now), written }
}

/// Of an infusion never heard of: it starts, or its start was lost.
fn first_told(event: &Event) -> Told {
    let mut written = Vec::new();
    let mut infusion = Infusion::begun(event, event.counter.clone());
    match event.happened {
        Happened::Started => {}
        Happened::Stopped | Happened::Completed => {
            infusion.segment.start = None;
            infusion.segment.counted_at_start = None;
            infusion.segment.rate = None;
            infusion.segment.end(event, None);
        }
        Happened::Cleared | Happened::CountersCleared | Happened::Changed => {
            return Told { now: None, written };
        }
    }
    infusion.write(&mut written);
    Told { now: Some(infusion), written }
}

enum News {
    New,
    /// The last thing told, told again: said again, and nothing changes.
    Again,
    Older,
}

impl Infusion {
    /// One that begins with this event.
    fn begun(event: &Event, counted: Option<Amount>) -> Infusion {
        Infusion {
            clock: event.clock,
            last: event.at.at,
            seen: event.happened.bit(),
            name: event.at.at,
            programme: event.programme.clone(),
            segment: Segment::begun(None, event, counted),
            bolus: None,
            earlier: Some(Amount::zero()),
            to_be_infused: event.to_be_infused.clone(),
            counter: event.counter.clone(),
            uncounted: None,
        }
    }

    /// Whether it goes on.
    pub fn is_open(&self) -> bool {
        self.segment.is_open() || self.bolus.is_some()
    }

    /// How the event stands to what was told before, which it is after it was taken.
    fn takes(&mut self, event: &Event) -> News {
        let (bit, at) = (event.happened.bit(), event.at.at);
        if self.clock == event.clock {
            match at.cmp(&self.last) {
                std::cmp::Ordering::Less => return News::Older,
                std::cmp::Ordering::Equal if self.seen & bit != 0 => return News::Again,
                std::cmp::Ordering::Equal => {
                    self.seen |= bit;
                    return News::New;
                }
                std::cmp::Ordering::Greater => {}
            }
        }
        (self.clock, self.last, self.seen) = (event.clock, at, bit);
        News::New
    }

    /// Reads the counter: what was given since it was first read, however often it was cleared.
    fn count(&mut self, event: &Event) -> Option<Amount> {
        let less = |reading: &Amount, before: &Amount| reading.compare(before).is_some_and(std::cmp::Ordering::is_lt);
        let cleared = event.happened == Happened::CountersCleared;
        if let (Some(before), Some(reading)) = (&self.counter, &event.counter)
            && (less(reading, before) && !cleared)
        {
            self.uncounted = self.uncounted.take().unwrap_or_else(Amount::zero).plus(before);
        }
        if cleared {
            // Some tell the reading from before, some the one after.
            let readings = [self.counter.take(), event.counter.clone()].into_iter().flatten();
            let highest = readings.reduce(|one, two| if less(&one, &two) { two } else { one });
            let highest = highest.unwrap_or_else(Amount::zero);
            self.uncounted = self.uncounted.take().unwrap_or_else(Amount::zero).plus(&highest);
            self.counter = Some(Amount { value: "0".to_owned(), unit: highest.unit });
        } else if event.counter.is_some() {
            self.counter.clone_from(&event.counter);
        }
        self.counter.as_ref()?.plus(self.uncounted.as_ref().unwrap_or(&Amount::zero()))
    }

    fn started(mut self, event: &Event, counted: Option<Amount>, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        let (open, same) = (self.segment.is_open(), self.programme.is_same(&event.programme));
        if open && self.segment.mode == Mode::Bolus {
            // One beside no infusion, whose end was not told.
            self.segment.run = Run::Unknown;
            self.write(written);
            return self.succeeded(event, counted, written);
        }
        if event.mode == Mode::Bolus && open && same {
            self.lose_bolus(written);
            self.bolus = Some(Segment::begun(Some(event.at.at), event, counted));
            self.write_bolus(written);
            return self;
        }
        self.lose_bolus(written);
        let (kvo, was_kvo) = (event.mode == Mode::Kvo, self.segment.mode == Mode::Kvo);
        let expired = self.segment.was_held_for(event) > rules.pause_max_nanoseconds;
        match (open, self.segment.run) {
            (true, _) if !same || expired => {
                self.close(Run::Stopped, event, written);
                self.succeeded(event, counted, written)
            }
            (true, _) if was_kvo && !kvo => {
                self.close(Run::Completed, event, written);
                self.succeeded(event, counted, written)
            }
            (true, _) if kvo && !was_kvo => {
                // That it was complete was not told.
                self.close(Run::Completed, event, written);
                self.keep_vein_open(event, counted, rules, written)
            }
            (true, _) => self.goes_on(event, counted, rules, written),
            (false, Run::Completed) if kvo && same => self.keep_vein_open(event, counted, rules, written),
            _ => self.succeeded(event, counted, written),
        }
    }

    /// The next infusion of the same source.
    fn succeeded(self, event: &Event, counted: Option<Amount>, written: &mut Vec<Written>) -> Infusion {
        let Infusion { clock, last, seen, counter, uncounted, .. } = self;
        let next = Infusion { clock, last, seen, counter, uncounted, ..Infusion::begun(event, counted) };
        next.write(written);
        next
    }

    fn keep_vein_open(
        mut self,
        event: &Event,
        counted: Option<Amount>,
        rules: Rules,
        written: &mut Vec<Written>,
    ) -> Infusion {
        if rules.kvo_segments {
            self.segment = Segment::begun(Some(event.at.at), event, counted);
            self.write(written);
        }
        self
    }

    fn goes_on(mut self, event: &Event, counted: Option<Amount>, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        let another = self.segment.has_another_rate(event) && rules.rate_segments;
        // One whose start is not known cannot be told to run again: nothing would say since when.
        if another || self.segment.start.is_none() {
            self.next_segment(event, counted, written);
        } else {
            self.segment.resume(event);
            self.write(written);
        }
        self
    }

    fn next_segment(&mut self, event: &Event, counted: Option<Amount>, written: &mut Vec<Written>) {
        self.close(Run::Completed, event, written);
        let given = self.segment.dose.as_ref();
        self.earlier = self.earlier.take().zip(given).and_then(|(earlier, given)| earlier.plus(given));
        self.segment = Segment::begun(Some(event.at.at), event, counted);
        self.write(written);
    }

    fn ended(mut self, event: &Event, counted: Option<Amount>, written: &mut Vec<Written>) -> Infusion {
        if let Some(bolus) = &mut self.bolus {
            bolus.end(event, counted.as_ref());
            self.write_bolus(written);
            self.bolus = None;
        } else if self.segment.is_open() {
            self.segment.end(event, counted.as_ref());
            self.write(written);
        }
        self
    }

    /// Complete if all that was to be infused was, else stopped.
    fn cleared(mut self, event: &Event, written: &mut Vec<Written>) -> Infusion {
        self.lose_bolus(written);
        if self.segment.is_open() {
            let given = self.earlier.as_ref().zip(self.segment.dose.as_ref());
            let given = given.and_then(|(earlier, given)| earlier.plus(given));
            let all = given.as_ref().zip(self.to_be_infused.as_ref()).and_then(|(given, all)| given.compare(all));
            let run = if all.is_some_and(std::cmp::Ordering::is_ge) { Run::Completed } else { Run::Stopped };
            self.close(run, event, written);
        }
        self
    }

    fn changed(mut self, event: &Event, counted: Option<Amount>, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        if self.segment.run == Run::Running && self.segment.has_another_rate(event) {
            if rules.rate_segments {
                self.next_segment(event, counted, written);
            } else {
                self.segment.rate.clone_from(&event.rate);
                self.write(written);
            }
        }
        self
    }

    /// Ends the segment: when it was paused, or with this event.
    fn close(&mut self, run: Run, event: &Event, written: &mut Vec<Written>) {
        self.segment.close(run, event);
        self.write(written);
    }

    /// A bolus whose end was not told.
    fn lose_bolus(&mut self, written: &mut Vec<Written>) {
        if let Some(bolus) = &mut self.bolus {
            bolus.run = Run::Unknown;
            self.write_bolus(written);
            self.bolus = None;
        }
    }

    fn write(&self, written: &mut Vec<Written>) {
        self.write_segment(&self.segment, written);
    }

    fn write_bolus(&self, written: &mut Vec<Written>) {
        self.bolus.iter().for_each(|bolus| self.write_segment(bolus, written));
    }

    fn write_segment(&self, segment: &Segment, written: &mut Vec<Written>) {
        written.retain(|each| (each.infusion, each.segment.name) != (self.name, segment.name));
        let (programme, segment) = (self.programme.clone(), segment.clone());
        written.push(Written { infusion: self.name, programme, segment });
    }
}

impl Programme {
    /// Nothing that both say differs.
    fn is_same(&self, other: &Programme) -> bool {
        let agree = |one: Option<&String>, two: Option<&String>| one.zip(two).is_none_or(|(one, two)| one == two);
        let order = |programme: &Programme| programme.order.as_ref().map(|(_, value)| value.clone());
        let code = |programme: &Programme| programme.drug.first().and_then(|(_, code, _)| code.clone());
        let (codes, orders) = ((code(self), code(other)), (order(self), order(other)));
        let drugs = match &codes {
            (Some(one), Some(two)) => one == two,
            _ => agree(self.words.as_ref(), other.words.as_ref()),
        };
        drugs && agree(orders.0.as_ref(), orders.1.as_ref())
    }

    /// Whether it says what is given.
    pub fn names_a_drug(&self) -> bool {
        !self.drug.is_empty() || self.words.is_some()
    }
}

impl Happened {
    fn bit(self) -> u8 {
        1 << self as u8
    }
}
