#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fs};

use tempfile::TempDir;

use super::*;
use crate::store::{
    Route,
    conformance::{
        accepted, conformance, dead, head, lane, noon, received, remembering, settle_head, stored, with_key, within,
    },
    journal::Position,
    state::lane::Entry,
};

conformance!(disk, {
    let directory = TempDir::new().unwrap();
    (open(directory.path(), small()) as Arc<dyn Store>, directory)
});

/// Small enough that segments roll and checkpoints happen within a test.
pub(super) fn small() -> Options {
    Options {
        segment_bytes: 64 << 10,
        bytes_max: 64 << 20,
        checkpoint_records: 50,
        cache_bytes: 4 << 10,
        ..Options::default()
    }
}

pub(super) fn open(path: &Path, options: Options) -> Arc<DiskStore> {
    try_open(path, options).unwrap()
}

pub(super) fn try_open(path: &Path, options: Options) -> Result<Arc<DiskStore>, OpenError> {
    DiskStore::open(path, options, Arc::new(Metrics::new().unwrap()), Clock::fixed(noon()))
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        // A file may be renamed away while the store runs, as at a crash.
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target)),
        }
    }
}

/// Everything a store believes, in one order, whatever way it came to believe it.
#[derive(Debug, PartialEq)]
pub(super) struct Picture {
    lanes: BTreeMap<LaneId, Vec<(u64, u64, bool, Position)>>,
    dead: BTreeMap<u64, (LaneId, u64, Position)>,
    paused: Vec<(Arc<str>, Arc<str>)>,
    repeats: Vec<(u64, u64)>,
    episodes: Vec<String>,
    pub(super) next: u64,
    messages: u64,
    live: Vec<(u64, u64)>,
    pub(super) found: Vec<String>,
}

impl Picture {
    pub(super) fn waiting_ids(&self) -> BTreeMap<LaneId, Vec<u64>> {
        let ids = |entries: &Vec<(u64, u64, bool, Position)>| entries.iter().map(|(_, id, ..)| *id).collect();
        self.lanes.iter().map(|(lane, entries)| (lane.clone(), ids(entries))).collect()
    }

    pub(super) fn dead_ids(&self) -> Vec<u64> {
        self.dead.keys().copied().collect()
    }

    /// The sequence of the message stored as number `place` of those with a key.
    fn repeats_of(&self, place: usize) -> u64 {
        self.repeats[place].0
    }
}

fn sorted<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all
}

pub(super) fn picture(store: &DiskStore) -> Picture {
    let found = store.shared.find(Query { limit: 1000, ..Query::default() }).unwrap();
    let state = store.shared.state();
    let entry = |entry: Entry| (entry.entry, entry.id, entry.again, state.position_of(entry.id, entry.position));
    let waits = state.lanes.iter().filter(|lane| !lane.queue.is_empty());
    let repeats = state.repeats.live_before(u64::MAX);
    let live = state.segments.iter().map(|(number, segment)| (*number, segment.live));
    Picture {
        lanes: waits.map(|lane| (lane.id.clone(), lane.queue.iter().map(entry).collect())).collect(),
        dead: (state.dead.iter())
            .map(|(entry, dead)| (*entry, (state.lanes[dead.lane as usize].id.clone(), dead.id, dead.message)))
            .collect(),
        paused: state.paused.iter().cloned().collect(),
        repeats: sorted(repeats.iter().map(|each| (each.sequence, each.mark.key))),
        episodes: state.episodes.all().iter().map(|episode| format!("{episode:?}")).collect(),
        next: state.next,
        messages: state.messages,
        live: live.filter(|(_, live)| *live > 0).collect(),
        found: found.iter().map(|summary| format!("{summary:?}")).collect(),
    }
}

