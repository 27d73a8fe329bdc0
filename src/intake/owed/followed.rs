//! Messages followed to the end of their deliveries.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use memchr::memchr2;
use sha2::{Digest, Sha256};
use tokio::{sync::oneshot, time::Instant};

use super::{Outcome, Owed, PAGE};
use crate::{
    hl7::Header,
    intake::{
        refusal::{Refusal, Severity},
        reply::{self, Asked},
    },
    store::{Appended, Kept, LaneId, Queued, Sequence, Settlement, State, StoreError, Stored, TO_SENDER},
};

/// Fields of MSH kept of a message whose ACK is owed: all that an ACK repeats.
const HEADER_FIELDS: usize = 21;

/// One message whose deliveries have not all ended, or whose ACK was not sent.
pub(super) struct Followed {
    pub channel: Arc<str>,
    pub stored: Stored,
    /// Deliveries that have not ended.
    pub pending: Vec<(LaneId, u64)>,
    /// What the first that did not take it said.
    pub refused: Option<Refusal>,
    /// A delivery ended and nobody said how.
    pub unseen: bool,
    /// Connections that wait for the outcome.
    pub waiters: Vec<oneshot::Sender<Outcome>>,
    /// The ACK that is owed.
    pub owing: Option<Owing>,
}

/// An ACK owed.
pub(super) struct Owing {
    pub entry: u64,
    pub sender: SenderId,
    /// MSH of its message.
    pub header: Bytes,
    pub asked: Asked,
    /// Once it could be sent.
    pub due: Option<Due>,
    /// It was given to a connection.
    pub sending: bool,
}

/// What an ACK says, and since when it could be sent.
pub(super) struct Due {
    pub outcome: Outcome,
    since: Instant,
    /// How long it was due before this run of the engine knew of it.
    before: Duration,
}

impl Due {
    pub fn now(outcome: Outcome) -> Due {
        Due { outcome, since: Instant::now(), before: Duration::ZERO }
    }

    /// Due since so long, as the wall clock tells.
    fn since(outcome: Outcome, before: Duration) -> Due {
        Due { before, ..Due::now(outcome) }
    }

    pub fn age(&self) -> Duration {
        self.before + self.since.elapsed()
    }
}

/// Who sent a message: its channel and a hash of MSH-3 and MSH-4, by which its next connection is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SenderId(Arc<str>, [u8; 32]);

impl SenderId {
    pub fn channel(&self) -> &Arc<str> {
        &self.0
    }

    pub fn of(channel: &Arc<str>, header: &Header<'_>) -> SenderId {
        let mut hasher = Sha256::new();
        for field in [header.field(3), header.field(4)] {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field);
        }
        SenderId(channel.clone(), hasher.finalize().into())
    }
}

/// MSH without what no ACK repeats.
pub(super) fn header_line(message: &[u8]) -> Bytes {
    let start = message.windows(3).position(|window| window == b"MSH").unwrap_or(0);
    let line = &message[start..];
    let line = &line[..memchr2(b'\r', b'\n', line).unwrap_or(line.len())];
    let separator = line.get(3).copied().unwrap_or(b'|');
    let end = line.iter().enumerate().filter(|(_, byte)| **byte == separator).nth(HEADER_FIELDS - 1);
    Bytes::copy_from_slice(&line[..end.map_or(line.len(), |(at, _)| at)])
}

impl Followed {
    pub fn new(channel: Arc<str>, stored: Stored) -> Followed {
        Followed {
            channel,
            stored,
            pending: Vec::new(),
            refused: None,
            unseen: false,
            waiters: Vec::new(),
            owing: None,
        }
    }

    /// Bytes that senders decide on.
    pub fn bytes(&self) -> usize {
        self.owing.as_ref().map_or(0, |owing| owing.header.len())
    }

    pub fn is_due(&self) -> bool {
        self.owing.as_ref().is_some_and(|owing| owing.due.is_some() && !owing.sending)
    }

    /// State and code for a list.
    pub fn shown(&self) -> (&'static str, Option<&'static str>) {
        let Some((owing, due)) = self.owing.as_ref().and_then(|owing| Some((owing, owing.due.as_ref()?))) else {
            return ("delivering", None);
        };
        let code = owing.asked.application_code(&due.outcome).map(|code| code.as_str());
        (if owing.sending { "sending" } else { "unsent" }, code)
    }

