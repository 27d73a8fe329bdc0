//! Pump events (PCD-10) as MedicationAdministrations: one for each stretch of an infusion with one rate, updated in its place
//! by its identifier while the pump tells more of it.
//!
//! What is administered is told by the pump alone: a dose is a volume it says it gave, never one that was programmed, and is
//! left out where it is not sure. What must never happen: one source's event written to another's infusion, so a pump that
//! does not say who it is is refused.

mod origins;
mod reading;
mod review;
mod source;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub(in crate::translate) use self::review::Reviewed;
pub(super) use self::{reading::when, source::is_named};
use self::{
    reading::{happened, read},
    source::{Occupancy, Source},
};
use super::{
    Context, Devices, EpisodeChange, Output, PcdToFhir, Recall, TranslateError, Translated, Translation, Unsent,
    finish,
    infusion::{
        self, Amount, Event, Happened, Infusion, Mode, Name, Programme, Rules, Run, Segment, Told, Trust, When, Written,
    },
    memory, patient, references, refuse,
};
use crate::{
    fhir::{
        CodeableConcept, Coding, Decimal, Dosage, Effective, Identifier, MedicationAdministration, Period, Quantity,
        Reference, Text, fingerprint, systems,
    },
    hl7::Time,
    pcd::{PumpEvent, PumpEventKind, Report},
};

/// The transaction for an event, or why it says nothing of an infusion, or nothing any more.
pub(super) fn apply(
    settings: &PcdToFhir,
    report: &Report<'_>,
    event: &PumpEvent,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Translated, TranslateError> {
    if let Some(further) = event.further.first() {
        let what = format!("tells of another event too ({}); ask the sender for one message for each", further.name);
        return Err(refuse("OBX-5", what));
    }
    if let Some(doubt) = event.doubt {
        return Err(refuse(event.place, doubt));
    }
    let pid = report.groups[event.group].patient.ok_or_else(|| refuse("PID", patient::NO_PID))?;
    let translation = Translation::new(settings, report, patient::identify(settings, report.message, pid)?, recall);
    let mut output = Output::new(context.origins);
    let devices = Devices::of(&translation, &mut output);
    let source = Source::of(&translation, &devices, event)?;
    if event.event == PumpEventKind::DeviceTimeChanged {
        let change = clock_set(&translation, &source, recall).into_iter().collect();
        return Ok(Translated::unsent(Unsent::ClockSet, change));
    }
    let Some(happened) = happened(&event.event) else {
        return Ok(Translated::unsent(Unsent::OtherEvent, Vec::new()));
    };
    let names = Names::of(&translation, &source);
    let clock: Clock = memory::read(recall, &names.clock).unwrap_or_default();
    let mut happened = read(&translation, event, happened, clock.set)?;
    let ahead = ahead(&happened.at, context);
    if ahead > AHEAD_MAX {
        return Err(refuse(event.place, AHEAD));
    }
    happened.at.trust = trust(ahead);
    let is_ahead = happened.is_ahead();
    let memory = Memory::of(&translation, names, recall);
    let arrival = memory.arrival(&happened, context);
    let mut set_back = None;
    if arrival != Arrival::InOrder {
        let clock = Clock { set: clock.set.wrapping_add(1), ..clock };
        (happened.clock, happened.doubtful) = (clock.set, arrival == Arrival::Doubtful);
        set_back = Some(memory::write(&memory.names.clock, &clock, false));
    }
    let keeps_open = happened.mode == Some(Mode::Kvo) && happened.happened == Happened::Started;
    let (told, mut changes, part_of) = memory.take(&translation, &source, happened, context, recall);
    changes.extend(set_back.filter(|_| told.now.is_some()));
    if told.written.is_empty() {
        let why = match told.unwritten {
            Unsent::Older | Unsent::EarlierInfusion
                if memory.noted.as_ref().is_some_and(|noted| noted.ahead.is_some()) =>
            {
                Unsent::ClockAhead
            }
            Unsent::Unchanged if keeps_open && !settings.infusions.kvo_segments => Unsent::KeepVeinOpen,
            why => why,
        };
        return Ok(Translated::unsent(why, changes));
    }
    for written in told.written {
        let within = memory.of_name(written.infusion).map_or(part_of.as_ref(), |noted| noted.part_of.as_ref());
        write(&translation, &source, event, &written, within, &mut output);
    }
    let doubt = is_ahead.then_some(Unsent::ClockAhead);
    Ok(Translated { doubt, ..finish(&translation, context, output, changes)? })
}

/// How an event comes after what was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arrival {
    /// By its time, as far as that tells.
    InOrder,
    /// What was told last had a wrong time, ahead of its receipt, and this happened later.
    Later,
    /// Either that, by a clock that is still ahead, or it comes late.
    Doubtful,
}

