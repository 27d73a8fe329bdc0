//! What a site chooses of the translation to FHIR: `[destination.fhir]`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Conversion;
use crate::pcd::{Identification, Nomenclature};

/// Settings of `pcd-to-fhir` and `oru-to-fhir`.
#[derive(Clone)]
pub struct PcdToFhir {
    /// Codes.
    pub nomenclature: Arc<Nomenclature>,
    /// Which places name a device.
    pub identification: Arc<Identification>,
    /// What the message is a report of.
    pub semantics: Semantics,
    /// Writes OBX-11 R, not validated by a person, as `final` rather than `preliminary`.
    pub unverified_final: bool,
    /// Offset of times sent without a zone, where MSH-7 has none either; minutes east of UTC.
    pub default_offset_minutes: Option<i16>,
    /// Assigning authority (CX.4.1 or CX.4.2) → identifier system URI. The key `""` is for identifiers without one.
    pub identifier_systems: BTreeMap<String, String>,
    /// Name of a coding system (CWE.3) → its URI, before those everybody knows.
    pub coding_systems: BTreeMap<String, String>,
    /// How much is written beside the observations.
    pub device_detail: DeviceDetail,
    /// Devices are replaced by what each message says of them, bed and patient too, rather than written once.
    pub device_updates: bool,
    /// Two values of one place, code and time are two observations, not one sent twice. A correction then does not find
    /// what it corrects.
    pub value_in_identity: bool,
    /// Which codes an observation is written with, best first; where none of them was sent, those that were.
    pub codes: Vec<CodeKind>,
    /// Categories by LOINC number, MDC number or identifier, or one of [`CATEGORY_CLASSES`].
    pub categories: BTreeMap<String, Vec<Category>>,
    /// The server has no way to create only what is not there: a repeat takes the place of what was written, and must not where
    /// that is a correction.
    pub creates_overwrite: bool,
    /// How PV1-19 is written.
    pub encounter: EncounterReference,
    /// Writes PV1-3 with each observation.
    pub location: bool,
    /// Writes OBX-4 as sent with each observation.
    pub sub_id: bool,
    /// Systolic, diastolic and mean pressure of one place and time are one Observation with components.
    pub blood_pressure_panel: bool,
    /// A DiagnosticReport for each OBR that has a filler number.
    pub diagnostic_report: bool,
    /// A Y or N of type ID is a boolean.
    pub yes_no_boolean: bool,
    /// The message's patient is created where the server has none; else it is only referred to.
    pub patient_create: bool,
    /// Insulin is counted in `U`, as many records do, rather than in UCUM's `[iU]`.
    pub insulin_in_u: bool,
    /// The insulin a dose is of; without it the dose is named by its MDC term.
    pub insulin_medication: Option<Medication>,
    /// Insulins by the dose that is told and by the device, before that one; the first that fits.
    pub insulin_products: Vec<InsulinProduct>,
    /// Units that are changed.
    pub conversions: Vec<Conversion>,
    /// What becomes of pump events (PCD-10).
    pub infusions: Infusions,
    /// What becomes of alerts (PCD-04).
    pub alerts: Alerts,
}

impl PcdToFhir {
    /// The defaults: R is preliminary, devices are written, no system and no zone is assumed, no unit is changed.
    pub fn new(nomenclature: Arc<Nomenclature>) -> PcdToFhir {
        PcdToFhir {
            nomenclature,
            identification: Arc::default(),
            semantics: Semantics::Device,
            unverified_final: false,
            default_offset_minutes: None,
            identifier_systems: BTreeMap::new(),
            coding_systems: BTreeMap::new(),
            device_detail: DeviceDetail::Device,
            device_updates: false,
            value_in_identity: false,
            codes: vec![CodeKind::Loinc, CodeKind::Mdc, CodeKind::Other],
            categories: BTreeMap::new(),
            creates_overwrite: false,
            encounter: EncounterReference::Identifier,
            location: false,
            sub_id: false,
            blood_pressure_panel: false,
            diagnostic_report: false,
            yes_no_boolean: false,
            patient_create: false,
            insulin_in_u: false,
            insulin_medication: None,
            insulin_products: Vec::new(),
            conversions: Vec::new(),
            infusions: Infusions::default(),
            alerts: Alerts::Observation,
        }
    }
}

/// What becomes of pump events (PCD-10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Infusions {
    /// They are MedicationAdministrations; otherwise Observations of what the pump shows at the event.
    pub written: bool,
    /// A new rate makes a new MedicationAdministration, part of the first; otherwise it changes the rate of the one there is.
    pub rate_segments: bool,
    /// What keeps the vein open after an infusion is a MedicationAdministration of its own; otherwise it is left out.
    pub kvo_segments: bool,
    /// Events of a pump that names no drug are Observations.
    pub require_drug: bool,
    /// An infusion paused for longer was stopped: what starts then is another.
    pub pause_max: Duration,
}

impl Default for Infusions {
    fn default() -> Infusions {
        let pause_max = Duration::from_secs(24 * 3600);
        Infusions { written: false, rate_segments: true, kvo_segments: true, require_drug: false, pause_max }
    }
}

/// What becomes of alerts (PCD-04).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alerts {
    /// One Observation an alert, `preliminary` until it is over.
    Observation,
    /// The same, `final` throughout.
    Final,
    /// A dead letter.
    Refuse,
}

/// What a message is a report of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semantics {
    /// A device: OBX-4 is a place in it, OBX-7 are alarm limits (IHE PCD).
    Device,
    /// A laboratory or whoever else makes results: each OBX stands for itself, OBX-7 is what is normal.
    Results,
}

/// How much is written beside the observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceDetail {
    /// As `Device`, and a DeviceMetric for each place that measures, to which observations refer.
    Metric,
    /// A Device for each level of containment that can be identified, and a Provenance.
    Device,
    /// Observations only, which name their device by identifier: for records that take nothing else.
    IdentifierOnly,
}

/// A code by whose system it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeKind {
    /// LOINC.
    Loinc,
    /// ISO/IEEE 11073-10101.
    Mdc,
    /// Any other.
    Other,
}

/// One Observation.category.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    /// Its system's URI.
    pub system: String,
    /// Its code.
    pub code: String,
}

/// Names in `categories` that stand for many codes: by OBX-17, and for what none of the others is.
pub const CATEGORY_CLASSES: [&str; 4] = ["setting", "calculation", "measurement", "default"];

/// How a visit is referred to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncounterReference {
    /// By its identifier, which the server need not know.
    Identifier,
    /// By a search the server resolves, or fails the transaction.
    Conditional,
    /// Not at all.
    None,
}

/// The insulin of some doses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsulinProduct {
    /// MDC numbers or identifiers of the doses; none: the boluses of the device.
    pub codes: Vec<String>,
    /// The device, by one of its identities; none: every one.
    pub device: Option<String>,
    /// What they are of.
    pub medication: Medication,
}

impl InsulinProduct {
    /// Whether it is for a dose of any of these codes. What a person says to have taken is not what is in the pump.
    pub fn is_for(&self, dose: &[&str]) -> bool {
        match self.codes.as_slice() {
            [] => dose.iter().any(|code| code.starts_with("MDC_INS_BOLUS")),
            codes => codes.iter().any(|code| dose.contains(&&**code)),
        }
    }
}

/// A drug, as a site's formulary names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medication {
    /// Its system's URI.
    pub system: String,
    /// Its code.
    pub code: String,
    /// Its name.
    pub display: String,
}
