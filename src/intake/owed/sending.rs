//! Due ACKs on their way: by the connection their sender has now, else by its `ack_address`.
//!
//! What must never happen: a sender's later ACK is written before an earlier one that is as due. So one task at a time
//! writes to a connection, each ACK once the one before it was given to the socket.

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
    sabotage::{self, CrashPoint},
    store::{LaneId, Receipt, Sequence, Settlement, StoreError},
};

/// To connect to an `ack_address`, and to write to it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What a receipt says of an ACK that the sender did not want for this outcome.
const NOT_ASKED: &str = "not asked for";

/// A due ACK, ready to be written; `None` of the two where none is wanted for what happened.
struct Ready {
    channel: Arc<str>,
    entry: u64,
    written: Option<(Bytes, Code)>,
}

impl Owed {
    /// Whether anything is owed to anybody.
    pub(in crate::intake) fn owes(&self) -> bool {
        !self.inner().book.is_empty()
    }

    /// A sender is heard over this connection: from now on its ACKs go there, those that could not be sent too.
    pub(in crate::intake) fn met(self: &Arc<Owed>, channel: &Arc<str>, header: &Header<'_>, outlet: Option<&Outlet>) {
        let Some(outlet) = outlet else { return };
        let sender = SenderId::of(channel, header);
        {
            let mut inner = self.inner();
            if inner.outlets.get(&sender).is_some_and(|known| known.leads_where(outlet)) {
                return;
            }
            if inner.outlets.len() >= SENDERS_MAX {
                inner.outlets.retain(|_, outlet| outlet.is_open());
            }
            if inner.outlets.len() >= SENDERS_MAX {
                return;
            }
            inner.outlets.insert(sender.clone(), outlet.clone());
            if inner.book.next_waiting(&sender).is_some() {
                self.room.notify_one();
            }
        }
        self.send_due(&sender);
    }

    /// Sends a due ACK in its turn, if there is a way; ends one that its sender does not want.
    pub(super) fn send_or_end(self: &Arc<Owed>, id: u64) {
        let Some(ready) = self.ready(id) else { return };
        if ready.written.is_none() {
            return self.end(id, ready, NOT_ASKED.to_owned(), None);
        }
        let sender = self.inner().book.get(id).and_then(|followed| Some(followed.owing.as_ref()?.sender.clone()));
        sender.iter().for_each(|sender| self.send_due(sender));
    }

    /// Begins to send what is due to a sender, unless that goes on already.
    pub(super) fn send_due(self: &Arc<Owed>, sender: &SenderId) {
        let mut inner = self.inner();
        if inner.book.next_due(sender).is_none() {
            return;
        }
        let Some(outlet) = inner.outlets.get(sender).filter(|outlet| outlet.is_open()).cloned() else {
            drop(inner);
            return self.call_for(sender.channel());
        };
        if inner.draining.get(sender).is_some_and(|known| known.leads_where(&outlet)) {
            return;
        }
        inner.draining.insert(sender.clone(), outlet.clone());
        drop(inner);
        let (owed, sender) = (self.clone(), sender.clone());
        tokio::spawn(async move { owed.drain(&sender, &outlet).await });
    }

    /// Writes what is due to a sender, in order, until nothing is or it has another connection.
    async fn drain(self: Arc<Owed>, sender: &SenderId, outlet: &Outlet) {
        while let Some(id) = self.take_next(sender, outlet) {
            let Some(ready) = self.ready(id) else { continue };
            let Some((message, code)) = ready.written.clone() else {
                self.end(id, ready, NOT_ASKED.to_owned(), None);
                continue;
            };
            let written = outlet.send_in_turn(message.clone()).await;
            let sent = match written {
                Some(written) => written.await.is_ok(),
                None => false,
            };
            match sent {
                true => {
                    sabotage::crash_at(CrashPoint::AfterOwedAck);
                    self.end(id, ready, code.as_str().to_owned(), Some((message, code)));
                }
                false => drop(self.inner().book.came_back(id)),
            }
        }
        // It may have come back by another connection meanwhile.
        self.send_due(sender);
    }

    /// The next one to be written to this connection, which is noted as on its way.
    fn take_next(&self, sender: &SenderId, outlet: &Outlet) -> Option<u64> {
        let mut inner = self.inner();
        if !inner.draining.get(sender).is_some_and(|known| known.leads_where(outlet)) {
            return None;
        }
        let Some(id) = inner.book.next_due(sender).filter(|_| outlet.is_open()) else {
            inner.draining.remove(sender);
            return None;
        };
        inner.book.goes(id);
        Some(id)
    }

