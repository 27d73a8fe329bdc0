//! Whether what a search found is what was searched for, and whether two observations are one.
//!
//! What must never happen: another's resource taken for the one searched for. Servers have been met that ignore a parameter
//! they do not know and answer with whatever they have.

use std::collections::BTreeMap;

use serde_json::Value;

use super::entries::token;

/// How what was found stands to what was searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Match,
    /// Its number under another system, or its code at another time: the server searched, and less strictly.
    Near,
    /// The server did not search.
    Stray,
}

/// By each parameter of a percent-encoded query.
pub(super) fn fit(resource: &Value, query: &str) -> Fit {
    let mut fit = Fit::Match;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let (holds, near) = match name {
            "identifier" => has_token(&resource["identifier"], "value", value),
            "_tag" => has_token(&resource["meta"]["tag"], "code", value),
            "code" => has_token(&resource["code"]["coding"], "code", value),
            "patient" => (is_reference(&resource["subject"], value), false),
            "date" => (is_at(resource, &value.replace("%2B", "+")), true),
            _ => (false, false),
        };
        match (holds, near) {
            (true, _) => {}
            (false, true) => fit = Fit::Near,
            (false, false) => return Fit::Stray,
        }
    }
    fit
}

/// Whether one of them has the code or value of the token under its system; whether under another.
fn has_token(list: &Value, of: &str, sought: &str) -> (bool, bool) {
    let Some((system, value)) = token(sought) else { return (false, false) };
    let of_value = || list.as_array().into_iter().flatten().filter(|it| it[of] == value);
    let holds = of_value().any(|it| it["system"].as_str().unwrap_or_default() == system);
    (holds, of_value().next().is_some())
}

/// Relative, absolute, or of a version.
fn is_reference(reference: &Value, sought: &str) -> bool {
    let text = reference["reference"].as_str().unwrap_or_default();
    let text = text.split("/_history/").next().unwrap_or_default();
    text == sought || text.strip_suffix(sought).is_some_and(|before| before.ends_with('/'))
}

fn is_at(observation: &Value, sought: &str) -> bool {
    let instant = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let sought = sought.trim_start_matches("eq");
    date(observation).is_some_and(|date| match (instant(date), instant(sought)) {
        (Some(one), Some(other)) => one == other,
        _ => date == sought,
    })
}

fn date(observation: &Value) -> Option<&str> {
    observation["effectiveDateTime"].as_str().or(observation["effectivePeriod"]["start"].as_str())
}

/// `patient`, `code` and `date` of an observation, where it has all of them and its patient is known by id.
pub(super) fn content_query(observation: &Value) -> Option<String> {
    let patient = observation["subject"]["reference"].as_str().filter(|it| it.starts_with("Patient/"))?;
    let coding = &observation["code"]["coding"][0];
    let code = crate::fhir::token_query("code", coding["system"].as_str()?, coding["code"].as_str()?);
    let date = date(observation)?.replace('+', "%2B");
    Some(format!("patient={patient}&{code}&date=eq{date}"))
}

/// Whether two observations have the same value: numbers by their amount, since servers drop zeros at the end, all else by
/// its JSON. Where neither has a value, by what is there in its place.
pub(super) fn says_the_same(one: &Value, other: &Value) -> bool {
    let amount = |observation: &Value| match &observation["valueQuantity"]["value"] {
        Value::Number(number) => Some(amount(&number.to_string())),
        _ => None,
    };
    let rest = |observation: &Value| {
        let said = |name: &str| name.starts_with("value") || matches!(name, "component" | "dataAbsentReason");
        let fields = observation.as_object().into_iter().flatten();
        let kept = fields.filter(|(name, _)| said(name.as_str()) && *name != "valueQuantity");
        kept.map(|(name, value)| (name.clone(), value.to_string())).collect::<BTreeMap<_, _>>()
    };
    amount(one) == amount(other) && rest(one) == rest(other)
}

