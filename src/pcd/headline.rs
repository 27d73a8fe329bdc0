//! One sentence for each message, in the words of the people at the bedside.
//!
//! It says what happened, on which device, for whom and where, and no more than was sent: what the sender left out is
//! said to be missing or not said at all, never guessed.

use std::borrow::Cow;

use super::{
    Level, Role, Row, Transaction, TypedReport,
    alert::{AlarmState, Alert, AlertType, Inactivation, Phase, Priority},
    event::Reading,
    identity::{equipment_of, identity_of, label_of, sender},
    infusion_order::{InfusionOrder, InfusionStep, Reply},
    pump_event::{Infusion, LATE_AFTER_SECONDS, PumpEvent, PumpEventKind},
    summary,
};
use crate::hl7::Segment;

/// The sentence for a message.
pub(super) fn of(reading: Reading<'_, '_>, transaction: Transaction, report: Option<&TypedReport>) -> String {
    match report {
        Some(TypedReport::Alerts(alerts)) => alerts_told(reading, alerts),
        Some(TypedReport::PumpEvent(event)) => pump_event(reading, event),
        Some(TypedReport::InfusionOrder(order)) => infusion_order(reading, order),
        Some(TypedReport::Reply(reply)) => reply_told(transaction, reply),
        None => summary::of(reading, transaction),
    }
}

fn alerts_told(reading: Reading<'_, '_>, alerts: &[Alert]) -> String {
    let told: Vec<String> = alerts.iter().map(|alert| alert_told(reading, alert)).collect();
    match told.as_slice() {
        [one] => one.clone(),
        several => format!("{} alerts in one message. {}", several.len(), several.join(" ")),
    }
}

