//! Which device a message is of, by an ordered list of rules (IHE PCD TF-2 B.8, OBX-18; TF-2 C.5).
//!
//! Two devices must never become one: what is shared by a rack or a gateway identifies a pump only together with
//! something of its own, and a label without an authority is never taken for an identity.

use super::{Report, Row, report::Nth};
use crate::hl7::{Message, Repetition};

/// Where a device's identity may stand, best first.
///
/// MDC_ATTR_SYS_ID comes first because racks of pumps are met whose OBX-18 names the rack.
pub const RULES: &[Rule] = &[Rule::SystemId, Rule::EquipmentEui64, Rule::Equipment, Rule::Participation];

/// One place an identity may stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The attribute row MDC_ATTR_SYS_ID (67972) of the device.
    SystemId,
    /// A repetition of OBX-18 typed EUI-64.
    EquipmentEui64,
    /// A repetition of OBX-18 of another universal id type.
    Equipment,
    /// PRT-10 after the device's OBX (v2.7 and later).
    Participation,
}

/// Who gave a device its identifier.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Authority {
    /// The value is an EUI-64: 16 hexadecimal digits, upper case.
    Eui64,
    /// The value is itself a URI.
    Uri,
    /// The holder of this OID.
    Oid(String),
    /// Whoever this says: an EUI-64, a UUID, a domain name, or the sender of the message.
    Scope(String),
}

/// The identity of one device.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Who gave it.
    pub authority: Authority,
    /// The identifier.
    pub value: String,
}

impl Identity {
    /// The identity as one text, for search and ordering.
    pub fn key(&self) -> String {
        match &self.authority {
            Authority::Eui64 | Authority::Uri => self.value.clone(),
            Authority::Oid(scope) | Authority::Scope(scope) => format!("{scope}/{}", self.value),
        }
    }
}

/// The identity a device row carries itself, by the first rule that finds one. What it inherits is not looked for.
pub fn identity_of(report: &Report<'_>, device: usize) -> Option<Identity> {
    let row = &report.rows[device];
    RULES.iter().find_map(|rule| match rule {
        Rule::SystemId => row.attributes.iter().find_map(|&row| system_id(report.message, &report.rows[row])),
        _ => row_identity(report.message, *rule, row),
    })
}

/// The identity that a row's own OBX-18 or PRT-10 carries.
pub fn equipment_of(message: &Message, row: &Row<'_>) -> Option<Identity> {
    RULES.iter().find_map(|rule| row_identity(message, *rule, row))
}

/// What OBX-18 names the device without saying by whose authority, raw: good to show, no identity.
pub fn label_of<'m>(row: &Row<'m>) -> Option<&'m [u8]> {
    let mut labels = row.obx.field(18).repetitions().map(|repetition| repetition.component(1).raw());
    labels.find(|raw| !raw.trim_ascii().is_empty() && *raw != b"\"\"")
}

/// Who sent the message, as the scope of names it gives: the universal id of MSH-3, else its namespace.
pub fn sender(message: &Message) -> String {
    let Some(msh) = message.segments().next() else { return String::new() };
    let name = msh.field(3).first();
    let universal = message.text(name.component(2).raw());
    match eui64(&universal) {
        Some(eui64) => eui64,
        None if !universal.trim().is_empty() => universal.trim().to_owned(),
        None => message.text(name.component(1).raw()).trim().to_owned(),
    }
}

/// Device identities of a message for search and ordering: best first, by [`RULES`], then labels, and last who sent it.
/// At most 32.
pub fn device_keys(message: &Message) -> Vec<String> {
    let mut ranked: Vec<(u8, String)> = Vec::new();
    for segment in message.segments().filter(|segment| matches!(segment.id(), "OBX" | "PRT")) {
        let obx = segment.id() == "OBX";
        if obx && is_system_id(segment.field(3).first()) {
            let value = message.text(segment.field(5).component(1).raw());
            note(&mut ranked, 0, own_or_scoped(message, value.trim()).key());
        }
        for repetition in segment.field(if obx { 18 } else { 10 }).repetitions().filter(|found| !found.is_empty()) {
            ranked_equipment(&mut ranked, message, repetition, obx);
        }
    }
    note(&mut ranked, 9, sender(message));
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.truncate(KEYS_MAX);
    ranked.into_iter().map(|(_, key)| key).collect()
}

