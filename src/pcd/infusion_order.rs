//! An order sent to an infusion pump (PCD-03, IHE PCD TF-2 3.3: RGV^O15), and the answers to it and to others.
//!
//! What must never happen: a dose or rate is told other than sent. Numbers are texts here, and each has the unit that
//! stands beside it or none.

use serde::Serialize;

use super::{
    Role,
    event::{EntityId, Moment, Named, Quantity, Reading},
    report::Nth,
};
use crate::hl7::Segment;

/// One step of an order; most have one.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct InfusionStep {
    /// RXG-4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drug: Option<Named>,
    /// RXG-5 and -7: how much to give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Quantity>,
    /// RXG-15 and -16: how fast, as a flow or a dose rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Quantity>,
    /// RXG-17 and -18: how much drug …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dose: Option<Quantity>,
    /// RXG-23 and -24: … is in how much fluid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dose_in: Option<Quantity>,
    /// RXR-1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Named>,
    /// RXR-4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Named>,
    /// RXR-3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub through: Option<Named>,
    /// TQ1-7.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Moment>,
    /// TQ1-6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}

/// Something else the order sets, such as the patient's weight.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct OrderParameter {
    /// OBX-3.
    pub what: Named,
    /// OBX-5 and -6.
    pub value: Quantity,
}

/// An infusion order.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct InfusionOrder {
    /// ORC-1: `RE` asks to program, `XO` to change …
    pub control: String,
    /// ORC-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placer: Option<EntityId>,
    /// ORC-3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filler: Option<EntityId>,
    /// ORC-9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
    /// OBX-18 of the pump the order is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pump: Option<String>,
    /// In the order sent.
    pub steps: Vec<InfusionStep>,
    /// In the order sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<OrderParameter>,
}

impl InfusionOrder {
    /// The order of a message; none where there is no RXG.
    pub(super) fn read(reading: Reading<'_, '_>) -> Option<InfusionOrder> {
        let message = reading.message();
        message.segment("RXG")?;
        let orc = message.segment("ORC").map(|segment| Nth { segment, nth: 1 });
        let id = |field| orc.and_then(|orc| EntityId::read(message, orc.field(field).first()));
        let rows = reading.report.rows.iter();
        let pump = rows.clone().find_map(|row| pump(reading, row.obx));
        let settings = rows.filter(|row| !matches!(row.role, Role::Device(_)));
        let parameters =
            settings.filter_map(|row| Some(OrderParameter { what: reading.what(row), value: reading.quantity(row)? }));
        Some(InfusionOrder {
            control: orc.map(|orc| reading.text(orc.raw(1))).unwrap_or_default(),
            placer: id(2),
            filler: id(3),
            at: orc.and_then(|orc| reading.moment(orc, 9)),
            pump,
            steps: steps(reading),
            parameters: parameters.collect(),
        })
    }
}

/// OBX-18: senders fill any part of it, so the first that is filled and is no type.
fn pump(reading: Reading<'_, '_>, obx: Nth<'_>) -> Option<String> {
    let parts = obx.field(18).first().components().map(|part| reading.text(part.raw()));
    let own = |part: &String| !part.is_empty() && !matches!(part.as_str(), "EUI-64" | "ISO" | "DNS" | "URI" | "UUID");
    parts.into_iter().find(own)
}

/// RXG opens a step, TQ1 and RXR belong to the last one opened.
fn steps(reading: Reading<'_, '_>) -> Vec<InfusionStep> {
    let mut steps: Vec<InfusionStep> = Vec::new();
    let mut timings = 0;
    for segment in reading.message().segments() {
        match (segment.id(), steps.last_mut()) {
            ("RXG", _) => steps.push(given(reading, segment)),
            ("RXR", Some(step)) => {
                let part = |n| reading.named(segment.field(n));
                (step.route, step.through, step.method) = (part(1), part(3), part(4));
            }
            ("TQ1", step) => {
                timings += 1;
                let Some(step) = step else { continue };
                step.start = reading.moment(Nth { segment, nth: timings }, 7);
                step.duration = Some(reading.text(segment.field(6).raw())).filter(|text| !text.is_empty());
            }
            _ => {}
        }
    }
    steps
}

fn given(reading: Reading<'_, '_>, rxg: Segment<'_>) -> InfusionStep {
    let quantity = |value: usize, unit: usize| {
        let value = reading.text(rxg.field(value).component(1).raw());
        (!value.is_empty()).then(|| Quantity {
            value,
            unit: reading.unit(rxg.field(unit)),
            status: None,
            is_sure: true,
        })
    };
    InfusionStep {
        drug: reading.named(rxg.field(4)),
        volume: quantity(5, 7),
        rate: quantity(15, 16),
        dose: quantity(17, 18),
        dose_in: quantity(23, 24),
        ..InfusionStep::default()
    }
}

/// An error an answer tells of.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct AnswerError {
    /// ERR-3, the standard's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Named>,
    /// ERR-5, the application's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application: Option<Named>,
    /// ERR-7 or ERR-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// An acknowledgement of any kind, or what became of an alert (PCD-05).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Reply {
    /// MSA-1.
    pub code: String,
    /// MSA-2: the control id of the message answered.
    pub answers: String,
    /// MSA-3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// ERR.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<AnswerError>,
    /// Of PCD-05: the alert it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<EntityId>,
    /// Of PCD-05: what became of it, OBX by OBX.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<OrderParameter>,
    /// Of PCD-05: whom PRT names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

impl Reply {
    /// The answer a message gives; none where it has neither MSA nor an alert to speak of.
    pub(super) fn read(reading: Reading<'_, '_>) -> Option<Reply> {
        let message = reading.message();
        let msa = message.segment("MSA");
        let part = |n| msa.map(|msa| reading.text(msa.field(n).raw())).unwrap_or_default();
        let obr = message.segment("OBR");
        msa.or(obr)?;
        let id = |obr: Segment<'_>| {
            let filler = obr.field(29).component(2).subcomponents();
            let parent = EntityId::of(message, filler);
            if parent.is_empty() { EntityId::read(message, obr.field(3).first()) } else { Some(parent) }
        };
        let statuses = reading
            .report
            .rows
            .iter()
            .filter_map(|row| Some(OrderParameter { what: reading.what(row), value: reading.quantity(row)? }));
        let recipients = message.segments().filter(|segment| segment.id() == "PRT");
        Some(Reply {
            code: part(1),
            answers: part(2),
            text: Some(part(3)).filter(|text| !text.is_empty()),
            errors: message.segments().filter(|one| one.id() == "ERR").map(|err| error(reading, err)).collect(),
            alert: obr.and_then(id),
            statuses: statuses.collect(),
            recipients: recipients.filter_map(|prt| recipient(reading, prt)).collect(),
        })
    }
}

fn error(reading: Reading<'_, '_>, err: Segment<'_>) -> AnswerError {
    let texts = [7, 8].map(|n| reading.text(err.field(n).raw()));
    AnswerError {
        code: reading.named(err.field(3)),
        application: reading.named(err.field(5)),
        text: texts.into_iter().find(|text| !text.is_empty()),
    }
}

/// PRT-5, a person, else PRT-15, an address such as that of a telephone.
fn recipient(reading: Reading<'_, '_>, prt: Segment<'_>) -> Option<String> {
    let person = prt.field(5).first();
    let name = [3, 2, 1].map(|n| reading.text(person.component(n).raw()));
    let name = name.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let address = prt.field(15).first().components().map(|part| reading.text(part.raw())).find(|part| !part.is_empty());
    Some(name).filter(|name| !name.is_empty()).or(address)
}