fn alert_told(reading: Reading<'_, '_>, alert: &Alert) -> String {
    if let Some(timeout) = &alert.confirm_within {
        return format!(
            "Alert watchdog: a test of the way to the receiver, to be acknowledged within {}{}.",
            timeout.told(),
            after(", from ", &alerting_device(reading, alert))
        );
    }
    let about = match (&alert.priority, &alert.kind) {
        (None, None) => String::new(),
        (priority, kind) => {
            let parts = [priority.as_ref().map(priority_words), kind.as_ref().map(type_words)];
            format!(" ({})", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
        }
    };
    let what = match &alert.text {
        Some(text) if !text.eq_ignore_ascii_case(&alert.event.words) => {
            format!("{text}{}", in_brackets(&alert.event.words))
        }
        _ => alert.event.words.clone(),
    };
    let what = if what.is_empty() { "the event is not named".to_owned() } else { what };
    let mut parts = vec![what];
    parts.extend(alert.observed.iter().take(VALUES_MAX).map(|one| {
        let limits = if one.limits.is_empty() { String::new() } else { format!(" (limits {})", one.limits) };
        format!("{} {}{limits}", one.what.words, one.value.told())
    }));
    parts.extend(state_words(alert));
    parts.push(alerting_device(reading, alert));
    parts.extend(alert.location.clone());
    parts.push(patient(reading, alert.group));
    parts.retain(|part| !part.is_empty());
    let late = late(alert.sent_after_seconds);
    let status = in_brackets(alert.status.unwrap_or_default());
    format!("Alert{status}{about} {}: {}.{late}", phase_words(alert.phase.as_ref()), parts.join(", "))
}

/// An alert often names its device by the source alone, without a row for it.
fn alerting_device(reading: Reading<'_, '_>, alert: &Alert) -> String {
    let source = alert.source.as_ref().filter(|source| source.name.contains("_DEV_"));
    device_called(reading, alert.group, source.map_or("device", |source| &source.words))
}

fn phase_words(phase: Option<&Phase>) -> String {
    let words = match phase {
        None => "with no phase told",
        Some(Phase::Tpoint) => "occurred",
        Some(Phase::Start | Phase::StartOnly) => "started",
        Some(Phase::Continue) => "continues",
        Some(Phase::End) => "ended",
        Some(Phase::Present) => "is present",
        Some(Phase::Update) => "updated",
        Some(Phase::Escalate) => "escalated",
        Some(Phase::Deescalate) => "de-escalated",
        Some(Phase::Inactivate) => "inactivated",
        Some(Phase::Acknowledged) => "acknowledged",
        Some(Phase::Reset) => "reset",
        Some(Phase::Stop) => "stopped",
        Some(Phase::Other(sent)) => return format!("in phase \"{sent}\""),
    };
    words.to_owned()
}

fn priority_words(priority: &Priority) -> String {
    match priority {
        Priority::NotAnAlarm => "no alarm priority".to_owned(),
        Priority::Low => "low priority".to_owned(),
        Priority::Medium => "medium priority".to_owned(),
        Priority::High => "high priority".to_owned(),
        Priority::Other(sent) => format!("priority {sent}"),
    }
}

fn type_words(kind: &AlertType) -> String {
    match kind {
        AlertType::Physiological => "physiological".to_owned(),
        AlertType::Technical => "technical".to_owned(),
        AlertType::Advisory => "advisory".to_owned(),
        AlertType::Other(sent) => format!("type {sent}"),
    }
}

/// State and inactivation, where the phase does not say as much.
fn state_words(alert: &Alert) -> Vec<String> {
    let ended = matches!(alert.phase, Some(Phase::End | Phase::Reset | Phase::Stop));
    let state = match &alert.state {
        Some(AlarmState::Inactive) if !ended => Some("the condition is no longer there".to_owned()),
        Some(AlarmState::Active) if ended => Some("the condition is still said to be there".to_owned()),
        Some(AlarmState::Latched) => Some("latched until someone resets it".to_owned()),
        Some(AlarmState::Off) => Some("alarming is off".to_owned()),
        Some(AlarmState::Other(sent)) => Some(format!("state \"{sent}\"")),
        Some(AlarmState::Inactive | AlarmState::Active) | None => None,
    };
    let signals = alert.inactivation.iter().filter(|one| **one != Inactivation::Enabled);
    state.into_iter().chain(signals.map(|one| one.as_str().replace(['-', '_'], " "))).collect()
}

fn pump_event(reading: Reading<'_, '_>, event: &PumpEvent) -> String {
    let device = device(reading, event.group);
    let place = match &event.source {
        None => after(" on ", &device),
        Some(source) => {
            let what = source.what.as_ref().map(|what| what.words.clone()).filter(|words| !words.is_empty());
            let what = match (&source.label, what) {
                (Some(label), Some(what)) if what.to_lowercase().contains(&label.to_lowercase()) => what,
                (Some(label), Some(what)) => format!("{what} \"{label}\""),
                (Some(label), None) => format!("channel \"{label}\""),
                (None, Some(what)) => what,
                (None, None) => format!("channel {}", source.place),
            };
            format!(" on {what}{}", after(" of ", &device))
        }
    };
    let mut parts = infusion(&event.infusion);
    parts.extend(location(reading, event.group));
    parts.push(patient(reading, event.group));
    let late = late(event.sent_after_seconds);
    let status = in_brackets(event.status.unwrap_or_default());
    let further = match event.further.len() {
        0 => String::new(),
        count => format!(" {count} further event{} in the same message.", if count == 1 { "" } else { "s" }),
    };
    format!("Pump event{status}: {}{place}: {}.{late}{further}", event_words(event), parts.join(", "))
}

pub(super) fn event_words(event: &PumpEvent) -> String {
    let words = match &event.event {
        PumpEventKind::DeliveryStart => "infusion started",
        PumpEventKind::DeliveryStop => "infusion stopped",
        PumpEventKind::DeliveryComplete => "infusion complete",
        PumpEventKind::CommunicationStatusChange => "connection changed",
        PumpEventKind::ProgramCleared => "program cleared",
        PumpEventKind::AutoProgramCleared => "program sent to the pump cleared",
        PumpEventKind::PatientChange => "patient changed",
        PumpEventKind::PatientIdChange => "patient identifier changed",
        PumpEventKind::PatientParameterChange => "patient parameter changed",
        PumpEventKind::VolumeCountersCleared => "volume counters cleared",
        PumpEventKind::DeviceTimeChanged => "pump's clock set",
        PumpEventKind::Other(_) if event.code.words.is_empty() => "an event that is not named",
        PumpEventKind::Other(_) => return event.code.words.clone(),
    };
    words.to_owned()
}

/// An infusion, most important first.
pub(super) fn infusion(infusion: &Infusion) -> Vec<String> {
    let quantity = |of: &Option<super::event::Quantity>| of.as_ref().map(super::event::Quantity::told);
    let status = |of: &Option<String>, not: &[&str]| of.clone().filter(|status| !not.contains(&status.as_str()));
    let parts = [
        infusion.drug.as_ref().map(|drug| drug.words.clone()),
        status(&infusion.infusing, &[]),
        status(&infusion.delivery, &["delivering"]),
        infusion.not_delivering_reason.as_ref().map(|reason| format!("because of {reason}")),
        quantity(&infusion.flow),
        quantity(&infusion.dose_rate),
        quantity(&infusion.volume_segment).map(|volume| format!("{volume} since the start")),
        quantity(&infusion.volume_cumulative).map(|volume| format!("{volume} given in all")),
        quantity(&infusion.volume_remaining).map(|volume| format!("{volume} remaining")),
    ];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect()
}

fn infusion_order(reading: Reading<'_, '_>, order: &InfusionOrder) -> String {
    let id = order.placer.as_ref().or(order.filler.as_ref()).map(|id| format!(" {}", id.text())).unwrap_or_default();
    let pump = order.pump.as_ref().map(|pump| format!(" for pump {pump}")).unwrap_or_default();
    let steps: Vec<String> = order.steps.iter().map(step).collect();
    let steps = match steps.as_slice() {
        [one] => one.clone(),
        several => {
            let numbered = several.iter().enumerate().map(|(i, step)| format!("step {}: {step}", i + 1));
            numbered.collect::<Vec<_>>().join("; ")
        }
    };
    let parameters = order.parameters.iter().take(VALUES_MAX);
    let parameters = parameters.map(|one| format!(", {} {}", one.what.words, one.value.told())).collect::<String>();
    let patient = patient(reading, 0);
    format!("{}{id}{pump}: {steps}{parameters}, {patient}.", asked(&order.control))
}

/// What is asked for by ORC-1 (table 0119): one that is to be cancelled must not read like one to be given.
fn asked(control: &str) -> Cow<'static, str> {
    Cow::Borrowed(match control {
        "" | "NW" | "RE" | "OK" | "SN" => "Infusion order",
        "CA" => "Request to CANCEL infusion order",
        "DC" => "Request to DISCONTINUE infusion order",
        "HD" => "Request to HOLD infusion order",
        "RL" => "Request to release the hold of infusion order",
        "XO" => "Request to CHANGE infusion order",
        "RP" => "Request to REPLACE infusion order",
        "UA" => "UNABLE to accept infusion order",
        other => return Cow::Owned(format!("Infusion order with order control {other}")),
    })
}

