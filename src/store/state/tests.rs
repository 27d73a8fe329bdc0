#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    Bounds, State,
    lane::{CHUNK, Entry, Queue},
    repeats::{Repeats, Seen},
};
use crate::store::{
    journal::Position,
    records::{CarriedRepeat, CarriedState, Header, Recorded, RepeatMark},
};

fn entry(number: u64) -> Entry {
    let position = Position { segment: 1 + number / 1000, offset: (number * 7919 % 60_000) as u32 };
    Entry {
        entry: number,
        id: number - number % 3,
        position,
        received_at: -5 + number as i64 * 1_000_003,
        again: number.is_multiple_of(7),
    }
}

fn mark(key: u64, body: u64) -> RepeatMark {
    RepeatMark { key, body, window_seconds: 10 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a sorted map: order, counts, digests and images.
    #[test]
    fn a_queue_is_a_sorted_list_whatever_is_put_in_and_taken_out(
        numbers in prop::collection::vec((3_u64..3000, 0_u8..10), 1..3000),
    ) {
        let (mut queue, mut model) = (Queue::default(), BTreeMap::new());
        let mut top = 3000;
        for (number, action) in numbers {
            match action {
                0..5 => {
                    top += 1 + number % 5;
                    prop_assert!(queue.insert(entry(top)));
                    model.insert(top, entry(top));
                }
                5 => prop_assert_eq!(queue.insert(entry(number)), model.insert(number, entry(number)).is_none()),
                6 => prop_assert_eq!(queue.remove(number), model.remove(&number)),
                7 => drop(queue.image()),
                _ => {
                    let front = model.pop_first().map(|(_, entry)| entry);
                    prop_assert_eq!(queue.front().copied(), front);
                    if let Some(front) = front {
                        prop_assert_eq!(queue.remove(front.entry), Some(front));
                    }
                }
            }
            prop_assert_eq!(queue.len(), model.len() as u64);
            prop_assert_eq!(queue.find(number), model.get(&number).copied());
        }
        prop_assert!(queue.iter().eq(model.values().copied()));
        let mut same = Queue::default();
        for entry in model.values() {
            same.insert(*entry);
        }
        prop_assert_eq!(queue.digest(), same.digest());
    }
}

#[test]
fn images_written_one_after_the_other_load_as_the_queue() {
    let mut queue = Queue::default();
    let mut chunks: BTreeMap<u64, Box<[u8]>> = BTreeMap::new();
    let mut next = 3;
    for round in 0..40 {
        for _ in 0..CHUNK * (round % 7) / 2 {
            queue.insert(entry(next));
            next += 1;
        }
        for _ in 0..CHUNK * (round % 5) / 2 {
            let front = queue.front().map(|front| front.entry);
            front.and_then(|front| queue.remove(front));
        }
        let inside = queue.iter().nth(700).filter(|_| round % 9 == 8);
        if let Some(inside) = inside {
            queue.remove(inside.entry);
            queue.insert(inside);
        }
        let image = queue.image();
        image.removed.clone().for_each(|gone| drop(chunks.remove(&gone)));
        chunks.extend(image.put);
        let kept = (image.chunks.0..image.chunks.1).map(|number| chunks[&number].clone()).collect();
        let loaded = Queue::load(&image.ends, image.chunks, kept).expect("its parts fit");
        assert!(loaded.iter().eq(queue.iter()), "round {round}");
        assert_eq!((loaded.len(), loaded.digest()), (queue.len(), queue.digest()));
    }
    assert!(queue.len() > CHUNK as u64 * 4, "the middle was used");
}

#[test]
fn a_million_waiting_entries_take_about_ten_bytes_each() {
    let mut queue = Queue::default();
    for number in 1..=1_000_000 {
        queue.insert(Entry { id: number * 2, entry: number * 2 + 1, ..entry(number) });
    }
    let image = queue.image();
    let bytes: usize = image.put.iter().map(|(_, packed)| packed.len()).sum();
    assert!(bytes < 13_000_000, "{bytes}");
}

#[test]
fn repeats_are_told_within_their_window_and_their_number_only() {
    let mut repeats = Repeats::new(3);
    let second = 1_000_000_000;
    let seen = |sequence, key, at: i64| CarriedRepeat {
        mark: mark(key, key * 10),
        sequence,
        at: at * second,
        steady: at * second,
    };
    repeats.insert(seen(1, 1, 0));
    assert_eq!(repeats.check(mark(1, 10), 10 * second), Seen::Repeat { sequence: 1, at: 0 });
    assert_eq!(repeats.check(mark(1, 11), 10 * second), Seen::Reused);
    assert_eq!(repeats.check(mark(1, 10), 10 * second + 1), Seen::New);
    for key in 2..=4 {
        repeats.insert(seen(key, key, 1));
    }
    assert_eq!((repeats.check(mark(1, 10), 0), repeats.forgotten), (Seen::New, 1));
    repeats.insert(seen(9, 9, 12));
    assert_eq!(repeats.check(mark(4, 40), second), Seen::New, "the window has left it behind");
    assert_eq!(repeats.numbers(), 4..5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Against a plain list: what is told, what is kept, and what a checkpoint brings back.
    #[test]
    fn the_window_of_repeats_is_the_latest_of_each_key_among_the_last_so_many(
        keys in prop::collection::vec((0_u64..700, 0_u64..3), 1..4000),
        max in 1_usize..1500,
        first in prop::sample::select(vec![0, 1, 1023, 1024, u64::from(u32::MAX) - 700, 3 * u64::from(u32::MAX) + 5]),
    ) {
        let mut repeats = Repeats::starting_at(max, first);
        let mut all: Vec<CarriedRepeat> = Vec::new();
        for (place, (key, body)) in keys.into_iter().enumerate() {
            let (sequence, at) = (place as u64 + 1, place as i64);
            let kept = &all[all.len().saturating_sub(max)..];
            let latest = kept.iter().rev().find(|each| each.mark.key == key);
            let seen = latest.map_or(Seen::New, |seen| match seen.mark.body == body {
                true => Seen::Repeat { sequence: seen.sequence, at: seen.at },
                false => Seen::Reused,
            });
            prop_assert_eq!(repeats.check(mark(key, body), 0), seen);
            all.push(CarriedRepeat { mark: mark(key, body), sequence, at, steady: 0 });
            repeats.insert(all[place]);
        }
        let kept = &all[all.len().saturating_sub(max)..];
        prop_assert_eq!(repeats.slice(repeats.numbers()), kept);
        prop_assert_eq!(repeats.forgotten as usize, all.len() - kept.len());
        let mut loaded = Repeats::starting_at(max, repeats.numbers().start);
        kept.iter().for_each(|each| loaded.restore(*each));
        prop_assert_eq!(loaded.live_before(u64::MAX), repeats.live_before(u64::MAX));
    }
}

#[test]
fn a_clock_set_back_forgets_no_repeat() {
    let mut repeats = Repeats::new(10);
    repeats.insert(CarriedRepeat { mark: mark(1, 10), sequence: 1, at: 1_000_000_000_000, steady: 1_000_000_000_000 });
    repeats.insert(CarriedRepeat { mark: mark(2, 20), sequence: 2, at: 0, steady: 0 });
    assert_eq!(repeats.check(mark(1, 10), 0), Seen::Repeat { sequence: 1, at: 1_000_000_000_000 });
}

/// Sequences in each run.
fn runs(state: &State, segment: u64, first_sequence: u64, most: usize) -> Vec<Vec<u64>> {
    let runs = state.only_said_before(segment, first_sequence, most);
    runs.iter().map(|run| run.iter().map(|repeat| repeat.sequence).collect()).collect()
}

#[test]
fn only_repeats_that_no_kept_record_tells_are_carried_forward() {
    let mut state = State::new(Bounds { repeats: 100, segment_bytes: 64 << 20 });
    for number in 1..=9 {
        let header = Header {
            channel: "pumps".into(),
            at: 0,
            steady: 0,
            routes: vec![],
            ack: 0,
            control: 0,
            patient: vec![],
            device: vec![],
            repeat: Some(mark(number, number)),
            content: None,
            resends: None,
            findings: vec![],
        };
        let position = Position { segment: 1 + (number - 1) / 3, offset: 128 };
        state.apply(number, position, &Recorded::Received(header), 1);
    }
    let carry = |state: &mut State, before: u64, first: u64, segment: u64| {
        for repeats in state.only_said_before(before, first, 2) {
            let carried = Recorded::CarriedState(CarriedState { paused: vec![], repeats, episodes: vec![] });
            let sequence = state.next;
            state.apply(sequence, Position { segment, offset: 128 }, &carried, 0);
        }
    };
    assert_eq!(runs(&state, 2, 4, 2), [vec![1, 2], vec![3]]);
    carry(&mut state, 2, 4, 3);
    assert_eq!(runs(&state, 2, 4, 2), [Vec::<u64>::new()], "they are told already");
    assert_eq!(runs(&state, 3, 7, 9), [vec![4, 5, 6]]);
    carry(&mut state, 3, 7, 5);
    state.release_before(3, 7);
    assert_eq!(runs(&state, 4, 10, 9), [vec![1, 2, 3], vec![7, 8, 9]], "4 to 6 are told in a later segment");
}

#[test]
fn what_tells_the_repeats_of_one_message_is_carried_forward_together() {
    let mut state = State::new(Bounds { repeats: 100, segment_bytes: 64 << 20 });
    for sequence in 1..=5 {
        for key in [sequence, 100 + sequence] {
            state.repeats.insert(CarriedRepeat { mark: mark(key, key), sequence, at: 0, steady: 0 });
        }
    }
    for most in 1..6 {
        let runs = state.only_said_before(1, u64::MAX, most);
        assert_eq!(runs.iter().map(Vec::len).sum::<usize>(), 10);
        for pair in runs.windows(2) {
            assert!(pair[0].last().unwrap().sequence < pair[1][0].sequence, "{most}");
        }
        assert!(runs.iter().all(|run| run.len() <= most + 1), "{most}");
    }
}

#[test]
fn a_lost_message_is_told_as_no_repeat_unless_its_key_told_another_since() {
    let mut repeats = Repeats::new(10);
    repeats.insert(CarriedRepeat { mark: mark(1, 10), sequence: 1, at: 0, steady: 0 });
    repeats.insert(CarriedRepeat { mark: mark(2, 20), sequence: 2, at: 0, steady: 0 });
    repeats.distrust(1, 3);
    assert_eq!(repeats.check(mark(1, 10), 0), Seen::Reused);
    assert_eq!(repeats.check(mark(2, 20), 0), Seen::Repeat { sequence: 2, at: 0 });
    repeats.insert(CarriedRepeat { mark: mark(1, 10), sequence: 4, at: 0, steady: 0 });
    repeats.distrust(1, 5);
    assert_eq!(repeats.check(mark(1, 10), 0), Seen::Repeat { sequence: 4, at: 0 });
}
