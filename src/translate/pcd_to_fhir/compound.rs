//! Blood pressure as the record wants it: systolic, diastolic and mean of one measurement as one Observation with components
//! (R4 vital signs, uv-pocd CompoundNumericObservation), where a device sends them as rows beside each other.

use super::{
    Translation, concept,
    measured::{Categories, Measured},
    outcome::Outcome,
};
use crate::{
    fhir::{CodeableConcept, Coding, systems},
    pcd::{Role, Row},
};

/// MDC_PRESS_BLD_NONINV, which the panel is of.
pub(super) const CODE: &str = "150020";
const PANEL: u32 = 150_020;
/// MDC_PRESS_BLD_NONINV_SYS, _DIA and _MEAN.
const MEMBERS: [u32; 3] = [150_021, 150_022, 150_023];

/// Rows that are one measurement: of one device, order, time and status, each code once, systolic and diastolic at least.
pub(super) fn blood_pressures(translation: &Translation<'_>) -> Vec<Vec<usize>> {
    let mut panels: Vec<Vec<usize>> = Vec::new();
    if !translation.settings.blood_pressure_panel {
        return panels;
    }
    let rows = &translation.report.rows;
    let is_member =
        |row: &Row<'_>| row.role == Role::Metric && row.term.code.is_some_and(|code| MEMBERS.contains(&code));
    for (i, row) in rows.iter().enumerate().filter(|(_, row)| is_member(row)) {
        let fits = |panel: &&mut Vec<usize>| {
            let first = &rows[panel[0]];
            let field = |n| first.obx.raw(n) == row.obx.raw(n);
            let same = first.parent == row.parent && first.group == row.group && field(14) && field(11) && field(17);
            same && panel.iter().all(|&other| rows[other].term.code != row.term.code)
        };
        match panels.iter_mut().find(fits) {
            Some(panel) => panel.push(i),
            None => panels.push(vec![i]),
        }
    }
    let has = |panel: &[usize], code| panel.iter().any(|&i| rows[i].term.code == Some(code));
    panels.retain(|panel| has(panel, MEMBERS[0]) && has(panel, MEMBERS[1]));
    panels
}

/// The panel itself, which has no value of its own.
pub(super) fn head<'a>(translation: &Translation<'a>) -> Measured<'a> {
    let tables = &translation.settings.nomenclature;
    let mut concept = CodeableConcept::default();
    let loinc = tables.loinc(PANEL, None).next();
    concept.coding.extend(loinc.map(|row| concept::loinc_coding(&row.code, &row.display)));
    let refid = tables.term(PANEL).map(|term| (&*term.refid).into());
    concept.coding.push(Coding { system: Some(systems::MDC.into()), code: Some(CODE.into()), display: refid });
    concept::preferred(&translation.settings.codes, &mut concept.coding);
    let category = Categories::of(loinc.map_or("vital-signs", |row| &*row.category));
    let mut panel = Measured::empty(concept, Outcome::default(), Vec::new());
    panel.category = category;
    panel
}
