//! The one walk that finds a message's quirks: intake counts them by it, reading repairs by it, `explain` tells them by it.
//!
//! Each message goes through here, so a clean one must cost next to nothing: fields are looked at in place, and nothing is
//! kept.

use std::ops::Range;

use super::{
    Quirk, Rules, misframed,
    zone::{is_zoned, retime},
};
use crate::hl7::{Message, Segment};

/// Where a quirk was met, and what is read there.
pub(super) struct Spot<'s> {
    range: Range<usize>,
    field: Option<(Segment<'s>, usize)>,
    new: Option<Vec<u8>>,
}

impl Spot<'_> {
    /// What is put in the place of what was sent.
    pub(super) fn change(self) -> Option<(Range<usize>, Vec<u8>)> {
        Some((self.range, self.new?))
    }

    pub(super) fn offset(&self) -> usize {
        self.range.start
    }

    pub(super) fn read(&self) -> Option<String> {
        let new = self.new.as_ref().filter(|_| self.field.is_some())?;
        Some(String::from_utf8_lossy(new).into_owned())
    }

    /// Such as `OBX[3]-14`, or the segment where no field is meant.
    pub(super) fn place(&self, message: &Message) -> String {
        let at = |segment: &Segment<'_>| segment.range().end >= self.range.start;
        let Some(segment) = self.field.map(|(segment, _)| segment).or_else(|| message.segments().find(at)) else {
            return String::new();
        };
        let before = message.segments().take(segment.number() + 1);
        let nth = before.filter(|other| other.id() == segment.id()).count();
        let name = if segment.id() == "MSH" { "MSH".to_owned() } else { format!("{}[{nth}]", segment.id()) };
        self.field.map_or(name.clone(), |(_, n)| format!("{name}-{n}"))
    }
}

/// Tells every quirk of the message but those of its text's legality; places of one kind of line end are told once.
pub(super) fn scan<'m>(rules: &Rules, message: &'m Message, tell: &mut impl FnMut(Quirk, Spot<'m>)) {
    let mut whole = |quirk, at: usize| tell(quirk, Spot { range: at..at, field: None, new: None });
    lines(message, &mut whole);
    misframed(message).for_each(|(quirk, at)| whole(quirk, at));
    if message.msh().raw_field(18).is_empty() && !message.as_bytes()[message.msh().range().start..].is_ascii() {
        whole(Quirk::CharsetUnnamed, 0);
    }
    if rules.accepted.has(Quirk::ControlCharacter) {
        controls(message, tell);
    }
    let mut walk = Walk { rules, message, zoned: is_zoned(message.msh().field(7).component(1).raw()), tell };
    message.segments().for_each(|segment| walk.segment(segment));
}

/// Line ends, blank lines, what is before MSH and behind the last segment.
fn lines(message: &Message, tell: &mut impl FnMut(Quirk, usize)) {
    let bytes = message.as_bytes();
    let mark = if bytes.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    if mark > 0 {
        tell(Quirk::ByteOrderMark, 0);
    }
    if let Some(at) = memchr::memchr(b'\n', bytes) {
        tell(Quirk::LineFeed, at);
    }
    let (mut end, mut blank) = (mark, None);
    for segment in message.segments() {
        let Range { start, end: next } = segment.range();
        let plain = match &bytes[end..start] {
            [] => segment.number() == 0,
            [b'\r' | b'\n'] | b"\r\n" => segment.number() > 0,
            _ => false,
        };
        blank = blank.or((!plain).then_some(end));
        end = next;
    }
    match &bytes[end..] {
        [] => tell(Quirk::NoTerminator, end),
        [b'\r' | b'\n'] | b"\r\n" => {}
        _ => blank = blank.or(Some(end)),
    }
    blank.into_iter().for_each(|at| tell(Quirk::BlankLine, at));
}

