//! The ledger: the image of a journal prefix, in sled, so that a start need not read the whole journal and old messages are
//! found quickly. It is never the truth: what does not open or does not prove itself is moved aside and rebuilt.
//!
//! Nothing is written per message. A checkpoint is one batch, applied at once, flushed by one thread, and made durable by
//! our own fdatasync, since sled's flush ends in `sync_file_range`. No value exceeds 8 KiB (sled keeps large ones in
//! files it never syncs). sled's file never shrinks but its space is used again: it stays at the most it ever held, and a
//! ledger mostly of dead bytes is copied into a fresh one on opening, as far as that is told without reading all of it.
//!
//! # Keys
//! `!` proof · `l` lane · `c` lane chunk · `d` dead letter · `m` carried message · `r` repeats block ·
//! `e` episode · `h` history page · `o` page, checkpoint: what happened to its messages later. Numbers are big endian; every key ends in a
//! two-byte part number, and the first part begins with the value's length.

mod image;
mod load;
#[cfg(test)]
pub(super) mod memory;
mod page;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

pub(super) use self::image::{Covered, Image, first_page};
use self::tree::{Batch, Keys, Tree};
use super::{
    journal::{
        Position,
        files::{OWNER_ONLY, make_directory},
    },
    state::{Bounds, State},
};
use crate::sabotage::{self, CrashPoint};

const PART: usize = 8 << 10;
const CACHE_BYTES: u64 = 8 << 20;
/// sled looks at its cache's size only after 64 accesses to one of its 256 shards, however large what they found was: a
/// value is asked for once for so many of its bytes, or the cache would grow to a thousand times what it is told to be.
const BYTES_AN_ACCESS: usize = 1 << 10;
/// A ledger is copied when it is larger than this and [`GARBAGE`] times what it holds.
const COMPACT_FROM: u64 = 256 << 20;
const GARBAGE: u64 = 4;
/// What a page of history takes at least, but for the sparsest.
const PAGE_BYTES_MIN: u64 = 16 << 10;

