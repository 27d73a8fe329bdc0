//! `[[summary]]`.

use super::{
    Absent::{Is, Required},
    Kind::{Choice, Count, Text, Texts},
    Table, key,
};

pub(in crate::config) static SUMMARY: Table = Table {
    title: "[[summary]]",
    keys: &[
        key(
            "name",
            Text("name"),
            Required,
            "Unique in the channel: letters, digits, `-` and `_`, at most 64. Under another name it is made anew.",
        ),
        key(
            "destination",
            Texts("name"),
            Required,
            "Destinations of this channel that get it, whatever their `where` and `when` take.",
        ),
        key("days", Count(1, 90), Is("14"), "Whole days it is of, up to the midnight before it is made."),
        key(
            "on",
            Choice(&["every day", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]),
            Is("monday"),
            "When it is made.",
        ),
        key(
            "at",
            Text("time such as 06:00"),
            Is("06:00"),
            "At what time: late enough for the readings of the last day to be there.",
        ),
        key("zone", Text("time zone such as Europe/Berlin"), Required, "The zone of days and times."),
    ],
};
