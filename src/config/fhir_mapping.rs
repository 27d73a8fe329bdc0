//! `[destination.fhir]`: what a site chooses of the translation to FHIR.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    channel_file::Surroundings,
    fhir_keys::{BUNDLE, CACHE, IDEMPOTENCY, MESSAGES_PER_BUNDLE, PATIENT, PROFILE, RATE, REPEAT_SEARCH, SEARCH},
    insulin,
    keys::{
        Absent::{Is, Optional, Required},
        Kind::{self, Choice, Count, Flag, Map, One, Text, Texts},
        Table, key, later,
    },
    reader::{Entry, Reader},
    source::Problem,
    value,
};
use crate::{
    fhir::systems,
    pcd,
    translate::{
        Alerts, CATEGORY_CLASSES, Category, CodeKind, Conversion, DeviceDetail, EncounterReference, Infusions,
        Medication, PcdToFhir, Semantics,
    },
};

/// The settings, with the codes in force.
pub(super) fn read(
    table: &Reader<'_>,
    semantics: Semantics,
    around: &Surroundings<'_>,
    hashed: &mut Vec<Arc<[u8]>>,
) -> Option<PcdToFhir> {
    let codes = around.tables.nomenclature();
    hashed.extend(codes.iter().map(|codes| codes.bytes.clone()));
    let unverified_final = table.choice("unverified_status", &[false, true]);
    let offset = match table.has("default_offset") {
        true => table.text("default_offset", value::offset_minutes).map(Some),
        false => Some(None),
    };
    let identifier_systems = uris(table, "identifier_systems");
    let coding_systems = uris(table, "coding_systems");
    let details = [DeviceDetail::Metric, DeviceDetail::Device, DeviceDetail::IdentifierOnly];
    let device_detail = table.choice("device_detail", &details);
    let device_updates = table.choice("device_write", &[false, true]);
    let value_in_identity = table.choice("identity", &[false, true]);
    let order = table.texts("codes", code_kind);
    let categories = categories(table);
    let visits = [EncounterReference::Identifier, EncounterReference::Conditional, EncounterReference::None];
    let encounter = table.choice("encounter", &visits);
    let blood_pressure_panel = table.choice("blood_pressure", &[false, true]);
    let flags = [table.flag("location"), table.flag("sub_id"), table.flag("diagnostic_report")];
    let yes_no_boolean = table.choice("yes_no", &[false, true]);
    let insulin_in_u = table.choice("insulin_unit", &[false, true]);
    let insulin_medication = match table.has("insulin_medication") {
        true => table.one("insulin_medication").and_then(|table| medication(&table)).map(Some),
        false => Some(None),
    };
    let nomenclature = codes.as_ref().map(|codes| &*codes.nomenclature);
    let insulin_products = insulin::products(&table.many("insulin_product"), nomenclature);
    let infusions = infusions(table);
    let alerts = table.choice("alerts", &[Alerts::Observation, Alerts::Final, Alerts::Refuse]);
    let conversions: Vec<_> = table.many("convert").iter().map(conversion).collect();
    Some(PcdToFhir {
        semantics,
        unverified_final: unverified_final?,
        default_offset_minutes: offset?,
        identifier_systems: identifier_systems?,
        coding_systems: coding_systems?,
        device_detail: device_detail?,
        device_updates: device_updates?,
        value_in_identity: value_in_identity?,
        codes: order?,
        categories: categories?,
        encounter: encounter?,
        location: flags[0]?,
        sub_id: flags[1]?,
        blood_pressure_panel: blood_pressure_panel?,
        diagnostic_report: flags[2]?,
        yes_no_boolean: yes_no_boolean?,
        insulin_in_u: insulin_in_u?,
        insulin_medication: insulin_medication?,
        insulin_products: insulin_products?,
        infusions: infusions?,
        alerts: alerts?,
        conversions: conversions.into_iter().collect::<Option<_>>()?,
        ..PcdToFhir::new(codes?.nomenclature)
    })
}

