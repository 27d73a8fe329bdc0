//! A pump event as the state machine takes it: what happened when, what was programmed, and how much was given.
//!
//! What must never happen: a number taken for a dose that the pump itself doubts, or that is in no unit of its kind.

use super::super::{
    TranslateError, Translation, concept,
    infusion::{Amount, Event, Happened, Mode, Programme, TEXT_MAX, Trust, When},
    references, refuse,
};
use crate::{
    fhir,
    hl7::Time,
    pcd::{Coded, Moment, Nth, PumpEvent, PumpEventKind, Quantity},
};

/// What happened; `None` of what says nothing of an infusion.
pub(super) fn happened(kind: &PumpEventKind) -> Option<Happened> {
    Some(match kind {
        PumpEventKind::DeliveryStart => Happened::Started,
        PumpEventKind::DeliveryStop => Happened::Stopped,
        PumpEventKind::DeliveryComplete => Happened::Completed,
        PumpEventKind::ProgramCleared => Happened::Cleared,
        PumpEventKind::VolumeCountersCleared => Happened::CountersCleared,
        PumpEventKind::PatientParameterChange => Happened::Changed,
        PumpEventKind::Other(name) => {
            let name = name.to_uppercase();
            let of_rate = ["RATE", "FLOW", "DOSE"].iter().any(|word| name.contains(word));
            return (name.contains("TITRAT") || name.contains("CHANGE") && of_rate).then_some(Happened::Changed);
        }
        _ => return None,
    })
}

/// The event, of whose source nothing else is known.
pub(super) fn read(
    translation: &Translation<'_>,
    event: &PumpEvent,
    happened: Happened,
    clock: u32,
) -> Result<Event, TranslateError> {
    let at = event.at.as_ref().ok_or_else(|| refuse("OBR-7", NO_TIME))?;
    let infusion = &event.infusion;
    let rate = rate(&infusion.flow).or_else(|| rate(&infusion.dose_rate)).filter(|rate| !rate.is_zero());
    Ok(Event {
        happened,
        at: when(translation, at)?,
        mode: mode(event),
        programme: programme(translation, event),
        filler: translation.report.groups[event.group].request.and_then(|request| filler(translation, request)),
        rate,
        run_volume: volume(&infusion.volume_segment),
        counter: volume(&infusion.volume_cumulative),
        to_be_infused: volume(&infusion.volume_to_be_infused),
        reason: infusion.not_delivering_reason.clone().map(|reason| short(&reason)),
        doubtful: false,
        clock,
        elsewhere: false,
        unresolved: false,
        overtaken: false,
    })
}

/// What the pump doubts, or its gateway withdraws, is no amount, and nothing flows back.
fn amount(quantity: &Option<Quantity>) -> Option<Amount> {
    let quantity = quantity.as_ref().filter(|quantity| quantity.is_sure)?;
    Amount::of(&quantity.value, &quantity.unit).filter(|amount| !amount.is_negative())
}

/// A unit that is none of a rate makes no rate.
fn rate(quantity: &Option<Quantity>) -> Option<Amount> {
    amount(quantity).filter(|rate| rate.unit.contains('/'))
}

/// A unit that is none of a volume makes no dose.
fn volume(quantity: &Option<Quantity>) -> Option<Amount> {
    amount(quantity).filter(|volume| is_volume(&volume.unit))
}

/// UCUM's units of volume that pumps count in.
fn is_volume(unit: &str) -> bool {
    matches!(unit, "mL" | "ml" | "L" | "l" | "uL" | "ul" | "cL" | "dL" | "nL" | "cm3")
}

/// A moment as it is remembered and written.
pub(in crate::translate::pcd_to_fhir) fn when(
    translation: &Translation<'_>,
    moment: &Moment,
) -> Result<When, TranslateError> {
    let time = Time::parse(moment.sent.trim())
        .map_err(|error| refuse(&moment.place, format!("{error}; ask the sender to mend it")))?;
    let instant = time.timestamp(translation.offset).and_then(|instant| i64::try_from(instant.as_nanosecond()).ok());
    let written = instant.zip(time.fhir_date_time(translation.offset));
    written.map(|(at, text)| When { at, text, trust: Trust::Told }).ok_or_else(|| refuse(&moment.place, NO_ZONE))
}

/// None where the pump says nothing of it.
pub(super) fn mode(event: &PumpEvent) -> Option<Mode> {
    let infusion = &event.infusion;
    let told = [&infusion.mode, &infusion.delivery, &infusion.infusing];
    let words: String = told.into_iter().flatten().map(|word| word.to_lowercase()).collect();
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    match () {
        () if says(&["bolus", "loading"]) => Some(Mode::Bolus),
        () if says(&["kvo", "keep vein open", "keep-vein-open"]) => Some(Mode::Kvo),
        () => infusion.mode.as_ref().map(|_| Mode::Usual),
    }
}

/// OBR-3, unless it numbers the message.
fn filler(translation: &Translation<'_>, request: Nth<'_>) -> Option<u32> {
    let sent = request.raw(3);
    let numbers_message = request.field(3).component(1).raw() == translation.msh.field(10).raw();
    (!sent.is_empty() && !numbers_message).then(|| crc32c::crc32c(sent))
}

pub(super) fn programme(translation: &Translation<'_>, event: &PumpEvent) -> Programme {
    let concentration = rate(&event.infusion.concentration);
    let mut programme = Programme { concentration, ..ordered(translation, event) };
    programme.shorten();
    programme
}

/// The order and the drug.
fn ordered(translation: &Translation<'_>, event: &PumpEvent) -> Programme {
    let Some(request) = translation.report.groups[event.group].request else { return Programme::default() };
    let kept = |text: &str| (text.len() <= TEXT_MAX).then(|| text.to_owned());
    let placer = references::order(translation, request);
    let order = placer.and_then(|placer| {
        let system = placer.system.as_deref().map(kept);
        Some((system.unwrap_or(None), kept(&placer.value)?))
    });
    let Some(drug) = &event.infusion.drug else { return Programme { order, ..Programme::default() } };
    let words = Some(short(&drug.words));
    let sent = |n| translation.text(request.field(4).component(n).raw());
    if sent(1) != drug.code.as_str() || sent(2) != drug.name.as_str() {
        return Programme { order, words, ..Programme::default() };
    }
    let concept = concept::concept(translation, &Coded::read(request.field(4).first()));
    let part = |text: &Option<fhir::Text<'_>>| text.as_deref().and_then(kept);
    let codes = concept.coding.iter().filter_map(|coding| {
        let code = part(&coding.code)?;
        Some((part(&coding.system), Some(code), part(&coding.display)))
    });
    Programme { order, drug: codes.take(CODES_MAX).collect(), words, ..Programme::default() }
}

/// Words for people as FHIR has them, short enough to be remembered.
pub(super) fn short(words: &str) -> String {
    let words = fhir::string(words.into());
    words[..words.floor_char_boundary(TEXT_MAX)].to_owned()
}

/// Codes of a drug that are remembered.
const CODES_MAX: usize = 2;
const NO_TIME: &str = "the event has no time in OBX-14 or OBR-7; ask the sender to fill one of them";
const NO_ZONE: &str = "the time has no zone and MSH-7 has none either, or it is no whole date; set default_offset of this \
                       destination to the sender's zone";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_no_control_character_and_end_within_their_bound() {
        assert_eq!(short("Nor\u{1}epi"), "Nor\u{FFFD}epi");
        assert!(short(&"\u{1}".repeat(TEXT_MAX)).len() <= TEXT_MAX);
    }
}
