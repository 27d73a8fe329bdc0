//! What delivery's tests stand on: a store whose faults can be chosen, and a receiver that answers when told to.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::super::*;
use crate::{
    channel::OnReject,
    destination::{Destination, Outgoing, Sender, Verdict},
    hl7::Message,
    store::{
        Appended, Attempt, DeadLetter, Kept, LaneStatus, Query, Queued, Received, Sequence, Settlement, Stats,
        StoreError, Summary, Taken, Waiting,
    },
    translate::{Context, Format, Remembered, TranslateError, Translated},
};

/// Bound on every wait. Virtual where the test's time is paused, and longer than any back-off there.
pub(super) const BOUND: Duration = Duration::from_secs(3600);

/// Lanes in memory.
#[derive(Clone)]
pub(super) struct Shelf(Arc<(Mutex<Contents>, watch::Sender<()>)>);

#[derive(Default)]
pub(super) struct Contents {
    lanes: BTreeMap<LaneId, VecDeque<Waiting>>,
    pub(super) settled: Vec<(LaneId, u64, Settlement)>,
    pub(super) attempts: Vec<(u64, String)>,
    paused: BTreeSet<Key>,
    /// What the answers of the next pauses wait for, once they are durable.
    pub(super) pause_gates: VecDeque<oneshot::Receiver<()>>,
    /// Answers of the next settles, before they succeed.
    pub(super) settle_faults: VecDeque<StoreError>,
    /// What the answers of the next settles wait for.
    pub(super) recordings: VecDeque<oneshot::Receiver<()>>,
    pub(super) next_fault: Option<StoreError>,
    pub(super) nexts: usize,
    remembered: Remembered,
}

impl Contents {
    /// What heads a lane may have been sent before.
    pub(super) fn suspect_head(&mut self, destination: &str, lane: u16) {
        self.lanes.get_mut(&lane_id(destination, lane)).unwrap()[0].possible_repeat = true;
    }

    /// Ids in a lane, in order.
    pub(super) fn waiting(&self, destination: &str, lane: u16) -> Vec<u64> {
        self.lanes[&lane_id(destination, lane)].iter().map(|waiting| waiting.id.as_u64()).collect()
    }
}

pub(super) fn lane_id(destination: &str, lane: u16) -> LaneId {
    LaneId { channel: "pumps".into(), destination: destination.into(), lane }
}

impl Shelf {
    pub(super) fn new() -> Shelf {
        Shelf(Arc::new((Mutex::default(), watch::Sender::new(()))))
    }

    /// Messages `ids` at the tail of a lane.
    pub(super) fn put(&self, destination: &str, lane: u16, ids: impl IntoIterator<Item = u64>) {
        let waiting = |id: u64| Waiting {
            entry: Sequence::from_u64(id),
            id: Sequence::from_u64(id),
            received_at: jiff::Timestamp::UNIX_EPOCH,
            message: format!("MSH|^~\\&|PUMP|W4|EHR|H|20260101||ORU^R01|{id}|P|2.6\r").into(),
            possible_repeat: false,
        };
        self.with(|contents| {
            contents.lanes.entry(lane_id(destination, lane)).or_default().extend(ids.into_iter().map(waiting));
        });
    }

    /// Reads or changes the contents, and wakes who waits.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Contents) -> T) -> T {
        let done = act(&mut self.0.0.lock().unwrap());
        self.0.1.send_replace(());
        done
    }

    /// Until `done` holds of the contents.
    pub(super) async fn until(&self, mut done: impl FnMut(&Contents) -> bool) {
        let mut changed = self.0.1.subscribe();
        timeout(BOUND, async {
            while !done(&self.0.0.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        })
        .await
        .expect("the store came to that");
    }

    pub(super) async fn until_settled(&self, count: usize) {
        self.until(|contents| contents.settled.len() == count).await;
    }

    /// Id and `accepted ANSWER ATTEMPTS` or `dead REASON ATTEMPTS`, in order.
    pub(super) fn outcomes(&self) -> Vec<(u64, String)> {
        self.with(|contents| contents.settled.iter().map(|(_, id, how)| (*id, told(how))).collect())
    }
}

