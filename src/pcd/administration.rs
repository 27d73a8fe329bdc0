//! The sentence for patient administration (ADT): what happened to whom, and for merges, moves and changes of identifiers,
//! what was known before under which name (HL7 v2.5.1 ch. 3, table 0003).
//!
//! Who merges by hand what a sentence names must find all of it there: a message may tell several patients, and each is told.

use super::{
    event::Reading,
    headline::{VALUES_MAX, after, in_brackets, location_of, no_patient, patient_of},
};
use crate::hl7::Segment;

pub(super) fn of(reading: Reading<'_, '_>, event: &str, message_type: &str) -> String {
    let what = EVENTS.iter().find(|(code, _)| *code == event).map_or("Patient message", |row| row.1);
    let patients = Patient::all(reading);
    let told: Vec<String> = patients.iter().take(VALUES_MAX).map(|patient| patient.told(reading, event)).collect();
    let told = match (told.as_slice(), patients.len()) {
        ([], _) => no_patient().to_owned(),
        ([one], _) => one.clone(),
        (several, all) if all > several.len() => {
            format!("{}. And {} more", several.join(". And "), all - several.len())
        }
        (several, _) => several.join(". And "),
    };
    format!("{what}{}: {told}.", in_brackets(message_type))
}

/// One PID and what is told of it.
struct Patient<'m> {
    pid: Option<Segment<'m>>,
    visit: Option<Segment<'m>>,
    /// What it was known as before.
    merged: Vec<Segment<'m>>,
}

impl<'m> Patient<'m> {
    fn all(reading: Reading<'_, 'm>) -> Vec<Patient<'m>> {
        let mut all: Vec<Patient<'m>> = Vec::new();
        for segment in reading.message().segments() {
            if segment.id() == "PID" || all.is_empty() && matches!(segment.id(), "MRG" | "PV1") {
                all.push(Patient { pid: None, visit: None, merged: Vec::new() });
            }
            let Some(patient) = all.last_mut() else { continue };
            match segment.id() {
                "PID" => patient.pid = Some(segment),
                "PV1" => patient.visit = patient.visit.or(Some(segment)),
                "MRG" => patient.merged.push(segment),
                _ => {}
            }
        }
        all
    }

    fn told(&self, reading: Reading<'_, '_>, event: &str) -> String {
        let patient = self.pid.map_or_else(|| no_patient().to_owned(), |pid| patient_of(reading, pid));
        let place = self.visit.and_then(|visit| location_of(reading, visit)).unwrap_or_default();
        let changed = Changed::by(event);
        let own = changed.map(|changed| match changed.word {
            "account" => after(", account ", &ids(reading, self.pid, 18, " (PID-18)")),
            "visit" => after(", visit ", &ids(reading, self.visit, 19, " (PV1-19)")),
            _ => String::new(),
        });
        let mut before: Vec<String> = self.merged.iter().map(|mrg| before(reading, *mrg, changed)).collect();
        before.retain(|before| !before.is_empty());
        let before = match (before.is_empty(), changed) {
            (false, _) => format!("; before that {}", before.join(" and ")),
            (true, Some(Changed { field: 1, .. })) => {
                "; MRG-1 does not say as whom the patient was known before".to_owned()
            }
            (true, Some(Changed { field, word, .. })) => {
                format!("; MRG-{field} does not say which {word} it was before")
            }
            (true, None) => String::new(),
        };
        format!("{patient}{}{}{before}", own.unwrap_or_default(), after(", ", &place))
    }
}

/// What one MRG names: the account, visit or other identifier that an event is about, and the patient.
fn before(reading: Reading<'_, '_>, mrg: Segment<'_>, changed: Option<&Changed>) -> String {
    let one = |field: usize| ids(reading, Some(mrg), field, &format!(" (MRG-{field})"));
    let of = changed.filter(|changed| changed.field != 1).map(|of| after(&format!("{} ", of.word), &one(of.field)));
    let parts = [of.unwrap_or_default(), after("patient ", &one(1))];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" of ")
}

