//! MSH, and what is the same wherever it stands: times and the character set (A01 to A10; IHE PCD TF-2 B.1).

use super::{
    Reading, Told,
    base::is_time,
    reading::{part, raw},
};
use crate::{
    hl7::{CharsetError, Segment},
    pcd::Transaction,
};

pub(super) fn delimiters(reading: &Reading<'_>, told: &mut Told<'_>) {
    if reading.msh.field(1).raw() != b"|" {
        told.warning(reading.msh, 1, 102, "MSH-1 is not |; send |, which every receiver reads");
    }
    if reading.msh.field(2).raw() != b"^~\\&" {
        told.warning(reading.msh, 2, 102, "MSH-2 is not ^~\\&; send ^~\\&, which every receiver reads");
    }
}

pub(super) fn sender(reading: &Reading<'_>, told: &mut Told<'_>) {
    let msh = reading.msh;
    let [name, universal, kind] = [1, 2, 3].map(|n| part(msh, 3, n));
    let in_production = part(msh, 11, 1) == b"P";
    match (name, universal, kind) {
        (b"", b"", _) => told.error(msh, 3, 101, "MSH-3 does not name the sender; send its EUI-64"),
        (_, b"", _) if in_production => told.warning(msh, 3, 101, "MSH-3 has no universal id; send an EUI-64"),
        (_, b"", _) => {}
        (_, _, b"") => told.error(msh, 3, 101, "MSH-3.2 has no type in MSH-3.3; send EUI-64, ISO or URI"),
        (_, id, b"EUI-64") if !is_eui64(id) => {
            told.error(msh, 3, 102, "MSH-3.2 is not an EUI-64; send 16 hexadecimal digits");
        }
        (_, _, b"EUI-64") => {}
        _ if in_production => told.warning(msh, 3, 103, "MSH-3.3 is not EUI-64, which production senders use"),
        _ => {}
    }
}

pub(super) fn is_eui64(raw: &[u8]) -> bool {
    raw.len() == 16 && raw.iter().all(u8::is_ascii_hexdigit)
}

/// Segments and their fields that are times.
const TIMES: [(&str, &[usize]); 8] = [
    ("MSH", &[7]),
    ("PID", &[7, 29, 33]),
    ("PV1", &[44, 45]),
    ("ORC", &[9, 15]),
    ("OBR", &[6, 7, 8, 22]),
    ("OBX", &[14, 19]),
    ("TQ1", &[7, 8]),
    ("PRT", &[11, 12]),
];

pub(super) fn times(reading: &Reading<'_>, told: &mut Told<'_>) {
    if part(reading.msh, 7, 1).is_empty() {
        told.error(reading.msh, 7, 101, "MSH-7 is empty; send when the message was made, with its zone");
    }
    for segment in reading.message.segments() {
        let Some((id, fields)) = TIMES.iter().find(|(id, _)| *id == segment.id()) else { continue };
        fields.iter().for_each(|n| time(segment, *n, *id == "PID", told));
        if *id == "OBX" && matches!(segment.field(2).raw(), b"DTM" | b"TS") {
            time(segment, 5, false, told);
        }
    }
}

/// A date of birth has no zone, a time of birth has.
fn time(segment: Segment<'_>, n: usize, date_alone: bool, told: &mut Told<'_>) {
    let sent = part(segment, n, 1);
    if sent.is_empty() {
        return;
    }
    if !is_time(sent) {
        return told.error(segment, n, 102, "not a date/time of the form YYYYMMDDHHMMSS[.SSSS]+ZZZZ");
    }
    let zoned = sent.iter().any(|byte| matches!(byte, b'+' | b'-'));
    let needs_none = date_alone && sent.len() <= 8;
    if !zoned && !needs_none {
        told.error(segment, n, 102, "the time has no zone; send +ZZZZ, such as +0000");
    }
}

pub(super) fn message_type(reading: &Reading<'_>, told: &mut Told<'_>) {
    let msh = reading.msh;
    let [kind, event, structure] = [1, 2, 3].map(|n| part(msh, 9, n));
    if kind.is_empty() || event.is_empty() || structure.is_empty() {
        return told.error(msh, 9, 101, "MSH-9 has not its three components; send type, event and structure");
    }
    let expected: &[[&[u8]; 3]] = match reading.transaction {
        Transaction::Pcd01 | Transaction::Pcd15 => &[[b"ORU", b"R01", b"ORU_R01"]],
        Transaction::Pcd03 => &[[b"RGV", b"O15", b"RGV_O15"]],
        Transaction::Pcd03Answer => &[[b"RRG", b"O16", b"RRG_O16"]],
        Transaction::Pcd04 => &[[b"ORU", b"R40", b"ORU_R40"]],
        Transaction::Pcd05 => &[[b"ORA", b"R41", b"ORA_R41"]],
        Transaction::Pcd10 => &[[b"ORU", b"R42", b"ORU_R01"]],
        Transaction::Acknowledgement if structure == b"ACK" => return,
        Transaction::Acknowledgement => &[[b"ACK", b"", b"ACK"]],
        _ => return,
    };
    if !expected.contains(&[kind, event, structure]) {
        told.error(msh, 9, 103, "MSH-9 is not that of the transaction that MSH-21 names");
    }
}

