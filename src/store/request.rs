//! What a request becomes: records to write and the answer due once they are durable. Pure; both stores decide here.
//!
//! This is the one place that tells new from repeat and gives sequences. A batch is decided request by request against the state
//! and what the batch already holds; a request about an entry the batch has touched waits for the next one.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{
    Appended, Attempt, LaneId, Received, RepeatCheck, Sequence, StoreError, Stored,
    episodes::EpisodeNote,
    keyed::{Keyed, Kind},
    records::{
        Attempted, CarriedRepeat, DeadChange, Header, Outcome, Paused, Recorded, RepeatMark, ReplayItem, Replayed,
        Settled, ack_mark, encode_received, nanos, timestamp,
    },
    state::{
        State,
        repeats::{Seen, compare},
    },
};

/// Places queued again by one record: a large replay is many records, none near what a segment holds.
const REPLAY_ITEMS: usize = 1_000;
/// Deliveries ended by one request, so that nobody waits long behind it.
const GIVEN_UP_MAX: usize = 1_000;
/// Identities of one kind kept of a message; a rack of pumps has a few dozen.
const HASHES_MAX: usize = 64;

/// A change asked for.
#[derive(Debug)]
pub(super) enum Request {
    Append(Box<NewMessage>),
    Settle {
        lane: LaneId,
        entry: u64,
        at: i64,
        outcome: Outcome,
        episodes: Vec<EpisodeNote>,
    },
    Attempted {
        lane: LaneId,
        entry: u64,
        attempt: Attempt,
    },
    Replay {
        at: i64,
        items: Vec<ReplayItem>,
    },
    RetryDead {
        entry: u64,
        at: i64,
    },
    DiscardDead {
        entry: u64,
        at: i64,
    },
    Pause(Paused),
    /// Ends the first deliveries of a lane unsent: dead letters, or discarded at once.
    GiveUp {
        lane: LaneId,
        at: i64,
        reason: String,
        discard: bool,
    },
}

/// A message ready to be stored: hashed and encoded on its caller's thread.
pub(super) struct NewMessage {
    pub header: Header,
    pub message: Bytes,
    pub payload: Bytes,
    /// It is not stored where it has the content of an earlier one.
    pub drop_resent: bool,
}

/// What a request is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Appended(Appended),
    Added(u64),
    GivenUp(u64),
    Done,
}

/// Records to be written together.
pub(super) struct Batch {
    next: u64,
    accepting: bool,
    payload_max: usize,
    pub planned: Vec<Planned>,
    repeats: HashMap<u64, CarriedRepeat>,
    touched: HashSet<u64>,
    /// Entries whose deliveries it ends.
    ended: HashSet<u64>,
}
/// One of them.
pub(super) struct Planned {
    pub sequence: u64,
    pub recorded: Recorded,
    pub payload: Bytes,
    /// The message it carries; empty for other kinds.
    pub message: Bytes,
}

/// A decided request.
pub(super) enum Decided {
    /// To be answered once the batch is durable.
    Answer(Result<Answer, StoreError>),
    /// To be decided in the next batch.
    Later(Request),
}

impl NewMessage {
    /// A message whose age is told by its time as shown.
    pub fn new(received: Received, keyed: &Keyed) -> NewMessage {
        let steady = nanos(received.at);
        NewMessage::received(received, keyed, steady)
    }

    /// `steady` is when it was received by the store's own time.
    pub fn received(received: Received, keyed: &Keyed, steady: i64) -> NewMessage {
        let Received { channel, at, message, routes, repeat, ack, keys, findings } = received;
        let drop_resent = repeat.as_ref().and_then(|check| check.content.as_ref()).is_some_and(|content| content.drop);
        let content = repeat.as_ref().and_then(|check| content(keyed, &channel, &message, check));
        let header = Header {
            repeat: repeat.as_ref().map(|check| RepeatMark {
                key: keyed.hash(Kind::RepeatKey, &[channel.as_bytes(), &check.key]),
                body: body(keyed, &message, check, content),
                window_seconds: window_seconds(check),
            }),
            content,
            resends: None,
            at: nanos(at),
            steady,
            routes: routes.into_iter().map(|route| (route.destination, route.lane)).collect(),
            ack: ack_mark(ack),
            control: keyed.hash(Kind::ControlId, &[&keys.control_id]),
            patient: hashes(keyed, Kind::Patient, &keys.patient),
            device: hashes(keyed, Kind::Device, &keys.device),
            channel,
            findings,
        };
        let payload = encode_received(&header, &message);
        // The same bytes once in memory, and not the buffer they were read into.
        let message = payload.slice(payload.len() - message.len()..);
        NewMessage { header, message, payload, drop_resent }
    }
}

