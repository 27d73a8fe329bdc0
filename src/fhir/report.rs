//! DiagnosticReport (R4 10.3).

use serde::Serialize;

use super::{CodeableConcept, Identifier, Meta, Period, Reference};

/// The results of one order, held together.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DiagnosticReport<'a> {
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) result: Vec<Reference<'a>>,
}
