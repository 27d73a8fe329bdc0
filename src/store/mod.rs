//! The store: what was received, where it goes, what became of it.
//!
//! `Store` is the seam; `memory` is for tests, `disk` (journal + ledger) is the engine's. A message is durable before
//! `append` answers, and `Stored`, which only a store makes, is what a positive ACK is made from.
//!
//! ```compile_fail,E0451
//! use cannula::store::{Sequence, Stored};
//! let forged = Stored { sequence: Sequence::from_u64(1), at: jiff::Timestamp::UNIX_EPOCH, reused: false, resends: None };
//! ```

mod beside;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod conformance;
mod debug;
mod disk;
mod episodes;
pub mod journal;
mod keyed;
mod ledger;
pub mod memory;
mod records;
mod request;
mod state;
mod view;

/// For the simulation of store and delivery together.
#[cfg(test)]
pub(crate) mod simulation {
    pub(crate) use super::{
        disk::simulation::{Machine, Place, Standing, SteppedStore, may_pass},
        journal::memory_disk::{Dice, Lie, MemoryDisk},
        ledger::memory::MemoryTree,
    };
}

pub use beside::replace_file;
pub use disk::{Backup, BackupError, BackupFile, DiskStore, OpenError, Options, Rebuilt};
pub use memory::MemoryStore;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use crate::{pcd::conformance::Mark, translate::EpisodeChange};

/// Place in the store's one order of everything; also a message's id. Opaque to all but the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);
impl Sequence {
    /// For ids in URLs and on the command line.
    pub fn from_u64(value: u64) -> Sequence {
        Sequence(value)
    }
    /// As shown.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

/// Names of a channel and of one of its destinations.
pub type ChannelDestination = (Arc<str>, Arc<str>);

/// One ordered way: strictly one outstanding, strict order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId {
    /// Channel name.
    pub channel: Arc<str>,
    /// Destination name.
    pub destination: Arc<str>,
    /// Number below the destination's `lanes`.
    pub lane: u16,
}

/// The destination, no name of a configured one, in whose lane 0 an application ACK is owed to a message's sender. Its entries
/// are settled in any order, since senders come and go; nobody delivers from it.
pub const TO_SENDER: &str = "@sender";

impl LaneId {
    /// Where the application ACKs of a channel's messages are owed.
    pub fn to_sender(channel: Arc<str>) -> LaneId {
        LaneId { channel, destination: TO_SENDER.into(), lane: 0 }
    }

    /// It holds owed application ACKs, no deliveries.
    pub fn is_to_sender(&self) -> bool {
        *self.destination == *TO_SENDER
    }
}

/// Where intake decided a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Destination name within the channel.
    pub destination: Arc<str>,
    /// Lane number.
    pub lane: u16,
}

/// What tells a sender's repeat: the key's values, and for how long.
///
/// A message is a repeat if key and content are those of the latest message with that key: of contents A, B, A under one
/// key within the window all three are stored, the second and the third marked as [reused](Stored::reused).
#[derive(Clone, PartialEq, Eq)]
pub struct RepeatCheck {
    /// Values of the channel's repeat key, joined unambiguously; hashed by the store.
    pub key: Vec<u8>,
    /// Repeats further apart are new messages.
    pub window: std::time::Duration,
    /// What a retransmission under another control id is told by; `None` where none is to be told.
    pub content: Option<Content>,
}

/// The parts of a message that a retransmission has in common with it, and what becomes of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Ranges of the message's bytes, in order.
    pub parts: Vec<std::ops::Range<usize>>,
    /// A retransmission is answered and not stored; otherwise it is stored as new and says what it resends.
    pub drop: bool,
}

/// A message as intake hands it over.
#[derive(Clone)]
pub struct Received {
    /// Channel that took it.
    pub channel: Arc<str>,
    /// When its last byte was read.
    pub at: Timestamp,
    /// As received.
    pub message: Bytes,
    /// Destinations; empty is recorded as "routed nowhere".
    pub routes: Vec<Route>,
    /// Repeat rule; `None` where the channel has none or the message has no value of its key.
    pub repeat: Option<RepeatCheck>,
    /// MSA-1 of the answer due once stored; `None` where none is asked for. Kept for the timeline.
    pub ack: Option<crate::hl7::ack::Code>,
    /// Search keys, in clear here, kept as keyed hashes only.
    pub keys: SearchKeys,
    /// Conformance rules it breaks, and where; no content.
    pub findings: Vec<Mark>,
}
/// What a message can be found by.
#[derive(Clone, Default)]
pub struct SearchKeys {
    /// MSH-10.
    pub control_id: Vec<u8>,
    /// PID-3.1 values.
    pub patient: Vec<Vec<u8>>,
    /// Device identities.
    pub device: Vec<Vec<u8>>,
}

