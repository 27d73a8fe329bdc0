//! Each rule by an example that breaks only it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::{
    RULES, Severity, Transaction, check,
    samples::{EXAMPLES, example},
};
use Transaction::{Pcd01, Pcd03, Pcd04, Pcd05, Pcd10};
use std::collections::BTreeSet;

#[test]
fn an_alert_need_not_describe_its_device_and_a_report_must() {
    for (of, weight) in [(Pcd04, Severity::Warning), (Pcd01, Severity::Error)] {
        let whole = example(of, "C-1", "AL", "NE");
        let bare: String = whole.split_inclusive('\r').filter(|line| !line.contains("|||||||X")).collect();
        let findings = check(bare.as_bytes()).unwrap().findings;
        let found: BTreeSet<_> = findings.iter().filter(|one| one.rule == "A23").map(|one| one.severity).collect();
        assert_eq!(found, BTreeSet::from([weight]), "{of:?}");
    }
}

/// A rule, the transaction's example, what is replaced in it and by what, and the rules that then must be broken.
type Change = (&'static str, Transaction, &'static str, &'static str, &'static [&'static str]);

const CHANGES: &[Change] = &[
    ("A01", Pcd01, "|^~\\&|", "|^~\\&#|", &["A01"]),
    ("A02", Pcd01, "PUMP_GATEWAY^0A0027FFFE000030^EUI-64|GENHOSP", "|GENHOSP", &["A02"]),
    ("A02", Pcd01, "PUMP_GATEWAY^0A0027FFFE000030^EUI-64|GENHOSP", "GW^12^EUI-64|GENHOSP", &["A02"]),
    ("A02", Pcd01, "PUMP_GATEWAY^0A0027FFFE000030^EUI-64|GENHOSP", "GW|GENHOSP", &["A02"]),
    ("A03", Pcd01, "|||20260105101112.250+0000\rOBX", "|||20260105101112\rOBX", &["A03"]),
    ("A03", Pcd01, "|||20260105101112.250+0000\rOBX", "|||20260230101112+0000\rOBX", &["A03"]),
    ("A04", Pcd01, "ORU^R01^ORU_R01", "ORU^R01", &["A04"]),
    ("A05", Pcd01, "|C-1|P", "||P", &["A05"]),
    ("A06", Pcd01, "|P|2.6|", "|P|2.4|", &["A06"]),
    ("A06", Pcd01, "|P|2.6|", "|X|2.6|", &["A06"]),
    ("A07", Pcd01, "|AL|NE|", "|NE|AL|", &["A07"]),
    ("A08", Pcd01, "6.1.1.1^ISO", "6.1.1.1^", &["A08"]),
    ("A08", Pcd01, "19376.1.6.1.1.1^ISO", "19376.1.6.4.1^ISO", &["A08"]),
    ("A09", Pcd01, "Lindqvist", "Lindkvíst", &["A09"]),
    ("A10", Pcd01, "+0000||ORU", "+0000|secret|ORU", &["A10"]),
    ("A11", Pcd01, "PID|||CONFORM1^^^GENHOSP^MR||Lindqvist^Ada^^^^^L\r", "", &["A11"]),
    ("A11", Pcd01, "PV1|", "PD1|1\rPV1|", &["A11"]),
    ("A12", Pcd01, "PV1|", "NTE|1||x\rPV1|", &["A12"]),
    ("A13", Pcd01, "CONFORM1^^^GENHOSP^MR", "^^^GENHOSP^MR", &["A13"]),
    ("A13", Pcd01, "CONFORM1^^^GENHOSP^MR", "CONFORM1", &["A13"]),
    ("A13", Pcd01, "PID||", "PID|1|", &["A13"]),
    ("A14", Pcd01, "^^^^^L", "", &["A14"]),
    ("A14", Pcd01, "Lindqvist^Ada^^^^^L", "Unknown^^^^^^U", &["A14"]),
    ("A15", Pcd01, "PV1||I|", "PV1||Z|", &["A15"]),
    ("A15", Pcd01, "^204^1^GENHOSP", "^204^1^GENHOSP^^N", &["A15"]),
    ("A16", Pcd01, "OBR|1|", "OBR|2|", &["A16"]),
    ("A16", Pcd01, "C-1^PUMP_GATEWAY^0A0027FFFE000030^EUI-64", "C-1", &["A16"]),
    ("A17", Pcd01, "70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|||2026", "70049|||2026", &["A17"]),
    ("A18", Pcd01, "250+0000\rOBX", "250+0000|20260105101112+0000\rOBX", &["A18"]),
    ("A19", Pcd01, "OBX|3|", "OBX|7|", &["A19"]),
    ("A20", Pcd01, "|CWE|184519", "||184519", &["A20"]),
    ("A20", Pcd01, "|CWE|184519", "|CE|184519", &["A20"]),
    ("A21", Pcd01, "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "158014^MDC_FLOW_FLUID_PUMP_CURRENT", &["A21"]),
    ("A21", Pcd01, "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "26942^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", &["A21"]),
    ("A21", Pcd01, "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "158014^MDC_RATE_DOSE^MDC", &["A21"]),
    ("A21", Pcd01, "158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", "0^MDC_FLOW_FLUID_PUMP_CURRENT^MDC", &["A21"]),
    ("A22", Pcd01, "|1.1.1.2|", "|1.1.1.1|", &["A22"]),
    ("A22", Pcd01, "|1.1.1.2|", "|1.1|", &["A22"]),
    ("A22", Pcd01, "|1.0.0.1|", "|1.0.0.9|", &[]),
    ("A22", Pcd01, "|1.1.1.1|", "|1.1.1.7|", &["A22"]),
    ("A23", Pcd01, "|1.1.1.2|", "|1.1.2.2|", &["A23"]),
    ("A24", Pcd01, "|1.1.0.0|||||||X", "|1.1.0.0|||||||R", &["A20", "A24"]),
    ("A24", Pcd01, "|^pump-status-infusing|", "||", &["A24"]),
    ("A24", Pcd01, "|^pump-status-infusing||||||R", "|||||||R", &["A24"]),
    ("A24", Pcd01, "|^pump-status-infusing||||||R", "||||NAV|||X", &[]),
    ("A25", Pcd01, "|12.5|", "|1e9|", &["A25"]),
    (
        "A25",
        Pcd01,
        "CWE|184519^MDC_PUMP_INFUSING_STATUS^MDC|1.1.1.1|^pump-status-infusing|",
        "ST|184519^MDC_PUMP_INFUSING_STATUS^MDC|1.1.1.1|>300|",
        &["A25"],
    ),
    ("A26", Pcd01, "|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|", "||", &["A26"]),
    ("A26", Pcd01, "^mL/h^mL/h^UCUM|", "^mL/min^mL/min^UCUM|", &["A26"]),
    ("A27", Pcd01, "infusing||||||R", "infusing|||QQ|||R", &["A27"]),
    ("A27", Pcd01, "infusing||||||R", "infusing|||QUES|||F", &["A27"]),
    ("A28", Pcd01, "infusing||||||R", "infusing||||||Q", &["A28"]),
    ("A29", Pcd01, "|||||||0A0027FFFE100001^^0A0027FFFE100001^EUI-64", "", &["A29"]),
    ("A29", Pcd01, "67975^MDC_ATTR_TIME_ABS", "67976^MDC_ATTR_TIME_BATT_REMAIN", &["A29"]),
    ("A30", Pcd01, "^UCUM|||||R", "^UCUM|||||R||||||GUESS", &["A30"]),
    ("A31", Pcd01, "^UCUM|||||R", "^UCUM|||||R|20260105", &["A31"]),
    ("B01", Pcd04, "196616^MDC_EVT_ALARM^MDC|||2026", "ALARM^ALARM^L|||2026", &["B01"]),
    ("B02", Pcd04, "68482^MDC_ATTR_ALARM_STATE", "67972^MDC_ATTR_SYS_ID", &["B02"]),
    ("B02", Pcd04, "68484^MDC_ATTR_ALARM_PRIORITY", "67972^MDC_ATTR_SYS_ID", &["B02"]),
    ("B03", Pcd04, "|start|", "|begin|", &["B03", "B05"]),
    ("B03", Pcd04, "|active|", "|inactive|", &["B03"]),
    ("B04", Pcd04, "|start||||||F", "|start||||||R", &["B04"]),
    ("B05", Pcd04, "|start|", "|update|", &["B05"]),
    ("B06", Pcd04, "F|||20260105101112.250+0000", "F", &["B06"]),
    (
        "B07",
        Pcd04,
        "CWE|68480^MDC_ATTR_ALERT_SOURCE^MDC|1.1.1.1.2|70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC||",
        "NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1.2|12.5|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|",
        &["B07"],
    ),
    (
        "B07",
        Pcd04,
        "68481^MDC_ATTR_EVENT_PHASE^MDC|1.1.1.1.3|start",
        "68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.1.1.1.3|PH",
        &["B02", "B07"],
    ),
    ("A04", Pcd01, "ORU^R01^ORU_R01", "ORU^R01^ORU_R40", &["A04"]),
    ("A03", Pcd01, "^^^^^L\r", "^^^^^L||1961010101\r", &["A03"]),
    ("A03", Pcd01, "^^^^^L\r", "^^^^^L||19610101\r", &[]),
    ("A27", Pcd01, "infusing||||||R", "infusing||||||X", &["A27"]),
    ("B01", Pcd04, "68482^MDC_ATTR_ALARM_STATE", "68481^MDC_ATTR_EVENT_PHASE", &["B01", "B02", "B03"]),
    ("B02", Pcd04, "|start||||||F", "|start|||PM~SP|||F", &[]),
    ("C05", Pcd10, "|^pump-status-infusing|", "|^pump-status-unheard-of|", &["C05"]),
    ("B08", Pcd04, "PV1|", "PRT|1||||A\rPV1|", &["B08"]),
    ("B08", Pcd04, "OBX|1|", "PRT|1||||A~B\rOBX|1|", &["B08"]),
    ("B09", Pcd05, "MSA|AA|C-1\r", "", &["B09"]),
    ("C01", Pcd10, "68487^MDC_ATTR_EVT_COND", "67972^MDC_ATTR_SYS_ID", &["C01"]),
    ("C02", Pcd10, "|1.1.2.0||||||R", "|9.9.9.0||||||R", &["C02"]),
    ("C03", Pcd10, "158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL", "67972^MDC_ATTR_SYS_ID", &["C03"]),
    ("C03", Pcd10, "status-delivering", "status-not-delivering", &["C03"]),
    ("C04", Pcd10, "197288^MDC_EVT_PUMP_DELIV_START", "197290^MDC_EVT_PUMP_DELIV_STOP", &["C04"]),
    ("C05", Pcd10, "|12.5|", "|0.0|", &["C05"]),
    ("D02", Pcd03, "|IV^IV infusion^HL70165", "|PCA", &["D02"]),
    ("D02", Pcd03, "ORC|RE|12345|||||||20260105101112.250+0000", "ORC|RE|12345", &["D02"]),
];

fn broken(text: &[u8]) -> BTreeSet<&'static str> {
    check(text).unwrap().findings.into_iter().map(|finding| finding.rule).collect()
}

#[test]
fn each_change_breaks_the_rules_that_speak_of_it_and_no_other() {
    for (rule, of, from, to, wanted) in CHANGES {
        let good = example(*of, "C-1", "AL", "NE");
        assert!(good.contains(from), "{rule}: the example has no {from}");
        let bad = good.replacen(from, to, 1);
        assert_eq!(broken(bad.as_bytes()), BTreeSet::from_iter(wanted.iter().copied()), "{rule}: {from} by {to}");
    }
}

#[test]
fn an_acknowledgement_says_what_it_answers_and_what_was_wrong() {
    let ack = |msa: &str| {
        format!("MSH|^~\\&|EHR^0A0027FFFE000031^EUI-64||GW||20260105101112+0000||ACK^R01^ACK|A1|P|2.6\r{msa}")
    };
    for (msa, wanted) in [
        ("MSA|CA|C-1\r", &[][..]),
        ("MSA|CE|C-1\rERR|||102^Data type error^HL70357|E\r", &[]),
        ("MSA|CE|C-1\r", &["D01"]),
        ("MSA|CE|C-1\rERR|||102\r", &["D01"]),
        ("MSA|CE|C-1\rERR|OBX^1||102|E\r", &["D01"]),
        ("MSA|CA|C-1|text\r", &["D01"]),
        ("MSA|CA\r", &["D01"]),
        ("", &["D01"]),
    ] {
        assert_eq!(broken(ack(msa).as_bytes()), BTreeSet::from_iter(wanted.iter().copied()), "{msa}");
    }
}

#[test]
fn every_rule_that_can_be_broken_is_by_some_test() {
    let here: BTreeSet<&str> = CHANGES.iter().map(|change| change.0).chain(["D01"]).collect();
    assert_eq!(RULES.iter().map(|rule| rule.id).collect::<BTreeSet<_>>(), here);
}

#[test]
fn no_finding_has_a_value_of_the_message() {
    for (_, of, from, to, _) in CHANGES {
        let marked = example(*of, "C-1", "AL", "NE").replacen(from, to, 1);
        let marked = marked.replace("Lindqvist", "Canary").replace("|C-1|", "|CONTROL-7|");
        let told = serde_json::to_string(&check(marked.as_bytes())).unwrap();
        assert!(!told.contains("Canary") && !told.contains("CONTROL-7") && !told.contains("12.5"), "{told}");
    }
}

#[test]
fn a_message_of_no_profile_is_not_judged() {
    assert!(check(b"MSH|^~\\&|A||||||ADT^A01|1|P|2.5\rPID|1\r").is_none());
    assert!(check(b"no message").is_none());
    assert!(EXAMPLES.into_iter().all(|of| check(example(of, "C-1", "AL", "NE").as_bytes()).is_some()));
}
