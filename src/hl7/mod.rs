//! HL7 v2 messages: the bytes as received and a one-pass index over them.
//!
//! The bytes are never changed: reading decodes and unescapes on demand, and an edit makes new bytes in which every
//! untouched field is what it was. Parsing takes the whole message or refuses it with the place; nothing is skipped.

pub mod ack;
pub mod batch;
mod charset;
pub mod edit;
mod escape;
mod header;
mod index;
mod message;
mod path;
pub mod repair;
#[cfg(test)]
mod tests;
mod time;
mod view;

pub use charset::{Charset, CharsetError};
pub use escape::{escape, unescape};
pub use header::{Header, from_msh};
pub use message::{Delimiters, Message, ParseError, ParseErrorKind};
pub use path::{Path, PathError};
pub use time::{Precision, Time, TimeError};
pub use view::{Component, Field, Repetition, Segment};