/// What is remembered of an infusion.
#[derive(Serialize, Deserialize)]
struct Noted {
    infusion: Infusion,
    /// The administration that its first one is part of.
    part_of: Option<String>,
    /// The turn of the source's it was last told in.
    turn: u32,
    /// When it was last told of, in nanoseconds since 1970, where the time told then was ahead of that.
    ahead: Option<i64>,
}

/// What is remembered of where an event happened.
struct Memory {
    names: Names,
    patient: u32,
    noted: Option<Noted>,
    occupancy: Occupancy,
}

impl Memory {
    fn of(translation: &Translation<'_>, names: Names, recall: &Recall<'_>) -> Memory {
        let patient = &translation.patient;
        Memory {
            patient: crc32c::crc32c(&memory::name("patient", &[&patient.system, &patient.value])),
            noted: memory::read(recall, &names.infusion),
            occupancy: memory::read(recall, &names.occupancy).unwrap_or_default(),
            names,
        }
    }

    /// The one of that name.
    fn of_name(&self, name: Name) -> Option<&Noted> {
        self.noted.as_ref().filter(|noted| noted.infusion.name == name)
    }

    /// What was told last had a time ahead of its receipt, and this has an earlier one: where it was not told before, the clock may
    /// have been set back without a word of it.
    fn arrival(&self, event: &Event, context: Context) -> Arrival {
        let noted = self.noted.as_ref().filter(|noted| !noted.infusion.knows(event));
        let before = noted.and_then(|noted| Some((noted.ahead?, noted.infusion.is_before_last_by(event)?)));
        let Some((received_last, before)) = before else { return Arrival::InOrder };
        let happened_since = event.at.trust == Trust::Sure || event.at.at >= received_last;
        let since = received(context).map_or(0, |received| received.saturating_sub(received_last));
        match event.at.trust {
            Trust::Sure | Trust::Told if happened_since => Arrival::Later,
            // By the same clock it would be late by so much.
            Trust::Wrong if SignedDuration::from_nanos(before.saturating_add(since)) > AHEAD_NOTED => Arrival::Doubtful,
            _ => Arrival::InOrder,
        }
    }

    /// What comes of an event, what to remember of it, and what the first administration of its infusion is part of.
    fn take(
        &self,
        translation: &Translation<'_>,
        source: &Source<'_>,
        mut event: Event,
        context: Context,
        recall: &Recall<'_>,
    ) -> (Told, Vec<EpisodeChange>, Option<String>) {
        let before = self.noted.as_ref();
        self.occupancy.tell(self.patient, before.map(|noted| noted.turn), &mut event);
        let told = infusion::tell(before.map(|noted| noted.infusion.clone()), &event, rules(translation.settings));
        let mut changes = Vec::new();
        if told.now.is_some() || before.is_none() {
            let after = self.occupancy.after(self.patient, &event, told.now.as_ref(), told.unresolved);
            changes.push(memory::write(&self.names.occupancy, &after, false));
        }
        let Some(now) = told.now.clone() else { return (told, changes, None) };
        let (names, open) = (&self.names, now.is_open());
        let part_of = match self.of_name(now.name) {
            Some(noted) => noted.part_of.clone(),
            None if source.is_secondary => recall(&names.primary).and_then(|name| String::from_utf8(name.into()).ok()),
            None => None,
        };
        if !source.is_secondary {
            let name = open.then(|| name_of(translation, source, now.name, None).into_bytes());
            changes.push(memory::note(&names.primary, name, open));
        }
        let turn = self.occupancy.turn_after(self.patient, before.map(|noted| noted.turn), &event);
        let late = told.unwritten == Unsent::Older;
        let received = received(context).filter(|_| event.is_ahead());
        let ahead = if late { before.and_then(|noted| noted.ahead) } else { received };
        let noted = Noted { infusion: now, part_of: part_of.clone(), turn, ahead };
        changes.push(memory::write(&names.infusion, &noted, open));
        (told, changes, part_of)
    }
}

/// What is remembered of a pump's clock.
#[derive(Default, Serialize, Deserialize)]
struct Clock {
    /// How often it was set.
    set: u32,
    /// When the last message that said so was made.
    told: i64,
}

