//! One OBX, and the facets that belong to it, as one Observation.

use std::collections::HashMap;

use super::{
    Devices, Output, Trace, TranslateError, Translation, concept, outcome, patient, refuse,
    time::{self, Effective},
    unit::{self, Unit},
    value::{Content, Reading},
};
use crate::{
    fhir::{
        Annotation, CodeableConcept, Coding, Component, Identifier, Observation, Reference, ReferenceRange, Value,
        fingerprint, systems,
    },
    pcd::{Coded, Loinc, Nth, Place, Role, Row},
};

/// Adds an Observation for every row that is one.
pub(super) fn write_all<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    output: &mut Output<'a>,
) -> Result<(), TranslateError> {
    let rows = &translation.report.rows;
    let mut facets: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        if let Some(metric) = folds_into(rows, row) {
            facets.entry(metric).or_default().push(i);
        }
    }
    for (i, row) in rows.iter().enumerate() {
        let observed = matches!(row.role, Role::Metric | Role::Facet) && folds_into(rows, row).is_none();
        if observed {
            let facets = facets.get(&i).map(Vec::as_slice).unwrap_or_default();
            write(translation, devices, row, facets, output)?;
        }
    }
    Ok(())
}

/// The metric a facet is a component of: a component can have neither a time nor a status of its own.
fn folds_into(rows: &[Row<'_>], row: &Row<'_>) -> Option<usize> {
    let metric = row.parent.filter(|_| row.role == Role::Facet)?;
    let above = &rows[metric];
    let same_time = row.obx.raw(14).is_empty() || row.obx.raw(14) == above.obx.raw(14);
    (same_time && row.obx.raw(11) == above.obx.raw(11) && above.role == Role::Metric).then_some(metric)
}

/// What a row measured, apart from who, when and with what.
struct Measured<'a> {
    code: CodeableConcept<'a>,
    category: Option<&'a str>,
    value: Option<Value<'a>>,
    several: Vec<Value<'a>>,
    exceptional: Option<&'static str>,
    outcome: outcome::Outcome<'a>,
    limits: Vec<ReferenceRange<'a>>,
}

impl Measured<'_> {
    fn has_value(&self) -> bool {
        self.value.is_some() || !self.several.is_empty()
    }

    /// Why there is no value; settles the interpretation too.
    fn absent(&mut self, has_value: bool) -> Option<CodeableConcept<'static>> {
        let settled = self.outcome.settle(has_value || self.exceptional.is_some());
        self.exceptional.map(outcome::reason).or(settled)
    }
}

fn measure<'a>(
    translation: &Translation<'a>,
    row: &'a Row<'a>,
    effective: &Effective,
    output: &mut Output<'a>,
) -> Result<Measured<'a>, TranslateError> {
    let mut unit: Unit<'a> = unit::of(translation, row, output)?;
    let nomenclature = &translation.settings.nomenclature;
    let loinc: Vec<&'a Loinc> =
        row.term.code.map(|code| nomenclature.loinc(code, unit.ucum.as_deref()).collect()).unwrap_or_default();
    unit.spelled_as(&loinc);
    let outcome = outcome::flags(translation, row, output);
    let reading = Reading { translation, row, unit: &unit, effective, comparator: outcome.comparator };
    let content = if outcome.withheld { Content::Empty } else { reading.content()? };
    let limits = reading.limits();
    let code = concept::code(translation, row, &loinc, output);
    if code.is_empty() {
        return Err(refuse(row.place_of(3), "is empty; ask the sender to name what was observed"));
    }
    let category = loinc.first().map(|row| &*row.category);
    let category = category.or_else(|| row.code.mdc_or_alike().map(|_| "procedure"));
    let (value, several, exceptional) = match content {
        Content::Empty => (None, Vec::new(), None),
        Content::One(value) => (Some(value), Vec::new(), None),
        Content::Several(values) => (None, values, None),
        Content::Exceptional(reason) => (None, Vec::new(), Some(reason)),
    };
    Ok(Measured { code, category, value, several, exceptional, outcome, limits })
}

