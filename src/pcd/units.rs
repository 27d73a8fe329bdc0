//! Whether the ways in which a field names its unit mean one: UCUM and MDC, number and identifier, code and text.
//!
//! Two that differ are a fault of the sender's, and the value may be wrong a thousandfold: whoever reads it must not choose.

use std::borrow::Cow;

use super::{
    Coded, Nomenclature, Triplet,
    loinc::{glucose_unit_said, property_of_unit},
    nomenclature::same_but_annotation,
};

/// Whether two UCUM units are the same, however they are written.
pub(crate) fn same_unit(a: &str, b: &str) -> bool {
    same_but_annotation(a, b)
        || match (octofhir_ucum::get_canonical_units(a), octofhir_ucum::get_canonical_units(b)) {
            (Ok(x), Ok(y)) => x.factor == y.factor && x.offset == y.offset && x.dimension == y.dimension,
            _ => false,
        }
}

/// UCUM of one way in which a unit is named, where it is sure.
pub(crate) fn ucum_of<'c>(codes: &'c Nomenclature, code: &str, text: &str, system: &[u8]) -> Option<Cow<'c, str>> {
    let known = match system.trim_ascii() {
        b"UCUM" => {
            // Some senders put the MDC number where the UCUM code belongs: `3475^ug/kg/min^UCUM`.
            let misplaced = code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_digit());
            let unit = if misplaced || code.is_empty() { text } else { code };
            return (!unit.is_empty() && codes.is_ucum(unit)).then(|| Cow::Owned(unit.to_owned()));
        }
        b"MDC" => codes.unit(code, text),
        _ if text.starts_with("MDC_") => codes.unit(code, text),
        _ if code.starts_with("MDC_") => codes.unit(code, code),
        _ => codes.unit_alias(code),
    };
    known.map(|unit| Cow::Borrowed(&**unit))
}

/// What is wrong with a site's row that gives this unit another size, or another meaning, than the shipped rows or its own
/// text do.
pub(super) fn unit_fault(shipped: &Nomenclature, code: &str, name: &str, ucum: &str) -> Option<String> {
    let known = [shipped.unit(code, ""), shipped.unit_named_alike(name)].into_iter().flatten();
    let known = known.map(|unit| &**unit).chain(glucose_unit_said(name)).find(|known| !same_unit(known, ucum));
    // Of a text that is itself UCUM, some mean another: `C` is Celsius. None means a multiple, or moles for a mass.
    let own = || {
        let other = property_of_unit(name).zip(property_of_unit(ucum)).is_some_and(|(one, two)| one != two);
        (code.is_empty() && (other || differ_in_size(name, ucum))).then_some(name)
    };
    let known = known.or_else(own)?;
    let unit = if name.is_empty() { code } else { name };
    Some(format!(
        "`{unit}` is {known}, and every value in it would be wrong as `{ucum}`: remove the row, or write {known}; to send values in \
         another unit, declare a conversion ([[destination.fhir.convert]]), which changes the number too"
    ))
}

/// Whether a field names two units; `told` decodes its text.
pub(crate) fn names_two_units(codes: &Nomenclature, coded: &Coded<'_>, told: impl Fn(&[u8]) -> String) -> bool {
    let mut known: Option<Cow<'_, str>> = None;
    let mut printed = Vec::new();
    for Triplet { code, text, system } in coded.triplets() {
        let (code, text) = (told(code), told(text));
        let disagree = match system.trim_ascii() {
            b"UCUM" => differ_in_size(&code, &text),
            b"MDC" => {
                let number = codes.unit(&code, "");
                let both = number.zip(codes.unit("", &text));
                both.is_some_and(|(number, name)| !same_unit(number, name))
                    || codes.unit_sizes_differ(&code, &text)
                    || number.is_some_and(|number| differ_in_size(number, &text))
            }
            b"" => differ_in_size(codes.unit_alias(&code).map_or(&*code, |unit| unit), &text),
            _ => false,
        };
        let unit = ucum_of(codes, &code, &text, system);
        if disagree || known.as_ref().zip(unit.as_ref()).is_some_and(|(known, unit)| !same_unit(known, unit)) {
            return true;
        }
        if unit.is_none() && system.trim_ascii().is_empty() {
            printed.extend([code, text]);
        }
        known = known.or(unit);
    }
    known.is_some_and(|known| printed.iter().any(|printed| differ_in_size(&known, printed)))
}

/// Units of one kind, one of which is a multiple of the other. What is in braces is words, and capitals are how some print.
fn differ_in_size(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) || b.is_empty() || b.contains('{') || b.starts_with("MDC_") {
        return false;
    }
    // As pumps print it: what `mcg` and `hr` mean is no question.
    let [a, b] = [a, b].map(|unit| unit.replace("mcg", "ug").replace("hr", "h"));
    match (octofhir_ucum::get_canonical_units(&a), octofhir_ucum::get_canonical_units(&b)) {
        (Ok(x), Ok(y)) => x.dimension == y.dimension && (x.factor != y.factor || x.offset != y.offset),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::hl7::Message;

    #[test]
    fn a_field_that_names_two_units_is_told_and_spellings_and_words_are_no_second_one() {
        let codes = Nomenclature::built_in();
        let two = |field: &str| {
            let text = format!("MSH|^~\\&|A\rOBX|1|NM|1^A^MDC|1.1.1.1|5|{field}\r");
            let message = Message::parse(text.into_bytes()).unwrap();
            let obx = message.segment("OBX").unwrap();
            let coded = Coded::read(obx.field(6).first());
            names_two_units(&codes, &coded, |raw| message.text(raw).trim().to_owned())
        };
        for disagrees in [
            "263762^MDC_DIM_MILLI_L^MDC^L^L^UCUM",
            "265266^MDC_DIM_MILLI_L_PER_HR^MDC^L/h^L/h^UCUM",
            "ug/kg/min^mg/kg/min^UCUM",
            "263762^MDC_DIM_X_L^MDC",
            "265619^MDC_DIM_MILLI_G_PER_KG_PER_MIN^MDC",
            "mL/h^L/h",
            "mL/hr^L/hr",
            "ug/kg/min^mg/kg/min",
            "265266^MDC_DIM_MILLI_L_PER_HR^MDC^L/h",
            "265266^MDC_DIM_MILLI_L_PER_HR^MDC^^L/h",
            "mg/kg/min^^^265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC",
        ] {
            assert!(two(disagrees), "{disagrees}");
        }
        for agrees in [
            "263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM",
            "mL^^UCUM",
            "Cel^C^UCUM",
            "[iU]^U^UCUM",
            "%^{percent}^UCUM",
            "mL/h^ml/h^UCUM",
            "/min^bpm^UCUM^264864^MDC_DIM_BEAT_PER_MIN^MDC",
            "mg^MG^UCUM",
            "mL/h^ML/H",
            "mL/h^milliliters per hour",
            "mL/hr^ml/h^^265266^MDC_DIM_MILLI_L_PER_HR^MDC",
            "265266^MDC_DIM_MILLI_L_PER_HR^MDC^cc/hr",
            "265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC^mcg/kg/min",
            "Cel^C",
            "[iU]/h^U/h",
            "mg/dl^mg%^L",
            "ml",
            "",
        ] {
            assert!(!two(agrees), "{agrees}");
        }
    }
}
