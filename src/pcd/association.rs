//! Whose data a message is: a patient's, nobody's that is known, or of whoever lies in a bed (IHE PCD TF-2 B.5, B.6).
//!
//! What must never happen: data attached to a patient called "Unknown". Gateways fill PID-3 in for want of an identifier;
//! what only says that there is none is read as none.

use crate::hl7::{Message, Segment};

/// Whose the observations of a message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Association {
    /// Of a patient with an identifier.
    Patient,
    /// The message has a PID that says who it is not known.
    Unknown,
    /// No patient, but a bed (PV1-3): whoever lay in it then.
    Location,
    /// Neither patient nor bed.
    Nobody,
}

impl Association {
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Association::Patient => "patient",
            Association::Unknown => "unknown",
            Association::Location => "location",
            Association::Nobody => "nobody",
        }
    }
}

/// Whose the message's observations are; `None` of a message without any.
pub fn association(message: &Message) -> Option<Association> {
    let has = |id: &str| message.segments().any(|segment| segment.id() == id);
    if !has("OBX") && !has("OBR") {
        return None;
    }
    let identified =
        message.segments().filter(|segment| segment.id() == "PID").any(|pid| names_a_patient(message, pid));
    Some(match () {
        () if identified => Association::Patient,
        () if location_key(message).is_some() => Association::Location,
        () if has("PID") => Association::Unknown,
        () => Association::Nobody,
    })
}

/// What stands for an identifier without being one: empty, deleted, or words that say it is not known.
pub fn is_no_identifier(value: &str) -> bool {
    let letters = value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase);
    let plain: String = letters.collect();
    const WORDS: &[&str] =
        &["", "unknown", "unknownpatient", "patientunknown", "unknownunknown", "unk", "unidentified", "nopatient"];
    WORDS.contains(&&*plain)
}

/// The bed of the first PV1-3 as a search key, `location:unit^room^bed^facility`.
pub fn location_key(message: &Message) -> Option<String> {
    let bed = message.segment("PV1")?.field(3).first();
    let parts: Vec<_> = (1..=4).map(|part| message.text(bed.component(part).raw())).collect();
    let parts: Vec<&str> =
        parts.iter().map(|part| part.trim()).map(|part| if part == "\"\"" { "" } else { part }).collect();
    let bed = parts.join("^");
    let bed = bed.trim_end_matches('^');
    (!bed.is_empty()).then(|| format!("location:{bed}"))
}

fn names_a_patient(message: &Message, pid: Segment<'_>) -> bool {
    pid.field(3).repetitions().any(|id| !is_no_identifier(&message.text(id.component(1).raw())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::identity::patient_keys, *};

    fn message(patient: &str) -> Message {
        let text = format!(
            "MSH|^~\\&|GW||||20260301120000+0100||ORU^R01^ORU_R01|1|P|2.6\r{patient}OBR|1||1\rOBX|1|ST|1^A^L||x\r"
        );
        Message::parse(text.into_bytes()).unwrap()
    }

    #[test]
    fn every_way_of_saying_that_the_patient_is_unknown_is_understood() {
        for pid in [
            "PID|||Unknown Patient^Unknown Patient||^^^^^^U|||||||||||||||||||||||||Y\r",
            "PID|||Unknown^^^^U||Unknown^^^^^^U\r",
            "PID|||UNKNOWN||^^^^^^U\r",
            "PID|||\"\"||^^^^^^U\r",
            "PID|||^^^HOSP^MR||^^^^^^U\r",
            "PID|||~Unknown_Patient||\r",
            "PID\r",
        ] {
            let message = message(pid);
            assert_eq!((association(&message), patient_keys(&message)), (Some(Association::Unknown), vec![]), "{pid}");
        }
        assert_eq!(association(&message("")), Some(Association::Nobody));
    }

    #[test]
    fn a_patient_with_an_identifier_is_one_whatever_the_name_says() {
        for pid in ["PID|||4711^^^H^MR||^^^^^^U\r", "PID|||Unknown~4711^^^H^MR\r", "PID|||4711||Unknown^Unknown\r"] {
            let message = message(pid);
            let keys = patient_keys(&message);
            assert_eq!((association(&message), keys), (Some(Association::Patient), vec!["4711".to_owned()]), "{pid}");
        }
        assert!(!is_no_identifier("Unknown1") && !is_no_identifier("0") && !is_no_identifier("UNKO"));
    }

    #[test]
    fn a_bed_alone_is_told_and_found_and_never_a_patient() {
        let bed = message("PID|||Unknown\rPV1||I|ICU ^12^A^HOSP^^^\r");
        assert_eq!(association(&bed), Some(Association::Location));
        assert_eq!(patient_keys(&bed), ["location:ICU^12^A^HOSP"]);
        let known = message("PID|||4711\rPV1||I|ICU^12^A\r");
        assert_eq!((association(&known), patient_keys(&known)), (Some(Association::Patient), vec!["4711".to_owned()]));
        assert_eq!(location_key(&message("PV1||I|\"\"^^\r")), None);
    }

    #[test]
    fn a_message_without_observations_is_nobodys_data() {
        let text = "MSH|^~\\&|GW||||20260301120000+0100||ADT^A01^ADT_A01|1|P|2.6\rPID|||Unknown\r";
        assert_eq!(association(&Message::parse(text.as_bytes()).unwrap()), None);
    }
}
