//! A disk in memory for the simulation: what the kernel shows and what the medium holds are kept apart, so that the power
//! can go between any two calls and calls can fail, as often as wanted, in microseconds.
//!
//! A write reaches the medium a sector at a time, in any order, and for certain only by a sync of its file; a name reaches it
//! in the order names were changed, and for certain only by a sync of the directory. After a failed sync the kernel shows
//! bytes that no later sync brings to the medium.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::{
    direct::PAGE,
    files::{Files, Handle, Lock, Opened},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::TryLockError,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

const SECTOR: usize = 512;

/// Decides for itself from a seed (splitmix64).
#[derive(Clone)]
pub(crate) struct Dice(pub u64);

impl Dice {
    /// Below `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// Once in so many times.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// How a disk breaks its word; none does in earnest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A sync does nothing.
    SyncNever,
    /// A sync is answered before it is done.
    SyncLater,
}

/// The disk; it outlives the journals on it.
#[derive(Clone, Default)]
pub(crate) struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    /// As the kernel shows them.
    names: BTreeMap<PathBuf, usize>,
    /// As the medium has them.
    kept: BTreeMap<PathBuf, usize>,
    /// Changes of names the medium may not have yet, oldest first.
    changes: Vec<Change>,
    trouble: Trouble,
    lie: Option<Lie>,
    /// Syncs that were answered before they were done.
    owed: Vec<usize>,
    locked: Arc<()>,
}

/// What goes wrong.
#[derive(Default)]
struct Trouble {
    /// The call that many calls from now fails with this.
    soon: Option<(u64, io::ErrorKind)>,
    /// From that many calls on nothing works: the machine is off.
    off_in: Option<u64>,
    /// No file can be made or made longer.
    full: bool,
    /// Calls that failed.
    failed: u64,
}

#[derive(Default, Clone)]
struct File {
    shown: Vec<u8>,
    medium: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Clone)]
enum Change {
    Made(PathBuf, usize),
    Moved(PathBuf, PathBuf),
    Gone(PathBuf),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    /// Changes nothing that is there, but may need space.
    Grow,
    Change,
}

impl MemoryDisk {
    /// A disk that does not keep its word.
    pub fn lying(lie: Lie) -> MemoryDisk {
        let disk = MemoryDisk::default();
        disk.lock().lie = Some(lie);
        disk
    }

    /// The call `calls` from now fails.
    pub fn fail_in(&self, calls: u64, kind: io::ErrorKind) {
        self.lock().trouble.soon = Some((calls, kind));
    }

    /// The machine goes off `calls` calls from now, until [`cut_power`](MemoryDisk::cut_power).
    pub fn off_in(&self, calls: u64) {
        self.lock().trouble.off_in = Some(calls);
    }

    /// Whether there is room for more.
    pub fn set_full(&self, full: bool) {
        self.lock().trouble.full = full;
    }

    /// Calls that failed so far.
    pub fn failed(&self) -> u64 {
        self.lock().trouble.failed
    }

    /// Everything works from now on.
    pub fn heal(&self) {
        let mut state = self.lock();
        state.trouble = Trouble { failed: state.trouble.failed, ..Trouble::default() };
    }

    /// Syncs that are owed are done.
    pub fn pay(&self) {
        let mut state = self.lock();
        for file in std::mem::take(&mut state.owed) {
            state.files[file].sync();
        }
    }

    /// The kernel writes some of what it has, unasked.
    pub fn write_back(&self, dice: &mut Dice) {
        let mut state = self.lock();
        let in_use: BTreeSet<usize> = state.names.values().copied().collect();
        for file in in_use {
            let file = &mut state.files[file];
            for sector in file.dirty.clone() {
                if dice.one_in(2) {
                    file.keep(sector);
                    file.dirty.remove(&sector);
                }
            }
        }
    }

    /// The power goes: any of the sectors written and not synced are lost, and the last changes of names. The machine is
    /// on again afterwards.
    pub fn cut_power(&self, dice: &mut Dice) {
        let mut state = self.lock();
        let changes = std::mem::take(&mut state.changes);
        let kept = dice.roll(changes.len() as u64 + 1) as usize;
        changes.into_iter().take(kept).for_each(|change| apply(&mut state.kept, change));
        state.names = state.kept.clone();
        // How many of each file's sectors, all or none among them.
        let odds = dice.roll(5);
        let in_use: BTreeSet<usize> = state.names.values().copied().collect();
        for (number, file) in state.files.iter_mut().enumerate() {
            if in_use.contains(&number) {
                file.lose(|| dice.roll(4) < odds);
            } else {
                *file = File::default();
            }
        }
        state.owed.clear();
        state.trouble = Trouble { failed: state.trouble.failed, ..Trouble::default() };
    }

    /// Looks at the disk without meeting any trouble, nor using it up.
    pub fn aside<T>(&self, look: impl FnOnce() -> T) -> T {
        let trouble = std::mem::take(&mut self.lock().trouble);
        let seen = look();
        self.lock().trouble = trouble;
        seen
    }

