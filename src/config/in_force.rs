//! What a channel file makes hold, key by key: what is written, else what a profile says, else the default.
//!
//! Made from the description that the reader takes its keys from, so that no key can be left out of a review. What must never
//! happen: a secret in it, or a key that reaches one.

use std::{fs, path::Path};

use toml::{Spanned, de::DeValue};

use super::{
    document::Document,
    keys::{self, Absent, Kind, Table},
    profiles,
    source::Source,
};

/// One key of a channel file and what holds for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Of this destination alone.
    pub destination: String,
    /// The key with the tables it is in, without the destination's: `fhir.rate.per_second`, `summary.days`.
    pub key: String,
    /// Which of several tables of one kind, or which line of a table whose keys are the writer's own.
    pub name: String,
    /// As it would be written.
    pub value: String,
    /// `written`, `profile NAME` or `default`.
    pub by: String,
}

/// Everything that holds for the channel of this file, which was read without a fault. Empty where it is gone since.
pub fn in_force(file: &Path) -> Vec<InForce> {
    let source = Source::new(file, fs::read_to_string(file).unwrap_or_default());
    let document = Document::parse(&source);
    let mut walk = Walk::default();
    walk.table(&keys::CHANNEL, Some(document.root.get_ref()), "");
    walk.found
}

type Entries<'d> = toml::de::DeTable<'d>;

#[derive(Default)]
struct Walk {
    destination: String,
    /// Its type.
    kind: String,
    /// It translates to FHIR.
    maps: bool,
    name: String,
    /// Of `[destination.fhir]`.
    preset: Option<(&'static str, &'static Entries<'static>)>,
    found: Vec<InForce>,
}

impl Walk {
    fn table(&mut self, table: &'static Table, entries: Option<&Entries<'_>>, prefix: &str) {
        for key in table.keys {
            let written = entries.and_then(|entries| entries.get(key.name));
            let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
            match &key.kind {
                Kind::Secret | Kind::Unsupported => {}
                Kind::Secrets => self.names(written, &path),
                // With secrets in them: how a destination is asked is told, and by what is not.
                Kind::One(_) if key.name == "auth" => self.authorisation(written),
                Kind::One(_) if key.name == "tls" => {
                    if !self.destination.is_empty() {
                        self.names(written, &path);
                    }
                }
                Kind::One(inner) => self.inner(inner, written, &path),
                Kind::Many(inner) => self.many(inner, written, &path),
                Kind::Map(..) => self.lines(written, &path),
                _ => self.value(written, key.default, &path, key.types),
            }
        }
    }

    fn inner(&mut self, table: &'static Table, written: Option<&Spanned<DeValue<'_>>>, path: &str) {
        let entries = written.and_then(|value| value.get_ref().as_table());
        let required = table.keys.iter().any(|key| matches!(key.default, Absent::Required));
        if entries.is_none() && required {
            return;
        }
        if path == "fhir" {
            if !self.maps {
                return;
            }
            let named = entries.and_then(|entries| entries.get("profile")?.get_ref().as_str());
            self.preset = profiles::preset(named.unwrap_or_default());
        }
        self.table(table, entries, path);
        if path == "fhir" {
            self.preset = None;
        }
    }

    fn many(&mut self, table: &'static Table, written: Option<&Spanned<DeValue<'_>>>, path: &str) {
        let items = written.and_then(|value| value.get_ref().as_array()).into_iter().flatten();
        for (at, entries) in (1..).zip(items.filter_map(|item| item.get_ref().as_table())) {
            let name = entries.get("name").and_then(|name| name.get_ref().as_str());
            let name = name.map_or_else(|| at.to_string(), str::to_owned);
            if path == "destination" {
                let written =
                    |key: &str| entries.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
                (self.destination, self.kind) = (name, written("type").to_owned());
                self.maps = self.kind == "fhir" || written("translate").ends_with("-to-fhir");
                self.table(table, Some(entries), "");
                (self.destination, self.kind) = (String::new(), String::new());
            } else {
                let outer = std::mem::replace(&mut self.name, name);
                self.table(table, Some(entries), path);
                self.name = outer;
            }
        }
    }

    fn lines(&mut self, written: Option<&Spanned<DeValue<'_>>>, path: &str) {
        let (value, by) = match (written, self.of_preset(path)) {
            (Some(value), _) => (value.get_ref(), "written".to_owned()),
            (None, Some((profile, value))) => (value, format!("profile {profile}")),
            (None, None) => return,
        };
        for (line, value) in value.as_table().into_iter().flatten() {
            let (name, value) = (line.get_ref().to_string(), told(value.get_ref()));
            self.found.push(InForce {
                destination: self.destination.clone(),
                key: path.to_owned(),
                name,
                value,
                by: by.clone(),
            });
        }
    }

    /// What is written, each by its name alone.
    fn names(&mut self, written: Option<&Spanned<DeValue<'_>>>, path: &str) {
        let entries = written.and_then(|value| value.get_ref().as_table());
        for (name, _) in entries.into_iter().flatten() {
            self.note(path, name.get_ref().to_string(), "set", "written");
        }
    }

