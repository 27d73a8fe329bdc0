//! The index of a message: where every segment and field starts, found in one pass.
//!
//! The pass takes 64 bytes at a time and finds all separators and line ends among them at once, as bits of a word, so its
//! speed hardly depends on how short the fields are. What must never happen: a byte belongs to no segment and no line
//! end, or the pass takes more than linear time.

use std::ops::Range;

use super::{ParseError, ParseErrorKind};

/// Places of segments and of their tokens: what stands between field separators, the segment id being token 0.
#[derive(Clone)]
pub(super) struct Index {
    segments: Vec<Span>,
    /// Place of every field separator, segment after segment.
    separators: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
    /// Index into `separators` of the segment's first.
    first: u32,
}

impl Index {
    /// Indexes `bytes` (under 4 GiB) from `start`, where MSH stands.
    pub(super) fn of(bytes: &[u8], start: usize, separator: u8) -> Result<Index, ParseError> {
        let mut scan = Scan::new(bytes, start, separator);
        let (blocks, rest) = bytes[start..].as_chunks();
        for block in blocks {
            scan.block(block)?;
        }
        // Filled up with zeros, which are neither a separator nor a line end.
        let mut last = [0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        scan.block(&last)?;
        scan.finish()
    }

    pub(super) fn separators(&self) -> &[u32] {
        &self.separators
    }

    pub(super) fn segment_count(&self) -> usize {
        self.segments.len()
    }

    pub(super) fn segment(&self, number: usize) -> Range<usize> {
        let span = self.segments[number];
        span.start as usize..span.end as usize
    }

    pub(super) fn token_count(&self, number: usize) -> usize {
        self.separators_of(number).len() + 1
    }

    /// Place of a token, if it was sent.
    pub(super) fn token(&self, number: usize, token: usize) -> Option<Range<usize>> {
        let separators = self.separators_of(number);
        let span = self.segments[number];
        let start = match token.checked_sub(1) {
            Some(before) => *separators.get(before)? as usize + 1,
            None => span.start as usize,
        };
        let end = separators.get(token).copied().unwrap_or(span.end);
        Some(start..end as usize)
    }

    fn separators_of(&self, number: usize) -> &[u32] {
        let next = self.segments.get(number + 1).map_or(self.separators.len(), |next| next.first as usize);
        &self.separators[self.segments[number].first as usize..next]
    }
}

const BLOCK: usize = 64;

/// The pass over the bytes, block by block.
struct Scan<'b> {
    bytes: &'b [u8],
    separator: u8,
    index: Index,
    /// Place of the next block.
    at: usize,
    /// The open segment: where it starts and its first separator.
    start: usize,
    first: u32,
}

impl<'b> Scan<'b> {
    fn new(bytes: &'b [u8], start: usize, separator: u8) -> Scan<'b> {
        // What device reports need: a separator in eight bytes, a segment in 128.
        let index = Index {
            segments: Vec::with_capacity(bytes.len() / 128 + 8),
            separators: Vec::with_capacity(bytes.len() / 8 + 16),
        };
        Scan { bytes, separator, index, at: start, start, first: 0 }
    }

    /// Takes the part of `bytes` at `at`.
    fn block(&mut self, block: &[u8; BLOCK]) -> Result<(), ParseError> {
        let (separators, mut controls) = marks(block, self.separator);
        let seen = self.index.separators.len();
        self.push(separators);
        while controls != 0 {
            let place = controls.trailing_zeros() as usize;
            controls &= controls - 1;
            if matches!(block[place], b'\r' | b'\n') {
                self.end_segment(self.at + place)?;
                self.first = (seen + (separators & ((1 << place) - 1)).count_ones() as usize) as u32;
            }
        }
        self.at += BLOCK;
        Ok(())
    }

    /// Writes down the places of the bits; through an array, which spares a check for space at each.
    fn push(&mut self, mut bits: u64) {
        let mut places = [0; BLOCK];
        let count = bits.count_ones() as usize;
        for place in &mut places[..count] {
            *place = self.at as u32 + bits.trailing_zeros();
            bits &= bits - 1;
        }
        self.index.separators.extend_from_slice(&places[..count]);
    }

    /// Closes the open segment at a line end, unless the line has nothing but blanks; the next one starts behind it.
    fn end_segment(&mut self, end: usize) -> Result<(), ParseError> {
        let start = std::mem::replace(&mut self.start, end + 1);
        if self.bytes[start..end].iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return Ok(());
        }
        self.index.segments.push(Span { start: start as u32, end: end as u32, first: self.first });
        let number = self.index.segments.len();
        check(&self.bytes[start..end], self.separator, number).map_err(|kind| ParseError {
            kind,
            offset: start,
            segment: number,
        })
    }

