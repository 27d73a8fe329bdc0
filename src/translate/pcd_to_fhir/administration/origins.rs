//! Where each element of a MedicationAdministration came from: what this event tells, or what was remembered of those
//! before it. What is written as this event tells it is of this event.

use super::{
    super::{Origin, Trace, Translation},
    Amount, Mode, Source, When, Written,
    reading::{mode, programme, short, when},
};
use crate::{
    fhir::{Effective, MedicationAdministration, Quantity},
    pcd::{Place, PumpEvent},
};

pub(super) fn note(
    translation: &Translation<'_>,
    source: &Source<'_>,
    event: &PumpEvent,
    written: &Written,
    administration: &MedicationAdministration<'_>,
    trace: &mut Trace,
) {
    let group = &translation.report.groups[event.group];
    let now = event.at.as_ref().and_then(|at| when(translation, at).ok());
    translation.note_meta(trace);
    trace.note("resourceType", Origin::Constant);
    identity(translation, source, event, (written, now.as_ref()), administration, trace);
    trace.note("status", Origin::remembered([Some(event.place)]));
    if let Some(reason) = &written.segment.reason {
        let told = event.infusion.not_delivering_reason.as_deref().map(short);
        trace.note("statusReason[0]", told_or(event.infusion.places.reason, told.as_ref() == Some(reason)));
    }
    if let Some(pid) = group.patient {
        trace.note("subject", Origin::By(pid.place(3), "identifier_systems"));
    }
    let row = &translation.report.rows[source.row];
    translation.visit_of(translation.report.group(row), "context", trace);
    trace.note("device[0]", source.place);
    if let Effective::Over(period) = &administration.effective {
        let told = |text: &String| told_or(event.at_place, now.as_ref().is_some_and(|now| now.text == *text));
        period.start.iter().for_each(|start| trace.note("effectivePeriod.start", told(start)));
        period.end.iter().for_each(|end| trace.note("effectivePeriod.end", told(end)));
    }
    ordered(translation, event, written, administration, trace);
    dosage(event, written, administration, trace);
}

/// What is told now, or remembered.
fn told_or(place: Option<Place>, is_told: bool) -> Origin {
    place.filter(|_| is_told).map_or(Origin::remembered::<0>([]), Origin::At)
}

/// An infusion is named by patient, source and when it was first told, and so is the one that it is part of.
fn identity(
    translation: &Translation<'_>,
    source: &Source<'_>,
    event: &PumpEvent,
    (written, now): (&Written, Option<&When>),
    administration: &MedicationAdministration<'_>,
    trace: &mut Trace,
) {
    let group = &translation.report.groups[event.group];
    let patient = group.patient.map(|pid| pid.place(3));
    let is_first = now.is_some_and(|now| now.at == written.infusion.at);
    let made_of = match is_first {
        true => Origin::of([patient, Some(source.place), event.at_place]),
        false => Origin::remembered([patient, Some(source.place)]),
    };
    trace.note("identifier[0].system", Origin::Constant);
    trace.note("identifier[0].value", made_of);
    if !administration.part_of.is_empty() {
        trace.note("partOf[0]", Origin::Constant);
        let of_itself = written.segment.name.is_some();
        trace.note("partOf[0].identifier.value", if of_itself { made_of } else { Origin::remembered::<0>([]) });
    }
}

/// Drug and order: of the programme that this event tells, or of one before it.
fn ordered(
    translation: &Translation<'_>,
    event: &PumpEvent,
    written: &Written,
    administration: &MedicationAdministration<'_>,
    trace: &mut Trace,
) {
    let (told, programme) = (programme(translation, event), &written.programme);
    let drug = match programme.names_a_drug() {
        true => told_or(event.infusion.places.drug, (&told.drug, &told.words) == (&programme.drug, &programme.words)),
        false => Origin::Constant,
    };
    trace.note("medicationCodeableConcept", drug);
    if administration.request.is_some() {
        let request = translation.report.groups[event.group].request;
        trace.note("request", told_or(request.map(|request| request.place(2)), told.order == programme.order));
        trace.note("request.type", Origin::Constant);
        trace.note("request.identifier.type", Origin::Constant);
    }
}

fn dosage(event: &PumpEvent, written: &Written, administration: &MedicationAdministration<'_>, trace: &mut Trace) {
    let Some(dosage) = &administration.dosage else { return };
    let (places, segment, infusion) = (&event.infusion.places, &written.segment, &event.infusion);
    let is = |amount: &Option<Amount>, told: &Option<crate::pcd::Quantity>| {
        amount
            .as_ref()
            .zip(told.as_ref())
            .is_some_and(|(one, other)| Amount::of(&other.value, &other.unit).as_ref() == Some(one))
    };
    if dosage.text.is_some() {
        let told = Origin::of(places.modes);
        let known = mode(event) == Some(segment.mode) && segment.mode != Mode::Usual;
        trace.note("dosage.text", if known { told } else { Origin::remembered::<0>([]) });
    }
    if let Some(dose) = &dosage.dose {
        let volume = places.volume_segment.filter(|_| is(&segment.dose, &infusion.volume_segment));
        // A sum over pauses, or a counter's difference.
        let summed = Origin::remembered([places.volume_segment, places.volume_cumulative]);
        amount("dosage.dose", dose, volume, summed, trace);
    }
    if let Some(rate) = &dosage.rate_quantity {
        let flow = places.flow.filter(|_| is(&segment.rate, &infusion.flow));
        let told = flow.or_else(|| places.dose_rate.filter(|_| is(&segment.rate, &infusion.dose_rate)));
        amount("dosage.rateQuantity", rate, told, Origin::remembered::<0>([]), trace);
    }
}

/// A quantity as one OBX tells it, or as it was reckoned.
fn amount(element: &str, quantity: &Quantity<'_>, told: Option<Place>, otherwise: Origin, trace: &mut Trace) {
    trace.note(element, told.map_or(otherwise, Origin::At));
    if let Some(place) = told.filter(|_| quantity.unit.is_some()) {
        trace.note(format_args!("{element}.unit"), place.beside(6));
    }
    if quantity.code.is_some() {
        trace.note(format_args!("{element}.system"), Origin::Constant);
        told.iter().for_each(|place| trace.note(format_args!("{element}.code"), place.beside(6)));
    }
}
