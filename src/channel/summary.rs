//! `[[summary]]`: when a summary of continuous glucose is due, and of which period. Days and hours are those of a time zone,
//! so that a day on which clocks change has 23 or 25 hours.

use std::sync::Arc;

use jiff::{
    Timestamp, ToSpan, Zoned,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};

/// A summary of each patient of the channel, made from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Unique in its channel, and part of what tells one summary from another: another name makes another summary.
    pub name: Arc<str>,
    /// Destinations of the channel, whatever their filters take.
    pub destinations: Vec<Arc<str>>,
    /// Whole days it is of, up to the midnight before it is made.
    pub days: u16,
    /// On which day of the week; on every day where there is none.
    pub on: Option<Weekday>,
    /// At what time.
    pub at: Time,
    /// The zone of all of these.
    pub zone: TimeZone,
}

/// One making of a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// When it is made; in the schedule's zone.
    pub at: Zoned,
    /// Start of its period.
    pub from: Timestamp,
    /// Its end, which is no longer part of it.
    pub to: Timestamp,
}

impl Summary {
    /// The last one due by `now`.
    pub fn last_due(&self, now: Timestamp) -> Option<Due> {
        let mut day = now.to_zoned(self.zone.clone()).date();
        // One of a week's days, and today may be before its hour.
        for _ in 0..=7 {
            let due = self.due_on(day).filter(|due| due.at.timestamp() <= now);
            if due.is_some() {
                return due;
            }
            day = day.yesterday().ok()?;
        }
        None
    }

    /// Those due by `now` and after `made`, the newest `max` of them, oldest first.
    pub fn due_after(&self, made: Timestamp, now: Timestamp, max: usize) -> Vec<Due> {
        let earlier = |due: &Due| self.last_due(due.at.timestamp() - 1.nanosecond());
        let all = std::iter::successors(self.last_due(now), earlier);
        let mut due: Vec<Due> = all.take_while(|due| due.at.timestamp() > made).take(max).collect();
        due.reverse();
        due
    }

    fn due_on(&self, day: Date) -> Option<Due> {
        if self.on.is_some_and(|on| on != day.weekday()) {
            return None;
        }
        let midnight = |day: Date| day.to_zoned(self.zone.clone()).ok().map(|midnight| midnight.timestamp());
        let first = day.checked_sub(i32::from(self.days).days()).ok()?;
        let at = day.to_datetime(self.at).to_zoned(self.zone.clone()).ok()?;
        Some(Due { at, from: midnight(first)?, to: midnight(day)? })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::civil::time;

    use super::*;

    fn summary(on: Option<Weekday>, days: u16) -> Summary {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        Summary { name: "agp".into(), destinations: vec!["ehr".into()], days, on, at: time(6, 0, 0, 0), zone }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn told(due: &Due) -> String {
        format!("{} {} {}", due.at.timestamp(), due.from, due.to)
    }

    #[test]
    fn it_is_due_on_its_day_and_hour_for_whole_days_of_the_zone() {
        let weekly = summary(Some(Weekday::Monday), 14);
        let monday = "2026-03-16T05:00:00Z 2026-03-01T23:00:00Z 2026-03-15T23:00:00Z";
        assert_eq!(told(&weekly.last_due(at("2026-03-16T05:00:00Z")).unwrap()), monday);
        assert_eq!(told(&weekly.last_due(at("2026-03-23T04:59:59Z")).unwrap()), monday);
        let daily = summary(None, 1);
        let before = "2026-03-15T05:00:00Z 2026-03-13T23:00:00Z 2026-03-14T23:00:00Z";
        assert_eq!(told(&daily.last_due(at("2026-03-16T04:59:59Z")).unwrap()), before);
    }

    #[test]
    fn a_day_on_which_clocks_change_is_as_long_as_it_is() {
        // 29 March 2026 has 23 hours in Berlin, and 6 o'clock of the 30th is 4 o'clock UTC.
        let due = summary(None, 1).last_due(at("2026-03-30T12:00:00Z")).unwrap();
        assert_eq!(told(&due), "2026-03-30T04:00:00Z 2026-03-28T23:00:00Z 2026-03-29T22:00:00Z");
        let mut night = summary(None, 1);
        night.at = time(2, 30, 0, 0);
        let due = night.last_due(at("2026-03-29T12:00:00Z")).unwrap();
        assert_eq!(due.at.timestamp(), at("2026-03-29T01:30:00Z"));
    }

    #[test]
    fn those_missed_come_oldest_first_and_no_more_than_asked_for() {
        let daily = summary(None, 1);
        let due = |max| {
            let missed = daily.due_after(at("2026-03-10T05:00:00Z"), at("2026-03-13T05:00:00Z"), max);
            missed.iter().map(|due| due.at.timestamp().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(due(9), ["2026-03-11T05:00:00Z", "2026-03-12T05:00:00Z", "2026-03-13T05:00:00Z"]);
        assert_eq!(due(2), ["2026-03-12T05:00:00Z", "2026-03-13T05:00:00Z"]);
        assert!(daily.due_after(at("2026-03-13T05:00:00Z"), at("2026-03-14T04:59:59Z"), 9).is_empty());
    }
}
