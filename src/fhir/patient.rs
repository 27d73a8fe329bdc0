//! Patient (R4 8.1), as far as a device gateway or a laboratory knows one.

use serde::Serialize;

use super::{Identifier, Meta, Text};

/// Whom the observations are about.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patient<'a> {
    pub(crate) resource_type: &'static str,
    pub(crate) meta: Meta<'a>,
    pub(crate) identifier: Vec<Identifier<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) name: Vec<HumanName<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) telecom: Vec<ContactPoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gender: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) birth_date: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) address: Vec<Address<'a>>,
}

/// A name.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HumanName<'a> {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) family: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) given: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) prefix: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) suffix: Vec<Text<'a>>,
}

/// A telephone number or other way to reach someone.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ContactPoint<'a> {
    pub(crate) system: &'static str,
    pub(crate) value: Text<'a>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<&'static str>,
}

/// A postal address.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Address<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) line: Vec<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) city: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) postal_code: Option<Text<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) country: Option<Text<'a>>,
}
