//! Application ACKs that come after delivery: `ack = "delivered"`.
//!
//! One that follows an accept ACK is owed to its sender: an entry in the store ([`TO_SENDER`]) made with the message, ended when
//! the ACK was given to a connection of that sender. One that is the only answer is waited for instead, and after
//! `ack_timeout` the connection ends without an answer: the message is stored, so its sender's repeat is a repeat, stored
//! once, answered by what became of the first.
//!
//! What must never happen: AA before every destination took the message; an owed ACK forgotten over a crash; a delivery, or
//! another message's answer, that waits for an ACK to be sent. A sender's ACKs that are due go one behind the other, in the order
//! its messages were received, as soon as it is heard. What is followed in memory is bounded; the store has the rest.

mod book;
mod followed;
mod sending;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{
    sync::Notify,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{refusal::Refusal, reply::Asked};
use crate::{
    channel::{AckWhen, Channel},
    clock::Clock,
    hl7::Header,
    metrics::Metrics,
    mllp::server::{Answer, Outlet},
    store::{Appended, LaneId, Received, Route, Sequence, Store, StoreError, TO_SENDER},
};
use book::{Book, Load};
use followed::{Followed, Owing, SenderId, header_line};

/// Messages with an owed ACK followed in memory, a share for each channel; those beyond wait in the store for room.
const FOLLOWED_MAX: usize = 10_000;
/// Bytes of their headers, shared likewise.
const FOLLOWED_BYTES_MAX: usize = 16 << 20;
/// Senders whose connections are known.
const SENDERS_MAX: usize = 4_096;
/// How often what might have been missed is looked for, and what could not be sent is tried again.
const SWEEP: Duration = Duration::from_secs(5);
/// How long what is due is owed by a channel that no longer answers after delivery.
const KEEP_OF_NOBODY: Duration = Duration::from_secs(24 * 3600);
/// Entries looked at in one step of a sweep.
const PAGE: usize = 1_000;

/// What became of a message as a whole: every destination took it, or one did not.
type Outcome = Result<(), Refusal>;

/// The application ACKs owed by all channels.
pub struct Owed {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
    /// There may be room for what waits in the store.
    room: Notify,
    stopping: CancellationToken,
}

#[derive(Default)]
struct Inner {
    book: Book,
    /// The newest connection of each sender.
    outlets: HashMap<SenderId, Outlet>,
    /// Connections to which what is due is being written.
    draining: HashMap<SenderId, Outlet>,
    channels: HashMap<Arc<str>, AckWhen>,
    /// By which what the store has of a message is read.
    readers: HashMap<Arc<str>, Arc<Channel>>,
    /// Channels whose `ack_address` is being called.
    calling: HashSet<Arc<str>>,
    /// Entries of each channel before this one are in the book.
    noted: HashMap<Arc<str>, u64>,
    /// Channels shown in the metrics.
    shown: HashSet<Arc<str>>,
}

impl Inner {
    /// Whether another message of the sender can be followed. What else is owed waits in the store. A channel whose
    /// destination is away leaves the other channels their share, a sender that is away the others of its channel.
    fn make_room(&mut self, sender: &SenderId) -> bool {
        let answering = self.channels.iter().filter(|(_, ack)| matches!(ack, AckWhen::Delivered { .. }));
        let mut sharing: HashSet<&Arc<str>> = answering.map(|(name, _)| name).chain(self.book.channels()).collect();
        sharing.insert(sender.channel());
        let share = Load::share_of(sharing.len());
        let Inner { book, outlets, channels, .. } = self;
        book.make_room(sender, share, |one| is_reachable(one, outlets, channels))
    }

    /// Whether a message that is new is followed; one behind others of its sender that wait for room waits too.
    fn admits(&mut self, id: u64, sender: &SenderId) -> bool {
        let admitted = self.book.next_waiting(sender).is_none() && self.make_room(sender);
        if !admitted {
            // Where there is no room to remember it either, it is found in the store later.
            self.book.wait(id, sender);
        }
        admitted
    }

