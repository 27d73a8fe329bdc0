//! An alert as PCD-04 tells it (IHE PCD TF-2 3.4, B.8.5), from facets and from senders that use none.
//!
//! What must never happen: an alert that is there is not told of. So whatever has no value its enumeration knows is kept
//! as sent, and whether an alert is a new one is told by its phase, never by an empty OBR-29, which many senders fill
//! from the start.

use serde::Serialize;

use super::{
    Coded, Kind, Nomenclature, Report, Role, Row,
    event::{Attribute, EntityId, Moment, Named, Quantity, Reading, enumeration},
    report::{Nth, Place},
};

enumeration! {
    /// MDC_ATTR_EVENT_PHASE: what happened to the alert.
    Phase {
        /// An event without duration.
        Tpoint = "tpoint",
        /// It began.
        Start = "start",
        /// It began, and no end will be told.
        StartOnly = "start_only",
        /// It goes on.
        Continue = "continue",
        /// It ended.
        End = "end",
        /// It is there; when it began is not told.
        Present = "present",
        /// Something of it changed.
        Update = "update",
        /// Its priority rose.
        Escalate = "escalate",
        /// Its priority fell.
        Deescalate = "deescalate" | "de-escalate",
        /// Its signals were inactivated.
        Inactivate = "inactivate",
        /// Someone acknowledged it.
        Acknowledged = "acknowledged" | "acknowledge",
        /// A latched one was reset.
        Reset = "reset",
        /// It stopped.
        Stop = "stop",
    }
}

enumeration! {
    /// MDC_ATTR_ALARM_STATE.
    AlarmState {
        /// The condition is no longer there.
        Inactive = "inactive",
        /// The condition is there.
        Active = "active",
        /// The condition is gone, its signal stays until someone resets it.
        Latched = "latched",
        /// Alarming is off.
        Off = "off",
    }
}

enumeration! {
    /// MDC_ATTR_ALARM_INACTIVATION_STATE: whether its signals are given.
    Inactivation {
        /// Signals are given.
        Enabled = "enabled",
        /// The sound pauses.
        AudioPaused = "audio-paused",
        /// The sound is off.
        AudioOff = "audio-off",
        /// All signals pause.
        AlarmPaused = "alarm-paused" | "alert-paused",
        /// All signals are off.
        AlarmOff = "alarm-off" | "alert-off",
        /// Someone acknowledged it.
        Acknowledged = "alert-acknowledged" | "acknowledged" | "alarm-acknowledged",
    }
}

enumeration! {
    /// MDC_ATTR_ALARM_PRIORITY, or PN to PH in OBX-8.
    Priority {
        /// No alarm.
        NotAnAlarm = "PN",
        /// Low.
        Low = "PL",
        /// Medium.
        Medium = "PM",
        /// High.
        High = "PH",
    }
}

enumeration! {
    /// MDC_ATTR_ALERT_TYPE, or SP to SA in OBX-8.
    AlertType {
        /// Of the patient.
        Physiological = "SP",
        /// Of the device.
        Technical = "ST",
        /// For information.
        Advisory = "SA",
    }
}

/// What was measured when the alert was raised.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// OBX-3.
    pub what: Named,
    /// OBX-5 and OBX-6.
    pub value: Quantity,
    /// OBX-7, the alarm's limits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub limits: String,
    /// OBX-5.
    #[serde(skip)]
    pub place: Place,
}

/// Fields that an alert was read from.
#[derive(Clone, PartialEq, Eq)]
pub struct AlertPlaces {
    /// What it is of: OBX-3 or OBX-5.
    pub event: Option<Place>,
    /// The sender's words for it.
    pub text: Option<Place>,
    /// OBR-29 or OBR-3.
    pub instance: Option<Place>,
    /// Its phase.
    pub phase: Option<Place>,
    /// Its state.
    pub state: Option<Place>,
    /// Its inactivation states.
    pub inactivation: Vec<Place>,
    /// Its priority.
    pub priority: Option<Place>,
    /// Its type.
    pub kind: Option<Place>,
    /// Each of its flags.
    pub flags: Vec<Place>,
    /// Its source.
    pub source: Option<Place>,
    /// When.
    pub at: Option<Place>,
}

