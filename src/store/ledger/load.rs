//! Reading a ledger back: into a state on opening, and page by page for searches.

use serde::de::DeserializeOwned;

use super::{
    Ledger, LedgerError, Loaded, guarded,
    image::{BLOCK, Covered, LAYOUT, Proof, StoredLane, key},
    page::{self, Head, StoredPage},
};
use crate::store::{
    records::{CarriedRepeat, put_steadies},
    state::{
        Bounds, Dead, Moved, State,
        history::{Happened, page_of},
        lane::Queue,
        repeats::Repeats,
    },
    view::Sought,
};

pub(super) fn load(ledger: &Ledger, store: u64, bounds: Bounds) -> Result<Option<Loaded>, LedgerError> {
    let Some(proof) = ledger.proof()? else { return Ok(None) };
    if proof.layout != LAYOUT {
        return Err(LedgerError::Unproved("it has another version's layout"));
    }
    if proof.store != store {
        return Err(LedgerError::Unproved("it belongs to another store"));
    }
    let mut state = State::new(bounds);
    state.next = proof.next;
    state.oldest_segment = proof.oldest_segment;
    state.messages = proof.messages;
    state.time = proof.time;
    state.segments = proof.segments.iter().copied().collect();
    state.paused = proof.paused.iter().cloned().collect();
    for channel in &proof.channels {
        state.channel_number(channel);
    }
    lanes(ledger, &proof, &mut state)?;
    dead(ledger, &mut state)?;
    moved(ledger, &mut state)?;
    state.carried = proof.carried.clone();
    state.repeats = repeats(ledger, &proof, bounds.repeats)?;
    episodes(ledger, &mut state)?;
    let open_page = page_of(proof.next);
    if let Some(rows) = ledger.value(&key(b'h', &[open_page]))? {
        state.history.resume(open_page, page::decode(&rows).ok_or(LedgerError::Unproved("a page does not read"))?);
    }
    state.clean();
    prove(&proof, &state)?;
    state.episodes.fit();
    Ok(Some(Loaded { state, applied: proof.applied }))
}

fn prove(proof: &Proof, state: &State) -> Result<(), LedgerError> {
    let found = (state.waiting(), state.digest(), state.dead.len() as u64, state.moved.len() as u64);
    if found != (proof.waiting, proof.digest, proof.dead, proof.moved) {
        return Err(LedgerError::Unproved("what waits is not what was written"));
    }
    if state.episodes.proof() != proof.episodes {
        return Err(LedgerError::Unproved("what destinations remember is not what was written"));
    }
    Ok(())
}

fn lanes(ledger: &Ledger, proof: &Proof, state: &mut State) -> Result<(), LedgerError> {
    for number in 0..proof.lanes {
        let stored: StoredLane = ledger.read(&key(b'l', &[u64::from(number)]))?;
        let chunks = (stored.chunks.0..stored.chunks.1).map(|chunk| {
            let packed = ledger.value(&key(b'c', &[u64::from(number), chunk]))?;
            packed.map(Vec::into_boxed_slice).ok_or(LedgerError::Unproved("a part of a lane is missing"))
        });
        let chunks = chunks.collect::<Result<Vec<_>, _>>()?;
        let queue = Queue::load(&stored.ends, stored.chunks, chunks).ok_or(LedgerError::Unproved("a lane"))?;
        if (queue.len(), queue.digest()) != (stored.len, stored.digest) || state.lane_number(&stored.id) != number {
            return Err(LedgerError::Unproved("a lane is not what was written"));
        }
        state.lanes[number as usize].queue = queue;
    }
    Ok(())
}

fn dead(ledger: &Ledger, state: &mut State) -> Result<(), LedgerError> {
    for key in ledger.keys(b"d") {
        let key = key?;
        let dead: Dead = ledger.read(&key)?;
        let lane = state.lanes.get_mut(dead.lane as usize).ok_or(LedgerError::Unproved("a dead letter"))?;
        lane.dead += 1;
        state.dead.insert(number(&key, 0)?, dead);
    }
    Ok(())
}

fn moved(ledger: &Ledger, state: &mut State) -> Result<(), LedgerError> {
    for key in ledger.keys(b"m") {
        let key = key?;
        let moved: Moved = ledger.read(&key)?;
        state.moved.insert(number(&key, 0)?, moved);
    }
    Ok(())
}

fn episodes(ledger: &Ledger, state: &mut State) -> Result<(), LedgerError> {
    for key in ledger.keys(b"e") {
        let key = key?;
        state.episodes.restore((number(&key, 0)?, number(&key, 1)?), ledger.read(&key)?);
    }
    Ok(())
}

