//! A device report: OBR groups, and OBX rows hung into the containment tree (IHE PCD TF-2 B.7, B.8).
//!
//! Every OBX of the message is a row, whatever its OBX-4 says: a row whose place cannot be read has no parent, but is
//! never left out.

use std::{collections::HashMap, fmt};

use super::{Coded, Containment, Kind, Level, Nomenclature, nomenclature::Resolved};
use crate::hl7::{Field, Message, Segment};

/// A message read as IHE PCD means it. Any message with OBX segments can be read so.
pub struct Report<'m> {
    /// The message.
    pub message: &'m Message,
    /// One for each OBR; one without where OBX come before any.
    pub groups: Vec<Group<'m>>,
    /// One for each OBX, in the order sent.
    pub rows: Vec<Row<'m>>,
    /// A PID right behind that of another patient: of whom the observations are, nobody can tell.
    pub second_patient: Option<Nth<'m>>,
}

/// An OBR and what it belongs to.
pub struct Group<'m> {
    /// PID before it.
    pub patient: Option<Nth<'m>>,
    /// PV1 before it.
    pub visit: Option<Nth<'m>>,
    /// The OBR.
    pub request: Option<Nth<'m>>,
    /// NTE after the OBR, before its first OBX.
    pub notes: Vec<Nth<'m>>,
}

/// One OBX.
pub struct Row<'m> {
    /// The segment, and which OBX of the message it is.
    pub obx: Nth<'m>,
    /// Index of its group.
    pub group: usize,
    /// OBX-4, where it is a place.
    pub place: Option<Containment>,
    /// OBX-3.
    pub code: Coded<'m>,
    /// The MDC term of OBX-3.
    pub term: Resolved<'m>,
    /// What the row tells of.
    pub role: Role,
    /// Index of the row it is in: for a device the device above, for a facet its metric, else the nearest device.
    pub parent: Option<usize>,
    /// NTE after it.
    pub notes: Vec<Nth<'m>>,
    /// PRT after it.
    pub participations: Vec<Nth<'m>>,
    /// For a device, the rows that say something of it.
    pub attributes: Vec<usize>,
}

/// What a row tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Describes a device; holds no observation.
    Device(Level),
    /// Says something of a device itself.
    Attribute,
    /// An observation.
    Metric,
    /// Part of the metric that is its parent.
    Facet,
}

/// A segment and which of its kind it is, from 1.
#[derive(Clone, Copy)]
pub struct Nth<'m> {
    /// The segment.
    pub segment: Segment<'m>,
    /// From 1.
    pub nth: usize,
}

impl<'m> Nth<'m> {
    /// Field `n`; HL7's explicit null counts as empty.
    pub fn field(&self, n: usize) -> Field<'m> {
        self.segment.field(n)
    }

    /// The raw field, empty for HL7's explicit null.
    pub fn raw(&self, n: usize) -> &'m [u8] {
        match self.segment.field(n).raw() {
            b"\"\"" => b"",
            raw => raw,
        }
    }

    /// Name of field `n` of this segment.
    pub fn place(&self, n: usize) -> Place {
        let mut segment = [b'?'; 3];
        segment.iter_mut().zip(self.segment.id().bytes()).for_each(|(slot, byte)| *slot = byte);
        Place { segment, nth: self.nth, field: n }
    }
}

/// A field of the message, for errors and origins: `OBX[3]-5`, and `MSH-7` where there is only one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    segment: [u8; 3],
    nth: usize,
    field: usize,
}

impl Place {
    /// Another field of the same segment.
    pub fn beside(self, field: usize) -> Place {
        Place { field, ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = std::str::from_utf8(&self.segment).unwrap_or("???");
        if id == "MSH" { write!(f, "MSH-{}", self.field) } else { write!(f, "{id}[{}]-{}", self.nth, self.field) }
    }
}

/// A time as sent, and where.
#[derive(Clone, Copy)]
pub struct Stamp<'m> {
    /// Raw DTM.
    pub raw: &'m [u8],
    /// Where it was sent.
    pub place: Place,
}

/// When a row's observation was made.
#[derive(Clone, Copy)]
pub enum Timing<'m> {
    /// At a time.
    At(Stamp<'m>),
    /// From OBR-7 up to, not including, OBR-8.
    Over(Stamp<'m>, Stamp<'m>),
}