/// A bit of everything: waiting, delivered, dead, discarded, retried, replayed, repeated, paused, routed nowhere.
async fn live_a_little(store: &DiskStore) {
    let mut ids = Vec::new();
    for number in 0..120 {
        let lanes: &[u16] = if number % 10 == 9 { &[] } else { &[number % 3, 3] };
        let routes = lanes.iter().map(|lane| Route { destination: "ehr".into(), lane: *lane }).collect();
        let keyed = with_key(&format!("message {number}"), &format!("key {number}"));
        ids.push(stored(store, Received { routes, ..keyed }).await.sequence());
    }
    for number in 0..10 {
        settle_head(store, 3, if number % 3 == 0 { dead("refused") } else { accepted() }).await;
        let infusion = format!("infusion {}", number % 4);
        settle_head(store, 0, remembering(&[(&infusion, &format!("note {number}")), ("gone", "")])).await;
    }
    let letters = within(store.dead(None, None, 10)).await.unwrap();
    within(store.retry_dead(letters[0].entry)).await.unwrap();
    within(store.discard_dead(letters[1].entry)).await.unwrap();
    within(store.replay(ids[..4].to_vec(), None)).await.unwrap();
    within(store.pause("pumps".into(), "ehr".into(), true)).await.unwrap();
    let note = Attempt { at: noon(), outcome: "unavailable".into(), reason: "refused".into() };
    store.attempted(&lane(1), head(store, 1).await.entry, note);
    within(store.pause("vents".into(), "ehr".into(), true)).await.unwrap();
}

/// Reopens what is in `path`: it must look the same and work.
async fn comes_back_the_same(path: &Path, before: &Picture) {
    let store = open(path, small());
    assert_eq!(&picture(&store), before);
    assert!(head(&*store, 3).await.possible_repeat, "it may have been on its way when the process stopped");
    settle_head(&*store, 3, accepted()).await;
    let repeat = within(store.append(with_key("message 5", "key 5"))).await.unwrap();
    assert!(matches!(repeat, Appended::Repeat(known) if known.sequence().as_u64() == before.repeats_of(5)));
    let reuse = within(store.append(with_key("other", "key 5"))).await.unwrap();
    assert!(matches!(reuse, Appended::New(stored) if stored.reused()));
    within(store.close()).await.unwrap();
}

#[tokio::test]
async fn a_closed_store_opens_as_it_was() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    within(store.close()).await.unwrap();
    comes_back_the_same(directory.path(), &before).await;
}

#[tokio::test]
async fn a_store_that_was_not_closed_opens_as_it_was() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    drop(store);
    comes_back_the_same(directory.path(), &before).await;
}

#[tokio::test]
async fn the_files_of_a_running_store_open_as_it_was() {
    let (directory, crashed) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    copy(directory.path(), crashed.path());
    let before = picture(&store);
    comes_back_the_same(crashed.path(), &before).await;
}

#[tokio::test]
async fn a_missing_ledger_is_rebuilt_from_the_journal() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    within(store.close()).await.unwrap();
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    comes_back_the_same(directory.path(), &before).await;
}

#[tokio::test]
async fn a_damaged_ledger_is_moved_aside_and_rebuilt() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    within(store.close()).await.unwrap();
    let db = directory.path().join("ledger/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes.iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(&db, bytes).unwrap();
    comes_back_the_same(directory.path(), &before).await;
}

#[tokio::test]
async fn a_ledger_of_other_content_is_moved_aside_and_rebuilt() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    within(store.close()).await.unwrap();
    let stranger = open(other.path(), small());
    stored(&*stranger, received("not here", &[3])).await;
    within(stranger.close()).await.unwrap();
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    copy(&other.path().join("ledger"), &directory.path().join("ledger"));
    comes_back_the_same(directory.path(), &before).await;
    assert!(directory.path().join("ledger.bad-1").exists());
}

#[tokio::test]
async fn an_older_ledger_is_brought_up_to_date_from_the_journal() {
    let (directory, kept) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    stored(&*store, received("early", &[3])).await;
    within(store.close()).await.unwrap();
    copy(&directory.path().join("ledger"), kept.path());
    let store = open(directory.path(), small());
    live_a_little(&store).await;
    let before = picture(&store);
    within(store.close()).await.unwrap();
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    copy(kept.path(), &directory.path().join("ledger"));
    comes_back_the_same(directory.path(), &before).await;
}

