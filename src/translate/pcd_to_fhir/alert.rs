//! Alerts (PCD-04): one Observation for each, from its first message to its last, updated in its place by its identifier.
//!
//! What must never happen: an alert that ended is told as active again by a message that came late, or one that begins
//! writes over an earlier one because its sender uses a number again. An alert is of the device where its message names no
//! patient. A record is no alarm system: what it shows is for information, never the primary alarm.

mod content;
mod origins;
mod standing;

use super::{
    Alerts, Context, Devices, Output, PcdToFhir, Recall, TranslateError, Translated, Translation, Unsent,
    administration::{AHEAD, AHEAD_MAX, AHEAD_NOTED, ahead, is_named, received, when},
    bundle::Write,
    finish, memory, patient, references, refuse,
};
use crate::{
    fhir::{Identifier, Observation, Reference, fingerprint, systems},
    pcd::{Alert, EntityId, Nth, Phase, Place, Report, Role, is_no_identifier},
};

use self::{
    content::{category, code, components, interpretation, value},
    standing::{Standing, Told},
};

/// The transaction for the alerts of a message, or why it tells of none, or of nothing new.
pub(super) fn apply(
    settings: &PcdToFhir,
    report: &Report<'_>,
    context: Context,
    recall: &Recall<'_>,
) -> Result<Translated, TranslateError> {
    if settings.alerts == Alerts::Refuse {
        return Err(refuse("MSH-9", REFUSED));
    }
    let alerts = Alert::of(report, &settings.nomenclature);
    let alerts: Vec<Alert> = alerts.into_iter().filter(|alert| !alert.is_watchdog()).collect();
    let Some(first) = alerts.first() else { return Ok(Translated::unsent(Unsent::Watchdog, Vec::new())) };
    let pid = report.groups[first.group].patient.filter(|pid| names_a_patient(report, *pid));
    let known = pid.map(|pid| patient::identify(settings, report.message, pid)).transpose()?;
    let of_patient = known.is_some();
    let translation = Translation::new(settings, report, known.unwrap_or_else(patient::Patient::nobody), recall);
    let mut output = Output::new(context.origins);
    let devices = Devices::of(&translation, &mut output);
    let (mut changes, mut why) = (Vec::new(), Unsent::Older);
    for alert in &alerts {
        if let (Some(one), Some(other)) = (pid, report.groups[alert.group].patient)
            && one.nth != other.nth
        {
            return Err(refuse(other.place(3), patient::TWO));
        }
        let source = Source::of(&translation, &devices, alert)?;
        let at = alert.at.as_ref().ok_or_else(|| refuse("OBR-7", NO_TIME))?;
        let at = when(&translation, at)?;
        let ahead = ahead(&at, context);
        if ahead > AHEAD_MAX {
            return Err(refuse(source.place, AHEAD));
        }
        let told = Told::of(alert, at, received(context).filter(|_| ahead > AHEAD_NOTED));
        let name = source.name(alert);
        let before: Option<Standing> = memory::read(recall, &name);
        let behind = before.as_ref().is_some_and(Standing::is_ahead);
        let Some(now) = standing::tell(before, &told) else {
            why = if behind { Unsent::ClockAhead } else { why };
            continue;
        };
        changes.push(memory::write(&name, &now, !now.over));
        let subject = of_patient.then(|| Reference::to(translation.patient.reference.clone()));
        let subject =
            subject.or_else(|| source.reference.clone().filter(is_named)).ok_or_else(|| refuse("PID", NOBODY))?;
        write(&translation, &source, alert, (&now, subject, pid), &mut output);
    }
    if changes.is_empty() {
        return Ok(Translated::unsent(why, Vec::new()));
    }
    finish(&translation, context, output, changes)
}

/// A visit or account number is no patient's.
fn names_a_patient(report: &Report<'_>, pid: Nth<'_>) -> bool {
    pid.field(3).repetitions().any(|id| {
        let text = |n| report.message.text(id.component(n).raw());
        !is_no_identifier(text(1).trim()) && !matches!(text(5).trim(), "VN" | "AN")
    })
}

/// What an alert is of.
struct Source<'a> {
    key: String,
    reference: Option<Reference<'a>>,
    /// Where it is named.
    place: Place,
    /// A row of its group.
    row: usize,
}

impl<'a> Source<'a> {
    fn of(translation: &Translation<'a>, devices: &Devices<'a>, alert: &Alert) -> Result<Source<'a>, TranslateError> {
        let rows = &translation.report.rows;
        let own = || (0..rows.len()).filter(|at| rows[*at].group == alert.group);
        let mut told = own().filter(|at| !matches!(rows[*at].role, Role::Device(_)));
        let identified = |at: &usize| devices.reference(translation, &rows[*at]).is_some();
        let row = told.clone().find(identified).or_else(|| told.next()).or_else(|| own().next());
        let row = row.ok_or_else(|| refuse("OBX", NO_ROWS))?;
        let row_of = &rows[row];
        let (key, reference) = (devices.key(translation, row_of), devices.reference(translation, row_of));
        Ok(Source { key, reference, place: devices.place(translation, row_of), row })
    }

    /// What it is remembered by. Its sender's number, by its first part: the others are left out as often as not.
    fn name(&self, alert: &Alert) -> Vec<u8> {
        memory::name(memory::ALERT, &[&self.key, &instance(alert)])
    }
}

/// The alert's own name; of one without, what it is of.
fn instance(alert: &Alert) -> String {
    let what = || format!("{} {}", alert.event.code, alert.event.name);
    alert.instance.as_ref().map(EntityId::text).map_or_else(what, str::to_owned)
}

fn write<'a>(
    translation: &Translation<'a>,
    source: &Source<'a>,
    alert: &Alert,
    (now, subject, pid): (&Standing, Reference<'a>, Option<Nth<'a>>),
    output: &mut Output<'a>,
) {
    let row = &translation.report.rows[source.row];
    let name = fingerprint(["alert", &source.key, &instance(alert), &now.first.to_string()]);
    let identifier = Identifier { kind: None, system: Some(systems::OWN_OBSERVATION.into()), value: name.into() };
    let (effective_date_time, effective_period) = now.effective();
    let is_final = now.over || now.once || translation.settings.alerts == Alerts::Final;
    let observation = Observation {
        resource_type: "Observation",
        meta: translation.meta(),
        identifier: vec![identifier],
        status: if is_final { "final" } else { "preliminary" },
        category: vec![category()],
        code: code(translation, alert),
        subject: Some(subject),
        encounter: references::encounter(translation, translation.report.group(row).visit),
        effective_date_time,
        effective_period,
        value: value(alert),
        interpretation: interpretation(alert),
        device: source.reference.clone(),
        component: components(translation, alert),
        ..Observation::default()
    };
    let mut trace = output.trace();
    if trace.is_wanted() {
        origins::note(translation, source, alert, (now, pid), &observation, &mut trace);
    }
    output.observation(observation, row.group, Write::Replace, trace);
}

/// Whether a phase says that the condition is gone.
fn ends(phase: &Phase) -> bool {
    matches!(phase, Phase::End | Phase::Stop | Phase::Reset)
}

const REFUSED: &str = "alerts are refused by this destination; keep them from it with `where = { \"MSH-9.2\" = [\"R01\", \"R42\"] }`, \
                       or set alerts = \"observation\" in [destination.fhir]";
const NO_TIME: &str = "the alert has no time in OBX-14 or OBR-7; ask the sender to fill one of them";
const NO_ROWS: &str = "the message tells of no alert; ask the sender to say what it is of";
const NOBODY: &str = "the alert names neither a patient nor a device; ask the sender to identify one of them";
