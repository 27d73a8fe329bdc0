//! Fields beside the value: who, where, when analysed, remarks, documents.

use super::*;

/// A row that fills what a row can.
pub(super) const ROW: &str = "OBX|9|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.9|97|262688^MDC_DIM_PERCENT^MDC|90-100|QUES~H||MSRMT|F|||20260301115800+0100|LAB7^Ward Lab^99L|77^Nurse^Nora^^^^^^H|AMEAS^auto^MDC~X1^second way^99L||20260301115900+0100|273^finger^MDC|OBS-1^H||Ward Lab^^^^^H^^^^W7||||||RSLT";

#[test]
fn every_field_of_an_obx_has_its_element() {
    let found = observation(ROW);
    assert_eq!(found["identifier"][0]["system"], "https://hospital.example/mrn");
    assert_eq!(found["identifier"][0]["type"]["coding"][0]["code"], "FILL");
    let expected = json!([
        {"type": "Practitioner", "identifier": {"system": "https://hospital.example/mrn", "value": "77"}, "display": "Nora Nurse"},
        {"type": "Organization", "identifier": {"system": "https://hospital.example/mrn", "value": "W7"}, "display": "Ward Lab"},
    ]);
    assert_eq!(found["performer"], expected);
    assert_eq!(found["note"], json!([{"text": "Method: second way"}]));
    let analysed = json!({"url": systems::ANALYSIS_TIME_EXTENSION, "valueDateTime": "2026-03-01T11:59:00+01:00"});
    assert_eq!(found["extension"], json!([analysed]));
    let categories: Vec<&Value> =
        found["category"].as_array().unwrap().iter().map(|c| &c["coding"][0]["code"]).collect();
    assert_eq!(categories, ["vital-signs", "RSLT"]);
    assert_eq!(
        (&found["method"]["coding"][0]["code"], &found["bodySite"]["coding"][0]["display"]),
        (&json!("AMEAS"), &json!("finger"))
    );
    let old = ROW.replace("|Ward Lab^^^^^H^^^^W7", "|");
    assert_eq!(observation(&old)["performer"][1]["display"], "Ward Lab", "OBX-15 where OBX-23 is empty");
}

#[test]
fn remarks_on_a_row_and_on_its_order_reach_the_record_with_their_author() {
    let text = report(&[SYS, "NTE|1||one~two||9^Nurse^Nora|20260301115900+0100"])
        .replace("MDC|||20260301115900+0100\n", "MDC|||20260301115900+0100\nNTE|1||of the order\n");
    let found = bundle_with(&settings(), &text);
    let expected = json!([
        {"authorString": "Nora Nurse", "time": "2026-03-01T11:59:00+01:00", "text": "one\ntwo"},
        {"text": "of the order"},
    ]);
    assert_eq!(observations(&found)[0]["note"], expected);
}

#[test]
fn a_document_stands_in_the_extension_that_r5_has_for_it() {
    let attached = |kind: &str, value: &str| {
        let found = observation(&row(kind, value));
        assert_eq!((&found["dataAbsentReason"], &found["valueString"]), (&Value::Null, &Value::Null));
        assert_eq!(found["extension"][0]["url"], systems::VALUE_EXTENSION);
        found["extension"][0]["valueAttachment"].clone()
    };
    let pdf = json!({"contentType": "application/pdf", "data": "JVBERi0="});
    assert_eq!(attached("ED", "^AP^PDF^Base64^JVBERi0="), pdf);
    assert_eq!(attached("ED", "^application^pdf^Hex^255044462D"), pdf);
    assert_eq!(attached("ED", "^TEXT^^A^plain"), json!({"contentType": "text/plain", "data": "cGxhaW4="}));
    let pointer = json!({"contentType": "image/jpeg", "url": "https://pacs.example/1"});
    assert_eq!(attached("RP", "https://pacs.example/1^PACS^IM^JPEG"), pointer);
    assert!(refusal(&report(&[&row("RP", "^PACS")])).starts_with("OBX[1]-5: points to nothing"));
}

#[test]
fn what_a_component_says_of_its_reliability_holds_for_the_whole() {
    let found = bundle(&[
        "OBX|1||150020^MDC_PRESS_BLD_NONINV^MDC|1.1.1.1|||||||R",
        "OBX|2|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.1.1|117|266016^MDC_DIM_MMHG^MDC||QUES|||R",
    ]);
    assert_eq!(observations(&found)[0]["meta"]["security"][0]["code"], "UNCERTREL");
}

#[test]
fn a_device_says_its_model_maker_versions_and_udi() {
    let found = bundle(&[
        MDS,
        "OBX|2|ST|67880^MDC_ATTR_ID_MODEL^MDC|1.0.0.0.1|Vendor^M 100||||||F",
        "OBX|3|ST|531972^MDC_ID_PROD_SPEC_SERIAL^MDC|1.0.0.0.2|S-77||||||F",
        "OBX|4|ST|531976^MDC_ID_PROD_SPEC_FW^MDC|1.0.0.0.3|4.2||||||F",
        "OBX|5|ST|531973^MDC_ID_PROD_SPEC_PART^MDC|1.0.0.0.4|P-1||||||F",
        "OBX|6|CWE|68220^MDC_TIME_SYNC_PROTOCOL^MDC|1.0.0.0.5|532234^MDC_TIME_SYNC_NONE^MDC||||||F",
        SYS,
    ]);
    let device = &found["entry"][0]["resource"];
    assert_eq!(
        (&device["manufacturer"], &device["modelNumber"], &device["serialNumber"], &device["partNumber"]),
        (&json!("Vendor"), &json!("M 100"), &json!("S-77"), &json!("P-1"))
    );
    assert_eq!(device["version"][0]["value"], "4.2");
    assert_eq!(device["property"][0]["valueCode"][0]["coding"][0]["code"], "532234");
    let labelled = bundle(&[
        &MDS.replace("^^ACDE480000001001^EUI-64", "^^ACDE480000001001^EUI-64~(01)00844588003288(21)1234"),
        "PRT|1|UC||EQUIP^Equipment^HL70912|||||||||||||20250301|20300301|LOT9",
        SYS,
    ]);
    let device = &labelled["entry"][0]["resource"];
    let carrier = json!({"deviceIdentifier": "00844588003288", "issuer": systems::UDI_GS1, "carrierHRF": "(01)00844588003288(21)1234"});
    assert_eq!((&device["udiCarrier"][0], &device["serialNumber"]), (&carrier, &json!("1234")));
    assert_eq!(
        (&device["manufactureDate"], &device["expirationDate"], &device["lotNumber"]),
        (&json!("2025-03-01"), &json!("2030-03-01"), &json!("LOT9"))
    );
    let identifiers = |found: &Value| observations(found)[0]["identifier"].clone();
    assert!(!identifiers(&labelled).to_string().contains("00844588003288"), "a UDI is no identity of a reading");
}

#[test]
fn a_message_says_who_sent_it_and_how_confidential_it_is() {
    let text = report(&[MDS, SYS]).replace("||ORU^R01", "|R|ORU^R01");
    let found = bundle_with(&settings(), &text);
    let provenance = found["entry"].as_array().unwrap().last().unwrap()["resource"].clone();
    assert_eq!(provenance["activity"]["text"], "ORU^R01^ORU_R01");
    assert_eq!(provenance["agent"][1]["type"]["coding"][0]["code"], "author");
    assert_eq!(provenance["agent"][1]["who"]["identifier"]["value"], "WARD");
    assert_eq!(observations(&found)[0]["meta"]["security"][0]["code"], "R");
}
