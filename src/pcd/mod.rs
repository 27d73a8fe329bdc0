//! What IHE PCD messages mean: containment, device identity, inherited times, codes and units (IHE PCD TF-2 App. B).
//!
//! Reading is for understanding, not for judging: most gateways break the framework somewhere, and a message that does
//! is read as far as it makes sense. [`conformance`] alone judges. No row is ever left out. No I/O, no clock.

mod administration;
mod alert;
mod association;
pub mod cgm;
mod coded;
pub mod conformance;
mod containment;
mod event;
mod explain;
#[cfg(test)]
mod explain_tests;
mod facts;
mod fields;
mod headline;
mod identification;
mod identity;
mod infusion_order;
mod loinc;
mod nomenclature;
mod pump_event;
#[cfg(test)]
mod real_messages_tests;
mod report;
mod retransmission;
mod summary;
pub mod tolerance;
mod transaction;
mod udi;
mod units;
mod words;

pub use alert::{AlarmState, Alert, AlertPlaces, AlertType, Inactivation, Observed, Phase, Priority};
pub use association::{Association, association, is_no_identifier, location_key};
pub use coded::{Coded, Triplet};
pub use containment::{Containment, Level};
pub use event::{EntityId, Moment, Named, Quantity};
pub use explain::{
    ExplainedField, ExplainedSegment, Explanation, FhirElement, FhirElements, Meaning, TypedReport, explain, printable,
};
pub use identification::{Identification, IdentityRules, PLACES};
pub use identity::{
    Authority, Identity, RULES, Rule, device_keys, equipment_of, eui64, identity_of, is_oid, is_uuid, label_of,
    patient_keys, sender,
};
pub use infusion_order::{AnswerError, InfusionOrder, InfusionStep, OrderParameter, Reply};
pub use loinc::{
    LoincFit, glucose_property_of, glucose_unit_said, is_glucose_loinc, is_loinc_said, loinc_fit, property_of_unit,
};
pub use nomenclature::{
    Fit, Kind, Loinc, Nomenclature, Resolved, Term, UnitRow, device_level, is_private, is_refid, loinc_digit_holds,
    parts,
};
pub(crate) use nomenclature::{same_but_annotation, whole_table};
pub use pump_event::{Infusion, InfusionPlaces, PumpEvent, PumpEventKind, PumpSource};
pub use report::{Group, Nth, Place, Report, Role, Row, Stamp, Timing};
pub use retransmission::retransmitted_parts;
pub use transaction::{Recognised, RecognisedBy, Transaction, recognise};
pub use udi::{Issuer, Udi};
pub(crate) use units::{names_two_units, same_unit, ucum_of};
