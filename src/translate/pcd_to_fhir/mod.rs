//! IHE PCD device reports (PCD-01), pump events (PCD-10) and alerts (PCD-04), each as one FHIR R4 transaction.
//!
//! Every OBX that holds an observation becomes an Observation, or part of one, of the patient the message names; never
//! of another, and never of nobody. Sending the same observation again, in the same message or in a new one, names it by
//! the same identifier, so that the server keeps one. Follows HL7 uv-pocd first, HL7 v2-to-fhir second.
//!
//! What is told over several messages, a pump's infusion (`administration`) or an alert (`alert`), becomes resources that
//! are updated in their place, by what the destination remembers of it.

mod administration;
mod alert;
mod bundle;
mod concept;
mod device;
mod infusion;
mod memory;
mod observation;
mod outcome;
mod patient;
mod provenance;
#[cfg(test)]
mod tests;
mod time;
mod unit;
mod value;

use std::fmt::Display;

use super::{
    Alerts, Context, DeviceDetail, EpisodeChange, Format, PcdToFhir, Recall, TranslateError, Translated, Unmapped,
};
use crate::{
    fhir::{self, Coding, Meta, Text, systems},
    hl7::Message,
    pcd::{self, Nth, Place, PumpEvent, Report, Role},
};

use self::{bundle::Output, device::Devices, patient::Patient};

/// The transaction for this message; `None` where it holds no observation.
pub(super) fn apply(
    settings: &PcdToFhir,
    message: &Message,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Option<Translated>, TranslateError> {
    let report = Report::read(message, &settings.nomenclature);
    check_kind(&report)?;
    if report.is_alert() {
        return alert::apply(settings, &report, context, recall);
    }
    if let Some(event) = pump_event(settings, &report) {
        return administration::apply(settings, &report, &event, context, recall);
    }
    if !report.rows.iter().any(|row| matches!(row.role, Role::Metric | Role::Facet)) {
        return Ok(None);
    }
    let patient = patient::of(settings, &report)?;
    let translation = Translation::new(settings, &report, patient);
    let mut output = Output::new(context.origins);
    let devices = Devices::of(&translation, &mut output);
    observation::write_all(&translation, &devices, &mut output)?;
    if !output.holds_observations() {
        return Ok(None);
    }
    finish(&translation, context, output, Vec::new()).map(Some)
}

/// The transaction, with the Provenance of what is in it, and what is to be remembered with it.
fn finish<'a>(
    translation: &Translation<'a>,
    context: Context,
    mut output: Output<'a>,
    episodes: Vec<EpisodeChange>,
) -> Result<Translated, TranslateError> {
    if let Some(name) = &translation.patient.authority {
        output.unmapped.insert(0, Unmapped::new("identifier_systems", name, "", ""));
    }
    if translation.settings.device_detail == DeviceDetail::Device {
        provenance::write(translation, context, &mut output);
    }
    let body = output.transaction(translation)?;
    let (unmapped, origins) = (output.unmapped, output.origins);
    Ok(Translated { body, format: Format::FhirBundle, unmapped, origins, episodes })
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
    /// Offset of times without a zone.
    offset: Option<i16>,
}

impl<'a> Translation<'a> {
    fn new(settings: &'a PcdToFhir, report: &'a Report<'a>, patient: Patient) -> Translation<'a> {
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
        Translation { settings, message, report, msh, patient, sender, source, processing, offset }
    }

    fn meta(&self) -> Meta<'a> {
        let mut meta = Meta { source: self.source.clone().into(), ..Meta::default() };
        if let Some(processing) = self.processing {
            meta.security.push(Coding::of(systems::ACT_REASON, "HTEST"));
            meta.tag.push(Coding::of(systems::PROCESSING_ID, processing));
        }
        meta
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

/// Only observation reports; what else a gateway sends has another destination.
fn check_kind(report: &Report<'_>) -> Result<(), TranslateError> {
    let msh = report.message.msh();
    let refuse_kind = |what: &str| Err(TranslateError::new("MSH-9", what));
    match (msh.field(9).component(1).raw(), msh.field(9).component(2).raw()) {
        (b"ORU", b"R01" | b"R40" | b"R42") => Ok(()),
        _ => refuse_kind(
            "pcd-to-fhir translates ORU^R01, ORU^R40 and ORU^R42 only; keep other messages from this destination with `where = { \"MSH-9.1\" = \"ORU\" }`",
        ),
    }
}

fn refuse(place: impl Display, what: impl Into<String>) -> TranslateError {
    TranslateError::new(place.to_string(), what)
}

/// Where the elements of one resource came from; empty unless asked for.
struct Trace {
    wanted: bool,
    found: Vec<(String, Place)>,
}

impl Trace {
    fn note(&mut self, element: &str, place: Place) {
        if self.wanted {
            self.found.push((element.to_owned(), place));
        }
    }
}
