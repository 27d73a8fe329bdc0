//! A message as the rules look at it: its transaction, its OBR and OBX, each code resolved once.
//!
//! Nothing is judged here, and no row is left out.

use std::{cell::OnceCell, fmt};

use super::super::{
    Coded, Containment, Level, Nomenclature, PumpEvent, Report, Resolved, Transaction, Triplet, recognise,
};
use crate::hl7::{Message, Segment};

/// A set of transactions.
#[derive(Clone, Copy)]
pub(super) struct On(u16);

impl On {
    pub(super) const PCD_01: On = On(1);
    pub(super) const PCD_03: On = On(2);
    pub(super) const PCD_04: On = On(4);
    pub(super) const PCD_05: On = On(8);
    pub(super) const PCD_10: On = On(16);
    pub(super) const PCD_15: On = On(32);
    pub(super) const ANSWERS: On = On(64);
    /// What belongs to no transaction the rules know.
    const OTHER: On = On(128);
    /// The transactions that report or order something.
    pub(super) const REPORTS: On =
        On::PCD_01.and(On::PCD_03).and(On::PCD_04).and(On::PCD_05).and(On::PCD_10).and(On::PCD_15);
    /// Every IHE PCD message, its acknowledgements among them.
    pub(super) const PCD: On = On::REPORTS.and(On::ANSWERS);
    /// Any HL7 v2 message.
    pub(super) const ANY: On = On::PCD.and(On::OTHER);

    pub(super) const fn and(self, other: On) -> On {
        On(self.0 | other.0)
    }

    pub(super) const fn without(self, other: On) -> On {
        On(self.0 & !other.0)
    }

    pub(super) fn has(self, transaction: Transaction) -> bool {
        let one = match transaction {
            Transaction::Pcd01 => On::PCD_01,
            Transaction::Pcd03 => On::PCD_03,
            Transaction::Pcd04 => On::PCD_04,
            Transaction::Pcd05 => On::PCD_05,
            Transaction::Pcd10 => On::PCD_10,
            Transaction::Pcd15 => On::PCD_15,
            Transaction::Acknowledgement | Transaction::Pcd03Answer => On::ANSWERS,
            Transaction::Pcd09 | Transaction::Observation | Transaction::Patient | Transaction::Other => On::OTHER,
        };
        self.0 & one.0 != 0
    }
}

impl fmt::Display for On {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 8] =
            ["PCD-01", "PCD-03", "PCD-04", "PCD-05", "PCD-10", "PCD-15", "answers", "other HL7 v2"];
        for (set, name) in [(On::ANY, "any HL7 v2"), (On::PCD, "any IHE PCD"), (On::REPORTS, "IHE PCD, no answers")] {
            if self.0 == set.0 {
                return f.write_str(name);
            }
        }
        let names: Vec<&str> = (0..NAMES.len()).filter(|bit| self.0 & (1 << bit) != 0).map(|bit| NAMES[bit]).collect();
        f.write_str(&names.join(", "))
    }
}

/// A message and what most rules ask of it.
pub(super) struct Reading<'m> {
    pub(super) message: &'m Message,
    pub(super) nomenclature: &'m Nomenclature,
    pub(super) transaction: Transaction,
    pub(super) msh: Segment<'m>,
    /// Every OBR, in order.
    pub(super) requests: Vec<Segment<'m>>,
    /// Every OBX, in order.
    pub(super) rows: Vec<Row<'m>>,
    event: OnceCell<Option<(PumpEvent, Segment<'m>)>>,
}

/// One OBX.
pub(super) struct Row<'m> {
    pub(super) obx: Segment<'m>,
    /// How many OBR stand before it.
    pub(super) group: usize,
    /// OBX-4 where it has four to six levels.
    pub(super) place: Option<Containment>,
    /// OBX-4 is the place of a device, which has no value.
    pub(super) is_device: bool,
    pub(super) code: Coded<'m>,
    /// The MDC term of OBX-3.
    pub(super) term: Resolved<'m>,
}