fn infusions(table: &Reader<'_>) -> Option<Infusions> {
    let written = table.choice("pump_events", &[true, false]);
    let rate_segments = table.choice("rate_change", &[true, false]);
    let kvo_segments = table.choice("kvo", &[true, false]);
    let require_drug = table.flag("require_drug");
    let pause_max = table.text("pause_max", value::some_duration);
    Some(Infusions {
        written: written?,
        rate_segments: rate_segments?,
        kvo_segments: kvo_segments?,
        require_drug: require_drug?,
        pause_max: pause_max?,
    })
}

/// A table of names and URIs.
fn uris(table: &Reader<'_>, key: &str) -> Option<BTreeMap<String, String>> {
    let read = table.entries(key).into_iter().map(|entry| {
        let system = table.string(key, entry.value)?;
        if let Err(problem) = uri(&system.text) {
            table.source.problem(&table.key(key), &system.span, problem);
            return None;
        }
        Some((entry.key.text.into_owned(), system.text.into_owned()))
    });
    let read: Vec<Option<(String, String)>> = read.collect();
    read.into_iter().collect()
}

fn uri(text: &str) -> Result<String, Problem> {
    let colon = text.find(':').filter(|at| *at > 0);
    if colon.is_none() || text.contains(char::is_whitespace) {
        return Err(Problem::new("the system is not a URI", "write one such as urn:oid:2.999.1 or https://…"));
    }
    Ok(text.to_owned())
}

fn code_kind(text: &str) -> Result<CodeKind, Problem> {
    match text {
        "loinc" => Ok(CodeKind::Loinc),
        "mdc" => Ok(CodeKind::Mdc),
        "other" => Ok(CodeKind::Other),
        _ => Err(Problem::new(format!("{text:?} is no kind of code"), "write loinc, mdc or other")),
    }
}

fn categories(table: &Reader<'_>) -> Option<BTreeMap<String, Vec<Category>>> {
    let read = table.entries("categories").into_iter().map(|entry| {
        let written = table.strings("categories", entry.value)?;
        let name = category_name(table, &entry);
        let found = written.iter().map(|text| {
            let report = |problem| table.source.problem(&table.key("categories"), &text.span, problem);
            category(&text.text).map_err(report).ok()
        });
        let found: Vec<Option<Category>> = found.collect();
        Some((name?, found.into_iter().collect::<Option<_>>()?))
    });
    let read: Vec<Option<(String, Vec<Category>)>> = read.collect();
    read.into_iter().collect()
}

/// A class, or something that is written as a code is: a misspelt class would be none that ever holds.
fn category_name(table: &Reader<'_>, entry: &Entry<'_>) -> Option<String> {
    let name = &*entry.key.text;
    let number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    if CATEGORY_CLASSES.contains(&name) || number || pcd::is_refid(name) || pcd::loinc_digit_holds(name) {
        return Some(name.to_owned());
    }
    let remedy =
        format!("write an MDC number or identifier, a LOINC number, or one of {}", CATEGORY_CLASSES.join(", "));
    let problem = Problem::new(format!("{name:?} is no code and no class"), remedy);
    table.source.problem(&table.key("categories"), &entry.key.span, problem);
    None
}

/// Codes of R4's observation-category.
const CATEGORIES: [&str; 9] =
    ["social-history", "vital-signs", "imaging", "laboratory", "procedure", "survey", "exam", "therapy", "activity"];

fn category(text: &str) -> Result<Category, Problem> {
    if let Some((system, code)) = text.split_once('|') {
        let (system, code) = (uri(system)?, code.to_owned());
        let legal = !code.is_empty() && !code.contains(char::is_whitespace);
        return if legal {
            Ok(Category { system, code })
        } else {
            Err(Problem::new("the code is empty", "write system|code"))
        };
    }
    if CATEGORIES.contains(&text) {
        return Ok(Category { system: systems::OBSERVATION_CATEGORY.to_owned(), code: text.to_owned() });
    }
    let remedy = format!("write system|code, or one of {}", CATEGORIES.join(", "));
    Err(Problem::new(format!("{text:?} is no category of R4"), remedy))
}

pub(super) fn medication(table: &Reader<'_>) -> Option<Medication> {
    let (system, code) = (table.text("system", uri), table.text("code", value::filled));
    let display = table.text("display", value::filled);
    Some(Medication { system: system?, code: code?, display: display? })
}

