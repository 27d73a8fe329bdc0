//! Results of a laboratory: no device, OBX-7 is what is normal, the order names the result.

use super::*;

fn laboratory() -> PcdToFhir {
    let mut settings = PcdToFhir { semantics: Semantics::Results, ..settings() };
    settings.coding_systems.insert("99LAB".into(), "https://lab.example/codes".into());
    settings
}

const HEAD: &str = "MSH|^~\\&|LAB|CENTRAL|||20260301120000+0100||ORU^R01^ORU_R01|L1|P|2.5.1
PID|1||4711^^^H^MR||Muster^Maria
OBR|1|P1^CPOE|F1^LAB|24323-8^Metabolic panel^LN|||20260301080000+0100|||||||||||||||20260301113000+0100||CH|F
";
const GLUCOSE: &str = "OBX|1|NM|GLU^Glucose^99LAB^2345-7^Glucose [Mass/volume] in Serum or Plasma^LN|1|182|mg/dL^^UCUM|70-99|H|||F|||||88^Smith^Ann";

fn lab(rows: &[&str]) -> String {
    format!("{HEAD}{}\n", rows.join("\n"))
}

fn bundle(rows: &[&str]) -> Value {
    let found = bundle_with(&laboratory(), &lab(rows));
    check_r4(&found);
    found
}

#[test]
fn a_laboratory_result_is_an_observation_with_all_its_codes() {
    let found = bundle(&[GLUCOSE, "NTE|1||haemolytic"]);
    let found = observations(&found)[0];
    let codes = json!([
        {"system": "http://loinc.org", "code": "2345-7", "display": "Glucose [Mass/volume] in Serum or Plasma"},
        {"system": "https://lab.example/codes", "code": "GLU", "display": "Glucose"},
    ]);
    assert_eq!(found["code"]["coding"], codes);
    assert_eq!(found["category"][0]["coding"][0]["code"], "laboratory");
    assert_eq!((&found["status"], &found["interpretation"][0]["coding"][0]["code"]), (&json!("final"), &json!("H")));
    let unit = |value: u32| json!({"value": value, "unit": "mg/dL", "system": systems::UCUM, "code": "mg/dL"});
    assert_eq!(
        found["referenceRange"],
        json!([{"low": unit(70), "high": unit(99), "text": "70-99"}]),
        "no alarm limits"
    );
    assert_eq!(
        (&found["effectiveDateTime"], &found["issued"]),
        (&json!("2026-03-01T08:00:00+01:00"), &json!("2026-03-01T11:30:00+01:00"))
    );
    assert_eq!(
        (&found["performer"][0]["display"], &found["note"][0]["text"]),
        (&json!("Ann Smith"), &json!("haemolytic"))
    );
    assert_eq!(found["basedOn"][0]["identifier"]["value"], "P1");
}

#[test]
fn a_sub_id_is_no_place_in_a_device_and_nothing_is_taken_for_one() {
    let found = bundle(&[
        GLUCOSE,
        "OBX|2|ST|COM^Comment^99LAB|2||||||X|F",
        "OBX|3|NM|K^Potassium^99LAB|1.1.1.1.1|4.10|mmol/L||N|||F",
    ]);
    assert_eq!(observations(&found).len(), 3);
    assert!(found["entry"].as_array().unwrap().iter().all(|entry| entry["resource"]["resourceType"] != "Device"));
    assert_eq!(observations(&found)[2]["valueQuantity"]["value"].to_string(), "4.10");
}

