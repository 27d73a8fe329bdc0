//! What is copied forward of segments that are given up: their messages that are still wanted, and what else they said that holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Header, RepeatMark, What, join};
use crate::store::{LaneId, episodes::CarriedEpisodes};

/// Repeats carried by one record.
const CARRIED_REPEATS: usize = 10_000;

/// A message copied forward because its segment is given up: all that is still true of it. Followed by its raw bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct Carried {
    pub id: u64,
    pub header: Header,
    pub waiting: Vec<CarriedEntry>,
    pub dead: Vec<CarriedDead>,
    /// What happened to it up to now, oldest first.
    pub events: Vec<CarriedEvent>,
}

impl Carried {
    /// Length of its record's payload.
    pub fn encoded_bytes(&self, message: &[u8]) -> usize {
        join(&(self, self.header.added()), &[]).len() + message.len()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct CarriedEntry {
    pub lane: LaneId,
    pub entry: u64,
    pub again: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct CarriedDead {
    pub lane: LaneId,
    pub entry: u64,
    pub at: i64,
    pub reason: String,
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct CarriedEvent {
    pub entry: u64,
    pub lane: LaneId,
    pub what: What,
    pub at: i64,
    pub detail: String,
}

/// What else the given-up segments said that still holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct CarriedState {
    /// All destinations paused at this point.
    pub paused: Vec<(Arc<str>, Arc<str>)>,
    pub repeats: Vec<CarriedRepeat>,
    #[serde(skip)]
    pub episodes: Vec<CarriedEpisodes>,
}

impl CarriedState {
    /// Repeats a record of `payload_max` bytes has room for beside these pauses.
    pub fn repeats_max(paused: &[(Arc<str>, Arc<str>)], payload_max: usize) -> usize {
        const PAUSE: usize = 20;
        const REPEAT: usize = 58;
        let paused: usize = paused.iter().map(|(channel, name)| PAUSE + channel.len() + name.len()).sum();
        (payload_max.saturating_sub(64 + paused) / REPEAT).clamp(1, CARRIED_REPEATS)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct CarriedRepeat {
    pub mark: RepeatMark,
    pub sequence: u64,
    pub at: i64,
    #[serde(skip)]
    pub steady: i64,
}
