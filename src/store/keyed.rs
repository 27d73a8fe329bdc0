//! Keyed hashes of identities: HMAC-SHA-256 (RFC 2104) under a key of the store's own, cut to 64 bits.
//!
//! What a search or a repeat check must find again is kept only so: without the key file nobody can test a guess.

use sha2::{Digest, Sha256};

const BLOCK: usize = 64;

/// The key, as the two hash states it leads to.
#[derive(Clone)]
pub(super) struct Keyed {
    inner: Sha256,
    outer: Sha256,
}

/// What a hash is of: equal values of different kinds have different hashes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    ControlId = 1,
    Patient = 2,
    Device = 3,
    RepeatKey = 4,
    Body = 5,
    Store = 6,
    Content = 7,
    Episode = 8,
    EpisodeSeal = 9,
    EpisodeNonce = 10,
    Pseudonym = 11,
}

impl Keyed {
    pub fn new(key: &[u8; 32]) -> Keyed {
        let state = |pad: u8| {
            let mut block = [pad; BLOCK];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        Keyed { inner: state(0x36), outer: state(0x5c) }
    }

    /// The hash of `parts`, told apart from the same bytes parted otherwise.
    pub fn hash(&self, kind: Kind, parts: &[&[u8]]) -> u64 {
        self.hash_pair(kind, parts).0
    }

    /// The same and 64 bits more, for what is to be told by 128.
    pub fn hash_pair(&self, kind: Kind, parts: &[&[u8]]) -> (u64, u64) {
        let digest = self.digest(kind, parts);
        let number = |from| digest.iter().skip(from).take(8).fold(0, |value, byte| value << 8 | u64::from(*byte));
        (number(0), number(8))
    }

    /// All of it: what secrets are made of.
    pub fn digest(&self, kind: Kind, parts: &[&[u8]]) -> [u8; 32] {
        let mut inner = self.inner.clone();
        inner.update([kind as u8]);
        for part in parts {
            inner.update((part.len() as u64).to_le_bytes());
            inner.update(part);
        }
        let mut outer = self.outer.clone();
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_key_kind_and_parting() {
        let keyed = Keyed::new(&[7; 32]);
        let hash = keyed.hash(Kind::ControlId, &[b"ab", b"c"]);
        assert_eq!(hash, keyed.hash(Kind::ControlId, &[b"ab", b"c"]));
        assert_ne!(hash, keyed.hash(Kind::ControlId, &[b"a", b"bc"]));
        assert_ne!(hash, keyed.hash(Kind::Patient, &[b"ab", b"c"]));
        assert_ne!(hash, Keyed::new(&[8; 32]).hash(Kind::ControlId, &[b"ab", b"c"]));
    }
}
