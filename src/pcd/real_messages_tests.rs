//! What real gateways name their devices by, and which of their codes no table of ours has.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, fs, path::Path};

use super::*;
use crate::hl7::Message;

/// Number of the message, the place that names its first device, and its codes without a row or with another's name.
const TABLE: &str = include_str!("../../tests/golden/real-devices.txt");

#[test]
fn the_device_and_the_unknown_codes_of_each_real_message_are_these() {
    let Some(folder) = std::env::var_os("CANNULA_TEST_MESSAGES") else {
        println!("skipped: CANNULA_TEST_MESSAGES is not set");
        return;
    };
    let mut files: Vec<_> = fs::read_dir(Path::new(&folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let of_devices = files.iter().filter(|file| file.to_string_lossy().contains("_pcd"));
    let found: Vec<String> = of_devices.filter_map(|file| line(file)).collect();
    let wanted: Vec<&str> = TABLE.lines().collect();
    assert_eq!(found, wanted, "\n{}", found.join("\n"));
}

fn line(file: &Path) -> Option<String> {
    let message = Message::parse(fs::read(file).unwrap()).ok()?;
    let name = file.file_name()?.to_str()?;
    let tables = Nomenclature::built_in();
    let report = Report::read(&message, &tables);
    let codes: BTreeSet<String> = report.rows.iter().filter_map(unknown).collect();
    let codes: Vec<String> = codes.into_iter().collect();
    Some(format!("{} {} [{}]", &name[..3], place(&message, &report), codes.join(", ")))
}

/// By which place the first device key was chosen.
fn place(message: &Message, report: &Report<'_>) -> &'static str {
    let key = device_keys(message).into_iter().next().unwrap_or_default();
    let named = |rule: &Rule| {
        let by_this = IdentityRules { places: vec![*rule], strip_prefix: Vec::new() };
        let by_this = Identification { usual: by_this, senders: Vec::new() };
        let mut rows = 0..report.rows.len();
        rows.any(|row| by_this.identity_of(report, row).is_some_and(|found| found.key() == key))
    };
    match PLACES.iter().find(|(_, rule)| named(rule)) {
        Some((place, _)) => place,
        None if key == sender(message) => "msh-3",
        None => "label",
    }
}

fn unknown(row: &Row<'_>) -> Option<String> {
    let triplet = row.code.mdc_or_alike()?;
    let fit = row.term.fit;
    let told = fit.is_unmapped() || fit.is_warned();
    let text = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    told.then(|| format!("{} {} {fit:?}", text(triplet.code), text(triplet.text)))
}
