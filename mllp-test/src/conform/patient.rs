//! The structure of the message, the patient and the visit: A11 to A15.

use super::{Notes, message::Message, message::Segment};

const NOT_OF_THE_STRUCTURE: &[&str] = &["ORC", "PD1", "PV2", "SFT", "SPM", "DSC", "FT1", "CTI"];
const CLASSES: &[&str] = &["E", "I", "O", "P", "R", "B", "U"];

pub(super) fn check(message: &Message, notes: &mut Notes) {
    structure(message, notes);
    comments(message, notes);
    for pid in message.all("PID") {
        identifiers(pid, notes);
        name(pid, notes);
    }
    for pv1 in message.all("PV1") {
        visit(pv1, notes);
    }
}

fn structure(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    if message.first("PID").is_none() {
        notes.breach("A11", msh, 0, "there is no PID");
    }
    if message.first("OBR").is_none() {
        notes.breach("A11", msh, 0, "there is no OBR");
    }
    for segment in message.segments() {
        if NOT_OF_THE_STRUCTURE.contains(&segment.id.as_str()) {
            notes.breach("A11", segment, 0, "the segment is not of the structure");
        }
        if segment.group == 0 && segment.id == "OBX" {
            notes.breach("A11", segment, 0, "OBX before the first OBR");
        }
    }
    for obr in message.all("OBR") {
        if !message.all("OBX").any(|obx| obx.group == obr.group) {
            notes.breach("A11", obr, 0, "OBR without OBX");
        }
    }
}

fn comments(message: &Message, notes: &mut Notes) {
    let mut last = "";
    for segment in message.segments() {
        match segment.id.as_str() {
            "NTE" if !matches!(last, "OBR" | "OBX") => notes.breach("A12", segment, 0, "NTE after neither OBR nor OBX"),
            // They belong to the OBR or OBX before them.
            "NTE" | "PRT" | "TQ1" => {}
            id => last = id,
        }
    }
}

fn identifiers(pid: &Segment, notes: &mut Notes) {
    if pid.part(3, 1).is_empty() {
        notes.breach("A13", pid, 3, "the identifier is empty");
    }
    for identifier in pid.repetitions(3) {
        if pid.component(identifier, 4).is_empty() || pid.component(identifier, 5).is_empty() {
            notes.warn("A13", pid, 3, "an identifier without assigning authority or type");
        }
    }
    if pid.repetitions(3).count() > 6 {
        notes.breach("A13", pid, 3, "more than six identifiers");
    }
    for field in [1, 2, 4, 9, 19] {
        if !pid.field(field).is_empty() {
            notes.warn("A13", pid, field, "the field is not to be used");
        }
    }
}

fn name(pid: &Segment, notes: &mut Notes) {
    let is_legal = |name: &str| pid.component(name, 7) == "L";
    let is_unknown = |name: &str| {
        pid.component(name, 7) == "U" && (1..=pid.width(name)).all(|n| n == 7 || pid.component(name, n).is_empty())
    };
    // Other names may follow; the first is the one to call the patient by.
    let first = pid.repetitions(5).next().unwrap_or("");
    if !is_legal(first) && !is_unknown(first) {
        notes.breach("A14", pid, 5, "neither a legal name (type L) nor an unknown one (type U, all else empty)");
    }
}

fn visit(pv1: &Segment, notes: &mut Notes) {
    if !CLASSES.contains(&pv1.part(2, 1)) {
        notes.breach("A15", pv1, 2, "no patient class of the framework");
    }
    let place = pv1.repetitions(3).next().unwrap_or("");
    let others = (1..=pv1.width(place)).any(|n| n != 6 && !pv1.component(place, n).is_empty());
    if !pv1.component(place, 6).is_empty() && others {
        notes.breach("A15", pv1, 3, "the sixth part of a place is only for one that has no other");
    }
}
