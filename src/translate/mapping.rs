//! The whole mapping in force as rows that people can review: codes, units, statuses, flags, coding systems, a site's own
//! tables and choices. Made from what translates, so that the two cannot come apart.

use super::{
    Alerts, CODING_SYSTEMS, Category, CodeKind, DeviceDetail, EncounterReference, PcdToFhir, Plan, Semantics,
    pcd_to_fhir::{
        administration::event_rows,
        outcome::{flag_rows, status_rows},
    },
    steps::Step,
};
use crate::{fhir::systems, pcd::Nomenclature};

/// One row of the mapping, in the columns of [`MAPPING_COLUMNS`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappingRow {
    /// Which part of the mapping it is of: `codes`, `units`, `statuses`, `pump events`, `flags`, `coding systems`, `profiles`,
    /// `settings`, `site table`.
    pub part: &'static str,
    /// Of one channel alone.
    pub channel: String,
    /// Of one destination alone.
    pub destination: String,
    /// What is sent: a code, a unit, a setting's key.
    pub code: String,
    /// Its name.
    pub name: String,
    /// Coding system of what it becomes.
    pub to_system: String,
    /// What it becomes.
    pub to_code: String,
    /// Its name.
    pub to_display: String,
    /// UCUM unit it holds for.
    pub unit: String,
    /// Observation.category.
    pub category: String,
    /// Where the row is from.
    pub source: String,
    /// What else is to be known.
    pub note: String,
}

/// Names of the columns, `part` first.
pub const MAPPING_COLUMNS: [&str; 12] = [
    "part",
    "channel",
    "destination",
    "code",
    "name",
    "to_system",
    "to_code",
    "to_display",
    "unit",
    "category",
    "source",
    "note",
];

impl MappingRow {
    /// The cells in the order of [`MAPPING_COLUMNS`].
    pub fn cells(&self) -> [&str; 12] {
        [
            self.part,
            &self.channel,
            &self.destination,
            &self.code,
            &self.name,
            &self.to_system,
            &self.to_code,
            &self.to_display,
            &self.unit,
            &self.category,
            &self.source,
            &self.note,
        ]
    }

    /// The rows that hold for every channel.
    pub fn of_nomenclature(tables: &Nomenclature) -> Vec<MappingRow> {
        let mut rows = codes(tables);
        rows.extend(units(tables));
        rows.extend(flags());
        rows.extend(CODING_SYSTEMS.iter().map(|(name, uri)| MappingRow {
            part: "coding systems",
            code: (*name).to_owned(),
            to_system: (*uri).to_owned(),
            source: "HL7 table 0396, HL7 terminology".to_owned(),
            ..MappingRow::default()
        }));
        rows.extend(tables.profiles().into_iter().map(|(oid, transaction)| MappingRow {
            part: "profiles",
            code: oid.to_owned(),
            to_code: transaction.to_owned(),
            source: "pcd-profiles.csv".to_owned(),
            ..MappingRow::default()
        }));
        rows
    }

    /// A choice of one destination that is none of its plan.
    pub fn of_choice(channel: &str, destination: &str, key: &str, value: &str) -> MappingRow {
        MappingRow { channel: channel.to_owned(), destination: destination.to_owned(), ..setting(key, value) }
    }

    /// The rows of one destination: its choices, its names of systems, its own tables.
    pub fn of_destination(channel: &str, destination: &str, plan: &Plan) -> Vec<MappingRow> {
        let mut rows = match plan {
            Plan::Unchanged => Vec::new(),
            Plan::Steps(steps) => steps.iter().enumerate().flat_map(|(at, step)| of_step(at + 1, step)).collect(),
            Plan::PcdToFhir(settings) => of_settings(settings),
        };
        for row in &mut rows {
            (row.channel, row.destination) = (channel.to_owned(), destination.to_owned());
        }
        rows
    }
}

