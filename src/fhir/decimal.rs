//! Decimals digit for digit: `5.60` stays `5.60`, since the digits a device shows are part of what it measured.

use serde::{Serialize, Serializer};

/// A FHIR decimal. Never a binary floating point number on its way.
#[derive(Clone, PartialEq, Eq)]
pub struct Decimal(serde_json::Number);

impl Decimal {
    /// Reads an HL7 v2 number (NM): sign, digits, point, of any length. `None` for anything else, also for exponents.
    ///
    /// Only what JSON cannot write is changed: `+5` → `5`, `.5` → `0.5`, `5.` → `5`, `007` → `7`.
    pub fn parse(text: &str) -> Option<Decimal> {
        let text = text.trim();
        let (sign, digits) = match text.as_bytes().first()? {
            b'-' => ("-", &text[1..]),
            b'+' => ("", &text[1..]),
            _ => ("", text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let only_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !only_digits(whole) || !only_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{whole}{point}{fraction}").parse().ok().map(Decimal)
    }

    /// The digits as written to JSON.
    pub fn as_str(&self) -> String {
        self.0.to_string()
    }

    /// Whether this is the greater of the two, digit by digit.
    pub fn is_above(&self, other: &Decimal) -> bool {
        let (a, b) = (Parts::of(self.as_str()), Parts::of(other.as_str()));
        match (a.negative, b.negative) {
            (false, true) => !(a.is_zero() && b.is_zero()),
            (true, false) => false,
            (false, false) => a.magnitude() > b.magnitude(),
            (true, true) => a.magnitude() < b.magnitude(),
        }
    }

    /// Zero.
    pub fn zero() -> Decimal {
        Decimal(serde_json::Number::from(0))
    }
}

/// A decimal taken apart for comparing: no zeros at either end.
struct Parts {
    negative: bool,
    whole: String,
    fraction: String,
}

impl Parts {
    fn of(text: String) -> Parts {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text.as_str()), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let (whole, fraction) = (whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned());
        Parts { negative, whole, fraction }
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.is_empty()
    }

    fn magnitude(&self) -> (usize, &str, &str) {
        (self.whole.len(), &self.whole, &self.fraction)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn json(text: &str) -> Option<String> {
        Decimal::parse(text).map(|decimal| serde_json::to_string(&decimal).unwrap())
    }

    #[test]
    fn the_digits_sent_are_the_digits_written() {
        for text in ["5.60", "0.10", "-0.0", "100", "0", "0.000", "18446744073709551616", "1.7976931348623157e"] {
            let expected = (!text.ends_with('e')).then(|| text.to_owned());
            assert_eq!(json(text), expected, "{text}");
        }
        let long = format!("{}.{}", "9".repeat(400), "0".repeat(400));
        assert_eq!(json(&long), Some(long));
    }

    #[test]
    fn only_what_json_cannot_write_is_changed() {
        let cases =
            [("+5", "5"), (".5", "0.5"), ("5.", "5"), ("-.5", "-0.5"), ("007.50", "7.50"), ("00", "0"), (" 7 ", "7")];
        for (sent, written) in cases {
            assert_eq!(json(sent).as_deref(), Some(written), "{sent}");
        }
    }

    #[test]
    fn numbers_compare_by_value_whatever_their_digits() {
        let above = |a: &str, b: &str| Decimal::parse(a).unwrap().is_above(&Decimal::parse(b).unwrap());
        let ascending = ["-100", "-99.9", "-0.5", "0.00", "0.05", "0.5", "9", "10.0", "10.01", "99999999999999999999"];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(above(a, b), i > j, "{a} {b}");
            }
        }
        assert!(!above("0", "-0") && !above("1.0", "1.00") && !above("1.00", "1.0"));
    }

    #[test]
    fn what_is_not_a_number_is_not_made_one() {
        for text in ["", ".", "-", "+", "FOO", "NaN", "1e9", "1,5", "--1", "1.2.3", "0x10", "1 2", "٣", "-+1"] {
            assert_eq!(json(text), None, "{text}");
        }
    }
}
