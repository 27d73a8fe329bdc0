//! What a lane needs to serve its destination, under one configuration.
//!
//! What must never happen: a message whose translation panics taking its lane along.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use crate::{
    channel::{self, Channel, OnReject},
    destination,
    hl7::Message,
    store::Waiting,
    translate::{Context, TranslateError, Translated},
};

type Translate = dyn Fn(&Message, Context) -> Result<Option<Translated>, TranslateError> + Send + Sync;

/// One destination's configuration in force, and its receiver.
pub(super) struct Service {
    pub(super) configuration: u64,
    pub(super) receiver: Arc<dyn destination::Destination>,
    pub(super) translate: Box<Translate>,
    pub(super) retry_first: Duration,
    pub(super) retry_max: Duration,
    pub(super) on_reject: OnReject,
}

impl Service {
    pub(super) fn of_channel(
        channel: &Arc<Channel>,
        settings: &channel::Destination,
        receiver: Arc<dyn destination::Destination>,
    ) -> Service {
        let (owner, name) = (channel.clone(), settings.name.clone());
        Service {
            configuration: channel.hash,
            receiver,
            translate: Box::new(move |message, context| owner.translate(&name, message, context)),
            retry_first: settings.retry_first,
            retry_max: settings.retry_max,
            on_reject: settings.on_reject,
        }
    }

    /// What is to be sent; `None` where a step dropped the message. The error is a dead letter's reason.
    pub(super) fn translated(&self, waiting: &Waiting) -> Result<Option<Translated>, String> {
        let context = Context { id: waiting.id.as_u64(), received_at: waiting.received_at, origins: false };
        let translation = || {
            let message = Message::parse(waiting.message.clone()).map_err(|error| error.to_string())?;
            (self.translate)(&message, context).map_err(|error| error.to_string())
        };
        // Translation is pure: nothing it held can be left half changed.
        catch_unwind(AssertUnwindSafe(translation))
            .unwrap_or_else(|_| Err("the translation panicked: a fault of the engine, report it".to_owned()))
            .map_err(|reason| format!("translation: {reason}"))
    }
}
