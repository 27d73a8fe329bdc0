//! Units changed on a site's order: within one dimension, and glucose between mass and substance concentration.
//!
//! A value that is not asked for in another unit leaves as the device showed it. A changed value has the decimals that were
//! declared, no more, and is computed in decimals, never in binary.

use octofhir_ucum::{Number, get_canonical_units};

use crate::{
    fhir::Decimal,
    pcd::{LoincFit, cgm::MG_DL_PER_MMOL_L, loinc_fit, same_but_annotation},
};

/// One change of unit.
#[derive(Debug, Clone)]
pub struct Conversion {
    from: String,
    to: String,
    decimals: u8,
    codes: Vec<String>,
    /// value × factor + shift, over divisor.
    factor: Number,
    shift: Number,
    divisor: Number,
    of_glucose: bool,
}

impl Conversion {
    /// From one UCUM unit to another, for the MDC numbers or identifiers or LOINC numbers in `codes`, or for all where that
    /// is empty. What is wrong where the two do not measure the same.
    pub fn new(from: &str, to: &str, decimals: u8, codes: Vec<String>) -> Result<Conversion, &'static str> {
        let canonical =
            |unit: &str| get_canonical_units(unit).map_err(|_| "a unit is not UCUM, or has no linear scale");
        let (source, target) = (canonical(from)?, canonical(to)?);
        let (from, to) = (from.to_owned(), to.to_owned());
        if source.unit == target.unit {
            let shift = source.offset.checked_sub(target.offset).ok_or(TOO_FAR)?;
            let (factor, divisor) = (source.factor, target.factor);
            return Ok(Conversion { from, to, decimals, codes, factor, shift, divisor, of_glucose: false });
        }
        let glucose = Number::parse(&MG_DL_PER_MMOL_L.to_string()).ok_or(TOO_FAR)?;
        let (factor, divisor) = match (&*from, &*to) {
            ("mg/dL", "mmol/L") => (Number::ONE, glucose),
            ("mmol/L", "mg/dL") => (glucose, Number::ONE),
            _ => return Err("the two units do not measure the same"),
        };
        Ok(Conversion { from, to, decimals, codes, factor, shift: Number::ZERO, divisor, of_glucose: true })
    }

    /// Whether a value in this unit under these codes is to be changed. Mass becomes substance for glucose alone.
    pub fn applies<'c>(&self, ucum: &str, mut codes: impl Iterator<Item = &'c str> + Clone) -> bool {
        let glucose = |code: &str| {
            code.starts_with("MDC_CONC_GLU") || matches!(loinc_fit(code, "", &self.to, &[]), LoincFit::Other(..))
        };
        same_but_annotation(&self.from, ucum)
            && (!self.of_glucose || codes.clone().any(glucose))
            && (self.codes.is_empty() || codes.any(|code| self.codes.iter().any(|asked| asked == code)))
    }

    /// From a mass to a substance concentration or back: another property, which has other LOINC numbers.
    pub fn changes_property(&self) -> bool {
        self.of_glucose
    }

    /// The value in the new unit; `None` where it has more digits than can be computed with.
    pub fn apply(&self, value: &Decimal) -> Option<Decimal> {
        let value = Number::parse(&value.as_str())?.checked_mul(self.factor)?.checked_add(self.shift)?;
        Decimal::parse(&rounded(value.checked_div(self.divisor)?, u32::from(self.decimals))?)
    }

    /// The new unit.
    pub fn to(&self) -> &str {
        &self.to
    }

    /// The old one.
    pub fn from(&self) -> &str {
        &self.from
    }

    /// Digits after the point.
    pub fn decimals(&self) -> u8 {
        self.decimals
    }

    /// The codes it is for; none: all.
    pub fn codes(&self) -> &[String] {
        &self.codes
    }
}

const TOO_FAR: &str = "the units are too far apart to compute with";

/// To that many digits after the point, a half away from zero.
fn rounded(number: Number, decimals: u32) -> Option<String> {
    let (digits, exponent) = number.to_integer_and_exponent();
    let shift = i64::from(exponent) + i64::from(decimals);
    let power = |n: i64| u32::try_from(n).ok().and_then(|n| 10_i128.checked_pow(n));
    let scaled = if shift >= 0 {
        digits.checked_mul(power(shift)?)?
    } else {
        match power(-shift) {
            Some(divisor) => (digits.abs() + divisor / 2) / divisor * digits.signum(),
            None => 0,
        }
    };
    let (sign, digits) = (if scaled < 0 { "-" } else { "" }, scaled.unsigned_abs().to_string());
    let places = decimals as usize;
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    Some(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn converted(from: &str, to: &str, decimals: u8, value: &str) -> Option<String> {
        let conversion = Conversion::new(from, to, decimals, Vec::new()).unwrap();
        conversion.apply(&Decimal::parse(value).unwrap()).map(|value| value.as_str())
    }

    #[test]
    fn glucose_is_divided_by_its_molar_mass() {
        for (mass, molar) in [("70", "3.89"), ("54", "3.00"), ("180", "9.99"), ("250", "13.88"), ("0", "0.00")] {
            assert_eq!(converted("mg/dL", "mmol/L", 2, mass).as_deref(), Some(molar));
        }
        assert_eq!(converted("mmol/L", "mg/dL", 0, "5.5").as_deref(), Some("99"));
        assert_eq!(converted("mmol/L", "mg/dL", 1, "10.00").as_deref(), Some("180.2"));
    }

    #[test]
    fn a_converted_value_has_the_declared_decimals_and_a_half_goes_up() {
        assert_eq!(converted("Cel", "[degF]", 1, "37.0").as_deref(), Some("98.6"));
        assert_eq!(converted("[degF]", "Cel", 2, "98.6").as_deref(), Some("37.00"));
        assert_eq!(converted("Cel", "[degF]", 1, "-40").as_deref(), Some("-40.0"));
        assert_eq!(converted("g", "mg", 0, "0.0005").as_deref(), Some("1"));
        assert_eq!(converted("mg", "g", 3, "-0.5").as_deref(), Some("-0.001"));
        assert_eq!(converted("mm[Hg]", "kPa", 1, "120").as_deref(), Some("16.0"));
        assert_eq!(converted("mL/h", "uL/min", 3, "2.5").as_deref(), Some("41.667"));
        assert_eq!(converted("g", "mg", 9, &"9".repeat(40)), None);
    }

    #[test]
    fn what_does_not_measure_the_same_is_no_conversion() {
        for (from, to) in [("mg/dL", "mL"), ("[iU]", "U"), ("mmol/L", "g/L"), ("mmHg", "kPa"), ("[pH]", "mol/L")] {
            assert!(Conversion::new(from, to, 1, Vec::new()).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn mass_becomes_substance_for_glucose_alone() {
        let conversion = Conversion::new("mg/dL", "mmol/L", 1, Vec::new()).unwrap();
        let applies = |ucum: &str, code: &str| conversion.applies(ucum, [code].into_iter());
        assert!(applies("mg/dL", "MDC_CONC_GLU_ISF") && applies("mg/dL", "2345-7"));
        assert!(!applies("mg/dL", "MDC_CONC_CREA") && !applies("mmol/L", "2345-7"));
        let narrow = Conversion::new("mm[Hg]", "kPa", 1, vec!["150021".to_owned()]).unwrap();
        assert!(narrow.applies("mm[Hg]", ["150021"].into_iter()) && !narrow.applies("mm[Hg]", ["150022"].into_iter()));
    }
}
