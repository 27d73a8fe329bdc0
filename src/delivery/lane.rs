//! One lane's task.
//!
//! ```text
//!            ┌──────────── settled ◀── accepted, parked ──────────┐
//!            ▼                                                    │
//!  permitted ──▶ next ──▶ translate ──▶ send ──▶ verdict ─────────┤
//!      ▲  (not paused,                            │               │
//!      │   configured)        unavailable,        │ rejected,     │
//!      │                      ambiguous           │ on_reject =   │ park by
//!      └── time, retry, ◀── back-off ◀────────────┤ "hold"        │ the operator
//!          new configuration   │                  └─────▶ held ───┤
//!                              └──────────────────────────────────┘
//! ```
//!
//! What must never happen: going to the next message before the store has settled this one, or more than `resend_window` allows. The
//! head is asked of the store again for each attempt, so a wait holds no message and a mended configuration applies at once.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio::{select, sync::watch, time::sleep};

#[cfg(feature = "sabotage")]
use super::sabotaged::sabotaged;
use super::{
    backoff::Backoff,
    board::Board,
    gate::Gate,
    service::{Failure, Service},
    together::{Ready, Together},
    unrecorded::Unrecorded,
};
use crate::{
    channel::OnReject,
    clock::Clock,
    destination::{Destination, Outgoing, Sender, Taken, Verdict},
    hl7::Header,
    sabotage::{self, CrashPoint},
    store::{Attempt, LaneId, Receipt, Sequence, Settlement, Store, StoreError, Waiting},
    translate::{EpisodeChange, Format, Translated, Unmapped, is_unreadable_note},
};

/// Begins the receipt's answer where the message has nothing for this destination.
const NOT_SENT: &str = "nothing to send";
/// In the timeline of a message sent again.
const POSSIBLE_REPEAT: &str = "sent as a possible repeat: an earlier send of it may have been taken";
/// In the timeline of a message that is refused for a part of it.
const PARTLY_TAKEN: &str = "a part of it was taken";
/// Sends of one message that panicked in a row: then it is refused, since no attempt will end otherwise.
const PANICS_MAX: u32 = 5;

/// Between tries while the store is without space or failed.
pub(super) const STORE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What a destination's lanes are told.
#[derive(Clone, Default)]
pub(super) struct Control {
    /// `None`: not configured, so its messages wait.
    pub(super) service: Option<Arc<Service>>,
    pub(super) paused: bool,
    /// While the way to lanes changes.
    pub(super) gate: Option<Arc<Gate>>,
    /// Take nothing more.
    pub(super) stopping: bool,
    /// Wait no longer for an answer.
    pub(super) cut: bool,
    /// Times the operator asked to try again now.
    pub(super) retries: u64,
    /// Times the operator asked to park what is held.
    pub(super) parks: u64,
    /// Times the operator asked to park what no attempt gets through, while nothing is held.
    pub(super) parks_waiting: u64,
}

/// One lane.
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) store: Arc<dyn Store>,
    clock: Clock,
    pub(super) control: watch::Receiver<Control>,
    pub(super) board: Arc<Board>,
    sender: Option<LaneSender>,
    /// What the sender before took of the message outstanding.
    taken: Option<Taken>,
    pub(super) head: Head,
    pub(super) together: Together,
    pub(super) unrecorded: Unrecorded,
    pub(super) backoff: Backoff,
    /// It has met its first message.
    pub(super) has_begun: bool,
}

struct LaneSender {
    receiver: Arc<dyn Destination>,
    sender: Box<dyn Sender>,
}

/// What is remembered of the head between attempts.
#[derive(Default)]
pub(super) struct Head {
    entry: Option<Sequence>,
    attempts: u32,
    ambiguous: bool,
    /// That it was sent as a possible repeat is told.
    repeated: bool,
    /// Times its receiver refused it.
    refusals: u32,
    /// Sends that panicked.
    panics: u32,
    /// As last noted in the message's timeline.
    noted: Option<String>,
    /// `Control::parks_waiting` when its first attempt failed: only what was seen to be stuck is parked.
    parks_waiting: Option<u64>,
}

/// What the lane does next.
pub(super) enum Next {
    Go,
    /// The engine stops: the head waits as it is.
    Leave,
    /// With what the receiver asked for, and the message no attempt got through, if it is for one.
    Wait(Option<Duration>, Option<Stuck>),
    Hold(Stuck),
    End(StoreError),
}

