//! PCD-04, the alert and its seven facets, and PCD-05: B01 to B09.

use super::{Notes, message::Message, message::Segment, values};

const PHASES: &[&str] = &[
    "tpoint",
    "start",
    "start_only",
    "continue",
    "end",
    "present",
    "update",
    "escalate",
    "inactivate",
    "acknowledged",
    "deescalate",
    "reset",
    "stop",
];
const STATES: &[&str] = &["inactive", "active", "latched"];
const INACTIVATIONS: &[&str] =
    &["enabled", "audio-paused", "audio-off", "alarm-paused", "alarm-off", "alert-acknowledged", "acknowledged"];
const PRIORITIES: &[&str] = &["PN", "PL", "PM", "PH"];
const KINDS: &[&str] = &["SP", "ST", "SA"];
/// The facets that a term of OBX-3 names, in their order.
const FACETS: [(&str, &str, &str); 7] = [
    ("196616", "MDC_EVT_ALARM", "no OBX tells the event"),
    ("68480", "MDC_ATTR_ALERT_SOURCE", "no OBX tells the source"),
    ("68481", "MDC_ATTR_EVENT_PHASE", "no OBX tells the phase"),
    ("68482", "MDC_ATTR_ALARM_STATE", "no OBX tells the state"),
    ("68483", "MDC_ATTR_ALARM_INACTIVATION_STATE", "no OBX tells the inactivation"),
    ("68484", "MDC_ATTR_ALARM_PRIORITY", "nothing tells the priority"),
    ("68485", "MDC_ATTR_ALERT_TYPE", "nothing tells the type"),
];
const EVENT: usize = 0;
const SOURCE: usize = 1;
const PHASE: usize = 2;
const STATE: usize = 3;
const INACTIVATION: usize = 4;
const PRIORITY: usize = 5;
const KIND: usize = 6;

pub(super) fn check(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let alert = Alert::of(message);
    one(message, msh, &alert, notes);
    alert.facets(msh, notes);
    alert.enumerations(notes);
    alert.chain(message, notes);
    alert.times(message, notes);
    alert.order(notes);
    for obx in message.all("OBX") {
        let wanted = if is_device(obx) { "X" } else { "F" };
        if obx.field(11) != wanted {
            notes.breach("B04", obx, 11, "the status of a facet is not F, or that of a device not X");
        }
    }
    recipients(message, notes);
    report(message, msh, notes);
}

fn one(message: &Message, msh: &Segment, alert: &Alert<'_>, notes: &mut Notes) {
    let is_alert = |obr: &&Segment| [1, 2, 3].map(|n| obr.part(4, n)) == ["196616", "MDC_EVT_ALARM", "MDC"];
    if message.all("OBR").filter(is_alert).count() != 1 {
        notes.breach("B01", message.first("OBR").unwrap_or(msh), 4, "not exactly one OBR is MDC_EVT_ALARM");
    }
    if let Some(second) = alert.all(PHASE).nth(1) {
        notes.breach("B01", second, 0, "a second phase, so a second alert");
    }
}

/// Each OBX with the facet it is of.
struct Alert<'m> {
    rows: Vec<(Option<usize>, &'m Segment)>,
}

impl<'m> Alert<'m> {
    fn of(message: &'m Message) -> Alert<'m> {
        Alert { rows: message.all("OBX").map(|obx| (facet(obx), obx)).collect() }
    }

    fn all(&self, wanted: usize) -> impl Iterator<Item = &'m Segment> {
        self.rows.iter().filter(move |(facet, _)| *facet == Some(wanted)).map(|(_, obx)| *obx)
    }

