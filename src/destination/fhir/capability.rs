//! Whether a server can do what a destination needs of it, as its CapabilityStatement says.
//!
//! A statement that cannot be read, or that does not say, proves nothing and refuses nothing.

use bytes::Bytes;
use reqwest::Method;
use serde_json::Value;

use super::{
    super::{Lacks, Verdict},
    http::{Call, Http},
    settings::{Beside, BundleMode, Idempotency, PatientMode, RepeatSearch, WriteSettings},
};

/// What is missing, each with what to do; the error is why the statement could not be read.
pub(super) async fn missing(http: &Http, settings: &WriteSettings) -> Result<Lacks, String> {
    let call = Call { method: Method::GET, path: "metadata".to_owned(), headers: Vec::new(), body: Bytes::new() };
    let answer = http.exchange(&call).await.map_err(|verdict| match verdict {
        Verdict::Unavailable { reason, .. } | Verdict::Ambiguous { reason } | Verdict::Rejected { reason } => reason,
        Verdict::Accepted { answer } => answer,
    })?;
    if !answer.is_success() {
        return Err(format!("metadata: {}", answer.reason("no CapabilityStatement")));
    }
    if answer.is_xml() {
        let missing = vec![format!("metadata is XML or a page though JSON was asked for: {NO_JSON}")];
        return Ok(Lacks { missing, untold: Vec::new() });
    }
    let statement = answer.json().filter(|statement| statement["resourceType"] == "CapabilityStatement");
    let statement = statement.ok_or("metadata is no CapabilityStatement, or is longer than max_response: check url")?;
    Ok(Lacks { missing: lacks(&statement, settings), untold: untold(&statement, settings) })
}

const NO_JSON: &str = "Cannula writes and reads JSON alone; ask who runs it for application/fhir+json";

