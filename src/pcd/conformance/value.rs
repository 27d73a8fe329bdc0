//! OBX-5 against OBX-2, its unit, and the flags beside it (A25 to A27; IHE PCD TF-2 B.8).

use super::{
    Reading, Told,
    base::is_number,
    observation::has_missing_code,
    reading::{Row, ascii},
};
use crate::{
    hl7::Repetition,
    pcd::{Coded, Triplet, same_but_annotation, units::same_unit},
};

pub(super) fn typed(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| !row.raw(5).is_empty()) {
        let mut values = row.obx.field(5).repetitions();
        match row.raw(2) {
            b"NM" if !values.all(|value| is_number(value.raw().trim_ascii())) => {
                told.error(row.obx, 5, 102, "OBX-5 is not the number that OBX-2 says");
            }
            b"SN" if !values.all(is_structured) => {
                told.error(
                    row.obx,
                    5,
                    102,
                    "OBX-5 is not comparator, number, separator and number, as OBX-2 says (SN)",
                );
            }
            b"ST" | b"TX" if values.any(|value| looks_structured(value.raw().trim_ascii())) => {
                told.error(row.obx, 5, 102, "OBX-5 is a ratio or has a comparator; send it as SN");
            }
            _ => {}
        }
    }
}

fn is_structured(value: Repetition<'_>) -> bool {
    let [comparator, first, separator, second] = [1, 2, 3, 4].map(|n| value.component(n).raw().trim_ascii());
    let compares = matches!(comparator, b"" | b">" | b"<" | b">=" | b"<=" | b"=" | b"<>");
    let separates = matches!(separator, b"" | b"-" | b"+" | b"/" | b"." | b":");
    compares && is_number(first) && separates && (second.is_empty() || is_number(second))
}

/// `>300`, `1:2`: a number to people, though not to a program that gets it as text.
fn looks_structured(text: &[u8]) -> bool {
    let compared = text.strip_prefix(b"<").or_else(|| text.strip_prefix(b">"));
    if let Some(rest) = compared {
        return is_number(rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii());
    }
    let ratio = text.iter().position(|byte| matches!(byte, b':' | b'/'));
    ratio.is_some_and(|at| is_number(text[..at].trim_ascii()) && is_number(text[at + 1..].trim_ascii()))
}

pub(super) fn unit(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| matches!(row.raw(2), b"NM" | b"SN") && !row.raw(5).is_empty()) {
        let unit = Coded::read(row.obx.field(6).first());
        if unit.triplets().next().is_none() {
            told.error(row.obx, 6, 101, "OBX-6 has no unit for a number");
        } else {
            named_unit(reading, row, unit, told);
        }
    }
}

fn named_unit(reading: &Reading<'_>, row: &Row<'_>, unit: Coded<'_>, told: &mut Told<'_>) {
    let names = reading.nomenclature;
    let of = |system: &'static [u8]| unit.triplets().find(|triplet| triplet.system.trim_ascii() == system);
    let alike = || unit.triplets().find(|triplet| triplet.system.is_empty() && triplet.text.starts_with(b"MDC_DIM"));
    let (mdc, ucum) = (of(b"MDC").or_else(alike), of(b"UCUM"));
    let meant = |mdc: Triplet<'_>| names.unit(ascii(mdc.code), ascii(mdc.text));
    match (mdc.map(meant), ucum.map(|ucum| ascii(ucum.code))) {
        (None, None) => told.warning(row.obx, 6, 103, "OBX-6 is neither an MDC nor a UCUM unit"),
        (_, Some(ucum)) if !names.is_ucum(ucum) => told.error(row.obx, 6, 103, "the UCUM unit of OBX-6 is not one"),
        _ if mdc.is_some_and(|mdc| differs(reading, mdc)) => {
            told.warning(row.obx, 6, 103, "number and identifier of OBX-6 are of two different units");
        }
        (Some(None), _) => told.warning(row.obx, 6, 103, "the MDC unit of OBX-6 is in no table here"),
        (Some(Some(mdc)), Some(ucum)) if !same_but_annotation(mdc, ucum) => {
            told.error(row.obx, 6, 103, "the MDC and the UCUM unit of OBX-6 are two different units");
        }
        _ => {}
    }
}

/// Number and identifier are each of a unit, and not of the same.
fn differs(reading: &Reading<'_>, mdc: Triplet<'_>) -> bool {
    let unit = |code, text| reading.nomenclature.unit(code, text);
    let both = unit(ascii(mdc.code), "").zip(unit("", ascii(mdc.text)));
    both.is_some_and(|(number, name)| !same_unit(number, name))
}

/// Codes of OBX-8: abnormality, measurement status, no value, alert priority, alert type.
const FLAGS: [&[u8]; 31] = [
    b"N", b"L", b"LL", b"H", b"HH", b"A", b"INV", b"QUES", b"NAV", b"CAL", b"TEST", b"DEMO", b"EARLY", b"BUSY",
    b"ALACT", b"ALINH", b"NI", b"NA", b"OFF", b"MSK", b"OTH", b"NAN", b"PINF", b"NINF", b"PN", b"PL", b"PM", b"PH",
    b"SP", b"ST", b"SA",
];

pub(super) fn flags(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        for flag in row
            .obx
            .field(8)
            .repetitions()
            .map(|flag| flag.component(1).raw().trim_ascii())
            .filter(|flag| !flag.is_empty())
        {
            if !FLAGS.contains(&flag) && flag != b"\"\"" {
                told.warning(row.obx, 8, 103, "OBX-8 has a code that is not known");
            }
            match (flag, row.raw(11)) {
                (b"INV" | b"NAV" | b"BUSY", status) if status != b"X" => {
                    told.warning(row.obx, 11, 103, "OBX-8 says there is no valid value, and OBX-11 is not X");
                }
                (b"QUES" | b"CAL" | b"TEST" | b"DEMO" | b"EARLY" | b"ALACT" | b"ALINH", status) if status != b"R" => {
                    told.warning(row.obx, 11, 103, "OBX-8 qualifies the value, and OBX-11 is not R");
                }
                _ => {}
            }
        }
        if row.raw(11) == b"X" && !row.is_device && !row.raw(5).is_empty() && !has_missing_code(row) {
            told.warning(row.obx, 11, 103, "OBX-11 is X beside a value; send R, or F where it was validated");
        }
    }
}