fn content(keyed: &Keyed, channel: &str, message: &[u8], check: &RepeatCheck) -> Option<RepeatMark> {
    let parts = check.content.as_ref()?.parts.iter().filter_map(|range| message.get(range.clone()));
    let parts: Vec<&[u8]> = std::iter::once(channel.as_bytes()).chain(parts).collect();
    let (key, body) = keyed.hash_pair(Kind::Content, &parts);
    Some(RepeatMark { key, body, window_seconds: window_seconds(check) })
}

/// Of the whole message: of what `content` is already of, and of the rest, so that nothing is hashed twice.
fn body(keyed: &Keyed, message: &[u8], check: &RepeatCheck, content: Option<RepeatMark>) -> u64 {
    let (Some(mark), Some(told)) = (content, &check.content) else { return keyed.hash(Kind::Body, &[message]) };
    let (key, body) = (mark.key.to_le_bytes(), mark.body.to_le_bytes());
    let mut parts: Vec<&[u8]> = vec![&key, &body];
    let mut from = 0;
    for range in told.parts.iter().filter(|range| message.get((*range).clone()).is_some()) {
        parts.push(message.get(from..range.start).unwrap_or_default());
        from = from.max(range.end);
    }
    parts.push(&message[from..]);
    keyed.hash(Kind::Body, &parts)
}

fn window_seconds(check: &RepeatCheck) -> u32 {
    check.window.as_secs().try_into().unwrap_or(u32::MAX)
}

fn hashes(keyed: &Keyed, kind: Kind, values: &[Vec<u8>]) -> Vec<u64> {
    values.iter().take(HASHES_MAX).map(|value| keyed.hash(kind, &[value])).collect()
}

impl Batch {
    /// A batch that takes new messages only if `accepting`; repeats of stored ones are answered in any case. A record may
    /// be of `payload_max` bytes: whatever needs a longer one is answered `TooLarge`, and nobody else is.
    pub fn new(state: &State, accepting: bool, payload_max: usize) -> Batch {
        let (planned, repeats, touched, ended) = (Vec::new(), HashMap::new(), HashSet::new(), HashSet::new());
        Batch { next: state.next, accepting, payload_max, planned, repeats, touched, ended }
    }

    /// Decides one request.
    pub fn decide(&mut self, state: &State, request: Request) -> Decided {
        if let Some(entry) = request.entry()
            && !self.touched.insert(entry)
        {
            return Decided::Later(request);
        }
        Decided::Answer(match request {
            Request::Append(new) => self.append(state, *new).map(Answer::Appended),
            Request::Settle { lane, entry, at, outcome, episodes } => {
                self.settle(state, Settled { lane, entry, id: 0, at, outcome, episodes })
            }
            Request::Attempted { lane, entry, attempt } => self.attempted(state, lane, entry, attempt),
            Request::Replay { at, items } => self.replay(state, at, items),
            Request::RetryDead { entry, at } => self.change_dead(state, entry, at, Recorded::DeadRetried),
            Request::DiscardDead { entry, at } => self.change_dead(state, entry, at, Recorded::DeadDiscarded),
            Request::GiveUp { lane, at, reason, discard } => self.give_up(state, &lane, at, &reason, discard),
            Request::Pause(paused) => self.plan(Recorded::Paused(paused)).map(|()| Answer::Done),
        })
    }

    /// Adds a record of the store's own, such as one carried forward.
    pub fn plan(&mut self, recorded: Recorded) -> Result<(), StoreError> {
        self.plan_message(recorded, Bytes::new())
    }

