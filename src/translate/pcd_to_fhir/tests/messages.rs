//! Whole messages: our samples, real ones, and samples edited at random.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::{super::*, apply, bundle_with, context, r4::check_r4, settings};
use crate::pcd::Nomenclature;

#[test]
fn the_sample_messages_become_these_bundles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pcd-to-fhir");
    let mut samples = 0;
    for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let Some(stem) = file.to_str().and_then(|name| name.strip_suffix(".in.hl7")) else { continue };
        let name = Path::new(stem).file_name().unwrap().to_str().unwrap();
        let found = bundle_with(&settings_of(name), &fs::read_to_string(&file).unwrap());
        check_r4(&found);
        let found = format!("{}\n", serde_json::to_string_pretty(&found).unwrap());
        let golden = format!("{stem}.out.json");
        if std::env::var_os("CANNULA_BLESS").is_some() {
            fs::write(&golden, &found).unwrap();
        }
        assert_eq!(
            found,
            fs::read_to_string(&golden).unwrap(),
            "{golden}: read the difference; CANNULA_BLESS=1 takes it"
        );
        samples += 1;
    }
    assert_eq!(samples, 7);
}

/// What the site of a sample chose.
fn settings_of(sample: &str) -> PcdToFhir {
    let mut settings = settings();
    match sample {
        "05-laboratory" => {
            (settings.semantics, settings.diagnostic_report) = (Semantics::Results, true);
            settings.coding_systems.insert("99LAB".into(), "https://hospital.example/lab".into());
        }
        "06-metrics" => {
            (settings.device_detail, settings.device_updates) = (DeviceDetail::Metric, true);
            (settings.blood_pressure_panel, settings.location, settings.patient_create) = (true, true, true);
        }
        "07-diabetes" => settings.conversions = vec![Conversion::new("mg/dL", "mmol/L", 1, Vec::new()).unwrap()],
        _ => {}
    }
    settings
}

#[test]
fn real_messages_become_bundles_or_a_reason() {
    let Some(folder) = std::env::var_os("CANNULA_TEST_MESSAGES") else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return;
    };
    let mut settings = settings();
    settings.default_offset_minutes = Some(0);
    let authorities = ["A", "Philips", "IHE", "Hospital", "AA1", "PAT_DEVICE_PUMPVENDOR"];
    settings.identifier_systems.extend(authorities.map(|name| (name.to_owned(), "urn:oid:2.999.1".to_owned())));
    let folder = Path::new(&folder);
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let mut reports = 0;
    for line in index.lines().skip(1) {
        let mut columns = line.split('\t');
        let (file, category) = (columns.next().unwrap(), columns.next().unwrap());
        let Ok(message) =
            fs::read(folder.join(file)).map_err(drop).and_then(|bytes| Message::parse(bytes).map_err(drop))
        else {
            continue;
        };
        let explanation = pcd::explain(&message, &settings.nomenclature).to_string();
        assert!(explanation.lines().count() > 2, "{file}");
        let translated = apply(&settings, &message, context());
        if let Ok(Some(translated)) = &translated {
            check_r4(&serde_json::from_slice(&translated.body).unwrap());
        }
        if matches!(category, "pcd01" | "pcd10") {
            assert!(matches!(translated, Ok(Some(_))), "{file}: {:?}", translated.err());
            reports += 1;
        }
    }
    assert!(reports > 0, "index.tsv names no PCD-01 message");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_edit_of_a_message_makes_a_panic_or_an_invalid_bundle(
        sample in 0..4usize,
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(EDITS)), 1..12),
    ) {
        let mut bytes = SAMPLES[sample].replace('\n', "\r").into_bytes();
        for (at, edit) in edits {
            let at = 9 + at.index(bytes.len() - 9);
            bytes.splice(at..(at + 1).min(bytes.len()), edit.bytes());
        }
        if let Ok(message) = Message::parse(bytes) {
            let tables = Nomenclature::built_in();
            let _ = pcd::explain(&message, &tables).to_string();
            let _ = (pcd::device_keys(&message), pcd::patient_keys(&message));
            let first = apply(&settings(), &message, context());
            let second = apply(&settings(), &message, context());
            if let (Ok(Some(first)), Ok(Some(second))) = (first, second) {
                prop_assert_eq!(&first.body, &second.body);
                check_r4(&serde_json::from_slice(&first.body).unwrap());
            }
        }
    }
}

const EDITS: &[&str] = &[
    "",
    "|",
    "^",
    "~",
    "&",
    "\\",
    "\r",
    "0",
    "9",
    ".",
    "-",
    "\"\"",
    "X",
    " ",
    "  ",
    "\\X01\\",
    "\t",
    "&ISO",
    "\u{e9}",
    "||||||",
    "<",
    "\rOBX|1|NM|1^A^L|1.1|5",
    "\rPID|||1^^^H^MR\r",
];
const SAMPLES: [&str; 4] = [
    include_str!("../../../../tests/golden/pcd-to-fhir/01-monitor.in.hl7"),
    include_str!("../../../../tests/golden/pcd-to-fhir/02-pump-event.in.hl7"),
    include_str!("../../../../tests/golden/pcd-to-fhir/03-glucose.in.hl7"),
    include_str!("../../../../tests/golden/pcd-to-fhir/04-waveform.in.hl7"),
];
