//! Which message the resources came from: meta.source on each, and one Provenance for the message.
//!
//! R4's Provenance has no identifier, so a tag, the hash of sender and control id, lets the server keep one.

use super::{Context, Origin, Output, Trace, Translation, patient, written};
use crate::{
    fhir::{
        CodeableConcept, Coding, Identifier, Provenance, ProvenanceAgent, ProvenanceEntity, Reference, fingerprint,
        systems,
    },
    hl7::{Message, Time},
    pcd,
};

/// Adds the Provenance of everything in the bundle so far. A message without a control id cannot be named.
pub(super) fn write<'a>(translation: &Translation<'a>, context: Context, output: &mut Output<'a>) {
    let control_id = translation.text(translation.msh.raw(10));
    if control_id.is_empty() {
        return;
    }
    let tag = fingerprint([translation.sender.as_str(), &control_id]);
    let mut meta = translation.meta();
    meta.tag.push(Coding { system: Some(systems::OWN_MESSAGE.into()), code: Some(tag.clone().into()), display: None });
    let message = Identifier { kind: None, system: Some(translation.source_system().into()), value: control_id };
    let mut trace = output.trace();
    translation.note_meta(&mut trace);
    trace.note(
        format_args!("meta.tag[{}]", meta.tag.len() - 1),
        Origin::of([Some(translation.msh.place(3)), Some(translation.msh.place(10))]),
    );
    let occurred_date_time = made(translation);
    if occurred_date_time.is_some() {
        trace.note("occurredDateTime", translation.msh.place(7));
    }
    let policy = profile(translation);
    if !policy.is_empty() {
        trace.note("policy", translation.msh.place(21));
    }
    let provenance = Provenance {
        resource_type: "Provenance",
        meta,
        target: output.references(),
        occurred_date_time,
        recorded: context.received_at.to_string(),
        policy,
        activity: activity(translation),
        agent: agents(translation, &mut trace),
        entity: vec![ProvenanceEntity { role: "source", what: Reference::logical(None, message) }],
    };
    trace.note("resourceType", Origin::Constant);
    trace.note("target", Origin::As("the fullUrl of each"));
    trace.note("recorded", Origin::Engine("when the message was received"));
    trace.note("activity", Origin::Constant);
    trace.note("activity.text", translation.msh.place(9));
    trace.note("entity[0].role", Origin::Constant);
    trace.note("entity[0].what.identifier.system", translation.msh.place(3));
    trace.note("entity[0].what.identifier.value", translation.msh.place(10));
    output.provenance(provenance, &tag, trace);
}

/// What was done, and to what kind of message (MSH-9).
fn activity<'a>(translation: &Translation<'a>) -> CodeableConcept<'a> {
    let kind = translation.msh.raw(9);
    let text = (!kind.is_empty()).then(|| translation.text(kind));
    CodeableConcept { text, ..Coding::of(systems::V2_ACTIVITY, "v2-fhir-transformation").into() }
}

/// The engine that made the resources, and who answers for the message: MSH-22, else MSH-4.
fn agents<'a>(translation: &Translation<'a>, trace: &mut Trace) -> Vec<ProvenanceAgent<'a>> {
    trace.note("agent[0]", Origin::Constant);
    trace.note("agent[0].who", Origin::Engine("its name and version"));
    let mut agents = vec![assembler()];
    if let Some((who, field)) = author(translation) {
        trace.note("agent[1].type", Origin::Constant);
        trace.note("agent[1].who", translation.msh.place(field));
        agents.push(ProvenanceAgent { kind: Coding::of(systems::PARTICIPANT_TYPE, "author").into(), who });
    }
    agents
}

fn author<'a>(translation: &Translation<'a>) -> Option<(Reference<'a>, usize)> {
    let (msh, settings) = (translation.msh, translation.settings);
    let organization = msh.field(22).first();
    let part = |n: usize| Some(translation.text(organization.component(n).raw())).filter(|text| written(text));
    if let Some(name) = part(1) {
        let authority = organization.component(6);
        let named = |n| translation.message.text(authority.subcomponent(n));
        let system = patient::system_of(settings, &named(1), &named(2), &named(3)).filter(|_| !authority.is_empty());
        let identifier = part(10).map(|value| Identifier { kind: None, system: system.map(Into::into), value });
        let kind = Some("Organization");
        return Some((Reference { kind, identifier, display: Some(name), ..Reference::default() }, 22));
    }
    let facility = msh.field(4).first();
    let part = |n: usize| Some(translation.text(facility.component(n).raw())).filter(|text| written(text));
    let (name, universal) = (part(1), part(2));
    let uri = universal.as_ref().and_then(|universal| match facility.component(3).raw() {
        b"ISO" if pcd::is_oid(universal) => Some(format!("urn:oid:{universal}")),
        b"UUID" | b"GUID" if pcd::is_uuid(universal) => Some(format!("urn:uuid:{}", universal.to_ascii_lowercase())),
        _ => None,
    });
    let identifier = match uri {
        Some(uri) => Identifier { kind: None, system: Some(systems::URI.into()), value: uri.into() },
        None => Identifier { kind: None, system: None, value: name.clone().or(universal)? },
    };
    Some((Reference { display: name, ..Reference::logical(Some("Organization"), identifier) }, 4))
}

/// The sender as a URI, the control id as its fragment.
pub(super) fn source_uri(message: &Message, sender: &str) -> String {
    let control_id = message.text(message.msh().field(10).raw());
    format!("{}#{}", sender_uri(message, sender), uri_safe(&control_id))
}

impl Translation<'_> {
    /// The sender as a URI: the namespace of its control ids.
    pub(super) fn source_system(&self) -> String {
        sender_uri(self.message, &self.sender)
    }
}

fn sender_uri(message: &Message, sender: &str) -> String {
    let kind = message.msh().field(3).component(3);
    match kind.raw() {
        _ if pcd::eui64(sender).is_some() => format!("urn:dev:mac:{}", sender.to_ascii_lowercase()),
        b"ISO" => format!("urn:oid:{}", uri_safe(sender)),
        b"UUID" | b"GUID" => format!("urn:uuid:{}", uri_safe(&sender.to_ascii_lowercase())),
        _ if sender.is_empty() => "urn:x-hl7v2:unnamed".to_owned(),
        _ => format!("urn:x-hl7v2:{}", uri_safe(sender)),
    }
}

/// Percent-encodes what a URI cannot hold.
fn uri_safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.trim().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => safe.push(char::from(byte)),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    safe
}

fn made(translation: &Translation<'_>) -> Option<String> {
    let sent = translation.message.text(translation.msh.field(7).component(1).raw());
    Time::parse(&sent).ok()?.fhir_date_time(translation.offset)
}

/// MSH-21: the profiles the sender says the message follows, where it names them by OID.
fn profile(translation: &Translation<'_>) -> Vec<String> {
    let repetitions = translation.msh.field(21).repetitions();
    let oids = repetitions.map(|profile| translation.message.text(profile.component(3).raw()).trim().to_owned());
    oids.filter(|oid| !oid.is_empty() && oid.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
        .map(|oid| format!("urn:oid:{oid}"))
        .collect()
}

fn assembler() -> ProvenanceAgent<'static> {
    let name = concat!("Cannula ", env!("CARGO_PKG_VERSION"));
    ProvenanceAgent {
        kind: CodeableConcept::from(Coding::of(systems::PARTICIPANT_TYPE, "assembler")),
        who: Reference { display: Some(name.into()), ..Reference::default() },
    }
}
