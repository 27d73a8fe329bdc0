//! Notes on episodes, written and read. One that does not read, being another version's, is none.

use serde::{Serialize, de::DeserializeOwned};

use super::{EpisodeChange, Recall};

/// The first byte of a note: another number is another layout.
const LAYOUT: u8 = 4;

/// Of an infusion or an alert, by another version, so that it is not read.
pub(in crate::translate) fn is_unreadable(episode: &[u8], note: &[u8]) -> bool {
    [INFUSION, ALERT].iter().any(|kind| episode.starts_with(kind.as_bytes())) && note.first() != Some(&LAYOUT)
}

/// What an infusion's episode is named by.
pub(super) const INFUSION: &str = "infusion course";
/// An alert's.
pub(super) const ALERT: &str = "alert";

/// The name of an episode; parts never run together.
pub(super) fn name(kind: &str, parts: &[&str]) -> Vec<u8> {
    let mut name = kind.as_bytes().to_vec();
    for part in parts {
        name.extend_from_slice(&(part.len() as u32).to_be_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    name
}

pub(super) fn read<T: DeserializeOwned>(recall: &Recall<'_>, episode: &[u8]) -> Option<T> {
    let note = recall(episode)?;
    let (layout, note) = note.split_first()?;
    (*layout == LAYOUT).then(|| postcard::from_bytes(note).ok()).flatten()
}

pub(super) fn write<T: Serialize>(episode: &[u8], value: &T, open: bool) -> EpisodeChange {
    // Plain owned structs into a growing vector: no way to fail.
    note(episode, Some(postcard::to_extend(value, vec![LAYOUT]).unwrap_or_default()), open)
}

pub(super) fn note(episode: &[u8], note: Option<Vec<u8>>, open: bool) -> EpisodeChange {
    EpisodeChange { episode: episode.to_vec().into(), note: note.map(Into::into), open }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_note_of_another_layout_on_an_infusion_or_an_alert_is_told_from_others() {
        let written = write(b"x", &7_u32, true).note.unwrap();
        let other = [&[LAYOUT + 1], &written[1..]].concat();
        for kind in [INFUSION, ALERT] {
            let episode = name(kind, &["pump"]);
            assert!(!is_unreadable(&episode, &written) && is_unreadable(&episode, &other), "{kind}");
        }
        assert!(!is_unreadable(&name("primary infusion", &["pump"]), b"a name"), "it has no layout");
    }
}
