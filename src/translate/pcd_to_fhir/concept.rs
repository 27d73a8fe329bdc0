//! Coded values as CodeableConcepts: every triplet sent is kept, LOINC is put first where the table has it.

use super::{CodeKind, Conversion, Output, PcdToFhir, Semantics, Translation, Unmapped, unit::Unit};
use crate::{
    fhir::{CodeableConcept, Coding, Text, systems},
    pcd::{self, Coded, Fit, Loinc, LoincFit, Row, Triplet},
};

/// OBX-3. `loinc` are the rows of the table that hold for this code and unit; a LOINC number sent for another property than the
/// unit's becomes that of the unit, or is left out.
pub(super) fn code<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    loinc: &[&'a Loinc],
    unit: &Unit<'a>,
    output: &mut Output<'a>,
) -> CodeableConcept<'a> {
    let mut concept = CodeableConcept::default();
    concept.coding.extend(loinc.iter().map(|row| loinc_coding(&row.code, &row.display)));
    note_unknown(translation, row, output);
    for triplet in row.code.triplets() {
        match sent_fit(translation, row, triplet, unit) {
            LoincFit::Fits => add(translation, triplet, &mut concept),
            LoincFit::Other(code, display) => {
                note_misfit(translation, triplet, unit, output);
                if !concept.coding.iter().any(|coding| coding.code.as_deref() == Some(code)) {
                    concept.coding.push(loinc_coding(code, display));
                }
            }
            LoincFit::Contradicts => note_misfit(translation, triplet, unit, output),
        }
    }
    add_text(translation, &row.code, &mut concept);
    if concept.is_empty() {
        let sent = row.code.triplets().flat_map(|triplet| [triplet.text, triplet.code]);
        concept.text = sent.map(|raw| translation.text(raw)).find(|text| !text.is_empty());
    }
    preferred(&translation.settings.codes, &mut concept.coding);
    concept
}

/// How a code as it was sent fits the unit the value leaves in. Where the unit was changed to another property, a LOINC number
/// of which nothing is known no longer fits.
fn sent_fit<'a>(translation: &Translation<'a>, row: &Row<'a>, triplet: Triplet<'a>, unit: &Unit<'a>) -> LoincFit {
    if !is_loinc(translation.settings, triplet.system) {
        return LoincFit::Fits;
    }
    let [number, name] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
    let Some(ucum) = unit.ucum.as_deref().or(unit.said) else { return LoincFit::Fits };
    let rows = row.term.code.map(|code| translation.settings.nomenclature.loinc_rows(code)).unwrap_or_default();
    match pcd::loinc_fit(number.trim(), &name, ucum, rows) {
        LoincFit::Fits if unit.conversion.is_some_and(Conversion::changes_property) => {
            if pcd::is_glucose_loinc(number.trim()) { LoincFit::Fits } else { LoincFit::Contradicts }
        }
        fit => fit,
    }
}

/// OBX-3 of a device.
pub(super) fn plain<'a>(translation: &Translation<'a>, row: &Row<'a>, output: &mut Output<'a>) -> CodeableConcept<'a> {
    note_unknown(translation, row, output);
    concept(translation, &row.code)
}

pub(super) fn loinc_coding<'a>(code: &'a str, display: &'a str) -> Coding<'a> {
    Coding { system: Some(systems::LOINC.into()), code: Some(code.into()), display: Some(display.into()) }
}

/// In the order the site wants, without the kinds it does not want; but never nothing.
pub(super) fn preferred(order: &[CodeKind], codings: &mut Vec<Coding<'_>>) {
    let rank = |coding: &Coding<'_>| {
        let kind = match coding.system.as_deref() {
            Some(systems::LOINC) => CodeKind::Loinc,
            Some(systems::MDC) => CodeKind::Mdc,
            _ => CodeKind::Other,
        };
        order.iter().position(|wanted| *wanted == kind)
    };
    if codings.iter().any(|coding| rank(coding).is_some()) {
        codings.retain(|coding| rank(coding).is_some());
        codings.sort_by_key(rank);
    }
}

/// A coded value.
pub(super) fn concept<'a>(translation: &Translation<'a>, coded: &Coded<'a>) -> CodeableConcept<'a> {
    let mut concept = CodeableConcept::default();
    coded.triplets().for_each(|triplet| add(translation, triplet, &mut concept));
    add_text(translation, coded, &mut concept);
    concept
}