fn lacks(statement: &Value, settings: &WriteSettings) -> Vec<String> {
    let mut lacks = Vec::new();
    let formats: Vec<&str> = statement["format"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !formats.is_empty() && !formats.iter().any(|format| is_json(format)) {
        lacks.push(format!("it speaks {} and no JSON: {NO_JSON}", formats.join(", ")));
    }
    let version = statement["fhirVersion"].as_str().unwrap_or("4.0.1");
    if !version.starts_with("4.0") {
        lacks.push(format!("it speaks FHIR {version}: set url to its R4 (4.0.1) base"));
    }
    let rest = rest(statement);
    let codes = |of: &Value| of["interaction"].as_array().cloned();
    let has =
        |all: &Option<Vec<Value>>, code: &str| all.as_ref().is_none_or(|all| all.iter().any(|it| it["code"] == code));
    let system = codes(rest);
    match settings.bundle {
        BundleMode::Transaction if !has(&system, "transaction") => {
            lacks.push(
                "it takes no transactions: set bundle = \"batch\" or \"single\", and patient = \"lookup\"".to_owned(),
            );
        }
        BundleMode::Batch if !has(&system, "batch") => {
            lacks.push("it takes no batches: set bundle = \"single\"".to_owned())
        }
        _ => {}
    }
    let Some(resources) = rest["resource"].as_array() else { return lacks };
    let of = |kind: &str| resources.iter().find(|resource| resource["type"] == kind);
    match of("Observation") {
        None => lacks.push("it has no Observation: ask who runs it".to_owned()),
        Some(observation) => {
            let interactions = codes(observation);
            if settings.idempotency != Idempotency::PutId && !has(&interactions, "create") {
                lacks.push("it does not create Observation: ask who runs it for Observation.create".to_owned());
            }
            if settings.idempotency == Idempotency::IfNoneExist && observation["conditionalCreate"] == false {
                lacks.push("it has no conditional create: set idempotency = \"put-id\" or \"none\"".to_owned());
            }
            if settings.idempotency == Idempotency::IfNoneExist && observation["conditionalUpdate"] == false {
                lacks.push(
                    "it has no conditional update, which corrections and alerts are written by: set idempotency = \"put-id\" or \"none\""
                        .to_owned(),
                );
            }
            if searches_observations(settings) && lacks_identifier(observation) {
                let remedy = "ask who runs it to have it searched, or set idempotency = \"put-id\"";
                lacks.push(format!("Observation has no search parameter identifier, which tells a repeat: {remedy}"));
            }
            if settings.idempotency == Idempotency::PutId
                && (observation["updateCreate"] == false || !has(&interactions, "update"))
            {
                lacks
                    .push("it does not create what is put: set idempotency = \"if-none-exist\" or \"none\"".to_owned());
            }
            if settings.idempotency == Idempotency::PutId && !has(&interactions, "read") {
                lacks.push(
                    "Observation cannot be read, so preliminary results would wait: ask who runs it for Observation.read"
                        .to_owned(),
                );
            }
            if settings.idempotency == Idempotency::None && !has(&interactions, "search-type") {
                lacks.push(
                    "Observation cannot be searched, so what may have been sent would be sent twice: ask who runs it"
                        .to_owned(),
                );
            }
        }
    }
    let patient = of("Patient");
    if settings.patient == PatientMode::Lookup && !patient.is_some_and(|patient| has(&codes(patient), "search-type")) {
        lacks.push("Patient cannot be searched: set patient = \"reference\", or ask who runs it".to_owned());
    }
    if settings.patient == PatientMode::ConditionalCreate
        && !patient.is_some_and(|patient| has(&codes(patient), "create"))
    {
        lacks.push("it does not create Patient: set patient = \"lookup\"".to_owned());
    }
    if patient.is_some_and(lacks_identifier) {
        lacks.push(
            "Patient has no search parameter identifier, by which patients are found: ask who runs it".to_owned(),
        );
    }
    lacks.extend(
        settings.beside.iter().filter_map(|beside| lacks_beside(of(beside.kind), *beside, settings.idempotency)),
    );
    lacks
}

/// A resource may be written in it: not as a patch.
fn is_json(format: &str) -> bool {
    let format = format.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(&*format, "json" | "application/json" | "text/json" | "application/fhir+json" | "application/json+fhir")
}

/// What it says of itself as a server.
fn rest(statement: &Value) -> &Value {
    let all = statement["rest"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|rest| rest["mode"] != "client").unwrap_or(&Value::Null)
}

/// What is needed of it and what it does not tell, each with what to do.
fn untold(statement: &Value, settings: &WriteSettings) -> Vec<String> {
    let not_told = |what: &str| format!("not told whether {what}: {UNTOLD}");
    let rest = rest(statement);
    if rest.is_null() {
        return vec![not_told("it does anything as a server (its CapabilityStatement has no rest of mode server)")];
    }
    let is_empty = |value: &Value| value.as_array().is_none_or(Vec::is_empty);
    let mut untold = Vec::new();
    if is_empty(&statement["format"]) {
        untold.push(not_told("it reads and writes JSON"));
    }
    if !rest["interaction"].is_array() && settings.bundle != BundleMode::Single {
        untold.push(not_told("it takes a Bundle as `bundle` has it"));
    }
    let Some(resources) = rest["resource"].as_array() else {
        untold.push(not_told("it takes Observation, or has Patient"));
        return untold;
    };
    let patient = (settings.patient != PatientMode::Reference).then_some("Patient");
    for kind in ["Observation"].into_iter().chain(patient) {
        let Some(resource) = resources.iter().find(|resource| resource["type"] == kind) else { continue };
        if !resource["interaction"].is_array() {
            untold.push(not_told(&format!("{kind} is created, updated and searched")));
        }
        let searched = kind == "Patient" || searches_observations(settings);
        if searched && is_empty(&resource["searchParam"]) {
            untold.push(not_told(&format!("{kind} is found by identifier")));
        }
        let conditional = kind == "Observation" && settings.idempotency == Idempotency::IfNoneExist;
        let silent = |what: &str| !resource[what].is_boolean();
        if conditional && (silent("conditionalCreate") || silent("conditionalUpdate")) {
            untold.push(not_told("it has conditional create and update"));
        }
    }
    untold
}

const UNTOLD: &str = "ask who runs it, or send a test message twice and look that it is there once";

/// An observation is found by its identifier: by the server, or before it is sent again.
fn searches_observations(settings: &WriteSettings) -> bool {
    match settings.idempotency {
        Idempotency::IfNoneExist => true,
        Idempotency::PutId => false,
        Idempotency::None => settings.repeat_search == RepeatSearch::Identifier,
    }
}

/// The statement has search parameters of the resource, and its identifier is none of them.
fn lacks_identifier(resource: &Value) -> bool {
    let known = resource["searchParam"].as_array().filter(|known| !known.is_empty());
    known.is_some_and(|known| known.iter().all(|parameter| parameter["name"] != "identifier"))
}

/// What a server cannot do with what is written beside observations.
fn lacks_beside(resource: Option<&Value>, beside: Beside, idempotency: Idempotency) -> Option<String> {
    let Beside { kind, updates, without } = beside;
    let told = |what: &str| Some(format!("{what}: set {without}, or ask who runs it"));
    let Some(resource) = resource else { return told(&format!("it has no {kind}")) };
    let has = |code: &str| {
        let all = resource["interaction"].as_array();
        all.is_none_or(|all| all.iter().any(|interaction| interaction["code"] == code))
    };
    let denies = |what: &str| resource[what] == false;
    let (create, update) = match idempotency {
        Idempotency::IfNoneExist => (!denies("conditionalCreate"), !denies("conditionalUpdate")),
        Idempotency::PutId => (!denies("updateCreate"), true),
        Idempotency::None => (has("search-type"), true),
    };
    if idempotency != Idempotency::PutId && lacks_identifier(resource) {
        return told(&format!("{kind} has no search parameter identifier"));
    }
    let creates = if idempotency == Idempotency::PutId { has("update") } else { has("create") };
    match (creates && create, updates && !(has("update") && update)) {
        (false, _) => told(&format!("it does not create {kind} as idempotency asks for")),
        (true, true) => told(&format!("it does not update {kind} as idempotency asks for")),
        (true, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn statement(change: impl Fn(&mut Value)) -> Value {
        let resource = |kind: &str| {
            json!({ "type": kind, "conditionalCreate": true, "updateCreate": true,
                "interaction": [{ "code": "create" }, { "code": "read" }, { "code": "update" }, { "code": "search-type" }] })
        };
        let mut statement = json!({ "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": [{
            "interaction": [{ "code": "transaction" }, { "code": "batch" }],
            "resource": [resource("Observation"), resource("Patient")] }] });
        change(&mut statement);
        statement
    }

    #[test]
    fn each_thing_a_destination_needs_and_the_server_lacks_is_told_with_its_remedy() {
        let defaults = WriteSettings::default();
        assert_eq!(lacks(&statement(|_| {}), &defaults), Vec::<String>::new());
        let lookup = WriteSettings { patient: PatientMode::Lookup, ..defaults.clone() };
        let create = WriteSettings { patient: PatientMode::ConditionalCreate, ..defaults.clone() };
        let batch = WriteSettings { bundle: BundleMode::Batch, ..lookup.clone() };
        let put = WriteSettings { idempotency: Idempotency::PutId, ..defaults.clone() };
        let none = WriteSettings { idempotency: Idempotency::None, ..defaults.clone() };
        type Change = fn(&mut Value);
        fn params(it: &mut Value, at: usize, name: &str) {
            it["rest"][0]["resource"][at]["searchParam"] = json!([{ "name": name }]);
        }
        let table: [(&WriteSettings, Change, &str); 16] = [
            (
                &defaults,
                |it| it["format"] = json!(["application/fhir+xml", "xml"]),
                "application/fhir+xml, xml and no JSON",
            ),
            (&defaults, |it| it["rest"][0]["resource"][0]["conditionalUpdate"] = false.into(), "no conditional update"),
            (&defaults, |it| params(it, 0, "code"), "Observation has no search parameter identifier"),
            (&none, |it| params(it, 0, "code"), "Observation has no search parameter identifier"),
            (&lookup, |it| params(it, 1, "name"), "Patient has no search parameter identifier"),
            (&defaults, |it| it["fhirVersion"] = "5.0.0".into(), "FHIR 5.0.0"),
            (&defaults, |it| it["rest"][0]["interaction"] = json!([]), "no transactions"),
            (&batch, |it| it["rest"][0]["interaction"] = json!([{ "code": "transaction" }]), "no batches"),
            (&defaults, |it| it["rest"][0]["resource"] = json!([]), "no Observation"),
            (
                &defaults,
                |it| it["rest"][0]["resource"][0]["interaction"] = json!([{ "code": "read" }]),
                "Observation.create",
            ),
            (&defaults, |it| it["rest"][0]["resource"][0]["conditionalCreate"] = false.into(), "no conditional create"),
            (&put, |it| it["rest"][0]["resource"][0]["updateCreate"] = false.into(), "does not create what is put"),
            (
                &put,
                |it| it["rest"][0]["resource"][0]["interaction"] = json!([{ "code": "update" }]),
                "Observation.read",
            ),
            (&none, |it| it["rest"][0]["resource"][0]["interaction"] = json!([{ "code": "create" }]), "sent twice"),
            (&lookup, |it| it["rest"][0]["resource"][1]["interaction"] = json!([]), "Patient cannot be searched"),
            (&create, |it| it["rest"][0]["resource"][1]["interaction"] = json!([]), "does not create Patient"),
        ];
        for (settings, change, told) in table {
            let lacks = lacks(&statement(change), settings);
            assert!(lacks.len() == 1 && lacks[0].contains(told), "{told}: {lacks:?}");
        }
    }

    #[test]
    fn what_is_not_used_is_not_asked_for() {
        let put = WriteSettings { idempotency: Idempotency::PutId, ..WriteSettings::default() };
        let content = WriteSettings {
            idempotency: Idempotency::None,
            patient: PatientMode::Lookup,
            repeat_search: RepeatSearch::Content,
            ..WriteSettings::default()
        };
        let change = |it: &mut Value| {
            it["format"] = json!(["xml", "json"]);
            it["rest"][0]["resource"][0]["searchParam"] = json!([{ "name": "code" }]);
            it["rest"][0]["resource"][0]["conditionalUpdate"] = false.into();
            it["rest"][0]["resource"][1]["searchParam"] = json!([{ "name": "identifier" }]);
        };
        for settings in [put, content] {
            assert_eq!(lacks(&statement(change), &settings), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_written_beside_observations_must_be_taken_too() {
        let beside = Beside { kind: "Patient", updates: true, without: "key = \"none\"" };
        let told = |idempotency, updates, change: fn(&mut Value)| {
            let beside = vec![Beside { updates, ..beside }];
            let settings = WriteSettings { idempotency, beside, ..WriteSettings::default() };
            lacks(&statement(change), &settings).join("; ")
        };
        let (usual, put, none) = (Idempotency::IfNoneExist, Idempotency::PutId, Idempotency::None);
        for idempotency in [usual, put, none] {
            assert_eq!(told(idempotency, true, |_| {}), "");
        }
        let gone: fn(&mut Value) = |it| it["rest"][0]["resource"][1]["type"] = "Group".into();
        assert_eq!(told(usual, true, gone), "it has no Patient: set key = \"none\", or ask who runs it");
        let once: fn(&mut Value) = |it| it["rest"][0]["resource"][1]["conditionalCreate"] = false.into();
        assert!(told(usual, false, once).contains("does not create Patient") && told(none, true, once).is_empty());
        let unnamed: fn(&mut Value) = |it| {
            it["rest"][0]["resource"][1]["searchParam"] = json!([{ "name": "name" }]);
        };
        assert!(told(usual, true, unnamed).contains("Patient has no search parameter identifier: set key"));
        let kept: fn(&mut Value) = |it| it["rest"][0]["resource"][1]["conditionalUpdate"] = false.into();
        assert!(told(usual, true, kept).contains("does not update Patient") && told(usual, false, kept).is_empty());
        let fixed: fn(&mut Value) = |it| it["rest"][0]["resource"][1]["updateCreate"] = false.into();
        assert!(told(put, false, fixed).contains("does not create Patient") && told(usual, true, fixed).is_empty());
        let read: fn(&mut Value) = |it| {
            it["rest"][0]["resource"][1]["interaction"] = json!([{ "code": "create" }]);
        };
        assert!(
            told(none, true, read).contains("does not create") && told(usual, true, read).contains("does not update")
        );
    }

    #[test]
    fn a_statement_that_does_not_say_refuses_nothing() {
        let silent = json!({ "resourceType": "CapabilityStatement", "rest": [{ "mode": "server" }] });
        assert!(lacks(&silent, &WriteSettings::default()).is_empty());
    }

    #[test]
    fn what_a_statement_does_not_tell_is_told_apart_from_what_holds() {
        let lookup = WriteSettings { patient: PatientMode::Lookup, ..WriteSettings::default() };
        let told = |change: fn(&mut Value)| untold(&statement(change), &lookup).join("\n");
        let whole = |it: &mut Value| {
            it["format"] = json!(["json"]);
            for at in 0..2 {
                let resource = &mut it["rest"][0]["resource"][at];
                resource["conditionalUpdate"] = true.into();
                resource["searchParam"] = json!([{ "name": "identifier" }]);
            }
        };
        assert_eq!(untold(&statement(whole), &lookup), Vec::<String>::new());
        for (change, what) in [
            ((|it| it["rest"] = Value::Null) as fn(&mut Value), "as a server"),
            (|it| it["rest"][0]["mode"] = "client".into(), "as a server"),
            (|it| it["rest"][0]["resource"] = Value::Null, "it takes Observation"),
            (|it| it["rest"][0]["interaction"] = Value::Null, "takes a Bundle"),
            (|it| it["format"] = json!([]), "JSON"),
            (|it| it["rest"][0]["resource"][0]["interaction"] = Value::Null, "Observation is created"),
            (|_| {}, "Patient is found by identifier"),
            (|_| {}, "conditional create and update"),
        ] {
            assert!(
                told(change).contains("not told whether") && told(change).contains(what),
                "{what}: {}",
                told(change)
            );
        }
        let patch = |it: &mut Value| it["format"] = json!(["application/fhir+xml", "application/json-patch+json"]);
        assert!(lacks(&statement(patch), &lookup)[0].contains("no JSON"));
        // A client's part says nothing of the server.
        let client = |it: &mut Value| it["rest"] = json!([{ "mode": "client", "resource": [] }, it["rest"][0].clone()]);
        assert_eq!(lacks(&statement(client), &lookup), Vec::<String>::new());
    }
}
