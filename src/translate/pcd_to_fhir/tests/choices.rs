//! What a site can choose.

use super::*;
use crate::translate::{InsulinProduct, Medication};

fn with(change: impl FnOnce(&mut PcdToFhir)) -> PcdToFhir {
    let mut settings = settings();
    change(&mut settings);
    settings
}

fn first(settings: &PcdToFhir, rows: &[&str]) -> Value {
    let found = bundle_with(settings, &report(rows));
    check_r4(&found);
    observations(&found)[0].clone()
}

fn codes(concept: &Value) -> Vec<&str> {
    concept["coding"].as_array().unwrap().iter().map(|coding| coding["code"].as_str().unwrap()).collect()
}

#[test]
fn codes_stand_in_the_order_the_record_wants_and_never_are_there_none() {
    let row = "OBX|1|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC^S1^Sys^99V|1.1.1.1|117|266016^MDC_DIM_MMHG^MDC|||||R";
    let written = |order: &[CodeKind], row: &str| {
        let found = first(&with(|settings| settings.codes = order.to_vec()), &[row]);
        codes(&found["code"]).join(" ")
    };
    assert_eq!(written(&settings().codes, row), "8480-6 150021 S1");
    assert_eq!(written(&[CodeKind::Mdc, CodeKind::Loinc], row), "150021 8480-6");
    assert_eq!(written(&[CodeKind::Loinc], row), "8480-6");
    let unknown = "OBX|1|NM|8388700^VENDOR_SCORE^MDC|1.1.1.1|3||||||R";
    assert_eq!(written(&[CodeKind::Loinc], unknown), "8388700");
    assert_eq!(written(&settings().codes, "OBX|1|NM|S1^Sys^99V^8480-6^Systolic^LN|1.1.1.1|3||||||R"), "8480-6 S1");
}

#[test]
fn a_setting_is_never_an_observation_of_the_patient() {
    let row = |method: &str| {
        format!(
            "OBX|1|NM|151562^MDC_RESP_RATE^MDC|1.1.1.1|12|264928^MDC_DIM_RESP_PER_MIN^MDC|||||R||||||{method}^x^MDC"
        )
    };
    let measured = first(&settings(), &[&row("AMEAS")]);
    assert_eq!((codes(&measured["code"])[0], codes(&measured["category"][0])[0]), ("9279-1", "vital-signs"));
    let set = first(&settings(), &[&row("MSET")]);
    assert_eq!((codes(&set["code"]), codes(&set["category"][0])[0]), (vec!["151562"], "procedure"));
}

