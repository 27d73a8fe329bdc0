//! Intake: frame → stored → acknowledged. Which channel takes a message, what is wrong with it, which answer is due.
//!
//! A positive answer leaves only for a message that is durable, and each frame is answered as its sender asked, once
//! and in order. What cannot be stored is refused or left unanswered, so that its sender still has it. Nothing of a
//! message's content is logged, counted or told back but its control id.

mod batch;
mod check;
mod content;
mod hold;
mod owed;
mod preview;
mod refusal;
mod reply;
mod senders;
mod tolerance;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, ready},
};
use jiff::Timestamp;
use tracing::{debug, error, warn};

use crate::{
    channel::{Channel, FilterError},
    clock::Clock,
    devices::Devices,
    hl7::{Header, Message, batch::memory as batch_memory},
    metrics::Metrics,
    mllp::{
        Oddities,
        server::{Answer, FrameHandler, Outlet},
    },
    pcd::{self, tolerance::Quirks},
    sabotage::{self, Fault},
    store::{Appended, Received, SearchKeys, Store, StoreError, Stored},
};
pub use content::Conformity;
use hold::{Turn, Turns};
use owed::After;
pub use owed::{Owed, OwedAck};
pub use preview::{Preview, Refused};
use refusal::Refusal;
use reply::Asked;
pub use senders::{BrokenRule, MetQuirk, SenderConformance, Senders};
use tolerance::BetweenFrames;

/// Between two tries of a held message.
const HOLD_RETRY_AFTER: Duration = Duration::from_millis(100);
/// A fault that comes with every message is logged again after so long without it.
const QUIET: Duration = Duration::from_secs(60);

/// The intake of one listening address.
pub struct Intake {
    shared: Arc<Shared>,
    turns: Arc<Turns>,
}

struct Shared {
    channels: ArcSwap<Vec<Arc<Channel>>>,
    /// Held from a look at the channels until the store has what was routed by them.
    routing: RwLock<()>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    devices: Arc<Devices>,
    owed: Arc<Owed>,
    open: Mutex<HashMap<SocketAddr, Open>>,
    conformity: ArcSwap<Conformity>,
    between: BetweenFrames,
    hold_when_full: Duration,
    /// What a batch may take of memory.
    batch_bytes_max: AtomicUsize,
    /// Negative answers made, for their own control ids.
    refused: AtomicU64,
    /// When a fault was last seen, by channel and fault.
    seen: Mutex<HashMap<(Arc<str>, &'static str), Instant>>,
}

/// An open connection.
struct Open {
    /// For what it may be owed later.
    outlet: Outlet,
    /// Whom its certificate lets it send as; none: anyone.
    sends_as: Option<Arc<[String]>>,
}

/// A message given to the store.
struct Taken {
    channel: Arc<str>,
    asked: Asked,
    /// The message as it is read, for its answer.
    head: Bytes,
    /// Where the application ACK waits for the deliveries.
    after: Option<After>,
    outcome: BoxFuture<'static, Result<Appended, StoreError>>,
}

impl Taken {
    /// Looks whether the store has failed for it already, before the next frame comes.
    fn looked_at(mut self, turn: &Turn) -> Taken {
        if let Some(outcome) = (&mut self.outcome).now_or_never() {
            if outcome.as_ref().is_err_and(closes) {
                turn.fail();
            }
            self.outcome = Box::pin(ready(outcome));
        }
        self
    }
}

/// After such a fault the sender is to repeat all that has no answer.
fn closes(fault: &StoreError) -> bool {
    !matches!(fault, StoreError::TooLarge | StoreError::Full)
}

/// Not stored, and no answer: its sender repeats it over a new connection.
fn unstored() -> Answer {
    Answer { close: true, ..Answer::default() }
}

/// A frame that is taken, as the store gets it.
struct Judged {
    received: Received,
    asked: Asked,
    head: Bytes,
    after: Option<After>,
}

/// A frame that is not taken.
struct Declined {
    channel: Arc<str>,
    asked: Asked,
    /// `None` for an ACK, which is never answered.
    refusal: Option<Refusal>,
}

impl Intake {
    /// `channels` share the address, in order; the first whose `accept` matches takes the message. One that finds the store
    /// full is held for `hold_when_full`, and refused then.
    pub fn new(
        channels: Vec<Arc<Channel>>,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        devices: Arc<Devices>,
        owed: Arc<Owed>,
        hold_when_full: Duration,
    ) -> Arc<Intake> {
        let shared = Shared {
            channels: ArcSwap::from_pointee(channels),
            routing: RwLock::default(),
            store,
            clock,
            metrics,
            devices,
            owed,
            open: Mutex::default(),
            conformity: ArcSwap::default(),
            between: BetweenFrames::default(),
            hold_when_full,
            batch_bytes_max: AtomicUsize::new(usize::MAX),
            refused: AtomicU64::new(0),
            seen: Mutex::default(),
        };
        Arc::new(Intake { shared: Arc::new(shared), turns: Arc::default() })
    }

