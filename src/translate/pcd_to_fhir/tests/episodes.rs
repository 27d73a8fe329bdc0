//! Infusions and alerts over several messages, as a destination that remembers is sent them.

use std::collections::BTreeMap;

use super::{super::*, context, parse, r4::check_r4, settings};
use crate::translate::Remembered;
use serde_json::{Value, json};

/// A server that keeps what is put by its identifier, and what is remembered of it.
#[derive(Default)]
pub(super) struct Record {
    remembered: Remembered,
    kept: BTreeMap<String, Value>,
    /// Times each was put.
    puts: BTreeMap<String, u32>,
    longest_note: usize,
}

impl Record {
    pub(super) fn take(&mut self, settings: &PcdToFhir, text: &str) -> Option<Value> {
        self.take_at(settings, text, context())
    }

    pub(super) fn take_at(&mut self, settings: &PcdToFhir, text: &str, context: Context) -> Option<Value> {
        let message = parse(text);
        let recall = |episode: &[u8]| self.remembered.recall(episode);
        let translated = super::told(super::super::apply(settings, &message, context, &recall)).unwrap()?;
        let longest = translated.episodes.iter().filter_map(|change| change.note.as_ref()).map(|note| note.len()).max();
        assert!(longest.unwrap_or_default() <= crate::translate::NOTE_BYTES_MAX);
        self.longest_note = self.longest_note.max(longest.unwrap_or_default());
        self.remembered.change(&translated.episodes);
        if !translated.is_sent() {
            return None;
        }
        let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
        check_r4(&bundle);
        for entry in bundle["entry"].as_array().unwrap() {
            let resource = &entry["resource"];
            if entry["request"]["method"] == "PUT" {
                let url = entry["request"]["url"].as_str().unwrap().to_owned();
                let named = resource["identifier"][0]["value"].as_str().unwrap();
                assert!(url.ends_with(named) && url.starts_with(resource["resourceType"].as_str().unwrap()));
                *self.puts.entry(url.clone()).or_default() += 1;
                self.kept.insert(url, resource.clone());
            }
        }
        Some(bundle)
    }

    /// What was put, the first begun first.
    pub(super) fn kept(&self) -> Vec<&Value> {
        let mut kept: Vec<&Value> = self.kept.values().collect();
        kept.sort_by_key(|resource| resource["effectivePeriod"]["start"].as_str().unwrap_or_default().to_owned());
        kept
    }
}

/// An event of a pump: minute, code, and rows about its primary source.
pub(super) fn event(minute: u32, code: &str, rows: &[&str]) -> String {
    event_of("1.1.2.0", minute, code, rows)
}

fn event_of(source: &str, minute: u32, code: &str, rows: &[&str]) -> String {
    let mut text = format!(
        "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||202603011{minute:03}30+0100||ORU^R42^ORU_R01|E{minute}|P|2.6\n\
         PID|||4711^^^H^MR||Muster^Maria^^^^^L\nPV1||I|3W^12^1||||||||||||||||V1^^^V\n\
         OBR|1|O1^H|F1^GATEWAY|3616^Norepinephrine^99FORM|||202603011{minute:03}00+0100\n\
         OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||^^ACDE480000002001^EUI-64\n\
         OBX|2||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\n\
         OBX|3||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\n\
         OBX|4|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.1.1.1|{code}||||||R\n\
         OBX|5|ST|68488^MDC_ATTR_EVT_SOURCE^MDC|1.1.1.2|{source}||||||R\n\
         OBX|6||70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC|1.1.2.0|||||||X\n\
         OBX|7||70075^MDC_DEV_PUMP_INFUSATE_SOURCE_SECONDARY^MDC|1.1.3.0|||||||X\n"
    );
    for (n, row) in (8..).zip(rows) {
        text.push_str(&format!("OBX|{n}|{row}\n"));
    }
    text
}

pub(super) const START: &str = "197288^MDC_EVT_PUMP_DELIV_START^MDC";
pub(super) const STOP: &str = "197290^MDC_EVT_PUMP_DELIV_STOP^MDC";
pub(super) const COMPLETE: &str = "197292^MDC_EVT_PUMP_DELIV_COMP^MDC";
const CLEARED: &str = "0^MDC_EVT_PUMP_PROG_CLEARED^MDC";
pub(super) const COUNTERS: &str = "0^MDC_EVT_PUMP_VOL_COUNTERS_CLEARED^MDC";
pub(super) const CLOCK: &str = "0^MDC_EVT_PUMP_DEVICE_TIME_CHANGED^MDC";

