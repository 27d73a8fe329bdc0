//! One lane's queue, small in memory however much waits: the two ends as they are, the middle packed in chunks.
//!
//! Entries are in ascending order of their sequence. About ten bytes a waiting entry; a chunk, once packed, keeps its number
//! and content until it is used up, so a checkpoint writes it once.

use std::collections::VecDeque;

use super::packed;
use crate::store::journal::Position;

/// Entries to a chunk.
pub(in crate::store) const CHUNK: usize = 256;

/// One message waiting in one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Entry {
    pub entry: u64,
    pub id: u64,
    /// Where the message was when the entry was made; a message carried forward since is found by the state.
    pub position: Position,
    pub received_at: i64,
    /// Made by a replay or a retry: it may have been sent before.
    pub again: bool,
}

/// A packed run of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Chunk {
    last: u64,
    packed: Box<[u8]>,
}

/// The queue.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Queue {
    head: VecDeque<Entry>,
    middle: VecDeque<Chunk>,
    tail: Vec<Entry>,
    len: u64,
    digest: u64,
    /// Number of the first chunk in `middle`.
    first_chunk: u64,
    /// Chunks a checkpoint has already: numbers `from..to`.
    saved: (u64, u64),
}

/// What a checkpoint must write of a queue.
pub(in crate::store) struct QueueImage {
    pub ends: Vec<u8>,
    pub put: Vec<(u64, Box<[u8]>)>,
    pub removed: std::ops::Range<u64>,
    pub chunks: (u64, u64),
    pub len: u64,
    pub digest: u64,
}

impl Queue {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A sum over what waits, in no order: equal queues have equal digests.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn front(&self) -> Option<&Entry> {
        self.head.front()
    }

    /// The first `limit` entries kept unpacked: what will be wanted next.
    pub fn upcoming(&self, limit: usize) -> impl Iterator<Item = &Entry> {
        self.head.iter().take(limit)
    }

    /// Adds an entry at its place: the end, or, for what a rebuild finds carried forward, before younger ones.
    /// Answers whether it was new.
    pub fn insert(&mut self, entry: Entry) -> bool {
        if self.last().is_none_or(|last| last < entry.entry) {
            self.push(entry);
        } else if !self.insert_between(entry) {
            return false;
        }
        self.len += 1;
        self.digest = self.digest.wrapping_add(mix(&entry));
        true
    }

    /// Takes an entry out, wherever it is.
    pub fn remove(&mut self, entry: u64) -> Option<Entry> {
        let removed = self.take(entry)?;
        self.len -= 1;
        self.digest = self.digest.wrapping_sub(mix(&removed));
        self.refill();
        Some(removed)
    }

    /// The entry, if it waits here.
    pub fn find(&self, entry: u64) -> Option<Entry> {
        let within = |entries: &[Entry]| {
            let place = entries.binary_search_by_key(&entry, |each| each.entry).ok()?;
            entries.get(place).copied()
        };
        if let Ok(place) = self.head.binary_search_by_key(&entry, |each| each.entry) {
            return self.head.get(place).copied();
        }
        match self.middle.get(self.middle.partition_point(|chunk| chunk.last < entry)) {
            Some(chunk) => within(&packed::unpack(&chunk.packed)?),
            None => within(&self.tail),
        }
    }

