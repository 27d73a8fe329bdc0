//! Failing calls and power cuts. `Faulty` does everything to real files, and keeps what a disk would still have if the
//! power went now: the old bytes of every sector written and not synced, and the old names of files in a directory not
//! synced. A cut puts any of the sectors back, and the last names, as they come.

use super::{files::Handle, memory_disk::MemoryDisk, *};
use proptest::prelude::*;
use std::{
    any::Any,
    collections::HashMap,
    os::unix::fs::MetadataExt,
    sync::{Mutex, MutexGuard},
};

const SECTOR: u64 = 512;

#[derive(Default)]
pub(super) struct Faulty {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: u64,
    /// Calls that fail, by number.
    failing: std::ops::Range<u64>,
    kind: Option<io::ErrorKind>,
    sectors: HashMap<(u64, u64), Old>,
    names: Vec<Name>,
    removed: u64,
    /// No file can be made or made longer.
    full: bool,
}

/// What the disk has of a sector that the kernel shows otherwise.
struct Old {
    file: Handle,
    bytes: Vec<u8>,
    /// A sync of it failed: later ones do not write it, but another write to it makes them.
    dropped: bool,
}

enum Name {
    Created(PathBuf),
    Moved(PathBuf, PathBuf),
}

impl Faulty {
    fn failing(calls: std::ops::Range<u64>, kind: io::ErrorKind) -> Faulty {
        let state = State { failing: calls, kind: Some(kind), ..State::default() };
        Faulty { state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn call(&self) -> (MutexGuard<'_, State>, io::Result<()>) {
        let mut state = self.lock();
        state.calls += 1;
        let fails = state.failing.contains(&state.calls);
        let result = if fails { Err(state.kind.unwrap_or(io::ErrorKind::Other).into()) } else { Ok(()) };
        (state, result)
    }

    fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Loses what was not synced: each sector or not, as `chance` decides, and the newest of the names.
    fn cut_power(&self, mut chance: impl FnMut() -> bool) {
        let mut state = self.lock();
        let mut sectors: Vec<_> = state.sectors.drain().collect();
        sectors.sort_by_key(|(place, _)| *place);
        for ((_, sector), old) in sectors {
            if chance() {
                old.file.write_at(&old.bytes, sector * SECTOR).unwrap();
            }
        }
        while chance() {
            match state.names.pop() {
                None => break,
                Some(Name::Created(path)) => drop(fs::remove_file(path)),
                Some(Name::Moved(from, to)) => fs::rename(to, from).unwrap(),
            }
        }
        state.names.clear();
    }
}

impl State {
    fn note(&mut self, file: &Handle, bytes: usize, offset: u64) {
        let inode = inode(file);
        for sector in offset / SECTOR..(offset + bytes as u64).div_ceil(SECTOR) {
            let old = self.sectors.entry((inode, sector)).or_insert_with(|| {
                let mut bytes = vec![0; SECTOR as usize];
                let _ = file.read_at(&mut bytes, sector * SECTOR).unwrap();
                Old { file: Handle::clone(file), bytes, dropped: false }
            });
            old.dropped = false;
        }
    }
}

fn inode(file: &Handle) -> u64 {
    let file: &dyn Any = &**file;
    file.downcast_ref::<File>().unwrap().metadata().unwrap().ino()
}

impl Files for Faulty {
    fn create(&self, path: &Path) -> io::Result<Handle> {
        let (mut state, result) = self.call();
        result?;
        state.names.push(Name::Created(path.to_owned()));
        Disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Handle> {
        Disk.open(path)
    }
    fn write_at(&self, file: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, mut result) = self.call();
        if state.full && offset + bytes.len() as u64 > file.length()? {
            result = Err(io::ErrorKind::StorageFull.into());
        }
        // A failing write may have written a part.
        let written = if result.is_err() { bytes.len() / 2 } else { bytes.len() };
        state.note(file, written, offset);
        file.write_at(&bytes[..written], offset)?;
        result
    }
    fn sync(&self, file: &Handle) -> io::Result<()> {
        let (mut state, result) = self.call();
        let inode = inode(file);
        if result.is_ok() {
            state.sectors.retain(|(of, _), old| *of != inode || old.dropped);
        } else {
            state.sectors.iter_mut().filter(|((of, _), _)| *of == inode).for_each(|(_, old)| old.dropped = true);
        }
        result
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        result?;
        state.names.push(Name::Moved(from.to_owned(), to.to_owned()));
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        result?;
        state.removed += 1;
        let aside = path.with_extension(format!("removed{}", state.removed));
        state.names.push(Name::Moved(path.to_owned(), aside.clone()));
        Disk.rename(path, &aside)
    }
    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let (mut state, result) = self.call();
        result?;
        state.names.clear();
        Ok(())
    }
}

const TIGHT: Options = Options { segment_bytes: 4096, bytes_max: 12 * 4096 };

fn open_on(directory: &TempDir, files: &Arc<Faulty>) -> Result<Journal, JournalError> {
    let files: Arc<dyn Files> = Arc::clone(files) as Arc<dyn Files>;
    Journal::open_with(directory.path(), TIGHT, files, false).map(|(journal, _)| journal)
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: usize,
        bytes: usize,
    },
    Sync,
    Vouch,
    Release,
    Kill,
    Close,
    CutPower(u64),
    FailSoon(u64),
    /// Given up and opened anew in the same process; so many of its calls fail first.
    Anew(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_usize..5, 0_usize..1500).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        6 => Just(Step::Sync),
        1 => Just(Step::Vouch),
        1 => Just(Step::Release),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
        2 => any::<u64>().prop_map(Step::CutPower),
        1 => (1_u64..12).prop_map(Step::FailSoon),
        1 => (0_u64..12).prop_map(Step::Anew),
    ]
}

