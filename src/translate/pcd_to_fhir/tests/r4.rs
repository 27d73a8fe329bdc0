//! R4's invariants for what we write, checked on every bundle of the tests.

use std::collections::HashSet;

use serde_json::Value;

use super::observations;

/// What holds for every bundle: R4's invariants for what we write, nothing empty, no reference into the void.
pub(super) fn check_r4(bundle: &Value) {
    check_not_empty(bundle, "Bundle");
    let entries = bundle["entry"].as_array().unwrap();
    let full_urls: HashSet<&str> = entries.iter().map(|entry| entry["fullUrl"].as_str().unwrap()).collect();
    assert_eq!(full_urls.len(), entries.len(), "bdl-7: fullUrl is unique");
    let identities: HashSet<String> =
        entries.iter().map(|entry| format!("{}{}", entry["request"]["ifNoneExist"], entry["request"]["url"])).collect();
    assert_eq!(identities.len(), entries.len(), "no two entries name one resource");
    check_references(bundle, &full_urls);
    for entry in entries.iter().filter(|entry| entry["resource"]["resourceType"] == "MedicationAdministration") {
        check_administration(&entry["resource"]);
    }
    for observation in observations(bundle) {
        check_observation(observation);
    }
}

fn check_observation(observation: &Value) {
    let value = |holder: &Value| holder.as_object().unwrap().keys().filter(|key| key.starts_with("value")).count();
    for holder in [observation].into_iter().chain(observation["component"].as_array().into_iter().flatten()) {
        let (value, absent) = (value(holder), usize::from(!holder["dataAbsentReason"].is_null()));
        assert!(value + absent <= 1, "obs-6: a value or a reason for none");
        let attached = holder["extension"].as_array().into_iter().flatten().any(|e| !e["valueAttachment"].is_null());
        let divided = ["component", "hasMember"].iter().any(|parts| !holder[parts].is_null());
        let said = value + absent == 1 || divided || attached;
        assert!(said, "vs-2: a value, a reason, components or members");
        assert!(holder["code"]["coding"].is_array() || holder["code"]["text"].is_string());
    }
    let subject = &observation["subject"];
    let of_patient = subject["reference"]
        .as_str()
        .is_some_and(|to| to.starts_with("Patient?identifier=") || to.starts_with("urn:uuid:"));
    // An alert of nobody's is its device's.
    let alert = observation["category"][0]["coding"][0]["code"] == "device-alert";
    assert!(of_patient || alert && *subject == observation["device"] && !subject.is_null());
    assert!(observation["effectiveDateTime"].is_string() != observation["effectivePeriod"].is_object());
    assert!(STATUSES.contains(&observation["status"].as_str().unwrap()));
}

fn check_administration(administration: &Value) {
    const STATUSES: [&str; 6] = ["in-progress", "on-hold", "completed", "stopped", "entered-in-error", "unknown"];
    assert!(STATUSES.contains(&administration["status"].as_str().unwrap()));
    let subject = administration["subject"]["reference"].as_str().unwrap();
    assert!(subject.starts_with("Patient?identifier=") || subject.starts_with("urn:uuid:"));
    let medication = &administration["medicationCodeableConcept"];
    assert!(medication["coding"].is_array() || medication["text"].is_string());
    let dosage = &administration["dosage"];
    assert!(dosage.is_null() || dosage["dose"].is_object() || dosage["rateQuantity"].is_object(), "mad-1");
    let Some(period) = administration["effectivePeriod"].as_object() else {
        return assert!(administration["effectiveDateTime"].is_string(), "effective[x] is 1..1");
    };
    let time = |name: &str| period.get(name).map(|time| time.as_str().unwrap().parse::<jiff::Timestamp>());
    if let (Some(Ok(start)), Some(Ok(end))) = (time("start"), time("end")) {
        assert!(start <= end, "per-1");
    }
}

const STATUSES: &[&str] =
    &["registered", "preliminary", "final", "amended", "corrected", "cancelled", "entered-in-error", "unknown"];

/// ele-1, and qty-3 on the way: a code has a system.
fn check_not_empty(value: &Value, place: &str) {
    match value {
        Value::Object(fields) => {
            assert!(!fields.is_empty(), "{place} is empty");
            let quantity = fields.contains_key("unit") || fields.contains_key("comparator");
            assert!(!quantity || fields.contains_key("system") || !fields.contains_key("code"), "qty-3: {place}");
            fields.iter().for_each(|(name, value)| check_not_empty(value, &format!("{place}.{name}")));
        }
        Value::Array(items) => {
            assert!(!items.is_empty(), "{place} is empty");
            items.iter().enumerate().for_each(|(i, item)| check_not_empty(item, &format!("{place}[{i}]")));
        }
        Value::String(text) => check_string(text, place),
        Value::Null => panic!("{place} is null"),
        Value::Bool(_) | Value::Number(_) => {}
    }
}

/// No string is blank or has control characters; a uri has no white space, a code none but single blanks.
fn check_string(text: &str, place: &str) {
    assert!(!text.trim().is_empty(), "{place} is blank");
    assert!(!text.chars().any(|c| c < ' ' && !matches!(c, '\t' | '\n' | '\r')), "{place} has a control character");
    let name = place.rsplit('.').next().unwrap_or("");
    if matches!(name, "system" | "source" | "fullUrl" | "reference" | "ifNoneExist" | "url") {
        assert!(!text.contains(char::is_whitespace), "{place} is no uri: {text}");
    }
    if name == "code" {
        assert!(
            text.split(' ').all(|word| !word.is_empty() && !word.contains(char::is_whitespace)),
            "{place}: {text:?}"
        );
    }
}

fn check_references(value: &Value, full_urls: &HashSet<&str>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("reference").and_then(Value::as_str) {
                assert!(
                    !reference.starts_with("urn:uuid:") || full_urls.contains(reference),
                    "{reference} names no entry"
                );
            }
            fields.values().for_each(|value| check_references(value, full_urls));
        }
        Value::Array(items) => items.iter().for_each(|item| check_references(item, full_urls)),
        _ => {}
    }
}
