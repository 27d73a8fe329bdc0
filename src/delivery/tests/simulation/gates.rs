//! Where lanes stop until the simulation lets them go on: before they ask the store for their head, and at the receiver. Between
//! two gates a lane does what it does in the engine; what it asks the store to settle waits for the committer's turn.

use std::{collections::BTreeMap, sync::Arc, sync::Mutex};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;

use super::account::Account;
use crate::{
    destination::{Destination, Outgoing, Sender, Verdict},
    store::*,
    translate::Format,
};

/// What a lane waits for.
pub(super) enum Gate {
    Next(oneshot::Sender<()>),
    Send(Box<Outgoing>, oneshot::Sender<Verdict>),
}

/// Of one life of the engine: shut for good when it ends.
#[derive(Clone, Default)]
pub(super) struct Gates(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    /// In an order that does not depend on which task came first.
    lanes: BTreeMap<LaneId, Gate>,
    shut: bool,
}

impl Gates {
    /// Lanes that wait at a gate.
    pub(super) fn lanes(&self) -> Vec<LaneId> {
        let mut held = self.0.lock().unwrap();
        held.lanes.retain(|_, gate| !gate.is_left());
        held.lanes.keys().cloned().collect()
    }

    pub(super) fn open(&self, lane: &LaneId) -> Option<Gate> {
        self.0.lock().unwrap().lanes.remove(lane)
    }

    /// Nobody gets through any more.
    pub(super) fn shut(&self) {
        let mut held = self.0.lock().unwrap();
        held.shut = true;
        held.lanes.clear();
    }

    fn is_shut(&self) -> bool {
        self.0.lock().unwrap().shut
    }

    fn wait<T>(&self, lane: &LaneId, gate: impl FnOnce(oneshot::Sender<T>) -> Gate) -> oneshot::Receiver<T> {
        let (sender, receiver) = oneshot::channel();
        let mut held = self.0.lock().unwrap();
        if !held.shut {
            held.lanes.insert(lane.clone(), gate(sender));
        }
        receiver
    }
}

impl Gate {
    /// The lane has given up waiting at it.
    fn is_left(&self) -> bool {
        match self {
            Gate::Next(go) => go.is_closed(),
            Gate::Send(_, answer) => answer.is_closed(),
        }
    }
}

/// The receivers of one destination.
pub(super) struct Receiver {
    pub(super) destination: Arc<str>,
    /// Messages of one send at most.
    pub(super) together: usize,
    pub(super) gates: Gates,
}

struct ReceiverLane {
    lane: LaneId,
    gates: Gates,
}

impl Destination for Receiver {
    fn sender(&self, lane: u16) -> Box<dyn Sender> {
        let lane = LaneId { channel: "pumps".into(), destination: self.destination.clone(), lane };
        Box::new(ReceiverLane { lane, gates: self.gates.clone() })
    }

    fn together_max(&self) -> usize {
        self.together
    }

    fn together(&self, run: &[Outgoing]) -> Option<(Outgoing, usize)> {
        let first = run.first().filter(|_| run.len() > 1)?;
        let of = |each: &Outgoing| (each.id, each.possible_repeat, each.body.to_vec());
        let body = postcard::to_stdvec(&run.iter().map(of).collect::<Vec<_>>()).unwrap();
        let possible_repeat = run.iter().any(|each| each.possible_repeat);
        Some((Outgoing { body: body.into(), format: Format::FhirBundle, possible_repeat, ..first.clone() }, run.len()))
    }
}

/// What one send holds.
pub(super) fn messages(sent: Outgoing) -> Vec<Outgoing> {
    if sent.format == Format::Hl7 {
        return vec![sent];
    }
    let messages: Vec<(u64, bool, Vec<u8>)> = postcard::from_bytes(&sent.body).unwrap();
    let one = |(id, possible_repeat, body): (_, _, Vec<u8>)| Outgoing {
        id,
        possible_repeat,
        body: body.into(),
        format: Format::Hl7,
        ..sent.clone()
    };
    messages.into_iter().map(one).collect()
}

impl Sender for ReceiverLane {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        let told = self.gates.wait(&self.lane, |answer| Gate::Send(Box::new(outgoing.clone()), answer));
        async move { told.await.unwrap_or_else(|_| Verdict::ambiguous("the engine stopped")) }.boxed()
    }
}

/// The engine's store, gates before it.
pub(super) struct GatedStore {
    pub(super) store: Arc<dyn Store>,
    pub(super) gates: Gates,
    pub(super) account: Arc<Mutex<Account>>,
    /// A fault on purpose: deliveries are settled that nobody made.
    pub(super) drops: bool,
    /// A fault on purpose: some of what is to be remembered is not.
    pub(super) forgets: bool,
}