pub(super) fn flow(rate: &str) -> String {
    format!("NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.4|{rate}|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R")
}

pub(super) fn volume(volume: &str) -> String {
    format!("NM|157992^MDC_VOL_FLUID_DELIV_SEGMENT^MDC|1.1.2.7|{volume}|263762^MDC_DIM_MILLI_L^MDC|||||R")
}

const OCCLUDED: &str =
    "CWE|158006^MDC_DEV_PUMP_NOT_DELIVERING_REASON^MDC|1.1.2.8|^pump-not-delivering-reason-fluid-line-occl||||||R";

/// Infusions and alerts, each message by message.
pub(super) fn told() -> Vec<(String, Vec<String>)> {
    let infusion = vec![
        event(0, START, &[&flow("12.50")]),
        event(10, STOP, &[&flow("0"), &volume("2.05"), OCCLUDED]),
        event(12, START, &[&flow("12.5")]),
        event(14, STOP, &[&volume("0.4")]),
        event(14, START, &[&flow("20")]),
        event_of("1.1.3.0", 15, START, &[&flow("100"), MODE]),
        event_of("1.1.3.0", 16, COMPLETE, &[&flow("0")]),
        event(30, COMPLETE, &[&flow("0"), &volume("3.95")]),
    ];
    let nobodys = |text: String| text.replace("PID|||4711^^^H^MR||Muster^Maria^^^^^L\n", "");
    let phases = [(0, "start", "active"), (1, "continue", "active"), (2, "end", "latched"), (3, "reset", "inactive")];
    let alerts = phases.map(|(minute, phase, state)| alert(minute, phase, state)).to_vec();
    let of_a_device = alerts.iter().cloned().map(nobodys).collect();
    vec![("infusion".to_owned(), infusion), ("alert".to_owned(), alerts), ("device alert".to_owned(), of_a_device)]
}

const MODE: &str = "CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.3.3|^pump-program-delivery-mode-bolus||||||R";

#[test]
fn a_rate_by_weight_is_the_rate_of_the_drug_digit_for_digit() {
    let flow = "NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.4";
    let dose_rate = "NM|157924^MDC_RATE_DOSE^MDC|1.1.2.9";
    for (row, unit) in [
        (flow, "265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC"),
        (flow, "ug/kg/min^ug/kg/min^UCUM"),
        (flow, "mcg/kg/min"),
        (dose_rate, "265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC"),
    ] {
        let mut record = Record::default();
        record.take(&settings(), &event(0, START, &[&format!("{row}|0.0500|{unit}|||||R")])).unwrap();
        let rate: Value = serde_json::from_str("0.0500").unwrap();
        let told =
            json!({"value": rate, "unit": "ug/kg/min", "system": "http://unitsofmeasure.org", "code": "ug/kg/min"});
        assert_eq!(record.kept()[0]["dosage"], json!({"rateQuantity": told}), "{row} {unit}");
        assert!(record.kept()[0].to_string().contains("0.0500"), "{row} {unit}");
        record.take(&settings(), &event(5, START, &[&format!("{row}|0.08|{unit}|||||R")])).unwrap();
        assert_eq!(record.kept().len(), 2, "another rate is another segment");
    }
}

