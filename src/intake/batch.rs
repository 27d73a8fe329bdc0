//! A frame that holds a batch (`listener.batch`): split, each message its own way, one batch of acknowledgements.
//!
//! What must never happen: part of a batch that is not whole is stored; a positive answer leaves before everything of it that
//! is taken is durable. The messages are given to the store one behind the other in one call, mostly one commit. A crash
//! amid them leaves the first of them stored and nobody answered: the sender repeats the batch, and those are repeats,
//! which is why a channel that takes batches must tell repeats.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all, ready};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    Declined, Judged, Shared, Taken, closes, hold::Turn, owed, owed::After, refusal::Refusal, reply::Asked, unstored,
};
use crate::{
    channel::Channel,
    hl7::{
        Header, Message,
        batch::{self, BatchError, Batches},
    },
    mllp::server::Answer,
    pcd::tolerance::Quirks,
    sabotage::{self, CrashPoint},
    store::{Appended, StoreError},
};

/// A batch whose messages the store was given.
struct TakenBatch {
    batches: Batches,
    parts: Vec<Part>,
    /// What the store is still to say of each part.
    outcomes: Vec<Option<Outcome>>,
}

type Outcome = BoxFuture<'static, Result<Appended, StoreError>>;

/// One message of it.
struct Part {
    message: Bytes,
    state: State,
}

enum State {
    Declined(Box<Declined>),
    Given { channel: Arc<str>, asked: Asked, after: Option<After> },
    Stored { channel: Arc<str>, asked: Asked, after: Option<After>, appended: Appended },
    Failed { channel: Arc<str>, asked: Asked, fault: StoreError },
}

impl Shared {
    /// Whether the frame is to be split: it is a batch, and some channel here takes batches.
    pub(super) fn is_batch(&self, frame: &[u8]) -> bool {
        batch::is_batch(frame) && self.channels.load().iter().any(|channel| channel.listener.batch)
    }