/// Proof that a message is durable. Only a store makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    sequence: Sequence,
    at: Timestamp,
    reused: bool,
    resends: Option<Sequence>,
}
impl Stored {
    /// The message's id.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
    /// When it was received, as recorded: a repeat is answered from the first one's.
    pub fn at(&self) -> Timestamp {
        self.at
    }
    /// The repeat key was seen before with other content: stored as new, to be alarmed.
    pub fn reused(&self) -> bool {
        self.reused
    }
    /// The message whose content this one has under another control id. Of a [repeat](Appended::Repeat): it was not stored
    /// for that reason.
    pub fn resends(&self) -> Option<Sequence> {
        self.resends
    }
}
/// New or repeat, decided by the store alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Appended {
    /// Stored now.
    New(Stored),
    /// Same key and same content as this first one, or a retransmission of it that is to be dropped; nothing was stored.
    Repeat(Stored),
}
impl Appended {
    /// The message that is stored, now or before.
    pub fn stored(&self) -> &Stored {
        match self {
            Appended::New(stored) | Appended::Repeat(stored) => stored,
        }
    }
}

/// The head of a lane.
#[derive(Clone)]
pub struct Waiting {
    /// Identity of this place in the lane (a replayed message has a new one).
    pub entry: Sequence,
    /// The message.
    pub id: Sequence,
    /// When the message was received.
    pub received_at: Timestamp,
    /// As received.
    pub message: Bytes,
    /// It may have been sent before: a restart, a failure of the store, a replay, or an ambiguous attempt lies behind.
    pub possible_repeat: bool,
}

/// An entry of a lane, without its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Queued {
    /// Its place.
    pub entry: Sequence,
    /// The message.
    pub id: Sequence,
    /// When the message was received.
    pub received_at: Timestamp,
}

/// What ended a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Settlement {
    /// The receiver took it.
    Accepted(Receipt),
    /// Parked for a person.
    Dead {
        /// Why; no message content.
        reason: String,
        /// Attempts made.
        attempts: u32,
    },
}
/// What is kept of an accepted delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// SHA-256 of what was sent.
    pub sent_sha256: [u8; 32],
    /// Hash of the channel's configuration.
    pub configuration: u64,
    /// What the receiver answered: `AA`, `201`, … no content.
    pub answer: String,
    /// Attempts made, this one included.
    pub attempts: u32,
    /// When.
    pub at: Timestamp,
    /// What the destination is to remember from now on.
    #[serde(skip)]
    pub episodes: Vec<EpisodeChange>,
}
/// One attempt that did not end the delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// `unavailable`, `ambiguous`, `rejected`, `failed`; `repeat` where it was sent as a possible repeat.
    pub outcome: String,
    /// Why; no message content.
    pub reason: String,
}

/// Who must act on a store fault: always the operator, or we.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// At `max_bytes` or out of disk: accepted again by itself when space is free.
    #[error("the store is full: free disk space or raise store.max_bytes")]
    Full,
    /// A write or sync failed: nothing is acknowledged until the store was examined and opened anew, which it does by itself.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The ledger is being made again: only the newest messages can be searched, all else goes on.
    #[error(
        "only the newest messages can be searched until the ledger is made again: see the log; it needs disk space"
    )]
    Unsearchable,
    /// The engine is stopping.
    #[error("the store is closed")]
    Closed,
    /// Larger than a segment can hold.
    #[error("the message is larger than the store takes")]
    TooLarge,
    /// No such message, dead letter or lane entry.
    #[error("not in the store")]
    NotFound,
}

