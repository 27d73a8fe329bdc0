//! Which message the resources came from: meta.source on each, and one Provenance for the message.
//!
//! R4's Provenance has no identifier, so a tag, the hash of sender and control id, lets the server keep one.

use super::{Context, Output, Translation};
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
    let provenance = Provenance {
        resource_type: "Provenance",
        meta,
        target: output.references(),
        occurred_date_time: made(translation),
        recorded: context.received_at.to_string(),
        policy: profile(translation),
        activity: Coding::of(systems::V2_ACTIVITY, "v2-fhir-transformation").into(),
        agent: vec![assembler()],
        entity: vec![ProvenanceEntity { role: "source", what: Reference::logical(None, message) }],
    };
    output.provenance(provenance, &tag);
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
