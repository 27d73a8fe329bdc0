//! IHE PCD device reports (PCD-01), pump events (PCD-10) and alerts (PCD-04), each as one FHIR R4 transaction.
//!
//! Results of a laboratory (`Semantics::Results`) go the same way, without a device's meaning of OBX-4 and OBX-7. Every OBX
//! that holds an observation becomes an Observation, or part of one, of the patient the message names; never of another,
//! and never of nobody. Sending the same observation again, in the same message or in a new one, names it by
//! the same identifier, so that the server keeps one. Follows HL7 uv-pocd first, HL7 v2-to-fhir second.
//!
//! What is told over several messages, a pump's infusion (`administration`) or an alert (`alert`), becomes resources that
//! are updated in their place, by what the destination remembers of it.

pub(super) mod administration;
mod alert;
mod attachment;
mod bundle;
mod cgm;
mod compound;
pub(super) mod concept;
mod correction;
mod describe;
mod device;
mod identity;
mod infusion;
pub(super) mod insulin;
mod measured;
pub(super) mod memory;
mod note;
mod observation;
pub(super) mod outcome;
mod patient;
mod provenance;
mod references;
mod report;
#[cfg(test)]
mod tests;
mod time;
mod trace;
mod unit;
mod value;

use std::fmt::Display;

use super::{
    Alerts, Category, CodeKind, Context, Conversion, DeviceDetail, EncounterReference, EpisodeChange, Format,
    PcdToFhir, Recall, Semantics, TranslateError, Translated, Unmapped, Unsent, cgm_summary::is_cgm_summary,
};
use crate::{
    fhir::{self, Coding, Meta, Reference, Text, systems},
    hl7::{Message, repair},
    pcd::{self, Group, Nth, PumpEvent, Report, Role, Row},
};

use self::{
    bundle::Output,
    device::Devices,
    patient::Patient,
    trace::{Origin, Trace},
};

/// The transaction for this message, or why there is none.
pub(super) fn apply(
    settings: &PcdToFhir,
    message: &Message,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Translated, TranslateError> {
    let report = match settings.semantics {
        Semantics::Device => Report::read(message, &settings.nomenclature),
        Semantics::Results => Report::read_flat(message, &settings.nomenclature),
    };
    check_kind(settings, &report)?;
    if let Some(segment) = repair::surely_glued(message) {
        return Err(refuse(segment.id(), GLUED));
    }
    if let Some(pid) = report.second_patient {
        return Err(refuse(pid.place(3), patient::TWO));
    }
    if is_cgm_summary(message) {
        return cgm::apply(settings, &report, context, recall);
    }
    if settings.semantics == Semantics::Device && report.is_alert() {
        return alert::apply(settings, &report, context, recall);
    }
    if let Some(event) = pump_event(settings, &report) {
        return administration::apply(settings, &report, &event, context, recall);
    }
    if !report.rows.iter().any(|row| matches!(row.role, Role::Metric | Role::Facet)) {
        return Ok(Translated::unsent(Unsent::NoObservation, Vec::new()));
    }
    let patient = patient::of(settings, &report)?;
    let translation = Translation::new(settings, &report, patient, recall);
    let mut output = Output::new(context.origins);
    patient::write(&translation, &mut output);
    let devices = Devices::of(&translation, &mut output);
    observation::write_all(&translation, &devices, &mut output)?;
    if !output.holds_observations() {
        return Ok(Translated::unsent(Unsent::NoObservation, Vec::new()));
    }
    report::write_all(&translation, &mut output);
    finish(&translation, context, output, Vec::new())
}

/// The transaction, with the Provenance of what is in it, and what is to be remembered with it.
fn finish<'a>(
    translation: &Translation<'a>,
    context: Context,
    mut output: Output<'a>,
    mut episodes: Vec<EpisodeChange>,
) -> Result<Translated, TranslateError> {
    if let Some(name) = &translation.patient.authority {
        output.unmapped.insert(0, Unmapped::new("identifier_systems", name, "", ""));
    }
    if translation.settings.device_detail != DeviceDetail::IdentifierOnly {
        provenance::write(translation, context, &mut output);
    }
    let body = output.transaction(translation)?;
    episodes.append(&mut output.episodes);
    let (unmapped, origins) = (output.unmapped, output.origins);
    Ok(Translated { body, format: Format::FhirBundle, unsent: None, doubt: None, unmapped, origins, episodes })
}

/// The event of a message that is to be told as what was administered.
fn pump_event(settings: &PcdToFhir, report: &Report<'_>) -> Option<PumpEvent> {
    let infusions = &settings.infusions;
    if !infusions.written || report.message.msh().field(9).component(2).raw() != b"R42" {
        return None;
    }
    let event = PumpEvent::of(report, &settings.nomenclature)?;
    (event.infusion.drug.is_some() || !infusions.require_drug).then_some(event)
}

/// What all parts of one translation look at.
struct Translation<'a> {
    settings: &'a PcdToFhir,
    message: &'a Message,
    report: &'a Report<'a>,
    msh: Nth<'a>,
    patient: Patient,
    /// Who sent it, as the scope of its names.
    sender: String,
    /// meta.source: sender and control id.
    source: String,
    /// MSH-11 where it is not production.
    processing: Option<&'static str>,
    /// MSH-8, as a security label.
    confidentiality: Option<Coding<'static>>,
    /// Offset of times without a zone.
    offset: Option<i16>,
    /// What happened, where observations are of what a pump shows at an event.
    event: Option<PumpEvent>,
    /// What the destination remembers.
    recall: &'a Recall<'a>,
    /// Units and times as they were read, since rows repeat them.
    units: unit::Read<'a>,
    times: time::Read,
}

