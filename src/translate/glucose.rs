//! What a v2 message tells of glucose as it leaves, held against what was sent: LOINC has one number for a mass and another for
//! a substance concentration, eighteen times apart.
//!
//! The whole message is judged, whichever steps made it so. What must never happen: a step gives a value the number or the unit of the other
//! property. A row whose
//! number and unit say what they said when it came is its sender's, whatever else the steps did to it.

use super::TranslateError;
use crate::{
    hl7::{Message, Segment},
    pcd::{self, Coded, Nomenclature, Triplet},
};

/// The first row that tells another property than was sent, or two. `rows` says which OBX that was sent each OBX that leaves is,
/// from 0.
pub(super) fn refused(sent: &Message, left: &Message, rows: &[usize]) -> Option<TranslateError> {
    let before: Vec<Segment<'_>> = obx(sent).collect();
    obx(left).zip(rows).enumerate().find_map(|(at, (after, row))| {
        let before = before.get(*row)?;
        let same = |n| before.field(n).raw() == after.field(n).raw();
        if same(3) && same(6) {
            return None;
        }
        let (was, is) = (Told::of(sent, *before), Told::of(left, after));
        if !was.glucose && !is.glucose {
            return None;
        }
        let same_value = digits(sent, *before) == digits(left, after);
        let changed = same_value && was.one().zip(is.one()).is_some_and(|(was, is)| was != is);
        let fault = if is.has_both() { BOTH } else { CHANGED };
        let unit = left.text(after.field(6).component(1).raw());
        (is.has_both() && is != was || changed)
            .then(|| TranslateError::new(format!("OBX[{}]-3", at + 1), format!("{fault} (`{unit}`): {REMEDY}")))
    })
}

fn obx(message: &Message) -> impl Iterator<Item = Segment<'_>> {
    message.segments().filter(|segment| segment.id() == "OBX")
}

/// Of a row's value, whatever else stands beside it.
fn digits(message: &Message, row: Segment<'_>) -> String {
    message.text(row.field(5).raw()).chars().filter(|c| c.is_ascii_digit() || *c == '.').collect()
}

/// What code and unit of a row say, each by mass and substance concentration.
#[derive(Default, PartialEq, Eq)]
struct Told {
    glucose: bool,
    by_number: [bool; 2],
    by_unit: [bool; 2],
}

impl Told {
    fn of(message: &Message, row: Segment<'_>) -> Told {
        let tables = Nomenclature::built_in();
        let mut told = Told::default();
        let parts = |triplet: Triplet<'_>| [triplet.code, triplet.text].map(|raw| message.text(raw).trim().to_owned());
        let all = |n| row.field(n).repetitions().flat_map(|each| Coded::read(each).triplets());
        for triplet in all(3) {
            let [code, text] = parts(triplet);
            if pcd::is_loinc_said(message.text(triplet.system).trim(), &code) {
                let property = pcd::glucose_property_of(&code, &text);
                told.glucose |= property.is_some();
                note(&mut told.by_number, property);
            }
            let term = tables.resolve(&code, &text).term.filter(|_| triplet.is_mdc());
            let refid = term.map_or(&*text, |term| &*term.refid);
            told.glucose |= refid.starts_with("MDC_CONC_GLU");
        }
        for triplet in all(6) {
            let [code, text] = parts(triplet);
            let ucum = pcd::ucum_of(&tables, &code, &text, triplet.system);
            note(&mut told.by_unit, ucum.and_then(|ucum| pcd::property_of_unit(&ucum)));
            let said = [&code, &text].into_iter().filter_map(|said| pcd::glucose_unit_said(said));
            said.for_each(|unit| note(&mut told.by_unit, pcd::property_of_unit(unit)));
        }
        told
    }

    fn has_both(&self) -> bool {
        (0..2).all(|property| self.says(property))
    }

    fn says(&self, property: usize) -> bool {
        self.by_number[property] || self.by_unit[property]
    }

    /// The only one it says.
    fn one(&self) -> Option<usize> {
        if self.has_both() { None } else { (0..2).find(|property| self.says(*property)) }
    }
}

fn note(said: &mut [bool; 2], property: Option<usize>) {
    if let Some(property) = property {
        said[property] = true;
    }
}

const BOTH: &str = "the steps leave a LOINC number of glucose beside a unit that it is not for";
const CHANGED: &str =
    "the steps give a value of glucose the number or the unit of another concentration, and leave the value as it was";
const REMEDY: &str = "give each unit its own number, by a step for each unit such as `OBX(OBX-6.1=mg/dL)-3`, write no unit that was not sent, and \
                      retry the dead letter";
