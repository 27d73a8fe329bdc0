#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod choices;
mod clock;
mod courses;
mod doubts;
mod episodes;
mod fields;
mod memory;
mod messages;
mod origins;
mod r4;
mod results;
mod unsent;

use serde_json::{Value, json};

use self::r4::check_r4;
use super::*;
use crate::pcd::Nomenclature;
use crate::translate::nothing_remembered;

fn settings() -> PcdToFhir {
    let mut settings = PcdToFhir::new(Nomenclature::built_in());
    let systems = [
        ("H", "https://hospital.example/mrn"),
        ("", "https://hospital.example/unnamed"),
        ("V", "https://hospital.example/visit"),
    ];
    settings.infusions.written = true;
    settings.identifier_systems = systems.map(|(name, system)| (name.to_owned(), system.to_owned())).into();
    settings
}

/// `None` where there is nothing to send or to remember.
fn told(translated: Result<Translated, TranslateError>) -> Result<Option<Translated>, TranslateError> {
    translated.map(|told| Some(told).filter(|told| told.is_sent() || !told.episodes.is_empty()))
}

/// To a destination that remembers nothing.
fn apply(settings: &PcdToFhir, message: &Message, context: Context) -> Result<Option<Translated>, TranslateError> {
    told(super::apply(settings, message, context, &nothing_remembered))
}

fn context() -> Context {
    Context { id: 7, received_at: "2026-03-01T11:00:05Z".parse().unwrap(), origins: true }
}

fn parse(text: &str) -> Message {
    Message::parse(text.trim_end().replace('\n', "\r").into_bytes()).unwrap()
}

fn translate_with(settings: &PcdToFhir, text: &str) -> Result<Option<Translated>, TranslateError> {
    apply(settings, &parse(text), context())
}

fn bundle_with(settings: &PcdToFhir, text: &str) -> Value {
    let translated = translate_with(settings, text).unwrap().unwrap();
    serde_json::from_slice(&translated.body).unwrap()
}

/// A report of these OBX rows, and what stands before them.
fn report(rows: &[&str]) -> String {
    let mut text = String::from(HEAD);
    rows.iter().for_each(|row| text.extend([row, "\n"]));
    text
}

const HEAD: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||20260301120000+0100||ORU^R01^ORU_R01|C1|P|2.6|||AL|NE||UNICODE UTF-8|||IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO
PID|||4711^^^H^MR||Muster^Maria^^^^^L
PV1||I|3W^12^1
OBR|1|O1^CPOE|F1^GATEWAY^ACDE480000000001^EUI-64|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260301115900+0100
";

fn bundle(rows: &[&str]) -> Value {
    bundle_with(&settings(), &report(rows))
}

fn observations(bundle: &Value) -> Vec<&Value> {
    let entries = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    entries.filter(|resource| resource["resourceType"] == "Observation").collect()
}

/// The one observation that this OBX makes.
fn observation(row: &str) -> Value {
    let bundle = bundle(&[row]);
    let found = observations(&bundle);
    assert_eq!(found.len(), 1, "{row}");
    found[0].clone()
}

fn refusal(text: &str) -> String {
    translate_with(&settings(), text).unwrap_err().to_string()
}

fn identifier(observation: &Value) -> &str {
    observation["identifier"][0]["value"].as_str().unwrap()
}

const SYS: &str = "OBX|1|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.1|117|266016^MDC_DIM_MMHG^MDC|||||R";
const MDS: &str = "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||^^ACDE480000001001^EUI-64";

/// An OBX of type and value with a metric's usual rest.
fn row(kind: &str, value: &str) -> String {
    format!("OBX|1|{kind}|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{value}|265266^MDC_DIM_MILLI_L_PER_HR^MDC|||||R")
}

