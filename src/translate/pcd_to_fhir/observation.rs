//! One OBX, and the facets that belong to it, as one Observation.

use std::collections::HashMap;

use super::{
    DeviceDetail, Devices, Origin, Output, Trace, TranslateError, Translation, compound, concept, correction, identity,
    insulin,
    measured::{Measured, measure},
    note, outcome, references,
    time::{self, Effective},
};
use crate::{
    fhir::{CodeableConcept, Coding, Component, Extended, Extension, Observation, systems},
    pcd::{Coded, Place, Role, Row},
};

/// Adds an Observation for every row that is one, or a MedicationAdministration for a dose of insulin.
pub(super) fn write_all<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    output: &mut Output<'a>,
) -> Result<(), TranslateError> {
    let rows = &translation.report.rows;
    let panels = compound::blood_pressures(translation);
    let mut parts: HashMap<usize, Vec<usize>> = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        if let Some(metric) = folds_into(rows, row) {
            parts.entry(metric).or_default().push(i);
        }
    }
    for (i, row) in rows.iter().enumerate() {
        if !matches!(row.role, Role::Metric | Role::Facet) || folds_into(rows, row).is_some() {
            continue;
        }
        match panels.iter().find(|panel| panel.contains(&i)) {
            Some(panel) if panel[0] == i => write(translation, devices, row, panel, true, output)?,
            Some(_) => {}
            None if insulin::write(translation, devices, row, output)? => {}
            None => {
                let facets = parts.get(&i).map(Vec::as_slice).unwrap_or_default();
                write(translation, devices, row, facets, false, output)?;
            }
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

/// `row` with its parts; where it `heads` a panel, it is itself one of them.
fn write<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &'a Row<'a>,
    parts: &[usize],
    heads: bool,
    output: &mut Output<'a>,
) -> Result<(), TranslateError> {
    let effective = time::effective(translation, row)?;
    let mut trace = output.trace();
    let mut measured = match heads {
        true => compound::head(translation),
        false => measure(translation, row, &effective, output)?,
    };
    let mut security: Security = measured.security(row).collect();
    let mut component = repeated(row, &mut measured, 0, &mut trace);
    components(translation, parts, &effective, output, (&mut component, &mut security), &mut trace)?;
    let has_value = measured.has_value() || !component.is_empty();
    let Some(status) = outcome::status(translation, row, has_value)? else { return Ok(()) };
    let data_absent_reason = measured.absent(row, has_value, "", &mut trace);
    if row.obx.raw(11) == b"V" && !heads {
        trace.note(format_args!("interpretation[{}]", measured.outcome.interpretation.len()), row.place_of(11));
        measured.outcome.interpretation.push(Coding::of(systems::MEASUREMENT_STATUS, "validated-data").into());
    }
    measured.note_origins(row, "", &mut trace);
    let mut observation = envelope(translation, devices, row, &effective, heads.then_some(compound::CODE), &mut trace);
    if correction::is_outdated(translation, &observation.identifier[0], status.write, output) {
        return Ok(());
    }
    observation.status = status.code;
    trace.note("status", said(row, 11));
    for (coding, place) in security {
        if !observation.meta.security.contains(&coding) {
            trace.note(format_args!("meta.security[{}]", observation.meta.security.len()), place);
            observation.meta.security.push(coding);
        }
    }
    if translation.settings.device_detail == DeviceDetail::Metric {
        let unit = measured.unit.take();
        observation.device = devices.metric(translation, row, &measured.code, unit, output).or(observation.device);
    }
    note::conversion(translation, row, &measured, &mut observation.note, &mut trace);
    for value in std::mem::take(&mut measured.attachments) {
        trace.note(format_args!("extension[{}]", observation.extension.len()), row.place_of(5));
        observation.extension.push(Extension { url: systems::VALUE_EXTENSION, value: Extended::Attachment(value) });
    }
    measured.category.write(row, &mut observation.category, &mut trace);
    observation.code = measured.code;
    observation.value = measured.value;
    observation.data_absent_reason = data_absent_reason;
    observation.interpretation = measured.outcome.interpretation;
    observation.reference_range = measured.limits;
    observation.component = component;
    output.observation(observation, row.group, status.write, trace);
    Ok(())
}

/// Everything of an observation but what was observed: who, when, where, with what, for which order.
pub(super) fn envelope<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &'a Row<'a>,
    effective: &Effective,
    code: Option<&'static str>,
    trace: &mut Trace,
) -> Observation<'a> {
    let group = translation.report.group(row);
    let (identifier, made_of) = identity::of(translation, devices, row, effective, code);
    trace.note("resourceType", Origin::Constant);
    trace.note("identifier[0]", made_of);
    translation.note_meta(trace);
    let based_on = references::based_on(translation, group.request);
    if let (Some(_), Some(obr)) = (&based_on, group.request) {
        trace.note("basedOn[0]", obr.place(2));
    }
    effective.note(trace);
    let issued = group.request.and_then(|obr| time::instant(translation, obr, 22).map(|at| (at, obr.place(22))));
    if let Some((_, place)) = &issued {
        trace.note("issued", *place);
    }
    let performers = references::performers(translation, row);
    for (i, (_, place)) in performers.iter().enumerate() {
        trace.note(format_args!("performer[{i}]"), *place);
    }
    let device = devices.reference(translation, row);
    if device.is_some() {
        trace.note("device", devices.place(translation, row));
    }
    Observation {
        resource_type: "Observation",
        meta: translation.meta(),
        extension: extensions(translation, row, trace),
        identifier: vec![identifier],
        based_on: based_on.into_iter().collect(),
        subject: Some(translation.subject(row, trace)),
        encounter: translation.visit(row, "encounter", trace),
        effective_date_time: effective.date_time.clone(),
        effective_period: effective.period.clone(),
        issued: issued.map(|(at, _)| at),
        performer: performers.into_iter().map(|(performer, _)| performer).collect(),
        note: note::of(translation, row, trace),
        body_site: coded(translation, row, 20, "bodySite", trace),
        method: coded(translation, row, 17, "method", trace),
        device,
        ..Observation::default()
    }
}

