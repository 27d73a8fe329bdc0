//! Random work and random restarts against a model that is a few lists: nothing lost, nothing out of order, nothing invented.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tempfile::TempDir;

use super::{
    tests::{open, picture},
    *,
};
use crate::store::{
    Route,
    conformance::{accepted, dead, head, lane, received, within},
};

const LANES: u16 = 4;

/// Numbers that only depend on the seed (splitmix64).
struct Dice(u64);
impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Default)]
struct Model {
    waiting: BTreeMap<u16, VecDeque<Sequence>>,
    /// By entry: lane and message.
    dead: BTreeMap<Sequence, (u16, Sequence)>,
    stored: BTreeMap<Sequence, (Bytes, Vec<u16>)>,
}

struct Run {
    directory: TempDir,
    store: Option<Arc<DiskStore>>,
    model: Model,
    dice: Dice,
}

fn options() -> Options {
    Options {
        retain: Duration::ZERO,
        segment_bytes: 16 << 10,
        bytes_max: 64 << 20,
        checkpoint_records: 40,
        cache_bytes: 8 << 10,
        ..Options::default()
    }
}

impl Run {
    fn new(seed: u64) -> Run {
        let directory = TempDir::new().unwrap();
        let store = Some(open(directory.path(), options()));
        Run { directory, store, model: Model::default(), dice: Dice(seed) }
    }

    fn store(&self) -> Arc<DiskStore> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    async fn step(&mut self) {
        match self.dice.roll(100) {
            0..40 => self.append().await,
            40..85 => self.settle().await,
            85..90 => self.retry_or_discard().await,
            90..96 => self.replay().await,
            _ => self.restart().await,
        }
    }

    async fn append(&mut self) {
        let store = self.store();
        let mut answers = Vec::new();
        for _ in 0..=self.dice.roll(8) {
            let lanes: Vec<u16> = (0..LANES).filter(|_| self.dice.roll(3) == 0).collect();
            let message = Bytes::from(vec![b'a' + (self.dice.roll(26) as u8); 20 + self.dice.roll(1500) as usize]);
            let routes = lanes.iter().map(|lane| Route { destination: "ehr".into(), lane: *lane }).collect();
            answers.push((
                store.append(Received { routes, message: message.clone(), ..received("", &[]) }),
                message,
                lanes,
            ));
        }
        for (answer, message, lanes) in answers {
            let Appended::New(stored) = within(answer).await.unwrap() else { panic!("no repeat rule was given") };
            lanes.iter().for_each(|lane| self.model.waiting.entry(*lane).or_default().push_back(stored.sequence()));
            self.model.stored.insert(stored.sequence(), (message, lanes));
        }
    }

    async fn settle(&mut self) {
        let number = self.dice.roll(u64::from(LANES)) as u16;
        // The last lane's receiver is mostly down.
        let rounds = if number == LANES - 1 { self.dice.roll(2) } else { 3 };
        for _ in 0..rounds {
            let store = self.store();
            if self.model.waiting.entry(number).or_default().is_empty() {
                return;
            }
            let head = head(&*store, number).await;
            // Some of what follows goes with it.
            let behind = store.following(&lane(number), head.entry, self.dice.roll(3) as usize);
            let mut settled = Vec::new();
            for waiting in std::iter::once(head).chain(behind) {
                let expected = self.model.waiting.entry(number).or_default().pop_front();
                assert_eq!(Some(waiting.id), expected, "lane {number}");
                assert_eq!(waiting.message, self.model.stored[&waiting.id].0);
                let dies = self.dice.roll(12) == 0;
                let settlement = if dies { dead("refused") } else { accepted() };
                settled.push(store.settle(&lane(number), waiting.entry, settlement));
                if dies {
                    self.model.dead.insert(waiting.entry, (number, waiting.id));
                }
            }
            for settled in settled {
                within(settled).await.unwrap();
            }
        }
    }

    async fn retry_or_discard(&mut self) {
        let Some((&entry, &(number, id))) = self.model.dead.iter().next() else { return };
        self.model.dead.remove(&entry);
        if self.dice.roll(2) == 0 {
            within(self.store().discard_dead(entry)).await.unwrap();
        } else {
            within(self.store().retry_dead(entry)).await.unwrap();
            self.model.waiting.entry(number).or_default().push_back(id);
        }
    }

    async fn replay(&mut self) {
        let place = self.dice.roll(self.model.stored.len().max(1) as u64) as usize;
        let Some((&id, (_, lanes))) = self.model.stored.iter().nth(place) else { return };
        let added = within(self.store().replay(vec![id], None)).await.unwrap();
        // What was delivered may have been given up already.
        if added > 0 {
            assert_eq!(added, lanes.len() as u64);
            lanes.iter().for_each(|lane| self.model.waiting.entry(*lane).or_default().push_back(id));
        }
    }

    async fn restart(&mut self) {
        let store = self.store.take().unwrap();
        let before = picture(&store);
        let way = self.dice.roll(3);
        if way == 0 {
            within(store.close()).await.unwrap();
        }
        drop(store);
        if way == 2 {
            std::fs::remove_dir_all(self.directory.path().join("ledger")).unwrap();
        }
        let store = open(self.directory.path(), options());
        // Between the picture and the end the store may have given up what nobody wants any more.
        let after = picture(&store);
        assert_eq!((&after.dead_ids(), after.next >= before.next), (&before.dead_ids(), true));
        self.store = Some(store);
        self.compare(&after);
    }

    fn compare(&self, picture: &super::tests::Picture) {
        let waiting = (self.model.waiting.iter()).filter(|(_, queue)| !queue.is_empty());
        let expected: BTreeMap<LaneId, Vec<u64>> =
            waiting.map(|(number, queue)| (lane(*number), queue.iter().map(|id| id.as_u64()).collect())).collect();
        assert_eq!(picture.waiting_ids(), expected);
        let dead: Vec<u64> = self.model.dead.keys().map(|entry| entry.as_u64()).collect();
        assert_eq!(picture.dead_ids(), dead);
    }
}

#[tokio::test]
async fn random_work_and_restarts_lose_reorder_and_invent_nothing() {
    for seed in 0..4 {
        let mut run = Run::new(seed);
        for _ in 0..200 {
            run.step().await;
        }
        run.restart().await;
        let all_live = picture(&run.store()).found.len();
        assert!(all_live < run.model.stored.len(), "seed {seed}: segments were given back");
        for number in 0..LANES {
            while run.model.waiting.get(&number).is_some_and(|queue| !queue.is_empty()) {
                let expected = run.model.waiting.get_mut(&number).and_then(VecDeque::pop_front).unwrap();
                let head = head(&*run.store(), number).await;
                assert_eq!((head.id, &head.message), (expected, &run.model.stored[&expected].0), "seed {seed}");
                within(run.store().settle(&lane(number), head.entry, accepted())).await.unwrap();
            }
        }
        assert_eq!(run.store().stats().waiting, 0);
    }
}