/// One alert.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Alert {
    /// The alert itself, the same in all messages of it: OBR-29, else OBR-3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<EntityId>,
    /// Where `instance` stood: `OBR-29` or `OBR-3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance_from: Option<&'static str>,
    /// OBR-3: this message's word of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<EntityId>,
    /// The first message of this alert, by its phase.
    pub initial: bool,
    /// What the alert is of.
    pub event: Named,
    /// The sender's words for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What happened to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Whether its condition is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<AlarmState>,
    /// Whether its signals are given.
    pub inactivation: Vec<Inactivation>,
    /// How urgent it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Of the patient, of the device, or for information.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<AlertType>,
    /// What else OBX-8 says, such as `L`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// The device or metric it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Named>,
    /// The measurements behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<Observed>,
    /// A watchdog's test message: its sender raises an alert of its own unless it is acknowledged within this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<Quantity>,
    /// PV1-3: where the alert is, which may not be where the patient now is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// When it was raised or changed: OBX-14 of the event, else OBR-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// Seconds from then to the making of the message (MSH-7): what was kept is sent late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_after_seconds: Option<i64>,
    /// Withdrawn, deleted or not available by the status of a row that describes it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// Index of its group in the report.
    #[serde(skip)]
    pub group: usize,
    /// Where it was told.
    #[serde(skip)]
    pub places: AlertPlaces,
}

impl Alert {
    /// The alerts of a report.
    pub fn of<'m>(report: &Report<'m>, codes: &'m Nomenclature) -> Vec<Alert> {
        Alert::all(Reading { report, codes })
    }

    /// Every alert of a message, in each OBR group that tells of one, else what the first group holds. The framework allows
    /// one; a second must not be lost for that.
    pub(super) fn all(reading: Reading<'_, '_>) -> Vec<Alert> {
        let groups = 0..reading.report.groups.len();
        let mut found: Vec<usize> = groups.filter(|group| is_alert(reading, *group)).collect();
        if found.is_empty() && !reading.report.groups.is_empty() {
            found.push(0);
        }
        let read = |group| {
            let rows: Vec<&Row<'_>> = reading.rows(group).filter(|row| !matches!(row.role, Role::Device(_))).collect();
            apart(&rows).map(|rows| Alert::read(reading, group, rows)).collect::<Vec<_>>()
        };
        found.into_iter().flat_map(read).collect()
    }

    fn read(reading: Reading<'_, '_>, group: usize, rows: &[&Row<'_>]) -> Alert {
        let find = |attribute: &Attribute| rows.iter().copied().find(|row| attribute.is(row));
        let word = |attribute: &Attribute| {
            let row = find(attribute)?;
            Some((reading.word(row.obx.field(5).first())?, row.place_of(5)))
        };
        let event_row = event_row(rows);
        let told = Interpretation::read(reading, rows);
        let (phase, phase_at) = word(&PHASE).map(|(sent, at)| (Phase::read(&sent), at)).unzip();
        let (state, state_at) = word(&STATE).map(|(sent, at)| (AlarmState::read(&sent), at)).unzip();
        let priority = word(&PRIORITY).map(|(sent, at)| (Priority::read(&sent), at)).or(told.priority);
        let kind = word(&TYPE).map(|(sent, at)| (AlertType::read(&sent), at)).or(told.kind);
        let request = reading.report.groups[group].request;
        let report = request.and_then(|obr| EntityId::read(reading.message(), obr.field(3).first()));
        let (instance, instance_from) = instance(reading, request, report.as_ref());
        let instance_field = if instance_from == Some("OBR-29") { 29 } else { 3 };
        let (event, words, event_field) = event_row.map(|row| event(reading, row)).unwrap_or_default();
        let text = find(&TEXT).map(|row| (reading.text(row.obx.raw(5)), row.place_of(5)));
        let words = words.zip(event_row.map(|row| row.place_of(5)));
        let (text, text_at) = text.filter(|(text, _)| !text.is_empty()).or(words).unzip();
        let mut times = [event_row.map(|row| (row.obx, 14)), request.map(|obr| (obr, 7))].into_iter().flatten();
        let at = times.find_map(|(segment, field)| Some((reading.moment(segment, field)?, segment.place(field))));
        let ((priority, priority_at), (kind, kind_at), (at, at_place)) = (priority.unzip(), kind.unzip(), at.unzip());
        let (inactivation, inactivation_at) = inactivation(reading, rows).into_iter().unzip();
        let (flags, flags_at) = told.flags.into_iter().unzip();
        let describes = |row: &Row<'_>| DESCRIBING.iter().any(|attribute| attribute.is(row));
        let describing = rows.iter().copied().filter(|row| describes(row));
        let status = event_row.into_iter().chain(describing).find_map(|row| reading.status(row));
        let sent_after = at.as_ref().zip(reading.made_at()).and_then(|(at, made)| at.seconds_until(&made));
        let source = find(&SOURCE).and_then(|row| Some((reading.named(row.obx.field(5))?, row.place_of(5))));
        let (source, source_at) = source.unzip();
        Alert {
            places: AlertPlaces {
                event: event_row.map(|row| row.place_of(event_field)),
                text: text_at,
                instance: request.filter(|_| instance.is_some()).map(|obr| obr.place(instance_field)),
                phase: phase_at,
                state: state_at,
                inactivation: inactivation_at,
                priority: priority_at,
                kind: kind_at,
                flags: flags_at,
                source: source_at,
                at: at_place,
            },
            instance,
            instance_from,
            report,
            initial: phase.as_ref().is_some_and(Phase::is_initial),
            event,
            text,
            phase,
            state,
            inactivation,
            priority,
            kind,
            flags,
            source,
            observed: observed(reading, rows, event_row),
            confirm_within: find(&CONFIRM_TIMEOUT).and_then(|row| reading.quantity(row)),
            location: super::headline::location(reading, group),
            at,
            sent_after_seconds: sent_after,
            status,
            group,
        }
    }

    /// It tests the way to the receiver: nothing happened at a bed.
    pub fn is_watchdog(&self) -> bool {
        self.confirm_within.is_some()
    }
}