    /// Every entry, oldest first, unpacking as it goes.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        let middle = self.middle.iter().flat_map(|chunk| packed::unpack(&chunk.packed).unwrap_or_default());
        self.head.iter().copied().chain(middle).chain(self.tail.iter().copied())
    }

    /// The entries at and after `from`, oldest first, unpacking as it goes.
    pub fn iter_from(&self, from: u64) -> impl Iterator<Item = Entry> + '_ {
        let first = self.middle.partition_point(|chunk| chunk.last < from);
        let middle = self.middle.range(first..);
        let middle = middle.flat_map(|chunk| packed::unpack(&chunk.packed).unwrap_or_default());
        let entries = self.head.iter().copied().chain(middle).chain(self.tail.iter().copied());
        entries.skip_while(move |entry| entry.entry < from)
    }

    fn last(&self) -> Option<u64> {
        let tail = self.tail.last().map(|entry| entry.entry);
        tail.or_else(|| self.middle.back().map(|chunk| chunk.last))
            .or_else(|| self.head.back().map(|entry| entry.entry))
    }

    fn push(&mut self, entry: Entry) {
        if self.tail.is_empty() && self.middle.is_empty() && self.head.len() < CHUNK {
            return self.head.push_back(entry);
        }
        self.tail.push(entry);
        if self.tail.len() >= CHUNK {
            let chunk = Chunk { last: entry.entry, packed: packed::pack(&self.tail) };
            self.middle.push_back(chunk);
            self.tail.clear();
        }
    }

    fn insert_between(&mut self, entry: Entry) -> bool {
        if self.head.back().is_some_and(|last| entry.entry < last.entry)
            || self.middle.is_empty() && self.tail.is_empty()
        {
            return match self.head.binary_search_by_key(&entry.entry, |each| each.entry) {
                Ok(_) => false,
                Err(place) => {
                    self.head.insert(place, entry);
                    true
                }
            };
        }
        let place = self.middle.partition_point(|chunk| chunk.last < entry.entry);
        if place == self.middle.len() {
            return insert_sorted(&mut self.tail, entry);
        }
        self.edit_chunk(place, |entries| insert_sorted(entries, entry))
    }

    fn take(&mut self, entry: u64) -> Option<Entry> {
        if self.head.front().is_some_and(|front| front.entry == entry) {
            return self.head.pop_front();
        }
        if let Ok(place) = self.head.binary_search_by_key(&entry, |each| each.entry) {
            return self.head.remove(place);
        }
        let place = self.middle.partition_point(|chunk| chunk.last < entry);
        if place == self.middle.len() {
            return take_sorted(&mut self.tail, entry);
        }
        self.edit_chunk(place, |entries| take_sorted(entries, entry))
    }

    fn edit_chunk<T>(&mut self, place: usize, edit: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut entries = packed::unpack(&self.middle[place].packed).unwrap_or_default();
        let result = edit(&mut entries);
        match entries.last() {
            Some(last) => self.middle[place] = Chunk { last: last.entry, packed: packed::pack(&entries) },
            None => {
                self.middle.remove(place);
            }
        }
        // What a checkpoint holds of the middle no longer fits; the next one writes it all.
        self.saved.1 = self.saved.0;
        result
    }

    fn refill(&mut self) {
        if !self.head.is_empty() {
            return;
        }
        if let Some(chunk) = self.middle.pop_front() {
            self.first_chunk += 1;
            self.head = packed::unpack(&chunk.packed).unwrap_or_default().into();
        } else {
            self.head = std::mem::take(&mut self.tail).into();
        }
    }

    /// What changed since the last image, which it counts as written.
    pub fn image(&mut self) -> QueueImage {
        let chunks = (self.first_chunk, self.first_chunk + self.middle.len() as u64);
        let put_from = self.saved.1.clamp(chunks.0, chunks.1);
        let put_from = if self.saved.1 == self.saved.0 { chunks.0 } else { put_from };
        let numbered = (chunks.0..).zip(&self.middle).skip((put_from - chunks.0) as usize);
        let put = numbered.map(|(number, chunk)| (number, chunk.packed.clone())).collect();
        let removed = self.saved.0..chunks.0;
        self.saved = chunks;
        let ends = packed::pack_ends(&self.head, &self.tail);
        QueueImage { ends, put, removed, chunks, len: self.len, digest: self.digest }
    }

    /// A queue from its image; `None` where the parts do not fit each other.
    pub fn load(ends: &[u8], chunks: (u64, u64), packed_chunks: Vec<Box<[u8]>>) -> Option<Queue> {
        let (head, tail) = packed::unpack_ends(ends)?;
        let mut queue = Queue { first_chunk: chunks.0, saved: chunks, ..Queue::default() };
        for packed in packed_chunks {
            let entries = packed::unpack(&packed)?;
            let last = entries.last()?.entry;
            queue.count(&entries);
            queue.middle.push_back(Chunk { last, packed });
        }
        queue.count(&head);
        queue.count(&tail);
        queue.head = head.into();
        queue.tail = tail;
        (queue.middle.len() as u64 == chunks.1.checked_sub(chunks.0)?).then_some(queue)
    }

    fn count(&mut self, entries: &[Entry]) {
        self.len += entries.len() as u64;
        self.digest = entries.iter().map(mix).fold(self.digest, u64::wrapping_add);
    }
}

fn insert_sorted(entries: &mut Vec<Entry>, entry: Entry) -> bool {
    match entries.binary_search_by_key(&entry.entry, |each| each.entry) {
        Ok(_) => false,
        Err(place) => {
            entries.insert(place, entry);
            true
        }
    }
}

fn take_sorted(entries: &mut Vec<Entry>, entry: u64) -> Option<Entry> {
    let place = entries.binary_search_by_key(&entry, |each| each.entry).ok()?;
    Some(entries.remove(place))
}

/// Spreads one entry's identity over 64 bits (the finisher of splitmix64).
fn mix(entry: &Entry) -> u64 {
    let mut z = entry.entry.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ entry.id.rotate_left(32) ^ u64::from(entry.again);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