#[test]
fn values_are_written_by_their_type_and_keep_their_digits() {
    let quantity = |value: &str| {
        let value: Value = serde_json::from_str(value).unwrap();
        json!({"value": value, "unit": "mL/h", "system": "http://unitsofmeasure.org", "code": "mL/h"})
    };
    let compared = |comparator: &str, value: &str| {
        let mut quantity = quantity(value);
        quantity["comparator"] = json!(comparator);
        quantity
    };
    let cases = [
        ("NM", "5.60", "valueQuantity", quantity("5.60")),
        ("NM", "+.5", "valueQuantity", quantity("0.5")),
        ("NM", "<40", "valueQuantity", compared("<", "40")),
        ("SN", "^7.0", "valueQuantity", quantity("7.0")),
        ("SN", ">=^300", "valueQuantity", compared(">=", "300")),
        ("SN", "^1^-^2", "valueRange", json!({"low": quantity("1"), "high": quantity("2")})),
        ("SN", "^1^:^128", "valueRatio", json!({"numerator": {"value": 1}, "denominator": {"value": 128}})),
        ("SN", "<>^5", "valueString", json!("<>5")),
        ("SN", "^2^+", "valueString", json!("2+")),
        ("NR", "1.0^2.0", "valueRange", json!({"low": quantity("1.0"), "high": quantity("2.0")})),
        ("NR", "^2", "valueRange", json!({"high": quantity("2")})),
        ("ST", "a\\T\\b", "valueString", json!("a&b")),
        ("ST", "12", "valueString", json!("12")),
        ("TX", "one~two", "valueString", json!("one\ntwo")),
        ("CWE", "^pump-status-infusing", "valueCodeableConcept", json!({"text": "pump-status-infusing"})),
        ("CWE", "A^Alpha^99LOCAL", "valueCodeableConcept", json!({"coding": [{"code": "A", "display": "Alpha"}]})),
        ("DTM", "202603011200+0100", "valueDateTime", json!("2026-03-01T12:00:00+01:00")),
        ("DT", "202603", "valueDateTime", json!("2026-03")),
        ("TM", "0830", "valueTime", json!("08:30:00")),
        ("DR", "20260301^20260302", "valuePeriod", json!({"start": "2026-03-01", "end": "2026-03-02"})),
        ("EI", "A^B", "valueString", json!("A B")),
    ];
    for (kind, value, element, expected) in cases {
        let found = observation(&row(kind, value));
        assert_eq!(found[element], expected, "{kind} {value}");
    }
}

#[test]
fn four_hundred_digits_arrive() {
    let digits = format!("{}.{}", "1234567890".repeat(20), "1234567890".repeat(20));
    assert_eq!(observation(&row("NM", &digits))["valueQuantity"]["value"].to_string(), digits);
}

#[test]
fn a_value_that_is_not_of_its_type_is_refused_and_never_repeated_in_the_reason() {
    let cases = [
        ("NM", "SECRET"),
        ("NM", "1e9"),
        ("NM", "1,5"),
        ("NM", "--1"),
        ("SN", "^SECRET"),
        ("NR", "SECRET^1"),
        ("NR", "2^1"),
        ("DTM", "20260230"),
        ("TM", "SECRET"),
        ("QQ", "SECRET"),
        ("", "SECRET"),
        ("ED", "^AP^PDF^Base64^SECRET!"),
        ("NA", "1^SECRET"),
    ];
    for (kind, value) in cases {
        let reason = refusal(&report(&[&row(kind, value)]));
        assert!(reason.starts_with("OBX[1]-5: ") || reason.starts_with("OBX[1]-2: "), "{kind} {value}: {reason}");
        assert!(!reason.contains("SECRET"), "{reason}");
    }
}

#[test]
fn statuses_are_those_of_table_0085() {
    let status = |code: &str, value: &str| {
        let text = report(&[&format!("OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{value}||||||{code}")]);
        let Some(found) = translate_with(&settings(), &text).unwrap() else { return "nothing".to_owned() };
        let bundle: Value = serde_json::from_slice(&found.body).unwrap();
        format!(
            "{} {}",
            bundle["entry"][0]["request"]["method"].as_str().unwrap(),
            observations(&bundle)[0]["status"].as_str().unwrap()
        )
    };
    let cases = [
        ("F", "POST final"),
        ("R", "POST preliminary"),
        ("P", "POST preliminary"),
        ("S", "POST preliminary"),
        ("C", "PUT corrected"),
        ("A", "PUT amended"),
        ("B", "PUT amended"),
        ("D", "PUT entered-in-error"),
        ("W", "PUT entered-in-error"),
        ("U", "PUT final"),
        ("V", "PUT final"),
        ("I", "POST registered"),
        ("O", "POST registered"),
        ("N", "nothing"),
        ("X", "POST unknown"),
        ("", "POST unknown"),
    ];
    for (code, expected) in cases {
        assert_eq!(status(code, "1"), expected, "{code}");
    }
    assert_eq!(status("X", ""), "POST cancelled");
    let lenient = PcdToFhir { unverified_final: true, ..settings() };
    assert_eq!(observations(&bundle_with(&lenient, &report(&[SYS])))[0]["status"], "final");
    assert!(refusal(&report(&["OBX|1|NM|1^A^L|1.1.1.1|1||||||Q"])).starts_with("OBX[1]-11: "));
    assert!(refusal(&report(&["OBX|1|NM|1^A^L|1.1.1.1|||||||U"])).starts_with("OBX[1]-11: "));
}

