//! Application ACKs that come after delivery: `ack = "delivered"`.
//!
//! One that follows an accept ACK is owed to its sender: an entry in the store ([`TO_SENDER`]) made with the message, ended when
//! the ACK was given to a connection of that sender. One that is the only answer is waited for instead, and after
//! `ack_timeout` the connection ends without an answer: the message is stored, so its sender's repeat is a repeat, stored
//! once, answered by what became of the first.
//!
//! What must never happen: AA before every destination took the message; an owed ACK forgotten over a crash; a delivery, or
//! another message's answer, that waits for an ACK to be sent. What is followed in memory is bounded; the store has the rest.

mod followed;
mod sending;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, interval, timeout};
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
    stopping: CancellationToken,
}

#[derive(Default)]
struct Inner {
    /// By message.
    followed: BTreeMap<u64, Followed>,
    /// How many by channel, those gone since the last sweep included.
    loads: HashMap<Arc<str>, Load>,
    senders: HashMap<SenderId, Outlet>,
    channels: HashMap<Arc<str>, AckWhen>,
    /// Channels whose `ack_address` is being called.
    calling: HashSet<Arc<str>>,
    /// Channels shown in the metrics.
    shown: HashSet<Arc<str>>,
}

/// Messages followed, and bytes of their headers.
#[derive(Default)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, followed: &Followed) {
        self.messages += 1;
        self.bytes += followed.bytes();
    }
}

impl Inner {
    /// What else a channel owes waits in the store. One whose destination is away leaves the other channels their share.
    fn is_at_bound(&self, channel: &str) -> bool {
        let answering = self.channels.iter().filter(|(_, ack)| matches!(ack, AckWhen::Delivered { .. }));
        let others = answering.map(|(name, _)| name).chain(self.loads.keys()).filter(|name| &***name != channel);
        let shares = 1 + others.collect::<HashSet<_>>().len();
        let load = self.loads.get(channel);
        load.is_some_and(|load| load.messages >= FOLLOWED_MAX / shares || load.bytes >= FOLLOWED_BYTES_MAX / shares)
    }
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
        Arc::new(Owed { store, clock, metrics, inner: Mutex::default(), stopping: CancellationToken::new() })
    }

    /// The channels in force: how long their ACKs are owed, and where to.
    pub fn set_channels(&self, channels: &[Arc<Channel>]) {
        let of = |channel: &Arc<Channel>| (channel.name.clone(), channel.listener.ack.clone());
        self.inner().channels = channels.iter().map(of).collect();
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
        if let Some(outlet) = message.outlet {
            self.met(SenderId::of(channel, header), outlet);
        }
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
            let followed = inner.followed.get(&queued.id.as_u64());
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
        self.inner().followed.remove(&id.as_u64());
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
        self.adopt_all().await;
        self.give_up_old().await;
        let ready: Vec<u64> = {
            let mut inner = self.inner();
            inner.senders.retain(|_, outlet| outlet.is_open());
            inner.followed.iter().filter(|(_, followed)| followed.is_due()).map(|(id, _)| *id).collect()
        };
        ready.into_iter().for_each(|id| self.dispatch(id));
    }

    /// Ends ACKs that were due for longer than they are owed.
    async fn give_up_old(self: &Arc<Owed>) {
        let now = Instant::now();
        let old: Vec<(u64, LaneId, u64)> = {
            let inner = self.inner();
            let is_old = |followed: &Followed| {
                let keep = match inner.channels.get(&followed.channel) {
                    Some(AckWhen::Delivered { keep, .. }) => *keep,
                    _ => KEEP_OF_NOBODY,
                };
                let owing = followed.owing.as_ref().filter(|owing| !owing.sending)?;
                let since = owing.due.as_ref()?.1;
                (now.duration_since(since) > keep).then_some(owing.entry)
            };
            let old = inner.followed.iter().filter_map(|(id, followed)| {
                Some((*id, LaneId::to_sender(followed.channel.clone()), is_old(followed)?))
            });
            old.take(PAGE).collect()
        };
        for (id, lane, entry) in old {
            if self.give_up(&lane, Sequence::from_u64(entry), "its sender did not come back in time").await.is_ok() {
                info!(channel = %lane.channel, id, "an application ACK was owed too long and is given up");
                self.inner().followed.remove(&id);
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
            Appended::New(_) if self.inner().is_at_bound(message.channel) => {
                warn_of_bound(message.channel);
            }
            Appended::New(_) => {
                let pending = after.pending(message.channel, id);
                let owing = Some(message.owing(entry));
                self.follow(Followed { pending, owing, ..Followed::new(message.channel.clone(), stored.clone()) });
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_channel_that_owes_without_end_leaves_the_others_their_share() {
        let delivered = AckWhen::Delivered { timeout: Duration::ZERO, keep: Duration::from_secs(60), address: None };
        let channels = [("dead", delivered.clone()), ("sound", delivered), ("plain", AckWhen::Stored)];
        let channels = channels.map(|(name, ack)| (Arc::from(name), ack)).into();
        let mut inner = Inner { channels, ..Inner::default() };
        inner.loads.insert("dead".into(), Load { messages: FOLLOWED_MAX / 2 - 1, bytes: 0 });
        assert!(!inner.is_at_bound("dead"), "the channel that answers when a message is stored has no share");
        inner.loads.insert("dead".into(), Load { messages: FOLLOWED_MAX / 2, bytes: 0 });
        assert!(inner.is_at_bound("dead") && !inner.is_at_bound("sound"));
        inner.loads.insert("sound".into(), Load { messages: 1, bytes: FOLLOWED_BYTES_MAX / 2 });
        assert!(inner.is_at_bound("sound"), "a few messages with headers of megabytes are enough");
    }
}