#[test]
fn a_result_is_named_by_its_order_whenever_it_is_sent() {
    let name = |text: &str| identifier(observations(&bundle_with(&laboratory(), text))[0]).to_owned();
    let first = lab(&[GLUCOSE]);
    let again = first.replace("|L1|", "|L2|").replace("20260301120000+0100", "20260301130000+0100");
    assert_eq!(name(&first), name(&again));
    assert_ne!(name(&first), name(&first.replace("F1^LAB", "F2^LAB")));
    let untimed = first.replace("|||20260301080000+0100", "|||");
    let later = untimed.replace("20260301120000+0100", "20260301140000+0100");
    assert_eq!(name(&untimed), name(&later), "the time of the message is none of the result");
    let corrected = bundle_with(&laboratory(), &first.replace("|182|", "|128|").replace("|H|||F", "|H|||C"));
    assert_eq!(corrected["entry"][0]["request"]["method"], "PUT");
    assert_eq!(identifier(observations(&corrected)[0]), name(&first));
}

#[test]
fn a_local_code_without_a_system_is_kept_and_counted() {
    let translated = translate_with(&laboratory(), &lab(&["OBX|1|NM|X1^Own^L||3||||||F"])).unwrap().unwrap();
    assert_eq!(translated.unmapped, [Unmapped::new("coding_systems", "L", "", "")]);
    let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(observations(&bundle)[0]["code"]["coding"], json!([{"code": "X1", "display": "Own"}]));
}

#[test]
fn susceptibility_and_detection_are_interpretations() {
    let flagged = |flag: &str| {
        let found = bundle(&[&format!("OBX|1|CWE|ORG^Organism^99LAB||112283007^Escherichia coli^SCT|||{flag}|||F")]);
        observations(&found)[0]["interpretation"][0].clone()
    };
    for flag in ["S", "R", "I", "POS", "NEG", "DET", "ND"] {
        assert_eq!(flagged(flag)["coding"][0], json!({"system": systems::INTERPRETATION, "code": flag}));
    }
    assert_eq!(flagged("XYZ")["text"], "XYZ");
}

#[test]
fn a_report_holds_the_results_of_its_order_where_it_is_asked_for() {
    let settings = PcdToFhir { diagnostic_report: true, ..laboratory() };
    let text = format!(
        "{}OBR|2|P2^CPOE||CBC^Blood count^99LAB|||20260301080000+0100\nOBX|1|NM|WBC^Leucocytes^99LAB|1|7.2||||||F\n",
        lab(&[GLUCOSE])
    );
    let found = bundle_with(&settings, &text);
    check_r4(&found);
    let reports: Vec<&Value> = found["entry"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|e| e["resource"]["resourceType"] == "DiagnosticReport")
        .collect();
    assert_eq!(reports.len(), 1, "an order without a filler number names no report");
    let report = &reports[0]["resource"];
    assert_eq!((&report["status"], &report["code"]["coding"][0]["code"]), (&json!("final"), &json!("24323-8")));
    assert_eq!(
        (&report["category"][0]["coding"][0]["code"], &report["issued"]),
        (&json!("CH"), &json!("2026-03-01T11:30:00+01:00"))
    );
    assert_eq!(report["result"], json!([{"reference": found["entry"][0]["fullUrl"]}]));
    assert_eq!(reports[0]["request"]["method"], "PUT");
    assert_eq!(bundle(&[GLUCOSE])["entry"].as_array().unwrap().len(), 2, "an observation and a provenance");
}

#[test]
fn a_laboratory_glucose_changes_its_loinc_with_its_unit() {
    let conversions = vec![Conversion::new("mg/dL", "mmol/L", 1, Vec::new()).unwrap()];
    let found = bundle_with(&PcdToFhir { conversions, ..laboratory() }, &lab(&[GLUCOSE]));
    let found = observations(&found)[0];
    assert_eq!(
        (&found["code"]["coding"][0]["code"], found["valueQuantity"]["value"].to_string()),
        (&json!("14749-6"), "10.1".to_owned())
    );
}

#[test]
fn other_messages_than_results_are_refused_with_what_to_do() {
    let reason = translate_with(&laboratory(), &lab(&[GLUCOSE]).replace("ORU^R01^ORU_R01", "ADT^A01")).unwrap_err();
    assert!(reason.to_string().starts_with("MSH-9: oru-to-fhir translates ORU^R01 only"));
}
