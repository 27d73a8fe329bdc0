//! A store that keeps everything in memory and forgets it with the process: for tests, and for an intake that
//! is only asked what it would answer.
//!
//! Decides and folds by the same code as the durable one, with a list for a journal. `refuse` makes it answer as a full or failed
//! store does, so that callers can be tested against that.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;

use super::{
    Appended, Attempt, ChannelDestination, DeadLetter, Kept, LaneId, LaneStatus, Query, Queued, Received, Sequence,
    Settlement, Stats, Store, StoreError, Summary, Taken, Waiting, episodes,
    journal::{Position, Record},
    keyed::{Keyed, Kind},
    records::{Outcome, Paused, Recorded, nanos, timestamp},
    request::{Answer, Batch, Decided, NewMessage, Request},
    state::{Bounds, State, history::page_of, lane::Entry},
    view::{self, Sought, Told},
};
use crate::clock::Clock;

/// As a journal of usual segments has them.
const BOUNDS: Bounds = Bounds { repeats: 1 << 20, segment_bytes: 64 << 20 };

/// The store; clones are the same store.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Mutex<Inner>>,
    keyed: Arc<Keyed>,
    clock: Clock,
}

struct Inner {
    state: State,
    records: Vec<Record>,
    wakers: HashMap<LaneId, Arc<Notify>>,
    refusing: Option<StoreError>,
    closed: bool,
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new(Clock::system())
    }
}

impl MemoryStore {
    /// An empty store.
    pub fn new(clock: Clock) -> MemoryStore {
        let inner = Inner {
            state: State::new(BOUNDS),
            records: Vec::new(),
            wakers: HashMap::new(),
            refusing: None,
            closed: false,
        };
        MemoryStore { shared: Arc::new(Mutex::new(inner)), keyed: Arc::new(Keyed::new(&[0; 32])), clock }
    }

    /// From now on answers as a store with this fault: `Full` refuses new messages only, any other fault everything. `None` mends it.
    pub fn refuse(&self, fault: Option<StoreError>) {
        self.lock().refusing = fault;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        nanos(self.clock.now())
    }

    fn request(&self, request: Request) -> Result<Answer, StoreError> {
        let mut inner = self.lock();
        inner.open(matches!(request, Request::Append(_)))?;
        inner.commit(request)
    }

    fn done(&self, request: Request) -> BoxFuture<'static, Result<(), StoreError>> {
        ready(self.request(request).map(|_| ()))
    }
}

