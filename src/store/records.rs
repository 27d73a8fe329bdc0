//! What the journal's records say: the payload of each kind, encoded and decoded.
//!
//! A payload is a length-prefixed postcard header, for messages followed by the raw bytes as received. Kinds:
//! 1 received · 2 settled · 3 attempted · 4 replayed · 5 dead retried · 6 dead discarded · 7 paused ·
//! 8 carried message · 9 carried state.
//! A kind's layout never changes: bytes after a header's known fields are ignored, a new layout is a new kind, and an
//! unknown kind is a fault, never skipped. Fields marked `skip` were added behind the header so; a record without them is
//! an older one. Identities are kept as keyed hashes only.

mod carried;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub(super) use self::carried::{Carried, CarriedDead, CarriedEntry, CarriedEvent, CarriedRepeat, CarriedState};
use super::{Attempt, LaneId, Receipt, Settlement, episodes::EpisodeNote, journal::Position};
use crate::{hl7::ack::Code, pcd::conformance::Mark};

/// The reason, with no attempts made, of a dead letter that is one because its message cannot be read any more. Records are
/// known by it: never changed.
pub(super) const DAMAGED: &str = "its stored copy is damaged: ask the sender for it, or restore a backup";
/// Bytes kept of a reason or an answer, which others word.
const WORDS_MAX: usize = 1_024;

/// One record's meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Recorded {
    Received(Header),
    Settled(Settled),
    Attempted(Attempted),
    Replayed(Replayed),
    DeadRetried(DeadChange),
    DeadDiscarded(DeadChange),
    Paused(Paused),
    CarriedMessage(Carried),
    CarriedState(CarriedState),
}

/// A message as received, without its bytes. Its record takes one sequence for the message and one for each route, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub channel: Arc<str>,
    /// As shown.
    pub at: i64,
    /// The same by the store's own time, which ages are measured in.
    #[serde(skip)]
    pub steady: i64,
    pub routes: Vec<(Arc<str>, u16)>,
    /// Place in [`ACKS`] plus one; 0 where no answer was asked for.
    pub ack: u8,
    pub control: u64,
    pub patient: Vec<u64>,
    pub device: Vec<u64>,
    pub repeat: Option<RepeatMark>,
    /// What a retransmission under another control id would be known by.
    #[serde(skip)]
    pub content: Option<RepeatMark>,
    /// The earlier message that has the same content.
    #[serde(skip)]
    pub resends: Option<u64>,
    /// Conformance rules it breaks, and where.
    #[serde(skip)]
    pub findings: Vec<Mark>,
}

impl Header {
    /// The fields added later, as they follow those that were always there.
    fn added(&self) -> (i64, Option<RepeatMark>, Option<u64>, &[Mark]) {
        (self.steady, self.content, self.resends, &self.findings)
    }

    /// Reads what [`Header::added`] gave, as far as the record has it.
    fn add(&mut self, rest: &[u8]) {
        let (steady, rest) = later(rest).unwrap_or((self.at, &[]));
        let (content, rest) = later(rest).unwrap_or((None, &[]));
        (self.steady, self.content) = (steady, content);
        let (resends, rest) = later(rest).unwrap_or((None, &[]));
        let findings = later(rest).map(|(findings, _)| findings);
        (self.resends, self.findings) = (resends, findings.unwrap_or_default());
    }

    /// What is remembered of the message, to tell what comes later.
    pub fn marks(&self) -> impl Iterator<Item = RepeatMark> + use<> {
        self.repeat.into_iter().chain(self.content)
    }
}

/// What a repeat of this message would be known by.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct RepeatMark {
    pub key: u64,
    pub body: u64,
    pub window_seconds: u32,
}

