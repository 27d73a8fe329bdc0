//! The devices of a report, from MDS down, each named by what lasts.
//!
//! A level without an identifier of its own is named after the device it is in, its place and its code. A tree in which
//! nothing can be identified makes no Device: one Device for all the monitors behind a gateway would be a false one. The
//! observations then name it in words.

use std::collections::HashMap;

use super::{
    DeviceDetail, Origin, Output, Translation,
    bundle::Write,
    concept, describe,
    identity::code_of,
    measured::{Method, method_of},
    memory,
};
use crate::{
    fhir::{self, CodeableConcept, Device, DeviceMetric, DeviceName, Identifier, Reference, Resource, Text, systems},
    pcd::{self, Authority, Identity, Place, Report, Role, Row},
};

/// What is known of the devices of one report.
pub(super) struct Devices<'a> {
    /// By index of the device's row.
    known: HashMap<usize, Known<'a>>,
}

struct Known<'a> {
    /// As part of an observation's identity.
    key: String,
    reference: Reference<'a>,
    /// Where it says who it is.
    place: Place,
}

impl<'a> Devices<'a> {
    /// Names every device and, where they are to be written, adds them to the bundle.
    pub(super) fn of(translation: &Translation<'a>, output: &mut Output<'a>) -> Devices<'a> {
        let report = translation.report;
        let names = &translation.settings.identification;
        let rows = || report.rows.iter().enumerate().filter(|(_, row)| matches!(row.role, Role::Device(_)));
        let own: HashMap<usize, Identity> =
            rows().filter_map(|(i, _)| Some((i, names.identity_of(report, i)?))).collect();
        let mut devices = Devices { known: HashMap::new() };
        let named: Vec<(usize, Identity)> =
            rows().filter_map(|(i, row)| Some((i, identity(translation, &own, i, row)?))).collect();
        let full_urls: HashMap<usize, String> = named.iter().map(|(i, identity)| (*i, full_url(identity))).collect();
        for (i, identity) in named {
            let giver = std::iter::successors(Some(i), |&up| report.rows[up].parent).find(|at| own.contains_key(at));
            let place = given_at(report, giver.unwrap_or(i));
            let reference = match translation.settings.device_detail {
                DeviceDetail::IdentifierOnly => Reference::logical(Some("Device"), identifier(&identity)),
                DeviceDetail::Device | DeviceDetail::Metric => {
                    let parent = std::iter::successors(report.rows[i].parent, |&up| report.rows[up].parent)
                        .find_map(|up| full_urls.get(&up));
                    Reference::to(write(translation, i, &identity, parent, (place, giver != Some(i)), output))
                }
            };
            devices.known.insert(i, Known { key: identity.key(), reference, place });
        }
        devices
    }

    /// The DeviceMetric of a row, added to the bundle: what the place measures, is set to or computes. None where no device
    /// above is known, since a metric is of a device.
    pub(super) fn metric(
        &self,
        translation: &Translation<'a>,
        row: &Row<'a>,
        kind: &CodeableConcept<'a>,
        unit: Option<CodeableConcept<'a>>,
        output: &mut Output<'a>,
    ) -> Option<Reference<'a>> {
        let parent = self.nearest(translation, row)?;
        let chain = std::iter::successors(row.parent, |&up| translation.report.rows[up].parent);
        let source = chain.filter_map(|up| self.known.get(&up)).last()?;
        let place = translation.text(row.obx.raw(4));
        let value = format!("{}/{place}/{}", parent.key, code_of(translation, row)).into();
        let identifier = Identifier { kind: None, system: Some(systems::OWN_DEVICE.into()), value };
        if let Some(known) = output.known("DeviceMetric", &identifier) {
            return Some(Reference::to(known));
        }
        let mut trace = output.trace();
        trace.note("resourceType", Origin::Constant);
        translation.note_meta(&mut trace);
        let sent = |field: usize| (!row.obx.raw(field).is_empty()).then(|| row.place_of(field));
        trace.note("identifier[0]", Origin::of([Some(parent.place), sent(4), sent(3)]));
        trace.note("type", row.place_of(3));
        if unit.is_some() {
            trace.note("unit", row.place_of(6));
        }
        trace.note("source", source.place);
        trace.note("parent", parent.place);
        trace.note("category", sent(17).map_or(Origin::Constant, Origin::At));
        let metric = DeviceMetric {
            resource_type: "DeviceMetric",
            meta: translation.meta(),
            identifier: vec![identifier.clone()],
            kind: kind.clone(),
            unit,
            source: Some(source.reference.clone()),
            parent: Some(parent.reference.clone()),
            category: match method_of(row) {
                Method::Setting => "setting",
                Method::Calculation => "calculation",
                Method::Measurement => "measurement",
                Method::Unspecified => "unspecified",
            },
        };
        let resource = Resource::DeviceMetric(Box::new(metric));
        Some(Reference::to(output.resource("DeviceMetric", &identifier, Write::Create, resource, trace)))
    }

    /// Where the device of a row is named.
    pub(super) fn place(&self, translation: &Translation<'a>, row: &Row<'a>) -> Place {
        if let Some(known) = self.nearest(translation, row) {
            return known.place;
        }
        let own = Some(row)
            .filter(|row| translation.settings.identification.equipment_of(translation.message, row).is_some());
        let above = translation.report.devices_above(row).chain([row]);
        let labelled = own.into_iter().chain(above).find(|row| !row.obx.raw(18).is_empty());
        let participation = row.participations.iter().find(|prt| !prt.raw(10).is_empty()).map(|prt| prt.place(10));
        let labelled = labelled.map(|row| row.place_of(18)).or(participation);
        labelled.unwrap_or_else(|| translation.msh.place(3))
    }

    /// Observation.device: the nearest device above that is known, else what the row itself names, else words.
    pub(super) fn reference(&self, translation: &Translation<'a>, row: &Row<'a>) -> Option<Reference<'a>> {
        if let Some(known) = self.nearest(translation, row) {
            return Some(known.reference.clone());
        }
        if let Some(identity) = translation.settings.identification.equipment_of(translation.message, row) {
            return Some(Reference::logical(Some("Device"), identifier(&identity)));
        }
        let device = translation.report.devices_above(row).next();
        let label = device.into_iter().chain([row]).find_map(|row| label(translation, row));
        let identifier = label.map(|value| Identifier { kind: None, system: None, value });
        let display =
            device.and_then(|device| device.code.triplets().next()).map(|triplet| translation.text(triplet.text));
        let display = display.filter(|text| !text.is_empty());
        let named = identifier.is_some() || display.is_some();
        named.then_some(Reference { reference: None, kind: Some("Device"), identifier, display })
    }

    /// The device as part of what makes an observation the same one.
    pub(super) fn key(&self, translation: &Translation<'a>, row: &Row<'a>) -> String {
        if let Some(known) = self.nearest(translation, row) {
            return known.key.clone();
        }
        if let Some(identity) = translation.settings.identification.equipment_of(translation.message, row) {
            return identity.key();
        }
        let devices = translation.report.devices_above(row);
        let label = devices.chain([row]).find_map(|row| label(translation, row));
        format!("{}/{}", translation.sender, label.unwrap_or_default())
    }

    /// The device that a row describes, if it is known: as part of a name, and to refer to.
    pub(super) fn at(&self, row: usize) -> Option<(&str, Reference<'a>)> {
        self.known.get(&row).map(|known| (known.key.as_str(), known.reference.clone()))
    }

    /// Where that device is named.
    pub(super) fn place_at(&self, row: usize) -> Option<Place> {
        self.known.get(&row).map(|known| known.place)
    }

    fn nearest(&self, translation: &Translation<'a>, row: &Row<'a>) -> Option<&Known<'a>> {
        std::iter::successors(row.parent, |&up| translation.report.rows[up].parent).find_map(|up| self.known.get(&up))
    }
}

