//! PCD-10, one event of an infusion pump: C01 to C05. A message of hours ago is not a fault (C06): a pump that was off the
//! network tells late.

use super::{Notes, Transaction, message::Message, message::Segment};

/// Events of the framework and of its change proposals.
const EVENTS: &[&str] = &[
    "MDC_EVT_PUMP_DELIV_START",
    "MDC_EVT_PUMP_DELIV_STOP",
    "MDC_EVT_PUMP_DELIV_COMP",
    "MDC_EVT_COMM_STATUS_CHANGE",
    "MDC_EVT_PUMP_PROG_CLEARED",
    "MDC_EVT_PUMP_AUTO_PROG_CLEARED",
    "MDC_EVT_PATIENT_CHANGE",
    "MDC_EVT_PATIENT_ID_CHANGE",
    "MDC_EVT_PATIENT_PARAMETER_CHANGE",
    "MDC_EVT_PUMP_VOL_COUNTERS_CLEARED",
    "MDC_EVT_DEVICE_TIME_CHANGED",
];
const REQUIRED: [(&str, &str); 6] = [
    ("184519", "the infusing status is not told"),
    ("158014", "the current flow is not told"),
    ("158016", "the active sources are not told"),
    ("158005", "the delivery status is not told"),
    ("158008", "the delivery mode is not told"),
    ("158012", "the source's label is not told"),
];

pub(super) fn check(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let oid = Transaction::Pcd10.oid();
    let profiled = msh.repetitions(21).any(|profile| Some(msh.component(profile, 3)) == oid.as_deref());
    if msh.field(9) != "ORU^R42^ORU_R01" {
        notes.breach("C01", msh, 9, "not the message type of an event");
    }
    if !profiled {
        notes.breach("C01", msh, 21, "the OID of the transaction is not there");
    }
    let conditions: Vec<&Segment> = message.all("OBX").filter(|obx| obx.part(3, 1) == "68487").collect();
    let [condition] = conditions[..] else {
        let words = if conditions.is_empty() { "no OBX tells the event" } else { "more than one event" };
        return notes.breach("C01", conditions.first().copied().unwrap_or(msh), 0, words);
    };
    event(message, condition, notes);
}

fn event(message: &Message, condition: &Segment, notes: &mut Notes) {
    // A provisional identifier is that of the term to come.
    let name = condition.part(5, 2).replacen("MDCX_", "MDC_", 1);
    if !EVENTS.contains(&name.as_str()) {
        notes.breach("C02", condition, 5, "no known event");
    }
    match message.all("OBX").find(|obx| obx.part(3, 1) == "68488") {
        None => notes.breach("C02", condition, 0, "no OBX tells the source of the event"),
        Some(source) if !message.all("OBX").any(|obx| obx.field(4) == source.field(5)) => {
            notes.breach("C02", source, 5, "the source is the path of no OBX");
        }
        Some(_) => {}
    }
    let ends = name.ends_with("DELIV_STOP") || name.ends_with("DELIV_COMP");
    if ends || name.ends_with("DELIV_START") {
        delivery(message, condition, notes);
    }
    if ends && !["157992", "157993"].into_iter().any(|code| tells(message, code)) {
        notes.breach("C04", condition, 0, "neither the segment's nor the whole volume is told");
    }
    flow(message, notes);
}

fn tells(message: &Message, code: &str) -> bool {
    message.all("OBX").any(|obx| obx.part(3, 1) == code)
}

fn delivery(message: &Message, condition: &Segment, notes: &mut Notes) {
    for (_, words) in REQUIRED.into_iter().filter(|(code, _)| !tells(message, code)) {
        notes.breach("C03", condition, 0, words);
    }
    let stopped = message.all("OBX").find(|obx| obx.part(3, 1) == "158005" && told(obx).ends_with("-not-delivering"));
    if let Some(obx) = stopped.filter(|_| !tells(message, "158006")) {
        notes.breach("C03", obx, 0, "why nothing is delivered is not told");
    }
}

/// An enumerated value, whose code is empty.
fn told(obx: &Segment) -> &str {
    if obx.part(5, 2).is_empty() { obx.part(5, 1) } else { obx.part(5, 2) }
}

fn flow(message: &Message, notes: &mut Notes) {
    let first = |code: &'static str| message.all("OBX").find(move |obx| obx.part(3, 1) == code);
    let (Some(status), Some(flow)) = (first("184519"), first("158014")) else { return };
    let infuses = match told(status) {
        "pump-status-infusing" | "pump-status-transitioning" => true,
        "pump-status-not-infusing" => false,
        _ => return,
    };
    let flows = flow.field(5).bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if infuses != flows {
        notes.breach("C05", flow, 5, "the flow does not fit the infusing status");
    }
}
