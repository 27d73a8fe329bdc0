//! What a benchmark of an engine needs beside the engine: a load that costs little, receivers that keep books, the limits
//! of this machine to compare with, and what a process has used. Speed is worth nothing where an answer was wrong, so the
//! load checks each answer against the message it should be for, and the receivers count what came twice or out of order.
//!
//! The rest of this crate is written for plainness; here a frame is found by `memchr` and a message is made by patching a
//! template, since client, engine and receiver share the same few cores and what the client takes the engine lacks.

pub mod load;
pub mod message;
pub mod process;
pub mod receiver;
pub mod reference;
pub mod wire;

pub use load::{Answers, Flow, Load, Outcome};
pub use message::{DEVICES, Id, Template};
pub use receiver::{Receiver, Taken};
pub use reference::Reference;
