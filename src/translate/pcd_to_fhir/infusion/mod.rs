//! What one source of one pump gives one patient, told event by event (PCD-10): a state machine, without FHIR.
//!
//! ```text
//!         START             STOP                PROG_CLEARED, another programme, paused for too long
//!  (none) ─────▶ running ◀───────────▶ held ─────────────────────────────────────────────────────▶ stopped
//!                │  │   START, same     │
//!                │  └─────── COMP ──────┴────▶ completed ─── START to keep the vein open ──▶ a segment of its own
//!                └─ another START or another programme: its end was lost ──▶ unknown
//! ```
//!
//! An infusion is one or more segments, each with one rate; a bolus is a segment beside them. What must never happen: an
//! event changes what it does not name, an older one takes an infusion back to an older state, or a dose holds what is not
//! known to be its own. Events are in the order of their times; of one that is older than what was told last, see `late`.

mod amount;
mod delivery;
mod doubt;
mod event;
mod late;
mod programme;
mod segment;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::Unsent;

pub(super) use self::{
    amount::Amount,
    event::{Event, Happened, Trust, When},
    programme::{Programme, TEXT_MAX},
    segment::{Mode, Run, Segment},
};

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

/// What tells an infusion from the others of its source: when it was first told, by which setting of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Name {
    pub at: i64,
    pub clock: u32,
}

/// What is remembered of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Infusion {
    clock: u32,
    /// When it was last told.
    last: i64,
    /// Digests of what was told then.
    seen: Vec<u32>,
    /// When the latest events were told of it, and their digests.
    past: Vec<(i64, u32)>,
    /// Until when its source told of the one before it.
    after: i64,
    /// When a stop was told after it was over, of a start that was not.
    stopped_again: Option<i64>,
    pub name: Name,
    pub programme: Programme,
    /// OBR-3, and whether it is the infusion's rather than a message's.
    filler: Option<u32>,
    filler_lasts: bool,
    /// The one now, or the last.
    pub segment: Segment,
    /// The one now, or the last.
    pub bolus: Option<Segment>,
    /// A bolus ended since the last start.
    bolus_ended: bool,
    /// It keeps the vein open since it was complete, and that is not written.
    keeps_open: bool,
    /// How many segments there were after the first.
    further: u32,
    /// Given in its segments before; `None` where that is not known.
    earlier: Option<Amount>,
    to_be_infused: Option<Amount>,
}

/// A segment to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Name of its infusion.
    pub infusion: Name,
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
    /// The source ran by what was told, and stopped as something else: until a start is told, nobody knows what ran.
    pub unresolved: bool,
    /// Why nothing is written, where nothing is.
    pub unwritten: Unsent,
}

/// What comes of an event, of an infusion of which this is remembered.
pub(super) fn tell(before: Option<Infusion>, event: &Event, rules: Rules) -> Told {
    let mut told = tell_in_time(before, event, rules);
    if let Some(now) = told.now.as_mut().filter(|now| event.overtaken && now.segment.run == Run::Running) {
        now.segment.lose();
        now.write(&mut told.written);
    }
    told
}

