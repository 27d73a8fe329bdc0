//! `POST /api/cgm-summary`: a patient's continuous glucose over a period, computed from the readings that are kept.
//!
//! The patient is asked for in the body, never in a URL, and each asking is audited without naming them. Where the
//! identifier was used by two assigning authorities, nothing is told before one of them is chosen.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
    http::StatusCode,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Engine, Problem,
    api::{Answer, PAGE_MAX, Shared, audited, known},
};
use crate::{
    pcd::cgm::{CgmSummary, LeftOut, PatientNamed},
    store::Query,
    summary::{Readings, received_from},
    translate,
};

/// Messages read for one summary: a reading a minute for ten weeks.
const MESSAGES_MAX: usize = 100_000;
const INTERVAL_MAX: u32 = 60;

/// Body of the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SummaryRequest {
    /// PID-3.1.
    patient: String,
    /// PID-3.4, where one identifier means several patients.
    authority: Option<String>,
    from: Timestamp,
    to: Timestamp,
    channel: Option<String>,
    /// Minutes between two readings of the sensor; told by the readings where it is not given.
    interval_minutes: Option<u32>,
    /// Identifier system of the patient: with it the answer has the summary as FHIR too.
    fhir_system: Option<String>,
}

#[derive(Serialize)]
pub(super) struct SummaryAnswer {
    #[serde(flatten)]
    summary: CgmSummary,
    left_out: LeftOut,
    /// Messages that were read.
    messages: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    fhir: Option<Value>,
}

pub(super) async fn summary(
    State(engine): Shared,
    request: Result<Json<SummaryRequest>, JsonRejection>,
) -> Answer<Json<SummaryAnswer>> {
    // What the body says of a patient is not repeated in an error.
    let Json(request) = request.map_err(|_| Problem::bad_request(SHAPE))?;
    request.check()?;
    known(&engine, request.channel.as_deref(), None)?;
    audited(&engine, "cgm.summary", "by patient").await?;
    let found = found(&engine, &request).await?;
    let interval = request.interval_minutes.map(|minutes| SignedDuration::from_mins(i64::from(minutes)));
    let summary = CgmSummary::of(found.readings, (request.from, request.to), interval);
    let fhir = request.fhir_system.as_deref().map(|system| written(&summary, system, &request, &engine));
    Ok(Json(SummaryAnswer { summary, left_out: found.left_out, messages: found.messages, fhir: fhir.transpose()? }))
}

const SHAPE: &str = "the body must be JSON with patient, from and to (times such as 2026-01-05T00:00:00Z), and may have authority, channel, interval_minutes and fhir_system";

impl SummaryRequest {
    fn check(&self) -> Answer<()> {
        if self.from >= self.to {
            return Err(Problem::bad_request("from must be before to"));
        }
        if self.interval_minutes.is_some_and(|minutes| !(1..=INTERVAL_MAX).contains(&minutes)) {
            return Err(Problem::bad_request("interval_minutes must be 1 to 60"));
        }
        if self
            .fhir_system
            .as_deref()
            .is_some_and(|system| !system.contains(':') || system.contains(char::is_whitespace))
        {
            return Err(Problem::bad_request("fhir_system must be a URI, such as urn:oid:2.999.1"));
        }
        Ok(())
    }
}

async fn found(engine: &Arc<Engine>, request: &SummaryRequest) -> Answer<Readings> {
    let mut ids = ids(engine, request).await?;
    ids.sort_unstable();
    let patient = PatientNamed { id: request.patient.trim(), authority: request.authority.as_deref() };
    let (nomenclature, channels) = (engine.nomenclature.load_full(), engine.channels.load_full());
    let found = Readings::read(&*engine.store, &channels, &nomenclature, ids.into_iter(), &patient).await?;
    if found.authorities.len() > 1 {
        let detail = "the identifier was given by several assigning authorities, which may mean several patients: give authority";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(found)
}

/// Everything received of the patient from the period on: readings may come long after they were made.
async fn ids(engine: &Engine, request: &SummaryRequest) -> Answer<Vec<crate::store::Sequence>> {
    let mut query = Query {
        channel: request.channel.clone(),
        from: received_from(request.from),
        patient: Some(request.patient.trim().as_bytes().to_vec()),
        limit: PAGE_MAX,
        ..Query::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = engine.store.find(query.clone()).await?;
        ids.extend(page.iter().map(|summary| summary.id));
        if ids.len() > MESSAGES_MAX {
            let detail = format!(
                "more than {MESSAGES_MAX} messages of the patient since then; choose a later period or a channel"
            );
            return Err(Problem::bad_request(detail));
        }
        query.cursor = ids.last().copied();
        if page.len() < PAGE_MAX {
            return Ok(ids);
        }
    }
}

fn written(summary: &CgmSummary, system: &str, request: &SummaryRequest, engine: &Engine) -> Answer<Value> {
    let channel = request.channel.as_deref().unwrap_or_default();
    let body = translate::cgm_summary(summary, channel, (system, request.patient.trim()), engine.clock.now());
    let body = body.ok_or_else(|| {
        let detail = "fewer than two readings in the period: the CGM profiles want a value for each figure";
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    })?;
    serde_json::from_slice(&body).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
