//! Observation (R4 10.1).

use serde::Serialize;

use super::{Annotation, CodeableConcept, Extension, Identifier, Meta, Period, Quantity, Reference, Text, Value};

/// Observation (R4 10.1).
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) extension: Vec<Extension<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) based_on: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) part_of: Vec<Reference<'a>>,
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
    pub(crate) has_member: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) derived_from: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) component: Vec<Component<'a>>,
}

/// Observation.component.
#[derive(Clone, Default, PartialEq, Serialize)]
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
