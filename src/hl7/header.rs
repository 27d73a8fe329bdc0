//! The routing fields of MSH, read without indexing the message, and as much of them as can be had from a message that
//! cannot be parsed, so that its sender still gets an answer it can match.
//!
//! What must never happen: a message is answered in the name of another, so only MSH itself is read.

use bytes::Bytes;

use super::{Delimiters, ParseError, ParseErrorKind, charset::structure_of_msh};

/// MSH as raw bytes. A field that was not sent is empty.
#[derive(Clone, Copy, Default)]
pub struct Header<'m> {
    /// The encoding characters; the usual ones where they could not be read.
    pub delimiters: Delimiters,
    /// MSH fields, `fields[n]` being MSH-n; 1 holds the separator.
    fields: [&'m [u8]; 26],
}

impl<'m> Header<'m> {
    /// Reads MSH only. The header is as complete as the bytes allow; the error says why it is not a usable one.
    pub fn read(bytes: &'m [u8]) -> (Header<'m>, Option<ParseError>) {
        match delimiters(bytes) {
            Ok((start, delimiters)) => (Header::of(&bytes[start..], delimiters), None),
            Err(error) if error.kind == ParseErrorKind::EncodingCharacters => {
                // The field separator is good, so the control id can still be told.
                let msh = &bytes[error.offset - 4..];
                (Header::of(msh, usual_beside(msh[3])), Some(error))
            }
            Err(error) => (Header::default(), Some(error)),
        }
    }

    /// MSH-`n` as sent, 1 to 25.
    pub fn field(&self, n: usize) -> &'m [u8] {
        self.fields.get(n).copied().unwrap_or_default()
    }

    /// Component `n`, from 1, of the first repetition of MSH-`field`.
    pub fn component(&self, field: usize, n: usize) -> &'m [u8] {
        let mut repetitions = self.field(field).split(|byte| *byte == self.delimiters.repetition);
        let mut components = repetitions.next().unwrap_or_default().split(|byte| *byte == self.delimiters.component);
        n.checked_sub(1).and_then(|n| components.nth(n)).unwrap_or_default()
    }

    fn of(msh: &'m [u8], delimiters: Delimiters) -> Header<'m> {
        let mut header = Header { delimiters, ..Header::default() };
        let line = &msh[..memchr::memchr2(b'\r', b'\n', msh).unwrap_or(msh.len())];
        header.fields[1] = &line[3..4];
        let hidden = structure_of_msh(line, delimiters.field);
        let structure = hidden.as_deref().unwrap_or(line);
        let mut start = 4;
        for (slot, field) in header.fields[2..].iter_mut().zip(structure[4..].split(|byte| *byte == delimiters.field)) {
            *slot = &line[start..start + field.len()];
            start += field.len() + 1;
        }
        header
    }
}

/// Where MSH starts (after blanks and a byte order mark) and its encoding characters.
pub(super) fn delimiters(bytes: &[u8]) -> Result<(usize, Delimiters), ParseError> {
    let mut start = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    start += bytes[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n' | b' ' | b'\t')).count();
    let msh = &bytes[start..];
    let fault = |kind, at: usize, segment| Err(ParseError { kind, offset: start + at, segment });
    match msh {
        [] => fault(ParseErrorKind::Empty, 0, 0),
        [b'F' | b'B', b'H', b'S', ..] => fault(ParseErrorKind::Batch, 0, 1),
        [b'F' | b'B', b'T', b'S', ..] => fault(ParseErrorKind::OutsideBatch, 0, 1),
        [b'M', b'S', b'H', field, ..] if !usable(*field) => fault(ParseErrorKind::FieldSeparator, 3, 1),
        [b'M', b'S', b'H', field, rest @ ..] => match encoding_characters(*field, rest) {
            Ok(delimiters) => Ok((start, delimiters)),
            Err(kind) => fault(kind, 4, 1),
        },
        b"MSH" => fault(ParseErrorKind::HeaderTooShort, 3, 1),
        _ => fault(ParseErrorKind::NotMsh, 0, 1),
    }
}

/// A message as it may be sent: without a byte order mark or blanks before MSH, which are no part of it.
pub fn from_msh(message: Bytes) -> Bytes {
    match delimiters(&message) {
        Ok((start, _)) => message.slice(start..),
        Err(_) => message,
    }
}

/// MSH-2 out of what follows MSH-1.
fn encoding_characters(field: u8, rest: &[u8]) -> Result<Delimiters, ParseErrorKind> {
    let end = rest.iter().position(|byte| *byte == field || matches!(byte, b'\r' | b'\n'));
    let Some(encoding) = end.filter(|end| rest[*end] == field).map(|end| &rest[..end]) else {
        return Err(ParseErrorKind::HeaderTooShort);
    };
    if !(3..=5).contains(&encoding.len()) {
        return Err(ParseErrorKind::EncodingCharacters);
    }
    let distinct = encoding.iter().enumerate().all(|(i, byte)| usable(*byte) && !encoding[..i].contains(byte));
    if !distinct {
        return Err(ParseErrorKind::EncodingCharacters);
    }
    Ok(Delimiters {
        field,
        component: encoding[0],
        repetition: encoding[1],
        escape: encoding[2],
        subcomponent: encoding.get(3).copied(),
        truncation: encoding.get(4).copied(),
    })
}

/// The usual encoding characters for an answer with this field separator, `|` standing in for one that is the same.
fn usual_beside(field: u8) -> Delimiters {
    let usual = Delimiters::default();
    let other = |byte| if byte == field { usual.field } else { byte };
    Delimiters {
        field,
        component: other(usual.component),
        repetition: other(usual.repetition),
        escape: other(usual.escape),
        subcomponent: usual.subcomponent.map(other),
        truncation: None,
    }
}

fn usable(delimiter: u8) -> bool {
    delimiter.is_ascii_graphic() && !delimiter.is_ascii_alphanumeric()
}
