//! Which device a message is of, by an ordered list of rules (IHE PCD TF-2 B.8, OBX-18; TF-2 C.5).
//!
//! Two devices must never become one: what is shared by a rack or a gateway identifies a pump only together with
//! something of its own, and a label without an authority is never taken for an identity.

use super::{
    Report, Row,
    association::{is_no_identifier, location_key},
    identification::{IdentityRules, of_whole},
    report::Nth,
};
use crate::hl7::{Field, Message, Repetition, Segment};

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
    /// A repetition of OBX-18 with a serial number, a model and a manufacturer, each part of the identity.
    SerialAndModel,
    /// PRT-10 after the device's OBX (v2.7 and later).
    Participation,
    /// OBR-3, where a sender gives each device one of its own.
    Order,
    /// MSH-3, where each device is a sender.
    Sender,
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

/// The identity a device row carries itself, by the first of [`RULES`] that finds one. What it inherits is not looked for.
pub fn identity_of(report: &Report<'_>, device: usize) -> Option<Identity> {
    RULES.iter().find_map(|rule| identity_at(*rule, report, device))
}

/// The identity that a row's own OBX-18 or PRT-10 carries.
pub fn equipment_of(message: &Message, row: &Row<'_>) -> Option<Identity> {
    RULES.iter().find_map(|rule| row_identity(message, *rule, row))
}

/// The identity that stands in one place of a device row, its attributes, or what is above the row.
pub(super) fn identity_at(rule: Rule, report: &Report<'_>, device: usize) -> Option<Identity> {
    let (message, row) = (report.message, &report.rows[device]);
    match rule {
        Rule::SystemId => row.attributes.iter().find_map(|&row| system_id(message, &report.rows[row])),
        Rule::Order | Rule::Sender if row.parent.is_some() => None,
        Rule::Order => of_whole(rule, message, report.group(row).request.map(|obr| obr.segment)),
        Rule::Sender => of_whole(rule, message, None),
        _ => row_identity(message, rule, row),
    }
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
    keys_by(&IdentityRules::default(), message)
}

/// The same by these rules.
pub(super) fn keys_by(rules: &IdentityRules, message: &Message) -> Vec<String> {
    let mut found = Ranked { rules, message, keys: Vec::new(), equipment: b"" };
    for segment in message.segments() {
        match segment.id() {
            "OBX" => found.observation(segment),
            "PRT" => found.each_equipment(segment.field(10), Rule::Participation),
            "OBR" if found.rank(Rule::Order).is_some() => found.whole(Rule::Order, Some(segment)),
            _ => {}
        }
    }
    if found.rank(Rule::Sender).is_some() {
        found.whole(Rule::Sender, None);
    }
    found.note(SENDER, sender(message));
    found.keys.sort_by_key(|(rank, _)| *rank);
    found.keys.truncate(KEYS_MAX);
    found.keys.into_iter().map(|(_, key)| key).collect()
}

/// The values of PID-3.1, for search; of a message that identifies no patient, its bed. At most 32.
pub fn patient_keys(message: &Message) -> Vec<String> {
    let mut keys = Vec::new();
    for pid in message.segments().filter(|segment| segment.id() == "PID") {
        for repetition in pid.field(3).repetitions().take(KEYS_MAX) {
            let value = message.text(repetition.component(1).raw());
            let value = value.trim();
            if !is_no_identifier(value) && keys.len() < KEYS_MAX && !keys.iter().any(|key| key == value) {
                keys.push(value.to_owned());
            }
        }
    }
    if keys.is_empty() {
        keys.extend(location_key(message));
    }
    keys
}

const KEYS_MAX: usize = 32;
const SYSTEM_ID: u32 = 67972;

/// Ranks behind those of the rules: labels, labels within an identity, the sender, and what the rules leave out.
const LABEL: u8 = 100;
const OWN_LABEL: u8 = 101;
const SENDER: u8 = 102;
const LEFT_OUT: u8 = 103;

/// The keys found so far, with their ranks.
struct Ranked<'r> {
    rules: &'r IdentityRules,
    message: &'r Message,
    keys: Vec<(u8, String)>,
    /// The last OBX-18, which most rows repeat.
    equipment: &'r [u8],
}

impl<'r> Ranked<'r> {
    fn rank(&self, rule: Rule) -> Option<u8> {
        self.rules.places.iter().position(|place| *place == rule).map(|place| place as u8)
    }