    /// Judges by this from the next message on, and notes there what each sender breaks; until then by the built-in codes.
    pub fn set_conformity(&self, conformity: Arc<Conformity>) {
        self.shared.conformity.store(conformity);
    }

    /// Refuses batches that take more memory, which is that of small messages rather than their bytes.
    pub fn set_batch_bytes_max(&self, bytes: usize) {
        self.shared.batch_bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// Replaces the channels from the next message on; connections stay. When this returns the store has been given
    /// everything that was routed by those before.
    pub fn set_channels(&self, channels: Vec<Arc<Channel>>) {
        self.shared.channels.store(Arc::new(channels));
        drop(self.shared.routing.write().unwrap_or_else(PoisonError::into_inner));
    }
}

impl FrameHandler for Intake {
    fn frame(&self, peer: SocketAddr, frame: Bytes, _received: Instant) -> BoxFuture<'static, Answer> {
        let (shared, mut turn) = (self.shared.clone(), self.turns.begin(peer, self.shared.store.failures()));
        let at = shared.clock.now();
        let (between, sends_as) = (shared.between.take(peer), shared.sends_as(peer));
        let deadline = tokio::time::Instant::now() + shared.hold_when_full;
        if turn.is_behind_failed() {
            return Box::pin(ready(unstored()));
        }
        if shared.is_batch(&frame) {
            return shared.batch(frame, peer, at, deadline, turn);
        }
        if turn.is_deferred() {
            return Box::pin(async move {
                if turn.is_behind_failed() {
                    return unstored();
                }
                let taken = shared.take(&frame, at, Some(between), sends_as.as_deref());
                turn.handed_on();
                match taken {
                    Ok(taken) => shared.conclude(taken, peer, frame, at, deadline, turn).await,
                    Err(declined) => shared.decline(&declined, &frame),
                }
            });
        }
        match shared.take(&frame, at, Some(between), sends_as.as_deref()) {
            Ok(taken) => {
                let taken = taken.looked_at(&turn);
                Box::pin(async move { shared.conclude(taken, peer, frame, at, deadline, turn).await })
            }
            Err(declined) => Box::pin(ready(shared.decline(&declined, &frame))),
        }
    }

    fn weight(&self, frame: &[u8]) -> usize {
        if self.shared.is_batch(frame) { batch_memory(frame) } else { frame.len() }
    }

    fn opened(&self, peer: SocketAddr, outlet: Outlet, sends_as: Option<Arc<[String]>>) {
        self.shared.open().insert(peer, Open { outlet, sends_as });
    }

    fn oddities(&self, peer: SocketAddr, oddities: &Oddities) {
        self.shared.between.note(peer, oddities);
    }

    fn closed(&self, peer: SocketAddr) {
        self.shared.between.take(peer);
        let mut open = self.shared.open();
        // Else it is a newer connection's.
        if open.get(&peer).is_some_and(|open| !open.outlet.is_open()) {
            open.remove(&peer);
        }
    }

    fn oversized(&self, _peer: SocketAddr, head: Bytes) -> Answer {
        let (header, unreadable) = Header::read(&head);
        if unreadable.is_some() {
            return Answer { close: true, ..Answer::default() };
        }
        let answer = self.shared.refuse(&self.label(), &Refusal::oversized(), &Asked::of(&header).0, &header);
        Answer { close: true, ..answer }
    }

    fn label(&self) -> Arc<str> {
        self.shared.first_channel()
    }

