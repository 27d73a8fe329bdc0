//! The layers of docs/ARCHITECTURE.md hold: a module uses only lower ones, and each outside library has one home.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Low to high; modules of one row may use each other only where the row says so.
const LAYERS: &[&[&str]] = &[
    &["clock", "metrics", "sabotage", "told"],
    &["hl7"],
    &["mllp", "pcd", "fhir"],
    &["translate"],
    &["store", "destination"],
    &["channel"],
    &["devices", "summary"],
    &["intake", "delivery"],
    &["admin"],
    &["config"],
    &["app"],
    &["cli"],
];

/// Library, and the folders or files that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("sled::", &["store/ledger"]),
    ("reqwest::", &["destination", "cli/api.rs"]),
    ("axum::", &["admin"]),
    ("hl7_parser::", &["hl7"]),
    ("notify::", &["config"]),
    ("rhai::", &["channel"]),
];

/// No I/O and no clock in what must be pure.
const PURE: &[&str] = &["hl7", "pcd", "fhir", "translate", "channel"];
const IMPURE: &[&str] = &["std::fs", "std::net::Tcp", "tokio::", "Timestamp::now", "Instant::now", "SystemTime::now"];

fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = vec![root.clone()];
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if is_test(&name) {
                continue;
            }
            found.push((name, code_of(&fs::read_to_string(&path).unwrap())));
        }
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

/// Files of tests alone; the others end in their tests.
fn is_test(name: &str) -> bool {
    let tests = ["/tests/", "/tests.rs", "_tests.rs", "/conformance.rs", "/model.rs"];
    tests.iter().any(|mark| name.contains(mark))
}

/// Without comments and without the tests at the end.
fn code_of(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    product.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn module_of(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or_default()
}

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

/// Modules named after `crate::`, singly or in a group.
fn used_modules(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            used.extend(group_heads(group));
        } else {
            used.push(head(rest));
        }
    }
    used
}

fn head(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

fn group_heads(group: &str) -> Vec<String> {
    let (mut depth, mut heads, mut start) = (0, vec![head(group)], true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = false,
            _ if !start && !c.is_whitespace() => {
                heads.push(head(&group[at..]));
                start = true;
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn a_module_uses_only_lower_ones() {
    for (file, code) in sources() {
        let Some(own) = rank(module_of(&file)) else { continue };
        for used in used_modules(&code) {
            let Some(other) = rank(&used) else { continue };
            let same = used == module_of(&file);
            assert!(other < own || same, "src/{file} uses `{used}`, which is not below it");
        }
    }
}

#[test]
fn each_outside_library_stays_in_its_home() {
    for (file, code) in sources() {
        for (library, homes) in HOMES {
            let at_home = homes.iter().any(|home| file.starts_with(home));
            assert!(at_home || !code.contains(library), "src/{file} names {library}, whose home is {homes:?}");
        }
    }
}

#[test]
fn what_must_be_pure_does_no_io_and_reads_no_clock() {
    for (file, code) in sources() {
        if PURE.contains(&module_of(&file)) {
            for name in IMPURE {
                assert!(!code.contains(name), "src/{file} names {name}");
            }
        }
    }
}

#[test]
fn the_check_itself_sees_groups_and_single_uses() {
    let code = "use crate::{app::App, store::{self, disk::DiskStore}, hl7::Message};\nfn f() { crate::mllp::x() }";
    assert_eq!(used_modules(code), ["app", "store", "hl7", "mllp"]);
}