/// The end of one delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settled {
    pub lane: LaneId,
    pub entry: u64,
    pub id: u64,
    pub at: i64,
    pub outcome: Outcome,
    /// What its destination remembers from now on.
    #[serde(skip)]
    pub episodes: Vec<EpisodeNote>,
}
/// How it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Outcome {
    Accepted { sent_sha256: [u8; 32], configuration: u64, answer: String, attempts: u32, at: i64 },
    Dead { reason: String, attempts: u32 },
}
/// An attempt that ended nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempted {
    pub lane: LaneId,
    pub entry: u64,
    pub id: u64,
    pub at: i64,
    pub outcome: String,
    pub reason: String,
}
/// Messages put again at the tail of their lanes; the record's sequence is the first item's entry, each next item's one more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Replayed {
    pub at: i64,
    pub items: Vec<ReplayItem>,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ReplayItem {
    pub id: u64,
    pub lane: LaneId,
    pub position: Position,
    pub received_at: i64,
}
impl ReplayItem {
    /// More than it takes in a record: numbers at their longest.
    pub fn bytes_max(&self) -> usize {
        64 + self.lane.channel.len() + self.lane.destination.len()
    }
}
/// A dead letter retried (the record's sequence is its new entry) or given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct DeadChange {
    pub at: i64,
    pub entry: u64,
    pub id: u64,
    pub lane: LaneId,
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Paused {
    pub at: i64,
    pub channel: Arc<str>,
    pub destination: Arc<str>,
    pub paused: bool,
}
/// What happened to one lane entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Attempt,
    Accepted,
    Dead,
    Retried,
    Discarded,
    Replayed,
}
impl What {
    pub fn as_str(self) -> &'static str {
        match self {
            What::Attempt => "attempt",
            What::Accepted => "accepted",
            What::Dead => "dead",
            What::Retried => "retried",
            What::Discarded => "discarded",
            What::Replayed => "replayed",
        }
    }
}

/// Why a payload could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("record kind {0} is unknown: it was written by a newer version; run that version")]
    UnknownKind(u8),
    #[error("a record of kind {0} does not read as one")]
    Malformed(u8),
}

impl Recorded {
    pub fn kind(&self) -> u8 {
        match self {
            Recorded::Received(_) => 1,
            Recorded::Settled(_) => 2,
            Recorded::Attempted(_) => 3,
            Recorded::Replayed(_) => 4,
            Recorded::DeadRetried(_) => 5,
            Recorded::DeadDiscarded(_) => 6,
            Recorded::Paused(_) => 7,
            Recorded::CarriedMessage(_) => 8,
            Recorded::CarriedState(_) => 9,
        }
    }

    /// The payload, `message` being the raw bytes for the two kinds that carry them, else empty.
    pub fn encode(&self, message: &[u8]) -> Bytes {
        match self {
            Recorded::Received(header) => encode_received(header, message),
            Recorded::Settled(settled) => join(&(settled, &settled.episodes), message),
            Recorded::Attempted(attempted) => join(attempted, message),
            Recorded::Replayed(replayed) => join(replayed, message),
            Recorded::DeadRetried(change) | Recorded::DeadDiscarded(change) => join(change, message),
            Recorded::Paused(paused) => join(paused, message),
            Recorded::CarriedMessage(carried) => join(&(carried, carried.header.added()), message),
            Recorded::CarriedState(state) => join(&(state, steadies(&state.repeats), &state.episodes), message),
        }
    }

    /// The meaning, and the raw bytes where the kind carries them.
    pub fn decode(kind: u8, payload: &Bytes) -> Result<(Recorded, Bytes), DecodeError> {
        let (header, message) = split(payload).ok_or(DecodeError::Malformed(kind))?;
        let recorded = match kind {
            1 => Recorded::Received(read_received(kind, &header)?),
            2 => Recorded::Settled(read_settled(kind, &header)?),
            3 => Recorded::Attempted(read(kind, &header)?),
            4 => Recorded::Replayed(read(kind, &header)?),
            5 => Recorded::DeadRetried(read(kind, &header)?),
            6 => Recorded::DeadDiscarded(read(kind, &header)?),
            7 => Recorded::Paused(read(kind, &header)?),
            8 => Recorded::CarriedMessage(read_carried(kind, &header)?),
            9 => Recorded::CarriedState(read_carried_state(kind, &header)?),
            unknown => return Err(DecodeError::UnknownKind(unknown)),
        };
        Ok((recorded, message))
    }

    /// How many sequences the record takes: its own and those of the lane entries it makes.
    pub fn sequences(&self) -> u64 {
        match self {
            Recorded::Received(header) => 1 + header.routes.len() as u64,
            Recorded::Replayed(replayed) => replayed.items.len().max(1) as u64,
            _ => 1,
        }
    }
}

