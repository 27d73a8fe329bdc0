//! The checks every message passes before it is stored: what framing, MSH and the character set must be.
//!
//! What a device reports is not judged here. A check that refuses what real gateways send loses data, so there is none
//! without a rule of the standard and a row of its own in the tests.

use memchr::memchr_iter;

use super::refusal::{Refusal, location};
use crate::{
    channel::Listener,
    hl7::{Header, Message},
    pcd::tolerance::Quirk,
};

/// Longest MSH-10 answered as good (HL7 v2.6 ch. 2.14.9.10).
const CONTROL_ID_BYTES_MAX: usize = 199;
/// Segments of one message: its index is a multiple of it.
const SEGMENTS_MAX: usize = 100_000;
/// Fields of one message: as above.
const FIELDS_MAX: usize = 4_000_000;
/// MSH-12 taken where a channel names none.
const VERSIONS: [&str; 14] =
    ["2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.7.1", "2.8", "2.8.1", "2.8.2", "2.9"];

/// MSH as far as it is the same for every channel.
pub(super) fn header(header: &Header<'_>) -> Result<(), Refusal> {
    if header.delimiters.subcomponent.is_none() {
        let text = "MSH-2 has three encoding characters; send four, such as ^~\\&";
        return Err(Refusal::error("delimiters", 102, "MSH^1^2", text));
    }
    if header.component(9, 1).is_empty() {
        return Err(Refusal::reject("message_type", 200, "MSH^1^9", "MSH-9 is empty; send type and trigger event"));
    }
    match header.field(10).len() {
        0 => Err(Refusal::error("control_id", 101, "MSH^1^10", "MSH-10 is empty; send a unique control id")),
        length if length > CONTROL_ID_BYTES_MAX => {
            Err(Refusal::error("control_id", 104, "MSH^1^10", "MSH-10 is over 199 bytes"))
        }
        _ => Ok(()),
    }
}

/// Bounds on what an index of the message would hold, before one is made.
pub(super) fn size(bytes: &[u8], header: &Header<'_>) -> Result<(), Refusal> {
    let over = |what| Err(Refusal::error("structure", 198, "", what));
    if memchr_iter(b'\r', bytes).count() + memchr_iter(b'\n', bytes).count() > SEGMENTS_MAX * 2 {
        return over("the message has over 100,000 segments; split it");
    }
    if memchr_iter(header.delimiters.field, bytes).count() > FIELDS_MAX {
        return over("the message has over 4,000,000 fields; split it");
    }
    Ok(())
}

/// That MSH-3 names one whom the connection's certificate may send as, in each repetition: a channel may go by any of them.
pub(super) fn sender(message: &Message, sends_as: &[String]) -> Result<(), Refusal> {
    let is_bound = |name: &str| sends_as.iter().any(|own| own.eq_ignore_ascii_case(name));
    let mut names = message.msh().field(3).repetitions().map(|name| {
        let [own, universal] = [1, 2].map(|n| message.text(name.component(n).raw()).trim().to_owned());
        if own.is_empty() { universal } else { own }
    });
    if names.all(|name| is_bound(&name)) {
        return Ok(());
    }
    let text = "the connection's certificate may not send as MSH-3: the gateway must send as itself, or the listener's operator add it to tls.senders";
    Err(Refusal::reject("sender", 207, "MSH^1^3", text))
}

/// MSH-11, MSH-12 and the number of segments, by the channel that takes the message.
pub(super) fn listener(message: &Message, header: &Header<'_>, listener: &Listener) -> Result<(), Refusal> {
    if message.segments().len() > SEGMENTS_MAX {
        let text = "the message has over 100,000 segments; split it";
        return Err(Refusal::error("structure", 198, "", text));
    }
    let processing_id = header.component(11, 1).trim_ascii();
    let taken = &listener.processing_ids;
    let known = taken.iter().any(|id| id.as_bytes() == processing_id) || (taken.is_empty() && processing_id == b"P");
    if !known {
        let text = "MSH-11 is not a processing id this listener takes; its channel can be set to";
        return Err(Refusal::reject("processing_id", 202, "MSH^1^11", text));
    }
    let version = header.component(12, 1).trim_ascii();
    let known = match listener.versions.as_slice() {
        [] => VERSIONS.iter().any(|known| known.as_bytes() == version),
        taken => taken.iter().any(|prefix| is_version(version, prefix)),
    };
    if !known {
        let text = "MSH-12 is not a version this listener takes; its channel can be set to";
        return Err(Refusal::reject("version", 203, "MSH^1^12", text));
    }
    Ok(())
}

