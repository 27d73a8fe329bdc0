//! Cannula: the line between bedside devices and the record.
//!
//! The way of a message:
//!
//! ```text
//!  gateway ──TCP──▶ mllp ─frame─▶ hl7::Message ─▶ intake ──▶ store ◀──▶ delivery ──▶ destination
//!          ◀──────────── ACK, made from `Stored` ────┘         translate ┘
//! ```
//!
//! Layers, low to high; a module uses only lower ones: `clock`, `metrics`, `sabotage` < `hl7` < `mllp`, `pcd`, `fhir` < `translate` <
//! `store`, `destination` < `channel` < `devices` < `intake`, `delivery` < `admin` < `config` < `app` < `cli`.
//!
//! What must never happen: a positive acknowledgement for a message that a power cut could still take; an acknowledged
//! message that is neither delivered nor waiting nor a dead letter a person can see; two messages of a lane out of
//! order; patient data in a log, a metric, an error or a URL.

pub mod admin;
pub mod app;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod delivery;
pub mod destination;
pub mod devices;
pub mod fhir;
pub mod hl7;
pub mod intake;
pub mod metrics;
pub mod mllp;
pub mod pcd;
pub mod sabotage;
pub mod store;
pub mod summary;
pub mod threads;
pub mod told;
pub mod translate;
