//! The forms of values that the rules ask for: dates and times, numbers, EUI-64, containment paths.

use jiff::civil::DateTime;

/// A DTM as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dtm {
    /// `+/-ZZZZ` is there.
    pub has_zone: bool,
    /// Milliseconds since an epoch, by the zone that is given, or as if it were UTC.
    pub millis: i64,
}

/// A legal DTM (`YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`) of a day that exists.
pub fn dtm(text: &str) -> Option<Dtm> {
    let (time, offset) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], Some(offset(&text[at..])?)),
        None => (text, None),
    };
    let (whole, fraction) = time.split_once('.').map_or((time, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let legal = is_number(whole) && matches!(whole.len(), 4 | 6 | 8 | 10 | 12 | 14);
    let legal_fraction =
        fraction.is_none_or(|digits| whole.len() == 14 && is_number(digits) && (1..=4).contains(&digits.len()));
    if !legal || !legal_fraction {
        return None;
    }
    let part = |from: usize, to: usize, absent: i8| match whole.get(from..to) {
        Some(digits) => digits.parse().ok(),
        None => Some(absent),
    };
    let year: i16 = whole[..4].parse().ok().filter(|year| *year > 0)?;
    let civil =
        DateTime::new(year, part(4, 6, 1)?, part(6, 8, 1)?, part(8, 10, 0)?, part(10, 12, 0)?, part(12, 14, 0)?, 0);
    let seconds = jiff::tz::TimeZone::UTC.to_timestamp(civil.ok()?).ok()?.as_second() - offset.unwrap_or(0);
    let thousandths = fraction.map_or(0, |digits| format!("{digits:0<3}")[..3].parse().unwrap_or(0));
    Some(Dtm { has_zone: offset.is_some(), millis: seconds * 1000 + thousandths })
}

/// Seconds east of UTC.
fn offset(text: &str) -> Option<i64> {
    let digits = text.get(1..)?;
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) = (digits[..2].parse().ok()?, digits[2..].parse().ok()?);
    let seconds = (hours <= 14 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
    Some(if text.starts_with('-') { -seconds } else { seconds })
}

/// A number of type NM: digits with an optional sign and point, no exponent.
pub fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && whole.len() + fraction.len() > 0
}

/// Sixteen hexadecimal digits.
pub fn is_eui_64(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The ordinals of a containment path `MDS.VMD.CHAN.METRIC[.FACET[.SUBFACET]]`.
pub fn path(text: &str) -> Option<Vec<u64>> {
    let ordinals: Vec<u64> = text
        .split('.')
        .map(|ordinal| ordinal.bytes().all(|byte| byte.is_ascii_digit()).then(|| ordinal.parse().ok()).flatten())
        .collect::<Option<_>>()?;
    (4..=6).contains(&ordinals.len()).then_some(ordinals)
}

/// A path that ends in zero names a device, not something observed of it.
pub fn is_device(ordinals: &[u64]) -> bool {
    ordinals.len() == 4 && ordinals[3] == 0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_time_is_of_a_day_that_exists() {
        for good in ["2026", "202602", "20240229", "2026010510", "20260105101112.2+0100", "20260105101112.2500-0000"] {
            assert!(dtm(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "20260230",
            "0000",
            "202601051",
            "2026010510111",
            "20260105101112250",
            "20260105101112.+0000",
            "2026.5",
            "20260105T10",
            "20260105101112+00",
            "20260105101112+0960",
            "20261301",
            "20260105250000",
        ] {
            assert!(dtm(bad).is_none(), "{bad}");
        }
        assert_eq!(dtm("20260105101112.5+0100").unwrap().millis, dtm("20260105091112.5+0000").unwrap().millis);
        assert!(!dtm("20260105101112").unwrap().has_zone);
    }

    #[test]
    fn numbers_are_those_of_type_nm() {
        assert!(["1", "-1.50", "+.5", "7.", "0.0"].into_iter().all(is_number));
        assert!(!["", "-", ".", "1e9", "1,5", "--1", "NaN", " 1", "1 "].into_iter().any(is_number));
    }

    #[test]
    fn a_path_has_four_to_six_ordinals() {
        assert_eq!(path("1.2.3.40.5"), Some(vec![1, 2, 3, 40, 5]));
        assert!(
            ["1", "1.0.1", "LOC", "1.2.3.", "1.2.3.-4", "1.2.3.4.5.6.7", ""].into_iter().all(|p| path(p).is_none())
        );
        assert!(is_device(&[1, 1, 0, 0]) && !is_device(&[1, 1, 0, 3]) && !is_device(&[1, 1, 1, 1, 0]));
    }
}