/// The payload of a message just received.
pub(super) fn encode_received(header: &Header, message: &[u8]) -> Bytes {
    join(&(header, header.added()), message)
}

impl Outcome {
    pub fn of(settlement: Settlement) -> Outcome {
        match settlement {
            Settlement::Accepted(Receipt { sent_sha256, configuration, answer, attempts, at, .. }) => {
                Outcome::Accepted { sent_sha256, configuration, answer: short(answer), attempts, at: nanos(at) }
            }
            Settlement::Dead { reason, attempts } => Outcome::Dead { reason: short(reason), attempts },
        }
    }
    /// The end of a delivery whose message cannot be read any more.
    pub fn damaged() -> Outcome {
        Outcome::Dead { reason: DAMAGED.to_owned(), attempts: 0 }
    }
    pub fn what(&self) -> What {
        match self {
            Outcome::Accepted { .. } => What::Accepted,
            Outcome::Dead { .. } => What::Dead,
        }
    }
}

impl Attempted {
    pub fn of(lane: LaneId, entry: u64, id: u64, attempt: Attempt) -> Attempted {
        let (outcome, reason) = (short(attempt.outcome), short(attempt.reason));
        Attempted { lane, entry, id, at: nanos(attempt.at), outcome, reason }
    }
}

/// A record must fit a segment whatever a receiver answers; an end that could not be recorded would block its lane.
fn short(mut words: String) -> String {
    words.truncate(words.floor_char_boundary(WORDS_MAX));
    words
}

/// Answer codes by their place in a record.
const ACKS: [Code; 6] = [Code::CA, Code::CE, Code::CR, Code::AA, Code::AE, Code::AR];

/// As kept in [`Header::ack`].
pub(super) fn ack_mark(code: Option<Code>) -> u8 {
    code.and_then(|code| ACKS.iter().position(|known| *known == code)).map_or(0, |place| place as u8 + 1)
}
/// As shown.
pub(super) fn ack_name(mark: u8) -> Option<String> {
    ACKS.get(usize::from(mark).checked_sub(1)?).map(|code| code.as_str().to_owned())
}

/// Nanoseconds since 1970, held at the ends of what 64 bits tell (1677 and 2262).
pub(super) fn nanos(at: Timestamp) -> i64 {
    at.as_nanosecond().clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}
