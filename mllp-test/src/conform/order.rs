//! OBR, and the infusion order of PCD-03: A16 to A18 and D02.

use super::{Notes, message::Message, message::Segment, values::dtm};

pub(super) fn check(message: &Message, notes: &mut Notes) {
    for obr in message.all("OBR") {
        identifiers(obr, notes);
        let [code, text, system] = [1, 2, 3].map(|component| obr.part(4, component));
        if code.is_empty() && text.is_empty() {
            notes.breach("A17", obr, 4, "the service is empty");
        } else if (code.is_empty() || text.is_empty() || system.is_empty()) && code != "999999" {
            notes.warn("A17", obr, 4, "code, text or coding system of the service is empty");
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
    // Without zones nothing is known of which came first.
    let zoned = |text| dtm(text).filter(|time| time.has_zone);
    let (Some(start), Some(end)) = (zoned(obr.part(7, 1)), zoned(obr.part(8, 1))) else { return };
    if end.millis <= start.millis {
        notes.breach("A18", obr, 8, "the end is not after the start");
    }
    for obx in message.all("OBX").filter(|obx| obx.group == obr.group) {
        if zoned(obx.part(14, 1)).is_some_and(|time| !(start.millis..end.millis).contains(&time.millis)) {
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
    wanted("RXG", &[4, 5], "the drug or its amount is not told");
    wanted("RXR", &[], "the route is not told");
    for rxg in message.all("RXG") {
        for (amount, unit) in [(5, 7), (15, 16), (17, 18), (23, 24)] {
            if rxg.field(amount).is_empty() != rxg.field(unit).is_empty() {
                notes.breach("D02", rxg, unit, "an amount without unit, or the other way about");
            }
        }
    }
    if let Some(rxr) = message.first("RXR").filter(|rxr| !matches!(rxr.part(4, 1), "IV" | "IVPB")) {
        notes.breach("D02", rxr, 4, "the method is neither IV nor IVPB");
    }
    let pump = message.all("OBX").find(|obx| obx.is_term(3, "69986", "MDC_DEV_PUMP_INFUS_VMD"));
    match pump {
        None => notes.breach("D02", msh, 0, "no OBX names the pump"),
        Some(obx) if obx.field(18).is_empty() => notes.breach("D02", obx, 18, "the pump is not identified"),
        Some(_) => {}
    }
}
