//! Where messages go: MLLP receivers, FHIR servers, directories. Each send ends in a [`Verdict`], never in an error.
//!
//! What must never happen: `Accepted` for a message the receiver did not say it took; `Unavailable` for one it may have
//! taken (that is `Ambiguous`); message content in a reason. Where a message goes is decided by configuration alone,
//! never by what is in it.

mod fhir;
mod file;
mod meter;
mod mllp;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{mllp::tls::Connector, translate::Format};
pub use fhir::{
    Beside, BundleMode, ClientTls, FhirAuth, FhirSettings, Idempotency, Login, PatientMode, Proof, Rate, RepeatSearch,
    SearchMethod, SigningKey, WriteSettings,
};
pub use meter::Meter;

/// What is sent.
#[derive(Clone)]
pub struct Outgoing {
    /// The message's id in the store (file names, request ids).
    pub id: u64,
    /// Translated body.
    pub body: Bytes,
    /// What the body is.
    pub format: Format,
    /// MSH-10 of the body where it is HL7; MSA-2 of the answer must equal it.
    pub control_id: Bytes,
    /// It may have been sent before.
    pub possible_repeat: bool,
}

/// Sizes only: the body is patient data.
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing")
            .field("id", &self.id)
            .field("bytes", &self.body.len())
            .field("format", &self.format)
            .field("possible_repeat", &self.possible_repeat)
            .finish_non_exhaustive()
    }
}

/// What the receiver made of it. Reasons carry no message content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Taken: `AA`, `CA`, `201`.
    Accepted {
        /// The receiver's own word for it, kept in the receipt.
        answer: String,
    },
    /// Refused for what it is; the same bytes would be refused again.
    Rejected {
        /// What the receiver objected to.
        reason: String,
    },
    /// Cannot take it now; certainly not taken.
    Unavailable {
        /// What is in the way, and who can remove it.
        reason: String,
        /// How long the receiver asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// May have been taken: it left, and no answer that could be trusted came back.
    Ambiguous {
        /// What came instead of an answer.
        reason: String,
    },
}

impl Verdict {
    /// Cannot take it now, with no wish when to ask again.
    pub fn unavailable(reason: impl Into<String>) -> Verdict {
        Verdict::Unavailable { reason: reason.into(), retry_after: None }
    }

    /// Refused for good.
    pub fn rejected(reason: impl Into<String>) -> Verdict {
        Verdict::Rejected { reason: reason.into() }
    }

    /// May have been taken.
    pub fn ambiguous(reason: impl Into<String>) -> Verdict {
        Verdict::Ambiguous { reason: reason.into() }
    }
}

/// Messages of one lane that one send may hold, whatever is configured.
pub const TOGETHER_MAX: usize = 50;

/// One lane's way to a receiver; one send outstanding.
pub trait Sender: Send {
    /// Sends, connecting first where needed. A future that is dropped leaves the sender usable: what it had
    /// outstanding is closed, so that a late answer cannot be taken for the next message's.
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict>;

    /// What its receiver took of the message outstanding, where that is not all of it.
    fn taken(&self) -> Option<Taken> {
        None
    }

    /// Goes on where the sender ended that it takes the place of, if that was of the same receiver.
    fn go_on(&mut self, _taken: Taken) {}
}

/// Parts of a message that a receiver took.
#[derive(Clone)]
pub struct Taken {
    /// Which receiver.
    receiver: String,
    /// Which message.
    id: u64,
    /// By name: the reference to each, as far as it is known.
    parts: BTreeMap<String, Option<String>>,
}

/// How many: the names are the patient's.
impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Taken({} of {})", self.parts.len(), self.id)
    }
}

/// A receiver, shared by its lanes.
pub trait Destination: Send + Sync {
    /// A sender for lane `lane`.
    fn sender(&self, lane: u16) -> Box<dyn Sender>;

    /// Messages of one lane that one send may hold, at most: they are taken or refused together.
    fn together_max(&self) -> usize {
        1
    }

    /// As many of these, which are one lane's in order, as one send may hold, and how many they are; `None` where that is one.
    fn together(&self, _run: &[Outgoing]) -> Option<(Outgoing, usize)> {
        None
    }

    /// What the receiver says of what is configured; the error is why it was not asked.
    fn lacks(&self) -> BoxFuture<'_, Result<Lacks, String>> {
        Box::pin(async { Ok(Lacks::default()) })
    }
}

/// What a receiver says of itself, each with what to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// What it cannot do.
    pub missing: Vec<String>,
    /// What it does not tell, so that nothing is proved.
    pub untold: Vec<String>,
}

/// Settings by type, resolved.
#[derive(Debug, Clone, PartialEq)]
pub enum Settings {
    /// `type = "mllp"`
    Mllp(MllpSettings),
    /// `type = "fhir"`
    Fhir(FhirSettings),
    /// `type = "file"`
    File(FileSettings),
}

/// An MLLP receiver.
#[derive(Debug, Clone, PartialEq)]
pub struct MllpSettings {
    /// host:port.
    pub address: String,
    /// To connect, and again to wait for the answer.
    pub timeout: Duration,
    /// A message that asks for an application ACK (MSH-16 `AL`) is settled by that, not by the accept ACK before it.
    pub awaits_application: bool,
    /// How the receiver proves itself; none: plaintext.
    pub tls: Option<Connector>,
}

/// A directory. It must exist: an absent one may be a mount that is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct FileSettings {
    /// Where the files are written; one destination's alone.
    pub directory: PathBuf,
    /// One file a message, or one growing file.
    pub layout: FileLayout,
}

/// One file a message, or one growing NDJSON file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileLayout {
    /// `000000000123.hl7` or `000000000123.json`, by message id.
    PerMessage,
    /// `messages.ndjson`, one JSON object a line.
    Ndjson,
}

/// A resolved credential. Never shown.
#[derive(Clone, PartialEq)]
pub struct Secret(pub Arc<str>);
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Makes the destination for its settings. Nothing is connected yet; the error names what in the settings cannot work.
pub fn open(settings: &Settings, meter: &Meter) -> Result<Arc<dyn Destination>, String> {
    Ok(match settings {
        Settings::Mllp(settings) => Arc::new(mllp::Mllp::new(settings.clone())),
        Settings::Fhir(settings) => Arc::new(fhir::Fhir::new(settings, meter)?),
        Settings::File(settings) => Arc::new(file::Directory::new(settings)),
    })
}

/// Counts how often one message was refused with a fault that may pass, so that a receiver's fault over one message
/// cannot hold up its lane for ever.
#[derive(Default)]
struct Refusals {
    id: u64,
    seen: u32,
}

impl Refusals {
    /// One more refusal of message `id`: `Unavailable` until there were `max` in a row, then `Rejected`.
    fn another(&mut self, id: u64, max: u32, reason: String) -> Verdict {
        if self.id != id {
            *self = Refusals { id, seen: 0 };
        }
        self.seen += 1;
        if self.seen < max {
            return Verdict::unavailable(reason);
        }
        self.seen = 0;
        Verdict::rejected(format!("{reason}, {max} times"))
    }
}
