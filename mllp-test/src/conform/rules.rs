//! The assertions, one row each: which transactions they are for, how grave a breach is unless the check finds it a lesser
//! one, and where the framework says so. PCD-09 has a profile of its own, without containment tree: its rules are not here.

use super::transaction::Transaction::{self, Ack, Pcd01, Pcd03, Pcd03Answer, Pcd04, Pcd05, Pcd10, Pcd15};
use serde::Serialize;

/// How grave a breach is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The message can be understood.
    Warning,
    /// A receiver may refuse or misread it.
    Error,
}
use Severity::{Error, Warning};

/// One assertion.
#[derive(Debug)]
pub struct Rule {
    /// `A01` … `D02`.
    pub id: &'static str,
    /// Of which transactions it speaks.
    pub of: &'static [Transaction],
    /// Of a breach.
    pub severity: Severity,
    /// Section of the IHE DEV Technical Framework, volume 2, or a change proposal.
    pub section: &'static str,
    /// What must hold.
    pub what: &'static str,
}

/// Every transaction, and what answers it.
const ANY: &[Transaction] = &[Pcd01, Pcd03, Pcd03Answer, Pcd04, Pcd05, Pcd10, Pcd15, Ack];
/// Every transaction but the ACK.
const ALL: &[Transaction] = &[Pcd01, Pcd03, Pcd03Answer, Pcd04, Pcd05, Pcd10, Pcd15];
/// Those with OBR or OBX.
const OBSERVING: &[Transaction] = &[Pcd01, Pcd03, Pcd04, Pcd05, Pcd10, Pcd15];
/// Those that report observations: an infusion order has no containment tree.
const REPORTS: &[Transaction] = &[Pcd01, Pcd04, Pcd05, Pcd10, Pcd15];
/// ORA^R41 is the application acknowledgement of an alert, RRG^O16 that of an order.
const ANSWERS: &[Transaction] = &[Ack, Pcd03Answer, Pcd05];
const DEC: &[Transaction] = &[Pcd01];
const ACM: &[Transaction] = &[Pcd04];
const IPEC: &[Transaction] = &[Pcd10];

const fn rule(
    id: &'static str,
    of: &'static [Transaction],
    severity: Severity,
    section: &'static str,
    what: &'static str,
) -> Rule {
    Rule { id, of, severity, section, what }
}

/// All of them, in order.
pub const RULES: &[Rule] = &[
    rule("A01", ANY, Warning, "B.1", "MSH-1 is | and MSH-2 is ^~\\&"),
    rule("A02", ANY, Error, "B.1, C.5, C.6", "MSH-3 names its sender, in production by EUI-64"),
    rule("A03", ANY, Error, "B.1, C.4, B.8.7", "every time is of a day that exists and has its zone"),
    rule("A04", ANY, Error, "B.1, 3.10.4.1.1", "MSH-9 has all three components of its transaction"),
    rule("A05", ANY, Error, "B.1", "MSH-10 is valued, and unique for its sender"),
    rule("A06", ANY, Warning, "B.1", "MSH-11 is P, D or T and MSH-12 is 2.6"),
    rule("A07", &[Pcd01, Pcd04, Pcd05, Pcd10], Error, "B.1", "MSH-15 is AL and MSH-16 is NE"),
    rule("A08", ALL, Error, "B.1, M.1.1", "MSH-21 has the transaction's OID, of type ISO"),
    rule("A09", ANY, Error, "B.1", "MSH-18 says in which one charset the bytes are"),
    rule("A10", ANY, Warning, "B.1", "MSH-8, -14, -20 and -22 to -25 are empty"),
    rule("A11", &[Pcd01, Pcd10], Error, "3.1.4.1.1", "the segments are those of the structure, in its order"),
    rule("A12", DEC, Error, "B.4", "NTE follows only OBR or OBX"),
    rule("A13", ANY, Error, "B.5", "PID-3 identifies the patient"),
    rule("A14", ANY, Warning, "B.5", "PID-5 is a legal name, or says that it is unknown"),
    rule("A15", ANY, Warning, "B.6, C.7", "PV1-2 is a patient class and PV1-3 a place"),
    rule("A16", OBSERVING, Error, "B.7", "OBR-1 counts, OBR-3 identifies, OBR-2 does where it is there"),
    rule("A17", OBSERVING, Error, "B.7", "OBR-4 has code, text and coding system"),
    rule("A18", OBSERVING, Warning, "B.7, B.8.7", "OBR-8 is after OBR-7, and OBX-14 between them"),
    rule("A19", OBSERVING, Error, "B.8", "OBX-1 counts through the whole message"),
    rule("A20", OBSERVING, Error, "B.8, C", "OBX-2 is a type of Table C-1"),
    rule("A21", OBSERVING, Error, "A.1, B.8", "OBX-3 has a known code, its identifier and its system"),
    rule("A22", REPORTS, Error, "B.8.1-4", "OBX-4 is a containment path, unique and in order"),
    rule("A23", REPORTS, Error, "B.8.3", "a metric comes after the devices that contain it"),
    rule("A24", REPORTS, Error, "B.8", "a device has no value, and a metric has one or says why not"),
    rule("A25", OBSERVING, Error, "B.8", "OBX-5 is of the form of its type"),
    rule("A26", OBSERVING, Error, "B.8", "a number has a unit, and one only"),
    rule("A27", OBSERVING, Warning, "B.8.5", "OBX-8 is of known codes and fits OBX-11"),
    rule("A28", OBSERVING, Error, "B.8.5", "OBX-11 is a status of the table"),
    rule("A29", DEC, Error, "B.8, B.8.7", "the MDS is identified and discloses its time"),
    rule("A30", DEC, Warning, "B.8.6", "OBX-17 is a known method, and a setting says that it is one"),
    rule("A31", DEC, Warning, "B.8", "OBX-9, -12 and -13 are empty"),
    rule("B01", ACM, Error, "3.4.4.1.2, B.7.1", "the message is about one alert"),
    rule("B02", ACM, Error, "B.8.5", "all seven facets of the alert are there"),
    rule("B03", ACM, Error, "B.8.5", "phase, state, inactivation, priority and type are known and fit each other"),
    rule("B04", ACM, Warning, "B.8.5", "OBX-11 of an alert's facets is F"),
    rule(
        "B05",
        ACM,
        Warning,
        "CP-151",
        "OBR-29.2 refers to the first report of the alert, and only later ones have it",
    ),
    rule("B06", ACM, Warning, "B.7.1", "OBR-7 is when the message was made, OBX-14 of the event when it happened"),
    rule("B07", ACM, Warning, "B.8.5", "facets ascend, and a numeric alarm tells its value and limits"),
    rule("B08", ACM, Warning, "B.7.1.1", "PRT stands between OBR and OBX and names one recipient"),
    rule("B09", &[Pcd05], Warning, "CP-150", "MSA refers to the alert's message"),
    rule("C01", IPEC, Error, "M.1.1", "the message tells one event"),
    rule("C02", IPEC, Error, "M.1.2", "the event is known and its source is in the message"),
    rule("C03", IPEC, Error, "M.1.2", "start, stop and completion tell how the pump is"),
    rule("C04", IPEC, Error, "M.1.2", "stop and completion tell the volume delivered"),
    rule("C05", IPEC, Warning, "M.1.2", "a pump is infusing when, and only when, it flows"),
    rule("D01", ANSWERS, Error, "B.2, B.3", "an ACK answers what was asked, and says what was wrong"),
    rule("D02", &[Pcd03], Error, "3.3.4.4", "an infusion order has its order, drug, route and pump"),
];

/// The row of a rule.
pub fn row(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}
