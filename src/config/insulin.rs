//! `[[destination.fhir.insulin_product]]`: the insulin of some doses, or of one pump.
//!
//! What must never happen: a row that names the insulin of a dose and is never used, so that the dose is told as another's.

use super::{fhir_mapping::medication, reader::Reader, source::Problem, value};
use crate::{
    pcd::{self, Nomenclature},
    translate::{INSULIN_DOSES, InsulinProduct},
};

/// The rows, in their order. One that has no use is a fault.
pub(super) fn products(tables: &[Reader<'_>], nomenclature: Option<&Nomenclature>) -> Option<Vec<InsulinProduct>> {
    let mut products: Vec<InsulinProduct> = Vec::new();
    let mut whole = true;
    for table in tables {
        match product(table, nomenclature) {
            Some(product) => {
                if let Some(problem) = useless(&products, &product) {
                    table.problem(if product.codes.is_empty() { "device" } else { "doses" }, problem);
                    whole = false;
                }
                products.push(product);
            }
            None => whole = false,
        }
    }
    whole.then_some(products)
}

fn product(table: &Reader<'_>, nomenclature: Option<&Nomenclature>) -> Option<InsulinProduct> {
    let codes = table.texts("doses", |text| dose(text, nomenclature));
    let device = match table.has("device") {
        // Written as devices are named elsewhere, whatever stands between its digits.
        true => table
            .text("device", value::trimmed)
            .map(|device| Some(pcd::eui64(&device).unwrap_or_else(|| device.to_string()))),
        false => Some(None),
    };
    let medication = medication(table);
    let (codes, device, medication) = (codes?, device?, medication?);
    if codes.is_empty() && device.is_none() {
        let problem = Problem::new("it is for no dose and no device", "name one of them, or write insulin_medication");
        table.problem("doses", problem);
        return None;
    }
    Some(InsulinProduct { codes, device, medication })
}

/// The identifier of a dose of insulin, by that or by its number.
fn dose(text: &str, nomenclature: Option<&Nomenclature>) -> Result<String, Problem> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let refid = match (number, nomenclature) {
        (true, Some(tables)) => tables.resolve(text, "").term.map(|term| &*term.refid),
        // The tables do not read, which is told of them.
        (true, None) => return Ok(text.to_owned()),
        (false, _) => Some(text),
    };
    let known = refid.filter(|refid| INSULIN_DOSES.contains(refid)).map(str::to_owned);
    known.ok_or_else(|| {
        let remedy = format!("write one of {}, or its MDC number", INSULIN_DOSES.join(", "));
        Problem::new(format!("{text:?} is no code of a dose"), remedy)
    })
}

/// Why a row changes nothing, or less than it says, after those before it.
fn useless(before: &[InsulinProduct], product: &InsulinProduct) -> Option<Problem> {
    let here = |other: &&InsulinProduct| other.device.is_none() || other.device == product.device;
    let taken = |dose: &str| before.iter().filter(here).any(|other| other.is_for(&[dose]));
    let twice = product.codes.iter().enumerate().find(|(at, code)| product.codes[..*at].contains(code));
    if let Some((_, dose)) = twice {
        return Some(Problem::new(format!("{dose} is named twice"), "write it once"));
    }
    let dose = match product.codes.as_slice() {
        [] => {
            INSULIN_DOSES.iter().filter(|dose| product.is_for(&[dose])).all(|dose| taken(dose)).then_some("every bolus")
        }
        doses => doses.iter().find(|dose| taken(dose)).map(String::as_str),
    }?;
    let what = format!("{dose} has its insulin by a row before this one, which is never asked");
    Some(Problem::new(what, "remove it from one of them, or write the row of one device before that of every one"))
}
