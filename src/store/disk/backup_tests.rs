//! What a backup holds and a restored store knows.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use tempfile::TempDir;

use super::{
    tests::{open, padded, picture, small, try_open, until},
    *,
};
use crate::store::conformance::{accepted, head, lane, noon, settle_head, stored, within};

async fn backup(store: &DiskStore, to: &Path) -> Result<Backup, BackupError> {
    within(store.backup(to.to_owned(), Vec::new())).await
}

fn restore(from: &Path, to: &Path) -> Result<Backup, BackupError> {
    DiskStore::restore(from, to, &small())
}

#[tokio::test]
async fn a_restored_store_is_the_one_backed_up_and_sends_what_waits_as_possible_repeats() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    for number in 0..200 {
        stored(&*store, padded(number, &[0, 1])).await;
    }
    for _ in 0..50 {
        settle_head(&*store, 0, accepted()).await;
    }
    let log = directory.path().join("log");
    fs::write(&log, "one line\nhalf a li").unwrap();
    let made = within(store.backup(elsewhere.path().join("b"), vec![log])).await.unwrap();
    assert_eq!((made.records, made.damage.len()), (250, 0));
    let before = picture(&store);
    // After the backup: one is delivered, one is new.
    settle_head(&*store, 0, accepted()).await;
    stored(&*store, padded(200, &[0])).await;
    drop(store);
    let to = elsewhere.path().join("restored");
    assert_eq!(restore(&elsewhere.path().join("b"), &to).unwrap(), made);
    assert_eq!(fs::read(to.join("log")).unwrap(), b"one line\n");
    assert_eq!(fs::read(to.join("key")).unwrap(), fs::read(directory.path().join("key")).unwrap());

    for start in 0..2 {
        let store = open(&to, small());
        if start == 0 {
            assert_eq!(picture(&store), before);
        }
        let repeats = [settle_head(&*store, 0, accepted()).await, settle_head(&*store, 0, accepted()).await];
        assert!(repeats.iter().all(|sent| sent.possible_repeat), "also what is not first in its lane, and for good");
        let new = stored(&*store, padded(300 + start, &[5])).await.sequence();
        stored(&*store, padded(400 + start, &[5])).await;
        assert_eq!(settle_head(&*store, 5, accepted()).await.id, new);
        assert!(!settle_head(&*store, 5, accepted()).await.possible_repeat);
        within(store.close()).await.unwrap();
    }
    let known = try_open(&to, small()).unwrap();
    assert!(matches!(within(known.append(padded(0, &[0, 1]))).await, Ok(Appended::Repeat(_))));
}

#[tokio::test]
async fn everything_acknowledged_before_a_backup_under_load_is_in_it_and_appends_go_on() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    // Delivered messages are given up at once, so that segments go and are used again all the time.
    let options = Options { retain: Duration::ZERO, ..small() };
    let store = open(directory.path(), options);
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn({
        let (store, over) = (Arc::clone(&store), Arc::clone(&over));
        async move {
            let mut number = 1_000;
            while !over.load(Ordering::SeqCst) {
                stored(&*store, padded(number, &[0])).await;
                settle_head(&*store, 0, accepted()).await;
                number += 1;
            }
            number - 1_000
        }
    });
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        for number in 0..100 {
            acknowledged.push(stored(&*store, padded(round * 100 + number, &[7])).await.sequence());
        }
        backup(&store, &elsewhere.path().join(format!("b{round}"))).await.unwrap();
        let to = elsewhere.path().join(format!("s{round}"));
        restore(&elsewhere.path().join(format!("b{round}")), &to).unwrap();
        let restored = open(&to, small());
        for id in &acknowledged {
            assert_eq!(settle_head(&*restored, 7, accepted()).await.id, *id);
        }
        assert_eq!(
            restored.lanes().iter().filter(|each| each.lane == lane(7)).map(|each| each.waiting).sum::<u64>(),
            0
        );
    }
    over.store(true, Ordering::SeqCst);
    assert!(load.await.unwrap() > 100, "messages were taken meanwhile");
}

