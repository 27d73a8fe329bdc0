//! What was measured, as a table for people and as JSON for comparison. A row never stands without what was not right in it.

use crate::spread::{Spread, figure};
use mllp_test::measure::{Answers, Outcome, Taken};
use serde::Serialize;
use std::fmt::Write;

/// A bound that a number is to keep.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Goal {
    fn is_met(self, number: f64) -> bool {
        match self {
            Goal::AtLeast(bound) => number >= bound,
            Goal::AtMost(bound) => number <= bound,
        }
    }

    fn words(self) -> String {
        match self {
            Goal::AtLeast(bound) => format!("≥ {}", trimmed(bound)),
            Goal::AtMost(bound) => format!("≤ {}", trimmed(bound)),
        }
    }
}

fn trimmed(number: f64) -> String {
    let text = figure(number);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The row it is of.
    pub row: &'static str,
    /// The engine build it is of.
    pub build: String,
    /// What is measured.
    pub what: String,
    /// Its unit.
    pub unit: &'static str,
    /// The number; none where it could not be measured.
    pub measured: Option<Spread>,
    /// What the number was made of.
    pub detail: String,
    /// The bound to keep.
    pub reach: Option<Goal>,
    /// The bound aimed at.
    pub aim: Option<Goal>,
}

impl Line {
    /// A measured number without bounds.
    pub fn new(row: &'static str, build: &str, what: &str, unit: &'static str, measured: Spread) -> Line {
        let (build, what, detail) = (build.to_owned(), what.to_owned(), String::new());
        Line { row, build, what, unit, measured: Some(measured), detail, reach: None, aim: None }
    }

    /// A row that nothing was measured for, and why.
    pub fn unmeasured(row: &'static str, what: &str, why: impl Into<String>) -> Line {
        Line { measured: None, detail: why.into(), ..Line::new(row, "-", what, "", Spread::default()) }
    }

    /// With the bounds to keep and to aim at.
    pub fn goals(self, reach: Goal, aim: Goal) -> Line {
        Line { reach: Some(reach), aim: Some(aim), ..self }
    }

    /// With what the number was made of.
    pub fn detail(self, detail: impl Into<String>) -> Line {
        Line { detail: detail.into(), ..self }
    }

    fn verdict(&self) -> &'static str {
        let Some(measured) = &self.measured else { return "–" };
        let meets = |goal: Option<Goal>| goal.is_some_and(|goal| goal.is_met(measured.median));
        match (meets(self.aim), meets(self.reach), self.reach) {
            (true, true, _) | (true, false, None) => "aim",
            (_, true, _) => "reach",
            (_, _, None) => "–",
            _ => "**below**",
        }
    }
}

/// What was right and wrong with the messages of a row.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Evidence {
    /// The row.
    pub row: &'static str,
    /// The engine build, or the reference.
    pub of: String,
    /// Messages answered positively.
    pub answered: u64,
    /// Answers to no message, or unreadable.
    pub wrong: u64,
    /// Messages never answered.
    pub lost: u64,
    /// Answers that came twice.
    pub repeated: u64,
    /// Answers out of order.
    pub reordered: u64,
    /// Negative answers.
    pub refused: u64,
    /// Answered, and neither with the receiver nor waiting in the engine.
    pub missing: u64,
    /// Delivered twice.
    pub delivered_twice: u64,
    /// Delivered behind a later one of the same device.
    pub delivered_late: u64,
    /// Delivered and never sent.
    pub unknown: u64,
    /// Writes with parts of two frames or more.
    pub coalesced: u64,
    /// Writes that ended amid a frame.
    pub split: u64,
}

impl Evidence {
    /// Of nothing yet.
    pub fn new(row: &'static str, of: &str) -> Evidence {
        Evidence { row, of: of.to_owned(), ..Evidence::default() }
    }

    /// Adds what a load met.
    pub fn load(&mut self, outcome: &Outcome) {
        let Answers { wrong, lost, repeated, reordered, refused } = outcome.answers;
        self.answered += outcome.answered;
        self.wrong += wrong;
        self.lost += lost;
        self.repeated += repeated;
        self.reordered += reordered;
        self.refused += refused;
        self.coalesced += outcome.coalesced;
        self.split += outcome.split;
    }

    /// Adds what the receiver took of the `answered` messages of a run.
    pub fn delivered(&mut self, taken: &Taken, answered: u64) {
        self.missing += answered.abs_diff(taken.messages);
        self.delivered_twice += taken.repeated;
        self.delivered_late += taken.reordered;
        self.unknown += taken.unknown;
    }

    /// Whether anything was not right.
    pub fn has_faults(&self) -> bool {
        let faults = [self.wrong, self.lost, self.repeated, self.reordered, self.refused];
        let beyond = [self.missing, self.delivered_twice, self.delivered_late, self.unknown];
        self.answered == 0 || faults.iter().chain(&beyond).any(|&fault| fault > 0)
    }
}

/// Everything of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine and how it was measured, name and words.
    pub setting: Vec<(&'static str, String)>,
    /// The table.
    pub lines: Vec<Line>,
    /// Beside the speed.
    pub evidence: Vec<Evidence>,
}

impl Report {
    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (name, words) in &self.setting {
            let _ = writeln!(text, "- {name}: {words}");
        }
        let several = self.lines.iter().any(|line| line.build == "before");
        text.push_str(
            "\n| what | measured: median (lowest–highest) | reach | aim | met | from |\n|---|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let build = if several { format!("{}: ", line.build) } else { String::new() };
            let measured =
                line.measured.as_ref().map_or("–".to_owned(), |spread| format!("{} {}", spread.words(), line.unit));
            let goal = |goal: Option<Goal>| goal.map_or("–".to_owned(), Goal::words);
            let (reach, aim) = (goal(line.reach), goal(line.aim));
            let (verdict, detail) = (line.verdict(), &line.detail);
            let _ = writeln!(text, "| {build}{} | {measured} | {reach} | {aim} | {verdict} | {detail} |", line.what);
        }
        text.push_str(
            "\nBeside the speed, which is worth nothing where one of the counts between is not 0:\n\n| row | of | answered | wrong | lost | repeated | reordered | refused | missing | delivered twice | late | unknown | writes of several frames | writes that end amid a frame |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for e in &self.evidence {
            let counts = [
                e.answered,
                e.wrong,
                e.lost,
                e.repeated,
                e.reordered,
                e.refused,
                e.missing,
                e.delivered_twice,
                e.delivered_late,
                e.unknown,
                e.coalesced,
                e.split,
            ];
            let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
            let _ = writeln!(text, "| {} | {} | {} |", e.row, e.of, counts.join(" | "));
        }
        text
    }

    /// Whether every message was answered and delivered as it must be.
    pub fn is_right(&self) -> bool {
        !self.evidence.iter().any(Evidence::has_faults)
    }
}
