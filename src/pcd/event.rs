//! What alerts, pump events, orders and observations share: rows found by their codes however a gateway printed them,
//! and codes, quantities, times and identifiers as text.
//!
//! A number mistyped or provisional beside the right identifier is the identifier's; a value no table knows is kept as
//! sent; digits are never read as a float, so `5.00` stays that. All of it is content: for authorised readers only.

use std::borrow::Cow;

use serde::Serialize;

use super::{Coded, Nomenclature, Report, Row, coded::Triplet, names_two_units, report::Nth, ucum_of, words};
use crate::{
    hl7::{Field, Message, Repetition, Time},
    told::count,
};

/// A coded value.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Named {
    /// Its code, as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Its identifier or text, as sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// For people: the sender's own words, or ours for the code.
    pub words: String,
}

/// A value and its unit.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Quantity {
    /// As sent, every digit.
    pub value: String,
    /// UCUM where it is known, else as sent; empty where none was sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// Withdrawn, deleted or not available by its status, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// OBX-8 and OBX-11 say nothing against it.
    #[serde(skip)]
    pub is_sure: bool,
}

impl Quantity {
    /// `12.50 mL/h`; the unit as people write it, without the marks of UCUM.
    pub fn text(&self) -> String {
        let unit = self.unit.replace("mm[Hg]", "mmHg").replace(['{', '}'], "");
        if unit.is_empty() { self.value.clone() } else { format!("{} {unit}", self.value) }
    }

    /// The same, and that it is not in force where its status says so.
    pub fn told(&self) -> String {
        let status = self.status.map(|status| format!(" ({status})")).unwrap_or_default();
        format!("{}{status}", self.text())
    }
}

/// A time as sent.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Moment {
    /// As sent.
    pub sent: String,
    /// Where it was sent, such as `OBX[3]-14`.
    pub place: String,
}

impl Moment {
    /// For people: `2026-03-01 08:00:58+00:00`, or as sent where it is no time.
    pub fn text(&self) -> String {
        let Ok(time) = Time::parse(&self.sent) else { return self.sent.clone() };
        if let Some(text) = time.fhir_date_time(None) {
            return text.replacen('T', " ", 1);
        }
        let text = time.fhir_date_time(Some(0)).unwrap_or_default().replacen('T', " ", 1);
        format!("{} (no zone sent)", text.trim_end_matches("+00:00"))
    }

    /// Seconds from this to the other; none where that cannot be told, as when only one of them has a zone.
    pub fn seconds_until(&self, other: &Moment) -> Option<i64> {
        let (from, to) = (Time::parse(&self.sent).ok()?, Time::parse(&other.sent).ok()?);
        if from.offset_minutes().is_some() != to.offset_minutes().is_some() {
            return None;
        }
        Some(to.timestamp(Some(0))?.as_second() - from.timestamp(Some(0))?.as_second())
    }
}

/// An EI: an identifier and who gave it.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct EntityId {
    /// EI.1.
    pub id: String,
    /// EI.2.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// EI.3.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub universal_id: String,
    /// EI.4.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub universal_id_type: String,
}

impl EntityId {
    pub(super) fn of<'m>(message: &Message, parts: impl Iterator<Item = &'m [u8]>) -> EntityId {
        let mut parts = parts.map(|raw| told(message, raw));
        let mut next = || parts.next().unwrap_or_default();
        EntityId { id: next(), namespace: next(), universal_id: next(), universal_id_type: next() }
    }

    /// None where nothing was sent.
    pub(super) fn read(message: &Message, repetition: Repetition<'_>) -> Option<EntityId> {
        let id = EntityId::of(message, repetition.components().map(|part| part.raw()));
        (!id.is_empty()).then_some(id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty() && self.universal_id.is_empty()
    }

    /// The same thing, compared part by part: what one of the two does not say does not count against it.
    pub fn same_as(&self, other: &EntityId) -> bool {
        let agree = |a: &str, b: &str| a.is_empty() || b.is_empty() || a.eq_ignore_ascii_case(b);
        let universal = !self.universal_id.is_empty() && !other.universal_id.is_empty();
        self.id == other.id
            && agree(&self.universal_id, &other.universal_id)
            && (universal || agree(&self.namespace, &other.namespace))
    }

    /// For people: the identifier alone, or the universal one where it is all there is.
    pub fn text(&self) -> &str {
        if self.id.is_empty() { &self.universal_id } else { &self.id }
    }
}

