//! OBX-6 as UCUM. A unit is never guessed: one that no table knows is written in words, without a code.

use std::{cell::RefCell, collections::HashMap};

use super::{Conversion, Output, PcdToFhir, TranslateError, Translation, Unmapped, concept::is_loinc, refuse};
use crate::{
    fhir::{CodeableConcept, Coding, Decimal, Quantity, Text, systems},
    pcd::{self, Coded, Loinc, Row, Triplet, names_two_units, same_unit, ucum_of},
};

/// A unit as words and, where it is known, as UCUM.
#[derive(Clone, Default)]
pub(super) struct Unit<'a> {
    pub(super) words: Option<Text<'a>>,
    pub(super) ucum: Option<Text<'a>>,
    /// From the unit sent to this one.
    pub(super) conversion: Option<&'a Conversion>,
    /// The unit is in OBX-6 by a table, not as UCUM.
    pub(super) by_table: bool,
    /// A unit of glucose by a spelling of OBX-6 that is no UCUM.
    pub(super) said: Option<&'static str>,
}

/// Units by what OBX-6 says.
pub(super) type Read<'a> = RefCell<HashMap<Vec<u8>, Unit<'a>>>;

/// Quantity.unit that a profile fixes beside the code: those of sensor glucose (HL7/cgm 1.0.0, patternQuantity).
const PROFILED_WORDS: [(&str, &str); 2] = [("99504-3", "mg/dl"), ("105272-9", "mmol/l")];

impl<'a> Unit<'a> {
    /// `None` where the value has more digits than can be converted.
    pub(super) fn quantity(&self, value: Decimal, comparator: Option<&'static str>) -> Option<Quantity<'a>> {
        let value = match self.conversion {
            Some(conversion) => conversion.apply(&value)?,
            None => value,
        };
        Some(Quantity {
            value: Some(value),
            comparator,
            unit: self.words.clone(),
            system: self.ucum.is_some().then_some(systems::UCUM),
            code: self.ucum.clone(),
        })
    }

    /// Vital signs profiles fix the very spelling: `/min`, where a device says `{beat}/min`.
    pub(super) fn spelled_as(&mut self, loinc: &[&'a Loinc]) {
        let profiled = loinc.iter().find_map(|row| row.ucum.as_deref());
        if let (Some(profiled), Some(ucum)) = (profiled, &mut self.ucum) {
            *ucum = profiled.into();
        }
        let words = PROFILED_WORDS.iter().find(|(code, _)| loinc.iter().any(|row| &*row.code == *code));
        if let Some((_, words)) = words.filter(|_| self.ucum.is_some()) {
            self.words = Some((*words).into());
        }
    }

    /// In the unit the site asks for.
    fn converted(mut self, settings: &'a PcdToFhir, row: &Row<'a>) -> Unit<'a> {
        let Some(ucum) = self.ucum.as_deref().filter(|_| !settings.conversions.is_empty()) else { return self };
        let number = row.term.code.map(|code| code.to_string());
        let refid = row.term.term.map(|term| &*term.refid);
        let sent = row.code.triplets().filter(|triplet| is_loinc(settings, triplet.system));
        let sent: Vec<&str> = sent.filter_map(|triplet| std::str::from_utf8(triplet.code).ok()).collect();
        let codes = number.as_deref().into_iter().chain(refid).chain(sent.iter().copied());
        let waveform = matches!(row.obx.raw(2), b"NA" | b"MA");
        let asked = settings.conversions.iter().find(|conversion| conversion.applies(ucum, codes.clone()));
        if let Some(conversion) = asked.filter(|_| !waveform) {
            (self.words, self.ucum) = (Some(conversion.to().into()), Some(conversion.to().into()));
            self.conversion = Some(conversion);
        }
        self
    }

    /// Insulin is counted in the UCUM unit `[iU]`; what a device calls `U` or `units` of it can be nothing else. A record may
    /// want the `U` that its users read.
    fn of_insulin(mut self, settings: &PcdToFhir) -> Unit<'a> {
        if self.ucum.is_none() || self.ucum.as_deref().is_some_and(|ucum| ucum.starts_with('U')) {
            let words = self.words.as_deref().unwrap_or_default();
            let (unit, rest) = words.split_once('/').map_or((words, ""), |(unit, rest)| (unit, rest));
            let known = matches!(unit, "U" | "u" | "units" | "Units" | "unit" | "IU" | "iU" | "[iU]");
            self.ucum = match rest {
                "" if known => Some("[iU]".into()),
                "h" | "hr" | "hour" if known => Some("[iU]/h".into()),
                _ => self.ucum,
            };
        }
        if settings.insulin_in_u {
            self.ucum = self.ucum.map(|ucum| Text::Owned(ucum.replace("[iU]", "U")));
        }
        self
    }
}