fn conversion(table: &Reader<'_>) -> Option<Conversion> {
    let (from, to) = (table.text("from", value::filled), table.text("to", value::filled));
    let decimals = table.count("decimals");
    let codes = table.texts("codes", value::filled);
    let decimals = u8::try_from(decimals?).ok()?;
    let report = |what: &str| table.problem("to", Problem::new(what, "write two UCUM units that measure the same"));
    Conversion::new(&from?, &to?, decimals, codes?).map_err(report).ok()
}

pub(super) static FHIR_MAPPING: Table = Table {
    title: "[destination.fhir]",
    keys: &[
        PROFILE,
        IDEMPOTENCY,
        BUNDLE,
        MESSAGES_PER_BUNDLE,
        PATIENT,
        SEARCH,
        REPEAT_SEARCH,
        CACHE,
        RATE,
        key(
            "unverified_status",
            Choice(&["preliminary", "final"]),
            Is("preliminary"),
            "Observation.status for OBX-11 R, the device's value not reviewed by a person.",
        ),
        key(
            "default_offset",
            Text("offset such as +01:00"),
            Optional,
            "Offset of times sent without a zone, where MSH-7 has none either, for this destination alone and without summer times: `zone` of `[tolerance]` comes first and is better. Without either, a message with such times becomes a dead letter.",
        ),
        key(
            "identifier_systems",
            Map("assigning authority = URI", false),
            Optional,
            "PID-3 assigning authority (CX.4.1 or CX.4.2) to identifier system; `\"\"` is for identifiers without one. An authority that is an OID or UUID names itself. Where this table is empty, each other authority gets a system made of its name (`urn:uuid:…`, shown by `cannula try` and counted as unmapped), which the server must know; where it is not, an authority that is missing makes a dead letter.",
        ),
        key(
            "device_detail",
            Choice(&["metric", "device", "identifier-only"]),
            Is("device"),
            "`metric`: as `device`, and a DeviceMetric for each place that measures, is set or computes, to which observations refer; `device`: a Device for each level of the device and a Provenance; `identifier-only`: observations alone, which name their device by identifier.",
        ),
        key(
            "device_write",
            Choice(&["create", "update"]),
            Is("create"),
            "Devices are written once, or replaced when a message says something else of them than the last one did, with their patient and bed (PV1-3).",
        ),
        key(
            "identity",
            Choice(&["time", "value"]),
            Is("time"),
            "What tells an observation sent again from a new one of the same patient, device, place and code: its time, or its time and value. `value` is for devices whose clock is too coarse; a correction then becomes a second observation.",
        ),
        key(
            "pump_events",
            Choice(&["administration", "observations"]),
            Is("observations"),
            "What becomes of pump events (PCD-10, ORU^R42): MedicationAdministrations that follow the infusion, once a pharmacist has compared them, or Observations of what the pump shows at the event.",
        ),
        key(
            "rate_change",
            Choice(&["segment", "update"]),
            Is("segment"),
            "A new rate of an infusion: a MedicationAdministration of its own, part of the first, or the one there is with another rate.",
        ),
        key(
            "kvo",
            Choice(&["segment", "ignore"]),
            Is("segment"),
            "What a pump gives to keep the vein open after an infusion: a MedicationAdministration of its own, part of the first, or nothing.",
        ),
        key(
            "require_drug",
            Flag,
            Is("false"),
            "Pump events without a drug are Observations; otherwise MedicationAdministrations of an unknown drug or carrier fluid.",
        ),
        key(
            "pause_max",
            Text("duration"),
            Is("24h"),
            "An infusion paused for longer was stopped: what the pump starts then is another.",
        ),
        key(
            "alerts",
            Choice(&["observation", "final", "refuse"]),
            Is("observation"),
            "What becomes of alerts (PCD-04, ORU^R40): one Observation each, `preliminary` until it is over, or `final` throughout; or a dead letter.",
        ),
        key(
            "codes",
            Texts("loinc, mdc or other"),
            Is("loinc, mdc, other"),
            "Codes an observation is written with, best first; kinds that are not named are left out, unless no other was sent.",
        ),
        key(
            "coding_systems",
            Map("coding system = URI", false),
            Optional,
            "Name of a coding system (CWE.3, such as `L` or `99LAB`) to its URI. Those of table 0396 that everybody uses are known; the codes of any other are written without a system.",
        ),
        key(
            "categories",
            Map("code or class = category or list of categories", true),
            Optional,
            "Observation.category by LOINC number, MDC number or identifier, or class: `setting` and `calculation` (OBX-17), `measurement` (of a device), `default`. A category is a code of R4's observation-category, or a system's URI and a code with a bar between them. Not written: what mdc-loinc.csv says, else `procedure` for what a device does, `laboratory` for results.",
        ),
        key(
            "blood_pressure",
            Choice(&["separate", "panel"]),
            Is("separate"),
            "Systolic, diastolic and mean pressure, sent as rows beside each other, as an Observation each, or as one panel (LOINC 85354-9) with components, which vital signs profiles ask for.",
        ),
        key(
            "encounter",
            Choice(&["identifier", "conditional", "none"]),
            Is("identifier"),
            "How PV1-19 is referred to: by its identifier, which the server need not know; by a search, without whose one match the server refuses all, within transactions only; or not at all.",
        ),
        key("location", Flag, Is("false"), "Writes PV1-3 with each observation, as the extension event-location."),
        key(
            "sub_id",
            Flag,
            Is("false"),
            "Writes OBX-4 as sent with each observation, as the extension observation-v2-subid.",
        ),
        key(
            "diagnostic_report",
            Flag,
            Is("false"),
            "Adds a DiagnosticReport for each OBR with a filler number (OBR-3), replaced by the next message of that number.",
        ),
        key("yes_no", Choice(&["code", "boolean"]), Is("code"), "How Y and N of type ID are written."),
        key(
            "insulin_unit",
            Choice(&["[iU]", "U"]),
            Is("[iU]"),
            "Unit of insulin: UCUM's international unit, or `U`, which UCUM has for enzymes but many records expect.",
        ),
        key(
            "insulin_medication",
            One(&MEDICATION),
            Optional,
            "The insulin that doses are of; not written: \"Insulin\", in words.",
        ),
        key(
            "insulin_product",
            Kind::Many(&INSULIN_PRODUCT),
            Optional,
            "The insulin of some doses or of some pumps, a table each, before `insulin_medication`; the first that fits.",
        ),
        key(
            "convert",
            Kind::Many(&CONVERT),
            Optional,
            "Units that are changed, a table each. A changed observation says in a note what the device showed; waveforms are never changed. Not written: values leave in the unit they came in.",
        ),
        later("statuses", "Other status rules."),
    ],
};

