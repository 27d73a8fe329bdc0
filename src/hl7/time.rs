//! HL7 times (DTM and TS): any precision, with or without a zone, kept as sent (HL7 v2.6 ch. 2A.22).
//!
//! What must never happen: a time gains precision or a zone its sender did not give, or moves to another instant. A
//! second of 60 is taken as the leap second it can be, and counted as POSIX does: as the first instant of the next minute.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, civil, tz::Offset};

/// How much of a time was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Precision {
    /// `YYYY`
    Year,
    /// `YYYYMM`
    Month,
    /// `YYYYMMDD`
    Day,
    /// `YYYYMMDDHH`
    Hour,
    /// `YYYYMMDDHHMM`
    Minute,
    /// `YYYYMMDDHHMMSS`
    Second,
    /// `YYYYMMDDHHMMSS.S`, with one to nine digits after the point.
    Fraction,
}

/// A time as sent: precision and zone are part of it, so `2026` and `20260101` are two different times.
///
/// ```
/// use cannula::hl7::{Precision, Time};
/// let time = Time::parse("20260314092630.25+0100")?;
/// assert_eq!(time.precision(), Precision::Fraction);
/// assert_eq!(time.fhir_date_time(None).as_deref(), Some("2026-03-14T09:26:30.25+01:00"));
/// # Ok::<(), cannula::hl7::TimeError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Time {
    text: String,
    precision: Precision,
    /// The first day of the month or year where no day was sent.
    date: civil::Date,
    /// Zero where not sent.
    hour: i8,
    minute: i8,
    second: i8,
    zone_minutes: Option<i16>,
}

/// Why a text is not an HL7 time. Carries no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an HL7 date/time: {0}")]
pub struct TimeError(pub &'static str);

impl Time {
    /// Reads `YYYY[MM[DD[HH[MM[SS[.S…]]]]]][+/-ZZZZ]`: a real calendar date, a zone from -1200 to +1400. The standard
    /// allows one to four digits after the point; up to nine are taken.
    pub fn parse(text: &str) -> Result<Time, TimeError> {
        let (local, zone) = match text.find(['+', '-']) {
            Some(at) => (&text[..at], Some(&text[at..])),
            None => (text, None),
        };
        let (digits, fraction) = match local.split_once('.') {
            Some((digits, fraction)) => (digits, Some(fraction)),
            None => (local, None),
        };
        let precision = precision(digits, fraction)?;
        let part = |at: usize, missing| digits.get(at..at + 2).map_or(Ok(missing), two_digits);
        let year = digits[..4].parse().map_err(|_| TimeError("the year is not four digits"))?;
        let date = civil::Date::new(year, part(4, 1)?, part(6, 1)?).ok().filter(|_| year > 0);
        let (hour, minute, second) = (part(8, 0)?, part(10, 0)?, part(12, 0)?);
        if hour > 23 || minute > 59 || second > 60 {
            return Err(TimeError("the time of day does not exist"));
        }
        let date = date.ok_or(TimeError("the day is not in the calendar"))?;
        let zone_minutes = zone.map(zone_minutes).transpose()?;
        Ok(Time { text: text.to_owned(), precision, date, hour, minute, second, zone_minutes })
    }

    /// The text as sent.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How much was sent.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Zone sent, in minutes east of UTC. `-0000` (UTC known, the sender's own zone not) is 0.
    pub fn offset_minutes(&self) -> Option<i16> {
        self.zone_minutes
    }

    /// The date and time of day on the sender's clock, to the minute.
    pub fn civil(&self) -> civil::DateTime {
        self.date.at(self.hour, self.minute, 0, 0)
    }

    /// The instant, or the first of the hour, minute or day sent, with `default_offset_minutes` where no zone was sent.
    /// `None` without any zone, and for a mere year or month, which is no instant.
    pub fn timestamp(&self, default_offset_minutes: Option<i16>) -> Option<Timestamp> {
        if self.precision < Precision::Day {
            return None;
        }
        let offset = Offset::from_seconds(i32::from(self.zone_minutes.or(default_offset_minutes)?) * 60).ok()?;
        let minute = offset.to_timestamp(self.date.at(self.hour, self.minute, 0, 0)).ok()?;
        let nanoseconds = format!("{:0<9}", self.fraction()).parse().ok()?;
        minute.checked_add(SignedDuration::new(i64::from(self.second), nanoseconds)).ok()
    }

    /// A FHIR R4 `dateTime` of the same precision, the digits of the fraction as sent. A time of day must have a zone
    /// there, its own or the default: without one this is `None`. Seconds are required with minutes and are written as
    /// `00` where not sent, which FHIR allows; an hour alone cannot be said, so only its date is.
    pub fn fhir_date_time(&self, default_offset_minutes: Option<i16>) -> Option<String> {
        let date = match self.precision {
            Precision::Year => return Some(self.date.strftime("%Y").to_string()),
            Precision::Month => return Some(self.date.strftime("%Y-%m").to_string()),
            _ => self.date.to_string(),
        };
        if self.precision < Precision::Minute {
            return Some(date);
        }
        let zone = self.zone_minutes.or(default_offset_minutes)?;
        let (sign, east) = (if zone < 0 { '-' } else { '+' }, zone.unsigned_abs());
        let point = if self.precision == Precision::Fraction { "." } else { "" };
        let clock = format!("{:02}:{:02}:{:02}{point}{}", self.hour, self.minute, self.second, self.fraction());
        Some(format!("{date}T{clock}{sign}{:02}:{:02}", east / 60, east % 60))
    }

    /// HL7 DTM text of `at` in UTC: to the second, or to the millisecond where it is not a whole second.
    pub fn format(at: Timestamp) -> String {
        let whole_second = at.subsec_millisecond() == 0;
        at.strftime(if whole_second { "%Y%m%d%H%M%S+0000" } else { "%Y%m%d%H%M%S.%3f+0000" }).to_string()
    }

    /// The digits after the point.
    fn fraction(&self) -> &str {
        let after = self.text.split_once('.').map_or("", |(_, after)| after);
        after.split(['+', '-']).next().unwrap_or("")
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Time {
    /// Its shape only: a time can be a date of birth.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Time({:?}, zone {:?})", self.precision, self.zone_minutes)
    }
}

impl FromStr for Time {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Time, TimeError> {
        Time::parse(text)
    }
}

fn precision(digits: &str, fraction: Option<&str>) -> Result<Precision, TimeError> {
    if !digits.bytes().chain(fraction.unwrap_or("").bytes()).all(|byte| byte.is_ascii_digit()) {
        return Err(TimeError("a character is not a digit"));
    }
    match (digits.len(), fraction.map(str::len)) {
        (4, None) => Ok(Precision::Year),
        (6, None) => Ok(Precision::Month),
        (8, None) => Ok(Precision::Day),
        (10, None) => Ok(Precision::Hour),
        (12, None) => Ok(Precision::Minute),
        (14, None) => Ok(Precision::Second),
        (14, Some(1..=9)) => Ok(Precision::Fraction),
        (14, Some(_)) => Err(TimeError("the fraction has not one to nine digits")),
        (_, Some(_)) => Err(TimeError("a fraction follows no seconds")),
        _ => Err(TimeError("it has not 4, 6, 8, 10, 12 or 14 digits")),
    }
}

fn zone_minutes(zone: &str) -> Result<i16, TimeError> {
    let fault = TimeError("the zone is not a sign and four digits from -1200 to +1400");
    let (sign, digits) = zone.split_at(1);
    if digits.len() != 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fault);
    }
    let (hours, minutes) = (i16::from(two_digits(&digits[..2])?), i16::from(two_digits(&digits[2..])?));
    let east = if sign == "-" { -(hours * 60 + minutes) } else { hours * 60 + minutes };
    if minutes > 59 || !(-12 * 60..=14 * 60).contains(&east) {
        return Err(fault);
    }
    Ok(east)
}