/// Whether both name a device, or an identifier of one system, and not the same: then they are two, whatever they say.
pub(super) fn is_another(one: &Value, other: &Value) -> bool {
    let device = |observation: &Value| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let device = &observation["device"];
        let literal = text(&device["reference"]).filter(|it| it.starts_with("Device/"));
        literal.or_else(|| text(&device["identifier"]["value"]))
    };
    let differ = |one: Option<String>, other: Option<String>| one.zip(other).is_some_and(|(one, other)| one != other);
    let by_identifier = |own: &Value| {
        let of_system =
            || other["identifier"].as_array().into_iter().flatten().filter(|it| it["system"] == own["system"]);
        of_system().next().is_some() && !of_system().any(|it| it["value"] == own["value"])
    };
    let of_one_form = one["device"]["reference"].is_string() == other["device"]["reference"].is_string();
    of_one_form && differ(device(one), device(other))
        || one["identifier"].as_array().into_iter().flatten().any(by_identifier)
}

/// A decimal without zeros at its end.
fn amount(digits: &str) -> String {
    match digits.contains(['e', 'E']) || !digits.contains('.') {
        true => digits.to_owned(),
        false => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn two_observations_say_the_same_by_amount_and_by_all_else_that_is_a_value() {
        let number = |digits: &str| json!({ "valueQuantity": { "value": serde_json::from_str::<Value>(digits).unwrap_or_default() } });
        assert!(says_the_same(&number("5.60"), &number("5.6")) && says_the_same(&number("5.0"), &number("5")));
        assert!(!says_the_same(&number("50"), &number("5")));
        let text = |text: &str| json!({ "valueString": text });
        assert!(says_the_same(&text("on"), &text("on")) && !says_the_same(&text("on"), &text("off")));
        assert!(!says_the_same(&number("5"), &text("5")));
    }

    #[test]
    fn two_of_which_both_name_a_device_or_a_number_are_one_only_where_that_is_the_same() {
        let of = |device: &str, number: &str| json!({ "device": { "identifier": { "value": device } }, "identifier": [{ "system": "u", "value": number }] });
        assert!(!is_another(&of("a", "1"), &of("a", "1")));
        assert!(is_another(&of("a", "1"), &of("b", "1")) && is_another(&of("a", "1"), &of("a", "2")));
        assert!(!is_another(&of("a", "1"), &json!({})), "a server may keep neither");
        let urn = json!({ "device": { "reference": "urn:uuid:1" } });
        assert!(!is_another(&urn, &json!({ "device": { "reference": "Device/1" } })), "not yet known by id");
    }

    #[test]
    fn what_was_found_fits_by_every_parameter() {
        let patient = json!({ "identifier": [{ "system": "urn:mrn", "value": "47|11" }] });
        assert_eq!(fit(&patient, "identifier=urn:mrn%7C47%5C%7C11"), Fit::Match);
        assert_eq!(fit(&patient, "identifier=urn:other%7C47%5C%7C11"), Fit::Near);
        assert_eq!(fit(&patient, "identifier=urn:mrn%7C4712"), Fit::Stray);
        let observation = json!({ "subject": { "reference": "https://ehr/fhir/Patient/7" }, "code": { "coding": [{ "system": "u", "code": "c" }] },
            "effectiveDateTime": "2026-03-01T11:00:00Z" });
        let query =
            |patient: &str, at: &str| format!("patient=Patient/{patient}&code=u%7Cc&date=eq2026-03-01T{at}:00%2B01:00");
        assert_eq!(fit(&observation, &query("7", "12:00")), Fit::Match);
        assert_eq!(fit(&observation, &query("7", "12:01")), Fit::Near);
        assert_eq!(fit(&observation, &query("17", "12:00")), Fit::Stray);
        assert_eq!(fit(&observation, "whatever=1"), Fit::Stray);
    }
}