/// Why a ledger cannot be used; the remedy is always to rebuild it, which is done without asking.
#[derive(Debug, thiserror::Error)]
pub(super) enum LedgerError {
    #[error("sled: {0}")]
    Sled(#[from] sled::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("sled panicked")]
    Panicked,
    /// There is none now; it is made when there is room for it.
    #[error("there is none now")]
    Absent,
    #[error("it does not prove itself: {0}")]
    Unproved(&'static str),
    /// What it covers was durable, and the journal ends before it.
    #[error("the journal ends before what was known durable")]
    BeyondJournal,
}

/// An open ledger.
pub(super) struct Ledger {
    tree: Box<dyn Tree>,
}

/// What a ledger says of the journal prefix it covers.
pub(super) struct Loaded {
    pub state: State,
    /// The last record folded in, and its sequence.
    pub applied: Option<(Position, u64)>,
}

impl Ledger {
    /// Opens or makes the ledger at `path`.
    pub fn open(path: &Path) -> Result<Ledger, LedgerError> {
        finish_swap(path)?;
        let sled = Sled::open(path)?;
        let size = guarded(|| Ok(sled.db.size_on_disk()?))?;
        let garbage = size >= COMPACT_FROM && sled.holds_less_than(size / GARBAGE)?;
        Ok(Ledger { tree: Box::new(if garbage { sled.compacted(path)? } else { sled }) })
    }

    /// What stands in where none can be made: nothing is found in it, and nothing can be written.
    pub fn absent() -> Ledger {
        Ledger { tree: Box::new(tree::Absent) }
    }

    /// Whether this only stands in for one.
    pub fn is_absent(&self) -> bool {
        self.tree.is_absent()
    }

    /// The state it holds, proved; `None` where it is new. `store` is the hash that tells this store from others.
    pub fn load(&self, store: u64, bounds: Bounds) -> Result<Option<Loaded>, LedgerError> {
        guarded(|| load::load(self, store, bounds))
    }

    /// Writes a checkpoint; durable when this returns.
    pub fn write(&self, image: &Image) -> Result<(), LedgerError> {
        guarded(|| {
            let mut batch = Batch::new();
            for prefix in &image.removed {
                remove_all(&mut batch, self.tree.keys_under(prefix))?;
            }
            for (from, to) in &image.removed_ranges {
                remove_all(&mut batch, self.tree.keys_between(from, to))?;
            }
            for (key, value) in &image.put {
                put(&mut batch, key, value);
            }
            self.tree.write(batch)
        })
    }

    /// The value under `key`, its parts joined.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut value = Vec::new();
        let mut length = 0;
        for number in 0.. {
            let Some(part) = self.tree.value(&part_key(key, number))? else { break };
            let part = match number {
                0 => {
                    let (head, rest) = part.split_first_chunk::<4>().ok_or(LedgerError::Unproved("a short value"))?;
                    length = u32::from_le_bytes(*head) as usize;
                    rest
                }
                _ => &part[..],
            };
            value.extend_from_slice(part);
            if value.len() >= length {
                value.truncate(length);
                return Ok(Some(value));
            }
        }
        if value.is_empty() { Ok(None) } else { Err(LedgerError::Unproved("a part is missing")) }
    }

    /// The keys under `prefix`, without part numbers, in order.
    fn keys(&self, prefix: &[u8]) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, LedgerError>> + use<> {
        let first_parts = |key: Result<Vec<u8>, LedgerError>| match key {
            Ok(key) => {
                let (key, part) = key.split_last_chunk::<2>()?;
                (*part == [0, 0]).then(|| Ok(key.to_vec()))
            }
            Err(error) => Some(Err(error)),
        };
        self.tree.keys_under(prefix).filter_map(first_parts)
    }
}

/// sled's tree, and its file for our own sync.
struct Sled {
    db: sled::Db,
    file: File,
    #[cfg(test)]
    faults: tests::Faults,
}

impl Sled {
    fn open(path: &Path) -> Result<Sled, LedgerError> {
        // sled asks for no mode of its own; what it makes later is behind the directory's.
        make_directory(path)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let db = guarded(|| Ok(config.open()?))?;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::set_permissions(entry.path(), Permissions::from_mode(OWNER_ONLY))?;
            }
        }
        let file = File::options().write(true).open(path.join("db"))?;
        Ok(Sled {
            db,
            file,
            #[cfg(test)]
            faults: tests::Faults::of(path),
        })
    }

    /// The same ledger without its dead bytes.
    fn compacted(self, path: &Path) -> Result<Sled, LedgerError> {
        self.copy_to(&unfinished(path))?;
        drop(self);
        swap(path)?;
        Sled::open(path)
    }

    /// Whether its keys and values are fewer bytes. Where the number of history pages tells already that they are more,
    /// nothing is read: the time to start must not grow with what is kept.
    fn holds_less_than(&self, bytes: u64) -> Result<bool, LedgerError> {
        guarded(|| {
            let mut pages = self.keys_under(b"h").map(|key| load::number(&key?, 0));
            let (first, last) = (pages.next().transpose()?.unwrap_or(0), pages.next_back().transpose()?.unwrap_or(0));
            Ok(last.saturating_sub(first) * PAGE_BYTES_MIN < bytes && self.live_bytes(bytes)? < bytes)
        })
    }

    /// Bytes of the keys and values, counted no further than `most`.
    fn live_bytes(&self, most: u64) -> Result<u64, LedgerError> {
        let mut bytes = 0;
        for pair in self.db.iter() {
            let (key, value) = pair?;
            bytes += (key.len() + value.len()) as u64;
            self.access(&key, value.len())?;
            if bytes >= most {
                break;
            }
        }
        Ok(bytes)
    }

    /// Has sled count what was read or written against its cache.
    fn access(&self, key: &[u8], bytes: usize) -> Result<(), LedgerError> {
        for _ in 0..bytes / BYTES_AN_ACCESS {
            self.db.get(key)?;
        }
        Ok(())
    }

    fn copy_to(&self, path: &Path) -> Result<(), LedgerError> {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        let copy = Sled::open(path)?;
        guarded(|| {
            for pair in self.db.iter() {
                let (key, value) = pair?;
                self.access(&key, value.len())?;
                copy.db.insert(&key, &value)?;
                copy.access(&key, value.len())?;
            }
            copy.db.flush()?;
            Ok(copy.file.sync_all()?)
        })
    }
}

