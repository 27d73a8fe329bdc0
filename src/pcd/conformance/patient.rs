//! The segments of the message, and who the patient is (A11 to A15; IHE PCD TF-2 3.1.4.1.1, B.4 to B.6).

use super::{
    Reading, Told,
    reading::{part, raw},
};
use crate::hl7::Segment;

/// Segments that the structure of PCD-01 and PCD-10 has no place for.
const ABSENT: [&str; 8] = ["ORC", "PD1", "PV2", "SFT", "SPM", "DSC", "FT1", "CTI"];

pub(super) fn structure(reading: &Reading<'_>, told: &mut Told<'_>) {
    if reading.segments("PID").next().is_none() {
        told.absent("PID", "the message has no PID; send an empty identity for an unknown patient");
    }
    if reading.requests.is_empty() {
        told.absent("OBR", "the message has no OBR");
    }
    for segment in reading.message.segments().filter(|segment| ABSENT.contains(&segment.id())) {
        told.error(segment, 0, 100, "the transaction has no place for this segment; leave it out");
    }
    if let Some(first) = reading.rows.first().filter(|first| first.group == 0) {
        told.error(first.obx, 0, 100, "an OBX stands before the first OBR");
    }
    for (number, request) in (1..).zip(&reading.requests) {
        // The rows are in the order of their groups.
        if reading.rows.binary_search_by(|row| row.group.cmp(&number)).is_err() {
            told.error(*request, 0, 100, "an OBR has no OBX after it");
        }
    }
}

pub(super) fn notes(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut after_observation = false;
    for segment in reading.message.segments() {
        match segment.id() {
            "OBR" | "OBX" => after_observation = true,
            "NTE" if !after_observation => told.error(segment, 0, 100, "an NTE follows neither an OBR nor an OBX"),
            "NTE" | "PRT" | "TQ1" => {}
            _ => after_observation = false,
        }
    }
}

/// PID-5 of the form, or PID-31, that says nobody knows who this is.
fn is_unknown(pid: Segment<'_>) -> bool {
    part(pid, 5, 7) == b"U" || raw(pid, 31) == b"Y"
}

pub(super) fn identifiers(reading: &Reading<'_>, told: &mut Told<'_>) {
    for pid in reading.segments("PID") {
        if part(pid, 3, 1).is_empty() && is_unknown(pid) {
            told.warning(pid, 3, 101, "PID-3 is empty; the patient is said to be unknown");
        } else if part(pid, 3, 1).is_empty() {
            told.error(pid, 3, 101, "PID-3.1 is empty; send an identifier, or say that the patient is unknown");
        } else {
            for repetition in pid.field(3).repetitions() {
                let empty = |n| repetition.component(n).raw().trim_ascii().is_empty();
                if empty(4) {
                    told.warning(pid, 3, 101, "PID-3.4 is empty; send who gave the identifier");
                }
                if empty(5) {
                    told.warning(pid, 3, 101, "PID-3.5 is empty; send the type of the identifier");
                }
            }
        }
        if pid.field(3).repetitions().count() > 6 {
            told.error(pid, 3, 198, "PID-3 has more than six identifiers");
        }
        for n in [1, 2, 4, 9, 19].into_iter().filter(|n| !raw(pid, *n).is_empty()) {
            told.warning(pid, n, 102, "a field of PID that is not used has a value; leave it empty");
        }
    }
}

pub(super) fn name(reading: &Reading<'_>, told: &mut Told<'_>) {
    for pid in reading.segments("PID") {
        let name = pid.field(5).first();
        let others_empty = name.components().take(6).all(|part| part.raw().trim_ascii().is_empty());
        match part(pid, 5, 7) {
            b"L" => {}
            b"U" if others_empty => {}
            b"U" => told.warning(pid, 5, 102, "PID-5 is of type U and has a name; send ^^^^^^U for an unknown patient"),
            _ => told.warning(pid, 5, 103, "PID-5 is neither of type L nor ^^^^^^U"),
        }
    }
}

pub(super) fn visit(reading: &Reading<'_>, told: &mut Told<'_>) {
    for visit in reading.segments("PV1") {
        if !matches!(part(visit, 2, 1), b"E" | b"I" | b"O" | b"P" | b"R" | b"B" | b"U") {
            told.warning(visit, 2, 103, "PV1-2 is not a patient class E, I, O, P, R, B or U");
        }
        let location = visit.field(3).first();
        let others = (1..=9).filter(|n| *n != 6).any(|n| !location.component(n).is_empty());
        if !location.component(6).is_empty() && others {
            told.warning(visit, 3, 102, "PV1-3.6 has a type beside another part of the location");
        }
    }
}
