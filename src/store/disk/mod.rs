//! The engine's store: a journal that is the truth, and a ledger that makes starting and searching quick.
//!
//! One committer thread writes: it gathers all who wait, decides, appends, syncs once, folds, and only then answers.
//! Nothing may be answered before it is durable, and after a failed write or sync nothing is answered as durable again
//! until the store was opened anew, which this thread does by itself, and has examined what is there.
//!
//! # Directory
//! `journal/` the segment files, `ledger/` the checkpoints (may be deleted while no engine runs: it is rebuilt),
//! `ledger.bad-N/` the last one that did not prove itself, `key` what identities are hashed with (without it neither
//! searches nor repeats find what was stored before), `reserve` space for the ledger on a full disk.

mod backup;
#[cfg(test)]
mod backup_tests;
mod browse;
mod cache;
mod checkpoints;
mod committer;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod full_tests;
mod heads;
mod learn;
#[cfg(test)]
mod ledger_tests;
#[cfg(test)]
mod loss_tests;
#[cfg(test)]
mod model;
mod queue;
mod rebuild;
mod recovery;
mod reopen;
mod reserve;
mod retention;
#[cfg(test)]
mod retention_tests;
mod secret;
#[cfg(test)]
pub(super) mod simulation;
mod steady;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{Notify, oneshot};

pub use self::{
    backup::{Backup, BackupError, BackupFile},
    rebuild::Rebuilt,
};

use self::{
    cache::Cache,
    checkpoints::Checkpoints,
    committer::Committer,
    queue::{Answerer, Queue},
    recovery::Recovered,
    reserve::Reserve,
    steady::Steady,
};
use super::{
    Appended, Attempt, ChannelDestination, DeadLetter, Kept, LaneId, LaneStatus, Query, Queued, Received, Sequence,
    Settlement, Stats, Store, StoreError, Summary, Taken, Waiting, episodes,
    journal::{self, Journal, JournalError, Reader},
    keyed::{Keyed, Kind},
    ledger::Ledger,
    records::{Outcome, Paused, nanos},
    request::{Answer, NewMessage, Request},
    state::{Bounds, State},
    view,
};
use crate::{clock::Clock, metrics::Metrics};

/// What remembering a message takes, to tell its repeats.
const REPEAT_BYTES: usize = 56;

/// How the store keeps.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long delivered messages are kept, from when they were received.
    pub retain: Duration,
    /// Bytes of the journal at most, spares included; when they are used up new messages are refused.
    pub bytes_max: u64,
    /// Bytes of one segment, the unit in which space is given back.
    pub segment_bytes: u32,
    /// Keep delivered messages for all of `retain` even when the store is full and would accept new ones by giving them up.
    pub retain_when_full: bool,
    /// Records after which a checkpoint is written: what a start has to read again at most.
    pub checkpoint_records: u64,
    /// Bytes of messages after which a checkpoint is written.
    pub checkpoint_bytes: u64,
    /// Messages remembered to tell a sender's repeats.
    pub repeats_max: usize,
    /// Bytes of undelivered messages kept in memory; others are read from the journal when due.
    pub cache_bytes: usize,
    /// Appends waiting for the disk at most; more are refused as if the store were full.
    pub queue_max: usize,
    /// Open although the journal is damaged, keeping what can be proved: what [`DiskStore::rebuild`] does.
    pub accept_damage: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retain: Duration::from_secs(30 * 24 * 3600),
            bytes_max: 50 << 30,
            segment_bytes: 64 << 20,
            retain_when_full: false,
            checkpoint_records: 32_768,
            checkpoint_bytes: 128 << 20,
            repeats_max: 1_000_000,
            cache_bytes: 16 << 20,
            queue_max: 65_536,
            accept_damage: false,
        }
    }
}

impl Options {
    fn bounds(&self) -> Bounds {
        Bounds { repeats: self.repeats_max, segment_bytes: self.segment_bytes }
    }

    /// With what is kept in memory in proportion to so many bytes for the whole engine.
    pub fn within(self, memory_bytes: usize) -> Options {
        let repeats_max = memory_bytes / 5 / REPEAT_BYTES;
        Options { repeats_max, cache_bytes: memory_bytes / 16, ..self }
    }
}

