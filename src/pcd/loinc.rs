//! What a LOINC number measures, as far as it is known: LOINC has one number for a mass and another for a substance
//! concentration, so that a number beside the wrong unit says a glucose eighteen times too high or too low.
//!
//! What must never happen: a number of glucose that leaves beside a unit of the other property.

use octofhir_ucum::get_canonical_units;

use super::nomenclature::Loinc;

/// Mass and substance concentration of glucose, number and name (group LG7967-5; HL7 CGM for interstitial fluid).
const GLUCOSE: [[(&str, &str); 2]; 8] = [
    [
        ("99504-3", "Glucose [Mass/volume] in Interstitial fluid"),
        ("105272-9", "Glucose [Moles/volume] in Interstitial fluid"),
    ],
    [("2345-7", "Glucose [Mass/volume] in Serum or Plasma"), ("14749-6", "Glucose [Moles/volume] in Serum or Plasma")],
    [("2339-0", "Glucose [Mass/volume] in Blood"), ("15074-8", "Glucose [Moles/volume] in Blood")],
    [("32016-8", "Glucose [Mass/volume] in Capillary blood"), ("51596-5", "Glucose [Moles/volume] in Capillary blood")],
    [
        ("41653-7", "Glucose [Mass/volume] in Capillary blood by Glucometer"),
        ("14743-9", "Glucose [Moles/volume] in Capillary blood by Glucometer"),
    ],
    [
        ("1558-6", "Fasting glucose [Mass/volume] in Serum or Plasma"),
        ("14771-0", "Fasting glucose [Moles/volume] in Serum or Plasma"),
    ],
    [
        ("41604-0", "Fasting glucose [Mass/volume] in Capillary blood by Glucometer"),
        ("14770-2", "Fasting glucose [Moles/volume] in Capillary blood by Glucometer"),
    ],
    [
        ("97507-8", "Average glucose [Mass/volume] in Interstitial fluid during Reporting Period"),
        ("105273-7", "Average glucose [Moles/volume] in Interstitial fluid during Reporting Period"),
    ],
];
/// By test strip: mass concentrations whose partner is not known for sure.
const GLUCOSE_MASS: [&str; 2] = ["2340-8", "2341-6"];

/// A unit of each of the two properties, and how LOINC's names say it.
const PROPERTIES: [(&str, &str); 2] = [("mg/dL", "[Mass/volume]"), ("mmol/L", "[Moles/volume]")];
/// How LOINC's short names say them, such as `Glucose BldC-mCnc`.
const SHORT: [&str; 2] = ["-mcnc", "-scnc"];
/// What LOINC is called, in whatever capitals.
const CALLED: [&str; 5] = ["LN", "LOINC", "http://loinc.org", "2.16.840.1.113883.6.1", "urn:oid:2.16.840.1.113883.6.1"];

/// Spellings of the two that are no UCUM, small and without blanks. What `mM` means is told by its capital.
const SPELLINGS: [&[&str]; 2] =
    [&["mg/dl", "mg%", "mgs/dl", "mgdl", "mg/100ml"], &["mmol/l", "mmols/l", "mmoll", "mmole/l", "mmoles/l"]];

/// How a LOINC number fits a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoincFit {
    /// The unit measures what the number is of, or it is not known what that is.
    Fits,
    /// The unit measures the other property, which has this number and name.
    Other(&'static str, &'static str),
    /// The unit measures something else.
    Contradicts,
}

/// Whether the number, sent with this name, may stand beside a value in `ucum`. `rows` are what the table has for the code it
/// was sent with: their units say what their numbers are of.
pub fn loinc_fit(number: &str, name: &str, ucum: &str, rows: &[Loinc]) -> LoincFit {
    let Some(property) = glucose_property(number) else {
        if property_named(name).zip(property_of_unit(ucum)).is_some_and(|(named, measured)| named != measured) {
            return LoincFit::Contradicts;
        }
        let mut units = rows.iter().filter(|row| &*row.code == number).filter_map(|row| row.ucum.as_deref()).peekable();
        let contradicts = units.peek().is_some() && !units.any(|unit| measure_alike(unit, ucum) != Some(false));
        return if contradicts { LoincFit::Contradicts } else { LoincFit::Fits };
    };
    if measure_alike(PROPERTIES[property].0, ucum) == Some(true) {
        return LoincFit::Fits;
    }
    let other = 1 - property;
    let pair = GLUCOSE.iter().find(|pair| pair[property].0 == number).map(|pair| pair[other]);
    match pair.filter(|_| measure_alike(PROPERTIES[other].0, ucum) == Some(true)) {
        Some((number, name)) => LoincFit::Other(number, name),
        None => LoincFit::Contradicts,
    }
}

/// Whether the number is one of glucose, whose property is known.
pub fn is_glucose_loinc(number: &str) -> bool {
    glucose_property(number).is_some()
}

/// Of glucose, which of the two properties a LOINC number is of, by the name sent with it where the number is not known.
pub fn glucose_property_of(number: &str, name: &str) -> Option<usize> {
    glucose_property(number)
        .or_else(|| name.to_ascii_lowercase().contains("glucose").then(|| property_named(name)).flatten())
}

/// Whether the number is of LOINC, by what its system is called. A known number of glucose is that under any name.
pub fn is_loinc_said(system: &str, number: &str) -> bool {
    CALLED.iter().any(|name| name.eq_ignore_ascii_case(system)) || is_glucose_loinc(number)
}