    /// Everything up to the store in the call itself, as for a single message.
    pub(super) fn batch(
        self: Arc<Shared>,
        frame: Bytes,
        peer: SocketAddr,
        at: Timestamp,
        deadline: Instant,
        mut turn: Turn,
    ) -> BoxFuture<'static, Answer> {
        let sends_as = self.sends_as(peer);
        if turn.is_deferred() {
            return Box::pin(async move {
                if turn.is_behind_failed() {
                    return unstored();
                }
                let taken = self.take_batch(&frame, at, sends_as.as_deref(), &turn);
                turn.handed_on();
                match taken {
                    Ok(taken) => self.conclude_batch(taken, peer, at, deadline, turn).await,
                    Err(refusal) => self.refuse_batch(&refusal, &frame),
                }
            });
        }
        match self.take_batch(&frame, at, sends_as.as_deref(), &turn) {
            Ok(taken) => Box::pin(async move { self.conclude_batch(taken, peer, at, deadline, turn).await }),
            Err(refusal) => Box::pin(ready(self.refuse_batch(&refusal, &frame))),
        }
    }

    /// Gives the store all that is taken, once it is known that the batch is.
    fn take_batch(
        &self,
        frame: &Bytes,
        at: Timestamp,
        sends_as: Option<&[String]>,
        turn: &Turn,
    ) -> Result<TakenBatch, Refusal> {
        let batches = self.split(frame)?;
        let _routing = self.routing.read().unwrap_or_else(PoisonError::into_inner);
        self.check_strays(&batches)?;
        let (mut parts, mut outcomes) = (Vec::new(), Vec::new());
        for message in batches.messages() {
            let taken = self.hand_over(self.judge(message, at, Some(Quirks::default()), sends_as));
            sabotage::crash_at(CrashPoint::DuringBatch);
            let (state, outcome) = given(taken.map(|taken| taken.looked_at(turn)));
            parts.push(Part { message: message.clone(), state });
            outcomes.push(outcome);
        }
        Ok(TakenBatch { batches, parts, outcomes })
    }

    /// That all of it is for channels that take batches.
    pub(super) fn check_strays(&self, batches: &Batches) -> Result<(), Refusal> {
        let channels = self.channels.load();
        if batches.messages().any(|message| self.is_stray(&channels, message)) {
            let text = "a message in it is for a channel that takes no batches: send each in a frame of its own";
            return Err(Refusal::reject("batch", 200, "", text));
        }
        Ok(())
    }

    /// Proves the batch whole, and small enough for the memory there is.
    pub(super) fn split(&self, frame: &Bytes) -> Result<Batches, Refusal> {
        let limit = |limit: &str| self.metrics.limits_hit.with_label_values(&[&*self.first_channel(), limit]).inc();
        if batch::memory(frame) > self.batch_bytes_max.load(Ordering::Relaxed) {
            limit("batch_memory");
            let text = "its messages take more memory than half of limits.max_in_flight: split it, or raise that";
            return Err(Refusal::error("batch", 104, "", text));
        }
        Batches::split(frame).map_err(|error| {
            if error == BatchError::TooMany {
                limit("batch_messages");
            }
            Refusal::error("batch", error.code(), error.location(), &error.to_string())
        })
    }

    /// Told before anything is noted of any of its messages: a batch that is refused has not been heard.
    fn is_stray(&self, channels: &[Arc<Channel>], message: &Bytes) -> bool {
        if channels.iter().all(|channel| channel.listener.batch) {
            return false;
        }
        let parsed = self.mended(message).map_or_else(|| Message::parse(message.clone()), Ok);
        let Ok(parsed) = parsed else { return false };
        let (header, None) = Header::read(parsed.as_bytes()) else { return false };
        self.channel_for(channels, &parsed, &header).is_ok_and(|channel| !channel.listener.batch)
    }

    fn hand_over(&self, judged: Result<Judged, Box<Declined>>) -> Result<Taken, Box<Declined>> {
        let channel = judged.as_ref().map_or_else(|declined| &declined.channel, |judged| &judged.received.channel);
        self.metrics.messages_received.with_label_values(&[channel]).inc();
        let Judged { received, asked, head, after } = judged?;
        Ok(Taken { channel: received.channel.clone(), asked, head, after, outcome: self.store.append(received) })
    }

    /// Waits for the store, holds what finds it full, and answers once everything has its outcome.
    async fn conclude_batch(
        &self,
        taken: TakenBatch,
        peer: SocketAddr,
        at: Timestamp,
        deadline: Instant,
        mut turn: Turn,
    ) -> Answer {
        let TakenBatch { batches, mut parts, mut outcomes } = taken;
        loop {
            for (part, outcome) in parts.iter_mut().zip(&mut outcomes) {
                if let Some(outcome) = outcome.take() {
                    part.settle(outcome.await);
                }
            }
            // Only an end of the batch can be tried again: order is kept.
            let held =
                parts.iter().position(Part::found_full).filter(|first| parts[*first..].iter().all(Part::may_wait));
            if held.is_none() || !turn.hold() || Instant::now() >= deadline {
                break;
            }
            self.room_or(deadline).await;
            for (part, outcome) in parts.iter_mut().zip(&mut outcomes).filter(|(part, _)| part.found_full()) {
                (part.state, *outcome) = given(self.take(&part.message, at, None, None));
            }
        }
        if let Some((channel, asked, fault)) = parts.iter().find_map(Part::failure) {
            turn.fail();
            let answer = self.not_stored(fault, channel, &Header::default(), asked);
            return Answer { close: answer.close, ..unstored() };
        }
        let answers = self.answer_parts(&parts, peer).await;
        self.batch_of(&batches, answers)
    }

    /// Each message's answer. Those that wait for deliveries first, so that no ACK owed to another part is sent before what
    /// says that it is stored.
    async fn answer_parts(&self, parts: &[Part], peer: SocketAddr) -> Vec<Answer> {
        let waited = parts.iter().filter(|part| part.waits()).map(|part| self.answer_part(part, peer));
        let mut waited = join_all(waited).await.into_iter();
        let mut answers = Vec::with_capacity(parts.len());
        for part in parts {
            answers.push(match part.waits() {
                true => waited.next().unwrap_or_default(),
                false => self.answer_part(part, peer).await,
            });
        }
        answers
    }

    async fn answer_part(&self, part: &Part, peer: SocketAddr) -> Answer {
        let head = self.head(&part.message);
        let (header, _) = Header::read(&head);
        match &part.state {
            State::Declined(declined) => self.decline(declined, &part.message),
            State::Failed { channel, asked, fault } => self.not_stored(fault, channel, &header, asked),
            State::Stored { channel, asked, after: None, appended } => {
                self.sender_heard(channel, &header, peer);
                self.accept(appended, channel, &header, asked)
            }
            State::Stored { channel, asked, after: Some(after), appended } => {
                let outlet = self.outlet(peer);
                let (outlet, bytes) = (outlet.as_ref(), &*head);
                let message = owed::Message { channel, header: &header, bytes, asked, outlet };
                self.accept_and_owe(appended, after, message).await
            }
            State::Given { .. } => unstored(),
        }
    }

    /// The answers as one batch; nothing but an end of the connection where one of them is that.
    fn batch_of(&self, batches: &Batches, answers: Vec<Answer>) -> Answer {
        let channel = answers.iter().find_map(|answer| answer.channel.clone());
        if answers.iter().any(|answer| answer.close) {
            return Answer { channel, ..unstored() };
        }
        let codes = answers.iter().flat_map(|answer| answer.codes.iter().copied()).collect();
        let messages: Vec<Vec<Bytes>> = answers.into_iter().map(|answer| answer.messages).collect();
        let at = self.clock.now();
        let number = self.refused.fetch_add(1, Ordering::Relaxed) & 0xFF_FFFF;
        let own_control_id = format!("B{:x}{number:06x}", at.as_millisecond());
        let written = batches.answer(&messages, at, &own_control_id);
        Answer { messages: written.into_iter().collect(), codes, channel, close: false }
    }

    /// The one answer to a batch that is not taken, in original mode, since a batch asks for none of its own.
    fn refuse_batch(&self, refusal: &Refusal, frame: &Bytes) -> Answer {
        let msh = batch::header_as_msh(frame);
        let (header, _) = Header::read(&msh);
        self.refuse(&self.first_channel(), refusal, &Asked::of(&header).0, &header)
    }
}