    /// The same, with the message it carries.
    pub fn plan_message(&mut self, recorded: Recorded, message: Bytes) -> Result<(), StoreError> {
        let payload = recorded.encode(&message);
        self.push(Planned { sequence: self.next, recorded, payload, message })
    }

    fn push(&mut self, planned: Planned) -> Result<(), StoreError> {
        if planned.payload.len() > self.payload_max {
            return Err(StoreError::TooLarge);
        }
        self.next += planned.recorded.sequences();
        self.planned.push(planned);
        Ok(())
    }

    fn append(&mut self, state: &State, new: NewMessage) -> Result<Appended, StoreError> {
        let NewMessage { mut header, message, mut payload, drop_resent } = new;
        let known = match header.repeat.map_or(Seen::New, |mark| self.seen(state, mark, header.steady)) {
            Seen::Repeat { sequence, at } => return Ok(Appended::Repeat(answered(sequence, at))),
            seen => seen,
        };
        let earlier = header.content.map_or(Seen::New, |mark| self.seen(state, mark, header.steady));
        if let Seen::Repeat { sequence, at } = earlier {
            if drop_resent {
                let resends = Some(Sequence(sequence));
                return Ok(Appended::Repeat(Stored { resends, ..answered(sequence, at) }));
            }
            header.resends = Some(sequence);
            payload = encode_received(&header, &message);
        }
        if !self.accepting {
            return Err(StoreError::Full);
        }
        // The same content under the same control id with a new time of sending is no other content.
        let reused = known == Seen::Reused && header.resends.is_none();
        self.store(header, message, payload, reused).map(Appended::New)
    }

    fn store(&mut self, header: Header, message: Bytes, payload: Bytes, reused: bool) -> Result<Stored, StoreError> {
        let (sequence, at, steady) = (self.next, header.at, header.steady);
        let (resends, marks) = (header.resends.map(Sequence), header.marks());
        self.push(Planned { sequence, recorded: Recorded::Received(header), payload, message })?;
        self.repeats.extend(marks.map(|mark| (mark.key, CarriedRepeat { mark, sequence, at, steady })));
        Ok(Stored { reused, resends, ..answered(sequence, at) })
    }

    fn seen(&self, state: &State, mark: RepeatMark, steady: i64) -> Seen {
        match self.repeats.get(&mark.key) {
            Some(earlier) => compare(earlier, mark, steady),
            None => state.repeats.check(mark, steady),
        }
    }

    /// Which message it is about is told by the state.
    fn settle(&mut self, state: &State, settled: Settled) -> Result<Answer, StoreError> {
        let (lane, entry) = (&settled.lane, settled.entry);
        let id = match lane.is_to_sender() {
            true => state.lane(lane).and_then(|lane| lane.queue.find(entry)).map(|found| found.id),
            false => self.head(state, lane, entry),
        };
        let id = id.ok_or(StoreError::NotFound)?;
        self.end(Settled { id, ..settled })?;
        Ok(Answer::Done)
    }

    fn end(&mut self, settled: Settled) -> Result<(), StoreError> {
        let entry = settled.entry;
        self.plan(Recorded::Settled(settled))?;
        self.ended.insert(entry);
        Ok(())
    }

    /// The message of the lane's head, without what this batch ends before it, if that is this entry.
    fn head(&self, state: &State, lane: &LaneId, entry: u64) -> Option<u64> {
        let head = state.lane(lane)?.queue.iter().find(|each| !self.ended.contains(&each.entry))?;
        (head.entry == entry).then_some(head.id)
    }

    fn attempted(&mut self, state: &State, lane: LaneId, entry: u64, attempt: Attempt) -> Result<Answer, StoreError> {
        // A retry every few minutes must not use up the reserve that the settlements of a full store need.
        if !self.accepting {
            return Err(StoreError::Full);
        }
        let id = self.head(state, &lane, entry).ok_or(StoreError::NotFound)?;
        self.plan(Recorded::Attempted(Attempted::of(lane, entry, id, attempt)))?;
        Ok(Answer::Done)
    }

