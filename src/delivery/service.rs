//! What a lane needs to serve its destination, under one configuration.
//!
//! What must never happen: a message whose translation panics taking its lane along.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    channel::{self, Channel, OnReject},
    destination,
    hl7::{Message, ParseError},
    store::Waiting,
    translate::{Context, Recall, TranslateError, Translated, Unmapped},
};

type Read = dyn Fn(Bytes) -> Result<Message, ParseError> + Send + Sync;
type Translate = dyn Fn(&Message, Context, &Recall<'_>) -> Result<Translated, TranslateError> + Send + Sync;

/// Why a message could not be translated.
pub(super) struct Failure {
    /// A dead letter's reason.
    pub(super) reason: String,
    /// Codes that had no row.
    pub(super) unmapped: Vec<Unmapped>,
}

/// One destination's configuration in force, and its receiver.
pub(super) struct Service {
    pub(super) configuration: u64,
    pub(super) receiver: Arc<dyn destination::Destination>,
    pub(super) read: Box<Read>,
    pub(super) translate: Box<Translate>,
    pub(super) retry_first: Duration,
    pub(super) retry_max: Duration,
    pub(super) retry_refused: u32,
    pub(super) on_reject: OnReject,
    /// At least one.
    pub(super) resend_window: usize,
}

impl Service {
    pub(super) fn of_channel(
        channel: &Arc<Channel>,
        settings: &channel::Destination,
        receiver: Arc<dyn destination::Destination>,
    ) -> Service {
        let (owner, reader, name) = (channel.clone(), channel.clone(), settings.name.clone());
        Service {
            configuration: channel.hash,
            receiver,
            read: Box::new(move |received| reader.read(received)),
            translate: Box::new(move |message, context, recall| owner.translate(&name, message, context, recall)),
            retry_first: settings.retry_first,
            retry_max: settings.retry_max,
            retry_refused: settings.retry_refused,
            on_reject: settings.on_reject,
            resend_window: settings.resend_window.get(),
        }
    }

    /// What is to be sent to a destination that remembers what `recall` answers, or why there is nothing.
    pub(super) fn translated(&self, waiting: &Waiting, recall: &Recall<'_>) -> Result<Translated, Failure> {
        let context = Context { id: waiting.id.as_u64(), received_at: waiting.received_at, origins: false };
        let translation = || {
            let message = (self.read)(waiting.message.clone());
            let message = message.map_err(|error| Failure::new(error.to_string(), Vec::new()))?;
            (self.translate)(&message, context, recall).map_err(|error| Failure::new(error.to_string(), error.unmapped))
        };
        // Translation is pure: nothing it held can be left half changed.
        catch_unwind(AssertUnwindSafe(translation)).unwrap_or_else(|_| {
            Err(Failure::new("the translation panicked: a fault of the engine, report it".to_owned(), Vec::new()))
        })
    }
}

impl Failure {
    fn new(reason: String, unmapped: Vec<Unmapped>) -> Failure {
        Failure { reason: format!("translation: {reason}"), unmapped }
    }
}
