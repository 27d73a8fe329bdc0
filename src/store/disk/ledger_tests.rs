//! What the store does while its ledger cannot be opened, written or read: everything but searching, and it mends itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, os::unix::fs::symlink};

use tempfile::TempDir;

use super::{
    tests::{open, picture, small},
    *,
};
use crate::store::conformance::{
    accepted, dead, head, lane, received, settle_head, stored, with_content, with_key, within,
};

fn eager() -> Options {
    Options { retain: Duration::ZERO, ..small() }
}

/// A message of four kilobytes, so that segments roll.
fn padded(number: usize) -> Received {
    received(&format!("{number} {}", "pad ".repeat(1000)), &[0])
}

async fn until_made(store: &DiskStore) {
    super::tests::until(store, |store| !is_hurt(store)).await;
}

fn is_hurt(store: &DiskStore) -> bool {
    newest(store, 1) != Ok(1) || has_none(store)
}

fn has_none(store: &DiskStore) -> bool {
    lock(&store.shared.ledger).as_ref().unwrap().is_absent()
}

fn newest(store: &DiskStore, limit: usize) -> Result<usize, StoreError> {
    store.shared.find(Query { limit, ..Query::default() }).map(|found| found.len())
}

/// Deliveries of all kinds while there is no ledger.
async fn works_without(store: &DiskStore, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let sequence = stored(store, padded(number)).await.sequence();
        assert_eq!(head(store, 0).await.id, sequence);
        settle_head(store, 0, if number % 50 == 0 { dead("refused") } else { accepted() }).await;
    }
    assert_eq!(store.health(), Ok(()));
}

/// It is what a start makes of the same files, and gives space back again.
async fn is_whole(directory: &TempDir, store: Arc<DiskStore>) {
    until_made(&store).await;
    super::tests::until(&store, |store| store.stats().segments <= 3).await;
    within(store.close()).await.unwrap();
    drop(store);
    let store = open(directory.path(), small());
    let before = picture(&store);
    assert!(!before.found.is_empty());
    drop(store);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    assert_eq!(picture(&open(directory.path(), small())), before);
}

#[tokio::test]
async fn a_store_whose_ledger_cannot_be_made_opens_without_one_and_makes_it_once_it_can() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger");
    let store = open(directory.path(), eager());
    let waiting = stored(&*store, with_key("kept from before", "key")).await.sequence();
    drop(store);
    fs::remove_dir_all(&path).unwrap();
    symlink("/proc/none/of/this", &path).unwrap();

    let store = open(directory.path(), eager());
    assert!(has_none(&store));
    assert_eq!(newest(&store, 10), Ok(1));
    assert!(head(&*store, 0).await.possible_repeat);
    assert_eq!(settle_head(&*store, 0, accepted()).await.id, waiting);
    assert!(matches!(within(store.append(with_key("kept from before", "key"))).await, Ok(Appended::Repeat(_))));
    works_without(&store, 0..100).await;
    assert_eq!(newest(&store, 500), Ok(101));
    for number in 0..2100 {
        stored(&*store, received(&format!("many {number}"), &[0])).await;
        settle_head(&*store, 0, accepted()).await;
    }
    assert!(has_none(&store));
    assert_eq!((newest(&store, 100), newest(&store, 10_000)), (Ok(100), Err(StoreError::Unsearchable)));
    assert_eq!(within(store.replay(vec![waiting], None)).await, Err(StoreError::Unsearchable));
    assert!(store.shared.state().history.numbers().len() <= 4, "of what nobody writes down little is kept in memory");
    assert!(store.stats().segments > 3, "nothing is given back");
    assert_eq!(within(store.dead(None, None, 10)).await.unwrap()[0].reason, "refused");

    fs::remove_file(&path).unwrap();
    is_whole(&directory, store).await;
}

async fn is_made_again_after(fault: &str) {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), eager());
    works_without(&store, 0..60).await;
    until_made(&store).await;
    let suspect = stored(&*store, received("on its way", &[7])).await.sequence();
    fs::write(directory.path().join("ledger.fails"), fault).unwrap();
    super::tests::until(&store, is_hurt).await;
    if fault == "write" {
        super::tests::until(&store, |store| has_none(store) && newest(store, 5) == Ok(5)).await;
    }
    works_without(&store, 60..140).await;
    assert!(is_hurt(&store) && store.stats().segments > 3);
    fs::remove_file(directory.path().join("ledger.fails")).unwrap();
    until_made(&store).await;
    let head = head(&*store, 7).await;
    assert_eq!((head.id, head.possible_repeat), (suspect, false), "no delivery was in doubt");
    works_without(&store, 140..170).await;
    within(store.settle(&lane(7), head.entry, accepted())).await.unwrap();
    is_whole(&directory, store).await;
}

#[tokio::test]
async fn a_ledger_that_cannot_be_written_is_made_again_while_the_store_runs() {
    is_made_again_after("write").await;
}

#[tokio::test]
async fn a_ledger_that_cannot_be_read_is_made_again_while_the_store_runs() {
    is_made_again_after("read").await;
}

#[tokio::test]
async fn a_ledger_that_panics_is_made_again_while_the_store_runs() {
    is_made_again_after("panic").await;
}

#[tokio::test]
async fn a_store_without_a_ledger_can_be_closed_and_opens_as_it_was() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    works_without(&store, 0..60).await;
    fs::write(directory.path().join("ledger.fails"), "write").unwrap();
    super::tests::until(&store, has_none).await;
    works_without(&store, 60..120).await;
    let next = store.stats().next_sequence;
    within(store.close()).await.unwrap();
    drop(store);
    fs::remove_file(directory.path().join("ledger.fails")).unwrap();
    let store = open(directory.path(), small());
    assert!(store.stats().next_sequence >= next);
    assert_eq!(store.stats().messages, 120);
    assert_eq!(newest(&store, 200), Ok(120));
}

#[tokio::test]
async fn a_retransmission_is_told_after_a_restart_whether_the_store_was_closed_or_killed() {
    for proper in [true, false] {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path(), small());
        let first = stored(&*store, with_content("1", "same", false)).await.sequence();
        let again = stored(&*store, with_content("2", "same", false)).await.sequence();
        if proper {
            within(store.close()).await.unwrap();
        }
        drop(store);
        let store = open(directory.path(), small());
        let later = stored(&*store, with_content("3", "same", false)).await;
        assert_eq!((first < again, later.resends()), (true, Some(again)), "{proper}");
        let kept = within(store.read(again)).await.unwrap();
        assert!(kept.events.iter().any(|event| event.what == "retransmission"), "{proper}");
        within(store.close()).await.unwrap();
    }
}
