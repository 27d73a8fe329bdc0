//! PCD-10, one event of an infusion pump: C01 to C05. A message of hours ago is not a fault (C06): a pump that was off the
//! network tells late.

use super::{Notes, message::Message, message::Segment, values};

/// Events of the framework and of its change proposals, by the end of their identifiers: vendors begin them otherwise.
const EVENTS: &[&str] = &[
    "_DELIV_START",
    "_DELIV_STOP",
    "_DELIV_COMP",
    "_COMM_STATUS_CHANGE",
    "_PROG_CLEARED",
    "_PATIENT_CHANGE",
    "_PATIENT_ID_CHANGE",
    "_PATIENT_PARAMETER_CHANGE",
    "_VOL_COUNTERS_CLEARED",
    "_DEVICE_TIME_CHANGED",
];
const REQUIRED: [(&str, &str, &str); 6] = [
    ("184519", "MDC_PUMP_INFUSING_STATUS", "the infusing status is not told"),
    ("158014", "MDC_FLOW_FLUID_PUMP_CURRENT", "the current flow is not told"),
    ("158016", "MDC_DEV_PUMP_ACTIVE_SOURCES", "the active sources are not told"),
    ("158005", "MDC_DEV_PUMP_CURRENT_DELIVERY_STATUS", "the delivery status is not told"),
    ("158008", "MDC_DEV_PUMP_PROGRAM_DELIVERY_MODE", "the delivery mode is not told"),
    ("158012", "MDC_DEV_PUMP_SOURCE_CHANNEL_LABEL", "the source's label is not told"),
];
const VOLUMES: [(&str, &str); 2] = [("157992", "MDC_VOL_FLUID_DELIV_SEGMENT"), ("157993", "MDC_VOL_FLUID_DELIV_TOTAL")];

pub(super) fn check(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let mut conditions = message.all("OBX").filter(|obx| obx.is_term(3, "68487", "MDC_ATTR_EVT_COND"));
    match (conditions.next(), conditions.next()) {
        (None, _) => notes.breach("C01", msh, 0, "no OBX tells the event"),
        (Some(condition), second) => {
            if let Some(second) = second {
                notes.breach("C01", second, 0, "more than one event");
            }
            event(message, condition, notes);
        }
    }
    source(message, msh, notes);
    flow(message, notes);
}

fn event(message: &Message, condition: &Segment, notes: &mut Notes) {
    let name = condition.part(5, 2);
    if !EVENTS.iter().any(|event| name.ends_with(event)) {
        notes.breach("C02", condition, 5, "no known event");
    }
    let ends = name.ends_with("_DELIV_STOP") || name.ends_with("_DELIV_COMP");
    if ends || name.ends_with("_DELIV_START") {
        delivery(message, condition, notes);
    }
    let has_volume = VOLUMES.into_iter().any(|(code, refid)| tells(message, code, refid));
    if ends && !has_volume {
        notes.breach("C04", condition, 0, "neither the segment's nor the whole volume is told");
    }
}

fn source(message: &Message, msh: &Segment, notes: &mut Notes) {
    match message.all("OBX").find(|obx| obx.is_term(3, "68488", "MDC_ATTR_EVT_SOURCE")) {
        None => notes.breach("C02", msh, 0, "no OBX tells the source of the event"),
        Some(source) => {
            let named = values::path(source.field(5));
            if named.is_none() || !message.all("OBX").any(|obx| values::path(obx.field(4)) == named) {
                notes.breach("C02", source, 5, "the source is the path of no OBX");
            }
        }
    }
}

fn tells(message: &Message, code: &str, refid: &str) -> bool {
    message.all("OBX").any(|obx| obx.is_term(3, code, refid))
}

fn delivery(message: &Message, condition: &Segment, notes: &mut Notes) {
    for (_, _, words) in REQUIRED.into_iter().filter(|(code, refid, _)| !tells(message, code, refid)) {
        notes.breach("C03", condition, 0, words);
    }
    let (code, refid, _) = REQUIRED[3];
    let stopped = message.all("OBX").find(|obx| obx.is_term(3, code, refid));
    let stopped = stopped.filter(|obx| told(obx).ends_with("not-delivering"));
    if let Some(obx) = stopped.filter(|_| !tells(message, "158006", "MDC_DEV_PUMP_NOT_DELIVERING_REASON")) {
        notes.breach("C03", obx, 0, "why nothing is delivered is not told");
    }
}

/// An enumerated value, whose code is empty.
fn told(obx: &Segment) -> &str {
    if obx.part(5, 2).is_empty() { obx.part(5, 1) } else { obx.part(5, 2) }
}

fn flow(message: &Message, notes: &mut Notes) {
    let first = |(code, refid, _): (&'static str, &'static str, &str)| {
        message.all("OBX").find(move |obx| obx.is_term(3, code, refid))
    };
    let (Some(status), Some(flow)) = (first(REQUIRED[0]), first(REQUIRED[1])) else { return };
    let infuses = matches!(told(status), "pump-status-infusing" | "pump-status-transitioning");
    let flows = !flow.field(5).starts_with('-') && flow.field(5).bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if infuses != flows {
        notes.breach("C05", flow, 5, "the flow does not fit the infusing status");
    }
}