#[tokio::test]
async fn a_second_engine_is_refused() {
    let directory = TempDir::new().unwrap();
    let _store = open(directory.path(), small());
    let refused = try_open(directory.path(), small()).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|reason| reason.contains("another engine")));
}

#[tokio::test]
async fn a_message_larger_than_a_segment_is_refused() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    let large = received(&"x".repeat(65 << 10), &[0]);
    assert_eq!(within(store.append(large)).await, Err(StoreError::TooLarge));
    stored(&*store, received("small", &[0])).await;
}

/// Goes round with the committer until what it does by itself has come this far.
pub(super) async fn until(store: &DiskStore, reached: impl Fn(&DiskStore) -> bool) {
    within(async {
        while !reached(store) {
            store.pause("none".into(), "none".into(), false).await.unwrap();
        }
    })
    .await;
}

fn eager() -> Options {
    Options { retain: Duration::ZERO, ..small() }
}

/// The same store, opened so that it gives nothing back while it is looked at.
fn at_rest(directory: &TempDir, store: Arc<DiskStore>) -> Arc<DiskStore> {
    drop(store);
    open(directory.path(), small())
}

pub(super) fn padded(number: usize, lanes: &[u16]) -> Received {
    let content = format!("{number:05} {}", "pad ".repeat(250));
    let routes = lanes.iter().map(|lane| Route { destination: "ehr".into(), lane: *lane }).collect();
    Received { routes, ..with_key(&content, &format!("key {number}")) }
}

#[tokio::test]
async fn one_dead_letter_and_one_waiting_message_pin_no_segment() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), eager());
    within(store.pause("pumps".into(), "ehr".into(), true)).await.unwrap();
    let first = stored(&*store, padded(0, &[0, 7])).await.sequence();
    let bad = settle_head(&*store, 0, dead("no such patient")).await;
    for number in 1..400 {
        stored(&*store, padded(number, &[0])).await;
        settle_head(&*store, 0, accepted()).await;
    }
    until(&store, |store| store.stats().segments <= 6).await;
    let store = at_rest(&directory, store);
    let before = picture(&store);
    assert_eq!((before.dead.len(), before.lanes.len()), (1, 1));
    assert_eq!(before.paused, vec![("pumps".into(), "ehr".into())]);
    let told = within(store.read(first)).await.unwrap();
    let told: Vec<_> = told.events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(told, ["received", "dead"]);
    within(store.close()).await.unwrap();

    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    let store = open(directory.path(), small());
    assert_eq!(picture(&store), before);
    let repeat = within(store.append(padded(0, &[0, 7]))).await.unwrap();
    assert!(matches!(repeat, Appended::Repeat(known) if known.sequence() == first));
    assert_eq!(within(store.dead(None, None, 10)).await.unwrap()[0].reason, "no such patient");
    within(store.retry_dead(bad.entry)).await.unwrap();
    let again = settle_head(&*store, 0, accepted()).await;
    assert_eq!((again.id, again.message), (first, padded(0, &[]).message));
    assert_eq!(settle_head(&*store, 7, accepted()).await.id, first);
    assert_eq!(store.stats().waiting, 0);
}

#[tokio::test]
async fn order_within_a_lane_survives_carrying_forward_and_a_rebuild() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), eager());
    let mut expected = Vec::new();
    for number in 0..600 {
        // Every tenth waits in lane 1, the others are delivered.
        let waits = number % 10 == 0;
        let id = stored(&*store, padded(number, &[u16::from(waits)])).await.sequence();
        match waits {
            true => expected.push(id),
            false => drop(settle_head(&*store, 0, accepted()).await),
        }
    }
    until(&store, |store| store.stats().segments <= 6).await;
    let store = at_rest(&directory, store);
    let before = picture(&store);
    assert!(!store.shared.state().moved.is_empty(), "something was carried forward");
    drop(store);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    let store = open(directory.path(), small());
    assert_eq!(picture(&store), before);
    for id in expected {
        assert_eq!(settle_head(&*store, 1, accepted()).await.id, id);
    }
}

