//! OBX-5 by OBX-2 as `value[x]`. A value of the wrong type refuses the message; nothing is guessed from a string.

use super::{TranslateError, Translation, attachment, concept, refuse, time, time::Effective, unit::Unit};
use crate::{
    fhir::{
        Attachment, CodeableConcept, Coding, Decimal, Period, Quantity, Range, Ratio, ReferenceRange, SampledData,
        Text, Value, systems,
    },
    hl7::Repetition,
    pcd::{Coded, Row},
};

/// What OBX-5 holds.
#[derive(Clone, PartialEq)]
pub(super) enum Content<'a> {
    Empty,
    One(Value<'a>),
    /// One for each repetition.
    Several(Vec<Value<'a>>),
    /// Documents and pictures, which R4 has no value for.
    Attachments(Vec<Attachment<'a>>),
    /// Not a number, or an infinity: the data-absent-reason that says so.
    Exceptional(&'static str),
}

/// Everything OBX-5 is read with.
pub(super) struct Reading<'t, 'a> {
    pub(super) translation: &'t Translation<'a>,
    pub(super) row: &'t Row<'a>,
    pub(super) unit: &'t Unit<'a>,
    pub(super) effective: &'t Effective,
    /// From OBX-8.
    pub(super) comparator: Option<&'static str>,
}

impl<'a> Reading<'_, 'a> {
    pub(super) fn content(&self) -> Result<Content<'a>, TranslateError> {
        let field = self.row.obx.field(5);
        if self.row.obx.raw(5).is_empty() {
            return Ok(Content::Empty);
        }
        let kind = self.row.obx.raw(2);
        match kind {
            b"" => {
                return Err(self.refuse(2, "OBX-5 has a value but OBX-2 names no type; ask the sender to fill OBX-2"));
            }
            b"NA" | b"MA" => return self.samples(kind == b"MA").map(Content::One),
            b"ED" | b"RP" => return self.attachments(kind == b"RP"),
            b"TX" | b"FT" => return Ok(self.lines()),
            _ => {}
        }
        let mut values = Vec::new();
        for repetition in field.repetitions().filter(|repetition| !repetition.is_empty()) {
            match self.value(kind, repetition)? {
                Ok(value) => values.extend(value),
                Err(exceptional) => return Ok(Content::Exceptional(exceptional)),
            }
        }
        Ok(match values.len() {
            0 => Content::Empty,
            1 => values.into_iter().next().map_or(Content::Empty, Content::One),
            _ => Content::Several(values),
        })
    }

    /// OBX-7. Of a device these are alarm limits, and a reader must not take them for what is normal.
    pub(super) fn limits(&self) -> Vec<ReferenceRange<'a>> {
        let raw = self.row.obx.raw(7);
        if raw.is_empty() {
            return Vec::new();
        }
        let text = self.translation.text(raw);
        let limit = |digits: &str| Decimal::parse(digits).and_then(|value| self.unit.quantity(value, None));
        let (low, high) = bounds(&text).map_or((None, None), |(low, high)| (limit(low), limit(high)));
        let kind = self.translation.is_device_row(self.row);
        let kind = kind.then(|| Coding::of(systems::REFERENCE_RANGE_TYPE, "alarm-limits").into());
        let said = low.is_some() || high.is_some();
        if !said && text.is_empty() {
            return Vec::new();
        }
        vec![ReferenceRange { low, high, kind, text: Some(text) }]
    }

    fn value(
        &self,
        kind: &[u8],
        repetition: Repetition<'a>,
    ) -> Result<Result<Option<Value<'a>>, &'static str>, TranslateError> {
        let text = self.translation.text(repetition.raw());
        Ok(Ok(match kind {
            b"NM" => match exceptional(&text) {
                Some(exceptional) => return Ok(Err(exceptional)),
                None => Some(Value::Quantity(self.number(&text)?)),
            },
            b"SN" => Some(self.structured(repetition)?),
            b"NR" => Some(Value::Range(self.range(repetition)?)),
            b"ID" if self.translation.settings.yes_no_boolean && matches!(&*text, "Y" | "N") => {
                Some(Value::Boolean(text == "Y"))
            }
            b"CWE" | b"CE" | b"CNE" | b"CF" | b"IS" | b"ID" => self.concept(repetition),
            b"ST" => (!text.is_empty()).then_some(Value::Text(text)),
            b"DT" | b"DTM" | b"TS" => {
                let at = repetition.component(1).raw();
                Some(Value::DateTime(time::date_time(self.translation, at, self.row.place_of(5))?))
            }
            b"TM" => Some(Value::Time(
                clock(&text).ok_or_else(|| self.refuse(5, "is no time of day (TM); ask the sender to mend it"))?,
            )),
            b"DR" => Some(Value::Period(self.period(repetition)?)),
            kind if JOINED.contains(&kind) => self.joined(repetition),
            _ => return Err(self.refuse(2, "is no data type that OBX-5 may have; ask the sender to mend it")),
        }))
    }

    /// `<40` under NM can mean only one thing; anything else that is no number refuses the message.
    fn number(&self, text: &str) -> Result<Quantity<'a>, TranslateError> {
        let (comparator, digits) = comparator(text);
        let value = Decimal::parse(digits)
            .ok_or_else(|| self.refuse(5, "is no number, but OBX-2 is NM; ask the sender to mend it"))?;
        self.quantity(value, comparator.or(self.comparator))
    }

    fn quantity(&self, value: Decimal, comparator: Option<&'static str>) -> Result<Quantity<'a>, TranslateError> {
        self.unit
            .quantity(value, comparator)
            .ok_or_else(|| self.refuse(5, "has more digits than can be converted; remove its unit from `convert`"))
    }

    /// SN: comparator ^ number ^ separator ^ number (v2.6 ch. 2A.69).
    fn structured(&self, repetition: Repetition<'a>) -> Result<Value<'a>, TranslateError> {
        let part = |n| self.translation.text(repetition.component(n).raw());
        let (comparator, first, separator, second) = (part(1), part(2), part(3), part(4));
        let quantity = |digits: &str| {
            let value = Decimal::parse(digits).ok_or_else(|| {
                self.refuse(5, "has a part that is no number, but OBX-2 is SN; ask the sender to mend it")
            })?;
            self.quantity(value, None)
        };
        let words = || Value::Text(Text::Owned([&*comparator, &*first, &*separator, &*second].concat()));
        let known = match &*comparator {
            "" | "=" => None,
            "<" => Some("<"),
            "<=" => Some("<="),
            ">" => Some(">"),
            ">=" => Some(">="),
            _ => return Ok(words()),
        };
        Ok(match &*separator {
            "" if second.is_empty() => {
                Value::Quantity(Quantity { comparator: known.or(self.comparator), ..quantity(&first)? })
            }
            "-" if known.is_none() => Value::Range(self.ordered(quantity(&first)?, quantity(&second)?)?),
            // A ratio's parts have no unit of their own: OBX-6 is that of the whole.
            ":" | "/" if known.is_none() => {
                Value::Ratio(Ratio { numerator: bare(quantity(&first)?), denominator: bare(quantity(&second)?) })
            }
            _ => words(),
        })
    }

    fn range(&self, repetition: Repetition<'a>) -> Result<Range<'a>, TranslateError> {
        let side = |n| {
            let digits = self.translation.text(repetition.component(n).raw());
            match (&*digits, Decimal::parse(&digits)) {
                ("", _) => Ok(None),
                (_, Some(value)) => self.quantity(value, None).map(Some),
                _ => Err(self.refuse(5, "has a part that is no number, but OBX-2 is NR; ask the sender to mend it")),
            }
        };
        match (side(1)?, side(2)?) {
            (Some(low), Some(high)) => self.ordered(low, high),
            (low, high) => Ok(Range { low, high }),
        }
    }

    /// rng-2: low is not above high.
    fn ordered(&self, low: Quantity<'a>, high: Quantity<'a>) -> Result<Range<'a>, TranslateError> {
        match (&low.value, &high.value) {
            (Some(a), Some(b)) if a.is_above(b) => {
                Err(self.refuse(5, "is a range whose low end is above its high end; ask the sender to mend it"))
            }
            _ => Ok(Range { low: Some(low), high: Some(high) }),
        }
    }

    fn concept(&self, repetition: Repetition<'a>) -> Option<Value<'a>> {
        let concept: CodeableConcept<'a> = concept::concept(self.translation, &Coded::read(repetition));
        (!concept.is_empty()).then_some(Value::Concept(concept))
    }

    fn joined(&self, repetition: Repetition<'a>) -> Option<Value<'a>> {
        let parts = repetition.components().map(|component| self.translation.text(component.raw()));
        let text = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(Value::Text(text.into()))
    }

    fn lines(&self) -> Content<'a> {
        let lines = self.row.obx.field(5).repetitions().map(|line| self.translation.text(line.raw()));
        let text = lines.collect::<Vec<_>>().join("\n");
        if text.trim().is_empty() { Content::Empty } else { Content::One(Value::Text(text.into())) }
    }

    fn period(&self, repetition: Repetition<'a>) -> Result<Period, TranslateError> {
        let side = |n| {
            let raw = repetition.component(n).raw();
            (!raw.is_empty()).then(|| time::date_time(self.translation, raw, self.row.place_of(5))).transpose()
        };
        Ok(Period { start: side(1)?, end: side(2)? })
    }

    /// NA: samples of one signal. MA: of several, a repetition for each sampling. The samples share [OBR-7, OBR-8)
    /// evenly (TF-2 B.7).
    fn samples(&self, several: bool) -> Result<Value<'a>, TranslateError> {
        let mut data = String::with_capacity(self.row.obx.field(5).raw().len());
        let (mut count, mut dimensions) = (0_usize, 1);
        for repetition in self.row.obx.field(5).repetitions().filter(|repetition| !repetition.is_empty()) {
            let before = count;
            for component in repetition.components() {
                let text = self.translation.text(component.raw());
                let sample = sample(&text)
                    .ok_or_else(|| self.refuse(5, "has a sample that is no number; ask the sender to mend it"))?;
                if count > 0 {
                    data.push(' ');
                }
                data.push_str(&sample);
                count += 1;
            }
            if several {
                if before > 0 && count - before != dimensions {
                    return Err(self.refuse(5, "has samplings of different width; ask the sender to mend it"));
                }
                dimensions = count - before;
            }
        }
        let period =
            self.effective.length.and_then(|length| milliseconds(length, count / dimensions)).ok_or_else(|| {
                self.refuse(
                    5,
                    "is a waveform without a known rate; ask the sender to fill OBR-7 and OBR-8 and leave OBX-14 empty",
                )
            })?;
        let origin = self.quantity(Decimal::zero(), None)?;
        Ok(Value::Samples(SampledData { origin, period, dimensions, data }))
    }

    fn attachments(&self, is_reference: bool) -> Result<Content<'a>, TranslateError> {
        let read = if is_reference { attachment::referenced } else { attachment::encapsulated };
        let each = self.row.obx.field(5).repetitions().filter(|repetition| !repetition.is_empty());
        let found: Result<Vec<_>, _> = each.map(|repetition| read(self.translation, repetition)).collect();
        found.map(Content::Attachments).map_err(|what| self.refuse(5, what))
    }

    fn refuse(&self, field: usize, what: &str) -> TranslateError {
        refuse(self.row.place_of(field), what)
    }
}

