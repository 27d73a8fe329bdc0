//! The black-box checker: the real engine as a child process, gateways that send, destinations that receive, one fault
//! after the other, and the books of all sides joined at the end. It knows the engine only by its sockets, its files'
//! names and its command line. A fault that was not injected, a check that was not made or a message that was not
//! acknowledged must never count as a cycle passed.
//!
//! A [`Fault`] says what is done to a [`Site`]: its `plan` (channels, destinations, traffic), an optional `prepare`, and
//! `cycle`, which injects the fault once and sees the engine work again. After a group of cycles the site is settled:
//! drained, stopped with exit code 0, verified, started again, asked for its dead letters, and every ledger joined.

pub mod broken;
pub mod chance;
pub mod channels;
pub mod engine;
pub mod fault;
pub mod faults;
pub mod http;
pub mod power;
mod progress;
mod report;
mod run;
mod selftest;
pub mod settle;
pub mod site;
pub mod tally;
pub mod tools;
pub mod traffic;

pub use broken::{Broken, Column};
pub use engine::Engine;
pub use fault::Fault;
pub use report::{Report, Row, Violation};
pub use run::{Matrix, Options, run};
pub use selftest::{Trial, self_test};
pub use site::{Plan, Site};
pub use tally::Tally;
pub use tools::Tools;