impl GatedStore {
    async fn dropped(store: &dyn Store, lane: &LaneId, waiting: &Waiting) -> Result<Waiting, StoreError> {
        let receipt = Receipt {
            sent_sha256: [0; 32],
            configuration: 0,
            answer: "AA".into(),
            attempts: 1,
            at: waiting.received_at,
            episodes: vec![],
        };
        store.settle(lane, waiting.entry, Settlement::Accepted(receipt)).await?;
        store.next(lane).await
    }
}

impl Store for GatedStore {
    fn next(&self, lane: &LaneId) -> BoxFuture<'static, Result<Waiting, StoreError>> {
        let (lane, store, drops) = (lane.clone(), Arc::clone(&self.store), self.drops);
        let gate = self.gates.wait(&lane, Gate::Next);
        async move {
            gate.await.map_err(|_| StoreError::Closed)?;
            let waiting = store.next(&lane).await?;
            if drops && waiting.id.as_u64().is_multiple_of(5) {
                return GatedStore::dropped(&*store, &lane, &waiting).await;
            }
            Ok(waiting)
        }
        .boxed()
    }
    fn following(&self, lane: &LaneId, entry: Sequence, limit: usize) -> Vec<Waiting> {
        self.store.following(lane, entry, limit)
    }
    fn queued(&self, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued> {
        self.store.queued(lane, from, limit)
    }

    fn settle(
        &self,
        lane: &LaneId,
        entry: Sequence,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        if self.gates.is_shut() {
            return futures_util::future::ready(Err(StoreError::Closed)).boxed();
        }
        let mut settlement = settlement;
        if let Settlement::Accepted(receipt) = &mut settlement
            && self.forgets
            && entry.as_u64().is_multiple_of(5)
        {
            receipt.episodes.clear();
        }
        let (lane, account) = (lane.clone(), Arc::clone(&self.account));
        account.lock().unwrap().settling(&lane, entry.as_u64(), &settlement);
        let answer = self.store.settle(&lane, entry, settlement);
        async move {
            let answer = answer.await;
            account.lock().unwrap().settled(&lane, entry.as_u64(), &answer);
            answer
        }
        .boxed()
    }
    fn recall(&self, channel: &str, destination: &str, episode: &[u8]) -> Option<Bytes> {
        self.store.recall(channel, destination, episode)
    }
    fn pseudonym(&self, parts: &[&[u8]]) -> u64 {
        self.store.pseudonym(parts)
    }
    fn append(&self, received: Received) -> BoxFuture<'static, Result<Appended, StoreError>> {
        self.store.append(received)
    }
    fn attempted(&self, lane: &LaneId, entry: Sequence, attempt: Attempt) {
        self.store.attempted(lane, entry, attempt);
    }
    fn replay(&self, ids: Vec<Sequence>, destination: Option<Arc<str>>) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.store.replay(ids, destination)
    }
    fn find(&self, query: Query) -> BoxFuture<'static, Result<Vec<Summary>, StoreError>> {
        self.store.find(query)
    }
    fn read(&self, id: Sequence) -> BoxFuture<'static, Result<Kept, StoreError>> {
        self.store.read(id)
    }
    fn taken(&self, from: Sequence) -> BoxFuture<'static, Result<Taken, StoreError>> {
        self.store.taken(from)
    }
    fn dead(
        &self,
        channel: Option<String>,
        cursor: Option<Sequence>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<DeadLetter>, StoreError>> {
        self.store.dead(channel, cursor, limit)
    }
    fn retry_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.retry_dead(entry)
    }
    fn discard_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.discard_dead(entry)
    }
    fn give_up(&self, lane: &LaneId, reason: String, discard: bool) -> BoxFuture<'static, Result<u64, StoreError>> {
        self.store.give_up(lane, reason, discard)
    }
    fn pause(
        &self,
        channel: Arc<str>,
        destination: Arc<str>,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.pause(channel, destination, paused)
    }
    fn paused(&self) -> Vec<ChannelDestination> {
        self.store.paused()
    }
    fn lanes(&self) -> Vec<LaneStatus> {
        self.store.lanes()
    }
    fn dead_counts(&self) -> Vec<(ChannelDestination, u64)> {
        self.store.dead_counts()
    }
    fn stats(&self) -> Stats {
        self.store.stats()
    }
    fn failures(&self) -> u64 {
        self.store.failures()
    }
    fn health(&self) -> Result<(), StoreError> {
        self.store.health()
    }
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.store.close()
    }
}