/// A field, or nothing where it says nothing.
pub(super) fn said(row: &Row<'_>, field: usize) -> Origin {
    if row.obx.raw(field).is_empty() { Origin::Constant } else { row.place_of(field).into() }
}

/// The facets of a row, or the members of a panel; of a component only the whole can say how reliable it is.
fn components<'a>(
    translation: &Translation<'a>,
    parts: &[usize],
    effective: &Effective,
    output: &mut Output<'a>,
    (component, security): (&mut Vec<Component<'a>>, &mut Security),
    trace: &mut Trace,
) -> Result<(), TranslateError> {
    for &part in parts {
        let row = &translation.report.rows[part];
        let mut found = measure(translation, row, effective, output)?;
        security.extend(found.security(row));
        let more = part_components(row, found, component.len(), trace);
        component.extend(more);
    }
    Ok(())
}

/// How reliable a value is, and which row said so.
type Security = Vec<(Coding<'static>, Place)>;

/// A repeated OBX-5: each value a component of the same code.
fn repeated<'a>(row: &Row<'a>, measured: &mut Measured<'a>, from: usize, trace: &mut Trace) -> Vec<Component<'a>> {
    let values = std::mem::take(&mut measured.several);
    for (i, value) in values.iter().enumerate() {
        trace.note(format_args!("component[{}].code", from + i), row.place_of(3));
        trace.note(format_args!("component[{}].{}", from + i, value.element()), row.place_of(5));
    }
    let component = |value| Component { code: measured.code.clone(), value: Some(value), ..Component::default() };
    values.into_iter().map(component).collect()
}

fn part_components<'a>(row: &Row<'a>, mut part: Measured<'a>, from: usize, trace: &mut Trace) -> Vec<Component<'a>> {
    let several = repeated(row, &mut part, from, trace);
    if !several.is_empty() {
        return several;
    }
    let prefix = if trace.is_wanted() { format!("component[{from}].") } else { String::new() };
    let data_absent_reason = part.absent(row, part.has_value(), &prefix, trace);
    part.note_origins(row, &prefix, trace);
    vec![Component {
        code: part.code,
        value: part.value,
        data_absent_reason,
        interpretation: part.outcome.interpretation,
        reference_range: part.limits,
    }]
}

/// The first repetition: R4 has room for one.
fn coded<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    field: usize,
    element: &str,
    trace: &mut Trace,
) -> Option<CodeableConcept<'a>> {
    if row.obx.raw(field).is_empty() {
        return None;
    }
    let sent = Coded::read(row.obx.field(field).first());
    let concept = match sent.mdc().filter(|triplet| field == 17 && METHODS.contains(&triplet.code)) {
        Some(triplet) => {
            let display = Some(translation.text(triplet.text)).filter(|text| !text.is_empty());
            let code = Some(translation.text(triplet.code));
            Coding { system: Some(systems::MDC.into()), code, display }.into()
        }
        None => concept::concept(translation, &sent),
    };
    let written = (!concept.is_empty()).then_some(concept);
    if written.is_some() {
        trace.note(element, row.place_of(field));
    }
    written
}

/// OBX-17 of a device, which the framework takes for codes of MDC though they have no number (TF-2 B.8.6, CP-158).
const METHODS: &[&[u8]] =
    &[b"AMEAS", b"MMEAS", b"ASET", b"MSET", b"RSET", b"ACALC", b"MCALC", b"UNSPEC", b"AUSRFS", b"INVRFS"];

/// OBX-19, and as the site wants them OBX-4 and PV1-3.
fn extensions<'a>(translation: &Translation<'a>, row: &Row<'a>, trace: &mut Trace) -> Vec<Extension<'a>> {
    let mut extensions = Vec::new();
    let mut add = |url, value: Extended<'a>, origin: Origin| {
        trace.note(format_args!("extension[{}]", extensions.len()), origin);
        extensions.push(Extension { url, value });
    };
    if !row.obx.raw(19).is_empty()
        && let Some(at) = time::remark(translation, row.obx.field(19).component(1).raw())
    {
        add(systems::ANALYSIS_TIME_EXTENSION, Extended::DateTime(at), row.place_of(19).into());
    }
    if translation.settings.sub_id && !row.obx.raw(4).is_empty() {
        let sent = Extended::Text(translation.text(row.obx.raw(4)));
        let inner = vec![Extension { url: "original-sub-identifier", value: sent }];
        add(systems::SUB_ID_EXTENSION, Extended::Inner(inner), row.place_of(4).into());
    }
    let visit = translation.report.group(row).visit.filter(|_| translation.settings.location);
    if let (Some(bed), Some(pv1)) = (references::location(translation, visit), visit) {
        add(systems::LOCATION_EXTENSION, Extended::Reference(bed), pv1.place(3).into());
    }
    extensions
}
