//! What the store promises while the disk, or its own writer, fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io,
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use tempfile::TempDir;

use super::{tests::picture, *};
use crate::store::{
    conformance::{accepted, head, lane, noon, received, settle_head, stored, within},
    journal::{
        Journal,
        files::{Disk, Files, Handle},
    },
};

const WORKS: u8 = 0;
const SYNC_FAILS: u8 = 1;
const WRITE_FAILS: u8 = 2;
const WRITER_PANICS: u8 = 3;
const DIRECTORY_FAILS: u8 = 4;
const RENAME_FAILS: u8 = 5;

const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// The machine's files, until told to fail.
#[derive(Default)]
struct Failing {
    fault: AtomicU8,
    failed: AtomicU64,
}

impl Failing {
    fn check(&self, fault: u8, code: i32) -> io::Result<()> {
        let now = self.fault.load(Ordering::SeqCst);
        if now != fault && now != WRITER_PANICS {
            return Ok(());
        }
        self.failed.fetch_add(1, Ordering::SeqCst);
        assert_ne!(now, WRITER_PANICS, "asked to panic");
        Err(io::Error::from_raw_os_error(code))
    }

    /// Fails until that was noticed so many times more.
    fn fail(&self, fault: u8) {
        self.failed.store(0, Ordering::SeqCst);
        self.fault.store(fault, Ordering::SeqCst);
    }

    fn work(&self) {
        self.fault.store(WORKS, Ordering::SeqCst);
    }
}

/// The failing files as the journal has them.
struct FailingFiles(Arc<Failing>);

impl Files for FailingFiles {
    fn create(&self, path: &Path) -> io::Result<Handle> {
        Disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Handle> {
        Disk.open(path)
    }
    fn create_segment(&self, path: &Path) -> io::Result<Handle> {
        Disk.create_segment(path)
    }
    fn open_segment(&self, path: &Path) -> io::Result<Handle> {
        Disk.open_segment(path)
    }
    fn write_at(&self, file: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.check(WRITE_FAILS, EIO)?;
        Disk.write_at(file, bytes, offset)
    }
    fn sync(&self, file: &Handle) -> io::Result<()> {
        self.0.check(SYNC_FAILS, EIO)?;
        Disk.sync(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.check(RENAME_FAILS, EMFILE)?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.0.check(DIRECTORY_FAILS, EMFILE)?;
        Disk.sync_directory(path)
    }
}

fn open_failing(path: &Path) -> (Arc<DiskStore>, Arc<Failing>, Arc<Metrics>) {
    let options = Options { segment_bytes: 1 << 20, bytes_max: 64 << 20, ..Options::default() };
    let failing = Arc::new(Failing::default());
    let files = Arc::new(FailingFiles(Arc::clone(&failing)));
    let (journal, _) = Journal::open_with(&path.join("journal"), recovery::sizes(&options), files, false).unwrap();
    let recovered = recovery::around(path, journal, &options).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = DiskStore::start(path, recovered, options, Arc::clone(&metrics), Clock::fixed(noon())).unwrap();
    (store, failing, metrics)
}

fn is_failed<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Failed(_)))
}