impl<'m> Report<'m> {
    /// Reads the whole message.
    pub fn read(message: &'m Message, nomenclature: &'m Nomenclature) -> Report<'m> {
        let mut reader = Reader { nomenclature, counts: HashMap::new(), group: None, patient: None, visit: None };
        let mut report = Report { message, groups: Vec::new(), rows: Vec::new(), second_patient: None };
        for segment in message.segments() {
            reader.take(&mut report, segment);
        }
        report.link();
        report
    }

    /// Reads a report that is of no device, such as a laboratory's: every row is an observation of its own, whatever its
    /// OBX-4 says.
    pub fn read_flat(message: &'m Message, nomenclature: &'m Nomenclature) -> Report<'m> {
        let mut report = Report::read(message, nomenclature);
        for row in &mut report.rows {
            (row.role, row.parent) = (Role::Metric, None);
            row.attributes.clear();
        }
        report
    }

    /// The group of a row.
    pub fn group(&self, row: &Row<'m>) -> &Group<'m> {
        &self.groups[row.group]
    }

    /// The rows above this one, nearest first.
    pub fn above<'r>(&'r self, row: &Row<'m>) -> impl Iterator<Item = &'r Row<'m>> {
        std::iter::successors(row.parent.map(|i| &self.rows[i]), |row| row.parent.map(|i| &self.rows[i]))
    }

    /// The device rows above this one, nearest first.
    pub fn devices_above<'r>(&'r self, row: &Row<'m>) -> impl Iterator<Item = &'r Row<'m>> {
        self.above(row).filter(|row| matches!(row.role, Role::Device(_)))
    }

    /// When the row's observation was made: OBX-14 of the row or of the nearest row above that has one, else the time of
    /// its OBR, else MSH-7, which is only when the message was made (TF-2 B.8.7).
    pub fn timing(&self, row: &Row<'m>) -> Option<Timing<'m>> {
        let own = std::iter::once(row).chain(self.above(row)).find_map(|row| stamp(row.obx, 14));
        let request = self.group(row).request;
        let start = request.and_then(|obr| stamp(obr, 7));
        let end = request.and_then(|obr| stamp(obr, 8));
        match (own, start, end) {
            (Some(own), ..) => Some(Timing::At(own)),
            (_, Some(start), Some(end)) => Some(Timing::Over(start, end)),
            (_, Some(start), None) => Some(Timing::At(start)),
            _ => self.message.segments().next().and_then(|msh| stamp(Nth { segment: msh, nth: 1 }, 7)).map(Timing::At),
        }
    }

    /// The message tells of an alert (PCD-04), by its trigger event or by its facets.
    pub fn is_alert(&self) -> bool {
        let trigger = self.message.segments().next().map(|msh| msh.field(9).component(2).raw());
        trigger == Some(b"R40") || self.rows.iter().any(|row| row.is(EVENT_PHASE, b"MDC_ATTR_EVENT_PHASE"))
    }

    fn link(&mut self) {
        let mut devices = HashMap::with_capacity(self.rows.len());
        let mut metrics = HashMap::with_capacity(self.rows.len());
        for (i, row) in self.rows.iter().enumerate() {
            let Some(key) = row.place.map(Containment::key) else { continue };
            let rows = match row.role {
                Role::Device(_) => &mut devices,
                Role::Metric => &mut metrics,
                Role::Attribute | Role::Facet => continue,
            };
            rows.entry((Some(row.group), key)).or_insert(i);
            // A gateway may describe its devices once, in the first group.
            rows.entry((None, key)).or_insert(i);
        }
        for i in 0..self.rows.len() {
            let parent = self.parent(i, &devices, &metrics);
            self.rows[i].parent = parent;
            let Some(parent) = parent else { continue };
            match (self.rows[i].role, self.rows[parent].role) {
                (Role::Attribute, _) => self.rows[parent].attributes.push(i),
                (_, Role::Metric) => self.rows[i].role = Role::Facet,
                _ => {}
            }
        }
    }

    fn parent(&self, i: usize, devices: &Places, metrics: &Places) -> Option<usize> {
        let row = &self.rows[i];
        let place = row.place?;
        let own = (row.role == Role::Attribute && place.level() <= Level::Channel).then(|| place.key());
        let find = |rows: &Places, key| {
            rows.get(&(Some(row.group), key)).or_else(|| rows.get(&(None, key))).copied().filter(|&found| found != i)
        };
        if place.level() == Level::Facet && row.role == Role::Metric {
            let metric = place
                .above()
                .filter(|up| up.level() >= Level::Metric)
                .find_map(|up| metrics.get(&(Some(row.group), up.key())).copied().filter(|&found| found != i));
            if metric.is_some() {
                return metric;
            }
        }
        own.into_iter().chain(place.above().map(Containment::key)).find_map(|key| find(devices, key))
    }
}

