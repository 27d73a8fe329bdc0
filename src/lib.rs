//! Cannula: the line between bedside devices and the record.

pub mod channel;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod destination;
pub mod fhir;
pub mod hl7;
pub mod intake;
pub mod metrics;
pub mod mllp;
pub mod pcd;
pub mod store;
pub mod translate;