/// A row for each LOINC concept of a term, and one for a term that has none.
fn codes(tables: &Nomenclature) -> Vec<MappingRow> {
    let mut rows = Vec::new();
    for term in tables.terms() {
        let aliases = tables.aliases(term);
        let note = if aliases.is_empty() { String::new() } else { format!("also sent as {}", aliases.join(", ")) };
        let bare = MappingRow {
            part: "codes",
            code: term.code.to_string(),
            name: term.refid.to_string(),
            to_system: systems::MDC.to_owned(),
            to_code: term.code.to_string(),
            to_display: term.refid.to_string(),
            source: term.source.to_string(),
            note,
            ..MappingRow::default()
        };
        rows.extend(tables.loinc_rows(term.code).iter().map(|loinc| MappingRow {
            to_system: systems::LOINC.to_owned(),
            to_code: loinc.code.to_string(),
            to_display: loinc.display.to_string(),
            unit: loinc.ucum.as_deref().unwrap_or_default().to_owned(),
            category: loinc.category.to_string(),
            source: loinc.source.to_string(),
            ..bare.clone()
        }));
        rows.push(bare);
    }
    rows
}

fn units(tables: &Nomenclature) -> impl Iterator<Item = MappingRow> {
    tables.units().map(|unit| MappingRow {
        part: "units",
        code: unit.code.map(|code| code.to_string()).unwrap_or_default(),
        name: unit.name.to_string(),
        to_system: systems::UCUM.to_owned(),
        to_code: unit.ucum.to_string(),
        source: unit.source.to_string(),
        ..MappingRow::default()
    })
}

fn flags() -> impl Iterator<Item = MappingRow> {
    flag_rows().flat_map(|(code, [interpretation, absent, security])| {
        let elements = [("interpretation", interpretation), ("dataAbsentReason", absent), ("meta.security", security)];
        elements.into_iter().filter_map(move |(element, to)| {
            Some(MappingRow {
                part: "flags",
                code: code.to_owned(),
                name: format!("OBX-8 to {element}"),
                to_code: to?.to_owned(),
                source: "HL7 uv-pocd; v3-ObservationInterpretation".to_owned(),
                ..MappingRow::default()
            })
        })
    })
}

fn setting(key: &str, value: impl Into<String>) -> MappingRow {
    let source = "configuration".to_owned();
    MappingRow { part: "settings", code: key.to_owned(), to_code: value.into(), source, ..MappingRow::default() }
}

fn of_settings(settings: &PcdToFhir) -> Vec<MappingRow> {
    let mut rows = choices(settings);
    let systems = [("identifier_systems", &settings.identifier_systems), ("coding_systems", &settings.coding_systems)];
    for (key, named) in systems {
        rows.extend(named.iter().map(|(name, uri)| MappingRow {
            name: name.clone(),
            to_system: uri.clone(),
            ..setting(key, "")
        }));
    }
    for (name, found) in &settings.categories {
        let category = |Category { system, code }: &Category| MappingRow {
            name: name.clone(),
            to_system: system.clone(),
            category: code.clone(),
            ..setting("categories", code.clone())
        };
        rows.extend(found.iter().map(category));
    }
    rows.extend(settings.conversions.iter().map(|conversion| MappingRow {
        name: conversion.from().to_owned(),
        unit: conversion.to().to_owned(),
        note: format!("{} decimals; {}", conversion.decimals(), of_codes(conversion.codes())),
        ..setting("convert", conversion.to())
    }));
    rows.extend(settings.insulin_medication.iter().map(|drug| MappingRow {
        to_system: drug.system.clone(),
        to_display: drug.display.clone(),
        ..setting("insulin_medication", drug.code.clone())
    }));
    rows.extend(settings.insulin_products.iter().map(|product| MappingRow {
        to_system: product.medication.system.clone(),
        to_display: product.medication.display.clone(),
        name: product.codes.join(", "),
        note: product.device.iter().map(|device| format!("of device {device}")).collect(),
        ..setting("insulin_product", product.medication.code.clone())
    }));
    rows.extend(status_rows(settings.unverified_final).map(|(code, status, replaces)| MappingRow {
        part: "statuses",
        code: code.to_owned(),
        name: "OBX-11 to Observation.status".to_owned(),
        source: "HL7 v2-to-FHIR, HL7 uv-pocd; unverified_status".to_owned(),
        note: if replaces { "replaces what was sent before".to_owned() } else { String::new() },
        to_code: status.to_owned(),
        ..MappingRow::default()
    }));
    rows.extend(pump_events(settings));
    rows
}