fn given(taken: Result<Taken, Box<Declined>>) -> (State, Option<Outcome>) {
    match taken {
        Ok(Taken { channel, asked, after, outcome, .. }) => (State::Given { channel, asked, after }, Some(outcome)),
        Err(declined) => (State::Declined(declined), None),
    }
}

impl Part {
    /// What the store said of it.
    fn settle(&mut self, outcome: Result<Appended, StoreError>) {
        let State::Given { channel, asked, after } = &mut self.state else { return };
        let (channel, asked, after) = (channel.clone(), *asked, after.take());
        self.state = match outcome {
            Ok(appended) => State::Stored { channel, asked, after, appended },
            Err(fault) => State::Failed { channel, asked, fault },
        };
    }

    fn found_full(&self) -> bool {
        matches!(self.state, State::Failed { fault: StoreError::Full, .. })
    }

    /// It was not stored, so nothing before it is passed when that is stored later.
    fn may_wait(&self) -> bool {
        self.found_full() || matches!(self.state, State::Declined(_))
    }

    fn failure(&self) -> Option<(&Arc<str>, &Asked, &StoreError)> {
        match &self.state {
            State::Failed { channel, asked, fault } if closes(fault) => Some((channel, asked, fault)),
            _ => None,
        }
    }

    fn waits(&self) -> bool {
        matches!(&self.state, State::Stored { after: Some(_), asked, .. } if asked.waits_for_application())
    }
}