    fn finish(mut self) -> Result<Index, ParseError> {
        if self.start < self.bytes.len() {
            self.end_segment(self.bytes.len())?;
        }
        Ok(self.index)
    }
}

/// One bit for each byte of a block, the first being the lowest: which are separators, and which have no bit of their
/// upper half set, CR and LF among them.
fn marks(block: &[u8; BLOCK], separator: u8) -> (u64, u64) {
    let separator = u64::from_le_bytes([separator; 8]);
    let (words, _) = block.as_chunks();
    let (mut separators, mut controls) = (0, 0);
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        separators |= zero_bytes(word ^ separator) << (8 * i);
        controls |= zero_bytes(word & 0xF0F0_F0F0_F0F0_F0F0) << (8 * i);
    }
    (separators, controls)
}

/// One bit for each byte that is zero, the first byte's being the lowest.
fn zero_bytes(word: u64) -> u64 {
    const LOW_SEVEN: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    // The sum carries into a byte's top bit if any of its lower seven is set, and into no other byte.
    let top_bits = !(((word & LOW_SEVEN) + LOW_SEVEN) | word | LOW_SEVEN);
    // Moves the eight top bits, eight places apart, next to each other in the top byte.
    (top_bits >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

fn check(segment: &[u8], separator: u8, number: usize) -> Result<(), ParseErrorKind> {
    let letter_or_digit = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    let well_formed = matches!(segment, [a, b, c, rest @ ..] if a.is_ascii_uppercase()
        && letter_or_digit(b)
        && letter_or_digit(c)
        && rest.first().is_none_or(|next| *next == separator));
    match segment {
        _ if !well_formed => Err(ParseErrorKind::SegmentId),
        [b'F' | b'B', b'H' | b'T', b'S', ..] => Err(ParseErrorKind::OutsideBatch),
        [b'M', b'S', b'H', ..] if number > 1 => Err(ParseErrorKind::SecondMsh),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    /// The same index, byte by byte.
    fn plain(bytes: &[u8], separator: u8) -> Vec<Vec<Range<usize>>> {
        let mut lines = vec![];
        let mut start = 0;
        for end in (0..=bytes.len()).filter(|at| bytes.get(*at).is_none_or(|byte| matches!(byte, b'\r' | b'\n'))) {
            let mut tokens = vec![];
            for token in bytes[start..end].split(|byte| *byte == separator) {
                tokens.push(start..start + token.len());
                start += token.len() + 1;
            }
            if tokens.len() > 1 || !tokens[0].is_empty() {
                lines.push(tokens);
            }
        }
        lines
    }

    fn indexed(index: &Index) -> Vec<Vec<Range<usize>>> {
        let tokens = |number| (0..).map_while(move |token| index.token(number, token)).collect();
        (0..index.segment_count()).map(tokens).collect()
    }

    proptest! {
        #[test]
        fn blocks_find_what_a_byte_at_a_time_finds(
            lines in prop::collection::vec(r"[\r\n]{0,3}|[A-L][A-Z0-9]{2}(\|[ -~\t\x0B\x0C\x00-\x09éÿ]{0,70}){0,4}", 0..8),
        ) {
            let bytes = lines.join("\r").into_bytes();
            prop_assume!(!lines.iter().any(|line| line[..line.len().min(3)].ends_with('S')));
            let index = Index::of(&bytes, 0, b'|').expect("an index");
            prop_assert_eq!(indexed(&index), plain(&bytes, b'|'));
        }

        #[test]
        fn each_byte_of_a_word_has_its_own_bit(bytes in any::<[u8; 8]>(), zero in 0..8_usize) {
            let mut bytes = bytes;
            bytes[zero] = 0;
            let expected = (0..8).filter(|i| bytes[*i] == 0).map(|i| 1 << i).sum::<u64>();
            prop_assert_eq!(zero_bytes(u64::from_le_bytes(bytes)), expected);
        }
    }

    #[test]
    fn every_place_in_a_block_is_found() {
        for length in 0..200 {
            let bytes = format!("OBX|{}|x\rPID", "y".repeat(length)).into_bytes();
            assert_eq!(indexed(&Index::of(&bytes, 0, b'|').unwrap()), plain(&bytes, b'|'), "{length}");
        }
    }
}