impl Phase {
    /// The alert is new with this message (TF-2 B.7.1 as amended by CP-151).
    pub fn is_initial(&self) -> bool {
        matches!(self, Phase::Start | Phase::StartOnly | Phase::Present | Phase::Tpoint)
    }

    fn is_other(&self) -> bool {
        matches!(self, Phase::Other(_))
    }
}

const ALARM: Attribute = Attribute::new(&[196_616], &["MDC_EVT_ALARM", "ALARM"]);
const SOURCE: Attribute =
    Attribute::new(&[68_480, 68_164], &["MDC_ATTR_ALERT_SOURCE", "MDC_ATTR_ALARM_SOURCE", "MDCX_ATTR_ALERT_SOURCE"]);
const PHASE: Attribute =
    Attribute::new(&[68_481, 68_165], &["MDC_ATTR_EVENT_PHASE", "MDC_ATTR_EVT_PHASE", "MDCX_ATTR_EVENT_PHASE"]);
const STATE: Attribute =
    Attribute::new(&[68_482, 68_166], &["MDC_ATTR_ALARM_STATE", "MDC_ATTR_ALERT_STATE", "MDCX_ATTR_ALARM_STATE"]);
const INACTIVATION: Attribute = Attribute::new(
    &[68_483, 68_167],
    &["MDC_ATTR_ALARM_INACTIVATION_STATE", "MDC_ATTR_ALERT_INACTIVATION_STATE", "MDCX_ATTR_ALARM_INACTIVATION_STATE"],
);
const PRIORITY: Attribute = Attribute::new(&[68_484], &["MDC_ATTR_ALARM_PRIORITY", "MDC_ATTR_ALERT_PRIORITY"]);
const TYPE: Attribute = Attribute::new(&[68_485], &["MDC_ATTR_ALERT_TYPE", "MDC_ATTR_ALARM_TYPE"]);
const TEXT: Attribute = Attribute::new(&[68_546], &["MDC_ATTR_ALERT_TEXT", "MDC_ATTR_ALARM_TEXT"]);
const CONFIRM_TIMEOUT: Attribute = Attribute::new(&[67_860], &["MDC_ATTR_CONFIRM_TIMEOUT"]);
/// All that describe the alert and are no measurement behind it.
const DESCRIBING: [&Attribute; 9] =
    [&ALARM, &SOURCE, &PHASE, &STATE, &INACTIVATION, &PRIORITY, &TYPE, &TEXT, &CONFIRM_TIMEOUT];

