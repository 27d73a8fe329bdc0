//! The checks of a channel with `conformance = "reject"`: what a device report must be to be attributed and read.
//!
//! Elsewhere such a message is taken and what is wrong with it comes out where it is translated. The first fault is
//! told, with its place.

use super::refusal::{Refusal, location};
use crate::hl7::{Message, Segment, Time};

/// Table 0125, value types.
const VALUE_TYPES: [&str; 34] = [
    "AD", "CE", "CF", "CK", "CN", "CNE", "CP", "CQ", "CWE", "CX", "DR", "DT", "DTM", "ED", "EI", "FT", "HD", "ID",
    "IS", "MO", "NA", "NM", "PN", "RP", "SI", "SN", "ST", "TM", "TN", "TS", "TX", "XAD", "XCN", "XPN",
];
/// Table 0085, observation result status.
const STATUSES: [&[u8]; 14] = [b"A", b"B", b"C", b"D", b"F", b"I", b"N", b"O", b"P", b"R", b"S", b"U", b"V", b"W"];

/// The first fault of the content, if there is one.
pub(super) fn check(message: &Message) -> Result<(), Refusal> {
    if let Some(msh) = message.segment("MSH") {
        time(msh, 7)?;
    }
    if message.segment("MSH").is_some_and(|msh| msh.field(9).component(1).raw() == b"ORU") {
        sequence(message)?;
    }
    patient(message)?;
    for segment in message.segments() {
        match segment.id() {
            "OBR" => [7, 8].into_iter().try_for_each(|n| time(segment, n))?,
            "OBX" => observation(segment)?,
            _ => {}
        }
    }
    Ok(())
}

fn sequence(message: &Message) -> Result<(), Refusal> {
    let first = |id| message.segments().position(|segment| segment.id() == id);
    let fault = |location: &str, text| Err(Refusal::error("conformance", 100, location, text));
    match (first("OBR"), first("OBX")) {
        (None, _) => return fault("OBR^1", "an observation report needs an OBR"),
        (Some(obr), Some(obx)) if obx < obr => return fault("OBX^1", "an OBX stands before the first OBR"),
        _ => {}
    }
    let event = message.segment("MSH").map(|msh| msh.field(9).component(2).raw());
    // An alarm may be a device's own (IHE PCD TF-2 3.4.4.1.2); a report is of a patient.
    if event == Some(b"R01") && first("PID").is_none() {
        return fault("PID^1", "a device report needs a PID; send an empty identity for an unknown patient");
    }
    Ok(())
}

fn patient(message: &Message) -> Result<(), Refusal> {
    let mut patients = message.segments().filter(|segment| segment.id() == "PID").map(|pid| pid.field(3).component(1));
    let Some(first) = patients.next() else { return Ok(()) };
    if first.is_empty() {
        return Err(Refusal::error("conformance", 101, "PID^1^3", "PID-3 has no patient identifier"));
    }
    if patients.any(|other| other.raw() != first.raw()) {
        let text = "the message is about more than one patient; send one message for each";
        return Err(Refusal::error("conformance", 198, "PID^2^3", text));
    }
    Ok(())
}

fn observation(obx: Segment<'_>) -> Result<(), Refusal> {
    let fault = |code, n, text| Err(Refusal::error("conformance", code, place(obx, n), text));
    let (kind, value) = (obx.field(2), obx.field(5));
    if kind.is_empty() && !value.is_empty() {
        return fault(101, 2, "OBX-5 has a value and OBX-2 no type");
    }
    if !kind.is_empty() && !VALUE_TYPES.iter().any(|known| known.as_bytes() == kind.raw()) {
        return fault(103, 2, "OBX-2 is not a value type of table 0125");
    }
    if kind.raw() == b"NM" && !value.is_empty() {
        if !value.repetitions().all(|repetition| is_number(repetition.raw())) {
            return fault(102, 5, "OBX-5 is not a number: an optional sign, digits, an optional point");
        }
        if obx.field(6).is_empty() {
            return fault(103, 6, "OBX-6 has no unit for a number");
        }
    }
    match obx.field(11).raw() {
        b"" => return fault(101, 11, "OBX-11 is empty; send the result status"),
        b"X" => {}
        status if STATUSES.contains(&status) => {}
        _ => return fault(103, 11, "OBX-11 is not a result status of table 0085"),
    }
    time(obx, 14)
}