/// The values of PID-3.1, for search and ordering. At most 32.
pub fn patient_keys(message: &Message) -> Vec<String> {
    let mut keys = Vec::new();
    for pid in message.segments().filter(|segment| segment.id() == "PID") {
        for repetition in pid.field(3).repetitions().take(KEYS_MAX) {
            let value = message.text(repetition.component(1).raw());
            let value = value.trim();
            if !value.is_empty() && value != "\"\"" && keys.len() < KEYS_MAX && !keys.iter().any(|key| key == value) {
                keys.push(value.to_owned());
            }
        }
    }
    keys
}

const KEYS_MAX: usize = 32;
const SYSTEM_ID: u32 = 67972;

fn note(ranked: &mut Vec<(u8, String)>, rank: u8, key: String) {
    let room = ranked.iter().filter(|(other, _)| *other == rank).count() < KEYS_MAX;
    if room && !key.is_empty() && !ranked.iter().any(|(_, known)| *known == key) {
        ranked.push((rank, key));
    }
}

fn ranked_equipment(ranked: &mut Vec<(u8, String)>, message: &Message, repetition: Repetition<'_>, obx: bool) {
    let label = message.text(repetition.component(1).raw()).trim().to_owned();
    match typed(message, repetition) {
        Some((identity, is_eui64)) => {
            let rank = if !obx { 3 } else { 2 - u8::from(is_eui64) };
            note(ranked, rank, identity.key());
            note(ranked, 5, label);
        }
        None if !label.is_empty() && label != "\"\"" => note(ranked, 4, label),
        None => {}
    }
}

fn is_system_id(code: Repetition<'_>) -> bool {
    code.component(1).raw() == b"67972" || code.component(2).raw() == b"MDC_ATTR_SYS_ID"
}

fn system_id(message: &Message, row: &Row<'_>) -> Option<Identity> {
    if !row.is(SYSTEM_ID, b"MDC_ATTR_SYS_ID") || row.obx.raw(5).is_empty() {
        return None;
    }
    let value = message.text(row.obx.field(5).component(1).raw());
    let value = value.trim();
    (!value.is_empty()).then(|| own_or_scoped(message, value))
}

/// An EUI-64 stands for itself; any other system id is one the sender gave.
fn own_or_scoped(message: &Message, value: &str) -> Identity {
    match eui64(value) {
        Some(value) => Identity { authority: Authority::Eui64, value },
        None => Identity { authority: Authority::Scope(sender(message)), value: value.to_owned() },
    }
}

fn row_identity(message: &Message, rule: Rule, row: &Row<'_>) -> Option<Identity> {
    let equipment = |eui: bool| {
        let mut typed = row.obx.field(18).repetitions().filter_map(|repetition| typed(message, repetition));
        typed.find(|(_, is_eui64)| *is_eui64 == eui).map(|(identity, _)| identity)
    };
    match rule {
        Rule::SystemId => None,
        Rule::EquipmentEui64 => equipment(true),
        Rule::Equipment => equipment(false),
        Rule::Participation => row.participations.iter().find_map(|prt: &Nth<'_>| {
            prt.field(10).repetitions().find_map(|repetition| typed(message, repetition)).map(|(identity, _)| identity)
        }),
    }
}

