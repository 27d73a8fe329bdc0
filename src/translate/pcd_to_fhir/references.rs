//! What an observation refers to beside its patient and device: order, visit, bed, and who made it. All by identifier or in
//! words: what a gateway knows of them is no ground to create one.

use super::{EncounterReference, Translation, patient, written};
use crate::{
    fhir::{Coding, Identifier, Reference, systems, token_query},
    hl7::Repetition,
    pcd::{Nth, Place, Row},
};

/// OBR-2, the order: of what kind it is, only the ordering system knows. A gateway that repeats its own number there
/// names no order.
pub(super) fn based_on<'a>(translation: &Translation<'a>, request: Option<Nth<'a>>) -> Option<Reference<'a>> {
    request.and_then(|request| order(translation, request)).map(|placer| Reference::logical(None, placer))
}

/// OBR-2.
pub(super) fn order<'a>(translation: &Translation<'a>, request: Nth<'a>) -> Option<Identifier<'a>> {
    let named = request.raw(2) != request.raw(3);
    entity(translation, request.field(2).first(), "PLAC").filter(|_| named)
}

/// An EI under its own authority.
pub(super) fn entity<'a>(
    translation: &Translation<'a>,
    entity: Repetition<'a>,
    kind: &'static str,
) -> Option<Identifier<'a>> {
    let part = |n| translation.text(entity.component(n).raw());
    let value = Some(part(1)).filter(|value| written(value))?;
    let named = !(part(2).is_empty() && part(3).is_empty());
    let system = named.then(|| patient::system_of(translation.settings, &part(2), &part(3), &part(4))).flatten();
    let kind = Some(Coding::of(systems::IDENTIFIER_TYPE, kind).into());
    Some(Identifier { kind, system: system.map(Into::into), value })
}

/// PV1-19. By identifier alone the record need not know the visit; by a search it must, which is for the site to say.
pub(super) fn encounter<'a>(translation: &Translation<'a>, visit: Option<Nth<'a>>) -> Option<Reference<'a>> {
    if translation.settings.encounter == EncounterReference::None {
        return None;
    }
    let visit = visit?.field(19).first();
    let value = Some(translation.text(visit.component(1).raw())).filter(|value| written(value))?;
    let part = |n| translation.message.text(visit.component(4).subcomponent(n));
    let system = patient::system_of(translation.settings, &part(1), &part(2), &part(3))?;
    if translation.settings.encounter == EncounterReference::Conditional {
        return Some(Reference::to(format!("Encounter?{}", token_query("identifier", &system, &value))));
    }
    let kind = Some(Coding::of(systems::IDENTIFIER_TYPE, "VN").into());
    Some(Reference::logical(Some("Encounter"), Identifier { kind, system: Some(system.into()), value }))
}

/// PV1-3: point of care, room, bed and facility, which name the bed together.
pub(super) fn location<'a>(translation: &Translation<'a>, visit: Option<Nth<'a>>) -> Option<Reference<'a>> {
    let bed = visit?.field(3).first();
    let part = |n: usize| translation.text(bed.component(n).subcomponent(1));
    let parts = [part(1), part(2), part(3), part(4)];
    if parts.iter().all(|part| !written(part)) {
        return None;
    }
    let value = parts.join("^");
    let facility = bed.component(4);
    let named = |n| translation.message.text(facility.subcomponent(n));
    let system = patient::system_of(translation.settings, &named(1), &named(2), &named(3));
    let system = system.filter(|_| !facility.is_empty());
    let words: Vec<&str> = parts.iter().map(|part| &**part).filter(|part| written(part)).collect();
    let identifier =
        Identifier { kind: None, system: system.map(Into::into), value: value.trim_end_matches('^').to_owned().into() };
    Some(Reference { display: Some(words.join(" ").into()), ..Reference::logical(Some("Location"), identifier) })
}

/// OBX-16, who operated the device or answers for the result; OBX-23 or OBX-15, where it was made.
pub(super) fn performers<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Vec<(Reference<'a>, Place)> {
    let mut performers = Vec::new();
    if !row.obx.raw(16).is_empty() {
        let persons = row.obx.field(16).repetitions().filter_map(|xcn| person(translation, xcn));
        performers.extend(persons.map(|person| (person, row.place_of(16))));
    }
    let made_at = [(23, 10, 6), (15, 1, 3)].into_iter().find_map(|(field, id, authority)| {
        let sent = Some(row.obx.field(field).first()).filter(|_| !row.obx.raw(field).is_empty())?;
        let name = if field == 23 { 1 } else { 2 };
        Some((organization(translation, sent, (id, name, authority))?, row.place_of(field)))
    });
    performers.extend(made_at);
    performers
}

/// An XCN as a Practitioner, by identifier and name.
pub(super) fn person<'a>(translation: &Translation<'a>, xcn: Repetition<'a>) -> Option<Reference<'a>> {
    let part = |n| translation.text(xcn.component(n).raw());
    let system = authority(translation, xcn, 9);
    let value = part(1);
    let identifier = written(&value).then(|| Identifier { kind: None, system: system.map(Into::into), value });
    let name = person_name(translation, xcn);
    let known = identifier.is_some() || name.is_some();
    known.then_some(Reference {
        kind: Some("Practitioner"),
        identifier,
        display: name.map(Into::into),
        ..Reference::default()
    })
}

/// The name of an XCN as read.
pub(super) fn person_name(translation: &Translation<'_>, xcn: Repetition<'_>) -> Option<String> {
    let part = |n: usize| translation.text(xcn.component(n).subcomponent(1)).into_owned();
    let name = [part(3), part(2)].into_iter().filter(|name| written(name)).collect::<Vec<_>>().join(" ");
    (!name.is_empty()).then_some(name)
}

fn organization<'a>(
    translation: &Translation<'a>,
    sent: Repetition<'a>,
    (id, name, authority_at): (usize, usize, usize),
) -> Option<Reference<'a>> {
    let part = |n| Some(translation.text(sent.component(n).raw())).filter(|text| written(text));
    let system = authority(translation, sent, authority_at);
    let identifier = part(id).map(|value| Identifier { kind: None, system: system.map(Into::into), value });
    let display = part(name);
    let known = identifier.is_some() || display.is_some();
    known.then_some(Reference { kind: Some("Organization"), identifier, display, ..Reference::default() })
}

/// The system of an assigning authority in a component, where one was sent.
fn authority(translation: &Translation<'_>, sent: Repetition<'_>, component: usize) -> Option<String> {
    let authority = sent.component(component);
    let part = |n| translation.message.text(authority.subcomponent(n));
    let named = !authority.is_empty();
    named.then(|| patient::system_of(translation.settings, &part(1), &part(2), &part(3))).flatten()
}