    fn with_waiting(&self) -> Vec<SenderId> {
        self.book.with_waiting(|one| is_reachable(one, &self.outlets, &self.channels))
    }
}

/// Whether an ACK could be sent now.
fn is_reachable(sender: &SenderId, outlets: &HashMap<SenderId, Outlet>, channels: &HashMap<Arc<str>, AckWhen>) -> bool {
    let has_address = matches!(channels.get(sender.channel()), Some(AckWhen::Delivered { address: Some(_), .. }));
    has_address || outlets.get(sender).is_some_and(Outlet::is_open)
}

/// One owed application ACK, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct OwedAck {
    /// By which it is discarded.
    pub entry: Sequence,
    /// The message.
    pub id: Sequence,
    /// The channel that took it.
    pub channel: Arc<str>,
    /// When the message was received.
    pub received_at: jiff::Timestamp,
    /// `delivering`: not every destination has it; `unsent`: due, and no connection of its sender is open; `sending`;
    /// `queued`: not looked at yet.
    pub state: &'static str,
    /// MSA-1, once it is known.
    pub code: Option<&'static str>,
}

/// What is done once a message is stored whose application ACK waits for its deliveries.
#[derive(Clone)]
pub(super) struct After {
    deliveries: Vec<Route>,
    timeout: Duration,
}

impl After {
    /// `None` where the answer does not wait for deliveries. Where an ACK is owed, the message is routed to its sender too.
    pub(super) fn of(channel: &Channel, asked: &Asked, received: &mut Received) -> Option<After> {
        let AckWhen::Delivered { timeout, .. } = channel.listener.ack else { return None };
        if !asked.wants_application() {
            return None;
        }
        let deliveries = received.routes.clone();
        received.ack = asked.accept_only().positive_codes().next();
        if !asked.waits_for_application() {
            received.routes.push(Route { destination: TO_SENDER.into(), lane: 0 });
        }
        Some(After { deliveries, timeout })
    }

    /// The message's deliveries by the order its entries are numbered in.
    fn pending(&self, channel: &Arc<str>, id: u64) -> Vec<(LaneId, u64)> {
        let lane = |route: &Route| LaneId {
            channel: channel.clone(),
            destination: route.destination.clone(),
            lane: route.lane,
        };
        self.deliveries.iter().map(lane).zip(id + 1..).collect()
    }
}

impl Owed {
    /// Follows nothing before `watch` runs or a message comes.
    pub fn new(store: Arc<dyn Store>, clock: Clock, metrics: Arc<Metrics>) -> Arc<Owed> {
        let (room, stopping) = (Notify::new(), CancellationToken::new());
        Arc::new(Owed { store, clock, metrics, inner: Mutex::default(), room, stopping })
    }

    /// The channels in force: how their messages are read, how long their ACKs are owed, and where to.
    pub fn set_channels(&self, channels: &[Arc<Channel>]) {
        let of = |channel: &Arc<Channel>| (channel.name.clone(), channel.listener.ack.clone());
        let mut inner = self.inner();
        inner.channels = channels.iter().map(of).collect();
        inner.readers = channels.iter().map(|channel| (channel.name.clone(), channel.clone())).collect();
    }

    /// A stored message as intake read it when it was answered: mended as far as its channel says.
    fn as_read(&self, channel: &Arc<str>, received: &Bytes) -> Bytes {
        let reader = self.inner().readers.get(channel).cloned();
        let mended = reader.and_then(|reader| reader.tolerance.mended(received, reader.listener.charset)?.ok());
        mended.map_or_else(|| received.clone(), |message| message.bytes())
    }