/// OBX-6 of the row. Two units that are not the same refuse the message: one of them is wrong.
pub(super) fn of<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    output: &mut Output<'a>,
) -> Result<Unit<'a>, TranslateError> {
    let known = translation.units.borrow().get(row.obx.raw(6)).cloned();
    let mut unit = match known {
        Some(unit) => unit,
        None => {
            let unit = read(translation, row)?;
            translation.units.borrow_mut().insert(row.obx.raw(6).to_vec(), unit.clone());
            unit
        }
    };
    if is_insulin(row) {
        unit = unit.of_insulin(translation.settings);
    }
    if let (None, Some(_)) = (&unit.ucum, &unit.words) {
        output.unmapped(unknown(translation, &Coded::read(row.obx.field(6).first())));
    }
    Ok(unit.converted(translation.settings, row))
}

/// As OBX-6 says it, whatever the row is of.
fn read<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Result<Unit<'a>, TranslateError> {
    let coded = Coded::read(row.obx.field(6).first());
    let mut further = row.obx.field(6).repetitions().skip(1).map(Coded::read);
    let two = names_two_units(&translation.settings.nomenclature, &coded, |raw| translation.text(raw).into_owned());
    if two || further.any(|other| !is_said_again(translation, &coded, &other)) {
        return Err(refuse(row.place_of(6), "names two different units; ask the sender which one is meant"));
    }
    let ucum = coded.triplets().find_map(|triplet| ucum(translation, triplet));
    let by_table = ucum.is_some() && !coded.triplets().any(|triplet| triplet.system == b"UCUM");
    let words = words(translation, &coded);
    let words = ucum.clone().filter(|_| !said_in_ucum(&coded)).or(words).or_else(|| ucum.clone());
    let texts = coded.triplets().flat_map(|triplet| [triplet.code, triplet.text]);
    let said = texts.filter_map(|raw| pcd::glucose_unit_said(&translation.text(raw))).next();
    Ok(Unit { words, ucum, conversion: None, by_table, said })
}

/// A further repetition names the unit of the first, or none.
fn is_said_again<'a>(translation: &Translation<'a>, first: &Coded<'a>, other: &Coded<'a>) -> bool {
    let known = |coded: &Coded<'a>| coded.triplets().find_map(|triplet| Some(ucum(translation, triplet)?.into_owned()));
    match (known(first), known(other)) {
        (Some(first), Some(other)) => same_unit(&first, &other),
        (None, None) => other.triplets().all(|other| first.triplets().any(|first| first == other)),
        _ => other.triplets().next().is_none(),
    }
}

/// Doses, rates and settings of insulin, and the doses a person entered.
pub(super) fn is_insulin(row: &Row<'_>) -> bool {
    let refid = row.term.term.map_or("", |term| &*term.refid);
    refid.starts_with("MDC_INS_") || refid.starts_with("MDC_CTXT_MEDICATION")
}

/// OBX-6 as a concept, each way it was sent.
pub(super) fn concept<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    unit: &Unit<'a>,
) -> Option<CodeableConcept<'a>> {
    let mut concept = super::concept::concept(translation, &Coded::read(row.obx.field(6).first()));
    let ucum = unit.ucum.clone().filter(|_| unit.conversion.is_none());
    if let Some(ucum) = ucum.filter(|ucum| !concept.coding.iter().any(|coding| coding.code.as_ref() == Some(ucum))) {
        concept.coding.push(Coding { system: Some(systems::UCUM.into()), code: Some(ucum), display: None });
    }
    (!concept.is_empty()).then_some(concept)
}

fn ucum<'a>(translation: &Translation<'a>, triplet: Triplet<'a>) -> Option<Text<'a>> {
    let (code, text) = (translation.text(triplet.code), translation.text(triplet.text));
    ucum_of(&translation.settings.nomenclature, &code, &text, triplet.system)
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
