//! Where each element of a resource came from, for who must trust the mapping. Costs nothing unless asked for.

use std::fmt::{self, Display};

use crate::pcd::Place;

/// The origins of the elements of one resource. An element's origin holds for what is inside it, unless that has its own.
pub(super) struct Trace {
    wanted: bool,
    found: Vec<(String, String)>,
}

impl Trace {
    pub(super) fn new(wanted: bool) -> Trace {
        Trace { wanted, found: Vec::new() }
    }

    pub(super) fn note(&mut self, element: impl Display, origin: impl Into<Origin>) {
        if self.wanted {
            self.found.push((element.to_string(), origin.into().to_string()));
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Elements that another kind of resource has under another name.
    pub(super) fn rename(&mut self, names: &[(&str, &str)]) {
        for (element, _) in &mut self.found {
            if let Some((_, new)) = names.iter().find(|(old, _)| element == old) {
                *element = (*new).to_owned();
            }
        }
    }

    /// Elements that another kind of resource does not have.
    pub(super) fn forget(&mut self, names: &[&str]) {
        let is = |element: &str, name: &str| {
            element.strip_prefix(name).is_some_and(|rest| matches!(rest.as_bytes().first(), None | Some(b'.' | b'[')))
        };
        self.found.retain(|(element, _)| !names.iter().any(|name| is(element, name)));
    }

    /// The origins, each element under `prefix`.
    pub(super) fn under(self, prefix: String) -> impl Iterator<Item = (String, String)> {
        self.found.into_iter().map(move |(element, origin)| (format!("{prefix}{element}"), origin))
    }
}

/// Where an element came from.
// Made on the stack and written at once: a box for several fields would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Copy)]
pub(super) enum Origin {
    /// A field.
    At(Place),
    /// A field, by way of a table or a setting.
    By(Place, &'static str),
    /// Several fields together.
    Of([Option<Place>; FIELDS_MAX]),
    /// What was remembered of earlier messages, and fields of this one.
    Remembered([Option<Place>; FIELDS_MAX]),
    /// The same in every message.
    Constant,
    /// A key of `[destination.fhir]`.
    Configuration(&'static str),
    /// The engine itself: its version, or when it received the message.
    Engine(&'static str),
    /// Made of another element of the same entry.
    As(&'static str),
}

const FIELDS_MAX: usize = 9;

impl Origin {
    pub(super) fn of<const N: usize>(places: [Option<Place>; N]) -> Origin {
        Origin::Of(padded(places))
    }

    pub(super) fn remembered<const N: usize>(places: [Option<Place>; N]) -> Origin {
        Origin::Remembered(padded(places))
    }
}

fn padded<const N: usize>(places: [Option<Place>; N]) -> [Option<Place>; FIELDS_MAX] {
    let mut all = [None; FIELDS_MAX];
    all.iter_mut().zip(places).for_each(|(slot, place)| *slot = place);
    all
}

/// What the destination took before.
pub(super) const EARLIER: &str = "remembered: earlier messages";

fn write_all(f: &mut fmt::Formatter<'_>, places: &[Option<Place>]) -> fmt::Result {
    for (i, place) in places.iter().flatten().enumerate() {
        write!(f, "{}{place}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

impl From<Place> for Origin {
    fn from(place: Place) -> Origin {
        Origin::At(place)
    }
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::At(place) => write!(f, "{place}"),
            Origin::By(place, table) => write!(f, "{place} by {table}"),
            Origin::Of(places) => write_all(f, places),
            Origin::Remembered(places) if places.iter().all(Option::is_none) => f.write_str(EARLIER),
            Origin::Remembered(places) => {
                write_all(f, places)?;
                write!(f, ", {EARLIER}")
            }
            Origin::Constant => f.write_str("constant"),
            Origin::Configuration(key) => write!(f, "configuration: {key}"),
            Origin::Engine(what) => write!(f, "engine: {what}"),
            Origin::As(element) => write!(f, "as {element}"),
        }
    }
}
