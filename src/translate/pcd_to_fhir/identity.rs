//! What names an observation and no other, however often it is sent: patient, device, place, code and time.
//!
//! Neither the message's control id nor its time is part of it, since a gateway that sends again makes new ones; nor, unless
//! configured, is the value, so that a correction finds what it corrects. What a pump shows at an event is told apart by the
//! event too: a stop and the start after it may be of one second. A result without a device is named by its order's
//! filler number in the device's stead, which also tells two orders of one time apart.

use super::{Devices, Origin, Semantics, Translation, patient, time::Effective, written};
use crate::{
    fhir::{Coding, Identifier, Text, fingerprint, systems},
    pcd::Row,
};

/// The identifier of a row's observation, and where it is from. `code` stands for OBX-3 where several rows are one.
pub(super) fn of<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &Row<'a>,
    effective: &Effective,
    code: Option<&'static str>,
) -> (Identifier<'a>, Origin) {
    if let Some(sent) = sent(translation, row).filter(|_| code.is_none()) {
        return (sent, row.place_of(21).into());
    }
    let settings = translation.settings;
    let (sent, unit) = (translation.text(row.obx.raw(5)), translation.text(row.obx.raw(6)));
    let (place, code) =
        (translation.text(row.obx.raw(4)), code.map_or_else(|| code_of(translation, row), Text::Borrowed));
    let patient = &translation.patient;
    let filler = filler(translation, row);
    let device = match &filler {
        Some(filler) => format!("order/{filler}"),
        None => devices.key(translation, row),
    };
    // When the message was made is no time of a result that its order names.
    let timeless = filler.is_some() && effective.of_message;
    let time = if timeless { "" } else { &effective.key };
    let mut parts = vec![&*patient.system, &patient.value, &device, &place, &code, time];
    if settings.value_in_identity {
        parts.extend([&*sent, &unit]);
    }
    let event = translation.event.as_ref().filter(|event| event.group == row.group);
    parts.extend(event.map(|event| event.event.as_str()));
    let value = fingerprint(parts);
    let origin = || {
        let group = translation.report.group(row);
        let sent = |field: usize| (!row.obx.raw(field).is_empty()).then(|| row.place_of(field));
        let by_value = |field| sent(field).filter(|_| settings.value_in_identity);
        let device = match filler {
            Some(_) => group.request.map(|obr| obr.place(3)),
            None => Some(devices.place(translation, row)),
        };
        let time = (!timeless).then_some(effective.place);
        let end = effective.end;
        Origin::of([
            group.patient.map(|pid| pid.place(3)),
            device,
            sent(4),
            sent(3),
            time,
            end,
            by_value(5),
            by_value(6),
            event.map(|event| event.place),
        ])
    };
    (Identifier { kind: None, system: Some(systems::OWN_OBSERVATION.into()), value: value.into() }, origin())
}

/// OBX-21.
fn sent<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Option<Identifier<'a>> {
    let instance = row.obx.field(21).first();
    let value = Some(translation.text(instance.component(1).raw())).filter(|value| written(value))?;
    let part = |n| translation.text(instance.component(n).raw());
    let named = !(part(2).is_empty() && part(3).is_empty());
    let system = named.then(|| patient::system_of(translation.settings, &part(2), &part(3), &part(4))).flatten();
    if let Some(system) = system {
        let kind = Some(Coding::of(systems::IDENTIFIER_TYPE, "FILL").into());
        return Some(Identifier { kind, system: Some(system.into()), value });
    }
    let scoped = fingerprint(["instance", &translation.sender, &part(2), &part(3), &value]);
    Some(Identifier { kind: None, system: Some(systems::OWN_OBSERVATION.into()), value: scoped.into() })
}

/// The code as part of the identity; what has no number of its own by its name.
pub(super) fn code_of<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Text<'a> {
    let triplet = row.code.mdc_or_alike().or_else(|| row.code.triplets().next()).unwrap_or_default();
    translation.text(if matches!(triplet.code, b"" | b"0" | b"999999") { triplet.text } else { triplet.code })
}

/// OBR-3 of a result, in the scope of its sender unless it has one of its own.
fn filler(translation: &Translation<'_>, row: &Row<'_>) -> Option<String> {
    if translation.settings.semantics == Semantics::Device {
        return None;
    }
    let filler = translation.report.group(row).request?.field(3).first();
    let part = |n| translation.text(filler.component(n).raw());
    let scope = if part(3).is_empty() { translation.sender.as_str().into() } else { part(3) };
    Some(part(1)).filter(|value| written(value)).map(|value| format!("{scope}/{}/{value}", part(2)))
}
