//! OBR (A16 to A18; IHE PCD TF-2 B.7).

use super::{
    Reading, Told,
    reading::{number_of, part, raw},
};
use crate::hl7::{Segment, Time};

pub(super) fn identifiers(reading: &Reading<'_>, told: &mut Told<'_>) {
    for (number, request) in (1..).zip(&reading.requests) {
        if number_of(part(*request, 1, 1)) != Some(number) {
            told.error(*request, 1, 102, "OBR-1 does not count from 1 over the message");
        }
        let filler = [1, 2, 3, 4].map(|n| part(*request, 3, n));
        match filler {
            [b"", ..] => told.error(*request, 3, 101, "OBR-3.1 is empty; send an identifier of the observations"),
            [_, b"", universal, kind] if universal.is_empty() || kind.is_empty() => {
                told.error(*request, 3, 101, "OBR-3 has neither a namespace nor a universal id with its type");
            }
            _ => {}
        }
        if !raw(*request, 2).is_empty() && [1, 2].iter().any(|n| part(*request, 2, *n).is_empty()) {
            told.error(*request, 2, 101, "OBR-2 has not both identifier and namespace");
        }
    }
}

pub(super) fn service(reading: &Reading<'_>, told: &mut Told<'_>) {
    for request in &reading.requests {
        let parts = [1, 2, 3].map(|n| part(*request, 4, n));
        match parts {
            // The framework's own form for a drug that the pump does not know.
            [b"999999", text, b""] if !text.is_empty() => {}
            [b"", b"", _] => told.error(*request, 4, 101, "OBR-4 is empty; send the service, drug or device"),
            [b"", ..] | [_, b"", _] | [_, _, b""] => {
                told.warning(*request, 4, 101, "OBR-4 has not code, text and coding system");
            }
            _ => {}
        }
    }
}

pub(super) fn interval(reading: &Reading<'_>, told: &mut Told<'_>) {
    let intervals: Vec<_> =
        reading.requests.iter().map(|request| (instant(*request, 7), instant(*request, 8))).collect();
    for (request, (start, end)) in reading.requests.iter().zip(&intervals) {
        if start.zip(*end).is_some_and(|(start, end)| end <= start) {
            told.warning(*request, 8, 102, "OBR-8 is not after OBR-7");
        }
    }
    for row in &reading.rows {
        let Some((Some(start), Some(end))) = row.group.checked_sub(1).and_then(|group| intervals.get(group)) else {
            continue;
        };
        if instant(row.obx, 14).is_some_and(|at| at < *start || at >= *end) {
            told.warning(row.obx, 14, 102, "OBX-14 is not from OBR-7 up to before OBR-8");
        }
    }
}

/// The time of a field, where it has a zone: others cannot be compared.
fn instant(segment: Segment<'_>, n: usize) -> Option<jiff::Timestamp> {
    let sent = part(segment, n, 1);
    if sent.is_empty() { None } else { Time::parse(std::str::from_utf8(sent).ok()?).ok()?.timestamp(None) }
}