#[test]
fn categories_are_the_sites_by_code_then_by_class() {
    let category = |code: &str| vec![Category { system: systems::OBSERVATION_CATEGORY.into(), code: code.into() }];
    let settings = with(|settings| {
        settings.categories = [
            ("8480-6".to_owned(), [category("exam"), category("vital-signs")].concat()),
            ("setting".to_owned(), category("therapy")),
            ("measurement".to_owned(), category("activity")),
        ]
        .into();
    });
    let filed = |row: &str| {
        let found = first(&settings, &[row]);
        let all = found["category"].as_array().unwrap().iter().map(|found| codes(found)[0].to_owned());
        all.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(filed(SYS), "exam vital-signs");
    assert_eq!(filed(&row("NM", "5")), "activity");
    assert_eq!(filed(&format!("{}||||||ASET", row("NM", "5"))), "therapy");
    let glucose = "OBX|1|NM|160212^MDC_CONC_GLU_ISF^MDC|1.1.1.1|112|264274^MDC_DIM_MILLI_G_PER_DL^MDC|||||R";
    assert_eq!(filed(glucose), "laboratory", "what the table says goes before the class");
}

#[test]
fn metrics_are_of_their_device_and_written_once() {
    let settings = with(|settings| settings.device_detail = DeviceDetail::Metric);
    let vmd = "OBX|2||70686^MDC_DEV_PRESS_BLD_NONINV_VMD^MDC|1.1.0.0|||||||X";
    let again = SYS.replace("|117|", "|118|");
    let found = bundle_with(&settings, &report(&[MDS, vmd, SYS, &again]));
    check_r4(&found);
    let entries = found["entry"].as_array().unwrap();
    let metrics: Vec<&Value> =
        entries.iter().filter(|entry| entry["resource"]["resourceType"] == "DeviceMetric").collect();
    assert_eq!((metrics.len(), observations(&found).len()), (1, 2));
    let metric = &metrics[0]["resource"];
    assert_eq!((&metric["category"], codes(&metric["unit"])), (&json!("measurement"), vec!["266016", "mm[Hg]"]));
    assert_eq!(
        (&metric["source"]["reference"], &metric["parent"]["reference"]),
        (&entries[0]["fullUrl"], &entries[1]["fullUrl"])
    );
    assert!(observations(&found).iter().all(|found| found["device"]["reference"] == metrics[0]["fullUrl"]));
    let unnamed = "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||MX-7";
    let found = bundle_with(&settings, &report(&[unnamed, SYS]));
    assert_eq!(observations(&found)[0]["device"]["identifier"]["value"], "MX-7", "no metric of nothing");
}

#[test]
fn a_device_that_is_kept_up_to_date_says_at_whom_and_where_it_is() {
    let device = |updates| {
        let settings = with(|settings| settings.device_updates = updates);
        bundle_with(&settings, &report(&[MDS, SYS]))["entry"][0].clone()
    };
    let (once, kept) = (device(false), device(true));
    assert_eq!((&once["request"]["method"], &once["resource"]["location"]), (&json!("POST"), &Value::Null));
    assert_eq!(kept["request"]["method"], "PUT");
    assert_eq!(kept["resource"]["location"]["identifier"]["value"], "3W^12^1");
    assert_eq!(kept["resource"]["patient"]["reference"], "Patient?identifier=https://hospital.example/mrn%7C4711");
}

#[test]
fn pressures_beside_each_other_become_one_panel_where_that_is_asked_for() {
    let settings = with(|settings| settings.blood_pressure_panel = true);
    let dia = SYS
        .replace("150021^MDC_PRESS_BLD_NONINV_SYS", "150022^MDC_PRESS_BLD_NONINV_DIA")
        .replace("1.1.1.1|117", "1.1.1.2|71");
    let mean = SYS
        .replace("150021^MDC_PRESS_BLD_NONINV_SYS", "150023^MDC_PRESS_BLD_NONINV_MEAN")
        .replace("1.1.1.1|117", "1.1.1.3|86");
    let found = first(&settings, &[MDS, SYS, &dia, &mean]);
    assert_eq!((codes(&found["code"]), codes(&found["category"][0])[0]), (vec!["85354-9", "150020"], "vital-signs"));
    let members: Vec<&str> =
        found["component"].as_array().unwrap().iter().map(|member| codes(&member["code"])[0]).collect();
    assert_eq!(members, ["8480-6", "8462-4", "8478-0"]);
    assert_eq!((&found["valueQuantity"], &found["dataAbsentReason"]), (&Value::Null, &Value::Null));
    let later = dia.replace("|||||R", "|||||R|||20260301115959+0100");
    assert_eq!(
        observations(&bundle_with(&settings, &report(&[SYS, &later]))).len(),
        2,
        "another time is another measurement"
    );
    assert_eq!(observations(&bundle_with(&settings, &report(&[SYS, &mean]))).len(), 2, "no diastolic, no panel");
    assert_eq!(observations(&bundle(&[SYS, &dia])).len(), 2, "unless asked for, nothing is put together");
    let row = bundle_with(&settings, &report(&[MDS, SYS, &dia]));
    assert_ne!(identifier(observations(&row)[0]), identifier(observations(&bundle(&[MDS, SYS]))[0]));
}

#[test]
fn a_visit_is_referred_to_as_the_site_says() {
    let text = report(&[SYS]).replace("PV1||I|3W^12^1", "PV1||I|3W^12^1||||||||||||||||V1^^^V^VN");
    let visit = |encounter| {
        let settings = with(|settings| settings.encounter = encounter);
        observations(&bundle_with(&settings, &text))[0]["encounter"].clone()
    };
    assert_eq!(visit(EncounterReference::Identifier)["identifier"]["value"], "V1");
    let expected = json!({"reference": "Encounter?identifier=https://hospital.example/visit%7CV1"});
    assert_eq!(visit(EncounterReference::Conditional), expected);
    assert_eq!(visit(EncounterReference::None), Value::Null);
}

#[test]
fn place_and_sub_id_are_written_where_they_are_asked_for() {
    let settings = with(|settings| (settings.location, settings.sub_id) = (true, true));
    let found = first(&settings, &[SYS]);
    let inner = json!([{"url": "original-sub-identifier", "valueString": "1.1.1.1"}]);
    assert_eq!(found["extension"][0], json!({"url": systems::SUB_ID_EXTENSION, "extension": inner}));
    assert_eq!(found["extension"][1]["valueReference"]["display"], "3W 12 1");
    let yes = with(|settings| settings.yes_no_boolean = true);
    assert_eq!(first(&yes, &[&row("ID", "Y")])["valueBoolean"], true);
    assert_eq!(observation(&row("ID", "Y"))["valueCodeableConcept"]["coding"][0]["code"], "Y");
}

#[test]
fn glucose_changes_its_loinc_with_its_unit_and_says_what_the_device_showed() {
    let molar =
        with(|settings| settings.conversions = vec![Conversion::new("mg/dL", "mmol/L", 1, Vec::new()).unwrap()]);
    let row =
        |value: &str| format!("OBX|1|{value}|264274^MDC_DIM_MILLI_G_PER_DL^MDC|70-180||||R").replacen('|', "|", 1);
    let glucose = |kind: &str, value: &str| row(&format!("{kind}|160212^MDC_CONC_GLU_ISF^MDC|1.1.1.1|{value}"));
    let found = first(&molar, &[&glucose("NM", "126")]);
    assert_eq!(codes(&found["code"])[0], "105272-9");
    assert_eq!(
        found["valueQuantity"],
        json!({"value": serde_json::from_str::<Value>("7.0").unwrap(), "unit": "mmol/l", "system": systems::UCUM, "code": "mmol/L"})
    );
    assert_eq!(found["note"][0]["text"], "Converted from 126 mg/dL");
    assert_eq!(found["referenceRange"][0]["high"]["value"].to_string(), "10.0");
    let low = first(&molar, &[&glucose("SN", "<^40")]);
    assert_eq!(
        (&low["valueQuantity"]["comparator"], low["valueQuantity"]["value"].to_string()),
        (&json!("<"), "2.2".to_owned())
    );
    assert_eq!(
        codes(&first(&settings(), &[&glucose("NM", "126")])["code"])[0],
        "99504-3",
        "nothing is converted unasked"
    );
    let same = |settings: &PcdToFhir| identifier(&first(settings, &[&glucose("NM", "126")])).to_owned();
    assert_eq!(same(&molar), same(&settings()), "the unit is no part of the identity");
    let urea = "OBX|1|NM|8388701^VENDOR_UREA^MDC|1.1.1.1|15|mg/dL^^UCUM|||||R";
    assert_eq!(first(&molar, &[urea])["valueQuantity"]["code"], "mg/dL", "another substance has another molar mass");
}

#[test]
fn a_loinc_number_sent_beside_a_unit_of_another_property_never_leaves_with_it() {
    let sent = |code: &str, unit: &str| {
        let row = format!("OBX|1|NM|{code}|1.1.1.1|126|{unit}^^UCUM|||||R");
        let translated = translate_with(&settings(), &report(&[&row])).unwrap().unwrap();
        let found: Value = serde_json::from_slice(&translated.body).unwrap();
        check_r4(&found);
        let code = observations(&found)[0]["code"].clone();
        let codes: Vec<String> =
            code["coding"].as_array().into_iter().flatten().map(|c| c["code"].as_str().unwrap().to_owned()).collect();
        (codes.join(" "), code["text"].as_str().unwrap_or_default().to_owned(), translated.unmapped)
    };
    let told = |code: &str, text: &str| vec![Unmapped::new("loinc", code, text, "LN")];
    let nothing = String::new;
    let molar = "105272-9^Glucose ISF^LN";
    assert_eq!(sent(molar, "mg/dL"), ("99504-3".into(), nothing(), told("105272-9", "Glucose ISF")));
    assert_eq!(sent(molar, "mmol/L"), ("105272-9".into(), nothing(), vec![]));
    let own = with(|settings| _ = settings.coding_systems.insert("99L".into(), systems::LOINC.into()));
    let named = first(&own, &["OBX|1|NM|105272-9^Glucose ISF^99L|1.1.1.1|126|mg/dL^^UCUM|||||R"]);
    assert_eq!(codes(&named["code"])[0], "99504-3", "by a name of the site's own");
    let both = |number: &str| format!("160212^MDC_CONC_GLU_ISF^MDC^{number}^Glucose^LN");
    assert_eq!(sent(&both("105272-9"), "mg/dL").0, "99504-3 160212");
    assert_eq!(sent(&both("99504-3"), "mmol/L").0, "105272-9 160212");
    assert_eq!(sent("2340-8^Strip^LN", "mmol/L"), (nothing(), "Strip".into(), told("2340-8", "Strip")));
    assert_eq!(sent("2340-8^^LN", "mmol/L").1, "2340-8");
    // What the table has of a code says what its numbers measure.
    let rate = |unit: &str| sent("147842^MDC_ECG_CARD_BEAT_RATE^MDC^8867-4^Rate^LN", unit).0;
    assert_eq!((rate("{beat}/min"), rate("mm[Hg]")), ("8867-4 147842".into(), "147842".into()));
    assert_eq!(sent("8867-4^Rate^LN", "mm[Hg]").0, "8867-4", "nothing is known of it without its code");
}

#[test]
fn units_of_one_dimension_change_only_for_the_codes_asked_for() {
    let codes = vec!["MDC_PRESS_BLD_NONINV_SYS".to_owned()];
    let settings = with(|settings| settings.conversions = vec![Conversion::new("mm[Hg]", "kPa", 2, codes).unwrap()]);
    let found = first(&settings, &[SYS]);
    assert_eq!(
        (found["valueQuantity"]["value"].to_string(), &found["valueQuantity"]["code"]),
        ("15.60".into(), &json!("kPa"))
    );
    let dia = SYS.replace("150021^MDC_PRESS_BLD_NONINV_SYS", "150022^MDC_PRESS_BLD_NONINV_DIA");
    assert_eq!(first(&settings, &[&dia])["valueQuantity"]["code"], "mm[Hg]");
}

#[test]
fn a_dose_of_insulin_is_given_and_a_setting_of_one_is_not() {
    let row = |code: &str, value: &str, unit: &str| {
        format!("OBX|2|NM|{code}^MDC|1.0.0.5|{value}|{unit}|||||R|||20260301115800+0100")
    };
    let bolus = row("8418344^MDC_INS_BOLUS", "4.50", "267616^MDC_DIM_X_INTL_UNIT^MDC");
    let resources = |settings: &PcdToFhir, row: &str| {
        let found = bundle_with(settings, &report(&[MDS, row]));
        check_r4(&found);
        found["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()).collect::<Vec<_>>()
    };
    let given = resources(&settings(), &bolus)[1].clone();
    assert_eq!((&given["resourceType"], &given["status"]), (&json!("MedicationAdministration"), &json!("completed")));
    assert_eq!(
        (given["dosage"]["dose"]["value"].to_string(), &given["dosage"]["dose"]["code"]),
        ("4.50".into(), &json!("[iU]"))
    );
    assert_eq!(
        (&given["medicationCodeableConcept"]["text"], &given["effectiveDateTime"]),
        (&json!("Insulin"), &json!("2026-03-01T11:58:00+01:00"))
    );
    assert_eq!((codes(&given["category"])[0], &given["device"][0]["reference"].is_string()), ("8418344", &true));
    let drug = Medication { system: systems::RXNORM.into(), code: "285018".into(), display: "insulin glargine".into() };
    let chosen = with(|settings| (settings.insulin_in_u, settings.insulin_medication) = (true, Some(drug)));
    let given = resources(&chosen, &row("8418344^MDC_INS_BOLUS", "4.5", "units"))[1].clone();
    assert_eq!(
        (&given["dosage"]["dose"]["code"], codes(&given["medicationCodeableConcept"])[0]),
        (&json!("U"), "285018")
    );
    let drug = |code: &str| Medication { system: systems::RXNORM.into(), code: code.into(), display: code.into() };
    let product = |codes: &[&str], device: Option<&str>, code: &str| InsulinProduct {
        codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        device: device.map(str::to_owned),
        medication: drug(code),
    };
    let by_dose = with(|settings| {
        settings.insulin_medication = Some(drug("any"));
        settings.insulin_products = vec![
            product(&["MDC_CTXT_MEDICATION_LONGACTING"], None, "long"),
            product(&["8418344"], Some("ACDE480000009999"), "of another pump"),
            product(&[], Some("ACDE480000001001"), "of this pump"),
        ];
    });
    let of = |settings: &PcdToFhir, row: &str| {
        codes(&resources(settings, row)[1]["medicationCodeableConcept"])[0].to_owned()
    };
    let long = row("8417812^MDC_CTXT_MEDICATION_LONGACTING", "12", "267616^MDC_DIM_X_INTL_UNIT^MDC");
    assert_eq!((of(&by_dose, &bolus), of(&by_dose, &long)), ("of this pump".to_owned(), "long".to_owned()));
    let pump =
        with(|settings| settings.insulin_products = vec![product(&[], Some("ACDE480000001001"), "of this pump")]);
    let entered = resources(&pump, &long)[1]["medicationCodeableConcept"].clone();
    assert_eq!(
        (of(&pump, &bolus), entered),
        ("of this pump".to_owned(), json!({"text": "Insulin"})),
        "a pen's is none of the pump's"
    );
    let contradicting = row("8418344^MDC_CTXT_MEDICATION_LONGACTING^MDC", "12", "267616^MDC_DIM_X_INTL_UNIT^MDC");
    let given = resources(&by_dose, &contradicting)[1].clone();
    assert_eq!(given["medicationCodeableConcept"], json!({"text": "Insulin"}), "which insulin is not known");
    let elsewhere = with(|settings| {
        settings.insulin_medication = Some(drug("any"));
        settings.insulin_products = vec![product(&["8418344"], Some("ACDE480000009999"), "of another pump")];
    });
    assert_eq!(of(&elsewhere, &bolus), "any");
    for row in [
        row("8418332^MDC_INS_BOLUS_SETTING", "4", "267616^MDC_DIM_X_INTL_UNIT^MDC"),
        row("8418344^MDC_INS_BOLUS", "4", "263762^MDC_DIM_MILLI_L^MDC"),
        row("8418344^MDC_INS_BOLUS", "", "267616^MDC_DIM_X_INTL_UNIT^MDC"),
        row("8418344^MDC_INS_BOLUS", "4", "267616^MDC_DIM_X_INTL_UNIT^MDC").replace("|R|||", "|X|||"),
    ] {
        assert_eq!(resources(&settings(), &row)[1]["resourceType"], "Observation", "{row}");
    }
    let rate = row("8418288^MDC_INS_BASAL", "0.85", "U/h");
    assert_eq!(resources(&settings(), &rate)[1]["valueQuantity"]["code"], "[iU]/h");
}

#[test]
fn carbohydrate_has_the_loinc_of_what_was_eaten() {
    let found = observation("OBX|1|NM|8417764^MDC_CTXT_GLU_CARB^MDC|1.0.0.4|45|263872^MDC_DIM_G^MDC|||||R");
    assert_eq!((codes(&found["code"])[0], &found["valueQuantity"]["code"]), ("9059-7", &json!("g")));
}

#[test]
fn a_patient_is_created_only_where_the_site_says_so_and_by_what_the_message_knows() {
    let settings = with(|settings| settings.patient_create = true);
    let text = report(&[SYS]).replace(
        "PID|||4711^^^H^MR||Muster^Maria^^^^^L",
        "PID|||4711^^^H^MR~V9^^^V^VN||Muster^Maria^Anna^^^^L||19700102|F|||Weg 1^^Ort^^1234^CH||^PRN^PH^^^^^^^^^0311234567",
    );
    let found = bundle_with(&settings, &text);
    check_r4(&found);
    let entry = &found["entry"][0];
    assert_eq!(
        entry["request"],
        json!({"method": "POST", "url": "Patient", "ifNoneExist": "identifier=https://hospital.example/mrn%7C4711"})
    );
    let patient = &entry["resource"];
    assert_eq!(patient["name"], json!([{"use": "official", "family": "Muster", "given": ["Maria", "Anna"]}]));
    assert_eq!((&patient["birthDate"], &patient["gender"]), (&json!("1970-01-02"), &json!("female")));
    assert_eq!(patient["address"], json!([{"line": ["Weg 1"], "city": "Ort", "postalCode": "1234", "country": "CH"}]));
    assert_eq!(patient["telecom"], json!([{"system": "phone", "value": "0311234567"}]));
    assert_eq!(observations(&found)[0]["subject"]["reference"], entry["fullUrl"]);
    assert_eq!(bundle(&[SYS])["entry"][0]["resource"]["resourceType"], "Observation");
}