#[test]
fn flags_say_how_far_a_value_can_be_trusted() {
    let flagged = |flags: &str, value: &str| {
        observation(&format!("OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{value}|||{flags}|||R"))
    };
    let code = |concept: &Value| concept["coding"][0]["code"].clone();
    assert_eq!(code(&flagged("H", "1")["interpretation"][0]), "H");
    assert_eq!(code(&flagged("L~ALACT", "1")["interpretation"][1]), "in-alarm");
    assert_eq!(code(&flagged("ALINH", "1")["interpretation"][0]), "alarm-inhibited");
    assert_eq!(flagged("QUES", "1")["meta"]["security"][0]["code"], "UNCERTREL");
    assert_eq!(flagged("DEMO", "1")["meta"]["security"][0]["code"], "HTEST");
    assert_eq!(flagged(">", "500")["valueQuantity"]["comparator"], ">");
    for (flags, value, reason) in [
        ("INV", "1", "error"),
        ("NAV", "", "temp-unknown"),
        ("OFF", "", "not-performed"),
        ("", "", "unknown"),
        ("BUSY", "", "temp-unknown"),
        ("", "NaN", "not-a-number"),
        ("", "-INF", "negative-infinity"),
    ] {
        let found = flagged(flags, value);
        assert_eq!(
            (code(&found["dataAbsentReason"]), &found["valueQuantity"]),
            (json!(reason), &Value::Null),
            "{flags} {value}"
        );
    }
    let busy = flagged("BUSY", "1");
    assert_eq!((&busy["dataAbsentReason"], code(&busy["interpretation"][0])), (&Value::Null, json!("msmt-ongoing")));
}

#[test]
fn the_same_observation_sent_again_in_a_new_message_is_the_same_one() {
    let first = report(&[MDS, SYS]);
    let again = first.replace("|C1|", "|C2|").replace("20260301120000+0100||ORU", "20260301130000+0100||ORU");
    let utc = first.replace("20260301115900+0100", "20260301105900+0000");
    let name = |text: &str| identifier(observations(&bundle_with(&settings(), text))[0]).to_owned();
    assert_eq!(name(&first), name(&again));
    assert_eq!(name(&first), name(&utc));
    let others = [
        ("4711^^^H", "4712^^^H"),
        ("1.1.1.1|117", "1.1.2.1|117"),
        ("150021^MDC_PRESS_BLD_NONINV_SYS", "150022^MDC_PRESS_BLD_NONINV_DIA"),
        ("20260301115900", "20260301115901"),
        ("ACDE480000001001", "ACDE480000001002"),
    ];
    for (from, to) in others {
        assert!(first.contains(from));
        assert_ne!(name(&first), name(&first.replace(from, to)), "{to}");
    }
}

#[test]
fn a_correction_replaces_what_it_corrects() {
    let entry = |text: &str| bundle_with(&settings(), text)["entry"][0].clone();
    let first = entry(&report(&[SYS]));
    let corrected = entry(&report(&[&SYS.replace("|117|", "|171|").replace("|||||R", "|||||C")]));
    assert_eq!(first["resource"]["identifier"], corrected["resource"]["identifier"]);
    let query = first["request"]["ifNoneExist"].as_str().unwrap();
    assert_eq!(corrected["request"], json!({"method": "PUT", "url": format!("Observation?{query}")}));
    let both = bundle(&[SYS, &SYS.replace("|117|", "|171|").replace("|||||R", "|||||C")]);
    assert_eq!(observations(&both).len(), 1);
    assert_eq!(observations(&both)[0]["valueQuantity"]["value"], 171);
}