/// Why the store did not open: the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A file beside it.
    #[error("cannot {action} {}: {error}; see to the disk and to the permissions", .path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// As the system said.
        error: std::io::Error,
    },
    /// The store was used before, and its journal is not there.
    #[error(
        "{} is missing though this store was used before: mount or restore it; if it is lost for good, go on with what is left by `cannula store rebuild`",
        .path.display()
    )]
    JournalMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A restore was begun here and not ended.
    #[error(
        "a restore into {} was not finished: empty the folder and restore again",
        .path.display()
    )]
    RestoreUnfinished {
        /// The store.
        path: PathBuf,
    },
    /// The journal has lost durable records at its end.
    #[error(
        "{} ends before what was acknowledged: the disk or someone has cut it; restore a backup, or go on with what is left by `cannula store rebuild`",
        .path.display()
    )]
    JournalShort {
        /// The journal.
        path: PathBuf,
    },
    /// The key is not as it was written.
    #[error(
        "{} is damaged: restore it from a backup; if there is none, have a new one made by `cannula store rebuild`, after which \
         repeats of what was stored before are not told",
        .path.display()
    )]
    KeyDamaged {
        /// The key.
        path: PathBuf,
    },
    /// A record that does not read.
    #[error("the journal does not read at segment {segment}, byte {offset}: {what}")]
    Unreadable {
        /// Segment number.
        segment: u64,
        /// Byte in it.
        offset: u32,
        /// Why.
        what: String,
    },
}

/// The durable store.
pub struct DiskStore {
    shared: Arc<Shared>,
    committer: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the committer share.
struct Shared {
    path: PathBuf,
    /// The fold. Written by the committer alone, apart from lanes made known and entries suspected.
    state: Mutex<State>,
    queue: Queue,
    wakers: Mutex<HashMap<LaneId, Arc<Notify>>>,
    cache: Mutex<Cache>,
    /// Read from the journal before they are due.
    ahead: Mutex<Cache>,
    reader: ArcSwap<Reader>,
    ledger: Mutex<Option<Arc<Ledger>>>,
    fault: Mutex<Option<StoreError>>,
    /// Times the store failed: what had no answer then has none.
    failures: AtomicU64,
    /// Times the store failed or its ledger was replaced: what was read across one is not believed.
    breaks: AtomicU64,
    cache_bytes: usize,
    figures: Mutex<Figures>,
    keyed: Keyed,
    clock: Clock,
    steady: Steady,
    metrics: Arc<Metrics>,
    payload_max: usize,
    /// Reading is done where it is asked for, not by another thread.
    reads_in_place: bool,
    /// A backup is being copied: no segment may be given up.
    pinned: Mutex<bool>,
    /// Entries below were in the backup this store was restored from.
    restored_before: u64,
}

/// What the committer last saw of the disk.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    bytes: u64,
    segments: u64,
    full: bool,
}

impl DiskStore {
    /// Opens or makes the store in `path`. Blocking; reads the ledger and what of the journal it does not cover.
    pub fn open(
        path: &Path,
        options: Options,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Arc<DiskStore>, OpenError> {
        let recovered = recovery::open(path, &options)?;
        DiskStore::start(path, recovered, options, metrics, clock)
    }

    /// Proves every record of a store that no engine has open, changing nothing; damage is in the report. `progress` is told bytes
    /// done and bytes in all.
    pub fn verify(path: &Path, progress: impl FnMut(u64, u64)) -> Result<journal::Report, OpenError> {
        Ok(journal::verify(&path.join("journal"), progress)?)
    }

    fn start(
        path: &Path,
        recovered: Recovered,
        options: Options,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Result<Arc<DiskStore>, OpenError> {
        let Recovered { journal, ledger, state, applied, covered, keyed, uncovered, .. } = recovered;
        let shared = Arc::new(Shared::new(state, &journal, &ledger, keyed, &options, metrics, clock));
        let unstarted = |error| OpenError::Io { action: "start a thread for", path: path.to_owned(), error };
        let reserve = Reserve::new(path, options.bytes_max);
        let checkpoints = Checkpoints::start(&shared, ledger, covered, uncovered, reserve).map_err(unstarted)?;
        let committer = Committer::new(Arc::clone(&shared), options, journal, checkpoints, applied);
        let committer = spawn("store-committer", move || committer::run(committer)).map_err(unstarted)?;
        Ok(Arc::new(DiskStore { shared, committer: Mutex::new(Some(committer)) }))
    }

    fn request(&self, request: Request) -> BoxFuture<'static, Result<Answer, StoreError>> {
        if let Err(fault) = self.shared.usable() {
            return futures_util::future::ready(Err(fault)).boxed();
        }
        let (answerer, answer) = oneshot::channel();
        self.shared.queue.push(request, Answerer::To(answerer));
        // An answerer dropped unanswered means the committer is gone.
        let shared = Arc::clone(&self.shared);
        async move { answer.await.unwrap_or_else(|_| Err(shared.gone())) }.boxed()
    }

    fn done(&self, request: Request) -> BoxFuture<'static, Result<(), StoreError>> {
        self.request(request).map(|answer| answer.map(|_| ())).boxed()
    }

    fn now(&self) -> i64 {
        nanos(self.shared.clock.now())
    }

    /// Runs what reads the disk away from the async workers.
    fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        blocking(Arc::clone(&self.shared), read)
    }
}