/// Its own identity, or that of the nearest device above with its place and code. Ordinals may change from message to
/// message, so a place alone could become another device's.
fn identity(
    translation: &Translation<'_>,
    own: &HashMap<usize, Identity>,
    i: usize,
    row: &Row<'_>,
) -> Option<Identity> {
    if let Some(own) = own.get(&i) {
        return Some(own.clone());
    }
    let rows = &translation.report.rows;
    let above = std::iter::successors(row.parent, |&up| rows[up].parent).find_map(|up| own.get(&up))?;
    let triplet = row.code.mdc_or_alike().or_else(|| row.code.triplets().next())?;
    let code = if matches!(triplet.code, b"" | b"0" | b"999999") { triplet.text } else { triplet.code };
    let place = row.place?.key();
    let value = format!("{place}/{}", translation.text(code));
    Some(Identity { authority: Authority::Scope(above.key()), value })
}

/// What the row names its device in words.
fn label<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Option<Text<'a>> {
    pcd::label_of(row).map(|raw| translation.text(raw)).filter(|label| !label.is_empty())
}

fn identifier<'a>(identity: &Identity) -> Identifier<'a> {
    let (system, value): (Text<'a>, String) = match &identity.authority {
        Authority::Eui64 => (systems::EUI64.into(), identity.value.clone()),
        Authority::Uri => (systems::URI.into(), identity.value.clone()),
        Authority::Oid(oid) => (format!("urn:oid:{oid}").into(), identity.value.clone()),
        Authority::Scope(_) => (systems::OWN_DEVICE.into(), identity.key()),
    };
    Identifier { kind: None, system: Some(system), value: fhir::string(value.into()) }
}