/// An EI that says by whose authority it is, and whether that is an EUI-64. Without EI.4 it may be a ward or a bed.
fn typed(message: &Message, repetition: Repetition<'_>) -> Option<(Identity, bool)> {
    let part = |n| message.text(repetition.component(n).raw()).trim().to_owned();
    let (local, universal, kind) = (part(1), part(3), part(4).to_ascii_uppercase());
    if universal.is_empty() {
        return None;
    }
    let same = |a: &str, b: &str| a.is_empty() || a.eq_ignore_ascii_case(b);
    let identity = |authority, value| Some(Identity { authority, value });
    match kind.as_str() {
        "EUI-64" | "EUI64" => {
            let eui = eui64(&universal)?;
            let own = local.is_empty() || eui64(&local).is_some_and(|local| local == eui);
            let found = if own { identity(Authority::Eui64, eui) } else { identity(Authority::Scope(eui), local) };
            found.map(|identity| (identity, true))
        }
        "ISO" if !is_oid(&universal) => None,
        "UUID" | "GUID" if !is_uuid(&universal) => None,
        "ISO" if same(&local, &universal) => identity(Authority::Uri, format!("urn:oid:{universal}")).map(other),
        "ISO" => identity(Authority::Oid(universal), local).map(other),
        "UUID" | "GUID" if same(&local, &universal) => {
            identity(Authority::Uri, format!("urn:uuid:{}", universal.to_ascii_lowercase())).map(other)
        }
        "UUID" | "GUID" => identity(Authority::Scope(universal.to_ascii_lowercase()), local).map(other),
        "URI" | "URN" if universal.contains(':') && !universal.contains(char::is_whitespace) => {
            identity(Authority::Uri, universal).map(other)
        }
        "DNS" if !local.is_empty() => identity(Authority::Scope(universal.to_ascii_lowercase()), local).map(other),
        _ => None,
    }
}

fn other(identity: Identity) -> (Identity, bool) {
    (identity, false)
}

/// Digits and single dots, as an OID has.
pub fn is_oid(text: &str) -> bool {
    text.contains('.') && text.split('.').all(|arc| !arc.is_empty() && arc.bytes().all(|b| b.is_ascii_digit()))
}

/// 8-4-4-4-12 hexadecimal digits.
pub fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// The 16 hexadecimal digits of an EUI-64, however they were separated.
pub fn eui64(text: &str) -> Option<String> {
    let digits: String = text.trim().chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let valid = digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| digits.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn keys(rows: &[&str]) -> Vec<String> {
        let mut text =
            String::from("MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64||||20260301120000+0100||ORU^R01^ORU_R01|1|P|2.6\r");
        rows.iter().for_each(|row| text.extend([row, "\r"]));
        device_keys(&Message::parse(text.into_bytes()).unwrap())
    }

    #[test]
    fn the_sender_is_the_last_resort() {
        assert_eq!(keys(&[]), ["ACDE480000000001"]);
    }

    #[test]
    fn an_eui64_that_its_label_repeats_is_the_device() {
        let row = "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||00-11-22-33-44-55-66-77^^0011223344556677^EUI-64";
        assert_eq!(keys(&[row])[0], "0011223344556677");
    }

    #[test]
    fn pumps_that_share_the_eui64_of_their_rack_stay_apart() {
        let pump = |label| {
            keys(&[&format!(
                "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||{label}^^0011223344556677^EUI-64"
            )])[0]
                .clone()
        };
        assert_eq!(pump("P1"), "0011223344556677/P1");
        assert_ne!(pump("P1"), pump("P2"));
    }

    #[test]
    fn a_system_id_is_better_than_the_rack_it_is_in() {
        let mds = "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||^^0011223344556677^EUI-64";
        let id = "OBX|2|ST|67972^MDC_ATTR_SYS_ID^MDC|1.0.0.1|0011223344550001||||||F";
        assert_eq!(keys(&[mds, id])[..2], ["0011223344550001", "0011223344556677"]);
    }

    #[test]
    fn a_ward_among_the_repetitions_is_no_identity() {
        let row =
            "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||~~WARD~~D6^^0011223344556677^EUI-64";
        assert_eq!(keys(&[row]), ["0011223344556677/D6", "WARD", "D6", "ACDE480000000001"]);
    }

    #[test]
    fn ten_thousand_labels_make_a_bounded_list() {
        let rows: Vec<String> = (0..10_000).map(|i| format!("OBX|1||1^A^L||||||||R|||||||L{i}")).collect();
        assert_eq!(keys(&rows.iter().map(String::as_str).collect::<Vec<_>>()).len(), KEYS_MAX);
    }
}
