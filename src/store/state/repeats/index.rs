//! Of each key the number of its latest entry in the ring: five bytes a slot, the key itself being in the ring.
//!
//! Open addressing with linear probing; what is removed leaves no gap, so a search ends at the first empty slot. A slot may
//! only name an entry that is in the ring. Beside each slot stands a byte of its key, so that a search leaves alone the
//! entries of nearly all other keys: each would be fetched from far away.

use super::ring::Ring;

/// Numbers a slot can tell apart; 0 is an empty slot.
const NUMBERS: u64 = u32::MAX as u64;
const SLOTS_MIN: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// None, or a power of two of them.
    slots: Vec<u32>,
    /// A byte of each slot's key; 0 where it is empty.
    tags: Vec<u8>,
    used: usize,
}

impl Index {
    /// The number of the key's latest entry.
    pub fn find(&self, key: u64, ring: &Ring) -> Option<u64> {
        let place = self.place(key, ring).filter(|place| self.tags[*place] != 0)?;
        Some(number(self.slots[place], ring))
    }

    /// The entry with this number is its key's latest.
    pub fn insert(&mut self, number: u64, ring: &Ring) {
        let Some(key) = key(number, ring) else { return };
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow(ring);
        }
        if let Some(place) = self.place(key, ring) {
            self.used += usize::from(self.tags[place] == 0);
            (self.slots[place], self.tags[place]) = (slot(number), tag(key));
        }
    }

    /// Forgets the entry with this number, unless its key has a later one.
    pub fn remove(&mut self, key: u64, number: u64, ring: &Ring) {
        let Some(place) = self.place(key, ring).filter(|place| self.slots[*place] == slot(number)) else { return };
        self.used -= 1;
        self.close_gap(place, ring);
    }

    /// Moves back what would not be found behind the gap.
    fn close_gap(&mut self, mut gap: usize, ring: &Ring) {
        let mask = self.slots.len() - 1;
        let mut place = gap;
        loop {
            place = (place + 1) & mask;
            let home = match self.slots[place] {
                0 => break,
                slot => key(number(slot, ring), ring).map_or(place, |key| self.home(key)),
            };
            if (place.wrapping_sub(home) & mask) >= (place.wrapping_sub(gap) & mask) {
                (self.slots[gap], self.tags[gap]) = (self.slots[place], self.tags[place]);
                gap = place;
            }
        }
        (self.slots[gap], self.tags[gap]) = (0, 0);
    }

    /// Where the key stands, or else the empty slot where it would.
    fn place(&self, key: u64, ring: &Ring) -> Option<usize> {
        let tag = tag(key);
        self.probe(key).find(|place| match self.tags[*place] {
            0 => true,
            other => other == tag && self.is_at(*place, key, ring),
        })
    }

    fn is_at(&self, place: usize, sought: u64, ring: &Ring) -> bool {
        key(number(self.slots[place], ring), ring) == Some(sought)
    }

    fn probe(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let (home, slots) = (self.home(key), self.slots.len());
        (0..slots).map(move |step| (home + step) & (slots - 1))
    }

    fn home(&self, key: u64) -> usize {
        (mixed(key) >> 20) as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self, ring: &Ring) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        self.tags = vec![0; slots];
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let Some(key) = key(number(slot, ring), ring) else { continue };
            if let Some(place) = self.probe(key).find(|place| self.tags[*place] == 0) {
                (self.slots[place], self.tags[place]) = (slot, tag(key));
            }
        }
    }
}

/// Keys are hashes already, but for what tests make.
fn mixed(key: u64) -> u64 {
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Of bits that no home is made of.
fn tag(key: u64) -> u8 {
    (mixed(key) >> 56).max(1) as u8
}

fn slot(number: u64) -> u32 {
    (number % NUMBERS) as u32 + 1
}

/// The ring's number that a slot means: no ring has as many entries as a slot can tell apart.
fn number(slot: u32, ring: &Ring) -> u64 {
    let first = ring.numbers().start;
    first + (u64::from(slot - 1) + NUMBERS - first % NUMBERS) % NUMBERS
}

fn key(number: u64, ring: &Ring) -> Option<u64> {
    ring.entry(number).map(|entry| entry.mark.key)
}
