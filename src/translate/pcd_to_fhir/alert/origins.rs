//! Where each element of an alert's Observation came from: this message, or what was remembered of the alert.

use super::{
    super::{Alerts, Origin, Trace, Translation},
    Source,
    standing::Standing,
};
use crate::{
    fhir::{CodeableConcept, Observation, Value, systems},
    pcd::{Alert, Nth, Place},
};

pub(super) fn note(
    translation: &Translation<'_>,
    source: &Source<'_>,
    alert: &Alert,
    (now, pid): (&Standing, Option<Nth<'_>>),
    observation: &Observation<'_>,
    trace: &mut Trace,
) {
    let places = &alert.places;
    translation.note_meta(trace);
    for element in ["resourceType", "category", "identifier[0].system"] {
        trace.note(element, Origin::Constant);
    }
    // The alert is named by when it was first told.
    let first = now.is_first();
    let named = [Some(source.place), places.instance.or(places.event), places.at.filter(|_| first)];
    trace.note("identifier[0].value", if first { Origin::of(named) } else { Origin::remembered(named) });
    trace.note("status", status(translation, alert, first));
    trace.note("code", places.event.map_or(Origin::Constant, Origin::At));
    if let Some(place) = places.text.filter(|_| alert.text.is_some()) {
        trace.note("code.text", place);
    }
    match pid {
        Some(pid) => trace.note("subject", Origin::By(pid.place(3), "identifier_systems")),
        None => trace.note("subject", source.place),
    }
    if observation.device.is_some() {
        trace.note("device", source.place);
    }
    translation.visit_of(translation.report.group(&translation.report.rows[source.row]), "encounter", trace);
    effective(alert, now, observation, trace);
    if let Some(place) = places.state.filter(|_| observation.value.is_some()) {
        trace.note("valueCodeableConcept", place);
        coded("valueCodeableConcept", observation.value.as_ref().and_then(concept), trace);
    }
    interpretation(alert, observation, trace);
    components(alert, observation, trace);
}

fn status(translation: &Translation<'_>, alert: &Alert, first: bool) -> Origin {
    let told = [alert.places.phase, alert.places.state];
    match translation.settings.alerts {
        Alerts::Final => Origin::Configuration("alerts"),
        _ if !first => Origin::remembered(told),
        _ if told.iter().all(Option::is_none) => Origin::Constant,
        _ => Origin::of(told),
    }
}

/// What is told now is of this message; the rest was told before.
fn effective(alert: &Alert, now: &Standing, observation: &Observation<'_>, trace: &mut Trace) {
    let from = |text: &str| {
        let own = alert.places.at.filter(|_| now.told_last(text));
        own.map_or(Origin::remembered::<0>([]), Origin::At)
    };
    if let Some(at) = &observation.effective_date_time {
        trace.note("effectiveDateTime", from(at));
    }
    let Some(period) = &observation.effective_period else { return };
    for (element, text) in [("effectivePeriod.start", &period.start), ("effectivePeriod.end", &period.end)] {
        text.iter().for_each(|text| trace.note(element, from(text)));
    }
}

fn interpretation(alert: &Alert, observation: &Observation<'_>, trace: &mut Trace) {
    for (i, concept) in observation.interpretation.iter().enumerate() {
        let coding = concept.coding.first().cloned().unwrap_or_default();
        let flag = alert.flags.iter().position(|flag| coding.code.as_deref() == Some(flag.as_str()));
        let place = match coding.system.as_deref() {
            Some(systems::MEASUREMENT_STATUS) => alert.places.state,
            _ => flag.map(|flag| alert.places.flags[flag]),
        };
        let element = format!("interpretation[{i}]");
        place.iter().for_each(|place| trace.note(&element, *place));
        coded(&element, Some(concept), trace);
    }
}

/// In the order they are written in: facets of a code of their own, the source, what was measured.
fn components(alert: &Alert, observation: &Observation<'_>, trace: &mut Trace) {
    let places = &alert.places;
    let mut facets: Vec<Option<Place>> = Vec::new();
    facets.extend(alert.phase.as_ref().map(|_| places.phase));
    facets.extend(places.inactivation.iter().copied().map(Some));
    facets.extend(alert.priority.as_ref().map(|_| places.priority));
    facets.extend(alert.kind.as_ref().map(|_| places.kind));
    facets.extend(alert.source.as_ref().map(|_| places.source));
    for (i, component) in observation.component.iter().enumerate() {
        let element = |name: &str| format!("component[{i}].{name}");
        let Some(value) = &component.value else { continue };
        if let Some(place) = facets.get(i) {
            trace.note(element("code"), Origin::Constant);
            trace.note(element(value.element()), place.map_or(Origin::Constant, Origin::At));
            coded(&element(value.element()), concept(value), trace);
            continue;
        }
        let Some(observed) = alert.observed.get(i - facets.len()) else { continue };
        trace.note(element("code"), observed.place.beside(3));
        trace.note(element(value.element()), observed.place);
        if let Value::Quantity(quantity) = value
            && quantity.unit.is_some()
        {
            trace.note(element("valueQuantity.unit"), observed.place.beside(6));
            if quantity.code.is_some() {
                trace.note(element("valueQuantity.code"), observed.place.beside(6));
                trace.note(element("valueQuantity.system"), Origin::Constant);
            }
        }
        if let Some(limits) = component.reference_range.first() {
            trace.note(element("referenceRange[0]"), observed.place.beside(7));
            if limits.kind.is_some() {
                trace.note(element("referenceRange[0].type"), Origin::Constant);
            }
        }
    }
}

/// The system is ours: only the code is what was sent.
fn coded(element: &str, concept: Option<&CodeableConcept<'_>>, trace: &mut Trace) {
    if concept.is_some_and(|concept| concept.coding.first().is_some_and(|coding| coding.system.is_some())) {
        trace.note(format_args!("{element}.coding[0].system"), Origin::Constant);
    }
}

fn concept<'v, 'a>(value: &'v Value<'a>) -> Option<&'v CodeableConcept<'a>> {
    match value {
        Value::Concept(concept) => Some(concept),
        _ => None,
    }
}
