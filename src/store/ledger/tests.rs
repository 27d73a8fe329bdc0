#![allow(clippy::unwrap_used, clippy::expect_used)]

use tempfile::TempDir;

use super::*;
use crate::store::{
    LaneId,
    records::{Header, Outcome, Recorded, RepeatMark, Settled},
};

const BOUNDS: Bounds = Bounds { repeats: 1000, segment_bytes: 64 << 20 };

/// Faults of a running ledger, asked for by a file `ledger.fails` beside it: `read`, `write` or `panic`.
pub(super) struct Faults(PathBuf);

impl Faults {
    pub(super) fn of(path: &Path) -> Faults {
        Faults(path.with_extension("fails"))
    }

    pub(super) fn bite(&self, at: &str) -> Result<(), LedgerError> {
        let asked = fs::read_to_string(&self.0).unwrap_or_default();
        assert_ne!(asked, "panic", "asked to panic");
        if asked == at { Err(io::Error::from(io::ErrorKind::StorageFull).into()) } else { Ok(()) }
    }
}

/// A state in which number after number was received in one of two lanes, and the first ones were delivered.
fn state(received: u64, settled: u64) -> State {
    let mut state = State::new(BOUNDS);
    for number in 0..received {
        let header = Header {
            channel: "pumps".into(),
            at: number as i64,
            steady: number as i64,
            routes: vec![("ehr".into(), 0), ("legacy".into(), 0)],
            ack: 1,
            control: number,
            patient: vec![7],
            device: vec![],
            repeat: Some(RepeatMark { key: number, body: number, window_seconds: 1 }),
            content: Some(RepeatMark { key: !number, body: number, window_seconds: 1 }),
            resends: None,
            findings: vec![],
        };
        let (sequence, position) = (state.next, at(number));
        state.apply(sequence, position, &Recorded::Received(header), 100);
    }
    let lane = LaneId { channel: "pumps".into(), destination: "ehr".into(), lane: 0 };
    for number in 0..settled {
        let (entry, id) = (number * 3 + 2, number * 3 + 1);
        let outcome = match number % 5 {
            0 => Outcome::Dead { reason: "no".into(), attempts: 1 },
            _ => Outcome::Accepted { sent_sha256: [0; 32], configuration: 0, answer: "AA".into(), attempts: 1, at: 0 },
        };
        let settled = Recorded::Settled(Settled { lane: lane.clone(), entry, id, at: 0, outcome, episodes: vec![] });
        state.apply(state.next, at(received + number), &settled, 0);
    }
    state
}

fn at(number: u64) -> Position {
    Position { segment: 1 + number / 100, offset: 128 + (number % 100) as u32 * 8 }
}

fn write(ledger: &Ledger, state: &mut State, covered: &mut Covered) {
    let image = Image::of(state, covered, Some((at(1), state.next - 1)), 0);
    ledger.write(&image).unwrap();
    state.history.left();
}

fn assert_loads_as(ledger: &Ledger, state: &State) {
    let loaded = ledger.load(9, BOUNDS).unwrap().unwrap();
    assert_eq!(loaded.applied, Some((at(1), state.next - 1)));
    let loaded = loaded.state;
    assert_eq!((loaded.waiting(), loaded.digest(), &loaded.dead), (state.waiting(), state.digest(), &state.dead));
    assert_eq!((loaded.next, loaded.messages, &loaded.segments), (state.next, state.messages, &state.segments));
    assert_eq!(loaded.repeats.live_before(u64::MAX), state.repeats.live_before(u64::MAX));
}

#[test]
fn a_checkpoint_loads_as_the_state_it_was_made_of_also_after_compaction() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger");
    let ledger = Ledger::open(&path).unwrap();
    assert!(ledger.load(9, BOUNDS).unwrap().is_none());
    let mut covered = ledger.covered(9).unwrap();
    let mut state = state(3000, 1300);
    write(&ledger, &mut state, &mut covered);
    assert_loads_as(&ledger, &state);

    drop(ledger);
    drop(Sled::open(&path).unwrap().compacted(&path).unwrap());
    let ledger = Ledger::open(&path).unwrap();
    assert_loads_as(&ledger, &state);
    assert_eq!(ledger.covered(9).unwrap(), covered);
    assert!(!path.with_extension("new").exists() && !path.with_extension("old").exists());
    let page = ledger.page(1).unwrap();
    assert!(!page.rows.is_empty() && page.rows.iter().all(|row| row.id >> 10 == 1));
    assert!(!page.happened.is_empty());
}

#[test]
fn a_copy_that_was_not_finished_is_thrown_away_and_a_finished_one_taken() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger");
    let mut state = state(10, 0);
    let ledger = Ledger::open(&path).unwrap();
    write(&ledger, &mut state, &mut Covered { store: 9, ..Covered::default() });
    drop(ledger);
    Sled::open(&path).unwrap().copy_to(&unfinished(&path)).unwrap();
    fs::rename(&path, path.with_extension("old")).unwrap();
    let ledger = Ledger::open(&path).unwrap();
    assert_loads_as(&ledger, &state);
    drop(ledger);
    fs::create_dir(unfinished(&path)).unwrap();
    assert_loads_as(&Ledger::open(&path).unwrap(), &state);
    assert!(!unfinished(&path).exists());
}

#[test]
fn a_ledger_that_lost_a_part_does_not_prove_itself() {
    for prefix in *b"lcdr" {
        let directory = TempDir::new().unwrap();
        let ledger = Ledger::open(&directory.path().join("ledger")).unwrap();
        write(&ledger, &mut state(3000, 900), &mut Covered { store: 9, ..Covered::default() });
        let key = ledger.tree.keys_under(&[prefix]).next_back().unwrap().unwrap();
        ledger.tree.write(vec![(key, None)]).unwrap();
        assert!(matches!(ledger.load(9, BOUNDS), Err(LedgerError::Unproved(_))), "{}", prefix as char);
        assert!(matches!(ledger.load(8, BOUNDS), Err(LedgerError::Unproved(_))), "another store's");
    }
}

#[test]
fn a_large_value_is_kept_in_parts() {
    let directory = TempDir::new().unwrap();
    let ledger = Ledger::open(&directory.path().join("ledger")).unwrap();
    let value: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
    let mut batch = Batch::new();
    put(&mut batch, b"large", &value);
    ledger.tree.write(batch).unwrap();
    let part = |key: Result<Vec<u8>, _>| ledger.tree.value(&key.unwrap()).unwrap().unwrap();
    assert!(ledger.tree.keys_under(b"").all(|key| part(key).len() <= PART));
    assert_eq!(ledger.value(b"large").unwrap(), Some(value));
    let mut batch = Batch::new();
    put(&mut batch, b"large", b"small now");
    ledger.tree.write(batch).unwrap();
    assert_eq!(ledger.value(b"large").unwrap().as_deref(), Some(&b"small now"[..]));
}

#[test]
fn one_ledger_moved_aside_is_kept_and_older_ones_are_not() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ledger");
    for number in 1..=3 {
        fs::create_dir(&path).unwrap();
        assert_eq!(move_aside(&path).unwrap(), path.with_extension(format!("bad-{number}")));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
