//! OBX as the framework wants it in every report: A19 to A31.

use super::{
    Notes, Transaction,
    message::{Message, Segment},
    terms::{self, Known},
    values,
};
use std::collections::HashSet;

const TYPES: &[&str] = &["CNE", "CWE", "CF", "DR", "DTM", "ED", "FT", "NA", "NM", "PN", "SN", "ST", "TM", "XCN", "XPN"];
const STATUSES: &[&str] = &["C", "D", "F", "P", "R", "S", "U", "W", "X"];
/// OBX-8 that say why there is no value.
const MISSING: &[&str] = &["INV", "NAV", "BUSY", "NI", "NA", "OFF", "MSK", "OTH", "NAN", "PINF", "NINF"];
/// The other codes of OBX-8: where a value lies, how far to trust it, and an alert's priority and type.
const INTERPRETATIONS: &[&str] = &[
    "N", "L", "LL", "H", "HH", "A", "QUES", "CAL", "TEST", "DEMO", "EARLY", "ALACT", "ALINH", "PN", "PL", "PM", "PH",
    "SP", "ST", "SA",
];
const METHODS: &[&str] = &["AMEAS", "MMEAS", "ASET", "MSET", "ACALC", "MCALC", "UNSPEC", "AUSRFS", "INVRFS", "RSET"];
const SETTINGS: &[&str] = &["ASET", "MSET", "RSET"];

pub(super) fn check(message: &Message, notes: &mut Notes) {
    for obx in message.all("OBX") {
        if obx.field(1) != obx.number.to_string() {
            notes.breach("A19", obx, 1, "the set id does not count through the message");
        }
        value_type(obx, notes);
        term(obx, notes);
        device_or_metric(obx, notes);
        value(obx, notes);
        unit(obx, notes);
        status(obx, notes);
        method(obx, notes);
        for field in [9, 12, 13] {
            if !obx.field(field).is_empty() {
                notes.breach("A31", obx, field, "the field is not to be used");
            }
        }
    }
    containment(message, notes);
    identity(message, notes);
}

fn value_type(obx: &Segment, notes: &mut Notes) {
    match obx.field(2) {
        "" if obx.field(11) == "X" => {}
        "" => notes.breach("A20", obx, 2, "the value type is empty"),
        known if TYPES.contains(&known) => {}
        _ => notes.breach("A20", obx, 2, "the value type is none of Table C-1"),
    }
}

fn term(obx: &Segment, notes: &mut Notes) {
    let [code, refid, system] = [1, 2, 3].map(|component| obx.part(3, component));
    if code.is_empty() || refid.is_empty() || system.trim().is_empty() {
        return notes.breach("A21", obx, 3, "code, identifier or coding system is empty");
    }
    if system.trim() != "MDC" {
        return;
    }
    match code.parse::<u32>() {
        Err(_) => notes.breach("A21", obx, 3, "the code is no number"),
        Ok(0) if refid.starts_with("MDCX_") => {}
        Ok(0) => notes.breach("A21", obx, 3, "only a provisional identifier has the code 0"),
        Ok(code) if code < 1 << 16 => notes.breach("A21", obx, 3, "the code has no partition"),
        Ok(code) => match terms::term(code, refid.trim()) {
            Known::Agree => {}
            Known::Differ => notes.breach("A21", obx, 3, "code and identifier are of two terms"),
            Known::Renamed => notes.warn("A21", obx, 3, "the code has another identifier in the table"),
            Known::Unknown => notes.warn("A21", obx, 3, "the code is in no table"),
        },
    }
}

/// Trailing zero in OBX-4; `None` where OBX-4 is no path.
fn is_device(obx: &Segment) -> Option<bool> {
    values::path(obx.field(4)).map(|path| values::is_device(&path))
}

fn device_or_metric(obx: &Segment, notes: &mut Notes) {
    match is_device(obx) {
        Some(true) => {
            if !obx.field(5).is_empty() {
                notes.breach("A24", obx, 5, "a device has a value");
            }
            if obx.field(11) != "X" {
                notes.breach("A24", obx, 11, "the status of a device is not X");
            }
        }
        Some(false) if obx.field(5).is_empty() => {
            let why = |repetition: &str| MISSING.contains(&obx.component(repetition, 1));
            if !obx.repetitions(8).any(why) {
                notes.breach("A24", obx, 5, "a metric has no value, and OBX-8 does not say why");
            }
        }
        _ => {}
    }
}

