//! Which places name a channel's devices, in order, for each sender: what a site configures.
//!
//! Two devices must never become one, and the alarms of a device must not land on another than its measurements: some
//! gateways name a device in one kind of message otherwise than in the next, and only who runs them knows.

use super::{
    Coded, Report, Row,
    identity::{Authority, Identity, RULES, Rule, identity_at, keys_by, scoped, sender},
};
use crate::hl7::Message;

/// How a channel's devices are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identification {
    /// For senders that have no rules of their own.
    pub usual: IdentityRules,
    /// By a sender's MSH-3.1 or MSH-3.2.
    pub senders: Vec<(String, IdentityRules)>,
}

/// How the devices of one sender are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// Places an identity may stand in, best first.
    pub places: Vec<Rule>,
    /// Taken off an identifier where digits alone remain.
    pub strip_prefix: Vec<String>,
}

impl Default for IdentityRules {
    fn default() -> IdentityRules {
        IdentityRules { places: RULES.to_vec(), strip_prefix: Vec::new() }
    }
}

impl Identification {
    /// The rules for the message's sender.
    pub fn of(&self, message: &Message) -> &IdentityRules {
        if self.senders.is_empty() {
            return &self.usual;
        }
        let name = message.msh().field(3).first();
        let names = [sender(message), message.text(name.component(1).raw()).trim().to_owned()];
        let own = self.senders.iter().find(|(known, _)| names.iter().any(|name| name.eq_ignore_ascii_case(known)));
        own.map_or(&self.usual, |(_, rules)| rules)
    }

    /// Device identities of a message for search and ordering: best first by the rules, then labels, then who sent it, and
    /// last what is named in places that the rules leave out. At most 32.
    pub fn device_keys(&self, message: &Message) -> Vec<String> {
        keys_by(self.of(message), message)
    }

    /// The device that a message is of. Who sent it is that only where a rule says so or the codes are those of devices:
    /// else it is a laboratory or another system. An order is of none, nor is what became of an alert: nobody heard the device that it
    /// names.
    pub fn device_of(&self, message: &Message) -> Option<String> {
        self.device_keys(message).into_iter().next().filter(|key| self.is_device(message, key))
    }

    /// Whether the best of a message's keys names a device.
    pub fn is_device(&self, message: &Message, key: &str) -> bool {
        let is_named = || key != sender(message) || self.of(message).places.contains(&Rule::Sender);
        !is_of_a_system(message) && (is_named() || speaks_mdc(message))
    }

    /// The identity a device row carries itself, by the first place that has one. What it inherits is not looked for, and
    /// what names the whole message (OBR-3, MSH-3) is that of a device in no other.
    pub fn identity_of(&self, report: &Report<'_>, device: usize) -> Option<Identity> {
        let rules = self.of(report.message);
        rules.places.iter().find_map(|rule| identity_at(*rule, report, device)).map(|found| rules.stripped(found))
    }

    /// The identity that a row's own OBX-18 or PRT-10 carries.
    pub fn equipment_of(&self, message: &Message, row: &Row<'_>) -> Option<Identity> {
        let rules = self.of(message);
        let found = rules.places.iter().find_map(|rule| super::identity::row_identity(message, *rule, row));
        found.map(|found| rules.stripped(found))
    }
}

impl IdentityRules {
    /// The identifier without the letters that only some of the sender's messages put before it.
    pub(super) fn stripped(&self, identity: Identity) -> Identity {
        if self.strip_prefix.is_empty() || matches!(identity.authority, Authority::Eui64 | Authority::Uri) {
            return identity;
        }
        let digits = |rest: &&str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
        let rest = self.strip_prefix.iter().find_map(|prefix| identity.value.strip_prefix(&**prefix).filter(digits));
        let rest = rest.map(str::to_owned);
        Identity { value: rest.unwrap_or(identity.value), authority: identity.authority }
    }
}

/// Told by a system to others: what is to be done, as an infusion order (IHE PCD TF-2 3.3) or one of HL7 v2 ch. 4, or who
/// was told of an alert (PCD-05, TF-2 3.5: ORA^R41, which the table in B.1 calls ORU^R41).
fn is_of_a_system(message: &Message) -> bool {
    let (kind, event) = [1, 2].map(|component| message.msh().field(9).component(component).raw().trim_ascii()).into();
    matches!(kind, b"RGV" | b"RDE" | b"RDS" | b"ORM") || kind.len() == 3 && kind.starts_with(b"OM") || event == b"R41"
}