/// What is asked of the memory.
struct Names {
    infusion: Vec<u8>,
    /// The infusion of the pump's other source, while it goes on.
    primary: Vec<u8>,
    /// Whom the source was last told of.
    occupancy: Vec<u8>,
    clock: Vec<u8>,
}

impl Names {
    fn of(translation: &Translation<'_>, source: &Source<'_>) -> Names {
        let patient = &translation.patient;
        Names {
            infusion: memory::name(memory::INFUSION, &[&source.key, &patient.system, &patient.value]),
            primary: memory::name("primary infusion", &[&source.pump, &patient.system, &patient.value]),
            occupancy: memory::name("source", &[&source.key]),
            clock: memory::name("clock", &[&source.whole]),
        }
    }
}

/// Event, how its infusion stood before, and the statuses it makes of it by these settings.
pub(in crate::translate) fn event_rows(settings: &PcdToFhir) -> Vec<Reviewed> {
    review::reviewed(rules(settings))
}

fn rules(settings: &PcdToFhir) -> Rules {
    let infusions = &settings.infusions;
    Rules {
        rate_segments: infusions.rate_segments,
        kvo_segments: infusions.kvo_segments,
        pause_max_nanoseconds: infusions.pause_max.as_nanos().try_into().unwrap_or(i64::MAX),
    }
}

/// The pump's clock was set: what comes is not held against the times before. Told once a message.
fn clock_set(translation: &Translation<'_>, source: &Source<'_>, recall: &Recall<'_>) -> Option<EpisodeChange> {
    let name = Names::of(translation, source).clock;
    let before: Clock = memory::read(recall, &name).unwrap_or_default();
    let made = translation.message.text(translation.msh.field(7).component(1).raw());
    let made = Time::parse(made.trim()).ok()?.timestamp(translation.offset)?;
    let told = i64::try_from(made.as_nanosecond()).ok().filter(|told| *told > before.told)?;
    Some(memory::write(&name, &Clock { set: before.set.wrapping_add(1), told }, false))
}

/// The identifier of an administration: patient, source, and when its infusion was first told.
fn name_of(translation: &Translation<'_>, source: &Source<'_>, infusion: Name, segment: Option<u32>) -> String {
    let segment = segment.map(|segment| segment.to_string()).unwrap_or_default();
    let (at, clock) = (infusion.at.to_string(), infusion.clock.to_string());
    let patient = &translation.patient;
    fingerprint(["infusion", &patient.system, &patient.value, &source.key, &at, &clock, &segment])
}

fn write<'a>(
    translation: &Translation<'a>,
    source: &Source<'a>,
    event: &PumpEvent,
    written: &Written,
    part_of: Option<&String>,
    output: &mut Output<'a>,
) {
    let Written { infusion, programme, segment } = written;
    let identifier = |value: String| Identifier {
        kind: None,
        system: Some(systems::OWN_ADMINISTRATION.into()),
        value: value.into(),
    };
    let named = |segment| identifier(name_of(translation, source, *infusion, segment));
    // By identifier alone: what the record does not have must not fail what it is to have.
    let whole = segment.name.map(|_| named(None)).or_else(|| part_of.cloned().map(identifier));
    let row = &translation.report.rows[source.row];
    let order = |(system, value): &(Option<String>, String)| Identifier {
        kind: Some(Coding::of(systems::IDENTIFIER_TYPE, "PLAC").into()),
        system: system.clone().map(Into::into),
        value: value.clone().into(),
    };
    let administration = MedicationAdministration {
        resource_type: "MedicationAdministration",
        meta: translation.meta(),
        identifier: vec![named(segment.name)],
        part_of: whole.map(|whole| Reference::logical(Some("MedicationAdministration"), whole)).into_iter().collect(),
        status: status(segment.run),
        status_reason: segment.reason.clone().map(CodeableConcept::text).into_iter().collect(),
        medication_codeable_concept: medication(programme),
        subject: Reference::to(translation.patient.reference.clone()),
        context: references::encounter(translation, translation.report.group(row).visit),
        effective: effective(segment),
        request: programme.order.as_ref().map(|it| Reference::logical(Some("MedicationRequest"), order(it))),
        device: vec![source.reference.clone()],
        dosage: dosage(translation, segment),
        ..MedicationAdministration::default()
    };
    let mut trace = output.trace();
    if trace.is_wanted() {
        origins::note(translation, source, event, written, &administration, &mut trace);
    }
    output.administration(administration, trace);
}

