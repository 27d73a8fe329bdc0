//! What every kept message was and what became of it, in pages of 1,024 sequences.
//!
//! Pages stay here until a checkpoint has them; the page still being written stays always. Outcomes of messages in pages
//! already gone down are kept as additions to them. Where there is no ledger the newest pages stay, and memory knows from
//! which on it knows all. No content and no identity: hashes and places only.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::store::{journal::Position, records::What};

/// Bits of a sequence within its page.
const PAGE_BITS: u32 = 10;

/// Pages kept where no ledger takes them, of some 250 bytes a message.
const KEPT_PAGES: usize = if cfg!(test) { 2 } else { 64 };

/// The page a message belongs to.
pub(in crate::store) fn page_of(sequence: u64) -> u64 {
    sequence >> PAGE_BITS
}

/// The first sequence of a page.
pub(in crate::store) fn first_of(page: u64) -> u64 {
    page.saturating_mul(1 << PAGE_BITS)
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Row {
    pub id: u64,
    pub at: i64,
    pub position: Position,
    pub bytes: u32,
    pub channel: u32,
    pub ack: u8,
    pub control: u64,
    pub patient: Box<[u64]>,
    pub device: Box<[u64]>,
    /// Lane numbers of the state's table, by route; route `i` made entry `id + 1 + i`.
    pub lanes: Box<[u32]>,
}

/// What happened to one entry of a message, and the record that says it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Happened {
    pub id: u64,
    pub entry: u64,
    pub lane: u32,
    pub what: What,
    pub position: Position,
}

/// One page, or an addition to one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::store) struct Page {
    pub rows: Vec<Row>,
    pub happened: Vec<Happened>,
}

/// The pages held in memory.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct History {
    pages: BTreeMap<u64, Page>,
    /// Given to a checkpoint that is not yet known to be safe.
    leaving: Option<Arc<BTreeMap<u64, Page>>>,
    /// Of pages before this one not all is here: a ledger has it, or nobody.
    whole_from: u64,
}

impl History {
    pub fn received(&mut self, row: Row) {
        self.pages.entry(page_of(row.id)).or_default().rows.push(row);
    }

    pub fn happened(&mut self, happened: Happened) {
        self.pages.entry(page_of(happened.id)).or_default().happened.push(happened);
    }

    /// Hands over what a checkpoint is to write; `next` is the next sequence, whose page is handed over and kept.
    pub fn leave(&mut self, next: u64) -> Arc<BTreeMap<u64, Page>> {
        let open = page_of(next);
        let mut leaving = std::mem::take(&mut self.pages);
        if let Some(page) = leaving.get_mut(&open) {
            self.pages.insert(open, Page { rows: page.rows.clone(), happened: Vec::new() });
        }
        let leaving = Arc::new(leaving);
        self.leaving = Some(Arc::clone(&leaving));
        leaving
    }

    /// The checkpoint is safe: what it took is found there.
    pub fn left(&mut self) {
        self.leaving = None;
    }

    /// Gives up all, which nobody wrote down; `next` is the next sequence.
    pub fn forget(&mut self, next: u64) {
        *self = History { whole_from: page_of(next) + 1, ..History::default() };
    }

    /// Keeps the newest pages alone, where nobody writes any down.
    pub fn keep_newest(&mut self) {
        while self.pages.len() > KEPT_PAGES
            && let Some((gone, _)) = self.pages.pop_first()
        {
            self.whole_from = self.whole_from.max(gone + 1);
        }
    }

    /// Whether memory has all of this page and of those after it.
    pub fn is_whole_from(&self, number: u64) -> bool {
        number >= self.whole_from
    }

    /// The page still being written, as a checkpoint kept it.
    pub fn resume(&mut self, number: u64, rows: Vec<Row>) {
        self.pages.entry(number).or_default().rows = rows;
    }

    /// What memory knows of a page, and whether its rows are complete here (else the ledger has them).
    pub fn page(&self, number: u64) -> (Page, bool) {
        let mut page = Page::default();
        for part in self.leaving.iter().filter_map(|leaving| leaving.get(&number)).chain(self.pages.get(&number)) {
            // The open page is in both: the later one has all the former's rows.
            if !part.rows.is_empty() {
                page.rows.clone_from(&part.rows);
            }
            page.happened.extend_from_slice(&part.happened);
        }
        let complete = !page.rows.is_empty();
        (page, complete)
    }

    /// Numbers of the pages memory has, oldest first.
    pub fn numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.pages.keys().copied().collect();
        numbers.extend(self.leaving.iter().flat_map(|leaving| leaving.keys()));
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Forgets pages below `page` and rows that lie before `segment`.
    pub fn release(&mut self, page: u64, segment: u64) {
        self.pages = self.pages.split_off(&page);
        for page in self.pages.values_mut() {
            page.rows.retain(|row| row.position.segment >= segment);
        }
    }
}