#[test]
fn an_infusion_is_one_administration_from_its_start_to_its_end() {
    let mut record = Record::default();
    let settings = settings();
    let bundle = record.take(&settings, &event(0, START, &[&flow("12.50")])).unwrap();
    let kinds: Vec<&str> = bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["resourceType"].as_str().unwrap())
        .collect();
    assert_eq!(kinds.last(), Some(&"Provenance"));
    assert!(!kinds.contains(&"Observation") && kinds.contains(&"Device"));
    let started = record.kept()[0].clone();
    assert_eq!(started["status"], "in-progress");
    assert_eq!(started["effectivePeriod"], json!({"start": "2026-03-01T10:00:00+01:00"}));
    assert_eq!(started["medicationCodeableConcept"]["coding"][0]["code"], "3616");
    assert_eq!(started["medicationCodeableConcept"]["text"], "Norepinephrine");
    assert_eq!(started["request"]["identifier"]["value"], "O1");
    assert_eq!(started["context"]["identifier"]["value"], "V1");
    let rate: Value = serde_json::from_str("12.50").unwrap();
    let rate = json!({"value": rate, "unit": "mL/h", "system": "http://unitsofmeasure.org", "code": "mL/h"});
    assert_eq!(started["dosage"], json!({"rateQuantity": rate}));
    record.take(&settings, &event(10, STOP, &[&flow("0"), &volume("2.05"), OCCLUDED])).unwrap();
    let held = record.kept()[0].clone();
    assert_eq!((&held["status"], &held["dosage"]["rateQuantity"]), (&json!("on-hold"), &rate));
    assert!(held["statusReason"][0]["text"].as_str().unwrap().contains("fluid line occl"), "{held}");
    record.take(&settings, &event(12, START, &[&flow("12.5"), &volume("0")])).unwrap();
    record.take(&settings, &event(30, COMPLETE, &[&flow("0"), &volume("3.95")])).unwrap();
    let kept = record.kept();
    assert_eq!((kept.len(), &kept[0]["status"]), (1, &json!("completed")));
    assert_eq!(kept[0]["dosage"]["dose"]["value"].to_string(), "6.00");
    assert_eq!(kept[0]["effectivePeriod"]["end"], "2026-03-01T10:30:00+01:00");
    assert_eq!(kept[0]["identifier"], started["identifier"]);
    // The first message again, a late stop, and the last one again.
    assert!(record.take(&settings, &event(0, START, &[&flow("12.50")])).is_none());
    record.take(&settings, &event(11, STOP, &[&volume("9")])).unwrap();
    let kept = record.kept()[0];
    assert_eq!((&kept["status"], &kept["dosage"]["dose"]), (&json!("completed"), &Value::Null), "of what run is it?");
    let before = kept.clone();
    record.take(&settings, &event(30, COMPLETE, &[&flow("0"), &volume("3.95")])).unwrap();
    let without_source = |kept: &Value| {
        kept.as_object().unwrap().clone().into_iter().filter(|(name, _)| name != "meta").collect::<Vec<_>>()
    };
    assert_eq!(without_source(record.kept()[0]), without_source(&before));
}

#[test]
fn a_new_rate_is_part_of_the_first_administration() {
    let mut record = Record::default();
    for (minute, code, rows) in
        [(0, START, vec![flow("10")]), (5, STOP, vec![volume("1")]), (5, START, vec![flow("20")]), (9, CLEARED, vec![])]
    {
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        record.take(&settings(), &event(minute, code, &rows)).unwrap();
    }
    let kept = record.kept();
    let told = |n: usize| (kept[n]["status"].as_str().unwrap(), kept[n]["effectivePeriod"]["end"].as_str().unwrap());
    assert_eq!((kept.len(), told(0)), (2, ("completed", "2026-03-01T10:05:00+01:00")));
    assert_eq!(told(1), ("stopped", "2026-03-01T10:09:00+01:00"));
    assert_eq!(kept[1]["partOf"][0]["identifier"], kept[0]["identifier"][0]);
    assert!(kept[0]["partOf"].is_null());
}

#[test]
fn a_secondary_is_part_of_the_infusion_it_interrupts_and_two_pumps_are_two() {
    let mut record = Record::default();
    let settings = settings();
    record.take(&settings, &event(0, START, &[&flow("10")])).unwrap();
    record.take(&settings, &event(1, STOP, &[&volume("0.2")])).unwrap();
    record.take(&settings, &event_of("1.1.3.0", 2, START, &[&flow("100")])).unwrap();
    let other = event(3, START, &[&flow("5")]).replace("ACDE480000002001", "ACDE480000002002");
    record.take(&settings, &other).unwrap();
    let kept = record.kept();
    assert_eq!(kept.len(), 3);
    assert_eq!(kept[1]["partOf"][0]["identifier"], kept[0]["identifier"][0]);
    assert!(kept[2]["partOf"].is_null());
    let unnamed = event(4, START, &[]).replace("^^ACDE480000002001^EUI-64", "");
    let error = super::apply(&settings, &parse(&unnamed), context()).unwrap_err().to_string();
    assert!(error.contains("does not say which one it is"), "{error}");
}