/// A query over kept messages; all given parts must hold. Newest first.
#[derive(Clone, Default)]
pub struct Query {
    /// Channel name.
    pub channel: Option<String>,
    /// Received at or after.
    pub from: Option<Timestamp>,
    /// Received at or before.
    pub to: Option<Timestamp>,
    /// MSH-10.
    pub control_id: Option<Vec<u8>>,
    /// A PID-3.1 value.
    pub patient: Option<Vec<u8>>,
    /// A device identity.
    pub device: Option<Vec<u8>>,
    /// Routed to this destination; with `state`, in that state there.
    pub destination: Option<String>,
    /// What became of it.
    pub state: Option<State>,
    /// At most this many (the store caps it at 1,000).
    pub limit: usize,
    /// Continue after this one.
    pub cursor: Option<Sequence>,
}
/// One found message. No content.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The message's id.
    pub id: Sequence,
    /// Channel that took it.
    pub channel: Arc<str>,
    /// When its last byte was read.
    pub received_at: Timestamp,
    /// Its length as received.
    pub bytes: usize,
    /// MSA-1 of the answer it got.
    pub ack: Option<String>,
    /// What became of it as a whole.
    pub state: State,
    /// Each destination.
    pub deliveries: Vec<Delivery>,
}
/// One destination of a message and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Delivery {
    /// Destination name.
    pub destination: Arc<str>,
    /// Lane number.
    pub lane: u16,
    /// What became of this delivery.
    pub state: State,
}
/// What became of a message or one of its deliveries. Of a message: dead if any is dead, else waiting if any waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not yet delivered.
    Waiting,
    /// The receiver took it.
    Delivered,
    /// Parked for a person.
    Dead,
    /// Given up by a person.
    Discarded,
    /// No destination wanted it.
    Unrouted,
}
/// One line of a message's history.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// Where to; `None` for what happened at intake.
    pub destination: Option<Arc<str>>,
    /// received, acknowledged, attempt, accepted, dead, retried, discarded, replayed.
    pub what: String,
    /// Why or how; no message content.
    pub detail: String,
}
/// A message read back.
#[derive(Clone)]
pub struct Kept {
    /// What it is and what became of it.
    pub summary: Summary,
    /// As received.
    pub message: Bytes,
    /// Its history, oldest first.
    pub events: Vec<Event>,
    /// Conformance rules it broke when it was received, and where.
    pub findings: Vec<Mark>,
}
impl Kept {
    /// What was read back is durable.
    pub fn stored(&self) -> Stored {
        Stored { sequence: self.summary.id, at: self.summary.received_at, reused: false, resends: None }
    }
}
/// Messages in the order they were taken, as many as are read at once.
#[derive(Clone)]
pub struct Taken {
    /// Each as it was handed over, oldest first.
    pub messages: Vec<TakenMessage>,
    /// Where the next are; `None` where there are none.
    pub next: Option<Sequence>,
    /// None was given up or is damaged of those that were taken here.
    pub whole: bool,
}
/// A message, without what became of it.
#[derive(Clone)]
pub struct TakenMessage {
    /// Its id.
    pub id: Sequence,
    /// Channel that took it.
    pub channel: Arc<str>,
    /// When its last byte was read.
    pub received_at: Timestamp,
    /// As received.
    pub message: Bytes,
}
/// A dead letter.
#[derive(Debug, Clone, Serialize)]
pub struct DeadLetter {
    /// The lane entry, by which it is retried or discarded.
    pub entry: Sequence,
    /// The message.
    pub id: Sequence,
    /// Channel name.
    pub channel: Arc<str>,
    /// Destination name.
    pub destination: Arc<str>,
    /// Lane number.
    pub lane: u16,
    /// When it died.
    pub at: Timestamp,
    /// Why; no message content.
    pub reason: String,
    /// Attempts made.
    pub attempts: u32,
}
/// A lane and what waits in it.
#[derive(Debug, Clone, Serialize)]
pub struct LaneStatus {
    /// The lane.
    pub lane: LaneId,
    /// Entries in it.
    pub waiting: u64,
    /// When the head was received.
    pub oldest: Option<Timestamp>,
}
/// Figures of the whole store.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Messages kept.
    pub messages: u64,
    /// Lane entries waiting.
    pub waiting: u64,
    /// Dead letters.
    pub dead: u64,
    /// Bytes on disk, spares included.
    pub bytes: u64,
    /// Segments in use.
    pub segments: u64,
    /// The sequence the next record takes.
    pub next_sequence: u64,
}

