//! Explanations of our samples, of real messages, and of samples edited at random.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::hl7::Message;

fn explained(text: &str) -> Explanation {
    explain(&Message::parse(text.replace('\n', "\r").into_bytes()).unwrap(), &Nomenclature::built_in())
}

fn samples(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.to_str().unwrap().ends_with(".in.hl7"));
    files.sort();
    files
}

fn holds(golden: &Path, found: &str) {
    if std::env::var_os("CANNULA_BLESS").is_some() {
        fs::write(golden, found).unwrap();
    }
    let expected = fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(found, expected, "{}: read the difference; CANNULA_BLESS=1 takes it", golden.display());
}

#[test]
fn the_samples_of_each_transaction_are_explained_so() {
    let files = samples("tests/golden/explain");
    assert_eq!(files.len(), 8);
    for file in files {
        let found = explained(&fs::read_to_string(&file).unwrap());
        holds(&PathBuf::from(file.to_str().unwrap().replace(".in.hl7", ".out.txt")), &found.to_string());
        let json = serde_json::to_value(&found).unwrap();
        let report = format!("{:#}\n", json["report"]);
        holds(&PathBuf::from(file.to_str().unwrap().replace(".in.hl7", ".report.json")), &report);
    }
}

#[test]
fn every_sample_of_the_project_has_its_sentence() {
    let folders =
        ["channels/bedside-pumps", "channels/cgm-gateway", "channels/device-alarms", "tests/golden/pcd-to-fhir"];
    let mut lines = String::new();
    for file in folders.iter().flat_map(|folder| samples(folder)) {
        let headline = explained(&fs::read_to_string(&file).unwrap()).headline;
        let name = file.file_name().unwrap().to_str().unwrap().trim_end_matches(".in.hl7");
        lines.push_str(&format!("{name}\n    {headline}\n"));
    }
    holds(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain/headlines.txt"), &lines);
}

const STOPPED: &str = include_str!("../../tests/golden/explain/05-pump-stopped-while-offline.in.hl7");
const ALERT: &str = include_str!("../../tests/golden/explain/03-alert-without-facets.in.hl7");

fn report(text: &str) -> Value {
    serde_json::to_value(explained(text)).unwrap()["report"].take()
}

fn alert(text: &str) -> Value {
    report(text)["alerts"][0].take()
}

#[test]
fn no_number_of_another_source_is_told_as_the_events_own() {
    let event = report(STOPPED)["pump_event"].take();
    assert_eq!(event["source"]["label"], "B");
    assert_eq!(event["infusion"]["volume_segment"]["value"], "3.50");
    assert_eq!(event["infusion"]["volume_cumulative"], Value::Null, "that is the primary source's");
    assert_eq!(event["infusion"]["flow"]["value"], "0.00", "the pump has one current flow");
    let primary = report(&STOPPED.replace("|1.1.3.0||||||R", "|1.1.2.0||||||R"))["pump_event"].take();
    assert_eq!(primary["infusion"]["volume_cumulative"]["value"], "111.1");
    assert_eq!(primary["infusion"]["volume_segment"], Value::Null);
    assert_eq!(primary["infusion"]["not_delivering_reason"], Value::Null);
}

#[test]
fn an_order_that_is_to_be_cancelled_does_not_read_like_one_to_be_given() {
    let order = include_str!("../../tests/golden/explain/01-infusion-order.in.hl7");
    let said = |control: &str| explained(&order.replace("ORC|RE|", &format!("ORC|{control}|"))).headline;
    assert_eq!(said("NW"), said("RE"));
    for (control, begins) in
        [("CA", "Request to CANCEL"), ("HD", "Request to HOLD"), ("ZZ", "Infusion order with order control ZZ")]
    {
        assert!(said(control).starts_with(begins), "{}", said(control));
    }
}

#[test]
fn what_is_withdrawn_or_not_available_is_not_told_as_good() {
    let withdrawn = explained(&STOPPED.replace("DELIV_STOP^MDC||||||R", "DELIV_STOP^MDC||||||W")).headline;
    assert!(withdrawn.starts_with("Pump event (withdrawn, status W): infusion stopped"), "{withdrawn}");
    let flow = explained(&STOPPED.replace("|3.50|263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM|||||R", "|3.50|mL^^UCUM|||||X"));
    assert!(
        flow.headline.contains("3.50 mL (said not to be available, status X) since the start"),
        "{}",
        flow.headline
    );
    let alert = explained(&ALERT.replace("|PH|||PL~SA|||F", "|PH|||PL~SA|||X")).headline;
    assert!(alert.starts_with("Alert (said not to be available, status X) (high priority"), "{alert}");
    let measured = explained(&ALERT.replace("|90-100|L|||R", "|90-100|L|||W")).headline;
    assert!(measured.contains("84 % (withdrawn, status W)"), "{measured}");
    let monitor = include_str!("../../tests/golden/pcd-to-fhir/01-monitor.in.hl7");
    let told = explained(&monitor.replacen("|H~ALACT|||R", "|H~ALACT|||W", 1)).headline;
    assert!(told.contains("(withdrawn, status W)"), "{told}");
}

#[test]
fn what_a_message_says_against_itself_is_in_its_first_sentences() {
    let order = include_str!("../../tests/golden/explain/01-infusion-order.in.hl7");
    let two = explained(&order.replacen("^mL^mL^UCUM", "^L^L^UCUM", 1)).headline;
    assert!(two.contains(" CAUTION: an amount of the order is in two different units"), "{two}");
    let negative = explained(&order.replacen("|0.10|", "|-0.10|", 1)).headline;
    assert!(negative.contains(" CAUTION: an amount of the order is below zero"), "{negative}");
    let begun = explained(&STOPPED.replace("0^MDC_EVT_PUMP_DELIV_STOP", "0^MDC_EVT_PUMP_DELIV_START")).headline;
    assert!(begun.contains(" CAUTION: the event is a start, and its source is said not to deliver."), "{begun}");
    assert!(!explained(STOPPED).headline.contains("CAUTION"));
}

#[test]
fn a_merge_says_which_patient_goes_into_which() {
    let said = |event: &str, mrg: &str| {
        explained(&format!(
            "MSH|^~\\&|ADT|H|||20260301||ADT^{event}|1|P|2.6\nEVN||20260301\nPID|||4711^^^H^MR\n{mrg}PV1||I|ICU^12^1\n"
        ))
        .headline
    };
    let merged = "Patients merged (ADT^A40): patient 4711, ICU, room 12, bed 1; before that patient 4712 (MRG-1).";
    assert_eq!(said("A40", "MRG|4712^^^H^MR\n"), merged);
    assert!(said("A47", "MRG|\n").contains("MRG-1 does not say"), "{}", said("A47", "MRG|\n"));
    assert!(!said("A08", "").contains("MRG"));
    for (event, begins) in [("A34", "Patients merged, accounts apart (ADT^A34)"), ("A18", "Patients merged (ADT^A18)")]
    {
        let told = said(event, "MRG|4712^^^H^MR\n");
        assert!(told.starts_with(begins) && told.ends_with("; before that patient 4712 (MRG-1)."), "{told}");
        assert!(said(event, "").contains("MRG-1 does not say"), "{event}");
    }
    assert_eq!(
        said("A41", "MRG|4711^^^H^MR||997^^^H^AN\n"),
        "Accounts merged (ADT^A41): patient 4711, ICU, room 12, bed 1; before that account 997 (MRG-3) of patient 4711 (MRG-1)."
    );
    assert!(said("A50", "MRG|4711\n").contains("before that patient 4711"), "the visit is not told");
    assert!(said("A49", "").contains("MRG-3 does not say which account it was before"));
}

#[test]
fn each_merge_of_a_message_is_told_and_each_patient_that_swaps_or_is_linked() {
    let said = |event: &str, rest: &str| {
        explained(&format!("MSH|^~\\&|ADT|H|||20260301||ADT^{event}|1|P|2.5.1\nEVN||20260301\n{rest}")).headline
    };
    let one = |id: usize| format!("PID|||{id}^^^H^MR|||||||||||||||A{id}\nPD1|\nMRG|{}^^^H^MR||B{id}\n", id + 1);
    assert_eq!(
        said("A40", &format!("{}{}", one(10), one(20))),
        "Patients merged (ADT^A40): patient 10; before that patient 11 (MRG-1). And patient 20; before that patient 21 (MRG-1)."
    );
    let many = said("A40", &(1..9).map(|id| one(id * 10)).collect::<String>());
    assert!(many.contains("patient 51 (MRG-1). And 3 more.") && !many.contains("patient 60"), "{many}");
    assert!(
        said("A36", &one(10))
            .contains("patient 10, account A10 (PID-18); before that account B10 (MRG-3) of patient 11")
    );
    let swap = "PID|||1^^^H^MR\nPV1||I|ICU^1^1\nPID|||2^^^H^MR\nPV1||I|ICU^2^1\n";
    let swapped = "Two patients swap beds (ADT^A17): patient 1, ICU, room 1, bed 1. And patient 2, ICU, room 2, bed 1.";
    assert_eq!(said("A17", swap), swapped);
    let moved = "PID|||1^^^H^MR\nMRG|1||5||V1\nPV1||I|ICU||||||||||||||||V2\nMRG|1||5||V3\nPV1||I|ICU\n";
    let told = said("A45", moved);
    assert!(
        told.contains("visit V2 (PV1-19), ICU; before that visit V1 (MRG-5) of patient 1 (MRG-1) and visit V3"),
        "{told}"
    );
    assert_eq!(said("A99", ""), "Patient message (ADT^A99): no patient sent.");
}

#[test]
fn the_flow_of_a_whole_pump_is_not_counted_as_that_of_one_of_two_active_sources() {
    let codes = Nomenclature::built_in();
    let is_sure = |text: &str| {
        let message = Message::parse(text.replace('\n', "\r").into_bytes()).unwrap();
        PumpEvent::of(&Report::read(&message, &codes), &codes).unwrap().infusion.flow.unwrap().is_sure
    };
    let started = include_str!("../../channels/bedside-pumps/03-delivery-started.in.hl7");
    assert!(is_sure(started));
    let two = started.replace("|^pump-source-info-primary|", "|^pump-source-info-primary~^pump-source-info-secondary|");
    assert!(!is_sure(&two));
    let own = two
        .replace("158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.2|", "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.2.9|");
    assert!(is_sure(&own), "told under the source itself");
}

#[test]
fn an_alert_sent_late_says_so() {
    let late = explained(&ALERT.replacen("20260301081510+0000", "20260301091510+0000", 1)).headline;
    assert!(late.ends_with("Sent 1 h 0 min after it happened."), "{late}");
    assert!(!explained(ALERT).headline.contains("after it happened"));
}

#[test]
fn an_event_kept_while_the_pump_was_offline_says_how_late_it_is() {
    let late = explained(STOPPED).headline;
    assert!(late.ends_with("Sent 3 h 12 min after it happened."), "{late}");
    let prompt = explained(&STOPPED.replace("20260301112200+0000", "20260301081059+0000")).headline;
    assert!(!prompt.contains("after it happened"), "{prompt}");
    let unknown = report(&STOPPED.replace("20260301112200+0000", "20260301112200"))["pump_event"].take();
    assert_eq!(unknown["sent_after_seconds"], Value::Null, "one of the two has no zone");
}

#[test]
fn an_event_is_known_by_its_name_in_any_spelling_and_kept_as_sent_where_it_is_not() {
    for (sent, words) in [
        ("197288^^MDC", "infusion started"),
        ("0^MDCX_EVT_PUMP_DELIV_COMP^MDC", "infusion complete"),
        ("^MDC_EVT_PUMP_DELIV_STOP", "infusion stopped"),
        ("0^MDC_EVT_COMM_STATUS_CHANGE^MDC", "connection changed"),
        ("0^MDC_EVT_PUMP_AUTO_PROG_CLEARED^MDC", "program sent to the pump cleared"),
        ("0^VENDOR_OWN_EVENT^L", "VENDOR_OWN_EVENT"),
    ] {
        let headline = explained(&STOPPED.replace("0^MDC_EVT_PUMP_DELIV_STOP^MDC", sent)).headline;
        assert!(headline.starts_with(&format!("Pump event: {words} on ")), "{sent}: {headline}");
    }
}

#[test]
fn a_second_event_of_a_message_is_told_as_well() {
    let both = STOPPED.replace(
        "OBX|3|ST",
        "OBX|2|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.0.0.4|0^MDC_EVT_PUMP_DELIV_START^MDC||||||R\nOBX|3|ST",
    );
    assert!(explained(&both).headline.contains("1 further event in the same message"));
}

#[test]
fn what_an_alert_says_with_its_own_row_wins_over_the_interpretation() {
    let found = alert(ALERT);
    assert_eq!((&found["priority"], &found["type"]), (&"PH".into(), &"SP".into()));
    let old = ALERT.lines().filter(|line| !line.starts_with("OBX|7") && !line.starts_with("OBX|6"));
    let old: String = old.map(|line| format!("{line}\n")).collect();
    let found = alert(&old.replace("|90-100|L|", "|90-100|L~PM~ST|"));
    assert_eq!((&found["priority"], &found["type"], &found["flags"][0]), (&"PM".into(), &"ST".into(), &"L".into()));
}

#[test]
fn the_phase_alone_tells_whether_an_alert_is_new() {
    for (phase, initial) in
        [("start", true), ("START_ONLY", true), ("present", true), ("continue", false), ("end", false), ("??", false)]
    {
        let found = alert(&ALERT.replace("|Escalate|", &format!("|{phase}|")));
        assert_eq!(found["initial"], initial, "{phase}");
        assert_eq!(found["instance_from"], "OBR-29", "it is filled whatever the phase");
    }
    assert_eq!(alert(&ALERT.replace("|Escalate|", "|??|"))["phase"], "??", "kept as sent");
}

#[test]
fn the_chain_of_an_alert_is_found_in_every_form_of_the_parent() {
    let whole = "A-77^ALARM_GATEWAY^ACDE480000000060^EUI-64";
    for parent in [
        whole,
        "^A-77&ALARM_GATEWAY&ACDE480000000060&EUI-64",
        "A-77&ALARM_GATEWAY&ACDE480000000060&EUI-64",
        "^A-77^ALARM_GATEWAY^ACDE480000000060^EUI-64",
        "OTHER&CPOE^A-77&ALARM_GATEWAY",
        "A-77^ALARM_GATEWAY",
        "^A-77",
        "A-77",
    ] {
        let found = alert(&ALERT.replace(&format!("||{whole}\n"), &format!("||{parent}\n")));
        assert_eq!((&found["instance"]["id"], &found["instance_from"]), (&"A-77".into(), &"OBR-29".into()), "{parent}");
    }
    let none = alert(&ALERT.replace(&format!("||{whole}\n"), "\n"));
    assert_eq!((&none["instance"]["id"], &none["instance_from"]), (&"M-3".into(), &"OBR-3".into()));
}

#[test]
fn identifiers_are_compared_part_by_part() {
    let id = |id: &str, namespace: &str, universal: &str| EntityId {
        id: id.into(),
        namespace: namespace.into(),
        universal_id: universal.into(),
        universal_id_type: "EUI64".into(),
    };
    let whole = id("1", "GW", "ACDE480000000060");
    assert!(whole.same_as(&EntityId { universal_id_type: "EUI-64".into(), ..id("1", "", "acde480000000060") }));
    assert!(whole.same_as(&id("1", "GW", "")));
    assert!(!whole.same_as(&id("2", "GW", "ACDE480000000060")));
    assert!(!whole.same_as(&id("1", "GW", "ACDE480000000061")));
    assert!(!id("1", "GW", "").same_as(&id("1", "OTHER", "")));
}

#[test]
fn two_alerts_in_one_message_are_both_told() {
    let second = ALERT.lines().skip(3).map(|line| line.replace("A-77", "A-78").replace("Escalate", "start"));
    let two = format!("{ALERT}{}", second.map(|line| format!("{line}\n")).collect::<String>());
    let found = report(&two);
    assert_eq!(found["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(found["alerts"][1]["instance"]["id"], "A-78");
    assert!(explained(&two).headline.starts_with("2 alerts in one message. Alert (high priority, physiological) "));
}

#[test]
fn two_alerts_in_one_group_are_both_told() {
    let second = ALERT.lines().skip(4).map(|line| line.replace("|1.1.1.", "|1.1.2.").replace("Escalate", "end"));
    let two = format!("{ALERT}{}", second.map(|line| format!("{line}\n")).collect::<String>());
    let found = report(&two.replace("|1.1.2.2|84|", "|1.1.2.2|97|"));
    let values = ["84", "97"].map(Value::from);
    assert_eq!(found["alerts"].as_array().unwrap().len(), 2);
    assert_eq!([0, 1].map(|i| found["alerts"][i]["observed"][0]["value"]["value"].clone()), values);
    assert_eq!((&found["alerts"][0]["phase"], &found["alerts"][1]["phase"]), (&"escalate".into(), &"end".into()));
}

#[test]
fn an_alert_or_event_under_another_profile_is_told_as_one() {
    let observation = |text: &str, profile: &str| text.replace(profile, "1.3.6.1.4.1.19376.1.6.1.1.1");
    let alert = explained(&observation(ALERT, "1.3.6.1.4.1.19376.1.6.4.4"));
    assert_eq!(alert.recognised.transaction, Transaction::Pcd01);
    assert!(alert.headline.starts_with("Alert (high priority, physiological) escalated"), "{}", alert.headline);
    let event = explained(&observation(STOPPED, " 1.3.6.1.4.1.19376.1.6.4.10"));
    assert!(event.headline.starts_with("Pump event: infusion stopped"), "{}", event.headline);
}

#[test]
fn a_source_that_is_no_place_gives_no_number_of_any_source() {
    for place in ["SECONDARY", "1.1.0.0", "1.0.0.0"] {
        let found = report(&STOPPED.replace("|1.1.3.0||||||R", &format!("|{place}||||||R")))["pump_event"].take();
        assert_eq!(found["source"]["place"], place, "kept as sent");
        assert_eq!(found["infusion"]["volume_segment"], Value::Null, "{place}: there are two sources");
        assert_eq!(found["infusion"]["volume_cumulative"], Value::Null, "{place}");
        assert_eq!(found["infusion"]["flow"]["value"], "0.00", "{place}");
    }
    let one: String = STOPPED.lines().take(11).map(|line| format!("{line}\n")).collect();
    let one = one.replace("|1.1.3.0||||||R", "|1.1.0.0||||||R")
        + "OBX|10|NM|157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC|1.1.2.2|7|263762^MDC_DIM_MILLI_L^MDC|||||R\n";
    assert_eq!(report(&one)["pump_event"]["infusion"]["volume_cumulative"]["value"], "7", "the only source");
}

#[test]
fn an_alert_without_any_row_it_should_have_is_still_told() {
    let bare =
        "MSH|^~\\&|A||||20260301120000+0000||ORU^R40^ORU_R40|1|P|2.6\nOBX|1|ST|X^Pump stopped^L||all wrong||||||F\n";
    let headline = explained(bare).headline;
    assert!(headline.starts_with("Alert with no phase told: all wrong (Pump stopped)"), "{headline}");
}

#[test]
fn a_number_stays_as_sent() {
    let order = report(include_str!("../../tests/golden/explain/01-infusion-order.in.hl7"))["infusion_order"].take();
    assert_eq!(order["steps"][0]["rate"]["value"], "0.10");
    assert_eq!(order["steps"][1]["rate"]["unit"], "ug/kg/min", "not the draft's number before it");
    assert_eq!(order["parameters"][0]["value"]["value"], "71.50");
}

/// What each real message is, and what must be read of it: a pointer into the explanation's JSON and its value.
type Read = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const REAL: &[Read] = &[
    (
        "001_pcd10",
        "PCD-10",
        "alias",
        &[
            ("/report/pump_event/event", "DELIV_START"),
            ("/report/pump_event/infusion/flow/value", "24.9"),
            ("/report/pump_event/infusion/flow/unit", "mL/h"),
            ("/report/pump_event/infusion/drug/name", "Dopamine"),
            ("/report/pump_event/infusion/volume_segment/value", "0"),
            ("/report/pump_event/infusion/infusing", "infusing"),
        ],
    ),
    ("005_pcd01", "PCD-01", "profile", &[]),
    ("006_pcd01", "PCD-01", "profile", &[]),
    (
        "007_pcd03ack",
        "PCD-03-answer",
        "message-type",
        &[("/report/reply/code", "AR"), ("/report/reply/errors/0/application/code", "9010")],
    ),
    (
        "008_pcd03",
        "PCD-03",
        "message-type",
        &[
            ("/report/infusion_order/placer/id", "12345"),
            ("/report/infusion_order/pump", "A0001"),
            ("/report/infusion_order/steps/0/drug/name", "Dopamine"),
            ("/report/infusion_order/steps/0/rate/value", "10"),
            ("/report/infusion_order/steps/0/rate/unit", "ug/kg/min"),
            ("/report/infusion_order/steps/0/volume/value", "250"),
            ("/report/infusion_order/steps/0/dose/unit", "mg"),
            ("/report/infusion_order/steps/0/route/words", "IV"),
            ("/report/infusion_order/parameters/0/value/value", "85.0"),
        ],
    ),
    ("010_pcd03ack", "ACK", "message-type", &[("/report/reply/code", "CA"), ("/report/reply/answers", "1")]),
    (
        "012_pcd04",
        "PCD-04",
        "alias",
        &[
            ("/report/alerts/0/phase", "start"),
            ("/report/alerts/0/state", "active"),
            ("/report/alerts/0/priority", "PM"),
            ("/report/alerts/0/type", "SP"),
            ("/report/alerts/0/inactivation/0", "enabled"),
            ("/report/alerts/0/observed/0/value/value", "88"),
            ("/report/alerts/0/observed/0/limits", "90-96"),
            ("/report/alerts/0/event/name", "MDC_EVT_LO"),
            ("/report/alerts/0/text", "LowSpO2"),
        ],
    ),
    (
        "013_pcd04",
        "PCD-04",
        "profile",
        &[
            ("/report/alerts/0/phase", "start"),
            ("/report/alerts/0/state", "active"),
            ("/report/alerts/0/type", "SA"),
            ("/report/alerts/0/text", "Timeout not documented"),
            ("/report/alerts/0/instance/id", "12345-2"),
        ],
    ),
    (
        "014_pcd04",
        "PCD-04",
        "alias",
        &[
            ("/report/alerts/0/event/code", "196940"),
            ("/report/alerts/0/text", "Occlusion"),
            ("/report/alerts/0/type", "ST"),
            ("/report/alerts/0/source/name", "MDC_DEV_PUMP_INFUS_MDS"),
            ("/report/alerts/0/instance/id", "E0001_27"),
            ("/report/alerts/0/report/id", "P6013_4"),
        ],
    ),
    (
        "016_pcd10",
        "PCD-10",
        "profile",
        &[
            ("/report/pump_event/event", "DELIV_START"),
            ("/report/pump_event/source/place", "1.1.2.0"),
            ("/report/pump_event/source/label", "Primary"),
            ("/report/pump_event/infusion/flow/value", "15.4"),
            ("/report/pump_event/infusion/dose_rate/value", "5.00"),
            ("/report/pump_event/infusion/mode", "continuous"),
            ("/report/pump_event/infusion/volume_cumulative/value", "0.0"),
        ],
    ),
    (
        "020_pcd04",
        "PCD-04",
        "profile",
        &[("/report/alerts/0/confirm_within/value", "5"), ("/report/alerts/0/event/name", "MDC_EVT_ACTIVE")],
    ),
    ("024_pcd01", "PCD-01", "profile", &[]),
];

#[test]
fn real_messages_are_of_the_right_transaction_and_rightly_read() {
    let Some(folder) = std::env::var_os("CANNULA_TEST_MESSAGES").map(PathBuf::from) else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return;
    };
    let tables = Nomenclature::built_in();
    let (mut known, mut others) = (0, 0);
    for line in fs::read_to_string(folder.join("index.tsv")).unwrap().lines().skip(1) {
        let file = line.split('\t').next().unwrap();
        let Ok(message) = Message::parse(fs::read(folder.join(file)).unwrap()) else { continue };
        let explanation = explain(&message, &tables);
        assert!(explanation.headline.len() > 20 && !explanation.to_string().is_empty(), "{file}");
        let json = serde_json::to_value(&explanation).unwrap();
        let Some((_, transaction, by, facts)) = REAL.iter().find(|row| file.starts_with(row.0)) else {
            assert!(!json["transaction"].as_str().unwrap().starts_with("PCD-"), "{file} is none");
            others += 1;
            continue;
        };
        assert_eq!((&json["transaction"], &json["by"]), (&(*transaction).into(), &(*by).into()), "{file}");
        for (pointer, value) in *facts {
            let found = json.pointer(pointer);
            assert_eq!(found.and_then(Value::as_str), Some(*value), "{file} {pointer}");
        }
        known += 1;
    }
    println!("{known} PCD messages, {others} others");
    assert!(known == REAL.len() && others > 50, "{known} and {others}");
}

const SEEDS: [&str; 6] = [
    include_str!("../../tests/golden/explain/01-infusion-order.in.hl7"),
    include_str!("../../tests/golden/explain/02-order-refused.in.hl7"),
    ALERT,
    include_str!("../../tests/golden/explain/04-alert-status.in.hl7"),
    STOPPED,
    include_str!("../../tests/golden/pcd-to-fhir/01-monitor.in.hl7"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_edit_of_a_message_makes_a_panic(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<[u8; 3]>(), 0..5u8), 1..16),
    ) {
        let mut bytes = SEEDS[seed].replace('\n', "\r").into_bytes();
        for (at, other, random, kind) in edits {
            let (at, other) = (9 + at.index(bytes.len() - 9), 9 + other.index(bytes.len() - 9));
            let (from, to) = (at.min(other), at.max(other).min(at.min(other) + 200));
            match kind {
                0 => bytes[at] = random[0],
                1 => _ = bytes.splice(at..at, random),
                2 => _ = bytes.drain(from..to),
                3 => bytes = [&bytes[..to], &bytes[from..]].concat(),
                _ => bytes[at] = b"|^~&\\\r\".0"[usize::from(random[0]) % 9],
            }
        }
        if let Ok(message) = Message::parse(bytes) {
            let explanation = explain(&message, &Nomenclature::built_in());
            let text = explanation.to_string();
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(serde_json::to_value(&explanation).is_ok());
        }
    }
}