fn repeats(ledger: &Ledger, proof: &Proof, max: usize) -> Result<Repeats, LedgerError> {
    let (first, end) = proof.repeats;
    let mut repeats = Repeats::starting_at(max, first);
    for block in first / BLOCK..end.div_ceil(BLOCK) {
        let (mut stored, steadies): (Vec<CarriedRepeat>, Vec<i64>) = ledger.read(&key(b'r', &[block]))?;
        put_steadies(&mut stored, Some(steadies));
        // A block keeps what it had when written; since then the window may have left its first entries behind.
        let wanted = (end.min((block + 1) * BLOCK) - first.max(block * BLOCK)) as usize;
        let skip = stored.len().checked_sub(wanted).ok_or(LedgerError::Unproved("repeats are missing"))?;
        stored[skip..].iter().for_each(|repeat| repeats.restore(*repeat));
    }
    Ok(repeats)
}

pub(super) fn number(key: &[u8], place: usize) -> Result<u64, LedgerError> {
    let number = key.get(1 + 8 * place..).and_then(|rest| rest.first_chunk::<8>());
    number.map(|number| u64::from_be_bytes(*number)).ok_or(LedgerError::Unproved("a key"))
}

impl Ledger {
    /// What later checkpoints go on from.
    pub fn covered(&self, store: u64) -> Result<Covered, LedgerError> {
        let covered = |proof: Proof| Covered {
            store,
            checkpoint: proof.checkpoint,
            repeats: proof.repeats,
            first_page: proof.first_page,
        };
        Ok(self.proof()?.map_or(Covered { store, ..Covered::default() }, covered))
    }

    /// A page with all that happened to its messages.
    pub fn page(&self, number: u64) -> Result<StoredPage, LedgerError> {
        guarded(|| {
            let rows = match self.value(&key(b'h', &[number]))? {
                Some(page) => page::decode(&page).ok_or(LedgerError::Unproved("a page does not read"))?,
                None => Vec::new(),
            };
            let mut happened: Vec<Happened> = Vec::new();
            for key in self.keys(&key(b'o', &[number])) {
                happened.extend(self.read::<Vec<Happened>>(&key?)?);
            }
            Ok(StoredPage { rows, happened })
        })
    }

    /// Numbers of the pages that may hold what is sought, newest first; read as they are asked for.
    pub fn pages_for(&self, sought: &Sought) -> impl Iterator<Item = Result<u64, LedgerError>> {
        let mut pages = self.fitting_pages(sought);
        std::iter::from_fn(move || guarded(|| pages.next().transpose()).transpose())
    }

    fn fitting_pages(&self, sought: &Sought) -> impl Iterator<Item = Result<u64, LedgerError>> {
        let (hashes, from, to) = (sought.hashes().collect::<Vec<_>>(), sought.from, sought.to);
        let pages = self.tree.keys_between(&key(b'h', &[0]), &key(b'h', &[sought.pages_below()])).rev();
        let first_part = |key: Result<Vec<u8>, LedgerError>| match key {
            Ok(key) if key.ends_with(&[0, 0]) => Some(number(&key, 0)),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        };
        let anything = hashes.is_empty() && from.is_none() && to.is_none();
        pages.filter_map(first_part).filter_map(move |page| match page {
            Ok(number) if !anything => {
                self.may_hold(number, &hashes, from, to).map(|may| may.then_some(number)).transpose()
            }
            page => Some(page),
        })
    }

    fn may_hold(&self, page: u64, hashes: &[u64], from: Option<i64>, to: Option<i64>) -> Result<bool, LedgerError> {
        let page = self.value(&key(b'h', &[page]))?.unwrap_or_default();
        let head = Head::read(&page).ok_or(LedgerError::Unproved("a page does not read"))?;
        let in_time = from.is_none_or(|from| head.last_at >= from) && to.is_none_or(|to| head.first_at <= to);
        Ok(in_time && hashes.iter().all(|hash| head.holds(*hash)))
    }

    fn proof(&self) -> Result<Option<Proof>, LedgerError> {
        let value = guarded(|| self.value(&key(b'!', &[])))?;
        value.map(|value| postcard::from_bytes(&value).map_err(|_| LedgerError::Unproved("no proof"))).transpose()
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<T, LedgerError> {
        let value = self.value(key)?.ok_or(LedgerError::Unproved("a value is missing"))?;
        postcard::from_bytes(&value).map_err(|_| LedgerError::Unproved("a value does not read"))
    }
}