#[test]
fn a_row_sent_twice_is_written_once_and_two_that_differ_are_both_kept() {
    assert_eq!(observations(&bundle(&[SYS, SYS])).len(), 1);
    let two = bundle(&[SYS, &SYS.replace("|117|", "|118|")]);
    let found = observations(&two);
    assert_eq!(found.len(), 2);
    assert_ne!(identifier(found[0]), identifier(found[1]));
}

#[test]
fn an_observation_never_reaches_a_patient_that_is_not_sure() {
    let text = report(&[SYS]);
    let line = "PID|||4711^^^H^MR||Muster^Maria^^^^^L\n";
    let with = |pid: &str| refusal(&text.replace(line, pid));
    assert!(with("").starts_with("PID: no PID"));
    assert!(with("PID|||||^^^^^^U\n").starts_with("PID[1]-3: no patient identifier"));
    assert!(with("PID|||\"\"^^^H^MR\n").starts_with("PID[1]-3: no patient identifier"));
    assert!(with("PID|||9^^^H^VN\n").starts_with("PID[1]-3: no patient identifier"));
    assert!(with("PID|||4711^^^OTHER^MR\n").starts_with("PID[1]-3: no system is configured"));
    let two = format!("{text}PID|||4712^^^H^MR\nOBR|2||F2|1^A^L\n{SYS}\n");
    assert!(refusal(&two).starts_with("PID[2]-3: the message has observations of two patients"));
}

#[test]
fn the_medical_record_number_of_a_known_authority_names_the_patient() {
    let subject = |pid3: &str| {
        let text = report(&[SYS]).replace("4711^^^H^MR", pid3);
        observations(&bundle_with(&settings(), &text))[0]["subject"]["reference"].as_str().unwrap().to_owned()
    };
    assert_eq!(subject("77^^^X^MR~5^^^H^PI~4711^^^H^MR"), "Patient?identifier=https://hospital.example/mrn%7C4711");
    assert_eq!(subject("4711^^^&2.999.1&ISO^MR"), "Patient?identifier=urn:oid:2.999.1%7C4711");
    assert_eq!(subject("4711"), "Patient?identifier=https://hospital.example/unnamed%7C4711");
    assert_eq!(subject("47\\T\\_sort=x^^^H^MR"), "Patient?identifier=https://hospital.example/mrn%7C47%26_sort%3Dx");
}

#[test]
fn without_configured_systems_each_authority_is_its_own_and_counted_as_unmapped() {
    let bare = PcdToFhir::new(Nomenclature::built_in());
    let translated = |pid3: &str| translate_with(&bare, &report(&[SYS]).replace("4711^^^H^MR", pid3)).unwrap().unwrap();
    let subject = |pid3: &str| {
        let bundle: Value = serde_json::from_slice(&translated(pid3).body).unwrap();
        observations(&bundle)[0]["subject"]["reference"].as_str().unwrap().to_owned()
    };
    assert_eq!(subject("4711^^^H^MR"), subject("4711^^^H^PI"));
    assert_ne!(subject("4711^^^H^MR"), subject("4711^^^OTHER^MR"));
    assert_ne!(subject("4711^^^H^MR"), subject("4711"));
    assert!(subject("4711").starts_with("Patient?identifier=urn:uuid:"));
    let unmapped = Unmapped::new("identifier_systems", "OTHER", "", "");
    assert!(translated("4711^^^OTHER^MR").unmapped.contains(&unmapped));
}

#[test]
fn two_values_of_one_time_are_two_observations_only_where_the_value_is_part_of_the_identity() {
    let other = SYS.replace("|117|", "|118|");
    let names = |settings: &PcdToFhir, row: &str| {
        identifier(observations(&bundle_with(settings, &report(&[row])))[0]).to_owned()
    };
    let by_value = PcdToFhir { value_in_identity: true, ..settings() };
    assert_eq!(names(&settings(), SYS), names(&settings(), &other));
    assert_ne!(names(&by_value, SYS), names(&by_value, &other));
    assert_eq!(names(&by_value, SYS), names(&by_value, SYS));
}