fn is_alert(reading: Reading<'_, '_>, group: usize) -> bool {
    let request = reading.report.groups[group].request;
    let by_request =
        request.is_some_and(|obr| Coded::read(obr.field(4).first()).triplets().any(|one| ALARM.names(one)));
    // Further groups of such a message are evidence: they name the alarm as well, without a phase.
    let evidence = group > 0 && reading.rows(0).any(|row| PHASE.is(row));
    reading.rows(group).any(|row| PHASE.is(row)) || by_request && !evidence
}

/// The rows of each alert in a group, which ought to have one: the next begins with the next event after a phase, or with
/// the next phase.
fn apart<'s, 'r, 'm>(rows: &'s [&'r Row<'m>]) -> impl Iterator<Item = &'s [&'r Row<'m>]> {
    let phases: Vec<usize> = (0..rows.len()).filter(|i| PHASE.is(rows[*i])).collect();
    let next = |pair: &[usize]| {
        let after = pair[0] + 1..pair[1];
        after.clone().find(|i| names_event(rows[*i])).unwrap_or(pair[1])
    };
    let mut starts: Vec<usize> = std::iter::once(0).chain(phases.windows(2).map(next)).collect();
    starts.push(rows.len());
    (1..starts.len()).map(move |i| &rows[starts[i - 1]..starts[i]]).collect::<Vec<_>>().into_iter()
}

fn names_event(row: &Row<'_>) -> bool {
    ALARM.is(row)
        || row.term.term.is_some_and(|term| term.kind == Kind::Event)
        || row.code.triplets().any(|one| {
            let refid = one.text.trim_ascii();
            refid.starts_with(b"MDC_EVT_") || refid.starts_with(b"MDCX_EVT_")
        })
}