    /// It may wait in the store instead: nobody waits for it, and it is not on its way.
    pub fn may_wait(&self) -> bool {
        self.waiters.is_empty() && self.owing.as_ref().is_some_and(|owing| !owing.sending)
    }

    pub fn id(&self) -> u64 {
        self.stored.sequence().as_u64()
    }
}

/// What a refusal by a destination is to the message's sender: its own code where it named one of table 0357, and the
/// number that its application gave.
fn refusal(destination: &str, reason: &str) -> Refusal {
    let told =
        |field: &str| reason.split(field).nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let code =
        told("ERR-3 ").and_then(|code| code.parse().ok()).filter(|code| !crate::hl7::ack::condition(*code).is_empty());
    let severity = match ["answered AR", "answered CR"].iter().any(|said| reason.contains(said)) {
        true => Severity::Reject,
        false => Severity::Error,
    };
    let text = format!("destination {destination}: {reason}");
    let mut refusal = Refusal::error("destination", code.filter(|code| *code > 0).unwrap_or(207), "", &text);
    refusal.fault.application_code = told("ERR-5 ").unwrap_or_default().to_owned();
    Refusal { severity, ..refusal }
}

impl Owed {
    /// Told by a lane once the end of a delivery is durable.
    pub fn ended(self: &Arc<Owed>, lane: &LaneId, entry: Sequence, settlement: &Settlement) {
        let entry = entry.as_u64();
        let mut inner = self.inner();
        let Some(followed) = inner.book.before_entry(entry) else { return };
        let Some(place) = followed.pending.iter().position(|(_, pending)| *pending == entry) else { return };
        followed.pending.swap_remove(place);
        if let Settlement::Dead { reason, .. } = settlement {
            followed.refused.get_or_insert_with(|| refusal(&lane.destination, reason));
        }
        let id = followed.id();
        drop(inner);
        self.see_to(id);
    }

    /// Follows a message from now on; what ended before it was followed is found in the store.
    pub(super) fn follow(self: &Arc<Owed>, followed: Followed) {
        let (id, pending) = (followed.id(), followed.pending.clone());
        self.inner().book.follow(followed);
        let gone: Vec<u64> =
            pending.into_iter().filter(|(lane, entry)| !self.waits(lane, *entry)).map(|(_, entry)| entry).collect();
        self.gone(id, &gone);
        self.see_to(id);
    }

    /// These deliveries of a message have ended; nobody said how.
    fn gone(&self, id: u64, gone: &[u64]) {
        let mut inner = self.inner();
        let Some(followed) = inner.book.get_mut(id) else { return };
        let before = followed.pending.len();
        followed.pending.retain(|(_, entry)| !gone.contains(entry));
        followed.unseen |= followed.pending.len() < before;
    }

    /// Goes on with a message once its deliveries have ended.
    fn see_to(self: &Arc<Owed>, id: u64) {
        let inner = self.inner();
        let Some(followed) = inner.book.get(id).filter(|followed| followed.pending.is_empty()) else { return };
        if followed.owing.as_ref().is_some_and(|owing| owing.due.is_some()) {
            return;
        }
        if !followed.unseen {
            let outcome = followed.refused.clone().map_or(Ok(()), Err);
            drop(inner);
            return self.conclude(id, Due::now(outcome));
        }
        drop(inner);
        let owed = self.clone();
        tokio::spawn(async move {
            // Where the store cannot be read now, the next sweep asks again.
            if let Ok((_, Some(due))) = owed.look(id).await {
                owed.conclude(id, due);
            }
        });
    }

    fn conclude(self: &Arc<Owed>, id: u64, due: Due) {
        {
            let mut inner = self.inner();
            let Some(followed) = inner.book.get_mut(id) else { return };
            for waiter in std::mem::take(&mut followed.waiters) {
                // Its connection may have ended.
                let _ = waiter.send(due.outcome.clone());
            }
            if followed.owing.is_none() {
                return drop(inner.book.forget(id));
            }
            inner.book.becomes_due(id, due);
        }
        self.send_or_end(id);
    }