impl Inner {
    fn open(&self, appending: bool) -> Result<(), StoreError> {
        match &self.refusing {
            _ if self.closed => Err(StoreError::Closed),
            Some(StoreError::Full) if !appending => Ok(()),
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    fn commit(&mut self, request: Request) -> Result<Answer, StoreError> {
        let mut batch = Batch::new(&self.state, true, usize::MAX);
        let Decided::Answer(answer) = batch.decide(&self.state, request) else { return Err(StoreError::NotFound) };
        for planned in batch.planned {
            let position = Position { segment: 0, offset: self.records.len() as u32 };
            let kind = planned.recorded.kind();
            self.records.push(Record { sequence: planned.sequence, kind, payload: planned.payload });
            self.state.apply(planned.sequence, position, &planned.recorded, planned.message.len() as u32);
        }
        for lane in self.state.take_woken() {
            if let Some(waker) = self.wakers.get(&self.state.lanes[lane as usize].id) {
                waker.notify_waiters();
            }
        }
        answer
    }

    fn recorded(&self, position: Position) -> Result<(Recorded, Bytes), StoreError> {
        let record = self.records.get(position.offset as usize).ok_or(StoreError::NotFound)?;
        Recorded::decode(record.kind, &record.payload).map_err(|fault| StoreError::Failed(fault.to_string()))
    }

    fn head(&mut self, lane: &LaneId) -> Result<Option<Waiting>, StoreError> {
        self.open(false)?;
        let number = self.state.lane_number(lane) as usize;
        let Some(entry) = self.state.lanes[number].queue.front().copied() else { return Ok(None) };
        let suspect = self.state.lanes[number].suspect == Some(entry.entry);
        self.waiting(entry, suspect).map(Some)
    }

    fn following(&self, lane: &LaneId, after: u64, limit: usize) -> Vec<Waiting> {
        let queue = self.state.lane(lane).filter(|_| self.open(false).is_ok()).map(|lane| &lane.queue);
        let behind = queue.into_iter().flat_map(|queue| queue.iter_from(after + 1)).take(limit);
        behind.map_while(|entry| self.waiting(entry, false).ok()).collect()
    }

    fn waiting(&self, entry: Entry, suspect: bool) -> Result<Waiting, StoreError> {
        let (_, message) = self.recorded(entry.position)?;
        Ok(Waiting {
            entry: Sequence(entry.entry),
            id: Sequence(entry.id),
            received_at: timestamp(entry.received_at),
            message,
            possible_repeat: entry.again || suspect,
        })
    }

    fn told(&self, id: u64) -> Option<Told> {
        let (page, _) = self.state.history.page(page_of(id));
        let row = page.rows.into_iter().find(|row| row.id == id)?;
        let happened = page.happened.into_iter().filter(|each| each.id == id).collect();
        Some(Told { row, stood: Vec::new(), happened })
    }

    fn find(&self, sought: &Sought) -> Vec<Summary> {
        let pages = self.state.history.numbers().into_iter().rev();
        let rows = pages.flat_map(|number| self.state.history.page(number).0.rows.into_iter().rev());
        let told = rows.filter(|row| !sought.nothing && sought.fits(row)).filter_map(|row| self.told(row.id));
        let found = told.map(|told| view::summary(&self.state, &told)).filter(|summary| sought.fits_summary(summary));
        found.take(sought.limit).collect()
    }

    fn read(&self, id: Sequence) -> Result<Kept, StoreError> {
        let told = self.told(id.0).ok_or(StoreError::NotFound)?;
        let (recorded, message) = self.recorded(told.row.position)?;
        let (resends, findings) = match recorded {
            Recorded::Received(header) => (header.resends, header.findings),
            _ => (None, Vec::new()),
        };
        let mut events = view::first_events(&told.row, resends);
        let mut lines = Vec::new();
        for happened in &told.happened {
            let (recorded, _) = self.recorded(happened.position)?;
            lines.extend(view::line_of(&recorded, happened, &self.state.lanes[happened.lane as usize].id));
        }
        events.extend(view::shown(&lines));
        Ok(Kept { summary: view::summary(&self.state, &told), message, events, findings })
    }

    fn taken(&self, from: u64) -> Taken {
        let page = page_of(from);
        let rows = view::rows_from(&self.state, from, page, self.state.history.page(page).0.rows);
        view::taken(rows, &self.state.channels, |row| Ok(self.recorded(row.position)?.1))
    }

    fn dead(&self, channel: Option<&str>, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let mut letters = Vec::new();
        for (entry, dead) in self.state.dead.range(after + 1..) {
            let (told, _) = self.recorded(dead.told)?;
            let letter = view::dead_letter(&self.state, *entry, dead, view::reason(*entry, &told));
            letters.extend(letter.filter(|letter| channel.is_none_or(|channel| *letter.channel == *channel)));
            if letters.len() >= limit {
                break;
            }
        }
        Ok(letters)
    }
}

impl Store for MemoryStore {
    fn append(&self, received: Received) -> BoxFuture<'static, Result<Appended, StoreError>> {
        let new = NewMessage::new(received, &self.keyed);
        ready(self.request(Request::Append(Box::new(new))).and_then(|answer| match answer {
            Answer::Appended(appended) => Ok(appended),
            _ => Err(StoreError::NotFound),
        }))
    }

    fn next(&self, lane: &LaneId) -> BoxFuture<'static, Result<Waiting, StoreError>> {
        let (store, lane) = (self.clone(), lane.clone());
        Box::pin(async move {
            let waker = Arc::clone(store.lock().wakers.entry(lane.clone()).or_default());
            loop {
                let mut woken = std::pin::pin!(waker.notified());
                woken.as_mut().enable();
                let head = store.lock().head(&lane)?;
                if let Some(head) = head {
                    return Ok(head);
                }
                woken.await;
            }
        })
    }

    fn following(&self, lane: &LaneId, entry: Sequence, limit: usize) -> Vec<Waiting> {
        self.lock().following(lane, entry.0, limit)
    }

