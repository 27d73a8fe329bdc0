//! A hash for each message, in blocks: sequence numbers are dense, and ten million of them must fit in memory.

use crate::id::MessageId;
use std::collections::BTreeMap;

const BLOCK: u64 = 1024;

/// Hashes by message id. A hash of 0 stands for none.
#[derive(Debug, Clone, Default)]
pub(super) struct Hashes(BTreeMap<(u32, u32, u64), Box<[u64; BLOCK as usize]>>);

impl Hashes {
    /// The hash of this message; `None` where it was never told.
    pub(super) fn of(&self, id: MessageId) -> Option<u64> {
        let block = self.0.get(&(id.run, id.sender, id.seq / BLOCK))?;
        Some(block[(id.seq % BLOCK) as usize]).filter(|&hash| hash != 0)
    }

    /// Keeps the first hash told; false where this one is another.
    pub(super) fn keep(&mut self, id: MessageId, hash: u64) -> bool {
        let block = self.0.entry((id.run, id.sender, id.seq / BLOCK)).or_insert_with(|| Box::new([0; BLOCK as usize]));
        let kept = &mut block[(id.seq % BLOCK) as usize];
        if *kept == 0 {
            *kept = hash;
        }
        *kept == hash
    }

    /// Adds those of other senders.
    pub(super) fn append(&mut self, mut other: Hashes) {
        self.0.append(&mut other.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_first_hash_stays_and_another_is_noticed() {
        let mut hashes = Hashes::default();
        let id = |seq| MessageId { run: 1, sender: 2, seq };
        assert!(hashes.keep(id(5), 77) && hashes.keep(id(5), 77) && !hashes.keep(id(5), 78));
        assert!(hashes.keep(id(u64::MAX), 9));
        assert_eq!((hashes.of(id(5)), hashes.of(id(6)), hashes.of(id(u64::MAX))), (Some(77), None, Some(9)));
    }
}