    /// Deliveries not ended, and, where there are none, what became of the message.
    async fn look(&self, id: u64) -> Result<(Looked, Option<Due>), StoreError> {
        let kept = self.store.read(Sequence::from_u64(id)).await?;
        let pending = self.pending_of(&kept);
        let due = pending.is_empty().then(|| {
            let age = self.clock.now().duration_since(ended_at(&kept));
            Due::since(outcome_of(&kept), age.try_into().unwrap_or_default())
        });
        Ok((Looked { kept, pending }, due))
    }

    /// Which of its own entries still wait: a message's entries are numbered behind it, one for each route.
    fn pending_of(&self, kept: &Kept) -> Vec<(LaneId, u64)> {
        let summary = &kept.summary;
        let id = summary.id.as_u64();
        let entries = id + 1..=id + summary.deliveries.len() as u64;
        let deliveries = summary.deliveries.iter().filter(|delivery| *delivery.destination != *TO_SENDER);
        let lanes = deliveries.map(|delivery| LaneId {
            channel: summary.channel.clone(),
            destination: delivery.destination.clone(),
            lane: delivery.lane,
        });
        let waiting = |lane: LaneId| {
            let entry = entries.clone().find(|entry| self.waits(&lane, *entry))?;
            Some((lane, entry))
        };
        lanes.filter_map(waiting).collect()
    }

    /// Waits for what becomes of a stored message; `None` where that cannot be told.
    pub(super) async fn outcome(
        self: &Arc<Owed>,
        appended: &Appended,
        after: &super::After,
        channel: &Arc<str>,
    ) -> Option<Outcome> {
        let stored = appended.stored().clone();
        let id = stored.sequence().as_u64();
        let pending = match appended {
            Appended::New(_) => after.pending(channel, id),
            Appended::Repeat(_) => match self.look(id).await.ok()? {
                (_, Some(due)) => return Some(due.outcome),
                (looked, None) => looked.pending,
            },
        };
        let (waiter, outcome) = oneshot::channel();
        self.follow(Followed { pending, waiters: vec![waiter], ..Followed::new(channel.clone(), stored) });
        outcome.await.ok()
    }

    /// The ACK of a message that has had one, for a sender that asks again.
    pub(super) async fn tell_again(
        &self,
        channel: &Arc<str>,
        stored: &Stored,
        outcome: &Outcome,
        header: &Bytes,
        asked: &Asked,
        outlet: Option<crate::mllp::server::Outlet>,
    ) {
        let (header, _) = Header::read(header);
        let application = reply::application(stored, outcome, &header, asked, self.clock.now());
        let Some((message, code)) = application else { return };
        let Some(written) = outlet.and_then(|outlet| outlet.send(message)) else { return };
        if written.await.is_ok() {
            self.metrics.acks_sent.with_label_values(&[&**channel, code.as_str()]).inc();
        }
    }

    /// Finds deliveries that ended without a word (by an operator, or of a destination that is gone), and forgets waits that
    /// were given up.
    pub(super) fn look_again(self: &Arc<Owed>) {
        let looked_at: Vec<(u64, Vec<(LaneId, u64)>)> = {
            let mut inner = self.inner();
            inner.book.forget_waits();
            let undue = |followed: &Followed| followed.owing.as_ref().is_none_or(|owing| owing.due.is_none());
            let undue = inner.book.iter().filter(|(_, followed)| undue(followed));
            undue.map(|(id, followed)| (id, followed.pending.clone())).collect()
        };
        for (id, pending) in looked_at {
            let gone = pending.iter().filter(|(lane, entry)| !self.waits(lane, *entry));
            let gone: Vec<u64> = gone.map(|(_, entry)| *entry).collect();
            self.gone(id, &gone);
            self.see_to(id);
        }
    }

