//! What became of each row, for people and for programs. A row that failed or was skipped is never shown without its
//! reason.

use super::case::Area;
use serde::Serialize;
use std::fmt;

/// How a peer did in one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "verdict", content = "reason")]
pub enum Verdict {
    /// As it should.
    Ok,
    /// Otherwise, and how.
    Fail(String),
    /// Not tried, and why.
    Skip(String),
}

/// One input of a row.
#[derive(Debug, Clone, Serialize)]
pub struct RowResult {
    /// The row of the table: `1` to `84`, `O1` to `O10`.
    pub row: String,
    /// The part of the table.
    pub area: Area,
    /// What was sent, in words.
    pub what: String,
    /// The bytes, escaped, long ones cut: those of the first way, or of the way that failed. For a sender what it was
    /// answered, in words.
    pub sent: String,
    /// What came back, the same. For a sender the control ids that came, by connection.
    pub answer: String,
    /// What should come back.
    pub expected: String,
    /// In how many ways it was sent: whole, in pieces, cut in two.
    pub ways: usize,
    /// How the peer did.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl RowResult {
    pub(super) fn new(row: String, area: Area, what: &str, expected: &str) -> RowResult {
        RowResult {
            row,
            area,
            what: what.to_owned(),
            sent: String::new(),
            answer: String::new(),
            expected: expected.to_owned(),
            ways: 1,
            verdict: Verdict::Ok,
        }
    }

    pub(super) fn failed(self, fault: impl Into<String>) -> RowResult {
        RowResult { verdict: Verdict::Fail(fault.into()), ..self }
    }

    pub(super) fn skipped(self, why: impl Into<String>) -> RowResult {
        RowResult { verdict: Verdict::Skip(why.into()), ways: 0, ..self }
    }

    /// Whether the peer did as it should.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Ok
    }

    /// Whether it did otherwise.
    pub fn has_failed(&self) -> bool {
        matches!(self.verdict, Verdict::Fail(_))
    }

    /// The row with bytes, answer and expectation.
    pub fn in_full(&self) -> String {
        let RowResult { sent, answer, expected, .. } = self;
        let [ours, theirs] = if self.area == Area::Outbound { ["answered", "sender"] } else { ["sent", "answer"] };
        let line = |label, text| format!("\n            {label:<9} {text}");
        format!("{self}{}{}{}", line(ours, sent), line(theirs, answer), line("expected", expected))
    }
}

impl fmt::Display for RowResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RowResult { row, what, .. } = self;
        match &self.verdict {
            Verdict::Ok => write!(f, "  ok    {row:>3}  {what}"),
            Verdict::Fail(fault) => write!(f, "  FAIL  {row:>3}  {what}: {fault}"),
            Verdict::Skip(why) => write!(f, "  skip  {row:>3}  {what}: {why}"),
        }
    }
}

/// All rows of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The peer.
    pub address: String,
    /// In the order of the areas.
    pub rows: Vec<RowResult>,
}

impl Report {
    pub(super) fn of(address: &str) -> Report {
        Report { address: address.to_owned(), rows: Vec::new() }
    }

    /// Inputs that went as they should, failed, were skipped.
    pub fn counts(&self) -> [usize; 3] {
        let count = |wanted: fn(&RowResult) -> bool| self.rows.iter().filter(|row| wanted(row)).count();
        [count(RowResult::passed), count(RowResult::has_failed), count(|row| matches!(row.verdict, Verdict::Skip(_)))]
    }

    /// Whether something was tried and nothing failed.
    pub fn is_clean(&self) -> bool {
        let [ok, failed, _] = self.counts();
        ok > 0 && failed == 0
    }

    /// The rows that failed, one a line.
    pub fn failures(&self) -> String {
        let failed = self.rows.iter().filter(|row| row.has_failed());
        failed.map(RowResult::in_full).collect::<Vec<_>>().join("\n")
    }

    /// The last lines: figures by area and in all.
    pub fn summary(&self) -> String {
        let mut areas: Vec<Area> = self.rows.iter().map(|row| row.area).collect();
        areas.dedup();
        let mut lines: Vec<String> = Vec::new();
        for area in areas {
            let rows = self.rows.iter().filter(|row| row.area == area).cloned().collect();
            let [ok, failed, skipped] = Report { address: String::new(), rows }.counts();
            lines.push(format!("  {area:<16} {ok:>4} ok {failed:>4} failed {skipped:>4} skipped"));
        }
        let [ok, failed, skipped] = self.counts();
        let sendings: usize = self.rows.iter().map(|row| row.ways).sum();
        lines.push(format!(
            "{} inputs, {sendings} sendings: {ok} ok, {failed} failed, {skipped} skipped",
            self.rows.len()
        ));
        lines.join("\n")
    }
}
