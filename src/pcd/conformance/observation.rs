//! OBX field by field, but for its place and its value (A19 to A21, A24, A28, A30, A31; IHE PCD TF-2 B.8).

use super::{
    Reading, Told,
    reading::{Row, ascii, mdc, number_of, raw},
};
use crate::pcd::{Fit, Triplet};

pub(super) fn numbering(reading: &Reading<'_>, told: &mut Told<'_>) {
    for (number, row) in (1..).zip(&reading.rows) {
        if number_of(row.raw(1).trim_ascii()) != Some(number) {
            told.error(row.obx, 1, 102, "OBX-1 does not count from 1 over the message");
        }
    }
}

/// Table C-1.
const TYPES: [&[u8]; 15] =
    [b"CNE", b"CWE", b"CF", b"DR", b"DTM", b"ED", b"FT", b"NA", b"NM", b"PN", b"SN", b"ST", b"TM", b"XCN", b"XPN"];

pub(super) fn value_type(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        match row.raw(2) {
            b"" if row.raw(11) == b"X" => {}
            b"" => told.error(row.obx, 2, 101, "OBX-2 is empty and OBX-11 is not X"),
            kind if TYPES.contains(&kind) => {}
            _ => told.error(row.obx, 2, 103, "OBX-2 is not a value type of table C-1"),
        }
    }
}

pub(super) fn code(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        let Some(first) = row.code.triplets().next() else {
            told.error(row.obx, 3, 101, "OBX-3 is empty");
            continue;
        };
        if [first.code, first.text, first.system].iter().any(|part| part.trim_ascii().is_empty()) {
            told.error(row.obx, 3, 101, "OBX-3 has not code, text and coding system");
        }
        if let Some(mdc) = mdc(&row.code) {
            mdc_code(row, mdc, told);
        }
    }
}

/// An MDC code and its identifier. Numbers of 0 and 999999 stand for terms that have none yet.
fn mdc_code(row: &Row<'_>, mdc: Triplet<'_>, told: &mut Told<'_>) {
    if ascii(mdc.code).parse::<u32>().is_err() {
        return told.error(row.obx, 3, 102, "the MDC code of OBX-3 is not a number");
    }
    match row.term.fit {
        Fit::Named => {}
        Fit::ByName | Fit::NameOnly | Fit::Nothing if mdc.text.trim_ascii().starts_with(b"MDCX_") => {}
        Fit::ByName | Fit::NameOnly | Fit::Nothing => {
            told.error(row.obx, 3, 103, "OBX-3 has no number, though its text is not a provisional one (MDCX_)");
        }
        Fit::Bare | Fit::BareAlone => {
            told.error(row.obx, 3, 103, "the MDC code of OBX-3 lacks its partition; send partition * 65536 + term");
        }
        Fit::OtherTerm => told.error(row.obx, 3, 103, "number and identifier of OBX-3 are of two different terms"),
        Fit::OtherName => told.warning(row.obx, 3, 103, "the tables name the MDC code of OBX-3 otherwise"),
        Fit::Private | Fit::Unknown => told.warning(row.obx, 3, 103, "the MDC code of OBX-3 is in no table here"),
    }
}

/// OBX-8 codes that tell why there is no value (table 0078 and IEEE 11073 measurement status).
const NO_VALUE: [&[u8]; 11] = [b"INV", b"NAV", b"BUSY", b"NI", b"NA", b"OFF", b"MSK", b"OTH", b"NAN", b"PINF", b"NINF"];

pub(super) fn has_missing_code(row: &Row<'_>) -> bool {
    let flags = row.obx.field(8);
    let mut codes = flags.repetitions().map(|flag| flag.component(1).raw().trim_ascii());
    codes.any(|code| NO_VALUE.contains(&code))
}

pub(super) fn value_present(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| row.place.is_some()) {
        let valued = !row.raw(5).is_empty();
        match (row.is_device, valued) {
            (true, true) => told.error(row.obx, 5, 102, "OBX-4 is the place of a device, and OBX-5 has a value"),
            (true, false) if row.raw(11) != b"X" => told.error(row.obx, 11, 103, "OBX-11 of a device is not X"),
            (false, false) if !has_missing_code(row) => {
                told.error(row.obx, 5, 101, "OBX-5 is empty, and OBX-8 does not say why");
            }
            _ => {}
        }
    }
}

pub(super) fn status(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        match row.raw(11) {
            b"" => told.error(row.obx, 11, 101, "OBX-11 is empty; send the result status"),
            b"C" | b"D" | b"F" | b"P" | b"R" | b"S" | b"U" | b"W" | b"X" => {}
            _ => told.error(row.obx, 11, 103, "OBX-11 is not one of C D F P R S U W X"),
        }
    }
}

/// How a value came to be; the last three are of a change proposal and of vendors.
const METHODS: [&[u8]; 10] =
    [b"AMEAS", b"MMEAS", b"ASET", b"MSET", b"ACALC", b"MCALC", b"UNSPEC", b"AUSRFS", b"INVRFS", b"RSET"];

pub(super) fn method(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        let field = row.obx.field(17);
        let mut codes =
            field.repetitions().map(|one| one.component(1).raw().trim_ascii()).filter(|c| !matches!(*c, b"" | b"\"\""));
        if codes.clone().any(|code| !METHODS.contains(&code)) {
            told.warning(row.obx, 17, 103, "OBX-17 is not a known way of measuring, setting or calculating");
        }
        let is_setting = mdc(&row.code).is_some_and(|mdc| mdc.text.trim_ascii().ends_with(b"_SETTING"));
        if is_setting && !codes.any(|code| matches!(code, b"ASET" | b"MSET" | b"RSET")) {
            told.warning(row.obx, 17, 101, "OBX-3 is a setting, and OBX-17 does not say MSET or ASET");
        }
    }
}

pub(super) fn unused(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        for n in [9, 12, 13].into_iter().filter(|n| !raw(row.obx, *n).is_empty()) {
            told.warning(row.obx, n, 102, "a field of OBX that is not used has a value; leave it empty");
        }
    }
}
