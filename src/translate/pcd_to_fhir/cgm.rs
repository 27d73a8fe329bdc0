//! A summary of continuous glucose that the engine made by a schedule: the Observations `cgm-summary --fhir` prints, of the
//! patient the destination knows by its own rules.

use jiff::Timestamp;

use super::{
    Context, Origin, Output, PcdToFhir, Recall, Trace, TranslateError, Translated, Translation, bundle::Write, finish,
    patient, refuse,
};
use crate::{
    fhir::Resource,
    hl7::Time,
    pcd::{Nth, Report},
    translate::cgm_summary::{Figure, RANGES, SUMMARY, Values, Writer},
};

pub(super) fn apply(
    settings: &PcdToFhir,
    report: &Report<'_>,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Translated, TranslateError> {
    let told = report.groups.iter().find_map(|group| group.request.zip(group.patient));
    let (request, pid) = told.ok_or_else(|| refuse("PID", patient::NO_PID))?;
    let whose = patient::identify(settings, report.message, pid)?;
    let translation = Translation::new(settings, report, whose, recall);
    let period = (moment(&translation, request, 7)?, moment(&translation, request, 8)?);
    let values = Values::found(|figure| Some(translation.text(row(report, figure)?.raw(5)).into_owned()));
    let values = values.ok_or_else(|| refuse("OBX", INCOMPLETE))?;
    let mut output = Output::new(context.origins);
    patient::write(&translation, &mut output);
    write(&translation, &values, period, (request, pid), &mut output);
    finish(&translation, context, output, Vec::new())
}

fn write<'a>(
    translation: &Translation<'a>,
    values: &Values,
    period: (Timestamp, Timestamp),
    (request, pid): (Nth<'a>, Nth<'a>),
    output: &mut Output<'a>,
) {
    let whose = &translation.patient;
    let channel = translation.text(request.raw(20));
    let subject = if translation.settings.patient_create { &whose.full_url } else { &whose.reference };
    let writer = Writer {
        values,
        channel: &channel,
        patient: (&whose.system, &whose.value),
        subject: subject.clone(),
        period,
        meta: translation.meta(),
    };
    for (figure, observation) in writer.observations() {
        let mut trace = output.trace();
        translation.note_meta(&mut trace);
        note(translation.report, figure, values, (request, pid), &mut trace);
        let identifier = observation.identifier[0].clone();
        let resource = Resource::Observation(Box::new(observation));
        output.resource("Observation", &identifier, Write::Replace, resource, trace);
    }
}

/// Where each element comes from.
fn note(report: &Report<'_>, figure: &Figure, values: &Values, (request, pid): (Nth<'_>, Nth<'_>), trace: &mut Trace) {
    for constant in ["resourceType", "status", "category[0]"] {
        trace.note(constant, Origin::Constant);
    }
    let [whose, from, to] = [pid.place(3), request.place(7), request.place(8)].map(Some);
    let channel = (!request.raw(20).is_empty()).then(|| request.place(20));
    trace.note("identifier[0]", Origin::of([whose, from, to, channel]));
    trace.note("subject", Origin::By(pid.place(3), "identifier_systems"));
    trace.note("effectivePeriod.start", request.place(7));
    trace.note("effectivePeriod.end", request.place(8));
    let mut of_row = |figure, prefix: &str| {
        let Some(obx) = row(report, figure) else { return };
        trace.note(format_args!("{prefix}code"), obx.place(3));
        trace.note(format_args!("{prefix}valueQuantity"), Origin::of([Some(obx.place(5)), Some(obx.place(6))]));
    };
    if figure == &RANGES {
        values.ranges().enumerate().for_each(|(n, (part, _))| of_row(part, &format!("component[{n}].")));
        trace.note("code", Origin::Constant);
    } else if figure == &SUMMARY {
        trace.note("code", request.place(4));
        trace.note("hasMember", Origin::As("the fullUrl of each"));
    } else {
        of_row(figure, "");
    }
}

/// The row of a figure, by its LOINC.
fn row<'a>(report: &Report<'a>, figure: &Figure) -> Option<Nth<'a>> {
    let is = |obx: &Nth<'a>| obx.field(3).component(1).raw() == figure.loinc.as_bytes();
    report.rows.iter().map(|row| row.obx).find(is)
}

fn moment(translation: &Translation<'_>, request: Nth<'_>, field: usize) -> Result<Timestamp, TranslateError> {
    let text = translation.text(request.field(field).component(1).raw());
    let told = Time::parse(&text).ok().and_then(|time| time.timestamp(None));
    told.ok_or_else(|| refuse(request.place(field), "no time with a zone, so the summary is of no period; discard it"))
}

const INCOMPLETE: &str = "the summary lacks one of its ten figures, each of which the CGM profiles want; discard it, and ask for it \
                          with `cannula cgm-summary`";