/// The time `nanos` gave.
pub(super) fn timestamp(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

const LENGTH: usize = 4;

fn join<T: Serialize>(header: &T, message: &[u8]) -> Bytes {
    let mut payload = Vec::with_capacity(LENGTH + 256 + message.len());
    payload.extend_from_slice(&[0; LENGTH]);
    // Writing plain owned structs into a growing vector has no way to fail.
    let mut payload = postcard::to_extend(header, payload).unwrap_or_default();
    let length = (payload.len() - LENGTH) as u32;
    payload[..LENGTH].copy_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(message);
    Bytes::from(payload)
}

fn split(payload: &Bytes) -> Option<(Bytes, Bytes)> {
    let length = u32::from_le_bytes(payload.get(..LENGTH)?.try_into().ok()?) as usize;
    let end = LENGTH.checked_add(length).filter(|end| *end <= payload.len())?;
    Some((payload.slice(LENGTH..end), payload.slice(end..)))
}

fn read<T: DeserializeOwned>(kind: u8, header: &[u8]) -> Result<T, DecodeError> {
    read_to(kind, header).map(|(value, _later_fields)| value)
}

/// The fields that were always there, and the bytes behind them.
fn read_to<T: DeserializeOwned>(kind: u8, header: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    postcard::take_from_bytes(header).map_err(|_| DecodeError::Malformed(kind))
}

/// A field added later and the bytes behind it; `None` in an older record.
fn later<T: DeserializeOwned>(rest: &[u8]) -> Option<(T, &[u8])> {
    postcard::take_from_bytes(rest).ok()
}

fn read_received(kind: u8, header: &[u8]) -> Result<Header, DecodeError> {
    let (mut header, rest): (Header, _) = read_to(kind, header)?;
    header.add(rest);
    Ok(header)
}

fn read_settled(kind: u8, header: &[u8]) -> Result<Settled, DecodeError> {
    let (mut settled, rest): (Settled, _) = read_to(kind, header)?;
    settled.episodes = later(rest).map(|(episodes, _)| episodes).unwrap_or_default();
    Ok(settled)
}

fn read_carried(kind: u8, header: &[u8]) -> Result<Carried, DecodeError> {
    let (mut carried, rest): (Carried, _) = read_to(kind, header)?;
    carried.header.add(rest);
    Ok(carried)
}

fn read_carried_state(kind: u8, header: &[u8]) -> Result<CarriedState, DecodeError> {
    let (mut state, rest): (CarriedState, _) = read_to(kind, header)?;
    let (steadies, rest) = later(rest).map_or((None, &[][..]), |(steadies, rest)| (Some(steadies), rest));
    put_steadies(&mut state.repeats, steadies);
    state.episodes = later(rest).map(|(episodes, _)| episodes).unwrap_or_default();
    Ok(state)
}

/// The repeats' own times, kept behind them.
pub(super) fn steadies(repeats: &[CarriedRepeat]) -> Vec<i64> {
    repeats.iter().map(|repeat| repeat.steady).collect()
}

/// Puts back what [`steadies`] took; of older records the times as shown.
pub(super) fn put_steadies(repeats: &mut [CarriedRepeat], steadies: Option<Vec<i64>>) {
    repeats.iter_mut().for_each(|repeat| repeat.steady = repeat.at);
    for (repeat, steady) in repeats.iter_mut().zip(steadies.unwrap_or_default()) {
        repeat.steady = steady;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::store::episodes::CarriedEpisodes;

    fn marks() -> Vec<Mark> {
        let message = crate::hl7::Message::parse("MSH|^~\\&|||||||ORU^R01|1|P|2.6\r").unwrap();
        let findings = crate::pcd::conformance::check(&message, &crate::pcd::Nomenclature::built_in());
        findings.iter().map(crate::pcd::conformance::Finding::mark).collect()
    }

    fn header() -> Header {
        Header {
            channel: "pumps".into(),
            at: 1_714_564_800_000_000_001,
            steady: 1_614_564_800_000_000_002,
            routes: vec![("ehr".into(), 3), ("legacy".into(), 0)],
            ack: ack_mark(Some(Code::CA)),
            control: 1,
            patient: vec![2, 3],
            device: vec![],
            repeat: Some(RepeatMark { key: 4, body: 5, window_seconds: 6 }),
            content: Some(RepeatMark { key: 7, body: 8, window_seconds: 6 }),
            resends: Some(9),
            findings: marks(),
        }
    }

    fn notes() -> Vec<EpisodeNote> {
        let sealed = Some([9; 40].as_slice().into());
        vec![
            EpisodeNote { key: (1, u64::MAX), open: true, note: sealed },
            EpisodeNote { key: (2, 3), open: false, note: None },
        ]
    }

    fn one_of_each() -> Vec<Recorded> {
        let lane = LaneId { channel: "pumps".into(), destination: "ehr".into(), lane: 3 };
        let (at, entry, id) = (7, 8, 9);
        let change = DeadChange { at, entry, id, lane: lane.clone() };
        let position = Position { segment: 1, offset: 128 };
        let accepted =
            Outcome::Accepted { sent_sha256: [1; 32], configuration: 2, answer: "AA".into(), attempts: 3, at };
        let event = CarriedEvent { entry, lane: lane.clone(), what: What::Dead, at, detail: "no".into() };
        vec![
            Recorded::Received(header()),
            Recorded::Settled(Settled { lane: lane.clone(), entry, id, at, outcome: accepted, episodes: notes() }),
            Recorded::Attempted(Attempted {
                lane: lane.clone(),
                entry,
                id,
                at,
                outcome: "unavailable".into(),
                reason: "refused".into(),
            }),
            Recorded::Replayed(Replayed {
                at,
                items: vec![ReplayItem { id, lane: lane.clone(), position, received_at: at }],
            }),
            Recorded::DeadRetried(change.clone()),
            Recorded::DeadDiscarded(change),
            Recorded::Paused(Paused { at, channel: "pumps".into(), destination: "ehr".into(), paused: true }),
            Recorded::CarriedMessage(Carried {
                id,
                header: header(),
                waiting: vec![CarriedEntry { lane: lane.clone(), entry, again: true }],
                dead: vec![CarriedDead { lane, entry, at, reason: "no".into(), attempts: 1 }],
                events: vec![event],
            }),
            Recorded::CarriedState(CarriedState {
                paused: vec![("pumps".into(), "ehr".into())],
                repeats: vec![CarriedRepeat {
                    mark: RepeatMark { key: 1, body: 2, window_seconds: 3 },
                    sequence: 4,
                    at,
                    steady: at + 1,
                }],
                episodes: vec![CarriedEpisodes {
                    channel: "pumps".into(),
                    destination: "ehr".into(),
                    notes: notes().into_iter().map(|note| (4, note)).collect(),
                }],
            }),
        ]
    }

    #[test]
    fn every_kind_reads_back_with_its_message() {
        for (kind, recorded) in (1..).zip(one_of_each()) {
            let payload = recorded.encode(b"MSH|...");
            assert_eq!(recorded.kind(), kind);
            assert_eq!(Recorded::decode(kind, &payload), Ok((recorded, Bytes::from_static(b"MSH|..."))));
        }
    }

    #[test]
    fn an_unknown_kind_and_a_short_payload_are_faults() {
        assert_eq!(Recorded::decode(99, &Bytes::from_static(&[0; 4])), Err(DecodeError::UnknownKind(99)));
        for recorded in one_of_each() {
            let payload = recorded.encode(b"");
            for length in 0..payload.len() {
                assert!(Recorded::decode(recorded.kind(), &payload.slice(..length)).is_err(), "{recorded:?} {length}");
            }
        }
    }

    #[test]
    fn fields_a_later_version_adds_are_passed_over() {
        let recorded = Recorded::Received(header());
        let payload = recorded.encode(b"");
        let longer =
            [&((payload.len() - LENGTH + 3) as u32).to_le_bytes(), &payload[LENGTH..], b"new", b"MSH|"].concat();
        assert_eq!(Recorded::decode(1, &Bytes::from(longer)), Ok((recorded, Bytes::from_static(b"MSH|"))));
    }

    #[test]
    fn an_older_record_has_the_time_shown_for_the_stores_own_and_is_no_retransmission() {
        let older = join(&header(), b"MSH|");
        let (recorded, _) = Recorded::decode(1, &older).unwrap();
        let known = Header { steady: header().at, content: None, resends: None, findings: vec![], ..header() };
        assert_eq!(recorded, Recorded::Received(known.clone()));
        let older = join(&(header(), header().steady), b"MSH|");
        let (recorded, _) = Recorded::decode(1, &older).unwrap();
        assert_eq!(recorded, Recorded::Received(Header { steady: header().steady, ..known }));
    }

    #[test]
    fn an_older_record_without_findings_has_none() {
        assert!(!marks().is_empty());
        let older = join(&(header(), header().steady, header().content, header().resends), b"MSH|");
        let (recorded, message) = Recorded::decode(1, &older).unwrap();
        assert_eq!(recorded, Recorded::Received(Header { findings: vec![], ..header() }));
        assert_eq!(&message[..], b"MSH|");
    }

    #[test]
    fn an_older_record_tells_of_no_episode() {
        for recorded in one_of_each() {
            let (older, known) = match recorded {
                Recorded::Settled(settled) => {
                    (join(&settled, b""), Recorded::Settled(Settled { episodes: vec![], ..settled }))
                }
                Recorded::CarriedState(state) => (
                    join(&(&state, steadies(&state.repeats)), b""),
                    Recorded::CarriedState(CarriedState { episodes: vec![], ..state }),
                ),
                _ => continue,
            };
            assert_eq!(Recorded::decode(known.kind(), &older), Ok((known, Bytes::new())));
        }
    }

    #[test]
    fn times_keep_their_nanoseconds() {
        let at: Timestamp = "2024-05-01T12:00:00.123456789Z".parse().unwrap();
        assert_eq!(timestamp(nanos(at)), at);
        assert_eq!(ack_name(ack_mark(Some(Code::AE))).as_deref(), Some("AE"));
        assert_eq!(ack_name(ack_mark(None)), None);
    }
}
