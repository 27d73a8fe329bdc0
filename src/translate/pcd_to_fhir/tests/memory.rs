//! What a destination remembers beside infusions and alerts: what was corrected, and how its devices stand.

use super::*;
use crate::translate::Remembered;

/// A destination that takes everything.
#[derive(Default)]
struct Taking(Remembered);

impl Taking {
    /// The entries sent, if any.
    fn take(&mut self, settings: &PcdToFhir, text: &str) -> Vec<Value> {
        let message = parse(text);
        let recall = |episode: &[u8]| self.0.recall(episode);
        let translated = told(super::super::apply(settings, &message, context(), &recall)).unwrap();
        let Some(translated) = translated else { return Vec::new() };
        self.0.change(&translated.episodes);
        let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
        check_r4(&bundle);
        bundle["entry"].as_array().unwrap().clone()
    }
}

fn of<'e>(entries: &'e [Value], kind: &str) -> Vec<&'e Value> {
    entries.iter().filter(|entry| entry["resource"]["resourceType"] == kind).collect()
}

/// A flow with this status and value, in a message made at this minute.
fn flow(minute: u32, status: &str, value: &str) -> String {
    let row = row("NM", value).replace("|||||R", &format!("|||||{status}"));
    report(&[MDS, &row]).replace("20260301120000+0100", &format!("202603011{minute:03}00+0100"))
}

#[test]
fn a_late_repeat_of_what_was_corrected_does_not_come_back_where_creating_overwrites() {
    let overwriting = PcdToFhir { creates_overwrite: true, ..settings() };
    let mut server = Taking::default();
    let first = server.take(&overwriting, &flow(200, "R", "5.6"));
    let corrected = server.take(&overwriting, &flow(210, "C", "6.5"));
    let again = server.take(&overwriting, &flow(220, "C", "6.0"));
    let name = |entries: &[Value]| of(entries, "Observation")[0]["resource"]["identifier"].clone();
    assert!(name(&first) == name(&corrected) && name(&corrected) == name(&again));
    assert!(of(&server.take(&overwriting, &flow(200, "R", "5.6")), "Observation").is_empty(), "the first value");
    assert!(of(&server.take(&overwriting, &flow(210, "C", "6.5")), "Observation").is_empty(), "the older correction");
    assert_eq!(
        of(&server.take(&overwriting, &flow(220, "C", "6.0")), "Observation").len(),
        1,
        "the last one is said again"
    );
    assert_eq!(of(&server.take(&overwriting, &flow(230, "W", "6.0")), "Observation").len(), 1, "a withdrawal");
    let other = flow(200, "R", "5.6").replace("1.1.1.1", "1.1.1.2");
    assert_eq!(of(&server.take(&overwriting, &other), "Observation").len(), 1, "of another place");
    // Elsewhere the server itself keeps what it has.
    let mut server = Taking::default();
    server.take(&settings(), &flow(210, "C", "6.5"));
    let first = server.take(&settings(), &flow(200, "R", "5.6"));
    assert_eq!(of(&first, "Observation")[0]["request"]["method"], "POST");
}

#[test]
fn a_device_is_replaced_only_where_what_is_said_of_it_changes() {
    let updating = PcdToFhir { device_updates: true, ..settings() };
    let mut server = Taking::default();
    let at = |minute: u32, bed: &str| {
        flow(minute, "R", "5.6").replace("3W^12^1", bed).replace("|C1|", &format!("|C{minute}|"))
    };
    let method = |entries: Vec<Value>| of(&entries, "Device")[0]["request"]["method"].as_str().unwrap().to_owned();
    assert_eq!(method(server.take(&updating, &at(200, "3W^12^1"))), "PUT");
    assert_eq!(method(server.take(&updating, &at(201, "3W^12^1"))), "POST", "found, and left as it is");
    assert_eq!(method(server.take(&updating, &at(202, "3W^12^2"))), "PUT", "in another bed");
    assert_eq!(method(server.take(&updating, &at(203, "3W^12^2"))), "POST");
    assert_eq!(method(server.take(&updating, &at(204, "3W^12^1"))), "PUT", "and back");
}

#[test]
fn two_events_of_one_second_are_observations_of_their_own() {
    let mut observing = settings();
    observing.infusions.written = false;
    let names = |event: &str| {
        let text = episodes::event(
            5,
            event,
            &["NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.2.3|12|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R"],
        );
        let entries = Taking::default().take(&observing, &text);
        let found = of(&entries, "Observation");
        found.iter().map(|it| identifier(&it["resource"]).to_owned()).collect::<Vec<_>>()
    };
    let (stop, start) = (names(episodes::STOP), names(episodes::START));
    assert!(stop.len() > 1 && stop.len() == start.len());
    assert!(stop.iter().all(|name| !start.contains(name)), "{stop:?} {start:?}");
    assert_eq!(stop, names(episodes::STOP), "told again it is the same");
}