/// Durable, ordered, shared. All futures may be dropped without harm; none holds a lock across an await.
pub trait Store: Send + Sync + 'static {
    /// Queues the message in the call itself, so calls made in order are stored in order; the future answers when it is durable.
    /// What counts as a repeat is [`RepeatCheck`]'s; a repeat of a durable message is answered also by a full store.
    fn append(&self, received: Received) -> BoxFuture<'static, Result<Appended, StoreError>>;
    /// The head of the lane; waits while it is empty. The same head is given again until it is settled.
    fn next(&self, lane: &LaneId) -> BoxFuture<'static, Result<Waiting, StoreError>>;
    /// The next heads after `entry`, in order and at most so many, as far as memory has their messages.
    fn following(&self, lane: &LaneId, entry: Sequence, limit: usize) -> Vec<Waiting>;
    /// Entries of the lane at and after `from`, oldest first, at most `limit`; answered from memory.
    fn queued(&self, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued>;
    /// Ends the delivery of the lane's head, or of any entry where ACKs are [owed](TO_SENDER); durable when the future answers,
    /// and only then is the next head given. What [follows](Store::following) the head may be ended too, in order, before the
    /// head's end is durable; where that fails, what was asked for behind it is refused with [`StoreError::NotFound`].
    fn settle(
        &self,
        lane: &LaneId,
        entry: Sequence,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
    /// What the destination remembers of an episode: the note of the last delivery that was [settled](Receipt::episodes) with
    /// one. Answered from memory.
    fn recall(&self, channel: &str, destination: &str, episode: &[u8]) -> Option<Bytes>;
    /// Stands for these parts in what leaves the store: the same as long as the store has its key, without which nobody can make
    /// it, or test a guess of them.
    fn pseudonym(&self, parts: &[&[u8]]) -> u64;
    /// Notes an attempt that did not end the delivery, for the timeline; not waited for. `ambiguous` ones mark later sends as possible repeats.
    fn attempted(&self, lane: &LaneId, entry: Sequence, attempt: Attempt);
    /// Puts messages again at the tail of their lanes (of one destination, or of all routed). Answers how many entries were
    /// added. Refused like a new message while the store is full.
    fn replay(&self, ids: Vec<Sequence>, destination: Option<Arc<str>>) -> BoxFuture<'static, Result<u64, StoreError>>;
    /// Kept messages.
    fn find(&self, query: Query) -> BoxFuture<'static, Result<Vec<Summary>, StoreError>>;
    /// One message with its history.
    fn read(&self, id: Sequence) -> BoxFuture<'static, Result<Kept, StoreError>>;
    /// The messages taken at and after a place, to be gone through in order: some hundreds and at most a few MiB at once.
    fn taken(&self, from: Sequence) -> BoxFuture<'static, Result<Taken, StoreError>>;
    /// Dead letters, oldest first, after `cursor`, of one channel or all.
    fn dead(
        &self,
        channel: Option<String>,
        cursor: Option<Sequence>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<DeadLetter>, StoreError>>;
    /// Puts a dead letter again at the tail of its lane.
    fn retry_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Gives a dead letter up, recorded as that.
    fn discard_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Ends the first deliveries of a lane unsent, up to a thousand: each is a dead letter with this reason, or is given up at
    /// once. Answers how many. For lanes that nobody delivers from.
    fn give_up(&self, lane: &LaneId, reason: String, discard: bool) -> BoxFuture<'static, Result<u64, StoreError>>;
    /// Pauses or resumes a destination; kept over restarts.
    fn pause(
        &self,
        channel: Arc<str>,
        destination: Arc<str>,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Destinations paused.
    fn paused(&self) -> Vec<ChannelDestination>;
    /// Every lane known (configured or not) and what waits.
    fn lanes(&self) -> Vec<LaneStatus>;
    /// Dead letters a destination has.
    fn dead_counts(&self) -> Vec<(ChannelDestination, u64)>;
    /// Figures.
    fn stats(&self) -> Stats;
    /// How often the store has failed since it was opened first: what was not answered when this changed is refused, though the
    /// store may take messages again by then.
    fn failures(&self) -> u64;
    /// Why the store cannot promise durability now, if it cannot.
    fn health(&self) -> Result<(), StoreError>;
    /// Finishes what was queued, writes a checkpoint, releases the files. Later calls answer `Closed`.
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>>;
}
