//! What a destination remembers between messages, of an episode: something told over several of them, such as an infusion,
//! an alert, a device in use, or a value that was corrected.
//!
//! Translation stays pure: it asks what is remembered and says what to remember instead, which becomes durable in one record
//! with the delivery. So a retry translates to the same body, and what must never happen cannot: a note without its
//! delivery, or a delivery without its note. A message replayed later meets a newer note: whoever writes one keeps in it
//! when its episode was last told. Of too many episodes the one unchanged for longest is one never heard of again.

use std::{collections::HashMap, fmt};

use bytes::Bytes;

/// Bytes of a note at most; what is longer is not remembered.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Episodes one delivery may change; what is beyond them is not remembered.
pub const CHANGES_MAX: usize = 64;

/// The note on an episode of this destination, if it has one. The name is the translation's own; it may hold identities.
pub type Recall<'r> = dyn Fn(&[u8]) -> Option<Bytes> + 'r;

/// For a destination that has taken nothing yet.
pub fn nothing_remembered(_episode: &[u8]) -> Option<Bytes> {
    None
}

/// What to remember of an episode once the delivery is accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct EpisodeChange {
    /// Its name.
    pub episode: Bytes,
    /// The note in the place of the one before; `None` forgets it.
    pub note: Option<Bytes>,
    /// It still goes on: forgetting it for want of room is counted as a limit that bit.
    pub open: bool,
}

impl fmt::Debug for EpisodeChange {
    /// Name and note are the patient's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EpisodeChange({} bytes, open: {})", self.note.as_ref().map_or(0, Bytes::len), self.open)
    }
}

/// What one destination remembers where there is no store: of the samples of a channel, and in tests.
#[derive(Default, Clone)]
pub struct Remembered(HashMap<Bytes, Bytes>);

impl Remembered {
    /// The note on an episode.
    pub fn recall(&self, episode: &[u8]) -> Option<Bytes> {
        self.0.get(episode).cloned()
    }

    /// The delivery was accepted.
    pub fn change(&mut self, changes: &[EpisodeChange]) {
        for EpisodeChange { episode, note, .. } in changes {
            match note {
                Some(note) => self.0.insert(episode.clone(), note.clone()),
                None => self.0.remove(episode),
            };
        }
    }
}
