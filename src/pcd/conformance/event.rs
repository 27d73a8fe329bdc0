//! PCD-10: one event of an infusion pump (C01 to C06; IHE PCD TF-2 M.1).

use super::{
    Reading, Told,
    reading::{Row, ascii, raw},
};
use crate::pcd::{Coded, Containment};

const CONDITION: (u32, &[u8]) = (68_487, b"MDC_ATTR_EVT_COND");
const SOURCE: (u32, &[u8]) = (68_488, b"MDC_ATTR_EVT_SOURCE");

/// The events of the framework and its change proposals, by the end of their identifiers, which vendors begin otherwise.
const EVENTS: [&str; 11] = [
    "_DELIV_START",
    "_DELIV_STOP",
    "_DELIV_COMP",
    "_COMM_STATUS_CHANGE",
    "_PROG_CLEARED",
    "_AUTO_PROG_CLEARED",
    "_PATIENT_CHANGE",
    "_PATIENT_ID_CHANGE",
    "_PATIENT_PARAMETER_CHANGE",
    "_VOL_COUNTERS_CLEARED",
    "_DEVICE_TIME_CHANGED",
];

pub(super) fn one(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut events = reading.rows_of(CONDITION.0, CONDITION.1);
    if events.next().is_none() {
        return told.absent("OBX", "no row tells the event (MDC_ATTR_EVT_COND)");
    }
    if let Some(second) = events.next() {
        told.error(second.obx, 0, 198, "the message tells more than one event; send a message for each");
    }
}

/// Identifier of the event.
fn event<'m>(reading: &Reading<'m>) -> Option<&'m str> {
    let row = reading.rows_of(CONDITION.0, CONDITION.1).next()?;
    let value = Coded::read(row.obx.field(5).first()).mdc_or_alike()?;
    Some(ascii(value.text))
}

pub(super) fn known(reading: &Reading<'_>, told: &mut Told<'_>) {
    if let Some(row) = reading.rows_of(CONDITION.0, CONDITION.1).next() {
        let known = event(reading).is_some_and(|event| EVENTS.iter().any(|end| event.ends_with(end)));
        if !known {
            told.error(row.obx, 5, 103, "the event is none of the framework's");
        }
    }
    let Some(row) = reading.rows_of(SOURCE.0, SOURCE.1).next() else {
        return told.absent("OBX", "no row tells the source of the event (MDC_ATTR_EVT_SOURCE)");
    };
    let source = Containment::parse(raw(row.obx, 5).trim_ascii());
    if source.is_none() || !reading.rows.iter().any(|other| other.place == source) {
        told.error(row.obx, 5, 204, "the source of the event is not the OBX-4 of a row");
    }
}

/// What a start, a stop and a completion must tell.
const PARAMETERS: [(u32, &[u8], &str); 6] = [
    (184_519, b"MDC_PUMP_INFUSING_STATUS", "the infusing status is missing (MDC_PUMP_INFUSING_STATUS)"),
    (158_014, b"MDC_FLOW_FLUID_PUMP_CURRENT", "the current flow is missing (MDC_FLOW_FLUID_PUMP_CURRENT)"),
    (158_016, b"MDC_DEV_PUMP_ACTIVE_SOURCES", "the active sources are missing (MDC_DEV_PUMP_ACTIVE_SOURCES)"),
    (
        158_005,
        b"MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS",
        "the delivery status is missing (MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS)",
    ),
    (
        158_008,
        b"MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE",
        "the delivery mode is missing (MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE)",
    ),
    (
        158_012,
        b"MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL",
        "the label of the source channel is missing (MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL)",
    ),
];

/// Start, stop or completion of a delivery.
fn delivery<'r, 'm>(reading: &'r Reading<'m>, ends: &[&str]) -> Option<&'r Row<'m>> {
    let told = event(reading).is_some_and(|event| ends.iter().any(|end| event.ends_with(end)));
    reading.rows_of(CONDITION.0, CONDITION.1).next().filter(|_| told)
}

pub(super) fn parameters(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(condition) = delivery(reading, &["_DELIV_START", "_DELIV_STOP", "_DELIV_COMP"]) else { return };
    for (code, refid, text) in PARAMETERS {
        if reading.rows_of(code, refid).next().is_none() {
            told.error(condition.obx, 0, 101, text);
        }
    }
    let status = reading.rows_of(PARAMETERS[3].0, PARAMETERS[3].1).next();
    let stands = status.filter(|row| row.word().ends_with(b"not-delivering"));
    if let Some(row) =
        stands.filter(|_| reading.rows_of(158_006, b"MDC_DEV_PUMP_NOT_DELIVERING_REASON").next().is_none())
    {
        told.error(row.obx, 5, 101, "nothing is delivered, and no row tells the reason (158006)");
    }
}

pub(super) fn volume(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(condition) = delivery(reading, &["_DELIV_STOP", "_DELIV_COMP"]) else { return };
    let segment = reading.rows_of(157_992, b"MDC_VOL_FLUID_DELIV_SEGMENT").next();
    let total = || reading.rows_of(157_993, b"MDC_VOL_FLUID_DELIV_TOTAL").next();
    if segment.or_else(total).is_none() {
        told.error(condition.obx, 0, 101, "no row tells the volume delivered, of the segment or in total");
    }
}

pub(super) fn flow(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(status) = reading.rows_of(PARAMETERS[0].0, PARAMETERS[0].1).next() else { return };
    let Some(flow) = reading.rows_of(PARAMETERS[1].0, PARAMETERS[1].1).next() else { return };
    // Over zero: a digit other than 0, and no sign before it.
    let flows = !flow.raw(5).starts_with(b"-") && flow.raw(5).iter().any(|byte| (b'1'..=b'9').contains(byte));
    let infuses = matches!(status.word(), b"pump-status-infusing" | b"pump-status-transitioning");
    if flows && !infuses {
        told.warning(status.obx, 5, 103, "the pump has a flow, and its status is not infusing");
    } else if infuses && !flows {
        told.warning(flow.obx, 5, 103, "the pump is infusing, and its flow is not over zero");
    }
}

/// Pumps hold their events while they are out of reach, so age is never a fault.
pub(super) fn buffered(_: &Reading<'_>, _: &mut Told<'_>) {}
