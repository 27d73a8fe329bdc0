//! Pump events (PCD-10) as MedicationAdministrations: one for each stretch of an infusion with one rate, updated in its place
//! by its identifier while the pump tells more of it.
//!
//! What is administered is told by the pump alone: a dose is a volume it says it gave, never one that was programmed, and is
//! left out where it is not sure. What must never happen: one source's event written to another's infusion, so a pump that
//! does not say who it is is refused.

mod origins;

use serde::{Deserialize, Serialize};

use super::{
    Context, Devices, EpisodeChange, Output, PcdToFhir, Recall, TranslateError, Translated, Translation, concept,
    finish,
    infusion::{self, Amount, Event, Happened, Infusion, Mode, Programme, Rules, Run, Segment, When, Written},
    memory, patient, references, refuse,
};
use crate::{
    fhir::{
        CodeableConcept, Coding, Decimal, Dosage, Effective, Identifier, MedicationAdministration, Period, Quantity,
        Reference, Text, fingerprint, systems,
    },
    hl7::Time,
    pcd::{Coded, Containment, Moment, Place, PumpEvent, PumpEventKind, Report, Role, Row},
};

/// The transaction for an event; `None` where it says nothing of an infusion, or nothing any more.
pub(super) fn apply(
    settings: &PcdToFhir,
    report: &Report<'_>,
    event: &PumpEvent,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Option<Translated>, TranslateError> {
    if let Some(further) = event.further.first() {
        let what = format!("tells of another event too ({}); ask the sender for one message for each", further.name);
        return Err(refuse("OBX-5", what));
    }
    let pid = report.groups[event.group].patient.ok_or_else(|| refuse("PID", patient::NO_PID))?;
    let translation = Translation::new(settings, report, patient::identify(settings, report.message, pid)?, recall);
    let mut output = Output::new(context.origins);
    let devices = Devices::of(&translation, &mut output);
    let source = Source::of(&translation, &devices, event)?;
    if event.event == PumpEventKind::DeviceTimeChanged {
        return Ok(clock_set(&translation, &source, recall).map(|change| Translated::remembered(vec![change])));
    }
    let Some(happened) = happened(&event.event) else { return Ok(None) };
    let names = Names::of(&translation, &source);
    let before: Option<Noted> = memory::read(recall, &names.infusion);
    let clock: Clock = memory::read(recall, &names.clock).unwrap_or_default();
    let told = read(&translation, event, happened, clock.set)?;
    let told = infusion::tell(before.as_ref().map(|noted| noted.infusion.clone()), &told, rules(settings));
    let of_before = |name: i64| before.as_ref().filter(|noted| noted.infusion.name == name);
    let mut changes = Vec::new();
    let mut part_of = None;
    if let Some(now) = told.now {
        part_of = match of_before(now.name) {
            Some(noted) => noted.part_of.clone(),
            None if source.is_secondary => recall(&names.primary).and_then(|name| String::from_utf8(name.into()).ok()),
            None => None,
        };
        if !source.is_secondary {
            let name = now.is_open().then(|| name_of(&translation, &source, now.name, &now.programme, None));
            changes.push(memory::note(&names.primary, name.map(String::into_bytes), now.is_open()));
        }
        let open = now.is_open();
        changes.push(memory::write(&names.infusion, &Noted { infusion: now, part_of: part_of.clone() }, open));
    }
    if told.written.is_empty() {
        return Ok((!changes.is_empty()).then(|| Translated::remembered(changes)));
    }
    for written in told.written {
        let within = of_before(written.infusion).map_or(part_of.as_ref(), |noted| noted.part_of.as_ref());
        write(&translation, &source, event, &written, within, &mut output);
    }
    finish(&translation, context, output, changes).map(Some)
}

/// What is remembered of an infusion.
#[derive(Serialize, Deserialize)]
struct Noted {
    infusion: Infusion,
    /// The administration that its first one is part of.
    part_of: Option<String>,
}

/// What is remembered of a pump's clock.
#[derive(Default, Serialize, Deserialize)]
struct Clock {
    /// How often it was set.
    set: u32,
    /// When the last message that said so was made.
    told: i64,
}

/// Where the event happened.
struct Source<'a> {
    /// Of the source, over all messages.
    key: String,
    /// Of the pump it is in.
    pump: String,
    /// Of all that has one clock.
    whole: String,
    is_secondary: bool,
    reference: Reference<'a>,
    /// Where it is named.
    place: Place,
    /// A row that tells of it.
    row: usize,
}

