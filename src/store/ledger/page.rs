//! A history page as bytes: times and hashes first, so that a search can pass over a page without reading its rows.
//!
//! `i64 earliest, i64 latest time of receipt, u32 count, count × u64 hash` (little endian, hashes ascending), then the
//! rows in postcard.

use crate::store::state::history::{Happened, Row};

/// A page read back.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct StoredPage {
    pub rows: Vec<Row>,
    pub happened: Vec<Happened>,
}

/// What can be told of a page without its rows.
pub(super) struct Head<'a> {
    pub first_at: i64,
    pub last_at: i64,
    hashes: &'a [[u8; 8]],
    rows: &'a [u8],
}

pub(super) fn encode(rows: &[Row]) -> Vec<u8> {
    let hashes = rows.iter().flat_map(|row| std::iter::once(&row.control).chain(&row.patient).chain(&row.device));
    let mut hashes: Vec<u64> = hashes.copied().collect();
    hashes.sort_unstable();
    hashes.dedup();
    let times = rows.iter().map(|row| row.at);
    let mut page = Vec::with_capacity(20 + 8 * hashes.len() + 64 * rows.len());
    page.extend_from_slice(&times.clone().min().unwrap_or(0).to_le_bytes());
    page.extend_from_slice(&times.max().unwrap_or(0).to_le_bytes());
    page.extend_from_slice(&(hashes.len() as u32).to_le_bytes());
    hashes.iter().for_each(|hash| page.extend_from_slice(&hash.to_le_bytes()));
    // Plain owned structs into a growing vector: no way to fail.
    postcard::to_extend(rows, page).unwrap_or_default()
}

/// The rows; `None` where the page does not read.
pub(super) fn decode(page: &[u8]) -> Option<Vec<Row>> {
    postcard::from_bytes(Head::read(page)?.rows).ok()
}

impl Head<'_> {
    pub fn read(page: &[u8]) -> Option<Head<'_>> {
        let (first_at, rest) = page.split_first_chunk::<8>()?;
        let (last_at, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (hashes, rows) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).checked_mul(8)?)?;
        let (first_at, last_at) = (i64::from_le_bytes(*first_at), i64::from_le_bytes(*last_at));
        Some(Head { first_at, last_at, hashes: hashes.as_chunks::<8>().0, rows })
    }

    pub fn holds(&self, hash: u64) -> bool {
        self.hashes.binary_search_by_key(&hash, |each| u64::from_le_bytes(*each)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::store::journal::Position;

    #[test]
    fn a_page_reads_back_and_tells_its_times_and_hashes() {
        let row = |id: u64| Row {
            id,
            at: 500 - id as i64,
            position: Position { segment: 1, offset: 128 },
            bytes: 9,
            channel: 0,
            ack: 1,
            control: id * 10,
            patient: [7].into(),
            device: [8, 9].into(),
            lanes: [0, 1].into(),
        };
        let rows: Vec<Row> = (1..100).map(row).collect();
        let page = encode(&rows);
        let head = Head::read(&page).unwrap();
        assert_eq!((head.first_at, head.last_at), (401, 499));
        assert!(head.holds(990) && !head.holds(991) && head.holds(9));
        assert_eq!(decode(&page), Some(rows));
        assert_eq!(decode(&page[..page.len() - 1]), None);
        assert_eq!(decode(&page[..30]), None);
    }
}