#[test]
fn a_time_without_a_zone_is_taken_only_with_one_that_was_sent_or_configured() {
    let local = report(&[SYS]).replace("20260301115900+0100", "20260301115900");
    let effective =
        |settings: &PcdToFhir, text: &str| observations(&bundle_with(settings, text))[0]["effectiveDateTime"].clone();
    assert_eq!(effective(&settings(), &local), "2026-03-01T11:59:00+01:00");
    let zoneless = local.replace("20260301120000+0100", "20260301120000");
    assert!(refusal(&zoneless).starts_with("OBR[1]-7: the time has no zone"));
    let configured = PcdToFhir { default_offset_minutes: Some(-300), ..settings() };
    assert_eq!(effective(&configured, &zoneless), "2026-03-01T11:59:00-05:00");
}

#[test]
fn an_interval_is_a_period_and_a_reversed_one_only_its_start() {
    let text = |end: &str| report(&[SYS]).replace("20260301115900+0100", &format!("20260301115900+0100|{end}"));
    let found = bundle_with(&settings(), &text("20260301120000+0100"));
    assert_eq!(
        observations(&found)[0]["effectivePeriod"],
        json!({"start": "2026-03-01T11:59:00+01:00", "end": "2026-03-01T12:00:00+01:00"})
    );
    let found = bundle_with(&settings(), &text("20260301115800+0100"));
    assert_eq!(observations(&found)[0]["effectiveDateTime"], "2026-03-01T11:59:00+01:00");
}

#[test]
fn test_traffic_is_marked_on_every_resource() {
    let found = bundle_with(&settings(), &report(&[MDS, SYS]).replace("|C1|P|", "|C1|T|"));
    let entries = found["entry"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!(entry["resource"]["meta"]["security"][0]["code"], "HTEST");
        assert_eq!(entry["resource"]["meta"]["tag"][0]["code"], "T");
    }
}

#[test]
fn an_unknown_code_or_unit_is_kept_as_sent_and_counted() {
    let text = report(&["OBX|1|NM|8388700^VENDOR_SCORE^MDC^S7^Score^99V|1.1.1.1|3|99^blips^99V|||||R"]);
    let translated = translate_with(&settings(), &text).unwrap().unwrap();
    let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
    let found = observations(&bundle)[0];
    let codes: Vec<&Value> = found["code"]["coding"].as_array().unwrap().iter().map(|coding| &coding["code"]).collect();
    assert_eq!(codes, ["8388700", "S7"]);
    assert_eq!(found["valueQuantity"], json!({"value": 3, "unit": "blips"}));
    let counted = [
        Unmapped::new("mdc-units", "99", "blips", "99V"),
        Unmapped::new("mdc-terms", "8388700", "VENDOR_SCORE", "MDC"),
    ];
    assert_eq!(translated.unmapped, counted);
}

#[test]
fn what_is_unknown_in_obx_8_is_kept_in_words_and_never_listed() {
    let listed = |flag: &str| {
        let row = row("NM", "5").replace("|||||R", &format!("||{flag}|||R"));
        let translated = translate_with(&settings(), &report(&[&row])).unwrap().unwrap();
        let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
        let words = observations(&bundle)[0]["interpretation"][0]["text"].as_str().map(str::to_owned);
        (words, translated.unmapped.iter().map(|found| found.listed).collect::<Vec<_>>())
    };
    for words in ["Mrs Muster is restless", "MUSTER"] {
        assert_eq!(listed(words), (Some(words.to_owned()), vec![false]));
    }
    assert_eq!(listed("POS"), (Some("POS".to_owned()), vec![true]), "a code of another kind of report");
    assert_eq!(listed("QUES").1, Vec::<bool>::new());
}

#[test]
fn an_enumerated_value_no_table_knows_is_counted_by_its_code_alone() {
    let unmapped = |value: &str| {
        let row = format!("OBX|1|CWE|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|{value}||||||R");
        translate_with(&settings(), &report(&[&row])).unwrap().unwrap().unmapped
    };
    assert_eq!(unmapped("197288^MDC_EVT_PUMP_DELIV_START^MDC"), []);
    assert_eq!(unmapped("^pump-status-infusing"), []);
    assert_eq!(unmapped("0^MDCX_STATE_NEW^MDC"), [Unmapped::new("mdc-terms", "MDCX_STATE_NEW", "0", "MDC")]);
    assert_eq!(unmapped("8388700^Jane typed this^MDC"), [Unmapped::new("mdc-terms", "8388700", "", "MDC")]);
    assert_eq!(unmapped("Jane^Doe^MDC"), []);
    assert_eq!(unmapped("4711^Jane^99LOCAL"), []);
}

