//! Message ids and sets of them. An id names one message for the whole run, in v2 and in FHIR alike; two messages must
//! never share one, or the accounts would hide a loss.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The identity of one generated message, sent as MSH-10: `run.sender.seq`, such as `5eed0001.12.3456`. At most 20
/// characters for the usual sizes, because receivers before HL7 v2.6 allow no more in MSH-10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The run, so that ids of an earlier run are never taken for this one's.
    pub run: u32,
    /// The sender: one device or one connection; within it `seq` ascends.
    pub sender: u32,
    /// 1, 2, 3 … for each sender.
    pub seq: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{}.{}", self.run, self.sender, self.seq)
    }
}

/// The text is not a message id of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a message id (run.sender.seq)")]
pub struct NotAnId;

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut parts = text.split('.');
        let (Some(run), Some(sender), Some(seq), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAnId);
        };
        let id = MessageId {
            run: u32::from_str_radix(run, 16).map_err(|_| NotAnId)?,
            sender: sender.parse().map_err(|_| NotAnId)?,
            seq: seq.parse().map_err(|_| NotAnId)?,
        };
        // Only the one canonical spelling: `+1` or `007` would make two texts of one id.
        if id.to_string() == text { Ok(id) } else { Err(NotAnId) }
    }
}

impl MessageId {
    /// The id in raw bytes such as an MSH-10.
    pub fn parse(raw: &[u8]) -> Option<MessageId> {
        std::str::from_utf8(raw).ok()?.parse().ok()
    }

    /// The first id inside a longer text, such as `urn:gateway#5eed0001.12.3456`.
    pub fn find_in(text: &str) -> Option<MessageId> {
        text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.')).find_map(|token| token.parse().ok())
    }
}

/// What a message says, by its trigger event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Kind {
    /// ORU^R01: observations (IHE PCD-01).
    R01,
    /// ORU^R40: alerts (IHE PCD-04).
    R40,
    /// ORU^R42: infusion pump events (IHE PCD-10).
    R42,
    /// Anything else.
    Other,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::R01, Kind::R40, Kind::R42, Kind::Other];

    /// The trigger event as written in MSH-9.2, `-` for [`Kind::Other`].
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::R01 => "R01",
            Kind::R40 => "R40",
            Kind::R42 => "R42",
            Kind::Other => "-",
        }
    }

    /// Reads a trigger event; an unknown one is [`Kind::Other`].
    pub fn parse(trigger_event: &str) -> Kind {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == trigger_event).unwrap_or(Kind::Other)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

const WORDS: usize = 64;
const CHUNK: u64 = 64 * WORDS as u64;

/// A set of sequence numbers, one bit each while they are dense.
#[derive(Debug, Clone, Default)]
pub struct SeqSet {
    chunks: BTreeMap<u64, Box<[u64; WORDS]>>,
    len: u64,
}

impl SeqSet {
    /// Adds; false where it was there already.
    pub fn insert(&mut self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        let chunk = self.chunks.entry(seq / CHUNK).or_insert_with(|| Box::new([0; WORDS]));
        let new = chunk[word] & bit == 0;
        chunk[word] |= bit;
        self.len += u64::from(new);
        new
    }

    /// Takes out; false where it was not there.
    pub fn remove(&mut self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        let Some(chunk) = self.chunks.get_mut(&(seq / CHUNK)) else { return false };
        let had = chunk[word] & bit != 0;
        chunk[word] &= !bit;
        self.len -= u64::from(had);
        had
    }

    /// Whether it is there.
    pub fn contains(&self, seq: u64) -> bool {
        let (word, bit) = place(seq);
        self.chunks.get(&(seq / CHUNK)).is_some_and(|chunk| chunk[word] & bit != 0)
    }

    /// How many are there.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether none is there.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.iter().flat_map(|(number, chunk)| {
            let base = number * CHUNK;
            (0..CHUNK).filter(|at| chunk[(at / 64) as usize] >> (at % 64) & 1 == 1).map(move |at| base + at)
        })
    }
}

fn place(seq: u64) -> (usize, u64) {
    ((seq % CHUNK / 64) as usize, 1 << (seq % 64))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn an_id_reads_back_as_written_and_only_so() {
        let id = MessageId { run: 0x5eed, sender: 7, seq: 42 };
        assert_eq!(id.to_string(), "00005eed.7.42");
        assert_eq!("00005eed.7.42".parse(), Ok(id));
        for wrong in
            ["00005eed.07.42", "5eed.7.42", "00005EED.7.42", "00005eed.7", "00005eed.7.42.1", "", "+0005eed.7.42"]
        {
            assert_eq!(wrong.parse::<MessageId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn an_id_is_found_inside_a_longer_text() {
        let id = MessageId { run: 0x5eed, sender: 7, seq: 42 };
        for text in ["urn:gw#00005eed.7.42", "00005eed.7.42", "GATEWAY|00005eed.7.42 (repeat)"] {
            assert_eq!(MessageId::find_in(text), Some(id), "{text}");
        }
        assert_eq!(MessageId::find_in("urn:oid:1.2.3"), None);
    }

    #[test]
    fn a_set_holds_exactly_what_was_put_in() {
        let mut set = SeqSet::default();
        let numbers = [0, 1, 63, 64, 4095, 4096, 1_000_000, u64::MAX / 2];
        for number in numbers {
            assert!(set.insert(number));
            assert!(!set.insert(number));
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), numbers);
        assert!(set.remove(64) && !set.remove(64) && !set.contains(64) && set.contains(63));
        assert_eq!(set.len(), numbers.len() as u64 - 1);
    }
}
