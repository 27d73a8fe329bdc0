//! What a row measured, apart from who, when and with what: code, category, value, and how far it can be trusted.

use super::{
    Category, Origin, Output, Semantics, Trace, TranslateError, Translation, concept, outcome, refuse,
    time::Effective,
    unit::{self, Unit},
    value::{Content, Reading},
};
use crate::{
    fhir::{Attachment, CodeableConcept, Coding, Quantity, ReferenceRange, Text, Value, systems},
    pcd::{Loinc, Place, Row},
};

/// What a row measured.
pub(super) struct Measured<'a> {
    pub(super) code: CodeableConcept<'a>,
    pub(super) category: Categories<'a>,
    pub(super) value: Option<Value<'a>>,
    pub(super) several: Vec<Value<'a>>,
    pub(super) attachments: Vec<Attachment<'a>>,
    /// Not a number, or an infinity.
    pub(super) exceptional: Option<&'static str>,
    pub(super) outcome: outcome::Outcome<'a>,
    pub(super) limits: Vec<ReferenceRange<'a>>,
    /// OBX-6 as a concept, where a DeviceMetric wants it.
    pub(super) unit: Option<CodeableConcept<'a>>,
    /// The unit before it was changed.
    pub(super) converted_from: Option<&'a str>,
    unit_by_table: bool,
    has_unit: bool,
}

/// What an observation is filed under, and who said so.
pub(super) struct Categories<'a> {
    codings: Vec<Coding<'a>>,
    origin: CategoryOrigin,
}

#[derive(Clone, Copy)]
enum CategoryOrigin {
    Table,
    Method,
    Configuration,
    Constant,
}

/// A setting, a calculation, or a measurement (OBX-17, TF-2 B.8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Setting,
    Calculation,
    Measurement,
    Unspecified,
}

/// Reads OBX-17. A device that says nothing measures (AMEAS is the default).
pub(super) fn method_of(row: &Row<'_>) -> Method {
    match row.obx.field(17).component(1).raw() {
        b"ASET" | b"MSET" | b"RSET" => Method::Setting,
        b"ACALC" | b"MCALC" => Method::Calculation,
        b"AMEAS" | b"MMEAS" | b"" => Method::Measurement,
        _ => Method::Unspecified,
    }
}

pub(super) fn measure<'a>(
    translation: &Translation<'a>,
    row: &'a Row<'a>,
    effective: &Effective,
    output: &mut Output<'a>,
) -> Result<Measured<'a>, TranslateError> {
    let mut unit: Unit<'a> = unit::of(translation, row, output)?;
    let loinc = loinc_of(translation, row, &unit);
    unit.spelled_as(&loinc);
    let outcome = outcome::flags(translation, row, output);
    let reading = Reading { translation, row, unit: &unit, effective, comparator: outcome.comparator };
    let content = if outcome.withheld { Content::Empty } else { reading.content()? };
    let limits = reading.limits();
    let code = concept::code(translation, row, &loinc, &unit, output);
    if code.is_empty() {
        return Err(refuse(row.place_of(3), "is empty; ask the sender to name what was observed"));
    }
    let category = categories(translation, row, &loinc, &code);
    let as_concept = || unit::concept(translation, row, &unit);
    let mut measured = Measured {
        category,
        unit: translation.wants_metrics().then(as_concept).flatten(),
        converted_from: unit.conversion.map(|conversion| conversion.from()),
        unit_by_table: unit.by_table,
        has_unit: unit.words.is_some(),
        ..Measured::empty(code, outcome, limits)
    };
    match content {
        Content::Empty => {}
        Content::One(value) => measured.value = Some(value),
        Content::Several(values) => measured.several = values,
        Content::Attachments(found) => measured.attachments = found,
        Content::Exceptional(reason) => measured.exceptional = Some(reason),
    }
    Ok(measured)
}

/// The rows of the table for this code and unit. A setting is nothing that was observed of the patient, so that it has none:
/// a ventilator's set rate is no respiratory rate.
fn loinc_of<'a>(translation: &Translation<'a>, row: &Row<'a>, unit: &Unit<'a>) -> Vec<&'a Loinc> {
    let observed = method_of(row) != Method::Setting;
    let code = row.term.code.filter(|_| observed);
    code.map(|code| translation.settings.nomenclature.loinc(code, unit.ucum.as_deref()).collect()).unwrap_or_default()
}

