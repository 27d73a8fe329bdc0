//! Files made ready to become segments: zero-filled ahead of need by a thread of their own, or recycled from released
//! segments, so that a roll never waits for a whole segment to be written. All bytes are counted here, and never exceed
//! `bytes_max`.
//!
//! What must be recorded while messages are refused has a reserve: one whole spare, ready, that no message may take; and
//! as many bytes of `bytes_max` and of the disk as the settlements of all that waits need. No spare is made of the
//! disk's last bytes, which the ledger and the audit log need. The journal is full when messages would touch the
//! reserve, and has room again only once a whole segment more is there, so that it does not turn from one to the other
//! with each batch.

use super::{
    JournalError, Options,
    files::{Files, Handle, fault, is_no_space},
    layout,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};
use tokio::time::Instant;
use tracing::error;

/// Zeros written and synced at a time: small enough that an append beside it hardly waits for the disk.
pub(super) const CHUNK: u32 = 1024 * 1024;
/// Released segments kept for reuse; more are deleted, so that the disk shrinks after a backlog.
pub(super) const KEPT_MAX: usize = 2;
/// After the disk was full, how long until the thread tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Left on the disk for the files beside the journal; a segment's worth, but not less.
const DISK_LEFT_MIN: u64 = 8 << 20;

/// A file that holds no records and is not a segment yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    /// Zero-filled or recycled so far; the whole of a segment, but for one made in a hurry.
    pub(super) bytes: u32,
}

/// The stock of spares and the thread that refills it.
pub(super) struct Spares {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    files: Arc<dyn Files>,
    directory: PathBuf,
    options: Options,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ready: Vec<Spare>,
    /// Whole spares the writer waits for; one is kept ready anyway, and one more where room was or is short.
    wanted: usize,
    /// The thread is at it; its bytes count already.
    making: bool,
    /// When to try again after another could not be made. No record is at risk by that: messages wait.
    again_at: Option<Instant>,
    /// What the disk had for spares when one was last made; 0 where it could not be.
    disk: u64,
    /// What was said of it last, so that it is logged once.
    told: Option<io::ErrorKind>,
    /// Bytes given to live segments.
    live: u64,
    /// Bytes that what waits needs to be settled.
    reserve: u64,
    /// Messages found no room, and there is not clearly more by now.
    full: bool,
    stop: bool,
}

/// What a batch is about to need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    /// Segments it will begin.
    pub(super) segments: usize,
    /// Bytes that fit each of them for certain, headers included.
    pub(super) bytes: u32,
    /// Bytes left in the segment it ends in.
    pub(super) left: u32,
    /// Messages must leave the reserve alone.
    pub(super) keeps_reserve: bool,
}

impl State {
    fn new(ready: Vec<Spare>, live: u64) -> State {
        State {
            ready,
            wanted: 0,
            making: false,
            again_at: None,
            disk: u64::MAX,
            told: None,
            live,
            reserve: 0,
            full: false,
            stop: false,
        }
    }
}

impl Spares {
    /// `ready` are whole spares found in the directory, `live` the bytes of its segments.
    pub(super) fn start(
        files: Arc<dyn Files>,
        directory: &Path,
        options: &Options,
        ready: Vec<Spare>,
        live: u64,
    ) -> Result<Spares, JournalError> {
        let state = Mutex::new(State::new(ready, live));
        let shared =
            Shared { files, directory: directory.to_owned(), options: options.clone(), state, changed: Condvar::new() };
        let shared = Arc::new(shared);
        let mut spares = Spares { shared, thread: None };
        if spares.shared.files.prepares_ahead() {
            let worker = Arc::clone(&spares.shared);
            let thread = std::thread::Builder::new().name("journal-spares".into()).spawn(move || worker.refill());
            let thread = thread.map_err(fault("start the thread that prepares segments in", directory))?;
            spares.thread = Some(thread);
        }
        Ok(spares)
    }

    /// Does what the thread would do next; for where there is none.
    #[cfg(test)]
    pub(super) fn prepare(&self) {
        let state = self.shared.lock();
        if self.shared.due(&state) == Some(Duration::ZERO) {
            drop(self.shared.prepare(state));
        }
    }

    /// Makes sure that what the batch needs is there before any of it is written; `Full` where it cannot be.
    pub(super) fn secure(&self, need: Need) -> Result<(), JournalError> {
        let mut state = self.shared.lock();
        loop {
            if need.keeps_reserve && !self.shared.leaves_reserve(&state, need) {
                return Err(JournalError::Full);
            }
            if state.ready.len() < need.segments {
                state = self.shared.make_or_wait(state, need.bytes)?;
            } else if !need.keeps_reserve || self.shared.reserve_stands(&state, need)? {
                return Ok(());
            } else {
                state.wanted = need.segments + 1;
                self.shared.changed.notify_all();
                state = self.shared.wait(state);
            }
        }
    }