fn tell_in_time(before: Option<Infusion>, event: &Event, rules: Rules) -> Told {
    let unresolved = event.unresolved && event.happened != Happened::Started;
    let nothing = |unwritten| Told { now: None, written: Vec::new(), unresolved, unwritten };
    let Some(mut infusion) = before else {
        return Infusion::first(event)
            .map_or_else(|| nothing(Unsent::UnknownInfusion), |infusion| infusion.alone(event));
    };
    match infusion.takes(event) {
        News::Older => return infusion.told_late(event).unwrap_or_else(nothing),
        News::Known => return nothing(Unsent::Known),
        News::Again => {
            let mut written = Vec::new();
            infusion.write(&mut written);
            return Told { written, ..nothing(Unsent::Known) };
        }
        News::New => {}
    }
    if infusion.clock != event.clock || event.is_ahead() {
        infusion.distrust();
    }
    if event.doubtful && !infusion.is_ended_by(event) {
        return nothing(Unsent::Older);
    }
    if event.elsewhere {
        infusion.doubt();
    }
    if event.doubtful {
        infusion.doubt_all();
    }
    if !infusion.is_named_by(event) {
        return infusion.give_way(event);
    }
    if infusion.is_over_for(event) {
        return infusion.told_over(event);
    }
    infusion.mark(event);
    let mut written = Vec::new();
    let now = match event.happened {
        Happened::Started => infusion.started(event, rules, &mut written),
        Happened::Stopped | Happened::Completed => infusion.ended(event, &mut written),
        Happened::Cleared => infusion.cleared(event, &mut written),
        Happened::CountersCleared => infusion.counters_cleared(event),
        Happened::Changed => infusion.changed(event, rules, &mut written),
    };
    Told { now: Some(now), written, unresolved, unwritten: Unsent::Unchanged }
}

enum News {
    New,
    /// The last thing told, told again: said again, and nothing changes.
    Again,
    /// Told before in the same instant.
    Known,
    Older,
}

impl Infusion {
    /// One that begins with this event.
    fn begun(event: &Event) -> Infusion {
        Infusion {
            clock: event.clock,
            last: event.at.at,
            seen: vec![event.digest()],
            past: vec![(event.at.at, event.digest())],
            after: i64::MIN,
            stopped_again: None,
            name: Name { at: event.at.at, clock: event.clock },
            programme: event.programme.clone(),
            filler: event.filler,
            filler_lasts: false,
            segment: Segment::begun(None, event),
            bolus: None,
            bolus_ended: false,
            keeps_open: false,
            further: 0,
            earlier: Some(Amount::zero()),
            to_be_infused: event.to_be_infused.clone(),
        }
    }

    /// One never heard of: it starts, or its start was lost.
    fn first(event: &Event) -> Option<Infusion> {
        let begun = Infusion::begun(event);
        match event.happened {
            Happened::Started => Some(begun),
            Happened::Stopped | Happened::Completed => {
                Some(Infusion { segment: Segment::startless(None, event, !event.unresolved), ..begun })
            }
            Happened::Cleared | Happened::CountersCleared | Happened::Changed => None,
        }
    }

    fn alone(self, event: &Event) -> Told {
        let mut written = Vec::new();
        self.write(&mut written);
        let unresolved = event.unresolved && event.happened != Happened::Started;
        Told { now: Some(self), written, unresolved, unwritten: Unsent::Unchanged }
    }

    /// Whether it goes on.
    pub fn is_open(&self) -> bool {
        self.segment.is_open() || self.bolus_runs()
    }

    fn bolus_runs(&self) -> bool {
        self.bolus.as_ref().is_some_and(Segment::is_open)
    }

    /// Whether the source runs, by what was told of it.
    pub fn is_endless(&self) -> bool {
        self.segment.is_endless() || self.bolus_runs()
    }

    /// How the event stands to what was told before.
    fn takes(&self, event: &Event) -> News {
        if self.clock != event.clock {
            return News::New;
        }
        let digest = event.digest();
        if event.happened != Happened::Started && self.stopped_again.is_some_and(|stopped| event.at.at < stopped) {
            return News::Older;
        }
        match event.at.at.cmp(&self.last) {
            // Of the same second, which the pump told in parts before: what came later is later.
            std::cmp::Ordering::Less if event.at.is_second_of(self.last) => News::New,
            std::cmp::Ordering::Less => News::Older,
            std::cmp::Ordering::Equal if self.seen.last() == Some(&digest) => News::Again,
            std::cmp::Ordering::Equal if self.seen.contains(&digest) => News::Known,
            // By a clock that was set back since.
            std::cmp::Ordering::Greater if self.past.contains(&(event.at.at, digest)) => News::Known,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => News::New,
        }
    }

