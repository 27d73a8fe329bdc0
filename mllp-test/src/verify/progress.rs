//! What a person sees while faults are run: on a terminal a line of bars that stays in place, and one line for each fault
//! that is done; in a log only the latter.

use super::Row;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};

const WIDTH: u32 = 20;

/// The faults under way.
#[derive(Debug, Default)]
pub(super) struct Progress {
    running: BTreeMap<String, String>,
}

impl Progress {
    pub(super) fn begun(&mut self, id: &str) {
        self.running.entry(id.to_owned()).or_insert_with(|| "…".to_owned());
        self.draw();
    }

    /// A group of this row is audited.
    pub(super) fn ended(&mut self, row: &Row) {
        if row.done >= row.wanted {
            self.running.remove(&row.id);
            self.erase();
            eprintln!("{}", line(row));
        } else {
            let full = WIDTH * row.done / row.wanted.max(1);
            let bar: String = (0..WIDTH).map(|at| if at < full { '█' } else { '·' }).collect();
            self.running.insert(row.id.clone(), format!("{bar} {}/{}", row.done, row.wanted));
        }
        self.draw();
    }

    fn draw(&self) {
        if stderr().is_terminal() {
            let bars: Vec<String> = self.running.iter().map(|(id, bar)| format!("{id} {bar}")).collect();
            let _ = write!(stderr(), "\r\x1b[K{}", bars.join("  "));
        }
    }

    fn erase(&self) {
        if stderr().is_terminal() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn line(row: &Row) -> String {
    let end = if row.violations.is_empty() { "ok".to_owned() } else { format!("BROKEN ({})", row.violations.len()) };
    let figures = row.tally.figures(row.wanted).map(|(heading, figure)| format!("{} {figure}", heading.to_lowercase()));
    format!("{:<4} {}: {end}  [{}]", row.id, figures.join(", "), row.what)
}
