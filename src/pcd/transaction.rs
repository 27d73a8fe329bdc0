//! Which IHE PCD transaction a message is (TF-2 B.1), told first by the profile OID of MSH-21.3, which a table names.
//!
//! Only the OID counts there: half of all gateways print the rest of MSH-21 as they like, and many leave the OID out or
//! write an old one. So MSH-9 decides where no OID is known, and the codes of OBR-4 and OBX-3 tell the ORU^R01 ones
//! apart. An acknowledgement is never taken for a report, whatever profile it repeats.

use std::{collections::HashMap, fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::Nomenclature;
use crate::hl7::{Message, Repetition, Segment};

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// Device observations (DEC).
    Pcd01,
    /// An infusion order for a pump (PIV), RGV^O15.
    Pcd03,
    /// A pump gateway's answer to an infusion order, RRG^O16.
    Pcd03Answer,
    /// One alert (ACM).
    Pcd04,
    /// What became of an alert (ACM).
    Pcd05,
    /// Interrogation of an implanted cardiac device (IDCO).
    Pcd09,
    /// One event of an infusion pump (IPEC).
    Pcd10,
    /// Device management or location (MEM).
    Pcd15,
    /// An accept or application acknowledgement of whatever kind.
    Acknowledgement,
    /// ORU that is none of the above.
    Observation,
    /// ADT.
    Patient,
    /// Any other HL7 v2 message.
    Other,
}

/// Transaction, name and title.
const TRANSACTIONS: [(Transaction, &str, &str); 12] = [
    (Transaction::Pcd01, "PCD-01", "PCD-01 device observation report"),
    (Transaction::Pcd03, "PCD-03", "PCD-03 infusion order"),
    (Transaction::Pcd03Answer, "PCD-03-answer", "PCD-03 answer to an infusion order"),
    (Transaction::Pcd04, "PCD-04", "PCD-04 alert"),
    (Transaction::Pcd05, "PCD-05", "PCD-05 alert status"),
    (Transaction::Pcd09, "PCD-09", "PCD-09 implanted cardiac device report"),
    (Transaction::Pcd10, "PCD-10", "PCD-10 infusion pump event"),
    (Transaction::Pcd15, "PCD-15", "PCD-15 device management report"),
    (Transaction::Acknowledgement, "ACK", "acknowledgment"),
    (Transaction::Observation, "ORU", "observation report"),
    (Transaction::Patient, "ADT", "patient administration message"),
    (Transaction::Other, "other", "HL7 v2 message"),
];

impl Transaction {
    /// Short and lasting: `PCD-01`, `PCD-03-answer`, `ACK`, `ORU`, `ADT`, `other`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// For people: `PCD-01 device observation report`.
    pub fn title(self) -> &'static str {
        self.row().2
    }

    /// Every transaction there is.
    pub fn all() -> impl Iterator<Item = Transaction> {
        TRANSACTIONS.iter().map(|row| row.0)
    }

    fn row(self) -> &'static (Transaction, &'static str, &'static str) {
        TRANSACTIONS.iter().find(|row| row.0 == self).unwrap_or(&TRANSACTIONS[TRANSACTIONS.len() - 1])
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Transaction {
    type Err = ();

    fn from_str(name: &str) -> Result<Transaction, ()> {
        TRANSACTIONS.iter().find(|row| row.1 == name).map(|row| row.0).ok_or(())
    }
}

impl Serialize for Transaction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What told the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecognisedBy {
    /// MSH-21.3 is the OID the framework gives.
    Profile,
    /// MSH-21.3 is an OID that the table of profiles knows as an alias.
    Alias,
    /// MSH-9 alone.
    MessageType,
    /// MSH-9, and the codes of OBR-4 or OBX-3.
    Codes,
}

impl fmt::Display for RecognisedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RecognisedBy::Profile => "the profile OID in MSH-21",
            RecognisedBy::Alias => "an alias of the profile OID in MSH-21",
            RecognisedBy::MessageType => "the message type in MSH-9",
            RecognisedBy::Codes => "MSH-9 and the codes of OBR-4 and OBX-3",
        })
    }
}

