//! Entries in order of arrival, each with a number that never changes. Blocks of one size: growing copies nothing, and what
//! is left behind is given back.

use std::{collections::VecDeque, ops::Range};

use crate::store::records::{CarriedRepeat, RepeatMark};

/// Entries to a block.
const BLOCK: u64 = 1024;

/// An entry without the four bytes of padding its longest fields would ask for.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Packed {
    key: u64,
    body: u64,
    sequence: u64,
    at: i64,
    steady: i64,
    window_seconds: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Ring {
    blocks: VecDeque<Vec<Packed>>,
    numbers: Range<u64>,
}

impl Ring {
    pub fn starting_at(first: u64) -> Ring {
        Ring { blocks: VecDeque::new(), numbers: first..first }
    }

    pub fn len(&self) -> usize {
        (self.numbers.end - self.numbers.start) as usize
    }

    pub fn numbers(&self) -> Range<u64> {
        self.numbers.clone()
    }

    /// Answers the entry's number.
    pub fn push(&mut self, repeat: CarriedRepeat) -> u64 {
        let number = self.numbers.end;
        if self.numbers.is_empty() {
            self.blocks.clear();
        }
        match self.blocks.back_mut() {
            Some(block) if (block.len() as u64) < BLOCK => block.push(repeat.into()),
            _ => {
                let mut block = Vec::with_capacity(BLOCK as usize);
                // A ring need not begin with a block; what stands before its first entry is never read.
                let before = if self.blocks.is_empty() { number % BLOCK } else { 0 };
                block.resize(before as usize + 1, Packed::from(repeat));
                self.blocks.push_back(block);
            }
        }
        self.numbers.end += 1;
        number
    }

    pub fn pop(&mut self) {
        if self.numbers.is_empty() {
            return;
        }
        self.numbers.start += 1;
        if self.numbers.start.is_multiple_of(BLOCK) {
            self.blocks.pop_front();
        }
    }

    pub fn entry(&self, number: u64) -> Option<CarriedRepeat> {
        if !self.numbers.contains(&number) {
            return None;
        }
        let block = self.blocks.get((number / BLOCK - self.numbers.start / BLOCK) as usize)?;
        block.get((number % BLOCK) as usize).map(|packed| CarriedRepeat::from(*packed))
    }

    pub fn first(&self) -> Option<CarriedRepeat> {
        self.entry(self.numbers.start)
    }

    pub fn last(&self) -> Option<CarriedRepeat> {
        self.entry(self.numbers.end.checked_sub(1)?)
    }

    /// Every entry with its number.
    pub fn iter(&self) -> impl Iterator<Item = (u64, CarriedRepeat)> + '_ {
        self.numbers().filter_map(|number| Some((number, self.entry(number)?)))
    }
}

impl From<CarriedRepeat> for Packed {
    fn from(repeat: CarriedRepeat) -> Packed {
        let CarriedRepeat { mark: RepeatMark { key, body, window_seconds }, sequence, at, steady } = repeat;
        Packed { key, body, sequence, at, steady, window_seconds }
    }
}

impl From<Packed> for CarriedRepeat {
    fn from(packed: Packed) -> CarriedRepeat {
        let Packed { key, body, sequence, at, steady, window_seconds } = packed;
        CarriedRepeat { mark: RepeatMark { key, body, window_seconds }, sequence, at, steady }
    }
}
