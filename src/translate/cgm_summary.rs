//! A CGM summary as FHIR R4, by the profiles of HL7/cgm 1.0.0: one Observation a figure, and one that has them as members.
//!
//! What must never happen: a figure without value, which the profiles forbid, or two summaries of one patient and period:
//! computed anew, as after late readings, it takes the place of the one before.

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    fhir::{
        Bundle, CodeableConcept, Coding, Component, Decimal, Entry, Identifier, Meta, Observation, Period, Quantity,
        Reference, Request, Resource, Value, fingerprint, systems, token_query, urn_uuid,
    },
    pcd::cgm::{CgmSummary, GlucoseUnit, RangeShares},
};

/// The patient by identifier: system and value.
pub type PatientIdentifier<'a> = (&'a str, &'a str);

/// A transaction of the summary's Observations; `None` where there are too few readings for one of its figures.
pub fn cgm_summary(summary: &CgmSummary, patient: PatientIdentifier<'_>, at: Timestamp) -> Option<Bytes> {
    let writer = Writer { summary, patient };
    let mut entries = vec![
        writer.mean()?,
        writer.figure(&GMI, summary.gmi_percent?),
        writer.figure(&CV, summary.cv_percent?),
        writer.figure(&DAYS, summary.days_worn as f64),
        writer.figure(&ACTIVE, summary.sensor_active_percent),
        writer.ranges(&summary.ranges?),
    ];
    let members = entries.iter().map(|entry| Reference::to(entry.full_url.clone())).collect();
    let whole = Observation { has_member: members, ..writer.observation(&SUMMARY) };
    entries.insert(0, writer.entry(&SUMMARY, whole));
    let bundle = Bundle::transaction(None, Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()), entries);
    serde_json::to_vec(&bundle).ok().map(Bytes::from)
}

/// What a figure is, and how it is written.
struct Figure {
    loinc: &'static str,
    text: &'static str,
    /// The guide's words for a unit, and its UCUM.
    unit: (&'static str, &'static str),
    decimals: usize,
}

const fn figure(
    loinc: &'static str,
    text: &'static str,
    unit: (&'static str, &'static str),
    decimals: usize,
) -> Figure {
    Figure { loinc, text, unit, decimals }
}

const PERCENT: (&str, &str) = ("%", "%");
const SUMMARY: Figure = figure("107931-8", "CGM summary", ("", ""), 0);
const MEAN_MASS: Figure = figure("97507-8", "Mean glucose", ("mg/dl", "mg/dL"), 1);
const MEAN_MOLAR: Figure = figure("105273-7", "Mean glucose", ("mmol/l", "mmol/L"), 2);
const GMI: Figure = figure("97506-0", "Glucose management indicator", PERCENT, 2);
const CV: Figure = figure("104638-2", "Coefficient of variation of glucose", PERCENT, 2);
const DAYS: Figure = figure("104636-6", "Days of wear", ("days", "d"), 0);
const ACTIVE: Figure = figure("104637-4", "Sensor active", PERCENT, 2);
const RANGES: Figure = figure("106793-3", "Times in ranges", ("", ""), 0);
/// The guide asks for two decimals at least.
const VERY_LOW: Figure = figure("104642-4", "Time very low (below 54 mg/dL, 3.0 mmol/L)", PERCENT, 2);
const LOW: Figure = figure("104641-6", "Time low (54 to 69 mg/dL, 3.0 to 3.8 mmol/L)", PERCENT, 2);
const IN_RANGE: Figure = figure("97510-2", "Time in range (70 to 180 mg/dL, 3.9 to 10.0 mmol/L)", PERCENT, 2);
const HIGH: Figure = figure("104640-8", "Time high (181 to 250 mg/dL, 10.1 to 13.9 mmol/L)", PERCENT, 2);
const VERY_HIGH: Figure = figure("104639-0", "Time very high (above 250 mg/dL, 13.9 mmol/L)", PERCENT, 2);

impl Figure {
    fn code(&self) -> CodeableConcept<'static> {
        CodeableConcept { coding: vec![Coding::of(systems::LOINC, self.loinc)], text: Some(self.text.into()) }
    }

    fn value(&self, value: f64) -> Option<Value<'static>> {
        let value = Decimal::parse(&format!("{value:.*}", self.decimals));
        let (unit, code) = (Some(self.unit.0.into()), Some(self.unit.1.into()));
        Some(Value::Quantity(Quantity { value, comparator: None, unit, system: Some(systems::UCUM), code }))
    }
}

struct Writer<'a> {
    summary: &'a CgmSummary,
    patient: PatientIdentifier<'a>,
}

