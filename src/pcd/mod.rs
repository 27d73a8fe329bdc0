//! What IHE PCD messages mean: containment, device identity, inherited times, codes and units (IHE PCD TF-2 App. B).
//!
//! Reading is for understanding, not for judging: most gateways break the framework somewhere, and a message that does
//! is read as far as it makes sense. No row is ever left out. No I/O, no clock.

mod coded;
mod containment;
mod explain;
mod fields;
mod identity;
mod nomenclature;
mod report;
mod retransmission;
mod transaction;

pub use coded::{Coded, Triplet};
pub use containment::{Containment, Level};
pub use explain::{ExplainedField, ExplainedSegment, Explanation, Meaning, explain};
pub use identity::{
    Authority, Identity, RULES, Rule, device_keys, equipment_of, eui64, identity_of, is_oid, is_uuid, label_of,
    patient_keys, sender,
};
pub(crate) use nomenclature::same_but_annotation;
pub use nomenclature::{
    Fit, Kind, Loinc, Nomenclature, Resolved, Term, device_level, is_private, loinc_digit_holds, parts,
};
pub use report::{Group, Nth, Place, Report, Role, Row, Stamp, Timing};
pub use retransmission::retransmitted_parts;
pub use transaction::{Recognised, RecognisedBy, Transaction, recognise};
