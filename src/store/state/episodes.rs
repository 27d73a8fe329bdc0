//! What destinations remember of episodes: the latest note on each, all in memory.
//!
//! Bounded by count a destination and by bytes in all: the note unchanged for longest gives way. So what is kept depends on
//! the latest changes alone, and a fold of a journal's end with what was carried forward into it keeps the same. Giving a
//! segment back carries all of it forward at worst, so the bytes are a share of a segment: a store gains by each.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::store::episodes::{CarriedEpisodes, EpisodeKey, EpisodeNote};

/// Episodes of one destination.
const EPISODES_MAX: usize = 65_536;
/// Bytes of all of them at most, as they are carried forward; finding them takes about as much memory again.
const BYTES_MAX: usize = 8 << 20;
/// Of a segment's bytes, the share all of them may take: a quarter.
const SEGMENT_SHARE: u32 = 4;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Episode {
    owner: u32,
    /// Sequence of the record that wrote the note.
    changed: u64,
    /// The segment that tells of it last.
    told: u64,
    open: bool,
    note: Arc<[u8]>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(in crate::store) struct Episodes {
    known: HashMap<EpisodeKey, Episode>,
    owners: Vec<Owner>,
    bytes: usize,
    digest: u64,
    count_max: usize,
    bytes_max: usize,
    /// Changed since the last checkpoint.
    pub dirty: BTreeSet<EpisodeKey>,
}

/// A destination.
#[derive(Debug, Clone)]
struct Owner {
    channel: Arc<str>,
    destination: Arc<str>,
    by_age: BTreeSet<(u64, EpisodeKey)>,
    /// Episodes that went on and gave way, since last asked.
    forgotten: u64,
}

/// As a checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct StoredEpisode {
    channel: Arc<str>,
    destination: Arc<str>,
    episode: Episode,
}

impl Episodes {
    /// None yet, within bounds that fit a journal of such segments.
    pub fn beside_segments_of(segment_bytes: u32) -> Episodes {
        Episodes::bounded(EPISODES_MAX, BYTES_MAX.min((segment_bytes / SEGMENT_SHARE) as usize))
    }

    /// At most so many a destination, and bytes in all.
    pub fn bounded(count_max: usize, bytes_max: usize) -> Episodes {
        let (known, owners, dirty) = (HashMap::new(), Vec::new(), BTreeSet::new());
        Episodes { known, owners, bytes: 0, digest: 0, count_max, bytes_max, dirty }
    }

    /// The note, sealed.
    pub fn note(&self, key: EpisodeKey) -> Option<Arc<[u8]>> {
        self.known.get(&key).map(|episode| Arc::clone(&episode.note))
    }

    /// Remembers what the record `sequence` in `segment` says, unless a later one spoke of the same episode.
    pub fn change(&mut self, owner: (&Arc<str>, &Arc<str>), sequence: u64, segment: u64, note: &EpisodeNote) {
        if self.known.get(&note.key).is_some_and(|known| known.changed > sequence) {
            return;
        }
        self.forget(note.key);
        self.dirty.insert(note.key);
        let Some(sealed) = note.note.clone() else { return };
        let owner = self.owner(owner);
        self.insert(note.key, Episode { owner, changed: sequence, told: segment, open: note.open, note: sealed });
        self.make_room(owner);
    }

    /// What a record in `segment` carried forward.
    pub fn carried(&mut self, segment: u64, carried: &CarriedEpisodes) {
        for (changed, note) in &carried.notes {
            self.change((&carried.channel, &carried.destination), *changed, segment, note);
        }
    }