#[test]
fn a_loinc_number_with_a_wrong_digit_is_kept_as_sent_and_counted() {
    let unmapped = |code: &str| {
        let text = report(&[&format!("OBX|1|NM|{code}^Heart rate^LN|1.1.1.1|3|/min^/min^UCUM|||||R")]);
        translate_with(&settings(), &text).unwrap().unwrap().unmapped
    };
    assert_eq!(unmapped("8867-4"), []);
    assert_eq!(unmapped("8867-5"), [Unmapped::new("loinc", "8867-5", "Heart rate", "LN")]);
}

#[test]
fn units_are_ucum_where_that_is_sure_and_two_that_disagree_are_refused() {
    let unit = |obx6: &str| {
        let found = observation(&format!("OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|1|{obx6}|||||R"));
        found["valueQuantity"]["code"].as_str().unwrap_or("none").to_owned()
    };
    assert_eq!(unit("265266^MDC_DIM_MILLI_L_PER_HR^MDC"), "mL/h");
    assert_eq!(unit("^MDC_DIM_MILLI_L_PER_HR^MDC"), "mL/h");
    assert_eq!(unit("3475^ug/kg/min^UCUM^265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC"), "ug/kg/min");
    assert_eq!(unit("264864^MDC_DIM_BEAT_PER_MIN^MDC^{beats}/min^^UCUM"), "{beat}/min");
    assert_eq!(unit("L/h^^UCUM^dm3/h^^UCUM"), "L/h");
    assert_eq!(unit("mcg/kg/min"), "ug/kg/min");
    assert_eq!(unit("units"), "none");
    assert_eq!(unit("bpm^^UCUM"), "none");
    assert_eq!(unit(""), "none");
    assert!(
        refusal(&report(&["OBX|1|NM|1^A^L|1|1|263762^MDC_DIM_MILLI_L^MDC^L^L^UCUM|||||R"]))
            .starts_with("OBX[1]-6: names two different units")
    );
}

#[test]
fn alarm_limits_are_never_taken_for_a_normal_range() {
    let range =
        |obx7: &str| observation(&SYS.replace("MDC|||||R", &format!("MDC|{obx7}||||R")))["referenceRange"][0].clone();
    for (sent, low, high) in [
        ("90-160", json!(90), json!(160)),
        ("<500", Value::Null, json!(500)),
        ("[4.00;15.00]", json!(4), json!(15)),
        ("-5--1", json!(-5), json!(-1)),
        ("apnea", Value::Null, Value::Null),
    ] {
        let found = range(sent);
        let number = |value: &Value| value["value"].as_f64();
        assert_eq!((number(&found["low"]), number(&found["high"])), (low.as_f64(), high.as_f64()), "{sent}");
        assert_eq!((&found["type"]["coding"][0]["code"], &found["text"]), (&json!("alarm-limits"), &json!(sent)));
    }
}

#[test]
fn each_pump_of_a_rack_is_its_own_device() {
    let pump = |label: &str| {
        format!("OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||{label}^^ACDE480000002001^EUI-64")
    };
    let device = |label: &str| {
        let bundle = bundle(&[&pump(label), SYS]);
        bundle["entry"][0]["fullUrl"].as_str().unwrap().to_owned()
    };
    assert_ne!(device("P1"), device("P2"));
}

#[test]
fn what_cannot_be_identified_makes_no_device() {
    let unnamed = "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||MX-7";
    let found = bundle(&[unnamed, SYS]);
    assert_eq!(found["entry"][0]["resource"]["resourceType"], "Observation");
    let expected =
        json!({"type": "Device", "identifier": {"value": "MX-7"}, "display": "MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS"});
    assert_eq!(observations(&found)[0]["device"], expected);
}

#[test]
fn a_blank_label_names_no_device() {
    let blank = "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X||||||| ^X";
    let expected = json!({"type": "Device", "display": "MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS"});
    assert_eq!(observations(&bundle(&[blank, SYS]))[0]["device"], expected);
}

