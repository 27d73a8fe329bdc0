//! Where on a pump an event happened, and whom the pump was last told of there.
//!
//! A source is named by its pump's identity, its place and its code; its label is words, and may be spelled otherwise in the
//! next message. What must never happen: one source's event written to another's infusion, or what was delivered to one patient
//! counted for another.

use serde::{Deserialize, Serialize};

use super::super::{
    Devices, TranslateError, Translation,
    infusion::{Event, Infusion},
    refuse,
};
use crate::{
    fhir::Reference,
    pcd::{Containment, Place, PumpEvent, Role, Row},
};

/// Where the event happened.
pub(super) struct Source<'a> {
    /// Of the source, over all messages.
    pub key: String,
    /// Of the pump it is in.
    pub pump: String,
    /// Of all that has one clock.
    pub whole: String,
    pub is_secondary: bool,
    pub reference: Reference<'a>,
    /// Where it is named.
    pub place: Place,
    /// A row that tells of it.
    pub row: usize,
}

impl<'a> Source<'a> {
    pub fn of(
        translation: &Translation<'a>,
        devices: &Devices<'a>,
        event: &PumpEvent,
    ) -> Result<Source<'a>, TranslateError> {
        let rows = &translation.report.rows;
        let place = event.source.as_ref().and_then(|source| Containment::parse(source.place.as_bytes()));
        let is_source = |row: &Row<'_>| {
            let here = place.is_some_and(|place| row.place.map(Containment::key) == Some(place.key()));
            matches!(row.role, Role::Device(_)) && here
        };
        let in_group = |row: &&Row<'_>| row.group == event.group;
        let named = rows.iter().position(|row| in_group(&row) && is_source(row)).filter(|at| devices.at(*at).is_some());
        let told = rows.iter().position(|row| in_group(&row) && !matches!(row.role, Role::Device(_)));
        let row = named.or(told).ok_or_else(|| refuse("OBX", UNIDENTIFIED))?;
        let up = |from: usize| std::iter::successors(Some(from), |&at| rows[at].parent).skip(1);
        let above: Vec<String> = up(row).filter_map(|at| Some(devices.at(at)?.0.to_owned())).collect();
        let at = named.and_then(|at| devices.place_at(at));
        let at = at.unwrap_or_else(|| devices.place(translation, &rows[row]));
        let (key, reference) = match named.and_then(|at| devices.at(at)) {
            Some((key, reference)) => (key.to_owned(), reference),
            None => {
                let reference = devices.reference(translation, &rows[row]).filter(is_named);
                let reference = reference.ok_or_else(|| refuse(rows[row].place_of(18), UNIDENTIFIED))?;
                let sent = event.source.as_ref().map_or("", |source| source.place.as_str());
                (format!("{}/{sent}", devices.key(translation, &rows[row])), reference)
            }
        };
        let label = event.source.as_ref().and_then(|source| source.label.clone()).unwrap_or_default();
        let what = event.source.as_ref().and_then(|source| source.what.as_ref()).map_or("", |what| what.name.as_str());
        let words = format!("{label} {what}").to_lowercase();
        Ok(Source {
            is_secondary: words.contains("secondary") || words.contains("piggyback"),
            pump: above.first().unwrap_or(&key).clone(),
            whole: above.last().unwrap_or(&key).clone(),
            key,
            reference,
            place: at,
            row,
        })
    }
}

/// Whether it names one device: words alone say what it is, not which.
pub(in crate::translate::pcd_to_fhir) fn is_named(reference: &Reference<'_>) -> bool {
    reference.reference.is_some() || reference.identifier.is_some()
}

/// Whom a source was last told of. Arrival counts: each time it is another patient is a turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Occupancy {
    /// A digest of the patient.
    patient: u32,
    turn: u32,
    /// When the turn began, by which setting of the clock.
    since: i64,
    clock: u32,
    /// It ran, by what was told last.
    runs: bool,
    /// It runs or is paused.
    open: bool,
    /// What was told of a patient before was not over.
    others_open: bool,
    /// Something stopped that was not what ran, and no start was told since.
    unresolved: bool,
}

impl Occupancy {
    /// Says of an event of a patient, last told of in this turn, what else happened at the source.
    pub fn tell(&self, patient: u32, turn: Option<u32>, event: &mut Event) {
        let turns = turn.map(|turn| self.turn.wrapping_sub(turn));
        event.overtaken = self.overtakes(patient, event);
        event.elsewhere = turns.is_some_and(|turns| turns > u32::from(event.overtaken));
        let open = self.runs || self.open || self.others_open;
        event.unresolved = self.unresolved || open && self.patient != patient;
    }

    /// The event is from before the other patient's turn, and late.
    fn overtakes(&self, patient: u32, event: &Event) -> bool {
        self.patient != patient && self.turn > 0 && self.clock == event.clock && event.at.at < self.since
    }

    /// After the event, and the turn the patient was told of in.
    pub fn after(&self, patient: u32, event: &Event, now: Option<&Infusion>, unresolved: bool) -> Occupancy {
        let Event { at, clock, .. } = event;
        let (runs, open) = (now.is_some_and(Infusion::is_endless), now.is_some_and(Infusion::is_open));
        let next = Occupancy { patient, runs, open, unresolved, ..*self };
        match () {
            () if event.overtaken => self.clone(),
            () if self.patient == patient && self.turn > 0 => next,
            () => Occupancy {
                turn: self.turn.wrapping_add(1).max(1),
                since: at.at,
                clock: *clock,
                others_open: self.others_open || self.open || self.runs,
                ..next
            },
        }
    }

    /// The turn in which the patient was then told of.
    pub fn turn_after(&self, patient: u32, turn: Option<u32>, event: &Event) -> u32 {
        let before = turn.unwrap_or(self.turn.wrapping_sub(1));
        if event.overtaken { before } else { self.after(patient, event, None, false).turn }
    }
}

const UNIDENTIFIED: &str = "the pump does not say which one it is, so its infusion cannot be told from another's; have the \
                            sender identify it, or name the place in [device] of the channel";
