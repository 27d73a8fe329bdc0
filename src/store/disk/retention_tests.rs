//! How long what was delivered is kept, whatever the clock does, and what a full store gives up.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use tempfile::TempDir;

use super::{
    tests::{open, padded, small, until},
    *,
};
use crate::store::conformance::{accepted, noon, remembering, settle_head, stored, with_key, within};

/// A clock to be set, in seconds from noon.
fn settable() -> (Clock, Arc<AtomicI64>) {
    let seconds = Arc::new(AtomicI64::new(0));
    let told = Arc::clone(&seconds);
    (Clock::of(move || noon() + jiff::SignedDuration::from_secs(told.load(Ordering::SeqCst))), seconds)
}

/// Stores messages received at this time, and has them delivered.
async fn delivered(store: &DiskStore, numbers: std::ops::Range<usize>, at: Timestamp) -> Vec<Sequence> {
    let mut ids = Vec::new();
    for number in numbers {
        ids.push(stored(store, Received { at, ..padded(number, &[0]) }).await.sequence());
        settle_head(store, 0, accepted()).await;
    }
    ids
}

#[tokio::test]
async fn delivered_messages_are_kept_for_retain_and_not_much_longer() {
    let directory = TempDir::new().unwrap();
    let (clock, seconds) = settable();
    let options = Options { retain: Duration::from_secs(3600), ..small() };
    let store = DiskStore::open(directory.path(), options, Arc::new(Metrics::new().unwrap()), clock).unwrap();
    let ids = delivered(&store, 0..300, noon()).await;
    seconds.store(3599, Ordering::SeqCst);
    for _ in 0..10 {
        within(store.pause("none".into(), "none".into(), false)).await.unwrap();
    }
    assert_eq!(store.stats().messages, 300);
    assert_eq!(within(store.read(ids[0])).await.unwrap().summary.state, crate::store::State::Delivered);
    seconds.store(3600, Ordering::SeqCst);
    until(&store, |store| store.stats().segments <= 2).await;
    assert_eq!(within(store.read(ids[0])).await.err(), Some(StoreError::NotFound));
}

#[tokio::test]
async fn going_through_what_was_taken_says_that_some_was_given_up_and_still_tells_what_was_carried_forward() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), Options { retain: Duration::ZERO, ..small() });
    let kept = stored(&*store, padded(7, &[1])).await.sequence();
    let ids = delivered(&store, 100..500, noon()).await;
    until(&store, |store| store.stats().segments <= 3).await;
    let taken = |from| within(store.taken(from));
    let (all, last) = (taken(kept).await.unwrap(), taken(ids[399]).await.unwrap());
    assert!(!all.whole && last.whole);
    assert_eq!(last.messages.iter().map(|each| each.id).collect::<Vec<_>>(), ids[399..]);
    assert_eq!(all.messages[0].id, kept);
    assert!(all.messages.iter().all(|each| each.id != ids[0]), "it was given up");
    assert_eq!(store.shared.state().moved.keys().collect::<Vec<_>>(), [&kept.as_u64()]);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_gives_up_no_message_forgets_no_repeat_and_keeps_the_order() {
    let directory = TempDir::new().unwrap();
    let (told, passed) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
    let (tell, pass) = (Arc::clone(&told), Arc::clone(&passed));
    let now = move || noon() + jiff::SignedDuration::from_secs(tell.load(Ordering::SeqCst));
    let clock = Clock::jumping(now.clone(), move || Duration::from_secs(pass.load(Ordering::SeqCst) as u64));
    let options = Options { retain: Duration::from_secs(3600), ..small() };
    let metrics = || Arc::new(Metrics::new().unwrap());
    let store = DiskStore::open(directory.path(), options.clone(), metrics(), clock.clone()).unwrap();
    let (hour, day) = (3600, 24 * 3600);
    let mut ids = delivered(&store, 0..100, now()).await;
    let repeated = stored(&*store, Received { at: now(), ..with_key("same", "k") }).await;
    settle_head(&*store, 0, accepted()).await;
    let mut jumps = vec![hour, -hour, 2 * day, -365 * day, 0];
    for (place, jump) in jumps.iter().enumerate() {
        told.fetch_add(*jump, Ordering::SeqCst);
        let numbers = 100 * (place + 1)..100 * (place + 2);
        ids.extend(delivered(&store, numbers, now()).await);
        let again = within(store.append(Received { at: now(), ..with_key("same", "k") })).await;
        assert_eq!(again, Ok(Appended::Repeat(repeated.clone())), "{jump}");
    }
    assert!(ids.is_sorted());
    assert_eq!(store.stats().messages, 601);
    drop(store);
    // Also across a restart, whatever the clock tells then.
    jumps = vec![3 * 365 * day, -6 * 365 * day];
    for jump in jumps {
        told.fetch_add(jump, Ordering::SeqCst);
        let store = DiskStore::open(directory.path(), options.clone(), metrics(), clock.clone()).unwrap();
        within(store.pause("none".into(), "none".into(), false)).await.unwrap();
        assert_eq!(store.stats().messages, 601, "{jump}");
        within(store.close()).await.unwrap();
        passed.fetch_add(1, Ordering::SeqCst);
    }
    let store = DiskStore::open(directory.path(), options, metrics(), clock).unwrap();
    passed.fetch_add(3600, Ordering::SeqCst);
    until(&store, |store| store.stats().segments <= 2).await;
}