    fn replay(&mut self, state: &State, at: i64, mut items: Vec<ReplayItem>) -> Result<Answer, StoreError> {
        for item in &mut items {
            item.position = state.position_of(item.id, item.position);
        }
        items.retain(|item| item.position.segment >= state.oldest_segment);
        if !self.accepting && !items.is_empty() {
            return Err(StoreError::Full);
        }
        let added = items.len() as u64;
        let longest = items.iter().map(ReplayItem::bytes_max).max().unwrap_or(1);
        let most = (self.payload_max / 2 / longest).clamp(1, REPLAY_ITEMS);
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let items = items.by_ref().take(most).collect();
            self.plan(Recorded::Replayed(Replayed { at, items }))?;
        }
        Ok(Answer::Added(added))
    }

    fn give_up(
        &mut self,
        state: &State,
        lane: &LaneId,
        at: i64,
        reason: &str,
        discard: bool,
    ) -> Result<Answer, StoreError> {
        let mut given_up = 0;
        for entry in state.lane(lane).into_iter().flat_map(|lane| lane.queue.iter()).take(GIVEN_UP_MAX) {
            if !self.touched.insert(entry.entry) {
                break;
            }
            let (entry, id) = (entry.entry, entry.id);
            let outcome = Outcome::Dead { reason: reason.to_owned(), attempts: 0 };
            let settled = Settled { lane: lane.clone(), entry, id, at, outcome, episodes: Vec::new() };
            self.end(settled)?;
            if discard {
                self.plan(Recorded::DeadDiscarded(DeadChange { at, entry, id, lane: lane.clone() }))?;
            }
            given_up += 1;
        }
        Ok(Answer::GivenUp(given_up))
    }

    fn change_dead(
        &mut self,
        state: &State,
        entry: u64,
        at: i64,
        record: fn(DeadChange) -> Recorded,
    ) -> Result<Answer, StoreError> {
        let dead = state.dead.get(&entry).ok_or(StoreError::NotFound)?;
        let lane = state.lanes[dead.lane as usize].id.clone();
        self.plan(record(DeadChange { at, entry, id: dead.id, lane }))?;
        Ok(Answer::Done)
    }
}

impl Request {
    /// The entry this request ends or moves, which only one request in a batch may.
    fn entry(&self) -> Option<u64> {
        match self {
            Request::Settle { entry, .. } | Request::RetryDead { entry, .. } | Request::DiscardDead { entry, .. } => {
                Some(*entry)
            }
            _ => None,
        }
    }
}

fn answered(sequence: u64, at: i64) -> Stored {
    Stored { sequence: Sequence(sequence), at: timestamp(at), reused: false, resends: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]

    use super::*;
    use crate::store::Content;
    use std::{ops::Range, time::Duration};

    const MESSAGE: &[u8] = b"MSH|1|anew|2|anew|3\rOBX|1\r";

    fn body_of(message: &[u8], parts: Option<&[Range<usize>]>) -> u64 {
        let keyed = Keyed::new(&[7; 32]);
        let told = parts.map(|parts| Content { parts: parts.to_vec(), drop: false });
        let check = RepeatCheck { key: b"key".to_vec(), window: Duration::from_secs(60), content: told };
        body(&keyed, message, &check, content(&keyed, "channel", message, &check))
    }

    #[test]
    fn every_byte_of_a_message_is_in_its_body_whatever_a_retransmission_is_told_by() {
        let parts: [Option<&[Range<usize>]>; 5] =
            [None, Some(&[]), Some(&[0..6, 10..13, 17..27]), Some(&[3..9, 6..12]), Some(&[20..99])];
        for parts in parts {
            let body = body_of(MESSAGE, parts);
            assert_eq!(body, body_of(MESSAGE, parts));
            for at in 0..MESSAGE.len() {
                let mut other = MESSAGE.to_vec();
                other[at] ^= 1;
                assert_ne!(body, body_of(&other, parts), "byte {at} with {parts:?}");
            }
            assert_ne!(body, body_of(&MESSAGE[..MESSAGE.len() - 1], parts));
        }
    }
}
