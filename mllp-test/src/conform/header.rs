//! MSH and the times everywhere: A01 to A10.

use super::{
    Notes,
    message::{Message, NULL, Segment},
    values,
};

const CHARSETS_8859: &[&str] =
    &["8859/1", "8859/2", "8859/3", "8859/4", "8859/5", "8859/6", "8859/7", "8859/8", "8859/9", "8859/15"];
/// Of table 0211, whose bytes are not judged here.
const OTHER_CHARSETS: &[&str] =
    &["ISO IR6", "ISO IR14", "ISO IR87", "ISO IR159", "GB 18030-2000", "KS X 1001", "CNS 11643-1992", "BIG-5"];

pub(super) fn check(message: &Message, bytes: &[u8], notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    if message.separator != '|' {
        notes.breach("A01", msh, 1, "the field separator is not |");
    }
    if message.marks != "^~\\&" {
        notes.breach("A01", msh, 2, "the encoding characters are not ^~\\&");
    }
    sender(msh, notes);
    times(message, notes);
    identity(msh, notes);
    acknowledgement(msh, notes);
    profile(msh, notes);
    charset(msh, bytes, notes);
    for field in [8, 14, 20, 22, 23, 24, 25] {
        if !msh.field(field).is_empty() {
            notes.breach("A10", msh, field, "the field is not to be used");
        }
    }
}

fn sender(msh: &Segment, notes: &mut Notes) {
    let [name, id, kind] = [1, 2, 3].map(|component| msh.part(3, component));
    if name.is_empty() && (id.is_empty() || kind.is_empty()) || id.is_empty() != kind.is_empty() {
        return notes.breach("A02", msh, 3, "neither a local name nor a universal identifier with its type");
    }
    if kind == "EUI-64" && !values::is_eui_64(id) {
        notes.breach("A02", msh, 3, "an EUI-64 has sixteen hexadecimal digits");
    } else if kind != "EUI-64" && msh.part(11, 1) == "P" {
        notes.warn("A02", msh, 3, "in production a sender is identified by EUI-64");
    }
}

fn identity(msh: &Segment, notes: &mut Notes) {
    let [kind, event, structure] = [1, 2, 3].map(|component| msh.part(9, component));
    let sent = format!("{kind}^{event}^{structure}");
    if notes.transaction.message_type().is_some_and(|wanted| sent != wanted) {
        notes.breach("A04", msh, 9, "not the message type of the transaction, with all three components");
    }
    if notes.transaction == super::Transaction::Ack && (event.is_empty() || structure != "ACK") {
        notes.breach("A04", msh, 9, "not ACK with the event that is answered and the structure ACK");
    }
    if msh.field(10).is_empty() {
        notes.breach("A05", msh, 10, "the control id is empty");
    }
    if !matches!(msh.part(11, 1), "P" | "D" | "T") {
        notes.breach("A06", msh, 11, "the processing id is none of P, D and T");
    }
    if msh.part(12, 1) != "2.6" {
        notes.breach("A06", msh, 12, "the version is not 2.6");
    }
}

fn acknowledgement(msh: &Segment, notes: &mut Notes) {
    if msh.field(15) != "AL" {
        notes.breach("A07", msh, 15, "an accept acknowledgement is always to be asked for");
    }
    // CP-150: a reporter that takes PCD-05 says so by another value.
    if msh.field(16) != "NE" && notes.transaction != super::Transaction::Pcd04 {
        notes.warn("A07", msh, 16, "an application acknowledgement is never to be asked for");
    }
}

fn profile(msh: &Segment, notes: &mut Notes) {
    let Some(oid) = notes.transaction.oid() else { return };
    let named = msh.repetitions(21).find(|profile| msh.component(profile, 3) == oid);
    match named {
        None => notes.breach("A08", msh, 21, "the OID of the transaction is not there"),
        Some(profile) if msh.component(profile, 4) != "ISO" => {
            notes.breach("A08", msh, 21, "the OID is not marked as of type ISO");
        }
        Some(_) => {}
    }
}

fn charset(msh: &Segment, bytes: &[u8], notes: &mut Notes) {
    if msh.repetitions(18).count() > 1 {
        return notes.breach("A09", msh, 18, "one charset only");
    }
    let name = msh.field(18);
    let fits = match name {
        "" if msh.raw(18) == NULL => return notes.breach("A09", msh, 18, "nothing is no charset"),
        "" | "ASCII" => bytes.is_ascii(),
        "UNICODE UTF-8" | "UNICODE" => std::str::from_utf8(bytes).is_ok(),
        _ if CHARSETS_8859.contains(&name) => true,
        _ => {
            if !OTHER_CHARSETS.contains(&name) {
                notes.breach("A09", msh, 18, "no charset of table 0211");
            }
            return;
        }
    };
    if !fits && name.is_empty() {
        notes.breach("A09", msh, 18, "the charset is not named and there is more than ASCII");
    } else if !fits {
        notes.breach("A09", msh, 18, "there are bytes that the charset does not have");
    }
}

/// The fields that are times.
fn times(message: &Message, notes: &mut Notes) {
    for segment in message.segments() {
        let fields: &[usize] = match segment.id.as_str() {
            "MSH" => &[7],
            "PID" => &[7, 29, 33],
            "PV1" => &[44, 45],
            "ORC" => &[9, 15],
            "OBR" => &[6, 7, 8, 22],
            "OBX" => &[14, 19],
            "TQ1" => &[7, 8],
            "PRT" => &[11, 12],
            _ => continue,
        };
        fields.iter().for_each(|&field| time(segment, field, notes));
        if segment.id == "OBX" && matches!(segment.field(2), "DTM" | "TS") {
            time(segment, 5, notes);
        }
    }
}

fn time(segment: &Segment, field: usize, notes: &mut Notes) {
    let text = segment.part(field, 1);
    if text.is_empty() {
        if segment.id == "MSH" {
            notes.breach("A03", segment, field, "the time is empty");
        }
        return;
    }
    match values::dtm(text) {
        None => notes.breach("A03", segment, field, "no legal date and time"),
        // A day of birth is the same everywhere.
        Some(_) if segment.id == "PID" && text.len() <= 8 => {}
        Some(time) if !time.has_zone => notes.breach("A03", segment, field, "the time has no zone"),
        Some(_) => {}
    }
}