/// A transaction and how it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Recognised {
    /// What the message is for.
    pub transaction: Transaction,
    /// What told it.
    pub by: RecognisedBy,
    /// What MSH-9 and the codes alone would say, where MSH-21 says something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contradicted_by: Option<Transaction>,
}

/// Tells the transaction of any message. Reads no more of it than is needed: mostly MSH alone.
pub fn recognise(message: &Message, nomenclature: &Nomenclature) -> Recognised {
    let msh = message.msh();
    let part = |n| msh.field(9).component(n).raw().trim_ascii();
    let (by_type, codes_needed) = by_message_type(part(1), part(2));
    let plain = |transaction, by| Recognised { transaction, by, contradicted_by: None };
    if matches!(by_type, Transaction::Acknowledgement | Transaction::Pcd03Answer) {
        return plain(by_type, RecognisedBy::MessageType);
    }
    let profile = msh.field(21).repetitions().find_map(|profile| nomenclature.profiles.of(profile));
    match profile {
        Some((transaction, by)) => {
            // Codes are not looked at: an ORU^R01 may be of any profile.
            let contradicted = !codes_needed && by_type != transaction;
            Recognised { transaction, by, contradicted_by: contradicted.then_some(by_type) }
        }
        None if codes_needed => by_codes(message),
        None => plain(by_type, RecognisedBy::MessageType),
    }
}

/// By MSH-9, and whether codes must tell more.
fn by_message_type(message: &[u8], event: &[u8]) -> (Transaction, bool) {
    match (message, event) {
        (b"ACK", _) => (Transaction::Acknowledgement, false),
        (b"ORU", b"R40") => (Transaction::Pcd04, false),
        // The framework's own text names the answer to an alert ORU^R41 as well.
        (b"ORA" | b"ORU", b"R41") => (Transaction::Pcd05, false),
        (b"ORU", b"R42") => (Transaction::Pcd10, false),
        (b"RGV", _) => (Transaction::Pcd03, false),
        (b"RRG", _) => (Transaction::Pcd03Answer, false),
        (b"ADT", _) => (Transaction::Patient, false),
        (b"ORU", b"R01" | b"") => (Transaction::Observation, true),
        (b"ORU", _) => (Transaction::Observation, false),
        _ => (Transaction::Other, false),
    }
}

fn by_codes(message: &Message) -> Recognised {
    let of = |id: &'static str, field| {
        let segments = message.segments().filter(move |segment| segment.id() == id);
        segments.map(move |segment: Segment<'_>| segment.field(field).first())
    };
    let request = of("OBR", 4).find_map(|code| match name(code) {
        b"MDC_EVT_ALARM" => Some(Transaction::Pcd04),
        b"MDC_OBS_MEM" => Some(Transaction::Pcd15),
        _ if code.component(1).raw() == b"196616" => Some(Transaction::Pcd04),
        _ if code.component(1).raw() == b"69135" => Some(Transaction::Pcd15),
        _ => None,
    });
    let told = request.or_else(|| {
        of("OBX", 3).next().into_iter().chain(of("OBR", 4)).find_map(|code| match name(code) {
            refid if refid.starts_with(b"MDC_IDC_") => Some(Transaction::Pcd09),
            refid if refid.starts_with(b"MDC_") || refid.starts_with(b"MDCX_") => Some(Transaction::Pcd01),
            _ if code.component(3).raw().trim_ascii() == b"MDC" => Some(Transaction::Pcd01),
            _ => None,
        })
    });
    let (transaction, by) = match told {
        Some(transaction) => (transaction, RecognisedBy::Codes),
        None => (Transaction::Observation, RecognisedBy::MessageType),
    };
    Recognised { transaction, by, contradicted_by: None }
}

fn name<'m>(code: Repetition<'m>) -> &'m [u8] {
    code.component(2).raw().trim_ascii()
}

/// The OIDs of MSH-21.3 and what each names.
#[derive(Debug, Clone, Default)]
pub(super) struct Profiles {
    known: HashMap<String, (Transaction, RecognisedBy)>,
}