#[test]
fn what_says_nothing_to_the_record_is_remembered_all_the_same() {
    let mut record = Record::default();
    let settings = settings();
    let total = |litres: &str| {
        format!("NM|157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC|1.1.2.9|{litres}|263762^MDC_DIM_MILLI_L^MDC|||||R")
    };
    record.take(&settings, &event(0, START, &[&flow("10"), &total("100")])).unwrap();
    record.take(&settings, &event(5, STOP, &[&total("104.5")])).unwrap();
    assert!(record.take(&settings, &event(6, COUNTERS, &[&total("0")])).is_none());
    record.take(&settings, &event(7, START, &[&flow("10"), &total("0")])).unwrap();
    record.take(&settings, &event(9, COMPLETE, &[&total("2")])).unwrap();
    assert_eq!(record.kept()[0]["dosage"]["dose"]["value"].to_string(), "6.5");
    // The clock is set back: what comes is not held against the times before.
    record.take(&settings, &event(20, START, &[&flow("10")])).unwrap();
    assert!(record.take(&settings, &event(21, CLOCK, &[])).is_none());
    record.take(&settings, &event(12, COMPLETE, &[&volume("1")])).expect("told by the clock that is right now");
    assert_eq!(record.kept()[0]["status"], "completed");
    let period = json!({"end": "2026-03-01T10:12:00+01:00"});
    assert_eq!(record.kept()[0]["effectivePeriod"], period, "by the clock that was wrong it began");
}

#[test]
fn a_drug_that_is_not_named_is_told_as_that_or_not_at_all() {
    let unnamed = event(0, START, &[&flow("10")]).replace("3616^Norepinephrine^99FORM", "");
    let mut record = Record::default();
    record.take(&settings(), &unnamed).unwrap();
    assert_eq!(record.kept()[0]["medicationCodeableConcept"], json!({"text": "unknown drug or carrier fluid"}));
    let mut strict = settings();
    strict.infusions.require_drug = true;
    let mut record = Record::default();
    let bundle = record.take(&strict, &unnamed).unwrap();
    assert!(record.kept.is_empty() && !super::observations(&bundle).is_empty());
    record.take(&strict, &event(0, START, &[&flow("10")])).unwrap();
    assert_eq!(record.kept.len(), 1);
    strict.infusions.written = false;
    let mut record = Record::default();
    record.take(&strict, &event(0, START, &[&flow("10")])).unwrap();
    assert!(record.kept.is_empty());
}

#[test]
fn what_flows_back_or_is_in_no_unit_of_its_kind_makes_neither_rate_nor_dose() {
    let settings = settings();
    let of_time = volume("3.0").replace("263762^MDC_DIM_MILLI_L^MDC", "265266^MDC_DIM_MILLI_L_PER_HR^MDC");
    let without = volume("3.0").replace("263762^MDC_DIM_MILLI_L^MDC", "");
    for rows in [volume("-5.0"), of_time, without] {
        let mut record = Record::default();
        record.take(&settings, &event(0, START, &[&flow("-10")])).unwrap();
        assert_eq!(record.kept()[0].get("dosage"), None);
        record.take(&settings, &event(10, STOP, &[&flow("0"), &rows])).unwrap();
        assert_eq!(record.kept()[0].get("dosage"), None, "{rows}");
    }
}

#[test]
fn what_the_pump_doubts_or_its_gateway_withdraws_is_no_dose() {
    let settings = settings();
    let flagged = |flag: &str, status: &str| volume("3.0").replace("|||||R", &format!("||{flag}|||{status}"));
    for (flag, status, counts) in [
        ("", "R", true),
        ("N", "F", true),
        ("ALACT~L", "C", true),
        ("INV", "R", false),
        ("QUES", "R", false),
        ("N~DEMO", "R", false),
        ("WHATEVER", "R", false),
        ("", "X", false),
        ("", "W", false),
        ("", "P", false),
    ] {
        let mut record = Record::default();
        record.take(&settings, &event(0, START, &[&flow("10")])).unwrap();
        record.take(&settings, &event(10, STOP, &[&flow("0"), &flagged(flag, status)])).unwrap();
        assert_eq!(record.kept()[0]["dosage"]["dose"].is_object(), counts, "{flag} {status}");
        let rate = flow("20").replace("|||||R", &format!("||{flag}|||{status}"));
        record.take(&settings, &event(12, START, &[&rate])).unwrap();
        assert_eq!(record.kept.len(), if counts { 2 } else { 1 }, "{flag} {status}: a rate too");
    }
}

