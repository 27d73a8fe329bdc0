//! Views over an indexed message: segment, field, repetition, component (HL7 v2.6 ch. 2.5).
//!
//! Nothing here copies or fails: what was not sent is empty. Parts below the field are split when asked for, since most
//! of a device report is never looked at on the way through.

use std::ops::Range;

use super::{Delimiters, Message};

/// One segment of a message.
#[derive(Clone, Copy)]
pub struct Segment<'m> {
    pub(super) message: &'m Message,
    pub(super) number: usize,
}

impl<'m> Segment<'m> {
    /// The message this segment is of.
    pub fn message(&self) -> &'m Message {
        self.message
    }

    /// Three characters, such as `OBX`.
    pub fn id(&self) -> &'m str {
        // Parsing accepted ASCII letters and digits only.
        std::str::from_utf8(self.id_bytes()).unwrap_or("")
    }

    /// 0-based place among all segments of the message.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The segment without its terminator.
    pub fn raw(&self) -> &'m [u8] {
        &self.message.as_bytes()[self.range()]
    }

    /// Place of `raw` in the message's bytes.
    pub fn range(&self) -> Range<usize> {
        self.message.segment_range(self.number)
    }

    /// Field `n`, counted from 1 as the standard does (MSH-1 is the separator itself); empty where it was not sent.
    pub fn field(&self, n: usize) -> Field<'m> {
        let range = self.field_range(n).unwrap_or(0..0);
        let piece = Piece { raw: &self.message.as_bytes()[range.clone()], structure: &self.message.structure()[range] };
        // MSH-1 and MSH-2 hold the delimiters themselves and are one value each (HL7 v2.6 ch. 2.14.9).
        let indivisible = n <= 2 && self.is_msh();
        let separators = if indivisible { Separators::default() } else { Separators::of(self.message.delimiters()) };
        Field { piece, separators }
    }

    /// The bytes of field `n` as sent, for those who look at many and at no part of them.
    pub fn raw_field(&self, n: usize) -> &'m [u8] {
        self.field_range(n).and_then(|range| self.message.as_bytes().get(range)).unwrap_or_default()
    }

    /// Place of field `n` in the message's bytes, if it was sent.
    pub fn field_range(&self, n: usize) -> Option<Range<usize>> {
        match (self.is_msh(), n) {
            (_, 0) => None,
            (true, 1) => {
                let separator = self.range().start + 3;
                Some(separator..separator + 1)
            }
            (true, n) => self.message.token_range(self.number, n - 1),
            (false, n) => self.message.token_range(self.number, n),
        }
    }

    /// Number of the last field sent, counted as `field` counts.
    pub fn field_count(&self) -> usize {
        let tokens = self.message.token_count(self.number);
        if self.is_msh() { tokens } else { tokens - 1 }
    }

    /// The header's fields count from its own separator.
    pub(super) fn is_msh(&self) -> bool {
        self.number == 0
    }

    pub(super) fn id_bytes(&self) -> &'m [u8] {
        let start = self.range().start;
        &self.message.as_bytes()[start..start + 3]
    }
}

/// Bytes as sent, and the same bytes with all that is no delimiter, though it looks like one, hidden
/// (`Charset::structure`).
#[derive(Clone, Copy, Default)]
pub(super) struct Piece<'m> {
    raw: &'m [u8],
    structure: &'m [u8],
}

impl<'m> Piece<'m> {
    pub(super) fn raw(&self) -> &'m [u8] {
        self.raw
    }

    /// The pieces between separators; one for an empty piece.
    pub(super) fn split(self, separator: Option<u8>) -> impl Iterator<Item = Piece<'m>> + Clone + use<'m> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let piece = rest?;
            let end = piece.structure.iter().position(|byte| Some(*byte) == separator);
            rest = end.map(|end| Piece { raw: &piece.raw[end + 1..], structure: &piece.structure[end + 1..] });
            let end = end.unwrap_or(piece.raw.len());
            Some(Piece { raw: &piece.raw[..end], structure: &piece.structure[..end] })
        })
    }

    /// Part `n` from 1; an empty one where there is none.
    fn part(self, separator: Option<u8>, n: usize) -> Piece<'m> {
        let part = n.checked_sub(1).and_then(|n| self.split(separator).nth(n));
        part.unwrap_or(Piece { raw: &self.raw[..0], structure: &self.structure[..0] })
    }
}

