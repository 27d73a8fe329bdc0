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
/// Terms of events are in partition 3.
const EVENTS: std::ops::Range<u32> = 3 << 16..4 << 16;

pub(super) fn check(message: &Message, notes: &mut Notes) {
    let Some(msh) = message.first("MSH") else { return };
    let is_alert =
        |obr: &&Segment| [obr.part(4, 1), obr.part(4, 2), obr.part(4, 3)] == ["196616", "MDC_EVT_ALARM", "MDC"];
    if message.all("OBR").filter(is_alert).count() != 1 {
        notes.breach("B01", message.first("OBR").unwrap_or(msh), 4, "not exactly one OBR is MDC_EVT_ALARM");
    }
    if let Some(obr) = message.all("OBR").find(is_alert).or_else(|| message.first("OBR")) {
        Alert { obr, rows: message.all("OBX").filter(|obx| obx.group == obr.group).collect() }.check(notes);
    }
    recipients(message, notes);
    report(message, msh, notes);
}

struct Alert<'m> {
    obr: &'m Segment,
    rows: Vec<&'m Segment>,
}

impl<'m> Alert<'m> {
    fn check(&self, notes: &mut Notes) {
        self.facets(notes);
        self.enumerations(notes);
        self.chain(notes);
        self.times(notes);
        self.order(notes);
        for obx in &self.rows {
            if !is_device(obx) && obx.field(11) != "F" {
                notes.breach("B04", obx, 11, "the status is not F");
            }
        }
    }

    fn by_code(&self, code: &str) -> Option<&'m Segment> {
        self.rows.iter().copied().find(|obx| obx.part(3, 1) == code)
    }

    fn by_facet(&self, facet: u64) -> Option<&'m Segment> {
        self.rows.iter().copied().find(|obx| facet_of(obx) == Some(facet))
    }

    /// The OBX that says what happened.
    fn event(&self) -> Option<&'m Segment> {
        let is_event = |obx: &&Segment| obx.part(3, 1).parse().is_ok_and(|code: u32| EVENTS.contains(&code));
        self.rows.iter().copied().find(is_event).or_else(|| self.by_facet(1))
    }

    fn source(&self) -> Option<&'m Segment> {
        let is_number = |obx: &&Segment| matches!(obx.field(2), "NM" | "SN");
        self.by_code("68480").or_else(|| self.by_facet(2)).or_else(|| self.rows.iter().copied().find(is_number))
    }

    /// A code of OBX-8 on any row: the older way to tell priority and type.
    fn interpretation(&self, of: &[&str]) -> Option<&'m Segment> {
        let told = |obx: &&Segment| obx.repetitions(8).any(|code| of.contains(&obx.component(code, 1)));
        self.rows.iter().copied().find(told)
    }

    fn facets(&self, notes: &mut Notes) {
        let absent = [
            (self.event(), "no OBX tells the event"),
            (self.source(), "no OBX tells the source"),
            (self.by_code("68481"), "no OBX tells the phase"),
            (self.by_code("68482"), "no OBX tells the state"),
            (self.by_code("68483"), "no OBX tells the inactivation"),
            (self.by_code("68484").or_else(|| self.interpretation(PRIORITIES)), "nothing tells the priority"),
            (self.by_code("68485").or_else(|| self.interpretation(KINDS)), "nothing tells the type"),
        ];
        for (_, words) in absent.into_iter().filter(|(facet, _)| facet.is_none()) {
            notes.breach("B02", self.obr, 0, words);
        }
    }

    fn enumerations(&self, notes: &mut Notes) {
        let rows = [
            ("68481", PHASES, "no known phase"),
            ("68482", STATES, "no known state"),
            ("68483", INACTIVATIONS, "no known inactivation"),
            ("68484", PRIORITIES, "no known priority"),
            ("68485", KINDS, "no known type"),
        ];
        for (code, known, words) in rows {
            let Some(obx) = self.by_code(code) else { continue };
            if !obx.repetitions(5).all(|value| known.contains(&word(obx, value))) {
                notes.breach("B03", obx, 5, words);
            }
        }
        let (Some(state), phase) = (self.by_code("68482"), self.phase()) else { return };
        let fits = match phase {
            "end" => matches!(value(state), "inactive" | "latched"),
            "start" => value(state) == "active",
            _ => true,
        };
        if !fits {
            notes.warn("B03", state, 5, "the state does not fit the phase");
        }
    }

    fn phase(&self) -> &'m str {
        self.by_code("68481").map_or("", value)
    }

    /// Whether it is the first report of an alert says the phase, never OBR-29 itself.
    fn chain(&self, notes: &mut Notes) {
        let parent = self.obr.part(29, 2);
        match self.phase() {
            "start" | "start_only" | "present" if !parent.is_empty() => {
                notes.breach("B05", self.obr, 29, "a first report refers to an earlier one");
            }
            "" | "start" | "start_only" | "present" | "tpoint" => {}
            _ if parent.is_empty() => notes.breach("B05", self.obr, 29, "a later report does not refer to the first"),
            _ => {}
        }
    }

    fn times(&self, notes: &mut Notes) {
        if self.obr.field(7).is_empty() {
            notes.breach("B06", self.obr, 7, "when the message was made is not told");
        }
        if !self.obr.field(8).is_empty() {
            notes.breach("B06", self.obr, 8, "the field is not to be used");
        }
        if let Some(event) = self.event().filter(|event| event.field(14).is_empty()) {
            notes.breach("B06", event, 14, "when it happened is not told");
        }
    }

    fn order(&self, notes: &mut Notes) {
        let facets: Vec<_> = self.rows.iter().filter_map(|obx| Some((facet_of(obx)?, *obx))).collect();
        if let Some(pair) = facets.windows(2).find(|pair| pair[0].0 > pair[1].0) {
            notes.breach("B07", pair[1].1, 4, "the facets do not ascend");
        }
        let physiological = self.by_code("68485").map(value) == Some("SP") || self.interpretation(&["SP"]).is_some();
        let Some(source) = self.source().filter(|_| physiological) else { return };
        if source.field(2) == "NM" && (source.field(5).is_empty() || source.field(7).is_empty()) {
            notes.breach("B07", source, 7, "a numeric alarm without its value or limits");
        }
    }
}

/// The last of five or six ordinals.
fn facet_of(obx: &Segment) -> Option<u64> {
    values::path(obx.field(4)).and_then(|path| path.get(4).copied())
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
                let named = segment.repetitions(5).count() + segment.repetitions(15).count();
                if named != 1 {
                    notes.breach("B08", segment, 5, "not exactly one recipient");
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
