//! Amounts with their unit, added and compared digit by digit: a volume given is never read as a float.
//!
//! What does not fit together, by its unit or for its length, has no sum: a dose is left out rather than wrong.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Digits of an amount at most: what is longer is no amount.
const DIGITS_MAX: usize = 18;
/// Bytes of a unit at most.
const UNIT_MAX: usize = 24;

/// A decimal with the places it was sent with, and its unit; an empty unit is that of whatever it is added to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) struct Amount {
    /// In units of its last place.
    number: i64,
    /// Decimal places.
    places: u8,
    pub unit: String,
}

impl Amount {
    /// Nothing, of any unit.
    pub fn zero() -> Amount {
        Amount { number: 0, places: 0, unit: String::new() }
    }

    /// The amount, if it is a number that can be reckoned with.
    pub fn of(value: &str, unit: &str) -> Option<Amount> {
        let value = value.trim();
        let (sign, digits) = match value.as_bytes().first()? {
            b'-' => (-1, &value[1..]),
            b'+' => (1, &value[1..]),
            _ => (1, value),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        let plain = !all.is_empty() && all.len() <= DIGITS_MAX && all.bytes().all(|byte| byte.is_ascii_digit());
        let number = all.parse::<i64>().ok().filter(|_| plain && unit.len() <= UNIT_MAX)?;
        Some(Amount { number: sign * number, places: fraction.len().try_into().ok()?, unit: unit.to_owned() })
    }

    /// As it is written, every digit.
    pub fn value(&self) -> String {
        let places = usize::from(self.places);
        let digits = format!("{:0>width$}", self.number.unsigned_abs(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let (sign, point) = (if self.number < 0 { "-" } else { "" }, if places == 0 { "" } else { "." });
        format!("{sign}{whole}{point}{fraction}")
    }

    pub fn plus(&self, other: &Amount) -> Option<Amount> {
        self.combined(other, |one, two| one.checked_add(two))
    }

    pub fn minus(&self, other: &Amount) -> Option<Amount> {
        self.combined(other, |one, two| one.checked_sub(two))
    }

    /// None where their units differ.
    pub fn compare(&self, other: &Amount) -> Option<Ordering> {
        let (one, two, _) = self.aligned(other)?;
        Some(one.cmp(&two))
    }

    /// The same but for what rounding does: one in the last place of each.
    pub fn is_like(&self, other: &Amount) -> bool {
        let Some((one, two, places)) = self.aligned(other) else { return false };
        let last = |of: &Amount| 10_i128.pow(u32::from(places - of.places));
        one.abs_diff(two) <= (last(self) + last(other)).unsigned_abs()
    }

    /// More by more than a tenth.
    pub fn is_far_above(&self, other: &Amount) -> bool {
        self.aligned(other).is_some_and(|(one, two, _)| one.saturating_mul(10) > two.saturating_mul(11))
    }

    pub fn is_zero(&self) -> bool {
        self.number == 0
    }

    pub fn is_negative(&self) -> bool {
        self.number < 0
    }

    fn combined(&self, other: &Amount, by: impl FnOnce(i128, i128) -> Option<i128>) -> Option<Amount> {
        let (one, two, places) = self.aligned(other)?;
        let unit = if self.unit.is_empty() { &other.unit } else { &self.unit };
        Some(Amount { number: by(one, two)?.try_into().ok()?, places, unit: unit.clone() })
    }

    /// Both as whole numbers of the same power of ten.
    fn aligned(&self, other: &Amount) -> Option<(i128, i128, u8)> {
        if self.unit != other.unit && !self.unit.is_empty() && !other.unit.is_empty() {
            return None;
        }
        let places = self.places.max(other.places);
        let raise =
            |of: &Amount| i128::from(of.number).checked_mul(10_i128.checked_pow(u32::from(places - of.places))?);
        Some((raise(self)?, raise(other)?, places))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn ml(value: &str) -> Amount {
        Amount::of(value, "mL").unwrap()
    }

    #[test]
    fn sums_keep_every_digit() {
        for (one, two, sum, difference) in [
            ("0.1", "0.2", "0.3", "-0.1"),
            ("12.50", "0.5", "13.00", "12.00"),
            ("7", "0", "7", "7"),
            ("0.05", "0.051", "0.101", "-0.001"),
            ("+3", "-1.5", "1.5", "4.5"),
        ] {
            assert_eq!(ml(one).plus(&ml(two)), Some(ml(sum)), "{one} {two}");
            assert_eq!(ml(one).minus(&ml(two)), Some(ml(difference)), "{one} {two}");
        }
        assert_eq!(Amount::zero().plus(&ml("1.0")), Some(ml("1.0")));
        for value in ["12.50", "0.05", "-0.5", "7", "0.0"] {
            assert_eq!(ml(value).value(), value);
        }
    }

    #[test]
    fn what_does_not_fit_together_has_no_sum() {
        let litres = Amount::of("1", "L").unwrap();
        assert_eq!((ml("1").plus(&litres), ml("1").compare(&litres)), (None, None));
        for text in ["", ".", "1e3", "NaN", "12a", &"9".repeat(19)] {
            assert_eq!(Amount::of(text, "mL"), None, "{text}");
        }
        assert_eq!(Amount::of("1", &"x".repeat(25)), None);
        let large = ml(&"9".repeat(18));
        assert!(large.plus(&large).is_some());
        assert_eq!(large.plus(&ml("0.00001")), None, "of more digits than are reckoned with");
        assert_eq!(ml("1.0").compare(&ml("1")), Some(Ordering::Equal));
        assert_eq!(ml("9").compare(&ml("10.5")), Some(Ordering::Less));
    }

    #[test]
    fn what_was_rounded_is_alike_by_one_in_the_last_place_of_each() {
        for (one, two, alike) in [
            ("4.53", "4.5", true),
            ("4.53", "4.6", true),
            ("4.53", "4.7", false),
            ("4.53", "4.51", true),
            ("4.53", "4.50", false),
        ] {
            assert_eq!((ml(one).is_like(&ml(two)), ml(two).is_like(&ml(one))), (alike, alike), "{one} {two}");
        }
        assert!(!ml("1").is_like(&Amount::of("1", "L").unwrap()));
    }
}