    /// Whether these bytes would be found after the worst of power cuts.
    pub fn is_durable(&self, bytes: &[u8]) -> bool {
        let state = self.lock();
        let finder = memchr::memmem::Finder::new(bytes);
        state.kept.values().any(|file| finder.find(&state.files[*file].medium).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn opened(&self, path: &Path, pages: bool) -> io::Result<Handle> {
        let file = *self.lock().names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(Open { disk: self.clone(), file, pages }))
    }
}

impl State {
    /// Counts a call, and fails it where that is its turn.
    fn call(&mut self, call: Call) -> io::Result<()> {
        let failed = self.trouble.meets(call);
        self.trouble.failed += u64::from(failed.is_err());
        failed
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change.clone());
        self.changes.push(change);
    }
}

impl Trouble {
    fn meets(&mut self, call: Call) -> io::Result<()> {
        match &mut self.off_in {
            Some(0) => return Err(io::Error::other("the machine is off")),
            Some(calls) => *calls -= 1,
            None => {}
        }
        if let Some((calls, kind)) = &mut self.soon {
            if *calls == 0 {
                let kind = *kind;
                self.soon = None;
                return Err(kind.into());
            }
            *calls -= 1;
        }
        if self.full && call == Call::Grow { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn is_off(&self) -> bool {
        self.off_in == Some(0)
    }
}

impl File {
    fn write(&mut self, bytes: &[u8], offset: usize) {
        let end = offset + bytes.len();
        if self.shown.len() < end {
            self.shown.resize(end, 0);
        }
        self.shown[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    /// Brings one sector to the medium.
    fn keep(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.shown.len());
        if self.medium.len() < to {
            self.medium.resize(to, 0);
        }
        self.medium[from..to].copy_from_slice(&self.shown[from..to]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
    }

    /// What is not on the medium is lost, but for the sectors that are `lucky`.
    fn lose(&mut self, mut lucky: impl FnMut() -> bool) {
        for sector in std::mem::take(&mut self.dirty) {
            if lucky() {
                self.keep(sector);
            }
        }
        self.shown = self.medium.clone();
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: Change) {
    match change {
        Change::Made(path, file) => drop(names.insert(path, file)),
        Change::Gone(path) => drop(names.remove(&path)),
        Change::Moved(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
    }
}

impl Files for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Handle> {
        let mut state = self.lock();
        state.call(Call::Grow)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = state.files.len();
        state.files.push(File::default());
        state.change(Change::Made(path.to_owned(), file));
        drop(state);
        self.opened(path, false)
    }
    fn open(&self, path: &Path) -> io::Result<Handle> {
        self.lock().call(Call::Read)?;
        self.opened(path, false)
    }
    fn open_segment(&self, path: &Path) -> io::Result<Handle> {
        self.lock().call(Call::Read)?;
        self.opened(path, true)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(Call::Change)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(Call::Change)?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Gone(path.to_owned()));
        Ok(())
    }
    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.call(Call::Change)?;
        if state.lie == Some(Lie::SyncNever) {
            return Ok(());
        }
        let changes = std::mem::take(&mut state.changes);
        changes.into_iter().for_each(|change| apply(&mut state.kept, change));
        Ok(())
    }
    fn open_to_read(&self, path: &Path) -> io::Result<Handle> {
        self.open(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let mut state = self.lock();
        state.call(Call::Read)?;
        let mut found: Vec<_> = state.names.iter().filter(|(path, _)| path.starts_with(directory)).collect();
        // Not by name: a spare's is random, and every run must be the same.
        found.sort_by_key(|(_, file)| **file);
        Ok(found.into_iter().map(|(path, _)| path.clone()).collect())
    }
    fn length(&self, path: &Path) -> io::Result<u64> {
        let state = self.lock();
        let file = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(state.files[file].shown.len() as u64)
    }
    fn make_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
    fn lock(&self, _path: &Path, _make: bool) -> Result<Lock, TryLockError> {
        let state = MemoryDisk::lock(self);
        if Arc::strong_count(&state.locked) > 1 {
            return Err(TryLockError::WouldBlock);
        }
        Ok(Box::new(Arc::clone(&state.locked)))
    }
    fn prepares_ahead(&self) -> bool {
        false
    }
    fn free(&self, _directory: &Path) -> io::Result<u64> {
        Ok(if MemoryDisk::lock(self).trouble.full { 0 } else { u64::MAX })
    }
}

struct Open {
    disk: MemoryDisk,
    file: usize,
    /// Written in whole pages: with zeros behind what is written.
    pages: bool,
}

impl Opened for Open {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.call(Call::Read)?;
        let shown = state.files[self.file].shown.get(offset as usize..).unwrap_or_default();
        let length = shown.len().min(bytes.len());
        bytes[..length].copy_from_slice(&shown[..length]);
        Ok(length)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        let end = offset as usize + bytes.len();
        let grows = end > state.files[self.file].shown.len();
        let called = state.call(if grows { Call::Grow } else { Call::Change });
        // A failing write may have written a part.
        let written = match &called {
            Ok(()) => bytes.len(),
            Err(_) if state.trouble.is_off() || grows && state.trouble.full => 0,
            Err(_) => bytes.len() / 2,
        };
        if written > 0 {
            let file = &mut state.files[self.file];
            file.write(&bytes[..written], offset as usize);
            if self.pages && called.is_ok() {
                let behind = end.next_multiple_of(PAGE).min(file.shown.len());
                file.write(&vec![0; behind.saturating_sub(end)], end);
            }
        }
        called
    }
    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        let called = state.call(Call::Change);
        match (&called, state.lie) {
            (Ok(()), None) => state.files[self.file].sync(),
            (Ok(()), Some(Lie::SyncNever)) => {}
            (Ok(()), Some(Lie::SyncLater)) => state.owed.push(self.file),
            // The kernel takes the pages for clean from now on.
            (Err(_), _) if !state.trouble.is_off() => state.files[self.file].dirty.clear(),
            (Err(_), _) => {}
        }
        called
    }
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.file].shown.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk_with(path: &Path) -> (MemoryDisk, Handle) {
        let disk = MemoryDisk::default();
        let file = disk.create(path).unwrap();
        (disk, file)
    }

    fn after_a_cut(disk: &MemoryDisk, path: &Path, seed: u64) -> Option<Vec<u8>> {
        disk.cut_power(&mut Dice(seed));
        let file = disk.open(path).ok()?;
        let mut bytes = vec![0; file.length().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        Some(bytes)
    }

    #[test]
    fn what_was_synced_survives_every_cut_and_the_rest_is_torn_by_sectors() {
        let path = Path::new("/j/file");
        let (mut torn, mut whole) = (0, 0);
        for seed in 0..200 {
            let (disk, file) = disk_with(path);
            file.write_at(&[1; 2 * SECTOR], 0).unwrap();
            file.sync().unwrap();
            disk.sync_directory(Path::new("/j")).unwrap();
            file.write_at(&[2; 2 * SECTOR], SECTOR as u64).unwrap();
            let bytes = after_a_cut(&disk, path, seed).unwrap();
            assert_eq!(bytes[..SECTOR], [1; SECTOR]);
            let rest: BTreeSet<u8> = bytes[SECTOR..].iter().copied().collect();
            assert!(rest.is_subset(&BTreeSet::from([0, 1, 2])));
            torn += usize::from(rest.len() > 1);
            whole += usize::from(rest == BTreeSet::from([2]));
        }
        assert!(torn > 10 && whole > 10, "{torn} {whole}");
    }

    #[test]
    fn names_are_lost_from_the_newest_on_and_kept_by_a_sync_of_the_directory() {
        let (mut none, mut both) = (0, 0);
        for seed in 0..100 {
            let (disk, file) = disk_with(Path::new("/j/a"));
            file.sync().unwrap();
            disk.rename(Path::new("/j/a"), Path::new("/j/b")).unwrap();
            let synced = seed % 2 == 0;
            if synced {
                disk.sync_directory(Path::new("/j")).unwrap();
            }
            disk.cut_power(&mut Dice(seed));
            let names = disk.list(Path::new("/j")).unwrap();
            assert!(names.len() < 2 && (!synced || names == [Path::new("/j/b")]));
            none += usize::from(names.is_empty());
            both += usize::from(names == [Path::new("/j/b")]);
        }
        assert!(none > 5 && both > 55, "{none} {both}");
    }

    #[test]
    fn a_failed_sync_is_not_mended_by_the_next() {
        let path = Path::new("/j/file");
        let (disk, file) = disk_with(path);
        disk.sync_directory(Path::new("/j")).unwrap();
        file.write_at(&[1; 10], 0).unwrap();
        disk.fail_in(0, io::ErrorKind::Other);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(after_a_cut(&disk, path, 4).unwrap(), [0; 0]);
    }

    #[test]
    fn nothing_changes_once_the_machine_is_off() {
        let path = Path::new("/j/file");
        let (disk, file) = disk_with(path);
        disk.sync_directory(Path::new("/j")).unwrap();
        disk.off_in(1);
        file.write_at(&[1; 10], 0).unwrap();
        assert!(file.write_at(&[2; 10], 0).is_err() && file.sync().is_err() && disk.list(path).is_err());
        let bytes = after_a_cut(&disk, path, 3).unwrap();
        assert!(bytes.is_empty() || bytes == [1; 10]);
    }

    #[test]
    fn a_sync_that_does_nothing_leaves_nothing_durable() {
        let disk = MemoryDisk::lying(Lie::SyncNever);
        let file = disk.create(Path::new("/j/file")).unwrap();
        file.write_at(b"a message", 0).unwrap();
        file.sync().unwrap();
        disk.sync_directory(Path::new("/j")).unwrap();
        assert!(!disk.is_durable(b"a message"));
    }
}
