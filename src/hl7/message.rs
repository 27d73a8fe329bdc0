//! The message: the bytes as received and the place of every segment and field (HL7 v2.6 ch. 2.5–2.7).
//!
//! What must never happen: a part of the frame is skipped and the rest taken for the whole message. The index covers
//! every byte, or parsing refuses with the place.

use std::{fmt, ops::Range};

use bytes::Bytes;

use super::{Charset, CharsetError, Segment, charset::structure_of_msh, index::Index};

/// The encoding characters of one message, from MSH-1 and MSH-2 (HL7 v2.6 ch. 2.5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiters {
    /// MSH-1, usually `|`.
    pub field: u8,
    /// Usually `^`.
    pub component: u8,
    /// Usually `~`.
    pub repetition: u8,
    /// Usually `\`.
    pub escape: u8,
    /// Usually `&`; absent in a three-character MSH-2.
    pub subcomponent: Option<u8>,
    /// Usually `#`; v2.7 and later.
    pub truncation: Option<u8>,
}

impl Default for Delimiters {
    fn default() -> Self {
        Delimiters {
            field: b'|',
            component: b'^',
            repetition: b'~',
            escape: b'\\',
            subcomponent: Some(b'&'),
            truncation: None,
        }
    }
}

impl Delimiters {
    /// MSH-2 as sent.
    pub fn encoding_characters(&self) -> impl Iterator<Item = u8> + use<> {
        let always = [self.component, self.repetition, self.escape];
        always.into_iter().chain(self.subcomponent).chain(self.truncation)
    }
}

/// Why the bytes are not an HL7 v2 message, and where. Never carries content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {offset}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Byte offset into the frame.
    pub offset: usize,
    /// 1-based number of the segment, 0 where no segment was reached.
    pub segment: usize,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// Nothing but blanks and line ends.
    #[error("no segment in the frame")]
    Empty,
    /// The first segment is not MSH (table 0357 code 100).
    #[error("the first segment is not MSH")]
    NotMsh,
    /// MSH ends before MSH-2 (101).
    #[error("MSH ends before MSH-2")]
    HeaderTooShort,
    /// MSH-1 is a letter, digit, control character or above 0x7F (102).
    #[error("MSH-1 is not usable as a field separator")]
    FieldSeparator,
    /// MSH-2 has fewer than three, more than five, repeated or unusable characters (102).
    #[error("MSH-2 is not three to five distinct encoding characters")]
    EncodingCharacters,
    /// A segment id is not a letter and two letters or digits (100).
    #[error("a segment id is not a letter and two letters or digits")]
    SegmentId,
    /// A second MSH in one frame (100).
    #[error("a second MSH in one message")]
    SecondMsh,
    /// FHS or BHS: a batch where a message was expected (200).
    #[error("a batch or file header where a message was expected")]
    Batch,
    /// A batch's or file's header within a message, or a trailer where no batch is open (100).
    #[error("a batch's or file's header or trailer outside of its batch")]
    OutsideBatch,
    /// Over 4 GiB, more than the index addresses (104).
    #[error("the message is too long to index")]
    TooLong,
}

/// One HL7 v2 message: the bytes as received and the place of every segment and field.
///
/// ```
/// use cannula::hl7::Message;
/// let message = Message::parse("MSH|^~\\&|PUMP|4W|EHR||20260314||ORU^R01|17|P|2.6\rOBX|1|NM|158^PRESS^MDC||80\r")?;
/// let obx = message.segment("OBX").expect("an OBX");
/// assert_eq!(obx.field(3).component(2).raw(), b"PRESS");
/// # Ok::<(), cannula::hl7::ParseError>(())
/// ```
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    /// Where the index was made and fields are split: `bytes`, unless its character set has delimiters inside characters.
    structure: Bytes,
    delimiters: Delimiters,
    charset: Result<Charset, CharsetError>,
    index: Index,
    /// Where `bytes` are repaired: those received.
    received: Option<Bytes>,
}

