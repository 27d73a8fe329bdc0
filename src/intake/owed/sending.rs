//! Due ACKs on their way: by the connection their sender has now, else by its `ack_address`.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tracing::debug;

use super::{Outcome, Owed, SENDERS_MAX, followed::SenderId};
use crate::{
    channel::AckWhen,
    hl7::{Header, ack::Code},
    intake::reply,
    mllp::{client, server::Outlet},
    store::{LaneId, Receipt, Sequence, Settlement, StoreError},
};

/// To connect to an `ack_address`, and to write to it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a receipt says of an ACK that the sender did not want for this outcome.
const NOT_ASKED: &str = "not asked for";

/// A due ACK, ready to be written; `None` of the two where none is wanted for what happened.
struct Due {
    channel: Arc<str>,
    sender: SenderId,
    entry: u64,
    written: Option<(Bytes, Code)>,
}

impl Owed {
    /// A sender is heard over this connection: from now on its ACKs go there, those that could not be sent too.
    pub(super) fn met(self: &Arc<Owed>, sender: SenderId, outlet: &Outlet) {
        let mut inner = self.inner();
        if inner.senders.get(&sender).is_some_and(|known| known.leads_where(outlet)) {
            return;
        }
        if inner.senders.len() >= SENDERS_MAX {
            inner.senders.retain(|_, outlet| outlet.is_open());
        }
        if inner.senders.len() >= SENDERS_MAX {
            return;
        }
        inner.senders.insert(sender.clone(), outlet.clone());
        let is_its = |owing: &super::Owing| owing.sender == sender;
        let due = inner.followed.iter().filter(|(_, followed)| followed.is_due());
        let due = due.filter(|(_, followed)| followed.owing.as_ref().is_some_and(is_its));
        let due: Vec<u64> = due.map(|(id, _)| *id).collect();
        drop(inner);
        due.into_iter().for_each(|id| self.dispatch(id));
    }

    /// Sends a due ACK if there is a way.
    pub(super) fn dispatch(self: &Arc<Owed>, id: u64) {
        let Some(due) = self.due(id) else { return };
        let Some((message, code)) = due.written.clone() else {
            return self.end(id, due, NOT_ASKED.to_owned(), None);
        };
        let mut inner = self.inner();
        let outlet = inner.senders.get(&due.sender).filter(|outlet| outlet.is_open()).cloned();
        let Some(outlet) = outlet else {
            let address = match inner.channels.get(&due.channel) {
                Some(AckWhen::Delivered { address: Some(address), .. }) => address.clone(),
                _ => return,
            };
            if inner.calling.insert(due.channel.clone()) {
                let (owed, channel) = (self.clone(), due.channel);
                tokio::spawn(async move { owed.call(channel, address).await });
            }
            return;
        };
        let Some(owing) = inner.followed.get_mut(&id).and_then(|followed| followed.owing.as_mut()) else { return };
        let written = if owing.sending { None } else { outlet.send(message.clone()) };
        let Some(written) = written else { return };
        owing.sending = true;
        drop(inner);
        let owed = self.clone();
        tokio::spawn(async move {
            match written.await {
                Ok(()) => owed.end(id, due, code.as_str().to_owned(), Some((message, code))),
                Err(_) => owed.unsent(id),
            }
        });
    }

    fn due(&self, id: u64) -> Option<Due> {
        let inner = self.inner();
        let followed = inner.followed.get(&id)?;
        let owing = followed.owing.as_ref().filter(|owing| !owing.sending)?;
        let outcome: &Outcome = &owing.due.as_ref()?.0;
        let (header, _) = Header::read(&owing.header);
        let written = reply::application(&followed.stored, outcome, &header, &owing.asked, self.clock.now());
        Some(Due { channel: followed.channel.clone(), sender: owing.sender.clone(), entry: owing.entry, written })
    }

    /// The connection ended first: it is tried again by the sender's next one.
    fn unsent(&self, id: u64) {
        if let Some(owing) = self.inner().followed.get_mut(&id).and_then(|followed| followed.owing.as_mut()) {
            owing.sending = false;
        }
    }

    /// Notes that the ACK was sent. Where that cannot be written down it is sent again, which its sender can tell by MSA-2.
    fn end(self: &Arc<Owed>, id: u64, due: Due, answer: String, sent: Option<(Bytes, Code)>) {
        if let Some((_, code)) = &sent {
            self.metrics.acks_sent.with_label_values(&[&*due.channel, code.as_str()]).inc();
        }
        let bytes = sent.map(|(bytes, _)| bytes).unwrap_or_default();
        let sent_sha256 = Sha256::digest(&bytes).into();
        let receipt =
            Receipt { sent_sha256, configuration: 0, answer, attempts: 1, at: self.clock.now(), episodes: vec![] };
        if let Some(owing) = self.inner().followed.get_mut(&id).and_then(|followed| followed.owing.as_mut()) {
            owing.sending = true;
        }
        let lane = LaneId::to_sender(due.channel);
        let settled = self.store.settle(&lane, Sequence::from_u64(due.entry), Settlement::Accepted(receipt));
        let owed = self.clone();
        tokio::spawn(async move {
            match settled.await {
                Ok(()) | Err(StoreError::NotFound) => drop(owed.inner().followed.remove(&id)),
                Err(fault) => {
                    debug!(channel = %lane.channel, id, %fault, "an application ACK is not noted as sent yet");
                    owed.unsent(id);
                }
            }
        });
    }

    /// Sends what is due to senders of the channel without a connection to their `ack_address`, over one connection of ours.
    async fn call(self: Arc<Owed>, channel: Arc<str>, address: String) {
        if let Err(error) = self.call_with_due(&channel, &address).await {
            debug!(%channel, %error, "the ack_address cannot be reached; tried again");
        }
        self.inner().calling.remove(&channel);
    }

    async fn call_with_due(self: &Arc<Owed>, channel: &Arc<str>, address: &str) -> Result<(), String> {
        let connected = client::Client::connect(address, CALL_TIMEOUT).await;
        let mut client = connected.map_err(|error| error.to_string())?;
        let mut after = 0;
        while let Some(id) = self.next_unreached(channel, after) {
            after = id;
            let Some(due) = self.due(id) else { continue };
            let Some((message, code)) = due.written.clone() else { continue };
            client.tell(&message, CALL_TIMEOUT).await.map_err(|error| error.to_string())?;
            self.end(id, due, code.as_str().to_owned(), Some((message, code)));
        }
        Ok(())
    }

    /// The next message after `after` whose due ACK has no connection to go by.
    fn next_unreached(&self, channel: &Arc<str>, after: u64) -> Option<u64> {
        let inner = self.inner();
        let mut later = inner.followed.range(after + 1..);
        let unreached = |sender: &SenderId| inner.senders.get(sender).is_none_or(|outlet| !outlet.is_open());
        let fits = |followed: &super::Followed| {
            let owing = followed.owing.as_ref();
            followed.channel == *channel && followed.is_due() && owing.is_some_and(|owing| unreached(&owing.sender))
        };
        later.find(|(_, followed)| fits(followed)).map(|(id, _)| *id)
    }
}
