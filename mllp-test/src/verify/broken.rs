//! A promise that was not kept, by the column of the track record it belongs in.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which promise it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Column {
    /// Acknowledged, and neither delivered nor dead.
    Lost,
    /// Delivered after a later message of its sender.
    Reordered,
    /// Delivered and never sent, or sent to somewhere else.
    Phantom,
    /// Delivered with other bytes than were sent.
    Corrupt,
    /// An answer that named another message, or answered nothing.
    AckMismatch,
    /// Delivered again more often than the faults allow, or without the mark.
    Repeats,
    /// It did not go on by itself in time.
    Liveness,
    /// Another channel or destination suffered.
    Isolation,
    /// Memory, open files or disk beyond the limit.
    Bounded,
    /// Patient data where none may be.
    Leaked,
    /// A stop that took too long or did not end with 0.
    Stop,
    /// A start that failed, or one that should have been refused and was not.
    Start,
    /// The audit chain or the journal did not verify.
    Audit,
    /// The checker itself could not do its work; nothing is proved.
    Checker,
}

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which.
    pub column: Column,
    /// What was seen.
    pub what: String,
}

impl Broken {
    /// Names the promise and what was seen.
    pub fn new(column: Column, what: impl fmt::Display) -> Broken {
        Broken { column, what: what.to_string() }
    }

    /// The checker could not do its work.
    pub fn checker(what: impl fmt::Display) -> Broken {
        Broken::new(Column::Checker, what)
    }
}

impl From<std::io::Error> for Broken {
    fn from(fault: std::io::Error) -> Broken {
        Broken::checker(fault)
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.column, self.what)
    }
}

/// Broken unless `kept`.
pub fn ensure(kept: bool, column: Column, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if kept { Ok(()) } else { Err(Broken::new(column, what())) }
}
