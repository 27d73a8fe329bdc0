//! What a destination is sent: the message as received, edited v2, or FHIR R4.
//!
//! Translation is pure: the same message, settings, context and memory give the same bytes, on every attempt and every
//! machine. No I/O and no clock. It never makes a value up: what cannot be said rightly is refused, with what to do about it.

mod cgm_summary;
mod conversion;
mod episode;
mod fhir_settings;
mod glucose;
mod mapping;
mod pcd_to_fhir;
pub mod steps;
pub mod table;
mod unmapped;
mod unsent;

pub use cgm_summary::{PatientIdentifier, SummaryHead, cgm_summary, is_cgm_summary, summary_message};
pub use conversion::Conversion;
pub use episode::{CHANGES_MAX, EpisodeChange, NOTE_BYTES_MAX, Recall, Remembered, nothing_remembered};
pub use fhir_settings::{
    Alerts, CATEGORY_CLASSES, Category, CodeKind, DeviceDetail, EncounterReference, Infusions, InsulinProduct,
    Medication, PcdToFhir, Semantics,
};
pub use mapping::{MAPPING_COLUMNS, MappingRow};
pub use unmapped::{LOOKED_UP, Unmapped, UnmappedCode, rows_to_fill_in};
pub use unsent::Unsent;

use std::fmt;

use bytes::Bytes;

use crate::hl7::Message;

/// Names of coding systems (table 0396) and the URIs they are written as.
pub const CODING_SYSTEMS: &[(&str, &str)] = pcd_to_fhir::concept::CODING_SYSTEMS;

/// Whether this note on an infusion or an alert is of another version of the engine: then it is as if there were none.
pub fn is_unreadable_note(episode: &[u8], note: &[u8]) -> bool {
    pcd_to_fhir::memory::is_unreadable(episode, note)
}

/// Identifiers of doses of insulin that are told as given.
pub const INSULIN_DOSES: [&str; 12] = pcd_to_fhir::insulin::DOSES;

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// HL7 v2, ER7.
    Hl7,
    /// FHIR R4 JSON Bundle.
    FhirBundle,
}

/// How a destination's body is made.
// One for each destination, so that its size does not count.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
pub enum Plan {
    /// As received.
    Unchanged,
    /// v2 steps in order.
    Steps(Vec<steps::Step>),
    /// IHE PCD to FHIR R4.
    PcdToFhir(PcdToFhir),
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
    /// The bytes to send; none where there is nothing to send.
    pub body: Bytes,
    /// What they are.
    pub format: Format,
    /// Why there is nothing to send.
    pub unsent: Option<Unsent>,
    /// Why something is left out of what is sent, for a person to act on.
    pub doubt: Option<Unsent>,
    /// Codes that had no row, or whose number and name disagree.
    pub unmapped: Vec<Unmapped>,
    /// Where each element came from: `entry[3].resource.valueQuantity` ← `OBX[7]-5`. What is inside an element comes from
    /// where it does, unless it has an origin of its own. An origin is one or more fields, perhaps with the table or setting
    /// they went through (`OBX[7]-3 by mdc-loinc.csv`), `constant`, `configuration: KEY`, `engine: WHAT`, `as ELEMENT`,
    /// `remembered: earlier messages` alone or after fields; of a v2 body also the step.
    pub origins: Vec<(String, String)>,
    /// What the destination is to remember once it has taken the body.
    pub episodes: Vec<EpisodeChange>,
}

impl Translated {
    /// Of a message that says nothing the destination is to be told, though perhaps something to remember.
    pub fn unsent(why: Unsent, episodes: Vec<EpisodeChange>) -> Translated {
        let (format, unsent) = (Format::FhirBundle, Some(why));
        Translated {
            body: Bytes::new(),
            format,
            unsent,
            doubt: None,
            unmapped: Vec::new(),
            origins: Vec::new(),
            episodes,
        }
    }

    /// Whether there is something to send.
    pub fn is_sent(&self) -> bool {
        self.unsent.is_none()
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
    /// The site's own tables that it looks codes up in; those of every plan are [`LOOKED_UP`].
    pub fn tables(&self) -> Vec<String> {
        let Plan::Steps(steps) = self else { return Vec::new() };
        let table = |step: &steps::Step| match step {
            steps::Step::Map { table, .. } => Some(table.name().to_owned()),
            _ => None,
        };
        steps.iter().filter_map(table).collect()
    }

    /// Whether its own table of this name has a row for the code; `None` where it looks nothing up there.
    pub fn has_row(&self, table: &str, code: &str) -> Option<bool> {
        let Plan::Steps(steps) = self else { return None };
        let own = steps.iter().find_map(|step| match step {
            steps::Step::Map { table: own, .. } => Some(own).filter(|own| own.name() == table),
            _ => None,
        });
        own.map(|own| own.row(code).is_some())
    }

    /// The body for this message, or why there is nothing to send.
    pub fn apply(
        &self,
        message: &Message,
        context: Context,
        recall: &Recall<'_>,
    ) -> Result<Translated, TranslateError> {
        match self {
            Plan::Unchanged => Ok(v2(message.received(), Vec::new())),
            Plan::Steps(steps) => {
                let mut unmapped = Vec::new();
                let edited = steps::apply(steps, message, &mut unmapped)?;
                let origins = if context.origins { steps::origins(steps, message) } else { Vec::new() };
                Ok(Translated { origins, ..v2(edited.bytes(), unmapped) })
            }
            Plan::PcdToFhir(settings) => pcd_to_fhir::apply(settings, message, context, recall),
        }
    }
}

fn v2(body: Bytes, unmapped: Vec<Unmapped>) -> Translated {
    Translated {
        body,
        format: Format::Hl7,
        unsent: None,
        doubt: None,
        unmapped,
        origins: Vec::new(),
        episodes: Vec::new(),
    }
}