    fn ready(&self, id: u64) -> Option<Ready> {
        let inner = self.inner();
        let followed = inner.book.get(id)?;
        let owing = followed.owing.as_ref()?;
        let outcome: &Outcome = &owing.due.as_ref()?.outcome;
        let (header, _) = Header::read(&owing.header);
        let written = reply::application(&followed.stored, outcome, &header, &owing.asked, self.clock.now());
        Some(Ready { channel: followed.channel.clone(), entry: owing.entry, written })
    }

    /// Notes that the ACK was sent. Where that cannot be written down it is sent again, which its sender can tell by MSA-2.
    fn end(self: &Arc<Owed>, id: u64, due: Ready, answer: String, sent: Option<(Bytes, Code)>) {
        if let Some((_, code)) = &sent {
            self.metrics.acks_sent.with_label_values(&[&*due.channel, code.as_str()]).inc();
        }
        let bytes = sent.map(|(bytes, _)| bytes).unwrap_or_default();
        let sent_sha256 = Sha256::digest(&bytes).into();
        let receipt =
            Receipt { sent_sha256, configuration: 0, answer, attempts: 1, at: self.clock.now(), episodes: vec![] };
        self.inner().book.goes(id);
        let lane = LaneId::to_sender(due.channel);
        let settled = self.store.settle(&lane, Sequence::from_u64(due.entry), Settlement::Accepted(receipt));
        let owed = self.clone();
        tokio::spawn(async move {
            match settled.await {
                Ok(()) | Err(StoreError::NotFound) => {
                    owed.inner().book.forget(id);
                    owed.room.notify_one();
                }
                Err(fault) => {
                    debug!(channel = %lane.channel, id, %fault, "an application ACK is not noted as sent yet");
                    owed.inner().book.came_back(id);
                }
            }
        });
    }

    /// Calls the channel's `ack_address`, if it has one.
    fn call_for(self: &Arc<Owed>, channel: &Arc<str>) {
        let mut inner = self.inner();
        let Some(AckWhen::Delivered { address: Some(address), .. }) = inner.channels.get(channel) else { return };
        let address = address.clone();
        if inner.calling.insert(channel.clone()) {
            let (owed, channel) = (self.clone(), channel.clone());
            tokio::spawn(async move { owed.call(channel, address).await });
        }
    }

    /// Sends what is due to senders of the channel without a connection to their `ack_address`, over one connection of ours.
    async fn call(self: Arc<Owed>, channel: Arc<str>, address: String) {
        if let Err(error) = self.call_with_due(&channel, &address).await {
            debug!(%channel, %error, "the ack_address cannot be reached; tried again");
        }
        self.inner().calling.remove(&channel);
    }

    async fn call_with_due(self: &Arc<Owed>, channel: &Arc<str>, address: &str) -> Result<(), String> {
        let connected = client::Client::connect(address, None, CALL_TIMEOUT).await;
        let mut client = connected.map_err(|error| error.to_string())?;
        let mut after = 0;
        while let Some(id) = self.next_unreached(channel, after) {
            after = id;
            let Some(ready) = self.ready(id) else { continue };
            let Some((message, code)) = ready.written.clone() else { continue };
            self.inner().book.goes(id);
            if let Err(error) = client.tell(&message, CALL_TIMEOUT).await {
                self.inner().book.came_back(id);
                return Err(error.to_string());
            }
            self.end(id, ready, code.as_str().to_owned(), Some((message, code)));
        }
        Ok(())
    }

    /// The next message after `after` whose due ACK has no connection to go by.
    fn next_unreached(&self, channel: &Arc<str>, after: u64) -> Option<u64> {
        let inner = self.inner();
        let unreached = |sender: &SenderId| inner.outlets.get(sender).is_none_or(|outlet| !outlet.is_open());
        let fits = |followed: &super::Followed| {
            let owing = followed.owing.as_ref();
            followed.channel == *channel && followed.is_due() && owing.is_some_and(|owing| unreached(&owing.sender))
        };
        inner.book.after(after).find(|(_, followed)| fits(followed)).map(|(id, _)| id)
    }
}
