//! Device (R4 8.8) and DeviceMetric (R4 8.10).

use serde::Serialize;

use super::{CodeableConcept, Identifier, Meta, Quantity, Reference, Text};

/// A device, or a part of one.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) udi_carrier: Vec<UdiCarrier<'a>>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) distinct_identifier: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manufacturer: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manufacture_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lot_number: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serial_number: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) device_name: Vec<DeviceName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model_number: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part_number: Option<Text<'a>>,
    #[serde(rename = "type", skip_serializing_if = "CodeableConcept::is_empty")]
    pub(crate) kind: CodeableConcept<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) version: Vec<DeviceVersion<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) property: Vec<DeviceProperty<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) patient: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) location: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Reference<'a>>,
}

/// Device.udiCarrier.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UdiCarrier<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device_identifier: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) issuer: Option<&'static str>,
    #[serde(rename = "carrierHRF", skip_serializing_if = "Option::is_none")]
    pub(crate) carrier_hrf: Option<Text<'a>>,
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

/// Device.property.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceProperty<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: CodeableConcept<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) value_quantity: Vec<Quantity<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) value_code: Vec<CodeableConcept<'a>>,
}

/// What one place of a device measures, is set to, or computes.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceMetric<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(rename = "type")]
    pub(crate) kind: CodeableConcept<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<Reference<'a>>,
    pub(crate) category: &'static str,
}
