//! The books: what senders were told ([`SenderAccount`]), what destinations got ([`SinkAccount`]), and the join of the
//! two ([`Account`]). A message that was acknowledged and did not arrive must never go unseen; a doubtful case counts
//! against the engine.

mod hashes;
mod join;
mod sender;
mod sink;

pub use join::{Account, Destination, Expect, Route, read_sender, read_sink};
pub use sender::{SenderAccount, SenderBook};
pub use sink::{SinkAccount, SinkBook};

use crate::id::MessageId;
use serde::{Serialize, Serializer};
use std::fmt;

const FINDINGS_SHOWN: usize = 20;

/// Messages something is wrong with: how many, and the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    #[serde(serialize_with = "as_text")]
    pub first: Vec<MessageId>,
}

impl Findings {
    /// Adds one.
    pub fn add(&mut self, id: MessageId) {
        self.count += 1;
        if self.first.len() < FINDINGS_SHOWN {
            self.first.push(id);
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        if let [first, ..] = self.first[..] {
            write!(f, " (first {first})")?;
        }
        Ok(())
    }
}

fn as_text<S: Serializer>(ids: &[MessageId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(MessageId::to_string))
}
