//! One TOML channel, checked and compiled: which messages it takes, where they go, and what is sent there.
//!
//! Everything here is pure: the same message and configuration give the same routes, lanes and bodies, on every machine
//! and after every restart. A message's lane must never change while it waits, so the lane hash is part of the store's
//! format.

mod asking;
mod expression;
mod filter;
mod literal;
mod summary;

use std::{borrow::Cow, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use expression::{ARRAY_MAX, DEPTH_MAX, Expression, ExpressionError, OPERATIONS_MAX, TEXT_BYTES_MAX};
pub use filter::{Condition, Filter};
pub use summary::{Due, Summary};

use asking::{answerable, answerable_as_received};

use crate::{
    destination,
    hl7::{self, Charset, Message, ParseError, Path},
    mllp::{server::Limits, tls::Acceptor},
    pcd::{
        self, Explanation, FhirElement, FhirElements,
        conformance::Profile,
        tolerance::{Note, Tolerance},
    },
    store::{Content, RepeatCheck, Route},
    translate::{Context, Format, Plan, Recall, TranslateError, Translated, nothing_remembered},
};

/// A channel, ready to use.
pub struct Channel {
    /// File stem.
    pub name: Arc<str>,
    /// For people.
    pub description: String,
    /// Where it listens; several channels may share one.
    pub listener: Listener,
    /// Which messages are its own.
    pub accept: Filter,
    /// Repeat rule.
    pub repeat: Repeat,
    /// When one of its devices is silent.
    pub device: DeviceRules,
    /// What is tolerated of its senders.
    pub tolerance: Tolerance,
    /// In file order.
    pub destinations: Vec<Arc<Destination>>,
    /// Summaries made of what it received.
    pub summaries: Vec<Summary>,
    /// Hash of the channel's file and of every table it uses: tells under which configuration a message was sent.
    pub hash: u64,
}

/// Intake settings of a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Address to listen on.
    pub address: SocketAddr,
    /// Limits of the address, the same in every channel that shares it.
    pub limits: Limits,
    /// How connections are secured, the same in every channel that shares the address; none: not at all.
    pub tls: Option<Acceptor>,
    /// When the application ACK is due.
    pub ack: AckWhen,
    /// Whether frames that hold a batch are split.
    pub batch: bool,
    /// What conformance findings do.
    pub conformance: Conformance,
    /// Which findings a message is refused for, where any are.
    pub profile: Profile,
    /// None: MSH-18 per message.
    pub charset: Option<Charset>,
    /// Charset where MSH-18 is empty and bytes are above 0x7F.
    pub charset_default: Charset,
    /// MSH-11 values taken; default P.
    pub processing_ids: Vec<String>,
    /// MSH-12 prefixes taken.
    pub versions: Vec<String>,
}

/// When the application ACK of a good message is due. An accept ACK is always due once the message is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AckWhen {
    /// Once the message is stored.
    Stored,
    /// Once every destination took it, or one did not.
    Delivered {
        /// How long a sender that waits for nothing else is kept waiting.
        timeout: Duration,
        /// How long one that could not be sent is owed.
        keep: Duration,
        /// Where it is sent when no connection of the sender is open.
        address: Option<String>,
    },
}

/// What conformance findings do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conformance {
    /// Nothing is examined.
    Off,
    /// Findings are recorded.
    Report,
    /// A message with an error is refused.
    Reject,
}

/// A repeat rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// Places whose values together tell a repeat; none: no rule.
    pub key: Vec<Path>,
    /// Repeats further apart are new messages.
    pub window: Duration,
    /// What becomes of the same content under another control id.
    pub retransmission: Retransmission,
}

/// What becomes of a message whose content an earlier one had under another control id (IHE PCD CP-157).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retransmission {
    /// It is delivered, counted, and says in its timeline which it repeats.
    Mark,
    /// It is answered as the earlier one was, counted, and not stored.
    Drop,
    /// It is not looked for.
    Off,
}

/// How a channel's devices are told, how often they report, and when one is silent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRules {
    /// Between two reports; `None`: learned from each device.
    pub expected_interval: Option<Duration>,
    /// Reports missed in a row; 0: no device is ever silent.
    pub silent_after: u32,
    /// Which places name a device.
    pub identification: Arc<pcd::Identification>,
}

impl Default for DeviceRules {
    fn default() -> DeviceRules {
        DeviceRules { expected_interval: None, silent_after: 3, identification: Arc::default() }
    }
}

/// One destination of a channel.
pub struct Destination {
    /// Unique in its channel.
    pub name: Arc<str>,
    /// How it is reached.
    pub settings: destination::Settings,
    /// How its bodies are made.
    pub plan: Plan,
    /// Which of the channel's messages go there.
    pub filter: Filter,
    /// What is kept in order.
    pub order: Order,
    /// Lanes that run in parallel; 1 with `Order::Strict`.
    pub lanes: u16,
    /// First wait after the receiver was unavailable.
    pub retry_first: Duration,
    /// Longest wait.
    pub retry_max: Duration,
    /// Times a refused message is sent again before `on_reject` applies.
    pub retry_refused: u32,
    /// What a refusal by the receiver does.
    pub on_reject: OnReject,
    /// Messages of a lane that may be answered or under way before the first of them is recorded.
    pub resend_window: NonZeroUsize,
}