fn write<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &'a Row<'a>,
    facets: &[usize],
    output: &mut Output<'a>,
) -> Result<(), TranslateError> {
    let effective = time::effective(translation, row)?;
    let mut trace = output.trace();
    let mut measured = measure(translation, row, &effective, output)?;
    let component = components(translation, &mut measured, facets, &effective, output, &mut trace)?;
    let has_value = measured.value.is_some() || !component.is_empty();
    let Some(status) = outcome::status(translation, row, has_value)? else { return Ok(()) };
    let data_absent_reason = measured.absent(has_value);
    if row.obx.raw(11) == b"V" {
        measured.outcome.interpretation.push(Coding::of(systems::MEASUREMENT_STATUS, "validated-data").into());
    }
    let subject = translation.report.group(row).patient.map_or(row.place_of(3), |pid| pid.place(3));
    sources(row, &measured, &data_absent_reason, &effective, subject, &mut trace);
    let mut meta = translation.meta();
    let security = std::mem::take(&mut measured.outcome.security);
    security.into_iter().for_each(|coding| {
        if !meta.security.contains(&coding) {
            meta.security.push(coding)
        }
    });
    let identifier = vec![identify(translation, devices, row, &effective)];
    let observation = Observation {
        resource_type: "Observation",
        meta,
        identifier,
        based_on: based_on(translation, row),
        status: status.code,
        category: measured.category.map(category).into_iter().collect(),
        code: measured.code,
        subject: Some(Reference::to(translation.patient.reference.clone())),
        encounter: encounter(translation, row),
        effective_date_time: effective.date_time,
        effective_period: effective.period,
        issued: translation.report.group(row).request.and_then(|obr| time::instant(translation, obr, 22)),
        performer: performers(translation, row),
        value: measured.value,
        data_absent_reason,
        interpretation: measured.outcome.interpretation,
        note: notes(translation, row),
        body_site: coded(translation, row, 20),
        method: coded(translation, row, 17),
        device: devices.reference(translation, row),
        reference_range: measured.limits,
        component,
        ..Observation::default()
    };
    output.observation(observation, status.write, trace);
    Ok(())
}

/// The values of a repeated OBX-5, then the facets.
fn components<'a>(
    translation: &Translation<'a>,
    measured: &mut Measured<'a>,
    facets: &[usize],
    effective: &Effective,
    output: &mut Output<'a>,
    trace: &mut Trace,
) -> Result<Vec<Component<'a>>, TranslateError> {
    let mut component = repeated(measured);
    for &facet in facets {
        let facet = &translation.report.rows[facet];
        let found = measure(translation, facet, effective, output)?;
        trace.note(&format!("component[{}]", component.len()), facet.place_of(5));
        component.extend(facet_component(found));
    }
    Ok(component)
}

/// A repeated OBX-5: each value a component of the same code.
fn repeated<'a>(measured: &mut Measured<'a>) -> Vec<Component<'a>> {
    let values = std::mem::take(&mut measured.several);
    let component = |value| Component {
        code: measured.code.clone(),
        value: Some(value),
        data_absent_reason: None,
        interpretation: Vec::new(),
        reference_range: Vec::new(),
    };
    values.into_iter().map(component).collect()
}

fn facet_component(mut facet: Measured<'_>) -> Vec<Component<'_>> {
    let several = repeated(&mut facet);
    if !several.is_empty() {
        return several;
    }
    let data_absent_reason = facet.absent(facet.has_value());
    vec![Component {
        code: facet.code,
        value: facet.value,
        data_absent_reason,
        interpretation: facet.outcome.interpretation,
        reference_range: facet.limits,
    }]
}

/// What names this observation and no other, however often it is sent: patient, device, place, code and time. Neither
/// the message's control id nor its time is part of it, since a gateway that sends again makes new ones; nor, unless
/// configured, is the value, so that a correction finds what it corrects.
fn identify<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &Row<'a>,
    effective: &Effective,
) -> Identifier<'a> {
    let instance = row.obx.field(21).first();
    let value = translation.text(instance.component(1).raw());
    if !value.is_empty() && value != "\"\"" {
        let part = |n| translation.text(instance.component(n).raw());
        if let Some(system) = patient::system_of(translation.settings, &part(2), &part(3), &part(4))
            .filter(|_| !(part(2).is_empty() && part(3).is_empty()))
        {
            return Identifier { kind: None, system: Some(system.into()), value };
        }
        let scoped = fingerprint(["instance", &translation.sender, &part(2), &part(3), &value]);
        return Identifier { kind: None, system: Some(systems::OWN_OBSERVATION.into()), value: scoped.into() };
    }
    let triplet = row.code.mdc_or_alike().or_else(|| row.code.triplets().next()).unwrap_or_default();
    let code = if matches!(triplet.code, b"" | b"0" | b"999999") { triplet.text } else { triplet.code };
    let (device, place, code) =
        (devices.key(translation, row), translation.text(row.obx.raw(4)), translation.text(code));
    let (sent, unit) = (translation.text(row.obx.raw(5)), translation.text(row.obx.raw(6)));
    let patient = &translation.patient;
    let mut parts = vec![&*patient.system, &patient.value, &device, &place, &code, &effective.key];
    if translation.settings.value_in_identity {
        parts.extend([&*sent, &unit]);
    }
    let value = fingerprint(parts);
    Identifier { kind: None, system: Some(systems::OWN_OBSERVATION.into()), value: value.into() }
}

fn category(code: &str) -> CodeableConcept<'_> {
    Coding { system: Some(systems::OBSERVATION_CATEGORY.into()), code: Some(code.into()), display: None }.into()
}