impl<'a> Measured<'a> {
    pub(super) fn empty(
        code: CodeableConcept<'a>,
        outcome: outcome::Outcome<'a>,
        limits: Vec<ReferenceRange<'a>>,
    ) -> Measured<'a> {
        Measured {
            code,
            category: Categories { codings: Vec::new(), origin: CategoryOrigin::Constant },
            value: None,
            several: Vec::new(),
            attachments: Vec::new(),
            exceptional: None,
            outcome,
            limits,
            unit: None,
            converted_from: None,
            unit_by_table: false,
            has_unit: false,
        }
    }

    pub(super) fn has_value(&self) -> bool {
        self.value.is_some() || !self.several.is_empty() || !self.attachments.is_empty()
    }

    /// What OBX-8 says of how reliable it is.
    pub(super) fn security(&mut self, row: &Row<'_>) -> impl Iterator<Item = (Coding<'static>, Place)> + use<> {
        let place = row.place_of(8);
        std::mem::take(&mut self.outcome.security).into_iter().map(move |coding| (coding, place))
    }

    /// Why there is no value; settles the interpretation too.
    pub(super) fn absent(
        &mut self,
        row: &Row<'_>,
        has_value: bool,
        prefix: &str,
        trace: &mut Trace,
    ) -> Option<CodeableConcept<'static>> {
        let settled = self.outcome.settle(has_value || self.exceptional.is_some());
        let (reason, origin) = match self.exceptional {
            Some(exceptional) => (Some(outcome::reason(exceptional)), row.place_of(5).into()),
            None => (settled, self.outcome.absent_origin(row)),
        };
        if reason.is_some() {
            trace.note(format_args!("{prefix}dataAbsentReason"), origin);
        }
        reason
    }

    /// The numbers of one quantity, for a dose.
    pub(super) fn quantity(&self) -> Option<&Quantity<'a>> {
        match &self.value {
            Some(Value::Quantity(quantity)) => Some(quantity),
            _ => None,
        }
    }

    pub(super) fn note_origins(&self, row: &Row<'_>, prefix: &str, trace: &mut Trace) {
        if !trace.is_wanted() {
            return;
        }
        trace.note(format_args!("{prefix}code"), row.place_of(3));
        for (i, coding) in self.code.coding.iter().enumerate() {
            let sent = row.code.triplets().any(|triplet| concept::names_loinc(triplet.system));
            if coding.system.as_deref() == Some(systems::LOINC) && !sent {
                trace.note(format_args!("{prefix}code.coding[{i}]"), Origin::By(row.place_of(3), "mdc-loinc.csv"));
            }
        }
        if let Some(value) = &self.value {
            self.note_value(value, row, prefix, trace);
        }
        if !self.outcome.interpretation.is_empty() && !row.obx.raw(8).is_empty() {
            trace.note(format_args!("{prefix}interpretation"), row.place_of(8));
        }
        for (i, range) in self.limits.iter().enumerate() {
            trace.note(format_args!("{prefix}referenceRange[{i}]"), row.place_of(7));
            if range.kind.is_some() {
                trace.note(format_args!("{prefix}referenceRange[{i}].type"), Origin::Constant);
            }
        }
    }

    fn note_value(&self, value: &Value<'a>, row: &Row<'_>, prefix: &str, trace: &mut Trace) {
        let element = value.element();
        let value_origin = match self.converted_from {
            Some(_) => Origin::By(row.place_of(5), "convert"),
            None => row.place_of(5).into(),
        };
        trace.note(format_args!("{prefix}{element}"), value_origin);
        let Value::Quantity(quantity) = value else { return };
        if quantity.comparator.is_some() && self.outcome.comparator == quantity.comparator {
            trace.note(format_args!("{prefix}valueQuantity.comparator"), row.place_of(8));
        }
        if !self.has_unit || row.obx.raw(6).is_empty() {
            return;
        }
        let unit_origin = match (self.converted_from, self.unit_by_table) {
            (Some(_), _) => Origin::By(row.place_of(6), "convert"),
            (None, true) => Origin::By(row.place_of(6), "mdc-units.csv"),
            (None, false) => row.place_of(6).into(),
        };
        trace.note(format_args!("{prefix}valueQuantity.unit"), unit_origin);
        if quantity.code.is_some() {
            trace.note(format_args!("{prefix}valueQuantity.system"), Origin::Constant);
            trace.note(format_args!("{prefix}valueQuantity.code"), unit_origin);
        }
    }
}