    /// Takes the event as the last one told.
    fn mark(&mut self, event: &Event) {
        let at = if event.at.is_second_of(self.last) { self.last } else { event.at.at };
        if (self.clock, self.last) != (event.clock, at) {
            self.seen.clear();
        }
        if self.seen.len() == SEEN_MAX {
            self.seen.remove(0);
        }
        self.seen.push(event.digest());
        self.note_past(event);
        (self.clock, self.last) = (event.clock, at);
        self.filler_lasts |= event.filler.is_some() && event.filler == self.filler;
        if event.happened == Happened::Started {
            self.filler = event.filler;
            (self.bolus_ended, self.keeps_open) = (false, false);
        }
        self.programme.complete(&event.programme);
    }

    /// Nothing the event says is another's. A filler's number counts where it once stayed the same over two events: most
    /// number their messages with it.
    fn is_named_by(&self, event: &Event) -> bool {
        let fillers =
            self.filler.zip(event.filler).filter(|_| self.filler_lasts && event.happened != Happened::Started);
        let starts_something = event.happened == Happened::Started && !event.programme.may_follow(&self.programme);
        self.programme.is_same(&event.programme) && fillers.is_none_or(|(one, two)| one == two) && !starts_something
    }

    /// A stop of what is over: told again, or of a start that was not.
    fn is_over_for(&self, event: &Event) -> bool {
        let stops = matches!(event.happened, Happened::Stopped | Happened::Completed);
        stops && !self.is_open() && !self.segment.is_endless()
    }

    /// An event of another infusion: this one ended when it was paused, or its end was lost.
    fn give_way(mut self, event: &Event) -> Told {
        let mut written = Vec::new();
        let unresolved = event.happened != Happened::Started && (event.unresolved || self.is_endless());
        self.lose_bolus(&mut written);
        self.give_up(event, &mut written);
        let other = Infusion::first(&Event { unresolved, ..event.clone() });
        let now = match other {
            Some(other) => self.succeeded_by(other, &mut written),
            None => {
                self.mark_alone(event);
                self
            }
        };
        Told { now: Some(now), written, unresolved, unwritten: Unsent::Unchanged }
    }

    /// Takes the event as told, and nothing of what it says.
    fn mark_alone(&mut self, event: &Event) {
        let (programme, filler) = (self.programme.clone(), (self.filler, self.filler_lasts));
        self.mark(event);
        self.programme = programme;
        (self.filler, self.filler_lasts) = filler;
    }

    fn give_up(&mut self, event: &Event, written: &mut Vec<Written>) {
        match self.segment.run {
            Run::Running => {
                self.segment.lose();
                self.write(written);
            }
            Run::Held => self.close(Run::Stopped, event, written),
            Run::Completed | Run::Stopped | Run::Unknown => {}
        }
    }

    fn started(mut self, event: &Event, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        let open = self.segment.is_open();
        if open && self.segment.mode == Mode::Bolus {
            // One beside no infusion, whose end was not told.
            self.give_up(event, written);
            return self.succeeded(event, written);
        }
        self.lose_bolus(written);
        if event.mode == Some(Mode::Bolus) && open {
            self.not_alone(event, written);
            self.bolus = Some(self.further(event));
            self.write_bolus(written);
            return self;
        }
        let (kvo, was_kvo) = (event.mode == Some(Mode::Kvo), self.segment.mode == Mode::Kvo);
        let expired = self.segment.was_held_for(event) > rules.pause_max_nanoseconds;
        match (open, self.segment.run) {
            (true, _) if kvo && !was_kvo && !expired => {
                // That it was complete was not told.
                self.give_up(event, written);
                self.keep_vein_open(event, rules, written)
            }
            (true, Run::Held) if was_kvo && !kvo && !expired => {
                self.close(Run::Completed, event, written);
                self.succeeded(event, written)
            }
            (true, _) if was_kvo != kvo || expired => {
                self.give_up(event, written);
                self.succeeded(event, written)
            }
            (true, _) => self.goes_on(event, rules, written),
            (false, Run::Completed) if kvo => self.keep_vein_open(event, rules, written),
            _ => self.succeeded(event, written),
        }
    }

