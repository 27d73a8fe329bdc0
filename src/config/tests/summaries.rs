//! `[[summary]]`.

use super::*;
use crate::channel::Summary;

const CGM: &str =
    "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"file\"\ndirectory = \"out\"\n";

#[test]
fn a_summary_says_when_it_is_due_and_where_it_goes() {
    let summaries = channel(&format!(
        "{CGM}[[summary]]\nname = \"fortnight\"\ndestination = \"ehr\"\nzone = \"Europe/Berlin\"\n[[summary]]\nname = \"day\"\n\
         destination = [\"ehr\"]\nzone = \"UTC\"\ndays = 1\non = \"every day\"\nat = \"00:30\"\n"
    ))
    .summaries
    .clone();
    let summary = |name: &str, days, on, at: &str, zone: &str| Summary {
        name: name.into(),
        destinations: vec!["ehr".into()],
        days,
        on,
        at: at.parse().unwrap(),
        zone: jiff::tz::TimeZone::get(zone).unwrap(),
    };
    let monday = Some(jiff::civil::Weekday::Monday);
    assert_eq!(
        summaries,
        [summary("fortnight", 14, monday, "06:00", "Europe/Berlin"), summary("day", 1, None, "00:30", "UTC")]
    );
}

#[test]
fn a_summary_that_cannot_be_made_or_goes_nowhere_is_a_fault() {
    let faults = |rest: &str| {
        let usual = "[[summary]]\nname = \"a\"\n";
        channel_faults(&format!("{CGM}{usual}{rest}")).join("\n")
    };
    for (rest, what) in [
        ("destination = \"her\"\nzone = \"UTC\"\n", "no destination of this channel; use one of ehr"),
        ("destination = []\nzone = \"UTC\"\n", "it goes nowhere"),
        (
            "destination = [\"ehr\", \"ehr\"]\nzone = \"UTC\"\n",
            ":9:23: summary.destination: \"ehr\" is named twice; name it once",
        ),
        ("destination = \"ehr\"\nzone = \"Berlin\"\n", "no known time zone"),
        ("destination = \"ehr\"\n", "zone is missing"),
        ("destination = \"ehr\"\nzone = \"UTC\"\nat = \"6 am\"\n", "no time of day"),
        ("destination = \"ehr\"\nzone = \"UTC\"\non = \"mondays\"\n", "write `monday`"),
        (
            "destination = \"ehr\"\nzone = \"UTC\"\n[[summary]]\nname = \"A\"\ndestination = \"ehr\"\nzone = \"UTC\"\n",
            "first of them",
        ),
        ("destination = \"ehr\"\nzone = \"UTC\"\ndays = 30\n", "messages are kept for 30 days only"),
    ] {
        assert!(faults(rest).contains(what), "{rest}\n{}", faults(rest));
    }
    for name in ["a b", "", "a/b", &"a".repeat(65)] {
        let told =
            channel_faults(&format!("{CGM}[[summary]]\nname = {name:?}\ndestination = \"ehr\"\nzone = \"UTC\"\n"));
        assert!(told.len() == 1 && told[0].contains(":8:8: ") && told[0].contains("use 1 to 64 letters"), "{told:?}");
    }
}
