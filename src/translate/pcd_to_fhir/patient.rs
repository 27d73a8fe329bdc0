//! Whose observations these are. The patient is only ever referred to, never created: a gateway knows little of them.
//!
//! Without one identifier of a known system the message is refused. An observation must never reach the record of the
//! wrong patient, nor stand there without one. Where no system is configured at all, each assigning authority is its
//! own: the server finds the patient only if it was told the same system, and otherwise fails the transaction.

use super::{PcdToFhir, TranslateError, refuse};
use crate::{
    fhir::{self, token_query},
    hl7::{Message, Repetition},
    pcd::{self, Nth, Report, Role},
};

/// The patient by identifier.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Patient {
    pub(super) system: String,
    pub(super) value: String,
    /// A conditional reference, which the server resolves or fails the transaction.
    pub(super) reference: String,
    /// The assigning authority, where the system was made from its name for want of a configured one.
    pub(super) authority: Option<String>,
}

impl Patient {
    fn new(system: String, value: String) -> Patient {
        let reference = format!("Patient?{}", token_query("identifier", &system, &value));
        Patient { system, value, reference, authority: None }
    }

    /// For what is of no patient.
    pub(super) fn nobody() -> Patient {
        Patient { system: String::new(), value: String::new(), reference: String::new(), authority: None }
    }

    /// The same name always makes the same system, and no two names one.
    fn of_authority(name: String, value: String) -> Patient {
        let system = fhir::urn_uuid(["assigning authority", &name]);
        Patient { authority: Some(name), ..Patient::new(system, value) }
    }
}

/// The one patient of all observations.
pub(super) fn of(settings: &PcdToFhir, report: &Report<'_>) -> Result<Patient, TranslateError> {
    let mut found: Option<Patient> = None;
    let mut asked = None;
    for row in report.rows.iter().filter(|row| matches!(row.role, Role::Metric | Role::Facet)) {
        if asked == Some(row.group) {
            continue;
        }
        asked = Some(row.group);
        let pid = report.group(row).patient.ok_or_else(|| refuse("PID", NO_PID))?;
        let patient = identify(settings, report.message, pid)?;
        match &found {
            Some(other) if *other != patient => return Err(refuse(pid.place(3), TWO)),
            _ => found = Some(patient),
        }
    }
    found.ok_or_else(|| refuse("PID", NO_PID))
}

/// The system of an assigning authority (CX.4, EI.2–4): by the configured table, else what names itself.
pub(super) fn system_of(settings: &PcdToFhir, namespace: &str, universal: &str, kind: &str) -> Option<String> {
    let table = &settings.identifier_systems;
    let configured =
        [namespace, universal].into_iter().filter(|name| !name.is_empty()).find_map(|name| table.get(name));
    let unnamed = (namespace.is_empty() && universal.is_empty()).then(|| table.get("")).flatten();
    configured.or(unnamed).cloned().or_else(|| match kind {
        "ISO" if pcd::is_oid(universal) => Some(format!("urn:oid:{universal}")),
        "UUID" | "GUID" if pcd::is_uuid(universal) => Some(format!("urn:uuid:{}", universal.to_ascii_lowercase())),
        _ => None,
    })
}

pub(super) fn identify(settings: &PcdToFhir, message: &Message, pid: Nth<'_>) -> Result<Patient, TranslateError> {
    let mut candidates: Vec<(u8, Patient)> = Vec::new();
    let mut sent = false;
    for repetition in pid.field(3).repetitions() {
        let text = |raw| message.text(raw).trim().to_owned();
        let value = fhir::string(text(repetition.component(1).raw()).into()).into_owned();
        let Some(rank) = rank(&text(repetition.component(5).raw())) else { continue };
        if pcd::is_no_identifier(&value) {
            continue;
        }
        sent = true;
        if let Some(system) = authority(settings, message, repetition) {
            candidates.push((rank, Patient::new(system, value)));
        } else if settings.identifier_systems.is_empty() {
            candidates.push((rank, Patient::of_authority(authority_name(message, repetition), value)));
        }
    }
    candidates.sort_by_key(|(rank, _)| *rank);
    match candidates.into_iter().next() {
        Some((_, patient)) => Ok(patient),
        None if sent => Err(refuse(pid.place(3), NO_SYSTEM)),
        None => Err(refuse(pid.place(3), NO_IDENTIFIER)),
    }
}

fn authority(settings: &PcdToFhir, message: &Message, identifier: Repetition<'_>) -> Option<String> {
    let authority = identifier.component(4);
    let part = |n| message.text(authority.subcomponent(n)).trim().to_owned();
    system_of(settings, &part(1), &part(2), &part(3))
}

/// CX.4 as sent; for an identifier without one, its sender: MSH-4, else MSH-3.
fn authority_name(message: &Message, identifier: Repetition<'_>) -> String {
    let msh = message.msh();
    let names = [identifier.component(4).raw(), msh.field(4).raw(), msh.field(3).raw()];
    let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
    message.text(name).trim().to_owned()
}

/// Medical record numbers first; visit and account numbers name no patient (table 0203).
fn rank(kind: &str) -> Option<u8> {
    match kind {
        "MR" => Some(0),
        "PI" => Some(1),
        "VN" | "AN" => None,
        _ => Some(2),
    }
}

pub(super) const NO_PID: &str =
    "no PID before the observations; associate the device with a patient and send the message again";
const TWO: &str = "the message has observations of two patients; ask the sender for one message for each";
const NO_IDENTIFIER: &str =
    "no patient identifier; associate the device with a patient at the gateway and send the message again";
const NO_SYSTEM: &str = "no system is configured for the assigning authority (PID-3.4) of any patient identifier; add it to \
                         identifier_systems of this destination and retry";