    /// Notes that no segment from this one on tells, by destination, in runs of at most so many bytes.
    pub fn only_told_before(&self, segment: u64, bytes_max: usize) -> Vec<CarriedEpisodes> {
        let mut runs = Vec::new();
        for owner in &self.owners {
            let mut room = 0;
            for (changed, key) in &owner.by_age {
                let Some(Episode { open, note, .. }) = self.known.get(key).filter(|each| each.told < segment) else {
                    continue;
                };
                let bytes = CarriedEpisodes::note_bytes(note.len());
                if runs.is_empty() || room < bytes {
                    let (channel, destination) = (Arc::clone(&owner.channel), Arc::clone(&owner.destination));
                    room = bytes_max.saturating_sub(channel.len() + destination.len()).max(bytes);
                    runs.push(CarriedEpisodes { channel, destination, notes: Vec::new() });
                }
                room -= bytes;
                let note = EpisodeNote { key: *key, open: *open, note: Some(Arc::clone(note)) };
                runs.last_mut().into_iter().for_each(|run| run.notes.push((*changed, note.clone())));
            }
        }
        runs
    }

    /// Lets give way what wider bounds kept.
    pub fn fit(&mut self) {
        (0..self.owners.len() as u32).for_each(|owner| self.make_room(owner));
    }

    /// How many there are, and a sum over them in no order.
    pub fn proof(&self) -> (u64, u64) {
        (self.known.len() as u64, self.digest)
    }

    /// By channel, episodes that went on and gave way since last asked.
    pub fn take_forgotten(&mut self) -> Vec<(Arc<str>, u64)> {
        let taken =
            self.owners.iter_mut().map(|owner| (Arc::clone(&owner.channel), std::mem::take(&mut owner.forgotten)));
        taken.filter(|(_, forgotten)| *forgotten > 0).collect()
    }

    /// As a checkpoint writes it; `None` where it is forgotten.
    pub fn stored(&self, key: EpisodeKey) -> Option<StoredEpisode> {
        let episode = self.known.get(&key)?.clone();
        let Owner { channel, destination, .. } = self.owners.get(episode.owner as usize)?.clone();
        Some(StoredEpisode { channel, destination, episode })
    }

    /// Puts back what a checkpoint kept.
    pub fn restore(&mut self, key: EpisodeKey, stored: StoredEpisode) {
        let owner = self.owner((&stored.channel, &stored.destination));
        self.insert(key, Episode { owner, ..stored.episode });
    }

    /// Every one, in one order: key, sequence of its last change, sealed note.
    #[cfg(test)]
    pub fn all(&self) -> Vec<(EpisodeKey, u64, Arc<[u8]>)> {
        let mut all: Vec<_> =
            self.known.iter().map(|(key, each)| (*key, each.changed, Arc::clone(&each.note))).collect();
        all.sort();
        all
    }

    fn owner(&mut self, (channel, destination): (&Arc<str>, &Arc<str>)) -> u32 {
        let found = self.owners.iter().position(|each| each.channel == *channel && each.destination == *destination);
        let number = found.unwrap_or_else(|| {
            let (channel, destination) = (Arc::clone(channel), Arc::clone(destination));
            self.owners.push(Owner { channel, destination, by_age: BTreeSet::new(), forgotten: 0 });
            self.owners.len() - 1
        });
        number as u32
    }

    fn insert(&mut self, key: EpisodeKey, episode: Episode) {
        self.bytes += CarriedEpisodes::note_bytes(episode.note.len());
        self.digest = self.digest.wrapping_add(mix(key, &episode));
        self.owners[episode.owner as usize].by_age.insert((episode.changed, key));
        self.known.insert(key, episode);
    }

    fn forget(&mut self, key: EpisodeKey) -> Option<Episode> {
        let gone = self.known.remove(&key)?;
        self.bytes -= CarriedEpisodes::note_bytes(gone.note.len());
        self.digest = self.digest.wrapping_sub(mix(key, &gone));
        self.owners[gone.owner as usize].by_age.remove(&(gone.changed, key));
        Some(gone)
    }

    fn make_room(&mut self, owner: u32) {
        while self.owners[owner as usize].by_age.len() > self.count_max
            && let Some((_, oldest)) = self.owners[owner as usize].by_age.first().copied()
        {
            self.give_way(oldest);
        }
        while self.bytes > self.bytes_max
            && let Some((_, oldest)) = self.owners.iter().filter_map(|each| each.by_age.first()).min().copied()
        {
            self.give_way(oldest);
        }
    }