/// Which of the two properties a unit measures.
pub fn property_of_unit(ucum: &str) -> Option<usize> {
    PROPERTIES.iter().position(|(unit, _)| measure_alike(unit, ucum) == Some(true))
}

/// UCUM of a unit of glucose in a spelling that is none, such as `mg%`: enough to hold it against a number, which is all it is
/// for.
pub fn glucose_unit_said(text: &str) -> Option<&'static str> {
    let text = text.trim();
    if text == "mM" {
        return Some(PROPERTIES[1].0);
    }
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
    SPELLINGS.iter().position(|spellings| spellings.contains(&plain.as_str())).map(|property| PROPERTIES[property].0)
}

/// What is wrong with a row that gives this number and name to values in `ucum`.
pub(super) fn row_fault(number: &str, name: &str, ucum: &str) -> Option<String> {
    let (unit, property) = PROPERTIES[glucose_property(number).or_else(|| property_named(name))?];
    if ucum.is_empty() {
        return Some(format!("`{number}` is a concentration {property} and has no unit; write one such as {unit}"));
    }
    if measure_alike(unit, ucum) == Some(true) {
        return None;
    }
    let remedy = match loinc_fit(number, name, ucum, &[]) {
        LoincFit::Other(other, _) => format!("write {other}, or a unit such as {unit}"),
        _ => format!("write the number that is for `{ucum}`, or a unit such as {unit}"),
    };
    Some(format!("`{number}` is a concentration {property}, and `{ucum}` measures something else; {remedy}"))
}

fn glucose_property(number: &str) -> Option<usize> {
    let known = (0..2).find(|property| GLUCOSE.iter().any(|pair| pair[*property].0 == number));
    known.or_else(|| GLUCOSE_MASS.contains(&number).then_some(0))
}

/// Which of the two a name of LOINC says, in whatever capitals.
fn property_named(name: &str) -> Option<usize> {
    let name = name.to_ascii_lowercase();
    let said = |property: &usize| {
        name.contains(&PROPERTIES[*property].1.to_ascii_lowercase()) || name.contains(SHORT[*property])
    };
    (0..2).find(said)
}

/// Whether two units measure the same; `None` where one of them has no linear scale.
fn measure_alike(a: &str, b: &str) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    let [a, b] = [a, b].map(|unit| get_canonical_units(unit).ok());
    Some(a?.unit == b?.unit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;
    use crate::pcd::loinc_digit_holds;

    #[test]
    fn every_number_of_glucose_has_its_check_digit_and_a_name_of_its_property() {
        for ((number, name), (_, property)) in GLUCOSE.iter().flat_map(|pair| pair.iter().zip(PROPERTIES)) {
            assert!(loinc_digit_holds(number) && name.contains(property), "{number}");
        }
        assert!(GLUCOSE_MASS.iter().all(|number| loinc_digit_holds(number)));
    }

    #[test]
    fn a_number_of_glucose_stands_beside_its_own_property_alone() {
        let fit = |number: &str, ucum: &str| loinc_fit(number, "", ucum, &[]);
        let other = |number: &str, ucum: &str| match fit(number, ucum) {
            LoincFit::Other(number, _) => number,
            fit => panic!("{fit:?}"),
        };
        for [mass, molar] in GLUCOSE.map(|pair| pair.map(|(number, _)| number)) {
            assert_eq!((fit(mass, "mg/dL"), fit(mass, "g/L")), (LoincFit::Fits, LoincFit::Fits));
            assert_eq!((fit(molar, "mmol/L"), fit(molar, "umol/dL")), (LoincFit::Fits, LoincFit::Fits));
            assert_eq!((other(mass, "mmol/L"), other(molar, "mg/dL")), (molar, mass));
            assert_eq!((fit(mass, "mm[Hg]"), fit(molar, "%")), (LoincFit::Contradicts, LoincFit::Contradicts));
        }
        for strip in ["2340-8", "2341-6"] {
            assert_eq!((fit(strip, "mg/dL"), fit(strip, "mmol/L")), (LoincFit::Fits, LoincFit::Contradicts));
        }
        assert_eq!(fit("8867-4", "mg/dL"), LoincFit::Fits, "nothing is known of what it measures");
        for name in ["Glucose [moles/volume] in Urine", "Glucose Ur-sCnc"] {
            let named = |ucum| loinc_fit("15076-3", name, ucum, &[]);
            assert_eq!(
                (named("mg/dL"), named("mmol/L"), named("%")),
                (LoincFit::Contradicts, LoincFit::Fits, LoincFit::Fits)
            );
        }
    }

    #[test]
    fn a_number_of_loinc_is_known_by_its_system_and_one_of_glucose_by_itself() {
        for system in ["LN", "ln", "Loinc", "http://loinc.org", "2.16.840.1.113883.6.1"] {
            assert!(is_loinc_said(system, "8867-4"), "{system}");
        }
        assert!(is_loinc_said("L", "2345-7") && !is_loinc_said("L", "8867-4") && !is_loinc_said("", "GLU"));
    }

    #[test]
    fn a_unit_of_glucose_is_known_in_spellings_that_are_no_ucum() {
        for mass in ["mg%", "MG/DL", "mg / dl", "mg/100 mL"] {
            assert_eq!(glucose_unit_said(mass), Some("mg/dL"), "{mass}");
        }
        for molar in ["mM", "MMOL/L", "mmol/l"] {
            assert_eq!(glucose_unit_said(molar), Some("mmol/L"), "{molar}");
        }
        assert_eq!([glucose_unit_said("mm"), glucose_unit_said("MM"), glucose_unit_said("")], [None; 3]);
    }
}
