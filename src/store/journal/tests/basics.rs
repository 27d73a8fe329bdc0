use super::*;

#[test]
fn what_was_appended_is_read_back_by_position_and_in_order() {
    let directory = directory();
    let mut journal = open(&directory);
    let written = records(1..20, 100);
    let positions = store(&mut journal, &written);
    for (position, record) in positions.iter().zip(&written) {
        assert_eq!(journal.reader().read(*position).unwrap(), *record);
    }
    assert_eq!(all(&journal), written);
    assert_eq!(journal.last_sequence(), 19);
}

#[test]
fn what_was_synced_is_there_after_opening_again() {
    let directory = directory();
    let mut journal = open(&directory);
    let mut written = Vec::new();
    for batch in 0..40 {
        written.extend(records(batch * 3..batch * 3 + 3, 333));
        store(&mut journal, &written[written.len() - 3..]);
        if batch % 7 == 0 {
            drop(journal);
            journal = open(&directory);
            assert_eq!(journal.cut(), None);
        }
    }
    drop(journal);
    let journal = open(&directory);
    assert_eq!(all(&journal), written);
    assert!(journal.segments().len() > 5);
}

#[test]
fn a_batch_larger_than_a_segment_spans_several() {
    let directory = directory();
    let mut journal = open(&directory);
    let written = records(0..64, 1000);
    let positions = store(&mut journal, &written);
    assert!(positions.is_sorted());
    assert!(positions.last().unwrap().segment > 10);
    drop(journal);
    assert_eq!(all(&open(&directory)), written);
}

#[test]
fn payloads_of_every_length_up_to_the_longest_are_kept() {
    let directory = directory();
    let mut journal = open(&directory);
    let longest = journal.payload_bytes_max();
    let written: Vec<Record> =
        (0..40).chain(longest - 20..=longest).map(|bytes| record(bytes as u64 + 1, bytes)).collect();
    store(&mut journal, &written);
    assert_eq!(all(&journal), written);
    let refused = journal.append(&[record(1, 8), record(2, longest + 1)]);
    assert!(matches!(refused, Err(JournalError::TooLarge)));
    assert_eq!(all(&journal), written, "nothing of a refused batch is written");
}

#[test]
fn a_second_engine_is_refused_until_the_first_is_gone() {
    let directory = directory();
    let first = open(&directory);
    assert!(matches!(Journal::open(directory.path(), SMALL), Err(JournalError::Locked(_))));
    drop(first);
    open(&directory);
}

#[test]
fn segments_tell_their_sequences_also_after_opening_again() {
    let directory = directory();
    let mut journal = open(&directory);
    store(&mut journal, &records(1..30, 500));
    let before = journal.segments();
    assert_eq!(before[0].first_sequence, Some(1));
    assert_eq!(before.last().unwrap().last_sequence, Some(29));
    drop(journal);
    let journal = open(&directory);
    assert_eq!(journal.segments(), before);
    assert_eq!(journal.last_sequence(), 29);
}

#[test]
fn a_recycled_segment_never_shows_what_it_held_before() {
    let directory = directory();
    let mut journal = open(&directory);
    let old = store(&mut journal, &records(1..40, 500));
    let reader = journal.reader();
    reader.read(old[0]).unwrap();
    let keep = journal.end().segment;
    journal.release_before(keep).unwrap();
    assert!(matches!(reader.read(old[0]), Err(JournalError::NotFound(_))));
    let kept = all(&journal);
    let new = records(100..104, 500);
    store(&mut journal, &new);
    drop(journal);
    let journal = open(&directory);
    assert_eq!(all(&journal), [kept, new].concat());
    assert!(old.iter().filter(|at| at.segment < keep).all(|at| journal.reader().read(*at).is_err()));
}