/// A message at which its lane stands, and why.
pub(super) struct Stuck {
    entry: Sequence,
    id: Sequence,
    reason: String,
}

impl Lane {
    pub(super) fn new(
        id: LaneId,
        store: Arc<dyn Store>,
        clock: Clock,
        control: watch::Receiver<Control>,
        board: Arc<Board>,
    ) -> Lane {
        let (head, together, backoff) = (Head::default(), Together::default(), Backoff::default());
        let unrecorded = Unrecorded::default();
        let (sender, taken, has_begun) = (None, None, false);
        Lane { id, store, clock, control, board, sender, taken, head, together, unrecorded, backoff, has_begun }
    }

    /// Delivers until the engine stops; while the store is failed it waits.
    pub(super) async fn run(self) {
        let (board, lane) = (self.board.clone(), self.id.lane);
        match AssertUnwindSafe(self.deliver_all()).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => board.ended(lane, &error.to_string()),
            Err(_) => board.ended(lane, "a fault of the engine: report it"),
        }
    }

    async fn deliver_all(mut self) -> Result<(), StoreError> {
        let mut unread = false;
        while let Some(service) = self.permitted().await {
            if let Some(gate) = &self.control.borrow().gate {
                gate.left(self.id.lane);
            }
            // Taken before the attempt: an operator who asks while it runs is heard after it.
            let retries = self.control.borrow().retries;
            let waiting = match self.behind_unrecorded() {
                Some(waiting) => Ok(waiting),
                None => {
                    if let Next::End(error) = self.recorded(0).await {
                        return ended(error);
                    }
                    select! {
                        biased;
                        changed = self.control.changed() => match changed {
                            Ok(()) => continue,
                            Err(_) => return Ok(()),
                        },
                        waiting = self.store.next(&self.id) => waiting,
                    }
                }
            };
            let before = std::mem::replace(&mut unread, waiting.is_err());
            let next = match waiting {
                Ok(waiting) => {
                    if !self.passes(waiting.entry).await {
                        continue;
                    }
                    if before {
                        self.board.released(self.id.lane);
                    }
                    self.deliver(&service, waiting).await
                }
                Err(error) => self.store_refused(error),
            };
            let next = match next {
                Next::Hold(stuck) => self.hold(&service, retries, stuck).await,
                Next::Wait(asked, stuck) => self.back_off(&service, retries, asked, stuck).await,
                next => next,
            };
            if let Next::End(error) = next {
                return ended(error);
            }
        }
        match self.recorded(0).await {
            Next::End(error) => ended(error),
            _ => Ok(()),
        }
    }

    /// The service in force, once there is one and it is not paused; `None` when the engine stops. A connection to a
    /// receiver that is no longer the one configured is closed at once, not at the next message.
    async fn permitted(&mut self) -> Option<Arc<Service>> {
        loop {
            let Control { service, paused, stopping, .. } = self.control.borrow_and_update().clone();
            if stopping {
                return None;
            }
            let in_use = |kept: &LaneSender| service.as_ref().is_some_and(|s| Arc::ptr_eq(&s.receiver, &kept.receiver));
            if let Some(replaced) = self.sender.take_if(|kept| !in_use(kept)) {
                self.taken = replaced.sender.taken();
            }
            if let Some(service) = service.filter(|_| !paused) {
                return Some(service);
            }
            self.control.changed().await.ok()?;
        }
    }

    /// Waits for the lanes whose messages go first, while the way to lanes changes; false where something else changed
    /// meanwhile.
    async fn passes(&mut self, entry: Sequence) -> bool {
        let Some(gate) = self.control.borrow().gate.clone() else { return true };
        loop {
            let mut moved = std::pin::pin!(gate.moved());
            moved.as_mut().enable();
            if gate.lets(self.id.lane, entry) {
                return true;
            }
            select! {
                _ = self.control.changed() => return false,
                () = moved => {}
            }
        }
    }

    /// One attempt for the head.
    async fn deliver(&mut self, service: &Arc<Service>, waiting: Waiting) -> Next {
        self.head.meet(waiting.entry);
        self.doubt_behind(service, &waiting);
        let translation = service.translated(&waiting, &|episode| self.recall(episode));
        let translated = match translation {
            Ok(Translated { unsent: Some(why), episodes, .. }) => {
                self.board.released(self.id.lane);
                self.board.unsent(why, waiting.id.as_u64());
                self.accept(service, &waiting, &[], format!("{NOT_SENT}: {why}"), episodes);
                return self.recorded(service.resend_window - 1).await;
            }
            Ok(translated) => translated,
            Err(Failure { reason, unmapped }) => {
                if let next @ (Next::Leave | Next::End(_)) = self.recorded(0).await {
                    return next;
                }
                self.board.attempted("failed");
                self.count(&unmapped, waiting.id);
                if service.on_reject == OnReject::Hold {
                    // A dead letter tells its reason itself.
                    self.note(waiting.entry, "failed", &reason);
                }
                return self.reject(service, &waiting, reason).await;
            }
        };
        if self.head.attempts == 0 {
            self.count(&translated.unmapped, waiting.id);
        }
        let in_doubt = self.head.ambiguous || self.together.is_doubtful(waiting.entry);
        let mut run = vec![Ready::new(waiting, translated, in_doubt)];
        let together = self.gather(service, &mut run);
        self.head.attempts = self.head.attempts.saturating_add(1);
        let alone = together.is_none();
        let outgoing = together.unwrap_or_else(|| run[0].outgoing.clone());
        let verdict = self.send(service, &outgoing).await;
        if !matches!(verdict, Verdict::Accepted { .. })
            && let next @ (Next::Leave | Next::End(_)) = self.recorded(0).await
        {
            return next;
        }
        match alone {
            true => self.conclude(service, run.swap_remove(0), verdict).await,
            false => self.conclude_together(service, run, verdict).await,
        }
    }

    /// What the destination remembers of an episode, or will once all it answered is recorded.
    pub(super) fn recall(&self, episode: &[u8]) -> Option<Bytes> {
        let recorded = || self.store.recall(&self.id.channel, &self.id.destination, episode);
        let note = self.unrecorded.recall(episode).unwrap_or_else(recorded);
        if note.as_ref().is_some_and(|note| is_unreadable_note(episode, note)) {
            self.board.unreadable_note();
        }
        note
    }

    pub(super) fn count(&self, unmapped: &[Unmapped], id: Sequence) {
        if !unmapped.is_empty() {
            self.board.unmapped(unmapped, id.as_u64(), self.clock.now());
        }
    }

    async fn send(&mut self, service: &Service, outgoing: &Outgoing) -> Verdict {
        let lane = self.id.lane;
        let taken = &mut self.taken;
        let kept = self.sender.get_or_insert_with(|| {
            let mut sender = sabotaged(service.receiver.sender(lane));
            taken.take().into_iter().for_each(|taken| sender.go_on(taken));
            LaneSender { receiver: service.receiver.clone(), sender }
        });
        let _in_flight = self.board.sending();
        let sent = AssertUnwindSafe(kept.sender.send(outgoing)).catch_unwind();
        let verdict = select! {
            biased;
            verdict = sent => verdict.ok(),
            _ = self.control.wait_for(|control| control.cut) => {
                Some(Verdict::ambiguous("the engine stopped before an answer came"))
            }
        };
        verdict.unwrap_or_else(|| {
            self.taken = self.sender.take().and_then(|broken| broken.sender.taken());
            self.head.panics += 1;
            match self.head.panics < PANICS_MAX {
                true => Verdict::ambiguous("sending panicked: a fault of the engine, report it"),
                false => Verdict::rejected("sending panicked each time: a fault of the engine, report it"),
            }
        })
    }

    async fn conclude(&mut self, service: &Service, ready: Ready, verdict: Verdict) -> Next {
        let (lane, waiting) = (self.id.lane, &ready.waiting);
        if ready.outgoing.possible_repeat && !matches!(verdict, Verdict::Unavailable { .. }) {
            self.repeated(waiting.entry);
        }
        match verdict {
            Verdict::Accepted { answer } => {
                sabotage::crash_at(CrashPoint::AfterSendBeforeSettle);
                self.together.taken(1);
                self.accept_sent(service, ready, answer);
                self.recorded(service.resend_window - 1).await
            }
            Verdict::Rejected { reason } => {
                self.board.attempted("rejected");
                self.board.reached(lane);
                self.together.found();
                self.note(waiting.entry, "rejected", &reason);
                if self.sender.as_ref().is_some_and(|kept| kept.sender.taken().is_some()) {
                    // Over a restart too, the next send repeats a part.
                    self.head.ambiguous = true;
                    self.note(waiting.entry, "ambiguous", PARTLY_TAKEN);
                }
                self.head.refusals += 1;
                if self.head.refusals <= service.retry_refused {
                    self.board.refused(lane, waiting.id.as_u64(), &reason);
                    return Next::Wait(None, Some(Stuck::at(waiting, reason)));
                }
                self.reject(service, waiting, reason).await
            }
            Verdict::Unavailable { reason, retry_after } => self.unavailable(waiting, reason, retry_after),
            Verdict::Ambiguous { reason } => self.ambiguous(waiting, reason),
        }
    }

    /// The receiver took it.
    pub(super) fn accept_sent(&mut self, service: &Service, ready: Ready, answer: String) {
        self.board.attempted("accepted");
        self.board.reached(self.id.lane);
        if let Some(why) = ready.doubt {
            self.board.left_out(why, ready.waiting.id.as_u64());
        }
        // Clocks may have been set back since; that is no time at all.
        let since = self.clock.now().duration_since(ready.waiting.received_at);
        self.board.delivered(Duration::try_from(since).unwrap_or_default());
        self.accept(service, &ready.waiting, &ready.outgoing.body, answer, ready.episodes);
    }

    pub(super) fn unavailable(&mut self, head: &Waiting, reason: String, retry_after: Option<Duration>) -> Next {
        self.board.attempted("unavailable");
        self.board.unreached(self.id.lane, head.id.as_u64(), &reason);
        self.note(head.entry, "unavailable", &reason);
        Next::Wait(retry_after, Some(Stuck::at(head, reason)))
    }

    pub(super) fn ambiguous(&mut self, head: &Waiting, reason: String) -> Next {
        self.board.attempted("ambiguous");
        self.board.unreached(self.id.lane, head.id.as_u64(), &reason);
        self.head.ambiguous = true;
        self.note(head.entry, "ambiguous", &reason);
        Next::Wait(None, Some(Stuck::at(head, reason)))
    }

    /// A possible repeat may have reached the receiver: counted each time, and told in the timeline once.
    pub(super) fn repeated(&mut self, entry: Sequence) {
        self.board.redelivered();
        if !std::mem::replace(&mut self.head.repeated, true) {
            let (outcome, reason) = ("repeat".to_owned(), POSSIBLE_REPEAT.to_owned());
            self.store.attempted(&self.id, entry, Attempt { at: self.clock.now(), outcome, reason });
        }
    }

    /// Ends the delivery, with what its destination is to remember from now on; [recorded](Lane::recorded) a little later.
    fn accept(
        &mut self,
        service: &Service,
        waiting: &Waiting,
        sent: &[u8],
        answer: String,
        episodes: Vec<EpisodeChange>,
    ) {
        let receipt = Receipt {
            sent_sha256: Sha256::digest(sent).into(),
            configuration: service.configuration,
            answer,
            attempts: self.head.attempts,
            at: self.clock.now(),
            episodes,
        };
        self.backoff.reset();
        self.record(waiting.entry, Settlement::Accepted(receipt));
    }

    async fn reject(&mut self, service: &Service, waiting: &Waiting, reason: String) -> Next {
        match service.on_reject {
            OnReject::Hold => Next::Hold(Stuck::at(waiting, reason)),
            OnReject::Park => self.park(Stuck::at(waiting, reason)).await,
        }
    }

    /// A read that failed says nothing of the next one, and a store that failed is opened anew: a lane ends only with its
    /// store.
    fn store_refused(&self, error: StoreError) -> Next {
        if error == StoreError::Closed {
            return Next::End(error);
        }
        self.board.unread(self.id.lane, &error.to_string());
        Next::Wait(None, None)
    }

    /// Notes an attempt in the message's timeline; a long outage, once for each reason.
    pub(super) fn note(&mut self, entry: Sequence, outcome: &str, reason: &str) {
        if outcome == "unavailable" && self.head.noted.as_deref() == Some(reason) {
            return;
        }
        self.head.noted = Some(reason.to_owned());
        let attempt = Attempt { at: self.clock.now(), outcome: outcome.to_owned(), reason: reason.to_owned() };
        self.store.attempted(&self.id, entry, attempt);
    }

    /// Waits to try again: for time, the operator, another configuration, or the end. The operator may also park the head:
    /// the way past a message that brings its receiver down each time.
    async fn back_off(
        &mut self,
        service: &Arc<Service>,
        retries: u64,
        asked: Option<Duration>,
        stuck: Option<Stuck>,
    ) -> Next {
        let (first, max) = if stuck.is_some() { (service.retry_first, service.retry_max) } else { STORE_RETRY };
        let wait = self.backoff.wait(first, max, asked);
        let now = self.control.borrow().parks_waiting;
        let parks_before = *self.head.parks_waiting.get_or_insert(now);
        let is_parked = |control: &Control| stuck.is_some() && control.parks_waiting != parks_before;
        let is_over = |control: &Control| {
            let tried = control.stopping || control.paused || control.retries != retries;
            tried || is_parked(control) || !control.serves(service)
        };
        let next_try =
            jiff::SignedDuration::try_from(wait).ok().and_then(|wait| self.clock.now().checked_add(wait).ok());
        self.board.waits(self.id.lane, next_try);
        let parked = select! {
            control = self.control.wait_for(is_over) => Some(control.is_ok_and(|control| is_parked(&control))),
            () = sleep(wait) => None,
        };
        self.board.waits(self.id.lane, None);
        let Some(parked) = parked else { return Next::Go };
        self.backoff.reset();
        match stuck.filter(|_| parked) {
            Some(stuck) => self.park(stuck.by_a_person()).await,
            None => Next::Go,
        }
    }

    /// Stands at a refused head until the operator asks to try again or to park it, or the configuration changes.
    async fn hold(&mut self, service: &Arc<Service>, retries: u64, stuck: Stuck) -> Next {
        // Parked is only what was seen to be held.
        let parks_before = self.control.borrow().parks;
        self.board.held(self.id.lane, stuck.id.as_u64(), &stuck.reason);
        let changed = |control: &Control| {
            control.stopping || control.retries != retries || control.parks != parks_before || !control.serves(service)
        };
        let parks = match self.control.wait_for(changed).await {
            Ok(control) => control.parks,
            Err(_) => return Next::Go,
        };
        self.board.released(self.id.lane);
        if parks == parks_before { Next::Go } else { self.park(stuck.by_a_person()).await }
    }

    async fn park(&mut self, Stuck { entry, id, reason }: Stuck) -> Next {
        self.board.released(self.id.lane);
        self.board.parked(self.id.lane, id.as_u64(), &reason);
        sabotage::crash_at(CrashPoint::DuringDead);
        self.settle(entry, self.head.dead(reason)).await
    }
}

