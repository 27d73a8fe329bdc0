//! Each rule broken alone, and not broken; real messages; no value ever told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Messages that break no rule.
const REPORT: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||20260301120000+0100||ORU^R01^ORU_R01|C1|P|2.6|||AL|NE|||||DEC^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO\r\
    PID|||4711^^^HOSP^MR||Doe^Jane^^^^^L||19610301\r\
    PV1||I|4W^12^1\r\
    OBR|1|P1^GATEWAY|F1^GATEWAY|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260301115900+0100|20260301120000+0100\r\
    OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X|||||||ACDE480000000002^^ACDE480000000002^EUI-64\r\
    OBX|2|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|20260301115930+0100||||||R|||20260301115930+0100\r\
    OBX|3||69798^MDC_DEV_ECG_VMD^MDC|1.1.0.0|||||||X\r\
    OBX|4||69799^MDC_DEV_ECG_CHAN^MDC|1.1.1.0|||||||X\r\
    OBX|5|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM|||||R||||||AMEAS^auto^MDC\r";
const ALERT: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||20260301120000+0100||ORU^R40^ORU_R40|C1|P|2.6|||AL|NE|||||ACM^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO\r\
    PID|||4711^^^HOSP^MR||Doe^Jane^^^^^L\r\
    PV1||I|4W^12^1\r\
    OBR|1||A1^GATEWAY|196616^MDC_EVT_ALARM^MDC|||20260301120000+0100\r\
    PRT|1|AD||AAP^Alert Acknowledging Provider^HL70912|^Nurse\r\
    OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X\r\
    OBX|2|ST|196670^MDC_EVT_LO^MDC|1.0.0.7.1|Low|||L|||F|||20260301115959+0100\r\
    OBX|3|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.0.0.7.2|88|262688^MDC_DIM_PERCENT^MDC|90-96||||F\r\
    OBX|4|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.0.0.7.3|start||||||F\r\
    OBX|5|ST|68482^MDC_ATTR_ALARM_STATE^MDC|1.0.0.7.4|active||||||F\r\
    OBX|6|ST|68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC|1.0.0.7.5|enabled||||||F\r\
    OBX|7|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.0.0.7.6|PM||||||F\r\
    OBX|8|ST|68485^MDC_ATTR_ALERT_TYPE^MDC|1.0.0.7.7|SP||||||F\r";
const EVENT: &str = "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64|WARD|||20260301120000+0100||ORU^R42^ORU_R01|C1|P|2.6|||AL|NE|||||IPEC^IHE PCD^1.3.6.1.4.1.19376.1.6.4.10^ISO\r\
    PID|||4711^^^HOSP^MR||^^^^^^U\r\
    PV1||I|4W^12^1\r\
    OBR|1||F1^GATEWAY|999999^Medication Unknown^L|||20260301115900+0100\r\
    OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||P1^^ACDE480000000003^EUI-64\r\
    OBX|2|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.0.0.2|197288^MDC_EVT_PUMP_DELIV_START^MDC||||||R\r\
    OBX|3|ST|68488^MDC_ATTR_EVT_SOURCE^MDC|1.0.0.3|1.1.2.0||||||R\r\
    OBX|4||70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0|||||||X\r\
    OBX|5||70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0|||||||X\r\
    OBX|6|CWE|184519^MDC_PUMP_INFUSING_STATUS^MDC|1.1.1.1|^pump-status-infusing||||||R\r\
    OBX|7|NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.2|15.4|265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM|||||R\r\
    OBX|8|CWE|158016^MDC_DEV_PUMP_ACTIVE_SOURCES^MDC|1.1.1.3|^pump-source-info-primary||||||R\r\
    OBX|9||70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC|1.1.2.0|||||||X\r\
    OBX|10|CWE|158005^MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS^MDC|1.1.2.1|^pump-delivery-status-delivering||||||R\r\
    OBX|11|CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.2|^pump-program-delivery-mode-continuous||||||R\r\
    OBX|12|ST|158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC|1.1.2.3|Primary||||||R\r\
    OBX|13|NM|157993^MDC_VOL_FLUID_DELIV_TOTAL^MDC|1.1.2.7|0.0|263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM|||||R\r";
const ALERT_STATUS: &str = "MSH|^~\\&|MANAGER^ACDE480000000009^EUI-64|WARD|||20260301120001+0100||ORA^R41^ORA_R41|S1|P|2.6|||AL|NE|||||ARS^IHE PCD^1.3.6.1.4.1.19376.1.6.1.5.1^ISO\r\
    MSA|AA|C1\r";
const ORDER: &str = "MSH|^~\\&|PORTAL^ACDE480000000008^EUI-64|WARD|||20260301120001+0100||RGV^O15^RGV_O15|O1|P|2.6|||AL|AL|||||PIV^IHE PCD^1.3.6.1.4.1.19376.1.6.1.3.1^ISO\r\
    PID|||4711^^^HOSP^MR||Doe^Jane^^^^^L\r\
    ORC|RE|12345^PORTAL|||||||20260301115900+0100||||||||||N0001\r\
    RXG|1|||1234^Dopamine|250||263762^MDC_DIM_MILLI_L^MDC||||||||10|265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r\
    RXR|IV|||IV\r\
    OBX|1||69986^MDC_DEV_PUMP_INFUS_VMD^MDC||||||||X|||||||^^ACDE480000000003^EUI-64\r";
