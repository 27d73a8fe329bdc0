//! PCD-04: one alert and its facets (B01 to B08; IHE PCD TF-2 B.7, B.8.5).

use super::{
    Reading, Told,
    base::is_number,
    reading::{Row, mdc, part, raw},
};

/// The facets of an alert: code and identifier of OBX-3, in their order. The first two have other codes as well.
const FACETS: [(u32, &[u8]); 7] = [
    (196_616, b"MDC_EVT_ALARM"),
    (68_480, b"MDC_ATTR_ALERT_SOURCE"),
    (68_481, b"MDC_ATTR_EVENT_PHASE"),
    (68_482, b"MDC_ATTR_ALARM_STATE"),
    (68_483, b"MDC_ATTR_ALARM_INACTIVATION_STATE"),
    (68_484, b"MDC_ATTR_ALARM_PRIORITY"),
    (68_485, b"MDC_ATTR_ALERT_TYPE"),
];
const EVENT: usize = 0;
const SOURCE: usize = 1;
const PHASE: usize = 2;
const STATE: usize = 3;
const INACTIVATION: usize = 4;
const PRIORITY: usize = 5;
const TYPE: usize = 6;

/// Which facet a row is. An event has the event's own code where the alert is physiological, and its source then is the
/// measured value.
fn facet(row: &Row<'_>) -> Option<usize> {
    let named = FACETS.iter().position(|(code, refid)| row.is(*code, refid));
    let text = mdc(&row.code).map(|mdc| mdc.text.trim_ascii()).unwrap_or_default();
    let first = row.place.is_some() && row.raw(4).split(|byte| *byte == b'.').nth(4) == Some(b"1");
    let is_event = || first || text.starts_with(b"MDC_EVT_") || text.starts_with(b"MDCX_EVT_");
    named.or_else(|| is_event().then_some(EVENT)).or_else(|| is_measured(row).then_some(SOURCE))
}

fn is_measured(row: &Row<'_>) -> bool {
    const CONFIRM_TIMEOUT: u32 = 67_860;
    row.raw(2) == b"NM" && !row.is(CONFIRM_TIMEOUT, b"MDC_ATTR_CONFIRM_TIMEOUT")
}

fn rows_of<'r, 'm>(reading: &'r Reading<'m>, wanted: usize) -> impl Iterator<Item = &'r Row<'m>> {
    reading.rows.iter().filter(move |row| facet(row) == Some(wanted))
}

pub(super) fn one(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut alerts = reading.requests.iter().filter(|request| {
        part(**request, 4, 1) == b"196616"
            && part(**request, 4, 2) == b"MDC_EVT_ALARM"
            && part(**request, 4, 3) == b"MDC"
    });
    if alerts.next().is_none() {
        match reading.requests.first() {
            Some(request) => told.error(*request, 4, 103, "no OBR-4 is 196616^MDC_EVT_ALARM^MDC"),
            None => told.absent("OBR", "an alert needs an OBR"),
        }
    }
    if let Some(second) = alerts.next() {
        told.error(*second, 0, 198, "the message has more than one alert; send a message for each");
    } else if let Some(second) = rows_of(reading, PHASE).nth(1) {
        told.error(second.obx, 0, 198, "the alert has more than one phase; send a message for each alert");
    }
}

pub(super) fn facets(reading: &Reading<'_>, told: &mut Told<'_>) {
    const MISSING: [&str; 7] = [
        "the alert has no event facet",
        "the alert has no source facet (MDC_ATTR_ALERT_SOURCE, or the measured value)",
        "the alert has no phase (MDC_ATTR_EVENT_PHASE)",
        "the alert has no state (MDC_ATTR_ALARM_STATE)",
        "the alert has no inactivation state (MDC_ATTR_ALARM_INACTIVATION_STATE)",
        "the alert has no priority (MDC_ATTR_ALARM_PRIORITY)",
        "the alert has no type (MDC_ATTR_ALERT_TYPE)",
    ];
    let place = reading.requests.first().copied().unwrap_or(reading.msh);
    for (wanted, text) in MISSING.into_iter().enumerate() {
        if rows_of(reading, wanted).next().is_some() {
            continue;
        }
        let substitute = reading.rows.iter().find(|row| has_flag(row, wanted));
        match substitute {
            Some(row) => told.warning(row.obx, 8, 102, "OBX-8 tells priority or type; send the facet of its own"),
            None => told.error(place, 0, 101, text),
        }
    }
}

/// OBX-8 holds a priority, or a type, as earlier revisions had it.
fn has_flag(row: &Row<'_>, wanted: usize) -> bool {
    let mut flags = row.obx.field(8).repetitions().map(|flag| flag.component(1).raw().trim_ascii());
    match wanted {
        PRIORITY => flags.any(|flag| matches!(flag, b"PN" | b"PL" | b"PM" | b"PH")),
        TYPE => flags.any(|flag| matches!(flag, b"SP" | b"ST" | b"SA")),
        _ => false,
    }
}