#[tokio::test]
async fn a_pseudonym_is_the_same_for_one_key_alone() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(directory.path(), small());
    let first = store.pseudonym(&[b"4711", b"H"]);
    assert_ne!(first, store.pseudonym(&[b"4711H"]));
    let store = at_rest(&directory, store);
    assert_eq!(first, store.pseudonym(&[b"4711", b"H"]));
    assert_ne!(first, open(other.path(), small()).pseudonym(&[b"4711", b"H"]));
}

#[tokio::test]
async fn without_its_key_a_store_keeps_its_messages_and_its_key_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;

    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    let id = stored(&*store, with_key("message", "key")).await.sequence();
    within(store.close()).await.unwrap();
    let key = directory.path().join("key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let sound = fs::read(&key).unwrap();
    for at in 0..sound.len() {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        for damaged in [&sound[..at], &changed] {
            fs::write(&key, damaged).unwrap();
            let refused = try_open(directory.path(), small()).err().map(|error| error.to_string());
            assert!(refused.is_some_and(|said| said.contains("restore it from a backup")), "{at}");
        }
    }
    let rebuilt = open(directory.path(), Options { accept_damage: true, ..small() });
    assert_eq!(head(&*rebuilt, 0).await.id, id);
    within(rebuilt.close()).await.unwrap();
    fs::write(&key, sound).unwrap();
    let store = open(directory.path(), small());
    assert!(matches!(within(store.append(with_key("message", "key"))).await, Ok(Appended::Repeat(_))));
    within(store.close()).await.unwrap();
    fs::remove_file(&key).unwrap();
    let store = open(directory.path(), small());
    assert_eq!(head(&*store, 0).await.id, id);
    assert!(matches!(within(store.append(with_key("message", "key"))).await, Ok(Appended::New(_))));
}

/// Everything below `path`, itself included, that others than its owner may use.
fn open_to_others(path: &Path) -> Vec<std::path::PathBuf> {
    use std::os::unix::fs::PermissionsExt;

    let metadata = fs::metadata(path).unwrap();
    let mut open = Vec::new();
    if metadata.permissions().mode() & 0o077 != 0 {
        open.push(path.to_owned());
    }
    if metadata.is_dir() {
        open.extend(fs::read_dir(path).unwrap().flat_map(|entry| open_to_others(&entry.unwrap().path())));
    }
    open
}

#[tokio::test]
async fn a_store_is_its_owners_only() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("new/store");
    let store = open(&path, small());
    live_a_little(&store).await;
    within(store.close()).await.unwrap();
    drop(store);
    let store = open(&path, small());
    within(store.close()).await.unwrap();
    drop(store);
    let found: Vec<_> = open_to_others(&path).into_iter().filter(|each| !is_of_sled(each)).collect();
    assert!(found.is_empty(), "{found:?}");
}

/// What sled makes while it runs is guarded by the ledger's directory alone.
fn is_of_sled(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("ledger")) && !path.ends_with("db")
}

/// A short message that goes nowhere, and its repeat rule.
fn short(number: usize) -> Received {
    Received { routes: vec![], ..with_key(&format!("{number}"), &format!("key {number}")) }
}

async fn all_repeats(store: &DiskStore, numbers: std::ops::Range<usize>) {
    let answers: Vec<_> = numbers.map(|number| store.append(short(number))).collect();
    for answer in answers {
        assert!(matches!(within(answer).await, Ok(Appended::Repeat(_))));
    }
}

