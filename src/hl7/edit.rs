//! Edits that leave every untouched byte as it was.
//!
//! An edit writes a new message: the bytes before, between and after the places it names are copied, so their delimiters,
//! escapes, line ends and oddities stay. What must never happen: a written value becomes structure (another field or
//! segment), or a place the path does not name changes.

use std::ops::Range;

use super::{Message, ParseError, Path, Segment, escape, view::Piece};

/// Why an edit could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text has characters the message's character set cannot hold.
    #[error("the text does not fit the message's character set; write ASCII or let the sender use UTF-8")]
    Charset,
    /// The path names no place (MSH-1, MSH-2) that can be written.
    #[error("{0} cannot be written: the message's delimiters stand there")]
    NotWritable(String),
    /// A raw value would end the place it is written to.
    #[error("the value for {0} holds separators that would end it; write it to a higher place or part by part")]
    Structure(String),
    /// What was left is no message.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

/// Writes `text` (escaped and encoded here) at every place `path` leaves open; fields, components and repetitions that
/// are missing are made. A segment that is missing is not: then nothing changes. A path to a field without repetition or
/// component replaces the whole field with all its repetitions.
pub fn set(message: &Message, path: &Path, text: &str) -> Result<Message, EditError> {
    let charset = message.charset().map_err(|_| EditError::Charset)?;
    let escaped = escape(text, &message.delimiters());
    let raw = charset.encode(&escaped).ok_or(EditError::Charset)?;
    let mut edit = Edit::of(message, path)?;
    for segment in path.segments(message) {
        edit.write(segment, &raw)?;
    }
    edit.splices.apply(message)
}

/// Copies the raw value at `from` (with its components) to `to`, as [`set`] writes; a path to a field copies all its
/// repetitions. Where both paths leave the segment of one id open, each segment is copied within itself; else the first
/// segment that `from` names is copied. An empty or missing value empties `to`.
pub fn copy(message: &Message, from: &Path, to: &Path) -> Result<Message, EditError> {
    let mut edit = Edit::of(message, to)?;
    let within = from.segment() == to.segment() && !from.chooses_segment();
    let first = from.segments(message).next();
    for segment in to.segments(message) {
        let source = if within { Some(segment) } else { first };
        edit.write(segment, source.map_or(b"", |source| whole_value(source, from)))?;
    }
    edit.splices.apply(message)
}

/// Empties the field or part at `path` in every place.
pub fn clear(message: &Message, path: &Path) -> Result<Message, EditError> {
    set(message, path, "")
}

/// Removes every segment that `keep` refuses, with its terminator.
pub fn remove_segments(message: &Message, keep: &dyn Fn(Segment<'_>) -> bool) -> Result<Message, EditError> {
    let mut splices = Splices::default();
    for segment in message.segments().filter(|segment| !keep(*segment)) {
        let Range { start, end } = segment.range();
        let terminator = match &message.as_bytes()[end..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        splices.0.push((start..end + terminator, Vec::new()));
    }
    splices.apply(message)
}

/// Rewrites the raw value of each place that is not empty, each repetition of an open field by itself:
/// `change(raw) -> Some(new raw)` or `None` to leave it. The new raw is taken as is (already escaped and encoded).
pub fn rewrite(
    message: &Message,
    path: &Path,
    change: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Result<Message, EditError> {
    let mut edit = Edit::of(message, path)?;
    let levels = edit.levels();
    for segment in path.segments(message) {
        let Some(range) = segment.field_range(path.field()) else { continue };
        let mut checked = |raw: &[u8]| {
            let new = if raw.is_empty() { None } else { change(raw) };
            new.map(|new| edit.check(&new).map(|()| new)).transpose()
        };
        if let Some(field) = rebuild(segment.field(path.field()).piece(), &levels, false, &mut checked)? {
            edit.splices.0.push((range, field));
        }
    }
    edit.splices.apply(message)
}

/// Puts other bytes (already escaped and encoded) in the place of these ranges, in order and apart. What is received stays
/// what was received.
pub fn replace(message: &Message, ranges: Vec<(Range<usize>, Vec<u8>)>) -> Result<Message, EditError> {
    let edited = Splices(ranges).apply(message)?;
    Ok(edited.repaired_from(message.received()))
}

/// The value a path means in one segment, all repetitions of a field together.
fn whole_value<'m>(segment: Segment<'m>, path: &Path) -> &'m [u8] {
    if path.means_whole_field() {
        return segment.field(path.field()).raw();
    }
    path.values_in(segment).next().unwrap_or_default()
}

/// One edit of one message by one path.
struct Edit<'e> {
    message: &'e Message,
    path: &'e Path,
    splices: Splices,
}