    /// A spare to become a segment of `Options::segment_bytes`; `secure` has seen to it that there is one.
    pub(super) fn take(&self) -> Result<Spare, JournalError> {
        let mut state = self.shared.lock();
        let size = self.shared.options.segment_bytes;
        // One made in a hurry first: the reserve must be whole.
        let at = state.ready.iter().position(|spare| spare.bytes < size).or_else(|| state.ready.len().checked_sub(1));
        let spare = at.map(|at| state.ready.swap_remove(at)).ok_or(JournalError::Full)?;
        state.live += u64::from(size);
        state.wanted = 0;
        self.shared.changed.notify_all();
        Ok(spare)
    }

    /// Takes a released segment's file back, to be used again or deleted.
    pub(super) fn recycle(&self, path: &Path, size: u32) -> Result<(), JournalError> {
        let mut state = self.shared.lock();
        let result = self.shared.recycle(&mut state, path, size);
        state.live = state.live.saturating_sub(u64::from(size));
        state.again_at = state.again_at.map(|_| Instant::now());
        self.shared.changed.notify_all();
        result
    }

    /// Whether messages could fill a quarter of a segment now, with `left` bytes in the one being written; once they could
    /// not, whether there is room for a whole segment of them.
    pub(super) fn has_room(&self, left: u32) -> bool {
        let mut state = self.shared.lock();
        if !self.shared.files.prepares_ahead() && self.shared.due(&state) == Some(Duration::ZERO) {
            state = self.shared.prepare(state);
        }
        let rolls = left < self.shared.options.segment_bytes / 4;
        let need = Need { segments: usize::from(rolls), bytes: 0, left, keeps_reserve: true };
        let full = match state.full {
            true => self.shared.whole(&state) == 0 || self.shared.room(&state) < self.shared.segments(1),
            false => self.shared.reserve_stands(&state, need).is_err(),
        };
        if full != std::mem::replace(&mut state.full, full) {
            self.shared.changed.notify_all();
        }
        !full
    }

    /// Whether messages will soon find no room: there is less than a sixteenth of what is kept, or than two segments. Not
    /// of `bytes_max`: a disk that never had that much must not empty the store.
    pub(super) fn is_tight(&self) -> bool {
        let state = self.shared.lock();
        let little = self.shared.segments(2).max(state.live / 16);
        state.full || self.shared.room(&state) < little
    }

    /// Bytes of segments that are not in use yet.
    pub(super) fn left(&self) -> u64 {
        self.shared.unused(&self.shared.lock())
    }

    /// Keeps so many bytes from messages.
    pub(super) fn set_reserve(&self, bytes: u64) {
        self.shared.lock().reserve = bytes;
    }

    /// Bytes of all files, the one in the making included.
    pub(super) fn bytes(&self) -> u64 {
        self.shared.bytes(&self.shared.lock())
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the thread has done something, or the caller in its place.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        match self.files.prepares_ahead() {
            true => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            false => self.prepare(state),
        }
    }

    fn bytes(&self, state: &State) -> u64 {
        let spares: u64 = state.ready.iter().map(|spare| u64::from(spare.bytes)).sum();
        let making = if state.making { u64::from(self.options.segment_bytes) } else { 0 };
        state.live + spares + making
    }

    fn segments(&self, count: usize) -> u64 {
        count as u64 * u64::from(self.options.segment_bytes)
    }

    fn admits_another(&self, state: &State) -> bool {
        self.bytes(state) + self.segments(1) <= self.options.bytes_max
    }

    fn whole(&self, state: &State) -> usize {
        state.ready.iter().filter(|spare| spare.bytes == self.options.segment_bytes).count()
    }

    /// Bytes of whole segments that are not in use: spares ready, being made, or still to be made.
    fn unused(&self, state: &State) -> u64 {
        let segment = self.segments(1);
        let more = self.options.bytes_max.saturating_sub(self.bytes(state)).min(state.disk);
        (self.whole(state) as u64 + u64::from(state.making) + more / segment) * segment
    }

    /// Of these, the bytes that messages may still take.
    fn room(&self, state: &State) -> u64 {
        let segment = self.segments(1);
        self.unused(state).saturating_sub(state.reserve.next_multiple_of(segment).max(segment))
    }

    /// Whether the reserve is untouched by a batch. One that ends in the segment in use leaves its rest for the reserve.
    fn leaves_reserve(&self, state: &State, need: Need) -> bool {
        let segments = self.segments(need.segments);
        self.room(state) >= segments && self.unused(state) + u64::from(need.left) >= state.reserve + segments
    }

    /// `Ok(false)`: the thread is about to tell. A spare that is still being made stands for the reserve as long as the
    /// segment in use has a good part left for what must be recorded.
    fn reserve_stands(&self, state: &State, need: Need) -> Result<bool, JournalError> {
        if !self.leaves_reserve(state, need) {
            return Err(JournalError::Full);
        }
        let hasty = state.ready.len() - self.whole(state);
        if self.whole(state) > need.segments.saturating_sub(hasty) {
            return Ok(true);
        }
        let comes = state.making || self.admits_another(state) && state.disk >= self.segments(1);
        if !comes {
            return Err(JournalError::Full);
        }
        Ok(need.left >= self.options.segment_bytes / 4)
    }

