//! The FHIR R4 (4.0.1) resources we write, as far as we write them, and nothing that R4 does not have.
//!
//! Empty elements are never serialised, numbers keep their digits, and whatever identifies a resource is the same
//! each time the same message is translated.

mod datatypes;
mod decimal;
mod identifiers;
pub mod systems;

use std::borrow::Cow;

use serde::Serialize;

pub use datatypes::{
    Annotation, CodeableConcept, Coding, Identifier, Meta, Period, Quantity, Range, Ratio, Reference, SampledData,
    Value,
};
pub use decimal::Decimal;
pub use identifiers::{fingerprint, token_query, urn_uuid};

/// Text that is borrowed from the message where it can be.
pub type Text<'a> = Cow<'a, str>;

/// Text as a FHIR string: no control character but tab and line ends; another becomes U+FFFD.
pub fn string(text: Text<'_>) -> Text<'_> {
    let control = |c: char| c < ' ' && !matches!(c, '\t' | '\n' | '\r');
    if text.contains(control) { Text::Owned(text.replace(control, "\u{FFFD}")) } else { text }
}

/// A transaction: all or nothing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle<'a> {
    resource_type: &'static str,
    /// The message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identifier: Option<Identifier<'a>>,
    #[serde(rename = "type")]
    kind: &'static str,
    /// When the message was made; an `instant`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// In the order of the message, devices first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry: Vec<Entry<'a>>,
}

impl<'a> Bundle<'a> {
    /// A transaction bundle.
    pub fn transaction(
        identifier: Option<Identifier<'a>>,
        timestamp: Option<String>,
        entry: Vec<Entry<'a>>,
    ) -> Bundle<'a> {
        Bundle { resource_type: "Bundle", identifier, kind: "transaction", timestamp, entry }
    }
}

/// One resource and what the server shall do with it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry<'a> {
    /// `urn:uuid:…`, by which other entries refer to it.
    pub full_url: String,
    /// The resource.
    pub resource: Resource<'a>,
    /// What to do.
    pub request: Request,
}

/// Bundle.entry.request.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    method: &'static str,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_none_exist: Option<String>,
}

impl Request {
    /// Created, unless the server has one that `query` finds.
    pub fn create(resource_type: &str, query: String) -> Request {
        Request { method: "POST", url: resource_type.to_owned(), if_none_exist: Some(query) }
    }

    /// Replaces the one that `query` finds, or is created.
    pub fn replace(resource_type: &str, query: &str) -> Request {
        Request { method: "PUT", url: format!("{resource_type}?{query}"), if_none_exist: None }
    }
}

/// A resource we write.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Resource<'a> {
    /// A measurement, setting, status or event.
    Observation(Box<Observation<'a>>),
    /// A device at one level of its containment.
    Device(Box<Device<'a>>),
    /// Which message the others came from.
    Provenance(Box<Provenance<'a>>),
}

/// Observation (R4 10.1).
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) based_on: Vec<Reference<'a>>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) category: Vec<CodeableConcept<'a>>,
    pub(crate) code: CodeableConcept<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encounter: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effective_date_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) effective_period: Option<Period>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issued: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) performer: Vec<Reference<'a>>,
    #[serde(flatten)]
    pub(crate) value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_absent_reason: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) interpretation: Vec<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) note: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) body_site: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reference_range: Vec<ReferenceRange<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) component: Vec<Component<'a>>,
}

/// Observation.component.
#[derive(Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Component<'a> {
    pub(crate) code: CodeableConcept<'a>,
    #[serde(flatten)]
    pub(crate) value: Option<Value<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_absent_reason: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) interpretation: Vec<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reference_range: Vec<ReferenceRange<'a>>,
}

/// Observation.referenceRange.
#[derive(Clone, PartialEq, Serialize)]
pub struct ReferenceRange<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<Quantity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<Quantity<'a>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
}

/// Device (R4 8.8).
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    pub(crate) identifier: Vec<Identifier<'a>>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serial_number: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) device_name: Vec<DeviceName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model_number: Option<Text<'a>>,
    #[serde(rename = "type", skip_serializing_if = "CodeableConcept::is_empty")]
    pub(crate) kind: CodeableConcept<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) version: Vec<DeviceVersion<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Reference<'a>>,
}

/// Device.deviceName.
#[derive(Clone, Serialize)]
pub struct DeviceName<'a> {
    pub(crate) name: Text<'a>,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

/// Device.version.
#[derive(Clone, Serialize)]
pub struct DeviceVersion<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: CodeableConcept<'a>,
    pub(crate) value: Text<'a>,
}

/// Provenance (R4 6.3).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Provenance<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    pub(crate) target: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) occurred_date_time: Option<String>,
    pub(crate) recorded: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) policy: Vec<String>,
    pub(crate) activity: CodeableConcept<'a>,
    pub(crate) agent: Vec<ProvenanceAgent<'a>>,
    pub(crate) entity: Vec<ProvenanceEntity<'a>>,
}

/// Provenance.agent.
#[derive(Clone, Serialize)]
pub struct ProvenanceAgent<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: CodeableConcept<'a>,
    pub(crate) who: Reference<'a>,
}

/// Provenance.entity.
#[derive(Clone, Serialize)]
pub struct ProvenanceEntity<'a> {
    pub(crate) role: &'static str,
    pub(crate) what: Reference<'a>,
}
