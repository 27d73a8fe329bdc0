//! What a device's rows say of it beside who it is: model, maker, versions, UDI; and, where devices are kept up to date, in
//! which bed and at which patient it is.
//!
//! What changes from message to message, such as a clock, is left out: a device that is written once would stand with it
//! for ever.

use super::{Origin, Trace, Translation, concept, references, time, written};
use crate::{
    fhir::{Coding, Decimal, Device, DeviceProperty, DeviceVersion, Quantity, Text, UdiCarrier, systems},
    pcd::{Coded, Issuer, Nth, Place, Row, Udi},
};

/// Adds to `device` what its row, the rows below it and its PRT say.
pub(super) fn device<'a>(translation: &Translation<'a>, row: &'a Row<'a>, device: &mut Device<'a>, trace: &mut Trace) {
    for &attribute in &row.attributes {
        describe(translation, device, &translation.report.rows[attribute], trace);
    }
    for label in row.obx.field(18).repetitions() {
        udi(&translation.text(label.component(1).raw()), row.place_of(18), device, trace);
    }
    for prt in &row.participations {
        participation(translation, *prt, device, trace);
    }
    if translation.settings.device_updates {
        let group = translation.report.group(row);
        if !translation.patient.value.is_empty() {
            device.patient = Some(translation.subject_of(group, trace));
            trace.rename(&[("subject", "patient")]);
        }
        device.location = references::location(translation, group.visit);
        if let (Some(_), Some(pv1)) = (&device.location, group.visit) {
            trace.note("location", pv1.place(3));
        }
    }
}

/// Attributes that R4 has an element for.
fn describe<'a>(translation: &Translation<'a>, device: &mut Device<'a>, row: &'a Row<'a>, trace: &mut Trace) {
    let sent = row.obx.field(5).first();
    let value = translation.text(sent.raw());
    if !written(&value) {
        return;
    }
    let place = row.place_of(5);
    let name = row.term.term.map_or("", |term| &*term.refid);
    match name {
        "MDC_ATTR_ID_MODEL" => {
            let part = |n| Some(translation.text(sent.component(n).raw())).filter(|text| written(text));
            let coded = matches!(row.obx.raw(2), b"CWE" | b"CE" | b"CNE");
            match (part(1), part(2)) {
                (_, Some(text)) if coded => set(&mut device.model_number, text, "modelNumber", place, trace),
                (Some(maker), Some(model)) => {
                    set(&mut device.manufacturer, maker, "manufacturer", place, trace);
                    set(&mut device.model_number, model, "modelNumber", place, trace);
                }
                (Some(model), None) | (None, Some(model)) => {
                    set(&mut device.model_number, model, "modelNumber", place, trace)
                }
                (None, None) => {}
            }
        }
        "MDC_ID_MODEL_NUMBER" => set(&mut device.model_number, value, "modelNumber", place, trace),
        "MDC_ID_MODEL_MANUFACTURER" => set(&mut device.manufacturer, value, "manufacturer", place, trace),
        "MDC_ID_PROD_SPEC_SERIAL" => set(&mut device.serial_number, value, "serialNumber", place, trace),
        "MDC_ID_PROD_SPEC_PART" => set(&mut device.part_number, value, "partNumber", place, trace),
        "MDC_ID_PROD_SPEC_SW"
        | "MDC_ATTR_ID_SOFT"
        | "MDC_ID_PROD_SPEC_HW"
        | "MDC_ID_PROD_SPEC_FW"
        | "MDC_ID_PROD_SPEC_PROTOCOL" => {
            trace.note(format_args!("version[{}].type", device.version.len()), row.place_of(3));
            trace.note(format_args!("version[{}].value", device.version.len()), place);
            device.version.push(DeviceVersion { kind: term(row, name).into(), value });
        }
        _ if name.contains("UDI") => udi(&value, place, device, trace),
        "MDC_TIME_CAP_STATE" | "MDC_TIME_SYNC_PROTOCOL" | "MDC_ATTR_LOCALE" | "MDC_ATTR_ID_PROD_SPECN" => {
            let at = device.property.len();
            trace.note(format_args!("property[{at}].type"), row.place_of(3));
            trace.note(format_args!("property[{at}]"), place);
            device.property.push(property(translation, row, name, value));
        }
        _ => {}
    }
}

