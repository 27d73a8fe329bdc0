//! The witness beside an HL7 v2 interface engine: it plays the gateways that send and the systems that receive, and
//! keeps the books of both, so that a lost, invented, repeated or reordered message is seen by someone other than the
//! engine. It must never use the engine's codec, parser or store: a shared fault would hide itself.
//!
//! ```text
//!  simulate / load ──MLLP──▶ engine under test ──MLLP──▶ Sink
//!        │ SenderAccount            └────────────HTTP──▶ FhirSink
//!        └──────────────▶ Account::join ◀──────────────── SinkAccount
//! ```
//!
//! Every message carries a [`MessageId`] as its control id (MSH-10); over FHIR it comes back in `Bundle.identifier` or
//! `Provenance.entity.what.identifier`. Ids ascend for each sender, so order needs no clock.

pub mod account;
pub mod conform;
pub mod conversation;
pub mod fhir_sink;
pub mod frame;
pub mod id;
pub mod latency;
pub mod ledger;
pub mod load;
pub mod measure;
pub mod pcd;
pub mod peer;
pub mod proxy;
pub mod script;
pub mod send;
pub mod sender;
pub mod simulate;
pub mod sink;
pub mod spec;
pub mod tls;
pub mod v2;
pub mod verify;

pub use account::{Account, Expect, Findings, Route, SenderAccount, SinkAccount};
pub use fhir_sink::{FhirSink, FhirSinkConfig};
pub use id::{Kind, MessageId};
pub use load::LoadConfig;
pub use proxy::Proxy;
pub use simulate::{Simulation, SimulationConfig};
pub use sink::{Sink, SinkConfig};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock even after a panic elsewhere: the books stay readable, and each entry is written whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many of what: `1 message`, `2 messages`.
pub fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// A well mixed 64-bit number from a seed and a counter (splitmix64): the only randomness here, so every run repeats.
pub(crate) fn mix(seed: u64, counter: u64) -> u64 {
    let mut z = seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number in `0.0..1.0` from a seed and a counter.
pub(crate) fn unit(seed: u64, counter: u64) -> f64 {
    (mix(seed, counter) >> 11) as f64 / (1u64 << 53) as f64
}