    /// Looks for what is owed, first at once, until `stop`: after a restart, and for what nobody told of.
    pub async fn watch(self: Arc<Owed>) {
        let mut ticks = interval(SWEEP);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                _ = ticks.tick() => self.sweep().await,
                () = self.room.notified() => self.adopt_waiting().await,
            }
        }
    }

    /// Ends the waits of those whose only answer is the application ACK: their senders repeat the messages.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    /// The answer to a message that is stored, `accepted` being what of it does not wait.
    pub(super) async fn answer(
        self: &Arc<Owed>,
        appended: &Appended,
        after: &After,
        message: Message<'_>,
        accepted: Answer,
    ) -> Answer {
        let Message { channel, header, asked, .. } = message;
        self.met(channel, header, message.outlet);
        if !asked.waits_for_application() {
            self.owe(appended, after, message);
            return accepted;
        }
        let outcome = tokio::select! {
            biased;
            outcome = timeout(after.timeout, self.outcome(appended, after, channel)) => outcome.ok().flatten(),
            () = self.stopping.cancelled() => None,
        };
        let Some(outcome) = outcome else {
            self.metrics.limits_hit.with_label_values(&[&**channel, "ack_timeout"]).inc();
            return Answer { close: true, channel: Some(channel.clone()), ..Answer::default() };
        };
        let stored = appended.stored();
        let application = super::reply::application(stored, &outcome, header, asked, self.clock.now());
        let mut answer = accepted;
        if let Some((message, code)) = application {
            answer.messages.push(message);
            answer.codes.push(code);
        }
        answer
    }

    /// Entries of all channels, or of one, after `cursor`.
    pub fn list(&self, channel: Option<&str>, cursor: Option<Sequence>, limit: usize) -> Vec<OwedAck> {
        let from = Sequence::from_u64(cursor.map_or(0, |cursor| cursor.as_u64().saturating_add(1)));
        let mut found = Vec::new();
        for lane in self.lanes().filter(|lane| channel.is_none_or(|channel| *lane.channel == *channel)) {
            let queued = self.store.queued(&lane, from, limit);
            found.extend(queued.into_iter().map(|queued| (lane.channel.clone(), queued)));
        }
        found.sort_by_key(|(_, queued)| queued.entry);
        found.truncate(limit);
        let inner = self.inner();
        let shown = |(channel, queued): (Arc<str>, crate::store::Queued)| {
            let followed = inner.book.get(queued.id.as_u64());
            let (state, code) = followed.map_or(("queued", None), Followed::shown);
            OwedAck { entry: queued.entry, id: queued.id, channel, received_at: queued.received_at, state, code }
        };
        found.into_iter().map(shown).collect()
    }

    /// Gives an owed ACK up, recorded as that.
    pub async fn discard(&self, entry: Sequence) -> Result<(), StoreError> {
        let holds = |lane: &LaneId| {
            let first = self.store.queued(lane, entry, 1);
            first.first().filter(|queued| queued.entry == entry).map(|queued| queued.id)
        };
        let found = self.lanes().find_map(|lane| holds(&lane).map(|id| (lane, id)));
        let (lane, id) = found.ok_or(StoreError::NotFound)?;
        self.give_up(&lane, entry, "discarded by a person").await?;
        self.inner().book.forget(id.as_u64());
        Ok(())
    }

    /// Sets the gauges of what is owed; called at each scrape.
    pub fn refresh_metrics(&self) {
        let now = self.clock.now();
        let mut shown = HashSet::new();
        for status in self.store.lanes().into_iter().filter(|status| status.lane.is_to_sender()) {
            let channel = status.lane.channel;
            let age = status.oldest.map_or(0, |oldest| now.duration_since(oldest).as_secs().max(0));
            self.metrics.owed_acks.with_label_values(&[&*channel]).set(status.waiting.try_into().unwrap_or(i64::MAX));
            self.metrics.oldest_owed_ack_seconds.with_label_values(&[&*channel]).set(age);
            shown.insert(channel);
        }
        let before = std::mem::replace(&mut self.inner().shown, shown);
        for gone in before.difference(&self.inner().shown) {
            // Not there is as good as removed.
            let _ = self.metrics.owed_acks.remove_label_values(&[&**gone]);
            let _ = self.metrics.oldest_owed_ack_seconds.remove_label_values(&[&**gone]);
        }
    }

    fn lanes(&self) -> impl Iterator<Item = LaneId> + use<> {
        let owed = self.store.lanes().into_iter().filter(|status| status.lane.is_to_sender() && status.waiting > 0);
        owed.map(|status| status.lane)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an entry still waits.
    fn waits(&self, lane: &LaneId, entry: u64) -> bool {
        let first = self.store.queued(lane, Sequence::from_u64(entry), 1);
        first.first().is_some_and(|queued| queued.entry.as_u64() == entry)
    }

    async fn sweep(self: &Arc<Owed>) {
        self.look_again();
        self.note_unknown().await;
        self.adopt_waiting().await;
        self.give_up_old().await;
        let due = {
            let mut inner = self.inner();
            inner.outlets.retain(|_, outlet| outlet.is_open());
            inner.book.with_due()
        };
        due.iter().for_each(|sender| self.send_due(sender));
    }

    /// Ends ACKs that were due for longer than they are owed.
    async fn give_up_old(self: &Arc<Owed>) {
        let old: Vec<(u64, LaneId, u64)> = {
            let inner = self.inner();
            let is_old = |followed: &Followed| {
                let keep = match inner.channels.get(&followed.channel) {
                    Some(AckWhen::Delivered { keep, .. }) => *keep,
                    _ => KEEP_OF_NOBODY,
                };
                let owing = followed.owing.as_ref().filter(|owing| !owing.sending)?;
                (owing.due.as_ref()?.age() > keep).then_some(owing.entry)
            };
            let old = inner.book.iter().filter_map(|(id, followed)| {
                Some((id, LaneId::to_sender(followed.channel.clone()), is_old(followed)?))
            });
            old.take(PAGE).collect()
        };
        for (id, lane, entry) in old {
            if self.give_up(&lane, Sequence::from_u64(entry), "its sender did not come back in time").await.is_ok() {
                info!(channel = %lane.channel, id, "an application ACK was owed too long and is given up");
                self.inner().book.forget(id);
                self.room.notify_one();
            }
        }
    }

    async fn give_up(&self, lane: &LaneId, entry: Sequence, reason: &str) -> Result<(), StoreError> {
        let settlement = crate::store::Settlement::Dead { reason: reason.to_owned(), attempts: 0 };
        self.store.settle(lane, entry, settlement).await?;
        self.metrics.owed_acks_given_up.with_label_values(&[&*lane.channel]).inc();
        self.store.discard_dead(entry).await
    }
}

