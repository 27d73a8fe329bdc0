//! What is a FHIR destination's alone: `auth`, `tls`, ways of writing and profiles.

use std::{fs, path::Path};

use super::{Config, Fault, load};
use crate::destination::{
    BundleMode, FhirAuth, FhirSettings, Idempotency, Login, PatientMode, Proof, Rate, RepeatSearch, SearchMethod,
    Settings, WriteSettings,
};

const RSA: &str = include_str!("../../tests/keys/rsa-2048.pem");

fn loaded(folder: &Path, lines: &str) -> Result<Config, Vec<Fault>> {
    fs::create_dir_all(folder.join("channels")).unwrap();
    fs::write(folder.join("cannula.toml"), "").unwrap();
    fs::write(folder.join("key.pem"), RSA).unwrap();
    fs::write(folder.join("word"), "hunter2\n").unwrap();
    let url = if lines.starts_with("url =") { "" } else { "url = \"https://ehr.example/fhir\"\n" };
    let channel = format!(
        "[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\n{url}{lines}\n"
    );
    fs::write(folder.join("channels/pumps.toml"), channel).unwrap();
    load(Some(&folder.join("cannula.toml")))
}

fn settings(lines: &str) -> FhirSettings {
    let folder = tempfile::tempdir().unwrap();
    let config = loaded(folder.path(), lines).map_err(|faults| faults.iter().map(Fault::to_string).collect::<String>());
    match &config.unwrap().channels[0].destinations[0].settings {
        Settings::Fhir(settings) => settings.clone(),
        other => panic!("{other:?}"),
    }
}

fn fault(lines: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let faults = loaded(folder.path(), lines).err().unwrap_or_else(|| panic!("{lines} has no fault"));
    let told = faults.iter().map(|fault| format!("{} {}", fault.what, fault.remedy)).collect::<Vec<_>>().join("\n");
    assert!(!told.contains("hunter2") && !told.contains("MII"), "{told}");
    told
}

#[test]
fn each_kind_of_authorisation_is_read_with_its_secrets_followed() {
    let smart = settings(
        "auth = { type = \"smart-backend\", client_id = \"gw\", key = { file = \"key.pem\" }, scopes = [\"system/Observation.c\", \"system/Device.cu\"], token_url = \"https://login.example/token\" }",
    );
    let FhirAuth::Login(Login { client_id, proof: Proof::Key { pem, kid }, scopes, token_url }) = smart.auth else {
        panic!("{:?}", smart.auth)
    };
    assert_eq!((client_id.as_str(), pem.0.trim(), kid), ("gw", RSA.trim(), None));
    assert_eq!(scopes, ["system/Observation.c", "system/Device.cu"]);
    assert_eq!(token_url.as_deref(), Some("https://login.example/token"));
    let word = crate::destination::Secret("hunter2".into());
    for (how, proof) in
        [("", Proof::SecretInHeader(word.clone())), (", secret_in = \"post\"", Proof::SecretInForm(word.clone()))]
    {
        let line =
            format!("auth = {{ type = \"client-secret\", client_id = \"gw\", secret = {{ file = \"word\" }}{how} }}");
        let expected = Login { client_id: "gw".into(), proof, scopes: vec![], token_url: None };
        assert_eq!(settings(&line).auth, FhirAuth::Login(expected));
    }
    let basic = settings("auth = { type = \"basic\", user = \"gw\", password = { file = \"word\" } }").auth;
    assert_eq!(basic, FhirAuth::Basic { user: "gw".into(), password: word.clone() });
    let bearer = settings("auth = { type = \"bearer\", token = { file = \"word\" } }").auth;
    assert_eq!(bearer, FhirAuth::Bearer { token: word });
    assert_eq!(settings("").auth, FhirAuth::None);
}

#[test]
fn a_visit_found_by_search_needs_a_transaction() {
    for bundle in ["batch", "single"] {
        let told =
            fault(&format!("fhir = {{ bundle = \"{bundle}\", patient = \"lookup\", encounter = \"conditional\" }}"));
        assert!(told.contains("within transactions only") && told.contains("encounter = \"identifier\""), "{told}");
    }
    settings("fhir = { encounter = \"conditional\" }");
    settings("fhir = { bundle = \"single\", patient = \"lookup\" }");
}

#[test]
fn a_secret_or_key_in_the_file_itself_is_a_fault_that_does_not_repeat_it() {
    for auth in [
        "type = \"bearer\", token = \"hunter2\"",
        "type = \"basic\", user = \"gw\", password = \"hunter2\"",
        "type = \"client-secret\", client_id = \"gw\", secret = \"hunter2\"",
        "type = \"smart-backend\", client_id = \"gw\", key = \"-----BEGIN PRIVATE KEY-----hunter2\"",
    ] {
        assert!(fault(&format!("auth = {{ {auth} }}")).contains("a secret stands in the file itself"), "{auth}");
    }
    let told = fault("tls = { ca = \"-----BEGIN CERTIFICATE-----\\nhunter2\" }");
    assert!(told.contains("write the name of the file"), "{told}");
}