fn value(obx: &Segment, notes: &mut Notes) {
    for repetition in obx.repetitions(5) {
        let wrong = match obx.field(2) {
            "NM" => (!values::is_number(repetition)).then_some("no number"),
            "SN" => structured(obx, repetition),
            "ST" => is_structured_text(repetition).then_some("a comparison or ratio is to be an SN"),
            _ => None,
        };
        if let Some(words) = wrong {
            return notes.breach("A25", obx, 5, words);
        }
    }
}

fn structured(obx: &Segment, text: &str) -> Option<&'static str> {
    let part = |n| obx.component(text, n);
    let legal = obx.width(text) <= 4
        && matches!(part(1), "" | ">" | "<" | ">=" | "<=" | "=" | "<>")
        && matches!(part(3), "" | "-" | "+" | "/" | "." | ":")
        && [2, 4].into_iter().all(|n| part(n).is_empty() || values::is_number(part(n)))
        && !part(2).is_empty();
    (!legal).then_some("no structured number of four parts")
}

/// `>300`, `1:4` or `90/60` sent as text.
fn is_structured_text(text: &str) -> bool {
    let compared = text.trim_start_matches(['<', '>', '=']);
    let is_ratio =
        |separator| text.split_once(separator).is_some_and(|(a, b)| values::is_number(a) && values::is_number(b));
    compared.len() < text.len() && values::is_number(compared.trim()) || is_ratio(':') || is_ratio('/')
}

fn unit(obx: &Segment, notes: &mut Notes) {
    if !matches!(obx.field(2), "NM" | "SN" | "NA") || obx.field(5).is_empty() {
        return;
    }
    if obx.field(6).is_empty() {
        return notes.breach("A26", obx, 6, "a number without unit");
    }
    let coded =
        |system: &str| [(1, 3), (4, 6)].into_iter().find(|&(_, at)| obx.part(6, at).trim() == system).map(|(at, _)| at);
    let (mdc, ucum) = (coded("MDC"), coded("UCUM"));
    if mdc.is_none() && ucum.is_none() {
        return notes.warn("A26", obx, 6, "the unit is neither of MDC nor of UCUM");
    }
    let Some(code) = mdc.map(|at| obx.part(6, at).parse::<u32>()) else { return };
    let refid = mdc.map_or("", |at| obx.part(6, at + 1));
    match code.map(|code| (code, terms::unit(code, refid))) {
        Err(_) => notes.warn("A26", obx, 6, "the code of the unit is no number"),
        Ok((_, Known::Differ | Known::Renamed)) => notes.warn("A26", obx, 6, "code and identifier are of two units"),
        Ok((_, Known::Unknown)) => notes.warn("A26", obx, 6, "the unit is in no table"),
        Ok((code, Known::Agree)) => {
            let ucum = ucum.map(|at| obx.part(6, at));
            if ucum.is_some_and(|ucum| terms::same_unit(code, ucum) == Some(false)) {
                notes.warn("A26", obx, 6, "the two units given are not the same");
            }
        }
    }
}

fn status(obx: &Segment, notes: &mut Notes) {
    let status = obx.field(11);
    if !STATUSES.contains(&status) {
        notes.breach("A28", obx, 11, "no status of the table");
    }
    let is_excused = obx.repetitions(8).any(|repetition| MISSING.contains(&obx.component(repetition, 1)));
    if status == "X" && is_device(obx) != Some(true) && !obx.field(5).is_empty() && !is_excused {
        notes.breach("A27", obx, 11, "the status says that there is no value, and there is one");
    }
    for code in obx.repetitions(8).map(|repetition| obx.component(repetition, 1)) {
        if !code.is_empty() && !MISSING.contains(&code) && !INTERPRETATIONS.contains(&code) {
            notes.breach("A27", obx, 8, "an unknown interpretation code");
        }
        let wanted = match code {
            "INV" | "NAV" | "BUSY" => "X",
            "QUES" | "CAL" | "TEST" | "DEMO" | "EARLY" | "ALACT" | "ALINH" => "R",
            _ => continue,
        };
        if status != wanted {
            notes.breach("A27", obx, 11, "the status does not fit the interpretation code");
        }
    }
}