fn add<'a>(translation: &Translation<'a>, triplet: Triplet<'a>, concept: &mut CodeableConcept<'a>) {
    let coding = coding(translation, triplet);
    let known = concept.coding.iter().any(|other| other.system == coding.system && other.code == coding.code);
    if coding.code.is_some() && !known {
        concept.coding.push(coding);
    } else if coding.code.is_none() && concept.text.is_none() {
        concept.text = coding.display;
    }
}

fn add_text<'a>(translation: &Translation<'a>, coded: &Coded<'a>, concept: &mut CodeableConcept<'a>) {
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
        return Coding { system: system_uri(translation, &system), code, display };
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

/// Whether this names LOINC, by table 0396 or by a name of the site's own.
pub(super) fn is_loinc(settings: &PcdToFhir, system: &[u8]) -> bool {
    let own = || settings.coding_systems.get(std::str::from_utf8(system).ok()?);
    match if settings.coding_systems.is_empty() { None } else { own() } {
        Some(uri) => uri == systems::LOINC,
        None => names_loinc(system),
    }
}

/// Whether this names LOINC by table 0396.
pub(super) fn names_loinc(system: &[u8]) -> bool {
    matches!(system, b"LN" | b"LOINC")
}

/// The URI of a coding system of table 0396, by the site's own table first. A local system that no table has is written
/// without one.
fn system_uri<'a>(translation: &Translation<'a>, name: &str) -> Option<Text<'a>> {
    if let Some(own) = translation.settings.coding_systems.get(name) {
        return Some(own.into());
    }
    if let Some((_, uri)) = CODING_SYSTEMS.iter().find(|(known, _)| *known == name) {
        return Some((*uri).into());
    }
    let table = name.strip_prefix("HL7")?;
    let digits = (3..=4).contains(&table.len()) && table.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| Text::Owned(format!("http://terminology.hl7.org/CodeSystem/v2-{table:0>4}")))
}

/// Coding systems of table 0396 and their URIs (HL7 terminology, NamingSystems; v2-to-FHIR concept map of table 0396).
pub(in crate::translate) const CODING_SYSTEMS: &[(&str, &str)] = &[
    ("MDC", systems::MDC),
    ("LN", systems::LOINC),
    ("LOINC", systems::LOINC),
    ("SCT", systems::SNOMED),
    ("SCT2", systems::SNOMED),
    ("SNOMED-CT", systems::SNOMED),
    ("UCUM", systems::UCUM),
    ("RXNORM", systems::RXNORM),
    ("NDC", "http://hl7.org/fhir/sid/ndc"),
    ("CVX", "http://hl7.org/fhir/sid/cvx"),
    ("I10", "http://hl7.org/fhir/sid/icd-10"),
    ("I10C", "http://hl7.org/fhir/sid/icd-10-cm"),
    ("I9C", "http://hl7.org/fhir/sid/icd-9-cm"),
    ("C4", "http://www.ama-assn.org/go/cpt"),
    ("CPT4", "http://www.ama-assn.org/go/cpt"),
];

/// A LOINC number sent beside a unit of another property is for its sender to mend. Where the site changed the unit it is not.
fn note_misfit<'a>(translation: &Translation<'a>, triplet: Triplet<'a>, unit: &Unit<'a>, output: &mut Output<'a>) {
    if unit.conversion.is_none() {
        let [code, text] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
        output.unmapped(Unmapped::new("loinc", &code, &text, "LN"));
    }
}

/// An MDC code no row names is passed on as sent, and so is one whose number and name disagree, or a LOINC number with a
/// wrong check digit; all are counted. An enumerated value is, too.
fn note_unknown<'a>(translation: &Translation<'a>, row: &Row<'a>, output: &mut Output<'a>) {
    for triplet in row.code.triplets().filter(|triplet| is_loinc(translation.settings, triplet.system)) {
        let [code, text] = [triplet.code, triplet.text].map(|raw| translation.text(raw));
        if !pcd::loinc_digit_holds(code.trim()) {
            output.unmapped(Unmapped::new("loinc", &code, &text, "LN"));
        }
    }
    if translation.settings.semantics == Semantics::Results {
        let systems = row.code.triplets().map(|triplet| translation.text(triplet.system));
        let unknown = systems.filter(|name| !name.is_empty() && system_uri(translation, name).is_none());
        unknown.for_each(|name| output.unmapped(Unmapped::new("coding_systems", &name, "", "")));
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
