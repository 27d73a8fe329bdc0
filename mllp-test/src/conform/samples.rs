//! One message of each transaction that breaks no rule, to be sent to a listener.

use super::Transaction;

const TIME: &str = "20260105101112.250+0000";
const GATEWAY: &str = "PUMP_GATEWAY^0A0027FFFE000030^EUI-64";
const PUMP: &str = "0A0027FFFE100001^^0A0027FFFE100001^EUI-64";
const PATIENT: &str = "PID|||CONFORM1^^^GENHOSP^MR||Lindqvist^Ada^^^^^L\rPV1||I|4 West^204^1^GENHOSP\r";
const ML_PER_HOUR: &str = "265266^MDC_DIM_MILLI_L_PER_HR^MDC^mL/h^mL/h^UCUM";
const ML: &str = "263762^MDC_DIM_MILLI_L^MDC^mL^mL^UCUM";

/// The transactions that there is an example of.
pub const EXAMPLES: [Transaction; 6] = [
    Transaction::Pcd01,
    Transaction::Pcd03,
    Transaction::Pcd04,
    Transaction::Pcd05,
    Transaction::Pcd10,
    Transaction::Pcd15,
];

/// An example under a control id, asking for acknowledgements as MSH-15 and MSH-16 say.
pub fn example(of: Transaction, control_id: &str, msh_15: &str, msh_16: &str) -> String {
    let kind = of.message_type().unwrap_or("ACK^^ACK");
    let profile = of.oid().map(|oid| format!("IHE PCD^IHE^{oid}^ISO")).unwrap_or_default();
    let header =
        format!("MSH|^~\\&|{GATEWAY}|GENHOSP|||{TIME}||{kind}|{control_id}|P|2.6|||{msh_15}|{msh_16}|||||{profile}\r");
    let order =
        |service: &str| format!("OBR|1||{control_id}^PUMP_GATEWAY^0A0027FFFE000030^EUI-64|{service}|||{TIME}\r");
    match of {
        Transaction::Pcd03 => header + PATIENT.lines().next().unwrap_or("") + "\r" + &infusion_order(),
        Transaction::Pcd04 => header + PATIENT + &order("196616^MDC_EVT_ALARM^MDC") + &numbered(&alert()),
        Transaction::Pcd05 => {
            let told = "OBX|1|ST|68481^MDC_ATTR_EVENT_PHASE^MDC|1.0.0.1|acknowledged||||||F\r";
            let device = format!("OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||{PUMP}\r");
            let msa = format!("MSA|AA|{control_id}\r");
            header + &msa + &order("196616^MDC_EVT_ALARM^MDC") + &device + &told.replacen("|1|", "|2|", 1)
        }
        Transaction::Pcd10 => header + PATIENT + &order("999999^Medication Unknown") + &numbered(&event()),
        Transaction::Pcd15 => header + PATIENT + &order("69135^MDC_OBS_MEM^MDC") + &numbered(&devices()),
        _ => header + PATIENT + &order("70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC") + &numbered(&observations()),
    }
}

/// OBX segments from what comes after OBX-1.
fn numbered(rows: &[String]) -> String {
    (1..).zip(rows).map(|(number, row)| format!("OBX|{number}|{row}\r")).collect()
}

fn devices() -> Vec<String> {
    vec![
        format!("|70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||{PUMP}"),
        format!("DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.1|{TIME}||||||R|||{TIME}"),
    ]
}

fn contained() -> [String; 2] {
    ["70050^MDC_DEV_PUMP_INFUS_LVP_VMD^MDC|1.1.0.0", "70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC|1.1.1.0"]
        .map(|device| format!("|{device}|||||||X"))
}

fn observations() -> Vec<String> {
    let mut rows = devices();
    rows.extend(contained());
    rows.push("CWE|184519^MDC_PUMP_INFUSING_STATUS^MDC|1.1.1.1|^pump-status-infusing||||||R".into());
    rows.push(format!("NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.2|12.5|{ML_PER_HOUR}|||||R"));
    rows
}

fn event() -> Vec<String> {
    let mut rows = devices();
    rows.push("CWE|68487^MDC_ATTR_EVT_COND^MDC|1.0.0.2|197288^MDC_EVT_PUMP_DELIV_START^MDC||||||R".into());
    rows.push("ST|68488^MDC_ATTR_EVT_SOURCE^MDC|1.0.0.3|1.1.2.0||||||R".into());
    rows.extend(contained());
    for row in [
        "CWE|184519^MDC_PUMP_INFUSING_STATUS^MDC|1.1.1.1|^pump-status-infusing||||||R",
        "NM|158014^MDC_FLOW_FLUID_PUMP_CURRENT^MDC|1.1.1.2|12.5|UNIT|||||R",
        "CWE|158016^MDC_DEV_PUMP_ACTIVE_SOURCES^MDC|1.1.1.3|^pump-source-info-primary||||||R",
        "|70071^MDC_DEV_PUMP_INFUSATE_SOURCE_PRIMARY^MDC|1.1.2.0|||||||X",
        "CWE|158005^MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS^MDC|1.1.2.1|^pump-delivery-status-delivering||||||R",
        "CWE|158008^MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE^MDC|1.1.2.2|^pump-program-delivery-mode-continuous||||||R",
        "ST|158012^MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL^MDC|1.1.2.3|Primary||||||R",
    ] {
        rows.push(row.replace("UNIT", ML_PER_HOUR));
    }
    rows
}

fn alert() -> Vec<String> {
    let mut rows = devices();
    rows.truncate(1);
    rows.extend(contained());
    let facets = [
        ("CWE|196616^MDC_EVT_ALARM^MDC", "196940^MDC_EVT_FLUID_LINE_OCCL^MDC"),
        ("CWE|68480^MDC_ATTR_ALERT_SOURCE^MDC", "70067^MDC_DEV_PUMP_DELIVERY_INFO^MDC"),
        ("ST|68481^MDC_ATTR_EVENT_PHASE^MDC", "start"),
        ("ST|68482^MDC_ATTR_ALARM_STATE^MDC", "active"),
        ("ST|68483^MDC_ATTR_ALARM_INACTIVATION_STATE^MDC", "enabled"),
        ("ST|68484^MDC_ATTR_ALARM_PRIORITY^MDC", "PH"),
        ("ST|68485^MDC_ATTR_ALERT_TYPE^MDC", "ST"),
    ];
    for (facet, (what, value)) in (1..).zip(facets) {
        let happened = if facet == 1 { format!("|||{TIME}") } else { String::new() };
        rows.push(format!("{what}|1.1.1.1.{facet}|{value}||||||F{happened}"));
    }
    rows
}

fn infusion_order() -> String {
    format!(
        "ORC|RE|12345|||||||{TIME}\r\
         RXG|1|||1234^Dopamine^L|250||{ML}||||||||12.5|{ML_PER_HOUR}\r\
         RXR|IV^Intravenous^HL70162||IVP^IV Pump^HL70164|IV^IV infusion^HL70165\r\
         OBX|1||69986^MDC_DEV_PUMP_INFUS_VMD^MDC||||||||X|||||||{PUMP}\r"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::conform::check;

    #[test]
    fn every_example_breaks_no_rule() {
        for of in EXAMPLES {
            let verdict = check(example(of, "C-1", "AL", "NE").as_bytes()).unwrap();
            assert_eq!((verdict.transaction, verdict.findings), (of, vec![]), "{of:?}");
        }
    }
}