/// What divides a field; nothing where a separator is absent.
#[derive(Clone, Copy, Default)]
struct Separators {
    repetition: Option<u8>,
    component: Option<u8>,
    subcomponent: Option<u8>,
}

impl Separators {
    fn of(delimiters: Delimiters) -> Separators {
        Separators {
            repetition: Some(delimiters.repetition),
            component: Some(delimiters.component),
            subcomponent: delimiters.subcomponent,
        }
    }
}

/// One field, its repetitions not yet split.
#[derive(Clone, Copy)]
pub struct Field<'m> {
    piece: Piece<'m>,
    separators: Separators,
}

impl<'m> Field<'m> {
    /// The bytes as sent, escapes and all.
    pub fn raw(&self) -> &'m [u8] {
        self.piece.raw
    }

    /// Nothing was sent. (`""`, HL7's explicit null, is not empty.)
    pub fn is_empty(&self) -> bool {
        self.piece.raw.is_empty()
    }

    pub(super) fn piece(&self) -> Piece<'m> {
        self.piece
    }

    /// The repetitions in order; one empty one for an empty field.
    pub fn repetitions(&self) -> impl Iterator<Item = Repetition<'m>> + Clone + use<'m> {
        let separators = self.separators;
        self.piece.split(separators.repetition).map(move |piece| Repetition { piece, separators })
    }

    /// The first repetition, which most fields have alone.
    pub fn first(&self) -> Repetition<'m> {
        Repetition { piece: self.piece.part(self.separators.repetition, 1), separators: self.separators }
    }

    /// Component `n` (from 1) of the first repetition.
    pub fn component(&self, n: usize) -> Component<'m> {
        self.first().component(n)
    }
}

/// One repetition of a field.
#[derive(Clone, Copy)]
pub struct Repetition<'m> {
    piece: Piece<'m>,
    separators: Separators,
}

impl<'m> Repetition<'m> {
    /// The bytes as sent.
    pub fn raw(&self) -> &'m [u8] {
        self.piece.raw
    }

    /// Nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.piece.raw.is_empty()
    }

    /// Component `n`, from 1; empty where it was not sent.
    pub fn component(&self, n: usize) -> Component<'m> {
        Component { piece: self.piece.part(self.separators.component, n), separators: self.separators }
    }

    /// The components in order.
    pub fn components(&self) -> impl Iterator<Item = Component<'m>> + Clone + use<'m> {
        let separators = self.separators;
        self.piece.split(separators.component).map(move |piece| Component { piece, separators })
    }
}

/// One component of a repetition.
#[derive(Clone, Copy)]
pub struct Component<'m> {
    piece: Piece<'m>,
    separators: Separators,
}

impl<'m> Component<'m> {
    /// The bytes as sent.
    pub fn raw(&self) -> &'m [u8] {
        self.piece.raw
    }

    /// Nothing was sent.
    pub fn is_empty(&self) -> bool {
        self.piece.raw.is_empty()
    }

    /// Subcomponent `n`, from 1; empty where it was not sent.
    pub fn subcomponent(&self, n: usize) -> &'m [u8] {
        self.piece.part(self.separators.subcomponent, n).raw
    }

    /// The subcomponents in order.
    pub fn subcomponents(&self) -> impl Iterator<Item = &'m [u8]> + Clone + use<'m> {
        self.piece.split(self.separators.subcomponent).map(|piece| piece.raw)
    }
}
