//! Codes and units of ISO/IEEE 11073-10101, from the same published tables that the engine ships: facts of the
//! nomenclature, read here by code of this crate's own. The grammar of UCUM is not known here: a unit of it is taken as one.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

static TERMS: LazyLock<Table> =
    LazyLock::new(|| Table::read(include_str!("../../../channels/tables/mdc-terms.csv"), 1));
static UNITS: LazyLock<Table> =
    LazyLock::new(|| Table::read(include_str!("../../../channels/tables/mdc-units.csv"), 1));
static UCUM: LazyLock<HashMap<u32, HashSet<&'static str>>> = LazyLock::new(|| {
    let mut units: HashMap<u32, HashSet<&str>> = HashMap::new();
    for row in rows(include_str!("../../../channels/tables/mdc-units.csv")) {
        if let Some(code) = row[0].parse().ok().filter(|_| row.len() > 2) {
            units.entry(code).or_default().insert(row[2]);
        }
    }
    units
});

/// How a code and an identifier that came together relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// They are a row of the table.
    Agree,
    /// The identifier is another code's.
    Differ,
    /// The table gives the code another identifier, and has not this one.
    Renamed,
    /// The table has neither.
    Unknown,
}

struct Table {
    by_code: HashMap<u32, HashSet<&'static str>>,
    by_refid: HashMap<&'static str, u32>,
}

fn rows(text: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| line.split(',').map(|cell| cell.trim().trim_matches('"')).collect())
}

impl Table {
    fn read(text: &'static str, refid: usize) -> Table {
        let mut table = Table { by_code: HashMap::new(), by_refid: HashMap::new() };
        for row in rows(text) {
            if let (Ok(code), Some(refid)) = (row[0].parse(), row.get(refid)) {
                table.by_code.entry(code).or_default().insert(refid);
                table.by_refid.entry(refid).or_insert(code);
            }
        }
        table
    }

    fn known(&self, code: u32, refid: &str) -> Known {
        match (self.by_code.get(&code), self.by_refid.get(refid)) {
            (Some(refids), _) if refids.contains(refid) => Known::Agree,
            (_, Some(_)) => Known::Differ,
            (Some(_), None) => Known::Renamed,
            (None, None) => Known::Unknown,
        }
    }
}

/// A term of OBX-3.
pub fn term(code: u32, refid: &str) -> Known {
    TERMS.known(code, refid)
}

/// A unit by its dimension code.
pub fn unit(code: u32, refid: &str) -> Known {
    UNITS.known(code, refid)
}

/// Whether a UCUM unit says the same as a dimension code; `None` where the table does not tell.
pub fn same_unit(code: u32, ucum: &str) -> Option<bool> {
    UCUM.get(&code).map(|units| units.contains(ucum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_and_its_identifier_agree_or_differ() {
        assert_eq!(term(157_784, "MDC_FLOW_FLUID_PUMP"), Known::Agree);
        assert_eq!(term(157_784, "MDC_RATE_DOSE"), Known::Differ);
        assert_eq!(term(1_999_999, "MDC_NOT_THERE"), Known::Unknown);
        assert_eq!(unit(264_320, "MDC_DIM_X_SEC"), Known::Agree, "both identifiers of one number");
        assert_eq!(unit(264_320, "MDC_DIM_SEC"), Known::Agree);
        assert_eq!(same_unit(265_266, "mL/h"), Some(true));
        assert_eq!(same_unit(265_266, "mL/min"), Some(false));
        assert_eq!(same_unit(1, "mL/min"), None);
    }
}