#[test]
fn readers_beside_a_writer_that_recycles_see_the_record_or_that_it_is_gone() {
    let directory = directory();
    let files = Arc::new(faults::Faulty::default());
    let (mut journal, _) = Journal::open_with(directory.path(), SMALL, files, false).unwrap();
    let reader = journal.reader();
    let (told, positions) = std::sync::mpsc::channel::<(u64, Position)>();
    let reading = std::thread::spawn(move || {
        let (mut seen, mut gone) = (Vec::new(), 0);
        for (sequence, position) in positions {
            seen.push((sequence, position));
            for (sequence, position) in seen.iter().rev().step_by(3).take(8) {
                match reader.read(*position) {
                    Ok(found) => assert_eq!(found, record(*sequence, 700)),
                    Err(JournalError::NotFound(_)) => gone += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            for found in reader.scan(seen[seen.len().saturating_sub(12)].1) {
                match found {
                    Ok((_, found)) => assert_eq!(found, record(found.sequence, 700)),
                    Err(error) => assert!(matches!(error, JournalError::NotFound(_)), "{error}"),
                }
            }
        }
        (seen.len(), gone)
    });
    for sequence in 1..1500 {
        let position = store(&mut journal, &[record(sequence, 700)])[0];
        told.send((sequence, position)).unwrap();
        if sequence % 6 == 0 {
            journal.release_before(position.segment).unwrap();
        }
    }
    drop(told);
    let (seen, gone) = reading.join().unwrap();
    assert_eq!(seen, 1499);
    assert!(gone > 0, "no segment was recycled under the reader");
}

#[test]
fn a_scan_whose_segment_is_released_says_so_rather_than_leaving_records_out() {
    let directory = directory();
    let mut journal = open(&directory);
    let positions = store(&mut journal, &records(1..20, 900));
    let reader = journal.reader();
    let mut scan = reader.scan(START);
    assert_eq!(scan.next().unwrap().unwrap().0, positions[0]);
    journal.release_before(4).unwrap();
    assert!(scan.any(|found| matches!(found, Err(JournalError::NotFound(_)))));
    assert!(scan.next().is_none());
    assert_eq!(reader.scan(START).next().unwrap().unwrap().0.segment, 4, "a new one begins with what there is");
}

#[test]
fn sizes_that_cannot_work_are_refused_with_the_reason() {
    let directory = directory();
    for (segment_bytes, bytes_max) in [(1000, 1 << 20), (4097, 1 << 20), (4096, 3 * 4096 - 1)] {
        let refused = Journal::open(directory.path(), Options { segment_bytes, bytes_max });
        assert!(matches!(refused, Err(JournalError::Options(_))));
    }
}

#[test]
fn a_changed_segment_size_holds_from_the_next_segment_on() {
    let directory = directory();
    let mut journal = open(&directory);
    let mut written = records(1..10, 900);
    store(&mut journal, &written);
    drop(journal);
    for (segment_bytes, sequence) in [(8192, 10), (2048, 20)] {
        let options = Options { segment_bytes, ..SMALL };
        let mut journal = Journal::open(directory.path(), options).unwrap();
        written.extend(records(sequence..sequence + 9, 900));
        store(&mut journal, &written[written.len() - 9..]);
        journal.release_before(2).unwrap();
    }
    written.drain(..4);
    assert_eq!(all(&open(&directory)), written);
}

#[test]
fn the_disk_shrinks_after_a_backlog_is_released() {
    let directory = directory();
    let mut journal = open(&directory);
    store(&mut journal, &records(1..200, 1000));
    assert!(journal.bytes() > 40 * 4096);
    journal.release_before(journal.end().segment).unwrap();
    assert!(journal.bytes() <= 4 * 4096);
    assert_eq!(journal.segments().len(), 1);
}

#[test]
fn messages_are_refused_before_the_reserve_is_touched_and_settlements_are_not() {
    let directory = directory();
    let options = Options { segment_bytes: 4096, bytes_max: 5 * 4096 };
    let mut journal = Journal::open(directory.path(), options).unwrap();
    let mut written = Vec::new();
    let mut next = 1;
    let full = loop {
        match journal.append(&[record(next, 900)]) {
            Ok(_) => written.push(record(next, 900)),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(full, JournalError::Full));
    assert!(!journal.room_for_messages());
    assert!(written.len() >= 12, "{} messages fit", written.len());
    for settled in 1000..1050 {
        journal.append_essential(&[record(settled, 40)]).unwrap();
        written.push(record(settled, 40));
    }
    journal.sync().unwrap();
    assert!(journal.bytes() <= 5 * 4096);
    assert_eq!(all(&journal), written);
    journal.release_before(journal.end().segment).unwrap();
    journal.append(&[record(2000, 900)]).unwrap();
    assert!(journal.room_for_messages());
}

#[test]
fn a_closed_journal_opens_where_it_ended_and_one_that_lost_its_end_does_not() {
    let directory = directory();
    let mut journal = open(&directory);
    store(&mut journal, &records(1..3, 100));
    let last = store(&mut journal, &records(3..4, 100))[0];
    journal.close().unwrap();
    open(&directory).close().unwrap();
    let path = segment_file(&directory, last.segment);
    let mut bytes = fs::read(&path).unwrap();
    bytes[last.offset as usize..].fill(0);
    fs::write(&path, bytes).unwrap();
    let damaged = Journal::open(directory.path(), SMALL);
    let Err(JournalError::Damaged(damage)) = damaged else { panic!("opened without its end") };
    assert_eq!((damage.len(), damage[0].from, damage[0].sequences.0), (1, last, Some(2)));
}