pub(super) fn told(settlement: &Settlement) -> String {
    match settlement {
        Settlement::Accepted(receipt) => format!("accepted {} {}", receipt.answer, receipt.attempts),
        Settlement::Dead { reason, attempts } => format!("dead {reason} {attempts}"),
    }
}

impl Store for Shelf {
    fn next(&self, lane: &LaneId) -> BoxFuture<'static, Result<Waiting, StoreError>> {
        let (shelf, lane) = (self.clone(), lane.clone());
        let mut changed = self.0.1.subscribe();
        Box::pin(async move {
            shelf.0.0.lock().unwrap().nexts += 1;
            loop {
                {
                    let contents = shelf.0.0.lock().unwrap();
                    if let Some(fault) = contents.next_fault.clone() {
                        return Err(fault);
                    }
                    if let Some(head) = contents.lanes.get(&lane).and_then(VecDeque::front) {
                        return Ok(head.clone());
                    }
                }
                changed.changed().await.map_err(|_| StoreError::Closed)?;
            }
        })
    }

    fn following(&self, lane: &LaneId, entry: Sequence, limit: usize) -> Vec<Waiting> {
        let waiting = self.with(|contents| contents.lanes.get(lane).cloned().unwrap_or_default());
        waiting.into_iter().filter(|waiting| waiting.entry > entry).take(limit).collect()
    }

    fn queued(&self, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued> {
        let queued =
            |waiting: &Waiting| Queued { entry: waiting.entry, id: waiting.id, received_at: waiting.received_at };
        let waiting = |contents: &mut Contents| contents.lanes.get(lane).cloned().unwrap_or_default();
        let waiting = self.with(waiting);
        waiting.iter().filter(|waiting| waiting.entry >= from).take(limit).map(queued).collect()
    }

    fn settle(
        &self,
        lane: &LaneId,
        entry: Sequence,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        // Decided in the call; recorded when the answer is asked for, or when `recordings` says so.
        let (decided, gate) = self.with(|contents| {
            let gate = contents.recordings.pop_front();
            if let Some(fault) = contents.settle_faults.pop_front() {
                return (Err(fault), gate);
            }
            let queue = contents.lanes.entry(lane.clone()).or_default();
            let head = queue.pop_front_if(|head| head.entry == entry).ok_or(StoreError::NotFound);
            (head, gate)
        });
        let (shelf, lane) = (self.clone(), lane.clone());
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            let head = decided?;
            shelf.with(|contents| {
                if let Settlement::Accepted(receipt) = &settlement {
                    contents.remembered.change(&receipt.episodes);
                }
                contents.settled.push((lane, head.id.as_u64(), settlement));
            });
            Ok(())
        })
    }

    fn recall(&self, _: &str, _: &str, episode: &[u8]) -> Option<Bytes> {
        self.0.0.lock().unwrap().remembered.recall(episode)
    }

    fn pseudonym(&self, parts: &[&[u8]]) -> u64 {
        crate::channel::stable_hash(parts.iter().copied())
    }

    fn attempted(&self, lane: &LaneId, entry: Sequence, attempt: Attempt) {
        self.with(|contents| {
            let head = contents.lanes.get(lane).and_then(VecDeque::front).filter(|head| head.entry == entry);
            // Nothing is marked: a store may note it later, and the lane must know by itself.
            assert!(head.is_some(), "an attempt of the head");
            contents.attempts.push((entry.as_u64(), attempt.outcome));
        });
    }

    fn give_up(&self, _: &LaneId, _: String, _: bool) -> BoxFuture<'static, Result<u64, StoreError>> {
        unreachable!()
    }
    fn pause(
        &self,
        channel: Arc<str>,
        destination: Arc<str>,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let gate = self.with(|contents| {
            let key = (channel, destination);
            if paused {
                contents.paused.insert(key)
            } else {
                contents.paused.remove(&key)
            };
            contents.pause_gates.pop_front()
        });
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.await.unwrap();
            }
            Ok(())
        })
    }

    fn paused(&self) -> Vec<Key> {
        self.with(|contents| contents.paused.iter().cloned().collect())
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        let status = |(lane, queue): (&LaneId, &VecDeque<Waiting>)| LaneStatus {
            lane: lane.clone(),
            waiting: queue.len() as u64,
            oldest: queue.front().map(|head| head.received_at),
        };
        self.0.0.lock().unwrap().lanes.iter().map(status).collect()
    }

    fn dead_counts(&self) -> Vec<(Key, u64)> {
        let mut counts = BTreeMap::new();
        for (lane, _, how) in &self.0.0.lock().unwrap().settled {
            if matches!(how, Settlement::Dead { .. }) {
                *counts.entry((lane.channel.clone(), lane.destination.clone())).or_default() += 1;
            }
        }
        counts.into_iter().collect()
    }

    // Delivery asks nothing of these.
    fn append(&self, _: Received) -> BoxFuture<'static, Result<Appended, StoreError>> {
        unreachable!()
    }
    fn replay(&self, _: Vec<Sequence>, _: Option<Arc<str>>) -> BoxFuture<'static, Result<u64, StoreError>> {
        unreachable!()
    }
    fn find(&self, _: Query) -> BoxFuture<'static, Result<Vec<Summary>, StoreError>> {
        unreachable!()
    }
    fn read(&self, _: Sequence) -> BoxFuture<'static, Result<Kept, StoreError>> {
        unreachable!()
    }
    fn taken(&self, _: Sequence) -> BoxFuture<'static, Result<Taken, StoreError>> {
        unreachable!()
    }
    fn dead(
        &self,
        _: Option<String>,
        _: Option<Sequence>,
        _: usize,
    ) -> BoxFuture<'static, Result<Vec<DeadLetter>, StoreError>> {
        unreachable!()
    }
    fn retry_dead(&self, _: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        unreachable!()
    }
    fn discard_dead(&self, _: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        unreachable!()
    }
    fn stats(&self) -> Stats {
        unreachable!()
    }
    fn failures(&self) -> u64 {
        0
    }
    fn health(&self) -> Result<(), StoreError> {
        Ok(())
    }
    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        unreachable!()
    }
}

