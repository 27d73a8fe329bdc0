//! What a full store still does, and when it takes messages again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use tempfile::TempDir;

use super::{
    tests::{open, padded, small, until},
    *,
};
use crate::store::conformance::{accepted, dead, received, settle_head, stored, within};

/// Ten segments, and delivered messages are kept: nothing gives way.
fn strict() -> Options {
    Options { bytes_max: 640 << 10, retain_when_full: true, ..small() }
}

/// Stores messages, each for lanes 0 and 1, until there is no room.
async fn fill(store: &DiskStore, message: impl Fn(usize) -> Received) -> Vec<Sequence> {
    let mut ids = Vec::new();
    loop {
        match within(store.append(message(ids.len()))).await {
            Ok(Appended::New(stored)) => ids.push(stored.sequence()),
            Ok(repeat) => panic!("{repeat:?}"),
            Err(refusal) => {
                assert_eq!(refusal, StoreError::Full);
                return ids;
            }
        }
    }
}

#[tokio::test]
async fn deliveries_of_a_full_store_go_on_to_the_end_of_its_backlog() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), strict());
    // Short messages: what settles them takes more room than they do.
    let ids = fill(&store, |number| received(&format!("{number}"), &[0, 1])).await;
    assert!(ids.len() > 300, "{} messages fit", ids.len());
    drop(store);
    let store = open(directory.path(), strict());
    for id in &ids {
        assert_eq!(settle_head(&*store, 0, dead("no such patient")).await.id, *id);
    }
    let letters = within(store.dead(None, None, 1000)).await.unwrap();
    for letter in &letters {
        within(store.discard_dead(letter.entry)).await.unwrap();
    }
    for id in &ids {
        assert_eq!(settle_head(&*store, 1, accepted()).await.id, *id);
    }
    assert_eq!(store.stats().waiting, 0);
}

#[tokio::test]
async fn a_full_store_opened_again_and_again_still_records_the_end_of_all_that_waits() {
    let lanes: Vec<u16> = (0..20).collect();
    let directory = TempDir::new().unwrap();
    let mut stored = 0;
    loop {
        // Each takes little room beside what its twenty ends will take.
        let store = open(directory.path(), strict());
        let more = fill(&store, |number| received(&format!("{}", stored + number), &lanes)).await.len();
        stored += more;
        if more == 0 {
            break;
        }
    }
    assert!(stored > 80, "{stored} messages fit");
    let store = open(directory.path(), strict());
    let reason = "no such patient, ".repeat(8);
    for lane in lanes {
        for _ in 0..stored {
            settle_head(&*store, lane, dead(&reason)).await;
        }
    }
    assert_eq!(store.stats().waiting, 0);
}

#[tokio::test]
async fn a_person_can_act_and_look_while_the_store_is_full() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), strict());
    let ids = fill(&store, |number| padded(number, &[0, 1])).await;
    let letters: Vec<_> = [settle_head(&*store, 0, dead("a")).await, settle_head(&*store, 0, dead("b")).await].into();
    within(store.pause("pumps".into(), "ehr".into(), true)).await.unwrap();
    within(store.pause("pumps".into(), "ehr".into(), false)).await.unwrap();
    within(store.retry_dead(letters[0].entry)).await.unwrap();
    within(store.discard_dead(letters[1].entry)).await.unwrap();
    assert_eq!(within(store.read(ids[1])).await.unwrap().summary.id, ids[1]);
    assert_eq!(within(store.find(Query { limit: 10, ..Query::default() })).await.unwrap().len(), 10);
    assert_eq!(within(store.replay(vec![ids[0]], None)).await, Err(StoreError::Full), "that is new work");
    assert_eq!(store.health(), Err(StoreError::Full));
    within(store.close()).await.unwrap();
}

#[tokio::test]
async fn delivered_messages_give_way_before_any_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), Options { bytes_max: 2 << 20, ..small() });
    for number in 0..2_500 {
        stored(&*store, padded(number, &[0])).await;
        settle_head(&*store, 0, accepted()).await;
    }
    assert_eq!(store.health(), Ok(()));
}

#[tokio::test]
async fn delivered_messages_are_kept_in_a_full_store_where_that_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), strict());
    let mut ids = Vec::new();
    while let Ok(Appended::New(stored)) = within(store.append(padded(ids.len(), &[0]))).await {
        ids.push(stored.sequence());
        settle_head(&*store, 0, accepted()).await;
    }
    assert_eq!(store.health(), Err(StoreError::Full));
    assert_eq!(within(store.read(ids[0])).await.unwrap().summary.state, crate::store::State::Delivered);
}

#[tokio::test]
async fn a_full_store_takes_messages_again_only_once_there_is_room_for_a_segment_of_them() {
    let directory = TempDir::new().unwrap();
    let options = Options { retain_when_full: false, ..strict() };
    let store = open(directory.path(), options);
    let ids = fill(&store, |number| padded(number, &[0])).await;
    for _ in &ids {
        settle_head(&*store, 0, accepted()).await;
        if store.health().is_ok() {
            break;
        }
    }
    until(&store, |store| store.health().is_ok()).await;
    for number in 0..32 {
        let at_once = within(store.append(padded(ids.len() + number, &[0]))).await;
        assert!(matches!(at_once, Ok(Appended::New(_))), "number {number}: {at_once:?}");
    }
}

#[tokio::test]
async fn what_was_stored_in_a_store_now_full_is_there_after_a_kill_and_goes_out_in_order() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), strict());
    let ids = fill(&store, |number| padded(number, &[0])).await;
    drop(store);
    let store = open(directory.path(), strict());
    // A start may find a little room again; what is stored then comes after.
    fill(&store, |number| padded(10_000 + number, &[9])).await;
    for id in ids {
        assert_eq!(settle_head(&*store, 0, accepted()).await.id, id);
    }
}

/// Each of them among messages long delivered.
#[tokio::test]
async fn dead_letters_hold_little_more_of_a_full_store_than_their_own_room() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), Options { retain_when_full: false, ..strict() });
    let mut number = 0;
    let mut refused = 0;
    while refused < 10 {
        match within(store.append(padded(number, &[0]))).await {
            Ok(_) => {
                let how = if number % 5 == 0 { dead("no such patient") } else { accepted() };
                settle_head(&*store, 0, how).await;
                (number, refused) = (number + 1, 0);
            }
            Err(refusal) => {
                assert_eq!(refusal, StoreError::Full);
                refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    let letters = within(store.dead(None, None, 1000)).await.unwrap();
    assert!(letters.len() > 150, "{} of {number} messages, and the store is full", letters.len());
    for letter in letters {
        within(store.discard_dead(letter.entry)).await.unwrap();
    }
    until(&store, |store| store.health().is_ok()).await;
}
