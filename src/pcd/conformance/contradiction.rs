//! What a message says against itself (E01 to E05): no assertion of the framework, yet a person must not read one half of it
//! alone. `explain` says each of these in its first sentences.

use super::{
    Reading, Told,
    reading::{ascii, mdc, part},
};
use crate::{
    hl7::Field,
    pcd::{Coded, Fit, PumpEventKind, Triplet, event::squeezed, names_two_units},
};

/// Amounts of RXG, each with its unit.
pub(super) const AMOUNTS: [(usize, usize); 4] = [(5, 7), (15, 16), (17, 18), (23, 24)];

pub(super) fn order(reading: &Reading<'_>, told: &mut Told<'_>) {
    for rxg in reading.segments("RXG") {
        for (amount, unit) in AMOUNTS {
            if has_two_units(reading, rxg.field(unit)) {
                told.error(rxg, unit, 103, "an amount of the order is in two different units; ask who ordered it");
            }
            match part(rxg, amount, 1) {
                b"" => {}
                sent if !is_number(sent) => told.error(rxg, amount, 102, "an amount of the order is no number"),
                [b'-', number @ ..] if number.iter().any(|byte| matches!(byte, b'1'..=b'9')) => {
                    told.error(rxg, amount, 102, "an amount of the order is below zero");
                }
                _ => {}
            }
        }
    }
}

/// NM: a sign, digits, one point (HL7 v2.6 ch. 2.A.47).
fn is_number(sent: &[u8]) -> bool {
    let digits = sent.strip_prefix(b"-").or_else(|| sent.strip_prefix(b"+")).unwrap_or(sent);
    let points = digits.iter().filter(|byte| **byte == b'.').count();
    points < 2 && digits.len() > points && digits.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.')
}

fn has_two_units(reading: &Reading<'_>, unit: Field<'_>) -> bool {
    let coded = Coded::read(unit.first());
    names_two_units(reading.nomenclature, &coded, |raw| reading.message.text(raw).trim().to_owned())
}

pub(super) fn codes(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        let is_coded = matches!(row.raw(2), b"CWE" | b"CNE" | b"CE" | b"CF");
        let differs = |sent: Coded<'_>| {
            let resolve = |one: Triplet<'_>| reading.nomenclature.resolve(ascii(one.code), ascii(one.text));
            let all = sent.triplets().filter(|one| one.system.trim_ascii() == b"MDC").map(resolve);
            let mut codes: Vec<u32> = all.filter_map(|found| found.code).collect();
            codes.dedup();
            codes.len() > 1 || mdc(&sent).map(|one| resolve(one).fit) == Some(Fit::OtherTerm)
        };
        if is_coded && row.obx.field(5).repetitions().any(|one| differs(Coded::read(one))) {
            told.error(row.obx, 5, 103, "number and identifier of OBX-5 are of two different terms");
        }
        if matches!(row.raw(2), b"NM" | b"SN") && has_two_units(reading, row.obx.field(6)) {
            told.error(row.obx, 6, 103, "OBX-6 names two different units");
        }
    }
}

pub(super) fn event(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some((event, obx)) = reading.pump_event() else { return };
    let infusion = &event.infusion;
    let says = |word: &Option<String>, wanted: &str| word.as_deref() == Some(wanted);
    let statuses = [&infusion.mode, &infusion.delivery, &infusion.infusing].into_iter().flatten();
    // After its completion a pump may keep the vein open.
    let keeps_open =
        statuses.map(|word| squeezed(word)).any(|word| word.contains("kvo") || word.contains("keepveinopen"));
    // The pump's status is the source's where there is no other.
    let infuses = says(&infusion.infusing, "infusing") && event.sources < 2;
    let goes_on = !keeps_open && (says(&infusion.delivery, "delivering") || infuses);
    match event.event {
        PumpEventKind::DeliveryStart if says(&infusion.delivery, "not delivering") => {
            told.warning(obx, 5, 103, "the event is a start, and its source is said not to deliver");
        }
        PumpEventKind::DeliveryStart if says(&infusion.infusing, "not infusing") => {
            told.warning(obx, 5, 103, "the event is a start, and the pump is said not to infuse");
        }
        PumpEventKind::DeliveryComplete if goes_on => {
            told.warning(obx, 5, 103, "the event is a completion, and the infusion is said to go on");
        }
        _ => {}
    }
}

pub(super) fn drug(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some((event, obx)) = reading.pump_event() else { return };
    let infusion = &event.infusion;
    let Some((drug, label)) = infusion.drug.as_ref().zip(infusion.drug_label.as_ref()) else { return };
    let (ordered, shown) = (names(&format!("{} {}", drug.words, drug.name)), names(label));
    let agree = |a: &String, b: &String| a.starts_with(b.as_str()) || b.starts_with(a.as_str());
    let differ = !ordered.iter().any(|name| shown.iter().any(|other| agree(name, other)));
    let is_known = !drug.code.starts_with("999999") && !squeezed(&drug.words).contains("unknown");
    if is_known && differ && !ordered.is_empty() && !shown.is_empty() {
        told.warning(
            obx,
            5,
            103,
            "the drug's label on the pump (184514) reads otherwise than OBR-4: find out whether both are one drug",
        );
    }
}

/// The words of a drug's name that may be a name: no amounts, and nothing that stands beside any drug.
fn names(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphabetic()).map(str::to_lowercase);
    words.filter(|word| word.chars().count() >= 3 && !BESIDE_DRUGS.contains(&word.as_str())).collect()
}

const BESIDE_DRUGS: [&str; 14] = [
    "mcg",
    "meq",
    "mmol",
    "unit",
    "units",
    "infusion",
    "drip",
    "bag",
    "syringe",
    "premix",
    "injection",
    "solution",
    "and",
    "with",
];

pub(super) fn flow(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some((event, obx)) = reading.pump_event() else { return };
    if event.infusion.is_flow_shared {
        told.warning(
            obx,
            5,
            198,
            "several sources deliver, and the flow is that of the whole pump: it is not the source's",
        );
    }
}
