//! What is known of FHIR servers by product, as tables of `[destination.fhir]` shipped with the engine.
//!
//! A profile only sets keys that the file does not: what the file says holds.

use std::sync::LazyLock;

use toml::{Spanned, de::DeTable};

use super::reader::Reader;

/// In the order of [`TEXTS`].
pub(super) const NAMES: &[&str] = &["generic", "hapi", "epic", "oracle-health", "athenahealth"];

const TEXTS: [&str; 5] = [
    include_str!("profiles/generic.toml"),
    include_str!("profiles/hapi.toml"),
    include_str!("profiles/epic.toml"),
    include_str!("profiles/oracle-health.toml"),
    include_str!("profiles/athenahealth.toml"),
];

/// A text of ours that is no TOML sets nothing; a test reads each.
static TABLES: LazyLock<Vec<Spanned<DeTable<'static>>>> =
    LazyLock::new(|| TEXTS.iter().map(|text| DeTable::parse_recoverable(text).0).collect());

/// `[destination.fhir]` with the profile it names.
pub(super) fn applied<'d>(table: Reader<'d>) -> Reader<'d> {
    let at: Vec<usize> = (0..NAMES.len()).collect();
    match table.choice("profile", &at).and_then(|at| TABLES.get(at)) {
        Some(preset) => table.with_preset(preset.get_ref()),
        None => table,
    }
}

/// What a profile says of keys that are not written, under its name.
pub(super) fn preset(name: &str) -> Option<(&'static str, &'static DeTable<'static>)> {
    let at = NAMES.iter().position(|known| *known == name)?;
    Some((NAMES[at], TABLES.get(at)?.get_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fhir_mapping::FHIR_MAPPING;

    #[test]
    fn every_profile_is_toml_and_sets_only_keys_there_are() {
        for (name, text) in NAMES.iter().zip(TEXTS) {
            let (table, errors) = DeTable::parse_recoverable(text);
            assert!(errors.is_empty(), "{name}: {errors:?}");
            for key in table.get_ref().keys() {
                let known =
                    FHIR_MAPPING.keys.iter().any(|known| known.name == key.get_ref() && known.name != "profile");
                assert!(known, "{name}: {}", key.get_ref());
            }
        }
    }
}