impl<'a> Categories<'a> {
    pub(super) fn of(code: &'a str) -> Categories<'a> {
        Categories { codings: vec![standard(code)], origin: CategoryOrigin::Constant }
    }

    pub(super) fn write(self, row: &Row<'_>, into: &mut Vec<CodeableConcept<'a>>, trace: &mut Trace) {
        for coding in self.codings {
            let origin = match self.origin {
                CategoryOrigin::Table => Origin::By(row.place_of(3), "mdc-loinc.csv"),
                CategoryOrigin::Method => row.place_of(17).into(),
                CategoryOrigin::Configuration => Origin::Configuration("categories"),
                CategoryOrigin::Constant => Origin::Constant,
            };
            trace.note(format_args!("category[{}]", into.len()), origin);
            into.push(coding.into());
        }
        // OBX-29: what kind of result it is (table 0936).
        let kind = row.obx.raw(29);
        if !kind.is_empty() && kind.iter().all(u8::is_ascii_alphanumeric) {
            trace.note(format_args!("category[{}]", into.len()), row.place_of(29));
            let code = Some(Text::Owned(String::from_utf8_lossy(kind).into_owned()));
            into.push(Coding { system: Some(systems::OBSERVATION_TYPE.into()), code, display: None }.into());
        }
    }
}

/// By the site's own word for the code, else for its class; else what the table says, else what suits the class.
pub(super) fn categories<'a>(
    translation: &Translation<'a>,
    row: &Row<'a>,
    loinc: &[&'a Loinc],
    code: &CodeableConcept<'a>,
) -> Categories<'a> {
    let method = method_of(row);
    let is_device = translation.is_device_row(row);
    let own = |name: &str| translation.settings.categories.get(name);
    let configured = |found: &'a Vec<Category>| Categories {
        codings: found.iter().map(coding).collect(),
        origin: CategoryOrigin::Configuration,
    };
    if !translation.settings.categories.is_empty() {
        let number = row.term.code.map(|code| code.to_string());
        let refid = row.term.term.map(|term| &*term.refid);
        let codes = code.coding.iter().filter_map(|coding| coding.code.as_deref());
        if let Some(found) = codes.chain(number.as_deref()).chain(refid).find_map(own) {
            return configured(found);
        }
        let class = match method {
            Method::Setting => own("setting"),
            Method::Calculation => own("calculation"),
            _ => None,
        };
        if let Some(found) = class {
            return configured(found);
        }
    }
    if method == Method::Setting && is_device {
        return Categories { codings: vec![standard("procedure")], origin: CategoryOrigin::Method };
    }
    if let Some(category) = loinc.first().map(|row| &*row.category).filter(|category| !category.is_empty()) {
        return Categories { codings: vec![standard(category)], origin: CategoryOrigin::Table };
    }
    let measurement = own("measurement").filter(|_| is_device).or_else(|| own("default"));
    if let Some(found) = measurement {
        return configured(found);
    }
    match translation.settings.semantics {
        Semantics::Results => Categories::of("laboratory"),
        Semantics::Device if is_device => Categories::of("procedure"),
        Semantics::Device => Categories { codings: Vec::new(), origin: CategoryOrigin::Constant },
    }
}

fn standard(code: &str) -> Coding<'_> {
    Coding { system: Some(systems::OBSERVATION_CATEGORY.into()), code: Some(code.into()), display: None }
}

fn coding(category: &Category) -> Coding<'_> {
    Coding { system: Some((&*category.system).into()), code: Some((&*category.code).into()), display: None }
}
