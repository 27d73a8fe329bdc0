//! OBR, and the infusion order of PCD-03: A16 to A18 and D02.

use super::{Notes, message::Message, message::Segment, values::dtm};

pub(super) fn check(message: &Message, notes: &mut Notes) {
    for obr in message.all("OBR") {
        identifiers(obr, notes);
        if [1, 2, 3].iter().any(|&component| obr.part(4, component).is_empty()) && obr.part(4, 1) != "999999" {
            notes.breach("A17", obr, 4, "code, text or coding system of the service is empty");
        }
        interval(message, obr, notes);
    }
    infusion(message, notes);
}

fn identifiers(obr: &Segment, notes: &mut Notes) {
    if obr.field(1) != obr.number.to_string() {
        notes.breach("A16", obr, 1, "the set id does not count from 1");
    }
    let [id, namespace, universal, kind] = [1, 2, 3, 4].map(|component| obr.part(3, component));
    if id.is_empty() || namespace.is_empty() && (universal.is_empty() || kind.is_empty()) {
        notes.breach("A16", obr, 3, "the filler order number has no identifier, or does not say whose it is");
    }
    if !obr.field(2).is_empty() && (obr.part(2, 1).is_empty() || obr.part(2, 2).is_empty()) {
        notes.breach("A16", obr, 2, "the placer order number has no identifier or namespace");
    }
}

/// Half open: what is observed at OBR-8 is of the next report (TF-2 B.7).
fn interval(message: &Message, obr: &Segment, notes: &mut Notes) {
    let (Some(start), Some(end)) = (dtm(obr.field(7)), dtm(obr.field(8))) else { return };
    if end.millis <= start.millis {
        return notes.breach("A18", obr, 8, "the end is not after the start");
    }
    for obx in message.all("OBX").filter(|obx| obx.group == obr.group) {
        if dtm(obx.field(14)).is_some_and(|time| !(start.millis..end.millis).contains(&time.millis)) {
            notes.breach("A18", obx, 14, "observed outside the interval of its OBR");
        }
    }
}

fn infusion(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let mut wanted = |id: &'static str, fields: &[usize], words| match message.first(id) {
        None => notes.breach("D02", msh, 0, words),
        Some(segment) => {
            for &field in fields.iter().filter(|&&field| segment.field(field).is_empty()) {
                notes.breach("D02", segment, field, words);
            }
        }
    };
    wanted("ORC", &[9], "the time of the order is not told");
    wanted("RXG", &[5, 15, 16], "amount, rate or unit of rate is not told");
    wanted("RXR", &[], "the route is not told");
    for rxr in message.all("RXR") {
        if !matches!(rxr.part(4, 1), "IV" | "IVPB") && !matches!(rxr.part(4, 2), "IV" | "IVPB") {
            notes.breach("D02", rxr, 4, "the method is neither IV nor IVPB");
        }
    }
    let pump = message.all("OBX").find(|obx| obx.part(3, 1) == "69986");
    match pump {
        None => notes.breach("D02", msh, 0, "no OBX names the pump"),
        Some(obx) if obx.field(18).is_empty() => notes.breach("D02", obx, 18, "the pump is not identified"),
        Some(_) => {}
    }
}