fn method(obx: &Segment, notes: &mut Notes) {
    let codes = || obx.repetitions(17).map(|repetition| obx.component(repetition, 1));
    if codes().any(|code| !code.is_empty() && !METHODS.contains(&code)) {
        notes.breach("A30", obx, 17, "an unknown method");
    }
    if obx.part(3, 2).ends_with("_SETTING") && !codes().any(|code| SETTINGS.contains(&code)) {
        notes.breach("A30", obx, 17, "a setting does not say that it is one");
    }
}

fn containment(message: &Message, notes: &mut Notes) {
    let mut devices: HashSet<[u64; 3]> = HashSet::new();
    let groups = message.all("OBX").map(|obx| obx.group).collect::<Vec<_>>();
    let mut seen: HashSet<(usize, Vec<u64>)> = HashSet::new();
    let mut rows: Vec<(bool, Vec<u64>, &Segment)> = Vec::new();
    for obx in message.all("OBX") {
        let Some(path) = values::path(obx.field(4)) else {
            notes.breach("A22", obx, 4, "no containment path of four to six ordinals");
            continue;
        };
        if !seen.insert((obx.group, path.clone())) {
            notes.breach("A22", obx, 4, "the same path twice in an OBR group");
        }
        let device = values::is_device(&path);
        if device {
            devices.insert([path[0], path[1], path[2]]);
        } else if !has_ancestors(&devices, &path) {
            // The framework's own alerts (TF-2 E.3.1, E.3.2) name where they come from and describe no device there.
            match notes.transaction {
                Transaction::Pcd04 | Transaction::Pcd05 => {
                    notes.warn("A23", obx, 4, "the device of the alert is not told in the message");
                }
                _ => notes.breach("A23", obx, 4, "a device that contains the metric is not told before it"),
            }
        }
        rows.push((device, path, obx));
    }
    for group in groups.iter().collect::<std::collections::BTreeSet<_>>() {
        in_order(rows.iter().filter(|(_, _, obx)| obx.group == *group), notes);
    }
}

/// A zero inside a path is a level without name, which nothing tells of.
fn has_ancestors(devices: &HashSet<[u64; 3]>, path: &[u64]) -> bool {
    let [mds, vmd, channel] = [path[0], path[1], path[2]];
    devices.contains(&[mds, 0, 0])
        && (vmd == 0 || devices.contains(&[mds, vmd, 0]))
        && (channel == 0 || devices.contains(&[mds, vmd, channel]))
}

/// In dictionary order by number, or so that all devices come first.
fn in_order<'a>(rows: impl Iterator<Item = &'a (bool, Vec<u64>, &'a Segment)> + Clone, notes: &mut Notes) {
    let ascends = |mut rows: Vec<&'a (bool, Vec<u64>, &'a Segment)>| {
        let last = rows.split_off(rows.len().min(1));
        let pairs = rows.iter().chain(&last).zip(&last);
        pairs.clone().find(|(before, after)| before.1 > after.1).map(|(_, after)| after.2)
    };
    let all: Vec<_> = rows.clone().collect();
    let Some(first) = ascends(all.clone()) else { return };
    let devices_first = all.is_sorted_by_key(|row| !row.0);
    let each = [true, false].map(|device| ascends(rows.clone().filter(|row| row.0 == device).collect()));
    if !devices_first || each.iter().any(Option::is_some) {
        notes.warn("A22", first, 4, "the paths are in no order");
    }
}

fn identity(message: &Message, notes: &mut Notes) {
    let is_mds = |obx: &&Segment| values::path(obx.field(4)).is_some_and(|path| path[1..] == [0, 0, 0]);
    for mds in message.all("OBX").filter(is_mds) {
        if mds.field(18).is_empty() {
            notes.breach("A29", mds, 18, "the device is not identified");
        } else if !mds.repetitions(18).any(|id| mds.component(id, 4) == "EUI-64") {
            notes.warn("A29", mds, 18, "the device is better identified by EUI-64");
        }
    }
    let Some(first) = message.all("OBX").find(is_mds) else { return };
    if !message.all("OBX").any(|obx| obx.part(3, 1) == "67975") {
        notes.warn("A29", first, 0, "the device does not disclose its time (MDC_ATTR_TIME_ABS)");
    }
}