/// What must stay in order. Messages with the same key share a lane; those without a key share lane 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Everything.
    Strict,
    /// Messages of one device: the best of its [`pcd::Identification::device_keys`].
    Device,
    /// Messages of one patient: PID-3.1.
    Patient,
    /// Messages with the same value here.
    Path(Path),
}

/// What a refusal by the receiver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReject {
    /// The message becomes a dead letter and the lane goes on.
    Park,
    /// The lane stops until a person decides.
    Hold,
}

/// A filter's expression failed on this message: the sender gets AE 207, the operator a log line. No content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("channel {channel}: {what}")]
pub struct FilterError {
    /// The channel.
    pub channel: Arc<str>,
    /// Which `when`, and why it failed.
    pub what: String,
}

impl Channel {
    /// Whether `accept` takes the message.
    pub fn accepts(&self, message: &Message) -> Result<bool, FilterError> {
        if self.accept.is_empty() {
            return Ok(true);
        }
        self.accept.takes(&self.view(message)).map_err(|why| self.failed(format!("accept.when: {why}")))
    }

    /// Destinations whose `where` and `when` take the message, and their lanes, in file order.
    pub fn route(&self, message: &Message) -> Result<Vec<Route>, FilterError> {
        let message = &*self.view(message);
        self.route_from(message, &self.device.identification.device_keys(message))
    }

    /// The same of a message read as this channel reads it, whose device identities are known.
    pub fn route_from(&self, message: &Message, devices: &[String]) -> Result<Vec<Route>, FilterError> {
        let mut routes = Vec::with_capacity(self.destinations.len());
        for destination in &self.destinations {
            let name = &destination.name;
            let taken = destination.filter.takes(message);
            if taken.map_err(|why| self.failed(format!("destination {name}: when: {why}")))? {
                routes.push(Route { destination: name.clone(), lane: destination.lane(message, devices.first()) });
            }
        }
        Ok(routes)
    }

    /// The way of a message of the engine's own to this destination, whatever its filter takes.
    pub fn route_to(&self, destination: &str, message: &Message) -> Option<Route> {
        let destination = self.destination(destination)?;
        let devices = self.device.identification.device_keys(message);
        Some(Route { destination: destination.name.clone(), lane: destination.lane(message, devices.first()) })
    }

    /// The repeat key's values, each behind its length; `None` where there is no rule or every value is empty.
    pub fn repeat_check(&self, message: &Message) -> Option<RepeatCheck> {
        if self.repeat.key.is_empty() || self.repeat.window.is_zero() {
            return None;
        }
        let mut key = Vec::with_capacity(64);
        let mut named = false;
        for path in &self.repeat.key {
            let value = message.first(path).unwrap_or_default();
            named |= !value.is_empty();
            key.extend_from_slice(&(value.len() as u64).to_be_bytes());
            key.extend_from_slice(value);
        }
        named.then(|| RepeatCheck { key, window: self.repeat.window, content: self.content(message) })
    }

    /// What a retransmission of the message would be told by.
    fn content(&self, message: &Message) -> Option<Content> {
        let drop = match self.repeat.retransmission {
            Retransmission::Off => return None,
            told => told == Retransmission::Drop,
        };
        Some(Content { parts: pcd::retransmitted_parts(message)?, drop })
    }

    /// The body for a destination that remembers what `recall` answers, or why there is nothing to send.
    pub fn translate(
        &self,
        destination: &str,
        message: &Message,
        context: Context,
        recall: &Recall<'_>,
    ) -> Result<Translated, TranslateError> {
        let Some(destination) = self.destination(destination) else {
            return Err(TranslateError::new(
                format!("channel {}", self.name),
                format!("there is no destination {destination:?} any more: put it back or discard the message"),
            ));
        };
        let view = self.view(message);
        let mut translated = destination.plan.apply(&view, context, recall)?;
        if !translated.is_sent() {
            return Ok(translated);
        }
        if context.origins {
            self.tell_repairs(message, &mut translated.origins);
        }
        let body = match &destination.settings {
            destination::Settings::Mllp(mllp) if translated.format == Format::Hl7 => match destination.plan {
                Plan::Unchanged if view.is_repaired() => answerable_as_received(&view, mllp.awaits_application)?,
                _ => answerable(translated.body, mllp.awaits_application)?,
            },
            _ => translated.body,
        };
        let body = if translated.format == Format::Hl7 { hl7::from_msh(body) } else { body };
        Ok(Translated { body, ..translated })
    }

    /// The destination of that name.
    pub fn destination(&self, name: &str) -> Option<&Arc<Destination>> {
        self.destinations.iter().find(|destination| &*destination.name == name)
    }