/// The journal under test and what it must hold.
struct Model {
    directory: TempDir,
    files: Arc<Faulty>,
    journal: Option<Journal>,
    durable: Vec<Record>,
    /// Appended, or tried to be, and not known durable.
    pending: Vec<Record>,
    next: u64,
}

impl Model {
    fn new() -> Model {
        let (directory, files) = (directory(), Arc::new(Faulty::default()));
        let journal = Some(open_on(&directory, &files).unwrap());
        Model { directory, files, journal, durable: Vec::new(), pending: Vec::new(), next: 1 }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Append { records, bytes } => self.append(*records, *bytes),
            Step::Sync => self.sync(),
            Step::Vouch => drop(self.journal.as_mut().map(Journal::vouch)),
            Step::Release => self.release(),
            Step::Kill => self.reopen(None),
            Step::Close => self.close(),
            Step::CutPower(seed) => self.reopen(Some(*seed)),
            Step::FailSoon(after) => {
                let mut state = self.files.lock();
                state.failing = state.calls + after..state.calls + after + 1;
            }
            Step::Anew(failing) => self.open_anew(*failing),
        }
    }

    fn append(&mut self, count: usize, bytes: usize) {
        let Some(journal) = &mut self.journal else { return };
        let batch = records(self.next..self.next + count as u64, bytes);
        match journal.append(&batch) {
            Err(JournalError::Full) => return,
            Ok(_) => {}
            Err(error) => assert!(matches!(error, JournalError::Io { .. }), "{error}"),
        }
        self.next += count as u64;
        self.pending.extend(batch);
    }

    fn sync(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        if journal.sync().is_ok() {
            self.durable.append(&mut self.pending);
            assert_eq!(all(journal), self.durable);
        }
    }

    fn release(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        let segments = journal.segments();
        let keep = segments[segments.len() / 2].segment;
        if journal.sync().is_err() {
            return;
        }
        self.durable.append(&mut self.pending);
        // Failed or not, what is released may be gone.
        let from = Position { segment: keep, offset: 0 };
        self.durable = journal.reader().scan(from).map(|found| found.unwrap().1).collect();
        let _ = journal.release_before(keep);
    }

    fn close(&mut self) {
        let Some(journal) = self.journal.take() else { return };
        if journal.close().is_ok() {
            self.durable.append(&mut self.pending);
        }
        self.reopen(None);
    }

    fn reopen(&mut self, cut: Option<u64>) {
        self.journal = None;
        self.files.lock().failing = 0..0;
        if let Some(seed) = cut {
            let mut state = seed | 1;
            self.files.cut_power(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state & 4 != 0
            });
        }
        let journal = open_on(&self.directory, &self.files).unwrap();
        self.compare(journal);
    }

    /// As after a failure: until it opens, with a failing call at each try.
    fn open_anew(&mut self, failing: u64) {
        let Some(journal) = self.journal.take() else { return };
        let failed = journal.current.path.clone();
        let mut left = journal.give_up();
        let before = fs::read(&failed).unwrap();
        let mut after = failing;
        let journal = loop {
            {
                let mut state = self.files.lock();
                state.failing = state.calls + after..state.calls + after + u64::from(after > 0);
            }
            match Journal::reopen(self.directory.path(), TIGHT, &mut left) {
                Ok(journal) => break journal,
                Err(error) => assert!(after > 0 && matches!(error, JournalError::Io { .. }), "{error}"),
            }
            after -= 1;
        };
        // Only where there is no room for another segment is the failed one written again.
        if journal.current.path != failed {
            assert!(fs::read(&failed).unwrap() == before, "the failed segment was written again");
        }
        self.compare(journal);
    }

    fn compare(&mut self, journal: Journal) {
        let all_kept = all(&journal);
        let known = [&self.durable[..], &self.pending[..]].concat();
        // An interrupted release may have left some of what it was to release.
        let begin = all_kept.iter().position(|record| Some(record) == known.first()).unwrap_or(all_kept.len());
        let kept = &all_kept[begin..];
        assert!(kept.len() >= self.durable.len(), "{} of {} durable records kept", kept.len(), self.durable.len());
        assert_eq!(kept, &known[..kept.len()]);
        self.durable = all_kept;
        self.pending.clear();
        self.journal = Some(journal);
    }
}

