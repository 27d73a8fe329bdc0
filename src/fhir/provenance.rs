//! Provenance (R4 6.3).

use serde::Serialize;

use super::{CodeableConcept, Meta, Reference};

/// Where resources came from.
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