/// One message that has arrived at the receiver and waits for its answer.
pub(super) struct Call {
    pub(super) lane: u16,
    pub(super) outgoing: Outgoing,
    answer: oneshot::Sender<Verdict>,
}

impl Call {
    pub(super) fn id(&self) -> u64 {
        self.outgoing.id
    }

    pub(super) fn accept(self) {
        self.answer(Verdict::Accepted { answer: "AA".into() });
    }

    pub(super) fn answer(self, verdict: Verdict) {
        let _ = self.answer.send(verdict);
    }

    /// The lane has given up waiting.
    pub(super) async fn given_up(mut self) {
        timeout(BOUND, self.answer.closed()).await.unwrap();
    }
}

/// A receiver that asks the test for each verdict. A call dropped unanswered panics inside `send`.
#[derive(Clone)]
pub(super) struct Receiver(mpsc::UnboundedSender<Call>, usize);

impl Destination for Receiver {
    fn sender(&self, lane: u16) -> Box<dyn Sender> {
        Box::new(ReceiverLane(self.clone(), lane))
    }

    fn together_max(&self) -> usize {
        self.1
    }

    fn together(&self, run: &[Outgoing]) -> Option<(Outgoing, usize)> {
        let first = run.first().filter(|_| run.len() > 1)?;
        let bodies: Vec<_> = run.iter().flat_map(|each| each.body.to_vec()).collect();
        let possible_repeat = run.iter().any(|each| each.possible_repeat);
        Some((Outgoing { body: bodies.into(), possible_repeat, ..first.clone() }, run.len()))
    }
}

