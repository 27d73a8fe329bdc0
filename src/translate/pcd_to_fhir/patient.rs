//! Whose observations these are. The patient is referred to, and created only where a site says so: a gateway knows little
//! of them.
//!
//! Without one identifier of a known system the message is refused. An observation must never reach the record of the
//! wrong patient, nor stand there without one. Where no system is configured at all, each assigning authority is its
//! own: the server finds the patient only if it was told the same system, and otherwise fails the transaction.

use super::{Origin, Output, PcdToFhir, TranslateError, Translation, bundle::Write, refuse, time, written};
use crate::{
    fhir::{
        self, Address, CodeableConcept, Coding, ContactPoint, HumanName, Identifier, Resource, Text, systems,
        token_query,
    },
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
    /// `urn:uuid:…` of the entry that creates them.
    pub(super) full_url: String,
    /// The assigning authority, where the system was made from its name for want of a configured one.
    pub(super) authority: Option<String>,
}

impl Patient {
    fn new(system: String, value: String) -> Patient {
        let reference = format!("Patient?{}", token_query("identifier", &system, &value));
        let full_url = fhir::urn_uuid(["Patient", &system, &value]);
        Patient { system, value, reference, full_url, authority: None }
    }

    /// For what is of no patient.
    pub(super) fn nobody() -> Patient {
        let none = String::new;
        Patient { system: none(), value: none(), reference: none(), full_url: none(), authority: None }
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

/// Adds the Patient of the message, by what its PID says, unless the server has one of the identifier.
pub(super) fn write<'a>(translation: &Translation<'a>, output: &mut Output<'a>) {
    let Some(pid) = translation.report.groups.iter().find_map(|group| group.patient) else { return };
    if !translation.settings.patient_create {
        return;
    }
    let mut trace = output.trace();
    let text = |raw: &'a [u8]| Some(translation.text(raw)).filter(|text| written(text));
    let gender = text(pid.field(8).component(1).raw()).map(|code| gender(&code));
    let birth_date = Some(pid.raw(7)).filter(|raw| !raw.is_empty());
    let birth_date = birth_date.and_then(|_| time::day(translation, pid.field(7).component(1).raw()));
    let name: Vec<_> = pid.field(5).repetitions().filter_map(|xpn| name(translation, xpn)).collect();
    let address: Vec<_> = pid.field(11).repetitions().filter_map(|xad| address(translation, xad)).collect();
    let telecom: Vec<_> = pid.field(13).repetitions().filter_map(|xtn| telecom(translation, xtn)).collect();
    trace.note("resourceType", Origin::Constant);
    trace.note("identifier", Origin::By(pid.place(3), "identifier_systems"));
    translation.note_meta(&mut trace);
    let told = [
        ("name", 5, name.is_empty()),
        ("birthDate", 7, birth_date.is_none()),
        ("gender", 8, gender.is_none()),
        ("address", 11, address.is_empty()),
        ("telecom", 13, telecom.is_empty()),
    ];
    for (element, field, _) in told.into_iter().filter(|(_, _, missing)| !missing) {
        trace.note(element, pid.place(field));
    }
    let identifier = identifiers(translation, pid);
    let key = Identifier {
        kind: None,
        system: Some(translation.patient.system.clone().into()),
        value: translation.patient.value.clone().into(),
    };
    let patient = fhir::Patient {
        resource_type: "Patient",
        meta: translation.meta(),
        identifier,
        name,
        telecom,
        gender,
        birth_date,
        address,
    };
    output.resource("Patient", &key, Write::Create, Resource::Patient(Box::new(patient)), trace);
}

/// Every identifier of a known system: the one the patient is found by is among them.
fn identifiers<'a>(translation: &Translation<'a>, pid: Nth<'a>) -> Vec<Identifier<'a>> {
    let patient = &translation.patient;
    let mut identifiers: Vec<Identifier<'a>> = Vec::new();
    for repetition in pid.field(3).repetitions() {
        let value = translation.text(repetition.component(1).raw());
        let system = authority(translation.settings, translation.message, repetition)
            .or_else(|| (value == patient.value.as_str()).then(|| patient.system.clone()));
        let Some(system) = system.filter(|_| written(&value) && !pcd::is_no_identifier(&value)) else { continue };
        let code = translation.text(repetition.component(5).raw());
        let coding = |code| Coding { system: Some(systems::IDENTIFIER_TYPE.into()), code: Some(code), display: None };
        let kind = Some(code).filter(|code| written(code)).map(|code| CodeableConcept::from(coding(code)));
        identifiers.push(Identifier { kind, system: Some(system.into()), value });
    }
    identifiers
}

/// Table 0001. What FHIR has no code for is `other`.
fn gender(code: &str) -> &'static str {
    match code {
        "F" => "female",
        "M" => "male",
        "U" => "unknown",
        _ => "other",
    }
}

fn name<'a>(translation: &Translation<'a>, xpn: Repetition<'a>) -> Option<HumanName<'a>> {
    let part = |n: usize| Some(translation.text(xpn.component(n).subcomponent(1))).filter(|text| written(text));
    let usage = match xpn.component(7).raw() {
        b"L" | b"D" => Some("official"),
        b"B" | b"M" => Some("maiden"),
        b"N" => Some("nickname"),
        b"S" => Some("anonymous"),
        b"T" => Some("temp"),
        _ => None,
    };
    let given = [part(2), part(3)].into_iter().flatten().collect();
    let (prefix, suffix) = (part(5).into_iter().collect(), part(4).into_iter().collect());
    let name = HumanName { usage, family: part(1), given, prefix, suffix };
    let named = name.family.is_some() || !name.given.is_empty();
    named.then_some(name)
}

fn address<'a>(translation: &Translation<'a>, xad: Repetition<'a>) -> Option<Address<'a>> {
    let part = |n: usize| Some(translation.text(xad.component(n).subcomponent(1))).filter(|text| written(text));
    let line = [part(1), part(2)].into_iter().flatten().collect();
    let address = Address { line, city: part(3), state: part(4), postal_code: part(5), country: part(6) };
    (address != Address::default()).then_some(address)
}

fn telecom<'a>(translation: &Translation<'a>, xtn: Repetition<'a>) -> Option<ContactPoint<'a>> {
    let part = |n: usize| Some(translation.text(xtn.component(n).raw())).filter(|text| written(text));
    let system = match xtn.component(3).raw() {
        b"FX" => "fax",
        b"BP" => "pager",
        b"Internet" | b"X.400" => "email",
        _ => "phone",
    };
    let value: Option<Text<'a>> =
        if system == "email" { part(4).or_else(|| part(1)) } else { part(1).or_else(|| part(12)) };
    Some(ContactPoint { system, value: value?, usage: None })
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
pub(super) const TWO: &str = "the message has observations of two patients; ask the sender for one message for each";
const NO_IDENTIFIER: &str =
    "no patient identifier; associate the device with a patient at the gateway and send the message again";
const NO_SYSTEM: &str = "no system is configured for the assigning authority (PID-3.4) of any patient identifier; add it to \
                         identifier_systems of this destination and retry";
