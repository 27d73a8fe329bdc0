//! `[[summary]]`: what is made of a channel's messages by a schedule.

use std::{cell::RefCell, sync::Arc};

use jiff::{
    civil::{Time, Weekday},
    tz::TimeZone,
};

use super::{
    reader::{Reader, named_once, nearest},
    source::Problem,
    value,
};
use crate::channel::{Destination, Summary};

/// Every summary of a channel, which has these destinations; and where in the file each has its days or begins.
pub(super) fn read_all(
    root: &Reader<'_>,
    destinations: Option<&[Arc<Destination>]>,
) -> (Option<Vec<Summary>>, Vec<usize>) {
    let tables = root.many("summary");
    named_once(&tables);
    let read: Vec<_> = tables.iter().map(|table| read(table, destinations)).collect();
    (read.into_iter().collect(), tables.iter().map(|table| table.place("days")).collect())
}

fn read(table: &Reader<'_>, known: Option<&[Arc<Destination>]>) -> Option<Summary> {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let name = table.text("name", value::name);
    let named = RefCell::new(Vec::new());
    let destinations = table.texts("destination", |text| destination(text, known, &mut named.borrow_mut()));
    let days = table.count("days");
    let week = [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday].map(Some);
    let on = table.choice("on", &[&[None][..], &week].concat());
    let at = table.text("at", time);
    let zone = table.text("zone", zone);
    let destinations = destinations?;
    if destinations.is_empty() {
        table.problem("destination", Problem::new("it goes nowhere", "name a destination of this channel"));
        return None;
    }
    let days = u16::try_from(days?).ok()?;
    Some(Summary { name: name?.into(), destinations, days, on: on?, at: at?, zone: zone? })
}

/// A destination that is named for the first time.
fn destination(text: &str, known: Option<&[Arc<Destination>]>, named: &mut Vec<String>) -> Result<Arc<str>, Problem> {
    if named.iter().any(|earlier| earlier == text) {
        return Err(Problem::new(format!("{text:?} is named twice"), "name it once: it gets each summary once"));
    }
    named.push(text.to_owned());
    // Where the destinations have faults of their own, those are told.
    let Some(known) = known else { return Ok(text.into()) };
    let found = known.iter().find(|destination| &*destination.name == text).map(|found| found.name.clone());
    let names: Vec<&str> = known.iter().map(|destination| &*destination.name).collect();
    found.ok_or_else(|| Problem::new(format!("{text:?} is no destination of this channel"), nearest(text, &names)))
}

fn time(text: &str) -> Result<Time, Problem> {
    let read = Time::strptime("%H:%M", text);
    read.map_err(|_| Problem::new(format!("{text:?} is no time of day"), "write hours and minutes, such as 06:00"))
}

fn zone(text: &str) -> Result<TimeZone, Problem> {
    let remedy = "write its name in the IANA database, such as Europe/Berlin";
    TimeZone::get(text).map_err(|_| Problem::new(format!("{text:?} is no known time zone"), remedy))
}
