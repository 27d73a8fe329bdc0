//! Of each key the number of its latest entry in the ring: four bytes a slot, the key itself being in the ring.
//!
//! Open addressing with linear probing; what is removed leaves no gap, so a search ends at the first empty slot. A slot may
//! only name an entry that is in the ring.

use super::ring::Ring;

/// Numbers a slot can tell apart; 0 is an empty slot.
const NUMBERS: u64 = u32::MAX as u64;
const SLOTS_MIN: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// None, or a power of two of them.
    slots: Vec<u32>,
    used: usize,
}

impl Index {
    /// The number of the key's latest entry.
    pub fn find(&self, key: u64, ring: &Ring) -> Option<u64> {
        let number = number(*self.slots.get(self.place(key, ring)?)?, ring);
        Some(number)
    }

    /// The entry with this number is its key's latest.
    pub fn insert(&mut self, number: u64, ring: &Ring) {
        let Some(key) = key(number, ring) else { return };
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.grow(ring);
        }
        let place = self.probe(key).find(|place| self.slots[*place] == 0 || self.is_at(*place, key, ring));
        if let Some(place) = place {
            self.used += usize::from(self.slots[place] == 0);
            self.slots[place] = slot(number);
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
                self.slots[gap] = self.slots[place];
                gap = place;
            }
        }
        self.slots[gap] = 0;
    }

    fn place(&self, key: u64, ring: &Ring) -> Option<usize> {
        let found = self.probe(key).find(|place| self.slots[*place] == 0 || self.is_at(*place, key, ring))?;
        (self.slots[found] != 0).then_some(found)
    }

    fn is_at(&self, place: usize, sought: u64, ring: &Ring) -> bool {
        key(number(self.slots[place], ring), ring) == Some(sought)
    }

    fn probe(&self, key: u64) -> impl Iterator<Item = usize> + use<> {
        let (home, slots) = (self.home(key), self.slots.len());
        (0..slots).map(move |step| (home + step) & (slots - 1))
    }

    /// Keys are hashes already, but for what tests make.
    fn home(&self, key: u64) -> usize {
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        mixed as usize & self.slots.len().wrapping_sub(1)
    }

    fn grow(&mut self, ring: &Ring) {
        let slots = (self.slots.len() * 2).max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![0; slots]);
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let key = key(number(slot, ring), ring);
            if let Some(place) = key.and_then(|key| self.probe(key).find(|place| self.slots[*place] == 0)) {
                self.slots[place] = slot;
            }
        }
    }
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