impl Drop for DiskStore {
    /// Without `close` this is what a crash is, but for the threads and locks, which are given up.
    fn drop(&mut self) {
        self.shared.queue.stop();
        if let Some(committer) = lock(&self.committer).take() {
            // A panic in it was reported when it happened.
            let _ = committer.join();
        }
    }
}

impl Shared {
    fn new(
        state: State,
        journal: &Journal,
        ledger: &Arc<Ledger>,
        keyed: Keyed,
        options: &Options,
        metrics: Arc<Metrics>,
        clock: Clock,
    ) -> Shared {
        Shared {
            path: journal.directory().parent().map(Path::to_owned).unwrap_or_default(),
            steady: Steady::after(state.time, clock.clone()),
            state: Mutex::new(state),
            queue: Queue::new(options.queue_max),
            wakers: Mutex::default(),
            cache: Mutex::new(Cache::new(options.cache_bytes)),
            ahead: Mutex::new(Cache::new(options.cache_bytes / 4)),
            reader: ArcSwap::new(journal.reader()),
            ledger: Mutex::new(Some(Arc::clone(ledger))),
            fault: Mutex::default(),
            failures: AtomicU64::default(),
            breaks: AtomicU64::default(),
            cache_bytes: options.cache_bytes,
            figures: Mutex::default(),
            keyed,
            clock,
            metrics,
            payload_max: journal.payload_bytes_max(),
            reads_in_place: false,
            pinned: Mutex::new(false),
            restored_before: journal.restored_before(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn usable(&self) -> Result<(), StoreError> {
        lock(&self.fault).clone().map_or(Ok(()), Err)
    }

    /// Why there is no committer any more.
    fn gone(&self) -> StoreError {
        let ended = || StoreError::Failed("its writer ended unexpectedly; restart the engine".into());
        self.usable().err().unwrap_or_else(ended)
    }

    /// From now on everything is answered with this fault; the first one stays.
    fn fail(&self, fault: StoreError) {
        let fault = {
            let mut first = lock(&self.fault);
            self.failures.fetch_add(u64::from(first.is_none()), Ordering::SeqCst);
            first.get_or_insert(fault).clone()
        };
        self.breaks.fetch_add(1, Ordering::SeqCst);
        // Shown before anybody is answered.
        self.metrics.store_failed.set((fault != StoreError::Closed).into());
        self.queue.fail(&fault);
        lock(&self.wakers).values().for_each(|waker| waker.notify_waiters());
    }

    fn waker(&self, lane: &LaneId) -> Arc<Notify> {
        Arc::clone(lock(&self.wakers).entry(lane.clone()).or_default())
    }

    fn wake(&self, lanes: &[LaneId]) {
        let wakers = lock(&self.wakers);
        lanes.iter().filter_map(|lane| wakers.get(lane)).for_each(|waker| waker.notify_waiters());
    }
}

impl Store for DiskStore {
    fn append(&self, received: Received) -> BoxFuture<'static, Result<Appended, StoreError>> {
        let steady = self.shared.steady.of(nanos(received.at));
        let new = NewMessage::received(received, &self.shared.keyed, steady);
        if new.payload.len() > self.shared.payload_max {
            return futures_util::future::ready(Err(StoreError::TooLarge)).boxed();
        }
        self.request(Request::Append(Box::new(new)))
            .map(|answer| match answer? {
                Answer::Appended(appended) => Ok(appended),
                _ => Err(StoreError::NotFound),
            })
            .boxed()
    }

    fn next(&self, lane: &LaneId) -> BoxFuture<'static, Result<Waiting, StoreError>> {
        heads::next(Arc::clone(&self.shared), lane.clone()).boxed()
    }

    fn following(&self, lane: &LaneId, entry: Sequence, limit: usize) -> Vec<Waiting> {
        self.shared.following(lane, entry, limit)
    }

    fn queued(&self, lane: &LaneId, from: Sequence, limit: usize) -> Vec<Queued> {
        view::queued(&self.shared.state(), lane, from, limit)
    }

    fn settle(
        &self,
        lane: &LaneId,
        entry: Sequence,
        settlement: Settlement,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (episodes, unfit) = episodes::noted(&self.shared.keyed, lane, &settlement);
        if unfit > 0 {
            self.shared.metrics.limits_hit.with_label_values(&[&*lane.channel, "episodes"]).inc_by(unfit);
        }
        let outcome = Outcome::of(settlement);
        self.done(Request::Settle { lane: lane.clone(), entry: entry.0, at: self.now(), outcome, episodes })
    }

    fn recall(&self, channel: &str, destination: &str, episode: &[u8]) -> Option<Bytes> {
        let key = episodes::key(&self.shared.keyed, channel, destination, episode);
        let sealed = self.shared.state().episodes.note(key);
        episodes::opened(&self.shared.keyed, key, &sealed?)
    }

    fn pseudonym(&self, parts: &[&[u8]]) -> u64 {
        self.shared.keyed.hash(Kind::Pseudonym, parts)
    }

    fn attempted(&self, lane: &LaneId, entry: Sequence, attempt: Attempt) {
        if attempt.outcome == "ambiguous" {
            // At once, so that the next look at the head tells it; a restart suspects every head anyway.
            self.shared.state().suspect(lane, entry.0);
        }
        let request = Request::Attempted { lane: lane.clone(), entry: entry.0, attempt };
        self.shared.queue.push(request, Answerer::Nobody);
    }

    fn replay(&self, ids: Vec<Sequence>, destination: Option<Arc<str>>) -> BoxFuture<'static, Result<u64, StoreError>> {
        let at = self.now();
        let items = self.blocking(move |shared| shared.replay_items(&ids, destination.as_deref()));
        let shared = Arc::clone(&self.shared);
        async move {
            let items = items.await?;
            let (answerer, answer) = oneshot::channel();
            shared.queue.push(Request::Replay { at, items }, Answerer::To(answerer));
            match answer.await.unwrap_or_else(|_| Err(shared.gone()))? {
                Answer::Added(added) => Ok(added),
                _ => Ok(0),
            }
        }
        .boxed()
    }