fn status(run: Run) -> &'static str {
    match run {
        Run::Running => "in-progress",
        Run::Held => "on-hold",
        Run::Completed => "completed",
        Run::Stopped => "stopped",
        Run::Unknown => "unknown",
    }
}

fn medication<'a>(programme: &Programme) -> CodeableConcept<'a> {
    if !programme.names_a_drug() {
        return CodeableConcept::text(UNKNOWN_DRUG);
    }
    let coding = programme.drug.iter().cloned().map(|(system, code, display)| Coding {
        system: system.map(Into::into),
        code: code.map(Into::into),
        display: display.map(Into::into),
    });
    CodeableConcept { coding: coding.collect(), text: programme.words.clone().map(Into::into) }
}

/// What is known of when it ran. A start that was lost is not made up, and neither is what a wrong clock told. Of an end before
/// its start that is left out which may be wrong.
fn effective(segment: &Segment) -> Effective {
    let end = segment.end.as_ref().or(segment.held.as_ref().filter(|_| segment.start.is_none()));
    let (start, end) = (segment.start.as_ref().and_then(When::trusted), end.and_then(When::trusted));
    let text = |when: &When| Some(when.text.clone());
    match (start, end) {
        (None, None) => Effective::UNKNOWN,
        (Some(start), Some(end)) if start.at > end.at => match (start.trust, end.trust) {
            (Trust::Told, Trust::Sure) => Effective::Over(Period { start: None, end: text(end) }),
            _ => Effective::Over(Period { start: text(start), end: None }),
        },
        (start, end) => Effective::Over(Period { start: start.and_then(text), end: end.and_then(text) }),
    }
}

/// Never words alone (mad-1). A bolus has no rate.
fn dosage<'a>(translation: &Translation<'a>, segment: &Segment) -> Option<Dosage<'a>> {
    let quantity = |amount: &Amount| quantity(translation, &amount.value(), &amount.unit);
    let dose = segment.dose.as_ref().and_then(quantity);
    let rate = segment.rate.as_ref().filter(|_| segment.mode != Mode::Bolus).and_then(quantity);
    let text = match segment.mode {
        Mode::Usual => None,
        Mode::Kvo => Some("keep vein open".into()),
        Mode::Bolus => Some("bolus".into()),
    };
    let known = dose.is_some() || rate.is_some();
    known.then(|| Dosage { text, dose, rate_quantity: rate, ..Dosage::default() })
}

/// With a code where the unit is one of UCUM.
pub(super) fn quantity<'a>(translation: &Translation<'_>, value: &str, unit: &str) -> Option<Quantity<'a>> {
    let coded = !unit.is_empty() && translation.settings.nomenclature.is_ucum(unit);
    let unit = (!unit.is_empty()).then(|| Text::Owned(unit.to_owned()));
    Some(Quantity {
        value: Some(Decimal::parse(value)?),
        comparator: None,
        system: coded.then_some(systems::UCUM),
        code: unit.clone().filter(|_| coded),
        unit,
    })
}

/// When a message was received, as moments are remembered.
pub(super) fn received(context: Context) -> Option<i64> {
    i64::try_from(context.received_at.as_nanosecond()).ok()
}

/// How far a moment is ahead of the receipt of the message that tells of it.
pub(super) fn ahead(moment: &When, context: Context) -> SignedDuration {
    let moment = Timestamp::from_nanosecond(i128::from(moment.at)).unwrap_or(Timestamp::MAX);
    moment.duration_since(context.received_at)
}

/// Received within a minute, a moment is right; ahead of that, it is not.
fn trust(ahead: SignedDuration) -> Trust {
    match ahead {
        ahead if ahead > AHEAD_NOTED => Trust::Wrong,
        ahead if ahead >= -AHEAD_NOTED => Trust::Sure,
        _ => Trust::Told,
    }
}

/// Further ahead, a time is none: all that follows would be older for as long. A zone that is wrong is within it.
pub(super) const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Further ahead, a clock is wrong: what it makes older is told of.
pub(super) const AHEAD_NOTED: SignedDuration = SignedDuration::from_mins(1);
pub(super) const AHEAD: &str = "its time is more than a day after it was received, and would make all that follows old; have the device's clock \
                     set, and write by hand what the record lacks";
const UNKNOWN_DRUG: &str = "unknown drug or carrier fluid";
