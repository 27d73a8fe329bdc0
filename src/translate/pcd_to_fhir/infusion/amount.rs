//! Amounts with their unit, added and compared digit by digit: a volume given is never read as a float.
//!
//! What does not fit together, by its unit or for its length, has no sum: a dose is left out rather than wrong.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// Digits after which a sum is not made any more.
const DIGITS_MAX: usize = 30;

/// A decimal and its unit, both as sent; an empty unit is that of whatever it is added to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::translate::pcd_to_fhir) struct Amount {
    pub value: String,
    pub unit: String,
}

impl Amount {
    /// Nothing, of any unit.
    pub fn zero() -> Amount {
        Amount { value: "0".to_owned(), unit: String::new() }
    }

    /// The amount, if it is a number that can be reckoned with.
    pub fn of(value: &str, unit: &str) -> Option<Amount> {
        let amount = Amount { value: value.trim().to_owned(), unit: unit.to_owned() };
        amount.scaled().is_some().then_some(amount)
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

    pub fn is_zero(&self) -> bool {
        self.scaled().is_some_and(|(mantissa, _)| mantissa == 0)
    }

    pub fn is_negative(&self) -> bool {
        self.scaled().is_some_and(|(mantissa, _)| mantissa < 0)
    }

    fn combined(&self, other: &Amount, by: impl FnOnce(i128, i128) -> Option<i128>) -> Option<Amount> {
        let (one, two, scale) = self.aligned(other)?;
        let unit = if self.unit.is_empty() { &other.unit } else { &self.unit };
        Some(Amount { value: written(by(one, two)?, scale), unit: unit.clone() })
    }

    /// Both as whole numbers of the same power of ten.
    fn aligned(&self, other: &Amount) -> Option<(i128, i128, usize)> {
        if self.unit != other.unit && !self.unit.is_empty() && !other.unit.is_empty() {
            return None;
        }
        let ((one, first), (two, second)) = (self.scaled()?, other.scaled()?);
        let scale = first.max(second);
        let raise = |number: i128, by: usize| number.checked_mul(10_i128.checked_pow(by.try_into().ok()?)?);
        Some((raise(one, scale - first)?, raise(two, scale - second)?, scale))
    }

    fn scaled(&self) -> Option<(i128, usize)> {
        let (sign, digits) = match self.value.as_bytes().first()? {
            b'-' => (-1, &self.value[1..]),
            b'+' => (1, &self.value[1..]),
            _ => (1, self.value.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = format!("{whole}{fraction}");
        let plain = !all.is_empty() && all.len() <= DIGITS_MAX && all.bytes().all(|byte| byte.is_ascii_digit());
        let number = if plain { all.parse::<i128>().ok()? } else { return None };
        Some((sign * number, fraction.len()))
    }
}

fn written(number: i128, scale: usize) -> String {
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let (sign, point) = (if number < 0 { "-" } else { "" }, if scale == 0 { "" } else { "." });
    format!("{sign}{whole}{point}{fraction}")
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
    }

    #[test]
    fn what_does_not_fit_together_has_no_sum() {
        let litres = Amount::of("1", "L").unwrap();
        assert_eq!((ml("1").plus(&litres), ml("1").compare(&litres)), (None, None));
        for text in ["", ".", "1e3", "NaN", "12a", &"9".repeat(31)] {
            assert_eq!(Amount::of(text, "mL"), None, "{text}");
        }
        let large = ml(&"9".repeat(30));
        assert!(large.plus(&large).is_some());
        assert_eq!(large.plus(&ml("0.0000000000001")), None, "of more digits than are reckoned with");
        assert_eq!(ml("1.0").compare(&ml("1")), Some(Ordering::Equal));
        assert_eq!(ml("9").compare(&ml("10.5")), Some(Ordering::Less));
    }
}
