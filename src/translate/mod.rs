//! What a destination is sent: the message as received, edited v2, or FHIR R4.
//!
//! Translation is pure: the same message, settings, context and memory give the same bytes, on every attempt and every
//! machine. No I/O and no clock. It never makes a value up: what cannot be said rightly is refused, with what to do about it.

mod cgm_summary;
mod episode;
mod pcd_to_fhir;
pub mod steps;
pub mod table;
mod unmapped;

pub use cgm_summary::{PatientIdentifier, cgm_summary};
pub use episode::{CHANGES_MAX, EpisodeChange, NOTE_BYTES_MAX, Recall, Remembered, nothing_remembered};
pub use unmapped::{Unmapped, UnmappedCode, rows_to_fill_in};

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    hl7::Message,
    pcd::{Identification, Nomenclature},
};

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// HL7 v2, ER7.
    Hl7,
    /// FHIR R4 JSON Bundle.
    FhirBundle,
}

/// How a destination's body is made.
#[derive(Clone)]
pub enum Plan {
    /// As received.
    Unchanged,
    /// v2 steps in order.
    Steps(Vec<steps::Step>),
    /// IHE PCD to FHIR R4.
    PcdToFhir(PcdToFhir),
}

/// Settings of `pcd-to-fhir`.
#[derive(Clone)]
pub struct PcdToFhir {
    /// Codes.
    pub nomenclature: Arc<Nomenclature>,
    /// Which places name a device.
    pub identification: Arc<Identification>,
    /// Writes OBX-11 R, not validated by a person, as `final` rather than `preliminary`.
    pub unverified_final: bool,
    /// Offset of times sent without a zone, where MSH-7 has none either; minutes east of UTC.
    pub default_offset_minutes: Option<i16>,
    /// Assigning authority (CX.4.1 or CX.4.2) → identifier system URI. The key `""` is for identifiers without one.
    pub identifier_systems: BTreeMap<String, String>,
    /// How much is written beside the observations.
    pub device_detail: DeviceDetail,
    /// Two values of one place, code and time are two observations, not one sent twice. A correction then does not find
    /// what it corrects.
    pub value_in_identity: bool,
    /// What becomes of pump events (PCD-10).
    pub infusions: Infusions,
    /// What becomes of alerts (PCD-04).
    pub alerts: Alerts,
}

impl PcdToFhir {
    /// The defaults: R is preliminary, devices are written, no system and no zone is assumed.
    pub fn new(nomenclature: Arc<Nomenclature>) -> PcdToFhir {
        PcdToFhir {
            nomenclature,
            identification: Arc::default(),
            unverified_final: false,
            default_offset_minutes: None,
            identifier_systems: BTreeMap::new(),
            device_detail: DeviceDetail::Device,
            value_in_identity: false,
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
        Infusions { written: true, rate_segments: true, kvo_segments: true, require_drug: false, pause_max }
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

/// How much is written beside the observations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceDetail {
    /// A Device for each level of containment that can be identified, and a Provenance.
    Device,
    /// Observations only, which name their device by identifier: for records that take nothing else.
    IdentifierOnly,
}

/// What the store knows of the message.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// The message's id.
    pub id: u64,
    /// When it was received.
    pub received_at: jiff::Timestamp,
    /// Collect `origins`.
    pub origins: bool,
}

/// A body ready to send.
#[derive(Clone)]
pub struct Translated {
    /// The bytes to send; none where the message only changes what is remembered.
    pub body: Bytes,
    /// What they are.
    pub format: Format,
    /// Codes that had no row, or whose number and name disagree.
    pub unmapped: Vec<Unmapped>,
    /// Where each element came from: `entry[3].resource.valueQuantity` ← `OBX[7]-5`.
    pub origins: Vec<(String, String)>,
    /// What the destination is to remember once it has taken the body.
    pub episodes: Vec<EpisodeChange>,
}

impl Translated {
    /// Of a message that says nothing the destination is to be told, and yet something to remember.
    fn remembered(episodes: Vec<EpisodeChange>) -> Translated {
        let format = Format::FhirBundle;
        Translated { body: Bytes::new(), format, unmapped: Vec::new(), origins: Vec::new(), episodes }
    }

    /// Whether there is something to send.
    pub fn is_sent(&self) -> bool {
        !self.body.is_empty()
    }
}

impl fmt::Debug for Translated {
    /// Its size only: the body is the patient's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Translated({:?}, {} bytes)", self.format, self.body.len())
    }
}

/// Why a message has no body for this destination: a dead letter with this reason. No content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct TranslateError {
    /// Path such as `OBX[3]-5`.
    pub place: String,
    /// What and what to do.
    pub what: String,
    /// Codes that had no row.
    pub unmapped: Vec<Unmapped>,
}

impl TranslateError {
    /// One that is not for want of a row.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> TranslateError {
        TranslateError { place: place.into(), what: what.into(), unmapped: Vec::new() }
    }
}

impl Plan {
    /// The body for this message. `Ok(None)` where there is nothing to send: a step dropped the message, or a report
    /// holds no observation (a gateway that only announces its devices).
    pub fn apply(
        &self,
        message: &Message,
        context: Context,
        recall: &Recall<'_>,
    ) -> Result<Option<Translated>, TranslateError> {
        match self {
            Plan::Unchanged => Ok(Some(v2(message.received(), Vec::new()))),
            Plan::Steps(steps) => {
                let mut unmapped = Vec::new();
                let edited = steps::apply(steps, message, &mut unmapped)?;
                Ok(Some(v2(edited.bytes(), unmapped)))
            }
            Plan::PcdToFhir(settings) => pcd_to_fhir::apply(settings, message, context, recall),
        }
    }
}

fn v2(body: Bytes, unmapped: Vec<Unmapped>) -> Translated {
    Translated { body, format: Format::Hl7, unmapped, origins: Vec::new(), episodes: Vec::new() }
}
