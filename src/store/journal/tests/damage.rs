//! Bytes changed behind the journal's back: a corrupt record is never given out, and a durable one never vanishes in
//! silence.

use super::*;
use std::os::unix::fs::FileExt;

/// Without waiting for the disk: nothing here cuts its power.
fn open(directory: &TempDir) -> Journal {
    try_open(directory).unwrap()
}

fn try_open(directory: &TempDir) -> Result<Journal, JournalError> {
    let files = Arc::new(faults::Faulty::default());
    Journal::open_with(directory.path(), SMALL, files, false).map(|(journal, _)| journal)
}

fn change(path: &Path, offset: u64, bytes: &[u8]) {
    File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn damage_on_open(directory: &TempDir) -> Vec<Damage> {
    match try_open(directory) {
        Err(JournalError::Damaged(damage)) => damage,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened as if nothing were missing"),
    }
}

#[test]
fn a_batch_torn_at_any_byte_is_cut_and_writing_goes_on() {
    let directory = directory();
    let kept = records(1..4, 90);
    let mut journal = open(&directory);
    store(&mut journal, &kept[..2]);
    store(&mut journal, &kept[2..]);
    let torn = journal.append(&[record(4, 200)]).unwrap()[0];
    drop(journal);
    let path = segment_file(&directory, torn.segment);
    let whole = fs::read(&path).unwrap();
    for cut in torn.offset..torn.offset + 224 {
        let mut bytes = whole.clone();
        bytes[cut as usize..].fill(0);
        change(&path, 0, &bytes);
        let mut journal = open(&directory);
        assert_eq!(all(&journal), kept, "torn at {cut}");
        assert_eq!(journal.end(), torn);
        let next = record(5, 64);
        store(&mut journal, std::slice::from_ref(&next));
        drop(journal);
        let journal = open(&directory);
        assert_eq!(all(&journal), [kept.clone(), vec![next]].concat());
        assert_eq!(journal.cut(), None, "the cut was not durable");
    }
}

#[test]
fn a_torn_batch_with_a_hole_is_cut_whole_and_its_rest_never_comes_back() {
    let directory = directory();
    let mut journal = open(&directory);
    let kept = records(1..3, 100);
    store(&mut journal, &kept);
    let torn = journal.append(&records(3..8, 104)).unwrap();
    drop(journal);
    // The second of five is lost; the others reached the disk.
    change(&segment_file(&directory, torn[1].segment), u64::from(torn[1].offset), &[0; 128]);
    let mut journal = open(&directory);
    assert_eq!(all(&journal), [kept.clone(), vec![record(3, 104)]].concat());
    let cut = journal.cut().expect("a cut is told").clone();
    assert_eq!((cut.from, cut.sequences.0), (torn[1], Some(3)));
    // A record of the same length would let the next one of the torn batch follow it.
    store(&mut journal, &[record(50, 104)]);
    drop(journal);
    let journal = open(&directory);
    assert_eq!(all(&journal).iter().map(|record| record.sequence).collect::<Vec<_>>(), [1, 2, 3, 50]);
}

#[test]
fn a_bad_record_with_a_later_batch_behind_it_is_damage_with_its_range() {
    let directory = directory();
    let mut journal = open(&directory);
    store(&mut journal, &records(1..3, 100));
    let bad = store(&mut journal, &records(3..5, 100))[0];
    let after = store(&mut journal, &records(5..6, 100))[0];
    drop(journal);
    change(&segment_file(&directory, bad.segment), u64::from(bad.offset) + 40, b"!");
    let damage = damage_on_open(&directory);
    let second = Position { offset: bad.offset + 128, ..bad };
    assert_eq!((damage.len(), damage[0].from, damage[0].to), (1, bad, second));
    assert_eq!(damage[0].sequences, (Some(2), Some(4)));
    assert_eq!(verify(directory.path(), |_, _| ()).unwrap().damage, damage);
    let (mut journal, accepted) = Journal::open_accepting_damage(directory.path(), SMALL).unwrap();
    assert_eq!(accepted, damage);
    assert!(journal.end().segment > after.segment, "nothing is written behind damage");
    store(&mut journal, &records(6..7, 100));
    drop(journal);
    let journal = open(&directory);
    let (kept, faults): (Vec<_>, Vec<_>) = journal.reader().scan(START).partition(Result::is_ok);
    assert_eq!(kept.into_iter().map(|kept| kept.unwrap().1.sequence).collect::<Vec<_>>(), [1, 2, 4, 5, 6]);
    assert!(matches!(&faults[..], [Err(JournalError::Damaged(found))] if found[0].from == bad));
    assert!(matches!(journal.reader().read(bad), Err(JournalError::Damaged(_))));
}

/// Twelve segments' worth of records, with their positions.
fn several_segments(directory: &TempDir) -> Vec<Position> {
    let mut journal = open(directory);
    (1..48).flat_map(|sequence| store(&mut journal, &[record(sequence, 900)])).collect()
}

#[test]
fn a_missing_segment_is_damage_wherever_it_is_and_stays_visible_once_accepted() {
    let last = several_segments(&directory()).last().unwrap().segment;
    for missing in [1, 2, last - 1, last] {
        let directory = directory();
        let positions = several_segments(&directory);
        fs::remove_file(segment_file(&directory, missing)).unwrap();
        let damage = damage_on_open(&directory);
        assert_eq!((damage.len(), damage[0].from.segment), (1, missing));
        let lost = |at: &Position| at.segment == missing;
        let first = positions.iter().position(lost).unwrap() as u64 + 1;
        let after = first + positions.iter().filter(|at| lost(at)).count() as u64;
        let told = ((first > 1).then(|| first - 1), (missing < last).then_some(after));
        assert_eq!(damage[0].sequences, told, "segment {missing}");
        let (journal, _) = Journal::open_accepting_damage(directory.path(), SMALL).unwrap();
        drop(journal);
        let journal = open(&directory);
        let (kept, faults): (Vec<_>, Vec<_>) = journal.reader().scan(START).partition(Result::is_ok);
        let kept: Vec<Position> = kept.into_iter().map(|kept| kept.unwrap().0).collect();
        let expected: Vec<Position> = positions.into_iter().filter(|at| at.segment != missing).collect();
        assert_eq!(kept, expected);
        assert!(matches!(&faults[..], [Err(JournalError::Damaged(found))] if found[0].from.segment == missing));
    }
}

#[test]
fn a_truncated_segment_is_damage_wherever_it_ends() {
    let last = several_segments(&directory()).last().unwrap().segment;
    for (segment, length) in [(2, 0), (2, 100), (3, 128), (3, 1500), (last, 300), (last, 4095)] {
        let directory = directory();
        several_segments(&directory);
        let path = segment_file(&directory, segment);
        File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        let damage = damage_on_open(&directory);
        assert!(damage.iter().all(|damage| damage.from.segment == segment), "{damage:?}");
        drop(Journal::open_accepting_damage(directory.path(), SMALL).unwrap());
        let journal = open(&directory);
        let lost = journal.reader().scan(START).filter(Result::is_err).count();
        assert!(lost > 0 || segment == last, "{segment} {length}");
    }
}

#[test]
fn a_missing_mark_is_damage_and_is_made_anew_once_accepted() {
    let directory = directory();
    let positions = several_segments(&directory);
    fs::remove_file(directory.path().join("MARK")).unwrap();
    assert_eq!(damage_on_open(&directory).len(), 1);
    drop(Journal::open_accepting_damage(directory.path(), SMALL).unwrap());
    assert_eq!(all(&open(&directory)).len(), positions.len());
}

#[test]
fn one_torn_slot_of_the_mark_is_made_good_by_the_other() {
    for slot in [0, 4096] {
        let directory = directory();
        let positions = several_segments(&directory);
        change(&directory.path().join("MARK"), slot + 8, &[0xFF; 20]);
        assert_eq!(all(&open(&directory)).len(), positions.len());
    }
}

#[test]
fn verify_proves_every_record_and_finds_what_opening_does_not_look_at() {
    let directory = directory();
    let positions = several_segments(&directory);
    let mut told = Vec::new();
    let report = verify(directory.path(), |done, all| told.push((done, all))).unwrap();
    assert_eq!((report.records, report.damage.len(), report.torn.clone()), (47, 0, None));
    assert_eq!(report.sequences, (Some(1), Some(47)));
    assert_eq!(told.len() as u64, report.segments);
    assert_eq!(told.last().map(|(done, all)| (*done, *all)), Some((report.bytes, report.bytes)));
    let bad = positions[5];
    change(&segment_file(&directory, bad.segment), u64::from(bad.offset) + 500, b"!!");
    let report = verify(directory.path(), |_, _| ()).unwrap();
    assert_eq!((report.records, report.damage.len(), report.damage[0].from), (46, 1, bad));
    let journal = open(&directory);
    assert!(matches!(verify(directory.path(), |_, _| ()), Err(JournalError::Locked(_))));
    assert!(matches!(journal.reader().read(bad), Err(JournalError::Damaged(_))));
}

#[test]
fn damage_of_the_last_batch_is_told_from_a_torn_one_once_it_was_vouched_for() {
    for vouched in [false, true] {
        let directory = directory();
        let mut journal = open(&directory);
        store(&mut journal, &records(1..3, 100));
        let at = store(&mut journal, &records(3..4, 100))[0];
        if vouched {
            journal.vouch().unwrap();
            assert!(journal.is_vouched());
        }
        let end = journal.end();
        drop(journal);
        let path = segment_file(&directory, at.segment);
        let whole = fs::read(&path).unwrap();
        let (mut flipped, mut zeroed) = (whole.clone(), whole);
        flipped[at.offset as usize + 60] ^= 1;
        zeroed[at.offset as usize..].fill(0);
        for bytes in [flipped, zeroed] {
            change(&path, 0, &bytes);
            if !vouched {
                assert_eq!(all(&open(&directory)), records(1..3, 100));
                continue;
            }
            let damage = damage_on_open(&directory);
            assert_eq!(
                (damage.len(), damage[0].from, damage[0].to, damage[0].sequences),
                (1, at, end, (Some(2), None))
            );
            let report = verify(directory.path(), |_, _| ()).unwrap();
            assert_eq!((&report.damage, report.torn), (&damage, None));
        }
        if vouched {
            let (mut journal, damage) = Journal::open_accepting_damage(directory.path(), SMALL).unwrap();
            assert_eq!(damage.len(), 1);
            store(&mut journal, &records(5..6, 100));
            drop(journal);
            assert_eq!(all(&open(&directory)), [records(1..3, 100), records(5..6, 100)].concat());
        }
    }
}

#[test]
fn a_batch_torn_after_the_mark_vouched_for_all_before_it_is_cut() {
    let directory = directory();
    let mut journal = open(&directory);
    store(&mut journal, &records(1..3, 100));
    journal.vouch().unwrap();
    let torn = journal.append(&records(3..5, 100)).unwrap()[1];
    assert!(!journal.is_vouched());
    drop(journal);
    change(&segment_file(&directory, torn.segment), u64::from(torn.offset), &[0; 100]);
    let journal = open(&directory);
    assert_eq!((all(&journal), journal.end()), (records(1..4, 100), torn));
}

#[test]
fn a_valid_record_of_another_journal_is_none_of_this_one() {
    let (ours, theirs) = (directory(), directory());
    let mut journal = open(&ours);
    store(&mut journal, &records(1..2, 100));
    let mut foreign = open(&theirs);
    store(&mut foreign, &records(1..2, 100));
    let at = store(&mut foreign, &records(2..3, 100))[0];
    let forged = fs::read(segment_file(&theirs, at.segment)).unwrap()[at.offset as usize..][..128].to_vec();
    assert_eq!(journal.end(), at);
    drop(journal);
    change(&segment_file(&ours, at.segment), u64::from(at.offset), &forged);
    assert_eq!(all(&open(&ours)), records(1..2, 100));
}

proptest::proptest! {
    /// Whatever byte is changed, in whatever file: what is read is what was written, and what is missing was reported,
    /// but for the very last batch, which nothing proves durable after an unclean stop.
    #[test]
    fn a_changed_byte_is_never_read_and_never_ignored(
        sizes in proptest::collection::vec(0_usize..1200, 1..40),
        place in 0.0..1.0_f64,
        flip in 1_u8..,
        clean in proptest::bool::ANY,
    ) {
        let directory = directory();
        let mut journal = open(&directory);
        let written: Vec<Record> = sizes.iter().zip(1..).map(|(bytes, sequence)| record(sequence, *bytes)).collect();
        for record in &written {
            store(&mut journal, std::slice::from_ref(record));
        }
        let segments = journal.segments();
        if clean { journal.close().unwrap() } else { drop(journal) }
        let all_bytes: u32 = segments.iter().map(|segment| segment.used).sum();
        let mut at = (f64::from(all_bytes) * place) as u32;
        let hit = segments.iter().find(|segment| {
            let inside = at < segment.used;
            if !inside { at -= segment.used }
            inside
        });
        let path = segment_file(&directory, hit.unwrap().segment);
        let byte = fs::read(&path).unwrap()[at as usize];
        change(&path, u64::from(at), &[byte ^ flip]);

        match try_open(&directory) {
            Err(JournalError::Damaged(_)) => {}
            Err(other) => panic!("{other}"),
            Ok(journal) => {
                let (kept, faults): (Vec<_>, Vec<_>) = journal.reader().scan(START).partition(Result::is_ok);
                let kept: Vec<Record> = kept.into_iter().map(|kept| kept.unwrap().1).collect();
                assert!(kept.iter().all(|record| written.contains(record)));
                let reported = !faults.is_empty() || journal.cut().is_some() && !clean;
                let missing_at_the_end = !clean && kept[..] == written[..written.len() - 1];
                assert!(reported || kept == written || missing_at_the_end);
                assert!(!faults.is_empty() || kept.len() + 1 >= written.len());
            }
        }
    }
}
