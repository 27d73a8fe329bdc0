//! A DiagnosticReport for each order, where the site wants one: what holds the results of one OBR together.

use super::{Origin, Output, Trace, Translation, bundle::Write, concept, references, time};
use crate::{
    fhir::{CodeableConcept, Coding, DiagnosticReport, Period, Reference, Resource, Text, systems},
    pcd::{Coded, Group, Nth},
};

/// Adds a report for every OBR that has a filler number and observations in the bundle. A report grows as results come, so
/// that the newest takes the place of the one before.
pub(super) fn write_all<'a>(translation: &Translation<'a>, output: &mut Output<'a>) {
    if !translation.settings.diagnostic_report {
        return;
    }
    for (at, group) in translation.report.groups.iter().enumerate() {
        let results = output.observations_of(at);
        if let Some(request) = group.request.filter(|_| !results.is_empty()) {
            write(translation, group, request, results, output);
        }
    }
}

fn write<'a>(
    translation: &Translation<'a>,
    group: &Group<'a>,
    request: Nth<'a>,
    results: Vec<Reference<'a>>,
    output: &mut Output<'a>,
) {
    let mut trace = output.trace();
    let Some(mut identifier) = references::entity(translation, request.field(3).first(), "FILL") else { return };
    if identifier.system.is_none() {
        identifier.system = Some(translation.source_system().into());
    }
    let based_on = references::based_on(translation, Some(request));
    if based_on.is_some() {
        trace.note("basedOn[0]", request.place(2));
    }
    let (effective_date_time, effective_period) = effective(translation, request, &mut trace);
    let issued = time::instant(translation, request, 22);
    if issued.is_some() {
        trace.note("issued", request.place(22));
    }
    let section = translation.text(request.field(24).component(1).raw());
    let category = (!section.is_empty()).then(|| {
        trace.note("category[0]", request.place(24));
        Coding { system: Some(systems::DIAGNOSTIC_SECTION.into()), code: Some(section), display: None }.into()
    });
    let mut code = concept::concept(translation, &Coded::read(request.field(4).first()));
    trace.note("code", if code.is_empty() { Origin::Constant } else { request.place(4).into() });
    if code.is_empty() {
        code = CodeableConcept::text("Results");
    }
    let unsaid = request.raw(25).is_empty();
    trace.note("status", if unsaid { Origin::Constant } else { request.place(25).into() });
    trace.note("resourceType", Origin::Constant);
    trace.note("identifier[0]", request.place(3));
    trace.note("result", Origin::As("the fullUrl of each"));
    translation.note_meta(&mut trace);
    let report = DiagnosticReport {
        resource_type: "DiagnosticReport",
        meta: translation.meta(),
        identifier: vec![identifier.clone()],
        based_on: based_on.into_iter().collect(),
        status: status(&translation.text(request.field(25).component(1).raw())),
        category: category.into_iter().collect(),
        code,
        subject: Some(translation.subject_of(group, &mut trace)),
        encounter: translation.visit_of(group, "encounter", &mut trace),
        effective_date_time,
        effective_period,
        issued,
        performer: Vec::new(),
        result: results,
    };
    output.resource(
        "DiagnosticReport",
        &identifier,
        Write::Replace,
        Resource::DiagnosticReport(Box::new(report)),
        trace,
    );
}

/// OBR-7, and OBR-8 where it differs.
fn effective(translation: &Translation<'_>, request: Nth<'_>, trace: &mut Trace) -> (Option<String>, Option<Period>) {
    match (moment(translation, request, 7), moment(translation, request, 8)) {
        (Some(start), Some(end)) if start != end => {
            trace.note("effectivePeriod", Origin::of([Some(request.place(7)), Some(request.place(8))]));
            (None, Some(Period { start: Some(start), end: Some(end) }))
        }
        (Some(start), _) => {
            trace.note("effectiveDateTime", request.place(7));
            (Some(start), None)
        }
        (None, _) => (None, None),
    }
}

fn moment(translation: &Translation<'_>, request: Nth<'_>, field: usize) -> Option<String> {
    Some(request.raw(field)).filter(|raw| !raw.is_empty())?;
    time::remark(translation, request.field(field).component(1).raw())
}

/// Table 0123 as diagnostic-report-status (v2-to-FHIR).
fn status(code: &Text<'_>) -> &'static str {
    match &**code {
        "O" | "I" | "S" => "registered",
        "P" => "preliminary",
        "A" | "R" => "partial",
        "F" => "final",
        "C" | "M" => "corrected",
        "X" => "cancelled",
        _ => "unknown",
    }
}