    fn first(&self, wanted: usize) -> Option<&'m Segment> {
        self.all(wanted).next()
    }

    fn facets(&self, msh: &Segment, notes: &mut Notes) {
        for (wanted, (_, _, words)) in FACETS.iter().enumerate() {
            if self.first(wanted).is_some() {
                continue;
            }
            let codes = match wanted {
                PRIORITY => PRIORITIES,
                KIND => KINDS,
                _ => &[],
            };
            let told = |obx: &&Segment| obx.repetitions(8).any(|code| codes.contains(&obx.component(code, 1)));
            match self.rows.iter().map(|(_, obx)| *obx).find(told) {
                Some(obx) => notes.warn("B02", obx, 8, "priority and type are to be facets of their own"),
                None => notes.breach("B02", msh, 0, words),
            }
        }
    }

    fn enumerations(&self, notes: &mut Notes) {
        let tables = [
            (PHASE, PHASES, "no known phase"),
            (STATE, STATES, "no known state"),
            (INACTIVATION, INACTIVATIONS, "no known inactivation"),
            (PRIORITY, PRIORITIES, "no known priority"),
            (KIND, KINDS, "no known type"),
        ];
        for (wanted, known, words) in tables {
            for obx in self.all(wanted) {
                if !obx
                    .repetitions(5)
                    .map(|value| word(obx, value))
                    .all(|word| word.is_empty() || known.contains(&word))
                {
                    notes.breach("B03", obx, 5, words);
                }
            }
        }
        let Some(state) = self.first(STATE) else { return };
        let fits = match (self.first(PHASE).map_or("", value), value(state)) {
            (_, "") => true,
            ("end", state) => matches!(state, "inactive" | "latched"),
            ("start", state) => state == "active",
            _ => true,
        };
        if !fits {
            notes.warn("B03", state, 5, "the state does not fit the phase");
        }
    }

    /// Whether it is the first report of an alert says the phase, never OBR-29 itself.
    fn chain(&self, message: &Message, notes: &mut Notes) {
        let Some(phase) = self.first(PHASE).map(value) else { return };
        let is_first = matches!(phase, "start" | "start_only" | "present");
        for obr in message.all("OBR") {
            match (is_first, obr.part(29, 2).is_empty()) {
                (true, false) => notes.breach("B05", obr, 29, "a first report refers to an earlier one"),
                (false, true) => notes.breach("B05", obr, 29, "a later report does not refer to the first"),
                _ => {}
            }
        }
    }

    fn times(&self, message: &Message, notes: &mut Notes) {
        for obr in message.all("OBR") {
            if obr.field(7).is_empty() {
                notes.breach("B06", obr, 7, "when the message was made is not told");
            }
            if !obr.field(8).is_empty() {
                notes.breach("B06", obr, 8, "the field is not to be used");
            }
        }
        if let Some(event) = self.first(EVENT).filter(|event| event.field(14).is_empty()) {
            notes.breach("B06", event, 14, "when it happened is not told");
        }
    }

    fn order(&self, notes: &mut Notes) {
        let known: Vec<_> = self.rows.iter().filter_map(|(facet, obx)| Some(((*facet)?, *obx))).collect();
        if let Some(pair) = known.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            notes.breach("B07", pair[1].1, 4, "the facets do not ascend");
        }
        for source in self.all(SOURCE).filter(|obx| is_measured(obx)) {
            if !source.repetitions(5).all(values::is_number) || source.field(5).is_empty() {
                notes.breach("B07", source, 5, "a numeric alarm without its value");
            }
            if source.field(7).is_empty() {
                notes.breach("B07", source, 7, "a numeric alarm without its limits");
            }
        }
    }
}

/// Which facet an OBX is. A physiological alarm has its own event's term, and the measured value as its source.
fn facet(obx: &Segment) -> Option<usize> {
    let named = FACETS.iter().position(|(code, refid, _)| obx.is_term(3, code, refid));
    let refid = obx.part(3, 2);
    let is_first = values::path(obx.field(4)).is_some_and(|path| path.get(4) == Some(&1));
    let is_event = is_first || refid.starts_with("MDC_EVT_") || refid.starts_with("MDCX_EVT_");
    named.or(is_event.then_some(EVENT)).or(is_measured(obx).then_some(SOURCE))
}

/// A number, and not the time that a watchdog gives for the answer.
fn is_measured(obx: &Segment) -> bool {
    obx.field(2) == "NM" && !obx.is_term(3, "67860", "MDC_ATTR_CONFIRM_TIMEOUT")
}

fn is_device(obx: &Segment) -> bool {
    values::path(obx.field(4)).is_some_and(|path| values::is_device(&path))
}

/// An enumerated value, as text or as a CWE without code.
fn word<'m>(obx: &Segment, repetition: &'m str) -> &'m str {
    let code = obx.component(repetition, 1);
    if code.is_empty() { obx.component(repetition, 2) } else { code }
}

fn value(obx: &Segment) -> &str {
    word(obx, obx.repetitions(5).next().unwrap_or(""))
}

fn recipients(message: &Message, notes: &mut Notes) {
    let mut before_obx = false;
    for segment in message.segments() {
        match segment.id.as_str() {
            "OBR" => before_obx = true,
            "OBX" => before_obx = false,
            "PRT" => {
                if !before_obx {
                    notes.breach("B08", segment, 0, "PRT is not between OBR and OBX");
                }
                if segment.field(5).is_empty() && segment.field(15).is_empty() {
                    notes.breach("B08", segment, 5, "no recipient");
                } else if segment.repetitions(5).count() > 1 {
                    notes.breach("B08", segment, 5, "more than one recipient");
                }
            }
            _ => {}
        }
    }
}

fn report(message: &Message, msh: &Segment, notes: &mut Notes) {
    let Some(msa) = message.first("MSA") else { return notes.breach("B09", msh, 0, "there is no MSA") };
    if msa.field(2).is_empty() {
        notes.breach("B09", msa, 2, "which alert it is about is not told");
    }
    for field in [7, 8] {
        if !msa.field(field).is_empty() {
            notes.breach("B09", msa, field, "the field is not to be used");
        }
    }
}
