//! What a message says against itself (E01 to E06): no assertion of the framework, yet a person must not read one half of it
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
                [b'-', number @ ..] if is_more_than_zero(number) => {
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
        let values = || row.obx.field(5).repetitions().filter(|_| is_coded).map(Coded::read);
        if values().any(differs) {
            told.error(row.obx, 5, 103, "number and identifier of OBX-5 are of two different terms");
        } else if values().any(|sent| words_say_otherwise(reading, &sent)) {
            told.error(row.obx, 5, 103, "the text of OBX-5 says the opposite of its code");
        }
        if matches!(row.raw(2), b"NM" | b"SN") && has_two_units(reading, row.obx.field(6)) {
            told.error(row.obx, 6, 103, "OBX-6 names two different units");
        }
    }
}

/// Words of which a term's identifier has one and a text of the same thing no other.
const OPPOSITES: [&[&[&str]]; 3] = [
    &[&["start", "started", "starts"], &["stop", "stopped", "stops"], &["comp", "complete", "completed", "completion"]],
    &[&["hi", "high"], &["lo", "low"]],
    &[&["connected"], &["disconnected"]],
];

/// The words beside an MDC term are those of another: a pump's stop that reads as a start. Other words say nothing.
fn words_say_otherwise(reading: &Reading<'_>, sent: &Coded<'_>) -> bool {
    let Some(one) = mdc(sent) else { return false };
    let resolved = reading.nomenclature.resolve(ascii(one.code), ascii(one.text));
    let Some(term) = resolved.term.map(|term| words_of(&term.refid)) else { return false };
    let free = sent.triplets().map(|triplet| triplet.text).filter(|text| !text.starts_with(b"MDC"));
    let mut texts = free.chain([sent.original_text]).map(|raw| words_of(&reading.message.text(raw)));
    texts.any(|text| {
        OPPOSITES.iter().any(|classes| {
            let of = |words: &[String], class: &[&str]| words.iter().any(|word| class.contains(&word.as_str()));
            let meant: Vec<_> = classes.iter().filter(|class| of(&term, class)).collect();
            let said: Vec<_> = classes.iter().filter(|class| of(&text, class)).collect();
            matches!((&meant[..], &said[..]), ([meant], [said]) if meant != said)
        })
    })
}

fn words_of(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase).collect()
}

/// What a pump, a scale or a monitor counts from nothing up, by the beginning of its identifier.
const NEVER_BELOW_ZERO: [&str; 16] = [
    "MDC_FLOW_FLUID_PUMP",
    "MDC_VOL_FLUID_TBI",
    "MDC_VOL_FLUID_DELIV",
    "MDC_RATE_DOSE",
    "MDC_CONC_DRUG",
    "MDC_DOSE_DRUG",
    "MDC_TIME_PD_REMAIN",
    "MDC_ATTR_PT_WEIGHT",
    "MDC_ATTR_PT_HEIGHT",
    "MDC_MASS_BODY_ACTUAL",
    "MDC_LEN_BODY_ACTUAL",
    "MDC_ECG_CARD_BEAT_RATE",
    "MDC_ECG_HEART_RATE",
    "MDC_PULS_RATE",
    "MDC_PULS_OXIM",
    "MDC_RESP_RATE",
];

pub(super) fn below_zero(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in reading.rows.iter().filter(|row| matches!(row.raw(2), b"NM") && row.raw(11) != b"X") {
        let sent = mdc(&row.code).map(|one| ascii(one.text).replacen("MDCX_", "MDC_", 1)).unwrap_or_default();
        let name = row.term.term.map_or(&*sent, |term| &*term.refid);
        let is_below = part(row.obx, 5, 1).strip_prefix(b"-").is_some_and(is_more_than_zero);
        if is_below && NEVER_BELOW_ZERO.iter().any(|begins| name.starts_with(begins)) {
            told.error(row.obx, 5, 102, "the value is below zero, which what is measured or given cannot be");
        }
    }
}

fn is_more_than_zero(digits: &[u8]) -> bool {
    digits.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

pub(super) fn event(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some((event, obx)) = reading.pump_event() else { return };
    let infusion = &event.infusion;
    let says = |word: &Option<String>, wanted: &str| word.as_deref() == Some(wanted);
    let statuses = [&infusion.mode, &infusion.delivery, &infusion.infusing].into_iter().flatten();
    let source =
        event.source.iter().flat_map(|source| [source.label.as_ref(), source.what.as_ref().map(|it| &it.name)]);
    // After its completion a pump may keep the vein open, and what a dose was given over goes on.
    let after_it = ["kvo", "keepveinopen", "bolus", "loading", "cliniciandose", "patientdose", "pcadose"];
    let words = statuses.chain(source.flatten()).map(|word| squeezed(word));
    let may_go_on = words.into_iter().any(|word| after_it.iter().any(|known| word.contains(known)));
    // The pump's status is the source's where there is no other.
    let infuses = says(&infusion.infusing, "infusing") && event.sources < 2;
    let goes_on = !may_go_on && (says(&infusion.delivery, "delivering") || infuses);
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
            "the flow is that of the whole pump, where another source than the event's delivers: it is not the source's",
        );
    }
}
