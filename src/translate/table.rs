//! Code tables for `map` steps: CSV with `#` lines on top that name the source, a header line, and a row a code.
//!
//! A table that is not entirely right is refused with every faulty line: half a table would send half the codes.

use std::collections::HashMap;

use crate::pcd::loinc_digit_holds;

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    name: String,
    rows: HashMap<String, Row>,
}

/// What a code becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The new code.
    pub to: String,
    /// Its text, where the table has the column `to_display`; an empty cell empties the text sent.
    pub display: Option<String>,
    /// Its coding system, where the table has the column `to_system`.
    pub system: Option<String>,
}

/// What is wrong with a table, and in which line (from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TableFault {
    /// Line in the file.
    pub line: u64,
    /// What is wrong and what to do.
    pub what: String,
}

/// Columns a table may have. `from_display` is for people.
pub const COLUMNS: [&str; 5] = ["from", "from_display", "to", "to_display", "to_system"];

impl Table {
    /// Reads a table; `name` is its file name, under which unmapped codes are reported.
    pub fn read(name: &str, csv: &[u8]) -> Result<Table, Vec<TableFault>> {
        let mut reader = csv::ReaderBuilder::new()
            .comment(Some(b'#'))
            .trim(csv::Trim::All)
            .flexible(true)
            .has_headers(false)
            .from_reader(csv.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(csv));
        let mut records = reader.records();
        let columns = match records.next() {
            Some(Ok(header)) => Columns::read(&header)?,
            Some(Err(error)) => return Err(vec![unreadable(&error)]),
            None => return Err(vec![fault(1, "there is no header line: begin the table with `from,to`")]),
        };
        let mut table = Table { name: name.to_owned(), rows: HashMap::new() };
        let mut lines = HashMap::new();
        let mut faults = Vec::new();
        for record in records {
            let added = record.map_err(|error| unreadable(&error)).and_then(|r| table.add(&columns, &r, &mut lines));
            faults.extend(added.err());
        }
        if faults.is_empty() { Ok(table) } else { Err(faults) }
    }

    /// The table with the rows of another one added, such as a site's own. A code in both is a fault of the other.
    pub fn with(mut self, other: Table) -> Result<Table, Vec<TableFault>> {
        let twice = other.rows.keys().filter(|from| self.rows.contains_key(*from)).count();
        if twice > 0 {
            let what = format!("{twice} of its codes are in {} already: keep one row of each", self.name);
            return Err(vec![fault(1, what)]);
        }
        self.rows.extend(other.rows);
        Ok(self)
    }

    /// The file name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `code` becomes.
    pub fn row(&self, code: &str) -> Option<&Row> {
        self.rows.get(code)
    }

    /// Every code and its row, by code.
    pub fn rows(&self) -> Vec<(&str, &Row)> {
        let mut rows: Vec<(&str, &Row)> = self.rows.iter().map(|(code, row)| (&**code, row)).collect();
        rows.sort_unstable_by_key(|(code, _)| *code);
        rows
    }

    /// Rows in it.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// It has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn add(
        &mut self,
        columns: &Columns,
        record: &csv::StringRecord,
        lines: &mut HashMap<String, u64>,
    ) -> Result<(), TableFault> {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.count {
            let (found, wanted) = (record.len(), columns.count);
            return Err(fault(
                line,
                format!("{found} cells where the header has {wanted}: quote a cell that holds a comma"),
            ));
        }
        let cell = |column: usize| record.get(column).unwrap_or_default().to_owned();
        let from = cell(columns.from);
        let row = Row { to: cell(columns.to), display: columns.display.map(cell), system: columns.system.map(cell) };
        if from.is_empty() || row.to.is_empty() {
            return Err(fault(line, "`from` or `to` is empty: fill it or remove the row"));
        }
        if row.system.as_deref().is_some_and(is_loinc) && !loinc_digit_holds(&row.to) {
            return Err(fault(line, "`to` fails the LOINC check digit: correct the number"));
        }
        if let Some(earlier) = lines.insert(from.clone(), line) {
            return Err(fault(line, format!("`from` is the same as in line {earlier}: keep one of the two rows")));
        }
        self.rows.insert(from, row);
        Ok(())
    }
}