    /// Makes a spare of at least `bytes` here and now; where `bytes_max` or the disk has no room for one, waits for the
    /// one that is being made.
    fn make_or_wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        bytes: u32,
    ) -> Result<MutexGuard<'a, State>, JournalError> {
        if self.admits_another(&state) {
            let bytes = bytes.next_multiple_of(CHUNK).min(self.options.segment_bytes);
            match self.make(bytes, || false) {
                Ok(spare) => {
                    state.ready.extend(spare);
                    return Ok(state);
                }
                Err(error) => self.refuse(&mut state, &error),
            }
        }
        if state.making { Ok(self.wait(state)) } else { Err(JournalError::Full) }
    }

    /// How long until the thread is to make another spare; `None` while none is wanted.
    fn due(&self, state: &State) -> Option<Duration> {
        let short = state.full || state.again_at.is_some();
        let wanted = state.wanted.max(1 + usize::from(short));
        let wanted = self.whole(state) < wanted && self.admits_another(state);
        wanted.then(|| state.again_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))
    }

    /// The thread: keeps whole spares ready.
    fn refill(&self) {
        let mut state = self.lock();
        while !state.stop {
            state = match self.due(&state) {
                Some(Duration::ZERO) => self.prepare(state),
                Some(pause) => self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                None => self.wait(state),
            };
        }
    }

    /// Makes one whole spare, the lock given up meanwhile.
    fn prepare<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.making = true;
        drop(state);
        let made = self.make_if_disk_allows(|| self.lock().stop);
        let mut state = self.lock();
        state.making = false;
        match made {
            Ok((spare, disk)) => {
                (state.told, state.again_at, state.disk) = (None, None, disk);
                state.ready.extend(spare);
            }
            Err(error) => self.refuse(&mut state, &error),
        }
        self.changed.notify_all();
        state
    }

    /// Notes that no spare could be made, and says why where that is not plain lack of space.
    fn refuse(&self, state: &mut State, error: &io::Error) {
        state.again_at = Some(Instant::now() + RETRY_AFTER);
        state.disk = 0;
        if !is_no_space(error) && state.told != Some(error.kind()) {
            let directory = self.directory.display();
            error!(%directory, %error, "no segment can be prepared; messages are refused until one can: look at the disk");
            state.told = Some(error.kind());
        }
    }

    /// A whole spare, and what the disk has for more.
    fn make_if_disk_allows(&self, stop: impl Fn() -> bool) -> io::Result<(Option<Spare>, u64)> {
        let left = self.segments(1).max(DISK_LEFT_MIN);
        let free = self.files.free(&self.directory)?.saturating_sub(left);
        let more = free.checked_sub(self.segments(1)).ok_or(io::ErrorKind::StorageFull)?;
        Ok((self.make(self.options.segment_bytes, stop)?, more))
    }

    /// `None` if told to stop. Leaves nothing behind where it fails.
    fn make(&self, bytes: u32, stop: impl Fn() -> bool) -> io::Result<Option<Spare>> {
        let name = format!("{:016x}", layout::new_generation());
        let (unready, path) =
            (self.directory.join(format!("{name}.tmp")), self.directory.join(format!("{name}.spare")));
        let file = self.files.create_segment(&unready)?;
        let made = zero_fill(&*self.files, &file, 0, bytes, stop).and_then(|whole| {
            if whole { self.files.rename(&unready, &path).map(|()| Some(Spare { path, bytes })) } else { Ok(None) }
        });
        if !matches!(made, Ok(Some(_))) {
            let _ = self.files.remove(&unready);
        }
        made
    }

    fn recycle(&self, state: &mut State, path: &Path, size: u32) -> Result<(), JournalError> {
        let whole = self.files.length(path).is_ok_and(|bytes| bytes == u64::from(self.options.segment_bytes));
        if state.ready.len() >= KEPT_MAX || size != self.options.segment_bytes || !whole {
            return self.files.remove(path).map_err(fault("delete", path));
        }
        let spare = path.with_extension("spare");
        self.files.rename(path, &spare).map_err(fault("rename", path))?;
        state.ready.push(Spare { path: spare, bytes: size });
        Ok(())
    }
}

/// Writes zeros to `file` from `from` to `to`, each chunk synced; `false` if told to stop before the end.
pub(super) fn zero_fill(
    files: &dyn Files,
    file: &Handle,
    from: u32,
    to: u32,
    stop: impl Fn() -> bool,
) -> io::Result<bool> {
    let zeros = vec![0; CHUNK.min(to - from) as usize];
    let mut at = from;
    while at < to {
        if stop() {
            return Ok(false);
        }
        let length = CHUNK.min(to - at);
        files.write_at(file, &zeros[..length as usize], u64::from(at))?;
        files.sync(file)?;
        at += length;
    }
    Ok(true)
}