const ANSWER: &str = "MSH|^~\\&|ENGINE^ACDE480000000007^EUI-64|WARD|||20260301120001+0100||ACK^R01^ACK|K1|P|2.6\r\
    MSA|CE|C1\r\
    ERR||OBX^1^5|102^Data type error^HL70357|E\r";

const ALL: [&str; 6] = [REPORT, ALERT, EVENT, ALERT_STATUS, ORDER, ANSWER];

fn findings(text: &str) -> Vec<Finding> {
    check(&Message::parse(text.to_owned()).unwrap(), &Nomenclature::built_in())
}

fn ids(findings: &[Finding]) -> Vec<&'static str> {
    let ids: BTreeSet<&str> = findings.iter().map(|finding| finding.rule.id).collect();
    ids.into_iter().collect()
}

/// Rules that a change of a message breaks: the change, all rules broken by it, and where the first named is met.
struct Case(&'static str, &'static str, &'static str, &'static [&'static str], &'static str);

const CASES: &[Case] = &[
    Case(REPORT, "20260301115900+0100|", "letters|", &["H01", "A03"], "OBR^1^7"),
    Case(REPORT, "|20260301115930+0100\r", "|20261301\r", &["H01", "A03"], "OBX^2^14"),
    Case(ORDER, "RGV^O15^RGV_O15", "ORU^R01^ORU_R01", &["H02", "A04"], "OBR^1"),
    Case(REPORT, "PID|||4711^^^HOSP^MR||Doe^Jane^^^^^L||19610301\r", "", &["H03", "A11"], "PID^1"),
    Case(ALERT, "|4711^^^HOSP^MR|", "||", &["H04", "A13"], "PID^1^3"),
    Case(ALERT, "PV1||I", "PID|||4712^^^HOSP^MR||Roe^Jo^^^^^L\rPV1||I", &["H05"], "PID^2^3"),
    Case(REPORT, "|NM|", "||", &["H06", "A20"], "OBX^5^2"),
    Case(REPORT, "|NM|", "|QQ|", &["H06", "A20"], "OBX^5^2"),
    Case(REPORT, "|80|", "|1e9|", &["H07", "A25"], "OBX^5^5"),
    Case(REPORT, "|264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM|", "||", &["H08", "A26"], "OBX^5^6"),
    Case(REPORT, "R||||||AMEAS", "Q||||||AMEAS", &["H09", "A28"], "OBX^5^11"),
    Case(REPORT, "R||||||AMEAS", "||||||AMEAS", &["H09", "A28"], "OBX^5^11"),
    Case(REPORT, "|^~\\&|", "|^~\\&#|", &["A01"], "MSH^1^2"),
    Case(REPORT, "GATEWAY^ACDE480000000001^EUI-64", "", &["A02"], "MSH^1^3"),
    Case(REPORT, "GATEWAY^ACDE480000000001^EUI-64", "GATEWAY^ACDE480000000001", &["A02"], "MSH^1^3"),
    Case(REPORT, "GATEWAY^ACDE480000000001^EUI-64", "GATEWAY^ACDE48^EUI-64", &["A02"], "MSH^1^3"),
    Case(REPORT, "GATEWAY^ACDE480000000001^EUI-64", "GATEWAY^1.2.3^ISO", &["A02"], "MSH^1^3"),
    Case(REPORT, "GATEWAY^ACDE480000000001^EUI-64", "GATEWAY", &["A02"], "MSH^1^3"),
    Case(REPORT, "|20260301120000+0100||ORU", "|20260301120000||ORU", &["A03"], "MSH^1^7"),
    Case(REPORT, "|19610301\r", "|196103011200\r", &["A03"], "PID^1^7"),
    Case(REPORT, "|20260301115930+0100||||||R", "|20260301115930||||||R", &["A03"], "OBX^2^5"),
    Case(REPORT, "ORU^R01^ORU_R01", "ORU^R01", &["A04"], "MSH^1^9"),
    Case(EVENT, "ORU^R42^ORU_R01", "ORU^R42^ORU_R42", &["A04"], "MSH^1^9"),
    Case(ANSWER, "ACK^R01^ACK", "ACK^R01^ORU_R01", &["A04"], "MSH^1^9"),
    Case(REPORT, "|C1|", "||", &["A05"], "MSH^1^10"),
    Case(REPORT, "|P|2.6|", "|P|2.4|", &["A06"], "MSH^1^12"),
    Case(ANSWER, "|P|2.6", "|X|2.6", &["A06"], "MSH^1^11"),
    Case(REPORT, "|AL|NE|", "|NE|NE|", &["A07"], "MSH^1^15"),
    Case(EVENT, "|AL|NE|", "|AL|AL|", &["A07"], "MSH^1^16"),
    Case(REPORT, "19376.1.6.1.1.1^ISO", "19376.1.6.4.1^ISO", &["A08"], "MSH^1^21"),
    Case(REPORT, "19376.1.6.1.1.1^ISO", "19376.1.6.1.1.1", &["A08"], "MSH^1^21"),
    Case(ALERT, "ACM^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO", "ACM^IHE PCD", &["A08"], "MSH^1^21"),
    Case(ALERT, "ACM^IHE PCD^1.3.6.1.4.1.19376.1.6.1.4.1^ISO", "", &["A08"], "MSH^1^21"),
    Case(REPORT, "Doe^Jane", "Doë^Jane", &["A09"], "MSH^1^18"),
    Case(REPORT, "|NE|||||DEC", "|NE||KLINGON|||DEC", &["A09"], "MSH^1^18"),
    Case(REPORT, "|NE|||||DEC", "|NE||ASCII~UNICODE UTF-8|||DEC", &["A09"], "MSH^1^18"),
    Case(REPORT, "+0100||ORU^R01", "+0100|s|ORU^R01", &["A10"], "MSH^1^8"),
    Case(REPORT, "OBR|1", "ORC|RE\rOBR|1", &["A11"], "ORC^1"),
    Case(REPORT, "OBX|1|", "OBR|2||F2^GATEWAY|1^A^L|||20260301115900+0100\rOBX|1|", &["A11"], "OBR^1"),
    Case(REPORT, "PV1||I", "NTE|1||x\rPV1||I", &["A12"], "NTE^1"),
    Case(REPORT, "|4711^^^HOSP^MR|", "|4711^^^^MR|", &["A13"], "PID^1^3"),
    Case(REPORT, "PID|||", "PID|1||", &["A13"], "PID^1^1"),
    Case(
        REPORT,
        "|4711^^^HOSP^MR|",
        "|1^^^H^MR~2^^^H^MR~3^^^H^MR~4^^^H^MR~5^^^H^MR~6^^^H^MR~7^^^H^MR|",
        &["A13"],
        "PID^1^3",
    ),
    Case(REPORT, "Doe^Jane^^^^^L", "Doe^Jane", &["A14"], "PID^1^5"),
    Case(REPORT, "Doe^Jane^^^^^L", "Unknown^^^^^^U", &["A14"], "PID^1^5"),
    Case(REPORT, "PV1||I|", "PV1||X|", &["A15"], "PV1^1^2"),
    Case(REPORT, "|4W^12^1\r", "|4W^12^1^^^N\r", &["A15"], "PV1^1^3"),
    Case(REPORT, "OBR|1|", "OBR|3|", &["A16"], "OBR^1^1"),
    Case(REPORT, "|F1^GATEWAY|", "|F1|", &["A16"], "OBR^1^3"),
    Case(REPORT, "|F1^GATEWAY|", "|^GATEWAY|", &["A16"], "OBR^1^3"),
    Case(REPORT, "|P1^GATEWAY|", "|P1|", &["A16"], "OBR^1^2"),
    Case(EVENT, "|999999^Medication Unknown^L|", "||", &["A17"], "OBR^1^4"),
    Case(EVENT, "|999999^Medication Unknown^L|", "|2222^Dopamine|", &["A17"], "OBR^1^4"),
    Case(REPORT, "|20260301120000+0100\rOBX|1", "|20260301105900+0000\rOBX|1", &["A18"], "OBR^1^8"),
    Case(REPORT, "|||20260301115930+0100\r", "|||20260301120000+0100\r", &["A18"], "OBX^2^14"),
    Case(REPORT, "OBX|3|", "OBX|4|", &["A19"], "OBX^3^1"),
    Case(REPORT, "OBX|5|", "OBX||", &["A19"], "OBX^5^1"),
    Case(REPORT, "OBX|2|DTM", "OBX|2|TS", &["A20"], "OBX^2^2"),
    Case(REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "", &["A21"], "OBX^5^3"),
    Case(REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "147842^MDC_ECG_CARD_BEAT_RATE", &["A21"], "OBX^5^3"),
    Case(REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "rate^MDC_ECG_CARD_BEAT_RATE^MDC", &["A21"], "OBX^5^3"),
    Case(REPORT, "69799^MDC_DEV_ECG_CHAN", "4263^MDC_DEV_ECG_CHAN", &["A21"], "OBX^4^3"),
    Case(REPORT, "69799^MDC_DEV_ECG_CHAN", "69799^MDC_DEV_ECG_VMD", &["A21"], "OBX^4^3"),
    Case(REPORT, "69799^MDC_DEV_ECG_CHAN", "0^MDC_DEV_ECG_CHAN", &["A21"], "OBX^4^3"),
    Case(REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "8388607^VENDOR_OWN^MDC", &["A21"], "OBX^5^3"),
    Case(REPORT, "|1.1.1.1|", "|1.1.1|", &["A22"], "OBX^5^4"),
    Case(REPORT, "|1.1.1.1|", "|LOC|", &["A22"], "OBX^5^4"),
    Case(REPORT, "|1.1.1.1|", "|1.0.0.1|", &["A22"], "OBX^5^4"),
    Case(ALERT, "|1.0.0.7.3|", "|1.0.0.7.9|", &["A22"], "OBX^5^4"),
    Case(REPORT, "|1.1.1.1|", "|1.2.1.1|", &["A23"], "OBX^5^4"),
    Case(
        ALERT,
        "69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0",
        "69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|2.0.0.0",
        &["A23"],
        "OBX^2^4",
    ),
    Case(REPORT, "|1.1.1.1|80|", "|1.1.1.1||", &["A24"], "OBX^5^5"),
    Case(
        REPORT,
        "OBX|4||69799^MDC_DEV_ECG_CHAN^MDC|1.1.1.0|||||||X",
        "OBX|4|ST|69799^MDC_DEV_ECG_CHAN^MDC|1.1.1.0|||||||R",
        &["A24"],
        "OBX^4^11",
    ),
    Case(
        REPORT,
        "OBX|4||69799^MDC_DEV_ECG_CHAN^MDC|1.1.1.0||",
        "OBX|4|ST|69799^MDC_DEV_ECG_CHAN^MDC|1.1.1.0|x|",
        &["A24"],
        "OBX^4^5",
    ),
    Case(
        REPORT,
        "|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|",
        "|ST|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|>300|",
        &["A25"],
        "OBX^5^5",
    ),
    Case(
        REPORT,
        "|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|",
        "|ST|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|1:2.5|",
        &["A25"],
        "OBX^5^5",
    ),
    Case(
        REPORT,
        "|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|80|",
        "|SN|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.1|over^300|",
        &["A25"],
        "OBX^5^5",
    ),
    Case(REPORT, "^{beat}/min^{beat}/min^UCUM", "^mL^mL^UCUM", &["A26", "E02"], "OBX^5^6"),
    Case(REPORT, "^{beat}/min^{beat}/min^UCUM", "^pulses^pulses^UCUM", &["A26"], "OBX^5^6"),
    Case(REPORT, "264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM", "bpm", &["A26"], "OBX^5^6"),
    Case(
        REPORT,
        "264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM",
        "299999^MDC_DIM_NONE_SUCH^MDC",
        &["A26"],
        "OBX^5^6",
    ),
    Case(REPORT, "UCUM|||||R", "UCUM||ODD|||R", &["A27"], "OBX^5^8"),
    Case(REPORT, "UCUM|||||R", "UCUM||INV|||R", &["A27"], "OBX^5^11"),
    Case(REPORT, "UCUM|||||R", "UCUM||DEMO|||F", &["A27"], "OBX^5^11"),
    Case(REPORT, "UCUM|||||R", "UCUM|||||X", &["A27"], "OBX^5^11"),
    Case(REPORT, "UCUM|||||R", "UCUM|||||B", &["A28"], "OBX^5^11"),
    Case(REPORT, "ACDE480000000002^^ACDE480000000002^EUI-64", "", &["A29"], "OBX^1^18"),
    Case(REPORT, "ACDE480000000002^^ACDE480000000002^EUI-64", "7^^maker.example^DNS", &["A29"], "OBX^1^18"),
    Case(REPORT, "67975^MDC_ATTR_TIME_ABS^MDC", "184517^MDC_PUMP_DRUG_LIBRARY_VERSION^MDC", &["A29"], "OBX^1"),
    Case(REPORT, "|AMEAS^", "|GUESS^", &["A30"], "OBX^5^17"),
    Case(REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "0^MDCX_RATE_SETTING^MDC", &["A30"], "OBX^5^17"),
    Case(REPORT, "R||||||AMEAS", "R|20260301||||||AMEAS", &["A31"], "OBX^5^12"),
    Case(REPORT, "UCUM|||||R", "UCUM|||1||R", &["A31"], "OBX^5^9"),
    Case(ALERT, "|196616^MDC_EVT_ALARM^MDC|", "|ALARM^ALARM^L|", &["B01"], "OBR^1^4"),
    Case(
        ALERT,
        "OBX|8|",
        "OBR|2||A2^GATEWAY|196616^MDC_EVT_ALARM^MDC|||20260301120000+0100\rOBX|8|",
        &["B01"],
        "OBR^2",
    ),
    Case(ALERT, "|68484^MDC_ATTR_ALARM_PRIORITY^MDC|", "|68546^MDC_ATTR_ALERT_TEXT^MDC|", &["B02"], "OBR^1"),
    Case(ALERT, "|68482^MDC_ATTR_ALARM_STATE^MDC|", "|68546^MDC_ATTR_ALERT_TEXT^MDC|", &["B02"], "OBR^1"),
    Case(
        ALERT,
        "OBX|8|ST|68485^MDC_ATTR_ALERT_TYPE^MDC|1.0.0.7.7|SP||||||F",
        "OBX|8|ST|68546^MDC_ATTR_ALERT_TEXT^MDC|1.0.0.7.7|x|||SP|||F",
        &["B02"],
        "OBX^8^8",
    ),
    Case(ALERT, "|start|", "|begin|", &["B03", "B05"], "OBX^4^5"),
    Case(ALERT, "|active|", "|inactive|", &["B03"], "OBX^5^5"),
    Case(ALERT, "|enabled|", "|enabled~off|", &["B03"], "OBX^6^5"),
    Case(ALERT, "|enabled|", "|enabled~^off|", &["B03"], "OBX^6^5"),
    Case(ALERT, "|PM|", "|medium|", &["B03"], "OBX^7^5"),
    Case(ALERT, "|SP|", "|SX|", &["B03"], "OBX^8^5"),
    Case(ALERT, "|PM||||||F", "|PM||||||R", &["B04"], "OBX^7^11"),
    Case(ALERT, "|start|", "|continue|", &["B05"], "OBR^1^29"),
    Case(
        ALERT,
        "||20260301120000+0100\rPRT",
        "||20260301120000+0100||||||||||||||||||||||^A1&GATEWAY\rPRT",
        &["B05"],
        "OBR^1^29",
    ),
    Case(ALERT, "||20260301120000+0100\rPRT", "||\rPRT", &["B06"], "OBR^1^7"),
    Case(
        ALERT,
        "||20260301120000+0100\rPRT",
        "||20260301120000+0100|20260301130000+0100\rPRT",
        &["A18", "B06"],
        "OBR^1^8",
    ),
    Case(ALERT, "|||20260301115959+0100\r", "\r", &["B06"], "OBX^2^14"),
    Case(ALERT, "|90-96|", "||", &["B07"], "OBX^3^7"),
    Case(
        ALERT,
        "|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.0.0.7.6|PM||||||F\rOBX|8|ST|68485^MDC_ATTR_ALERT_TYPE^MDC|1.0.0.7.7|SP|",
        "|ST|68485^MDC_ATTR_ALERT_TYPE^MDC|1.0.0.7.6|SP||||||F\rOBX|8|ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC|1.0.0.7.7|PM|",
        &["B07"],
        "OBX^8",
    ),
    Case(ALERT, "|^Nurse\r", "|\r", &["B08"], "PRT^1^5"),
    Case(ALERT, "|^Nurse\r", "|^Nurse~^Doctor\r", &["B08"], "PRT^1^5"),
    Case(ALERT, "OBX|8|", "PRT|2|AD||AAP|^Nurse\rOBX|8|", &["B08"], "PRT^2"),
    Case(ALERT_STATUS, "MSA|AA|C1\r", "", &["B09"], "MSA^1"),
    Case(ALERT_STATUS, "MSA|AA|C1\r", "MSA|AA|C1|||||1\r", &["B09"], "MSA^1^7"),
    Case(EVENT, "68487^MDC_ATTR_EVT_COND^MDC|1.0.0.2", "68546^MDC_ATTR_ALERT_TEXT^MDC|1.0.0.2", &["C01"], "OBX^1"),
    Case(
        EVENT,
        "OBX|3|ST|68488",
        "OBX|3|CWE|68487^MDC_ATTR_EVT_COND^MDC|1.0.0.21|197288^MDC_EVT_PUMP_DELIV_START^MDC||||||R\rOBX|4|ST|68488",
        &["A19", "A22", "C01"],
        "OBX^5^1",
    ),
    Case(EVENT, "197288^MDC_EVT_PUMP_DELIV_START^MDC", "196670^MDC_EVT_LO^MDC", &["C02"], "OBX^2^5"),
    Case(EVENT, "|1.0.0.3|1.1.2.0|", "|1.0.0.3|1.1.9.0|", &["C02"], "OBX^3^5"),
    Case(EVENT, "68488^MDC_ATTR_EVT_SOURCE^MDC", "68546^MDC_ATTR_ALERT_TEXT^MDC", &["C02"], "OBX^1"),
    Case(EVENT, "158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC", "68546^MDC_ATTR_ALERT_TEXT^MDC", &["C03"], "OBX^2"),
    Case(
        EVENT,
        "^pump-delivery-status-delivering",
        "^pump-delivery-status-not-delivering",
        &["C03", "E03"],
        "OBX^10^5",
    ),
    Case(EVENT, "|15.4|", "|0.0|", &["C05"], "OBX^7^5"),
    Case(EVENT, "^pump-status-infusing", "^pump-status-standby", &["C05"], "OBX^6^5"),
    Case(ANSWER, "MSA|CE|C1\r", "", &["D01"], "MSA^1"),
    Case(ANSWER, "MSA|CE|", "MSA|NO|", &["D01"], "MSA^1^1"),
    Case(ANSWER, "MSA|CE|C1", "MSA|CE|", &["D01"], "MSA^1^2"),
    Case(ANSWER, "MSA|CE|C1", "MSA|CE|C1|text", &["D01"], "MSA^1^3"),
    Case(ANSWER, "ERR||OBX^1^5|102^Data type error^HL70357|E\r", "", &["D01"], "ERR^1"),
    Case(ANSWER, "ERR||", "ERR|OBX^1^5|", &["D01"], "ERR^1^1"),
    Case(ANSWER, "|102^Data type error^HL70357|", "||", &["D01"], "ERR^1^3"),
    Case(ANSWER, "HL70357|E\r", "HL70357|\r", &["D01"], "ERR^1^4"),
    Case(ORDER, "|20260301115900+0100||||||||||N0001", "|||||||||||N0001", &["D02"], "ORC^1^9"),
    Case(ORDER, "|1234^Dopamine|", "||", &["D02"], "RXG^1^4"),
    Case(ORDER, "|265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r", "\r", &["D02"], "RXG^1^16"),
    Case(ORDER, "RXR|IV|||IV", "RXR|IV||IVP", &["D02"], "RXR^1^4"),
    Case(ORDER, "|^^ACDE480000000003^EUI-64\r", "|\r", &["D02"], "OBX^1^18"),
    Case(ORDER, "|263762^MDC_DIM_MILLI_L^MDC|", "|263762^MDC_DIM_MILLI_L^MDC^L^L^UCUM|", &["E01"], "RXG^1^7"),
    Case(ORDER, "|265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r", "|ug/kg/min^mg/kg/min^UCUM\r", &["E01"], "RXG^1^16"),
    Case(ORDER, "|265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r", "|mg/kg/min^mcg/kg/min^UCUM\r", &["E01"], "RXG^1^16"),
    Case(
        ORDER,
        "|265619^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r",
        "|265618^MDC_DIM_MICRO_G_PER_KG_PER_MIN^MDC\r",
        &["E01"],
        "RXG^1^16",
    ),
    Case(ORDER, "|250|", "|-250|", &["E01"], "RXG^1^5"),
    Case(ORDER, "|10|", "|10,5|", &["E01"], "RXG^1^15"),
    Case(EVENT, "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM", "265266^L/h^MDC", &["E02"], "OBX^7^6"),
    Case(
        EVENT,
        "197288^MDC_EVT_PUMP_DELIV_START^MDC",
        "197288^MDC_EVT_PUMP_DELIV_START^MDC^197292^MDC_EVT_PUMP_DELIV_COMP^MDC",
        &["E02"],
        "OBX^2^5",
    ),
    Case(
        EVENT,
        "|999999^Medication Unknown^L|||20260301115900+0100\r",
        "|250^Epinephrine^L|||20260301115900+0100\rOBX|1|ST|184514^MDC_DRUG_NAME_LABEL^MDC|1.1.2.9|Norepinephrine 4 mg/250 mL||||||R\r",
        &["A19", "A22", "A23", "E04"],
        "OBX^3^5",
    ),
    Case(ORDER, "|10|", "|-0.10|", &["E01"], "RXG^1^15"),
    Case(EVENT, "197288^MDC_EVT_PUMP_DELIV_START", "197292^MDC_EVT_PUMP_DELIV_START", &["E02"], "OBX^2^5"),
    Case(ORDER, "250||263762^MDC_DIM_MILLI_L^", "250||263762^MDC_DIM_X_L^", &["E01"], "RXG^1^7"),
    Case(
        REPORT,
        "264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM",
        "264864^MDC_DIM_MILLI_L^MDC",
        &["A26", "E02"],
        "OBX^5^6",
    ),
    Case(EVENT, "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^", "mL/h^L/h^", &["E02"], "OBX^7^6"),
    Case(EVENT, "^pump-status-infusing", "^pump-status-not-infusing", &["C05", "E03"], "OBX^2^5"),
    Case(
        EVENT,
        "|999999^Medication Unknown^L|||20260301115900+0100\r",
        "|3616^Dopamine^L|||20260301115900+0100\rOBX|1|ST|184514^MDC_DRUG_NAME_LABEL^MDC|1.1.2.9|Insulin||||||R\r",
        &["A19", "A22", "A23", "E04"],
        "OBX^3^5",
    ),
    Case(
        EVENT,
        "|^pump-source-info-primary|",
        "|^pump-source-info-primary~^pump-source-info-secondary|",
        &["E05"],
        "OBX^2^5",
    ),
    Case(EVENT, "|^pump-source-info-primary|", "|^pump-source-info-secondary|", &["E05"], "OBX^2^5"),
    Case(EVENT, "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM", "mL/h^L/h", &["A26", "E02"], "OBX^7^6"),
    Case(EVENT, "DELIV_START^MDC|", "DELIV_START^MDC^^^^^^Delivery stopped|", &["E02"], "OBX^2^5"),
    Case(EVENT, "DELIV_START^MDC|", "DELIV_START^MDC^S^Infusion complete^L|", &["E02"], "OBX^2^5"),
    Case(EVENT, "|1.1.2.7|0.0|", "|1.1.2.7|-0.5|", &["E06"], "OBX^13^5"),
    Case(EVENT, "|15.4|", "|-15.4|", &["C05", "E06"], "OBX^7^5"),
    Case(REPORT, "|1.1.1.1|80|", "|1.1.1.1|-80|", &["E06"], "OBX^5^5"),
];

#[test]
fn what_keeps_every_rule_has_no_finding() {
    for message in ALL {
        assert_eq!(findings(message), [], "{}", &message[60..120]);
    }
}

#[test]
fn each_fault_breaks_its_rules_and_no_other() {
    let mut wrong = Vec::new();
    for Case(message, from, to, expected, place) in CASES {
        assert!(message.contains(from), "{from}");
        let found = findings(&message.replacen(from, to, 1));
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if ids(&found) != expected || !found.iter().any(|finding| finding.place.to_string() == *place) {
            wrong.push(format!("{from} to {to}, expected {expected:?} at {place}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_completion_while_the_infusion_goes_on_contradicts_itself_unless_it_is_another_sources() {
    let complete = EVENT.replace("197288^MDC_EVT_PUMP_DELIV_START", "197292^MDC_EVT_PUMP_DELIV_COMP");
    let breaks = |text: &str| ids(&findings(text)).contains(&"E03");
    assert!(breaks(&complete));
    let idle = complete.replace("^pump-delivery-status-delivering", "^pump-delivery-status-delivery-complete");
    assert!(breaks(&idle), "its one source still infuses");
    assert!(!breaks(&idle.replace("delivery-mode-continuous", "delivery-mode-kvo")), "it keeps the vein open");
    let beside = "OBX|99||70072^MDC_DEV_PUMP_INFUSATE_SOURCE_SECONDARY^MDC|1.1.3.0|||||||X\r";
    assert!(!breaks(&format!("{idle}{beside}")), "the other source infuses");
    assert!(!breaks(&idle.replace("^pump-status-infusing", "^pump-status-not-infusing")));
    for dose in ["loading-dose", "bolus", "clinician-dose"] {
        let given = idle.replace("delivery-mode-continuous", &format!("delivery-mode-{dose}"));
        assert!(!breaks(&given), "what the {dose} was given over goes on");
    }
    let labelled = complete.replace("|1.1.2.3|Primary|", "|1.1.2.3|Loading dose|");
    assert!(!breaks(&labelled), "the source is the dose");
}

#[test]
fn a_text_or_a_source_that_says_nothing_against_its_code_is_no_contradiction() {
    let start = |text: &str| EVENT.replace("DELIV_START^MDC|", &format!("DELIV_START^MDC^^^^^^{text}|"));
    for text in ["Delivery started", "Run", "Start (was stopped)", "Anlauf", ""] {
        assert_eq!(findings(&start(text)), [], "{text}");
    }
    for active in ["^pump-source-info-auxiliary", "1.1.2.0", "^channel a"] {
        assert_eq!(findings(&EVENT.replace("^pump-source-info-primary", active)), [], "{active}");
    }
    for (from, to) in [("|1.1.2.7|0.0|", "|1.1.2.7|-0.0|"), ("|1.1.2.7|0.0|", "|1.1.2.7|0|")] {
        assert!(!ids(&findings(&EVENT.replace(from, to))).contains(&"E06"), "{to}");
    }
    let deviation =
        REPORT.replace("147842^MDC_ECG_CARD_BEAT_RATE", "131841^MDC_ECG_AMPL_ST_I").replace("|80|", "|-80|");
    assert!(!ids(&findings(&deviation)).contains(&"E06"));
}

#[test]
fn an_explicit_null_is_a_facet_without_a_value_and_contradicts_no_phase() {
    for null in ["\"\"", "\"\"^", "^\"\"", " \"\" "] {
        for phase in ["start", "end"] {
            let sent = ALERT.replace("|start|", &format!("|{phase}|")).replace("|active|", &format!("|{null}|"));
            assert!(!ids(&findings(&sent)).contains(&"B03"), "{phase} {null}");
        }
    }
}

#[test]
fn a_stop_without_a_volume_breaks_c04() {
    let stop = EVENT.replace("197288^MDC_EVT_PUMP_DELIV_START^MDC", "197290^MDC_EVT_PUMP_DELIV_STOP^MDC");
    assert!(!ids(&findings(&stop)).contains(&"C04"));
    let without = stop.replace("157993^MDC_VOL_FLUID_DELIV_TOTAL", "68546^MDC_ATTR_ALERT_TEXT");
    assert!(ids(&findings(&without)).contains(&"C04"));
}

#[test]
fn every_rule_has_a_case_and_an_id_of_its_own() {
    let mut shown: BTreeSet<&str> = CASES.iter().flat_map(|case| case.3).copied().collect();
    shown.extend(["C04", "C06"]);
    let known: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!((shown, known.len()), (known, RULES.len()));
    assert!(RULES.iter().all(|rule| rule.id.len() == 3 && !rule.what.is_empty() && !rule.section.is_empty()));
}

#[test]
fn an_event_sent_late_is_no_fault() {
    let late = EVENT.replace("20260301120000+0100||ORU", "20260308120000+0100||ORU");
    assert_eq!(findings(&late), []);
}

#[test]
fn what_is_odd_and_right_has_no_finding() {
    for (message, from, to) in [
        (REPORT, "|80|", "|0.10|".to_owned()),
        (REPORT, "|80|", format!("|{}|", "9".repeat(400))),
        (
            REPORT,
            "|1.1.1.1|80|264864^MDC_DIM_BEAT_PER_MIN^MDC^{beat}/min^{beat}/min^UCUM|||||R",
            "|1.1.1.1|||| NAV|||X".into(),
        ),
        (REPORT, "^{beat}/min^{beat}/min^UCUM", "^/min^/min^UCUM".into()),
        (REPORT, "^1.3.6.1.4.1.19376.1.6.1.1.1^", "^ 1.3.6.1.4.1.19376.1.6.1.1.1 ^".into()),
        (REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "8867-4^Heart rate^LN".into()),
        (REPORT, "147842^MDC_ECG_CARD_BEAT_RATE^MDC", "0^MDCX_NEW^MDC".into()),
        (REPORT, "+0100||ORU", "-0000||ORU".into()),
        (REPORT, "Doe^Jane^^^^^L", "^^^^^^U".into()),
        (ALERT, "|start|", "|present|".into()),
        (ALERT, "|AL|NE|", "|AL|AL|".into()),
        (EVENT, "^pump-status-infusing", "^pump-status-transitioning".into()),
        (ANSWER, "MSA|CE|C1\rERR||OBX^1^5|102^Data type error^HL70357|E\r", "MSA|CA|C1\r".into()),
    ] {
        assert!(message.contains(from), "{from}");
        assert_eq!(findings(&message.replacen(from, &to, 1)), [], "{from} to {to}");
    }
}

#[test]
fn devices_first_is_an_order_too() {
    let rows: Vec<&str> = REPORT.split_inclusive('\r').collect();
    let reordered: String = [0, 1, 2, 3, 4, 6, 7, 5, 8].map(|n| rows[n]).concat();
    assert_eq!(ids(&findings(&reordered)), ["A19"]);
}

#[test]
fn a_message_that_is_no_pcd_transaction_is_held_to_the_base_standard_alone() {
    let lab = "MSH|^~\\&|LAB|||||20260301120000||ORU^R01|1|P|2.3\rPID|||4711\rOBR|1\r\
               OBX|1|NM|2345-7^Glucose^LN||5.1|mmol/L|||||F\r";
    assert_eq!(findings(lab), []);
    assert_eq!(ids(&findings(&lab.replace("|5.1|", "|five|"))), ["H07"]);
}

#[test]
fn a_merge_of_several_patients_is_one_message() {
    let merge = "PID|1||9^^^HOSP^MR||Doe^Jo\rMRG|8^^^HOSP^MR\rPID|2||7^^^HOSP^MR||Roe^Al\rMRG|6^^^HOSP^MR\r";
    let text = format!("MSH|^~\\&|A|B|C|D|20260301120000+0100||ADT^A40^ADT_A39|C9|P|2.6\rEVN||20260301\r{merge}");
    assert_eq!(ids(&findings(&text)), [""; 0]);
}

#[test]
fn a_fault_met_a_thousand_times_is_one_finding() {
    let head: String = REPORT.split_inclusive('\r').take(8).collect();
    let rows: String = (1..=1000)
        .map(|n| format!("OBX|{}|NM|147842^MDC_ECG_CARD_BEAT_RATE^MDC|1.1.1.{n}|80|bpm|||||R\r", n + 4))
        .collect();
    let found = findings(&format!("{head}{rows}"));
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].times, found[0].place.to_string()), (1000, "OBX^5^6".to_owned()));
}

#[test]
fn only_the_strict_profile_refuses_for_the_framework() {
    let found = findings(&REPORT.replace("OBX|3|", "OBX|4|").replace("|80|", "|x|"));
    let refused = |profile: Profile| {
        found.iter().filter(|finding| profile.refuses(finding)).map(|finding| finding.rule.id).collect::<Vec<_>>()
    };
    assert_eq!(refused(Profile::AsReceived), ["H07"]);
    assert_eq!(refused(Profile::Strict), ["H07", "A19", "A25"]);
}

#[test]
fn a_mark_keeps_rule_weight_place_and_count_in_few_bytes() {
    let found = findings(&REPORT.replace("|80|", "|x|"));
    let mark = found[0].mark();
    let bytes = postcard::to_allocvec(&mark).unwrap();
    assert!(bytes.len() <= 12, "{}", bytes.len());
    let back: Mark = postcard::from_bytes(&bytes).unwrap();
    let shown = back.shown();
    assert_eq!((shown.rule.as_str(), shown.place.as_str(), shown.times), ("H07", "OBX^5^5", 1));
    assert_eq!((shown.severity, shown.section), (Severity::Error, "HL7 v2.6 ch. 2A.47"));
}

proptest! {
    /// Letters that stand in no rule's words.
    #[test]
    fn no_finding_tells_a_value(
        message in prop::sample::select(ALL.to_vec()),
        places in prop::collection::vec((0..200_usize, "qjz[0-9]{1,3}"), 1..40),
    ) {
        let mut fields: Vec<Vec<String>> = message
            .split_terminator('\r')
            .map(|segment| segment.split('|').map(str::to_owned).collect())
            .collect();
        for (at, word) in &places {
            let segment = &mut fields[at % message.matches('\r').count()];
            let field = 2 + at / 7 % segment.len().max(1);
            if let Some(field) = segment.get_mut(field) {
                *field = word.clone();
            }
        }
        let text: String = fields.iter().map(|segment| segment.join("|") + "\r").collect();
        for finding in findings(&text) {
            let shown = format!("{finding} {finding:?} {}", serde_json::to_string(&finding).unwrap());
            prop_assert!(!shown.contains("qjz"), "{shown}");
        }
    }

    /// The short way to a verdict on a time is right where it says yes, and says yes to the usual ones.
    #[test]
    fn a_usual_time_is_a_time(
        digits in "[0-9]{4}[01][0-9][0-3][0-9][0-2][0-9][0-6][0-9][0-6][0-9][+-][01][0-9][0-6][0-9]",
        at in 0..=19_usize,
        other in "[0-9+a.-]",
    ) {
        let mut changed = digits.clone();
        changed.replace_range(at.min(18)..=at.min(18), &other);
        for text in [&digits, &changed] {
            let usual = base::is_usual_time(text.as_bytes());
            prop_assert!(!usual || crate::hl7::Time::parse(text).is_ok(), "{text}");
        }
        prop_assert!(base::is_usual_time(b"20260314101500+0100") && base::is_usual_time(b"20261228235959-1130"));
    }

    /// Whatever is sent is judged, not feared.
    #[test]
    fn any_bytes_that_parse_are_checked(tail in "[A-Z0-9|^~\\\\&.+\r -]{0,300}") {
        let text = format!("MSH|^~\\&|A||||20260301||ORU^R40|1|P|2.6\rOBR|1\rOBX|{tail}");
        if let Ok(message) = Message::parse(text) {
            let findings = check(&message, &Nomenclature::built_in());
            prop_assert!(findings.len() <= 200);
        }
    }
}
