//! Notes on episodes as the store keeps them: found by a keyed hash of channel, destination and name, and sealed.
//!
//! Notes may hold identities, and the store keeps none in clear. The nonce is a keyed hash of what is sealed: the same note
//! is the same bytes, and no two notes share a nonce. What does not open, since the key file is another, is not remembered.

use std::sync::Arc;

use bytes::Bytes;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};

use super::{
    LaneId, Settlement,
    keyed::{Keyed, Kind},
};
use crate::translate::{CHANGES_MAX, EpisodeChange, NOTE_BYTES_MAX};

/// An episode of one destination, by 128 bits.
pub(super) type EpisodeKey = (u64, u64);

/// What is to be remembered of an episode from a record on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EpisodeNote {
    pub key: EpisodeKey,
    pub open: bool,
    /// Sealed; `None` where it is forgotten.
    pub note: Option<Arc<[u8]>>,
}

/// The notes of one destination that a record carries forward, each with the sequence of the record that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CarriedEpisodes {
    pub channel: Arc<str>,
    pub destination: Arc<str>,
    pub notes: Vec<(u64, EpisodeNote)>,
}

impl CarriedEpisodes {
    /// Bytes a record takes for a note of so many, beside its destination's names.
    pub fn note_bytes(note: usize) -> usize {
        const BESIDE: usize = 36;
        BESIDE + note
    }
}

/// What a settlement is to remember, as it is recorded; and how many episodes it does not remember since their note is too
/// long or they are too many. What was remembered of those is forgotten with them: it is not how they stand.
pub(super) fn noted(keyed: &Keyed, lane: &LaneId, settlement: &Settlement) -> (Vec<EpisodeNote>, u64) {
    let Settlement::Accepted(receipt) = settlement else { return (Vec::new(), 0) };
    let notes: Vec<_> = receipt.episodes.iter().take(CHANGES_MAX).map(|change| note(keyed, lane, change)).collect();
    let wanted = receipt.episodes.iter().filter(|change| change.note.is_some()).count();
    let kept = notes.iter().filter(|note| note.note.is_some()).count();
    (notes, (wanted - kept) as u64)
}

fn note(keyed: &Keyed, lane: &LaneId, change: &EpisodeChange) -> EpisodeNote {
    let key = key(keyed, &lane.channel, &lane.destination, &change.episode);
    let note = change.note.as_deref().filter(|note| note.len() <= NOTE_BYTES_MAX);
    EpisodeNote { key, open: change.open, note: note.and_then(|note| seal(keyed, key, note)) }
}

/// What an episode is found by.
pub(super) fn key(keyed: &Keyed, channel: &str, destination: &str, episode: &[u8]) -> EpisodeKey {
    keyed.hash_pair(Kind::Episode, &[channel.as_bytes(), destination.as_bytes(), episode])
}

fn seal(keyed: &Keyed, key: EpisodeKey, note: &[u8]) -> Option<Arc<[u8]>> {
    let aad = aad(key);
    let nonce: [u8; NONCE_LEN] = *keyed.digest(Kind::EpisodeNonce, &[&aad, note]).first_chunk()?;
    let mut sealed = note.to_vec();
    sealer(keyed)?.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed).ok()?;
    Some([nonce.as_slice(), &sealed].concat().into())
}

/// The note, if it was sealed under this key for this episode.
pub(super) fn opened(keyed: &Keyed, key: EpisodeKey, sealed: &[u8]) -> Option<Bytes> {
    let (nonce, note) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut note = note.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let length = sealer(keyed)?.open_in_place(nonce, Aad::from(aad(key)), &mut note).ok()?.len();
    note.truncate(length);
    Some(note.into())
}

fn sealer(keyed: &Keyed) -> Option<LessSafeKey> {
    let key = keyed.digest(Kind::EpisodeSeal, &[]);
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?))
}

fn aad((first, second): EpisodeKey) -> [u8; 16] {
    let mut aad = [0; 16];
    aad[..8].copy_from_slice(&first.to_be_bytes());
    aad[8..].copy_from_slice(&second.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_note_opens_under_its_own_key_for_its_own_episode_only() {
        let keyed = Keyed::new(&[7; 32]);
        let key = key(&keyed, "pumps", "ehr", b"infusion");
        let sealed = seal(&keyed, key, b"patient 4711").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"4711"));
        assert_eq!(opened(&keyed, key, &sealed).unwrap(), "patient 4711");
        assert_eq!(seal(&keyed, key, b"patient 4711").unwrap(), sealed, "the same note is the same bytes");
        assert_ne!(seal(&keyed, key, b"patient 4712").unwrap()[..NONCE_LEN], sealed[..NONCE_LEN]);
        assert_eq!(opened(&Keyed::new(&[8; 32]), key, &sealed), None);
        assert_eq!(opened(&keyed, (key.0, key.1 ^ 1), &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(opened(&keyed, key, &changed), None, "{at}");
            assert_eq!(opened(&keyed, key, &sealed[..at]), None, "{at}");
        }
    }

    #[test]
    fn episodes_of_two_destinations_are_two() {
        let keyed = Keyed::new(&[7; 32]);
        let of = |channel, destination, episode: &[u8]| key(&keyed, channel, destination, episode);
        assert_ne!(of("pumps", "ehr", b"1"), of("pumps", "study", b"1"));
        assert_ne!(of("pumps", "ehr", b"1"), of("vents", "ehr", b"1"));
        assert_ne!(of("pumps", "ehr", b"1"), of("pumps", "ehr1", b""));
    }
}