/// The identifiers of a field, and after them where they stand; nothing where there is none.
fn ids(reading: Reading<'_, '_>, segment: Option<Segment<'_>>, field: usize, stand: &str) -> String {
    let all = segment.into_iter().flat_map(|segment| segment.field(field).repetitions());
    let all = all.map(|one| reading.text(one.component(1).raw())).filter(|id| !id.is_empty());
    let all = all.collect::<Vec<_>>().join(", ");
    if all.is_empty() { all } else { format!("{all}{stand}") }
}

/// Which field of MRG an event is about, and what that holds.
struct Changed {
    events: &'static [&'static str],
    field: usize,
    word: &'static str,
}

impl Changed {
    fn by(event: &str) -> Option<&'static Changed> {
        CHANGED.iter().find(|changed| changed.events.contains(&event))
    }
}

const CHANGED: [Changed; 6] = [
    Changed { events: &["A18", "A30", "A34", "A39", "A40", "A43", "A47"], field: 1, word: "patient" },
    Changed { events: &["A48"], field: 2, word: "alternate patient id" },
    Changed { events: &["A35", "A36", "A41", "A44", "A49"], field: 3, word: "account" },
    Changed { events: &["A46"], field: 4, word: "patient id" },
    Changed { events: &["A42", "A45", "A50"], field: 5, word: "visit" },
    Changed { events: &["A51"], field: 6, word: "alternate visit id" },
];

const EVENTS: [(&str, &str); 57] = [
    ("A01", "Admission"),
    ("A02", "Transfer"),
    ("A03", "Discharge"),
    ("A04", "Registration"),
    ("A05", "Pre-admission"),
    ("A06", "Outpatient becomes inpatient"),
    ("A07", "Inpatient becomes outpatient"),
    ("A08", "Patient information updated"),
    ("A09", "Patient leaves for another place"),
    ("A10", "Patient arrives"),
    ("A11", "Admission cancelled"),
    ("A12", "Transfer cancelled"),
    ("A13", "Discharge cancelled"),
    ("A14", "Admission expected"),
    ("A15", "Transfer expected"),
    ("A16", "Discharge expected"),
    ("A17", "Two patients swap beds"),
    ("A18", "Patients merged"),
    ("A20", "State of a bed"),
    ("A21", "Patient goes on leave"),
    ("A22", "Patient is back from leave"),
    ("A23", "Patient record deleted"),
    ("A24", "Patients linked"),
    ("A25", "Expected discharge cancelled"),
    ("A26", "Expected transfer cancelled"),
    ("A27", "Expected admission cancelled"),
    ("A28", "Person added"),
    ("A29", "Person deleted"),
    ("A30", "Persons merged"),
    ("A31", "Person information updated"),
    ("A32", "Arrival cancelled"),
    ("A33", "Leaving cancelled"),
    ("A34", "Patients merged, accounts apart"),
    ("A35", "Accounts merged"),
    ("A36", "Patients and their accounts merged"),
    ("A37", "Patients unlinked"),
    ("A38", "Pre-admission cancelled"),
    ("A39", "Persons merged"),
    ("A40", "Patients merged"),
    ("A41", "Accounts merged"),
    ("A42", "Visits merged"),
    ("A43", "Identifiers moved to another patient"),
    ("A44", "Account moved to another patient"),
    ("A45", "Visit moved to another account"),
    ("A46", "Patient id changed"),
    ("A47", "Patient identifier changed"),
    ("A48", "Alternate patient id changed"),
    ("A49", "Account number changed"),
    ("A50", "Visit number changed"),
    ("A51", "Alternate visit id changed"),
    ("A52", "Leave cancelled"),
    ("A53", "Return from leave cancelled"),
    ("A54", "Attending doctor changed"),
    ("A55", "Change of the attending doctor cancelled"),
    ("A60", "Allergies updated"),
    ("A61", "Consulting doctor changed"),
    ("A62", "Change of the consulting doctor cancelled"),
];
