//! The track record of a run: `report.json`, from which a run goes on where it stopped, and `report.md` for people. A
//! fault that was skipped must be shown as skipped, with the reason.

use super::{Column, Tally};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// All that a run did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// What the engine says of itself.
    pub engine: String,
    /// Hash of the engine's file; empty in a report from before it was kept.
    #[serde(default)]
    pub engine_hash: String,
    /// The kernel it ran on.
    pub kernel: String,
    /// The day of the last cycle.
    pub date: String,
    /// Decides all that is left to chance.
    pub seed: u64,
    /// Each fault.
    pub rows: Vec<Row>,
}

/// One fault of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Row {
    /// Such as `F1`.
    pub id: String,
    /// What is done.
    pub what: String,
    /// Cycles wanted.
    pub wanted: u32,
    /// Cycles done and audited, with or without violations.
    pub done: u32,
    /// Why it was not done here.
    pub skipped: Option<String>,
    /// Figures.
    pub tally: Tally,
    /// Promises not kept.
    pub violations: Vec<Violation>,
}

/// A promise not kept, and how to see it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which promise.
    pub column: Column,
    /// What was seen.
    pub what: String,
    /// A command that runs the same cycles.
    pub replay: String,
    /// Store, log, ledgers and configuration as they were left.
    pub folder: PathBuf,
}

impl Report {
    /// Whether all that was wanted was done or skipped, and no promise was broken.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.violations.is_empty() && (row.skipped.is_some() || row.done >= row.wanted))
            && self.rows.iter().any(|row| row.done > 0)
    }

    /// The report in this folder, if there is one that can be read.
    pub fn read(folder: &Path) -> Option<Report> {
        serde_json::from_slice(&fs::read(folder.join("report.json")).ok()?).ok()
    }

    /// Writes both files; never half of one.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        for (name, text) in [("report.json", json), ("report.md", self.markdown())] {
            let beside = folder.join(format!("{name}.new"));
            fs::write(&beside, text)?;
            fs::rename(beside, folder.join(name))?;
        }
        Ok(())
    }

    /// The table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        let Report { engine, engine_hash, kernel, date, seed, .. } = self;
        let _ = writeln!(text, "Engine {engine} (file hash {engine_hash}), kernel {kernel}, {date}, seed {seed}.\n");
        let headings = Tally::default().figures(0).map(|(heading, _)| heading);
        let _ = writeln!(text, "| Fault | What | {} | Violations |", headings.join(" | "));
        let _ = writeln!(text, "|---|---|{}---|", "---:|".repeat(headings.len()));
        self.rows.iter().for_each(|row| text.push_str(&row.markdown()));
        for row in &self.rows {
            for violation in &row.violations {
                let _ = writeln!(text, "\n- {} {:?}: {}", row.id, violation.column, violation.what);
                let _ = writeln!(text, "  `{}`, left in {}", violation.replay, violation.folder.display());
            }
        }
        text
    }
}

impl Row {
    fn markdown(&self) -> String {
        let figures = match &self.skipped {
            Some(why) => [&[format!("skipped: {why}")], &vec![String::new(); 9][..]].concat(),
            None => self.tally.figures(self.wanted).map(|(_, figure)| figure).to_vec(),
        };
        let violations = if self.skipped.is_some() { String::new() } else { self.violations.len().to_string() };
        format!("| {} | {} | {} | {violations} |\n", self.id, self.what, figures.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_report_reads_back_and_a_skipped_or_unfinished_fault_is_never_shown_as_passed() {
        let folder = std::env::temp_dir().join(format!("mllp-test-report-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let row = |id: &str, done| Row { id: id.into(), wanted: 10, done, ..Row::default() };
        let mut report = Report { seed: 7, rows: vec![row("F1", 10), row("F2", 0)], ..Report::default() };
        assert!(!report.is_clean(), "F2 was not done");
        report.rows[1].skipped = Some("no engine".into());
        assert!(report.is_clean() && report.markdown().contains("skipped: no engine"));
        report.rows[0].violations.push(Violation {
            column: Column::Lost,
            what: "lost 1".into(),
            replay: "mllp-test verify --seed 7".into(),
            folder: "F1-00000".into(),
        });
        report.write(&folder).unwrap();
        let read = Report::read(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!(!read.is_clean() && read.seed == 7 && read.rows[0].violations == report.rows[0].violations);
        assert!(read.markdown().contains("Lost: lost 1") && read.markdown().contains("--seed 7"));
        report.rows.remove(0);
        assert!(!report.is_clean(), "nothing was done at all");
    }
}