    /// The next infusion of the same source. A start whose stop was told before it is over already.
    fn succeeded(self, event: &Event, written: &mut Vec<Written>) -> Infusion {
        let mut next = Infusion::begun(event);
        if self.segment.run == Run::Stopped && self.programme.is_same(&event.programme) {
            next.segment.delivery.follows(&self.segment.delivery, event);
        }
        if self.has_stopped_since(event) {
            next.segment.lose();
        }
        self.succeeded_by(next, written)
    }

    fn has_stopped_since(&self, event: &Event) -> bool {
        self.stopped_again.is_some_and(|stopped| event.clock == self.clock && event.at.at < stopped)
    }

    fn succeeded_by(self, mut next: Infusion, written: &mut Vec<Written>) -> Infusion {
        if self.clock == next.clock {
            next.after = self.last;
        }
        if self.name.clock == next.name.clock {
            next.name.at = next.name.at.max(self.name.at.saturating_add(1));
        }
        if next.last == self.last {
            let seen = self.seen.into_iter().rev().take(SEEN_MAX - 1).rev();
            next.seen = seen.filter(|seen| !next.seen.contains(seen)).chain(next.seen.iter().copied()).collect();
        }
        next.filler_lasts |= self.filler_lasts;
        next.write(written);
        next
    }

    fn keep_vein_open(mut self, event: &Event, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        self.keeps_open = !rules.kvo_segments;
        if rules.kvo_segments {
            self.next_segment(event, written);
            if self.has_stopped_since(event) {
                self.segment.lose();
                self.write(written);
            }
        }
        self
    }

    fn goes_on(mut self, event: &Event, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        let another = self.segment.has_another_rate(event) && rules.rate_segments;
        // One whose start is not known cannot be told to run again: nothing would say since when.
        if another || self.segment.start.is_none() {
            match self.segment.run {
                Run::Held => self.close(Run::Completed, event, written),
                _ => self.give_up(event, written),
            }
            self.next_segment(event, written);
        } else {
            self.segment.resume(event);
            self.write(written);
        }
        self
    }

    fn next_segment(&mut self, event: &Event, written: &mut Vec<Written>) {
        let given = self.segment.dose.as_ref();
        self.earlier = self.earlier.take().zip(given).and_then(|(earlier, given)| earlier.plus(given));
        let next = self.further(event);
        let before = std::mem::replace(&mut self.segment, next);
        self.segment.delivery.follows(&before.delivery, event);
        self.write(written);
    }

    fn further(&mut self, event: &Event) -> Segment {
        self.further += 1;
        Segment::begun(Some(self.further), event)
    }

    /// What ends is the bolus where the event says so, or where nothing else runs; the infusion where it says another mode.
    fn ended(mut self, event: &Event, written: &mut Vec<Written>) -> Infusion {
        let running = self.segment.run == Run::Running;
        match (event.mode, self.bolus_runs()) {
            _ if self.segment.mode == Mode::Bolus => {
                if event.mode.is_none_or(|mode| mode == Mode::Bolus) {
                    self.end_segment(event, written);
                }
            }
            (Some(Mode::Bolus), true) => self.end_bolus(event, written),
            (Some(Mode::Bolus), _) => self.end_untold_bolus(event, written),
            (None, true) if !running => self.end_bolus(event, written),
            (None, true) => {
                // Of which of the two is not told.
                self.lose_bolus(written);
                if event.happened == Happened::Stopped {
                    self.end_segment(event, written);
                }
            }
            (Some(_), true) => {
                self.segment.delivery.is_mixed();
                self.end_segment(event, written);
            }
            (_, false) => self.end_segment(event, written),
        }
        self
    }

