//! A CGM summary as FHIR R4, by the profiles of HL7/cgm 1.0.0: one Observation a figure, and one that has them as members;
//! and as the HL7 v2 message in which the engine keeps one it made by a schedule.
//!
//! What must never happen: a figure without value, which the profiles forbid, or two summaries of one channel, patient and period:
//! computed anew, as after late readings, it takes the place of the one before.

mod figures;
mod message;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    fhir::{
        Bundle, Coding, Component, Entry, Identifier, Meta, Observation, Period, Reference, Request, Resource,
        fingerprint, systems, token_query, urn_uuid,
    },
    pcd::cgm::CgmSummary,
};

pub(super) use figures::{Figure, RANGES, SUMMARY, Values};
pub use message::{SummaryHead, is_cgm_summary, summary_message};

/// The patient by identifier: system and value.
pub type PatientIdentifier<'a> = (&'a str, &'a str);

/// A transaction of the summary's Observations; `None` where there are too few readings for one of its figures. `channel` is
/// the one whose readings it is of, empty where it is of all.
pub fn cgm_summary(
    summary: &CgmSummary,
    channel: &str,
    patient: PatientIdentifier<'_>,
    at: Timestamp,
) -> Option<Bytes> {
    let values = Values::of(summary)?;
    let writer = Writer {
        values: &values,
        channel,
        patient,
        subject: format!("Patient?{}", token_query("identifier", patient.0, patient.1)),
        period: (summary.from, summary.to),
        meta: Meta { source: systems::OWN_SUMMARY.into(), ..Meta::default() },
    };
    let entries = writer.observations().into_iter().map(|(_, observation)| entry(observation)).collect();
    let bundle = Bundle::transaction(None, Some(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()), entries);
    serde_json::to_vec(&bundle).ok().map(Bytes::from)
}

fn entry(observation: Observation<'_>) -> Entry<'_> {
    let name = observation.identifier[0].value.to_string();
    Entry {
        full_url: urn_uuid(["Observation", systems::OWN_OBSERVATION, &name]),
        resource: Resource::Observation(Box::new(observation)),
        request: Request::replace("Observation", &token_query("identifier", systems::OWN_OBSERVATION, &name)),
    }
}

/// What the Observations of one summary are made of.
pub(super) struct Writer<'w, 'a> {
    pub values: &'w Values,
    /// Whose readings it is of; empty: of every channel.
    pub channel: &'w str,
    pub patient: PatientIdentifier<'w>,
    /// Reference to the patient.
    pub subject: String,
    pub period: (Timestamp, Timestamp),
    /// Of each Observation.
    pub meta: Meta<'a>,
}

impl<'a> Writer<'_, 'a> {
    /// The summary, then its members, each with the figure it is of.
    pub fn observations(&self) -> Vec<(&'static Figure, Observation<'a>)> {
        let single = self.values.single().map(|(figure, value)| {
            (figure, Observation { value: Some(figure.quantity(value)), ..self.observation(figure) })
        });
        let mut all: Vec<_> = single.collect();
        all.push((&RANGES, self.ranges()));
        let url = |observation: &Observation<'_>| {
            urn_uuid(["Observation", systems::OWN_OBSERVATION, &observation.identifier[0].value])
        };
        let has_member = all.iter().map(|(_, member)| Reference::to(url(member))).collect();
        all.insert(0, (&SUMMARY, Observation { has_member, ..self.observation(&SUMMARY) }));
        all
    }

    fn ranges(&self) -> Observation<'a> {
        let component = self.values.ranges().map(|(figure, value)| Component {
            code: figure.code(),
            value: Some(figure.quantity(value)),
            ..Component::default()
        });
        Observation { component: component.collect(), ..self.observation(&RANGES) }
    }

    fn observation(&self, figure: &Figure) -> Observation<'a> {
        let laboratory = Coding::of(systems::OBSERVATION_CATEGORY, "laboratory");
        Observation {
            resource_type: "Observation",
            meta: self.meta.clone(),
            identifier: vec![Identifier {
                kind: None,
                system: Some(systems::OWN_OBSERVATION.into()),
                value: self.identifier(figure).into(),
            }],
            status: "final",
            category: vec![laboratory.into()],
            code: figure.code(),
            subject: Some(Reference::to(self.subject.clone())),
            effective_period: Some(Period {
                start: Some(self.period.0.to_string()),
                end: Some(self.period.1.to_string()),
            }),
            ..Observation::default()
        }
    }

    /// Of channel, patient, period and figure: not of its value, so that a better one takes its place. Nor of the unit of the mean.
    fn identifier(&self, figure: &Figure) -> String {
        let (system, value) = self.patient;
        let (from, to) = (self.period.0.to_string(), self.period.1.to_string());
        fingerprint(["cgm summary", self.channel, system, value, &from, &to, figure.text])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jiff::SignedDuration;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::pcd::cgm::{Glucose, GlucoseUnit, Reading};

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
        let body = cgm_summary(&summary(values, unit), "cgm", ("urn:oid:2.999", "4711"), at)?;
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