#[test]
fn a_record_that_takes_only_observations_gets_only_observations() {
    let thin = PcdToFhir { device_detail: DeviceDetail::IdentifierOnly, ..settings() };
    let found = bundle_with(&thin, &report(&[MDS, SYS]));
    assert_eq!(found["entry"].as_array().unwrap().len(), 1);
    assert_eq!(observations(&found)[0]["device"]["identifier"]["value"], "ACDE480000001001");
}

#[test]
fn facets_and_repeated_values_are_components() {
    let found = bundle(&[
        "OBX|1||150020^MDC_PRESS_BLD_NONINV^MDC|1.1.1.1|||||||R",
        "OBX|2|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.1.1|117|266016^MDC_DIM_MMHG^MDC|||||R",
        "OBX|3|NM|150022^MDC_PRESS_BLD_NONINV_DIA^MDC|1.1.1.1.2|82|266016^MDC_DIM_MMHG^MDC|||||R",
    ]);
    check_r4(&found);
    let found = observations(&found);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["code"]["coding"][0]["code"], "85354-9");
    assert_eq!(
        (&found[0]["component"][1]["valueQuantity"]["value"], &found[0]["dataAbsentReason"]),
        (&json!(82), &Value::Null)
    );
    let repeated = observation(&row("NM", "1~2"));
    assert_eq!(repeated["component"][1]["valueQuantity"]["value"], 2);
}

#[test]
fn a_facet_of_another_status_is_an_observation_of_the_same_device() {
    let found = bundle(&[
        MDS,
        "OBX|2|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.1|98|262688^MDC_DIM_PERCENT^MDC|||||R",
        "OBX|3|NM|8388700^VENDOR_SCORE^MDC|1.1.1.1.1|5||||||F",
    ]);
    let found = observations(&found);
    assert_eq!((found.len(), &found[0]["device"]), (2, &found[1]["device"]));
    assert!(found[1]["device"]["reference"].is_string());
}

#[test]
fn thousands_of_values_of_one_place_and_time_are_all_kept() {
    let rows: Vec<String> = (0..5000).map(|i| SYS.replace("|117|", &format!("|{i}|"))).collect();
    let rows: Vec<&str> = rows.iter().chain(&rows).map(String::as_str).collect();
    let found = bundle(&rows);
    assert_eq!(observations(&found).len(), 5000);
    check_r4(&found);
}

#[test]
fn nothing_of_the_message_shows_in_debug_output() {
    let shown = format!("{:?}", translate_with(&settings(), &report(&[SYS])).unwrap().unwrap());
    assert!(shown.starts_with("Translated(FhirBundle, ") && !shown.contains("4711"), "{shown}");
}

#[test]
fn a_control_character_never_reaches_the_record() {
    assert_eq!(observation(&row("ST", "a\\X1B\\[2J"))["valueString"], "a\u{FFFD}[2J");
}

#[test]
fn a_waveform_without_a_rate_is_refused() {
    assert!(refusal(&report(&[&row("NA", "1^2^3")])).starts_with("OBX[1]-5: is a waveform without a known rate"));
}

#[test]
fn other_messages_and_where_asked_for_alerts_are_refused_with_what_to_do() {
    let mut settings = settings();
    settings.alerts = Alerts::Refuse;
    let facet = "OBX|2|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.1.1.1.3|start||||||F";
    for alert in [report(&[SYS]).replace("ORU^R01", "ORU^R40"), report(&[facet])] {
        let error = translate_with(&settings, &alert).unwrap_err().to_string();
        assert!(error.starts_with("MSH-9: alerts are refused by this destination"), "{error}");
    }
    assert!(refusal(&report(&[SYS]).replace("ORU^R01^ORU_R01", "ADT^A01")).starts_with("MSH-9: "));
}

#[test]
fn a_report_of_devices_alone_sends_nothing() {
    assert!(translate_with(&settings(), &report(&[MDS])).unwrap().is_none());
}

#[test]
fn text_is_decoded_by_the_character_set_of_the_message() {
    let mut bytes =
        report(&["OBX|1|ST|1^A^L|1|Z@rich||||||R"]).replace("UNICODE UTF-8", "8859/1").replace('\n', "\r").into_bytes();
    let at = bytes.iter().position(|b| *b == b'@').unwrap();
    bytes[at] = 0xFC;
    let translated = apply(&settings(), &Message::parse(bytes).unwrap(), context()).unwrap().unwrap();
    let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(observations(&bundle)[0]["valueString"], "Zürich");
}
