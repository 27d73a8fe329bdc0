//! Codes no table has a row for: what is told of one, and the CSV a person fills in.
//!
//! What must never happen: a patient's data in that list. A value is listed only from a field that holds codes, and from
//! OBX-5 only where it is coded in a system everybody knows; any other is counted and not named.

use serde::{Deserialize, Serialize};

use super::{Plan, table::COLUMNS};
use crate::{
    hl7::{Message, Path, Segment},
    pcd,
};

/// What codes are looked up in beside a site's own tables, by the names that [`Unmapped`] has for them.
pub const LOOKED_UP: [&str; 6] = ["mdc-terms", "mdc-units", "loinc", "obx-8", "coding_systems", "identifier_systems"];
/// Bytes of a code or its text that are listed; longer ones are no codes.
const BYTES_MAX: usize = 80;
/// Fields that hold codes of what is observed, how and where, never of who. Not OBX-8, in which words are met.
const CODE_FIELDS: &[(&str, &[usize])] =
    &[("OBX", &[3, 6, 11, 17, 20]), ("OBR", &[4]), ("RXR", &[1, 2]), ("RXG", &[4])];

/// A code that a table has no row for, or whose number and name are of two rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unmapped {
    /// The table.
    pub table: String,
    /// The code; where the sender had no number for it, its identifier.
    pub code: String,
    /// The text sent beside it.
    pub text: String,
    /// The coding system it was sent in.
    pub system: String,
    /// It can be no patient's data, so that it may leave the engine.
    pub listed: bool,
}

/// One line of the report: a code of one channel and table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmappedCode {
    /// The channel it came by.
    pub channel: String,
    /// The table that lacks it.
    pub table: String,
    /// The code.
    pub code: String,
    /// The text sent beside it, when it was first seen.
    pub text: String,
    /// Its coding system.
    pub system: String,
    /// Messages it was in, once for each destination that looks it up.
    pub count: u64,
    /// When it was first looked up.
    pub first_seen: jiff::Timestamp,
    /// When it was last looked up.
    pub last_seen: jiff::Timestamp,
    /// Id of a message that has it.
    pub example: u64,
}

impl Unmapped {
    /// A code that may be listed.
    pub fn new(table: &str, code: &str, text: &str, system: &str) -> Unmapped {
        let fits = [code, text, system].iter().all(|part| part.len() <= BYTES_MAX && !part.contains(char::is_control));
        let of = str::to_owned;
        Unmapped { table: of(table), code: of(code), text: of(text), system: of(system), listed: fits }
    }

    /// One that a step looked up in `segment` at `path`.
    pub(super) fn at(path: &Path, segment: Segment<'_>, message: &Message, table: &str, code: &str) -> Unmapped {
        let coded = segment.field(path.field()).first();
        let part = |n| message.text(coded.component(n).raw()).trim().to_owned();
        let (text, system) = (part(2), part(3));
        if CODE_FIELDS.iter().any(|(id, fields)| *id == segment.id() && fields.contains(&path.field())) {
            return Unmapped::new(table, code, &text, &system);
        }
        let is_value = (segment.id(), path.field()) == ("OBX", 5) && path.component().unwrap_or(1) == 1;
        let kind = segment.field(2).raw();
        let is_coded = matches!(kind, b"CWE" | b"CE" | b"CNE" | b"CF") && is_known_system(&system);
        // The text of a value is what a person may have typed.
        let found = Unmapped::new(table, code, "", &system);
        Unmapped { listed: found.listed && is_value && is_coded, ..found }
    }
}

impl UnmappedCode {
    /// Whether a site's row for it was added since: to the tables of its channel's plans, or to those of terms and units.
    pub fn has_row<'p>(&self, plans: impl IntoIterator<Item = &'p Plan>, nomenclature: &pcd::Nomenclature) -> bool {
        let UnmappedCode { table, code, text, system, .. } = self;
        // What has no number of its own is told by its identifier.
        let [number, refid] = if pcd::is_refid(code) { [text, code] } else { [code, text] };
        match &**table {
            // A code of the built-in tables is here for what it says against itself, which no row mends.
            "mdc-terms" => {
                let unknown = |codes: &pcd::Nomenclature| codes.resolve(number, refid).fit.is_unmapped();
                unknown(&pcd::Nomenclature::built_in()) && !unknown(nomenclature)
            }
            "mdc-units" => {
                let known = |codes: &pcd::Nomenclature| pcd::ucum_of(codes, code, text, system.as_bytes()).is_some();
                !known(&pcd::Nomenclature::built_in()) && known(nomenclature)
            }
            table => {
                let mut asked = plans.into_iter().filter_map(|plan| plan.has_row(table, code)).peekable();
                asked.peek().is_some() && asked.all(|has| has)
            }
        }
    }
}