/// `2.5` takes 2.5 and 2.5.1; `2.` and an empty prefix take whatever begins so.
fn is_version(version: &[u8], prefix: &str) -> bool {
    let rest = version.strip_prefix(prefix.as_bytes());
    let open = prefix.is_empty() || prefix.ends_with('.');
    !version.is_empty() && rest.is_some_and(|rest| open || rest.is_empty() || rest.starts_with(b"."))
}

/// The text: legal in its character set, and without control characters, which would act on whoever prints it.
pub(super) fn text(message: &Message) -> Result<(), Refusal> {
    message.check_text().map_err(|error| Refusal::charset(error, message))?;
    // The sets that shift between alphabets do so with ESC.
    let shifts = message.charset().is_ok_and(|set| set.shifts());
    let bytes = message.as_bytes();
    let control = |byte: &u8| *byte < b' ' && !matches!(*byte, b'\r' | b'\n' | b'\t') && !(shifts && *byte == 0x1B);
    // In whole blocks first, which is much faster than byte by byte, and nearly always all there is to do.
    let block = bytes.chunks(1024).position(|block| block.iter().fold(false, |found, byte| found | control(byte)));
    let Some(start) = block.map(|number| number * 1024) else { return Ok(()) };
    let offset = start + bytes[start..].iter().position(control).unwrap_or(0);
    let text = "a control character stands in the message; send it escaped";
    let refusal = Refusal::error("control_character", 102, location(message, offset), text);
    Err(refusal.for_quirk(Quirk::ControlCharacter))
}

/// No channel takes the message: its event is unknown, or its type.
pub(super) fn unrouted(header: &Header<'_>) -> Refusal {
    let (kind, event) = (header.component(9, 1), header.component(9, 2));
    let known = EVENTS.iter().find(|(of, _)| of.as_bytes() == kind);
    match known {
        Some((_, events)) if !event.is_empty() && !events.iter().any(|known| known.as_bytes() == event) => {
            Refusal::reject("event", 201, "MSH^1^9^1^2", "MSH-9.2 is not an event of this message type")
        }
        _ => Refusal::reject("message_type", 200, "MSH^1^9", "no channel of this listener takes such a message"),
    }
}

/// Table 0003, as far as device gateways and their neighbours use it.
const EVENTS: [(&str, &[&str]); 5] = [
    ("ORU", &["R01", "R30", "R31", "R32", "R40", "R42", "W01"]),
    ("ORA", &["R33", "R41"]),
    ("RGV", &["O15"]),
    ("RRG", &["O16"]),
    ("RDE", &["O11", "O25"]),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bound_sender_is_known_by_each_repetition_of_msh_3() {
        let bound = ["Pump Gateway".to_owned(), "00AA".to_owned()];
        for (msh_3, is_bound) in [
            ("Pump Gateway", true),
            (" PUMP GATEWAY ^FFFF^EUI-64", true),
            ("^00aa^EUI-64", true),
            ("Pump Gateway~00AA", true),
            ("Other^00AA^EUI-64", false),
            ("Other^Pump Gateway", false),
            ("Pump Gateway~Other", false),
            ("Pump Gateway&Other", false),
            ("Pump", false),
            ("^FFFF^EUI-64", false),
            ("", false),
            ("\"\"", false),
        ] {
            let text = format!("MSH|^~\\&|{msh_3}|W|||20260105||ORU^R01|1|P|2.6\r");
            let judged = sender(&Message::parse(text.into_bytes()).unwrap(), &bound);
            assert_eq!(judged.is_ok(), is_bound, "{msh_3}");
        }
    }
}