/// Looks until it holds; asks nothing of the store, which may be failed.
async fn until(holds: impl Fn() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn until_healthy(store: &DiskStore) {
    until(|| store.health().is_ok()).await;
}

/// Has the store fail, and checks that nobody is told anything is durable, or left waiting, until it came back by itself
/// with all that was acknowledged and nothing that was not.
async fn nothing_is_acknowledged_until_it_came_back_after(kind: u8) {
    let directory = TempDir::new().unwrap();
    let (store, failing, metrics) = open_failing(directory.path());
    stored(&*store, received("before", &[0, 1])).await;
    settle_head(&*store, 0, accepted()).await;
    let entry = head(&*store, 1).await.entry;
    let before = picture(&store);
    let waiting = tokio::spawn(store.next(&lane(5)));
    failing.fail(kind);

    let at_once: Vec<_> = (0..10).map(|_| store.append(received("during", &[0]))).collect();
    for answer in at_once {
        assert!(is_failed(within(answer).await));
    }
    assert!(is_failed(within(waiting).await.unwrap()));
    until(|| failing.failed.load(Ordering::SeqCst) > 3).await;
    assert!(is_failed(within(store.append(received("after", &[0]))).await));
    assert!(is_failed(within(store.settle(&lane(1), entry, accepted())).await));
    assert!(is_failed(within(store.next(&lane(1))).await));
    assert!(is_failed(within(store.find(Query::default())).await));
    assert!(is_failed(store.health()));
    assert_eq!((metrics.store_failed.get(), metrics.store_reopened.get()), (1, 0));

    let waiting = store.next(&lane(0));
    assert!(is_failed(within(waiting).await), "told at once");
    failing.work();
    until_healthy(&store).await;
    until(|| (metrics.store_failed.get(), metrics.store_reopened.get()) == (0, 1)).await;
    assert_eq!(picture(&store), before);
    assert!(head(&*store, 1).await.possible_repeat);
    within(store.settle(&lane(1), entry, accepted())).await.unwrap();
    let again = stored(&*store, received("again", &[0])).await;
    assert_eq!(head(&*store, 0).await.id, again.sequence());
    assert!(!head(&*store, 0).await.possible_repeat);
    let last = picture(&store);
    drop(store);
    assert_eq!(picture(&open_failing(directory.path()).0), last);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_the_store_was_opened_anew() {
    nothing_is_acknowledged_until_it_came_back_after(SYNC_FAILS).await;
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_until_the_store_was_opened_anew() {
    nothing_is_acknowledged_until_it_came_back_after(WRITE_FAILS).await;
}

#[tokio::test]
async fn after_a_panic_of_the_writer_nobody_is_left_waiting_and_the_store_is_opened_anew() {
    nothing_is_acknowledged_until_it_came_back_after(WRITER_PANICS).await;
}

/// Numbered messages of one lane, a few at once, through failures of every kind.
struct Stream {
    store: Arc<DiskStore>,
    next: u32,
    acknowledged: Vec<u32>,
}

impl Stream {
    async fn send(&mut self) {
        let numbers: Vec<u32> = (self.next..self.next + 4).collect();
        self.next += 4;
        let content = |number: &u32| format!("{number:06} {}", "pad ".repeat(8_000));
        let answers: Vec<_> = numbers.iter().map(|n| self.store.append(received(&content(n), &[0]))).collect();
        for (number, answer) in numbers.into_iter().zip(answers) {
            match within(answer).await {
                Ok(Appended::New(_)) => self.acknowledged.push(number),
                answer => assert!(is_failed(answer)),
            }
        }
    }

    /// What waits, in order.
    async fn drain(&self) -> Vec<u32> {
        let mut numbers = Vec::new();
        while self.store.stats().waiting > 0 {
            let head = settle_head(&*self.store, 0, accepted()).await;
            numbers.push(std::str::from_utf8(&head.message[9..15]).unwrap().parse().unwrap());
        }
        numbers
    }
}

#[tokio::test]
async fn through_failures_of_every_kind_what_was_acknowledged_is_kept_in_order_and_nothing_comes_twice() {
    let directory = TempDir::new().unwrap();
    let (store, failing, metrics) = open_failing(directory.path());
    let mut stream = Stream { store, next: 0, acknowledged: Vec::new() };
    let mut kinds = [SYNC_FAILS, DIRECTORY_FAILS, WRITER_PANICS, RENAME_FAILS, WRITE_FAILS].into_iter().cycle();
    for failures in 0..10 {
        for _ in 0..4 {
            stream.send().await;
        }
        failing.fail(kinds.next().unwrap());
        // Several fail only where a segment is begun.
        while stream.store.health() != Err(StoreError::Closed) && metrics.store_failed.get() == 0 {
            stream.send().await;
        }
        failing.work();
        until_healthy(&stream.store).await;
        assert_eq!(metrics.store_reopened.get(), failures + 1);
    }
    stream.send().await;
    let delivered = stream.drain().await;
    assert!(delivered.is_sorted_by(|one, next| one < next), "in order, and none twice: {delivered:?}");
    let missing: Vec<_> = stream.acknowledged.iter().filter(|number| !delivered.contains(number)).collect();
    assert!(missing.is_empty(), "acknowledged and lost: {missing:?}");
    assert!(delivered.len() < stream.next as usize, "nothing failed");
}

#[tokio::test]
async fn a_failed_store_that_turns_out_damaged_stays_failed_and_says_where() {
    let directory = TempDir::new().unwrap();
    let (store, failing, metrics) = open_failing(directory.path());
    for number in 0..20 {
        stored(&*store, received(&format!("message {number}"), &[0])).await;
    }
    failing.fail(SYNC_FAILS);
    assert!(is_failed(within(store.append(received("during", &[0]))).await));
    damage(directory.path(), b"message 3");
    failing.work();
    let says = |store: &DiskStore| matches!(store.health(), Err(StoreError::Failed(why)) if why.contains("is damaged"));
    until(|| says(&store)).await;
    assert!(is_failed(within(store.append(received("after", &[0]))).await));
    assert_eq!((metrics.store_failed.get(), metrics.store_reopened.get()), (1, 0));
    let other = DiskStore::verify(directory.path(), |_, _| ()).err().map(|error| error.to_string());
    assert!(other.is_some_and(|reason| reason.contains("another engine")), "the lock was given up");
    assert!(is_failed(within(store.close()).await));
    drop(store);
    assert_eq!(DiskStore::verify(directory.path(), |_, _| ()).unwrap().damage.len(), 1);
}

#[tokio::test]
async fn a_failed_store_can_be_closed_and_opens_as_it_was() {
    let directory = TempDir::new().unwrap();
    let (store, failing, _) = open_failing(directory.path());
    let before = stored(&*store, received("before", &[0])).await;
    failing.fail(SYNC_FAILS);
    assert!(is_failed(within(store.append(received("during", &[0]))).await));
    assert!(is_failed(within(store.close()).await));
    drop(store);
    let (store, ..) = open_failing(directory.path());
    assert_eq!(head(&*store, 0).await.id, before.sequence());
}

/// Changes a bit of the message with this content, in the first segment.
fn damage(path: &Path, content: &[u8]) {
    let segment = path.join("journal").join(format!("{:020}.journal", 1));
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(content.len()).position(|window| window == content).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
}

#[tokio::test]
async fn a_damaged_message_is_a_dead_letter_and_its_lane_goes_on() {
    let directory = TempDir::new().unwrap();
    let options = Options { segment_bytes: 64 << 10, bytes_max: 16 << 20, cache_bytes: 0, ..Options::default() };
    let store = super::tests::try_open(directory.path(), options.clone()).unwrap();
    let mut ids = Vec::new();
    for number in 0..200 {
        let content = format!("message {number} {}", "pad ".repeat(200));
        ids.push(stored(&*store, received(&content, &[0])).await.sequence());
    }
    within(store.close()).await.unwrap();
    damage(directory.path(), b"message 3 ");
    let store = super::tests::try_open(directory.path(), options).unwrap();
    let rotten = ids.remove(3);
    for id in ids {
        assert_eq!(settle_head(&*store, 0, accepted()).await.id, id);
    }
    let letters = within(store.dead(None, None, 10)).await.unwrap();
    assert_eq!((letters.len(), letters[0].id), (1, rotten));
    assert!(letters[0].reason.contains("damaged"));
    assert!(matches!(within(store.read(rotten)).await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn verify_refuses_a_store_in_use_and_reports_damage_at_rest() {
    let directory = TempDir::new().unwrap();
    let (store, ..) = open_failing(directory.path());
    for number in 0..20 {
        stored(&*store, received(&format!("message {number}"), &[0])).await;
    }
    let refused = DiskStore::verify(directory.path(), |_, _| ()).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|reason| reason.contains("another engine")));
    within(store.close()).await.unwrap();
    let report = DiskStore::verify(directory.path(), |_, _| ()).unwrap();
    assert_eq!((report.records, report.damage.len()), (20, 0));

    damage(directory.path(), b"message 3");
    assert_eq!(DiskStore::verify(directory.path(), |_, _| ()).unwrap().damage.len(), 1);
}

#[tokio::test]
async fn a_damaged_journal_opens_only_on_purpose_and_keeps_what_can_be_proved() {
    let directory = TempDir::new().unwrap();
    let (store, ..) = open_failing(directory.path());
    let mut ids = Vec::new();
    for number in 0..20 {
        ids.push(stored(&*store, received(&format!("message {number}"), &[0])).await.sequence());
    }
    within(store.close()).await.unwrap();
    damage(directory.path(), b"message 3");

    let options = Options { segment_bytes: 1 << 20, bytes_max: 16 << 20, ..Options::default() };
    let open = |options| super::tests::try_open(directory.path(), options);
    assert!(matches!(open(options.clone()), Err(OpenError::Journal(JournalError::Damaged(_)))));
    let rebuilt = open(Options { accept_damage: true, ..options }).unwrap();
    ids.remove(3);
    for id in ids {
        assert_eq!(settle_head(&*rebuilt, 0, accepted()).await.id, id);
    }
}

fn segmented() -> Options {
    Options { segment_bytes: 64 << 10, bytes_max: 16 << 20, cache_bytes: 0, ..Options::default() }
}

fn long(number: usize, lanes: &[u16]) -> crate::store::Received {
    received(&format!("message {number} {}", "pad ".repeat(200)), lanes)
}

#[tokio::test]
async fn a_dead_letter_whose_record_is_damaged_is_listed_and_hides_no_other() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    for number in 0..200 {
        stored(&*store, long(number, &[0])).await;
        match number {
            0 => drop(settle_head(&*store, 0, crate::store::conformance::dead("unlucky reason")).await),
            1 => drop(settle_head(&*store, 0, crate::store::conformance::dead("other reason")).await),
            _ => {}
        }
    }
    within(store.close()).await.unwrap();
    damage(directory.path(), b"unlucky reason");
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let letters = within(store.dead(None, None, 10)).await.unwrap();
    let reasons: Vec<_> = letters.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons, ["its record is damaged", "other reason"]);
    within(store.discard_dead(letters[0].entry)).await.unwrap();
}

#[tokio::test]
async fn a_damaged_message_holds_its_segment_only_until_its_dead_letters_are_discarded() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    stored(&*store, long(0, &[0, 7])).await;
    settle_head(&*store, 0, crate::store::conformance::dead("refused")).await;
    for number in 1..300 {
        stored(&*store, long(number, &[0])).await;
        settle_head(&*store, 0, accepted()).await;
    }
    within(store.close()).await.unwrap();
    damage(directory.path(), b"message 0 ");
    let store = super::tests::try_open(directory.path(), Options { retain: Duration::ZERO, ..segmented() }).unwrap();
    super::tests::until(&store, |store| store.stats().dead == 2).await;
    assert!(store.stats().segments > 4, "nothing is given back");
    for letter in within(store.dead(None, None, 10)).await.unwrap() {
        within(store.discard_dead(letter.entry)).await.unwrap();
    }
    super::tests::until(&store, |store| store.stats().segments <= 2).await;
    assert_eq!(store.health(), Ok(()));
}

#[tokio::test]
async fn a_rebuild_tells_what_is_lost_and_leaves_a_store_that_opens() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let mut ids = Vec::new();
    for number in 0..200 {
        ids.push(stored(&*store, long(number, &[0])).await.sequence());
    }
    within(store.close()).await.unwrap();
    drop(store);
    damage(directory.path(), b"message 3 ");
    let rebuilt = DiskStore::rebuild(directory.path(), segmented()).unwrap();
    let lost = ids.remove(3);
    assert_eq!((rebuilt.messages, rebuilt.waiting, rebuilt.dead), (199, 199, 0));
    let around = (Some(lost.as_u64() - 2), Some(lost.as_u64() + 2));
    let told: Vec<_> = rebuilt.damage.iter().map(|lost| lost.sequences).collect();
    assert_eq!(told, [around]);
    assert!(rebuilt.ledger_aside.as_ref().is_some_and(|aside| aside.exists()));
    assert!(rebuilt.to_string().contains("lost: "), "{rebuilt}");

    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    for id in ids {
        assert_eq!(settle_head(&*store, 0, accepted()).await.id, id);
    }
    assert!(store.stats().segments > 1);
}

