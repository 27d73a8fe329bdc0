//! Every element of every body says where it came from, and says it truly.

use super::*;
use crate::hl7::Path;

/// Settings under which as much as possible is written.
fn all() -> PcdToFhir {
    let mut settings = settings();
    settings.identifier_systems.insert("GENHOSP".into(), "urn:oid:2.999.1.1".into());
    settings.device_detail = DeviceDetail::Metric;
    (settings.device_updates, settings.location, settings.sub_id) = (true, true, true);
    (settings.diagnostic_report, settings.patient_create, settings.blood_pressure_panel) = (true, true, true);
    settings.conversions = vec![Conversion::new("mg/dL", "mmol/L", 1, Vec::new()).unwrap()];
    settings
}

fn samples() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![("fields".to_owned(), report(&[MDS, fields::ROW, "NTE|1||one~two||9^Nurse^Nora", SYS]))];
    for folder in ["tests/golden/pcd-to-fhir", "channels/bedside-pumps", "channels/cgm-gateway"] {
        for file in std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.to_str().unwrap().to_owned();
            if name.ends_with(".in.hl7") {
                found.push((name, std::fs::read_to_string(&file).unwrap()));
            }
        }
    }
    found
}

/// What is told over several messages, each with those it is told in.
fn told_over_several() -> Vec<(String, Vec<String>)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("channels");
    let mut found = episodes::told();
    for folder in ["bedside-pumps", "device-alarms", "medication-record"] {
        let files = std::fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.filter(|file| file.to_str().unwrap().ends_with(".in.hl7")).collect();
        files.sort();
        let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
        found.push((folder.to_owned(), texts));
    }
    found
}

#[test]
fn every_element_told_over_several_messages_has_an_origin_in_one_of_them() {
    let mut written = std::collections::BTreeMap::<String, u32>::new();
    for (name, texts) in told_over_several() {
        let mut updated = settings_for(&all());
        (updated.infusions.written, updated.infusions.rate_segments, updated.alerts) = (true, false, Alerts::Final);
        let mut usual = settings_for(&settings());
        usual.infusions.written = true;
        for settings in [usual, updated] {
            let mut remembered = crate::translate::Remembered::default();
            for (n, text) in texts.iter().enumerate() {
                let recall = |episode: &[u8]| remembered.recall(episode);
                let translated = told(super::super::apply(&settings, &parse(text), context(), &recall));
                let Ok(Some(translated)) = translated else { continue };
                let episodes = translated.episodes.clone();
                if translated.is_sent() {
                    let name = format!("{name} {n}");
                    let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
                    check_all_have_origins(&bundle, &translated.origins, &name);
                    check_origins_are_true(&bundle, &translated.origins, &parse(text), &name);
                    let kinds = bundle["entry"].as_array().unwrap().iter().map(|it| &it["resource"]["resourceType"]);
                    kinds.for_each(|kind| *written.entry(kind.as_str().unwrap().to_owned()).or_default() += 1);
                }
                remembered.change(&episodes);
            }
        }
    }
    assert!(written["MedicationAdministration"] > 20 && written["Observation"] > 20, "{written:?}");
}

#[test]
fn what_an_event_does_not_tell_is_said_to_be_remembered() {
    let (_, texts) = episodes::told().remove(0);
    let mut remembered = crate::translate::Remembered::default();
    let mut origins = Vec::new();
    for text in &texts[..2] {
        let recall = |episode: &[u8]| remembered.recall(episode);
        let translated = super::super::apply(&settings(), &parse(text), context(), &recall).unwrap();
        remembered.change(&translated.episodes);
        origins = translated.origins;
    }
    let of = |element: &str| {
        let found = origins.iter().find(|(name, _)| name.ends_with(element));
        found.unwrap_or_else(|| panic!("no {element} in {origins:#?}")).1.as_str()
    };
    // START at 12.50 mL/h, then STOP with a volume: the rate and the beginning are the first one's.
    assert_eq!(of("effectivePeriod.start"), "remembered: earlier messages");
    assert_eq!(of("dosage.rateQuantity"), "remembered: earlier messages");
    assert_eq!((of("dosage.dose"), of("dosage.dose.unit")), ("OBX[9]-5", "OBX[9]-6"));
    assert_eq!(of("statusReason[0]"), "OBX[10]-5");
    assert_eq!(of("status"), "constant", "of the device, the first entry");
    assert_eq!(of("identifier[0].value"), "PID[1]-3, OBX[1]-18, remembered: earlier messages");
}