impl Message {
    /// Indexes `bytes` (an MLLP frame's content). Segments may end in CR, LF or CRLF; blank lines and a
    /// missing last terminator are taken as they come, and so are blanks and a byte order mark before MSH.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Message, ParseError> {
        let bytes = bytes.into();
        if u32::try_from(bytes.len()).is_err() {
            return Err(ParseError { kind: ParseErrorKind::TooLong, offset: 0, segment: 0 });
        }
        let (start, delimiters) = super::header::delimiters(&bytes)?;
        let index = Index::of(&bytes, start, delimiters.field)?;
        let (structure, charset) = (bytes.clone(), Ok(Charset::UTF_8));
        let message = Message { bytes, structure, delimiters, charset, index, received: None };
        message.read_as(None, Charset::UTF_8)
    }

    /// The same message read in the set its channel rules: `fixed` whatever MSH-18 says, else MSH-18 (its first
    /// repetition), else `default`. Only a set whose characters may hold delimiter bytes makes a new index, which can
    /// fail as `parse` does. A parsed message is read by MSH-18, else as UTF-8.
    pub fn read_as(mut self, fixed: Option<Charset>, default: Charset) -> Result<Message, ParseError> {
        self.charset = fixed.map_or_else(|| self.named_charset(default), Ok);
        let structure = self.charset.ok().and_then(|charset| charset.structure(&self.bytes));
        if let Some(structure) = structure {
            self.structure = structure.into();
            self.reindex()?;
        } else if self.structure.as_ptr() != self.bytes.as_ptr() {
            self.structure = self.bytes.clone();
            self.reindex()?;
        }
        Ok(self)
    }

    /// The bytes as they are read: those received, unless its sender's are repaired.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, shared.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The bytes as received, also where what is read is repaired.
    pub fn received(&self) -> Bytes {
        self.received.as_ref().unwrap_or(&self.bytes).clone()
    }

    /// Whether what is read is not what was received.
    pub fn is_repaired(&self) -> bool {
        self.received.is_some()
    }

    /// What is read in the place of `received`.
    pub fn repaired_from(self, received: Bytes) -> Message {
        Message { received: Some(received), ..self }
    }

    /// The message's own encoding characters.
    pub fn delimiters(&self) -> Delimiters {
        self.delimiters
    }

    /// The set its text is in: its channel's, or the one MSH-18 names, see [`Message::read_as`].
    pub fn charset(&self) -> Result<Charset, CharsetError> {
        self.charset
    }

    /// The segments in the order sent.
    pub fn segments(&self) -> impl ExactSizeIterator<Item = Segment<'_>> + Clone {
        (0..self.index.segment_count()).map(move |number| Segment { message: self, number })
    }

    /// The first segment with this id.
    pub fn segment<'m>(&'m self, id: &str) -> Option<Segment<'m>> {
        self.segments().find(|segment| segment.id_bytes() == id.as_bytes())
    }

    /// MSH, which every parsed message has.
    pub fn msh(&self) -> Segment<'_> {
        Segment { message: self, number: 0 }
    }

    /// Place of every field separator.
    pub(super) fn separators(&self) -> &[u32] {
        self.index.separators()
    }

    pub(super) fn structure(&self) -> &[u8] {
        &self.structure
    }

    pub(super) fn segment_range(&self, number: usize) -> Range<usize> {
        self.index.segment(number)
    }

    pub(super) fn token_range(&self, number: usize, token: usize) -> Option<Range<usize>> {
        self.index.token(number, token)
    }

    pub(super) fn token_count(&self, number: usize) -> usize {
        self.index.token_count(number)
    }

    fn reindex(&mut self) -> Result<(), ParseError> {
        let start = self.segment_range(0).start;
        self.index = Index::of(&self.structure, start, self.delimiters.field)?;
        Ok(())
    }

    fn named_charset(&self, default: Charset) -> Result<Charset, CharsetError> {
        let msh = self.msh().raw();
        let hidden = structure_of_msh(msh, self.delimiters.field);
        let token = hidden.as_ref().map(|hidden| hidden.split(|byte| *byte == self.delimiters.field).nth(17));
        let msh_18 = token.unwrap_or_else(|| Some(self.msh().field(18).raw())).unwrap_or_default();
        if msh_18.is_empty() {
            return Ok(default);
        }
        let names = msh_18.split(|byte| *byte == self.delimiters.repetition).map(|name| std::str::from_utf8(name).ok());
        // An empty one, which stands first before others, is the standard's default (HL7 v2.6 ch. 2.14.9.18).
        let set = |name: &str| Charset::from_label(if name.is_empty() { "ASCII" } else { name });
        let names = names.map(|name| name.and_then(set));
        let sets: Option<Vec<Charset>> = names.collect();
        Charset::of_alternatives(&sets.ok_or(CharsetError::Unknown)?).ok_or(CharsetError::Unknown)
    }
}

impl fmt::Debug for Message {
    /// Shapes only: the content is patient data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} bytes, {} segments)", self.bytes.len(), self.index.segment_count())
    }
}