const PHASES: [&[u8]; 13] = [
    b"tpoint",
    b"start",
    b"start_only",
    b"continue",
    b"end",
    b"present",
    b"update",
    b"escalate",
    b"inactivate",
    b"acknowledged",
    b"deescalate",
    b"reset",
    b"stop",
];
const STATES: [&[u8]; 3] = [b"inactive", b"active", b"latched"];
const INACTIVATIONS: [&[u8]; 7] =
    [b"enabled", b"audio-paused", b"audio-off", b"alarm-paused", b"alarm-off", b"alert-acknowledged", b"acknowledged"];
const PRIORITIES: [&[u8]; 4] = [b"PN", b"PL", b"PM", b"PH"];
const TYPES: [&[u8]; 3] = [b"SP", b"ST", b"SA"];

pub(super) fn values(reading: &Reading<'_>, told: &mut Told<'_>) {
    let tables: [(usize, &[&[u8]], &'static str); 5] = [
        (PHASE, &PHASES, "the phase is not one of the table"),
        (STATE, &STATES, "the alarm state is not one of the table"),
        (INACTIVATION, &INACTIVATIONS, "the inactivation state is not one of the table"),
        (PRIORITY, &PRIORITIES, "the priority is not PN, PL, PM or PH"),
        (TYPE, &TYPES, "the type is not SP, ST or SA"),
    ];
    for (wanted, table, text) in tables {
        for row in rows_of(reading, wanted) {
            if row.words().any(|word| !word.is_empty() && !table.contains(&word)) {
                told.error(row.obx, 5, 103, text);
            }
        }
    }
    let word = |wanted| rows_of(reading, wanted).next().map(Row::word).unwrap_or_default();
    let agree = match (word(PHASE), word(STATE)) {
        (b"end", state) => matches!(state, b"" | b"inactive" | b"latched"),
        (b"start", state) => matches!(state, b"" | b"active"),
        _ => true,
    };
    if let Some(row) = rows_of(reading, STATE).next().filter(|_| !agree) {
        told.warning(row.obx, 5, 103, "the alarm state does not go with the phase");
    }
}

pub(super) fn status(reading: &Reading<'_>, told: &mut Told<'_>) {
    for row in &reading.rows {
        match row.raw(11) {
            b"F" if !row.is_device => {}
            b"X" if row.is_device => {}
            _ if row.is_device => told.warning(row.obx, 11, 103, "OBX-11 of a device is not X"),
            _ => told.warning(row.obx, 11, 103, "OBX-11 of an alert is not F"),
        }
    }
}

pub(super) fn parent(reading: &Reading<'_>, told: &mut Told<'_>) {
    let Some(phase) = rows_of(reading, PHASE).next().map(Row::word) else { return };
    let initial = matches!(phase, b"start" | b"start_only" | b"present");
    for request in &reading.requests {
        let filler = part(*request, 29, 2);
        if initial && !filler.is_empty() {
            told.warning(*request, 29, 102, "OBR-29.2 is valued at the start of an alert; leave it empty");
        } else if !initial && filler.is_empty() {
            told.warning(*request, 29, 101, "OBR-29.2 does not name the OBR-3 that the alert began with");
        }
    }
}

pub(super) fn times(reading: &Reading<'_>, told: &mut Told<'_>) {
    for request in &reading.requests {
        if raw(*request, 7).is_empty() {
            told.warning(*request, 7, 101, "OBR-7 is empty; send when the alert was reported");
        }
        if !raw(*request, 8).is_empty() {
            told.warning(*request, 8, 102, "OBR-8 is not used in an alert; leave it empty");
        }
    }
    if let Some(event) = rows_of(reading, EVENT).next().filter(|event| event.raw(14).is_empty()) {
        told.warning(event.obx, 14, 101, "OBX-14 of the event is empty; send when the alert came up");
    }
}

pub(super) fn order(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut last = EVENT;
    for row in &reading.rows {
        let Some(facet) = facet(row) else { continue };
        if facet < last {
            told.warning(row.obx, 0, 100, "the facets of the alert are not in their order");
        }
        last = last.max(facet);
    }
    let numeric = |row: &&Row<'_>| is_measured(row) && facet(row) == Some(SOURCE);
    for row in reading.rows.iter().filter(numeric) {
        if !row.obx.field(5).repetitions().all(|value| is_number(value.raw().trim_ascii())) {
            told.warning(row.obx, 5, 101, "the measured source of the alert has no value");
        }
        if row.raw(7).is_empty() {
            told.warning(row.obx, 7, 101, "the measured source of the alert has no limits in OBX-7");
        }
    }
}

pub(super) fn recipients(reading: &Reading<'_>, told: &mut Told<'_>) {
    let mut after_obr = false;
    for segment in reading.message.segments() {
        match segment.id() {
            "OBR" => after_obr = true,
            "OBX" => after_obr = false,
            "PRT" => {
                if !after_obr {
                    told.warning(segment, 0, 100, "a PRT of an alert does not stand between OBR and OBX");
                }
                if raw(segment, 5).is_empty() && raw(segment, 15).is_empty() {
                    told.warning(segment, 5, 101, "a PRT names no recipient in PRT-5 or PRT-15");
                } else if segment.field(5).repetitions().count() > 1 {
                    told.warning(segment, 5, 198, "a PRT names more than one recipient");
                }
            }
            _ => {}
        }
    }
}