#[test]
fn an_authorisation_that_cannot_work_is_a_fault_with_its_remedy() {
    for (lines, told) in [
        ("auth = { type = \"smart-backend\", client_id = \"gw\" }", "auth.key is missing"),
        ("auth = { type = \"smart-backend\", key = { file = \"key.pem\" } }", "auth.client_id is missing"),
        ("auth = { type = \"smart-backend\", client_id = \"gw\", key = { file = \"word\" } }", "openssl genpkey"),
        ("auth = { type = \"smart-backend\", client_id = \"gw\", key = { file = \"none\" } }", "cannot be read"),
        ("auth = { type = \"bearer\", token = { file = \"word\" }, client_id = \"gw\" }", "does not belong to auth"),
        ("auth = { client_id = \"gw\" }", "auth.type is missing"),
        (
            "auth = { type = \"client-secret\", client_id = \"gw\", secret = { file = \"word\" }, scopes = \"a b\" }",
            "each as a string of its own",
        ),
        (
            "auth = { type = \"client-secret\", client_id = \"gw\", secret = { file = \"word\" }, token_url = \"http://login.example/\" }",
            "unencrypted",
        ),
        ("auth = { type = \"basic\", user = \"a:b\", password = { file = \"word\" } }", "a colon"),
        (
            "auth = { type = \"bearer\", token = { file = \"word\" } }\nheaders = { authorization = { file = \"word\" } }",
            "`headers` has an Authorization too",
        ),
        ("url = \"http://127.0.0.1/fhir\"\ntls = { ca = \"key.pem\" }", "an http URL has no certificates"),
        ("tls = { cert = \"key.pem\" }", "add `key`"),
        ("tls = { key = \"key.pem\" }", "add `cert`"),
        ("tls = { ca = \"none.pem\" }", "cannot be read"),
    ] {
        let faults = fault(lines);
        assert!(faults.contains(told), "{lines}: {faults}");
    }
}

#[test]
fn keys_and_certificates_replaced_on_disk_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let line = "auth = { type = \"smart-backend\", client_id = \"gw\", key = { file = \"key.pem\" } }\ntls = { ca = \"word\" }";
    let config = loaded(folder.path(), line).ok().unwrap();
    let mut watched: Vec<_> = config.secret_files.iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    watched.sort();
    assert_eq!(watched, ["key.pem", "word"]);
}

#[test]
fn a_profile_sets_what_the_file_does_not_say() {
    let written = |lines: &str| settings(&format!("[destination.fhir]\n{lines}"));
    assert_eq!(apart(&written("")), WriteSettings::default());
    assert_eq!(apart(&written("profile = \"generic\"")), WriteSettings::default());
    let epic = written("profile = \"epic\"").write;
    assert_eq!((epic.idempotency, epic.bundle), (Idempotency::None, BundleMode::Single));
    assert_eq!((epic.patient, epic.repeat_search), (PatientMode::Lookup, RepeatSearch::Content));
    let own = written("profile = \"epic\"\nidempotency = \"put-id\"\nrate = { concurrent = 2 }");
    assert_eq!((own.write.idempotency, own.write.bundle), (Idempotency::PutId, BundleMode::Single));
    assert_eq!(own.rate, Rate { per_second: None, concurrent: Some(2) });
    assert_eq!(written("profile = \"athenahealth\"").rate, Rate { per_second: Some(50), concurrent: None });
    assert_eq!(written("profile = \"oracle-health\"").write.search, SearchMethod::Get);
    assert_eq!(written("profile = \"hapi\"").write.idempotency, Idempotency::PutId);
}

#[test]
fn a_server_is_asked_for_what_the_mapping_writes_beside_observations() {
    let kinds = |lines: &str| {
        let write = settings(&format!("[destination.fhir]\n{lines}")).write;
        write.beside.iter().map(|beside| (beside.kind, beside.updates)).collect::<Vec<_>>()
    };
    assert_eq!(kinds(""), [("Device", false)]);
    assert_eq!(kinds("device_detail = \"identifier-only\""), []);
    let all = "device_detail = \"metric\"\ndevice_write = \"update\"\npump_events = \"administration\"\ndiagnostic_report = true";
    let expected =
        [("Device", true), ("DeviceMetric", false), ("MedicationAdministration", true), ("DiagnosticReport", true)];
    assert_eq!(kinds(all), expected);
}

/// Apart from what the mapping adds.
fn apart(settings: &FhirSettings) -> WriteSettings {
    WriteSettings { beside: Vec::new(), ..(*settings.write).clone() }
}

#[test]
fn choices_are_told_in_the_words_they_are_written_in() {
    let written = |lines: &str| apart(&settings(&format!("[destination.fhir]\n{lines}")));
    for lines in [
        "",
        "profile = \"epic\"",
        "profile = \"hapi\"",
        "profile = \"oracle-health\"",
        "patient = \"conditional-create\"",
    ] {
        let write = written(lines);
        let quoted = |(key, value): (&str, String)| match key {
            "messages_per_bundle" => format!("{key} = {value}\n"),
            _ => format!("{key} = \"{value}\"\n"),
        };
        let told: String = write.choices().into_iter().map(quoted).collect();
        assert_eq!(written(&told), write, "{told}");
    }
}

#[test]
fn ways_of_writing_that_cannot_work_together_are_faults() {
    for (lines, told) in [
        ("bundle = \"single\"", "within transactions only"),
        ("bundle = \"batch\"", "write patient = \"lookup\""),
        ("profile = \"epic\"\npatient = \"reference\"", "within transactions only"),
        ("idempotency = \"none\"\nrepeat_search = \"content\"", "only where its patient is known by id"),
        ("idempotency = \"put\"", "write `put-id`"),
        ("profile = \"epik\"", "write `epic`"),
        ("rate = { per_second = 0 }", "from 1 to 10000"),
        ("cache = \"10\"", "not a duration"),
    ] {
        let faults = fault(&format!("[destination.fhir]\n{lines}"));
        assert!(faults.contains(told), "{lines}: {faults}");
    }
}