    fn find(&self, query: Query) -> BoxFuture<'static, Result<Vec<Summary>, StoreError>> {
        self.blocking(move |shared| shared.find(query))
    }

    fn read(&self, id: Sequence) -> BoxFuture<'static, Result<Kept, StoreError>> {
        self.blocking(move |shared| shared.read(id.0))
    }

    fn taken(&self, from: Sequence) -> BoxFuture<'static, Result<Taken, StoreError>> {
        self.blocking(move |shared| shared.taken(from.0))
    }

    fn dead(
        &self,
        channel: Option<String>,
        cursor: Option<Sequence>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<DeadLetter>, StoreError>> {
        let after = cursor.map_or(0, Sequence::as_u64);
        let limit = limit.clamp(1, view::LIMIT_MAX);
        self.blocking(move |shared| Ok(shared.dead(channel.as_deref(), after, limit)))
    }

    fn retry_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.done(Request::RetryDead { entry: entry.0, at: self.now() })
    }

    fn discard_dead(&self, entry: Sequence) -> BoxFuture<'static, Result<(), StoreError>> {
        self.done(Request::DiscardDead { entry: entry.0, at: self.now() })
    }

    fn give_up(&self, lane: &LaneId, reason: String, discard: bool) -> BoxFuture<'static, Result<u64, StoreError>> {
        let request = Request::GiveUp { lane: lane.clone(), at: self.now(), reason, discard };
        let given_up = |answer| if let Answer::GivenUp(given_up) = answer { given_up } else { 0 };
        self.request(request).map(move |answer| answer.map(given_up)).boxed()
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
        self.shared.state().paused.iter().cloned().collect()
    }

    fn lanes(&self) -> Vec<LaneStatus> {
        view::lanes(&self.shared.state())
    }

    fn dead_counts(&self) -> Vec<(ChannelDestination, u64)> {
        view::dead_counts(&self.shared.state())
    }

    fn stats(&self) -> Stats {
        let figures = *lock(&self.shared.figures);
        view::stats(&self.shared.state(), figures.bytes, figures.segments)
    }

    fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::SeqCst)
    }

    fn health(&self) -> Result<(), StoreError> {
        self.shared.usable()?;
        if lock(&self.shared.figures).full { Err(StoreError::Full) } else { Ok(()) }
    }

    fn close(&self) -> BoxFuture<'static, Result<(), StoreError>> {
        let (answerer, answer) = oneshot::channel();
        self.shared.queue.close(answerer);
        let shared = Arc::clone(&self.shared);
        async move {
            match answer.await {
                Ok(closed) => closed,
                Err(_) => match shared.gone() {
                    StoreError::Closed => Ok(()),
                    fault => Err(fault),
                },
            }
        }
        .boxed()
    }
}

fn blocking<T: Send + 'static>(
    shared: Arc<Shared>,
    read: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
) -> BoxFuture<'static, Result<T, StoreError>> {
    async move {
        shared.usable()?;
        if shared.reads_in_place {
            return read(&shared);
        }
        let breaks = shared.breaks.load(Ordering::SeqCst);
        let reading = Arc::clone(&shared);
        let read = tokio::task::spawn_blocking(move || read(&reading)).await;
        if shared.breaks.load(Ordering::SeqCst) != breaks {
            shared.usable()?;
            return Err(StoreError::Failed("it was opened anew during this: ask again".into()));
        }
        read.unwrap_or_else(|_| Err(StoreError::Failed("a reading thread ended early".into())))
    }
    .boxed()
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

/// The lock, also after a panic elsewhere: what it guards is replaced whole or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