type Places = HashMap<(Option<usize>, Containment), usize>;

const EVENT_PHASE: u32 = 68481;

impl<'m> Row<'m> {
    /// OBX-3 is this term, by number or, where it has none, by identifier.
    pub fn is(&self, code: u32, refid: &[u8]) -> bool {
        self.term.code == Some(code) || self.code.mdc_or_alike().is_some_and(|triplet| triplet.text == refid)
    }

    /// Name of a field of this row.
    pub fn place_of(&self, field: usize) -> Place {
        self.obx.place(field)
    }
}

struct Reader<'m> {
    nomenclature: &'m Nomenclature,
    counts: HashMap<&'m str, usize>,
    group: Option<usize>,
    patient: Option<Nth<'m>>,
    visit: Option<Nth<'m>>,
}

impl<'m> Reader<'m> {
    fn take(&mut self, report: &mut Report<'m>, segment: Segment<'m>) {
        let count = self.counts.entry(segment.id()).or_default();
        *count += 1;
        let nth = Nth { segment, nth: *count };
        match segment.id() {
            "PID" => {
                let another = |before: Nth<'_>| before.raw(3) != nth.raw(3);
                if self.group.is_none() && self.patient.is_some_and(another) {
                    report.second_patient.get_or_insert(nth);
                }
                (self.patient, self.visit, self.group) = (Some(nth), None, None);
            }
            "PV1" => self.visit = Some(nth),
            "OBR" => self.open(report, Some(nth)),
            "OBX" => {
                if self.group.is_none() {
                    self.open(report, None);
                }
                report.rows.push(self.row(nth));
            }
            "NTE" | "PRT" => self.remark(report, nth),
            _ => {}
        }
    }

    /// To the row before it, else to its order.
    fn remark(&self, report: &mut Report<'m>, nth: Nth<'m>) {
        let (Some(group), is_note) = (self.group, nth.segment.id() == "NTE") else { return };
        match report.rows.last_mut().filter(|row| row.group == group) {
            Some(row) if is_note => row.notes.push(nth),
            Some(row) => row.participations.push(nth),
            None if is_note => report.groups[group].notes.push(nth),
            None => {}
        }
    }

    fn open(&mut self, report: &mut Report<'m>, request: Option<Nth<'m>>) {
        self.group = Some(report.groups.len());
        report.groups.push(Group { patient: self.patient, visit: self.visit, request, notes: Vec::new() });
    }