/// A coding system that is published, so that its codes name no one.
fn is_known_system(name: &str) -> bool {
    let is_hl7_table = |table: &str| (3..=4).contains(&table.len()) && table.bytes().all(|b| b.is_ascii_digit());
    let known = ["MDC", "LN", "LOINC", "SCT", "SCT2", "SNOMED-CT", "UCUM", "RXNORM", "NDC", "I10"];
    known.contains(&name) || name.strip_prefix("HL7").is_some_and(is_hl7_table)
}

/// The codes of one table as rows to fill in, in the columns of that table: saved as `NAME+more.csv` beside `NAME.csv`,
/// they add to it. `None` for what no table holds. What cannot be a row is told in a comment.
pub fn rows_to_fill_in(table: &str, codes: &[UnmappedCode]) -> Option<String> {
    let row: fn(&UnmappedCode) -> Option<Vec<String>> = match table {
        "mdc-terms" => term_row,
        "mdc-units" => unit_row,
        _ if table.ends_with(".csv") => map_row,
        _ => return None,
    };
    let header: &[&str] = match table {
        "mdc-terms" => &["cf_code", "refid", "partition", "term", "kind", "source"],
        "mdc-units" => &["cf_code", "refid", "ucum", "source"],
        _ => &COLUMNS,
    };
    let mut seen = std::collections::BTreeSet::new();
    let own = codes.iter().filter(|code| code.table == table);
    let (mut rows, mut left_out) = (Vec::new(), 0);
    for code in own.filter(|code| seen.insert((&code.code, &code.system))) {
        match row(code).filter(|row| row.iter().all(|cell| !begins_a_formula(cell))) {
            Some(row) => rows.push(row),
            None => left_out += 1,
        }
    }
    written(table, header, &rows, left_out)
}

fn written(table: &str, header: &[&str], rows: &[Vec<String>], left_out: usize) -> Option<String> {
    let stem = table.strip_suffix(".csv").unwrap_or(table);
    let mut text = format!(
        "# Codes without a row: fill in the empty cells, remove the rows not wanted, and save as {stem}+more.csv, or where that is\n\
         # there already under another name behind the +.\n"
    );
    if left_out > 0 {
        text += &format!(
            "# {left_out} more cannot be rows of this table: they have no number of their own, or begin as a formula does.\n"
        );
    }
    // Quoted throughout, so that no code begins a comment.
    let mut writer = csv::WriterBuilder::new().quote_style(csv::QuoteStyle::NonNumeric).from_writer(Vec::new());
    writer.write_record(header).ok()?;
    rows.iter().try_for_each(|row| writer.write_record(row)).ok()?;
    text += &String::from_utf8(writer.into_inner().ok()?).ok()?;
    Some(text)
}

fn map_row(code: &UnmappedCode) -> Option<Vec<String>> {
    Some(vec![code.code.clone(), code.text.clone(), String::new(), String::new(), String::new()])
}

/// A number of the right partition that has no row; its kind is for a person to say.
fn term_row(code: &UnmappedCode) -> Option<Vec<String>> {
    let number: u32 = code.code.parse().ok().filter(|number| *number > 0xFFFF)?;
    let (partition, term) = pcd::parts(number);
    if pcd::Nomenclature::built_in().term(number).is_some() {
        return None;
    }
    let cells = [number.to_string(), code.text.clone(), partition.to_string(), term.to_string()];
    Some(cells.into_iter().chain([String::new(), "site".to_owned()]).collect())
}

fn unit_row(code: &UnmappedCode) -> Option<Vec<String>> {
    let number = code.code.parse::<u32>().is_ok() && code.system == "MDC";
    let (cf_code, refid) = if number { (&*code.code, &*code.text) } else { ("", &*code.code) };
    Some([cf_code, refid, "", "site"].map(str::to_owned).to_vec())
}