pub(super) fn control_id(reading: &Reading<'_>, told: &mut Told<'_>) {
    if raw(reading.msh, 10).trim_ascii().is_empty() {
        told.error(reading.msh, 10, 101, "MSH-10 is empty; send a control id that is unique to the sender");
    }
}

pub(super) fn versions(reading: &Reading<'_>, told: &mut Told<'_>) {
    if !matches!(part(reading.msh, 11, 1), b"P" | b"D" | b"T") {
        told.warning(reading.msh, 11, 103, "MSH-11 is not P, D or T");
    }
    if part(reading.msh, 12, 1) != b"2.6" {
        told.warning(reading.msh, 12, 103, "MSH-12 is not 2.6, the version IHE PCD is written for");
    }
}

pub(super) fn acknowledgements(reading: &Reading<'_>, told: &mut Told<'_>) {
    if part(reading.msh, 15, 1) != b"AL" {
        told.error(reading.msh, 15, 103, "MSH-15 is not AL; ask for an accept acknowledgement always");
    }
    // An alert reporter that takes PCD-05 asks for more.
    if reading.transaction != Transaction::Pcd04 && part(reading.msh, 16, 1) != b"NE" {
        told.warning(
            reading.msh,
            16,
            103,
            "MSH-16 is not NE; no application acknowledgement belongs to the transaction",
        );
    }
}

pub(super) fn profile(reading: &Reading<'_>, told: &mut Told<'_>) {
    let msh = reading.msh;
    if reading.transaction == Transaction::Acknowledgement {
        return;
    }
    if raw(msh, 21).is_empty() {
        return told.error(msh, 21, 101, "MSH-21 is empty; send the OID of the transaction");
    }
    let oid: &[u8] = match reading.transaction {
        Transaction::Pcd01 => b"1.3.6.1.4.1.19376.1.6.1.1.1",
        Transaction::Pcd03 => b"1.3.6.1.4.1.19376.1.6.1.3.1",
        Transaction::Pcd03Answer => b"1.3.6.1.4.1.19376.1.6.1.3.2",
        Transaction::Pcd04 => b"1.3.6.1.4.1.19376.1.6.1.4.1",
        Transaction::Pcd05 => b"1.3.6.1.4.1.19376.1.6.1.5.1",
        Transaction::Pcd10 => b"1.3.6.1.4.1.19376.1.6.4.10",
        Transaction::Pcd15 => b"1.3.6.1.4.1.19376.1.6.1.15.1",
        _ => return,
    };
    if msh.field(21).repetitions().all(|profile| profile.component(3).is_empty()) {
        return told.error(msh, 21, 101, "MSH-21.3 is empty; send the OID of the transaction");
    }
    match msh.field(21).repetitions().find(|profile| profile.component(3).raw().trim_ascii() == oid) {
        None => {
            told.error(msh, 21, 103, "MSH-21.3 is not the transaction's own OID; an older or a vendor's one is sent")
        }
        Some(profile) if profile.component(4).raw().trim_ascii() != b"ISO" => {
            told.error(msh, 21, 103, "MSH-21.4 is not ISO, the type of an OID");
        }
        Some(_) => {}
    }
}

pub(super) fn charset(reading: &Reading<'_>, told: &mut Told<'_>) {
    let (msh, message) = (reading.msh, reading.message);
    let ascii = message.as_bytes().is_ascii();
    if raw(msh, 18).is_empty() && !ascii {
        told.error(msh, 18, 101, "MSH-18 is empty and the text is not ASCII; name the character set");
    }
    if msh.field(18).repetitions().count() > 1 {
        told.error(msh, 18, 198, "MSH-18 names more than one character set");
    }
    match message.charset() {
        Err(CharsetError::Unknown) => {
            told.error(msh, 18, 103, "MSH-18 is no character set of table 0211 that can be read")
        }
        _ if !ascii && message.check_text().is_err() => {
            told.error(msh, 18, 102, "bytes are not legal in the character set that MSH-18 names");
        }
        _ => {}
    }
}

pub(super) fn unused(reading: &Reading<'_>, told: &mut Told<'_>) {
    for n in [8, 14, 20, 22, 23, 24, 25].into_iter().filter(|n| !raw(reading.msh, *n).is_empty()) {
        told.warning(reading.msh, n, 102, "a field of MSH that is not used has a value; leave it empty");
    }
}