/// What becomes of each event, where infusions are written.
fn pump_events(settings: &PcdToFhir) -> Vec<MappingRow> {
    if !settings.infusions.written || settings.semantics == Semantics::Results {
        return Vec::new();
    }
    let row = |reviewed: super::pcd_to_fhir::administration::Reviewed| MappingRow {
        part: "pump events",
        code: reviewed.event.to_owned(),
        name: format!("the infusion before: {}", reviewed.before),
        to_code: reviewed.statuses.join(", then "),
        source: "Cannula (docs/FHIR.md); rate_change, kvo, pause_max".to_owned(),
        note: match reviewed.statuses.is_empty() {
            true => "nothing is written".to_owned(),
            false => "MedicationAdministration.status, of one or of two".to_owned(),
        },
        ..MappingRow::default()
    };
    event_rows(settings).into_iter().map(row).collect()
}

fn of_codes(codes: &[String]) -> String {
    if codes.is_empty() { "every code".to_owned() } else { codes.join(", ") }
}

fn choices(settings: &PcdToFhir) -> Vec<MappingRow> {
    let yes = |flag: bool| if flag { "true" } else { "false" };
    let either = |flag: bool, on: &'static str, off: &'static str| if flag { on } else { off };
    let codes: Vec<&str> = settings
        .codes
        .iter()
        .map(|kind| match kind {
            CodeKind::Loinc => "loinc",
            CodeKind::Mdc => "mdc",
            CodeKind::Other => "other",
        })
        .collect();
    let offset = settings.default_offset_minutes.map(|minutes| format!("{minutes} minutes east of UTC"));
    let infusions = &settings.infusions;
    vec![
        setting(
            "translate",
            match settings.semantics {
                Semantics::Device => "pcd-to-fhir",
                Semantics::Results => "oru-to-fhir",
            },
        ),
        setting("unverified_status", either(settings.unverified_final, "final", "preliminary")),
        setting("default_offset", offset.unwrap_or_else(|| "none".to_owned())),
        setting(
            "device_detail",
            match settings.device_detail {
                DeviceDetail::Metric => "metric",
                DeviceDetail::Device => "device",
                DeviceDetail::IdentifierOnly => "identifier-only",
            },
        ),
        setting("device_write", either(settings.device_updates, "update", "create")),
        setting("identity", either(settings.value_in_identity, "value", "time")),
        setting("codes", codes.join(", ")),
        setting("blood_pressure", either(settings.blood_pressure_panel, "panel", "separate")),
        setting(
            "encounter",
            match settings.encounter {
                EncounterReference::Identifier => "identifier",
                EncounterReference::Conditional => "conditional",
                EncounterReference::None => "none",
            },
        ),
        setting("location", yes(settings.location)),
        setting("sub_id", yes(settings.sub_id)),
        setting("diagnostic_report", yes(settings.diagnostic_report)),
        setting("yes_no", either(settings.yes_no_boolean, "boolean", "code")),
        setting("pump_events", either(infusions.written, "administration", "observations")),
        setting("rate_change", either(infusions.rate_segments, "segment", "update")),
        setting("kvo", either(infusions.kvo_segments, "segment", "ignore")),
        setting("pause_max", format!("{}s", infusions.pause_max.as_secs())),
        setting("require_drug", yes(infusions.require_drug)),
        setting(
            "alerts",
            match settings.alerts {
                Alerts::Observation => "observation",
                Alerts::Final => "final",
                Alerts::Refuse => "refuse",
            },
        ),
        setting("insulin_unit", either(settings.insulin_in_u, "U", "[iU]")),
    ]
}