/// An NM (HL7 v2.6 ch. 2A.47): any number of digits, kept as sent.
fn is_number(raw: &[u8]) -> bool {
    let digits = raw.strip_prefix(b"+").or_else(|| raw.strip_prefix(b"-")).unwrap_or(raw);
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let whole = parts.next().unwrap_or_default();
    let fraction = parts.next().unwrap_or_default();
    whole.len() + fraction.len() > 0 && whole.iter().chain(fraction).all(u8::is_ascii_digit)
}

fn time(segment: Segment<'_>, n: usize) -> Result<(), Refusal> {
    let field = segment.field(n);
    let raw = field.component(1).raw();
    if raw.is_empty() || std::str::from_utf8(raw).is_ok_and(|text| Time::parse(text).is_ok()) {
        return Ok(());
    }
    let text = "not a date/time of the form YYYYMMDDHHMMSS[.SSSS][+ZZZZ]";
    Err(Refusal::error("conformance", 102, place(segment, n), text))
}

fn place(segment: Segment<'_>, n: usize) -> String {
    let message = segment.message();
    match segment.field_range(n) {
        Some(range) => location(message, range.start),
        None => format!("{}^{n}", location(message, segment.range().start)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: &str = "MSH|^~\\&|||||20260314||ORU^R01|1|P|2.6\rPID|||7^^^H\rOBR|1||||||20260314\r\
                        OBX|1|NM|1^A^MDC|1.1.1.1|80|2^B^MDC|||||R|||20260314101500+0000\r";

    fn told(message: &str) -> Option<(u16, String)> {
        check(&Message::parse(message.to_owned()).unwrap())
            .err()
            .map(|refusal| (refusal.fault.code, refusal.fault.location))
    }

    #[test]
    fn each_fault_of_the_content_is_told_with_its_place() {
        for (from, to, code, location) in [
            ("|20260314||ORU", "|yesterday||ORU", 102, "MSH^1^7"),
            ("OBR|1||||||20260314\r", "", 100, "OBR^1"),
            ("PID|||7^^^H\r", "OBX|1|ST|||x||||||R\r", 100, "OBX^1"),
            ("PID|||7^^^H\r", "", 100, "PID^1"),
            ("PID|||7^^^H\r", "PID|||^^^H\r", 101, "PID^1^3"),
            ("PID|||7^^^H\r", "PID|||7^^^H\rPID|||8^^^H\r", 198, "PID^2^3"),
            ("|NM|", "||", 101, "OBX^1^2"),
            ("|80|", "|FOO|", 102, "OBX^1^5"),
            ("|80|", "|NaN|", 102, "OBX^1^5"),
            ("|80|", "|1e9|", 102, "OBX^1^5"),
            ("|80|", "|1,5|", 102, "OBX^1^5"),
            ("|80|", "|--1|", 102, "OBX^1^5"),
            ("|80|", "|.|", 102, "OBX^1^5"),
            ("|NM|", "|QQ|", 103, "OBX^1^2"),
            ("|2^B^MDC|", "||", 103, "OBX^1^6"),
            ("|||||R|", "||||||", 101, "OBX^1^11"),
            ("|||||R|", "|||||Q|", 103, "OBX^1^11"),
            ("20260314101500+0000", "20261301", 102, "OBX^1^14"),
            ("20260314101500+0000", "20260230", 102, "OBX^1^14"),
            ("20260314101500+0000", "20260314101500+9999", 102, "OBX^1^14"),
            ("OBR|1||||||20260314", "OBR|1||||||letters", 102, "OBR^1^7"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(told(&GOOD.replacen(from, to, 1)), Some((code, location.to_owned())), "{from} to {to}");
        }
    }

    #[test]
    fn what_is_odd_and_right_passes() {
        assert_eq!(told(GOOD), None);
        for (from, to) in [
            ("|80|", "|0.10|".to_owned()),
            ("|80|", "|-80.|".to_owned()),
            ("|80|", "|+.5~7|".to_owned()),
            ("|80|", format!("|{}|", "9".repeat(400))),
            ("|||||R|", "|||||X|".to_owned()),
            ("|||||R|", "|||||W|".to_owned()),
            ("PID|||7^^^H\r", "PID|||7^^^H\rPID|||7^^^H\r".to_owned()),
            ("ORU^R01", "ORU^R40".to_owned()),
        ] {
            assert_eq!(told(&GOOD.replacen(from, &to, 1)), None, "{from}");
        }
    }
}