fn step(step: &InfusionStep) -> String {
    let text = |of: &Option<super::event::Quantity>| of.as_ref().map(super::event::Quantity::told);
    let parts = [
        step.drug.as_ref().map(|drug| drug.words.clone()),
        text(&step.rate),
        text(&step.volume),
        text(&step.dose).map(|dose| format!("{dose}{}", after(" in ", &text(&step.dose_in).unwrap_or_default()))),
        step.route.as_ref().map(|route| format!("route {}", route.words)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn reply_told(transaction: Transaction, reply: &Reply) -> String {
    let verdict = match reply.code.as_str() {
        "AA" => "accepted (AA)",
        "AE" => "not accepted, error (AE)",
        "AR" => "refused (AR)",
        "CA" => "received and kept (CA)",
        "CE" => "not kept, error (CE)",
        "CR" => "not kept, refused (CR)",
        _ => "",
    };
    let verdict = if verdict.is_empty() { format!("answered {}", reply.code) } else { verdict.to_owned() };
    let message = after("message ", &reply.answers);
    let what = match (transaction, &reply.alert) {
        (Transaction::Pcd05, Some(alert)) => format!("Alert {}{}", alert.text(), in_brackets(&message)),
        (Transaction::Pcd05, None) => format!("Alert{}", in_brackets(&message)),
        (Transaction::Pcd03Answer, _) => format!("Infusion order{}", in_brackets(&message)),
        _ => format!("Message{}", after(" ", &reply.answers)),
    };
    let mut parts: Vec<String> = reply.statuses.iter().take(VALUES_MAX).map(|one| one.value.told()).collect();
    parts.extend(reply.recipients.first().map(|to| format!("by or for {to}")));
    parts.extend(reply.errors.iter().flat_map(|error| {
        let named = error.application.as_ref().or(error.code.as_ref());
        let named = named.map(|named| format!("{}{}", named.words, in_brackets(&named.code)));
        named.into_iter().chain(error.text.clone())
    }));
    parts.extend(reply.text.clone());
    format!("{what} {verdict}{}.", after(": ", &parts.join(", ")))
}

/// The values of a headline; the tree has them all.
pub(super) const VALUES_MAX: usize = 5;

/// The device of a group in words: what it is and which.
pub(super) fn device(reading: Reading<'_, '_>, group: usize) -> String {
    device_called(reading, group, "device")
}

/// The same, with a word for what no row describes.
fn device_called(reading: Reading<'_, '_>, group: usize, called: &str) -> String {
    let report = reading.report;
    let mds = |row: &&Row<'_>| row.role == Role::Device(Level::Mds);
    let row = reading.rows(group).find(mds).or_else(|| report.rows.iter().find(mds));
    let labelled = || reading.rows(group).find(|row| !row.obx.raw(18).is_empty());
    let Some(row) = row.or_else(labelled) else {
        return format!("{called}{}", after(" of gateway ", &sender(report.message)));
    };
    let what = if row.role == Role::Device(Level::Mds) { reading.what(row).words } else { called.to_owned() };
    let place = report.rows.iter().position(|other| other.obx.nth == row.obx.nth).unwrap_or_default();
    let identity = identity_of(report, place).or_else(|| equipment_of(report.message, row)).map(|found| found.key());
    let label = label_of(row).map(|raw| reading.text(raw)).filter(|label| !label.is_empty());
    match (label, identity) {
        (Some(label), Some(key)) if key.contains(&label) => format!("{what} {key}"),
        (Some(label), Some(key)) => format!("{what} {label}{}", in_brackets(&key)),
        (Some(one), None) | (None, Some(one)) => format!("{what} {one}"),
        (None, None) => format!("{what}{}", after(" of gateway ", &sender(report.message))),
    }
}

/// PV1-3 of a group: `4 West, room 412, bed 1`.
pub(super) fn location(reading: Reading<'_, '_>, group: usize) -> Option<String> {
    let visit = reading.report.groups.get(group).and_then(|group| group.visit);
    let visit = visit.map(|visit| visit.segment).or_else(|| reading.message().segment("PV1"))?;
    location_of(reading, visit)
}

/// The same of one PV1.
pub(super) fn location_of(reading: Reading<'_, '_>, visit: Segment<'_>) -> Option<String> {
    let place = visit.field(3).first();
    let part = |n: usize, word: &str| {
        let text = place.component(n).subcomponents().next().map(|raw| reading.text(raw)).unwrap_or_default();
        after(word, &text)
    };
    let parts = [part(1, ""), part(2, "room "), part(3, "bed ")];
    let told = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    Some(told).filter(|told| !told.is_empty()).or_else(|| Some(part(4, "")).filter(|facility| !facility.is_empty()))
}

/// PID-3 of a group: `patient 4711`.
pub(super) fn patient(reading: Reading<'_, '_>, group: usize) -> String {
    let patient = reading.report.groups.get(group).and_then(|group| group.patient).map(|patient| patient.segment);
    let pid = patient.or_else(|| reading.message().segment("PID"));
    pid.map_or_else(|| no_patient().to_owned(), |pid| patient_of(reading, pid))
}

/// Said where there is no PID.
pub(super) fn no_patient() -> &'static str {
    "no patient sent"
}

/// The same of one PID.
pub(super) fn patient_of(reading: Reading<'_, '_>, pid: Segment<'_>) -> String {
    let id = pid.field(3).repetitions().map(|one| reading.text(one.component(1).raw())).find(|id| !id.is_empty());
    match id {
        Some(id) if id.to_lowercase().starts_with("unknown") => "patient unknown".to_owned(),
        Some(id) => format!("patient {id}"),
        None => "patient not identified".to_owned(),
    }
}

/// The text behind the words, or nothing where there is none.
pub(super) fn after(words: &str, text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("{words}{text}") }
}

pub(super) fn in_brackets(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" ({text})") }
}

/// What was kept so long that it is sent late.
fn late(after_seconds: Option<i64>) -> String {
    let late = after_seconds.filter(|seconds| *seconds >= LATE_AFTER_SECONDS);
    late.map(|seconds| format!(" Sent {} after it happened.", span(seconds))).unwrap_or_default()
}

/// `3 h 12 min`.
fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, hours) => format!("{hours} h {minutes} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}