/// Control characters that an escape can say.
fn controls<'m>(message: &'m Message, tell: &mut impl FnMut(Quirk, Spot<'m>)) {
    let shifts = message.charset().is_ok_and(|set| set.shifts());
    let escape = message.delimiters().escape;
    for (at, byte) in message.as_bytes().iter().enumerate().filter(|(_, byte)| **byte < b' ') {
        if matches!(byte, b'\r' | b'\n' | b'\t' | 0x0B | 0x1C) || shifts && *byte == 0x1B {
            continue;
        }
        let hex = format!("X{byte:02X}");
        let new = Some([&[escape], hex.as_bytes(), &[escape]].concat());
        tell(Quirk::ControlCharacter, Spot { range: at..at + 1, field: None, new });
    }
}

struct Walk<'w, 'm, T> {
    rules: &'w Rules,
    message: &'m Message,
    /// MSH-7 gives the message a zone.
    zoned: bool,
    tell: &'w mut T,
}

impl<'m, T: FnMut(Quirk, Spot<'m>)> Walk<'_, 'm, T> {
    fn segment(&mut self, segment: Segment<'m>) {
        match segment.id() {
            "OBX" => self.observation(segment),
            "OBR" => self.times(segment, &[7, 8, 6, 14, 22]),
            "MSH" => self.times(segment, &[7]),
            "EVN" => self.times(segment, &[2, 6]),
            "ORC" => self.times(segment, &[9]),
            "PV1" => self.times(segment, &[44, 45]),
            "PRT" => self.times(segment, &[11, 12]),
            _ => {}
        }
    }

    fn observation(&mut self, obx: Segment<'m>) {
        self.times(obx, &[14, 19]);
        if matches!(obx.raw_field(2), b"DTM" | b"TS" | b"DR") {
            self.times(obx, &[5]);
        }
        if obx.raw_field(11) == b"X" && !obx.raw_field(5).is_empty() {
            self.at(Quirk::ValueWithX, obx, 5);
        }
        let place = obx.raw_field(4);
        if !place.is_empty() && !is_dotted(place) && is_mdc(obx) {
            self.at(Quirk::Obx4Form, obx, 4);
        }
    }

    /// Each time of these fields; repetitions and, of a range, both ends.
    fn times(&mut self, segment: Segment<'m>, fields: &[usize]) {
        for n in fields {
            if is_usual(segment.raw_field(*n), self.zoned) {
                continue;
            }
            let field = segment.field(*n);
            let ends = if *n == 5 { 2 } else { 1 };
            for repetition in field.repetitions() {
                for component in repetition.components().take(ends) {
                    self.time(segment, *n, component.raw());
                }
            }
        }
    }

    fn time(&mut self, segment: Segment<'m>, n: usize, raw: &'m [u8]) {
        let Some(retimed) = retime(raw, self.zoned, self.rules) else { return };
        let start = raw.as_ptr() as usize - self.message.as_bytes().as_ptr() as usize;
        for quirk in retimed.quirks.into_iter().flatten() {
            let (range, new) = (start..start + raw.len(), retimed.text.clone());
            (self.tell)(quirk, Spot { range, field: Some((segment, n)), new });
        }
    }

    fn at(&mut self, quirk: Quirk, segment: Segment<'m>, n: usize) {
        let range = segment.field_range(n).unwrap_or(0..0);
        (self.tell)(quirk, Spot { range, field: Some((segment, n)), new: None });
    }
}

/// Whether a field holds one time that is as it should be, or none: nearly always, so it is told at a glance.
fn is_usual(raw: &[u8], zoned: bool) -> bool {
    match raw.len() {
        0..12 => true,
        19 => matches!(raw[14], b'+' | b'-'),
        12..17 => zoned && raw.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// Four to six numbers, as IHE PCD TF-2 B.8.1 has them.
fn is_dotted(place: &[u8]) -> bool {
    let (mut dots, mut digits) = (0, 0);
    for byte in place {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'.' if digits > 0 => (dots, digits) = (dots + 1, 0),
            _ => return false,
        }
    }
    digits > 0 && (3..=5).contains(&dots)
}

fn is_mdc(obx: Segment<'_>) -> bool {
    obx.field(3).first().components().any(|component| component.raw() == b"MDC")
}
