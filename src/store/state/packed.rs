//! Lane entries as bytes: each as its difference from the one before, in variable-length integers.

use super::lane::Entry;
use crate::store::journal::Position;
use std::collections::VecDeque;

/// Packs a run of entries.
pub(super) fn pack(entries: &[Entry]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(entries.len() * 10);
    write_run(&mut out, entries.iter());
    out.into_boxed_slice()
}

/// The entries of a packed run; `None` where it does not read as one.
pub(super) fn unpack(packed: &[u8]) -> Option<Vec<Entry>> {
    let mut rest = packed;
    let entries = read_run(&mut rest)?;
    rest.is_empty().then_some(entries)
}

/// Both ends of a queue.
pub(super) fn pack_ends(head: &VecDeque<Entry>, tail: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity((head.len() + tail.len()) * 10 + 8);
    write_run(&mut out, head.iter());
    write_run(&mut out, tail.iter());
    out
}

/// The ends `pack_ends` wrote.
pub(super) fn unpack_ends(packed: &[u8]) -> Option<(Vec<Entry>, Vec<Entry>)> {
    let mut rest = packed;
    let ends = (read_run(&mut rest)?, read_run(&mut rest)?);
    rest.is_empty().then_some(ends)
}

const START: Entry =
    Entry { entry: 0, id: 0, position: Position { segment: 0, offset: 0 }, received_at: 0, again: false };

fn write_run<'a>(out: &mut Vec<u8>, entries: impl ExactSizeIterator<Item = &'a Entry>) {
    write(out, entries.len() as u64);
    let mut before = START;
    for entry in entries {
        write(out, entry.entry.wrapping_sub(before.entry));
        write(out, entry.entry.wrapping_sub(entry.id).wrapping_shl(1) | u64::from(entry.again));
        write_signed(out, entry.position.segment.wrapping_sub(before.position.segment) as i64);
        write_signed(out, i64::from(entry.position.offset) - i64::from(before.position.offset));
        write_signed(out, entry.received_at.wrapping_sub(before.received_at));
        before = *entry;
    }
}

fn read_run(rest: &mut &[u8]) -> Option<Vec<Entry>> {
    let count = read(rest)?;
    // An entry takes at least five bytes: a length beyond that is damage, not a reason to reserve memory.
    if count > rest.len() as u64 / 5 {
        return None;
    }
    let mut entries = Vec::with_capacity(count as usize);
    let mut before = START;
    for _ in 0..count {
        before = read_entry(rest, &before)?;
        entries.push(before);
    }
    Some(entries)
}

fn read_entry(rest: &mut &[u8], before: &Entry) -> Option<Entry> {
    let entry = before.entry.wrapping_add(read(rest)?);
    let back = read(rest)?;
    let segment = before.position.segment.wrapping_add(read_signed(rest)? as u64);
    let offset = u32::try_from(i64::from(before.position.offset).checked_add(read_signed(rest)?)?).ok()?;
    let received_at = before.received_at.wrapping_add(read_signed(rest)?);
    let id = entry.wrapping_sub(back >> 1);
    Some(Entry { entry, id, position: Position { segment, offset }, received_at, again: back & 1 == 1 })
}

fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_signed(out: &mut Vec<u8>, value: i64) {
    write(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn read(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn read_signed(rest: &mut &[u8]) -> Option<i64> {
    let value = read(rest)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}
