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
    conformance::{received, stored, within},
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
    assert!(matches!(try_open(crashed.path(), small()), Err(OpenError::JournalShort { .. })));
    let rebuilt = DiskStore::rebuild(crashed.path(), small()).unwrap();
    assert!((1..60).contains(&rebuilt.messages), "{rebuilt}");
    assert!(try_open(crashed.path(), small()).is_ok());
}