/// What an OBX says of a device or an event: its numbers, and its identifiers in all the forms met.
pub(super) struct Attribute {
    pub codes: &'static [u32],
    pub refids: &'static [&'static str],
}

impl Attribute {
    pub const fn new(codes: &'static [u32], refids: &'static [&'static str]) -> Attribute {
        Attribute { codes, refids }
    }

    pub fn is(&self, row: &Row<'_>) -> bool {
        row.code.triplets().any(|triplet| self.names(triplet))
    }

    pub fn names(&self, triplet: Triplet<'_>) -> bool {
        let code = std::str::from_utf8(triplet.code.trim_ascii()).ok().and_then(|code| code.parse::<u32>().ok());
        let text = triplet.text.trim_ascii();
        let mdc = matches!(triplet.system.trim_ascii(), b"MDC" | b"");
        self.refids.iter().any(|refid| refid.as_bytes() == text)
            || mdc && code.is_some_and(|code| self.codes.contains(&code))
    }
}

/// OBX-8 that leaves a value what it is: where it lies, how it moves, validated, alarms and their priorities.
const HARMLESS: &[&[u8]] = &[
    b"", b"N", b"L", b"LL", b"H", b"HH", b"A", b"AA", b"U", b"D", b"B", b"W", b"VAL", b"ALACT", b"ALINH", b"PN", b"PL",
    b"PM", b"PH", b"SP", b"ST", b"SA",
];

/// A report being told.
#[derive(Clone, Copy)]
pub(super) struct Reading<'r, 'm> {
    pub report: &'r Report<'m>,
    pub codes: &'m Nomenclature,
}

impl<'r, 'm> Reading<'r, 'm> {
    pub fn message(&self) -> &'m Message {
        self.report.message
    }

    pub fn rows(&self, group: usize) -> impl Iterator<Item = &'r Row<'m>> + Clone + use<'r, 'm> {
        self.report.rows.iter().filter(move |row| row.group == group)
    }

    pub fn text(&self, raw: &[u8]) -> String {
        told(self.message(), raw)
    }

    /// A coded field, or plain text in its place.
    pub fn named(&self, field: Field<'_>) -> Option<Named> {
        self.named_one(field.first())
    }

    pub fn named_one(&self, repetition: Repetition<'_>) -> Option<Named> {
        let coded = Coded::read(repetition);
        let first = coded.mdc_or_alike().or_else(|| coded.triplets().next()).unwrap_or_default();
        let (code, name) = (self.text(first.code), self.text(first.text));
        let original = self.text(coded.original_text);
        // Only what says it is MDC is looked up: a drug's number may be a device's there.
        let mdc = first.system.trim_ascii() == b"MDC" || name.starts_with("MDC");
        let term = self.codes.resolve(&code, &name).term.filter(|_| mdc).map(|term| term.refid.to_string());
        let own_text = Some(name.clone()).filter(|name| !name.is_empty() && !name.starts_with("MDC"));
        let first = |texts: [Option<String>; 5]| texts.into_iter().flatten().find(|text| !text.is_empty());
        let words =
            words::of(&first([Some(original), own_text, term.clone(), Some(name.clone()), Some(code.clone())])?);
        let name = if name.is_empty() { term.unwrap_or_default() } else { name };
        Some(Named { code, name, words })
    }

    /// OBX-3 of a row.
    pub fn what(&self, row: &Row<'_>) -> Named {
        self.named(row.obx.field(3)).unwrap_or_default()
    }

    /// OBX-5 and OBX-6; none where no value was sent.
    pub fn quantity(&self, row: &Row<'_>) -> Option<Quantity> {
        let value = self.value(row.obx);
        let waveform = row.obx.raw(2) == b"NA";
        let unit = || if waveform { String::new() } else { self.unit(row.obx.field(6)) };
        let is_sure = || self.is_number(row) && self.is_sure(row);
        (!value.is_empty()).then(|| Quantity { unit: unit(), value, status: self.status(row), is_sure: is_sure() })
    }

