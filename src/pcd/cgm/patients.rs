//! Whose readings a message may hold.

use crate::hl7::{Message, Repetition, Segment};

/// A patient as one PID names them.
pub struct Named<'m> {
    /// The PID.
    pub pid: Segment<'m>,
    /// Identifiers (PID-3.1) with their assigning authorities (PID-3.4, its name, else its universal id), best first.
    pub identifiers: Vec<(String, String)>,
}

/// The patients of a message that have an identifier; a visit's or an account's names none.
pub fn patients(message: &Message) -> impl Iterator<Item = Named<'_>> {
    let pids = message.segments().filter(|segment| segment.id() == "PID");
    pids.map(|pid| Named { pid, identifiers: identifiers(pid) }).filter(|named| !named.identifiers.is_empty())
}

fn identifiers(pid: Segment<'_>) -> Vec<(String, String)> {
    let text = |raw: &[u8]| pid.message().text(raw).trim().to_owned();
    let identifier = |cx: Repetition<'_>| {
        let value = text(cx.component(1).raw());
        let authority = cx.component(4);
        let names = [1, 2].map(|part| text(authority.subcomponent(part)));
        let authority = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let kind = text(cx.component(5).raw());
        let is_patients = !crate::pcd::is_no_identifier(&value) && !matches!(kind.as_str(), "VN" | "AN");
        is_patients.then_some((kind != "MR", (value, authority)))
    };
    let mut found: Vec<_> = pid.field(3).repetitions().filter_map(identifier).collect();
    found.sort_by_key(|(other, _)| *other);
    found.into_iter().map(|(_, identifier)| identifier).collect()
}