impl<'a> Source<'a> {
    fn of(
        translation: &Translation<'a>,
        devices: &Devices<'a>,
        event: &PumpEvent,
    ) -> Result<Source<'a>, TranslateError> {
        let rows = &translation.report.rows;
        let place = event.source.as_ref().and_then(|source| Containment::parse(source.place.as_bytes()));
        let is_source = |row: &Row<'_>| {
            let here = place.is_some_and(|place| row.place.map(Containment::key) == Some(place.key()));
            matches!(row.role, Role::Device(_)) && here
        };
        let in_group = |row: &&Row<'_>| row.group == event.group;
        let named = rows.iter().position(|row| in_group(&row) && is_source(row)).filter(|at| devices.at(*at).is_some());
        let told = rows.iter().position(|row| in_group(&row) && !matches!(row.role, Role::Device(_)));
        let row = named.or(told).ok_or_else(|| refuse("OBX", UNIDENTIFIED))?;
        let up = |from: usize| std::iter::successors(Some(from), |&at| rows[at].parent).skip(1);
        let above: Vec<String> = up(row).filter_map(|at| Some(devices.at(at)?.0.to_owned())).collect();
        let place = named.and_then(|at| devices.place_at(at));
        let place = place.unwrap_or_else(|| devices.place(translation, &rows[row]));
        let (key, reference) = match named.and_then(|at| devices.at(at)) {
            Some((key, reference)) => (key.to_owned(), reference),
            None => {
                let reference = devices.reference(translation, &rows[row]).filter(is_named);
                let reference = reference.ok_or_else(|| refuse(rows[row].place_of(18), UNIDENTIFIED))?;
                let sent = event.source.as_ref().map_or("", |source| source.place.as_str());
                (format!("{}/{sent}", devices.key(translation, &rows[row])), reference)
            }
        };
        let label = event.source.as_ref().and_then(|source| source.label.clone()).unwrap_or_default();
        let what = event.source.as_ref().and_then(|source| source.what.as_ref()).map_or("", |what| what.name.as_str());
        let words = format!("{label} {what}").to_lowercase();
        Ok(Source {
            is_secondary: words.contains("secondary") || words.contains("piggyback"),
            pump: above.first().unwrap_or(&key).clone(),
            whole: above.last().unwrap_or(&key).clone(),
            key: format!("{key}/{label}"),
            reference,
            place,
            row,
        })
    }
}

/// Whether it names one device: words alone say what it is, not which.
pub(super) fn is_named(reference: &Reference<'_>) -> bool {
    reference.reference.is_some() || reference.identifier.is_some()
}

/// What is asked of the memory.
struct Names {
    infusion: Vec<u8>,
    /// The infusion of the pump's other source, while it goes on.
    primary: Vec<u8>,
    clock: Vec<u8>,
}

impl Names {
    fn of(translation: &Translation<'_>, source: &Source<'_>) -> Names {
        let patient = &translation.patient;
        Names {
            infusion: memory::name("infusion", &[&source.key, &patient.system, &patient.value]),
            primary: memory::name("primary infusion", &[&source.pump, &patient.system, &patient.value]),
            clock: memory::name("clock", &[&source.whole]),
        }
    }
}

fn rules(settings: &PcdToFhir) -> Rules {
    let infusions = &settings.infusions;
    Rules {
        rate_segments: infusions.rate_segments,
        kvo_segments: infusions.kvo_segments,
        pause_max_nanoseconds: infusions.pause_max.as_nanos().try_into().unwrap_or(i64::MAX),
    }
}