#[test]
fn a_label_spelled_otherwise_is_no_other_administration() {
    let (mut record, settings) = (Record::default(), settings());
    let label = |words: &str| format!("ST|158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC|1.1.2.3|{words}||||||R");
    record.take(&settings, &event(0, START, &[&flow("10"), &label("Primary")])).unwrap();
    let renamed = event(9, COMPLETE, &[&volume("4.5"), &label("PRIM 1")]).replace("Norepinephrine", "NOREPINEPHRIN");
    record.take(&settings, &renamed).unwrap();
    assert_eq!((record.kept.len(), &record.kept()[0]["status"]), (1, &json!("completed")));
    assert_eq!(record.kept()[0]["dosage"]["dose"]["value"].to_string(), "4.5");
}

#[test]
fn what_stops_under_another_patients_name_is_neithers_dose() {
    let (mut record, settings) = (Record::default(), settings());
    let of = |patient: &str, text: String| text.replace("4711", patient);
    let subject = |kept: &Value| kept["subject"]["reference"].as_str().unwrap().to_owned();
    record.take(&settings, &event(0, START, &[&flow("10")])).unwrap();
    record.take(&settings, &of("4712", event(5, STOP, &[&volume("1.5")]))).unwrap();
    let own: Vec<(bool, Value, Value)> = record
        .kept()
        .iter()
        .map(|kept| (subject(kept).contains("4711"), kept["status"].clone(), kept["dosage"]["dose"].clone()))
        .collect();
    assert_eq!(own, [(false, json!("on-hold"), Value::Null), (true, json!("in-progress"), Value::Null)]);
    // What was given until then is not known, and the end is the first one's own.
    record.take(&settings, &event(9, COMPLETE, &[&volume("3")])).unwrap();
    let first = record.kept().into_iter().find(|kept| subject(kept).contains("4711")).unwrap().clone();
    assert_eq!((&first["status"], &first["dosage"]["dose"]), (&json!("completed"), &Value::Null));
    // A start tells whose the next run is.
    record.take(&settings, &of("4712", event(20, START, &[&flow("10"), &volume("0")]))).unwrap();
    record.take(&settings, &of("4712", event(25, COMPLETE, &[&volume("2.5")]))).unwrap();
    let last = record.kept().last().copied().unwrap();
    assert!(subject(last).contains("4712"));
    assert_eq!(last["dosage"]["dose"]["value"].to_string(), "2.5");
    assert_eq!(record.kept().into_iter().filter(|kept| subject(kept).contains("4711")).count(), 1);
}

#[test]
fn a_run_whose_volume_is_not_told_leaves_no_dose_of_the_runs_before_it() {
    let (mut record, settings) = (Record::default(), settings());
    for text in [
        event(0, START, &[&flow("12.5")]),
        event(10, STOP, &[&flow("0"), &volume("5.0")]),
        event(12, START, &[&flow("12.5")]),
        event(30, COMPLETE, &[&flow("0"), &volume("none")]),
    ] {
        record.take(&settings, &text).unwrap();
    }
    let kept = record.kept()[0].clone();
    assert_eq!(kept["status"], "completed");
    assert_eq!(kept["dosage"].get("dose"), None, "{kept}");
}

#[test]
fn the_longest_note_is_well_below_what_can_be_remembered() {
    let (mut record, settings) = (Record::default(), settings());
    let long = |letter: &str| letter.repeat(64);
    let number = "123456789.012345678";
    let drug = ["C", "D", "S", "E", "F", "T"].map(long).join("^");
    let order = format!("{}^^0f8fad5b-d9cb-469f-a165-70867728950e^UUID", long("O"));
    let told = |event: &str, mode: &str, minute: u32| {
        let of_drug = "ug/kg/min/x/y/z/a/b/c/d^^UCUM";
        let rows = [
            flow(number),
            volume(number),
            format!("NM|157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC|1.1.2.9|{number}|263762^MDC_DIM_MILLI_L^MDC|||||R"),
            format!("NM|157884^MDC_VOL_FLUID_TBI^MDC|1.1.2.10|{number}|263762^MDC_DIM_MILLI_L^MDC|||||R"),
            format!("NM|157760^MDC_CONC_DRUG^MDC|1.1.2.11|{number}|{of_drug}|||||R"),
            format!("CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.12|^{mode}||||||R"),
            format!("CWE|158006^MDC_DEV_PUMP_NOT_DELIVERING_REASON^MDC|1.1.2.8|^{}||||||R", long("reason ")),
        ];
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let text = event_of("1.1.3.0", minute, event, &rows)
            .replace("|1.1.2.", "|1.1.3.")
            .replace("|1.1.3.0|||||||X\nOBX|7", "|1.1.2.0|||||||X\nOBX|7");
        let text = text.replace("3616^Norepinephrine^99FORM", &drug).replace("O1^H", &order);
        text.replace("00+0100", "00.123456+0100")
    };
    record.take(&settings, &event(0, START, &[&flow("10")])).unwrap();
    for (minute, code, mode) in [
        (1, START, "continuous"),
        (2, STOP, "continuous"),
        (3, START, "continuous"),
        (4, START, "bolus"),
        (5, STOP, "continuous"),
        (5, COUNTERS, "continuous"),
        (5, COMPLETE, "bolus"),
        (5, STOP, "kvo"),
        (5, START, "bolus"),
    ] {
        record.take(&settings, &told(code, mode, minute));
    }
    assert!((600..900).contains(&record.longest_note), "{}", record.longest_note);
}