    /// As it is sent it can be searched for too.
    fn identity(&mut self, rule: Rule, identity: Identity) {
        let rank = self.rank(rule).unwrap_or(LEFT_OUT);
        if self.rules.strip_prefix.is_empty() {
            return self.note(rank, identity.key());
        }
        let as_sent = identity.key();
        self.note(rank, self.rules.stripped(identity).key());
        self.note(LEFT_OUT, as_sent);
    }

    fn note(&mut self, rank: u8, key: String) {
        if key.is_empty() {
            return;
        }
        if let Some(known) = self.keys.iter_mut().find(|(_, known)| *known == key) {
            known.0 = known.0.min(rank);
            return;
        }
        let room = self.keys.iter().filter(|(other, _)| *other == rank).count() < KEYS_MAX;
        if room {
            self.keys.push((rank, key));
        }
    }

    fn observation(&mut self, obx: Segment<'r>) {
        if is_system_id(obx.field(3).first()) {
            let value = self.message.text(obx.field(5).component(1).raw());
            if !value.trim().is_empty() {
                self.identity(Rule::SystemId, own_or_scoped(self.message, value.trim()));
            }
        }
        let equipment = obx.field(18).raw();
        if std::mem::replace(&mut self.equipment, equipment) != equipment {
            self.each_equipment(obx.field(18), Rule::Equipment);
        }
    }

    fn each_equipment(&mut self, field: Field<'_>, rule: Rule) {
        for repetition in field.repetitions().filter(|found| !found.is_empty()) {
            self.equipment(repetition, rule);
        }
    }

    fn equipment(&mut self, repetition: Repetition<'_>, rule: Rule) {
        let label = self.message.text(repetition.component(1).raw()).trim().to_owned();
        let Some((identity, is_eui64)) = typed(self.message, repetition) else {
            if label != "\"\"" {
                self.note(LABEL, label);
            }
            return;
        };
        if rule == Rule::Equipment && self.rank(Rule::SerialAndModel).is_some() {
            let with_model = serial_and_model(self.message, repetition);
            with_model.into_iter().for_each(|identity| self.identity(Rule::SerialAndModel, identity));
        }
        let rule = if rule == Rule::Equipment && is_eui64 { Rule::EquipmentEui64 } else { rule };
        self.identity(rule, identity);
        self.note(OWN_LABEL, label);
    }

    fn whole(&mut self, rule: Rule, order: Option<Segment<'_>>) {
        let identity = of_whole(rule, self.message, order);
        identity.into_iter().for_each(|identity| self.identity(rule, identity));
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
        None => scoped(message, value.to_owned()),
    }
}

/// An identifier its sender gave.
pub(super) fn scoped(message: &Message, value: String) -> Identity {
    Identity { authority: Authority::Scope(sender(message)), value }
}

/// Serial number and model under their manufacturer, where all three are there.
fn serial_and_model(message: &Message, repetition: Repetition<'_>) -> Option<Identity> {
    let model = message.text(repetition.component(2).raw()).trim().to_owned();
    let (identity, is_eui64) = typed(message, repetition)?;
    let given = matches!(identity.authority, Authority::Oid(_) | Authority::Scope(_)) && !is_eui64 && !model.is_empty();
    given.then(|| Identity { value: format!("{model}/{}", identity.value), ..identity })
}

pub(super) fn row_identity(message: &Message, rule: Rule, row: &Row<'_>) -> Option<Identity> {
    let equipment = |eui: bool| {
        let mut typed = row.obx.field(18).repetitions().filter_map(|repetition| typed(message, repetition));
        typed.find(|(_, is_eui64)| *is_eui64 == eui).map(|(identity, _)| identity)
    };
    match rule {
        Rule::SystemId | Rule::Order | Rule::Sender => None,
        Rule::SerialAndModel => {
            row.obx.field(18).repetitions().find_map(|repetition| serial_and_model(message, repetition))
        }
        Rule::EquipmentEui64 => equipment(true),
        Rule::Equipment => equipment(false),
        Rule::Participation => row.participations.iter().find_map(|prt: &Nth<'_>| {
            prt.field(10).repetitions().find_map(|repetition| typed(message, repetition)).map(|(identity, _)| identity)
        }),
    }
}

/// An EI that says by whose authority it is, and whether that is an EUI-64. Without EI.4 it may be a ward or a bed.
pub(super) fn typed(message: &Message, repetition: Repetition<'_>) -> Option<(Identity, bool)> {
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