    /// A frame or a stored message as this channel reads it: mended and repaired as far as its sender's rules say.
    pub fn read(&self, received: Bytes) -> Result<Message, ParseError> {
        let message = self.mended(received)?;
        let view = self.view(&message);
        let view = if let Cow::Owned(view) = view { Some(view) } else { None };
        Ok(view.unwrap_or(message))
    }

    /// The quirks of a message as received, and what is read in their place.
    pub fn notes(&self, received: Bytes) -> Vec<Note> {
        let Ok(message) = self.mended(received) else { return Vec::new() };
        self.tolerance.of(&message).notes(&self.in_charset(&message))
    }

    /// What a message received here tells, and what its FHIR destinations would be sent for it alone.
    pub fn explain(
        &self,
        message: &Message,
        received: Bytes,
        codes: &pcd::Nomenclature,
        context: Context,
    ) -> Explanation {
        let mut explanation = pcd::explain(message, codes);
        explanation.quirks = self.notes(received);
        let routes = self.route(message).unwrap_or_default();
        let routed = |to: &&Arc<Destination>| routes.iter().any(|route| route.destination == to.name);
        let fhir = |to: &&Arc<Destination>| matches!(to.plan, Plan::PcdToFhir(_)) && routed(to);
        let context = Context { origins: true, ..context };
        let elements = self.destinations.iter().filter(fhir).map(|to| {
            let translated = self.translate(&to.name, message, context, &nothing_remembered);
            let refused = translated.as_ref().err().map(ToString::to_string);
            let (origins, unsent) = translated.map(|told| (told.origins, told.unsent)).unwrap_or_default();
            let elements = origins.into_iter().map(|(element, from)| FhirElement { element, from }).collect();
            let unsent = unsent.map(|why| why.to_string());
            FhirElements { destination: to.name.to_string(), elements, unsent, refused }
        });
        explanation.fhir = elements.collect();
        explanation
    }

    /// The message in a frame, before anything in its fields is repaired.
    pub fn mended(&self, received: Bytes) -> Result<Message, ParseError> {
        let mended = self.tolerance.mended(&received, self.listener.charset);
        mended.unwrap_or_else(|| Message::parse(received))
    }

    /// The message as it is read here, by filters, devices and translation alike. What a message has been repaired to needs
    /// no repair.
    pub fn view<'m>(&self, message: &'m Message) -> Cow<'m, Message> {
        let read = self.in_charset(message);
        match self.tolerance.of(message).repaired(&read) {
            Some(repaired) => Cow::Owned(repaired),
            None => read,
        }
    }

    /// Says beside each element whose source was repaired what was read there and why.
    fn tell_repairs(&self, message: &Message, origins: &mut [(String, String)]) {
        let Ok(message) = self.mended(message.received()) else { return };
        let told = self.tolerance.of(&message).repairs_told(&self.in_charset(&message));
        for (_, source) in origins {
            let of_source: Vec<_> = told.iter().filter(|(_, place, _)| place == source).collect();
            let Some((.., read)) = of_source.last() else { continue };
            let quirks: Vec<&str> = of_source.iter().map(|(quirk, ..)| quirk.id()).collect();
            source.push_str(&format!(", read as {read} ({})", quirks.join(", ")));
        }
    }

    /// The message read in the set this channel's listener rules, so that text means the same at intake, in filters and
    /// when it is sent. One that cannot be indexed so, which intake refuses, stays as it was read.
    fn in_charset<'m>(&self, message: &'m Message) -> Cow<'m, Message> {
        let Listener { charset: fixed, charset_default, .. } = self.listener;
        let wanted = fixed.or_else(|| message.msh().field(18).is_empty().then_some(charset_default));
        match wanted {
            Some(wanted) if message.charset() != Ok(wanted) => {
                message.clone().read_as(fixed, charset_default).map_or(Cow::Borrowed(message), Cow::Owned)
            }
            _ => Cow::Borrowed(message),
        }
    }

    fn failed(&self, what: String) -> FilterError {
        FilterError { channel: self.name.clone(), what }
    }
}

impl Destination {
    /// The message's lane, below `lanes`; `device` is the best of its identities.
    fn lane(&self, message: &Message, device: Option<&String>) -> u16 {
        let key = match &self.order {
            Order::Strict => None,
            Order::Device => device.map(|device| device.clone().into_bytes()),
            Order::Patient => message.segment("PID").map(|pid| pid.field(3).component(1).raw().to_vec()),
            Order::Path(path) => message.first(path).map(<[u8]>::to_vec),
        };
        key.filter(|key| !key.is_empty()).map_or(0, |key| lane_of(&key, self.lanes))
    }
}

/// The lane of an ordering key: the first eight bytes of its SHA-256, big-endian, modulo the number of lanes. Messages
/// wait in the store under this number, so it never changes.
pub fn lane_of(key: &[u8], lanes: u16) -> u16 {
    (stable_hash([key]) % u64::from(lanes.max(1))) as u16
}

/// The first eight bytes, big-endian, of the SHA-256 of `parts` run together.
pub fn stable_hash<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
    let mut hasher = Sha256::new();
    parts.into_iter().for_each(|part| hasher.update(part));
    hasher.finalize().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