/// A phase of an alert, in a minute.
pub(super) fn alert(minute: u32, phase: &str, state: &str) -> String {
    let parent = if phase == "start" { "" } else { "||||||||||||||||||||||^A-77&ALARM&&" };
    format!(
        "MSH|^~\\&|ALARM^ACDE480000000005^EUI-64|WARD|||202603011{minute:03}10+0100||ORU^R40^ORU_R40|A{minute}|P|2.6\n\
         PID|||4711^^^H^MR||Muster^Maria^^^^^L\nPV1||I|3W^12^1\n\
         OBR|1||A-77^ALARM^ACDE480000000005^EUI-64|196616^MDC_EVT_ALARM^MDC|||202603011{minute:03}00+0100{parent}\n\
         OBX|1|CWE|196670^MDC_EVT_LO^MDC|1.3.1.150456.1|LowSpO2|||L|||F|||202603011{minute:03}00+0100||||^^ACDE480000002001^EUI-64\n\
         OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.3.1.150456.2|88|262688^MDC_DIM_PERCENT^MDC|90-96||||F\n\
         OBX|3|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.3.1.150456.3|{phase}||||||F\n\
         OBX|4|ST|68482^MDC_ATTR_ALARM_STATE^MDC|1.3.1.150456.4|{state}||||||F\n\
         OBX|5|ST|68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC|1.3.1.150456.5|audio-paused||||||F\n\
         OBX|6|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.3.1.150456.6|PM||||||F\n\
         OBX|7|ST|68485^MDC_ATTR_ALERT_TYPE^MDC|1.3.1.150456.7|SP||||||F\n"
    )
}

#[test]
fn an_alert_is_one_observation_through_all_its_phases() {
    let mut record = Record::default();
    let settings = settings();
    record.take(&settings, &alert(0, "start", "active")).unwrap();
    let started = record.kept()[0].clone();
    assert_eq!(
        (&started["status"], &started["valueCodeableConcept"]["coding"][0]["code"]),
        (&json!("preliminary"), &json!("active"))
    );
    assert_eq!(started["effectivePeriod"], json!({"start": "2026-03-01T10:00:00+01:00"}));
    assert_eq!(started["code"]["coding"][0]["code"], "196670");
    assert_eq!(started["code"]["text"], "LowSpO2");
    let interpretation: Vec<&str> = started["interpretation"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["coding"][0]["code"].as_str().unwrap())
        .collect();
    assert_eq!(interpretation, ["in-alarm", "L"]);
    let components: BTreeMap<&str, &Value> = started["component"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["code"]["coding"][0]["code"].as_str().unwrap(), one))
        .collect();
    let word = |code: &str| components[code]["valueCodeableConcept"]["coding"][0]["code"].as_str().unwrap();
    assert_eq!((word("68481"), word("68483"), word("68484"), word("68485")), ("start", "audio-paused", "PM", "SP"));
    assert_eq!(components["150456"]["valueQuantity"]["code"], "%");
    let limits = &components["150456"]["referenceRange"][0];
    assert_eq!((limits["low"]["value"].to_string(), limits["high"]["value"].to_string()), ("90".into(), "96".into()));
    assert_eq!(limits["type"]["coding"][0]["code"], "alarm-limits");
    // It goes on; the connection was lost and the active alert is told again; it ends.
    for (minute, phase, state) in [(1, "continue", "active"), (2, "start", "active"), (3, "end", "inactive")] {
        record.take(&settings, &alert(minute, phase, state)).unwrap();
    }
    let kept = record.kept();
    assert_eq!((kept.len(), &kept[0]["identifier"]), (1, &started["identifier"]));
    assert_eq!(
        (&kept[0]["status"], &kept[0]["valueCodeableConcept"]["coding"][0]["code"]),
        (&json!("final"), &json!("inactive"))
    );
    assert_eq!(
        kept[0]["effectivePeriod"],
        json!({"start": "2026-03-01T10:00:00+01:00", "end": "2026-03-01T10:03:00+01:00"})
    );
    // What comes late, or again, does not bring it back.
    for (minute, phase, state) in [(1, "continue", "active"), (0, "start", "active"), (3, "start", "active")] {
        assert!(record.take(&settings, &alert(minute, phase, state)).is_none(), "{minute} {phase}");
    }
    // Under the same number a later one is another.
    record.take(&settings, &alert(8, "start", "active")).unwrap();
    assert_eq!(record.kept.len(), 2);
}

