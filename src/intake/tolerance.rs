//! Quirks at intake: each is counted once a message, for its channel and its sender, and refused where that is set.
//!
//! What is stored is what was received; what is judged from here on is what is read in its place.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use jiff::Timestamp;

use super::{Shared, refusal::Refusal, refusal::location};
use crate::{
    channel::Channel,
    hl7::Message,
    mllp::Oddities,
    pcd::tolerance::{Quirk, Quirks},
};

/// What was met on each connection since its last message, for who sends the next.
#[derive(Default)]
pub(super) struct BetweenFrames {
    /// Whether there is any, so that nothing is locked where there is none.
    any: AtomicBool,
    met: Mutex<HashMap<SocketAddr, Quirks>>,
}

impl BetweenFrames {
    pub(super) fn note(&self, peer: SocketAddr, oddities: &Oddities) {
        let seen = [(oddities.noise, Quirk::Noise), (oddities.no_cr + oddities.quiet_end, Quirk::NoFrameEnd)];
        for (_, quirk) in seen.into_iter().filter(|(count, _)| *count > 0) {
            self.met().entry(peer).or_default().insert(quirk);
            self.any.store(true, Ordering::Release);
        }
    }

    pub(super) fn take(&self, peer: SocketAddr) -> Quirks {
        if !self.any.load(Ordering::Acquire) {
            return Quirks::default();
        }
        let mut met = self.met();
        let taken = met.remove(&peer).unwrap_or_default();
        self.any.store(!met.is_empty(), Ordering::Release);
        taken
    }

    fn met(&self) -> MutexGuard<'_, HashMap<SocketAddr, Quirks>> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// The message in a frame as the first channel here mends it that does, else as it is.
    pub(super) fn mended(&self, frame: &Bytes) -> Option<Message> {
        let channels = self.channels.load();
        // Of what cannot be read even so, the fault of what was received is told.
        channels.iter().find_map(|channel| channel.tolerance.mended(frame, channel.listener.charset)?.ok())
    }

    /// MSH as far as it can be read, mended where it must be.
    pub(super) fn head(&self, frame: &Bytes) -> Bytes {
        self.mended(frame).map_or_else(|| frame.clone(), |message| message.bytes())
    }

    /// The message as it is read by the channel's rules for its sender. Another try of the same message is not counted.
    pub(super) fn tolerated(
        &self,
        channel: &Channel,
        message: Message,
        at: Timestamp,
        between: Option<Quirks>,
    ) -> Result<Message, Refusal> {
        let rules = channel.tolerance.of(&message);
        let met = rules.met(&message).and(between.unwrap_or_default());
        let refused = rules.refuses(met);
        let refusal = refused.map(|quirk| refusal(channel, quirk, &message));
        let message = rules.repaired(&message).unwrap_or(message);
        // By the name that is read, as all else is that is noted of its sender.
        if between.is_some() && !met.is_empty() {
            self.count_quirks(channel, &message, met, at);
        }
        refusal.map_or(Ok(message), Err)
    }

    /// Counts the quirk that a refusal of the text is for.
    pub(super) fn count_refused(&self, channel: &Channel, message: &Message, refusal: &Refusal, at: Timestamp) {
        let Some(quirk) = refusal.quirk else { return };
        // One whose acceptance did not help has been counted.
        if channel.tolerance.of(message).refused.has(quirk) {
            self.count_quirks(channel, message, Quirks::from_iter([quirk]), at);
        }
    }

    fn count_quirks(&self, channel: &Channel, message: &Message, met: Quirks, at: Timestamp) {
        for quirk in met.iter() {
            self.metrics.quirks.with_label_values(&[&*channel.name, quirk.id()]).inc();
        }
        self.conformity.load().senders.met(message, &channel.name, met, at);
    }
}

fn refusal(channel: &Channel, quirk: Quirk, message: &Message) -> Refusal {
    let notes = channel.tolerance.of(message).notes(message);
    let met = notes.iter().find(|note| note.quirk == quirk);
    // Line ends and the like are in no field.
    let in_field = |quirk| matches!(quirk, Quirk::GluedSegments | Quirk::DoubledEscape);
    let place =
        met.filter(|note| note.place.contains('-') || in_field(quirk)).map(|note| location(message, note.offset));
    let text = format!("this listener does not take messages with the quirk {}; its channel can be set to", quirk.id());
    Refusal::error("tolerance", quirk.about().code, place.unwrap_or_default(), &text).for_quirk(quirk)
}

/// Whether the channel reads the mended frame so, too.
pub(super) fn mends(channel: &Channel, message: &Message) -> bool {
    let own = channel.tolerance.mended(&message.received(), channel.listener.charset);
    own.and_then(Result::ok).is_some_and(|own| own.as_bytes() == message.as_bytes())
}
