//! What HL7 itself asks of a report, so that it can be read and attributed (H01 to H09).
//!
//! A message that breaks one of these is refused by a channel that refuses, in either profile.

use super::{
    Reading, Told,
    reading::{part, raw},
};
use crate::hl7::{Segment, Time};

/// Table 0125, value types.
const VALUE_TYPES: [&str; 34] = [
    "AD", "CE", "CF", "CK", "CN", "CNE", "CP", "CQ", "CWE", "CX", "DR", "DT", "DTM", "ED", "EI", "FT", "HD", "ID",
    "IS", "MO", "NA", "NM", "PN", "RP", "SI", "SN", "ST", "TM", "TN", "TS", "TX", "XAD", "XCN", "XPN",
];
/// Table 0085, observation result status.
const STATUSES: [&[u8]; 15] =
    [b"A", b"B", b"C", b"D", b"F", b"I", b"N", b"O", b"P", b"R", b"S", b"U", b"V", b"W", b"X"];

pub(super) fn times(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut time = |segment: Segment<'_>, n| {
        let sent = segment.field(n).component(1).raw();
        if !sent.is_empty() && !is_time(sent) {
            told.error(segment, n, 102, "not a date/time of the form YYYYMMDDHHMMSS[.SSSS][+ZZZZ]");
        }
    };
    time(reading.msh, 7);
    for request in &reading.requests {
        time(*request, 7);
        time(*request, 8);
    }
    reading.rows.iter().for_each(|row| time(row.obx, 14));
}

/// A date or time of the calendar, of any precision.
pub(super) fn is_time(raw: &[u8]) -> bool {
    is_usual_time(raw) || std::str::from_utf8(raw).is_ok_and(|text| Time::parse(text).is_ok())
}

/// `YYYYMMDDHHMMSS+ZZZZ` of the first 28 days of a month and a zone within eleven hours: nearly every time sent, told
/// without reading it whole.
pub(super) fn is_usual_time(raw: &[u8]) -> bool {
    let Some((local, [b'+' | b'-', zone @ ..])) = raw.split_at_checked(14) else { return false };
    let pair = |digits: &[u8], at: usize| 10 * u32::from(digits[at] - b'0') + u32::from(digits[at + 1] - b'0');
    zone.len() == 4
        && local.iter().chain(zone).all(u8::is_ascii_digit)
        && (1..=12).contains(&pair(local, 4))
        && (1..=28).contains(&pair(local, 6))
        && pair(local, 8) < 24
        && [pair(local, 10), pair(local, 12), pair(zone, 2)].into_iter().all(|sixtieths| sixtieths < 60)
        && pair(zone, 0) < 12
        && local[..4] != *b"0000"
}

pub(super) fn sequence(reading: &Reading<'_>, told: &mut Told<'_>) {
    if part(reading.msh, 9, 1) != b"ORU" {
        return;
    }
    match (reading.requests.first(), reading.rows.first()) {
        (None, _) => told.absent("OBR", "an observation report needs an OBR"),
        (Some(_), Some(row)) if row.group == 0 => told.error(row.obx, 0, 100, "an OBX stands before the first OBR"),
        _ => {}
    }
}

/// An alarm may be a device's own (IHE PCD TF-2 3.4.4.1.2); a report is of a patient.
pub(super) fn patient_present(reading: &Reading<'_>, told: &mut Told<'_>) {
    let report = part(reading.msh, 9, 1) == b"ORU" && part(reading.msh, 9, 2) == b"R01";
    if report && reading.segments("PID").next().is_none() {
        told.absent("PID", "a device report needs a PID; send an empty identity for an unknown patient");
    }
}

pub(super) fn patient_named(reading: &Reading<'_>, told: &mut Told<'_>) {
    if let Some(pid) = reading.segments("PID").next().filter(|pid| pid.field(3).component(1).is_empty()) {
        told.error(pid, 3, 101, "PID-3 has no patient identifier");
    }
}

/// A merge, move or change of identifiers (ADT) may tell of several, each with its MRG.
pub(super) fn one_patient(reading: &Reading<'_>, told: &mut Told<'_>) {
    if reading.msh.field(9).component(1).raw() == b"ADT" {
        return;
    }
    let mut patients = reading.segments("PID");
    let Some(first) = patients.next().map(|pid| pid.field(3).component(1).raw()).filter(|id| !id.is_empty()) else {
        return;
    };
    if let Some(other) = patients.find(|pid| pid.field(3).component(1).raw() != first) {
        told.error(other, 3, 198, "the message is about more than one patient; send one message for each");
    }
}

pub(super) fn value_type(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        let (kind, value) = (row.obx.field(2), row.obx.field(5));
        if kind.is_empty() && !value.is_empty() {
            told.error(row.obx, 2, 101, "OBX-5 has a value and OBX-2 no type");
        } else if !kind.is_empty() && !VALUE_TYPES.iter().any(|known| known.as_bytes() == kind.raw()) {
            told.error(row.obx, 2, 103, "OBX-2 is not a value type of table 0125");
        }
    }
}

pub(super) fn number(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| row.obx.field(2).raw() == b"NM" && !row.obx.field(5).is_empty()) {
        if !row.obx.field(5).repetitions().all(|repetition| is_number(repetition.raw())) {
            told.error(row.obx, 5, 102, "OBX-5 is not a number: an optional sign, digits, an optional point");
        }
    }
}

/// An NM (HL7 v2.6 ch. 2A.47): any number of digits, kept as sent.
pub(super) fn is_number(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"+").or_else(|| raw.strip_prefix(b"-")).unwrap_or(raw);
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    whole.len() + fraction.len() > 0 && whole.iter().chain(fraction).all(u8::is_ascii_digit)
}

pub(super) fn unit(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| row.obx.field(2).raw() == b"NM") {
        if !row.obx.field(5).is_empty() && row.obx.field(6).is_empty() {
            told.error(row.obx, 6, 103, "OBX-6 has no unit for a number");
        }
    }
}

pub(super) fn status(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        match raw(row.obx, 11) {
            b"" => told.error(row.obx, 11, 101, "OBX-11 is empty; send the result status"),
            status if STATUSES.contains(&status) => {}
            _ => told.error(row.obx, 11, 103, "OBX-11 is not a result status of table 0085"),
        }
    }
}
