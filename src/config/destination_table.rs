//! `[[destination]]`: where messages go and how they are made.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use super::{
    channel_file::{Surroundings, filter},
    fhir_mapping, fhir_table, profiles,
    reader::Reader,
    source::Problem,
    steps_table, tls_table, value,
};
use crate::{
    channel::{Destination, OnReject, Order},
    destination::{Beside, FileLayout, FileSettings, Idempotency, MllpSettings, Settings},
    translate::{Alerts, DeviceDetail, PcdToFhir, Plan, Semantics},
};

/// The destinations of a channel, and where in the file each has its directory or begins.
pub(super) struct Destinations {
    pub read: Option<Vec<Arc<Destination>>>,
    pub at: Vec<usize>,
}

/// Every destination of a channel, names told apart. What decides the bodies is added to `hashed`.
pub(super) fn read_all(root: &Reader<'_>, around: &Surroundings<'_>, hashed: &mut Vec<Arc<[u8]>>) -> Destinations {
    let tables = root.many("destination");
    let mut destinations: Vec<Option<Arc<Destination>>> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for table in &tables {
        let name = table.text("name", value::name);
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            table.problem("name", Problem::new("another destination of this channel has the same name", "rename one"));
        }
        names.extend(name.clone());
        destinations.push(read(table, name, around, hashed).map(Arc::new));
    }
    let at = tables.iter().map(|table| table.place("directory")).collect();
    Destinations { read: destinations.into_iter().collect(), at }
}

fn read(
    table: &Reader<'_>,
    name: Option<String>,
    around: &Surroundings<'_>,
    hashed: &mut Vec<Arc<[u8]>>,
) -> Option<Destination> {
    let kind = table.choice("type", &["fhir", "mllp", "file"]);
    let mapping = table.one("fhir").map(profiles::applied);
    if let (Some(kind), Some(mapping)) = (kind, &mapping) {
        mapping.only_for("a destination", kind);
    }
    let mut settings = kind.and_then(|kind| {
        table.only_for("a destination", kind);
        match kind {
            "mllp" => mllp(table, around),
            "fhir" => fhir_table::read(table, mapping.as_ref()?, around),
            _ => file(table, around),
        }
    });
    let plan = plan(table, kind, mapping.as_ref(), around, hashed);
    let filter = filter(table, around, hashed);
    let order = table.text("order", order);
    let lanes = table.count("lanes");
    let resend_window = table.count("resend_window");
    let retry = table.one("retry").and_then(|table| retry(&table));
    let on_reject = table.choice("on_reject", &[OnReject::Park, OnReject::Hold]);
    let (order, lanes) = (order?, u16::try_from(lanes?).ok()?);
    if order == Order::Strict && lanes > 1 {
        let remedy = "set lanes = 1, or order = \"device\"";
        table.problem("lanes", Problem::new("strict order has one lane", remedy));
    }
    let mut plan = plan?;
    if let (Plan::PcdToFhir(mapping), Some(Settings::Fhir(server))) = (&mut plan, &mut settings) {
        mapping.creates_overwrite = server.write.idempotency == Idempotency::PutId;
        Arc::make_mut(&mut server.write).beside = beside(mapping);
    }
    check_episodes(table, &plan, &order, lanes);
    let (retry_first, retry_max, retry_refused) = retry?;
    Some(Destination {
        name: name?.into(),
        settings: settings?,
        plan,
        filter: filter?,
        order,
        lanes,
        retry_first,
        retry_max,
        retry_refused,
        on_reject: on_reject?,
        resend_window: usize::try_from(resend_window?).ok().and_then(NonZeroUsize::new)?,
    })
}

/// What a mapping writes beside observations.
fn beside(mapping: &PcdToFhir) -> Vec<Beside> {
    let device = mapping.semantics == Semantics::Device && mapping.device_detail != DeviceDetail::IdentifierOnly;
    let metric = device && mapping.device_detail == DeviceDetail::Metric;
    let administered = mapping.semantics == Semantics::Device && mapping.infusions.written;
    let kinds = [
        (device, "Device", mapping.device_updates, "device_detail = \"identifier-only\""),
        (metric, "DeviceMetric", false, "device_detail = \"device\""),
        (administered, "MedicationAdministration", true, "pump_events = \"observations\""),
        (mapping.diagnostic_report, "DiagnosticReport", true, "diagnostic_report = false"),
    ];
    let written = kinds.into_iter().filter(|(is_written, ..)| *is_written);
    written.map(|(_, kind, updates, without)| Beside { kind, updates, without }).collect()
}