    /// What OBX-11 says of a row that is no result in force (table 0085).
    pub fn status(&self, row: &Row<'_>) -> Option<&'static str> {
        match row.obx.field(11).component(1).raw().trim_ascii() {
            b"W" => Some("withdrawn, status W"),
            b"D" => Some("deleted, status D"),
            b"X" => Some("said not to be available, status X"),
            _ => None,
        }
    }

    /// A number by its type, in one unit.
    fn is_number(&self, row: &Row<'_>) -> bool {
        let coded = Coded::read(row.obx.field(6).first());
        matches!(row.obx.raw(2), b"NM" | b"SN") && !names_two_units(self.codes, &coded, |raw| self.text(raw))
    }

    /// Whether the value of a row may be counted with: a result that is whole and in force (OBX-11, table 0085), and of
    /// OBX-8 nothing but where it lies, that it was validated, or alarms. A code nobody knows is doubt enough.
    pub fn is_sure(&self, row: &Row<'_>) -> bool {
        let flags = row.obx.raw(8);
        let harmless = |code: &[u8]| HARMLESS.contains(&code.trim_ascii());
        let unflagged = flags.is_empty() || row.obx.field(8).repetitions().all(|one| harmless(one.component(1).raw()));
        unflagged
            && matches!(
                row.obx.field(11).component(1).raw().trim_ascii(),
                b"" | b"F" | b"R" | b"C" | b"A" | b"B" | b"V" | b"U"
            )
    }

    /// OBX-5 as people read it: the words of a code, the parts of an SN together, repetitions with commas.
    fn value(&self, obx: Nth<'m>) -> String {
        let coded = matches!(obx.raw(2), b"CWE" | b"CNE" | b"CE" | b"CF" | b"IS");
        let parts = obx.field(5).repetitions().map(|one| match obx.raw(2) {
            b"SN" => one.components().map(|part| self.text(part.raw())).collect::<String>(),
            _ if coded || one.component(2).raw().starts_with(b"MDC") => {
                self.named_one(one).map(|named| named.words).unwrap_or_default()
            }
            b"NA" => format!("a waveform of {}", count(one.components().count(), "sample")),
            _ => words::of(&self.text(one.raw())).replace('^', " "),
        });
        parts.filter(|part| !part.is_empty() && part != "\"\"").collect::<Vec<_>>().join(", ")
    }

    pub fn unit(&self, field: Field<'_>) -> String {
        let coded = Coded::read(field.first());
        let told = |raw| self.text(raw);
        let known = coded.triplets().find_map(|triplet| {
            let (code, text) = (told(triplet.code), told(triplet.text));
            ucum_of(self.codes, &code, &text, triplet.system).map(Cow::into_owned)
        });
        let sent = || coded.triplets().next().map(|one| if one.text.is_empty() { one.code } else { one.text });
        known.or_else(|| sent().map(told)).unwrap_or_default()
    }

    /// A word of an enumeration: `start`, `^pump-status-infusing` and `1^start` are met.
    pub fn word(&self, repetition: Repetition<'_>) -> Option<String> {
        let part = |n| self.text(repetition.component(n).raw());
        [part(2), part(1), part(9)].into_iter().find(|word| !word.is_empty() && word != "\"\"")
    }

    /// The time in a field.
    pub fn moment(&self, segment: Nth<'_>, field: usize) -> Option<Moment> {
        let sent = self.text(segment.field(field).component(1).raw());
        (!sent.is_empty() && sent != "\"\"").then(|| Moment { sent, place: segment.place(field).to_string() })
    }

    /// MSH-7, when the message was made.
    pub fn made_at(&self) -> Option<Moment> {
        self.moment(Nth { segment: self.message().msh(), nth: 1 }, 7)
    }
}

/// Decoded, unescaped, without blanks around; empty for HL7's explicit null.
pub(super) fn told(message: &Message, raw: &[u8]) -> String {
    let text = message.text(raw);
    let text = text.trim();
    if text == "\"\"" { String::new() } else { text.to_owned() }
}

/// An enumeration whose values are told in any spelling and kept as sent where they are none of it.
macro_rules! enumeration {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal $(| $alias:literal)*,)* }) => {
        $(#[$about])*
        #[derive(Clone, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
            /// None of these, as sent.
            Other(String),
        }

        impl $name {
            pub(super) fn read(sent: &str) -> $name {
                let squeezed = $crate::pcd::event::squeezed(sent);
                $(if [$word $(, $alias)*].iter().any(|word| $crate::pcd::event::squeezed(word) == squeezed) {
                    return $name::$variant;
                })*
                $name::Other(sent.to_owned())
            }

            /// The standard's word, or as sent.
            pub fn as_str(&self) -> &str {
                match self {
                    $($name::$variant => $word,)*
                    $name::Other(sent) => sent,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}
pub(super) use enumeration;

/// Letters and digits alone, small: `audio-paused`, `Audio_Paused` and `AUDIO PAUSED` are one word.
pub(super) fn squeezed(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