/// A store that is closed is how lanes end.
fn ended(error: StoreError) -> Result<(), StoreError> {
    if error == StoreError::Closed { Ok(()) } else { Err(error) }
}

impl Control {
    fn serves(&self, service: &Arc<Service>) -> bool {
        self.service.as_ref().is_some_and(|mine| Arc::ptr_eq(mine, service))
    }
}

impl Stuck {
    fn at(waiting: &Waiting, reason: String) -> Stuck {
        Stuck { entry: waiting.entry, id: waiting.id, reason }
    }

    /// What made it stand made no dead letter of it.
    fn by_a_person(self) -> Stuck {
        Stuck { reason: format!("parked by a person; its last attempt: {}", self.reason), ..self }
    }
}

impl Head {
    fn meet(&mut self, entry: Sequence) {
        if self.entry != Some(entry) {
            *self = Head { entry: Some(entry), ..Head::default() };
        }
    }

    /// The next, which was sent with the ones before it.
    pub(super) fn go_along(&mut self, entry: Sequence) {
        self.meet(entry);
        self.attempts = self.attempts.saturating_add(1);
    }

    fn dead(&self, reason: String) -> Settlement {
        Settlement::Dead { reason, attempts: self.attempts }
    }
}

/// As it is: only builds that break promises on purpose have something between.
#[cfg(not(feature = "sabotage"))]
fn sabotaged(sender: Box<dyn Sender>) -> Box<dyn Sender> {
    sender
}

pub(super) fn outgoing(waiting: &Waiting, translated: Translated, ambiguous: bool) -> Outgoing {
    let control_id = match translated.format {
        Format::Hl7 => Bytes::copy_from_slice(Header::read(&translated.body).0.field(10)),
        Format::FhirBundle => Bytes::new(),
    };
    Outgoing {
        id: waiting.id.as_u64(),
        body: translated.body,
        format: translated.format,
        control_id,
        possible_repeat: waiting.possible_repeat || ambiguous,
    }
}