/// A spreadsheet would compute it.
fn begins_a_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@'])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{super::table::Table, *};

    const SENT: &str = "MSH|^~\\&|GW||||20260115||ORU^R01^ORU_R01|1|P|2.6\r\
        PID|||4711^^^H||Doe^Jane\r\
        OBX|1|NM|157784^MDC_FLOW_FLUID_PUMP^MDC|1.1.1.1|5\r\
        OBX|2|CWE|1^A^MDC|1.1.1.2|184520^typed by hand^MDC\r\
        OBX|3|CWE|1^A^MDC|1.1.1.3|Doe^Jane^99LOCAL\r\
        OBX|4|ST|1^A^MDC|1.1.1.4|Jane Doe^^MDC\r";

    fn at(path: &str) -> Vec<(String, String, bool)> {
        let (message, path) = (Message::parse(SENT).unwrap(), Path::parse(path).unwrap());
        let segments: Vec<_> = path.segments(&message).collect();
        let found = segments.into_iter().map(|segment| Unmapped::at(&path, segment, &message, "t.csv", "x"));
        found.map(|unmapped| (unmapped.text, unmapped.system, unmapped.listed)).collect()
    }

    #[test]
    fn a_code_is_listed_with_its_text_and_a_value_only_where_its_system_is_known() {
        assert_eq!(at("OBX[1]-3"), [("MDC_FLOW_FLUID_PUMP".into(), "MDC".into(), true)]);
        let listed: Vec<bool> = at("OBX-5").into_iter().map(|(_, _, listed)| listed).collect();
        assert_eq!(listed, [false, true, false, false]);
        assert_eq!(at("OBX[2]-5.1")[0].0, "", "what a person typed is not");
        assert!(!at("OBX[2]-5.2")[0].2);
    }

    #[test]
    fn what_names_a_patient_is_never_listed() {
        for path in ["PID-3", "PID-3.1", "PID-5", "PID-8", "MSH-10", "OBX-8"] {
            assert!(at(path).iter().all(|(_, _, listed)| !listed), "{path}");
        }
        assert!(!Unmapped::new("t", &"9".repeat(BYTES_MAX + 1), "", "").listed);
        assert!(!Unmapped::new("t", "9", "a\u{1b}[2J", "").listed);
    }

    fn seen(table: &str, code: &str, text: &str, system: &str) -> UnmappedCode {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let of = str::to_owned;
        let (channel, table, code, text, system) = (of("pumps"), of(table), of(code), of(text), of(system));
        UnmappedCode { channel, table, code, text, system, count: 1, first_seen: at, last_seen: at, example: 1 }
    }

    #[test]
    fn a_list_that_is_filled_in_is_a_table() {
        let codes =
            [seen("t.csv", "#1", "Rate, \"set\"", "L"), seen("other.csv", "2", "", ""), seen("t.csv", "=1+1", "", "")];
        let csv = rows_to_fill_in("t.csv", &codes).unwrap();
        assert!(Table::read("t.csv", csv.as_bytes()).is_err(), "an empty `to` is no target");
        let filled = csv.replace("\"Rate, \"\"set\"\"\",\"\",", "\"Rate, \"\"set\"\"\",\"7071\",");
        let table = Table::read("t.csv", filled.as_bytes()).unwrap();
        assert_eq!((table.len(), &*table.row("#1").unwrap().to), (1, "7071"));
        assert!(csv.contains("# 1 more"));
    }

    #[test]
    fn unknown_terms_and_units_become_rows_of_the_nomenclature() {
        let codes = [
            seen("mdc-terms", "8388700", "MDC_VENDOR_SCORE", "MDC"),
            seen("mdc-terms", "MDCX_NEW", "0", "MDC"),
            seen("mdc-terms", "157784", "MDC_OTHER", "MDC"),
            seen("mdc-units", "blips", "", "99V"),
            seen("mdc-units", "299999", "MDC_DIM_BLIP", "MDC"),
        ];
        let terms = rows_to_fill_in("mdc-terms", &codes)
            .unwrap()
            .replace("60,\"\"", "60,\"metric\"")
            .replace(",\"\",", ",\"metric\",");
        let units = rows_to_fill_in("mdc-units", &codes).unwrap().replace(",\"\",\"site\"", ",\"{blip}\",\"site\"");
        let files = [("mdc-terms+more.csv", terms.as_bytes()), ("mdc-units+more.csv", units.as_bytes())];
        let tables = pcd::Nomenclature::with_files(&files).unwrap();
        assert_eq!(&*tables.term(8388700).unwrap().refid, "MDC_VENDOR_SCORE");
        assert_eq!(tables.unit_alias("blips").map(|unit| &**unit), Some("{blip}"));
        assert_eq!(tables.unit("299999", "").map(|unit| &**unit), Some("{blip}"));
        let filled_in = codes.each_ref().map(|code| code.has_row([], &tables));
        assert_eq!(
            filled_in,
            [true, false, false, true, true],
            "neither one without a number nor one that contradicts itself"
        );
        assert!(codes.iter().all(|code| !code.has_row([], &pcd::Nomenclature::built_in())));
        assert!(terms.contains("# 2 more") && rows_to_fill_in("obx-8", &codes).is_none());
    }
}