fn property<'a>(translation: &Translation<'a>, row: &'a Row<'a>, name: &'a str, value: Text<'a>) -> DeviceProperty<'a> {
    let mut property =
        DeviceProperty { kind: term(row, name).into(), value_quantity: Vec::new(), value_code: Vec::new() };
    match (row.obx.raw(2), Decimal::parse(&value)) {
        (b"NM", Some(number)) => property.value_quantity.push(Quantity { value: Some(number), ..Quantity::default() }),
        (b"CWE" | b"CE" | b"CNE" | b"CF", _) => {
            property.value_code.push(concept::concept(translation, &Coded::read(row.obx.field(5).first())))
        }
        _ => property.value_code.push(crate::fhir::CodeableConcept::text(value)),
    }
    property
}

fn term<'a>(row: &Row<'a>, name: &'a str) -> Coding<'a> {
    let number = row.term.code.map(|code| Text::Owned(code.to_string()));
    Coding { system: Some(systems::MDC.into()), code: number, display: Some(name.into()) }
}

/// The first that says it stands.
fn set<'a>(slot: &mut Option<Text<'a>>, value: Text<'a>, element: &str, place: Place, trace: &mut Trace) {
    if slot.is_none() && written(&value) {
        *slot = Some(value);
        trace.note(element, place);
    }
}

/// A label that parses as a UDI; any other text is none.
fn udi(text: &str, place: Place, device: &mut Device<'_>, trace: &mut Trace) {
    let Some(udi) = Udi::parse(text).filter(|_| device.udi_carrier.is_empty()) else { return };
    trace.note("udiCarrier[0]", place);
    device.udi_carrier.push(UdiCarrier {
        device_identifier: Some(udi.device_identifier.into()),
        issuer: Some(match udi.issuer {
            Issuer::Gs1 => systems::UDI_GS1,
            Issuer::Hibcc => systems::UDI_HIBCC,
            Issuer::Iccbba => systems::UDI_ICCBBA_OTHER,
            Issuer::IccbbaBlood => systems::UDI_ICCBBA_BLOOD,
        }),
        carrier_hrf: Some(text.to_owned().into()),
    });
    let set_owned = |slot: &mut Option<Text<'_>>, value: Option<String>, element: &str, trace: &mut Trace| {
        if let (None, Some(value)) = (&slot, value) {
            *slot = Some(value.into());
            trace.note(element, place);
        }
    };
    set_owned(&mut device.serial_number, udi.serial, "serialNumber", trace);
    set_owned(&mut device.lot_number, udi.lot, "lotNumber", trace);
    date(&mut device.manufacture_date, udi.manufactured, "manufactureDate", place, trace);
    date(&mut device.expiration_date, udi.expires, "expirationDate", place, trace);
}

fn date(slot: &mut Option<String>, value: Option<String>, element: &str, place: Place, trace: &mut Trace) {
    if slot.is_none() && value.is_some() {
        *slot = value;
        trace.note(element, place);
    }
}

/// PRT-10 and PRT-16 to PRT-22 (v2.7 and later).
fn participation<'a>(translation: &Translation<'a>, prt: Nth<'a>, device: &mut Device<'a>, trace: &mut Trace) {
    let text = |field: usize| translation.text(prt.field(field).component(1).raw());
    for label in prt.field(10).repetitions() {
        udi(&translation.text(label.component(1).raw()), prt.place(10), device, trace);
    }
    udi(&text(16), prt.place(16), device, trace);
    if written(&text(16)) && device.udi_carrier.is_empty() {
        let issuer = match prt.field(16).component(2).raw() {
            b"GS1" => Some(systems::UDI_GS1),
            b"HIBCC" => Some(systems::UDI_HIBCC),
            b"ICCBBA" => Some(systems::UDI_ICCBBA_OTHER),
            _ => None,
        };
        trace.note("udiCarrier[0]", prt.place(16));
        device.udi_carrier.push(UdiCarrier { device_identifier: Some(text(16)), issuer, carrier_hrf: None });
    }
    let day = |field: usize| {
        let sent = !prt.raw(field).is_empty();
        sent.then(|| time::day(translation, prt.field(field).component(1).raw())).flatten()
    };
    date(&mut device.manufacture_date, day(17), "manufactureDate", prt.place(17), trace);
    date(&mut device.expiration_date, day(18), "expirationDate", prt.place(18), trace);
    set(&mut device.lot_number, text(19), "lotNumber", prt.place(19), trace);
    set(&mut device.serial_number, text(20), "serialNumber", prt.place(20), trace);
    set(&mut device.distinct_identifier, text(21), "distinctIdentifier", prt.place(21), trace);
    if device.kind.is_empty() {
        device.kind = concept::concept(translation, &Coded::read(prt.field(22).first()));
        if !device.kind.is_empty() {
            trace.note("type", Origin::At(prt.place(22)));
        }
    }
}