#[test]
fn a_latched_alert_is_over_when_it_is_reset() {
    let mut record = Record::default();
    for (minute, phase, state, status) in
        [(0, "start", "active", "preliminary"), (2, "end", "latched", "preliminary"), (5, "reset", "inactive", "final")]
    {
        record.take(&settings(), &alert(minute, phase, state)).unwrap();
        assert_eq!(record.kept()[0]["status"], status, "{phase}");
    }
    assert_eq!(record.kept()[0]["effectivePeriod"]["end"], "2026-03-01T10:02:00+01:00");
}

#[test]
fn an_alert_whose_start_was_lost_has_none() {
    let mut record = Record::default();
    record.take(&settings(), &alert(3, "end", "inactive")).unwrap();
    assert_eq!(record.kept()[0]["effectivePeriod"], json!({"end": "2026-03-01T10:03:00+01:00"}));
    assert_eq!(record.kept()[0]["status"], "final");
    let mut record = Record::default();
    record.take(&settings(), &alert(3, "continue", "active")).unwrap();
    assert_eq!(record.kept()[0]["effectiveDateTime"], "2026-03-01T10:03:00+01:00");
    record.take(&settings(), &alert(4, "end", "inactive")).unwrap();
    assert_eq!(record.kept()[0]["effectivePeriod"], json!({"end": "2026-03-01T10:04:00+01:00"}));
}

#[test]
fn an_alert_without_a_patient_is_the_devices_and_a_watchdog_is_none() {
    let mut record = Record::default();
    let nobodys = alert(0, "start", "active").replace("PID|||4711^^^H^MR||Muster^Maria^^^^^L\n", "");
    record.take(&settings(), &nobodys).unwrap();
    let kept = record.kept()[0];
    assert_eq!(kept["subject"], kept["device"]);
    assert!(!kept["subject"].is_null());
    let watchdog = "OBX|8|NM|67860^MDC_ATTR_CONFIRM_TIMEOUT^MDC|1.3.1.150456.8|5|264320^MDC_DIM_SEC^MDC|||||F\n";
    assert!(record.take(&settings(), &(alert(1, "start", "active") + watchdog)).is_none());
    let nothing = nobodys.replace("^^ACDE480000002001^EUI-64", "");
    let error = super::apply(&settings(), &parse(&nothing), context()).unwrap_err().to_string();
    assert!(error.contains("neither a patient nor a device"), "{error}");
}

#[test]
fn alerts_of_two_patients_in_one_message_are_refused() {
    let one = alert(0, "start", "active");
    let (_, group) = one.split_once("PID|").unwrap();
    let two = format!("{one}PID|{}", group.replace("4711^^^H^MR", "4712^^^H^MR"));
    let refused = super::apply(&settings(), &parse(&two), context()).unwrap_err().to_string();
    assert!(refused.starts_with("PID[2]-3: the message has observations of two patients"), "{refused}");
}

#[test]
fn a_site_may_have_alerts_final_throughout_or_refuse_them() {
    let mut chosen = settings();
    chosen.alerts = Alerts::Final;
    let mut record = Record::default();
    record.take(&chosen, &alert(0, "start", "active")).unwrap();
    assert_eq!(record.kept()[0]["status"], "final");
    chosen.alerts = Alerts::Refuse;
    assert!(super::apply(&chosen, &parse(&alert(0, "start", "active")), context()).is_err());
}