    fn row(&self, obx: Nth<'m>) -> Row<'m> {
        let place = Containment::parse(obx.field(4).raw());
        let code = Coded::read(obx.field(3).first());
        let ascii = |raw| std::str::from_utf8(raw).unwrap_or("").trim();
        let term = code
            .mdc_or_alike()
            .map_or(Resolved::NONE, |triplet| self.nomenclature.resolve(ascii(triplet.code), ascii(triplet.text)));
        let role = role(obx, place, &code, &term);
        let group = self.group.unwrap_or_default();
        let (notes, participations, attributes) = (Vec::new(), Vec::new(), Vec::new());
        Row { obx, group, place, code, term, role, parent: None, notes, participations, attributes }
    }
}

fn role(obx: Nth<'_>, place: Option<Containment>, code: &Coded<'_>, term: &Resolved<'_>) -> Role {
    let kind = term.kind().or_else(|| code.mdc_or_alike().and_then(|t| kind_by_name(t.text)));
    let named = match kind {
        Some(Kind::Mds) => Some(Level::Mds),
        Some(Kind::Vmd) => Some(Level::Vmd),
        Some(Kind::Channel) => Some(Level::Channel),
        _ => None,
    };
    let placed = place.map(|place| place.level()).filter(|level| *level <= Level::Channel);
    let empty = obx.raw(5).is_empty();
    match (named, placed) {
        (Some(_), Some(level)) => Role::Device(level),
        (Some(level), None) if empty => Role::Device(level),
        (None, Some(level)) if empty && kind.is_none() => Role::Device(level),
        _ if kind == Some(Kind::Attribute) => Role::Attribute,
        _ => Role::Metric,
    }
}

/// Device identifiers end in their level, also those no table knows yet (`MDCX_…_VMD`).
fn kind_by_name(refid: &[u8]) -> Option<Kind> {
    match refid {
        _ if refid.ends_with(b"_MDS") => Some(Kind::Mds),
        _ if refid.ends_with(b"_VMD") => Some(Kind::Vmd),
        _ if refid.ends_with(b"_CHAN") => Some(Kind::Channel),
        _ => None,
    }
}

fn stamp(nth: Nth<'_>, field: usize) -> Option<Stamp<'_>> {
    let raw = nth.raw(field);
    // TS has the degree of precision as a second component (v2.5 and earlier).
    let raw = if raw.is_empty() { raw } else { nth.field(field).component(1).raw() };
    (!raw.is_empty()).then(|| Stamp { raw, place: nth.place(field) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(rows: &[&str]) -> Message {
        let mut text = String::from(
            "MSH|^~\\&|GATEWAY^ACDE480000000001^EUI-64||||20260301120000+0100||ORU^R01^ORU_R01|1|P|2.6\rPID|||4711^^^H^MR\rPV1||I|W^1^2\rOBR|1||F1|69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|||20260301115900+0100\r",
        );
        for row in rows {
            text.push_str(row);
            text.push('\r');
        }
        Message::parse(text.into_bytes()).unwrap()
    }

    fn tree(rows: &[&str]) -> Vec<(Role, Option<usize>)> {
        let (message, tables) = (message(rows), Nomenclature::built_in());
        Report::read(&message, &tables).rows.iter().map(|row| (row.role, row.parent)).collect()
    }

    #[test]
    fn metrics_hang_under_the_nearest_device_that_has_a_row() {
        let found = tree(&[
            "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X",
            "OBX|2||70686^MDC_DEV_PRESS_BLD_NONINV_VMD^MDC|1.1.0.0|||||||X",
            "OBX|3|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.7.1|120||||||R",
            "OBX|4|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.9.1.1|98||||||R",
            "OBX|5|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|2.1.1.1|98||||||R",
        ]);
        let device = Role::Device;
        assert_eq!(
            found,
            [
                (device(Level::Mds), None),
                (device(Level::Vmd), Some(0)),
                (Role::Metric, Some(1)),
                (Role::Metric, Some(0)),
                (Role::Metric, None),
            ]
        );
    }

    #[test]
    fn a_facet_hangs_under_its_metric_and_an_attribute_under_its_device() {
        let found = tree(&[
            "OBX|1||70049^MDC_DEV_PUMP_INFUS_LVP_MDS^MDC|1.0.0.0|||||||X",
            "OBX|2|ST|67880^MDC_ATTR_ID_MODEL^MDC|1.0.0.9|P1||||||F",
            "OBX|3|DTM|67975^MDC_ATTR_TIME_ABS^MDC|1.0.0.0|20260301||||||R",
            "OBX|4||150020^MDC_PRESS_BLD_NONINV^MDC|1.1.1.1|||||||R",
            "OBX|5|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.1.1|120||||||R",
        ]);
        let roles: Vec<_> = found.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles[1..], [Role::Attribute, Role::Attribute, Role::Metric, Role::Facet]);
        assert_eq!(
            found.iter().map(|(_, parent)| *parent).collect::<Vec<_>>(),
            [None, Some(0), Some(0), Some(0), Some(3)]
        );
    }

    #[test]
    fn a_device_no_table_knows_is_still_a_device() {
        let found =
            tree(&["OBX|1||0^MDCX_DEV_NEW_VMD^MDC|1.1.0.0|||||||X", "OBX|2||123456789^VENDOR^MDC|1.1.1.0|||||||X"]);
        assert_eq!(found, [(Role::Device(Level::Vmd), None), (Role::Device(Level::Channel), Some(0))]);
    }

    #[test]
    fn a_time_is_inherited_from_the_device_above_then_from_the_request() {
        let text = |rows: &[&str], i: usize| {
            let (message, tables) = (message(rows), Nomenclature::built_in());
            let report = Report::read(&message, &tables);
            let Some(Timing::At(stamp)) = report.timing(&report.rows[i]) else { return String::new() };
            format!("{} {}", stamp.place, String::from_utf8_lossy(stamp.raw))
        };
        let channel = "OBX|1||70687^MDC_DEV_PRESS_BLD_NONINV_CHAN^MDC|1.1.1.0|||||||X|||20260301110000+0100";
        let metric = "OBX|2|NM|150021^MDC_PRESS_BLD_NONINV_SYS^MDC|1.1.1.5|120||||||R";
        assert_eq!(text(&[channel, metric], 1), "OBX[1]-14 20260301110000+0100");
        assert_eq!(text(&[metric], 0), "OBR[1]-7 20260301115900+0100");
    }
}
