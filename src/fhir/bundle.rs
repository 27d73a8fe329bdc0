//! The transaction: what is written, and how the server shall take each entry.

use serde::Serialize;

use super::{
    Device, DeviceMetric, DiagnosticReport, Identifier, MedicationAdministration, Observation, Patient, Provenance,
};

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
    /// What one place of a device measures, is set to, or computes.
    DeviceMetric(Box<DeviceMetric<'a>>),
    /// A drug given.
    MedicationAdministration(Box<MedicationAdministration<'a>>),
    /// The results of one order.
    DiagnosticReport(Box<DiagnosticReport<'a>>),
    /// Whom the others are about.
    Patient(Box<Patient<'a>>),
    /// Which message the others came from.
    Provenance(Box<Provenance<'a>>),
}
