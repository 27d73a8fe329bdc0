//! A dose of insulin that was given: a MedicationAdministration, since a dose is no finding about the patient.
//!
//! Settings, recommendations and what still waits are observations of the device and never a dose. A dose whose unit is not
//! insulin's is left an Observation: nothing is given that cannot be counted.

use super::{
    super::{InsulinProduct, Medication},
    Devices, Origin, Output, TranslateError, Translation,
    bundle::Write,
    correction,
    measured::{Method, measure, method_of},
    observation::{envelope, said},
    outcome, time,
};
use crate::{
    fhir::{CodeableConcept, Coding, Dosage, Effective, MedicationAdministration, Observation, Resource},
    pcd::{Fit, Row},
};

/// Doses delivered by a pump, and doses a person entered (ISO/IEEE 11073-10419 and -10417).
pub(in crate::translate) const DOSES: [&str; 12] = [
    "MDC_INS_BOLUS",
    "MDC_INS_BOLUS_FAST",
    "MDC_INS_BOLUS_EXT",
    "MDC_INS_BOLUS_CORR",
    "MDC_INS_BOLUS_MEAL",
    "MDC_INS_BOLUS_MANUAL",
    "MDC_CTXT_MEDICATION",
    "MDC_CTXT_MEDICATION_RAPIDACTING",
    "MDC_CTXT_MEDICATION_SHORTACTING",
    "MDC_CTXT_MEDICATION_INTERMEDIATEACTING",
    "MDC_CTXT_MEDICATION_LONGACTING",
    "MDC_CTXT_MEDICATION_PREMIX",
];

/// Adds the dose of this row. `false` where the row is none, and is to be written as an Observation.
pub(super) fn write<'a>(
    translation: &Translation<'a>,
    devices: &Devices<'a>,
    row: &'a Row<'a>,
    output: &mut Output<'a>,
) -> Result<bool, TranslateError> {
    let named = row.term.term.is_some_and(|term| DOSES.contains(&&*term.refid));
    if !named || method_of(row) == Method::Setting {
        return Ok(false);
    }
    let effective = time::effective(translation, row)?;
    let measured = measure(translation, row, &effective, output)?;
    let counted = |code: &str| matches!(code, "[iU]" | "U");
    let dose = measured.quantity().filter(|dose| dose.comparator.is_none());
    let dose = dose.filter(|dose| dose.code.as_deref().is_some_and(counted)).cloned();
    let (Some(dose), Some(status)) = (dose, outcome::status(translation, row, true)?) else { return Ok(false) };
    let status = match status.code {
        "preliminary" | "final" | "amended" | "corrected" => ("completed", status.write),
        "entered-in-error" => ("entered-in-error", Write::Replace),
        _ => return Ok(false),
    };
    let mut trace = output.trace();
    let observed: Observation<'a> = envelope(translation, devices, row, &effective, None, &mut trace);
    trace.rename(&[("basedOn[0]", "request"), ("encounter", "context"), ("device", "device[0]")]);
    trace.forget(&["performer", "issued", "extension", "bodySite", "method"]);
    trace.note("status", said(row, 11));
    trace.note("category", row.place_of(3));
    trace.note("dosage.dose", row.place_of(5));
    trace.note("dosage.dose.unit", row.place_of(6));
    trace.note("dosage.dose.code", row.place_of(6));
    let product = product(translation, row);
    let key = if product.is_some() { "insulin_product" } else { "insulin_medication" };
    let configured = product.or(translation.settings.insulin_medication.as_ref()).filter(|_| !contradicts(row));
    trace.note("medicationCodeableConcept", configured.map_or(Origin::Constant, |_| Origin::Configuration(key)));
    let medication = match configured {
        Some(drug) => {
            let part = |text: &'a String| Some((&**text).into());
            Coding { system: part(&drug.system), code: part(&drug.code), display: part(&drug.display) }.into()
        }
        None => CodeableConcept::text("Insulin"),
    };
    let effective = match (observed.effective_date_time, observed.effective_period) {
        (Some(at), _) => Effective::At(at),
        (None, period) => Effective::Over(period.unwrap_or_default()),
    };
    let identifier = observed.identifier[0].clone();
    if correction::is_outdated(translation, &identifier, status.1, output) {
        return Ok(true);
    }
    let given = MedicationAdministration {
        resource_type: "MedicationAdministration",
        meta: observed.meta,
        identifier: observed.identifier,
        status: status.0,
        category: Some(measured.code),
        medication_codeable_concept: medication,
        subject: observed.subject.unwrap_or_default(),
        context: observed.encounter,
        effective,
        request: observed.based_on.into_iter().next(),
        device: observed.device.into_iter().collect(),
        note: observed.note,
        dosage: Some(Dosage { dose: Some(dose), ..Dosage::default() }),
        ..MedicationAdministration::default()
    };
    let resource = Resource::MedicationAdministration(Box::new(given));
    output.resource("MedicationAdministration", &identifier, status.1, resource, trace);
    Ok(true)
}

/// Its number is one dose's and its name another's: which insulin it was is not known. That it is so is counted.
fn contradicts(row: &Row<'_>) -> bool {
    row.term.fit == Fit::OtherTerm
}

/// The first of the site's products that is for this dose and this device.
fn product<'a>(translation: &Translation<'a>, row: &Row<'a>) -> Option<&'a Medication> {
    let products = &translation.settings.insulin_products;
    if products.is_empty() {
        return None;
    }
    let number = row.term.code.map(|code| code.to_string());
    let refid = row.term.term.map(|term| &*term.refid);
    let dose: Vec<&str> = number.as_deref().into_iter().chain(refid).collect();
    let devices = translation.settings.identification.device_keys(translation.message);
    let fits = |product: &&InsulinProduct| {
        product.is_for(&dose) && product.device.as_ref().is_none_or(|device| devices.contains(device))
    };
    products.iter().find(fits).map(|product| &product.medication)
}