/// The first repetition: R4 has room for one.
fn coded<'a>(translation: &Translation<'a>, row: &Row<'a>, field: usize) -> Option<CodeableConcept<'a>> {
    let concept = concept::concept(translation, &Coded::read(row.obx.field(field).first()));
    (!concept.is_empty()).then_some(concept)
}

fn notes<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Vec<Annotation<'a>> {
    let texts = row.notes.iter().map(|note| {
        let lines = note.field(3).repetitions().map(|line| translation.text(line.raw()));
        lines.collect::<Vec<_>>().join("\n")
    });
    texts
        .filter(|text| !text.trim().is_empty())
        .map(|text| Annotation { text: text.into(), ..Annotation::default() })
        .collect()
}

/// OBR-2, the order: of what kind it is, only the ordering system knows. A gateway that repeats its own number there
/// names no order.
fn based_on<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Vec<Reference<'a>> {
    let request = translation.report.group(row).request;
    let placer = request.and_then(|request| order(translation, request));
    placer.map(|placer| Reference::logical(None, placer)).into_iter().collect()
}

/// OBR-2.
pub(super) fn order<'a>(translation: &Translation<'a>, request: Nth<'a>) -> Option<Identifier<'a>> {
    let placer = request.field(2).first();
    let part = |n| translation.text(placer.component(n).raw());
    let value = part(1);
    if value.is_empty() || value == "\"\"" || request.raw(2) == request.raw(3) {
        return None;
    }
    let named = !(part(2).is_empty() && part(3).is_empty());
    let system = named.then(|| patient::system_of(translation.settings, &part(2), &part(3), &part(4))).flatten();
    let kind = Some(Coding::of(systems::IDENTIFIER_TYPE, "PLAC").into());
    Some(Identifier { kind, system: system.map(Into::into), value })
}

/// PV1-19, by identifier alone: that the record knows the visit is not for a device to ensure.
pub(super) fn encounter<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Option<Reference<'a>> {
    let visit = translation.report.group(row).visit?.field(19).first();
    let value = translation.text(visit.component(1).raw());
    if value.is_empty() || value == "\"\"" {
        return None;
    }
    let part = |n| translation.message.text(visit.component(4).subcomponent(n));
    let system = patient::system_of(translation.settings, &part(1), &part(2), &part(3))?;
    let kind = Some(Coding::of(systems::IDENTIFIER_TYPE, "VN").into());
    Some(Reference::logical(Some("Encounter"), Identifier { kind, system: Some(system.into()), value }))
}

/// OBX-16, who operated the device.
fn performers<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Vec<Reference<'a>> {
    if row.obx.raw(16).is_empty() {
        return Vec::new();
    }
    let person = |xcn: crate::hl7::Repetition<'a>| {
        let part = |n| translation.text(xcn.component(n).raw());
        let authority = |n| translation.message.text(xcn.component(9).subcomponent(n));
        let named = !xcn.component(9).is_empty();
        let system = named
            .then(|| patient::system_of(translation.settings, &authority(1), &authority(2), &authority(3)))
            .flatten();
        let value = part(1);
        let identifier = (!value.is_empty()).then(|| Identifier { kind: None, system: system.map(Into::into), value });
        let name = [part(3), part(2)].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(" ");
        let display = (!name.is_empty()).then(|| name.into());
        let known = identifier.is_some() || display.is_some();
        known.then_some(Reference { reference: None, kind: Some("Practitioner"), identifier, display })
    };
    row.obx.field(16).repetitions().filter_map(person).collect()
}

fn sources(
    row: &Row<'_>,
    measured: &Measured<'_>,
    absent: &Option<CodeableConcept<'_>>,
    effective: &Effective,
    subject: Place,
    trace: &mut Trace,
) {
    let element = if effective.period.is_some() { "effectivePeriod" } else { "effectiveDateTime" };
    trace.note(element, effective.place);
    trace.note("subject", subject);
    trace.note("status", row.place_of(11));
    trace.note("code", row.place_of(3));
    if let Some(value) = &measured.value {
        trace.note(value.element(), row.place_of(5));
        if matches!(value, Value::Quantity(_)) && !row.obx.raw(6).is_empty() {
            trace.note("valueQuantity.unit", row.place_of(6));
        }
    }
    let fields = [
        (absent.is_some(), "dataAbsentReason", 8),
        (!measured.outcome.interpretation.is_empty(), "interpretation", 8),
        (!measured.outcome.security.is_empty(), "meta.security", 8),
        (!measured.limits.is_empty(), "referenceRange[0]", 7),
        (!row.obx.raw(17).is_empty(), "method", 17),
        (!row.obx.raw(20).is_empty(), "bodySite", 20),
        (!row.obx.raw(21).is_empty(), "identifier[0]", 21),
    ];
    for (written, element, field) in fields {
        if written {
            trace.note(element, row.place_of(field));
        }
    }
}