#[test]
fn every_element_of_the_bundle_has_an_origin_that_names_a_field_that_was_sent() {
    let mut checked = 0;
    for (name, text) in samples() {
        let results = PcdToFhir { semantics: Semantics::Results, ..all() };
        for settings in [settings(), all(), results] {
            let Ok(Some(translated)) = translate_with(&settings_for(&settings), &text) else { continue };
            let bundle: Value = serde_json::from_slice(&translated.body).unwrap();
            check_r4(&bundle);
            check_all_have_origins(&bundle, &translated.origins, &name);
            check_origins_are_true(&bundle, &translated.origins, &parse(&text), &name);
            let silent = Context { origins: false, ..context() };
            let silent = apply(&settings_for(&settings), &parse(&text), silent).unwrap().unwrap();
            assert_eq!((silent.body, silent.origins.len()), (translated.body, 0), "{name}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

fn settings_for(settings: &PcdToFhir) -> PcdToFhir {
    let mut settings = settings.clone();
    settings.identifier_systems.insert("GENHOSP".into(), "urn:oid:2.999.1.1".into());
    settings.infusions.written = false;
    settings
}

fn check_all_have_origins(bundle: &Value, origins: &[(String, String)], name: &str) {
    let mut leaves = Vec::new();
    collect(bundle, String::new(), &mut leaves);
    for leaf in leaves {
        let covered = origins.iter().any(|(element, _)| {
            leaf.strip_prefix(element.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        });
        assert!(covered, "{name}: {leaf} says nowhere where it came from");
    }
}

fn collect(value: &Value, path: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            collect(value, path, leaves);
        }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| collect(item, format!("{path}[{i}]"), leaves))
        }
        _ => leaves.push(path),
    }
}

fn check_origins_are_true(bundle: &Value, origins: &[(String, String)], message: &Message, name: &str) {
    for (element, origin) in origins {
        let pointer = format!("/{}", element.replace(['.', '['], "/").replace(']', ""));
        assert!(
            bundle.pointer(&pointer).is_some_and(|found| !found.is_null()),
            "{name}: {element} ({origin}) is not there"
        );
        let words = ["constant", "configuration: ", "engine: ", "as "];
        if words.iter().any(|word| origin.starts_with(word)) {
            continue;
        }
        let fields = origin.split(" by ").next().unwrap();
        for field in fields.split(", ").filter(|field| *field != trace::EARLIER) {
            let path = Path::parse(field).unwrap_or_else(|_| panic!("{name}: {element}: {field:?} is no path"));
            assert!(message.first(&path).is_some(), "{name}: {element} is said to come from {field}, which is empty");
        }
    }
}

#[test]
fn a_step_says_what_it_writes_and_from_where() {
    use crate::translate::{Plan, steps::Step};
    let path = |text: &str| Path::parse(text).unwrap();
    let steps = vec![
        Step::Set { path: path("MSH-12"), to: "2.3".to_owned() },
        Step::Copy { from: path("PID-3"), to: path("PID-2") },
    ];
    let plan = Plan::Steps(steps);
    let translated = plan.apply(&parse(&report(&[SYS])), context(), &nothing_remembered).unwrap();
    let told: Vec<String> = translated.origins.iter().map(|(element, from)| format!("{element} <- {from}")).collect();
    assert_eq!(told[..2], ["MSH-12 <- constant (step 1, set)", "PID-2 <- PID-3 (step 2, copy)"]);
    assert!(told[2].starts_with("everything else <- as sent"), "{told:?}");
}