/// The row that names the event: MDC_EVT_ALARM, else another event, else the first that describes nothing else.
fn event_row<'r, 'm>(rows: &[&'r Row<'m>]) -> Option<&'r Row<'m>> {
    let describes = |row: &Row<'_>| DESCRIBING.iter().any(|attribute| attribute.is(row));
    let find = |wanted: &dyn Fn(&Row<'_>) -> bool| rows.iter().copied().find(|row| wanted(row));
    find(&|row| ALARM.is(row)).or_else(|| find(&names_event)).or_else(|| find(&|row| !describes(row)))
}

/// The event, the sender's words for it, and the field of the first. A technical alert has it in OBX-5, a physiological
/// one in OBX-3.
fn event(reading: Reading<'_, '_>, row: &Row<'_>) -> (Named, Option<String>, usize) {
    let sent = reading.named(row.obx.field(5));
    if ALARM.is(row)
        && let Some(event) = sent
    {
        let original = reading.text(Coded::read(row.obx.field(5).first()).original_text);
        return (event, Some(original).filter(|text| !text.is_empty()), 5);
    }
    let text = sent.filter(|sent| Phase::read(&sent.words).is_other()).map(|sent| sent.words);
    (reading.what(row), text, 3)
}

fn inactivation(reading: Reading<'_, '_>, rows: &[&Row<'_>]) -> Vec<(Inactivation, Place)> {
    let rows = rows.iter().filter(|row| INACTIVATION.is(row));
    let sent = rows.flat_map(|row| row.obx.field(5).repetitions().map(|one| (one, row.place_of(5))));
    sent.filter_map(|(one, at)| Some((Inactivation::read(&reading.word(one)?), at))).collect()
}

/// Rows of the group that carry a value and describe no alert.
fn observed(reading: Reading<'_, '_>, rows: &[&Row<'_>], event: Option<&Row<'_>>) -> Vec<Observed> {
    let measured = rows.iter().filter(|row| {
        let number = matches!(row.obx.raw(2), b"NM" | b"SN" | b"NA");
        let own = event.is_some_and(|event| event.obx.nth == row.obx.nth);
        !own && row.role != Role::Attribute
            && (number || !row.obx.raw(7).is_empty() || !row.obx.raw(6).is_empty())
            && !DESCRIBING.iter().any(|attribute| attribute.is(row))
    });
    let told = measured.filter_map(|row| {
        let value = reading.quantity(row)?;
        Some(Observed { what: reading.what(row), value, limits: reading.text(row.obx.raw(7)), place: row.place_of(5) })
    });
    told.collect()
}

/// Priority, type and the rest, from OBX-8 of all rows, each with its place: repetitions, and components where a sender
/// knows no better.
#[derive(Default)]
struct Interpretation {
    priority: Option<(Priority, Place)>,
    kind: Option<(AlertType, Place)>,
    flags: Vec<(String, Place)>,
}

impl Interpretation {
    fn read(reading: Reading<'_, '_>, rows: &[&Row<'_>]) -> Interpretation {
        let mut found = Interpretation::default();
        let flags = rows.iter().flat_map(|row| row.obx.field(8).repetitions().map(|one| (one, row.place_of(8))));
        let flags = flags.flat_map(|(one, at)| one.components().map(move |part| (reading.text(part.raw()), at)));
        for (flag, at) in flags.filter(|(flag, _)| !flag.is_empty()) {
            match (Priority::read(&flag), AlertType::read(&flag)) {
                (Priority::Other(_), AlertType::Other(_)) if matches!(flag.as_str(), "PI" | "PU") => {
                    // Proposed priorities: kept as sent.
                    found.priority.get_or_insert((Priority::Other(flag), at));
                }
                (Priority::Other(_), AlertType::Other(_)) if found.flags.iter().any(|(known, _)| *known == flag) => {}
                (Priority::Other(_), AlertType::Other(_)) => found.flags.push((flag, at)),
                (Priority::Other(_), kind) => _ = found.kind.get_or_insert((kind, at)),
                (priority, _) => _ = found.priority.get_or_insert((priority, at)),
            }
        }
        found
    }
}

/// What names the alert in all its messages.
fn instance(
    reading: Reading<'_, '_>,
    request: Option<Nth<'_>>,
    report: Option<&EntityId>,
) -> (Option<EntityId>, Option<&'static str>) {
    let parent = request.and_then(|obr| parent(reading, obr, report));
    match parent {
        Some(parent) => (Some(parent), Some("OBR-29")),
        None => (report.cloned(), report.map(|_| "OBR-3")),
    }
}

/// OBR-29 is two EI with subcomponents, the filler's being the second; written as one EI with components it is met too.
fn parent(reading: Reading<'_, '_>, obr: Nth<'_>, report: Option<&EntityId>) -> Option<EntityId> {
    let field = obr.field(29).first();
    let message = reading.message();
    let part = |n: usize| EntityId::of(message, field.component(n).subcomponents());
    let components: Vec<&[u8]> = field.components().map(|part| part.raw()).collect();
    let nested = field.components().any(|part| part.subcomponents().count() > 1);
    let skipped = components.iter().take_while(|raw| raw.is_empty()).count();
    let same_namespace = || report.is_some_and(|own| !own.namespace.is_empty() && own.namespace == part(2).id);
    let flat = !nested && (components.len() > 2 && components.len() - skipped > 1 || skipped == 0 && same_namespace());
    let found = if flat {
        EntityId::of(message, components.into_iter().skip(skipped))
    } else {
        Some(part(2)).filter(|filler| !filler.is_empty()).unwrap_or_else(|| part(1))
    };
    (!found.is_empty()).then_some(found)
}