impl<'e> Edit<'e> {
    fn of(message: &'e Message, path: &'e Path) -> Result<Edit<'e>, EditError> {
        if path.segment() == "MSH" && path.field() <= 2 {
            return Err(EditError::NotWritable(path.to_string()));
        }
        if path.subcomponent().is_some_and(|n| n > 1) && message.delimiters().subcomponent.is_none() {
            return Err(EditError::Structure(path.to_string()));
        }
        Ok(Edit { message, path, splices: Splices::default() })
    }

    /// Puts `raw` at the path in one segment, which grows as far as it must.
    fn write(&mut self, segment: Segment<'_>, raw: &[u8]) -> Result<(), EditError> {
        self.check(raw)?;
        let n = self.path.field();
        let piece = segment.field(n).piece();
        let levels = if self.path.means_whole_field() { Vec::new() } else { self.levels() };
        let mut change = |old: &[u8]| Ok((old != raw).then(|| raw.to_vec()));
        let Some(mut field) = rebuild(piece, &levels, !raw.is_empty(), &mut change)? else { return Ok(()) };
        let place = segment.field_range(n).unwrap_or_else(|| {
            let missing = n - segment.field_count();
            field.splice(0..0, std::iter::repeat_n(self.message.delimiters().field, missing));
            segment.range().end..segment.range().end
        });
        self.splices.0.push((place, field));
        Ok(())
    }

    /// What the path chooses below the field.
    fn levels(&self) -> Vec<Level> {
        let delimiters = self.message.delimiters();
        let repetition = Level { separator: Some(delimiters.repetition), chosen: self.path.repetition() };
        let component = Level { separator: Some(delimiters.component), chosen: self.path.component() };
        let subcomponent = Level { separator: delimiters.subcomponent, chosen: self.path.subcomponent() };
        let below = [component, subcomponent].into_iter().take_while(|level| level.chosen.is_some());
        std::iter::once(repetition).chain(below).collect()
    }

    /// Lets through only what stays inside the place the path means.
    fn check(&self, raw: &[u8]) -> Result<(), EditError> {
        let delimiters = self.message.delimiters();
        // Followed by a separator, which a stray half of a wide character at the end would hide.
        let closed = [raw, &[delimiters.field]].concat();
        let structure = self.message.charset().ok().and_then(|charset| charset.structure(&closed));
        let ends_place = |byte: &u8| match *byte {
            b'\r' | b'\n' => true,
            byte if byte == delimiters.field => true,
            byte if byte == delimiters.repetition => !self.path.means_whole_field(),
            byte if byte == delimiters.component => self.path.component().is_some(),
            byte if Some(byte) == delimiters.subcomponent => self.path.subcomponent().is_some(),
            _ => false,
        };
        match structure.unwrap_or(closed).iter().position(ends_place) {
            Some(end) if end == raw.len() => Ok(()),
            _ => Err(EditError::Structure(self.path.to_string())),
        }
    }
}

/// One way a field is divided, and the part chosen, from 1; every part where none is.
struct Level {
    separator: Option<u8>,
    chosen: Option<usize>,
}

type Change<'c> = &'c mut dyn FnMut(&[u8]) -> Result<Option<Vec<u8>>, EditError>;

/// The piece with its chosen parts changed; `None` where nothing changed. With `making`, a part that was not sent is
/// made together with the separators before it.
fn rebuild(piece: Piece<'_>, levels: &[Level], making: bool, change: Change<'_>) -> Result<Option<Vec<u8>>, EditError> {
    let Some((level, deeper)) = levels.split_first() else { return change(piece.raw()) };
    let mut rebuilt = Vec::with_capacity(piece.raw().len() + 32);
    let (mut count, mut changed) = (0, false);
    for part in piece.split(level.separator) {
        rebuilt.extend(level.separator.filter(|_| count > 0));
        count += 1;
        let chosen = level.chosen.is_none_or(|n| n == count);
        let new = if chosen { rebuild(part, deeper, making, change)? } else { None };
        changed |= new.is_some();
        rebuilt.extend_from_slice(new.as_deref().unwrap_or(part.raw()));
    }
    if let Some(missing) = level.chosen.and_then(|n| n.checked_sub(count)).filter(|missing| making && *missing > 0) {
        let new = rebuild(Piece::default(), deeper, making, change)?;
        changed |= new.is_some();
        rebuilt.extend((0..missing).filter_map(|_| level.separator));
        rebuilt.extend(new.unwrap_or_default());
    }
    Ok(changed.then_some(rebuilt))
}

/// What replaces which bytes, in order and apart.
#[derive(Default)]
struct Splices(Vec<(Range<usize>, Vec<u8>)>);

