//! How types that hold messages or identities show themselves: by numbers and sizes. No content, whatever is logged.

use std::fmt::{Debug, Formatter, Result};

use super::{Kept, Query, Received, RepeatCheck, SearchKeys, Waiting, request::NewMessage};

impl Debug for RepeatCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RepeatCheck").field("key_bytes", &self.key.len()).field("window", &self.window).finish()
    }
}

impl Debug for Received {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Received")
            .field("channel", &self.channel)
            .field("at", &self.at)
            .field("bytes", &self.message.len())
            .field("routes", &self.routes)
            .field("repeat", &self.repeat)
            .field("ack", &self.ack)
            .field("keys", &self.keys)
            .field("findings", &self.findings.len())
            .finish()
    }
}

impl Debug for SearchKeys {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SearchKeys")
            .field("control_id_bytes", &self.control_id.len())
            .field("patients", &self.patient.len())
            .field("devices", &self.device.len())
            .finish()
    }
}

impl Debug for Waiting {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Waiting")
            .field("entry", &self.entry)
            .field("id", &self.id)
            .field("received_at", &self.received_at)
            .field("bytes", &self.message.len())
            .field("possible_repeat", &self.possible_repeat)
            .finish()
    }
}

impl Debug for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Query")
            .field("channel", &self.channel)
            .field("from", &self.from)
            .field("to", &self.to)
            .field("by_control_id", &self.control_id.is_some())
            .field("by_patient", &self.patient.is_some())
            .field("by_device", &self.device.is_some())
            .field("destination", &self.destination)
            .field("state", &self.state)
            .field("limit", &self.limit)
            .field("cursor", &self.cursor)
            .finish()
    }
}

impl Debug for Kept {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Kept")
            .field("summary", &self.summary)
            .field("bytes", &self.message.len())
            .field("events", &self.events)
            .field("findings", &self.findings.len())
            .finish()
    }
}

impl Debug for NewMessage {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("NewMessage")
            .field("channel", &self.header.channel)
            .field("at", &self.header.at)
            .field("routes", &self.header.routes)
            .field("bytes", &self.message.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Sequence, State, Summary,
        conformance::{noon, with_key},
        keyed::Keyed,
        request::Request,
    };

    #[test]
    fn no_content_and_no_identity_is_shown() {
        let message = with_key("secret", "secret");
        let identity = || Some(b"secret".to_vec());
        let (id, at, bytes) = (Sequence::from_u64(1), noon(), message.message.clone());
        let summary = Summary {
            id,
            channel: "pumps".into(),
            received_at: at,
            bytes: 1,
            ack: None,
            state: State::Waiting,
            deliveries: vec![],
        };
        let query = Query { control_id: identity(), patient: identity(), device: identity(), ..Query::default() };
        let waiting = Waiting { entry: id, id, received_at: at, message: bytes.clone(), possible_repeat: false };
        let shown = [
            format!("{query:?}"),
            format!("{waiting:?}"),
            format!("{:?}", Kept { summary, message: bytes, events: vec![], findings: vec![] }),
            format!("{message:?}"),
            format!("{:?}", Request::Append(Box::new(NewMessage::new(message, &Keyed::new(&[0; 32]))))),
        ];
        // A byte string shows itself as text or as a list of numbers.
        let numbers = format!("{:?}", b"secret").replace(['[', ']'], "");
        for shown in shown {
            assert!(!shown.contains("secret") && !shown.contains(&numbers), "{shown}");
        }
    }
}
