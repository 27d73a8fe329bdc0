//! What the store promises while the disk, or its own writer, fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io,
    sync::atomic::{AtomicU8, Ordering},
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

/// The machine's files, until told to fail.
struct Failing(Arc<AtomicU8>);

impl Failing {
    fn check(&self, fault: u8) -> io::Result<()> {
        let now = self.0.load(Ordering::SeqCst);
        assert_ne!(now, WRITER_PANICS, "asked to panic");
        if now == fault { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

impl Files for Failing {
    fn create(&self, path: &Path) -> io::Result<Handle> {
        Disk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Handle> {
        Disk.open(path)
    }
    fn write_at(&self, file: &Handle, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check(WRITE_FAILS)?;
        Disk.write_at(file, bytes, offset)
    }
    fn sync(&self, file: &Handle) -> io::Result<()> {
        self.check(SYNC_FAILS)?;
        Disk.sync(file)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }
}

fn open_failing(path: &Path) -> (Arc<DiskStore>, Arc<AtomicU8>, Arc<Metrics>) {
    let options = Options { segment_bytes: 1 << 20, bytes_max: 16 << 20, ..Options::default() };
    let fault = Arc::new(AtomicU8::new(WORKS));
    let sizes = journal::Options { segment_bytes: options.segment_bytes, bytes_max: options.bytes_max };
    let files = Arc::new(Failing(Arc::clone(&fault)));
    let (journal, _) = Journal::open_with(&path.join("journal"), sizes, files, false).unwrap();
    let recovered = recovery::around(path, journal, &options).unwrap();
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = DiskStore::start(path, recovered, options, Arc::clone(&metrics), Clock::fixed(noon())).unwrap();
    (store, fault, metrics)
}

/// Has the store fail, and checks that nobody is told anything is durable, or left waiting, from then on.
async fn nothing_is_acknowledged_after(kind: u8) {
    let directory = TempDir::new().unwrap();
    let (store, fault, metrics) = open_failing(directory.path());
    stored(&*store, received("before", &[0, 1])).await;
    let entry = settle_head(&*store, 0, accepted()).await.entry;
    let before = picture(&store);
    let waiting = tokio::spawn(store.next(&lane(5)));
    fault.store(kind, Ordering::SeqCst);

    let failed = |error: Option<StoreError>| matches!(error, Some(StoreError::Failed(_)));
    let at_once: Vec<_> = (0..10).map(|_| store.append(received("during", &[0]))).collect();
    for answer in at_once {
        assert!(failed(within(answer).await.err()));
    }
    fault.store(WORKS, Ordering::SeqCst);
    assert!(
        failed(within(store.append(received("after", &[0]))).await.err()),
        "a disk that works again proves nothing"
    );
    assert!(failed(within(store.settle(&lane(1), entry, accepted())).await.err()));
    assert!(failed(within(waiting).await.unwrap().err()));
    assert!(failed(within(store.next(&lane(1))).await.err()));
    assert!(failed(within(store.close()).await.err()));
    assert!(failed(store.health().err()));
    assert_eq!(metrics.store_failed.get(), 1);
    drop(store);

    let (store, ..) = open_failing(directory.path());
    let after = picture(&store);
    assert_eq!(after.waiting_ids()[&lane(1)], before.waiting_ids()[&lane(1)]);
    assert!(head(&*store, 1).await.possible_repeat);
    stored(&*store, received("again", &[0])).await;
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_reopened() {
    nothing_is_acknowledged_after(SYNC_FAILS).await;
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_until_reopened() {
    nothing_is_acknowledged_after(WRITE_FAILS).await;
}

#[tokio::test]
async fn a_panic_of_the_writer_is_a_failure_and_leaves_nobody_waiting() {
    nothing_is_acknowledged_after(WRITER_PANICS).await;
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
