//! docs/CONFORMANCE.md tells the rules that are, and exactly which of them each real message breaks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use super::*;
use crate::pcd::recognise;

/// The part of the document between the marks of `name` is what was `found`. `CANNULA_BLESS=1` writes it there.
fn holds(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/CONFORMANCE.md");
    let text = fs::read_to_string(&path).unwrap();
    let (open, close) = (format!("<!-- {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
    let (before, rest) = text.split_once(&open).expect("the opening mark");
    let (told, after) = rest.split_once(&close).expect("the closing mark");
    if std::env::var_os("CANNULA_BLESS").is_some() {
        return fs::write(&path, [before, &open, found, &close, after].concat()).unwrap();
    }
    assert_eq!(told, found, "docs/CONFORMANCE.md, {name}: read the difference; CANNULA_BLESS=1 takes it");
}

#[test]
fn the_document_has_every_rule() {
    let mut table = String::from("| Rule | Of | Weight | Section | What it asks |\n|---|---|---|---|---|\n");
    for rule in &RULES {
        let what = rule.what.replace('|', "\\|");
        let transactions = rule.transactions();
        writeln!(table, "| {} | {transactions} | {} | {} | {what} |", rule.id, rule.severity, rule.section).unwrap();
    }
    holds("rules", &table);
}

/// Real messages as the list beside them names them: file, category, source.
fn listed(folder: &Path) -> Vec<[String; 3]> {
    let index = fs::read_to_string(folder.join("index.tsv")).unwrap();
    let row = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        [0, 1, 11].map(|column: usize| columns[column].to_owned())
    };
    index.lines().skip(1).map(row).collect()
}

fn ids(findings: &[Finding], severity: Severity) -> String {
    let mut ids: Vec<&str> = findings.iter().filter(|found| found.severity == severity).map(|f| f.rule.id).collect();
    ids.dedup();
    if ids.is_empty() { "-".to_owned() } else { ids.join(" ") }
}

#[test]
fn each_real_message_breaks_exactly_the_rules_the_document_says() {
    let Some(folder) = std::env::var_os("CANNULA_TEST_MESSAGES") else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return;
    };
    let (folder, codes) = (Path::new(&folder), Nomenclature::built_in());
    let mut table = String::from("| Message | Source | Transaction | Errors | Warnings |\n|---|---|---|---|---|\n");
    let (mut others, mut unread, mut base) = (0, 0, BTreeMap::new());
    for [file, category, source] in listed(folder) {
        let Ok(message) = Message::parse(fs::read(folder.join(&file)).unwrap()) else {
            unread += 1;
            continue;
        };
        let findings = check(&message, &codes);
        if category == "generic" {
            others += 1;
            findings.iter().for_each(|finding| *base.entry(finding.rule.id).or_insert(0) += 1);
            continue;
        }
        // Where a list only numbers its sources, their names stand behind in brackets.
        let named = source.split_once(" (").map(|(_, name)| name.trim_end_matches(')'));
        let source = named.unwrap_or(&source);
        let transaction = recognise(&message, &codes).transaction;
        let (errors, warnings) = (ids(&findings, Severity::Error), ids(&findings, Severity::Warning));
        writeln!(table, "| {} | {source} | {transaction} | {errors} | {warnings} |", &file[..3]).unwrap();
    }
    let broken: Vec<String> = base.iter().map(|(rule, messages)| format!("{rule} {messages} times")).collect();
    let broken = broken.join(", ");
    writeln!(table, "\nOf {others} messages of other kinds: {broken}. {unread} more are batches or no HL7 v2.")
        .unwrap();
    holds("messages", &table);
}