fn happened(kind: &PumpEventKind) -> Option<Happened> {
    Some(match kind {
        PumpEventKind::DeliveryStart => Happened::Started,
        PumpEventKind::DeliveryStop => Happened::Stopped,
        PumpEventKind::DeliveryComplete => Happened::Completed,
        PumpEventKind::ProgramCleared => Happened::Cleared,
        PumpEventKind::VolumeCountersCleared => Happened::CountersCleared,
        PumpEventKind::PatientParameterChange => Happened::Changed,
        PumpEventKind::Other(name) => {
            let name = name.to_uppercase();
            let of_rate = ["RATE", "FLOW", "DOSE"].iter().any(|word| name.contains(word));
            return (name.contains("TITRAT") || name.contains("CHANGE") && of_rate).then_some(Happened::Changed);
        }
        _ => return None,
    })
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

fn read(
    translation: &Translation<'_>,
    event: &PumpEvent,
    happened: Happened,
    clock: u32,
) -> Result<Event, TranslateError> {
    let at = event.at.as_ref().ok_or_else(|| refuse("OBR-7", NO_TIME))?;
    let infusion = &event.infusion;
    let amount =
        |quantity: &Option<crate::pcd::Quantity>| Amount::of(&quantity.as_ref()?.value, &quantity.as_ref()?.unit);
    // Nothing flows back, and a unit that is none of a rate or a volume makes no dose.
    let rate = |quantity| amount(quantity).filter(|rate| !rate.is_negative() && rate.unit.contains('/'));
    let volume = |quantity| amount(quantity).filter(|volume| !volume.is_negative() && is_volume(&volume.unit));
    let rate = rate(&infusion.flow).or_else(|| rate(&infusion.dose_rate)).filter(|rate| !rate.is_zero());
    Ok(Event {
        happened,
        at: when(translation, at)?,
        mode: mode(event),
        programme: programme(translation, event),
        rate,
        run_volume: volume(&infusion.volume_segment),
        counter: volume(&infusion.volume_cumulative),
        to_be_infused: volume(&infusion.volume_to_be_infused),
        reason: infusion.not_delivering_reason.clone().map(|reason| short(&reason)),
        clock,
    })
}

/// UCUM's units of volume that pumps count in.
fn is_volume(unit: &str) -> bool {
    matches!(unit, "mL" | "ml" | "L" | "l" | "uL" | "ul" | "cL" | "dL" | "nL" | "cm3")
}

/// A moment as it is remembered and written.
pub(super) fn when(translation: &Translation<'_>, moment: &Moment) -> Result<When, TranslateError> {
    let time = Time::parse(moment.sent.trim())
        .map_err(|error| refuse(&moment.place, format!("{error}; ask the sender to mend it")))?;
    let instant = time.timestamp(translation.offset).and_then(|instant| i64::try_from(instant.as_nanosecond()).ok());
    let written = instant.zip(time.fhir_date_time(translation.offset));
    written.map(|(at, text)| When { at, text }).ok_or_else(|| refuse(&moment.place, NO_ZONE))
}

fn mode(event: &PumpEvent) -> Mode {
    let infusion = &event.infusion;
    let told = [&infusion.mode, &infusion.delivery, &infusion.infusing];
    let words: String = told.into_iter().flatten().map(|word| word.to_lowercase()).collect();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    match () {
        () if says(&["bolus", "loading"]) => Mode::Bolus,
        () if says(&["kvo", "keep vein open", "keep-vein-open"]) => Mode::Kvo,
        () => Mode::Usual,
    }
}

fn programme(translation: &Translation<'_>, event: &PumpEvent) -> Programme {
    let Some(request) = translation.report.groups[event.group].request else { return Programme::default() };
    let kept = |text: &str| (text.len() <= TEXT_MAX).then(|| text.to_owned());
    let placer = references::order(translation, request);
    let order = placer.and_then(|placer| {
        let system = placer.system.as_deref().map(kept);
        Some((system.unwrap_or(None), kept(&placer.value)?))
    });
    let Some(drug) = &event.infusion.drug else { return Programme { order, ..Programme::default() } };
    let sent = |n| translation.text(request.field(4).component(n).raw());
    if sent(1) != drug.code.as_str() || sent(2) != drug.name.as_str() {
        return Programme { order, drug: Vec::new(), words: Some(short(&drug.words)) };
    }
    let concept = concept::concept(translation, &Coded::read(request.field(4).first()));
    let part = |text: &Option<crate::fhir::Text<'_>>| text.as_deref().and_then(kept);
    let codes = concept.coding.iter().filter_map(|coding| {
        let code = part(&coding.code)?;
        Some((part(&coding.system), Some(code), part(&coding.display)))
    });
    Programme { order, drug: codes.take(CODES_MAX).collect(), words: Some(short(&drug.words)) }
}

/// Words for people, short enough to be remembered.
fn short(words: &str) -> String {
    words[..words.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// The identifier of an administration: patient, source, order, and when it was first told.
fn name_of(
    translation: &Translation<'_>,
    source: &Source<'_>,
    infusion: i64,
    programme: &Programme,
    segment: Option<i64>,
) -> String {
    let order = programme.order.as_ref().map_or("", |(_, value)| value.as_str());
    let (infusion, segment) = (infusion.to_string(), segment.map(|name| name.to_string()).unwrap_or_default());
    let patient = &translation.patient;
    fingerprint(["infusion", &patient.system, &patient.value, &source.key, order, &infusion, &segment])
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
    let named = |segment| identifier(name_of(translation, source, *infusion, programme, segment));
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
        effective: Effective::Over(period(segment)),
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

/// A start that was lost is not made up: then it is known until when. An end before the start is of a clock that was set.
fn period(segment: &Segment) -> Period {
    let end = segment.end.as_ref().or(segment.held.as_ref().filter(|_| segment.start.is_none()));
    let in_order = |end: &&When| segment.start.as_ref().is_none_or(|start| start.at <= end.at);
    Period {
        start: segment.start.as_ref().map(|start| start.text.clone()),
        end: end.filter(in_order).map(|end| end.text.clone()),
    }
}

/// Never words alone (mad-1). A bolus has no rate.
fn dosage<'a>(translation: &Translation<'a>, segment: &Segment) -> Option<Dosage<'a>> {
    let quantity = |amount: &Amount| quantity(translation, &amount.value, &amount.unit);
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

/// Bytes of a text that is remembered.
const TEXT_MAX: usize = 96;
/// Codes of a drug that are.
const CODES_MAX: usize = 2;
const UNKNOWN_DRUG: &str = "unknown drug or carrier fluid";
const UNIDENTIFIED: &str = "the pump does not say which one it is, so its infusion cannot be told from another's; have the \
                            sender identify it, or name the place in [device] of the channel";
const NO_TIME: &str = "the event has no time in OBX-14 or OBR-7; ask the sender to fill one of them";
const NO_ZONE: &str = "the time has no zone and MSH-7 has none either, or it is no whole date; set default_offset of this \
                       destination to the sender's zone";