impl<'a> Translation<'a> {
    fn new(
        settings: &'a PcdToFhir,
        report: &'a Report<'a>,
        patient: Patient,
        recall: &'a Recall<'a>,
    ) -> Translation<'a> {
        let message = report.message;
        let msh = Nth { segment: message.msh(), nth: 1 };
        let processing = match msh.field(11).component(1).raw() {
            b"T" => Some("T"),
            b"D" => Some("D"),
            _ => None,
        };
        let sender = pcd::sender(message);
        let source = provenance::source_uri(message, &sender);
        let offset = time::offset(message, msh).or(settings.default_offset_minutes);
        let confidentiality = confidentiality(msh.field(8).component(1).raw());
        let event = Some(report).filter(|_| message.msh().field(9).component(2).raw() == b"R42");
        let event = event.and_then(|report| PumpEvent::of(report, &settings.nomenclature));
        Translation {
            settings,
            message,
            report,
            msh,
            patient,
            sender,
            source,
            processing,
            confidentiality,
            offset,
            event,
            recall,
            units: unit::Read::default(),
            times: time::Read::default(),
        }
    }

    fn meta(&self) -> Meta<'a> {
        let mut meta = Meta { source: self.source.clone().into(), ..Meta::default() };
        if let Some(processing) = self.processing {
            meta.security.push(Coding::of(systems::ACT_REASON, "HTEST"));
            meta.tag.push(Coding::of(systems::PROCESSING_ID, processing));
        }
        meta.security.extend(self.confidentiality.clone());
        meta
    }

    fn note_meta(&self, trace: &mut Trace) {
        trace.note("meta.source", Origin::of([Some(self.msh.place(3)), Some(self.msh.place(10))]));
        if self.processing.is_some() {
            trace.note("meta.security[0]", self.msh.place(11));
            trace.note("meta.tag[0]", self.msh.place(11));
        }
        if self.confidentiality.is_some() {
            trace.note(format_args!("meta.security[{}]", usize::from(self.processing.is_some())), self.msh.place(8));
        }
    }

    /// Whom a row is about.
    fn subject(&self, row: &Row<'a>, trace: &mut Trace) -> Reference<'a> {
        self.subject_of(self.report.group(row), trace)
    }

    fn subject_of(&self, group: &Group<'a>, trace: &mut Trace) -> Reference<'a> {
        if let Some(pid) = group.patient {
            trace.note("subject", Origin::By(pid.place(3), "identifier_systems"));
        }
        let patient = &self.patient;
        let reference = if self.settings.patient_create { &patient.full_url } else { &patient.reference };
        Reference::to(reference.clone())
    }

    fn visit(&self, row: &Row<'a>, element: &str, trace: &mut Trace) -> Option<Reference<'a>> {
        self.visit_of(self.report.group(row), element, trace)
    }

    fn visit_of(&self, group: &Group<'a>, element: &str, trace: &mut Trace) -> Option<Reference<'a>> {
        let encounter = references::encounter(self, group.visit)?;
        if let Some(pv1) = group.visit {
            trace.note(element, Origin::By(pv1.place(19), "identifier_systems"));
        }
        Some(encounter)
    }

    /// Whether a row is a device's own: then OBX-7 are its limits, and it is filed as what a device does.
    fn is_device_row(&self, row: &Row<'_>) -> bool {
        self.settings.semantics == Semantics::Device && row.code.mdc_or_alike().is_some()
    }

    fn wants_metrics(&self) -> bool {
        self.settings.device_detail == DeviceDetail::Metric
    }

    /// The raw bytes decoded and unescaped, as a FHIR string without blanks at the ends.
    fn text<'t>(&self, raw: &'t [u8]) -> Text<'t> {
        let text = match self.message.text(raw) {
            Text::Borrowed(text) => Text::Borrowed(text.trim()),
            Text::Owned(text) if text.trim().len() == text.len() => Text::Owned(text),
            Text::Owned(text) => Text::Owned(text.trim().to_owned()),
        };
        fhir::string(text)
    }
}

/// Table 0177, as far as FHIR has the same.
fn confidentiality(code: &[u8]) -> Option<Coding<'static>> {
    let code = match code {
        b"V" => "V",
        b"R" => "R",
        b"U" => "U",
        _ => return None,
    };
    Some(Coding::of(systems::CONFIDENTIALITY, code))
}

/// Something was written, and it is not HL7's explicit null.
fn written(text: &str) -> bool {
    !text.is_empty() && text != "\"\""
}

/// Only observation reports; what else a gateway sends has another destination.
fn check_kind(settings: &PcdToFhir, report: &Report<'_>) -> Result<(), TranslateError> {
    let msh = report.message.msh();
    let refuse_kind = |what: &str| Err(TranslateError::new("MSH-9", what));
    match (msh.field(9).component(1).raw(), msh.field(9).component(2).raw()) {
        (b"ORU", b"R01") if settings.semantics == Semantics::Results => Ok(()),
        _ if settings.semantics == Semantics::Results => refuse_kind(
            "oru-to-fhir translates ORU^R01 only; keep other messages from this destination with `where = { \"MSH-9\" = \"ORU^R01\" }`",
        ),
        (b"ORU", b"R01" | b"R40" | b"R42") => Ok(()),
        _ => refuse_kind(
            "pcd-to-fhir translates ORU^R01, ORU^R40 and ORU^R42 only; keep other messages from this destination with `where = { \"MSH-9.1\" = \"ORU\" }`",
        ),
    }
}

const GLUED: &str = "a segment begins within the line of another, and what it tells would be lost; set glued_segments = \"accept\" in \
                     [tolerance] of the channel, or have the sender end each segment with a CR, and retry";

fn refuse(place: impl Display, what: impl Into<String>) -> TranslateError {
    TranslateError::new(place.to_string(), what)
}