/// A code of devices (ISO/IEEE 11073-10101) among the first rows.
fn speaks_mdc(message: &Message) -> bool {
    let coded = message.segments().filter(|segment| matches!(segment.id(), "OBR" | "OBX"));
    coded.take(ROWS_MAX).any(|segment| {
        let field = segment.field(if segment.id() == "OBR" { 4 } else { 3 });
        Coded::read(field.first()).mdc_or_alike().is_some()
    })
}

/// Rows looked at for a code of devices.
const ROWS_MAX: usize = 64;

/// Places as they are configured, and their rules.
pub const PLACES: &[(&str, Rule)] = &[
    ("sys-id", Rule::SystemId),
    ("obx-18-eui64", Rule::EquipmentEui64),
    ("obx-18", Rule::Equipment),
    ("obx-18-serial-model", Rule::SerialAndModel),
    ("prt-10", Rule::Participation),
    ("obr-3", Rule::Order),
    ("msh-3", Rule::Sender),
];

/// The identity OBR-3 or MSH-3 gives a message's devices.
pub(super) fn of_whole(rule: Rule, message: &Message, order: Option<crate::hl7::Segment<'_>>) -> Option<Identity> {
    match rule {
        Rule::Order => {
            let number = order?.field(3).first();
            let local = message.text(number.component(1).raw()).trim().to_owned();
            let typed = super::identity::typed(message, number).map(|(identity, _)| identity);
            typed.or_else(|| (!matches!(&*local, "" | "\"\"")).then(|| scoped(message, local)))
        }
        Rule::Sender => {
            let name = sender(message);
            let authority = if super::eui64(&name).is_some() { Authority::Eui64 } else { Authority::Uri };
            (!name.is_empty()).then_some(Identity { authority, value: name })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::Nomenclature, *};

    const HEAD: &str = "MSH|^~\\&|RACK^0012210000000000^EUI-64||||20260301120000+0100||ORU^R01^ORU_R01|1|P|2.6\r";

    fn rules(places: &[&str], strip: &[&str]) -> IdentityRules {
        let rule = |place: &&str| PLACES.iter().find(|(name, _)| name == place).unwrap().1;
        IdentityRules {
            places: places.iter().map(rule).collect(),
            strip_prefix: strip.iter().map(|&prefix| prefix.to_owned()).collect(),
        }
    }

    fn usual(usual: IdentityRules) -> Identification {
        Identification { usual, senders: Vec::new() }
    }

    fn pump(label: &str) -> String {
        format!("OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||{label}^^0012210000000000^EUI-64\r")
    }

    fn first(identification: &Identification, rows: &str) -> String {
        identification.device_keys(&message(rows))[0].clone()
    }

    fn message(rows: &str) -> Message {
        Message::parse(format!("{HEAD}{rows}").into_bytes()).unwrap()
    }

    const SYSTEM_ID: &str = "OBX|2|ST|67972^MDC_ATTR_SYS_ID^MDC|1.0.0.1|0011223344550001||||||F\r";

    #[test]
    fn alarms_and_measurements_of_a_pump_are_one_device_where_a_prefix_is_configured_to_be_stripped() {
        let (measured, alarm) = (format!("{}{SYSTEM_ID}", pump("I51559")), pump("51559"));
        let as_sent = Identification::default();
        assert_ne!(first(&as_sent, &measured), first(&as_sent, &alarm));
        let configured = usual(rules(&["obx-18-eui64"], &["I", "P"]));
        assert_eq!(first(&configured, &measured), "0012210000000000/51559");
        assert_eq!(first(&configured, &alarm), "0012210000000000/51559");
        assert_ne!(first(&configured, &pump("I51560")), "0012210000000000/51559");
        for other in ["IV51559", "I5155A", "I", "X51559"] {
            assert_eq!(first(&configured, &pump(other)), format!("0012210000000000/{other}"), "no prefix is stripped");
        }
        let keys = configured.device_keys(&message(&measured));
        for sought in ["0011223344550001", "0012210000000000/I51559"] {
            assert!(keys.iter().any(|key| key == sought), "{sought} can be searched, in {keys:?}");
        }
    }

    #[test]
    fn the_order_of_places_decides() {
        let rows = format!("OBR|1||F-17^FILLER|1^A^L\r{}{SYSTEM_ID}", pump("D6"));
        assert_eq!(first(&Identification::default(), &rows), "0011223344550001");
        let by = |places: &[&str]| first(&usual(rules(places, &[])), &rows);
        assert_eq!(by(&["obx-18-eui64", "sys-id"]), "0012210000000000/D6");
        assert_eq!(by(&["obr-3"]), "0012210000000000/F-17");
        assert_eq!(by(&["msh-3", "sys-id"]), "0012210000000000");
        assert_eq!(by(&["prt-10", "obx-18", "sys-id"]), "0011223344550001");
    }

    #[test]
    fn one_serial_number_of_two_models_is_two_devices_where_the_model_counts() {
        let row = |model: &str| {
            format!(
                "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X|||||||0815^{model}^maker.example^DNS\r"
            )
        };
        let by_model = usual(rules(&["obx-18-serial-model"], &[]));
        assert_eq!(first(&Identification::default(), &row("A1")), first(&Identification::default(), &row("B2")));
        assert_eq!(first(&by_model, &row("A1")), "maker.example/A1/0815");
        assert_ne!(first(&by_model, &row("A1")), first(&by_model, &row("B2")));
    }

    #[test]
    fn a_sender_with_rules_of_its_own_is_told_by_its_name_or_its_number() {
        for name in ["rack", "0012210000000000"] {
            let senders = vec![(name.to_owned(), rules(&["obx-18-eui64"], &["I"]))];
            let configured = Identification { usual: IdentityRules::default(), senders };
            assert_eq!(first(&configured, &pump("I51559")), "0012210000000000/51559");
        }
        let senders = vec![("other".to_owned(), rules(&["obx-18-eui64"], &["I"]))];
        let configured = Identification { usual: IdentityRules::default(), senders };
        assert_eq!(first(&configured, &pump("I51559")), "0012210000000000/I51559");
    }

    #[test]
    fn what_a_system_tells_of_a_device_is_of_none_and_can_be_found_by_it() {
        let equipment = ["^^A0001^PUMPVENDOR", "", "A0001^^0012210000000000^EUI-64"];
        for (kind, equipment) in ["RGV^O15^RGV_O15", "RDE^O11", "OMP^O09", "ORM^O01", "ORA^R41^ORA_R41", "ORU^R41"]
            .map(|kind| (kind, equipment[2]))
        {
            assert_eq!(device_told(kind, equipment, &Identification::default()), None, "{kind}");
        }
        for equipment in equipment {
            let by_sender = usual(rules(&["obx-18-eui64", "msh-3"], &[]));
            for rules in [Identification::default(), by_sender] {
                assert_eq!(device_told("RGV^O15^RGV_O15", equipment, &rules), None, "{equipment}");
                assert!(device_told("RRG^O16^RRG_O16", equipment, &rules).is_some(), "the pump's side answers");
                assert!(device_told("ORU^R01^ORU_R01", equipment, &rules).is_some(), "{equipment}");
            }
        }
        let order = typed_message("RGV^O15^RGV_O15", equipment[2]);
        assert_eq!(Identification::default().device_keys(&order)[0], "0012210000000000/A0001");
    }

    fn typed_message(kind: &str, equipment: &str) -> Message {
        let row = format!("OBX|1||69986^MDC_DEV_PUMP_INFUS_VMD^MDC||||||||X|||||||{equipment}\r");
        Message::parse(format!("{HEAD}{row}").replace("ORU^R01^ORU_R01", kind).into_bytes()).unwrap()
    }

    fn device_told(kind: &str, equipment: &str, rules: &Identification) -> Option<String> {
        rules.device_of(&typed_message(kind, equipment))
    }

    #[test]
    fn a_device_and_its_search_key_are_the_same_whatever_the_rules() {
        let rows = format!("OBR|1||F-17^FILLER|1^A^L\r{}{SYSTEM_ID}", pump("I6"));
        let (message, tables) = (message(&rows), Nomenclature::built_in());
        let report = Report::read(&message, &tables);
        for (place, _) in PLACES {
            let configured = usual(rules(&[place], &["I"]));
            let identity = configured.identity_of(&report, 0).map(|identity| identity.key());
            let key = configured.device_keys(&message)[0].clone();
            let expected = identity.unwrap_or_else(|| "I6".to_owned());
            assert_eq!(key, expected, "{place}");
        }
    }
}