fn mllp(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<Settings> {
    let address = table.text("address", value::host_and_port);
    let timeout = table.text("timeout", value::some_duration);
    let awaits_application = table.choice("answer", &[false, true]);
    let allowed = table.flag("allow_plaintext");
    let address = address?;
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
    let tls = match table.has("tls") {
        true => tls_table::receiver(&table.one("tls")?, host, around).map(Some)?,
        false => {
            check_plaintext(table, "address", host, allowed?);
            None
        }
    };
    let (timeout, awaits_application) = (timeout?, awaits_application?);
    Some(Settings::Mllp(MllpSettings { address, timeout, awaits_application, tls }))
}

fn file(table: &Reader<'_>, around: &Surroundings<'_>) -> Option<Settings> {
    let directory = table.text("directory", value::filled);
    let layout = table.choice("layout", &[FileLayout::PerMessage, FileLayout::Ndjson]);
    Some(Settings::File(FileSettings { directory: around.base.join(directory?), layout: layout? }))
}

pub(super) fn check_plaintext(table: &Reader<'_>, key: &str, host: &str, allowed: bool) {
    if !allowed && !value::is_loopback(host) {
        let remedy = "set `tls` or an https URL, or where the network is trusted `allow_plaintext = true`";
        table.problem(key, Problem::new("messages would leave this machine unencrypted", remedy));
    }
}

fn order(text: &str) -> Result<Order, Problem> {
    match text {
        "strict" => Ok(Order::Strict),
        "device" => Ok(Order::Device),
        "patient" => Ok(Order::Patient),
        path => value::path(path).map(Order::Path).map_err(|problem| Problem {
            remedy: "write strict, device, patient or a path such as PID-3.1".to_owned(),
            ..problem
        }),
    }
}

fn retry(table: &Reader<'_>) -> Option<(Duration, Duration, u32)> {
    let (first, max) = (table.text("first", value::some_duration), table.text("max", value::some_duration));
    let refused = table.count("refused");
    let (first, max) = (first?, max?);
    if first > max {
        table.problem("first", Problem::new("the first wait is longer than the longest", "lower it or raise `max`"));
    }
    Some((first, max, u32::try_from(refused?).ok()?))
}

/// How bodies are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Translate {
    None,
    Repaired,
    Steps,
    ToFhir(Semantics),
}

fn plan(
    table: &Reader<'_>,
    kind: Option<&str>,
    mapping: Option<&Reader<'_>>,
    around: &Surroundings<'_>,
    hashed: &mut Vec<Arc<[u8]>>,
) -> Option<Plan> {
    let steps = steps_table::read_all(table, around, hashed);
    let (device, results) = (Translate::ToFhir(Semantics::Device), Translate::ToFhir(Semantics::Results));
    let written = table.choice("translate", &[Translate::None, Translate::Repaired, Translate::Steps, device, results]);
    if table.has("translate") && written.is_none() {
        return None;
    }
    let translate = written.unwrap_or(match (table.has("step"), kind) {
        (true, _) => Translate::Steps,
        (false, Some("fhir")) => device,
        (false, _) => Translate::None,
    });
    check_translate(table, kind, translate);
    match translate {
        Translate::None => Some(Plan::Unchanged),
        Translate::Repaired => Some(Plan::Steps(Vec::new())),
        Translate::Steps => steps.map(Plan::Steps),
        Translate::ToFhir(semantics) => fhir_mapping::read(mapping?, semantics, around, hashed).map(Plan::PcdToFhir),
    }
}

fn check_translate(table: &Reader<'_>, kind: Option<&str>, translate: Translate) {
    let Some(kind) = kind else { return };
    let mismatch = match (kind, translate, table.has("step")) {
        ("fhir", Translate::None | Translate::Repaired | Translate::Steps, _) => {
            ("a FHIR server takes no HL7 v2", "write translate = \"pcd-to-fhir\", or type = \"mllp\"")
        }
        ("mllp", Translate::ToFhir(_), _) => ("an MLLP receiver takes no FHIR", "write type = \"fhir\" and a url"),
        (_, Translate::ToFhir(_), true) => {
            ("steps before a translation to FHIR are not supported by this version", "remove the steps or `translate`")
        }
        (_, Translate::None | Translate::Repaired, true) => {
            ("there are steps, and this leaves them out", "write translate = \"steps\"")
        }
        (_, Translate::Steps, false) => ("there are no steps", "add a [[destination.step]] or remove `translate`"),
        ("file", Translate::None | Translate::Repaired | Translate::Steps, _) if table.has("fhir") => (
            "[destination.fhir] says nothing without a translation to FHIR",
            "write translate = \"pcd-to-fhir\" or \"oru-to-fhir\", or remove the table",
        ),
        _ => return,
    };
    table.problem("translate", Problem::new(mismatch.0, mismatch.1));
}

/// What is told over several messages must come in order: through one lane, or by what names its device or patient.
fn check_episodes(table: &Reader<'_>, plan: &Plan, order: &Order, lanes: u16) {
    let Plan::PcdToFhir(mapping) = plan else { return };
    let remembers = mapping.infusions.written || mapping.alerts != Alerts::Refuse;
    if remembers && lanes > 1 && matches!(order, Order::Path(_)) {
        let remedy = "write order = \"device\", or lanes = 1, or in [destination.fhir] pump_events = \"observations\" and alerts = \"refuse\"";
        table.problem("order", Problem::new("pump events and alerts of one device would pass each other", remedy));
    }
}
