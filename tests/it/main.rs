//! What Cannula promises, proved from outside: bytes on sockets, files on disk, the built command.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod acks;
mod api;
mod cgm;
mod command;
mod conform;
mod crash;
#[cfg(feature = "sabotage")]
mod crash_points;
mod devices;
mod drain;
mod engine;
mod fhir;
mod findings;
mod interop;
mod layers;
mod messages;
mod outbound;
mod owed;
mod preview;
mod reload;
mod retransmission;
#[cfg(feature = "sabotage")]
mod sabotage;
mod spec;
mod tls;
mod unmapped;
mod upkeep;
mod ward;