impl<'m> Reading<'m> {
    pub(super) fn of(message: &'m Message, nomenclature: &'m Nomenclature) -> Reading<'m> {
        let mut requests = Vec::new();
        let mut rows = Vec::new();
        for segment in message.segments() {
            match segment.id() {
                "OBR" => requests.push(segment),
                "OBX" => rows.push(Row::of(segment, requests.len(), nomenclature)),
                _ => {}
            }
        }
        let transaction = recognise(message, nomenclature).transaction;
        let (msh, event) = (message.msh(), OnceCell::new());
        Reading { message, nomenclature, transaction, msh, requests, rows, event }
    }

    /// The pump event of the message and its OBX, read once for all rules that want it.
    pub(super) fn pump_event(&self) -> Option<(&PumpEvent, Segment<'m>)> {
        let found = self.event.get_or_init(|| {
            let report = Report::read(self.message, self.nomenclature);
            let event = PumpEvent::of(&report, self.nomenclature)?;
            let row = report.rows.iter().position(|row| row.place_of(5) == event.place)?;
            Some((event, self.rows.get(row)?.obx))
        });
        found.as_ref().map(|(event, obx)| (event, *obx))
    }

    pub(super) fn segments(&self, id: &'static str) -> impl Iterator<Item = Segment<'m>> + use<'m> {
        self.message.segments().filter(move |segment| segment.id() == id)
    }

    /// The rows whose OBX-3 is this term.
    pub(super) fn rows_of(&self, code: u32, refid: &'static [u8]) -> impl Iterator<Item = &Row<'m>> {
        self.rows.iter().filter(move |row| row.is(code, refid))
    }
}

impl<'m> Row<'m> {
    fn of(obx: Segment<'m>, group: usize, nomenclature: &'m Nomenclature) -> Row<'m> {
        let raw = obx.field(4).raw();
        let levels = raw.iter().filter(|byte| **byte == b'.').count() + 1;
        let place = Containment::parse(raw).filter(|_| levels >= 4);
        let is_device = levels == 4 && place.is_some_and(|place| place.level() <= Level::Channel);
        let code = Coded::read(obx.field(3).first());
        let term =
            mdc(&code).map_or(Resolved::NONE, |triplet| nomenclature.resolve(ascii(triplet.code), ascii(triplet.text)));
        Row { obx, group, place, is_device, code, term }
    }

    /// OBX-3 is this term, by number or by identifier.
    pub(super) fn is(&self, code: u32, refid: &[u8]) -> bool {
        self.term.code == Some(code) || self.code.triplets().any(|triplet| triplet.text.trim_ascii() == refid)
    }

    /// A field, empty for HL7's explicit null.
    pub(super) fn raw(&self, n: usize) -> &'m [u8] {
        raw(self.obx, n)
    }

    /// OBX-5 as an enumerated value: a code, or the second component where the first is empty (`^pump-status-infusing`).
    pub(super) fn word(&self) -> &'m [u8] {
        self.words().next().unwrap_or_default()
    }

    /// The same of every repetition.
    pub(super) fn words(&self) -> impl Iterator<Item = &'m [u8]> + use<'m> {
        self.obx.field(5).repetitions().map(|value| {
            let [code, text] = [1, 2].map(|n| match value.component(n).raw().trim_ascii() {
                b"\"\"" => b"",
                raw => raw,
            });
            if code.is_empty() { text } else { code }
        })
    }
}

/// The MDC triplet of a code; blanks around the name of the system do not matter.
pub(super) fn mdc<'m>(code: &Coded<'m>) -> Option<Triplet<'m>> {
    code.triplets().find(|triplet| triplet.system.trim_ascii() == b"MDC").or_else(|| code.mdc_or_alike())
}

/// A field, empty for HL7's explicit null.
pub(super) fn raw<'m>(segment: Segment<'m>, n: usize) -> &'m [u8] {
    match segment.field(n).raw() {
        b"\"\"" => b"",
        raw => raw,
    }
}

/// A component of a field's first repetition without blanks around it, empty for HL7's explicit null.
pub(super) fn part<'m>(segment: Segment<'m>, n: usize, component: usize) -> &'m [u8] {
    match segment.field(n).component(component).raw().trim_ascii() {
        b"\"\"" => b"",
        raw => raw,
    }
}

/// Codes and identifiers are ASCII; what is not is none.
pub(super) fn ascii(raw: &[u8]) -> &str {
    std::str::from_utf8(raw).unwrap_or("").trim()
}

/// Up to nine digits as a number.
pub(super) fn number_of(raw: &[u8]) -> Option<usize> {
    let digits = !raw.is_empty() && raw.len() <= 9 && raw.iter().all(u8::is_ascii_digit);
    digits.then(|| raw.iter().fold(0, |n, digit| n * 10 + usize::from(digit - b'0')))
}