    fn authorisation(&mut self, written: Option<&Spanned<DeValue<'_>>>) {
        let kind = written.and_then(|auth| auth.get_ref().as_table()?.get("type")?.get_ref().as_str());
        match kind {
            Some(kind) => self.note("auth.type", String::new(), kind, "written"),
            None if self.kind == "fhir" => self.note("auth.type", String::new(), "none", "default"),
            None => {}
        }
    }

    fn note(&mut self, key: &str, name: String, value: &str, by: &str) {
        let (key, value, by) = (key.to_owned(), value.to_owned(), by.to_owned());
        self.found.push(InForce { destination: self.destination.clone(), key, name, value, by });
    }

    fn value(&mut self, written: Option<&Spanned<DeValue<'_>>>, default: Absent, path: &str, types: &[&str]) {
        let (value, by) = match (written, self.of_preset(path), default) {
            (Some(value), ..) => (told(value.get_ref()), "written".to_owned()),
            (None, Some((profile, value)), _) => (told(value), format!("profile {profile}")),
            (None, None, Absent::Is(text)) => (text.to_owned(), "default".to_owned()),
            (None, None, Absent::Required | Absent::Optional) => return,
        };
        if !types.is_empty() && !types.contains(&&*self.kind) {
            return;
        }
        let (destination, name) = (self.destination.clone(), self.name.clone());
        self.found.push(InForce { destination, key: path.to_owned(), name, value, by });
    }

    /// What the profile has for a key of `[destination.fhir]`, or of a table in it.
    fn of_preset(&self, path: &str) -> Option<(&'static str, &'static DeValue<'static>)> {
        let (profile, preset) = self.preset?;
        let mut parts = path.strip_prefix("fhir.")?.split('.');
        let first = preset.get(parts.next()?)?.get_ref();
        let value = parts.try_fold(first, |value, part| Some(value.as_table()?.get(part)?.get_ref()))?;
        Some((profile, value))
    }
}

/// A value as a person reads it.
fn told(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(items) => items.iter().map(|item| told(item.get_ref())).collect::<Vec<_>>().join(", "),
        // No key takes another.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FILE: &str = r#"
[listener]
address = "127.0.0.1:2575"
processing_ids = ["P", "T"]
[accept]
transaction = "PCD-01"
where = { "MSH-3.1" = ["PUMPS", "OTHER"] }
[device]
identity = ["obx-18"]
[[device.sender]]
name = "GW"
strip_prefix = "P"
[tolerance]
zone = "Europe/Berlin"
[[destination]]
name = "ehr"
type = "fhir"
url = "https://ehr.example/fhir"
when = 'msg["PV1-3.1"] != "TEST"'
headers = { Authorization = { env = "SECRET_NAME" } }
auth = { type = "bearer", token = { env = "SECRET_NAME" } }
tls = { ca = "SECRET_NAME.pem" }
[destination.fhir]
profile = "athenahealth"
unverified_status = "preliminary"
[[destination]]
name = "archive"
type = "file"
directory = "out"
[[summary]]
name = "agp"
destination = "ehr"
zone = "Europe/Berlin"
"#;

    #[test]
    fn every_key_is_there_with_its_value_and_whose_it_is_and_no_secret() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, FILE).unwrap();
        let found = in_force(file.path());
        let of = |destination: &str, key: &str, name: &str| {
            let own = found.iter().find(|it| (&*it.destination, &*it.key, &*it.name) == (destination, key, name));
            own.map(|it| (it.value.as_str(), it.by.as_str()))
        };
        for (destination, key, name, value, by) in [
            ("", "listener.processing_ids", "", "P, T", "written"),
            ("", "listener.versions", "", "2.", "default"),
            ("", "accept.transaction", "", "PCD-01", "written"),
            ("", "accept.where", "MSH-3.1", "PUMPS, OTHER", "written"),
            ("", "device.identity", "", "obx-18", "written"),
            ("", "device.sender.strip_prefix", "GW", "P", "written"),
            ("", "tolerance.zone", "", "Europe/Berlin", "written"),
            ("", "summary.days", "agp", "14", "default"),
            ("", "summary.zone", "agp", "Europe/Berlin", "written"),
            ("ehr", "when", "", "msg[\"PV1-3.1\"] != \"TEST\"", "written"),
            ("ehr", "fhir.profile", "", "athenahealth", "written"),
            ("ehr", "fhir.unverified_status", "", "preliminary", "written"),
            ("ehr", "fhir.rate.per_second", "", "50", "profile athenahealth"),
            ("ehr", "auth.type", "", "bearer", "written"),
            ("ehr", "headers", "Authorization", "set", "written"),
            ("ehr", "tls", "ca", "set", "written"),
            ("archive", "layout", "", "per-message", "default"),
        ] {
            assert_eq!(of(destination, key, name), Some((value, by)), "{destination} {key} {name}");
        }
        let told = format!("{found:?}");
        assert!(!told.contains("SECRET_NAME") && !told.contains("token"), "{told}");
        assert!(found.iter().all(|it| it.destination != "archive" || !it.key.starts_with("fhir")), "it maps nothing");
        assert_eq!(of("archive", "timeout", ""), None, "of another type");
        assert_eq!(of("archive", "auth.type", ""), None, "it asks nobody");
    }
}
