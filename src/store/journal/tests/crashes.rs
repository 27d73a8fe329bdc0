//! A crash, and another one while the journal is opened after it, at every call each of them can come at.

use super::{
    memory_disk::{Dice, MemoryDisk},
    *,
};

const PATH: &str = "/journal";

fn open_on(disk: &MemoryDisk) -> Result<Journal, JournalError> {
    let files: Arc<dyn Files> = Arc::new(disk.clone());
    Journal::open_with(Path::new(PATH), SMALL, files, false).map(|(journal, _)| journal)
}

/// Fills some segments until a call fails; answers what was durable then.
fn fill(disk: &MemoryDisk, fails_at: u64) -> Vec<Record> {
    let mut journal = open_on(disk).unwrap();
    let mut durable = Vec::new();
    disk.fail_in(fails_at, io::ErrorKind::Other);
    for sequence in (1..60).step_by(3) {
        let batch = records(sequence..sequence + 3, 400);
        if journal.append(&batch).is_err() || journal.sync().is_err() {
            break;
        }
        durable.extend(batch);
    }
    disk.heal();
    durable
}

#[test]
fn a_power_cut_while_a_journal_is_opened_after_a_failure_takes_nothing_that_was_durable() {
    for fails_at in 0..60 {
        for off_at in 0..40 {
            let disk = MemoryDisk::default();
            let durable = fill(&disk, fails_at);
            disk.off_in(off_at);
            drop(open_on(&disk));
            disk.cut_power(&mut Dice(fails_at * 100 + off_at));
            let journal = open_on(&disk).unwrap_or_else(|error| panic!("{fails_at}, {off_at}: {error}"));
            let kept = all(&journal);
            assert_eq!(kept[..durable.len()], durable, "{fails_at}, {off_at}");
        }
    }
}

/// A mark whose sync failed is shown but not kept, and the next one takes the place of the last that was.
#[test]
fn two_failures_of_the_mark_and_a_power_cut_leave_one_that_is_true() {
    for (first, second) in (0..4).flat_map(|first| (0..30).map(move |second| (first, second))) {
        let disk = MemoryDisk::default();
        open_on(&disk).unwrap().close().unwrap();
        let mut journal = open_on(&disk).unwrap();
        store(&mut journal, &records(1..3, 100));
        disk.fail_in(first, io::ErrorKind::Other);
        let _ = journal.vouch();
        drop(journal);
        disk.fail_in(second, io::ErrorKind::Other);
        drop(open_on(&disk));
        disk.cut_power(&mut Dice(first * 100 + second));
        let journal = open_on(&disk).unwrap_or_else(|error| panic!("{first}, {second}: {error}"));
        assert_eq!(all(&journal), records(1..3, 100), "{first}, {second}");
    }
}