#[tokio::test]
async fn more_repeats_than_a_segment_holds_are_carried_forward_and_told_after_a_rebuild() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), eager());
    for round in 0..8 {
        let answers: Vec<_> = (0..1000).map(|number| store.append(short(round * 1000 + number))).collect();
        for answer in answers {
            assert!(matches!(within(answer).await, Ok(Appended::New(_))));
        }
    }
    until(&store, |store| store.stats().segments <= 9).await;
    all_repeats(&store, 0..8000).await;
    drop(store);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    let store = open(directory.path(), small());
    assert!(store.shared.state().oldest_segment > 1, "segments were given back");
    all_repeats(&store, 0..8000).await;
}

#[tokio::test]
async fn a_replay_larger_than_a_segment_is_queued_in_order_and_stops_nothing() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    let answers: Vec<_> = (0..3000).map(|number| store.append(received(&number.to_string(), &[0]))).collect();
    let mut ids = Vec::new();
    for answer in answers {
        let Appended::New(stored) = within(answer).await.unwrap() else { panic!("no repeat rule was given") };
        ids.push(stored.sequence());
    }
    assert_eq!(within(store.replay(ids.clone(), None)).await, Ok(3000));
    let before = picture(&store);
    let expected: Vec<u64> = ids.iter().chain(&ids).map(|id| id.as_u64()).collect();
    assert_eq!(before.waiting_ids()[&lane(0)], expected);
    drop(store);
    fs::remove_dir_all(directory.path().join("ledger")).unwrap();
    assert_eq!(picture(&open(directory.path(), small())), before);
}

#[tokio::test]
async fn what_no_record_holds_is_refused_to_its_asker_alone() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), small());
    stored(&*store, received("a", &[0])).await;
    let long: Arc<str> = "x".repeat(70 << 10).into();
    assert_eq!(within(store.pause(Arc::clone(&long), long, true)).await, Err(StoreError::TooLarge));
    settle_head(&*store, 0, dead(&"wordy ".repeat(20 << 10))).await;
    assert_eq!(within(store.dead(None, None, 10)).await.unwrap()[0].reason.len(), 1024);
    stored(&*store, received("b", &[0])).await;
}

/// Asks for all of these at once, so that one batch takes most of them.
async fn in_one_batch(store: &DiskStore, all: Vec<Received>) -> Vec<Result<Appended, StoreError>> {
    let made: Vec<_> = all.into_iter().map(|each| NewMessage::new(each, &store.shared.keyed)).collect();
    // While this one is written the others gather.
    let busy = store.pause("none".into(), "none".into(), false);
    let mut answers = Vec::new();
    for new in made {
        let (answerer, answer) = oneshot::channel();
        store.shared.queue.push(Request::Append(Box::new(new)), Answerer::To(answerer));
        answers.push(answer);
    }
    within(busy).await.unwrap();
    let mut answered = Vec::new();
    for answer in answers {
        answered.push(within(answer).await.unwrap().map(|answer| match answer {
            Answer::Appended(appended) => appended,
            other => panic!("{other:?}"),
        }));
    }
    answered
}

#[tokio::test]
async fn a_repeat_in_a_batch_there_is_no_room_for_is_still_answered_as_one() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path(), Options { bytes_max: 640 << 10, ..small() });
    stored(&*store, short(0)).await;
    let mut full = 0;
    for number in 1..60 {
        // Larger than what is left of a segment where messages are still taken.
        let large = with_key(&"x".repeat(40 << 10), &format!("key {number}"));
        let answers = in_one_batch(&store, vec![large.clone(), short(0), large, short(0)]).await;
        full += usize::from(answers[0] == Err(StoreError::Full));
        assert_eq!(answers[2].is_ok(), answers[0].is_ok(), "a repeat of what is not stored is not stored");
        for place in [1, 3] {
            assert!(matches!(answers[place], Ok(Appended::Repeat(_))), "{:?}", answers[place]);
        }
    }
    assert!(full > 20 && store.health().is_ok(), "it was full for the large ones alone");
}