/// Types whose components are read as one text.
const JOINED: &[&[u8]] = &[
    b"AD", b"CK", b"CN", b"CP", b"CX", b"EI", b"HD", b"MO", b"PL", b"PN", b"PPN", b"SI", b"TN", b"XAD", b"XCN", b"XON",
    b"XPN", b"XTN",
];

fn bare(quantity: Quantity<'_>) -> Quantity<'_> {
    Quantity { unit: None, system: None, code: None, ..quantity }
}

fn exceptional(text: &str) -> Option<&'static str> {
    match text {
        "NaN" | "NAN" => Some("not-a-number"),
        "+INF" | "INF" => Some("positive-infinity"),
        "-INF" => Some("negative-infinity"),
        _ => None,
    }
}

fn comparator(text: &str) -> (Option<&'static str>, &str) {
    let text = text.trim();
    for comparator in ["<=", ">=", "<", ">"] {
        if let Some(digits) = text.strip_prefix(comparator) {
            return (Some(comparator), digits.trim());
        }
    }
    (None, text)
}

/// The ends of `90-160`, `-5--1`, `<500`, `>=3` and `[4.00;15.00]`; an end that is open is empty.
pub(super) fn bounds(text: &str) -> Option<(&str, &str)> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        return inner.split_once(';').map(|(low, high)| (low.trim(), high.trim()));
    }
    match comparator(text) {
        (Some("<" | "<="), high) => Some(("", high)),
        (Some(_), low) => Some((low, "")),
        (None, text) => text.match_indices('-').find_map(|(at, _)| {
            let (low, high) = (text[..at].trim(), text[at + 1..].trim());
            (Decimal::parse(low).is_some() && Decimal::parse(high).is_some()).then_some((low, high))
        }),
    }
}