    fn queued(&self, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued> {
        view::queued(&self.lock().state, lane, from, limit)
    }

    fn settle(
        &self,
        lane: &LaneId,
        entry: Sequence,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (episodes, _) = episodes::noted(&self.keyed, lane, &settlement);
        let outcome = Outcome::of(settlement);
        self.done(Request::Settle { lane: lane.clone(), entry: entry.0, at: self.now(), outcome, episodes })
    }

    fn recall(&self, channel: &str, destination: &str, episode: &[u8]) -> Option<Bytes> {
        let key = episodes::key(&self.keyed, channel, destination, episode);
        let sealed = self.lock().state.episodes.note(key);
        episodes::opened(&self.keyed, key, &sealed?)
    }

    fn pseudonym(&self, parts: &[&[u8]]) -> u64 {
        self.keyed.hash(Kind::Pseudonym, parts)
    }

    fn attempted(&self, lane: &LaneId, entry: Sequence, attempt: Attempt) {
        if attempt.outcome == "ambiguous" {
            self.lock().state.suspect(lane, entry.0);
        }
        // Only the timeline misses a note that comes too late.
        let _ = self.request(Request::Attempted { lane: lane.clone(), entry: entry.0, attempt });
    }

    fn replay(&self, ids: Vec<Sequence>, destination: Option<Arc<str>>) -> BoxFuture<'static, Result<u64, StoreError>> {
        let items = {
            let inner = self.lock();
            let told = ids.into_iter().filter_map(|id| inner.told(id.0));
            told.flat_map(|told| view::replay_items(&inner.state, &told, destination.as_deref())).collect()
        };
        ready(self.request(Request::Replay { at: self.now(), items }).map(|answer| match answer {
            Answer::Added(added) => added,
            _ => 0,
        }))
    }

    fn find(&self, query: Query) -> BoxFuture<'static, Result<Vec<Summary>, StoreError>> {
        let inner = self.lock();
        let sought = Sought::new(query, &self.keyed, &inner.state);
        ready(inner.open(false).map(|()| inner.find(&sought)))
    }

    fn read(&self, id: Sequence) -> BoxFuture<'static, Result<Kept, StoreError>> {
        let inner = self.lock();
        ready(inner.open(false).and_then(|()| inner.read(id)))
    }

    fn taken(&self, from: Sequence) -> BoxFuture<'static, Result<Taken, StoreError>> {
        let inner = self.lock();
        ready(inner.open(false).map(|()| inner.taken(from.0)))
    }

    fn dead(
        &self,
        channel: Option<String>,
        cursor: Option<Sequence>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<DeadLetter>, StoreError>> {
        let after = cursor.map_or(0, Sequence::as_u64);
        let limit = limit.clamp(1, view::LIMIT_MAX);
        let inner = self.lock();
        ready(inner.open(false).and_then(|()| inner.dead(channel.as_deref(), after, limit)))
    }

    fn retry_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.done(Request::RetryDead { entry: entry.0, at: self.now() })
    }

    fn discard_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.done(Request::DiscardDead { entry: entry.0, at: self.now() })
    }

    fn give_up(&self, lane: &LaneId, reason: String, discard: bool) -> BoxFuture<'static, Result<u64, StoreError>> {
        let request = Request::GiveUp { lane: lane.clone(), at: self.now(), reason, discard };
        ready(self.request(request).map(|answer| if let Answer::GivenUp(given_up) = answer { given_up } else { 0 }))
    }

    fn pause(
        &self,
        channel: Arc<str>,
        destination: Arc<str>,
        paused: bool,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.done(Request::Pause(Paused { at: self.now(), channel, destination, paused }))
    }

    fn paused(&self) -> Vec<ChannelDestination> {
        self.lock().state.paused.iter().cloned().collect()
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        view::lanes(&self.lock().state)
    }

    fn dead_counts(&self) -> Vec<(ChannelDestination, u64)> {
        view::dead_counts(&self.lock().state)
    }

    fn stats(&self) -> Stats {
        let inner = self.lock();
        let bytes = inner.records.iter().map(|record| record.payload.len() as u64).sum();
        view::stats(&inner.state, bytes, 1)
    }

    fn failures(&self) -> u64 {
        0
    }

    fn health(&self) -> Result<(), StoreError> {
        self.lock().open(true)
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.wakers.values().for_each(|waker| waker.notify_waiters());
        ready(Ok(()))
    }
}

fn ready<T: Send + 'static>(result: Result<T, StoreError>) -> BoxFuture<'static, Result<T, StoreError>> {
    futures_util::future::ready(result).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::{conformance, noon};

    conformance!(memory, (Arc::new(MemoryStore::new(Clock::fixed(noon()))), ()));
}