    fn answered(&self, answer: &Answer, received: Instant) {
        let Some(channel) = &answer.channel else { return };
        for code in &answer.codes {
            self.shared.metrics.acks_sent.with_label_values(&[&**channel, code.as_str()]).inc();
        }
        if !answer.codes.is_empty() {
            self.shared.metrics.ack_seconds.with_label_values(&[channel]).observe(received.elapsed().as_secs_f64());
        }
    }
}

impl Shared {
    /// Everything up to the store, which has the message in its order when this returns. `between` is what was met before
    /// the frame; `None` for another try of the same frame, which is not counted again. `sends_as` as in [`Open`].
    fn take(
        &self,
        frame: &Bytes,
        at: Timestamp,
        between: Option<Quirks>,
        sends_as: Option<&[String]>,
    ) -> Result<Taken, Box<Declined>> {
        let _routing = self.routing.read().unwrap_or_else(PoisonError::into_inner);
        let judged = self.judge(frame, at, between, sends_as);
        if between.is_some() {
            let channel = judged.as_ref().map_or_else(|declined| &declined.channel, |judged| &judged.received.channel);
            self.metrics.messages_received.with_label_values(&[channel]).inc();
        }
        let Judged { received, asked, head, after } = judged?;
        Ok(Taken { channel: received.channel.clone(), asked, head, after, outcome: self.store.append(received) })
    }

    /// The frame as the store takes it, or why it does not.
    fn judge(
        &self,
        frame: &Bytes,
        at: Timestamp,
        between: Option<Quirks>,
        sends_as: Option<&[String]>,
    ) -> Result<Judged, Box<Declined>> {
        let mended = self.mended(frame);
        let bytes = mended.as_ref().map_or_else(|| frame.clone(), Message::bytes);
        let (header, unreadable) = Header::read(&bytes);
        let (asked, bad_condition) = Asked::of(&header);
        let declined = |channel, refusal| Box::new(Declined { channel, asked, refusal });
        let refused = |refusal| declined(self.first_channel(), Some(refusal));

        if let Some(error) = unreadable {
            return Err(refused(Refusal::unparsed(error)));
        }
        if header.component(9, 1) == b"ACK" {
            return Err(declined(self.first_channel(), None));
        }
        check::header(&header).map_err(refused)?;
        bad_condition.map_or(Ok(()), Err).map_err(refused)?;
        check::size(frame, &header).map_err(refused)?;
        let message = mended.map_or_else(|| Message::parse(frame.clone()), Ok);
        let message = message.map_err(Refusal::unparsed).map_err(refused)?;
        sends_as.map_or(Ok(()), |names| check::sender(&message, names)).map_err(refused)?;
        let channels = self.channels.load();
        let channel = self.channel_for(&channels, &message, &header).map_err(|refusal| {
            if let (Some(_), Some(first)) = (between, channels.first()) {
                self.count_refused(first, &message, &refusal, at);
            }
            refused(refusal)
        })?;
        let received = self.examine(channel, message, &header, &asked, at, between);
        let mut received = received.map_err(|refusal| declined(channel.name.clone(), Some(refusal)))?;
        let after = After::of(channel, &asked, &mut received);
        Ok(Judged { received, asked, head: bytes.clone(), after })
    }