impl<'a> Writer<'a> {
    fn mean(&self) -> Option<Entry<'a>> {
        let mean = self.summary.mean_in_unit()?;
        Some(match self.summary.unit {
            GlucoseUnit::MgPerDl => self.figure(&MEAN_MASS, mean),
            GlucoseUnit::MmolPerL => self.figure(&MEAN_MOLAR, mean),
        })
    }

    fn figure(&self, figure: &Figure, value: f64) -> Entry<'a> {
        let observation = Observation { value: figure.value(value), ..self.observation(figure) };
        self.entry(figure, observation)
    }

    fn ranges(&self, shares: &RangeShares) -> Entry<'a> {
        let parts = [
            (&VERY_LOW, shares.very_low),
            (&LOW, shares.low),
            (&IN_RANGE, shares.in_range),
            (&HIGH, shares.high),
            (&VERY_HIGH, shares.very_high),
        ];
        let component = |(figure, share): (&Figure, f64)| Component {
            code: figure.code(),
            value: figure.value(share),
            ..Component::default()
        };
        let component = parts.into_iter().map(component).collect();
        self.entry(&RANGES, Observation { component, ..self.observation(&RANGES) })
    }

    fn observation(&self, figure: &Figure) -> Observation<'a> {
        let (system, value) = self.patient;
        let laboratory = Coding::of(systems::OBSERVATION_CATEGORY, "laboratory");
        Observation {
            resource_type: "Observation",
            meta: Meta { source: systems::OWN_SUMMARY.into(), ..Meta::default() },
            identifier: vec![Identifier {
                kind: None,
                system: Some(systems::OWN_OBSERVATION.into()),
                value: self.identifier(figure).into(),
            }],
            status: "final",
            category: vec![laboratory.into()],
            code: figure.code(),
            subject: Some(Reference::to(format!("Patient?{}", token_query("identifier", system, value)))),
            effective_period: Some(Period {
                start: Some(self.summary.from.to_string()),
                end: Some(self.summary.to.to_string()),
            }),
            ..Observation::default()
        }
    }

    /// Of patient, period and figure: not of its value, so that a better one takes its place. Nor of the unit of the mean.
    fn identifier(&self, figure: &Figure) -> String {
        let (system, value) = self.patient;
        let (from, to) = (self.summary.from.to_string(), self.summary.to.to_string());
        fingerprint(["cgm summary", system, value, &from, &to, figure.text])
    }

    fn entry(&self, figure: &Figure, observation: Observation<'a>) -> Entry<'a> {
        let name = self.identifier(figure);
        let query = token_query("identifier", systems::OWN_OBSERVATION, &name);
        Entry {
            full_url: urn_uuid(["Observation", systems::OWN_OBSERVATION, &name]),
            resource: Resource::Observation(Box::new(observation)),
            request: Request::replace("Observation", &query),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::SignedDuration;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::pcd::cgm::{Glucose, Reading};

    fn summary(values: &[f64], unit: GlucoseUnit) -> CgmSummary {
        let from: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let reading = |(n, value): (usize, &f64)| Reading {
            at: from + SignedDuration::from_mins(5 * n as i64),
            device: "A".into(),
            glucose: Some(Glucose { value: *value, unit, bound: None }),
        };
        let readings = values.iter().enumerate().map(reading).collect();
        CgmSummary::of(readings, (from, from + SignedDuration::from_hours(24)), None)
    }

    fn written(values: &[f64], unit: GlucoseUnit) -> Option<Json> {
        let at = "2026-03-02T08:00:00.5Z".parse().unwrap();
        let body = cgm_summary(&summary(values, unit), ("urn:oid:2.999", "4711"), at)?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    fn of<'j>(bundle: &'j Json, loinc: &str) -> &'j Json {
        let entries = bundle["entry"].as_array().unwrap();
        let found = entries.iter().find(|entry| entry["resource"]["code"]["coding"][0]["code"] == loinc);
        &found.unwrap()["resource"]
    }

    #[test]
    fn the_summary_has_the_six_members_its_profile_asks_for_and_five_ranges() {
        let bundle = written(&[100.0, 145.0, 190.0], GlucoseUnit::MgPerDl).unwrap();
        let members: Vec<&Json> = of(&bundle, "107931-8")["hasMember"].as_array().unwrap().iter().collect();
        let urls: Vec<Json> = bundle["entry"].as_array().unwrap()[1..].iter().map(|e| e["fullUrl"].clone()).collect();
        assert_eq!(members.iter().map(|member| member["reference"].clone()).collect::<Vec<_>>(), urls);
        assert_eq!(urls.len(), 6);
        let value = |loinc| of(&bundle, loinc)["valueQuantity"].clone();
        let quantity = |value: Json, unit, code| json!({ "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": code });
        let exact = |text: &str| serde_json::from_str::<Json>(text).unwrap();
        assert_eq!(value("97507-8"), quantity(exact("145.0"), "mg/dl", "mg/dL"));
        // 3.31 + 0.02392 × 145, which the guide's example rounds to 6.8.
        assert_eq!(value("97506-0"), quantity(exact("6.78"), "%", "%"));
        assert_eq!(value("104638-2"), quantity(exact("31.03"), "%", "%"));
        assert_eq!(value("104636-6"), quantity(exact("1"), "days", "d"));
        assert_eq!(value("104637-4"), quantity(exact("1.04"), "%", "%"));
        let parts = of(&bundle, "106793-3")["component"].as_array().unwrap();
        let shares: Vec<String> = parts.iter().map(|part| part["valueQuantity"]["value"].to_string()).collect();
        assert_eq!(shares, ["0.00", "0.00", "66.67", "33.33", "0.00"]);
    }

    #[test]
    fn computed_anew_it_takes_the_place_of_the_one_before() {
        let urls = |values: &[f64]| {
            let bundle = written(values, GlucoseUnit::MgPerDl).unwrap();
            bundle["entry"].as_array().unwrap().iter().map(|e| e["request"].to_string()).collect::<Vec<_>>()
        };
        let first = urls(&[100.0, 120.0]);
        assert_eq!(first, urls(&[100.0, 120.0, 300.0]));
        assert!(first.iter().all(|request| request.contains("PUT")), "{first:?}");
    }

    #[test]
    fn sensors_in_mmol_have_their_mean_by_the_code_of_that_unit() {
        let bundle = written(&[8.0, 8.2], GlucoseUnit::MmolPerL).unwrap();
        assert_eq!(of(&bundle, "105273-7")["valueQuantity"]["value"].to_string(), "8.10");
        assert_eq!(of(&bundle, "97506-0")["valueQuantity"]["value"].to_string(), "6.80");
    }

    #[test]
    fn nothing_is_written_of_too_few_readings_for_each_figure() {
        assert_eq!(written(&[], GlucoseUnit::MgPerDl), None);
        assert_eq!(written(&[100.0], GlucoseUnit::MgPerDl), None);
    }
}
