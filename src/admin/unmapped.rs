//! `GET /api/unmapped`: the codes that no table has, which need a person. No value of a patient's is among them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Deserialize;

use super::{Engine, Problem};
use crate::delivery::UnmappedList;

/// Query of `GET /api/unmapped`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    channel: Option<String>,
    table: Option<String>,
}

pub(super) async fn list(
    State(engine): State<Arc<Engine>>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<UnmappedList>, Problem> {
    let Query(wanted) = query.map_err(|error| Problem::bad_request(error.body_text()))?;
    Ok(Json(engine.delivery.unmapped().list(wanted.channel.as_deref(), wanted.table.as_deref())))
}