fn full_url(identity: &Identity) -> String {
    let identifier = identifier(identity);
    fhir::urn_uuid(["Device", identifier.system.as_deref().unwrap_or_default(), &identifier.value])
}

/// Where a device row says who it is: OBX-18, an attribute below it, PRT-10, or else what names the whole message.
fn given_at(report: &Report<'_>, i: usize) -> Place {
    let row = &report.rows[i];
    let system_id = |at: &&usize| report.rows[**at].term.term.is_some_and(|term| &*term.refid == "MDC_ATTR_SYS_ID");
    let attribute = row.attributes.iter().find(system_id).map(|&attribute| report.rows[attribute].place_of(5));
    let participation = row.participations.iter().find(|prt| !prt.raw(10).is_empty()).map(|prt| prt.place(10));
    let request = report.group(row).request.filter(|obr| !obr.raw(3).is_empty()).map(|obr| obr.place(3));
    match row.obx.raw(18).is_empty() {
        false => row.place_of(18),
        true => attribute.or(participation).or(request).unwrap_or_else(|| row.place_of(3)),
    }
}

fn write<'a>(
    translation: &Translation<'a>,
    i: usize,
    identity: &Identity,
    parent: Option<&String>,
    (given_at, inherited): (Place, bool),
    output: &mut Output<'a>,
) -> String {
    let row = &translation.report.rows[i];
    let identifier = identifier(identity);
    let mut device = Device {
        resource_type: "Device",
        meta: translation.meta(),
        identifier: vec![identifier.clone()],
        status: "active",
        kind: concept::plain(translation, row, output),
        parent: parent.filter(|parent| **parent != full_url(identity)).map(|parent| Reference::to(parent.clone())),
        ..Device::default()
    };
    let mut trace = output.trace();
    trace.note("resourceType", Origin::Constant);
    trace.note("status", Origin::Constant);
    translation.note_meta(&mut trace);
    let code = || (!row.obx.raw(3).is_empty()).then(|| row.place_of(3));
    let made_of = match inherited {
        true => Origin::of([Some(given_at), Some(row.place_of(4)), code()]),
        false => given_at.into(),
    };
    trace.note("identifier[0]", made_of);
    if !device.kind.is_empty() {
        trace.note("type", row.place_of(3));
    }
    if device.parent.is_some() {
        trace.note("parent", row.place_of(4));
    }
    if let Some(name) = label(translation, row).filter(|_| matches!(identity.authority, Authority::Scope(_))) {
        device.device_name.push(DeviceName { name, kind: "user-friendly-name" });
        trace.note("deviceName[0]", row.place_of(18));
    }
    describe::device(translation, row, &mut device, &mut trace);
    let write = match translation.settings.device_updates {
        true => written_as(translation, &identifier, &device, output),
        false => Write::Create,
    };
    output.resource("Device", &identifier, write, Resource::Device(Box::new(device)), trace)
}

/// Replaced where this message says something else of it than the last one that was taken; what stays as it is makes no version.
fn written_as(
    translation: &Translation<'_>,
    identifier: &Identifier<'_>,
    device: &Device<'_>,
    output: &mut Output<'_>,
) -> Write {
    // The message it is of is no part of what it says.
    let said = serde_json::to_string(&Device { meta: fhir::Meta::default(), ..device.clone() }).unwrap_or_default();
    let said = fhir::fingerprint([said.as_str()]);
    let name = memory::name("device", &[identifier.system.as_deref().unwrap_or_default(), &identifier.value]);
    if memory::read::<String>(translation.recall, &name).is_some_and(|before| before == said) {
        return Write::Create;
    }
    output.episodes.push(memory::write(&name, &said, false));
    Write::Replace
}
