//! Which transaction a message is of: by the OID in MSH-21.3, whatever stands beside it (TF-2 B.1), and where there is
//! none that is known, by MSH-9 and OBR-4.

use super::message::{Message, Segment};
use serde::Serialize;

/// The transactions whose rules are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Transaction {
    /// Device to Enterprise Communication.
    #[serde(rename = "PCD-01")]
    Pcd01,
    /// Point-of-care Infusion Verification, the order.
    #[serde(rename = "PCD-03")]
    Pcd03,
    /// The pump's application answer to an order.
    #[serde(rename = "PCD-03 RRG")]
    Pcd03Answer,
    /// Alert Communication Management, reporter to manager.
    #[serde(rename = "PCD-04")]
    Pcd04,
    /// The manager's report of what became of an alert.
    #[serde(rename = "PCD-05")]
    Pcd05,
    /// Implantable Device Cardiac Observation.
    #[serde(rename = "PCD-09")]
    Pcd09,
    /// Infusion Pump Event Communication.
    #[serde(rename = "PCD-10")]
    Pcd10,
    /// Medical Equipment Management.
    #[serde(rename = "PCD-15")]
    Pcd15,
    /// An acknowledgement.
    #[serde(rename = "ACK")]
    Ack,
    /// Of no IHE PCD transaction.
    #[serde(rename = "other")]
    Other,
}
use Transaction::{Ack, Other, Pcd01, Pcd03, Pcd03Answer, Pcd04, Pcd05, Pcd09, Pcd10, Pcd15};

/// IHE PCD's arc, under which all its profiles are.
const ARC: &str = "1.3.6.1.4.1.19376.1.6.";

/// Under the arc: what the framework gives, then what is met of other forms.
const OIDS: &[(&str, Transaction)] = &[
    ("1.1.1", Pcd01),
    ("1.3.1", Pcd03),
    ("1.3.2", Pcd03Answer),
    ("1.4.1", Pcd04),
    ("1.5.1", Pcd05),
    ("1.9.1", Pcd09),
    ("4.10", Pcd10),
    ("1.15.1", Pcd15),
    ("4.1", Pcd01),
    ("4.4.1", Pcd04),
    ("4.4", Pcd04),
    ("1.10.1", Pcd10),
    ("4.15", Pcd15),
];

impl Transaction {
    /// Of a message. An answer is no report, whatever profile it repeats.
    pub fn of(message: &Message) -> Transaction {
        match message.header_part(9, 1) {
            "ACK" => Ack,
            "RRG" => Pcd03Answer,
            _ => by_profile(message).or_else(|| by_type(message)).unwrap_or(Other),
        }
    }

    /// MSH-9 as the framework has it.
    pub fn message_type(self) -> Option<&'static str> {
        Some(match self {
            Pcd01 | Pcd09 | Pcd15 => "ORU^R01^ORU_R01",
            Pcd03 => "RGV^O15^RGV_O15",
            Pcd03Answer => "RRG^O16^RRG_O16",
            Pcd04 => "ORU^R40^ORU_R40",
            Pcd05 => "ORA^R41^ORA_R41",
            Pcd10 => "ORU^R42^ORU_R01",
            Ack | Other => return None,
        })
    }

    /// MSH-21.3 as the framework has it.
    pub fn oid(self) -> Option<String> {
        let (suffix, _) = OIDS.iter().find(|(_, transaction)| *transaction == self)?;
        Some(format!("{ARC}{suffix}"))
    }
}

fn by_profile(message: &Message) -> Option<Transaction> {
    let msh = message.first("MSH")?;
    let known = |profile: &str| {
        let suffix = msh.component(profile, 3).trim().strip_prefix(ARC)?;
        OIDS.iter().find(|(known, _)| *known == suffix).map(|(_, transaction)| *transaction)
    };
    msh.repetitions(21).find_map(known)
}

fn by_type(message: &Message) -> Option<Transaction> {
    Some(match (message.header_part(9, 1), message.header_part(9, 2)) {
        ("RGV", _) => Pcd03,
        ("ORU", "R40") => Pcd04,
        ("ORA" | "ORU", "R41") => Pcd05,
        ("ORU", "R42") => Pcd10,
        ("ORU", "R01" | "") => return by_codes(message),
        _ => return None,
    })
}

/// By the service of an OBR, and else by what the first OBX, or an OBR, is named.
fn by_codes(message: &Message) -> Option<Transaction> {
    let service = |obr: &Segment| {
        let is = |code, refid| obr.is_term(4, code, refid);
        is("196616", "MDC_EVT_ALARM").then_some(Pcd04).or_else(|| is("69135", "MDC_OBS_MEM").then_some(Pcd15))
    };
    let named = |segment: &Segment, field| match segment.part(field, 2) {
        refid if refid.starts_with("MDC_IDC_") => Some(Pcd09),
        refid if refid.starts_with("MDC_") || refid.starts_with("MDCX_") => Some(Pcd01),
        _ => (segment.part(field, 3) == "MDC").then_some(Pcd01),
    };
    let first = || message.first("OBX").and_then(|obx| named(obx, 3));
    message.all("OBR").find_map(service).or_else(first).or_else(|| message.all("OBR").find_map(|obr| named(obr, 4)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn of(kind: &str, profile: &str, rest: &str) -> Transaction {
        let text = format!("MSH|^~\\&|||||||{kind}|1|P|2.6|||||||||{profile}\r{rest}");
        Transaction::of(&Message::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_profile_decides_and_else_the_message_type() {
        let arc = "IHE^PCD^1.3.6.1.4.1.19376.1.6.";
        assert_eq!(of("ORU^R01^ORU_R01", &format!("X~{arc}4.4.1^ISO"), ""), Pcd04, "an alias in the second repetition");
        assert_eq!(of("ORU^R42^ORU_R01", "A^B^ 1.3.6.1.4.1.19376.1.6.4.10^ISO", ""), Pcd10, "blanks are no difference");
        assert_eq!(of("ORU^R40^ORU_R40", "", ""), Pcd04);
        assert_eq!(of("ORU^R01^ORU_R01", "", "OBR|1||2|69135^MDC_OBS_MEM^MDC\r"), Pcd15);
        assert_eq!(of("ORU^R01", "", "OBX|1|NM|1^A^MDC\r"), Pcd01);
        assert_eq!(of("ORU^R01", "", "OBX|1|NM|1^A^LN\r"), Other);
        assert_eq!(of("ACK^R01^ACK", "", ""), Ack);
        assert_eq!(Pcd10.oid().unwrap(), "1.3.6.1.4.1.19376.1.6.4.10");
    }
}