struct Columns {
    count: usize,
    from: usize,
    to: usize,
    display: Option<usize>,
    system: Option<usize>,
}

impl Columns {
    fn read(header: &csv::StringRecord) -> Result<Columns, Vec<TableFault>> {
        let line = header.position().map_or(1, csv::Position::line);
        let mut faults = Vec::new();
        for (at, name) in header.iter().enumerate() {
            if !COLUMNS.contains(&name) {
                faults.push(fault(line, format!("unknown column {name:?}: use {}", COLUMNS.join(", "))));
            } else if header.iter().take(at).any(|earlier| earlier == name) {
                faults.push(fault(line, format!("column {name:?} stands twice: keep one")));
            }
        }
        let column = |name: &str| header.iter().position(|column| column == name);
        match (column("from"), column("to")) {
            (Some(from), Some(to)) if faults.is_empty() => {
                let (display, system) = (column("to_display"), column("to_system"));
                Ok(Columns { count: header.len(), from, to, display, system })
            }
            (Some(_), Some(_)) => Err(faults),
            _ => {
                faults.push(fault(line, "the header line lacks `from` or `to`: begin the table with `from,to`"));
                Err(faults)
            }
        }
    }
}

/// As table 0396 and FHIR name it.
fn is_loinc(system: &str) -> bool {
    matches!(system, "LN" | "LOINC" | "http://loinc.org")
}

fn fault(line: u64, what: impl Into<String>) -> TableFault {
    TableFault { line, what: what.into() }
}

fn unreadable(error: &csv::Error) -> TableFault {
    let line = error.position().map_or(0, csv::Position::line);
    fault(line, "the line cannot be read as UTF-8 CSV: save the table as UTF-8")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_table_gives_code_text_and_system_of_each_row() {
        let csv = b"# Source: ours\n# second line\nfrom,to,to_display,to_system\n1, 10 ,\"Ten, exactly\",L\n2,20,,L\n";
        let table = Table::read("t.csv", csv).unwrap();
        let row = table.row("1").unwrap();
        assert_eq!(
            (row.to.as_str(), row.display.as_deref(), row.system.as_deref()),
            ("10", Some("Ten, exactly"), Some("L"))
        );
        assert_eq!(table.row("2").unwrap().display.as_deref(), Some(""));
        assert_eq!((table.len(), table.row("3")), (2, None));
    }

    #[test]
    fn every_faulty_line_of_a_table_is_named() {
        let faults = Table::read("t.csv", b"# s\nfrom,to\n1,10\n,5\n1,11\n2\n3,30\n").unwrap_err();
        let lines: Vec<u64> = faults.iter().map(|fault| fault.line).collect();
        assert_eq!(lines, [4, 5, 6]);
        assert!(faults[1].what.contains("line 3"), "{}", faults[1]);
    }

    #[test]
    fn a_loinc_number_with_a_wrong_digit_is_refused_and_another_systems_code_is_not() {
        let read = |row: &str| Table::read("t.csv", format!("from,to,to_system\n{row}\n").as_bytes());
        assert!(read("1,8867-4,LN").is_ok() && read("1,8867-5,L").is_ok());
        for system in ["LN", "LOINC", "http://loinc.org"] {
            let faults = read(&format!("1,8867-5,{system}")).unwrap_err();
            assert!(faults[0].line == 2 && faults[0].what.contains("check digit"), "{}", faults[0]);
        }
    }

    #[test]
    fn a_header_without_from_and_to_is_refused() {
        for csv in ["", "# only a comment\n", "1,10\n", "from,into\n", "from,to,to\n"] {
            assert!(Table::read("t.csv", csv.as_bytes()).is_err(), "{csv:?}");
        }
    }
}