struct ReceiverLane(Receiver, u16);

impl Sender for ReceiverLane {
    fn send<'a>(&'a mut self, outgoing: &'a Outgoing) -> BoxFuture<'a, Verdict> {
        let (answer, told) = oneshot::channel();
        self.0.0.send(Call { lane: self.1, outgoing: outgoing.clone(), answer }).unwrap();
        Box::pin(async move { told.await.expect("an answer") })
    }
}

/// The calls of one receiver.
pub(super) struct Calls(mpsc::UnboundedReceiver<Call>);

impl Calls {
    pub(super) async fn next(&mut self) -> Call {
        timeout(BOUND, self.0.recv()).await.expect("a call in time").unwrap()
    }

    /// Once every lane has come to rest, nothing more was sent.
    pub(super) async fn expect_none(&self) {
        at_rest().await;
        assert!(self.0.is_empty(), "a call that should not have been made");
    }
}

pub(super) fn receiver() -> (Arc<Receiver>, Calls) {
    receiver_of(1)
}

/// One that takes so many messages together.
pub(super) fn receiver_of(together: usize) -> (Arc<Receiver>, Calls) {
    let (calls, seen) = mpsc::unbounded_channel();
    (Arc::new(Receiver(calls, together)), Calls(seen))
}

/// Sends `CONFIGURATION/ID`.
pub(super) fn service(receiver: Arc<dyn Destination>, configuration: u64) -> Service {
    Service {
        configuration,
        receiver,
        read: Box::new(crate::hl7::Message::parse),
        translate: Box::new(move |_, context, _| Ok(body(configuration, context))),
        retry_first: Duration::from_secs(1),
        retry_max: Duration::from_secs(60),
        retry_refused: 0,
        resend_window: 1,
        on_reject: OnReject::Park,
    }
}

pub(super) type Translation = Result<Translated, TranslateError>;

pub(super) fn translating(
    service: Service,
    by: impl Fn(&Message, Context) -> Translation + Send + Sync + 'static,
) -> Service {
    Service { translate: Box::new(move |message, context, _| by(message, context)), ..service }
}

pub(super) fn body(configuration: u64, context: Context) -> Translated {
    let body = format!("MSH|^~\\&|||||||ORU^R01|c{configuration}-{}|\r", context.id);
    Translated {
        body: body.into(),
        format: Format::Hl7,
        unsent: None,
        doubt: None,
        unmapped: vec![],
        origins: vec![],
        episodes: vec![],
    }
}

pub(super) fn configured(destination: &str, lanes: u16, service: Service) -> Configured {
    let way = way(lanes, &Order::Device, &Identification::default());
    Configured { key: ("pumps".into(), destination.into()), lanes, way, settings: None, service: Arc::new(service) }
}

pub(super) fn delivery(shelf: &Shelf) -> Arc<Delivery> {
    let clock = Clock::fixed(jiff::Timestamp::from_second(90).unwrap());
    Delivery::new(Arc::new(shelf.clone()), clock, Arc::new(Metrics::new().unwrap()))
}

/// The one destination's state.
pub(super) fn status(delivery: &Delivery) -> DestinationStatus {
    let mut all = delivery.status();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Until every task waits: only then does paused time go on, by less than any back-off.
pub(super) async fn at_rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Until the one destination is in `state`.
pub(super) async fn until_state(delivery: &Delivery, state: &str) {
    let reached = async {
        while status(delivery).state != state {
            at_rest().await;
        }
    };
    timeout(BOUND, reached).await.unwrap_or_else(|_| panic!("{state}, not {}", status(delivery).state));
}

/// Ids of the messages that the one destination's lanes stand at.
pub(super) fn stands_at(delivery: &Delivery) -> Vec<u64> {
    status(delivery).stands_at.iter().map(|id| id.as_u64()).collect()
}