impl Splices {
    fn apply(self, message: &Message) -> Result<Message, EditError> {
        if self.0.is_empty() {
            return Ok(message.clone());
        }
        let old = message.as_bytes();
        let grown: usize = self.0.iter().map(|(_, new)| new.len()).sum();
        let mut bytes = Vec::with_capacity(old.len() + grown);
        let mut copied = 0;
        for (range, new) in self.0 {
            bytes.extend_from_slice(&old[copied..range.start]);
            bytes.extend_from_slice(&new);
            copied = range.end;
        }
        bytes.extend_from_slice(&old[copied..]);
        let edited = Message::parse(bytes)?;
        // The bytes are still in the set they were read in, also where that was the channel's or MSH-18 was edited.
        Ok(edited.read_as(message.charset().ok(), super::Charset::UTF_8)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const REPORT: &str = "MSH|^~\\&|PUMP|4W|EHR||20260314||ORU^R01|17|P|2.6\nPID|||42^^^HOSP~77||Doe^Jane\r\n\r\nOBX|1|NM|157^RATE\rOBX\rOBX|2|ST|158^A&B||x\\T\\y||";

    fn path(text: &str) -> Path {
        Path::parse(text).unwrap()
    }

    fn report() -> Message {
        Message::parse(REPORT).unwrap()
    }

    fn text(edited: Result<Message, EditError>) -> String {
        String::from_utf8(edited.expect("an edit").as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_value_is_replaced_and_nothing_else() {
        assert_eq!(text(set(&report(), &path("PID-5.2"), "John")), REPORT.replace("Jane", "John"));
        assert_eq!(text(set(&report(), &path("MSH-12"), "2.3")), REPORT.replace("2.6", "2.3"));
        assert_eq!(text(set(&report(), &path("OBX(OBX-3.1=158)-3.2.1"), "Z")), REPORT.replace("A&B", "Z&B"));
    }

    #[test]
    fn what_is_missing_is_made_but_never_a_segment() {
        assert_eq!(text(set(&report(), &path("PID-8"), "F")), REPORT.replace("Jane", "Jane|||F"));
        assert_eq!(text(set(&report(), &path("PID-3[4].4.2"), "o")), REPORT.replace("~77", "~77~~^^^&o"));
        assert_eq!(text(set(&report(), &path("OBX[2]-2"), "NM")), REPORT.replace("OBX\r", "OBX||NM\r"));
        assert_eq!(text(set(&report(), &path("MSH-14.2"), "c")), REPORT.replace("2.6", "2.6||^c"));
        assert_eq!(text(set(&report(), &path("ZZZ-1"), "x")), REPORT);
    }

    #[test]
    fn every_place_left_open_is_written() {
        assert_eq!(text(set(&report(), &path("PID-3.4"), "N")), REPORT.replace("42^^^HOSP~77", "42^^^N~77^^^N"));
        assert_eq!(text(set(&report(), &path("PID-3"), "9")), REPORT.replace("42^^^HOSP~77", "9"));
        let edited = text(set(&report(), &path("OBX-11"), "F"));
        assert_eq!(edited.matches('F').count(), 3);
    }

    #[test]
    fn text_is_escaped_and_encoded_on_its_way_in() {
        assert_eq!(text(set(&report(), &path("PID-5.1"), "a|b^\r")), REPORT.replace("Doe", r"a\F\b\S\\X0D\"));
        let latin = Message::parse("MSH|^~\\&|A||||||ADT|1|P|2.6||||||8859/1\rPID|1\r").unwrap();
        assert!(set(&latin, &path("PID-5"), "Müller").unwrap().as_bytes().ends_with(b"PID|1||||M\xFCller\r"));
        assert_eq!(set(&latin, &path("PID-5"), "山").unwrap_err(), EditError::Charset);
    }

    #[test]
    fn a_copy_takes_the_components_along() {
        assert_eq!(text(copy(&report(), &path("PID-5"), &path("PID-9"))), REPORT.replace("Jane", "Jane||||Doe^Jane"));
        assert_eq!(text(copy(&report(), &path("PID-3"), &path("PID-2"))), REPORT.replace("|||42", "||42^^^HOSP~77|42"));
        assert_eq!(
            text(copy(&report(), &path("OBX-3.1"), &path("OBX-1"))),
            REPORT.replace("|1|NM", "|157|NM").replace("|2|ST", "|158|ST")
        );
        assert_eq!(text(copy(&report(), &path("MSH-10"), &path("PID-1"))), REPORT.replace("PID||", "PID|17|"));
    }

    #[test]
    fn a_copy_of_nothing_empties_its_target() {
        assert_eq!(text(copy(&report(), &path("PID-30"), &path("PID-5"))), REPORT.replace("Doe^Jane", ""));
        assert_eq!(text(copy(&report(), &path("ZZZ-1"), &path("PID-35"))), REPORT);
    }

    #[test]
    fn a_copy_that_would_end_its_place_is_refused() {
        for (from, to) in [("PID-5", "PID-9.1"), ("PID-3", "PID-9[1]"), ("OBX[3]-3.2", "PID-9.1.1")] {
            assert!(matches!(copy(&report(), &path(from), &path(to)), Err(EditError::Structure(_))), "{from} {to}");
        }
    }

    #[test]
    fn clearing_keeps_the_place_and_makes_none() {
        assert_eq!(text(clear(&report(), &path("PID-5.1"))), REPORT.replace("Doe", ""));
        assert_eq!(text(clear(&report(), &path("PID-3"))), REPORT.replace("42^^^HOSP~77", ""));
        assert_eq!(text(clear(&report(), &path("PID-3.1"))), REPORT.replace("42^^^HOSP~77", "^^^HOSP~"));
        assert_eq!(text(clear(&report(), &path("PID-33.2"))), REPORT);
    }

    #[test]
    fn a_removed_segment_takes_only_its_own_terminator() {
        assert_eq!(
            text(remove_segments(&report(), &|segment| segment.id() != "PID")),
            REPORT.replace("PID|||42^^^HOSP~77||Doe^Jane\r\n", "")
        );
        assert_eq!(text(remove_segments(&report(), &|segment| segment.field_count() > 0)), REPORT.replace("OBX\r", ""));
        assert!(remove_segments(&report(), &|segment| segment.id() != "MSH").is_err());
    }

    #[test]
    fn each_value_is_rewritten_by_itself_and_empty_ones_are_left() {
        let mut seen = Vec::new();
        let edited = rewrite(&report(), &path("PID-3"), &mut |raw| {
            seen.push(raw.to_vec());
            (raw == b"77").then(|| b"88^x".to_vec())
        });
        assert_eq!(text(edited), REPORT.replace("77", "88^x"));
        assert_eq!(seen, [&b"42^^^HOSP"[..], b"77"]);
        let mut empty = |_: &[u8]| -> Option<Vec<u8>> { panic!("an empty value was offered") };
        assert_eq!(text(rewrite(&report(), &path("OBX-6"), &mut empty)), REPORT);
        assert_eq!(text(rewrite(&report(), &path("PID-3[1].2"), &mut empty)), REPORT);
    }

    #[test]
    fn a_rewrite_cannot_make_structure() {
        for structure in [&b"a\rPID"[..], b"a\n", b"a|b", b"a^b"] {
            let edited = rewrite(&report(), &path("PID-5.1"), &mut |_| Some(structure.to_vec()));
            assert_eq!(edited.unwrap_err(), EditError::Structure("PID-5.1".to_owned()));
        }
    }

    #[test]
    fn half_a_wide_character_cannot_hide_the_separator_behind_it() {
        for (charset, half) in [("BIG-5", &b"\xA4"[..]), ("ISO IR87", b"\x1B$B;3")] {
            let text = format!("MSH|^~\\&|A||||||ADT|1|P|2.6||||||{charset}\rPID|1|x|y\r");
            let edited = rewrite(&Message::parse(text).unwrap(), &path("PID-2"), &mut |_| Some(half.to_vec()));
            assert_eq!(edited.unwrap_err(), EditError::Structure("PID-2".to_owned()), "{charset}");
        }
        let big5 = Message::parse("MSH|^~\\&|A||||||ADT|1|P|2.6||||||BIG-5\rPID|1|x|y\r").unwrap();
        let edited = set(&big5, &path("PID-2.1"), "功老").unwrap();
        assert_eq!(edited.as_bytes(), &b"MSH|^~\\&|A||||||ADT|1|P|2.6||||||BIG-5\rPID|1|\xA5\x5C\xA6\xD1|y\r"[..]);
    }

    #[test]
    fn the_delimiters_themselves_are_not_written() {
        for at in ["MSH-1", "MSH-2", "MSH-2.1"] {
            assert!(matches!(set(&report(), &path(at), "x"), Err(EditError::NotWritable(_))), "{at}");
        }
    }

    #[test]
    fn an_edited_message_is_still_read_in_its_channels_set() {
        let latin = super::super::Charset::from_label("8859/1").unwrap();
        let message = Message::parse(&b"MSH|^~\\&|A||||||ADT|1|P|2.6\rPID|1||||M\xFCller\r"[..]).unwrap();
        let message = message.read_as(Some(latin), latin).unwrap();
        let edited = set(&message, &path("PID-1"), "é").unwrap();
        assert_eq!(edited.first_text(&path("PID-1")).as_deref(), Some("é"));
        assert_eq!(edited.first_text(&path("PID-5")).as_deref(), Some("Müller"));
    }
}