fn two_digits(digits: &str) -> Result<i8, TimeError> {
    digits.parse().map_err(|_| TimeError("a character is not a digit"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn fhir(text: &str, default_offset_minutes: Option<i16>) -> Option<String> {
        Time::parse(text).expect("a time").fhir_date_time(default_offset_minutes)
    }

    fn instant(text: &str, default_offset_minutes: Option<i16>) -> Option<String> {
        Time::parse(text).expect("a time").timestamp(default_offset_minutes).map(|at| at.to_string())
    }

    #[test]
    fn every_precision_is_told_from_the_others() {
        let expected = [
            ("2026", Precision::Year),
            ("202603", Precision::Month),
            ("20260314", Precision::Day),
            ("2026031409", Precision::Hour),
            ("202603140926", Precision::Minute),
            ("20260314092630", Precision::Second),
            ("20260314092630.5", Precision::Fraction),
        ];
        for (text, precision) in expected {
            assert_eq!(Time::parse(text).unwrap().precision(), precision);
            assert_eq!(Time::parse(&format!("{text}+0000")).unwrap().precision(), precision);
        }
    }

    #[test]
    fn days_and_times_that_do_not_exist_are_refused() {
        for text in [
            "20260230",
            "20250229",
            "20261301",
            "20260001",
            "20260100",
            "00000101",
            "2026010124",
            "202601010060",
            "20260101000061",
        ] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
        assert!(Time::parse("20240229").is_ok());
    }

    #[test]
    fn texts_that_are_not_times_are_refused() {
        for text in [
            "",
            "\"\"",
            "202",
            "20260",
            "2026-03-14",
            "20260314T09",
            "abcd",
            "20260314092630.",
            "20260314092630.1234567890",
            "2026031409.5",
            " 2026",
            "2026 ",
            "20260314092630Z",
            "20260124131540000",
            "+0100",
            "２０２６",
            "2026é",
        ] {
            assert!(Time::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn zones_end_where_the_world_does() {
        for (zone, minutes) in
            [("+0000", 0), ("-0000", 0), ("-1200", -720), ("+1400", 840), ("+0545", 345), ("-0330", -210)]
        {
            assert_eq!(Time::parse(&format!("20260314092630{zone}")).unwrap().offset_minutes(), Some(minutes));
        }
        for zone in ["-1201", "+1401", "+9999", "+01", "+01:00", "+0160", "+", "++100", "+-100", "+010é"] {
            assert!(Time::parse(&format!("20260314092630{zone}")).is_err(), "{zone}");
        }
    }

    #[test]
    fn a_fhir_date_time_says_no_more_than_was_sent() {
        assert_eq!(fhir("2026", None).as_deref(), Some("2026"));
        assert_eq!(fhir("0044", None).as_deref(), Some("0044"));
        assert_eq!(fhir("202603", None).as_deref(), Some("2026-03"));
        assert_eq!(fhir("20260314", Some(60)).as_deref(), Some("2026-03-14"));
        assert_eq!(fhir("2026031409+0100", None).as_deref(), Some("2026-03-14"));
        assert_eq!(fhir("202603140926-0330", None).as_deref(), Some("2026-03-14T09:26:00-03:30"));
        assert_eq!(fhir("20260314092630.1200+0000", None).as_deref(), Some("2026-03-14T09:26:30.1200+00:00"));
    }

    #[test]
    fn a_time_of_day_without_a_zone_needs_a_default_one() {
        assert_eq!(fhir("20260314092630", None), None);
        assert_eq!(fhir("20260314092630", Some(-300)).as_deref(), Some("2026-03-14T09:26:30-05:00"));
        assert_eq!(instant("20260314092630", None), None);
        assert_eq!(instant("20260314092630", Some(-300)).as_deref(), Some("2026-03-14T14:26:30Z"));
        assert_eq!(instant("20260314092630+0100", Some(-300)).as_deref(), Some("2026-03-14T08:26:30Z"));
    }

    #[test]
    fn the_last_hours_of_the_calendar_are_no_instant_but_do_not_fail() {
        assert_eq!(instant("99991231235960-1200", None), None);
        assert!(instant("00010101000000+1400", None).is_some());
    }

    #[test]
    fn a_year_or_month_is_no_instant_and_a_day_is_its_midnight() {
        assert_eq!(instant("2026+0000", None), None);
        assert_eq!(instant("202603+0000", None), None);
        assert_eq!(instant("20260314+0100", None).as_deref(), Some("2026-03-13T23:00:00Z"));
    }

    #[test]
    fn a_fraction_is_part_of_the_instant() {
        assert_eq!(instant("20260314092630.0625+0000", None).as_deref(), Some("2026-03-14T09:26:30.0625Z"));
    }

    #[test]
    fn a_leap_second_is_kept_as_sent_and_counts_as_the_next_minute() {
        assert_eq!(fhir("20161231235960+0000", None).as_deref(), Some("2016-12-31T23:59:60+00:00"));
        assert_eq!(instant("20161231235960+0000", None).as_deref(), Some("2017-01-01T00:00:00Z"));
    }

    #[test]
    fn a_time_is_written_to_the_second_and_to_the_millisecond_only_where_there_is_one() {
        let whole: Timestamp = "2026-03-14T09:26:30Z".parse().unwrap();
        assert_eq!(Time::format(whole), "20260314092630+0000");
        assert_eq!(Time::format("2026-03-14T09:26:30.0421Z".parse().unwrap()), "20260314092630.042+0000");
    }

    #[test]
    fn debug_output_does_not_show_the_time() {
        assert!(!format!("{:?}", Time::parse("19520314").unwrap()).contains("1952"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            let _ = Time::parse(&text);
        }

        #[test]
        fn what_is_written_is_read_as_the_same_instant(second in 0_i64..4_000_000_000, millisecond in 0_i32..1000) {
            let at = Timestamp::new(second, millisecond * 1_000_000).unwrap();
            prop_assert_eq!(Time::parse(&Time::format(at)).unwrap().timestamp(None), Some(at));
        }

        #[test]
        fn digits_are_read_or_refused_and_kept(text in r"[0-9]{4,14}(\.[0-9]{1,4})?([+-][0-9]{4})?") {
            if let Ok(time) = Time::parse(&text) {
                prop_assert_eq!(time.as_str(), &text);
                prop_assert!(time.fhir_date_time(Some(0)).is_some());
            }
        }
    }
}