/// A stored message and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Message<'m> {
    pub(super) channel: &'m Arc<str>,
    pub(super) header: &'m Header<'m>,
    pub(super) bytes: &'m [u8],
    pub(super) asked: &'m Asked,
    pub(super) outlet: Option<&'m Outlet>,
}

impl Message<'_> {
    fn owing(&self, entry: u64) -> Owing {
        let sender = SenderId::of(self.channel, self.header);
        Owing { entry, sender, header: header_line(self.bytes), asked: *self.asked, due: None, sending: false }
    }
}

impl Owed {
    /// Follows the message to its end; a repeat of one whose ACK was sent already gets it again.
    fn owe(self: &Arc<Owed>, appended: &Appended, after: &After, message: Message<'_>) {
        let stored = appended.stored();
        let id = stored.sequence().as_u64();
        let entry = id + 1 + after.deliveries.len() as u64;
        let lane = LaneId::to_sender(message.channel.clone());
        match appended {
            Appended::New(_) => {
                let pending = after.pending(message.channel, id);
                let owing = message.owing(entry);
                if !self.inner().admits(id, &owing.sender) {
                    self.metrics.limits_hit.with_label_values(&[&**message.channel, "owed_acks"]).inc();
                    warn_of_bound(message.channel);
                    return self.room.notify_one();
                }
                let new = Followed::new(message.channel.clone(), stored.clone());
                self.follow(Followed { pending, owing: Some(owing), ..new });
            }
            // Its ACK comes when it is due, by the connection its sender has now.
            Appended::Repeat(_) if stored.resends().is_none() && self.waits(&lane, entry) => {}
            Appended::Repeat(_) => {
                let (owed, channel, outlet) = (self.clone(), message.channel.clone(), message.outlet.cloned());
                let (appended, after, asked) = (appended.clone(), after.clone(), *message.asked);
                let header = header_line(message.bytes);
                tokio::spawn(async move {
                    // A retransmission has a control id of its own, and no entry by which an ACK to it could be owed for longer.
                    let outcome = timeout(after.timeout, owed.outcome(&appended, &after, &channel));
                    if let Ok(Some(outcome)) = outcome.await {
                        owed.tell_again(&channel, appended.stored(), &outcome, &header, &asked, outlet).await;
                    }
                });
            }
        }
    }
}