pub(super) static MEDICATION: Table = Table {
    title: "insulin_medication",
    keys: &[
        key("system", Text("URI"), Required, "Its coding system, such as RxNorm's."),
        key("code", Text("text"), Required, "Its code."),
        key("display", Text("text"), Required, "Its name."),
    ],
};

pub(super) static INSULIN_PRODUCT: Table = Table {
    title: "[[destination.fhir.insulin_product]]",
    keys: &[
        key(
            "doses",
            Texts("code"),
            Is(""),
            "MDC numbers or identifiers of the doses it is for, such as `MDC_CTXT_MEDICATION_LONGACTING`; none: every bolus of the device, but no dose that a person entered. A dose that a row before has is a fault.",
        ),
        key(
            "device",
            Text("device"),
            Optional,
            "The pump it is in, as `cannula devices` names it; not written: every one.",
        ),
        key("system", Text("URI"), Required, "Its coding system, such as RxNorm's."),
        key("code", Text("text"), Required, "Its code."),
        key("display", Text("text"), Required, "Its name."),
    ],
};

pub(super) static CONVERT: Table = Table {
    title: "[[destination.fhir.convert]]",
    keys: &[
        key("from", Text("UCUM unit"), Required, "The unit as mapped."),
        key(
            "to",
            Text("UCUM unit"),
            Required,
            "The unit wanted: of the same dimension; or mmol/L for mg/dL and the other way round, for glucose alone, whose LOINC changes with it.",
        ),
        key("decimals", Count(0, 9), Required, "Digits after the point; a half is rounded away from zero."),
        key(
            "codes",
            Texts("code"),
            Is(""),
            "MDC numbers or identifiers or LOINC numbers it is for; none: every value in that unit.",
        ),
    ],
};