proptest! {
    #[test]
    fn what_was_synced_survives_kills_failing_calls_and_power_cuts_in_order(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
        }
        model.reopen(Some(7));
        model.reopen(None);
    }
}

/// One life of a journal: opened, filled over several segments, released, closed. Answers what was durable.
fn life(directory: &TempDir, files: &Arc<Faulty>, from: u64) -> Vec<Record> {
    let mut durable = Vec::new();
    let Ok(mut journal) = open_on(directory, files) else { return durable };
    for sequence in from..from + 12 {
        let record = record(sequence, 900);
        let done = journal.append(std::slice::from_ref(&record)).and_then(|_| journal.sync());
        if done.is_err() {
            return durable;
        }
        durable.push(record);
    }
    let _ = journal.close();
    durable
}

#[test]
fn whichever_call_fails_nothing_durable_is_lost_and_the_next_start_is_clean() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        let mut failing = 1;
        loop {
            let directory = directory();
            let before = life(&directory, &Arc::default(), 1);
            let files = Arc::new(Faulty::failing(failing..failing + 1, kind));
            let after = life(&directory, &files, 100);
            let reached = files.calls() >= failing;
            files.cut_power(|| true);
            let journal = open_on(&directory, &Arc::default()).unwrap();
            let kept = all(&journal);
            let durable = [before, after].concat();
            assert!(kept.len() >= durable.len(), "call {failing} {kind}: {} of {}", kept.len(), durable.len());
            assert_eq!(kept[..durable.len()], durable);
            if !reached {
                break;
            }
            failing += 1;
        }
        assert!(failing > 20);
    }
}

#[test]
fn after_a_failed_sync_nothing_more_is_taken_until_opened_again() {
    let directory = directory();
    let files = Arc::new(Faulty::default());
    let mut journal = open_on(&directory, &files).unwrap();
    journal.append(&records(1..2, 2000)).unwrap();
    files.lock().failing = 0..u64::MAX;
    assert!(matches!(journal.sync(), Err(JournalError::Io { action: "sync", .. })));
    files.lock().failing = 0..0;
    assert!(matches!(journal.sync(), Err(JournalError::Io { .. })));
    assert!(matches!(journal.append(&records(2..3, 100)), Err(JournalError::Io { .. })));
    assert!(!journal.room_for_messages());
    drop(journal);
    let mut journal = open_on(&directory, &files).unwrap();
    store(&mut journal, &records(2..3, 100));
    drop(journal);
    // What the kernel showed of the failed sync was written again on opening, so now it is there to stay.
    files.cut_power(|| true);
    let kept = all(&open_on(&directory, &files).unwrap());
    assert_eq!(kept, [records(1..2, 2000), records(2..3, 100)].concat());
}

#[test]
fn a_full_disk_refuses_messages_but_not_settlements_and_passes_by_itself() {
    let (directory, files) = (directory(), Arc::new(Faulty::default()));
    let mut journal = open_on(&directory, &files).unwrap();
    let mut written = records(1..3, 900);
    store(&mut journal, &written);
    files.lock().full = true;
    let refused = loop {
        let message = record(written.len() as u64 + 1, 900);
        match journal.append(std::slice::from_ref(&message)) {
            Ok(_) => written.push(message),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, JournalError::Full), "{refused}");
    let settlement = record(1000, 300);
    store_essential(&mut journal, &settlement);
    written.push(settlement);
    assert_eq!(all(&journal), written);

    files.lock().full = false;
    let message = record(2000, 900);
    let bound = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while let Err(error) = journal.append(std::slice::from_ref(&message)) {
        assert!(matches!(error, JournalError::Full), "{error}");
        assert!(std::time::Instant::now() < bound, "still full");
        std::thread::yield_now();
    }
    journal.sync().unwrap();
    assert_eq!(all(&journal).last(), Some(&message));
}