fn warn_of_bound(channel: &Arc<str>) {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Relaxed) {
        warn!(%channel, limit = FOLLOWED_MAX, "more application ACKs are owed than are followed at once: later ones wait in the store until deliveries of this channel end: see to its destinations and senders");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    use super::*;
    use crate::store::{Kept, MemoryStore, SearchKeys, Settlement, State, Summary};

    /// A message of a sender that is owed an ACK, not due yet.
    pub(super) fn followed(channel: &str, application: &str, id: u64) -> Followed {
        let summary = Summary {
            id: Sequence::from_u64(id),
            channel: channel.into(),
            received_at: jiff::Timestamp::UNIX_EPOCH,
            bytes: 0,
            ack: None,
            state: State::Waiting,
            deliveries: Vec::new(),
        };
        let kept = Kept { summary, message: bytes::Bytes::new(), events: Vec::new(), findings: Vec::new() };
        let line = format!("MSH|^~\\&|{application}|W|||||ORU^R01|{id}|P|2.6|||AL|AL\r");
        let (header, _) = Header::read(line.as_bytes());
        let owing = Owing {
            entry: id + 1,
            sender: SenderId::of(&channel.into(), &header),
            header: header_line(line.as_bytes()),
            asked: Asked::of(&header).0,
            due: None,
            sending: false,
        };
        Followed { owing: Some(owing), ..Followed::new(channel.into(), kept.stored()) }
    }

    pub(super) fn sender(channel: &str, application: &str) -> SenderId {
        let line = format!("MSH|^~\\&|{application}|W|\r");
        SenderId::of(&channel.into(), &Header::read(line.as_bytes()).0)
    }

    #[test]
    fn channels_that_answer_when_a_message_is_stored_have_no_share() {
        let delivered = AckWhen::Delivered { timeout: Duration::ZERO, keep: Duration::from_secs(60), address: None };
        let channels = [("dead", delivered.clone()), ("sound", delivered), ("plain", AckWhen::Stored)];
        let channels = channels.map(|(name, ack)| (Arc::from(name), ack)).into();
        let mut inner = Inner { channels, ..Inner::default() };
        let mut followed_count = 0;
        while inner.make_room(&sender("dead", "A")) {
            inner.book.follow(followed("dead", "A", followed_count * 10));
            followed_count += 1;
        }
        assert_eq!(followed_count as usize, FOLLOWED_MAX / 2);
        assert!(inner.make_room(&sender("sound", "A")));
    }

    #[tokio::test(start_paused = true)]
    async fn how_long_an_ack_was_due_before_a_restart_counts() {
        const KEEP: i64 = 3_600;
        for (due_for, left) in [(KEEP / 2, 1), (KEEP * 2, 0)] {
            let second = Arc::new(AtomicI64::new(1_800_000_000));
            let told = second.clone();
            let clock = Clock::of(move || jiff::Timestamp::from_second(told.load(Relaxed)).unwrap());
            let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
            let (ehr, sender) = (LaneId { destination: "ehr".into(), ..to_sender() }, to_sender());
            store.append(owed_message(clock.now())).await.unwrap();
            // Received long before: an ACK is due since its last delivery.
            second.fetch_add(KEEP * 3, Relaxed);
            let entry = store.queued(&ehr, Sequence::from_u64(0), 1)[0].entry;
            store.settle(&ehr, entry, Settlement::Dead { reason: "refused".into(), attempts: 1 }).await.unwrap();
            second.fetch_add(due_for, Relaxed);
            let owed = Owed::new(store.clone(), clock, Arc::new(Metrics::new().unwrap()));
            let (timeout, keep) = (Duration::ZERO, Duration::from_secs(KEEP as u64));
            owed.inner().channels = [("pumps".into(), AckWhen::Delivered { timeout, keep, address: None })].into();
            owed.sweep().await;
            assert_eq!(store.queued(&sender, Sequence::from_u64(0), 10).len(), left, "due for {due_for} s");
        }
    }

    fn to_sender() -> LaneId {
        LaneId::to_sender("pumps".into())
    }

    fn owed_message(at: jiff::Timestamp) -> Received {
        let message = bytes::Bytes::from_static(b"MSH|^~\\&|GW|W|||20260314||ORU^R01|1|P|2.6|||AL|AL\r");
        let routes = ["ehr", TO_SENDER].map(|destination| Route { destination: destination.into(), lane: 0 });
        Received {
            channel: "pumps".into(),
            at,
            message,
            routes: routes.into(),
            repeat: None,
            ack: None,
            keys: SearchKeys::default(),
            findings: Vec::new(),
        }
    }

    #[test]
    fn a_new_message_waits_behind_those_of_its_sender_that_wait() {
        let mut inner = Inner::default();
        let to = sender("pumps", "GW");
        inner.book.wait(10, &to);
        assert!(!inner.admits(20, &to));
        assert_eq!(inner.book.next_waiting(&to), Some(10));
        assert!(inner.admits(30, &sender("pumps", "OTHER")));
    }
}