impl Profiles {
    /// One row of `pcd-profiles.csv`; the fault says what is wrong and what to do.
    pub(super) fn row(&mut self, columns: &[&str]) -> Result<(), String> {
        let [oid, transaction, kind, ..] = columns else {
            return Err("too few columns; compare the header of the pcd-profiles.csv that is shipped".to_owned());
        };
        if !super::is_oid(oid) {
            return Err(format!("`{oid}` is not an OID; write digits and dots"));
        }
        let known = transaction.parse::<Transaction>().ok().filter(|known| known.name().starts_with("PCD-"));
        let known = known.ok_or_else(|| format!("`{transaction}` is no transaction; write one such as PCD-01"))?;
        let by = match *kind {
            "framework" => RecognisedBy::Profile,
            "alias" => RecognisedBy::Alias,
            _ => return Err(format!("`{kind}` is no kind; write framework or alias")),
        };
        self.known.insert((*oid).to_owned(), (known, by));
        Ok(())
    }

    /// OIDs and the transactions they name, by OID.
    pub(super) fn rows(&self) -> Vec<(&str, &'static str)> {
        let mut rows: Vec<_> = self.known.iter().map(|(oid, (known, _))| (&**oid, known.name())).collect();
        rows.sort_unstable();
        rows
    }

    fn of(&self, profile: Repetition<'_>) -> Option<(Transaction, RecognisedBy)> {
        // The framework's own sample has a blank before the OID.
        let oid = std::str::from_utf8(profile.component(3).raw()).ok()?.trim();
        self.known.get(oid).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn told_with(tables: &Nomenclature, msh_9: &str, msh_21: &str, rest: &str) -> Recognised {
        let text = format!("MSH|^~\\&|A||||20260301120000+0000||{msh_9}|1|P|2.6|||AL|NE|||||{msh_21}\r{rest}");
        recognise(&Message::parse(text.into_bytes()).unwrap(), tables)
    }

    fn told(msh_9: &str, msh_21: &str, rest: &str) -> (&'static str, RecognisedBy) {
        let found = told_with(&Nomenclature::built_in(), msh_9, msh_21, rest);
        (found.transaction.name(), found.by)
    }

    #[test]
    fn the_oid_rules_whatever_stands_before_it() {
        use RecognisedBy::{Alias, Profile};
        for (oid, name, by) in [
            ("1.3.6.1.4.1.19376.1.6.1.1.1", "PCD-01", Profile),
            ("1.3.6.1.4.1.19376.1.6.4.1", "PCD-01", Alias),
            ("1.3.6.1.4.1.19376.1.6.1.3.1", "PCD-03", Profile),
            ("1.3.6.1.4.1.19376.1.6.1.4.1", "PCD-04", Profile),
            ("1.3.6.1.4.1.19376.1.6.4.4.1", "PCD-04", Alias),
            ("1.3.6.1.4.1.19376.1.6.4.4", "PCD-04", Alias),
            ("1.3.6.1.4.1.19376.1.6.1.5.1", "PCD-05", Profile),
            ("1.3.6.1.4.1.19376.1.6.1.9.1", "PCD-09", Profile),
            (" 1.3.6.1.4.1.19376.1.6.4.10 ", "PCD-10", Profile),
            ("1.3.6.1.4.1.19376.1.6.1.10.1", "PCD-10", Alias),
            ("1.3.6.1.4.1.19376.1.6.1.15.1", "PCD-15", Profile),
            ("1.3.6.1.4.1.19376.1.6.4.15", "PCD-15", Alias),
        ] {
            assert_eq!(told("ORU^R01^ORU_R01", &format!("IHE_PCD_999^X^{oid}^ISO"), ""), (name, by));
            assert_eq!(told("ORU^R01", &format!("LOCAL^^2.999^ISO~^^{oid}"), ""), (name, by), "second repetition");
        }
    }

    #[test]
    fn without_a_known_oid_the_message_type_decides() {
        for (msh_9, name) in [
            ("ORU^R40^ORU_R40", "PCD-04"),
            ("ORU^R42^ORU_R01", "PCD-10"),
            ("ORA^R41^ORA_R41", "PCD-05"),
            ("ORU^R41", "PCD-05"),
            ("RGV^O15^RGV_O15", "PCD-03"),
            ("ORU^R30^ORU_R30", "ORU"),
            ("ADT^A08", "ADT"),
            ("SIU^S12", "other"),
            ("", "other"),
        ] {
            assert_eq!(told(msh_9, "IHE_PCD_001^IHE PCD", ""), (name, RecognisedBy::MessageType), "{msh_9}");
        }
    }

    #[test]
    fn an_acknowledgement_is_no_report_whatever_profile_it_repeats() {
        for (msh_9, name) in [("ACK^R01^ACK", "ACK"), ("ACK", "ACK"), ("RRG^O16^RRG_O16", "PCD-03-answer")] {
            assert_eq!(told(msh_9, "A^B^1.3.6.1.4.1.19376.1.6.1.1.1^ISO", "").0, name);
        }
    }

    #[test]
    fn codes_tell_the_unsolicited_results_apart() {
        let by_codes = |rest| {
            let (name, by) = told("ORU^R01^ORU_R01", "", rest);
            assert_eq!(by, RecognisedBy::Codes, "{rest}");
            name
        };
        assert_eq!(by_codes("OBR|1||1|69135^MDC_OBS_MEM^MDC\r"), "PCD-15");
        assert_eq!(by_codes("OBR|1||1|196616^MDC_EVT_ALARM^MDC\r"), "PCD-04");
        assert_eq!(by_codes("OBR|1||1|X^Y^L\rOBX|1||720897^MDC_IDC_DEV_TYPE^MDC\r"), "PCD-09");
        assert_eq!(by_codes("OBR|1||1|182777000^x^SCT\rOBX|1||69965^MDC_DEV_MON^MDC|1.0.0.0\r"), "PCD-01");
        assert_eq!(by_codes("OBR|1||1|2222^Dopamine\rOBX|1||0^MDCX_NEW\r"), "PCD-01");
        assert_eq!(told("ORU^R01", "", "OBR|1||1|CBC^Blood^L\rOBX|1|NM|WBC^White^L||7\r").0, "ORU");
    }

    #[test]
    fn what_msh_9_says_against_the_oid_is_noted() {
        let tables = Nomenclature::built_in();
        let observation = "A^B^1.3.6.1.4.1.19376.1.6.1.1.1^ISO";
        let alert = told_with(&tables, "ORU^R40^ORU_R40", observation, "");
        assert_eq!((alert.transaction, alert.contradicted_by), (Transaction::Pcd01, Some(Transaction::Pcd04)));
        assert_eq!(told_with(&tables, "ORU^R01^ORU_R01", observation, "").contradicted_by, None);
    }

    #[test]
    fn a_site_names_the_oid_its_sender_uses() {
        let own = b"oid,transaction,kind,source\n2.999.7,PCD-10,alias,our pumps\n";
        let tables = Nomenclature::with_files(&[("pcd-profiles.csv", own)]).unwrap();
        let found = told_with(&tables, "ORU^R01", "X^Y^2.999.7^ISO", "");
        assert_eq!((found.transaction, found.by), (Transaction::Pcd10, RecognisedBy::Alias));
        let known = told_with(&tables, "ORU^R01", "X^Y^1.3.6.1.4.1.19376.1.6.4.4^ISO", "");
        assert_eq!(known.transaction, Transaction::Pcd04, "the shipped rows stay");
    }

    #[test]
    fn every_fault_of_the_table_is_told_with_its_line() {
        let own = b"oid,transaction,kind,source\nX,PCD-10,alias,s\n1.2,PCD-99,alias,s\n1.2,ACK,alias,s\n1.2,PCD-01,own,s\n1.2\n";
        let faults = Nomenclature::with_files(&[("pcd-profiles.csv", own)]).unwrap_err();
        assert_eq!(faults.iter().map(|fault| fault.1).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn names_are_read_back() {
        assert!(Transaction::all().all(|one| one.name().parse() == Ok(one)));
        assert_eq!("PCD-02".parse::<Transaction>(), Err(()));
    }
}