    fn give_way(&mut self, key: EpisodeKey) {
        self.dirty.insert(key);
        if let Some(gone) = self.forget(key) {
            self.owners[gone.owner as usize].forgotten += u64::from(gone.open);
        }
    }
}

/// Spreads one episode over 64 bits (the finisher of splitmix64); its key is a hash already.
fn mix(key: EpisodeKey, episode: &Episode) -> u64 {
    let sealed = episode.note.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
    let mut z = key.0 ^ key.1.rotate_left(32) ^ episode.changed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ sealed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn owner(number: u64) -> (Arc<str>, Arc<str>) {
        (format!("channel {number}").into(), "ehr".into())
    }

    fn note(key: u64, bytes: usize, open: bool) -> EpisodeNote {
        EpisodeNote { key: (key, !key), open, note: (bytes > 0).then(|| vec![key as u8; bytes].into()) }
    }

    fn change(episodes: &mut Episodes, of: u64, sequence: u64, note: &EpisodeNote) {
        let owner = owner(of);
        episodes.change((&owner.0, &owner.1), sequence, sequence / 10, note);
    }

    #[test]
    fn the_episode_unchanged_for_longest_gives_way_and_is_counted_if_it_went_on() {
        let mut episodes = Episodes::bounded(3, usize::MAX);
        for (sequence, key) in [1, 2, 3, 1, 4].into_iter().enumerate() {
            change(&mut episodes, 0, sequence as u64, &note(key, 9, key == 2));
        }
        change(&mut episodes, 1, 9, &note(5, 9, true));
        let kept =
            |episodes: &Episodes| (1..=5).filter(|key| episodes.note((*key, !*key)).is_some()).collect::<Vec<_>>();
        assert_eq!(kept(&episodes), [1, 3, 4, 5]);
        assert_eq!(episodes.take_forgotten(), [("channel 0".into(), 1)]);
        episodes.bytes_max = 2 * CarriedEpisodes::note_bytes(9);
        change(&mut episodes, 1, 10, &note(5, 9, true));
        assert_eq!(kept(&episodes), [4, 5], "whoever's it is");
        assert_eq!(episodes.take_forgotten(), [], "what was over is not missed");
        change(&mut episodes, 1, 11, &note(5, 0, true));
        assert_eq!(kept(&episodes), [4]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain list; and what is carried forward into a journal's end makes the same of it.
        #[test]
        fn the_end_of_a_journal_with_what_was_carried_into_it_remembers_the_same(
            changes in prop::collection::vec((0_u64..40, 0_u64..3, 0_usize..30), 1..300),
            cut in 0_u64..300,
            count_max in 1_usize..30,
            bytes_max in 200_usize..8_000,
        ) {
            let mut whole = Episodes::bounded(count_max, bytes_max);
            let mut latest: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
            for (sequence, (key, of, bytes)) in (0..).zip(&changes) {
                // A key is one destination's.
                change(&mut whole, *of, sequence, &note(key * 3 + of, *bytes, true));
                latest.insert(key * 3 + of, (sequence, *bytes));
            }
            for (key, changed, sealed) in whole.all() {
                prop_assert_eq!(latest.get(&key.0), Some(&(changed, sealed.len())));
            }
            prop_assert!(whole.bytes <= bytes_max && whole.owners.iter().all(|each| each.by_age.len() <= count_max));
            let segment = cut.div_ceil(10);
            let carried = whole.only_told_before(segment, 100);
            let mut end = Episodes::bounded(count_max, bytes_max);
            for (sequence, (key, of, bytes)) in (0..).zip(&changes).filter(|(sequence, _)| sequence / 10 >= segment) {
                change(&mut end, *of, sequence, &note(key * 3 + of, *bytes, true));
            }
            carried.iter().for_each(|carried| end.carried(99, carried));
            prop_assert_eq!(end.all(), whole.all());
            prop_assert_eq!((end.proof(), end.bytes), (whole.proof(), whole.bytes));
            carried.iter().for_each(|carried| whole.carried(99, carried));
            prop_assert_eq!(whole.only_told_before(segment, 100), []);
        }
    }
}