#[tokio::test]
async fn no_segment_is_given_up_while_it_is_copied_and_all_are_afterwards() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), Options { retain: Duration::ZERO, ..small() });
    *lock(&store.shared.pinned) = true;
    for number in 0..300 {
        stored(&*store, padded(number, &[0])).await;
        settle_head(&*store, 0, accepted()).await;
    }
    let segments = store.stats().segments;
    assert!(segments > 4, "{segments} segments");
    let refused = backup(&store, &directory.path().with_extension("b")).await;
    assert!(matches!(refused, Err(BackupError::Busy)));
    fs::remove_dir_all(directory.path().with_extension("b")).unwrap_or_default();
    *lock(&store.shared.pinned) = false;
    until(&store, |store| store.stats().segments <= 2).await;
}

#[tokio::test]
async fn nothing_is_overwritten_and_half_a_backup_is_none() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    let id = stored(&*store, padded(0, &[0])).await.sequence();
    let full = elsewhere.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("a"), "b").unwrap();
    assert!(matches!(backup(&store, &full).await, Err(BackupError::Occupied(_))));
    for place in [PathBuf::from("relative"), directory.path().join("inside")] {
        assert!(matches!(backup(&store, &place).await, Err(BackupError::Place(_))), "{}", place.display());
    }
    let made = elsewhere.path().join("made");
    fs::create_dir(&made).unwrap();
    backup(&store, &made).await.unwrap();
    assert!(matches!(restore(&made, directory.path()), Err(BackupError::Occupied(_))));
    assert_eq!(head(&*store, 0).await.id, id, "the store is as it was");
    within(store.close()).await.unwrap();

    let to = |name: &str| elsewhere.path().join(name);
    let segment = made.join("journal").join(format!("{:020}.journal", 1));
    let bytes = fs::read(&segment).unwrap();
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    fs::write(&segment, changed).unwrap();
    assert!(matches!(restore(&made, &to("one")), Err(BackupError::Changed(_))));
    assert_eq!(fs::read_dir(to("one")).unwrap().count(), 0, "nothing is left behind");
    fs::create_dir(to("one").join("restoring")).unwrap();
    assert!(matches!(try_open(&to("one"), small()), Err(OpenError::RestoreUnfinished { .. })));
    fs::write(&segment, bytes).unwrap();
    restore(&made, &to("two")).unwrap();
    fs::remove_file(made.join("backup.json")).unwrap();
    assert!(matches!(restore(&made, &to("three")), Err(BackupError::Incomplete { .. })));
    assert!(!to("three").exists());
}

#[tokio::test]
async fn a_stopped_store_is_backed_up_the_same_way_and_a_running_one_not_behind_its_back() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    let mut ids = Vec::new();
    for number in 0..150 {
        ids.push(stored(&*store, padded(number, &[0])).await.sequence());
    }
    let stopped = |to: &str| DiskStore::backup_stopped(directory.path(), &elsewhere.path().join(to), &[], noon());
    assert!(matches!(stopped("a"), Err(BackupError::Journal(JournalError::Locked(_)))));
    // Killed, not closed.
    drop(store);
    let made = stopped("b").unwrap();
    assert_eq!((made.records, made.last_sequence), (150, Some(ids[149].as_u64())));
    restore(&elsewhere.path().join("b"), &elsewhere.path().join("c")).unwrap();
    let store = open(&elsewhere.path().join("c"), small());
    for id in ids {
        assert_eq!(settle_head(&*store, 0, accepted()).await.id, id);
    }
}

#[tokio::test]
async fn damage_of_the_store_itself_is_told_and_does_not_stop_a_backup() {
    let (directory, elsewhere) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    for number in 0..200 {
        stored(&*store, padded(number, &[0])).await;
    }
    let segment = directory.path().join("journal").join(format!("{:020}.journal", 1));
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(6).position(|window| window == b"00003 ").unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let made = backup(&store, &elsewhere.path().join("b")).await.unwrap();
    assert_eq!((made.records, made.damage.len()), (199, 1), "{:?}", made.damage);
}