#[tokio::test]
async fn messages_from_a_clock_once_far_ahead_are_given_back_like_those_after_them() {
    let directory = TempDir::new().unwrap();
    let (clock, seconds) = settable();
    let options = Options { retain: Duration::from_secs(3600), ..small() };
    let store = DiskStore::open(directory.path(), options, Arc::new(Metrics::new().unwrap()), clock).unwrap();
    delivered(&store, 0..100, "2199-01-01T00:00:00Z".parse().unwrap()).await;
    delivered(&store, 100..300, noon()).await;
    seconds.store(3599, Ordering::SeqCst);
    for _ in 0..10 {
        within(store.pause("none".into(), "none".into(), false)).await.unwrap();
    }
    assert_eq!(store.stats().messages, 300);
    seconds.store(3600, Ordering::SeqCst);
    until(&store, |store| store.stats().segments <= 2).await;
}

#[tokio::test]
async fn what_a_destination_remembers_outlives_its_messages_also_where_nothing_is_retained() {
    let directory = TempDir::new().unwrap();
    let options = Options { retain: Duration::ZERO, ..small() };
    let store = open(directory.path(), options.clone());
    let recall = |store: &DiskStore, episode: &str| store.recall("pumps", "ehr", episode.as_bytes());
    for number in 0..40 {
        stored(&*store, padded(number, &[0])).await;
        settle_head(&*store, 0, remembering(&[(&format!("infusion {number}"), "on hold")])).await;
    }
    let mut oldest = store.shared.state().oldest_segment;
    for round in 0..3 {
        // Carried into a segment that goes too.
        delivered(&store, 1000 * (round + 1)..1000 * (round + 1) + 100, noon()).await;
        let before = std::mem::replace(&mut oldest, store.shared.state().oldest_segment);
        assert!(oldest > before, "round {round}: nothing was given back");
    }
    assert!((0..40).all(|number| recall(&store, &format!("infusion {number}")).is_some()));
    settle_none_but_forget(&store).await;
    let before = super::tests::picture(&store);
    drop(store);
    std::fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    let store = open(directory.path(), options);
    assert_eq!(super::tests::picture(&store), before, "told by the journal alone");
    assert_eq!(recall(&store, "infusion 7"), None);
    assert_eq!(recall(&store, "infusion 8").unwrap(), "on hold");
}

async fn settle_none_but_forget(store: &DiskStore) {
    stored(store, padded(9999, &[0])).await;
    settle_head(store, 0, remembering(&[("infusion 7", "")])).await;
}

/// Stores a message, when there is room for it, and has it delivered with this to remember.
async fn delivered_when_there_is_room(store: &DiskStore, number: usize, note: (&str, &str)) {
    while within(store.append(padded(number, &[0]))).await == Err(StoreError::Full) {
        until(store, |store| store.health().is_ok()).await;
    }
    settle_head(store, 0, remembering(&[note])).await;
}

#[tokio::test]
async fn the_smallest_store_goes_on_taking_messages_however_much_there_is_to_remember() {
    let directory = TempDir::new().unwrap();
    let options = Options { bytes_max: (8 * 64) << 10, retain: Duration::ZERO, ..small() };
    let metrics = Arc::new(Metrics::new().unwrap());
    let store = DiskStore::open(directory.path(), options, Arc::clone(&metrics), Clock::fixed(noon())).unwrap();
    let forgotten = || metrics.limits_hit.with_label_values(&["pumps", "episodes"]).get();
    let note = "as long as a note may be".repeat(40);
    for number in 0..1000 {
        delivered_when_there_is_room(&store, number, (&format!("infusion {number}"), &note)).await;
    }
    assert!(store.recall("pumps", "ehr", b"infusion 999").is_some());
    let remembered =
        (0..1000).filter(|each| store.recall("pumps", "ehr", format!("infusion {each}").as_bytes()).is_some());
    assert_eq!(remembered.count() as u64 + forgotten(), 1000, "each of the others is counted");
    let before = forgotten();
    delivered_when_there_is_room(&store, 1000, ("infusion 999", &"too long".repeat(200))).await;
    assert_eq!(store.recall("pumps", "ehr", b"infusion 999"), None, "what it was is not how it stands");
    assert_eq!(forgotten(), before + 1);
}

#[tokio::test]
async fn a_full_store_refuses_messages_and_nothing_else_and_recovers_alone() {
    let directory = TempDir::new().unwrap();
    let options = Options { bytes_max: 640 << 10, ..small() };
    let store = open(directory.path(), options);
    let mut stored = 0;
    let refusal = loop {
        match within(store.append(padded(stored, &[0]))).await {
            Ok(_) => stored += 1,
            Err(refusal) => break refusal,
        }
    };
    assert_eq!((refusal, store.health()), (StoreError::Full, Err(StoreError::Full)));
    let repeat = within(store.append(padded(0, &[0]))).await;
    assert!(matches!(repeat, Ok(Appended::Repeat(_))), "a repeat needs no room");
    for _ in 0..stored {
        settle_head(&*store, 0, accepted()).await;
    }
    until(&store, |store| store.health().is_ok()).await;
    assert!(matches!(within(store.append(padded(stored, &[0]))).await, Ok(Appended::New(_))));
}

#[tokio::test]
async fn what_waits_in_a_full_store_is_never_given_up() {
    let directory = TempDir::new().unwrap();
    let options = Options { bytes_max: 640 << 10, retain: Duration::ZERO, ..small() };
    let store = open(directory.path(), options.clone());
    let mut ids = Vec::new();
    while let Ok(Appended::New(stored)) = within(store.append(padded(ids.len(), &[0]))).await {
        ids.push(stored.sequence());
    }
    drop(store);
    let store = open(directory.path(), options);
    for id in ids {
        assert_eq!(settle_head(&*store, 0, accepted()).await.id, id);
    }
}
