#![allow(clippy::unwrap_used, clippy::expect_used)]
//! A store that has lost its journal or the end of it is refused, and rebuilt only on purpose.

use std::fs;

use tempfile::TempDir;

use super::{
    DiskStore, OpenError,
    tests::{copy, open, small, try_open},
};
use crate::store::{
    Store,
    conformance::{accepted, head, received, settle_head, stored, within},
    journal::JournalError,
};

#[test]
fn a_store_whose_journal_is_not_mounted_is_not_taken_for_a_new_one() {
    let directory = TempDir::new().unwrap();
    let open = || try_open(directory.path(), small());
    drop(open().unwrap());
    fs::rename(directory.path().join("journal"), directory.path().join("elsewhere")).unwrap();
    assert!(matches!(open(), Err(OpenError::JournalMissing { .. })));
    assert!(!directory.path().join("journal").exists(), "a new journal was begun");
    fs::rename(directory.path().join("elsewhere"), directory.path().join("journal")).unwrap();
    assert!(open().is_ok());
}

#[tokio::test]
async fn a_journal_that_ends_before_its_checkpoint_is_not_taken_for_a_torn_one() {
    let (directory, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    for number in 0..60 {
        stored(&*store, received(&format!("message {number}"), &[0])).await;
    }
    within(store.close()).await.unwrap();
    drop(open(directory.path(), small()));
    // As after a crash: reopened, so that no end is noted, and then the file loses all behind its first kilobyte.
    let store = open(directory.path(), small());
    copy(directory.path(), crashed.path());
    drop(store);
    let segment = crashed.path().join("journal/00000000000000000001.journal");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1024..].fill(0);
    fs::write(&segment, bytes).unwrap();
    // `Damaged` where the store was idle for so long that its journal vouched for its end.
    let refused = try_open(crashed.path(), small()).err();
    assert!(matches!(refused, Some(OpenError::JournalShort { .. } | OpenError::Journal(JournalError::Damaged(_)))));
    let rebuilt = DiskStore::rebuild(crashed.path(), small()).unwrap();
    assert!((1..60).contains(&rebuilt.messages), "{rebuilt}");
    assert!(try_open(crashed.path(), small()).is_ok());
}

#[tokio::test]
async fn the_last_message_of_an_idle_store_is_missed_when_it_is_lost_after_a_crash() {
    let (directory, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    stored(&*store, received("message 1", &[0])).await;
    stored(&*store, received("message 2", &[0])).await;
    let vouched = || {
        let mark = fs::read(directory.path().join("journal/MARK")).unwrap();
        mark[52..56] != [0; 4] || mark.get(4096 + 52..4096 + 56).is_some_and(|word| word != [0; 4])
    };
    within(async {
        while !vouched() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    copy(directory.path(), crashed.path());
    let segment = crashed.path().join("journal/00000000000000000001.journal");
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.windows(9).rposition(|window| window == b"message 2").unwrap();
    bytes[last] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let Err(OpenError::Journal(JournalError::Damaged(damage))) = try_open(crashed.path(), small()) else {
        panic!("opened without its last message");
    };
    assert_eq!(damage.len(), 1);
    let rebuilt = DiskStore::rebuild(crashed.path(), small()).unwrap();
    assert_eq!((rebuilt.messages, rebuilt.damage.len(), rebuilt.cut), (1, 1, None));
}

#[tokio::test]
async fn a_store_that_lost_its_newest_segment_opens_again_once_it_was_rebuilt() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    for number in 0..100 {
        stored(&*store, received(&format!("{number} {}", "pad ".repeat(500)), &[0])).await;
    }
    within(store.close()).await.unwrap();
    let files = fs::read_dir(directory.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "journal")).collect();
    segments.sort();
    assert!(segments.len() > 2);
    fs::remove_file(segments.pop().unwrap()).unwrap();
    let rebuilt = DiskStore::rebuild(directory.path(), small()).unwrap();
    let (before, after) = rebuilt.damage[0].sequences;
    assert!(before.is_some_and(|last| last > 1) && after.is_none(), "{rebuilt}");
    for _ in 0..2 {
        let store = open(directory.path(), small());
        assert_eq!(store.stats().messages, rebuilt.messages);
        settle_head(&*store, 0, accepted()).await;
        assert!(head(&*store, 0).await.possible_repeat, "what was lost may have told of its delivery");
    }
}