/// One sample of a SampledData: a decimal, or E, U, L for an error, below and above the limits.
fn sample(text: &str) -> Option<String> {
    match text {
        "E" | "U" | "L" => Some(text.to_owned()),
        _ => Decimal::parse(text).map(|decimal| decimal.as_str()),
    }
}

/// The length of one of `parts` equal parts, in milliseconds to the nanosecond.
fn milliseconds(length: jiff::SignedDuration, parts: usize) -> Option<Decimal> {
    let each = length.as_nanos().checked_div(i128::try_from(parts).ok()?)?;
    if each <= 0 {
        return None;
    }
    let text = format!("{}.{:06}", each / 1_000_000, each % 1_000_000);
    Decimal::parse(text.trim_end_matches('0').trim_end_matches('.'))
}

/// TM as a FHIR `time`: seconds are required there and are 00 where not sent; a zone cannot be said.
fn clock(text: &str) -> Option<String> {
    let local = text.split(['+', '-']).next()?;
    let (digits, fraction) = local.split_once('.').unwrap_or((local, ""));
    let valid = matches!(digits.len(), 4 | 6) && digits.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit());
    if !valid {
        return None;
    }
    let second = if digits.len() == 6 { &digits[4..6] } else { "00" };
    let (hour, minute) = (&digits[..2], &digits[2..4]);
    let point = if fraction.is_empty() { "" } else { "." };
    (hour < "24" && minute < "60" && second < "60").then(|| format!("{hour}:{minute}:{second}{point}{fraction}"))
}