    fn end_segment(&mut self, event: &Event, written: &mut Vec<Written>) {
        if self.segment.is_open() || self.segment.is_endless() {
            self.segment.end(event);
            self.write(written);
        }
    }

    fn end_bolus(&mut self, event: &Event, written: &mut Vec<Written>) {
        let Some(mut bolus) = self.bolus.take() else { return };
        let running = self.segment.run == Run::Running;
        bolus.end(event);
        if running {
            self.segment.delivery.set_aside(&bolus.delivery, event, bolus.dose.as_ref());
        } else {
            self.segment.delivery.note_bolus(&bolus.delivery, event, bolus.dose.as_ref());
        }
        self.bolus_ended = true;
        self.write_segment(&bolus, written);
        bolus.shorten();
        self.bolus = Some(bolus);
    }

    /// Something else runs while it is paused: what is told of it then is no longer of its last run.
    fn not_alone(&mut self, event: &Event, written: &mut Vec<Written>) {
        if self.segment.run != Run::Held {
            return;
        }
        if self.segment.was_followed_unseen(event) {
            self.segment.doubt();
            self.write(written);
        }
        self.segment.delivery.is_mixed();
        self.segment.delivery.note_total(event);
    }

    /// A bolus whose start was lost, unless it is the last one's end told again, which may correct it.
    fn end_untold_bolus(&mut self, event: &Event, written: &mut Vec<Written>) {
        let running = self.segment.run == Run::Running;
        self.segment.delivery.is_mixed();
        if std::mem::replace(&mut self.bolus_ended, true) {
            return self.bolus_told_over(event, written);
        }
        self.further += 1;
        let mut bolus = Segment::startless(Some(self.further), event, !running && !event.unresolved);
        self.write_segment(&bolus, written);
        bolus.shorten();
        self.bolus = Some(bolus);
    }

    /// Complete if all that was to be infused was, else stopped.
    fn cleared(mut self, event: &Event, written: &mut Vec<Written>) -> Infusion {
        self.lose_bolus(written);
        if self.segment.is_open() || self.segment.is_endless() {
            let dose = self.segment.dose.as_ref().filter(|_| self.segment.run == Run::Held);
            let given = self.earlier.as_ref().zip(dose).and_then(|(earlier, given)| earlier.plus(given));
            let wanted = self.to_be_infused.as_ref().filter(|wanted| !wanted.is_zero());
            let all = given.as_ref().zip(wanted).and_then(|(given, all)| given.compare(all));
            let run = if all.is_some_and(std::cmp::Ordering::is_ge) { Run::Completed } else { Run::Stopped };
            self.close(run, event, written);
        }
        self
    }

    fn counters_cleared(mut self, event: &Event) -> Infusion {
        let beside = self.bolus_runs();
        for segment in [&mut self.segment].into_iter().chain(&mut self.bolus) {
            segment.delivery.clear(event);
            if beside {
                segment.delivery.is_mixed();
            }
        }
        self
    }

    fn changed(mut self, event: &Event, rules: Rules, written: &mut Vec<Written>) -> Infusion {
        if self.segment.run != Run::Running || !self.segment.has_another_rate(event) {
            return self;
        }
        if rules.rate_segments {
            let mixed = self.bolus_runs();
            self.segment.change(event, mixed);
            self.write(written);
            self.next_segment(event, written);
            self.segment.go_on(event, mixed);
        } else {
            self.segment.rate.clone_from(&event.rate);
            self.write(written);
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
        if self.bolus_runs() {
            self.segment.delivery.is_mixed();
            self.bolus.iter_mut().for_each(Segment::lose);
            self.write_bolus(written);
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

/// Events of one instant that are told from each other.
const SEEN_MAX: usize = 6;