    /// The first channel that accepts the message.
    fn channel_for<'c>(
        &self,
        channels: &'c [Arc<Channel>],
        message: &Message,
        header: &Header<'_>,
    ) -> Result<&'c Arc<Channel>, Refusal> {
        let reads = |channel: &&Arc<Channel>| !message.is_repaired() || tolerance::mends(channel, message);
        for channel in channels.iter().filter(reads) {
            if channel.accepts(message).map_err(|error| self.filter_failed(&error))? {
                return Ok(channel);
            }
        }
        // A filter reads nothing in text it cannot decode: then that is the fault.
        if !header.field(18).is_empty() {
            message.check_text().map_err(|error| Refusal::charset(error, message))?;
        }
        Err(check::unrouted(header))
    }

    /// The message as the store takes it, if nothing is wrong with it by the channel's rules.
    fn examine(
        &self,
        channel: &Channel,
        message: Message,
        header: &Header<'_>,
        asked: &Asked,
        at: Timestamp,
        between: Option<Quirks>,
    ) -> Result<Received, Refusal> {
        let (listener, first) = (&channel.listener, between.is_some());
        check::listener(&message, header, listener)?;
        let message = message.read_as(listener.charset, listener.charset_default).map_err(Refusal::unparsed)?;
        let message = self.tolerated(channel, message, at, between)?;
        check::text(&message).inspect_err(|refusal| {
            if first {
                self.count_refused(channel, &message, refusal, at);
            }
        })?;
        let devices = channel.device.identification.device_keys(&message);
        // Before anything refuses the message: a device that is refused is not silent.
        let is_device = |device: &&String| first && channel.device.identification.is_device(&message, device);
        if let Some(device) = devices.first().filter(is_device) {
            self.devices.heard(device, channel, &message, at);
        }
        let findings = self.conformance(channel, &message, at, first)?;
        let routes = channel.route_from(&message, &devices).map_err(|error| self.filter_failed(&error))?;
        let bytes = |keys: Vec<String>| keys.into_iter().map(String::into_bytes);
        let mark = pcd::cgm::may_tell(message.as_bytes()).then(|| pcd::cgm::MARK.to_vec());
        if first {
            self.associated(channel, &message);
        }
        Ok(Received {
            channel: channel.name.clone(),
            at,
            routes,
            repeat: channel.repeat_check(&message),
            ack: asked.positive_codes().next(),
            findings,
            keys: SearchKeys {
                control_id: header.field(10).to_vec(),
                patient: bytes(pcd::patient_keys(&message)).collect(),
                device: bytes(devices).chain(mark).collect(),
            },
            message: message.received(),
        })
    }

    /// Counts a message whose observations are of no patient it identifies, or were of another, which a person must know of.
    fn associated(&self, channel: &Channel, message: &Message) {
        if let Some(whose) = pcd::association(message).filter(|whose| *whose != pcd::Association::Patient) {
            self.metrics.unassociated.with_label_values(&[&*channel.name, whose.label()]).inc();
        }
        let mut results = message.segments().filter(|segment| segment.id() == "OBX");
        if results.any(|obx| obx.field(11).component(1).raw() == b"W") {
            self.metrics.wrong_patient.with_label_values(&[&*channel.name]).inc();
            if self.is_news(&channel.name, "wrong_patient") {
                warn!(channel = %channel.name, "observations are withdrawn that were another patient's (OBX-11 W): have both records looked at");
            }
        }
    }

    /// Waits for the store and answers; holds the message while the store is full, up to `deadline`, which also those keep
    /// that wait behind it.
    async fn conclude(
        &self,
        taken: Taken,
        peer: SocketAddr,
        frame: Bytes,
        at: Timestamp,
        deadline: tokio::time::Instant,
        mut turn: Turn,
    ) -> Answer {
        let Taken { channel, asked, head, mut after, mut outcome } = taken;
        let (header, _) = Header::read(&head);
        loop {
            let fault = match (outcome.await, &after) {
                (Ok(appended), None) => {
                    self.sender_heard(&channel, &header, peer);
                    return self.accept(&appended, &channel, &header, &asked);
                }
                (Ok(appended), Some(after)) => {
                    let outlet = self.outlet(peer);
                    let (outlet, bytes) = (outlet.as_ref(), &*head);
                    let message = owed::Message { channel: &channel, header: &header, bytes, asked: &asked, outlet };
                    return self.accept_and_owe(&appended, after, message).await;
                }
                (Err(fault), _) => fault,
            };
            let again = fault == StoreError::Full && turn.hold() && tokio::time::Instant::now() < deadline;
            if !again {
                if closes(&fault) {
                    turn.fail();
                }
                return self.not_stored(&fault, &channel, &header, &asked);
            }
            self.room_or(deadline).await;
            outcome = match self.take(&frame, at, None, None) {
                Ok(taken) => {
                    after = taken.after;
                    taken.outcome
                }
                Err(declined) => return self.decline(&declined, &frame),
            };
        }
    }

    /// Until the store is not full any more, or at most to `deadline`.
    async fn room_or(&self, deadline: tokio::time::Instant) {
        loop {
            let next = tokio::time::Instant::now() + HOLD_RETRY_AFTER;
            tokio::time::sleep_until(next.min(deadline)).await;
            if next >= deadline || self.store.health() != Err(StoreError::Full) {
                return;
            }
        }
    }

    /// What is owed to the sender of a message that is owed nothing itself goes by its connection too.
    fn sender_heard(&self, channel: &Arc<str>, header: &Header<'_>, peer: SocketAddr) {
        if self.owed.owes() {
            let outlet = self.outlet(peer);
            self.owed.met(channel, header, outlet.as_ref());
        }
    }

    /// The answer where the application ACK waits for the deliveries.
    async fn accept_and_owe(&self, appended: &Appended, after: &After, message: owed::Message<'_>) -> Answer {
        let accepted = self.accept(appended, message.channel, message.header, &message.asked.accept_only());
        self.owed.answer(appended, after, message, accepted).await
    }

    fn accept(&self, appended: &Appended, channel: &Arc<str>, header: &Header<'_>, asked: &Asked) -> Answer {
        let stored: &Stored = match appended {
            Appended::New(stored) => {
                if stored.reused() {
                    self.control_id_reused(channel);
                }
                if stored.resends().is_some() {
                    self.metrics.retransmissions.with_label_values(&[channel]).inc();
                }
                stored
            }
            Appended::Repeat(first) => {
                let counter = match first.resends() {
                    Some(_) => &self.metrics.retransmissions,
                    None => &self.metrics.repeats,
                };
                counter.with_label_values(&[channel]).inc();
                first
            }
        };
        let positive = reply::positive(stored, header, asked);
        let positive = if sabotage::strikes(Fault::WrongMsa2) { reply::for_another(positive) } else { positive };
        Answer { channel: Some(channel.clone()), ..positive }
    }

    fn not_stored(&self, fault: &StoreError, channel: &Arc<str>, header: &Header<'_>, asked: &Asked) -> Answer {
        let refusal = match fault {
            StoreError::TooLarge => Refusal::error("store", 104, "", "the message is larger than the store takes"),
            _ => Refusal::reject("store", 207, "", "the message could not be stored; send it again"),
        };
        let close = closes(fault);
        if close && *fault != StoreError::Closed && self.is_news(channel, "store") {
            error!(%channel, %fault, "messages are not taken");
        }
        Answer { close, ..self.refuse(channel, &refusal, asked, header) }
    }

    fn decline(&self, declined: &Declined, frame: &Bytes) -> Answer {
        let Declined { channel, asked, refusal } = declined;
        let Some(refusal) = refusal else {
            self.metrics.bad_frames.with_label_values(&[&**channel, "ack"]).inc();
            return Answer::default();
        };
        self.refuse(channel, refusal, asked, &Header::read(&self.head(frame)).0)
    }

    fn refuse(&self, channel: &Arc<str>, refusal: &Refusal, asked: &Asked, header: &Header<'_>) -> Answer {
        let at = self.clock.now();
        self.metrics.bad_frames.with_label_values(&[&**channel, refusal.reason]).inc();
        let (reason, code, place) = (refusal.reason, refusal.fault.code, &refusal.fault.location);
        debug!(%channel, reason, code, place, "message refused");
        if self.is_news(channel, reason) {
            warn!(%channel, reason, code, place, "messages are refused; the sender's operator must mend them (its ACK says why)");
        }
        let number = self.refused.fetch_add(1, Ordering::Relaxed) & 0xFF_FFFF;
        let own_control_id = format!("N{:x}{number:06x}", at.as_millisecond());
        Answer { channel: Some(channel.clone()), ..reply::negative(refusal, header, asked, at, &own_control_id) }
    }

    fn filter_failed(&self, error: &FilterError) -> Refusal {
        if self.is_news(&error.channel, "filter") {
            warn!(channel = %error.channel, %error, "a filter failed: mend the channel; its messages are refused");
        }
        Refusal::error("filter", 207, "", "the listener's routing failed on this message; its operator must mend it")
    }

    fn control_id_reused(&self, channel: &Arc<str>) {
        self.metrics.control_id_reuse.with_label_values(&[channel]).inc();
        if self.is_news(channel, "control_id_reuse") {
            warn!(%channel, "control ids used again for other content: stored as new; a device counter was reset");
        }
    }

    /// Whether a fault that may come with every message is due to be logged.
    fn is_news(&self, channel: &Arc<str>, fault: &'static str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let last = seen.insert((channel.clone(), fault), now);
        last.is_none_or(|last| now.duration_since(last) > QUIET)
    }

    fn outlet(&self, peer: SocketAddr) -> Option<Outlet> {
        self.open().get(&peer).map(|open| open.outlet.clone())
    }

    fn sends_as(&self, peer: SocketAddr) -> Option<Arc<[String]>> {
        self.open().get(&peer)?.sends_as.clone()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SocketAddr, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_channel(&self) -> Arc<str> {
        self.channels.load().first().map_or_else(|| "".into(), |channel| channel.name.clone())
    }
}

#[cfg(test)]
mod tests;