    /// Notes what the store says is owed and the book does not know of: after a restart, what was beyond all bounds, and what
    /// was stored while its connection ended.
    pub(super) async fn note_unknown(self: &Arc<Owed>) {
        'lanes: for lane in self.lanes() {
            let mut from = self.inner().noted.get(&lane.channel).copied().unwrap_or_default();
            loop {
                let page = self.store.queued(&lane, Sequence::from_u64(from), PAGE);
                if page.is_empty() {
                    break;
                }
                for queued in page {
                    if !self.note(&lane, queued).await {
                        continue 'lanes;
                    }
                    from = queued.entry.as_u64() + 1;
                    self.inner().noted.insert(lane.channel.clone(), from);
                }
            }
        }
    }

    /// False where it is to be noted later: it cannot be read now, or there is no room to remember it.
    async fn note(&self, lane: &LaneId, queued: Queued) -> bool {
        let id = queued.id.as_u64();
        let is_followed = |inner: &super::Inner| inner.book.get(id).is_some_and(|followed| followed.owing.is_some());
        if is_followed(&self.inner()) {
            return true;
        }
        if !self.inner().book.has_room_to_wait() {
            return false;
        }
        let kept = match self.store.read(queued.id).await {
            Ok(kept) => kept,
            Err(fault) => return fault == StoreError::NotFound,
        };
        let read = self.as_read(&lane.channel, &kept.message);
        let sender = SenderId::of(&lane.channel, &Header::read(&read).0);
        let mut inner = self.inner();
        inner.book.knows(id, &sender) || inner.book.wait(id, &sender)
    }

    /// Follows what waits in the store, as far as there is room, and sends what of it is due.
    pub(super) async fn adopt_waiting(self: &Arc<Owed>) {
        let waiting = self.inner().with_waiting();
        for sender in waiting {
            while let Some(id) = self.next_with_room(&sender) {
                if !self.adopt(&sender, id).await {
                    break;
                }
            }
        }
    }

    fn next_with_room(&self, sender: &SenderId) -> Option<u64> {
        let mut inner = self.inner();
        let id = inner.book.next_waiting(sender)?;
        inner.make_room(sender).then_some(id)
    }

    /// False where it cannot be read now.
    async fn adopt(self: &Arc<Owed>, sender: &SenderId, id: u64) -> bool {
        let lane = LaneId::to_sender(sender.channel().clone());
        let queued = self.store.queued(&lane, Sequence::from_u64(id), 1);
        let Some(entry) = queued.first().filter(|queued| queued.id.as_u64() == id).map(|queued| queued.entry.as_u64())
        else {
            self.inner().book.waits_no_more(id, sender);
            return true;
        };
        let (Looked { kept, pending }, due) = match self.look(id).await {
            Ok(looked) => looked,
            Err(_) => return false,
        };
        let read = self.as_read(sender.channel(), &kept.message);
        let (header, _) = Header::read(&read);
        let owing = Owing {
            entry,
            sender: sender.clone(),
            header: header_line(&read),
            asked: Asked::of(&header).0,
            due,
            sending: false,
        };
        let new = Followed::new(lane.channel.clone(), kept.stored());
        self.follow(Followed { pending, owing: Some(owing), ..new });
        // It may have been given up while it was read.
        if !self.waits(&lane, entry) {
            self.inner().book.forget(id);
        }
        self.send_or_end(id);
        true
    }
}

/// A message as the store has it.
struct Looked {
    kept: Kept,
    pending: Vec<(LaneId, u64)>,
}

/// What became of a message none of whose deliveries waits.
fn outcome_of(kept: &Kept) -> Outcome {
    let deliveries = kept.summary.deliveries.iter().filter(|delivery| *delivery.destination != *TO_SENDER);
    let mut refused = deliveries.filter(|delivery| matches!(delivery.state, State::Dead | State::Discarded));
    let Some(delivery) = refused.next() else { return Ok(()) };
    let of_it = |event: &&crate::store::Event| event.destination.as_ref() == Some(&delivery.destination);
    let said = kept.events.iter().rev().filter(of_it).find(|event| event.what == "dead");
    let reason = said.map_or("given up by an operator", |event| event.detail.as_str());
    Err(refusal(&delivery.destination, reason))
}

/// When the last delivery of such a message ended.
fn ended_at(kept: &Kept) -> jiff::Timestamp {
    let is_end = |event: &&crate::store::Event| {
        matches!(event.what.as_str(), "accepted" | "dead" | "discarded")
            && event.destination.as_deref() != Some(TO_SENDER)
    };
    let ends = kept.events.iter().filter(is_end).filter(|event| event.destination.is_some());
    ends.map(|event| event.at).max().unwrap_or(kept.summary.received_at)
}