#[tokio::test]
async fn a_rebuild_of_a_whole_store_loses_nothing_and_one_in_use_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    stored(&*store, long(0, &[0])).await;
    assert!(DiskStore::rebuild(directory.path(), segmented()).is_err());
    within(store.close()).await.unwrap();
    drop(store);
    let rebuilt = DiskStore::rebuild(directory.path(), segmented()).unwrap();
    assert_eq!((rebuilt.messages, rebuilt.waiting, rebuilt.damage.len()), (1, 1, 0));
    assert!(rebuilt.to_string().contains("nothing was lost"));
}

/// A replay of a message whose segment is lost was recorded: its place in the lane must not block it.
#[tokio::test]
async fn a_place_in_a_lane_whose_message_is_gone_with_its_segment_is_a_dead_letter() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let first = stored(&*store, long(0, &[0])).await.sequence();
    settle_head(&*store, 0, accepted()).await;
    for number in 1..200 {
        stored(&*store, long(number, &[1])).await;
    }
    within(store.replay(vec![first], None)).await.unwrap();
    let last = stored(&*store, long(200, &[0])).await.sequence();
    within(store.close()).await.unwrap();
    drop(store);
    std::fs::remove_file(directory.path().join("journal").join(format!("{:020}.journal", 1))).unwrap();
    let rebuilt = DiskStore::rebuild(directory.path(), segmented()).unwrap();
    assert!(!rebuilt.damage.is_empty());
    let options = Options { retain: Duration::ZERO, ..segmented() };
    let store = super::tests::try_open(directory.path(), options).unwrap();
    assert_eq!(settle_head(&*store, 0, accepted()).await.id, last);
    let letters = within(store.dead(None, None, 10)).await.unwrap();
    assert_eq!((letters.len(), letters[0].id), (1, first));
}

#[tokio::test]
async fn a_damaged_message_sent_again_is_stored_and_not_taken_for_a_repeat() {
    let directory = TempDir::new().unwrap();
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let again = || crate::store::conformance::with_key("message to be damaged", "key");
    let first = stored(&*store, again()).await.sequence();
    for number in 0..200 {
        stored(&*store, long(number, &[1])).await;
    }
    within(store.close()).await.unwrap();
    drop(store);
    damage(directory.path(), b"message to be damaged");
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let waiting = tokio::spawn(store.next(&lane(0)));
    super::tests::until(&store, |store| store.stats().dead == 1).await;
    within(store.close()).await.unwrap();
    drop(store);
    assert!(within(waiting).await.unwrap().is_err());
    let store = super::tests::try_open(directory.path(), segmented()).unwrap();
    let second = stored(&*store, again()).await.sequence();
    assert!(second > first);
    assert_eq!(head(&*store, 0).await.id, second);
    let repeat = within(store.append(again())).await.unwrap();
    assert!(matches!(repeat, Appended::Repeat(known) if known.sequence() == second));
}
