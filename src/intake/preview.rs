//! What a listener would answer to a frame, for who writes its configuration: judged by the very code that frames are judged
//! by, and stored nowhere.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;

use super::{Conformity, Declined, Intake, Judged, Owed, Shared, refusal::Refusal, reply::Asked};
use crate::{
    channel::Channel,
    clock::Clock,
    devices::Devices,
    hl7::{Header, Message, ack::Code, batch},
    metrics::Metrics,
    pcd::Nomenclature,
    store::{MemoryStore, Store},
};

/// What a frame would be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The channel that takes it; none where it is not taken, and for a batch.
    pub channel: Option<Arc<str>>,
    /// Messages it holds as a batch, each of which is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// MSA-1 of each answer, in order.
    pub codes: Vec<&'static str>,
    /// The last of them comes once every destination took the message.
    pub after_delivery: bool,
    /// Why it is not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refused>,
}

/// Why a frame is not taken, as its sender is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// ERR-3, table 0357.
    pub code: u16,
    /// ERR-2.
    pub place: String,
    /// ERR-8.
    pub text: String,
    /// What in the configuration decides so, where something does: `no_zone` of [tolerance] of channel pumps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
}

impl Intake {
    /// One that listens nowhere, for [`Intake::preview`].
    pub fn detached(
        channels: Vec<Arc<Channel>>,
        nomenclature: Arc<Nomenclature>,
    ) -> Result<Arc<Intake>, prometheus::Error> {
        let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new()?));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new(clock.clone()));
        let owed = Owed::new(store.clone(), clock.clone(), metrics.clone());
        let devices = Arc::new(Devices::open(None, clock.clone(), metrics.clone()));
        let intake = Intake::new(channels, store, clock, metrics, devices, owed, Duration::ZERO);
        intake.set_conformity(Arc::new(Conformity::new(Arc::new(ArcSwap::new(nomenclature)))));
        Ok(intake)
    }

    /// What the frame would be answered.
    pub fn preview(&self, frame: &Bytes) -> Preview {
        self.shared.preview(frame)
    }
}

impl Shared {
    fn preview(&self, frame: &Bytes) -> Preview {
        if self.channels.load().first().is_some_and(|first| frame.len() > first.listener.limits.frame_bytes_max) {
            let asked = Asked::of(&Header::read(frame).0).0;
            return self.refused(frame, &asked, &Refusal::oversized(), &self.first_channel());
        }
        if self.is_batch(frame) {
            let asked = Asked::of(&Header::read(&batch::header_as_msh(frame)).0).0;
            let split = self.split(frame).and_then(|batches| self.check_strays(&batches).map(|()| batches));
            return match split {
                Ok(batches) => Preview { batch: Some(batches.messages().count()), ..Preview::silent() },
                Err(refusal) => self.refused(frame, &asked, &refusal, &self.first_channel()),
            };
        }
        match self.judge(frame, self.clock.now(), None, None) {
            Ok(Judged { received, asked, after, .. }) => {
                let codes: Vec<Code> = asked.positive_codes().collect();
                let after_delivery = after.is_some() && codes.last() == Some(&Code::AA);
                let codes = codes.into_iter().map(Code::as_str).collect();
                Preview { channel: Some(received.channel), codes, after_delivery, ..Preview::silent() }
            }
            Err(declined) => match *declined {
                Declined { channel, asked, refusal: Some(refusal) } => self.refused(frame, &asked, &refusal, &channel),
                Declined { refusal: None, .. } => Preview::silent(),
            },
        }
    }

    fn refused(&self, frame: &Bytes, asked: &Asked, refusal: &Refusal, channel: &str) -> Preview {
        let code = asked.negative_code(refusal.severity);
        let fault = refusal.fault.clone();
        let setting = self.setting(frame, refusal, channel);
        let refusal = Some(Refused { code: fault.code, place: fault.location, text: fault.text, setting });
        Preview { codes: code.map(Code::as_str).into_iter().collect(), refusal, ..Preview::silent() }
    }

    /// What of the channel's file a refusal is for.
    fn setting(&self, frame: &Bytes, refusal: &Refusal, channel: &str) -> Option<String> {
        let of_listener = |key: &str| format!("`{key}` of [listener] of channel {channel}");
        let Some(quirk) = refusal.quirk else {
            return Some(of_listener(match refusal.reason {
                "conformance" => "conformance",
                "processing_id" => "processing_ids",
                "version" => "versions",
                "oversized" => "max_message",
                "batch" if refusal.fault.code == 200 => "batch",
                _ => return None,
            }));
        };
        let channels = self.channels.load();
        let known = channels.iter().find(|known| *known.name == *channel)?;
        let message = Message::parse(self.head(frame)).ok()?;
        let table = known.tolerance.table_that_refuses(&message, quirk);
        Some(format!("`{}` of {table} of channel {channel}", quirk.id()))
    }
}

impl Preview {
    fn silent() -> Preview {
        Preview { channel: None, batch: None, codes: Vec::new(), after_delivery: false, refusal: None }
    }

    /// Whether it is stored.
    pub fn is_taken(&self) -> bool {
        self.channel.is_some() || self.batch.is_some()
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.refusal, self.batch) {
            (Some(refusal), _) => {
                let code =
                    self.codes.first().map_or("nothing, as MSH-15 and MSH-16 ask, and it is not taken:", |code| code);
                return write!(f, "{code} {refusal}");
            }
            (None, Some(0)) => return f.write_str("a batch without acknowledgements"),
            (None, Some(1)) => return f.write_str("a batch of what the message in it is answered"),
            (None, Some(messages)) => {
                return write!(f, "a batch of what each of the {messages} messages in it is answered");
            }
            (None, None) if !self.is_taken() => {
                return f.write_str("nothing: an acknowledgement is not answered, nor taken");
            }
            _ => {}
        }
        match (self.codes.as_slice(), self.after_delivery) {
            ([], _) => f.write_str("nothing, as MSH-15 and MSH-16 ask; it is taken"),
            ([last], true) => write!(f, "{last} once every destination took it"),
            ([all @ .., last], true) => write!(f, "{}, and {last} once every destination took it", all.join(", ")),
            (all, false) => f.write_str(&all.join(", then ")),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.place.is_empty() {
            write!(f, " at {}", self.place)?;
        }
        write!(f, ": {}", self.text)?;
        self.setting.as_ref().map_or(Ok(()), |setting| write!(f, "; it is for {setting}"))
    }
}
