//! The FHIR R4 (4.0.1) resources we write, as far as we write them, and nothing that R4 does not have.
//!
//! Empty elements are never serialised, numbers keep their digits, and whatever identifies a resource is the same
//! each time the same message is translated.

mod bundle;
mod datatypes;
mod decimal;
mod device;
mod identifiers;
mod medication;
mod observation;
mod patient;
mod provenance;
mod report;
pub mod systems;

use std::borrow::Cow;

pub use bundle::{Bundle, Entry, Request, Resource};
pub use datatypes::{
    Annotation, Attachment, CodeableConcept, Coding, Extended, Extension, Identifier, Meta, Period, Quantity, Range,
    Ratio, Reference, SampledData, Value,
};
pub use decimal::Decimal;
pub use device::{Device, DeviceMetric, DeviceName, DeviceProperty, DeviceVersion, UdiCarrier};
pub use identifiers::{fingerprint, token_query, urn_uuid};
pub use medication::{Dosage, Effective, MedicationAdministration};
pub use observation::{Component, Observation, ReferenceRange};
pub use patient::{Address, ContactPoint, HumanName, Patient};
pub use provenance::{Provenance, ProvenanceAgent, ProvenanceEntity};
pub use report::DiagnosticReport;

/// Text that is borrowed from the message where it can be.
pub type Text<'a> = Cow<'a, str>;

/// Text as a FHIR string: no control character but tab and line ends; another becomes U+FFFD.
pub fn string(text: Text<'_>) -> Text<'_> {
    let control = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(control) { Text::Owned(text.replace(control, "\u{FFFD}")) } else { text }
}
