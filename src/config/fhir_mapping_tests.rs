//! What a site writes in `[destination.fhir]`, and what is told of what it writes wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

use super::load;
use crate::translate::{CodeKind, DeviceDetail, EncounterReference, PcdToFhir, Plan, Semantics};

fn loaded(folder: &Path, translate: &str, mapping: &str) -> Result<PcdToFhir, Vec<String>> {
    fs::create_dir_all(folder.join("channels")).unwrap();
    fs::write(folder.join("cannula.toml"), "").unwrap();
    let channel = format!(
        "description = \"x\"\n[listener]\naddress = \"127.0.0.1:2575\"\n[[destination]]\nname = \"ehr\"\ntype = \"fhir\"\n\
         url = \"http://127.0.0.1:8080/fhir\"\ntranslate = \"{translate}\"\n[destination.fhir]\n{mapping}"
    );
    fs::write(folder.join("channels/a.toml"), channel).unwrap();
    let config = load(Some(&folder.join("cannula.toml")))
        .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    match &config.channels[0].destinations[0].plan {
        Plan::PcdToFhir(settings) => Ok(settings.clone()),
        _ => panic!("another plan"),
    }
}

#[test]
fn a_site_chooses_codes_categories_devices_units_and_drugs() {
    let folder = tempfile::tempdir().unwrap();
    let mapping = r#"
device_detail = "metric"
device_write = "update"
codes = ["mdc", "loinc"]
coding_systems = { "99LAB" = "https://lab.example/codes" }
categories = { "8480-6" = ["vital-signs", "https://h.example|icu"], setting = "therapy", MDC_CONC_GLU_ISF = "laboratory" }
blood_pressure = "panel"
encounter = "conditional"
diagnostic_report = true
insulin_unit = "U"
insulin_medication = { system = "http://www.nlm.nih.gov/research/umls/rxnorm", code = "285018", display = "insulin glargine" }
[[destination.fhir.convert]]
from = "mg/dL"
to = "mmol/L"
decimals = 1
[[destination.fhir.insulin_product]]
doses = ["MDC_CTXT_MEDICATION_LONGACTING", "8418344"]
device = "ac:de:48:00:00:00:99:99"
system = "urn:oid:2.999.2"
code = "L"
display = "long"
"#;
    let settings = loaded(folder.path(), "oru-to-fhir", mapping).unwrap();
    assert_eq!((settings.semantics, settings.device_detail), (Semantics::Results, DeviceDetail::Metric));
    assert_eq!(settings.codes, [CodeKind::Mdc, CodeKind::Loinc]);
    assert_eq!(settings.categories["8480-6"][1].system, "https://h.example");
    assert_eq!((settings.encounter, settings.conversions.len()), (EncounterReference::Conditional, 1));
    assert!(
        settings.device_updates && settings.blood_pressure_panel && settings.diagnostic_report && settings.insulin_in_u
    );
    assert_eq!(settings.insulin_medication.unwrap().code, "285018");
    let product = &settings.insulin_products[0];
    assert_eq!(
        (product.codes.len(), product.device.as_deref(), &*product.medication.code),
        (2, Some("ACDE480000009999"), "L")
    );
    assert_eq!(product.codes[1], "MDC_INS_BOLUS");
    let usual = loaded(folder.path(), "pcd-to-fhir", "").unwrap();
    assert_eq!(usual.codes, PcdToFhir::new(usual.nomenclature.clone()).codes);
    assert!(!usual.device_updates && usual.conversions.is_empty() && usual.semantics == Semantics::Device);
}

#[test]
fn a_server_that_creates_what_is_put_is_kept_from_overwriting_corrections() {
    let folder = tempfile::tempdir().unwrap();
    assert!(loaded(folder.path(), "pcd-to-fhir", "idempotency = \"put-id\"").unwrap().creates_overwrite);
    assert!(!loaded(folder.path(), "pcd-to-fhir", "").unwrap().creates_overwrite);
}

#[test]
fn an_insulin_that_no_dose_would_ever_have_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let row = |doses: &str| {
        format!(
            "[[destination.fhir.insulin_product]]\n{doses}\nsystem = \"urn:oid:2.999.2\"\ncode = \"L\"\ndisplay = \"long\"\n"
        )
    };
    let told = |rows: &[&str]| {
        let mapping: String = rows.iter().map(|each| row(each)).collect();
        loaded(folder.path(), "pcd-to-fhir", &mapping).err().map(|faults| faults.join("\n")).unwrap_or_default()
    };
    let long = "doses = \"MDC_CTXT_MEDICATION_LONGACTING\"";
    for (rows, fault) in [
        (&["doses = \"160212\""] as &[&str], "\"160212\" is no code of a dose; write one of MDC_INS_BOLUS"),
        (&["doses = \"MDC_INS_BASAL\""], "is no code of a dose"),
        (&["doses = \"8418999\""], "is no code of a dose"),
        (&[""], "for no dose and no device"),
        (&["doses = [\"MDC_INS_BOLUS\", \"8418344\"]"], "is named twice"),
        (&[long, long], "by a row before this one"),
        (&[long, "doses = \"8417812\"\ndevice = \"P-1\""], "by a row before this one"),
        (&["device = \"AC-DE-48-00-00-00-99-99\"", "device = \"acde480000009999\""], "every bolus has its insulin"),
    ] {
        assert!(told(rows).contains(fault), "{rows:?}: {}", told(rows));
    }
    let right = [
        &["device = \"P-1\"", "doses = \"8417812\"\ndevice = \"P-1\""],
        &["doses = \"8417812\"\ndevice = \"P-1\"", long, "device = \"P-1\"", "device = \"P-2\""] as &[&str],
    ];
    right.iter().for_each(|rows| assert_eq!(told(rows), ""));
}

#[test]
fn what_can_mean_nothing_is_a_fault_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let faults = |mapping: &str| loaded(folder.path(), "pcd-to-fhir", mapping).err().unwrap().join("\n");
    for (mapping, told) in [
        ("[[destination.fhir.insulin_product]]\ndoses = \"insulin\"\n", "\"insulin\" is no code of a dose"),
        ("codes = [\"snomed\"]\n", "\"snomed\" is no kind of code; write loinc, mdc or other"),
        ("categories = { settings = \"procedure\" }\n", "\"settings\" is no code and no class"),
        ("categories = { \"8480-7\" = \"vital-signs\" }\n", "\"8480-7\" is no code and no class"),
        ("categories = { default = \"vitals\" }\n", "\"vitals\" is no category of R4"),
        ("coding_systems = { L = \"local\" }\n", "the system is not a URI"),
        (
            "[[destination.fhir.convert]]\nfrom = \"mg/dL\"\nto = \"mL\"\ndecimals = 1\n",
            "the two units do not measure the same; write two UCUM units",
        ),
        ("[[destination.fhir.convert]]\nfrom = \"mmHg\"\nto = \"kPa\"\ndecimals = 1\n", "a unit is not UCUM"),
    ] {
        let found = faults(mapping);
        assert!(found.contains(told), "{mapping}: {found}");
    }
}