impl Tree for Sled {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        #[cfg(test)]
        self.faults.bite("read")?;
        let value = self.db.get(key)?;
        self.access(key, value.as_ref().map_or(0, |value| value.len()))?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn keys_under(&self, prefix: &[u8]) -> Keys {
        Box::new(owned(self.db.scan_prefix(prefix)))
    }

    fn keys_between(&self, from: &[u8], to: &[u8]) -> Keys {
        Box::new(owned(self.db.range(from..to)))
    }

    fn write(&self, batch: Batch) -> Result<(), LedgerError> {
        #[cfg(test)]
        self.faults.bite("write")?;
        let mut writes = sled::Batch::default();
        let mut written = Vec::with_capacity(batch.len());
        for (key, value) in batch {
            let bytes = value.as_ref().map_or(0, Vec::len);
            match value {
                Some(value) => writes.insert(key.as_slice(), value),
                None => writes.remove(key.as_slice()),
            }
            written.push((key, bytes));
        }
        self.db.apply_batch(writes)?;
        self.db.flush()?;
        sabotage::crash_at(CrashPoint::DuringCheckpoint);
        self.file.sync_data()?;
        written.iter().try_for_each(|(key, bytes)| self.access(key, *bytes))
    }
}

fn owned(found: sled::Iter) -> impl DoubleEndedIterator<Item = Result<Vec<u8>, LedgerError>> {
    found.keys().map(|key| Ok(key?.to_vec()))
}

/// Moves a ledger that is of no use out of the way; answers where to. One such is kept, for whoever asks what happened to
/// it: more would fill the disk.
pub(super) fn move_aside(path: &Path) -> io::Result<PathBuf> {
    let mut last = 0;
    for entry in fs::read_dir(path.parent().unwrap_or(Path::new(".")))? {
        let old = entry?.path();
        let number =
            old.extension().and_then(|extension| extension.to_str()?.strip_prefix("bad-")?.parse::<u64>().ok());
        if let Some(number) = number.filter(|_| old.file_stem() == path.file_name()) {
            last = number.max(last);
            fs::remove_dir_all(old)?;
        }
    }
    let aside = path.with_extension(format!("bad-{}", last + 1));
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Puts the finished copy in the ledger's place.
fn swap(path: &Path) -> io::Result<()> {
    let old = path.with_extension("old");
    fs::rename(path, &old)?;
    fs::rename(unfinished(path), path)?;
    fs::remove_dir_all(old)
}

/// A swap that a crash interrupted: the copy is taken where the ledger is gone already, else made anew another time.
fn finish_swap(path: &Path) -> io::Result<()> {
    let (new, old) = (unfinished(path), path.with_extension("old"));
    if !path.exists() && new.exists() {
        fs::rename(&new, path)?;
    }
    for leftover in [new, old] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    Ok(())
}

fn part_key(key: &[u8], number: u16) -> Vec<u8> {
    [key, &number.to_be_bytes()].concat()
}

fn remove_all(batch: &mut Batch, found: Keys) -> Result<(), LedgerError> {
    for key in found {
        batch.push((key?, None));
    }
    Ok(())
}

fn put(batch: &mut Batch, key: &[u8], value: &[u8]) {
    let whole = [&(value.len() as u32).to_le_bytes(), value].concat();
    for (number, part) in (0..).zip(whole.chunks(PART)) {
        batch.push((part_key(key, number), Some(part.to_vec())));
    }
}

/// sled panics on some damage; to us that is one more way of not opening.
fn guarded<T>(run: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(LedgerError::Panicked))
}