#[test]
fn a_disk_that_stays_full_is_not_told_as_having_room_at_each_try() {
    let (directory, files) = (directory(), Arc::new(Faulty::default()));
    let mut journal = open_on(&directory, &files).unwrap();
    files.lock().full = true;
    let mut next = 1;
    while journal.append(&records(next..next + 1, 900)).is_ok() {
        next += 1;
    }
    journal.sync().unwrap();
    // Longer than between two tries to make a spare.
    let bound = std::time::Instant::now() + std::time::Duration::from_millis(2_500);
    while std::time::Instant::now() < bound {
        assert!(!journal.room_for_messages());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    files.lock().full = false;
    let bound = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !journal.room_for_messages() {
        assert!(std::time::Instant::now() < bound, "still full");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    for _ in 0..3 {
        store(&mut journal, &records(next..next + 1, 900));
        next += 1;
    }
}

fn store_essential(journal: &mut Journal, record: &Record) {
    journal.append_essential(std::slice::from_ref(record)).unwrap();
    journal.sync().unwrap();
}

/// A failed life, a journal opened anew in the same process, more records, and the power cut.
fn after_a_failure(failing: u64) -> (Vec<Record>, Vec<Record>, bool) {
    let (directory, files) = (directory(), Arc::new(Faulty::failing(failing..failing + 1, io::ErrorKind::Other)));
    let Ok(mut journal) = open_on(&directory, &files) else { return (Vec::new(), Vec::new(), true) };
    let (mut durable, mut sequence) = (Vec::new(), 1);
    let mut failed = false;
    while durable.len() < 12 {
        let record = record(sequence, 900);
        sequence += 1;
        match journal.append(std::slice::from_ref(&record)).and_then(|_| journal.sync()) {
            Ok(()) => durable.push(record),
            Err(_) if failed => panic!("failed twice"),
            Err(_) => {
                failed = true;
                journal = Journal::reopen(directory.path(), TIGHT, &mut journal.give_up()).unwrap();
                let kept = all(&journal);
                assert!(kept.starts_with(&durable), "call {failing}");
                durable = kept;
            }
        }
    }
    drop(journal);
    files.cut_power(|| true);
    (durable, all(&open_on(&directory, &Arc::default()).unwrap()), files.calls() >= failing)
}

#[test]
fn whichever_call_fails_the_journal_opened_anew_goes_on_and_its_records_survive_a_power_cut() {
    let mut failing = 1;
    loop {
        let (durable, kept, reached) = after_a_failure(failing);
        assert_eq!(kept, durable, "call {failing}");
        if !reached {
            break;
        }
        failing += 1;
    }
    assert!(failing > 20);
}

#[test]
fn a_journal_whose_durable_part_is_gone_after_a_failure_is_not_opened_anew() {
    let directory = directory();
    let files = Arc::new(Faulty::default());
    let mut journal = open_on(&directory, &files).unwrap();
    store(&mut journal, &records(1..3, 900));
    files.lock().failing = 0..u64::MAX;
    assert!(journal.append(&records(3..4, 900)).and_then(|_| journal.sync()).is_err());
    let path = segment_file(&directory, 1);
    let mut left = journal.give_up();
    files.lock().failing = 0..0;
    let whole = fs::read(&path).unwrap();
    for at in [1100, 300] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let Err(JournalError::Damaged(damage)) = Journal::reopen(directory.path(), TIGHT, &mut left) else {
            panic!("opened")
        };
        assert_eq!((damage.len(), damage[0].from.segment), (1, 1), "{damage:?}");
    }
    fs::write(&path, whole).unwrap();
    let other = Journal::open(directory.path(), TIGHT).err().map(|error| error.to_string());
    assert!(other.is_some_and(|reason| reason.contains("another engine")), "the lock was given up");
    let journal = Journal::reopen(directory.path(), TIGHT, &mut left).unwrap();
    assert_eq!(all(&journal), records(1..3, 900));
    drop((journal, left));
    assert_eq!(all(&open(&directory)), records(1..3, 900));
}

/// Its tail was kept for lack of room, and whoever opened the store around it may have acted on that before it failed again.
#[test]
fn what_was_kept_for_lack_of_room_is_kept_by_the_next_try_also() {
    let (disk, directory) = (MemoryDisk::default(), Path::new("/journal"));
    let (mut journal, _) = Journal::open_with(directory, TIGHT, Arc::new(disk.clone()), false).unwrap();
    let written = records(1..6, 100);
    journal.append_essential(&written[..3]).unwrap();
    journal.sync().unwrap();
    journal.append_essential(&written[3..]).unwrap();
    disk.fail_in(0, io::ErrorKind::Other);
    journal.sync().unwrap_err();
    let mut left = journal.give_up();
    disk.set_full(true);
    let journal = Journal::reopen(directory, TIGHT, &mut left).unwrap();
    assert_eq!(all(&journal), written, "there is no room for another segment");
    drop(journal);
    disk.set_full(false);
    for _ in 0..2 {
        let journal = Journal::reopen(directory, TIGHT, &mut left).unwrap();
        assert_eq!(all(&journal), written);
    }
}
