//! The zone of a sender's clock, and what it makes of a time that was sent without one.
//!
//! A time that the clocks' change makes unclear is read by the clock before the change, and that is always told.

use jiff::{
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use super::{Quirk, Rules};
use crate::hl7::Time;

/// A place's zone with its summer times, or a fixed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// `Europe/Berlin` and its kin, of the table that is built in.
    pub fn named(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    /// An offset, minutes east of UTC.
    pub fn fixed(minutes: i16) -> Option<Zone> {
        Offset::from_seconds(i32::from(minutes) * 60).ok().map(|offset| Zone(offset.to_time_zone()))
    }

    /// Minutes east of UTC at that time on the clock, and what made that unclear.
    fn offset(&self, at: DateTime) -> Option<(i16, Option<Quirk>)> {
        let (offset, quirk) = match self.0.to_ambiguous_timestamp(at).offset() {
            AmbiguousOffset::Unambiguous { offset } => (offset, None),
            AmbiguousOffset::Gap { before, .. } => (before, Some(Quirk::DstGap)),
            AmbiguousOffset::Fold { before, .. } => (before, Some(Quirk::DstFold)),
        };
        // Local mean times, before there were zones, are not of whole minutes.
        let whole = offset.seconds() % 60 == 0;
        whole.then(|| i16::try_from(offset.seconds() / 60).ok()).flatten().map(|minutes| (minutes, quirk))
    }
}

/// What is read in the place of a time, and why.
pub(super) struct Retimed {
    pub(super) text: Option<Vec<u8>>,
    pub(super) quirks: [Option<Quirk>; 3],
}

/// Reads one time; `None` for one that is as it should be. `zoned`: MSH-7 gives the message a zone.
pub(super) fn retime(raw: &[u8], zoned: bool, rules: &Rules) -> Option<Retimed> {
    let digits = raw.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let without_point = digits == 17 && raw.get(17) != Some(&b'.');
    let has_zone = digits < 12 || zoned || raw[digits..].iter().any(|byte| matches!(byte, b'+' | b'-'));
    if has_zone && !without_point {
        return None;
    }
    let mut retimed = Retimed { text: None, quirks: [without_point.then_some(Quirk::Milliseconds), None, None] };
    if without_point {
        if !rules.accepted.has(Quirk::Milliseconds) {
            return Some(retimed);
        }
        let pointed = [&raw[..14], b".", &raw[14..]].concat();
        std::str::from_utf8(&pointed).ok().and_then(|text| Time::parse(text.trim_end()).ok())?;
        retimed.text = Some(pointed);
    }
    if !has_zone {
        retimed.quirks[1] = Some(Quirk::NoZone);
    }
    if let Some(zone) = rules.zone.as_ref().filter(|_| !has_zone) {
        let read = std::str::from_utf8(retimed.text.as_deref().unwrap_or(raw)).ok()?;
        let time = Time::parse(read.trim_end()).ok()?;
        if let Some((minutes, quirk)) = zone.offset(time.civil()) {
            let (sign, east) = (if minutes < 0 { '-' } else { '+' }, minutes.unsigned_abs());
            let text = format!("{}{sign}{:02}{:02}", time.as_str(), east / 60, east % 60);
            (retimed.text, retimed.quirks[2]) = (Some(text.into_bytes()), quirk);
        }
    }
    Some(retimed)
}

/// Whether a time says its zone.
pub(super) fn is_zoned(raw: &[u8]) -> bool {
    raw.len() > 5 && raw.iter().any(|byte| matches!(byte, b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(zone: Option<Zone>, raw: &str) -> Option<(String, Vec<Quirk>)> {
        let mut rules = Rules { zone, ..Rules::default() };
        rules.accepted.insert(Quirk::Milliseconds);
        let retimed = retime(raw.as_bytes(), false, &rules)?;
        let text = retimed.text.map_or_else(|| raw.to_owned(), |text| String::from_utf8(text).unwrap());
        Some((text, retimed.quirks.into_iter().flatten().collect()))
    }

    #[test]
    fn a_time_without_a_zone_is_read_on_the_clock_of_its_place() {
        let berlin = || Zone::named("Europe/Berlin");
        for (sent, meant, quirks) in [
            ("20260124131540", "20260124131540+0100", vec![Quirk::NoZone]),
            ("202607241315", "202607241315+0200", vec![Quirk::NoZone]),
            ("20260724131540.123", "20260724131540.123+0200", vec![Quirk::NoZone]),
            ("20260124131540000", "20260124131540.000+0100", vec![Quirk::Milliseconds, Quirk::NoZone]),
            ("20260124131540000-0500", "20260124131540.000-0500", vec![Quirk::Milliseconds]),
            ("20261025023000", "20261025023000+0200", vec![Quirk::NoZone, Quirk::DstFold]),
            ("20261025015959", "20261025015959+0200", vec![Quirk::NoZone]),
            ("20261025030000", "20261025030000+0100", vec![Quirk::NoZone]),
            ("20260329023000", "20260329023000+0100", vec![Quirk::NoZone, Quirk::DstGap]),
            ("20260329030000", "20260329030000+0200", vec![Quirk::NoZone]),
        ] {
            assert_eq!(read(berlin(), sent), Some((meant.to_owned(), quirks)), "{sent}");
        }
        let new_york = read(Zone::named("America/New_York"), "20261101013000").unwrap();
        assert_eq!(new_york, ("20261101013000-0400".to_owned(), vec![Quirk::NoZone, Quirk::DstFold]));
        assert_eq!(read(Zone::fixed(-210), "202601241315").unwrap().0, "202601241315-0330");
    }

    #[test]
    fn what_says_its_zone_is_a_mere_date_or_no_time_is_left() {
        let berlin = || Zone::named("Europe/Berlin");
        for sent in ["20260124131540+0000", "20260124", "2026012413", "", "x20260124131540", "20261324131540", "\"\""] {
            assert_eq!(read(berlin(), sent), None, "{sent}");
        }
        assert_eq!(read(None, "20260124131540"), Some(("20260124131540".to_owned(), vec![Quirk::NoZone])));
        assert_eq!(Zone::named("Europe/Nowhere"), None);
    }
}