/// A `map` step as the rows of its table; any other step as what it does.
fn of_step(number: usize, step: &Step) -> Vec<MappingRow> {
    let said = |what: String| vec![MappingRow { note: format!("step {number}"), ..setting("step", what) }];
    match step {
        Step::Set { path, to } => said(format!("set {path} to {to:?}")),
        Step::Copy { from, to } => said(format!("copy {from} to {to}")),
        Step::Delete { path: super::steps::DeleteTarget::Path(path) } => said(format!("empty {path}")),
        Step::Delete { path: super::steps::DeleteTarget::Segment(id) } => said(format!("remove {id}")),
        Step::Map { path, table, missing, .. } => {
            let row = |(code, row): (&str, &super::table::Row)| MappingRow {
                part: "site table",
                code: code.to_owned(),
                name: path.to_string(),
                to_system: row.system.clone().unwrap_or_default(),
                to_code: row.to.clone(),
                to_display: row.display.clone().unwrap_or_default(),
                source: table.name().to_owned(),
                note: format!("step {number}, a code without a row: {missing:?}").to_lowercase(),
                ..MappingRow::default()
            };
            table.rows().into_iter().map(row).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_unit_in_force_is_a_row_with_its_source() {
        let tables = Nomenclature::built_in();
        let rows = MappingRow::of_nomenclature(&tables);
        let of = |part: &'static str| rows.iter().filter(move |row| row.part == part);
        let glucose: Vec<&str> =
            of("codes").filter(|row| row.code == "160212").map(|row| row.to_code.as_str()).collect();
        assert_eq!(glucose, ["99504-3", "105272-9", "160212"]);
        assert!(of("codes").count() >= tables.terms().len() && of("units").count() >= 70);
        assert!(rows.iter().all(|row| !row.source.is_empty()), "each row says where it is from");
        assert!(of("flags").any(|row| row.code == "ALINH" && row.to_code == "alarm-inhibited"));
    }

    #[test]
    fn a_destination_shows_its_choices_and_the_statuses_they_make() {
        let mut settings = PcdToFhir::new(Nomenclature::built_in());
        settings.unverified_final = true;
        settings.identifier_systems.insert("H".into(), "urn:oid:2.999.1".into());
        let rows = MappingRow::of_destination("monitors", "ehr", &Plan::PcdToFhir(settings));
        assert!(rows.iter().all(|row| (&*row.channel, &*row.destination) == ("monitors", "ehr")));
        let found = |part: &str, code: &str| rows.iter().find(|row| row.part == part && row.code == code);
        assert_eq!(found("statuses", "R").map(|row| &*row.to_code), Some("final"));
        assert_eq!(found("statuses", "C").map(|row| &*row.note), Some("replaces what was sent before"));
        assert_eq!(found("settings", "identifier_systems").map(|row| &*row.to_system), Some("urn:oid:2.999.1"));
        assert_eq!(found("settings", "translate").map(|row| &*row.to_code), Some("pcd-to-fhir"));
        assert_eq!(found("settings", "pause_max").map(|row| &*row.to_code), Some("86400s"));
        assert_eq!(found("settings", "alerts").map(|row| &*row.to_code), Some("observation"));
    }

    #[test]
    fn what_a_pump_event_makes_of_an_infusion_is_told_by_what_translates_it() {
        let rows = |change: fn(&mut PcdToFhir)| {
            let mut settings = PcdToFhir::new(Nomenclature::built_in());
            settings.infusions.written = true;
            change(&mut settings);
            let rows = MappingRow::of_destination("pumps", "ehr", &Plan::PcdToFhir(settings));
            let rows = rows.into_iter().filter(|row| row.part == "pump events");
            rows.map(|row| format!("{}, {}: {}", row.code, row.name, row.to_code)).collect::<Vec<_>>().join("\n")
        };
        let usual = rows(|_| {});
        for told in [
            "DELIV_START, the infusion before: none is known: in-progress\n",
            "DELIV_STOP, the infusion before: running: on-hold\n",
            "DELIV_COMP, the infusion before: running: completed\n",
            "PROG_CLEARED, the infusion before: paused: stopped\n",
            "another rate, the infusion before: paused: completed, then in-progress\n",
            "another rate, the infusion before: running: unknown, then in-progress\n",
            "keep the vein open, the infusion before: complete: in-progress\n",
        ] {
            assert!(usual.contains(told), "{told} is not in\n{usual}");
        }
        let chosen = rows(|settings| {
            (settings.infusions.rate_segments, settings.infusions.kvo_segments) = (false, false);
        });
        assert!(chosen.contains("another rate, the infusion before: paused: in-progress\n"), "{chosen}");
        assert!(chosen.contains("keep the vein open, the infusion before: complete: \n"), "{chosen}");
        assert!(rows(|settings| settings.infusions.written = false).is_empty());
    }
}
