//! MedicationAdministration (R4 11.3): a drug that was given, or is being given.

use serde::Serialize;

use super::{Annotation, CodeableConcept, Identifier, Meta, Period, Quantity, Reference, Text};

/// A drug given. What is written of the amount is what was administered, never what was ordered or programmed.
#[derive(Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MedicationAdministration<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) part_of: Vec<Reference<'a>>,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) status_reason: Vec<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) category: Option<CodeableConcept<'a>>,
    pub(crate) medication_codeable_concept: CodeableConcept<'a>,
    pub(crate) subject: Reference<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) supporting_information: Vec<Reference<'a>>,
    #[serde(flatten)]
    pub(crate) effective: Effective,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request: Option<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) device: Vec<Reference<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) note: Vec<Annotation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dosage: Option<Dosage<'a>>,
}

/// `effective[x]`.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub enum Effective {
    /// effectiveDateTime.
    #[serde(rename = "effectiveDateTime")]
    At(String),
    /// effectivePeriod.
    #[serde(rename = "effectivePeriod")]
    Over(Period),
    /// An effectivePeriod that says that it is not known: there has to be one.
    #[serde(rename = "effectivePeriod")]
    Unknown(Absent),
}

impl Effective {
    pub(crate) const UNKNOWN: Effective = Effective::Unknown(Absent {
        extension: [AbsentReason {
            url: "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
            value_code: "unknown",
        }],
    });
}

/// An element without a value, and why.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Absent {
    extension: [AbsentReason; 1],
}

/// The extension that says why.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AbsentReason {
    url: &'static str,
    #[serde(rename = "valueCode")]
    value_code: &'static str,
}

impl Default for Effective {
    fn default() -> Effective {
        Effective::Over(Period::default())
    }
}

/// MedicationAdministration.dosage. It has a dose or a rate (mad-1).
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dosage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) route: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dose: Option<Quantity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rate_quantity: Option<Quantity<'a>>,
}
