//! R4 datatypes (R4 2.24), as far as they are written.

use serde::Serialize;

use super::{Decimal, Text};

/// Resource.meta.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Meta<'a> {
    pub(crate) source: Text<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) security: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) tag: Vec<Coding<'a>>,
}

/// A code of a system.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Coding<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<Text<'a>>,
}

impl Coding<'static> {
    /// A code of one of the standard's own systems.
    pub fn of(system: &'static str, code: &'static str) -> Coding<'static> {
        Coding { system: Some(system.into()), code: Some(code.into()), display: None }
    }
}

/// Codings of one meaning.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct CodeableConcept<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) coding: Vec<Coding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<Text<'a>>,
}

impl<'a> CodeableConcept<'a> {
    /// Words only.
    pub fn text(text: impl Into<Text<'a>>) -> CodeableConcept<'a> {
        CodeableConcept { coding: Vec::new(), text: Some(text.into()) }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.coding.is_empty() && self.text.is_none()
    }
}

impl<'a> From<Coding<'a>> for CodeableConcept<'a> {
    fn from(coding: Coding<'a>) -> Self {
        CodeableConcept { coding: vec![coding], text: None }
    }
}

/// A name in a namespace.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Identifier<'a> {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<CodeableConcept<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<Text<'a>>,
    pub(crate) value: Text<'a>,
}

/// A reference: literal, conditional, logical or by words.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reference<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<Text<'a>>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) identifier: Option<Identifier<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) display: Option<Text<'a>>,
}

impl<'a> Reference<'a> {
    /// To an entry of the bundle by its fullUrl, or conditionally by a query.
    pub fn to(reference: impl Into<Text<'a>>) -> Reference<'a> {
        Reference { reference: Some(reference.into()), ..Reference::default() }
    }

    /// To whatever resource has this identifier.
    pub fn logical(kind: Option<&'static str>, identifier: Identifier<'a>) -> Reference<'a> {
        Reference { kind, identifier: Some(identifier), ..Reference::default() }
    }
}

/// A number with a unit. A code never stands without its system (qty-3).
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Quantity<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comparator: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<Text<'a>>,
}

/// Low to high, both included.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Range<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) low: Option<Quantity<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) high: Option<Quantity<'a>>,
}

/// One to another.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Ratio<'a> {
    pub(crate) numerator: Quantity<'a>,
    pub(crate) denominator: Quantity<'a>,
}

/// Start to end, `dateTime` each.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Period {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end: Option<String>,
}

/// A waveform.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct SampledData<'a> {
    pub(crate) origin: Quantity<'a>,
    /// Milliseconds between samples.
    pub(crate) period: Decimal,
    pub(crate) dimensions: usize,
    /// Decimals, `E`, `U` and `L`, blanks between.
    pub(crate) data: String,
}

/// A remark.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Annotation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) author_string: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) time: Option<String>,
    pub(crate) text: Text<'a>,
}

/// A document or picture.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<Text<'a>>,
    /// Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) title: Option<Text<'a>>,
}

/// What R4 has no element for.
#[derive(Clone, PartialEq, Serialize)]
pub struct Extension<'a> {
    pub(crate) url: &'static str,
    #[serde(flatten)]
    pub(crate) value: Extended<'a>,
}

/// An extension's `value[x]`, or the extensions inside it.
#[derive(Clone, PartialEq, Serialize)]
pub enum Extended<'a> {
    /// valueAttachment.
    #[serde(rename = "valueAttachment")]
    Attachment(Attachment<'a>),
    /// valueDateTime.
    #[serde(rename = "valueDateTime")]
    DateTime(String),
    /// valueReference.
    #[serde(rename = "valueReference")]
    Reference(Reference<'a>),
    /// valueString.
    #[serde(rename = "valueString")]
    Text(Text<'a>),
    /// valueDecimal.
    #[serde(rename = "valueDecimal")]
    Decimal(Decimal),
    /// Extensions of its own.
    #[serde(rename = "extension")]
    Inner(Vec<Extension<'a>>),
}

/// `value[x]` of an Observation.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub enum Value<'a> {
    /// valueQuantity.
    #[serde(rename = "valueQuantity")]
    Quantity(Quantity<'a>),
    /// valueCodeableConcept.
    #[serde(rename = "valueCodeableConcept")]
    Concept(CodeableConcept<'a>),
    /// valueString.
    #[serde(rename = "valueString")]
    Text(Text<'a>),
    /// valueRange.
    #[serde(rename = "valueRange")]
    Range(Range<'a>),
    /// valueRatio.
    #[serde(rename = "valueRatio")]
    Ratio(Ratio<'a>),
    /// valueSampledData.
    #[serde(rename = "valueSampledData")]
    Samples(SampledData<'a>),
    /// valueBoolean.
    #[serde(rename = "valueBoolean")]
    Boolean(bool),
    /// valueTime.
    #[serde(rename = "valueTime")]
    Time(String),
    /// valueDateTime.
    #[serde(rename = "valueDateTime")]
    DateTime(String),
    /// valuePeriod.
    #[serde(rename = "valuePeriod")]
    Period(Period),
}

impl Value<'_> {
    /// The element's name.
    pub fn element(&self) -> &'static str {
        match self {
            Value::Quantity(_) => "valueQuantity",
            Value::Concept(_) => "valueCodeableConcept",
            Value::Text(_) => "valueString",
            Value::Range(_) => "valueRange",
            Value::Ratio(_) => "valueRatio",
            Value::Samples(_) => "valueSampledData",
            Value::Boolean(_) => "valueBoolean",
            Value::Time(_) => "valueTime",
            Value::DateTime(_) => "valueDateTime",
            Value::Period(_) => "valuePeriod",
        }
    }
}
