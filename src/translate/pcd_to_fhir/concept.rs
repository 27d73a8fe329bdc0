//! Coded values as CodeableConcepts: every triplet sent is kept, LOINC is put first where the table has it.

use super::{Output, Translation, Unmapped};
use crate::{
    fhir::{CodeableConcept, Coding, Text, systems},
    pcd::{self, Coded, Fit, Loinc, Row, Triplet},
};

/// OBX-3. `loinc` are the rows of the table that hold for this code and unit.
pub(super) fn code<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    loinc: &[&'a Loinc],
    output: &mut Output<'a>,
) -> CodeableConcept<'a> {
    let mut concept = CodeableConcept::default();
    for row in loinc {
        let (code, display) = (Some(Text::Borrowed(&*row.code)), Some(Text::Borrowed(&*row.display)));
        concept.coding.push(Coding { system: Some(systems::LOINC.into()), code, display });
    }
    note_unknown(translation, row, output);
    add(translation, &row.code, &mut concept);
    concept
}

/// A coded value.
pub(super) fn concept<'a>(translation: &Translation<'a>, coded: &Coded<'a>) -> CodeableConcept<'a> {
    let mut concept = CodeableConcept::default();
    add(translation, coded, &mut concept);
    concept
}

fn add<'a>(translation: &Translation<'a>, coded: &Coded<'a>, concept: &mut CodeableConcept<'a>) {
    for triplet in coded.triplets() {
        let coding = coding(translation, triplet);
        let known = concept.coding.iter().any(|other| other.system == coding.system && other.code == coding.code);
        if coding.code.is_some() && !known {
            concept.coding.push(coding);
        } else if coding.code.is_none() && concept.text.is_none() {
            concept.text = coding.display;
        }
    }
    if !coded.original_text.is_empty() {
        concept.text = Some(translation.text(coded.original_text));
    }
}

/// One triplet. Without a code where there is none to write: `^pump-status-infusing`, or an MDC term that has no number.
fn coding<'a>(translation: &Translation<'a>, triplet: Triplet<'a>) -> Coding<'a> {
    let sent = |raw: &'a [u8]| Some(translation.text(raw)).filter(|text| !text.is_empty());
    let (code, display) = (sent(triplet.code).map(single_spaced), sent(triplet.text));
    let system = translation.text(triplet.system);
    let mdc = triplet.is_mdc() || (system.is_empty() && triplet.text.starts_with(b"MDC"));
    if !mdc {
        return Coding { system: system_uri(&system), code, display };
    }
    let resolved =
        translation.settings.nomenclature.resolve(code.as_deref().unwrap_or(""), display.as_deref().unwrap_or(""));
    let name = || resolved.term.map(|term| Text::Borrowed(&*term.refid));
    let number = resolved.code.map(|number| Text::Owned(number.to_string()));
    Coding { system: Some(systems::MDC.into()), code: number, display: display.or_else(name) }
}

/// A FHIR `code` has no white space but single blanks inside.
fn single_spaced(code: Text<'_>) -> Text<'_> {
    let clean = |code: &str| !code.contains("  ") && !code.contains(|c: char| c.is_whitespace() && c != ' ');
    if clean(&code) { code } else { code.split_whitespace().collect::<Vec<_>>().join(" ").into() }
}

/// The URI of a coding system of table 0396. A site's own system has none: its codes are written without.
fn system_uri(name: &str) -> Option<Text<'static>> {
    Some(match name {
        "LN" | "LOINC" => systems::LOINC.into(),
        "SCT" | "SCT2" | "SNOMED-CT" => systems::SNOMED.into(),
        "UCUM" => systems::UCUM.into(),
        "RXNORM" => "http://www.nlm.nih.gov/research/umls/rxnorm".into(),
        "NDC" => "http://hl7.org/fhir/sid/ndc".into(),
        "I10" => "http://hl7.org/fhir/sid/icd-10".into(),
        _ => {
            let table = name.strip_prefix("HL7")?;
            let digits = (3..=4).contains(&table.len()) && table.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| Text::Owned(format!("http://terminology.hl7.org/CodeSystem/v2-{table:0>4}")))?
        }
    })
}

/// An MDC code no row names is passed on as sent, and so is one whose number and name disagree, or a LOINC number with a
/// wrong check digit; all are counted. An enumerated value is, too.
fn note_unknown<'a>(translation: &Translation<'a>, row: &Row<'a>, output: &mut Output<'a>) {
    for triplet in row.code.triplets().filter(|triplet| matches!(triplet.system, b"LN" | b"LOINC")) {
        let [code, text] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
        if !pcd::loinc_digit_holds(code.trim()) {
            output.unmapped(Unmapped::new("loinc", &code, &text, "LN"));
        }
    }
    if let Some(triplet) = row.code.mdc_or_alike()
        && (row.term.term.is_none() || row.term.mismatch)
    {
        output.unmapped(unknown(translation, triplet));
    }
    if matches!(row.obx.raw(2), b"CWE" | b"CE" | b"CNE" | b"CF") {
        let values = row.obx.field(5).repetitions().filter_map(|value| Coded::read(value).mdc());
        values.for_each(|triplet| note_value(translation, triplet, output));
    }
}

/// Of a value only a number, or an identifier, is told: its text may be what a person typed.
fn note_value<'a>(translation: &Translation<'a>, triplet: Triplet<'a>, output: &mut Output<'a>) {
    let [code, text] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
    let refid = if pcd::is_refid(&text) { &*text } else { "" };
    let fit = translation.settings.nomenclature.resolve(&code, refid).fit;
    let is_code = !refid.is_empty() || !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_digit());
    if is_code && (fit.is_unmapped() || fit == Fit::OtherTerm) {
        output.unmapped(told(&code, refid));
    }
}

fn unknown(translation: &Translation<'_>, triplet: Triplet<'_>) -> Unmapped {
    let [code, text] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
    told(&code, &text)
}

/// What has no number of its own is told by its identifier.
fn told(code: &str, refid: &str) -> Unmapped {
    match code.trim() {
        number @ ("" | "0" | "999999") => Unmapped::new("mdc-terms", refid, number, "MDC"),
        number => Unmapped::new("mdc-terms", number, refid, "MDC"),
    }
}
