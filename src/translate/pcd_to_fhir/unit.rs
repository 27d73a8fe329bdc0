//! OBX-6 as UCUM. A unit is never guessed: one that no table knows is written in words, without a code.

use super::{Output, TranslateError, Translation, Unmapped, refuse};
use crate::{
    fhir::{Decimal, Quantity, Text, systems},
    pcd::{Coded, Loinc, Row, Triplet, same_but_annotation},
};

/// A unit as words and, where it is known, as UCUM.
#[derive(Clone, Default)]
pub(super) struct Unit<'a> {
    pub(super) words: Option<Text<'a>>,
    pub(super) ucum: Option<Text<'a>>,
}

impl<'a> Unit<'a> {
    pub(super) fn quantity(&self, value: Decimal, comparator: Option<&'static str>) -> Quantity<'a> {
        Quantity {
            value: Some(value),
            comparator,
            unit: self.words.clone(),
            system: self.ucum.is_some().then_some(systems::UCUM),
            code: self.ucum.clone(),
        }
    }

    /// Vital signs profiles fix the very spelling: `/min`, where a device says `{beat}/min`.
    pub(super) fn spelled_as(&mut self, loinc: &[&'a Loinc]) {
        let profiled = loinc.iter().find_map(|row| row.ucum.as_deref());
        if let (Some(profiled), Some(ucum)) = (profiled, &mut self.ucum) {
            *ucum = profiled.into();
        }
    }
}

/// OBX-6 of the row. Two units that are not the same refuse the message: one of them is wrong.
pub(super) fn of<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    output: &mut Output<'a>,
) -> Result<Unit<'a>, TranslateError> {
    let coded = Coded::read(row.obx.field(6).first());
    let mut found: Option<Text<'a>> = None;
    for triplet in coded.triplets() {
        let Some(ucum) = ucum(translation, triplet) else { continue };
        match &found {
            Some(first) if !same_unit(first, &ucum) => {
                return Err(refuse(row.place_of(6), "names two different units; ask the sender which one is meant"));
            }
            Some(_) => {}
            None => found = Some(ucum),
        }
    }
    let words = words(translation, &coded);
    if let (None, Some(_)) = (&found, &words) {
        output.unmapped(unknown(translation, &coded));
    }
    Ok(Unit { words: found.clone().filter(|_| !said_in_ucum(&coded)).or(words).or_else(|| found.clone()), ucum: found })
}

/// UCUM of one triplet, if it is sure.
fn ucum<'a>(translation: &Translation<'a>, triplet: Triplet<'a>) -> Option<Text<'a>> {
    let tables = &translation.settings.nomenclature;
    let (code, text) = (translation.text(triplet.code), translation.text(triplet.text));
    match triplet.system {
        b"UCUM" => {
            // Some senders put the MDC number where the UCUM code belongs: `3475^ug/kg/min^UCUM`.
            let misplaced = code.len() > 1 && code.bytes().all(|b| b.is_ascii_digit());
            let unit = if misplaced || code.is_empty() { text } else { code };
            tables.is_ucum(&unit).then_some(unit).filter(|unit| !unit.is_empty())
        }
        b"MDC" => tables.unit(&code, &text).map(|unit| Text::Borrowed(&**unit)),
        _ if text.starts_with("MDC_") || code.starts_with("MDC_") => {
            let refid = if text.starts_with("MDC_") { &text } else { &code };
            tables.unit(&code, refid).map(|unit| Text::Borrowed(&**unit))
        }
        _ => tables.unit_alias(&code).map(|unit| Text::Borrowed(&**unit)),
    }
}

/// A unit no table knows, by the triplet that a row of the table would be for.
fn unknown(translation: &Translation<'_>, coded: &Coded<'_>) -> Unmapped {
    let triplet = coded.mdc().or_else(|| coded.triplets().next()).unwrap_or_default();
    let [code, text, system] = [triplet.code, triplet.text, triplet.system].map(|raw| translation.text(raw));
    let (code, text) = if code.is_empty() { (&text, &code) } else { (&code, &text) };
    Unmapped::new("mdc-units", code, text, &system)
}

fn said_in_ucum(coded: &Coded<'_>) -> bool {
    coded.triplets().any(|triplet| triplet.system == b"UCUM" && !triplet.text.is_empty())
}

/// The unit for a reader: the words beside a UCUM code before the identifier of an MDC one.
fn words<'a>(translation: &Translation<'a>, coded: &Coded<'a>) -> Option<Text<'a>> {
    let best = coded.triplets().find(|triplet| triplet.system == b"UCUM").or_else(|| coded.triplets().next())?;
    let raw = if best.text.is_empty() { best.code } else { best.text };
    Some(translation.text(raw)).filter(|words| !words.is_empty())
}

fn same_unit(a: &str, b: &str) -> bool {
    same_but_annotation(a, b)
        || match (octofhir_ucum::get_canonical_units(a), octofhir_ucum::get_canonical_units(b)) {
            (Ok(x), Ok(y)) => x.factor == y.factor && x.offset == y.offset && x.dimension == y.dimension,
            _ => false,
        }
}
